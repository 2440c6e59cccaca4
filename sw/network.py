"""The integer network: what training ends in and everything after it must equal.

A `Network` is frozen data, checked when made. What it *computes* is said in `spikeloom.reference`;
how it is stored, field by field, in ``docs/format.md``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass, field

import numpy as np

from . import files
from .errors import SpikeloomError

KIND = "network"
#: Of the files we write, and those that we read.
VERSION, VERSIONS = 4, (1, 2, 3, 4)

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


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _between(what, value, low, high, unit=""):
    """Refuse a ``value`` that is not an integer from ``low`` to ``high``."""
    if not _is_integer(value) or not low <= value <= high:
        raise SpikeloomError(f"{what} must be between {low} and {high}{unit}, not {value}")


def _map(what, shape):
    """``shape`` as a tuple, once it is known to be that of a map."""
    if not (isinstance(shape, tuple | list) and len(shape) == 3 and all(_is_integer(n) and n >= 1 for n in shape)):
        raise SpikeloomError(f"{what}: a map's shape is (rows, columns, channels), not {shape!r}")
    return tuple(shape)


def _by(shape):
    return " x ".join(map(str, shape))


def signed_width(low, high):
    """Bits of the two's complement integer that holds every value from ``low`` to ``high``."""
    return max(int(low if low >= 0 else ~low).bit_length(), int(high if high >= 0 else ~high).bit_length()) + 1


# Leaks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoLeak:
    """The membrane potential stays as it is (an integrate-and-fire neuron)."""

    kind = "none"


@dataclass(frozen=True)
class ShiftLeak:
    """v - (v >> shift), the shift rounding toward minus infinity. ``shift``: 1 to 15."""

    shift: int
    kind = "shift"

    def __post_init__(self):
        _between("Leak shift", self.shift, 1, 15)


@dataclass(frozen=True)
class TableLeak:
    """Any function of the stored state: an entry for each, from the lowest: 2^v_width of them, or a grid's levels."""

    table: tuple[int, ...]
    kind = "table"


