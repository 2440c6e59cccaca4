"""A `Program`: a network placed on an array of cores, with the memory images of its gateware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from . import files
from .errors import SpikeloomError
from .network import (
    INPUT,
    Conv2d,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    NoLeak,
    ShiftLeak,
    Shortcut,
    Silent,
    TableLeak,
    WeightFormat,
    signed_width,
)
from .target import find
from .waiting import rows_waiting

KIND = "program"
VERSION = 2

#: Where a core's weights can be: block RAM, or the large memories with one port that a bitstream cannot fill.
MEMORIES = ("block", "single_port")

#: Memories with fewer bits than this are left to the synthesis tool, which may build them from logic; larger ones
#: are asked to be block RAM.
BLOCK_BITS = 384

#: Entries and bits of a single-port memory.
SINGLE_PORT_SHAPE = (16384, 16)


@dataclass(frozen=True)
class WordFormat:
    """How spikes travel between cores: words of neighbouring neurons, or one graded value each.

    A word is an ``index`` and ``width`` bits. For binary spikes bit b of word i is neuron i·width + b.
    For graded values (``graded``) word i is neuron i and bit b has the value 2^b. Words without a set bit
    are not sent, so silence costs nothing.

    Words of a map whose ``shape`` is given have neurons of one position alone, and an index of three fields: from the
    lowest bit on, the part of the position's channels, the column, and the row.
    """

    size: int
    width: int
    graded: bool = False
    shape: tuple[int, int, int] | None = None

    def __post_init__(self):
        if not self.graded and self.width not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Bits of a spike word must be 1, 2, 4, 8 or 16, not {self.width}")

    @property
    def map(self):
        """The shape, that of a single position where none is given."""
        return self.shape or (1, 1, self.size)

    @property
    def parts(self):
        """Words of one position."""
        return self.map[2] if self.graded else -(-self.map[2] // self.width)

    @property
    def fields(self):
        """Bits of an index that say which part, which column and which row."""
        rows, columns, _ = self.map
        return tuple((count - 1).bit_length() for count in (self.parts, columns, rows))

    @property
    def bounds(self):
        """Smallest and largest value."""
        return 0, 2**self.width - 1 if self.graded else 1

    @property
    def most(self):
        """Words of one time step when every neuron spikes."""
        return self.map[0] * self.map[1] * self.parts

    @property
    def count(self):
        """One more than the highest index."""
        part, column, _ = self.fields
        rows, columns, _ = self.map
        return ((rows - 1 << column | columns - 1) << part | self.parts - 1) + 1

    @property
    def index_width(self):
        return max(1, (self.count - 1).bit_length())

    def queue(self, rows):
        """Entries and bits of a memory for so many rows of words, their ends included. It knows no number of a row."""
        part, column, _ = self.fields
        return rows * (self.map[1] * self.parts + 1), self.width + part + column + 3

    def pack(self, z):
        """Words (..., count) that hold the values ``z`` (..., size)."""
        z = np.asarray(z, np.int64).reshape(*np.shape(z)[:-1], *self.map)
        if not self.graded:
            bits = _filled(z, 1, self.parts * self.width).reshape(*z.shape[:-1], self.parts, self.width)
            z = (bits << np.arange(self.width)).sum(axis=-1)
        part, column, _ = self.fields
        words = _filled(_filled(z, 2, 1 << column) if self.shape else z, 1, 1 << part if self.shape else self.parts)
        return words.reshape(*words.shape[:-3], -1)[..., :self.count]

    def unpack(self, words):
        """The inverse of `pack`."""
        part, column, _ = self.fields
        rows, columns, channels = self.map
        if self.shape:
            words = _filled(np.asarray(words), 1, rows << column << part)
            words = words.reshape(*words.shape[:-1], rows, 1 << column, 1 << part)[..., :columns, :self.parts]
        if not self.graded:
            bits = (np.asarray(words)[..., None] >> np.arange(self.width)) & 1
            words = bits.reshape(*bits.shape[:-2], -1)[..., :channels]
        return words.reshape(*words.shape[:-3], self.size) if self.shape else words

    @classmethod
    def of_input(cls, input: InputFormat):
        """The words that a network's input comes in: without fields, whatever its map."""
        if input.width > 1:
            return cls(input.size, input.width, graded=True)
        if input.shape[:2] != (1, 1):  # no word has values of two positions
            return cls(input.size, min(8, input.shape[2] & -input.shape[2]))
        # Eight neighbours a word keeps the list of a 784-pixel image in one block RAM.
        return cls(input.size, min(8, 1 << (input.size - 1).bit_length()))

    @classmethod
    def of_input_map(cls, input: InputFormat):
        """The words of `of_input`, as a core takes them that works on maps."""
        words = cls.of_input(input)
        return cls(input.size, words.width, words.graded, input.shape)


