"""The grids that weights lie on."""

from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError

from .checks import between


@dataclass(frozen=True)
class WeightFormat:
    """The grid a layer's weights lie on, and the bits one weight takes in a memory.

    ``binary``
        -1 and +1, one bit (1 is +1)
    ``ternary``
        -1, 0, +1, two bits, two's complement
    ``int``
        ``width`` bits (2 to 16), two's complement
    ``pot``
        0 and ±2^e, ``width`` bits (2 to 4): the sign above an exponent field that is 0 for zero and
        e + 1 otherwise, so e runs from 0 to 2^(width-1) - 2
    """

    kind: str
    width: int

    def __post_init__(self):
        allowed = {"binary": (1, 1), "ternary": (2, 2), "int": (2, 16), "pot": (2, 4)}
        if self.kind not in allowed:
            raise SpikeloomError(f"Weight kind must be one of {', '.join(allowed)}, not {self.kind!r}")
        between(f"Width of {self.kind} weights", self.width, *allowed[self.kind], " bits")

    @property
    def values(self):
        """Every weight of the grid, in the order of its code: ``values[code]`` decodes."""
        if self.kind == "binary":
            return np.array([-1, 1])
        if self.kind == "pot":
            magnitude = np.concatenate([[0], 2 ** np.arange(2 ** (self.width - 1) - 1)])
            return np.concatenate([magnitude, -magnitude])
        codes = np.arange(2**self.width)
        values = np.where(codes >= 2 ** (self.width - 1), codes - 2**self.width, codes)
        return np.where(values == -2, 0, values) if self.kind == "ternary" else values

    @property
    def bounds(self):
        """Smallest and largest weight of the grid."""
        return int(self.values.min()), int(self.values.max())

    def encode(self, weights):
        """Codes (uint8, or uint16 where that is too narrow; same shape) of integer ``weights``, all of which lie on the
        grid."""
        if self.kind == "binary":
            return (np.asarray(weights) > 0).astype(np.uint8)
        if self.kind == "pot":
            magnitude = np.abs(weights)
            exponent = np.where(magnitude > 0, np.log2(np.maximum(magnitude, 1)).astype(np.int64) + 1, 0)
            return (exponent | np.where(np.asarray(weights) < 0, 1 << (self.width - 1), 0)).astype(np.uint8)
        return (np.asarray(weights) & (2**self.width - 1)).astype(np.uint8 if self.width <= 8 else np.uint16)
