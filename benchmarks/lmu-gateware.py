"""[lmu-gateware] A hybrid-spiking Legendre memory unit on a ULX3S-85F: every graded spike of whole sequences.

    make bench NAME=lmu-gateware DATA_DIR=folder-with-the-IDX-files

Memory and neurons of an LMU for permuted sequential MNIST, 784 time steps, are integer layers that feed back: the
Legendre matrix and its input as weights, quantizers as graded spikes whose membranes are what is left, tanh as a table.
The network is that of runs/lmu-gateware/checkpoint.pt, where `spikeloom train benchmarks/lmu-gateware.toml` has
finished one; else weights are those that training begins with, which the figures say. It is compiled for the board,
ten images go through the generated Verilog, and all counts and membranes of all layers and time steps are compared with
the golden model. With --build it is placed and routed too, link included.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from common import Figures
from spikeloom import data, reference
from spikeloom.boards import build
from spikeloom.compiler import compile, cost
from spikeloom.network import GradedSpike, Network
from spikeloom.sim import cosim, trace
from spikeloom.training import config, quantize

FOLDER, FILE = Path(__file__).parents[1] / "runs" / "lmu-gateware", Path(__file__).with_suffix(".toml")
BOARD, SEQUENCES = "ulx3s-85f", 10


def made(data_dir):
    """The network, and what its weights are."""
    checkpoint = FOLDER / "checkpoint.pt"
    if checkpoint.is_file():
        return quantize.quantize(checkpoint, data_dir=data_dir), "trained"
    chosen = config.load(FILE)
    network = chosen.build().to_network({"data": {"dataset": chosen.data.dataset,
                                                  "encoder": config.describe(chosen.encoder)}})
    return network, "as drawn, untrained"


def noted(network, inputs, expected):
    """The network with the activity that these inputs make."""
    mean = cost.mean(cost.measure(network, inputs, expected.spikes))
    branches = [[each.events] if each.branches is None else each.branches.tolist() for each in mean]
    return dataclasses.replace(network, notes=network.notes | cost.notes(mean) | {
        "events": [own for own, *_ in branches], "events_branches": [others for _, *others in branches]})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="where the IDX files of MNIST are")
    parser.add_argument("--network", type=Path, help="this one instead")
    parser.add_argument("--build", action="store_true", help="place and route it for the board")
    options = parser.parse_args()

    figures = Figures("lmu-gateware")
    network, weights = (Network.load(options.network), str(options.network)) if options.network else made(
        options.data_dir)
    inputs, _ = data.samples(network.notes["data"], "test", SEQUENCES, options.data_dir)
    expected = reference.run(network, inputs)
    program = compile.compile(noted(network, inputs[:2], expected_of(expected, 2)), BOARD)
    print(compile.table(program), flush=True)
    memory, hidden = network.layers[0], network.layers[1]
    figures.add("order of the memory, neurons", f"{memory.n_out}, {hidden.n_out}", f"weights {weights}")
    figures.add("bits of all weights", network.weight_bits, "bits")

    run = cosim.run(program, inputs, folder=FOLDER / "sim")
    difference = trace.first_difference(network, expected, run.trace)
    print(difference or "gateware equals the reference", flush=True)
    steps = inputs.shape[1]
    figures.add("sequences whose every count and membrane is equal", 0 if difference else len(inputs),
                f"of {len(inputs)} of {steps} time steps", f">= {SEQUENCES}", difference is None)
    figures.add("counts compared", sum(z.size for z in expected.spikes), "")
    cycles = run.cycles / len(inputs) / steps
    figures.add("cycles of a time step", cycles, "mean of all")
    figures.add("cycles of a time step, predicted", cost.predict(
        program, cost.measure(network, inputs, expected.spikes)) / len(inputs) / steps, "from the same events")
    for layer, z in zip(network.layers, expected.spikes, strict=True):
        if isinstance(layer.fire, GradedSpike):
            figures.add(f"{layer.name}: significant bits of a count", float(np.bitwise_count(np.abs(z)).mean()),
                        "mean, so visits of a neuron in a time step")
    if options.build:
        report = build(program, BOARD, FOLDER / BOARD, progress=print)
        figures.add("LUTs", report.luts, f"{report.logic_used} of {report.logic_available} logic cells")
        figures.add("block RAMs", report.blocks_used, f"of {report.blocks_available}")
        figures.add("clock", report.target_clock, f"MHz, {report.clock_source}, routed for {report.clock:g}")
        figures.add("a sequence", 1000 * cycles * steps / (report.target_clock * 1e6), "ms")
    figures.write()


def expected_of(expected, count):
    """The first samples of a trace."""
    return dataclasses.replace(expected, spikes=[z[:count] for z in expected.spikes])


if __name__ == "__main__":
    main()
