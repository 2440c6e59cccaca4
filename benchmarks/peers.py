"""[peers] Four workloads beside what peers' open cores reach on the same devices with the same open tools.

W1 64-64-64-32-16, W2 784-128-10, W3 196-50-10, W4 32-64-128-64-12: random ternary weights (6-bit membranes) and
random 4-bit weights (8-bit membranes), one threshold for a layer, no bias, membranes that leak by a quarter. Thresholds
are chosen so that hidden layers spike about as densely as the input.

Cycles per time step come from simulating the array, filling and draining its pipeline included; clock is the median of
five placement seeds; µs × kLUT multiplies a time step's duration with the size, lower being better. Ours counts
every LUT of the array without its link: LUT4 on iCE40, TRELLIS_COMB (which adders fill up) on ECP5. Each core is
scored under its own semantics.

Finished work is kept under build/, so an interrupted run continues.

    python benchmarks/peers.py [--only W1 W2 ...] [--weights ternary int4] [--devices up5k hx8k ecp5-25f] [--finished]
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from common import Figures
from silicon import DEVICES, Unfinished, implement, kept
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw.array import Array
from spikeloom.hw.verilog import convert
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim import pysim

DENSITIES = (1, 2, 5, 10, 20, 30)  # per cent
AT = 10  # the density of the aims
TIME_STEPS = 16
TARGETS = {"up5k": "icebreaker", "hx8k": "hx8k", "ecp5-25f": "ulx3s-25f"}
WEIGHTS = {"ternary": (WeightFormat("ternary", 2), 6), "int4": (WeightFormat("int", 4), 8)}


@dataclass(frozen=True)
class Workload:
    """Sizes of the layers; lanes and update units of each layer's core; samples that are simulated."""

    sizes: tuple[int, ...]
    placements: tuple[tuple[int, int], ...]
    samples: int = 8


WORKLOADS = {
    "W1": Workload((64, 64, 64, 32, 16), ((32, 4), (32, 4), (16, 2), (16, 1))),
    "W2": Workload((784, 128, 10), ((128, 4), (2, 1)), samples=3),
    "W3": Workload((196, 50, 10), ((52, 4), (4, 1))),
    "W4": Workload((32, 64, 128, 64, 12), ((8, 2), (32, 4), (32, 4), (4, 1))),
}
#: Where the above does not fit.
SMALLER = {
    ("W1", "int4", "up5k"): ((16, 4), (16, 4), (8, 2), (8, 1)),
    ("W4", "int4", "up5k"): ((8, 2), (16, 4), (16, 4), (4, 1)),
}


@dataclass(frozen=True)
class Peer:
    """A peer's core as measured: its RTL simulated, synthesized, placed and routed with the same open tools.

    Parameters
    ----------
    cycles : dict
        per time step, by density in per cent
    builds : dict
        LUT4 and clock (MHz) by device; no clock where it was not placed and routed
    """

    name: str
    workload: str
    cycles: dict[int, int]
    builds: dict[str, tuple[int, float | None]]

    def cost(self, device, density):
        """µs × kLUT, or None when not measured."""
        luts, clock = self.builds[device]
        return self.cycles[density] / clock * luts / 1000 if clock and density in self.cycles else None


def always(cycles):
    return dict.fromkeys(DENSITIES, cycles)


_TINYODIN = {"up5k": (2154, 11.7), "ecp5-25f": (2809, 40.0)}
_SYNTZULU = {"up5k": (2161, 27.5)}

#: Measured by us from the peers' public sources (2026-11, Yosys and nextpnr). SYNtzulu counts its whole system on
#: chip, 8-bit weights and 16-bit membranes; Spiker+ 4-bit weights and 6-bit membranes (in W1: 8 and 16 bits);
#: tinyODIN 4-bit weights and 12-bit membranes, its cycles from its formula. ecp5-45 is the next larger device.
PEERS = (
    Peer("SYNtzulu", "W1", {2: 171, 5: 271, 10: 425, 20: 603, 30: 760}, _SYNTZULU),
    Peer("Spiker+", "W1", {2: 127, 5: 132, 10: 132, 20: 132, 30: 132}, {"ecp5-45": (17595, None)}),
    Peer("tinyODIN", "W1", {2: 1100, 5: 3300, 10: 5800, 20: 9800, 30: 13400}, _TINYODIN),
    Peer("Spiker+", "W2", always(916), {"ecp5-45": (8182, 43.6)}),
    Peer("Spiker+", "W3", always(251), {"up5k": (4534, 19.0), "hx8k": (4534, 46.5), "ecp5-25f": (4677, 59.4)}),
    Peer("SYNtzulu", "W4", {2: 199, 5: 318, 10: 493, 30: 942}, _SYNTZULU),
)


def inputs(workload, density, samples, seed):
    rng = np.random.default_rng(seed)
    return (rng.random((samples, TIME_STEPS, workload.sizes[0])) < density / 100).astype(np.int64)


