"""Energy and cycles of a `Workload`: how many bits move where, times what a bit costs there. ``docs/energy.md`` has the
equations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import formats
from .formats import Occupancy
from .hardware import Architecture, Costs

#: Where energy goes.
COMPONENTS = ("dram_weights", "dram_states", "dram_maps", "buffer", "network", "input_pad", "weight_pad", "psum_pad",
              "adders")


@dataclass(frozen=True)
class LayerEstimate:
    """Of one layer and sample.

    Attributes
    ----------
    name : str
    parts : dict
        energy in pJ by component, one of `COMPONENTS`
    computes : float
        additions, of a weight that is not zero for an input that is not zero
    strips : int
        parts of the map that the shared buffer has room for one after another; for each of them, and each time step,
        weights are read again
    cycles : float
    """

    name: str
    parts: dict
    computes: float
    strips: int
    cycles: float

    @property
    def energy(self):
        """pJ."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Estimate:
    """Of all layers of a sample."""

    layers: tuple[LayerEstimate, ...]

    @property
    def parts(self):
        """Energy in pJ by component."""
        return {name: sum(layer.parts[name] for layer in self.layers) for name in COMPONENTS}

    @property
    def energy(self):
        """pJ."""
        return sum(layer.energy for layer in self.layers)

    @property
    def cycles(self):
        return sum(layer.cycles for layer in self.layers)

    @property
    def computes(self):
        return sum(layer.computes for layer in self.layers)

    @property
    def edp(self):
        """Energy in mJ times cycles."""
        return self.energy * 1e-9 * self.cycles


def estimate(workload, architecture="schaefer", costs="schaefer", *, weights="rle", inputs="rle", outputs="dense",
             worst=False):
    """The `Estimate` of a sample.

    Parameters
    ----------
    workload : Workload
    architecture : Architecture or the name of its file
    costs : Costs or the name of its file
    weights, inputs, outputs : str
        the format that each is kept in, one of `spikeloom.energy.FORMATS`. What is not known to be zero is not
        skipped: with "dense", sparsity is ignored. Inputs have theirs wherever they are, outputs until they are read
        as another layer's inputs.
    worst : bool
        with the activity of the most active time step instead of the mean
    """
    architecture = architecture if isinstance(architecture, Architecture) else Architecture.load(architecture)
    costs = costs if isinstance(costs, Costs) else Costs.load(costs)
    kept = [formats.find(each) for each in (weights, inputs, outputs)]
    return Estimate(tuple(_layer(layer, architecture, costs, *kept, worst) for layer in workload.layers))


def _layer(layer, hardware, costs, keep_weights, keep_inputs, keep_outputs, worst):
    seen = layer.weights
    activity, source, fired = (each.worst if worst else each.mean
                               for each in (layer.inputs, layer.source, layer.outputs))
    if keep_weights is formats.dense:
        seen = Occupancy(seen.positions, seen.positions, 0, seen.fiber)
    if keep_inputs is formats.dense:
        activity = source = 1.0
    times, neurons = layer.times, layer.neurons
    in_bits, out_bits = (max(bits, hardware.activation_bits) for bits in (layer.input_bits, layer.output_bits))

    # What a sample moves, in bits: weights, inputs and outputs once, and membrane potentials one way.
    stored = keep_weights(seen, layer.weight_bits)
    read = Occupancy.expected(layer.read, source, layer.kernel[1])
    inputs = times * keep_inputs(read, in_bits)
    outputs = times * keep_outputs(Occupancy.expected(neurons, fired), out_bits)
    states = times * neurons * layer.state_bits

    # The buffer is worked on in one half, while the other is filled and emptied.
    half = hardware.buffer_bytes * 8 / 2
    strips, held = _strips(layer, half, in_bits)
    replicas = min(held, hardware.pes)
    room = max(1, hardware.pes // replicas) * hardware.weight_bytes * 8
    passes = max(1, math.ceil(stored / room))
    fetched = stored * times * strips

    computes = layer.operations * activity * seen.density
    touched = 1 - (1 - activity * seen.density) ** layer.fan_in
    sums = times * neurons * layer.sum_bits * touched

    # A map stays in the buffer where half of it has room for all time steps.
    inputs_dram = 0 if times * layer.read * in_bits <= half else inputs
    outputs_dram = 0 if times * neurons * out_bits <= half else outputs
    dram = {"dram_weights": fetched, "dram_states": 2 * states * (times - 1) / times if strips > 1 else 0,
            "dram_maps": inputs_dram + outputs_dram}
    buffer = inputs_dram + inputs * passes + 2 * states + outputs + outputs_dram
    network = fetched + inputs * passes + 2 * states + sums * layer.kernel[0] + outputs
    # What scratchpads read for all computes, each with its share of the metadata.
    met = Occupancy.expected(math.prod(layer.shape_in), activity, layer.kernel[1])
    weights_read = layer.operations * activity * stored / seen.positions
    inputs_read = layer.operations * seen.density * keep_inputs(met, in_bits) / met.positions
    parts = {name: bits * costs.dram_bit for name, bits in dram.items()} | {
        "buffer": buffer * costs.sram(hardware.buffer_bytes),
        "network": network * costs.network_bit,
        "input_pad": (inputs * passes * layer.kernel[0] + inputs_read) * costs.sram(hardware.input_bytes),
        "weight_pad": (fetched * replicas + weights_read) * costs.sram(hardware.weight_bytes),
        "psum_pad": 2 * computes * layer.sum_bits * costs.sram(hardware.psum_bytes),
        "adders": (computes * layer.sum_bits + 2 * states) * costs.adder_bit}
    cycles = max(sum(dram.values()) / hardware.dram_bits_per_cycle, buffer / hardware.buffer_bits_per_cycle,
                 computes / hardware.pes)
    return LayerEstimate(layer.name, parts, computes, strips, cycles)


def _strips(layer, room, in_bits):
    """Into how many strips a map is divided whose sums, and the inputs under them, have ``room`` bits at a time; and
    how many of its rows are held together."""
    rows, columns, channels = layer.shape
    sums = columns * channels * max(layer.sum_bits, layer.state_bits)
    under = layer.shape_in[1] * layer.shape_in[2] * in_bits
    held = (room - under * (layer.kernel[0] - layer.stride)) // (sums + under * layer.stride)
    if held >= 1:
        held = int(min(held, rows))
        return math.ceil(rows / held), held
    return rows * math.ceil((sums + under * layer.kernel[0]) / room), 1


def table(made):
    """An `Estimate` as text: energy by component (µJ), operations and cycles, a line for each layer and one for all."""
    head = ("layer", "energy, µJ", *(name.replace("_", " ") for name in COMPONENTS), "operations", "cycles")
    rows = [head]
    for name, each in [*((layer.name, layer) for layer in made.layers), ("all", made)]:
        parts = each.parts
        rows.append((name, f"{each.energy * 1e-6:,.4g}", *(f"{parts[part] * 1e-6:,.3g}" for part in COMPONENTS),
                     f"{each.computes:,.0f}", f"{each.cycles:,.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                                    zip(row[1:], widths[1:], strict=True))]) for row in rows]
    return "\n".join([*lines, f"energy x delay: {made.edp:.4g} mJ x cycles"])