# Stored states ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Membrane potentials stored as one of few levels, ``low`` to ``high`` times a step, the nearest; halves go down.

    Without leak and with a step of 1 that is a saturating potential; with levels -1, 0, 1 of the threshold the ternary
    membrane of SpQuant-SNN.

    Parameters
    ----------
    low, high : int
        -32768 <= low <= 0 <= high <= 32767, at least three levels
    step : int, optional
        in state units, 1 to 32767; by default that of each channel is its threshold / 2^shift, and the level k stands
        for floor(k * threshold / 2^shift)
    shift : int
        0 to 7, of a step that is the threshold's
    bounds : tuple of int, optional
        for a ``step``: where another level than the nearest is to be stored. With n of these increasing numbers at or
        below the potential, that is the level low + n.
    """

    low: int
    high: int
    step: int | None = None
    shift: int = 0
    bounds: tuple[int, ...] | None = None

    def __post_init__(self):
        if not (_is_integer(self.low) and _is_integer(self.high) and -(2**15) <= self.low <= 0 <= self.high < 2**15
                and self.high - self.low >= 2):
            raise SpikeloomError("A membrane grid's levels must hold 0, be three or more, and lie within -32768 to "
                                 f"32767, not {self.low} to {self.high}")
        if self.step is None:
            _between("A membrane grid's shift", self.shift, 0, 7)
            if self.bounds is not None:
                raise SpikeloomError("A membrane grid with bounds needs a step")
            return
        _between("A membrane grid's step", self.step, 1, 2**15 - 1)
        if self.shift != 0:
            raise SpikeloomError(f"A membrane grid with a step has no shift, which here is {self.shift}")
        if self.bounds is not None and not (
                len(self.bounds) == self.high - self.low and all(map(_is_integer, self.bounds))
                and all(below < above for below, above in zip(self.bounds, self.bounds[1:], strict=False))):
            raise SpikeloomError(f"A membrane grid of {self.high - self.low + 1} levels needs {self.high - self.low} "
                                 "increasing integers for bounds")

    @property
    def width(self):
        """Bits of a stored level."""
        return (self.high - self.low).bit_length()

    def value(self, level, threshold):
        """The potential that a ``level`` stands for, of neurons with this ``threshold``: integers, or int arrays."""
        return level * threshold >> self.shift if self.step is None else level * self.step

    def level(self, u, threshold):
        """The level that potentials ``u`` (int array) are stored as."""
        if self.bounds is not None:
            return self.low + np.searchsorted(self.bounds, u, side="right")
        step = threshold if self.step is None else self.step
        return np.clip(((u << (self.shift + 1)) + step - 1) // (2 * step), self.low, self.high)


# Firing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spike:
    """Fires 1 where the potential reaches the threshold (inclusive), else 0."""

    kind = "spike"
    low, high = 0, 1


@dataclass(frozen=True)
class GradedSpike:
    """Fires a signed count, clip(floor(u / threshold), low, high); thresholds are powers of two."""

    low: int
    high: int
    kind = "graded"

    def __post_init__(self):
        if not (_is_integer(self.low) and _is_integer(self.high) and -128 <= self.low <= 0 < self.high <= 127):
            raise SpikeloomError("A graded spike's range must hold 0, reach above it, and lie within "
                                 f"-128 to 127, not {self.low} to {self.high}")


@dataclass(frozen=True)
class Silent:
    """Never fires: an integrator that is read out by its membrane potential."""

    kind = "silent"
    low, high = 0, 0


LEAKS = {cls.kind: cls for cls in (NoLeak, ShiftLeak, TableLeak)}
FIRES = {cls.kind: cls for cls in (Spike, GradedSpike, Silent)}
RESETS = ("subtract", "zero", "none")
READOUTS = ("count", "membrane")


# Weights ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightFormat:
    """The grid a layer's weights lie on, and the bits one weight takes in a memory.

    ``binary``
        -1 and +1, one bit (1 is +1)
    ``ternary``
        -1, 0, +1, two bits, two's complement
    ``int``
        ``width`` bits (2 to 8), two's complement
    ``pot``
        0 and ±2^e, ``width`` bits (2 to 4): the sign above an exponent field that is 0 for zero and
        e + 1 otherwise, so e runs from 0 to 2^(width-1) - 2
    """

    kind: str
    width: int

    def __post_init__(self):
        allowed = {"binary": (1, 1), "ternary": (2, 2), "int": (2, 8), "pot": (2, 4)}
        if self.kind not in allowed:
            raise SpikeloomError(f"Weight kind must be one of {', '.join(allowed)}, not {self.kind!r}")
        _between(f"Width of {self.kind} weights", self.width, *allowed[self.kind], " bits")

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
        """Codes (uint8, same shape) of integer ``weights``, all of which lie on the grid."""
        if self.kind == "binary":
            return (np.asarray(weights) > 0).astype(np.uint8)
        if self.kind == "pot":
            magnitude = np.abs(weights)
            exponent = np.where(magnitude > 0, np.log2(np.maximum(magnitude, 1)).astype(np.int64) + 1, 0)
            return (exponent | np.where(np.asarray(weights) < 0, 1 << (self.width - 1), 0)).astype(np.uint8)
        return (np.asarray(weights) & (2**self.width - 1)).astype(np.uint8)


# Layers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputFormat:
    """What enters a network at each time step: ``size`` values of ``width`` bits, unsigned.

    ``width`` 1 is a binary spike; more bits are small integers (direct coding). ``shape`` is the map that the values
    make, (rows, columns, channels); by default one row and column of ``size`` channels.
    """

    size: int
    width: int = 1
    shape: tuple[int, int, int] | None = None

    def __post_init__(self):
        _between("Input size", self.size, 1, MOST_NEURONS)
        _between("Input width", self.width, 1, 8, " bits")
        object.__setattr__(self, "shape", _map("Input", self.shape or (1, 1, self.size)))
        if math.prod(self.shape) != self.size:
            raise SpikeloomError(f"Input shape {_by(self.shape)} must have {self.size} values, "
                                 f"not {math.prod(self.shape)}")

    @property
    def bounds(self):
        """Smallest and largest input value."""
        return 0, 2**self.width - 1

    def content(self):
        """As files have it: without a shape that goes without saying."""
        content = {"size": self.size, "width": self.width}
        return content if self.shape == (1, 1, self.size) else content | {"shape": list(self.shape)}


@dataclass(frozen=True)
class Pool:
    """What becomes of a map before its weights: blocks of ``rows`` x ``columns``, side by side, each turned into one
    position. Rows and columns that do not fill a block are left out.

    ``kind``: "max", the largest value of each channel (of binary spikes: OR), or "sum". A mean is a sum: its divisor is
    in the scale of weights and thresholds.
    """

    kind: str
    rows: int
    columns: int

    def __post_init__(self):
        if self.kind not in ("max", "sum"):
            raise SpikeloomError(f"Pool kind must be max or sum, not {self.kind!r}")
        _between("Rows of a pooled block", self.rows, 1, LONGEST_POOL)
        _between("Columns of a pooled block", self.columns, 1, LONGEST_POOL)

    def shape(self, shape):
        """The map that one of ``shape`` becomes."""
        return shape[0] // self.rows, shape[1] // self.columns, shape[2]

    def bounds(self, low, high):
        """Smallest and largest value of what values from ``low`` to ``high`` become."""
        count = self.rows * self.columns if self.kind == "sum" else 1
        return low * count, high * count


@dataclass(frozen=True, eq=False)
class Attention:
    """Gates that multiply a map, one for each time step and channel, made of each channel's sum over all positions:
    temporal-channel joint attention (TCJA: Zhu, Zhao, Zhang, Deng, Duan, Zhang, Deng, arXiv 2206.10177) over integers.

    Parameters
    ----------
    time_weights : int array (time steps, time steps, k)
        of a convolution along the channels that mixes the network's time steps, k from 1 to 7
    channel_weights : int array (channels, channels, k)
        of one along time that mixes the channels; k need not be the same
    weight_format : WeightFormat
        of both
    shift : int
        binary logarithm of what the product of the two is divided by, 0 to 48
    table : tuple of int
        the gate, 0 to 255, for each such quotient: 2^n entries, for -2^(n-1) to 2^(n-1) - 1, within which it is clipped
    """

    time_weights: np.ndarray
    channel_weights: np.ndarray
    weight_format: WeightFormat
    shift: int
    table: tuple[int, ...]

    def _check(self, what, channels):
        for name in ("time_weights", "channel_weights"):
            weights = _on_grid(self, what, name, 3)
            out, mixed, k = weights.shape
            side = channels if name == "channel_weights" else max(1, out)
            if (out, mixed) != (side, side) or not 1 <= k <= LONGEST_KERNEL:
                raise SpikeloomError(f"{what}: {name} must have shape ({side}, {side}, 1 to {LONGEST_KERNEL}), "
                                     f"not {weights.shape}")
        _between(f"{what}: shift", self.shift, 0, LARGEST_SHIFT)
        _check_table(what, self.table, LARGEST_GATE)

    @property
    def weight_bits(self):
        """Bits of all weights as stored."""
        return (self.time_weights.size + self.channel_weights.size) * self.weight_format.width

    def bounds(self, z_low, z_high):
        """Smallest and largest value of what values from ``z_low`` to ``z_high`` become, among which is 0."""
        return z_low * max(self.table), z_high * max(self.table)

    def reach(self, z_low, z_high, positions):
        """The largest magnitude of a sum Σ W·z of either convolution, for so many positions of values from ``z_low`` to
        ``z_high``, among which is 0."""
        sides = [_sum_bounds(weights, positions * z_low, positions * z_high)
                 for weights in (self.time_weights, self.channel_weights)]
        return max(max(-low, high) for low, high in sides)


def _check_table(what, table, largest):
    entries = len(table)
    if not 2 <= entries <= LONGEST_TABLE or entries & (entries - 1):
        raise SpikeloomError(f"{what}: table must have 2 to {LONGEST_TABLE} entries, a power of two, not {entries}")
    if not all(_is_integer(entry) and 0 <= entry <= largest for entry in table):
        raise SpikeloomError(f"{what}: table entries must be integers from 0 to {largest}")


# Gates that leave work out ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ChannelGate:
    """Says of each channel of a convolution, time step by time step, whether it is open. One that is closed gets no
    current: neither sums nor bias (SpQuant-SNN: Hasssan, Meng, Anupreetham, Seo, Front. Neurosci. 18, 2024).

    It looks at the map that comes in, before any pool, of values that are not negative: at the sum of each channel, or
    of each few neighbouring ones, over all positions.

    Parameters
    ----------
    weights : int array (channels, channels in / reduce)
        of what the table makes of these sums
    weight_format : WeightFormat
    bias : int array (channels,)
        a channel is open where the weighted sum and this are above 0
    table : tuple of int
        0 to 32767, for each sum over 2^shift; as many as a power of two, the last also for all beyond
    shift : int
        0 to 48
    reduce : int
        neighbouring channels whose sums are added, a divisor of the channels in
    """

    weights: np.ndarray
    weight_format: WeightFormat
    bias: np.ndarray
    table: tuple[int, ...]
    shift: int = 0
    reduce: int = 1

    def _check(self, what, layer):
        weights, bias = _on_grid(self, what, "weights", 2), _integers(self, what, "bias", 1)
        channels_in, channels = layer.input_shape[2], layer.shape[2]
        if not _is_integer(self.reduce) or self.reduce < 1 or channels_in % self.reduce:
            raise SpikeloomError(f"{what}: reduce must divide its {channels_in} channels in, not be {self.reduce}")
        _check_shapes(what, channels, weights, (channels, channels_in // self.reduce), bias)
        _between(f"{what}: shift", self.shift, 0, LARGEST_SHIFT)
        _check_table(what, self.table, LARGEST_ENTRY)
        _check_reach(what, np.abs(weights).sum(1) * max(self.table) + np.abs(bias))

    @property
    def operations(self):
        """Multiplications of a time step."""
        return self.weights.size


@dataclass(frozen=True, eq=False)
class BlockGate:
    """Says of each block of positions and each channel of a convolution, time step by time step, whether it is open.
    The potentials of one that is closed become 0 before they fire (the membrane-potential prior of SpQuant-SNN).

    It looks at the potentials that the time step before left in the layer, at each block's sum: so what is closed needs
    no currents.

    Parameters
    ----------
    weights : int array (channels, channels, k, k), or (channels, 1, k, k) where each channel looks at its own alone
        of a convolution over the map of blocks, k odd and 1 to 7, with zeros around the map
    weight_format : WeightFormat
    bias : int array (channels,)
        a block is open where the weighted sum and this are 0 or more
    rows, columns : int
        of a block, 1 to 16; blocks lie side by side from the first row and column, the last ones may be cut off
    """

    weights: np.ndarray
    weight_format: WeightFormat
    bias: np.ndarray
    rows: int = 2
    columns: int = 2

    def _check(self, what, layer):
        weights, bias = _on_grid(self, what, "weights", 4), _integers(self, what, "bias", 1)
        channels, k = layer.shape[2], weights.shape[3]
        if k % 2 == 0 or k > LONGEST_KERNEL:
            raise SpikeloomError(f"{what}: its kernel must be odd and at most {LONGEST_KERNEL}, not {k}")
        seen = 1 if weights.shape[1] == 1 else channels
        _check_shapes(what, channels, weights, (channels, seen, k, k), bias)
        for name in ("rows", "columns"):
            _between(f"{what}: {name}", getattr(self, name), 1, LONGEST_BLOCK)
        potential = self.rows * self.columns * max(-layer.v_min, layer.v_max)
        _check_reach(what, np.abs(weights).sum((1, 2, 3)) * potential + np.abs(bias))

    @property
    def groups(self):
        """Of its convolution."""
        return len(self.weights) if self.weights.shape[1] == 1 else 1

    def operations(self, shape):
        """Multiplications of a time step, on a map of this ``shape``."""
        rows, columns = self.blocks(shape)
        return rows * columns * self.weights.size

    def blocks(self, shape):
        """Rows and columns of blocks on a map of this ``shape``."""
        return -(-shape[0] // self.rows), -(-shape[1] // self.columns)


def _check_shapes(what, channels, weights, shape, bias):
    if weights.shape != shape:
        raise SpikeloomError(f"{what}: weights must have shape {shape}, not {weights.shape}")
    if bias.shape != (channels,):
        raise SpikeloomError(f"{what}: bias must have shape ({channels},), one for each channel, not {bias.shape}")


def _check_reach(what, sums):
    if sums.max() >= EXACT_IN_FLOAT32:
        raise SpikeloomError(f"{what}: sums reach ±{sums.max()}, beyond the 2^24 that float32 holds exactly; use "
                             "smaller weights")


# Synapses and neurons ---------------------------------------------------------------------------


class _Synapses:
    """What has weights: from a map of one source to one current for each neuron of a layer.

    Fields that all kinds have: ``weights``, ``weight_format``; ``source``, the name of the layer (or "input") that the
    spikes come from, by default the layer before; ``attention`` (not of a shortcut) and ``pool``, what happens to their
    map first, in this order.
    """

    attention = None

    def _check_synapses(self, what):
        weights = _on_grid(self, what, "weights", self.dimensions)
        if not weights.size:
            raise SpikeloomError(f"{what}: weights must not be empty, but have shape {weights.shape}")
        if 0 in self.pooled_shape:
            raise SpikeloomError(f"{what}: a map of {_by(self.input_shape)} has no block of {self.pool.rows} x "
                                 f"{self.pool.columns} to pool")
        if self.attention:
            self.attention._check(f"{what}, attention", self.input_shape[2])

    @property
    def pooled_shape(self):
        """The map that the weights meet, (rows, columns, channels)."""
        return self.pool.shape(self.input_shape) if self.pool else self.input_shape

    @property
    def n_in(self):
        return math.prod(self.input_shape)

    def pooled_bounds(self, z_low, z_high):
        """Smallest and largest value that meets the weights, for inputs from ``z_low`` to ``z_high``."""
        if self.attention:
            z_low, z_high = self.attention.bounds(z_low, z_high)
        return self.pool.bounds(z_low, z_high) if self.pool else (z_low, z_high)

    def current_bounds(self, z_low, z_high):
        """Smallest and largest sum Σ W·z any neuron can see for inputs from ``z_low`` to ``z_high``, among which is
        0."""
        return _current_bounds(self, z_low, z_high)


class _Convolution(_Synapses):
    """Synapses that every position has alike.

    Fields beside those of `_Synapses`: ``input_shape``, the map (rows, columns, channels) before pooling; ``stride``;
    ``padding``, positions of zeros on each side; ``groups``, into which channels in and out are divided, each group
    having weights of its own (as many groups as channels: depthwise). ``weights`` have shape (channels out, channels in
    / groups, k, k), k from 1 to 7.
    """

    dimensions = 4

    def _check_synapses(self, what):
        object.__setattr__(self, "input_shape", _map(what, self.input_shape))
        super()._check_synapses(what)
        out, per_group, k, columns = self.weights.shape
        rows_in, columns_in, channels_in = self.pooled_shape
        if k != columns or k > LONGEST_KERNEL:
            raise SpikeloomError(f"{what}: a kernel must be 1 x 1 to {LONGEST_KERNEL} x {LONGEST_KERNEL}, "
                                 f"not {k} x {columns}")
        _between(f"{what}: stride", self.stride, 1, LONGEST_KERNEL)
        _between(f"{what}: padding", self.padding, 0, k - 1)
        if not _is_integer(self.groups) or self.groups < 1 or channels_in % self.groups or out % self.groups:
            raise SpikeloomError(f"{what}: groups must divide its {channels_in} channels in and {out} channels out, "
                                 f"not be {self.groups}")
        if per_group != channels_in // self.groups:
            raise SpikeloomError(f"{what}: weights must have shape ({out}, {channels_in // self.groups}, {k}, {k}), "
                                 f"not {self.weights.shape}")
        if min(rows_in, columns_in) + 2 * self.padding < k:
            raise SpikeloomError(f"{what}: a kernel of {k} x {k} does not fit into {rows_in} x {columns_in} positions "
                                 f"with a padding of {self.padding}")

    @property
    def kernel(self):
        """Positions on a side of the kernel."""
        return self.weights.shape[2]

    @property
    def shape(self):
        """The map of currents, (rows, columns, channels)."""
        rows, columns, _ = self.pooled_shape
        span = 2 * self.padding - self.kernel
        return (rows + span) // self.stride + 1, (columns + span) // self.stride + 1, len(self.weights)


@dataclass(frozen=True, eq=False)
class Shortcut(_Convolution):
    """A second branch into a layer, added to its currents: a convolution with a 1 x 1 kernel.

    An identity is as many groups as channels, with the factor that aligns the two branches' scales as weights.
    """

    source: str
    input_shape: tuple[int, int, int]
    weights: np.ndarray
    weight_format: WeightFormat
    stride: int = 1
    groups: int = 1
    pool: Pool | None = None
    padding = 0


class _Neurons:
    """What every layer of neurons has, beside its synapses.

    Fields that all kinds have:

    name : str
        unique in its network; letters, digits and underscores; not "input"
    threshold, bias : int array (channels,)
        of a dense layer every neuron is a channel
    v_width : int
        bits of the stored membrane potential (2 to 16): two's complement, saturating, or a level of the ``grid``
    grid : Grid, optional
    leak : NoLeak, ShiftLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
    """

    def _check_neurons(self):
        if not (self.name.isidentifier() and self.name.isascii()):
            raise SpikeloomError(f"Layer name must be made of letters, digits and underscores, not {self.name!r}")
        if self.name == INPUT:
            raise SpikeloomError(f"Layer name must not be {INPUT!r}, which is where a network's input comes from")
        what = f"Layer {self.name}"
        self._check_synapses(what)
        threshold, bias = _integers(self, what, "threshold", 1), _integers(self, what, "bias", 1)
        for name, array in (("threshold", threshold), ("bias", bias)):
            if array.shape != self.shape[2:]:
                raise SpikeloomError(f"{what}: {name} must have shape {self.shape[2:]}, one for each {self.of_each}, "
                                     f"not {array.shape}")
        if self.n_out > MOST_NEURONS:
            raise SpikeloomError(f"{what}: must have at most {MOST_NEURONS} neurons, not {self.n_out}")
        _between(f"{what}: membrane width", self.v_width, 2, 16, " bits")
        if self.reset not in RESETS:
            raise SpikeloomError(f"{what}: reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        if self.grid:
            self._check_grid(what, threshold)
        if isinstance(self.leak, TableLeak):
            table = np.asarray(self.leak.table)
            states = self.grid.high - self.grid.low + 1 if self.grid else 2**self.v_width
            if table.shape != (states,):
                raise SpikeloomError(f"{what}: a leak table for {self.v_width}-bit membranes must have "
                                     f"{states} entries, not {len(self.leak.table)}")
            if table.min() < self.v_min or table.max() > self.v_max:
                raise SpikeloomError(f"{what}: leak table entries must lie within {self.v_min} to {self.v_max}")
        if isinstance(self.fire, GradedSpike) and ((threshold < 1) | (threshold & (threshold - 1))).any():
            raise SpikeloomError(f"{what}: thresholds of graded spikes must be powers of two")

    def _check_grid(self, what, threshold):
        if self.v_width != self.grid.width:
            raise SpikeloomError(f"{what}: {self.grid.high - self.grid.low + 1} levels of a membrane are stored in "
                                 f"{self.grid.width} bits, not {self.v_width}")
        if self.grid.step is None:
            if isinstance(self.leak, TableLeak):
                raise SpikeloomError(f"{what}: a leak table needs levels that are the same for all channels: a grid "
                                     "with a step")
            if (threshold < 1).any():
                raise SpikeloomError(f"{what}: levels in units of the threshold need thresholds of 1 or more")

    @property
    def branches(self):
        """The synapses that lead into the layer: its own, then its shortcut's if it has one."""
        return (self, self.shortcut) if self.shortcut else (self,)

    @property
    def n_out(self):
        return math.prod(self.shape)

    @property
    def v_min(self):
        """The lowest membrane potential that can be stored, of all channels."""
        if self.grid:
            return int(np.min(self.grid.value(self.grid.low, self.threshold)))
        return -(2 ** (self.v_width - 1))

    @property
    def v_max(self):
        if self.grid:
            return int(np.max(self.grid.value(self.grid.high, self.threshold)))
        return 2 ** (self.v_width - 1) - 1

    def potential_bounds(self, low, high):
        """Smallest and largest membrane potential before firing, where sums lie between ``low`` and ``high``."""
        # A leak never leaves the stored range: a shift moves toward zero (or -1), tables are checked.
        low, high = low + int(self.bias.min()), high + int(self.bias.max())
        if self.gate or self.block_gate:
            low, high = min(low, 0), max(high, 0)
        return self.v_min + low, self.v_max + high