def _filled(array, axis, count):
    """``array`` with zeros up to ``count`` entries along its ``axis``-last axis."""
    padding = [(0, 0)] * array.ndim
    padding[-axis] = (0, count - array.shape[-axis])
    return np.pad(array, padding)


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
    i_words : WordFormat
        of the words that come in
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
    """

    layer: Dense
    i_words: WordFormat
    lanes: int
    units: int
    memory_registers: int = 0
    memory: str = "block"
    reloadable: bool = False

    #: Clock cycles from reading a membrane potential to having written it back, which neuron updates of the same
    #: neuron must keep apart.
    UPDATE_CYCLES = 9

    def __post_init__(self):
        if self.units not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Layer {self.layer.name}: update units must be 1, 2, 4, 8 or 16, not {self.units}")
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
        if isinstance(self.layer.fire, GradedSpike):
            raise SpikeloomError(f"Layer {self.layer.name}: graded spikes run in the reference, not yet in gateware")
        if self.layer.attention:
            raise SpikeloomError(f"Layer {self.layer.name}: attention runs in the reference, not yet in gateware")
        if self.pooling:
            self.pooling.check(f"Layer {self.layer.name}")

    #: Whether rows of the layer's map are left alone where nothing would change them.
    skips = False

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
    def pace(self):
        """The fewest cycles between the ends of two groups."""
        return max(self.updates, -(-self.UPDATE_CYCLES // (self.groups * self.positions)))

    @property
    def o_words(self):
        """The words that go out. Neurons that only fill up the last group never spike, so ``size`` leaves them out."""
        return WordFormat(self.layer.n_out, self.units)

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
        layer, words = self.layer, self.i_words
        memories = {
            "events": (2 << (words.most - 1).bit_length(), words.width + words.index_width),
            "membranes": (self.update_count, self.units * layer.v_width),
            **(self.pooling.row_memories() if self.pooling else {}),
        }
        for name, (rows, bits) in self.image_shapes.items():
            shape = (rows, -(-bits // 8) * 8 if self.reloadable else bits)
            if name == "leak":
                memories |= {f"leak_{unit}": shape for unit in range(self.units)}
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
        return ((self.layer, self.i_words),)

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

    @cached_property
    def _potential_bounds(self):
        # A leak never leaves the stored range, and a table that could is refused.
        low, high = self._current_bounds
        bias = self.bias.bounds
        return self.layer.v_min + low + bias[0], self.layer.v_max + high + bias[1]

    @cached_property
    def current_width(self):
        """Of an accumulator: holds every sum that can end there. Sums on the way may wrap."""
        return signed_width(*self._current_bounds)

    @cached_property
    def potential_width(self):
        """Of a membrane potential before firing."""
        return signed_width(*self._potential_bounds)

    @cached_property
    def above_width(self):
        """Of a membrane potential less its threshold."""
        (low, high), minus_threshold = self._potential_bounds, self.minus_threshold.bounds
        return signed_width(low + minus_threshold[0], high + minus_threshold[1])

    # Thresholds and biases ------------------------------------------------------------------------

    @cached_property
    def minus_threshold(self):
        """The `Parameter` that is added to a potential to compare it. One that can be loaded has room for every
        threshold that makes a difference."""
        return self._parameter(-self.in_words(self.layer.threshold), unused=isinstance(self.layer.fire, Silent),
                               room=lambda: self.potential_width + 1)

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
        """Both of them by name, in the order in which a row of memory holds them."""
        return {"minus_threshold": self.minus_threshold, "bias": self.bias}

    # Memory images --------------------------------------------------------------------------------

    @cached_property
    def weights(self):
        """Weight codes (uint8), shape (groups · n_in, lanes): a row for each group and input."""
        codes = _padded(self.layer.weight_format.encode(self.layer.weights), self.groups * self.group)
        return codes.reshape(self.groups, self.lanes, -1).transpose(0, 2, 1).reshape(-1, self.lanes)

    @cached_property
    def images(self):
        """The `Image` of each memory: ``weights``; ``shortcut``, its weights; ``parameters``, those that each neuron
        has of its own; ``shared``, those in registers; and ``leak``, as far as the core has them."""
        layer = self.layer
        columns = {
            "weights": [(self.weights, layer.weight_format.width)],
            **({"shortcut": [(self.shortcut.weights, layer.shortcut.weight_format.width)]} if layer.shortcut else {}),
            "parameters": [(parameter.values, parameter.width) for parameter in self._stored("each")],
            "shared": [(parameter.values[:1, :1], parameter.width) for parameter in self._stored("shared")],
            "leak": [(np.array(getattr(layer.leak, "table", ()))[:, None], layer.v_width)],
        }
        return {name: Image.of(name, *columns[name]) for name in self.image_shapes}

    @cached_property
    def image_shapes(self):
        """Rows and bits of each of the `images`."""
        layer = self.layer
        shapes = {"weights": (self.groups * layer.weights.shape[1], self.lanes * layer.weight_format.width)}
        if self._stored("each"):
            bits = self.units * sum(parameter.width for parameter in self._stored("each"))
            shapes["parameters"] = (self.channel_updates, bits)
        if self._stored("shared"):
            shapes["shared"] = (1, sum(parameter.width for parameter in self._stored("shared")))
        if isinstance(layer.leak, TableLeak):
            shapes["leak"] = (2**layer.v_width, layer.v_width)
        return shapes

    def _stored(self, storage):
        """The parameters that are stored so."""
        return [parameter for parameter in self.parameters.values() if parameter.storage == storage]

    def in_words(self, values):
        """``values`` (channels,) in the order of updates: shape (channel_updates, units)."""
        return _padded(values, self.groups * self.group).reshape(self.channel_updates, self.units)


def _padded(values, channels):
    """``values`` (channels, ...) filled up to so many ``channels`` with copies of the first one's."""
    return np.concatenate([values, np.repeat(values[:1], channels - len(values), axis=0)])


