"""The integer network: what training ends in and everything after it must equal.

A `Network` is frozen data, checked when made. What it *computes* is said in `spikeloom.reference`;
how it is stored, field by field, in ``docs/format.md``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from . import files
from .errors import SpikeloomError

KIND = "network"
VERSION = 1

#: Sums and states must stay below this for float32 arithmetic to be exact.
EXACT_IN_FLOAT32 = 2**24


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _between(what, value, low, high, unit=""):
    """Refuse a ``value`` that is not an integer from ``low`` to ``high``."""
    if not _is_integer(value) or not low <= value <= high:
        raise SpikeloomError(f"{what} must be between {low} and {high}{unit}, not {value}")


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
    """Any function of the stored state: ``table[v - v_min]``, one entry for each of 2^v_width states."""

    table: tuple[int, ...]
    kind = "table"


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

    ``width`` 1 is a binary spike; more bits are small integers (direct coding).
    """

    size: int
    width: int = 1

    def __post_init__(self):
        _between("Input size", self.size, 1, 65536)
        _between("Input width", self.width, 1, 8, " bits")

    @property
    def bounds(self):
        """Smallest and largest input value."""
        return 0, 2**self.width - 1


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer of spiking neurons.

    Parameters
    ----------
    name : str
        unique in its network; letters, digits and underscores
    weights : int array (n_out, n_in)
        on the grid of ``weight_format``
    threshold, bias : int array (n_out,)
    v_width : int
        bits of the stored membrane potential (2 to 16), two's complement, saturating
    leak : NoLeak, ShiftLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
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
    kind = "dense"

    def __post_init__(self):
        if not (self.name.isidentifier() and self.name.isascii()):
            raise SpikeloomError(f"Layer name must be made of letters, digits and underscores, not {self.name!r}")
        weights = _integers(self, "weights", 2)
        threshold, bias = _integers(self, "threshold", 1), _integers(self, "bias", 1)
        if not weights.size:
            raise SpikeloomError(f"Layer {self.name}: weights must not be empty, but have shape {weights.shape}")
        for what, array in (("threshold", threshold), ("bias", bias)):
            if array.shape != weights.shape[:1]:
                raise SpikeloomError(f"Layer {self.name}: {what} must have shape {weights.shape[:1]}, one "
                                     f"for each neuron, not {array.shape}")
        off = ~np.isin(weights, self.weight_format.values)
        if off.any():
            row, column = np.argwhere(off)[0]
            raise SpikeloomError(f"Layer {self.name}: weight [{row}, {column}] = {weights[row, column]} is not on "
                                 f"the {self.weight_format.width}-bit {self.weight_format.kind} grid")
        _between(f"Layer {self.name}: membrane width", self.v_width, 2, 16, " bits")
        if self.reset not in RESETS:
            raise SpikeloomError(f"Layer {self.name}: reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        if isinstance(self.leak, TableLeak):
            table = np.asarray(self.leak.table)
            if table.shape != (2**self.v_width,):
                raise SpikeloomError(f"Layer {self.name}: a leak table for {self.v_width}-bit membranes must have "
                                     f"{2**self.v_width} entries, not {len(self.leak.table)}")
            if table.min() < self.v_min or table.max() > self.v_max:
                raise SpikeloomError(f"Layer {self.name}: leak table entries must lie within "
                                     f"{self.v_min} to {self.v_max}")
        if isinstance(self.fire, GradedSpike) and ((threshold < 1) | (threshold & (threshold - 1))).any():
            raise SpikeloomError(f"Layer {self.name}: thresholds of graded spikes must be powers of two")

    @property
    def n_in(self):
        return self.weights.shape[1]

    @property
    def n_out(self):
        return self.weights.shape[0]

    @property
    def v_min(self):
        return -(2 ** (self.v_width - 1))

    @property
    def v_max(self):
        return 2 ** (self.v_width - 1) - 1

    def current_bounds(self, z_low, z_high):
        """Smallest and largest sum Σ W·z any neuron can see for inputs from ``z_low`` to ``z_high``."""
        return _current_bounds(self, z_low, z_high)

    def potential_bounds(self, z_low, z_high):
        """Smallest and largest membrane potential before firing (leaked state + current + bias)."""
        low, high = self.current_bounds(z_low, z_high)
        # A leak never leaves the stored range: a shift moves toward zero (or -1), tables are checked.
        return self.v_min + low + int(self.bias.min()), self.v_max + high + int(self.bias.max())


@functools.lru_cache(maxsize=64)
def _current_bounds(layer, z_low, z_high):
    low = np.minimum(layer.weights * z_low, layer.weights * z_high).sum(axis=1)
    high = np.maximum(layer.weights * z_low, layer.weights * z_high).sum(axis=1)
    return int(low.min()), int(high.max())


def _integers(layer, name, dimensions):
    """Replace a field by a read-only int64 copy, once it is known to hold integers."""
    array = np.asarray(getattr(layer, name))
    if array.dtype.kind not in "iu":
        raise SpikeloomError(f"Layer {layer.name}: {name} must be integers, not {array.dtype}")
    if array.ndim != dimensions:
        raise SpikeloomError(f"Layer {layer.name}: {name} must have {dimensions} dimensions, not {array.ndim}")
    if array.size and not -EXACT_IN_FLOAT32 < int(array.min()) <= int(array.max()) < EXACT_IN_FLOAT32:
        raise SpikeloomError(f"Layer {layer.name}: {name} must lie within ±2^24")
    array = array.astype(np.int64)
    array.setflags(write=False)
    object.__setattr__(layer, name, array)
    return array


# The network ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Network:
    """Layers over integers, each fed by the one before it.

    Parameters
    ----------
    input : InputFormat
    layers : tuple of Dense
    time_steps : int
        the most time steps a sample may have (1 to 65535)
    readout : "count" or "membrane"
        a sample's scores: spikes of the last layer summed over its time steps, or the last layer's
        membrane potentials after the last one. The winner is the lowest index of the highest score.
    notes : dict
        JSON-serialisable remarks that have no meaning for computation: how it was trained, the
        activity seen (``notes["events"]``: mean events per time step at each layer's input)
    """

    input: InputFormat
    layers: tuple[Dense, ...]
    time_steps: int
    readout: str = "count"
    notes: dict = field(default_factory=dict)

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
        size, before = self.input.size, "the input"
        for layer in self.layers:
            if layer.n_in != size:
                raise SpikeloomError(f"Layer {layer.name}: takes {layer.n_in} inputs, but {before} has {size}")
            size, before = layer.n_out, f"layer {layer.name}"
        for layer, bounds in zip(self.layers, self.input_bounds, strict=True):
            low, high = layer.potential_bounds(*bounds)
            reach = max(-low, high) + int(np.abs(layer.threshold).max())
            if reach >= EXACT_IN_FLOAT32:
                raise SpikeloomError(f"Layer {layer.name}: potentials reach ±{reach}, beyond the 2^24 that "
                                     "float32 holds exactly; use smaller weights or inputs")

    @property
    def input_bounds(self):
        """For each layer, the smallest and largest value of its inputs."""
        return [self.input.bounds, *((layer.fire.low, layer.fire.high) for layer in self.layers[:-1])]

    @property
    def n_out(self):
        return self.layers[-1].n_out

    @property
    def weight_bits(self):
        """Bits of all weights as stored."""
        return sum(layer.weights.size * layer.weight_format.width for layer in self.layers)

    def content(self):
        """The header (JSON-serialisable) and arrays that ``docs/format.md`` describes."""
        header, arrays = {
            "input": dataclasses.asdict(self.input),
            "time_steps": self.time_steps,
            "readout": self.readout,
            "notes": self.notes,
            "layers": [],
        }, {}
        for number, layer in enumerate(self.layers):
            leak = {"kind": layer.leak.kind}
            if isinstance(layer.leak, ShiftLeak):
                leak["shift"] = layer.leak.shift
            if isinstance(layer.leak, TableLeak):
                arrays[f"{number}.leak_table"] = np.array(layer.leak.table, np.int32)
            header["layers"].append({
                "name": layer.name,
                "kind": layer.kind,
                "weight_format": dataclasses.asdict(layer.weight_format),
                "v_width": layer.v_width,
                "leak": leak,
                "reset": layer.reset,
                "fire": {"kind": layer.fire.kind, **dataclasses.asdict(layer.fire)},
            })
            arrays[f"{number}.weights"] = layer.weights.astype(np.int16)
            arrays[f"{number}.threshold"] = layer.threshold.astype(np.int32)
            arrays[f"{number}.bias"] = layer.bias.astype(np.int32)
        return header, arrays

    @classmethod
    def from_content(cls, header, arrays, where="network"):
        """The inverse of `content`; raises `SpikeloomError` naming ``where`` for anything amiss."""
        try:
            layers = []
            for number, entry in enumerate(header["layers"]):
                if entry["kind"] != Dense.kind:
                    raise SpikeloomError(f"layer kind {entry['kind']!r} is not known")
                leak = dict(entry["leak"])
                if leak["kind"] == TableLeak.kind:
                    leak["table"] = tuple(arrays[f"{number}.leak_table"].tolist())
                layers.append(Dense(
                    name=entry["name"],
                    weights=arrays[f"{number}.weights"],
                    weight_format=WeightFormat(**entry["weight_format"]),
                    threshold=arrays[f"{number}.threshold"],
                    bias=arrays[f"{number}.bias"],
                    v_width=entry["v_width"],
                    leak=LEAKS[leak.pop("kind")](**leak),
                    reset=entry["reset"],
                    fire=_from_fields(FIRES, entry["fire"]),
                ))
            return cls(InputFormat(**header["input"]), tuple(layers), header["time_steps"], header["readout"],
                       header.get("notes", {}))
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
        header, arrays = files.load(path, KIND, VERSION)
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


def _from_fields(classes, entry):
    fields = dict(entry)
    return classes[fields.pop("kind")](**fields)
