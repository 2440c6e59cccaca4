"""[mnist] 784-128-10 on the whole test set: accuracy, and equality of torch, reference and gateware.

    make bench NAME=mnist DATA_DIR=folder-with-the-IDX-files

Trains the packaged configuration in runs/mnist first, or continues there. The gateware is the generated Verilog in
Verilator: on all 10,000 images its scores, winners and spike counts of each layer and time step are compared, on the
first 500 every spike and membrane potential. The clock and the LUTs are those of a routed bitstream for a ULX3S.

The stored figures were trained on a copy of the training images restored to within one grey level of the originals; its
test images and labels are the originals.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from common import Figures
from spikeloom import data, reference
from spikeloom.boards import build
from spikeloom.compiler import compile, cost
from spikeloom.network import Network
from spikeloom.sim import cosim, trace
from spikeloom.training import model
from spikeloom.training.quantize import quantize
from spikeloom.training.train import train
from tqdm import tqdm

TARGET = "ulx3s-25f"
DETAILED = 500
CHUNK = 1000

#: Spiker+ on the same network shape (arXiv 2401.01141): microseconds per image and thousands of LUTs.
PUBLISHED = 780 * 7.612


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True, help="where the MNIST IDX files are")
    parser.add_argument("--run", type=Path, default=Path("runs/mnist"))
    options = parser.parse_args()

    checkpoint = train("mnist", options.run, data_dir=options.data_dir)
    path = options.run / "network.npz"
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        quantize(checkpoint, data_dir=options.data_dir).save(path)
    network = Network.load(path)
    inputs, labels = data.samples(network.notes["data"], "test", None, options.data_dir)
    figures = Figures("mnist")
    figures.add("test images", len(inputs), "images")
    figures.add("time steps", inputs.shape[1], "steps", "<= 8", inputs.shape[1] <= 8)
    figures.add("weight bits", network.layers[0].weight_format.width, "bits (ternary)")
    figures.add("membrane bits", max(layer.v_width for layer in network.layers), "bits", "<= 6",
                max(layer.v_width for layer in network.layers) <= 6)
    figures.add("weights", network.weight_bits / 8, "bytes")
    if network.notes["accuracy"]["float"] is not None:
        figures.add("accuracy, float", 100 * network.notes["accuracy"]["float"], "%")

    # Torch and reference, every spike and membrane potential.
    expected, equal, right = [], 0, 0
    for start in tqdm(range(0, len(inputs), CHUNK), desc="torch and reference"):
        x = inputs[start: start + CHUNK]
        want, seen = reference.run(network, x), model.run(network, x)
        equal += len(x) if trace.first_difference(network, want, seen) is None else 0
        right += int((seen.winners == labels[start: start + CHUNK]).sum())
        expected.append((want.scores, want.winners, [spikes.sum(axis=2) for spikes in want.spikes]))
    scores, winners = (np.concatenate([chunk[n] for chunk in expected]) for n in range(2))
    counts = [np.concatenate([chunk[2][n] for chunk in expected]) for n in range(len(network.layers))]
    accuracy = 100 * (winners == labels).mean()
    figures.add("accuracy, torch-integer", 100 * right / len(labels), "%", ">= 97.5", 100 * right / len(labels) >= 97.5)
    figures.add("accuracy, reference", accuracy, "%", ">= 97.5", accuracy >= 97.5)
    figures.add("torch equals reference, all spikes and membranes", equal, "images", f"{len(inputs)}",
                equal == len(inputs))

    # Gateware.
    program = compile.compile(network, TARGET)
    print(compile.table(program))
    with tqdm(total=len(inputs), desc="Verilator") as bar:
        run = cosim.run(program, inputs, detail=False, folder=options.run / "build/sim",
                        progress=lambda done: bar.update(done - bar.n))
    same = (run.scores == scores).all(axis=1) & (run.winners == winners)
    for seen, want in zip(run.spike_counts, counts, strict=True):
        same &= (seen == want).all(axis=1)
    figures.add("accuracy, gateware", 100 * (run.winners == labels).mean(), "%", ">= 97.5",
                (run.winners == labels).mean() >= 0.975)
    figures.add("gateware equals reference, scores and spike counts per layer and time step", int(same.sum()), "images",
                f"{len(inputs)}", bool(same.all()))
    detailed = cosim.run(program, inputs[:DETAILED], folder=options.run / "build/sim")
    want = reference.run(network, inputs[:DETAILED])
    difference = trace.first_difference(network, want, detailed.trace)
    figures.add("gateware equals reference, every spike and membrane", DETAILED if difference is None else 0, "images",
                ">= 200", difference is None)
    figures.add("membrane potentials compared", sum(m.size for m in want.membranes), "values")

    # Cycles.
    cycles = int(run.finished[-1])
    events = np.stack([(inputs != 0).sum(axis=2), *counts[:-1]], axis=2).reshape(-1, len(network.layers))
    steps = [[cost.Activity(each) for each in step] for step in events]
    predicted = cost.predict(program, steps)
    figures.add("clock cycles per image", cycles / len(inputs), "cycles")
    figures.add("predicted over simulated cycles, from the events of each time step", predicted / cycles, "ratio",
                "within 5 %", abs(predicted / cycles - 1) < 0.05)
    from_means = cost.predict(program, [cost.known(network)] * len(steps))
    figures.add("the same, predicted from the mean activity of training alone", from_means / cycles, "ratio",
                "within 5 %", abs(from_means / cycles - 1) < 0.05)
    slowest = max(range(len(network.layers)), key=lambda n: cost.step_cycles(program.cores[n], cost.mean(steps)[n]))
    core = program.cores[slowest]
    efficiency = events[:, slowest].sum() * core.layer.n_out / (core.lanes * cycles)
    figures.add(f"core efficiency at {events[:, slowest].mean():.1f} events per time step, {core.lanes} lanes",
                efficiency, "synaptic operations per lane and cycle", ">= 0.90", efficiency >= 0.90)

    # Area and time.
    started = time.perf_counter()
    report = build(program, TARGET, options.run / f"build-{TARGET}")
    print(f"built in {time.perf_counter() - started:.0f} s")
    microseconds = cycles / len(inputs) / report.clock
    figures.add(f"clock, {TARGET}", report.clock, "MHz")
    figures.add(f"logic cells, {TARGET}, UART included", report.logic_used, "LUTs")
    figures.add("time per image", microseconds, "µs")
    product = microseconds * report.logic_used / 1000
    figures.add("time x area per image", product, "µs x kLUT")
    figures.add("published 780 µs x 7.6 kLUT over ours", PUBLISHED / product, "ratio", ">= 100",
                PUBLISHED / product >= 100)
    figures.write()


if __name__ == "__main__":
    main()
