"""What the gateware of a layer is generated from: sizes, widths, and the images of its memories."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    INPUT,
    Conv2d,
    Dense,
    FullLeak,
    GradedSpike,
    ReLU,
    Shortcut,
    Silent,
    TableActivation,
    TableLeak,
    WeightFormat,
    signed_width,
)

from .sparse import SparseRows
from .window import Branch, padded
from .words import JointWords, WordFormat

#: Where a core's weights can be: block RAM, or the large memories with one port that a bitstream cannot fill.
MEMORIES = ("block", "single_port")

#: Memories with fewer bits than this are left to the synthesis tool, which may build them from logic; larger ones
#: are asked to be block RAM.
BLOCK_BITS = 384

#: Entries and bits of a single-port memory.
SINGLE_PORT_SHAPE = (16384, 16)


@dataclass(frozen=True)
class Image:
    """What a memory holds.

    Parameters
    ----------
    name : str
    rows, row_bits : int
        its shape; ``row_bits`` without the zeros that fill up the last byte
    data : bytes
        row after row, ``row_bytes`` each, the lowest bits first
    """

    name: str
    rows: int
    row_bits: int
    data: bytes = field(repr=False)

    @property
    def row_bytes(self):
        return -(-self.row_bits // 8)

    @property
    def words(self):
        """Each row as an integer."""
        size = self.row_bytes
        return [int.from_bytes(self.data[at:at + size], "little") for at in range(0, len(self.data), size)]

    @classmethod
    def of(cls, name, *columns):
        """From ``columns``: pairs of values (rows, n) and the bits of each, those of the first in the lowest bits."""
        bits = [(np.asarray(values, np.int64)[..., None] >> np.arange(width) & 1).reshape(len(values), -1)
                for values, width in columns]
        bits = np.concatenate(bits, axis=1).astype(np.uint8)
        return cls(name, *bits.shape, np.packbits(bits, axis=1, bitorder="little").tobytes())


@dataclass(frozen=True, eq=False)
class Parameter:
    """The thresholds (negated, as they are added) or the biases of a core.

    Parameters
    ----------
    storage : str
        ``"none"``: always zero. ``"fixed"``: one for all neurons, part of the logic. ``"shared"``: one for all
        neurons, in a register that can be loaded. ``"each"``: a memory with one for each neuron.
    bounds : (int, int)
        the smallest and the largest that can be there
    values : int array (updates in a time step, units)
    """

    storage: str
    bounds: tuple[int, int]
    values: np.ndarray

    @property
    def width(self):
        """Bits of one."""
        return signed_width(*self.bounds)


@dataclass(frozen=True, eq=False)
class Core:
    """One dense layer on one core of the array: everything its gateware is generated from.

    Parameters
    ----------
    layer : Dense
    i_words : WordFormat or JointWords
        of the words that come in, from one source or from several
    lanes : int
        sums that accumulate at once, a multiple of ``units``
    units : int
        neurons updated at once, a power of two up to 16: bits of the words that go out
    memory_registers : int
        registers between the weight memory and the lanes, for devices whose block RAM answers late
    memory : str
        where the weights are, one of `MEMORIES`
    reloadable : bool
        weights, parameters and leak table can be replaced, so widths come from formats and not from values
    sparse : bool
        words of weights that are all zero are neither stored nor visited
    """

    layer: Dense
    i_words: WordFormat | JointWords
    lanes: int
    units: int
    memory_registers: int = 0
    memory: str = "block"
    reloadable: bool = False
    sparse: bool = False

    #: Clock cycles from reading a membrane potential that saturates to having written it back.
    UPDATE_CYCLES = 9

    def __post_init__(self):
        _ = self.o_words  # checks the units
        step = self.sets * self.units
        if self.lanes < 1 or self.lanes % step:
            sets = f" and {self.sets} columns" if self.sets > 1 else ""
            raise SpikeloomError(f"Layer {self.layer.name}: lanes must be a multiple of its {self.units} update units"
                                 f"{sets}, not {self.lanes}")
        if self.memory not in MEMORIES:
            raise SpikeloomError(f"Layer {self.layer.name}: memory must be one of {', '.join(MEMORIES)}, "
                                 f"not {self.memory!r}")
        if self.memory == "single_port" and not self.reloadable:
            raise SpikeloomError(f"Layer {self.layer.name}: weights in single-port memory have to be loaded, so the "
                                 "program must be reloadable")
        if not isinstance(self.sparse, bool):
            raise SpikeloomError(f"Layer {self.layer.name}: sparse must be true or false, not {self.sparse!r}")
        if self.sparse and self.reloadable:
            raise SpikeloomError(f"Layer {self.layer.name}: which words of weights are left out is part of the "
                                 "gateware, so a sparse layer cannot be in a reloadable program")
        check_in_gateware(self.layer)
        if self.reloadable and (fixed := self._fixed()):
            raise SpikeloomError(f"Layer {self.layer.name}: {fixed} cannot be in a reloadable program")
        if self.layer.gate and self.reloadable:
            raise SpikeloomError(f"Layer {self.layer.name}: a gate is part of the gateware, so it cannot be in a "
                                 "reloadable program; compile without it")
        if self.pooling:
            self.pooling.check(f"Layer {self.layer.name}")
        _ = self.sparse_rows  # checks itself

    def _fixed(self):
        """What the layer has that is part of the gateware, or None."""
        return next((name for name, there in (
            ("graded spikes", self.graded or self.i_words.signed), ("further branches", self.layer.others),
            ("a delay", isinstance(self.i_words, JointWords)), ("an activation", self.layer.act),
            ("a synaptic current", self.layer.current), ("an adaptation", self.layer.adaptation)) if there), None)

    #: Whether rows of the layer's map are left alone where nothing would change them, and whether channels are.
    skips = gated = False

    # Sizes ------------------------------------------------------------------------------------

    @property
    def members(self):
        """The cores of all layers that run on this one."""
        return (self,)

    @property
    def sets(self):
        """Positions whose neurons accumulate at once."""
        return 1

    @property
    def group(self):
        """Channels that accumulate at once, at each of so many positions."""
        return self.lanes // self.sets

    @property
    def groups(self):
        """Groups of channels, each of which replays the events."""
        return -(-self.layer.shape[2] // self.group)

    @property
    def graded(self):
        """Whether it fires counts."""
        return isinstance(self.layer.fire, GradedSpike)

    @cached_property
    def weight_format(self):
        """Of the weight memory: that of the layer's branches, or where these differ one that holds all of them."""
        if self.layer.shortcut:
            return self.layer.weight_format
        forms = list(dict.fromkeys(synapses.weight_format for synapses, _ in self.branches))
        for form in forms:
            if all(set(other.values) <= set(form.values) for other in forms):
                return form
        lows, highs = zip(*(form.bounds for form in forms), strict=True)
        return WeightFormat("int", max(2, signed_width(min(lows), max(highs))))

    @property
    def input_rows(self):
        """Rows of weights that each group has."""
        return self.i_words.rows if isinstance(self.i_words, JointWords) else self.layer.weights.shape[1]

    @cached_property
    def input_weights(self):
        """The weights of all branches (n_out, input_rows) of a dense layer, and 0, or what stands for it, in rows that
        are left out."""
        if not isinstance(self.i_words, JointWords):
            return self.layer.weights
        found = np.full((self.layer.n_out, self.input_rows), min(self.weight_format.values, key=abs))
        for (synapses, _), each in zip(self.branches, self.i_words.inputs, strict=False):
            found[:, each.first:each.first + each.words.size] = synapses.weights
        return found

    @cached_property
    def pooling(self):
        """The `Branch` of a dense layer whose pool is of kind max, which happens before the events are kept; or None.
        ``i_words`` are those behind it."""
        layer, words = self.layer, self.i_words
        if not (isinstance(layer, Dense) and layer.pool and layer.pool.kind == "max"):
            return None
        channels = layer.input_shape[2]
        identity = Shortcut(INPUT, layer.input_shape, np.ones((channels, 1, 1, 1), np.int64),
                            WeightFormat("ternary", 2), groups=channels, pool=layer.pool)
        return Branch(identity, WordFormat(layer.n_in, words.width, words.graded, layer.input_shape), 1, channels)

    @property
    def positions(self):
        """Of the layer's map."""
        return self.layer.shape[0] * self.layer.shape[1]

    @property
    def updates(self):
        """Cycles in which the update units serve one group at one position."""
        return self.group // self.units

    @property
    def update_cycles(self):
        """Clock cycles from reading a membrane potential to having written it back, which neuron updates of the same
        neuron must keep apart."""
        if not self.layer.grid:
            return self.UPDATE_CYCLES + self._further_stages
        decoding = not isinstance(self.layer.leak, TableLeak)  # whose entries are potentials
        # Firing and reset take two cycles, saturation one.
        return (self.UPDATE_CYCLES + self._further_stages + decoding + self.encoding_cycles
                - (3 if self.encodes_at_once else 1))

    @property
    def act_stage(self):
        """Cycles from the stored states until the current is what its `act` makes of it: a table is a memory."""
        return {None: 1, ReLU: 2, TableActivation: 4}[type(self.layer.act) if self.layer.act else None]

    @property
    def driven_stage(self):
        """Cycles from the stored states to what is added to the membrane potential."""
        if not self.layer.current:
            return self.act_stage
        return max(self.act_stage, 2 if isinstance(self.layer.current.leak, TableLeak) else 1) + 1

    @property
    def _leaked_stage(self):
        return 2 if self.layer.grid or isinstance(self.layer.leak, TableLeak) else 1

    @property
    def potential_stage(self):
        """Cycles from the stored states to the potential before firing."""
        return max(self._leaked_stage, self.driven_stage) + 1

    @property
    def _further_stages(self):
        """Those that a potential takes for what becomes of its current."""
        return self.potential_stage - self._leaked_stage - 1

    @property
    def longer_updates(self):
        """Cycles by which updates take longer than those of a potential that saturates."""
        return self.update_cycles - self.UPDATE_CYCLES

    @property
    def encoding_cycles(self):
        """From a potential to the level of a grid that it is stored as: a step that is a power of two takes an
        addition, and three levels two at a time; any other step is divided by, and bounds are searched, a bit of the
        level after the other."""
        grid = self.layer.grid
        if grid.bounds is not None:
            return 2 * grid.width + 1
        return 2 if self.rounds or self.ternary else grid.width + 2

    @property
    def encodes_at_once(self):
        """Whether a potential becomes a level while it is compared with the threshold: where the reset leaves it as it
        is, or at a zero whose level is zero."""
        return self.layer.reset == "none" or self.clears

    @property
    def clears(self):
        """Whether the level of a neuron that fires is zero."""
        grid = self.layer.grid
        return self.layer.reset == "zero" and (grid.bounds is None or grid.level(0, 1) == 0)

    @property
    def rounds(self):
        """Whether levels are of a step that is a power of two, and nearest."""
        grid = self.layer.grid
        return grid.bounds is None and grid.step is not None and grid.step & (grid.step - 1) == 0

    @property
    def ternary(self):
        """Whether there are three levels, one of them below zero, and nearest."""
        grid = self.layer.grid
        return grid.bounds is None and (grid.low, grid.high) == (-1, 1)

    @property
    def pace(self):
        """The fewest cycles between the ends of two groups."""
        return max(self.updates, -(-self.update_cycles // (self.groups * self.positions)))

    @property
    def o_words(self):
        """The words that go out. Neurons that only fill up the last group never spike, so ``size`` leaves them out."""
        return WordFormat.of_layer(self.layer, self.units)

    @property
    def channel_updates(self):
        """Updates at one position: rows of a memory with something for each channel, padding included."""
        return self.groups * self.updates

    @property
    def update_count(self):
        """Updates in one time step: words of the membrane memory, padding included."""
        return self.positions * self.channel_updates

    def arrange(self, updates):
        """Values (..., update_count, units) in the order of updates, as those of neurons (..., n_out)."""
        updates = np.asarray(updates)
        return updates.reshape(*updates.shape[:-2], -1)[..., :self.layer.n_out]

    @property
    def memories(self):
        """The core's memories: name to (entries, bits). What can be loaded has whole bytes."""
        words = self.i_words
        lists = [each for each in words.inputs if each.kept]
        memories = {
            **{f"events_{number}": (each.banks * each.depth, words.index_width + each.words.width + each.words.signed)
               for number, each in enumerate(lists)},
            **{name: (self.update_count, self.units * width) for name, width in self.state_widths.items()},
            **(self.pooling.row_memories() if self.pooling else {}),
            **(self.sparse_rows.memories if self.sparse_rows else {}),
        }
        for name, (rows, bits) in self.image_shapes.items():
            shape = (rows, -(-bits // 8) * 8 if self.reloadable else bits)
            if name == "leak" or name in self._tables:
                memories |= {f"{name}_{unit}": shape for unit in range(self.units)}
            elif name != "shared":
                memories[name] = shape
        return memories

    @property
    def single_ports(self):
        """Single-port memories that the weights take."""
        entries, width = SINGLE_PORT_SHAPE
        rows, bits = self.image_shapes["weights"]
        return -(-rows // entries) * -(-bits // width) if self.memory == "single_port" else 0

    # Widths (bits) ------------------------------------------------------------------------------

    @property
    def branches(self):
        """The synapses of each branch of the layer, and the words that come to them."""
        return tuple(zip(self.layer.branches, (each.words for each in self.i_words.inputs), strict=False))

    @cached_property
    def _current_bounds(self):
        lows, highs = zip(*(self._branch_bounds(*branch) for branch in self.branches), strict=True)
        return sum(lows), sum(highs)

    def _branch_bounds(self, synapses, words):
        if not self.reloadable:
            return synapses.current_bounds(*words.bounds)
        low, high = synapses.weight_format.bounds
        reach = synapses.weights[0].size * synapses.pooled_bounds(*words.bounds)[1]
        return low * reach, high * reach

    @property
    def _biased_bounds(self):
        low, high = (sum(pair) for pair in zip(self._current_bounds, self.bias.bounds, strict=True))
        # What is closed gets nothing at all.
        return (min(low, 0), max(high, 0)) if self.gated else (low, high)

    @property
    def _driving_bounds(self):
        """Of what is added to the membrane potential."""
        layer = self.layer
        low, high = layer.act.bounds(*self._biased_bounds) if layer.act else self._biased_bounds
        if layer.current and not isinstance(layer.current.leak, FullLeak):
            low, high = low + layer.current.bounds[0], high + layer.current.bounds[1]
        return low, high

    @cached_property
    def _potential_bounds(self):
        # A leak never leaves the stored range, and a table that could is refused.
        low, high = self._driving_bounds
        stored = (0, 0) if isinstance(self.layer.leak, FullLeak) else self._stored_bounds
        return stored[0] + low, stored[1] + high

    @property
    def state_widths(self):
        """Bits of each state that a neuron keeps from one time step to the next."""
        layer = self.layer
        states = {"membranes": (layer.leak, layer.v_width)} | {
            name: (state.leak, state.width)
            for name, state in (("currents", layer.current), ("adaptations", layer.adaptation)) if state}
        return {name: width for name, (leak, width) in states.items() if not isinstance(leak, FullLeak)
                or name == "adaptations"}

    @cached_property
    def current_width(self):
        """Of an accumulator: holds every sum that can end there. Sums on the way may wrap."""
        return signed_width(*self._current_bounds)

    @cached_property
    def stored_width(self):
        """Of a membrane potential as stored, or of what a stored level stands for, after a leak too."""
        return signed_width(*self._stored_bounds)

    @property
    def _stored_bounds(self):
        layer, grid = self.layer, self.layer.grid
        if not grid or grid.step is not None:
            return layer.v_min, layer.v_max
        highest = -self.minus_threshold.bounds[0]
        return grid.value(grid.low, highest), grid.value(grid.high, highest)

    @cached_property
    def potential_width(self):
        """Of a membrane potential before firing."""
        return signed_width(*self._potential_bounds)

    @cached_property
    def biased_width(self):
        """Of a sum and its bias."""
        return signed_width(*self._biased_bounds)

    @cached_property
    def driving_width(self):
        """Of what is added to a membrane potential."""
        return signed_width(*self._driving_bounds)

    @property
    def _minus_raised_bounds(self):
        low, high = self.minus_threshold.bounds
        least, most = self.layer.raise_bounds
        return low - most, high - least

    @cached_property
    def minus_raised_width(self):
        """Of a negated threshold with what an adaptation adds to it."""
        return signed_width(*self._minus_raised_bounds)

    @cached_property
    def above_width(self):
        """Of a membrane potential less its threshold."""
        (low, high), minus_threshold = self._potential_bounds, self._minus_raised_bounds
        return signed_width(low + minus_threshold[0], high + minus_threshold[1])

    @cached_property
    def kept_width(self):
        """Of a membrane potential after its reset. Only below a negative threshold does subtracting it leave the range
        of the potential; and a count below zero may leave anything up to the threshold."""
        low, high = self._potential_bounds
        if self.graded:
            return signed_width(low, max(high, -self.minus_threshold.bounds[0] - 1 if low < 0 else 0))
        return self.above_width if self._minus_raised_bounds[1] > 0 else self.potential_width

    def over_width(self, times):
        """Of a membrane potential less so many thresholds."""
        (low, high), ends = self._potential_bounds, [times * end for end in self.minus_threshold.bounds]
        return signed_width(low + min(ends), high + max(ends))

    @property
    def act_width(self):
        """Of an entry of the table that currents are looked up in."""
        return signed_width(*self.layer.act.bounds(0, 0))

    @property
    def raised_width(self):
        """Of an adaptation before it is stored."""
        low, high = self.layer.adaptation.bounds
        step = self.layer.adaptation.step
        return signed_width(low + min(0, int(step.min())), high + max(0, int(step.max())))

    # Thresholds and biases ------------------------------------------------------------------------

    @cached_property
    def minus_threshold(self):
        """The `Parameter` that is added to a potential to compare it. One that can be loaded has room for every
        threshold that makes a difference."""
        return self._parameter(-self.in_words(self.layer.threshold), room=self._threshold_room, unused=isinstance(
            self.layer.fire, Silent) and not self.levels_of_threshold)

    @property
    def levels_of_threshold(self):
        """Whether stored levels are in units of the threshold."""
        return bool(self.layer.grid) and self.layer.grid.step is None

    def _threshold_room(self):
        if not self.levels_of_threshold:
            return self.potential_width + 1
        # Where half a step is more than any sum, nothing is ever stored.
        sums = (low + high for low, high in zip(self._current_bounds, self.bias.bounds, strict=True))
        return signed_width(*sums) + self.layer.grid.shift + 2

    @cached_property
    def bias(self):
        """The `Parameter` that is added to a sum. One that can be loaded has the room of a sum."""
        return self._parameter(self.in_words(self.layer.bias), unused=not self.layer.bias.any(),
                               room=lambda: self.current_width)

    def _parameter(self, values, *, unused, room):
        """``unused``: need not be there in a core that can be reloaded; ``room``: bits to have there at least."""
        low, high = int(values.min()), int(values.max())
        if not self.reloadable:
            return Parameter("fixed" if low == high else "each", (low, high), values)
        if unused:
            return Parameter("none", (0, 0), np.zeros_like(values))
        half = 2 ** (max(room(), signed_width(low, high)) - 1)
        return Parameter("shared" if low == high else "each", (-half, half - 1), values)

    @property
    def parameters(self):
        """All of them by name, in the order in which a row of memory holds them. Of graded spikes also what the most
        and the least of them subtract, negated; of an adaptation its step."""
        layer, found = self.layer, {"minus_threshold": self.minus_threshold, "bias": self.bias}
        if self.graded:
            found |= {name: self._fixed_parameter(-times * layer.threshold)
                      for name, times in (("minus_most", layer.fire.high), ("minus_least", layer.fire.low)) if times}
        if layer.adaptation:
            found["step"] = self._fixed_parameter(layer.adaptation.step)
        return found

    def _fixed_parameter(self, values):
        return self._parameter(self.in_words(values), unused=False, room=None)

    # Memory images --------------------------------------------------------------------------------

    @cached_property
    def weights(self):
        """Weight codes, shape (groups · input_rows, lanes): a row for each group and input."""
        codes = padded(self.weight_format.encode(self.input_weights), self.groups * self.group)
        return codes.reshape(self.groups, self.lanes, -1).transpose(0, 2, 1).reshape(-1, self.lanes)

    @cached_property
    def sparse_rows(self):
        """The `SparseRows` of a sparse core of a dense layer, or None."""
        return SparseRows(self) if self.sparse and isinstance(self.layer, Dense) else None

    @cached_property
    def images(self):
        """The `Image` of each memory: ``weights``; ``shortcut``, its weights; ``parameters``, those that each neuron
        has of its own; ``shared``, those in registers; ``leak``; and those of `SparseRows`, as far as the core has
        them."""
        columns = self.image_columns
        return {name: Image.of(name, *columns[name]) for name in self.image_shapes}

    @property
    def image_columns(self):
        """For each of the `images`, what `Image.of` makes it from."""
        layer, rows = self.layer, self.sparse_rows
        return {
            "weights": [(rows.weights if rows else self.weights, self.weight_format.width)],
            **(rows.image_columns if rows else {}),
            **({"shortcut": [(self.shortcut.weights, layer.shortcut.weight_format.width)]} if layer.shortcut else {}),
            "parameters": [(parameter.values, parameter.width) for parameter in self._stored("each")],
            "shared": [(parameter.values[:1, :1], parameter.width) for parameter in self._stored("shared")],
            "leak": [(self.leaks[:, None], self.stored_width)],
            **{name: [(np.array(table)[:, None], width)] for name, (table, width) in self._tables.items()},
        }

    @property
    def _tables(self):
        """Those of an activation and of states beside the potential, each with the bits of an entry."""
        layer, found = self.layer, {}
        if isinstance(layer.act, TableActivation):
            found["act"] = layer.act.table, self.act_width
        for name, state in (("current", layer.current), ("adaptation", layer.adaptation)):
            if state and isinstance(state.leak, TableLeak):
                found[f"{name}_leak"] = state.leak.table, state.width
        return found

    @cached_property
    def image_shapes(self):
        """Rows and bits of each of the `images`."""
        layer, rows = self.layer, self.sparse_rows
        shapes = dict(rows.image_shapes) if rows else {
            "weights": (self.groups * self.input_rows, self.lanes * self.weight_format.width)}
        if self._stored("each"):
            bits = self.units * sum(parameter.width for parameter in self._stored("each"))
            shapes["parameters"] = (self.channel_updates, bits)
        if self._stored("shared"):
            shapes["shared"] = (1, sum(parameter.width for parameter in self._stored("shared")))
        if isinstance(layer.leak, TableLeak):
            shapes["leak"] = (2**layer.v_width, self.stored_width)
        return shapes | {name: (len(table), width) for name, (table, width) in self._tables.items()}

    @property
    def leaks(self):
        """What each state leaks to: entry V − v_min; with a grid, that of a level modulo 2^v_width. Empty where the
        leak is no table."""
        grid, table = self.layer.grid, np.array(getattr(self.layer.leak, "table", ()), np.int64)
        if not grid or not len(table):
            return table
        leaks = np.zeros(2**grid.width, np.int64)
        leaks[np.arange(grid.low, grid.high + 1) % len(leaks)] = table
        return leaks

    @property
    def image_names(self):
        """Of the `images`."""
        return tuple(self.image_shapes)

    def _stored(self, storage):
        """The parameters that are stored so."""
        return [parameter for parameter in self.parameters.values() if parameter.storage == storage]

    def in_words(self, values):
        """``values`` (channels,) in the order of updates: shape (channel_updates, units)."""
        return padded(values, self.groups * self.group).reshape(self.channel_updates, self.units)


def check_in_gateware(layer):
    """Refuse a layer that has a meaning, but no gateware."""
    what = f"Layer {layer.name}"
    convolution = isinstance(layer, Conv2d)
    missing = [name for name, there in (
        ("attention runs", layer.attention),
        ("graded spikes of a convolution run", convolution and isinstance(layer.fire, GradedSpike)),
        ("a convolution with a delay runs", convolution and any(branch.delay for branch in layer.branches))) if there]
    if missing:
        raise SpikeloomError(f"{what}: {missing[0]} in the reference, not yet in gateware")
    if layer.block_gate:
        raise SpikeloomError(f"{what}: a gate of blocks runs in the reference, not in gateware, where it would take "
                             "longer than what it saves; compile without it")
