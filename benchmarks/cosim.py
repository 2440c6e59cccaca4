"""[cosim] How fast the generated Verilog runs under cocotb, in clock cycles per second of wall time.

    make bench NAME=cosim

784-128-10 with random ternary weights at 13 % input density, as compiled for a ULX3S: in Verilator with spike counts
written down, with every spike and membrane potential written down, and, for scale, in Amaranth's simulator, which
calls Python at each clock edge.
"""

import time
from itertools import pairwise

import numpy as np
from common import Figures
from spikeloom import reference
from spikeloom.compiler import compile
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim import cosim, pysim, trace

SIZES, STEPS, DENSITY = (784, 128, 10), 8, 0.13
REPEATS = 3


def network():
    rng = np.random.default_rng(0)
    layers = tuple(Dense(f"layer_{number}", rng.integers(-1, 2, (n_out, n_in)), WeightFormat("ternary", 2),
                         rng.integers(6, 12, n_out), rng.integers(-2, 3, n_out), 6, ShiftLeak(3))
                   for number, (n_in, n_out) in enumerate(pairwise(SIZES)))
    return Network(InputFormat(SIZES[0]), layers, STEPS)


def main():
    figures, net = Figures("cosim"), network()
    inputs = (np.random.default_rng(1).random((1000, STEPS, SIZES[0])) < DENSITY).astype(np.int64)
    program = compile.compile(net, "ulx3s-25f", activity=[DENSITY * SIZES[0], 20])
    started = time.perf_counter()
    cosim.run(program, inputs[:1])
    figures.add("Verilog generated, compiled and one sample run", time.perf_counter() - started,
                "s (less when kept from before)")
    rates = {}
    for detail in (False, True):
        runs = [cosim.run(program, inputs, detail=detail) for _ in range(REPEATS)]
        rates[detail] = np.median([run.cycles / run.seconds for run in runs])
        what = "every spike and membrane" if detail else "spike counts per layer and time step"
        figures.add(f"Verilator, {what}", rates[detail], "cycles/s")
        figures.add(f"Verilator, {what}", rates[detail] * len(inputs) / runs[0].cycles, "samples/s")
    difference = trace.first_difference(net, reference.run(net, inputs), runs[-1].trace)
    figures.add("samples equal to the reference", len(inputs) if difference is None else 0, "samples", f"{len(inputs)}",
                difference is None)
    started = time.perf_counter()
    _, cycles = pysim.run(program, inputs[:1])
    slow = cycles / (time.perf_counter() - started)
    figures.add("Amaranth's simulator", slow, "cycles/s")
    figures.add("Verilator over Amaranth's simulator", rates[True] / slow, "ratio")
    figures.write()


if __name__ == "__main__":
    main()