class Window:
    """How a core looks at a map: the geometry of a convolution, along (rows, columns), and the order of its weights.

    Attributes
    ----------
    synapses : Conv2d or Shortcut
    i_words : WordFormat
        of the map
    groups, group : int
        passes over the columns of the map for each row that goes out, and channels that a pass is for
    skips : bool
        rows that go out are left alone where nothing would change
    """

    skips = False

    # Geometry -------------------------------------------------------------------------------------

    @property
    def merged(self):
        """Rows and columns of a block that becomes one position before it is kept."""
        pool = self.synapses.pool
        return (pool.rows, pool.columns) if pool and pool.kind == "max" else (1, 1)

    @property
    def summed(self):
        """Rows and columns that share their weights."""
        pool = self.synapses.pool
        return (pool.rows, pool.columns) if pool and pool.kind == "sum" else (1, 1)

    @property
    def kernel(self):
        """Of what is kept: the rows and columns that a position sees."""
        return tuple(self.synapses.kernel * summed for summed in self.summed)

    @property
    def stride(self):
        """Of what is kept: rows and columns from a position to the next."""
        return tuple(self.synapses.stride * summed for summed in self.summed)

    @property
    def padding(self):
        """Of what is kept: rows and columns of zeros before the first."""
        return tuple(self.synapses.padding * summed for summed in self.summed)

    @property
    def kept(self):
        """Rows and columns that any position sees."""
        return tuple(min(size * summed, stride * (count - 1) + kernel - padding)
                     for size, summed, stride, count, kernel, padding
                     in zip(self.synapses.pooled_shape, self.summed, self.stride, self.synapses.shape, self.kernel,
                            self.padding, strict=False))

    @property
    def banks(self):
        """Rows that are kept at once: those under the kernel, and those that come in meanwhile."""
        return self.kernel[0] + self.stride[0]

    @property
    def sets(self):
        return -(-self.kernel[1] // self.stride[1])

    @property
    def tail(self):
        """Positions that have got nothing yet of the columns behind the last one, when that has passed."""
        done = (self.padding[1] + self.kept[1] - 1) // self.stride[1] - self.sets + 2  # positions that have all
        return max(0, self.synapses.shape[1] - done)

    @property
    def early(self):
        """Positions that get something from the first column, less one."""
        return self.padding[1] // self.stride[1]

    @property
    def pause(self):
        """Positions that a pass must be done with before the next can use their sums: the others go on meanwhile."""
        place = self.sets - self.tail  # the set that the last of them is in
        return max(0, self.early + 1 - place) if self.tail else 0

    # Rows that go out -----------------------------------------------------------------------------

    @property
    def missing(self):
        """For each row that goes out: rows under the kernel that are above the map."""
        return [max(-top, 0) for top in self._tops]

    @property
    def needed(self):
        """For each: rows of the map under the kernel."""
        return [min(top + self.kernel[0], self.kept[0]) - max(top, 0) for top in self._tops]

    @property
    def dropped(self):
        """For each: rows that no later one needs."""
        return [after - before for before, after in pairwise([*self._released, self.kept[0]])]

    @property
    def awaited(self):
        """For each: rows that have to be there, counted from the first that is kept."""
        return [max(pair) for pair in zip(self.needed, self.dropped, strict=True)]

    @property
    def _tops(self):
        return [self.stride[0] * row - self.padding[0] for row in range(self.synapses.shape[0])]

    @property
    def _released(self):
        """Rows that none from each one on needs."""
        return [min(max(top, 0), self.kept[0]) for top in self._tops]

    def arrives_with(self, rows):
        """Rows of the source's map that have to come for so many to be kept, of one time step."""
        return self.synapses.input_shape[0] if rows == self.kept[0] else rows * self.merged[0]

    @property
    def opens(self):
        """For each row of the source's map: whether it needs a place of its own."""
        return [row % self.merged[0] == 0 and row // self.merged[0] < self.kept[0]
                for row in range(self.synapses.input_shape[0])]

    # Weights --------------------------------------------------------------------------------------

    @property
    def seen(self):
        """For each group, the first channel of the input that it sees."""
        synapses = self.synapses
        per_group, count = synapses.weights.shape[1], synapses.shape[2] // synapses.groups
        return [min(group * self.group // count * per_group, synapses.pooled_shape[2] - self.seen_channels)
                for group in range(self.groups)]

    @property
    def seen_channels(self):
        """Neighbouring channels of the input that a group sees."""
        synapses = self.synapses
        count = synapses.shape[2] // synapses.groups
        spans = [(min((group + 1) * self.group, synapses.shape[2]) - 1) // count - group * self.group // count + 1
                 for group in range(self.groups)]
        return max(spans) * synapses.weights.shape[1]

    @property
    def weight_rows(self):
        """(groups, rows of the kernel, columns of a stride, channels seen): what the rows of the weight memory are
        for, the last varying fastest."""
        kernel = self.synapses.kernel
        return self.groups, kernel, min(self.synapses.stride, kernel), self.seen_channels

    @cached_property
    def weights(self):
        """Weight codes (uint8), shape (rows, lanes); lane set·group + channel. A row is for each of `weight_rows`."""
        synapses, (groups, kernel, stride, seen) = self.synapses, self.weight_rows
        out, per_group = synapses.weights.shape[:2]
        spread = np.zeros((out, synapses.pooled_shape[2], kernel, self.sets * stride), np.int64)
        for channel in range(out):
            first = channel * synapses.groups // out * per_group
            spread[channel, first:first + per_group, :, :kernel] = synapses.weights[channel]
        codes = _padded(synapses.weight_format.encode(spread), groups * self.group)
        codes = codes.reshape(groups, self.group, *spread.shape[1:])
        codes = np.stack([codes[group, :, first:first + seen] for group, first in enumerate(self.seen)])
        codes = codes.reshape(groups, self.group, seen, kernel, self.sets, stride)  # column = set · stride + phase
        return codes.transpose(0, 3, 5, 2, 4, 1).reshape(-1, self.sets * self.group)

    # Memories -------------------------------------------------------------------------------------

    def row_memories(self, name=""):
        """Of the rows that are kept, as in `Core.memories`."""
        shape = self.kept[1], self.i_words.width * self.i_words.parts
        return {f"{name}row_{bank}": shape for bank in range(self.banks)}

    def check(self, what):
        """Refuse what has no gateware."""
        if not self.i_words.shape:
            raise SpikeloomError(f"{what}: a convolution of a dense layer's spikes runs in the reference, "
                                 "not in gateware")
        if self.merged != (1, 1) and self.i_words.graded:
            raise SpikeloomError(f"{what}: a pool of kind max of values of several bits runs in the reference, "
                                 "not in gateware")
        synapses = self.synapses
        per_group = synapses.shape[2] // synapses.groups
        if synapses.weight_format.kind == "binary" and synapses.groups > 1 and per_group % self.group:
            raise SpikeloomError(f"{what}: with binary weights, which have no zero, the {self.group} channels that "
                                 f"accumulate at once must divide the {per_group} of a group of the convolution")


@dataclass(frozen=True, eq=False)
class Branch(Window):
    """A `Window` beside that of a core's own convolution, or before a dense layer; fields as there."""

    synapses: Shortcut
    i_words: WordFormat
    groups: int
    group: int


@dataclass(frozen=True, eq=False)
class MapCore(Window, Core):
    """One convolution on one core of the array.

    The columns of a map pass by one after the other; each event in the rows under the kernel goes into the sums of all
    ``sets`` positions along the row that can still get something from its column, for a ``group`` of channels at each.
    A pool of kind "max" happens before the events are kept. One of kind "sum" is part of the kernel: its events are
    kept as they are, and the weights of a position are used for each of its block.
    """

    #: Words of the shortcut's source, where there is a shortcut.
    shortcut_words: WordFormat | None = None
    #: For each branch, rows of its source that can wait in a queue before they are kept.
    waiting: tuple[int, ...] = (0, 0)
    #: Whether the read-out takes its neurons, all of them at each time step.
    read_out: bool = False
    #: Whether other layers are on the same core, which then works on a row of one after a row of another.
    shares: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check(f"Layer {self.layer.name}")
        if self.shortcut:
            self.shortcut.check(f"Layer {self.layer.name}, shortcut")

    @property
    def synapses(self):
        return self.layer

    @cached_property
    def shortcut(self):
        """The `Branch` of the layer's shortcut, or None."""
        layer = self.layer
        return layer.shortcut and Branch(layer.shortcut, self.shortcut_words, self.groups, self.group)

    @property
    def windows(self):
        """Of each branch."""
        return (self, self.shortcut) if self.shortcut else (self,)

    @property
    def branches(self):
        return tuple((window.synapses, window.i_words) for window in self.windows)

    @property
    def skips(self):
        """Whether a row of the map is left alone at time steps at which no event is under its kernel and none of its
        neurons fired at the time step before."""
        return can_rest(self.layer) and not self.read_out and not self.shares

    @property
    def pace(self):
        if not self.skips:
            return super().pace
        # The rows between two time steps of a neuron may take no time.
        return max(self.updates, -(-self.UPDATE_CYCLES // (self.groups * self.layer.shape[1])))

    @property
    def row_updates(self):
        """Updates of a row of the map."""
        return self.layer.shape[1] * self.channel_updates

    @property
    def o_words(self):
        return WordFormat(self.layer.n_out, self.units, shape=self.layer.shape)

    def arrange(self, updates):
        rows, columns, channels = self.layer.shape
        updates = np.asarray(updates)
        before = updates.shape[:-2]
        updates = updates.reshape(*before, rows, self.groups, columns, self.group)
        return np.moveaxis(updates, -3, -2).reshape(*before, rows, columns, -1)[..., :channels].reshape(
            *before, self.layer.n_out)

    @property
    def memories(self):
        memories = super().memories
        del memories["events"]
        for name, window, waiting in zip(("", "shortcut_"), self.windows, self.waiting, strict=False):
            memories |= window.row_memories(name)
            if waiting:
                memories[f"{name}queue"] = window.i_words.queue(waiting)
        return memories

    @cached_property
    def image_shapes(self):
        names = dict(zip(("weights", "shortcut"), self.windows, strict=False))
        return {name: (math.prod(window.weight_rows), window.sets * self.group * window.synapses.weight_format.width)
                for name, window in names.items()} | {
            name: shape for name, shape in super().image_shapes.items() if name != "weights"}


def can_rest(layer):
    """Whether neurons of a convolution that did not fire stay as they are until an event comes, as those do that a
    sample begins with: nothing leaks, nothing is added but what events bring, and no threshold is reached at rest."""
    return (isinstance(layer.leak, NoLeak) and not layer.bias.any() and layer.shortcut is None
            and (isinstance(layer.fire, Silent) or bool((layer.threshold > 0).all())))


@lru_cache(maxsize=64)
def waiting_rows(network):
    """By name of a convolution of ``network``, its `MapCore.waiting`."""
    maps = [(layer, sources) for layer, sources in zip(network.layers, network.sources, strict=True)
            if isinstance(layer, Conv2d)]
    if not any(layer.shortcut for layer, _ in maps):  # paths do not meet
        return {layer.name: (0,) for layer, _ in maps}
    rows = {INPUT: network.input.shape[0]} | {layer.name: layer.shape[0] for layer, _ in maps}
    edges = [(source, layer.name, Branch(synapses, None, 1, 1)) for layer, sources in maps
             for source, synapses in zip(sources, layer.branches, strict=True)]
    counts = iter(rows_waiting(rows, edges))
    return {layer.name: tuple(next(counts) for _ in sources) for layer, sources in maps}


def core_of(network, number, placement, target, reloadable, words):
    """The `Core` or `MapCore` of layer ``number`` with a `Placement` on a `Target`; ``words`` are those that the layers
    before it send, by name."""
    layer, sources = network.layers[number], network.sources[number]
    own, *others = (words.get(source, WordFormat.of_input_map(network.input)) for source in sources)
    how = placement.lanes, placement.units, target.memory_registers, placement.memory, reloadable
    if isinstance(layer, Conv2d):
        return MapCore(layer, own, *how, *(others or [None]), waiting_rows(network)[layer.name],
                       number == len(network.layers) - 1)
    if layer.pool and layer.pool.kind == "max":
        pooled = layer.pooled_shape
        return Core(layer, WordFormat(math.prod(pooled), own.width, own.graded, pooled), *how)
    return Core(layer, WordFormat.of_input(network.input) if sources[0] == INPUT and not layer.pool else own, *how)


@dataclass(frozen=True)
class Placement:
    """What the compiler chose for one layer: ``lanes``, update ``units``, and which ``memory`` its weights are in."""

    lanes: int
    units: int
    memory: str = "block"


@dataclass(frozen=True, eq=False)
class Program:
    """A network, and for each of its layers a `Placement` on the array.

    Parameters
    ----------
    network : Network
    target : str
        the name of the target it was compiled for
    placements : tuple of Placement
    notes : dict
        the compiler's predictions, JSON-serialisable, without a meaning for the gateware
    reloadable : bool
        the memories can be written while the array is idle: any program of the same `shape` then runs on it
    """

    network: Network
    target: str
    placements: tuple[Placement, ...]
    notes: dict = field(default_factory=dict)
    reloadable: bool = False

    def __post_init__(self):
        object.__setattr__(self, "placements", tuple(self.placements))
        if len(self.placements) != len(self.network.layers):
            raise SpikeloomError(f"A program needs a placement for each of its {len(self.network.layers)} layers, "
                                 f"not {len(self.placements)}")
        if self.placements[-1].units != 1:
            raise SpikeloomError("The last layer, which is read out, must have one update unit, "
                                 f"not {self.placements[-1].units}")
        if not isinstance(self.reloadable, bool):
            raise SpikeloomError(f"Reloadable must be true or false, not {self.reloadable!r}")
        _ = self.cores  # checks each of them
        needed, available = sum(core.single_ports for core in self.cores), find(self.target).single_ports
        if needed > available:
            raise SpikeloomError(f"The weights need {needed} single-port memories, and {self.target} has {available}")

    @cached_property
    def cores(self):
        """A core for each layer, in order: a `Core` for a dense one, a `MapCore` for a convolution."""
        target, cores = find(self.target), {}
        for number, (layer, placement) in enumerate(zip(self.network.layers, self.placements, strict=True)):
            cores[layer.name] = core_of(self.network, number, placement, target, self.reloadable,
                                        {name: core.o_words for name, core in cores.items()})
        return tuple(cores.values())

    @property
    def i_words(self):
        """The words that the array takes its input in."""
        return WordFormat.of_input(self.network.input)

    @property
    def score_width(self):
        """Bits of a score, its sign included."""
        network, last = self.network, self.network.layers[-1]
        low, high = (0, network.time_steps) if network.readout == "count" else (last.v_min, last.v_max)
        return signed_width(low * network.votes, high * network.votes)

    @property
    def starts_empty(self):
        """Whether the array computes nothing of use before its memories are loaded."""
        return any(core.memory == "single_port" for core in self.cores)

    @cached_property
    def images(self):
        """The `Image` of every memory that can be loaded, layer by layer, named ``LAYER.MEMORY``; none where the
        program is not reloadable."""
        return tuple(dataclasses.replace(image, name=f"{core.layer.name}.{image.name}")
                     for core in self.cores for image in core.images.values()) if self.reloadable else ()

    @property
    def shape(self):
        """All that the gateware depends on but the contents of its memories, as a JSON-serialisable dict. Names of
        layers have no part in it."""
        network = self.network
        return {
            "target": self.target,
            "input": network.input.content(),
            "time_steps": network.time_steps,
            "readout": network.readout,
            **({"votes": network.votes} if network.votes > 1 else {}),
            "layers": [{
                "neurons": core.layer.n_out,
                "weight_format": dataclasses.asdict(core.layer.weight_format),
                **_map_shape(network, core.layer),
                **({"skips": True} if isinstance(core, MapCore) and core.skips else {}),
                "v_width": core.layer.v_width,
                "leak": {"kind": core.layer.leak.kind,
                         **({"shift": core.layer.leak.shift} if isinstance(core.layer.leak, ShiftLeak) else {})},
                "reset": core.layer.reset,
                "fire": core.layer.fire.kind,
                "threshold": {"storage": core.minus_threshold.storage, "width": core.minus_threshold.width},
                "bias": {"storage": core.bias.storage, "width": core.bias.width},
                "lanes": core.lanes,
                "units": core.units,
                "memory": core.memory,
            } for core in self.cores],
        }

    def check_same_shape(self, other):
        """Raise `SpikeloomError` unless the `Program` ``other`` can be loaded where this one runs, naming the first
        difference."""
        for program in (self, other):
            if not program.reloadable:
                raise SpikeloomError(f"The program {program.digest[:16]} is not reloadable: compile it so")
        if self.build_digest != other.build_digest:
            raise SpikeloomError("The programs differ in more than what can be loaded: "
                                 + _difference(self.shape, other.shape))

    def to_write(self, other=None):
        """The images to write before this program's array runs the program ``other`` of the same shape, or its own
        network: none where the array starts with what it needs. Raises as `check_same_shape`."""
        if other is not None:
            self.check_same_shape(other)
            return other.images
        return self.images if self.starts_empty else ()

    @property
    def digest(self):
        """SHA-256 (hexadecimal) of the network and its placement: what a bitstream is built from."""
        if self.reloadable:
            text = json.dumps([self.network.digest, self.target,
                               [dataclasses.astuple(p) for p in self.placements], "reloadable"])
        else:
            text = json.dumps([self.network.digest, self.target, [[p.lanes, p.units] for p in self.placements]])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def build_digest(self):
        """What a bitstream is known by (SHA-256, hexadecimal): that of the `shape` where the program is reloadable,
        else its `digest`."""
        if not self.reloadable:
            return self.digest
        return hashlib.sha256(json.dumps(self.shape, sort_keys=True).encode()).hexdigest()

    def save(self, path):
        """Write a program file (``docs/format.md``): the network, the placements and the memory images."""
        header, arrays = self.network.content()
        placements = [dataclasses.asdict(placement) for placement in self.placements]
        for number, core in enumerate(self.cores):
            arrays |= _memories(number, core)
        files.save(path, KIND, VERSION, {
            "network": header, "target": self.target, "placements": placements, "reloadable": self.reloadable,
            "notes": self.notes}, arrays)

    @classmethod
    def load(cls, path):
        """Read a program file; raises `SpikeloomError` when it is not a valid one."""
        header, arrays = files.load(path, KIND, 1, VERSION)
        network = Network.from_content(header.get("network", {}), arrays, str(path))
        try:
            # Version 1 knew neither other memories nor reloadable programs.
            later = {"reloadable": header["reloadable"]} if header["version"] > 1 else {}
            placements = [Placement(**entry) for entry in header["placements"]]
            if header["version"] == 1 and any("memory" in entry for entry in header["placements"]):
                raise TypeError("unexpected field 'memory'")
            program = cls(network, header["target"], placements, header.get("notes", {}), **later)
            for number, core in enumerate(program.cores):
                for name, image in _memories(number, core).items():
                    if not np.array_equal(arrays[name], image):
                        raise SpikeloomError(f"the {name.split('.')[1].removesuffix('_memory')} memory of layer "
                                             f"{core.layer.name} is not that of its network")
        except SpikeloomError as error:
            raise SpikeloomError(f"{path}: {error}") from None
        except (KeyError, TypeError) as error:
            raise SpikeloomError(f"{path}: a field is missing or of the wrong type "
                                 f"({type(error).__name__}: {error})") from None
        return program


def _map_shape(network, layer):
    """What the shape of a program says of a layer on maps: where its branches come from (0 is the input, 1 the first
    layer), and what they do there."""
    if not (isinstance(layer, Conv2d) or layer.pool):
        return {}
    numbers = {INPUT: 0} | {each.name: number for number, each in enumerate(network.layers, 1)}
    sources = network.sources[network.layers.index(layer)]
    return {"inputs": [{
        "source": numbers[source],
        "input_shape": list(branch.input_shape),
        "pool": branch.pool and dataclasses.asdict(branch.pool),
        "weights": list(branch.weights.shape),
        **({"weight_format": dataclasses.asdict(branch.weight_format), "stride": branch.stride,
            "padding": branch.padding, "groups": branch.groups} if isinstance(layer, Conv2d) else {}),
    } for branch, source in zip(layer.branches, sources, strict=True)]}


def _memories(number, core):
    """The arrays that a program file holds for layer ``number``."""
    layer = core.layer
    return {f"{number}.weight_memory": core.weights,
            **({f"{number}.shortcut_memory": core.shortcut.weights} if layer.shortcut else {}),
            f"{number}.threshold_memory": core.in_words(layer.threshold).astype(np.int32),
            f"{number}.bias_memory": core.in_words(layer.bias).astype(np.int32)}


def _difference(mine, theirs, path=""):
    """The first place where two shapes differ, in words."""
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        pairs = [(f"{path} {key}", mine[key], theirs[key]) for key in mine]
    elif isinstance(mine, list) and isinstance(mine[0], dict) and len(mine) == len(theirs):
        pairs = [(f"{path.removesuffix('s')} {number}", *pair)
                 for number, pair in enumerate(zip(mine, theirs, strict=True))]
    elif isinstance(mine, list) and isinstance(mine[0], dict):
        return f"{len(mine)}{path} against {len(theirs)}"
    else:
        return f"{path.strip()} {_plain(mine)} against {_plain(theirs)}"
    return next(_difference(a, b, where) for where, a, b in pairs if a != b)


def _plain(value):
    return " ".join(str(each) for each in value.values()) if isinstance(value, dict) else str(value)