@dataclass(frozen=True, eq=False)
class Dense(_Neurons, _Synapses):
    """A fully connected layer of spiking neurons; fields as in `_Neurons` and `_Synapses`, and

    Parameters
    ----------
    weights : int array (n_out, inputs after pooling)
        on the grid of ``weight_format``
    input_shape : (rows, columns, channels), optional
        needed for ``attention`` and ``pool``; by default one row and column with a channel for each input
    """

    name: str
    weights: np.ndarray
    weight_format: WeightFormat
    threshold: np.ndarray
    bias: np.ndarray
    v_width: int
    leak: NoLeak | ShiftLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    source: str | None = None
    input_shape: tuple[int, int, int] | None = None
    pool: Pool | None = None
    attention: Attention | None = None
    grid: Grid | None = None

    kind = "dense"
    dimensions = 2
    of_each = "neuron"
    shortcut = gate = block_gate = None

    def __post_init__(self):
        what = f"Layer {self.name}"
        if self.input_shape is None and self.pool is None and self.attention is None:
            object.__setattr__(self, "input_shape", (1, 1, max(1, (*np.shape(self.weights), 1, 1)[1])))
        object.__setattr__(self, "input_shape", _map(what, self.input_shape))
        self._check_neurons()
        if self.weights.shape[1] != math.prod(self.pooled_shape):
            raise SpikeloomError(f"{what}: weights must have shape ({len(self.weights)}, "
                                 f"{math.prod(self.pooled_shape)}), not {self.weights.shape}")

    @property
    def shape(self):
        """The map of neurons: one position, a channel for each."""
        return 1, 1, len(self.weights)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(_Neurons, _Convolution):
    """A map of spiking neurons whose synapses are a convolution; fields as in `_Neurons` and `_Convolution`, and

    Parameters
    ----------
    shortcut : Shortcut, optional
        a second branch, added to the currents
    gate : ChannelGate, optional
    block_gate : BlockGate, optional
    """

    name: str
    input_shape: tuple[int, int, int]
    weights: np.ndarray
    weight_format: WeightFormat
    threshold: np.ndarray
    bias: np.ndarray
    v_width: int
    leak: NoLeak | ShiftLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    stride: int = 1
    padding: int = 0
    groups: int = 1
    source: str | None = None
    pool: Pool | None = None
    shortcut: Shortcut | None = None
    attention: Attention | None = None
    grid: Grid | None = None
    gate: ChannelGate | None = None
    block_gate: BlockGate | None = None

    kind = "conv2d"
    of_each = "channel"

    def __post_init__(self):
        self._check_neurons()
        if self.shortcut:
            what = f"Layer {self.name}, shortcut"
            self.shortcut._check_synapses(what)
            if self.shortcut.kernel != 1:
                raise SpikeloomError(f"{what}: its kernel must be 1 x 1, not {_by(self.shortcut.weights.shape[2:])}")
            if self.shortcut.shape != self.shape:
                raise SpikeloomError(f"{what}: gives a map of {_by(self.shortcut.shape)}, where the layer's own "
                                     f"convolution gives {_by(self.shape)}")
        for name, gate in (("gate", self.gate), ("block gate", self.block_gate)):
            if gate:
                gate._check(f"Layer {self.name}, {name}", self)


