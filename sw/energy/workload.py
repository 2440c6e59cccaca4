"""What a network asks of an accelerator, layer by layer: from a table, or from a `Network` and the spikes it made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikeloom import files, reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Conv2d, signed_width

from .formats import Occupancy
from .hardware import PACKAGED


@dataclass(frozen=True)
class Density:
    """Shares (0 to 1) of values that are not zero: the mean over samples and time steps, and that of the most active
    time step of any sample."""

    mean: float
    worst: float

    def __post_init__(self):
        if not 0 <= self.mean <= self.worst <= 1:
            raise SpikeloomError("Density must have a mean and a worst case, 0 <= mean <= worst <= 1, not "
                                 f"{self.mean} and {self.worst}")


@dataclass(frozen=True)
class Layer:
    """Weights, what meets them, and what they make.

    Parameters
    ----------
    name : str
    shape_in, shape : (rows, columns, channels)
        of the map that weights meet, and of the one they make
    kernel : (rows, columns)
    weights : Occupancy
    weight_bits : int
    inputs, outputs : Density
        of the map that weights meet, and of the one they make
    times : int
        how often all this happens for a sample: its time steps
    stride, groups : int
    read : int
        values that are read for it, before pooling; by default those of ``shape_in``
    source : Density
        of these; by default ``inputs``
    input_bits, output_bits : int
    sum_bits : int
        of a partial sum; by default enough for any sum of weights over the fan-in: theirs and log2 of it
    state_bits : int
        of a neuron's states, as a rule its membrane potential; by default those of a sum, 0 where there is none
    """

    name: str
    shape_in: tuple[int, int, int]
    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    weights: Occupancy
    weight_bits: int
    inputs: Density
    outputs: Density
    times: int = 1
    stride: int = 1
    groups: int = 1
    read: int | None = None
    source: Density | None = None
    input_bits: int = 1
    output_bits: int = 1
    sum_bits: int | None = None
    state_bits: int | None = None

    def __post_init__(self):
        what = f"Layer {self.name}"
        for name, count in (("shape_in", 3), ("shape", 3), ("kernel", 2)):
            value = getattr(self, name)
            if not (isinstance(value, list | tuple) and len(value) == count and all(map(_positive, value))):
                raise SpikeloomError(f"{what}: {name} must be {count} numbers from 1 on, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        for name in ("weight_bits", "times", "stride", "groups", "input_bits", "output_bits"):
            if not _positive(getattr(self, name)):
                raise SpikeloomError(f"{what}: {name} must be an integer from 1 on, not {getattr(self, name)!r}")
        defaults = {"read": math.prod(self.shape_in), "source": self.inputs,
                    "sum_bits": self.weight_bits + (self.fan_in - 1).bit_length()}
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if self.state_bits is None:
            object.__setattr__(self, "state_bits", self.sum_bits)
        for name, low in (("read", 1), ("sum_bits", 1), ("state_bits", 0)):
            value = getattr(self, name)
            if not (_positive(value) or (value == low == 0 and not isinstance(value, bool))):
                raise SpikeloomError(f"{what}: {name} must be an integer from {low} on, not {value!r}")
        wanted = self.fan_in * self.shape[2]
        if self.shape_in[2] % self.groups or self.weights.positions != wanted:
            raise SpikeloomError(f"{what}: must have {wanted} weights for {self.shape_in[2]} channels in "
                                 f"{self.groups} groups, not {self.weights.positions}")

    @property
    def fan_in(self):
        """Weights of a neuron."""
        return self.shape_in[2] // self.groups * math.prod(self.kernel)

    @property
    def neurons(self):
        return math.prod(self.shape)

    @property
    def operations(self):
        """Weights times positions times how often: synaptic operations of a sample in which nothing is zero. Those that
        a kernel has beyond the border are among them."""
        return self.weights.positions * math.prod(self.shape[:2]) * self.times


@dataclass(frozen=True)
class Workload:
    """Layers, which run one after another, each for all time steps of a sample."""

    layers: tuple[Layer, ...]

    @property
    def weight_count(self):
        return sum(layer.weights.positions for layer in self.layers)

    @property
    def density(self):
        """The share of all weights that is not zero."""
        return sum(layer.weights.nonzeros for layer in self.layers) / self.weight_count


def _positive(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


# Tables -----------------------------------------------------------------------------------------

_REQUIRED = ("name", "shape_in", "shape", "kernel", "inputs", "outputs")
_OPTIONAL = ("times", "stride", "groups", "read", "source", "input_bits", "output_bits", "sum_bits", "state_bits")


def load(path, *, weight_bits=8, densities=None):
    """The `Workload` of a TOML file, or of a packaged one by its name.

    Parameters
    ----------
    weight_bits : int
    densities : sequence of float
        the share of each layer's weights that is not zero, anywhere; by default all

    Raises `SpikeloomError` for anything amiss in the file.
    """
    content, path = files.toml(path, PACKAGED / "workloads", "workload")
    entries = content.get("layers")
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise SpikeloomError(f"{path}: must have [[layers]]")
    if densities is None:
        densities = [1.0] * len(entries)
    if len(densities) != len(entries):
        raise SpikeloomError(f"{path}: has {len(entries)} layers, for which {len(densities)} densities were given")
    try:
        return Workload(tuple(_layer(dict(entry), weight_bits, float(density))
                              for entry, density in zip(entries, densities, strict=True)))
    except SpikeloomError as error:
        raise SpikeloomError(f"{path}: {error}") from None


def _layer(entry, weight_bits, density):
    what = f"Layer {entry.get('name', '?')}"
    for name in _REQUIRED:
        if name not in entry:
            raise SpikeloomError(f"{what}: lacks {name}")
    for name in entry:
        if name not in _REQUIRED + _OPTIONAL:
            raise SpikeloomError(f"{what}: {name} is not one of {', '.join(_REQUIRED + _OPTIONAL)}")
    for name in ("inputs", "outputs", "source"):
        if name in entry:
            try:
                entry[name] = Density(**entry[name])
            except TypeError:
                raise SpikeloomError(f"{what}: {name} must be a table of mean and worst, not {entry[name]!r}") from None
    try:
        channels, kernel, groups = entry["shape_in"][2], entry["kernel"], entry.get("groups", 1)
        count = entry["shape"][2] * (channels // groups) * math.prod(kernel)
        seen = Occupancy.expected(count, density, kernel[1])
        return Layer(**entry, weights=seen, weight_bits=weight_bits)
    except (TypeError, IndexError, ZeroDivisionError) as error:
        raise SpikeloomError(f"{what}: a field is of the wrong type ({error})") from None


# Networks ---------------------------------------------------------------------------------------


def of_network(network, inputs, spikes):
    """The `Workload` of a `Network` as it was seen to work: weights and zeros as they are, activity as measured.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    spikes : list of int arrays (samples, time steps, n_out), one for each layer
        what the network makes of them, as in `spikeloom.reference.Trace`

    What gates decide by is counted, but nothing that they leave out: this hardware has no way to. Delays change
    nothing. Synaptic currents and adaptations are states beside the membrane potential.
    """
    fired = {INPUT: inputs} | {layer.name: z for layer, z in zip(network.layers, spikes, strict=True)}
    bounds = {INPUT: network.input.bounds} | {layer.name: (layer.fire.low, layer.fire.high)
                                              for layer in network.layers}
    times, made = inputs.shape[1], []
    for layer, sources in zip(network.layers, network.sources, strict=True):
        sums = signed_width(*network.current_bounds(layer))
        for name, branch, source in zip(layer.branch_names, layer.branches, sources, strict=True):
            own, z = branch is layer, fired[source]
            if branch.attention:
                made += _attention(layer, z, bounds[source])
            k = branch.kernel if isinstance(layer, Conv2d) else 1
            met = reference.pool(branch, reference.attend(branch, z))
            shape = branch.pooled_shape if isinstance(layer, Conv2d) else (1, 1, branch.weights.shape[1])
            made.append(Layer(
                name, shape, layer.shape, (k, k), Occupancy.of(branch.weights), branch.weight_format.width,
                _density(met), _density(fired[layer.name]), times, getattr(branch, "stride", 1),
                getattr(branch, "groups", 1), branch.n_in, _density(z), _width(*branch.pooled_bounds(*bounds[source])),
                _width(*bounds[layer.name]), sums, sum(layer.state_widths) if own else 0))
        made += _gates(layer, reference.attend(layer, fired[sources[0]]), times)
    return Workload(tuple(made))


def _attention(layer, z, bounds):
    """The two convolutions of a layer's attention, which work once on all time steps of a sample."""
    attention, (rows, columns, channels) = layer.attention, layer.input_shape
    s = z.reshape(*z.shape[:2], rows * columns, channels).sum(2)  # (samples, time steps, channels)
    low, high = (bound * rows * columns for bound in bounds)
    steps = s.shape[1]
    for what, weights, slides in (("time", attention.time_weights[:steps, :steps], channels),
                                  ("channels", attention.channel_weights, steps)):
        side, _, k = weights.shape
        reach = sum(abs(bound) for bound in (low, high)) * side * k * max(map(abs, attention.weight_format.bounds))
        yield Layer(f"{layer.name}, attention to {what}", (1, slides, side), (1, slides, side), (1, k),
                    Occupancy.of(weights), attention.weight_format.width, _density(s), Density(1.0, 1.0),
                    input_bits=_width(low, high), output_bits=_width(-reach, reach),
                    sum_bits=_width(-reach, reach), state_bits=0)


