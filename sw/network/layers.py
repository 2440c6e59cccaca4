"""Layers of neurons and the synapses that lead into them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from spikeloom.errors import SpikeloomError

from .checks import (
    INPUT,
    LONGEST_DELAY,
    LONGEST_KERNEL,
    LONGEST_POOL,
    MOST_NEURONS,
    between,
    by,
    integers,
    is_integer,
    map_shape,
    on_grid,
    sum_bounds,
)
from .gates import Attention, BlockGate, ChannelGate
from .neurons import (
    RESETS,
    Adaptation,
    FullLeak,
    GradedSpike,
    Grid,
    NoLeak,
    ReLU,
    ShiftLeak,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
    check_leak_table,
)
from .weights import WeightFormat


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
        between("Input size", self.size, 1, MOST_NEURONS)
        between("Input width", self.width, 1, 8, " bits")
        object.__setattr__(self, "shape", map_shape("Input", self.shape or (1, 1, self.size)))
        if math.prod(self.shape) != self.size:
            raise SpikeloomError(f"Input shape {by(self.shape)} must have {self.size} values, "
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
        between("Rows of a pooled block", self.rows, 1, LONGEST_POOL)
        between("Columns of a pooled block", self.columns, 1, LONGEST_POOL)

    def shape(self, shape):
        """The map that one of ``shape`` becomes."""
        return shape[0] // self.rows, shape[1] // self.columns, shape[2]

    def bounds(self, low, high):
        """Smallest and largest value of what values from ``low`` to ``high`` become."""
        count = self.rows * self.columns if self.kind == "sum" else 1
        return low * count, high * count


class _Synapses:
    """What has weights: from a map of one source to one current for each neuron of a layer.

    Fields that all kinds have: ``weights``, ``weight_format``; ``source``, the name of the layer (or "input") that the
    spikes come from, by default the layer before; ``delay``, by how many time steps these come later than they are
    fired (0 to 65535); ``attention`` (only of a layer's own) and ``pool`` (not of a `Branch`), what happens to their
    map first, in this order.
    """

    attention = pool = None

    def _check_synapses(self, what):
        weights = on_grid(self, what, "weights", self.dimensions)
        if not weights.size:
            raise SpikeloomError(f"{what}: weights must not be empty, but have shape {weights.shape}")
        between(f"{what}: delay", self.delay, 0, LONGEST_DELAY, " time steps")
        if 0 in self.pooled_shape:
            raise SpikeloomError(f"{what}: a map of {by(self.input_shape)} has no block of {self.pool.rows} x "
                                 f"{self.pool.columns} to pool")
        if self.attention:
            self.attention.check(f"{what}, attention", self.input_shape[2])

    @property
    def needs_map(self):
        """Whether the inputs' places on their map matter."""
        return bool(self.attention or self.pool)

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
    needs_map = True

    def _check_synapses(self, what):
        object.__setattr__(self, "input_shape", map_shape(what, self.input_shape))
        super()._check_synapses(what)
        out, per_group, k, columns = self.weights.shape
        rows_in, columns_in, channels_in = self.pooled_shape
        if k != columns or k > LONGEST_KERNEL:
            raise SpikeloomError(f"{what}: a kernel must be 1 x 1 to {LONGEST_KERNEL} x {LONGEST_KERNEL}, "
                                 f"not {k} x {columns}")
        between(f"{what}: stride", self.stride, 1, LONGEST_KERNEL)
        between(f"{what}: padding", self.padding, 0, k - 1)
        if not is_integer(self.groups) or self.groups < 1 or channels_in % self.groups or out % self.groups:
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
    delay: int = 0
    padding = 0


@dataclass(frozen=True, eq=False)
class Branch(_Synapses):
    """Further synapses of a dense layer, whose sums are added to its currents: from another source, or with another
    delay. From the layer itself, or from a later one, with a delay of 1 or more, they are its recurrence.

    Parameters
    ----------
    source : str
    weights : int array (n_out, inputs)
    weight_format : WeightFormat
    delay : int
    """

    source: str
    weights: np.ndarray
    weight_format: WeightFormat
    delay: int = 0

    dimensions = 2

    @property
    def input_shape(self):
        """The inputs as a map of one position."""
        return 1, 1, self.weights.shape[1]

    @property
    def shape(self):
        """The map of currents, likewise."""
        return 1, 1, len(self.weights)


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
    leak : NoLeak, ShiftLeak, FullLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
    act : ReLU or TableActivation, optional
        what becomes of currents first, biases included
    current : SynapticCurrent, optional
    adaptation : Adaptation, optional
        for neurons that fire `Spike`
    """

    def _check_neurons(self):
        if not (self.name.isidentifier() and self.name.isascii()):
            raise SpikeloomError(f"Layer name must be made of letters, digits and underscores, not {self.name!r}")
        if self.name == INPUT:
            raise SpikeloomError(f"Layer name must not be {INPUT!r}, which is where a network's input comes from")
        what = f"Layer {self.name}"
        self._check_synapses(what)
        threshold, bias = integers(self, what, "threshold", 1), integers(self, what, "bias", 1)
        for name, array in (("threshold", threshold), ("bias", bias)):
            if array.shape != self.shape[2:]:
                raise SpikeloomError(f"{what}: {name} must have shape {self.shape[2:]}, one for each {self.of_each}, "
                                     f"not {array.shape}")
        if self.n_out > MOST_NEURONS:
            raise SpikeloomError(f"{what}: must have at most {MOST_NEURONS} neurons, not {self.n_out}")
        between(f"{what}: membrane width", self.v_width, 2, 16, " bits")
        if self.reset not in RESETS:
            raise SpikeloomError(f"{what}: reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        if self.grid:
            self._check_grid(what, threshold)
        if isinstance(self.leak, TableLeak):
            states = self.grid.high - self.grid.low + 1 if self.grid else 2**self.v_width
            check_leak_table(what, self.leak, states, self.v_min, self.v_max)
        if self.act:
            self.act.check(f"{what}, act")
        if self.current:
            self.current.check(f"{what}, current")
        if self.adaptation:
            self.adaptation.check(f"{what}, adaptation", self.shape[2])
            if not isinstance(self.fire, Spike):
                raise SpikeloomError(f"{what}: an adaptation is for neurons that fire \"spike\", not "
                                     f"{self.fire.kind!r}")
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
        """The synapses that lead into the layer: its own, then its shortcut or its further ones."""
        return (self, self.shortcut) if self.shortcut else (self, *self.others)

    @property
    def branch_names(self):
        """What to call each of the branches."""
        further = ["shortcut"] if self.shortcut else [f"branch {number}" for number in range(len(self.others))]
        return [self.name, *(f"{self.name}, {name}" for name in further)]

    @property
    def n_out(self):
        return math.prod(self.shape)

    @property
    def state_widths(self):
        """Bits of each state that a neuron keeps: its potential, its synaptic current, what is added to its threshold.
        """
        return [self.v_width, *(state.width for state in (self.current, self.adaptation) if state)]

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

    @property
    def raise_bounds(self):
        """Smallest and largest value that is added to thresholds."""
        return self.adaptation.bounds if self.adaptation else (0, 0)

    def biased_bounds(self, low, high):
        """Smallest and largest current, biases included, where sums lie between ``low`` and ``high``."""
        low, high = low + int(self.bias.min()), high + int(self.bias.max())
        return (min(low, 0), max(high, 0)) if self.gate or self.block_gate else (low, high)

    def potential_bounds(self, low, high):
        """Smallest and largest membrane potential before firing, where sums lie between ``low`` and ``high``."""
        # A leak never leaves the stored range: a shift moves toward zero (or -1), tables are checked.
        low, high = self.biased_bounds(low, high)
        states = [] if isinstance(self.leak, FullLeak) else [(self.v_min, self.v_max)]
        if self.act:
            low, high = self.act.bounds(low, high)
        if self.current:
            states.append((0, 0) if isinstance(self.current.leak, FullLeak) else self.current.bounds)
        return sum((each for each, _ in states), low), sum((each for _, each in states), high)


@dataclass(frozen=True, eq=False)
class Dense(_Neurons, _Synapses):
    """A fully connected layer of spiking neurons; fields as in `_Neurons` and `_Synapses`, and

    Parameters
    ----------
    weights : int array (n_out, inputs after pooling)
        on the grid of ``weight_format``
    input_shape : (rows, columns, channels), optional
        needed for ``attention`` and ``pool``; by default one row and column with a channel for each input
    others : tuple of Branch
    """

    name: str
    weights: np.ndarray
    weight_format: WeightFormat
    threshold: np.ndarray
    bias: np.ndarray
    v_width: int
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    source: str | None = None
    input_shape: tuple[int, int, int] | None = None
    pool: Pool | None = None
    attention: Attention | None = None
    grid: Grid | None = None
    delay: int = 0
    others: tuple[Branch, ...] = ()
    act: ReLU | TableActivation | None = None
    current: SynapticCurrent | None = None
    adaptation: Adaptation | None = None

    kind = "dense"
    dimensions = 2
    of_each = "neuron"
    shortcut = gate = block_gate = None

    def __post_init__(self):
        what = f"Layer {self.name}"
        if self.input_shape is None and self.pool is None and self.attention is None:
            object.__setattr__(self, "input_shape", (1, 1, max(1, (*np.shape(self.weights), 1, 1)[1])))
        object.__setattr__(self, "input_shape", map_shape(what, self.input_shape))
        self._check_neurons()
        if self.weights.shape[1] != math.prod(self.pooled_shape):
            raise SpikeloomError(f"{what}: weights must have shape ({len(self.weights)}, "
                                 f"{math.prod(self.pooled_shape)}), not {self.weights.shape}")
        object.__setattr__(self, "others", tuple(self.others))
        for number, branch in enumerate(self.others):
            what = f"Layer {self.name}, branch {number}"
            branch._check_synapses(what)
            if len(branch.weights) != len(self.weights):
                raise SpikeloomError(f"{what}: weights must have {len(self.weights)} rows, one for each neuron, not "
                                     f"{len(branch.weights)}")

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
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak = field(default_factory=NoLeak)
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
    delay: int = 0
    act: ReLU | TableActivation | None = None
    current: SynapticCurrent | None = None
    adaptation: Adaptation | None = None

    kind = "conv2d"
    of_each = "channel"
    others = ()

    def __post_init__(self):
        self._check_neurons()
        if self.shortcut:
            what = f"Layer {self.name}, shortcut"
            self.shortcut._check_synapses(what)
            if self.shortcut.kernel != 1:
                raise SpikeloomError(f"{what}: its kernel must be 1 x 1, not {by(self.shortcut.weights.shape[2:])}")
            if self.shortcut.shape != self.shape:
                raise SpikeloomError(f"{what}: gives a map of {by(self.shortcut.shape)}, where the layer's own "
                                     f"convolution gives {by(self.shape)}")
        for name, gate in (("gate", self.gate), ("block gate", self.block_gate)):
            if gate:
                gate.check(f"Layer {self.name}, {name}", self)


LAYERS = {cls.kind: cls for cls in (Dense, Conv2d)}


@functools.lru_cache(maxsize=64)
def _current_bounds(synapses, z_low, z_high):
    return sum_bounds(synapses.weights, *synapses.pooled_bounds(z_low, z_high))


def sources(layers):
    """For each of ``layers``, integer ones or those of `spikeloom.training.model`, the names of its branches' sources.
    """
    before = [INPUT, *(layer.name for layer in layers)]
    return [(layer.source or name, *(branch.source for branch in layer.branches[1:]))
            for layer, name in zip(layers, before, strict=False)]


def loops(layers):
    """The numbers of ``layers``, as for `sources`, in turn, as ranges: from each on that takes what a later one, or it
    itself, fires, up to that one; elsewhere a layer is alone."""
    numbers = {INPUT: -1} | {layer.name: number for number, layer in enumerate(layers)}
    found = []
    for number, of_layer in enumerate(sources(layers)):
        last = max(number, *(numbers[source] for source in of_layer))
        if found and number in found[-1]:
            found[-1] = range(found[-1].start, max(found[-1].stop, last + 1))
        else:
            found.append(range(number, last + 1))
    return found


def is_looped(layers, layer):
    """Whether a layer is one of those that feed back, alone or with others."""
    number = layers.index(layer)
    return layer.name in sources(layers)[number] or any(number in loop and len(loop) > 1 for loop in loops(layers))
