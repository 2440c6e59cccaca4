"""A `Program`: a network placed on an array of cores, with the memory images of its gateware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from spikeloom import files
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Conv2d, Network, ShiftLeak, signed_width

from . import order
from .core import Core, check_in_gateware
from .map_core import MapCore
from .sharing import SharedCore
from .sources import input_words
from .target import find
from .waiting import waiting_rows
from .words import WordFormat

KIND = "program"
VERSION, VERSIONS = 5, (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Placement:
    """What the compiler chose for one layer: ``lanes``, update ``units``, which ``memory`` its weights are in, the
    number of the ``core`` that it shares with all layers that have the same, if it shares one, whether it is
    ``sparse``: words of weights that are all zero are neither stored nor visited; and the ``order`` that its channels
    stand in, if not their own (`spikeloom.compiler.order`)."""

    lanes: int
    units: int
    memory: str = "block"
    core: int | None = None
    sparse: bool = False
    order: tuple[int, ...] | None = None


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
        self._check_orders()
        if not isinstance(self.reloadable, bool):
            raise SpikeloomError(f"Reloadable must be true or false, not {self.reloadable!r}")
        last = self.network.layers[-1]
        if last.grid and self.network.readout == "membrane":
            raise SpikeloomError(f"Layer {last.name}: levels of a membrane cannot be read out as scores in gateware; "
                                 "let potentials of the last layer saturate, or count its spikes")
        _ = self.engines  # checks each of them
        needed, available = sum(core.single_ports for core in self.cores), find(self.target).single_ports
        if needed > available:
            raise SpikeloomError(f"The weights need {needed} single-port memories, and {self.target} has {available}")

    def _check_orders(self):
        movable = order.movable(self.network)
        for number, (layer, placement) in enumerate(zip(self.network.layers, self.placements, strict=True)):
            if placement.order is None:
                continue
            if number not in movable or self.reloadable:
                raise SpikeloomError(f"Layer {layer.name}: its channels cannot stand in another order"
                                     + (" in a reloadable program" if self.reloadable else ""))
            channels = layer.shape[2]
            if sorted(placement.order) != list(range(channels)):
                raise SpikeloomError(f"Layer {layer.name}: the order of its channels must have each of 0 to "
                                     f"{channels - 1} once")

    @cached_property
    def placed(self):
        """The network with channels in the order in which they stand on the array."""
        return order.reordered(self.network, [placement.order for placement in self.placements])

    @cached_property
    def cores(self):
        """A core for each layer, in order: a `Core` for a dense one, a `MapCore` for a convolution."""
        target, layers = find(self.target), self.placed.layers
        words = {layer.name: WordFormat.of_layer(layer, placement.units)
                 for layer, placement in zip(layers, self.placements, strict=True)}
        return tuple(core_of(self.placed, number, placement, target, self.reloadable, words)
                     for number, placement in enumerate(self.placements))

    @cached_property
    def engines(self):
        """The cores that the array is made of: that of a layer, or a `SharedCore` of several, in the order of their
        first layers."""
        engines = []
        for numbers in self._together:
            cores = [self.cores[number] for number in numbers]
            engines.append(SharedCore(cores) if len(cores) > 1 else cores[0])
        return tuple(engines)

    @cached_property
    def places(self):
        """For each layer, which of the `engines` it is on, and which of those that are there it is."""
        found = {number: (engine, at) for engine, numbers in enumerate(self._together)
                 for at, number in enumerate(numbers)}
        return tuple(found[number] for number in range(len(found)))

    @cached_property
    def _together(self):
        """The numbers of layers that share a core, core by core."""
        groups = {}
        for number, placement in enumerate(self.placements):
            alone = ("alone", number)
            groups.setdefault(alone if placement.core is None else placement.core, []).append(number)
        return tuple(groups.values())

    @property
    def i_words(self):
        """The words that the array takes its input in."""
        return WordFormat.of_input(self.network.input)

    @property
    def score_width(self):
        """Bits of a score, its sign included."""
        network, last = self.network, self.network.layers[-1]
        low, high = last.v_min, last.v_max
        if network.readout == "count":
            low, high = min(0, last.fire.low * network.time_steps), max(1, last.fire.high) * network.time_steps
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
                "weight_format": dataclasses.asdict(core.weight_format),
                **_map_shape(network, core.layer),
                **({"skips": True} if isinstance(core, MapCore) and core.skips else {}),
                "v_width": core.layer.v_width,
                **({"grid": dataclasses.asdict(core.layer.grid)} if core.layer.grid else {}),
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
                               [[p.lanes, p.units, p.memory] for p in self.placements], "reloadable"])
        else:
            text = json.dumps([self.network.digest, self.target, [
                [p.lanes, p.units] + ([p.core] if p.core is not None else []) + (["sparse"] if p.sparse else [])
                + ([list(p.order)] if p.order else []) for p in self.placements]])
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
        placements = [{name: value for name, value in dataclasses.asdict(placement).items()
                       if value is not None and value is not False}
                      for placement in self.placements]
        for number, core in enumerate(self.cores):
            arrays |= _memories(number, core)
        files.save(path, KIND, VERSION, {
            "network": header, "target": self.target, "placements": placements, "reloadable": self.reloadable,
            "notes": self.notes}, arrays)

    @classmethod
    def load(cls, path):
        """Read a program file; raises `SpikeloomError` when it is not a valid one."""
        header, arrays = files.load(path, KIND, *VERSIONS)
        network = Network.from_content(header.get("network", {}), arrays, str(path))
        try:
            # Version 1 knew neither other memories nor reloadable programs.
            reloadable = header["reloadable"] if header["version"] > 1 else False
            placements = [Placement(**entry | ({"order": tuple(entry["order"])} if "order" in entry else {}))
                          for entry in header["placements"]]
            later = {1: {"memory", "core", "sparse", "order"}, 2: {"core", "sparse", "order"}}
            unknown = later.get(header["version"], set())
            for name in sorted(unknown & set().union(*header["placements"])):
                raise TypeError(f"unexpected field {name!r}")
            program = cls(network, header["target"], placements, header.get("notes", {}), reloadable)
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


def core_of(network, number, placement, target, reloadable, words):
    """The `Core` or `MapCore` of layer ``number`` with a `Placement` on a `Target`; ``words`` are those that the layers
    send, by name."""
    layer, sources = network.layers[number], network.sources[number]
    check_in_gateware(layer)
    own, *others = (words.get(source, WordFormat.of_input_map(network.input)) for source in sources)
    if (layer.pool or isinstance(layer, Conv2d)) and any(
            source != INPUT and words[source].graded for source in sources):
        raise SpikeloomError(f"Layer {layer.name}: graded spikes before a convolution or a pool run in the reference, "
                             "not yet in gateware")
    how = placement.lanes, placement.units, target.memory_registers, placement.memory, reloadable, placement.sparse
    if isinstance(layer, Conv2d):
        return MapCore(layer, own, *how, *(others or [None]), waiting_rows(network)[layer.name])
    coming = input_words(network, number, words)
    if layer.pool and layer.pool.kind == "max":
        pooled = layer.pooled_shape
        coming = WordFormat(math.prod(pooled), own.width, own.graded, pooled)
    elif layer.pool:
        coming = own
    return Core(layer, coming, *how)