def network(workload, weights, density):
    """Random layers, each with the threshold at which it spikes about as densely as the input."""
    rng = np.random.default_rng(0)
    (weight_format, v_width), layers = WEIGHTS[weights], []
    x = inputs(workload, density, 4, seed=1)
    for number, (n_in, n_out) in enumerate(pairwise(workload.sizes)):
        largest = weight_format.bounds[1]  # both signs alike, or layers fall silent at high densities
        drawn = rng.integers(-largest, largest + 1, (n_out, n_in))

        def made(threshold, number=number, drawn=drawn):
            return Dense(f"layer{number}", drawn, weight_format, np.full(len(drawn), threshold),
                         np.zeros(len(drawn), int), v_width, ShiftLeak(2))

        def rate(threshold, layers=layers, made=made):
            net = Network(InputFormat(workload.sizes[0]), (*layers, made(threshold)), TIME_STEPS)
            return reference.run(net, x).spikes[-1].mean()

        low, high = 1, 2**10  # the rate falls with the threshold: at `high` it is below what we want
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if rate(middle) > density / 100 else (low, middle)
        layers.append(made(min((low, high), key=lambda threshold: abs(rate(threshold) - density / 100))))
    return Network(InputFormat(workload.sizes[0]), tuple(layers), TIME_STEPS)


def program(name, weights, device, density):
    workload = WORKLOADS[name]
    placements = SMALLER.get((name, weights, device), workload.placements)
    return Program(network(workload, weights, density), TARGETS[device], [Placement(*each) for each in placements])


def cycles(made, workload, density, begin):
    """Simulated cycles per time step."""
    def simulate():
        x = inputs(workload, density, workload.samples, seed=2)
        return pysim.run(made, x)[1] / (workload.samples * TIME_STEPS)

    return kept([convert(Array(made), "top"), density, workload.samples], "cycles", simulate, begin=begin)


def measure(figures, name, weights, device, begin=True):
    """One workload on one device; its µs × kLUT at `AT` per cent, or None when it does not fit."""
    title = f"{name}_{weights}_{device}"
    made = implement(Array(program(name, weights, device, AT), counter_width=0), device, begin=begin)
    if made is None:
        print(f"{title}: does not fit", flush=True)
        return None
    steps = {density: cycles(program(name, weights, device, density), WORKLOADS[name], density, begin)
             for density in DENSITIES}
    luts = made.luts if device != "ecp5-25f" else made.logic
    cost = steps[AT] / made.clock * luts / 1000
    for density in DENSITIES:
        goal = 30 if (name, density) == ("W1", AT) else None
        figures.add(f"{title}_cycles_at_{density}%", steps[density], "cycles/step", aim=goal and f"<= {goal}",
                    met=goal and steps[density] <= goal)
        figures.add(f"{title}_time_at_{density}%", steps[density] / made.clock, "µs/step")
    goal = 40 if (name, device) == ("W1", "up5k") else None
    figures.add(f"{title}_clock", made.clock, "MHz", aim=goal and f">= {goal}", met=goal and made.clock >= goal)
    figures.add(f"{title}_luts", luts, "LUT")
    figures.add(f"{title}_cells", made.logic, "cells")
    figures.add(f"{title}_blocks", made.blocks, "block RAMs")
    figures.add(f"{title}_cost_at_{AT}%", cost, "µs·kLUT")
    print(f"{title}: {luts} LUTs, {made.clock} MHz, {cost:.3g} µs·kLUT at {AT} %", flush=True)
    return cost


def peers(figures, name):
    """The peers' figures for a workload; their lowest µs × kLUT at `AT` per cent."""
    costs = []
    for peer in PEERS:
        if peer.workload != name:
            continue
        for density, steps in peer.cycles.items():
            figures.add(f"{name}_{peer.name}_cycles_at_{density}%", steps, "cycles/step")
        for device, (luts, clock) in peer.builds.items():
            figures.add(f"{name}_{peer.name}_{device}_luts", luts, "LUT4")
            if clock:
                figures.add(f"{name}_{peer.name}_{device}_clock", clock, "MHz")
                figures.add(f"{name}_{peer.name}_{device}_time_at_{AT}%", peer.cycles[AT] / clock, "µs/step")
                costs.append(peer.cost(device, AT))
                figures.add(f"{name}_{peer.name}_{device}_cost_at_{AT}%", costs[-1], "µs·kLUT")
    return min(costs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=list(DEVICES))
    parser.add_argument("--finished", action="store_true", help="report what earlier runs finished; begin nothing")
    options = parser.parse_args()
    figures = Figures("peers")
    aims = {"W2": 30, "W3": 10}
    for name in options.only:
        best = peers(figures, name)
        for weights in options.weights:
            for device in options.devices:
                try:
                    cost = measure(figures, name, weights, device, begin=not options.finished)
                except Unfinished:
                    continue
                if cost is not None:
                    aim = aims.get(name)
                    figures.add(f"{name}_{weights}_{device}_below_best_peer", best / cost, "x",
                                aim=aim and f">= {aim}", met=aim and best / cost >= aim)
    figures.write()


if __name__ == "__main__":
    main()
