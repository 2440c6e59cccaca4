"""[core] What a lane costs, how fast the array clocks, and how much of its work is useful.

- LUTs per lane of one layer's core, control included: 256 inputs to 128 neurons, ternary weights, 6-bit membranes
  that leak by a shift, a threshold and a bias for each neuron, 32 and 64 lanes.
- Clock of a whole array, 256-128-10 of such layers at 32 + 10 lanes: the median of five placement seeds.
- Core efficiency, (synaptic operations of spikes) / (lanes · cycles), of the layer that takes longest: in
  simulation, at 32 + 10 lanes, the input 13 % ones, as MNIST's in black and white.

An update unit serves 32 lanes, which is enough from 31 events per time step on.

    python benchmarks/core.py
"""

from itertools import pairwise

import numpy as np
from common import Figures
from silicon import implement
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw.array import Array
from spikeloom.hw.core import LayerCore
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim import pysim

TARGETS = {"hx8k": "hx8k", "ecp5-25f": "ulx3s-25f"}
CLOCK_AIMS = {"hx8k": 150, "ecp5-25f": 140}  # MHz
LUT_AIM, EFFICIENCY_AIM = 32, 0.9
LANES = {32: 1, 64: 2}  # and their update units
DENSITY = 0.13


def network(sizes, time_steps=8, thresholds=(4, 24)):
    """Random ternary layers."""
    rng = np.random.default_rng(0)
    ternary, layers = WeightFormat("ternary", 2), []
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(Dense(f"layer{number}", rng.integers(-1, 2, (n_out, n_in)), ternary,
                            rng.integers(*thresholds, n_out), rng.integers(-4, 4, n_out), 6, ShiftLeak(3)))
    return Network(InputFormat(sizes[0]), tuple(layers), time_steps)


def efficiency(program, samples=8):
    """Simulate random inputs: for the slowest layer and for all, useful additions over additions possible."""
    net = program.network
    inputs = np.random.default_rng(1).random((samples, net.time_steps, net.input.size)) < DENSITY
    trace, cycles = pysim.run(program, inputs.astype(np.int64))
    spikes = [inputs, *trace.spikes[:-1]]
    operations = [np.count_nonzero(z) * layer.n_out for z, layer in zip(spikes, net.layers, strict=True)]
    lanes = [core.lanes for core in program.cores]
    busy = [core.groups * np.maximum(z.sum(axis=2) + 1, core.pace).sum()
            for z, core in zip(spikes, program.cores, strict=True)]
    slowest = int(np.argmax(busy))
    return operations[slowest] / (lanes[slowest] * cycles), sum(operations) / (sum(lanes) * cycles)


def main():
    figures = Figures("core")
    for device, target in TARGETS.items():
        for lanes, units in LANES.items():
            core = Program(network([256, 128, 10]), target, [Placement(lanes, units), Placement(10, 1)]).cores[0]
            made = implement(LayerCore(core), device, seeds=(1,))
            for what, luts in (("lut4", made.luts), ("cells", made.logic)):
                # A cell of ECP5 is a LUT; one of iCE40 may be a flip-flop alone.
                aimed = (what, device) != ("cells", "hx8k")
                figures.add(f"{what}_per_lane_{device}_{lanes}_lanes", luts / lanes, f"{what}/lane",
                            aim=f"<= {LUT_AIM}" if aimed else None, met=luts <= LUT_AIM * lanes if aimed else None)
            figures.add(f"core_clock_{device}_{lanes}_lanes", made.clock, "MHz")
    for device, target in TARGETS.items():
        program = Program(network([256, 128, 10]), target, [Placement(32, 1), Placement(10, 1)])
        made = implement(Array(program), device)
        figures.add(f"array_clock_{device}", made.clock, "MHz", aim=f">= {CLOCK_AIMS[device]}",
                    met=made.clock >= CLOCK_AIMS[device])
        figures.add(f"array_slowest_seed_{device}", min(made.clocks), "MHz")
        figures.add(f"array_lut4_{device}", made.luts, "LUT4")
        figures.add(f"array_cells_{device}", made.logic, "cells")
    for n_in, thresholds in ((256, (4, 24)), (784, (8, 31))):
        net = network([n_in, 128, 10], thresholds=thresholds)
        slowest, overall = efficiency(Program(net, "ulx3s-25f", [Placement(32, 1), Placement(10, 1)]))
        figures.add(f"efficiency_{n_in}_128_10", slowest, "", aim=f">= {EFFICIENCY_AIM}",
                    met=slowest >= EFFICIENCY_AIM)
        figures.add(f"efficiency_{n_in}_128_10_all_layers", overall, "")
    figures.write()


if __name__ == "__main__":
    main()