LAYERS = {cls.kind: cls for cls in (Dense, Conv2d)}


@functools.lru_cache(maxsize=64)
def _current_bounds(synapses, z_low, z_high):
    return _sum_bounds(synapses.weights, *synapses.pooled_bounds(z_low, z_high))


def _sum_bounds(weights, z_low, z_high):
    """Smallest and largest sum of a row's products with values from ``z_low`` to ``z_high``."""
    weights = weights.reshape(len(weights), -1)
    low = np.minimum(weights * z_low, weights * z_high).sum(axis=1)
    high = np.maximum(weights * z_low, weights * z_high).sum(axis=1)
    return int(low.min()), int(high.max())


def _integers(owner, what, name, dimensions):
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


def _on_grid(owner, what, name, dimensions):
    """As `_integers`, for weights of the owner's format."""
    weights = _integers(owner, what, name, dimensions)
    off = ~np.isin(weights, owner.weight_format.values)
    if off.any():
        where = np.argwhere(off)[0]
        raise SpikeloomError(f"{what}: weight {where.tolist()} = {weights[tuple(where)]} is not on "
                             f"the {owner.weight_format.width}-bit {owner.weight_format.kind} grid")
    return weights


def sources(layers):
    """For each of ``layers``, integer ones or those of `spikeloom.training.model`, the names of its branches' sources.
    """
    before = [INPUT, *(layer.name for layer in layers)]
    return [(layer.source or name, *(branch.source for branch in layer.branches[1:]))
            for layer, name in zip(layers, before, strict=False)]


