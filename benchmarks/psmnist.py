"""[psmnist] Permuted sequential MNIST, 784 time steps of one pixel: a Legendre memory unit, the same with memory and
neurons that spike, a GRU and an LSTM.

    make bench NAME=psmnist DATA_DIR=folder-with-the-IDX-files

trains psmnist_hybrid, psmnist_lmu, psmnist_gru and psmnist_lstm (sw/configs) in runs/psmnist, for as many epochs each,
and goes on where an earlier call was stopped. With --partial nothing is trained: the figures are those of the runs as
they are, and say how many of their epochs are done. --only NAME trains one of them, --seconds stops after so long.

Accuracy is that of the 10,000 test images after the last epoch, whichever that is; learning rates and ω of the LMUs,
not those of GRU and LSTM, were chosen by a few trainings that looked at these images. Bits are by the definitions of
spikeloom.report.counts, of what memory and neurons send at all 784 time steps of the first 1,000 test images. The
memory itself, which meets nothing but its own constant matrix, is not rounded.
"""

import argparse
import signal
from pathlib import Path

import numpy as np
import torch
from common import Figures
from spikeloom import data
from spikeloom.report import counts as meters
from spikeloom.training import train

RUNS = Path(__file__).parents[1] / "runs" / "psmnist"
NAMES = ("hybrid", "lmu", "gru", "lstm")
SHOWN = {"hybrid": "hybrid-spiking LMU", "lmu": "LMU", "gru": "GRU", "lstm": "LSTM"}
COUNTED, BATCH = 1000, 50
NRU, BITS, SIGNIFICANT = 95.38, 3.74, 1.26


def run(name):
    return RUNS / name / train.CHECKPOINT


def built(state):
    """The model of a checkpoint, to be looked at."""
    model = state.config.build()
    model.load_state_dict(state.model)
    return model.eval()


def counted(model, config, images):
    """`meters.Counts` of the memory and of the neurons of the network's first layer."""
    layer, classes = model.layers[0], model.layers[1].shape[2]
    found = {"memory": meters.Counts(layer.order, layer.shape[2]), "hidden": meters.Counts(layer.shape[2], classes)}
    with torch.no_grad():
        for first in range(0, len(images), BATCH):
            x = config.encoder(torch.from_numpy(images[first:first + BATCH])).transpose(0, 1).float()
            for what, sent in zip(("hidden", "memory"), layer(x, record=True), strict=True):
                omega = layer.quantizers[what].omega
                found[what].add((sent.double() * omega).round().numpy())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="where the IDX files of MNIST are")
    parser.add_argument("--only", choices=NAMES, help="train this one, and measure nothing")
    parser.add_argument("--seconds", type=int, help="stop training after so long; what was done is kept")
    parser.add_argument("--partial", action="store_true", help="train nothing: figures of the runs as they are")
    options = parser.parse_args()
    if options.seconds:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.alarm(options.seconds)
    if not options.partial:
        for name in [options.only] if options.only else NAMES:
            train.train(f"psmnist_{name}", RUNS / name, data_dir=options.data_dir, device="cpu")
    signal.alarm(0)
    if options.only:
        return

    figures = Figures("psmnist")
    images, labels = data.load("mnist", "test", options.data_dir)
    accuracies = {}
    for name in NAMES:
        if not run(name).exists():
            continue
        state = train.load(run(name))
        model, training = built(state), state.config.training
        accuracies[name] = 100 * (state.accuracy if state.finished else
                                  train.measured(state.config, model, images, labels, quantized=False))
        aim = {"hybrid": (f"> {NRU} (NRU)", accuracies[name] > NRU)}.get(name, (None, None))
        figures.add(f"{SHOWN[name]}: accuracy", accuracies[name], "% of 10,000 test images", *aim)
        figures.add(f"{SHOWN[name]}: epochs done", state.epoch + state.step * training.batch / 60000,
                    f"of {training.epochs}, of 60,000 images")
        figures.add(f"{SHOWN[name]}: parameters learnt", sum(each.numel() for each in model.parameters()), "")
        if name != "hybrid":
            continue
        found = counted(model, state.config, images[:COUNTED])
        for what, shown in (("memory", "of memory"), ("hidden", "of neurons")):
            each = meters.bits([found[what]])
            figures.add(f"{SHOWN[name]}: ω {shown}", model.layers[0].quantizers[what].omega.item(), "spikes")
            figures.add(f"{SHOWN[name]}: activity bits {shown}, levels", each.levels, "log2 of a neuron's counts")
            figures.add(f"{SHOWN[name]}: activity bits {shown}, entropy", each.entropy, "of a neuron's counts")
        both = meters.bits(found.values())
        figures.add(f"{SHOWN[name]}: activity bits, levels", both.levels, "mean of all neurons", f"<= {BITS}",
                    both.levels <= BITS)
        figures.add(f"{SHOWN[name]}: activity bits, entropy", both.entropy, "mean of all neurons", f"<= {BITS}",
                    both.entropy <= BITS)
        figures.add(f"{SHOWN[name]}: significant bits per weight multiply", both.significant, "of counts but 0",
                    f"<= {SIGNIFICANT}", both.significant <= SIGNIFICANT)
        figures.add(f"{SHOWN[name]}: significant bits per weight multiply", both.significant_of_all, "of all counts",
                    f"<= {SIGNIFICANT}", both.significant_of_all <= SIGNIFICANT)
        figures.add(f"{SHOWN[name]}: spikes of a neuron in a time step", both.rate, "")
        figures.add(f"{SHOWN[name]}: counts that are zero", 100 * both.sparsity, "%")
        figures.add(f"{SHOWN[name]}: multiplications of the unrounded memory with Ā", model.layers[0].order**2,
                    "in a time step, left out above and below")
        for device in meters.DEVICES:
            figures.add(f"{SHOWN[name]}: modelled energy, {device}",
                        1e6 * meters.energy(found.values(), device) / COUNTED, "µJ an image")
    figures.add("training images", "restored", "copies within 1 grey level of the originals; test images are originals")
    figures.add("order of pixels", int(np.random.RandomState(1).permutation(784)[0]),
                "comes first: RandomState(1).permutation(784), not the NRU's")
    figures.write()


if __name__ == "__main__":
    main()
