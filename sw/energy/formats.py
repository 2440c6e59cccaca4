"""How much memory values take when zeros are left out: each format with all its metadata, in bits.

All that a format sees of values is how many there are and where zeros lie, which an `Occupancy` says: counted of real
weights, or expected of zeros that fall at random. So what a meter says of a network and what the energy model reckons
with is the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError

#: Bits of a count of zeros, and of a coordinate within its block.
COUNTER = 4

#: Positions of a block of coordinates, and bits of how many of them follow.
BLOCK = 2**COUNTER
BLOCK_COUNT = BLOCK.bit_length()


@dataclass(frozen=True)
class Occupancy:
    """Where values are that are not zero.

    Parameters
    ----------
    positions : int
        all values
    nonzeros : float
        those that are not zero
    padding : float
        runs of 16 zeros, each of which takes an entry of a run-length code that says of no value
    fiber : int
        neighbouring values that share a pair of offsets: a row of a kernel, 1 of a dense layer
    """

    positions: int
    nonzeros: float
    padding: float
    fiber: int = 1

    @classmethod
    def of(cls, weights):
        """Counted of weights, a matrix or an array of kernels whose rows are its last axis, in their own order."""
        weights = np.asarray(weights)
        flat = weights.ravel()
        found = np.flatnonzero(flat)
        runs = np.diff(np.concatenate([[-1], found, [flat.size]])) - 1
        return cls(flat.size, len(found), int((runs // BLOCK).sum()),
                   weights.shape[-1] if weights.ndim > 2 else 1)

    @classmethod
    def expected(cls, positions, density, fiber=1):
        """Of ``positions`` values of which a share ``density`` (0 to 1), anywhere, are not zero."""
        if not 0 <= density <= 1:
            raise SpikeloomError(f"Density must be between 0 and 1, not {density}")
        padding = 0.0 if density else 1 / BLOCK
        if 0 < density < 1:
            silent = BLOCK * math.log1p(-density)  # logarithm of the share of blocks without any
            padding = -density * math.exp(silent) / math.expm1(silent)
        return cls(positions, positions * density, positions * padding, fiber)

    @property
    def density(self):
        """The share that is not zero."""
        return self.nonzeros / self.positions


def dense(seen, width):
    """Every value, in ``width`` bits each."""
    return seen.positions * width


def bitmask(seen, width):
    """A bit for each position, and the values that are not zero."""
    return seen.positions + seen.nonzeros * width


def rle(seen, width):
    """Run lengths: each value with a count of the up to 15 zeros before it; 16 zeros take an entry of their own."""
    return (seen.nonzeros + seen.padding) * (width + COUNTER)


def cp(seen, width):
    """Coordinates: each value with its place within a block of 16 positions, and each block with how many it has."""
    return seen.nonzeros * (width + COUNTER) + -(-seen.positions // BLOCK) * BLOCK_COUNT


def uop(seen, width):
    """Uncompressed offset pairs: for each fiber, where the values of each of its positions begin and end."""
    fibers = -(-seen.positions // seen.fiber)
    return fibers * (seen.fiber + 1) * int(seen.fiber).bit_length() + seen.nonzeros * width


def ubm(seen, width):
    """Uncompressed with a bitmask: every value, with a bit that says whether it is zero, so that it need not be read
    further on."""
    return seen.positions * (width + 1)


FORMATS = {each.__name__: each for each in (dense, bitmask, rle, cp, uop, ubm)}


def find(name):
    """The format of that name; raises `SpikeloomError` where there is none."""
    if name not in FORMATS:
        raise SpikeloomError(f"Format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]


def cheapest(seen, width):
    """The name of the format that takes the fewest bits (the first of them where several do), and those bits."""
    name = min(FORMATS, key=lambda each: FORMATS[each](seen, width))
    return name, FORMATS[name](seen, width)