def _gates(layer, z, times):
    """What decides at each time step which channels and blocks of a layer are open."""
    whole = Density(1.0, 1.0)
    if gate := layer.gate:
        sums = z.reshape(*z.shape[:2], -1, gate.weights.shape[1], gate.reduce).sum((2, 4))
        yield Layer(f"{layer.name}, gate of channels", (1, 1, gate.weights.shape[1]), (1, 1, len(gate.bias)), (1, 1),
                    Occupancy.of(gate.weights), gate.weight_format.width, _density(sums), whole, times,
                    input_bits=_width(0, max(gate.table)), state_bits=0)
    if gate := layer.block_gate:
        blocks, k = (*gate.blocks(layer.shape), layer.shape[2]), gate.weights.shape[2]
        yield Layer(f"{layer.name}, gate of blocks", blocks, blocks, (k, k), Occupancy.of(gate.weights),
                    gate.weight_format.width, whole, whole, times, groups=gate.groups,
                    input_bits=_width(*(gate.rows * gate.columns * bound for bound in (layer.v_min, layer.v_max))),
                    state_bits=0)


def _density(values):
    """Of values (samples, time steps, ...)."""
    shares = (values != 0).reshape(*values.shape[:2], -1).mean(2)
    worst = float(shares.max())
    return Density(min(worst, float(shares.mean())), worst)  # a mean of equal shares may be rounded above them


def _width(low, high):
    """Bits of values from ``low`` to ``high``."""
    return max(1, int(high).bit_length()) if low >= 0 else signed_width(low, high)
