"""What a network must keep to, and how its parts are checked when they are made."""

import numpy as np
from spikeloom.errors import SpikeloomError

#: Sums and states must stay below this for float32 arithmetic to be exact.
EXACT_IN_FLOAT32 = 2**24

#: What a source of spikes is called that is not a layer.
INPUT = "input"

#: The most values in a map, and the longest side of a kernel and of a pooled block.
MOST_NEURONS, LONGEST_KERNEL, LONGEST_POOL = 2**22, 7, 255

#: Of an attention: the largest gate, the most entries of its table, and the largest shift, which leaves of a product no
#: more than its sign.
LARGEST_GATE, LONGEST_TABLE, LARGEST_SHIFT = 255, 2**16, 48

#: Of a channel gate: the largest entry of its table. Of a block gate: the longest side of its blocks.
LARGEST_ENTRY, LONGEST_BLOCK = 2**15 - 1, 16

#: Of synapses: the longest delay, in time steps.
LONGEST_DELAY = 2**16 - 1


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def between(what, value, low, high, unit=""):
    """Refuse a ``value`` that is not an integer from ``low`` to ``high``."""
    if not is_integer(value) or not low <= value <= high:
        raise SpikeloomError(f"{what} must be between {low} and {high}{unit}, not {value}")


def map_shape(what, shape):
    """``shape`` as a tuple, once it is known to be that of a map."""
    if not (isinstance(shape, tuple | list) and len(shape) == 3 and all(is_integer(n) and n >= 1 for n in shape)):
        raise SpikeloomError(f"{what}: a map's shape is (rows, columns, channels), not {shape!r}")
    return tuple(shape)


def by(shape):
    return " x ".join(map(str, shape))


def signed_width(low, high):
    """Bits of the two's complement integer that holds every value from ``low`` to ``high``."""
    return max(int(low if low >= 0 else ~low).bit_length(), int(high if high >= 0 else ~high).bit_length()) + 1


def integers(owner, what, name, dimensions):
    """Replace a field by a read-only int64 copy, once it is known to hold integers."""
    array = np.asarray(getattr(owner, name))
    if array.dtype.kind not in "iu":
        raise SpikeloomError(f"{what}: {name} must be integers, not {array.dtype}")
    if array.ndim != dimensions:
        raise SpikeloomError(f"{what}: {name} must have {dimensions} dimensions, not {array.ndim}")
    if array.size and not -EXACT_IN_FLOAT32 < int(array.min()) <= int(array.max()) < EXACT_IN_FLOAT32:
        raise SpikeloomError(f"{what}: {name} must lie within ±2^24")
    array = array.astype(np.int64)
    array.setflags(write=False)
    object.__setattr__(owner, name, array)
    return array


def on_grid(owner, what, name, dimensions):
    """As `integers`, for weights of the owner's format."""
    weights = integers(owner, what, name, dimensions)
    off = ~np.isin(weights, owner.weight_format.values)
    if off.any():
        where = np.argwhere(off)[0]
        raise SpikeloomError(f"{what}: weight {where.tolist()} = {weights[tuple(where)]} is not on "
                             f"the {owner.weight_format.width}-bit {owner.weight_format.kind} grid")
    return weights


def check_table(what, table, smallest, largest):
    entries = len(table)
    if not 2 <= entries <= LONGEST_TABLE or entries & (entries - 1):
        raise SpikeloomError(f"{what}: table must have 2 to {LONGEST_TABLE} entries, a power of two, not {entries}")
    if not all(is_integer(entry) and smallest <= entry <= largest for entry in table):
        raise SpikeloomError(f"{what}: table entries must be integers from {smallest} to {largest}")


def check_shapes(what, channels, weights, shape, bias):
    if weights.shape != shape:
        raise SpikeloomError(f"{what}: weights must have shape {shape}, not {weights.shape}")
    if bias.shape != (channels,):
        raise SpikeloomError(f"{what}: bias must have shape ({channels},), one for each channel, not {bias.shape}")


def check_reach(what, sums):
    if sums.max() >= EXACT_IN_FLOAT32:
        raise SpikeloomError(f"{what}: sums reach ±{sums.max()}, beyond the 2^24 that float32 holds exactly; use "
                             "smaller weights")


def sum_bounds(weights, z_low, z_high):
    """Smallest and largest sum of a row's products with values from ``z_low`` to ``z_high``."""
    weights = weights.reshape(len(weights), -1)
    low = np.minimum(weights * z_low, weights * z_high).sum(axis=1)
    high = np.maximum(weights * z_low, weights * z_high).sum(axis=1)
    return int(low.min()), int(high.max())