# The network ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Network:
    """Layers over integers, each fed by one before it (or two, where it has a shortcut).

    Parameters
    ----------
    input : InputFormat
    layers : tuple of Dense or Conv2d
        in an order in which every source comes before what it feeds; the last one, which is read out, is dense, and
        each other one feeds at least one
    time_steps : int
        the most time steps a sample may have (1 to 65535)
    readout : "count" or "membrane"
        a sample's scores: spikes of the last layer summed over its time steps, or the last layer's
        membrane potentials after the last one. The winner is the lowest index of the highest score.
    notes : dict
        JSON-serialisable remarks that have no meaning for computation: how it was trained, the
        activity seen (``notes["events"]``: mean events per time step at each layer's input)
    votes : int
        neighbouring neurons of the last layer that vote for one class: its score is the sum of theirs
    """

    input: InputFormat
    layers: tuple[Dense | Conv2d, ...]
    time_steps: int
    readout: str = "count"
    notes: dict = field(default_factory=dict)
    votes: int = 1

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise SpikeloomError("A network must have at least one layer")
        _between("Time steps", self.time_steps, 1, 65535)
        if not isinstance(self.notes, dict):
            raise SpikeloomError(f"Notes must be an object, not {type(self.notes).__name__}")
        if self.readout not in READOUTS:
            raise SpikeloomError(f"Read-out must be one of {', '.join(READOUTS)}, not {self.readout!r}")
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise SpikeloomError(f"Layer names must differ, but are {', '.join(names)}")
        self._check_shapes()
        last = self.layers[-1]
        if not isinstance(last, Dense):
            raise SpikeloomError(f"The last layer, which is read out, must be dense, not {last.kind}")
        if not _is_integer(self.votes) or self.votes < 1 or last.n_out % self.votes:
            raise SpikeloomError(f"Votes for a class must divide the {last.n_out} neurons of the last layer, "
                                 f"not be {self.votes}")
        for layer, bounds in zip(self.layers, self.input_bounds, strict=True):
            if layer.attention:
                self._check_attention(layer, *bounds)
            if layer.gate and bounds[0] < 0:
                raise SpikeloomError(f"Layer {layer.name}, gate: takes values that are not negative, but its source "
                                     f"sends {bounds[0]} and more")
            low, high = layer.potential_bounds(*self.current_bounds(layer))
            reach = max(-low, high) + int(np.abs(layer.threshold).max())
            if layer.grid:  # whose steps are counted in doubled potentials
                reach = (reach << (layer.grid.shift + 1)) + (layer.grid.step or 0)
            if reach >= EXACT_IN_FLOAT32:
                raise SpikeloomError(f"Layer {layer.name}: potentials reach ±{reach}, beyond the 2^24 that "
                                     "float32 holds exactly; use smaller weights or inputs")

    def _check_attention(self, layer, z_low, z_high):
        what, attention = f"Layer {layer.name}, attention", layer.attention
        if len(attention.time_weights) != self.time_steps:
            raise SpikeloomError(f"{what}: is for {len(attention.time_weights)} time steps, where the network has "
                                 f"{self.time_steps}")
        reach = attention.reach(z_low, z_high, math.prod(layer.input_shape[:2]))
        if reach >= EXACT_IN_FLOAT32:
            raise SpikeloomError(f"{what}: sums reach ±{reach}, beyond the 2^24 that float32 holds exactly; use "
                                 "smaller weights or inputs")

    def _check_shapes(self):
        """Refuse a source that is not there or whose map is not what its layer takes, and a layer that feeds none."""
        shapes, fed = {INPUT: self.input.shape}, set()
        for layer, sources in zip(self.layers, self.sources, strict=True):
            for branch, source in zip(layer.branches, sources, strict=True):
                what = f"Layer {layer.name}" + (", shortcut" if branch is not layer else "")
                if source not in shapes:
                    raise SpikeloomError(f"{what}: its source must be one of {', '.join(shapes)}, not {source!r}")
                shape = shapes[source]
                # A dense layer without attention and pool takes a map as the flat list of values that it is.
                if branch.n_in != math.prod(shape):
                    raise SpikeloomError(f"{what}: takes {branch.n_in} inputs, but {_source(source)} has "
                                         f"{math.prod(shape)}")
                if branch.input_shape != shape and _needs_map(branch):
                    raise SpikeloomError(f"{what}: takes a map of {_by(branch.input_shape)}, but {_source(source)} "
                                         f"has one of {_by(shape)}")
                fed.add(source)
            shapes[layer.name] = layer.shape
        idle = [layer.name for layer in self.layers[:-1] if layer.name not in fed]
        if idle:
            raise SpikeloomError(f"Layer {idle[0]}: feeds no other layer, and is not the last")

    @property
    def sources(self):
        """For each layer, the names of its branches' sources."""
        return sources(self.layers)

    @property
    def input_bounds(self):
        """For each layer, the smallest and largest value that comes to its own synapses, before attention and
        pooling."""
        bounds = self._bounds
        return [bounds[sources[0]] for sources in self.sources]

    @property
    def _bounds(self):
        """By source, the smallest and largest value that it sends."""
        return {INPUT: self.input.bounds} | {layer.name: (layer.fire.low, layer.fire.high) for layer in self.layers}

    def current_bounds(self, layer):
        """Smallest and largest sum of ``layer``, all its branches together, without its biases."""
        bounds = self._bounds
        sources = self.sources[self.layers.index(layer)]
        each = [branch.current_bounds(*bounds[source]) for branch, source in zip(layer.branches, sources, strict=True)]
        return sum(low for low, _ in each), sum(high for _, high in each)

    @property
    def n_out(self):
        """Scores of a sample."""
        return self.layers[-1].n_out // self.votes

    @property
    def weight_bits(self):
        """Bits of all weights as stored."""
        weighted = [each for layer in self.layers for each in (*layer.branches, layer.gate, layer.block_gate) if each]
        return (sum(each.weights.size * each.weight_format.width for each in weighted)
                + sum(layer.attention.weight_bits for layer in self.layers if layer.attention))

    def content(self):
        """The header (JSON-serialisable) and arrays that ``docs/format.md`` describes."""
        header, arrays = {
            "input": self.input.content(),
            "time_steps": self.time_steps,
            "readout": self.readout,
            "notes": self.notes,
            "layers": [],
        }, {}
        if self.votes != 1:
            header["votes"] = self.votes
        for number, layer in enumerate(self.layers):
            leak = {"kind": layer.leak.kind}
            if isinstance(layer.leak, ShiftLeak):
                leak["shift"] = layer.leak.shift
            if isinstance(layer.leak, TableLeak):
                arrays[f"{number}.leak_table"] = np.array(layer.leak.table, np.int32)
            if layer.grid and layer.grid.bounds is not None:
                arrays[f"{number}.grid_bounds"] = np.array(layer.grid.bounds, np.int32)
            header["layers"].append({
                "name": layer.name,
                "kind": layer.kind,
                **_synapses_content(layer),
                "v_width": layer.v_width,
                **({"grid": _grid_content(layer.grid)} if layer.grid else {}),
                "leak": leak,
                "reset": layer.reset,
                "fire": {"kind": layer.fire.kind, **dataclasses.asdict(layer.fire)},
            })
            arrays[f"{number}.weights"] = layer.weights.astype(np.int16)
            arrays[f"{number}.threshold"] = layer.threshold.astype(np.int32)
            arrays[f"{number}.bias"] = layer.bias.astype(np.int32)
            if layer.shortcut:
                header["layers"][-1]["shortcut"] = _synapses_content(layer.shortcut)
                arrays[f"{number}.shortcut_weights"] = layer.shortcut.weights.astype(np.int16)
            for part, (fields, types) in _PARTS.items():
                if (owner := getattr(layer, part)) is None:
                    continue
                header["layers"][-1][part] = {"weight_format": dataclasses.asdict(owner.weight_format)} | {
                    name: getattr(owner, name) for name in fields}
                for name, dtype in types.items():
                    arrays[f"{number}.{part}_{name}"] = np.array(getattr(owner, name), dtype)
        return header, arrays

    @classmethod
    def from_content(cls, header, arrays, where="network"):
        """The inverse of `content`; raises `SpikeloomError` naming ``where`` for anything amiss."""
        try:
            layers = []
            for number, entry in enumerate(header["layers"]):
                if entry["kind"] not in LAYERS:
                    raise SpikeloomError(f"layer kind {entry['kind']!r} is not known")
                leak = dict(entry["leak"])
                if leak["kind"] == TableLeak.kind:
                    leak["table"] = tuple(arrays[f"{number}.leak_table"].tolist())
                fields = {
                    "name": entry["name"],
                    "threshold": arrays[f"{number}.threshold"],
                    "bias": arrays[f"{number}.bias"],
                    "v_width": entry["v_width"],
                    "leak": LEAKS[leak.pop("kind")](**leak),
                    "reset": entry["reset"],
                    "fire": _from_fields(FIRES, entry["fire"]),
                }
                kind = LAYERS[entry["kind"]]
                if entry.get("grid") is not None:
                    bounds = arrays.get(f"{number}.grid_bounds")
                    fields["grid"] = Grid(**entry["grid"], bounds=None if bounds is None else tuple(bounds.tolist()))
                if entry.get("shortcut") is not None:
                    fields["shortcut"] = Shortcut(**_synapses_fields(Shortcut, entry["shortcut"]),
                                                  weights=arrays[f"{number}.shortcut_weights"])
                for part, made in (("attention", Attention), ("gate", ChannelGate), ("block_gate", BlockGate)):
                    if entry.get(part) is None:
                        continue
                    of_part = {name: arrays[f"{number}.{part}_{name}"] for name in _PARTS[part][1]}
                    if "table" in of_part:
                        of_part["table"] = tuple(of_part["table"].tolist())
                    form = WeightFormat(**entry[part]["weight_format"])
                    fields[part] = made(**entry[part] | {"weight_format": form}, **of_part)
                layers.append(kind(**fields, **_synapses_fields(kind, entry), weights=arrays[f"{number}.weights"]))
            return cls(InputFormat(**header["input"]), tuple(layers), header["time_steps"], header["readout"],
                       header.get("notes", {}), header.get("votes", 1))
        except SpikeloomError as error:
            raise SpikeloomError(f"{where}: {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SpikeloomError(f"{where}: a field is missing or of the wrong type "
                                 f"({type(error).__name__}: {error})") from None

    def save(self, path):
        """Write a network file (``docs/format.md``)."""
        files.save(path, KIND, VERSION, *self.content())

    @classmethod
    def load(cls, path):
        """Read a network file; raises `SpikeloomError` when it is not a valid one."""
        header, arrays = files.load(path, KIND, *VERSIONS)
        return cls.from_content(header, arrays, str(path))

    @property
    def digest(self):
        """SHA-256 (hexadecimal) of everything that has a meaning for computation."""
        header, arrays = self.content()
        del header["notes"]
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
            digest.update(arrays[name].tobytes())
        return digest.hexdigest()


