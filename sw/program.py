"""A `Program`: a network placed on an array of cores, with the memory images of its gateware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import files
from .errors import SpikeloomError
from .network import Dense, GradedSpike, InputFormat, Network, ShiftLeak, Silent, TableLeak, signed_width
from .target import find

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
    """

    size: int
    width: int
    graded: bool = False

    def __post_init__(self):
        if not self.graded and self.width not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Bits of a spike word must be 1, 2, 4, 8 or 16, not {self.width}")

    @property
    def count(self):
        """Words of one time step when every neuron spikes."""
        return self.size if self.graded else -(-self.size // self.width)

    @property
    def index_width(self):
        return max(1, (self.count - 1).bit_length())

    def pack(self, z):
        """Words (..., count) that hold the values ``z`` (..., size)."""
        z = np.asarray(z, np.int64)
        if self.graded:
            return z
        padding = [(0, 0)] * (z.ndim - 1) + [(0, self.count * self.width - self.size)]
        bits = np.pad(z, padding).reshape(*z.shape[:-1], self.count, self.width)
        return (bits << np.arange(self.width)).sum(axis=-1)

    def unpack(self, words):
        """The inverse of `pack`."""
        if self.graded:
            return words
        bits = (np.asarray(words)[..., None] >> np.arange(self.width)) & 1
        return bits.reshape(*bits.shape[:-2], -1)[..., : self.size]

    @classmethod
    def of_input(cls, input: InputFormat):
        if input.width > 1:
            return cls(input.size, input.width, graded=True)
        # Eight neighbours a word keeps the list of a 784-pixel image in one block RAM.
        return cls(input.size, min(8, 1 << (input.size - 1).bit_length()))


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
    """One layer on one core of the array: everything its gateware is generated from.

    Parameters
    ----------
    layer : Dense
    i_words : WordFormat
        of the words that come in
    lanes : int
        neurons that accumulate at once, a multiple of ``units``
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
        if self.lanes < 1 or self.lanes % self.units:
            raise SpikeloomError(f"Layer {self.layer.name}: lanes must be a multiple of its {self.units} update units, "
                                 f"not {self.lanes}")
        if self.memory not in MEMORIES:
            raise SpikeloomError(f"Layer {self.layer.name}: memory must be one of {', '.join(MEMORIES)}, "
                                 f"not {self.memory!r}")
        if self.memory == "single_port" and not self.reloadable:
            raise SpikeloomError(f"Layer {self.layer.name}: weights in single-port memory have to be loaded, so the "
                                 "program must be reloadable")
        if isinstance(self.layer.fire, GradedSpike):
            raise SpikeloomError(f"Layer {self.layer.name}: graded spikes run in the reference, not yet in gateware")

    # Sizes ------------------------------------------------------------------------------------

    @property
    def groups(self):
        """Groups of ``lanes`` neurons, each of which replays the event list."""
        return -(-self.layer.n_out // self.lanes)

    @property
    def updates(self):
        """Cycles in which the update units serve one group."""
        return self.lanes // self.units

    @property
    def pace(self):
        """The fewest cycles between the ends of two groups."""
        return max(self.updates, -(-self.UPDATE_CYCLES // self.groups))

    @property
    def o_words(self):
        """The words that go out. Neurons that only fill up the last group never spike, so ``size`` leaves them out."""
        return WordFormat(self.layer.n_out, self.units)

    @property
    def update_count(self):
        """Updates in one time step: words of the membrane memory, padding included."""
        return self.groups * self.updates

    @property
    def memories(self):
        """The core's memories: name to (entries, bits). What can be loaded has whole bytes."""
        layer, words = self.layer, self.i_words
        memories = {
            "events": (2 << (words.count - 1).bit_length(), words.width + words.index_width),
            "membranes": (self.update_count, self.units * layer.v_width),
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
    def z_bounds(self):
        return (0, 2**self.i_words.width - 1) if self.i_words.graded else (0, 1)

    @cached_property
    def _current_bounds(self):
        if not self.reloadable:
            return self.layer.current_bounds(*self.z_bounds)
        low, high = self.layer.weight_format.bounds
        reach = self.layer.n_in * self.z_bounds[1]
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
        codes = self._padded(self.layer.weight_format.encode(self.layer.weights))
        return codes.reshape(self.groups, self.lanes, self.layer.n_in).transpose(0, 2, 1).reshape(-1, self.lanes)

    @cached_property
    def images(self):
        """The `Image` of each memory: ``weights``; ``parameters``, those that each neuron has of its own; ``shared``,
        those in registers; and ``leak``, as far as the core has them."""
        layer = self.layer
        columns = {
            "weights": [(self.weights, layer.weight_format.width)],
            "parameters": [(parameter.values, parameter.width) for parameter in self._stored("each")],
            "shared": [(parameter.values[:1, :1], parameter.width) for parameter in self._stored("shared")],
            "leak": [(np.array(getattr(layer.leak, "table", ()))[:, None], layer.v_width)],
        }
        return {name: Image.of(name, *columns[name]) for name in self.image_shapes}

    @cached_property
    def image_shapes(self):
        """Rows and bits of each of the `images`."""
        layer = self.layer
        shapes = {"weights": (self.groups * layer.n_in, self.lanes * layer.weight_format.width)}
        if self._stored("each"):
            bits = self.units * sum(parameter.width for parameter in self._stored("each"))
            shapes["parameters"] = (self.update_count, bits)
        if self._stored("shared"):
            shapes["shared"] = (1, sum(parameter.width for parameter in self._stored("shared")))
        if isinstance(layer.leak, TableLeak):
            shapes["leak"] = (2**layer.v_width, layer.v_width)
        return shapes

    def _stored(self, storage):
        """The parameters that are stored so."""
        return [parameter for parameter in self.parameters.values() if parameter.storage == storage]

    def in_words(self, values):
        """``values`` (n_out,) in the order of updates: shape (updates in a time step, units)."""
        return self._padded(values).reshape(self.update_count, self.units)

    def _padded(self, values):
        """``values`` (n_out, ...) filled up to whole groups with copies of the first neuron's."""
        missing = self.groups * self.lanes - self.layer.n_out
        return np.concatenate([values, np.repeat(values[:1], missing, axis=0)])


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
        """A `Core` for each layer, in order."""
        cores, words = [], WordFormat.of_input(self.network.input)
        for layer, placement in zip(self.network.layers, self.placements, strict=True):
            cores.append(Core(layer, words, placement.lanes, placement.units, find(self.target).memory_registers,
                              placement.memory, self.reloadable))
            words = cores[-1].o_words
        return tuple(cores)

    @property
    def score_width(self):
        """Bits of a score, its sign included."""
        if self.network.readout == "count":
            return signed_width(0, self.network.time_steps)
        return self.network.layers[-1].v_width

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
            "layers": [{
                "neurons": core.layer.n_out,
                "weight_format": dataclasses.asdict(core.layer.weight_format),
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


def _memories(number, core):
    """The arrays that a program file holds for layer ``number``."""
    layer = core.layer
    return {f"{number}.weight_memory": core.weights,
            f"{number}.threshold_memory": core.in_words(layer.threshold).astype(np.int32),
            f"{number}.bias_memory": core.in_words(layer.bias).astype(np.int32)}


def _difference(mine, theirs, path=""):
    """The first place where two shapes differ, in words."""
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        pairs = [(f"{path} {key}", mine[key], theirs[key]) for key in mine]
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        pairs = [(f"layer {number}", *pair) for number, pair in enumerate(zip(mine, theirs, strict=True))]
    elif isinstance(mine, list):
        return f"{len(mine)} layers against {len(theirs)}"
    else:
        return f"{path.strip()} {_plain(mine)} against {_plain(theirs)}"
    return next(_difference(a, b, where) for where, a, b in pairs if a != b)


def _plain(value):
    return " ".join(str(each) for each in value.values()) if isinstance(value, dict) else str(value)
