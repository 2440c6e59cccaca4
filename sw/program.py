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
from .network import Dense, GradedSpike, InputFormat, Network, TableLeak, signed_width
from .target import find

KIND = "program"
VERSION = 1

#: Memories with fewer bits than this are left to the synthesis tool, which may build them from logic; larger ones
#: are asked to be block RAM.
BLOCK_BITS = 384


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
    """

    layer: Dense
    i_words: WordFormat
    lanes: int
    units: int
    memory_registers: int = 0

    #: Clock cycles from reading a membrane potential to having written it back, which neuron updates of the same
    #: neuron must keep apart.
    UPDATE_CYCLES = 9

    def __post_init__(self):
        if self.units not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Layer {self.layer.name}: update units must be 1, 2, 4, 8 or 16, not {self.units}")
        if self.lanes < 1 or self.lanes % self.units:
            raise SpikeloomError(f"Layer {self.layer.name}: lanes must be a multiple of its {self.units} update units, "
                                 f"not {self.lanes}")
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
        """The core's memories: name to (entries, bits)."""
        layer, words = self.layer, self.i_words
        varying = [values for values in (self.threshold, self.bias) if values.min() != values.max()]
        parameter_bits = sum(signed_width(int(v.min()), int(v.max())) for v in varying) * self.units
        memories = {
            "events": (2 << (words.count - 1).bit_length(), words.width + words.index_width),
            "weights": (self.groups * layer.n_in, self.lanes * layer.weight_format.width),
            "membranes": (self.update_count, self.units * layer.v_width),
        }
        if parameter_bits:
            memories["parameters"] = (self.update_count, parameter_bits)
        if isinstance(layer.leak, TableLeak):
            memories |= {f"leak_{unit}": (2**layer.v_width, layer.v_width) for unit in range(self.units)}
        return memories

    # Widths (bits) ------------------------------------------------------------------------------

    @property
    def z_bounds(self):
        return (0, 2**self.i_words.width - 1) if self.i_words.graded else (0, 1)

    @cached_property
    def current_width(self):
        """Of an accumulator: holds every sum that can end there. Sums on the way may wrap."""
        return signed_width(*self.layer.current_bounds(*self.z_bounds))

    @cached_property
    def potential_width(self):
        """Of a membrane potential before firing."""
        return signed_width(*self.layer.potential_bounds(*self.z_bounds))

    @cached_property
    def above_width(self):
        """Of a membrane potential less its threshold."""
        low, high = self.layer.potential_bounds(*self.z_bounds)
        return signed_width(low - int(self.threshold.max()), high - int(self.threshold.min()))

    @cached_property
    def bias_width(self):
        """Zero when no neuron has a bias."""
        low, high = int(self.bias.min()), int(self.bias.max())
        return signed_width(low, high) if low or high else 0

    # Memory images --------------------------------------------------------------------------------

    @cached_property
    def weights(self):
        """Weight codes (uint8), shape (groups · n_in, lanes): a row for each group and input."""
        codes = self._padded(self.layer.weight_format.encode(self.layer.weights))
        return codes.reshape(self.groups, self.lanes, self.layer.n_in).transpose(0, 2, 1).reshape(-1, self.lanes)

    @cached_property
    def threshold(self):
        """Thresholds, shape (updates in a time step, units)."""
        return self._padded(self.layer.threshold).reshape(self.update_count, self.units)

    @cached_property
    def bias(self):
        """Biases, shape (updates in a time step, units)."""
        return self._padded(self.layer.bias).reshape(self.update_count, self.units)

    def _padded(self, values):
        """``values`` (n_out, ...) filled up to whole groups with copies of the first neuron's."""
        missing = self.groups * self.lanes - self.layer.n_out
        return np.concatenate([values, np.repeat(values[:1], missing, axis=0)])


@dataclass(frozen=True)
class Placement:
    """What the compiler chose for one layer: ``lanes`` and update ``units``."""

    lanes: int
    units: int


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
    """

    network: Network
    target: str
    placements: tuple[Placement, ...]
    notes: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "placements", tuple(self.placements))
        if len(self.placements) != len(self.network.layers):
            raise SpikeloomError(f"A program needs a placement for each of its {len(self.network.layers)} layers, "
                                 f"not {len(self.placements)}")
        if self.placements[-1].units != 1:
            raise SpikeloomError("The last layer, which is read out, must have one update unit, "
                                 f"not {self.placements[-1].units}")
        _ = self.cores  # checks each of them

    @cached_property
    def cores(self):
        """A `Core` for each layer, in order."""
        cores, words = [], WordFormat.of_input(self.network.input)
        for layer, placement in zip(self.network.layers, self.placements, strict=True):
            cores.append(Core(layer, words, placement.lanes, placement.units, find(self.target).memory_registers))
            words = cores[-1].o_words
        return tuple(cores)

    @property
    def score_width(self):
        """Bits of a score, its sign included."""
        if self.network.readout == "count":
            return signed_width(0, self.network.time_steps)
        return self.network.layers[-1].v_width

    @property
    def digest(self):
        """SHA-256 (hexadecimal) of the network and its placement: what a bitstream is built from."""
        text = json.dumps([self.network.digest, self.target, [dataclasses.astuple(p) for p in self.placements]])
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path):
        """Write a program file (``docs/format.md``): the network, the placements and the memory images."""
        header, arrays = self.network.content()
        placements = [dataclasses.asdict(placement) for placement in self.placements]
        for number, core in enumerate(self.cores):
            arrays[f"{number}.weight_memory"] = core.weights
            arrays[f"{number}.threshold_memory"] = core.threshold.astype(np.int32)
            arrays[f"{number}.bias_memory"] = core.bias.astype(np.int32)
        files.save(path, KIND, VERSION, {
            "network": header, "target": self.target, "placements": placements, "notes": self.notes}, arrays)

    @classmethod
    def load(cls, path):
        """Read a program file; raises `SpikeloomError` when it is not a valid one."""
        header, arrays = files.load(path, KIND, VERSION)
        network = Network.from_content(header.get("network", {}), arrays, str(path))
        try:
            program = cls(network, header["target"], [Placement(**entry) for entry in header["placements"]],
                          header.get("notes", {}))
            for number, core in enumerate(program.cores):
                for name in ("weight", "threshold", "bias"):
                    image = getattr(core, "weights" if name == "weight" else name)
                    if not np.array_equal(arrays[f"{number}.{name}_memory"], image):
                        raise SpikeloomError(f"the {name} memory of layer {core.layer.name} is not that of its network")
        except SpikeloomError as error:
            raise SpikeloomError(f"{path}: {error}") from None
        except (KeyError, TypeError) as error:
            raise SpikeloomError(f"{path}: a field is missing or of the wrong type "
                                 f"({type(error).__name__}: {error})") from None
        return program
