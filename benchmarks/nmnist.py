"""[nmnist] The packaged CNN for N-MNIST: accuracy, and equality of torch, reference and gateware.

    make bench NAME=nmnist DATA_DIR=folder-with-the-recordings

Trains the packaged configuration in runs/nmnist_cnn first, or continues there. The gateware is the generated Verilog in
Verilator, compiled for a ULX3S: on the whole test split its scores, winners and spike counts of each layer and time
step are compared, on the first 60 recordings every spike and membrane potential.

Where the data has no folder `Test`, the test split is every 5th recording of each class by file name, which training
never sees (docs/training.md). The stored figures are of the first 1,000 recordings of the original training set: 804
to train on, and 196 of the ten digits to test.
"""

import argparse
from pathlib import Path

import numpy as np
from common import Figures
from spikeloom import data, reference
from spikeloom.compiler import compile, cost, target
from spikeloom.network import Network
from spikeloom.sim import cosim, trace
from spikeloom.training import model
from spikeloom.training.quantize import quantize
from spikeloom.training.train import train
from tqdm import tqdm

TARGET = "ulx3s-25f"
DETAILED = 60

#: Values that the traces of so many samples at a time may have.
CHUNK_VALUES = 2**23


def options(name, run):
    """The command line: the folders of the data and of the run."""
    parser = argparse.ArgumentParser(description=f"The figures of [{name}].")
    parser.add_argument("--data-dir", required=True, help="where the data is")
    parser.add_argument("--run", type=Path, default=Path("runs") / run)
    return parser.parse_args()


def trained(name, run, data_dir):
    """The integer network of a packaged configuration, trained in the folder ``run`` if need be."""
    checkpoint, path = train(name, run, data_dir=data_dir), run / "network.npz"
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        quantize(checkpoint, data_dir=data_dir).save(path)
    return Network.load(path)


def measure(figures, what, network, data_dir, folder, *, aim=None, detailed=DETAILED, in_gateware=None):
    """Note the figures of ``network`` on its test split.

    Parameters
    ----------
    what : str
        what a sample is called, in the plural
    folder : path
        where compiled simulators are kept
    aim : float, optional
        per cent that the accuracy should reach
    detailed : int
        samples of which every spike and membrane potential of the gateware is compared
    in_gateware : int, optional
        samples of which its scores and spike counts are; by default all
    """
    inputs, labels = data.samples(network.notes["data"], "test", None, data_dir)
    one = what.removesuffix("s")

    def accuracy(whose, winners):
        share = 100 * (winners == labels[:len(winners)]).mean()
        aims = aim is not None and len(winners) == len(labels)  # for all of them, not for the first few
        figures.add(f"accuracy, {whose}", share, f"% of {len(winners):,} {what}", f">= {aim}" if aims else None,
                    share >= aim if aims else None)

    figures.add("time steps", inputs.shape[1], "steps")
    figures.add("weight bits", max(branch.weight_format.width for layer in network.layers for branch in layer.branches),
                "bits (" + ", ".join(sorted({branch.weight_format.kind for layer in network.layers
                                             for branch in layer.branches})) + ")")
    figures.add("membrane bits", max(layer.v_width for layer in network.layers), "bits", "<= 6",
                max(layer.v_width for layer in network.layers) <= 6)
    figures.add("weights", network.weight_bits / 8, "bytes")
    epochs = network.notes["trained"]["epochs_float"]
    if epochs:
        figures.add(f"accuracy in floats, after the {epochs} epochs without rounding",
                    100 * network.notes["accuracy"]["float"], f"% of {len(inputs):,} {what}")

    # Torch and reference, every spike and membrane potential.
    chunk = max(1, CHUNK_VALUES // (inputs.shape[1] * sum(layer.n_out for layer in network.layers)))
    in_torch, scores, winners, counts, equal = [], [], [], [], 0
    for start in tqdm(range(0, len(inputs), chunk), desc="torch and reference"):
        x = inputs[start:start + chunk]
        want, seen = reference.run(network, x), model.run(network, x)
        equal += len(x) if trace.first_difference(network, want, seen) is None else 0
        in_torch.append(seen.winners)
        scores.append(want.scores)
        winners.append(want.winners)
        counts.append([spikes.sum(axis=2) for spikes in want.spikes])
    scores, winners = np.concatenate(scores), np.concatenate(winners)
    counts = [np.concatenate(each) for each in zip(*counts, strict=True)]
    accuracy("torch", np.concatenate(in_torch))
    accuracy("reference", winners)
    figures.add("torch equals reference, every spike and membrane", equal, what, f"{len(inputs)}", equal == len(inputs))

    # Gateware.
    program = compile.compile(network, TARGET)
    print(compile.table(program))
    x = inputs[:in_gateware]
    with tqdm(total=len(x), desc="Verilator") as bar:
        run = cosim.run(program, x, detail=False, folder=folder, progress=lambda done: bar.update(done - bar.n))
    same = (run.scores == scores[:len(x)]).all(axis=1) & (run.winners == winners[:len(x)])
    for seen, want in zip(run.spike_counts, counts, strict=True):
        same &= (seen == want[:len(x)]).all(axis=1)
    accuracy("gateware", run.winners)
    figures.add("gateware equals reference, scores and spike counts per layer and time step", int(same.sum()), what,
                f"{len(x)}", bool(same.all()))
    seen, want = cosim.run(program, inputs[:detailed], folder=folder), reference.run(network, inputs[:detailed])
    difference = trace.first_difference(network, want, seen.trace)
    print(f"gateware: {difference or 'equal'}")
    figures.add("gateware equals reference, every spike and membrane", len(want.winners) if difference is None else 0,
                what, ">= 50", difference is None and len(want.winners) >= 50)
    figures.add("membrane potentials compared", sum(m.size for m in want.membranes), "values")

    # Cycles.
    cycles, clock = int(run.finished[-1]) / len(x), target.find(TARGET).clock
    steps = cost.measure(network, inputs[:detailed], want.spikes)
    predicted, from_means = (cost.predict(program, each) / int(seen.finished[-1])
                             for each in (steps, [cost.known(network)] * len(steps)))
    figures.add(f"lanes, {TARGET}", "/".join(str(core.lanes) for core in program.cores), "of each layer")
    figures.add(f"clock cycles per {one}", cycles, "cycles")
    figures.add("predicted over simulated cycles, from the events of each time step", predicted, "ratio", "within 5 %",
                abs(predicted - 1) < 0.05)
    figures.add("the same, predicted from the mean activity of training alone", from_means, "ratio")
    figures.add(f"time per {one}, at the {clock:g} MHz expected of {TARGET}", cycles / clock, "µs")
    figures.add(f"spikes per {one}", sum(each.sum() for each in counts) / len(inputs), "spikes, of all layers")


def main():
    chosen = options("nmnist", "nmnist_cnn")
    network, figures = trained("nmnist_cnn", chosen.run, chosen.data_dir), Figures("nmnist")
    count = {split: len(data.samples(network.notes["data"], split, None, chosen.data_dir)[1])
             for split in ("train", "test")}
    figures.add("recordings to train on", count["train"], "recordings")
    figures.add("recordings to test on, never seen in training", count["test"], "recordings")
    measure(figures, "recordings", network, chosen.data_dir, chosen.run / "build/sim")
    figures.write()


if __name__ == "__main__":
    main()
