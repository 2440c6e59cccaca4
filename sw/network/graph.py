"""The network itself, and its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field

import numpy as np
from spikeloom import files
from spikeloom.errors import SpikeloomError

from .checks import EXACT_IN_FLOAT32, INPUT, between, by, is_integer
from .gates import Attention, BlockGate, ChannelGate
from .layers import LAYERS, Branch, Conv2d, Dense, InputFormat, Pool, Shortcut, is_looped, loops, sources
from .neurons import (
    ACTIVATIONS,
    FIRES,
    LEAKS,
    READOUTS,
    Adaptation,
    Grid,
    ShiftLeak,
    SynapticCurrent,
    TableActivation,
    TableLeak,
)
from .weights import WeightFormat

KIND = "network"
#: Of the files we write, and those that we read.
VERSION, VERSIONS = 5, (1, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False)
class Network:
    """Layers over integers, each fed by others: by ones before it, or with a delay by any.

    Parameters
    ----------
    input : InputFormat
    layers : tuple of Dense or Conv2d
        in an order in which every source without a delay comes before what it feeds; the last one, which is read out,
        is dense, and each other one feeds one that is not itself
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
        between("Time steps", self.time_steps, 1, 65535)
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
        if not is_integer(self.votes) or self.votes < 1 or last.n_out % self.votes:
            raise SpikeloomError(f"Votes for a class must divide the {last.n_out} neurons of the last layer, "
                                 f"not be {self.votes}")
        for layer, bounds in zip(self.layers, self.input_bounds, strict=True):
            if layer.attention:
                self._check_attention(layer, *bounds)
            if layer.gate and bounds[0] < 0:
                raise SpikeloomError(f"Layer {layer.name}, gate: takes values that are not negative, but its source "
                                     f"sends {bounds[0]} and more")
            sums = self.current_bounds(layer)
            reach = _magnitude(layer.biased_bounds(*sums))
            if reach >= EXACT_IN_FLOAT32:
                raise SpikeloomError(f"Layer {layer.name}: currents reach ±{reach}, beyond the 2^24 that float32 holds "
                                     "exactly; use smaller weights or inputs")
            reach = sum(map(_magnitude, (layer.potential_bounds(*sums), layer.raise_bounds)),
                        int(np.abs(layer.threshold).max()))
            if layer.grid:  # whose steps are counted in doubled potentials
                reach = (reach << (layer.grid.shift + 1)) + (layer.grid.step or 0)
            if reach >= EXACT_IN_FLOAT32:
                raise SpikeloomError(f"Layer {layer.name}: potentials reach ±{reach}, beyond the 2^24 that "
                                     "float32 holds exactly; use smaller weights or inputs")

    def _check_attention(self, layer, z_low, z_high):
        what, attention = f"Layer {layer.name}, attention", layer.attention
        if is_looped(self.layers, layer):
            raise SpikeloomError(f"{what}: needs all time steps of what comes in, so it cannot be where layers feed "
                                 "back")
        if len(attention.time_weights) != self.time_steps:
            raise SpikeloomError(f"{what}: is for {len(attention.time_weights)} time steps, where the network has "
                                 f"{self.time_steps}")
        reach = attention.reach(z_low, z_high, math.prod(layer.input_shape[:2]))
        if reach >= EXACT_IN_FLOAT32:
            raise SpikeloomError(f"{what}: sums reach ±{reach}, beyond the 2^24 that float32 holds exactly; use "
                                 "smaller weights or inputs")

    def _check_shapes(self):
        """Refuse a source that is not there or whose map is not what its layer takes, and a layer that feeds none."""
        shapes, fed = {INPUT: self.input.shape} | {layer.name: layer.shape for layer in self.layers}, set()
        before = [INPUT]
        for layer, of_layer in zip(self.layers, self.sources, strict=True):
            for name, branch, source in zip(layer.branch_names, layer.branches, of_layer, strict=True):
                what = f"Layer {name}"
                if source not in (names := [*shapes] if branch.delay else before):
                    later = "; with a delay it may come later" if source in shapes else ""
                    raise SpikeloomError(f"{what}: its source must be one of {', '.join(names)}, not {source!r}{later}")
                shape = shapes[source]
                # A dense layer without attention and pool takes a map as the flat list of values that it is.
                if branch.n_in != math.prod(shape):
                    raise SpikeloomError(f"{what}: takes {branch.n_in} inputs, but {_source(source)} has "
                                         f"{math.prod(shape)}")
                if branch.input_shape != shape and branch.needs_map:
                    raise SpikeloomError(f"{what}: takes a map of {by(branch.input_shape)}, but {_source(source)} "
                                         f"has one of {by(shape)}")
                if source != layer.name:
                    fed.add(source)
            before.append(layer.name)
        idle = [layer.name for layer in self.layers[:-1] if layer.name not in fed]
        if idle:
            raise SpikeloomError(f"Layer {idle[0]}: feeds no other layer, and is not the last")

    @property
    def sources(self):
        """For each layer, the names of its branches' sources."""
        return sources(self.layers)

    @property
    def loops(self):
        """The layers' numbers in turn, as ranges: those from a source on that comes after what it feeds, up to it, have
        to take their time steps together; elsewhere each layer is alone, and can take all of its own at once."""
        return loops(self.layers)

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
            if layer.grid and layer.grid.bounds is not None:
                arrays[f"{number}.grid_bounds"] = np.array(layer.grid.bounds, np.int32)
            header["layers"].append({
                "name": layer.name,
                "kind": layer.kind,
                **_synapses_content(layer),
                "v_width": layer.v_width,
                **({"grid": _grid_content(layer.grid)} if layer.grid else {}),
                "leak": _leak_content(layer.leak, arrays, f"{number}.leak_table"),
                "reset": layer.reset,
                "fire": {"kind": layer.fire.kind, **dataclasses.asdict(layer.fire)},
            })
            arrays[f"{number}.weights"] = layer.weights.astype(np.int16)
            arrays[f"{number}.threshold"] = layer.threshold.astype(np.int32)
            arrays[f"{number}.bias"] = layer.bias.astype(np.int32)
            if layer.shortcut:
                header["layers"][-1]["shortcut"] = _synapses_content(layer.shortcut)
                arrays[f"{number}.shortcut_weights"] = layer.shortcut.weights.astype(np.int16)
            for at, branch in enumerate(layer.others):
                header["layers"][-1].setdefault("branches", []).append(_synapses_content(branch))
                arrays[f"{number}.branch_{at}_weights"] = branch.weights.astype(np.int16)
            if layer.act:
                header["layers"][-1]["act"] = {"kind": layer.act.kind}
            if isinstance(layer.act, TableActivation):
                header["layers"][-1]["act"]["shift"] = layer.act.shift
                arrays[f"{number}.act_table"] = np.array(layer.act.table, np.int32)
            for name in _STATES:
                if state := getattr(layer, name):
                    header["layers"][-1][name] = {
                        "width": state.width, "leak": _leak_content(state.leak, arrays, f"{number}.{name}_leak_table")}
            if layer.adaptation:
                arrays[f"{number}.adaptation_step"] = layer.adaptation.step.astype(np.int32)
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
                fields = {
                    "name": entry["name"],
                    "threshold": arrays[f"{number}.threshold"],
                    "bias": arrays[f"{number}.bias"],
                    "v_width": entry["v_width"],
                    "leak": _leak_from(entry["leak"], arrays, f"{number}.leak_table"),
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
                if entry.get("branches"):
                    fields["others"] = tuple(
                        Branch(**_synapses_fields(Branch, each), weights=arrays[f"{number}.branch_{at}_weights"])
                        for at, each in enumerate(entry["branches"]))
                if entry.get("act") is not None:
                    act = dict(entry["act"])
                    if act["kind"] == TableActivation.kind:
                        act["table"] = tuple(arrays[f"{number}.act_table"].tolist())
                    fields["act"] = _from_fields(ACTIVATIONS, act)
                for name, made in _STATES.items():
                    if entry.get(name) is not None:
                        leak = _leak_from(entry[name]["leak"], arrays, f"{number}.{name}_leak_table")
                        step = {"step": arrays[f"{number}.{name}_step"]} if made is Adaptation else {}
                        fields[name] = made(**entry[name] | {"leak": leak}, **step)
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


def _magnitude(bounds):
    return max(-bounds[0], bounds[1])


def _source(name):
    return "the input" if name == INPUT else f"layer {name}"


#: What a file says of synapses, beside weights and their format, and what is left unsaid because it is so.
_SYNAPSES = {"source": None, "pool": None, "stride": 1, "padding": 0, "groups": 1, "delay": 0}

#: What neurons may keep beside their potential.
_STATES = {"current": SynapticCurrent, "adaptation": Adaptation}

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
    if synapses.needs_map:
        entry["input_shape"] = list(synapses.input_shape)
    for name, default in _SYNAPSES.items():
        value = getattr(synapses, name, default)
        if value != default:
            entry[name] = dataclasses.asdict(value) if name == "pool" else value
    return entry


def _leak_content(leak, arrays, name):
    """A leak as a header says it; the table that it may have goes into ``arrays`` by this ``name``."""
    if isinstance(leak, TableLeak):
        arrays[name] = np.array(leak.table, np.int32)
    return {"kind": leak.kind} | ({"shift": leak.shift} if isinstance(leak, ShiftLeak) else {})


def _leak_from(entry, arrays, name):
    """The inverse of `_leak_content`."""
    table = {"table": tuple(arrays[name].tolist())} if entry["kind"] == TableLeak.kind else {}
    return _from_fields(LEAKS, entry | table)


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
