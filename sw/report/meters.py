"""What a network takes and does: memory of weights and membranes, how often neurons fire, how many weights spikes meet.

Bytes and sparsity are a network's own; activity is that of the samples it was seen with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from spikeloom import reference
from spikeloom.energy.formats import Occupancy, cheapest
from spikeloom.network import INPUT, Dense


@dataclass(frozen=True)
class Memory:
    """Of one layer, its shortcut and its attention.

    Attributes
    ----------
    layer : str
    weights, zeros : int
        all weights, and those that are zero
    weight_bits : int
        of all weights, each on its own
    stored_bits : int
        of all weights with the metadata of ``format``, by which they take the fewest
    format : str
        of the layer's own weights, one of `spikeloom.energy.FORMATS`
    membrane_bits : int
        of all membrane potentials
    """

    layer: str
    weights: int
    zeros: int
    weight_bits: int
    stored_bits: int
    format: str
    membrane_bits: int

    @property
    def bits_per_weight(self):
        """With metadata."""
        return self.stored_bits / self.weights


@dataclass(frozen=True)
class Activity:
    """Of one layer, on the average of some samples.

    Attributes
    ----------
    layer : str
    rate : float
        the share of neurons that fire in a time step
    operations : float
        synaptic operations of a sample: for each set bit that comes to weights, those that are not zero
    """

    layer: str
    rate: float
    operations: float


def memory(network):
    """The `Memory` of each layer."""
    meters = []
    for layer in network.layers:
        tensors = [(branch.weights, branch.weight_format.width) for branch in layer.branches]
        if layer.attention:
            tensors += [(weights, layer.attention.weight_format.width)
                        for weights in (layer.attention.time_weights, layer.attention.channel_weights)]
        kept = [cheapest(Occupancy.of(weights), width) for weights, width in tensors]
        meters.append(Memory(layer.name, sum(weights.size for weights, _ in tensors),
                             sum(int((weights == 0).sum()) for weights, _ in tensors),
                             sum(weights.size * width for weights, width in tensors),
                             sum(bits for _, bits in kept), kept[0][0], layer.n_out * layer.v_width))
    return meters


def activity(network, inputs, spikes):
    """The `Activity` of each layer.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    spikes : list of int arrays (samples, time steps, n_out), one for each layer
        what the network makes of them
    """
    fired = {INPUT: inputs} | {layer.name: z for layer, z in zip(network.layers, spikes, strict=True)}
    meters = []
    for layer, sources in zip(network.layers, network.sources, strict=True):
        total = sum(operations(branch, fired[source]) for branch, source in zip(layer.branches, sources, strict=True))
        meters.append(Activity(layer.name, float((fired[layer.name] != 0).mean()), total / len(inputs)))
    return meters


def mean(parts):
    """The `Activity` of each layer over all samples, for a list of (samples, meters of so many)."""
    total = sum(count for count, _ in parts)
    return [Activity(each[0].layer, *(sum(count * getattr(meter, name) for (count, _), meter in
                                          zip(parts, each, strict=True)) / total for name in ("rate", "operations")))
            for each in zip(*(meters for _, meters in parts), strict=True)]


def operations(synapses, z):
    """Synaptic operations of all samples together, an int, for inputs ``z`` (samples, time steps, n_in).

    Every set bit counts, behind the attention and the pool; of a pool of kind sum, those of each value in a block.
    The attention's own convolutions, which are of sums and not of spikes, do not count.
    """
    z = reference.attend(synapses, z)
    if synapses.pool and synapses.pool.kind == "sum":
        events = reference.pool(synapses, _set_bits(z))
    else:
        events = _set_bits(reference.pool(synapses, z))
    events = events.sum((0, 1), dtype=np.int64)
    present = synapses.weights != 0
    if isinstance(synapses, Dense):
        return int(present.sum(0, dtype=np.int64) @ events.ravel())
    # Channel d goes to the channels of its group, by offset (i, j) of the kernel from the positions that it meets.
    groups, (rows, columns, _), stride = synapses.groups, synapses.shape, synapses.stride
    out, per_group, k, _ = present.shape
    fan_out = present.reshape(groups, out // groups, per_group, k, k).sum(1, dtype=np.int64)
    fan_out = fan_out.reshape(groups * per_group, k, k)
    events = np.pad(events, [(synapses.padding, synapses.padding)] * 2 + [(0, 0)])
    return sum(int(events[i:i + stride * (rows - 1) + 1:stride, j:j + stride * (columns - 1) + 1:stride].sum((0, 1))
                   @ fan_out[:, i, j]) for i, j in np.ndindex(k, k))


def bytes_of(bits):
    """Whole bytes that so many bits take."""
    return math.ceil(bits / 8)


def _set_bits(z):
    return np.bitwise_count(np.abs(z))