def _needs_map(synapses):
    return isinstance(synapses, _Convolution) or synapses.attention or synapses.pool


def _source(name):
    return "the input" if name == INPUT else f"layer {name}"


#: What a file says of synapses, beside weights and their format, and what is left unsaid because it is so.
_SYNAPSES = {"source": None, "pool": None, "stride": 1, "padding": 0, "groups": 1}

#: Of an attention and of gates, what a file's header says beside the format of their weights, and their arrays with the
#: types that a file has them in.
_PARTS = {
    "attention": (("shift",), {"time_weights": np.int16, "channel_weights": np.int16, "table": np.int32}),
    "gate": (("shift", "reduce"), {"weights": np.int16, "bias": np.int32, "table": np.int32}),
    "block_gate": (("rows", "columns"), {"weights": np.int16, "bias": np.int32}),
}


def _grid_content(grid):
    step = {"shift": grid.shift} if grid.step is None else {"step": grid.step}
    return {"low": grid.low, "high": grid.high, **step}


def _synapses_content(synapses):
    entry = {"weight_format": dataclasses.asdict(synapses.weight_format)}
    if _needs_map(synapses):
        entry["input_shape"] = list(synapses.input_shape)
    for name, default in _SYNAPSES.items():
        value = getattr(synapses, name, default)
        if value != default:
            entry[name] = dataclasses.asdict(value) if name == "pool" else value
    return entry


def _synapses_fields(kind, entry):
    known = {each.name for each in dataclasses.fields(kind)}
    fields = {name: entry[name] for name in _SYNAPSES if name in entry and name in known}
    if fields.get("pool") is not None:
        fields["pool"] = Pool(**fields["pool"])
    if "input_shape" in entry:
        fields["input_shape"] = tuple(entry["input_shape"])
    return fields | {"weight_format": WeightFormat(**entry["weight_format"])}


def _from_fields(classes, entry):
    fields = dict(entry)
    return classes[fields.pop("kind")](**fields)
