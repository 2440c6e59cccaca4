"""What a network takes and does: memory of weights and membranes, how often neurons fire, how many weights spikes meet,
and how much of a dense network's arithmetic is left.

Bytes and sparsity are a network's own; activity is that of the samples it was seen with.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from spikeloom import reference
from spikeloom.energy.formats import Occupancy, cheapest
from spikeloom.network import INPUT

#: Bits of a weight and of a membrane potential that memory is compared with.
BASELINE_BITS = 32


@dataclass(frozen=True)
class Memory:
    """Of one layer, its branches, its attention and its gates.

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
    membranes : int
        all membrane potentials, synaptic currents and raised thresholds
    membrane_bits : int
        of all of them
    """

    layer: str
    weights: int
    zeros: int
    weight_bits: int
    stored_bits: int
    format: str
    membranes: int
    membrane_bits: int

    @property
    def bits_per_weight(self):
        """With metadata."""
        return self.stored_bits / self.weights

    @property
    def bits(self):
        """Of all weights, each on its own, and all membrane potentials; thresholds and biases are left out."""
        return self.weight_bits + self.membrane_bits

    @property
    def baseline_bits(self):
        """What as many weights and potentials take with `BASELINE_BITS` each."""
        return BASELINE_BITS * (self.weights + self.membranes)


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
    resting : float
        the share of membrane potentials that are zero after a time step
    open : float
        the share of channels that the layer's gate opens in a time step; 1 without a gate
    """

    layer: str
    rate: float
    operations: float
    resting: float
    open: float


@dataclass(frozen=True)
class Flops:
    """Of one layer in a time step, as SpQuant-SNN counts them (Hasssan, Meng, Anupreetham, Seo, Front. Neurosci. 18,
    2024, and the meter in its published code): products of weights whether or not there is a spike, and updates of
    potentials that are not zero.

    Attributes
    ----------
    layer : str
    products : int
        of a dense network: Σ channels · rows · columns · (channels in / groups · k²) over the layer's branches, or
        neurons · inputs
    updates : int
        of a dense network: channels · rows · columns
    kept_products, kept_updates : float
        products · o and updates · o · (1 − r), where o is the share of open channels and r that of potentials that are
        zero: all of the layer's, those of closed channels too, as in that meter
    gates : int
        products of the gates themselves, of channels and of blocks
    """

    layer: str
    products: int
    updates: int
    kept_products: float
    kept_updates: float
    gates: int

    @property
    def dense(self):
        """Without gates, every potential updated."""
        return self.products + self.updates

    @property
    def kept(self):
        return self.kept_products + self.kept_updates + self.gates


def memory(network):
    """The `Memory` of each layer."""
    meters = []
    for layer in network.layers:
        tensors = [(each.weights, each.weight_format.width) for each in (*layer.branches, *_gates(layer))]
        if layer.attention:
            tensors += [(weights, layer.attention.weight_format.width)
                        for weights in (layer.attention.time_weights, layer.attention.channel_weights)]
        kept = [cheapest(Occupancy.of(weights), width) for weights, width in tensors]
        meters.append(Memory(layer.name, sum(weights.size for weights, _ in tensors),
                             sum(int((weights == 0).sum()) for weights, _ in tensors),
                             sum(weights.size * width for weights, width in tensors),
                             sum(bits for _, bits in kept), kept[0][0], layer.n_out * len(layer.state_widths),
                             layer.n_out * sum(layer.state_widths)))
    return meters


def activity(network, inputs, seen):
    """The `Activity` of each layer.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    seen : spikeloom.reference.Trace
        what the network makes of them
    """
    fired = {INPUT: inputs} | {layer.name: z for layer, z in zip(network.layers, seen.spikes, strict=True)}
    meters = []
    for layer, sources, v in zip(network.layers, network.sources, seen.membranes, strict=True):
        total = sum(operations(branch, fired[source]) for branch, source in zip(layer.branches, sources, strict=True))
        gate = layer.gate and reference.open_channels(layer, reference.attend(layer, fired[sources[0]]))
        meters.append(Activity(layer.name, float((fired[layer.name] != 0).mean()), total / len(inputs),
                               float((v == 0).mean()), 1.0 if gate is None else float(gate.mean())))
    return meters


def mean(parts):
    """The `Activity` of each layer over all samples, for a list of (samples, meters of so many)."""
    total = sum(count for count, _ in parts)
    names = [each.name for each in dataclasses.fields(Activity) if each.name != "layer"]
    return [Activity(each[0].layer, *(sum(count * getattr(meter, name) for (count, _), meter in
                                          zip(parts, each, strict=True)) / total for name in names))
            for each in zip(*(meters for _, meters in parts), strict=True)]


def flops(network, activities):
    """The `Flops` of each layer, for the `Activity` of each."""
    meters = []
    for layer, seen in zip(network.layers, activities, strict=True):
        products = sum(branch.weights.size * math.prod(branch.shape[:2]) for branch in layer.branches)
        gates = layer.gate.operations if layer.gate else 0
        gates += layer.block_gate.operations(layer.shape) if layer.block_gate else 0
        meters.append(Flops(layer.name, products, layer.n_out, seen.open * products,
                            seen.open * (1 - seen.resting) * layer.n_out, gates))
    return meters


def reduction(flops, baseline=None):
    """The share of arithmetic that is saved: 1 − what is kept / what a dense network takes, over all layers' `Flops`.

    The dense network is the same without gates, or that of other ``baseline`` `Flops`: the network before channels were
    taken out of it. Below 0 where gates cost more than they save.
    """
    return 1 - sum(each.kept for each in flops) / sum(each.dense for each in baseline or flops)


def operations(synapses, z):
    """Synaptic operations of all samples together, an int, for inputs ``z`` (samples, time steps, n_in). A delay is not
    seen, so that what would come after the last time step counts.

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
    if present.ndim == 2:
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


def size(bits):
    """So many bits in words: bytes, kB or MB, which are 1,000 and 10^6 bytes."""
    count = bytes_of(bits)
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.3g} kB" if count < 999_500 else f"{count / 1e6:.2f} MB"


def savings(memories):
    """What all `Memory` of a network comes to beside 32 bits for each weight and potential, in words."""
    bits, baseline = sum(each.bits for each in memories), sum(each.baseline_bits for each in memories)
    return f"{size(bits)}, {baseline / bits:.3g} times less than with {BASELINE_BITS} bits each"


def _gates(layer):
    return [gate for gate in (layer.gate, layer.block_gate) if gate]


def _set_bits(z):
    return np.bitwise_count(np.abs(z))
