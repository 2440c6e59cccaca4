"""[spquant] SpQuant-SNN's steps on the data sets that are there: a network of 32 bits; with ternary weights and
membranes; with gates besides; and without the channels that these left open least.

    make bench NAME=spquant DATA_DIR=folder-with-the-data

Each data set of `STEPS` that is found in the folder is trained on: the packaged configuration NAME_spquant, whose phase
in floats is the baseline; from there on with gates; and from there on, for all samples alike, without the channels that
the gates left open least and without gates. Runs are kept in runs/spquant and go on where they stopped. Hasssan, Meng,
Anupreetham, Seo, Front. Neurosci. 18:1440000: up to 13 times less memory, more than 4.7 times fewer FLOPs, less than
1.8 points of accuracy.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from common import Figures
from spikeloom import data
from spikeloom.compiler.compile import compile
from spikeloom.errors import SpikeloomError
from spikeloom.report import meters
from spikeloom.sim import backend
from spikeloom.training import config as configuration
from spikeloom.training import model, train
from spikeloom.training.pruning import Channels, Pruning
from spikeloom.training.quantize import quantize
from spikeloom.training.quantizers import Ternary

FOLDER = Path("runs") / "spquant"

#: Aims: at least so many times less, and at most so many points lost.
MEMORY, FLOPS, LOST = 12, 4.7, 1.8

#: Of the loss by which gates come to their share.
STRENGTH = 10.0

TARGET = "ulx3s-85f"

#: Test samples on which FLOPs are measured, and the gateware of the last step is held to the golden model.
MEASURED, HELD = 500, 5


@dataclass(frozen=True)
class Steps:
    """What is done with a data set beyond its configuration: how much of the channels gates are to leave open, how much
    of the channels is pruned then, and for how many epochs each of the two steps is trained."""

    open: float
    pruned: float
    gated_epochs: int
    pruned_epochs: int


STEPS = {"fashion_mnist": Steps(0.7, 0.57, 3, 10), "nmnist": Steps(0.7, 0.6, 60, 100),
         "cifar10": Steps(0.5, 0.6, 30, 60), "cifar10dvs": Steps(0.5, 0.6, 30, 60)}
CONFIGS = {"fashion_mnist": "fashion_mnist_spquant", "nmnist": "nmnist_spquant", "cifar10": "resnet19_spquant",
           "cifar10dvs": "vgg9_spquant"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--only", choices=STEPS, nargs="*", help="data sets; by default all that are there")
    arguments = parser.parse_args()
    figures = Figures("spquant")
    for name in arguments.only or STEPS:
        if not arguments.only and not is_there(name, arguments.data_dir):
            print(f"{name}: not in {arguments.data_dir}")
            continue
        measure(figures, name, arguments.data_dir)
    figures.write()


def is_there(name, data_dir):
    """Whether the data set can be read; what is read of recordings of events is kept in the user's cache."""
    try:
        data.load(name, "test", data_dir, configuration.load(CONFIGS[name]).encoder, 1)
    except SpikeloomError:
        return False
    return True


def measure(figures, name, data_dir):
    dense, gated, pruned = trained(name, data_dir)
    baseline = 100 * train.load(dense).accuracy_float
    figures.add(f"{name}, 32 bits: accuracy", baseline, "%")
    networks = [quantize(checkpoint, data_dir=data_dir) for checkpoint in (dense, gated, pruned)]
    memory = meters.memory(networks[0])
    bits = sum(each.baseline_bits for each in memory)
    figures.add(f"{name}, 32 bits: weights, membranes", " + ".join(meters.size(meters.BASELINE_BITS * sum(
        getattr(each, what) for each in memory)) for what in ("weights", "membranes")), "")
    whole = None
    for what, network in zip(("ternary", "with gates", "pruned"), networks, strict=True):
        accuracy = 100 * network.notes["accuracy"]["torch"]
        figures.add(f"{name}, {what}: accuracy", accuracy, "%", *lost(baseline, accuracy))
        memory = meters.memory(network)
        times = bits / sum(each.bits for each in memory)
        figures.add(f"{name}, {what}: memory", times, f"times less, {meters.size(sum(each.bits for each in memory))}",
                    f">= {MEMORY}", times >= MEMORY)
        inputs = data.samples(network.notes["data"], "test", data_dir=data_dir)[0][:MEASURED]
        seen = meters.activity(network, inputs, model.run(network, inputs))
        flops = meters.flops(network, seen)
        whole = whole or flops
        if what != "ternary":
            left = 1 - meters.reduction(flops, whole)
            aim = (f">= {FLOPS}", 1 / left >= FLOPS) if what == "pruned" else ()
            figures.add(f"{name}, {what}: FLOPs", 1 / left, "times fewer, gates counted", *aim)
        if what == "with gates":
            figures.add(f"{name}, {what}: open channels", ", ".join(f"{each.open:.0%}" for each in seen), "by layer")
            for gate in ("auto", "always"):
                in_gateware(figures, f"{name}, {what}, gates {gate}", network, inputs[:HELD], gate)
        else:
            in_gateware(figures, f"{name}, {what}", network, inputs[:HELD], "auto")


def lost(baseline, accuracy):
    return f"<= {LOST} points lost", baseline - accuracy <= LOST


def trained(name, data_dir):
    """The checkpoints of the three steps."""
    steps, dense = STEPS[name], configuration.load(CONFIGS[name])

    def trained_for(epochs, **changes):
        return dataclasses.replace(dense, **changes, training=dataclasses.replace(
            dense.training, epochs_float=0, epochs_quantized=epochs))

    gate = configuration.ChannelGate(predictor="mean", weights=Ternary(), share=steps.open, strength=STRENGTH)
    layers = tuple(dataclasses.replace(layer, gate=gate) if isinstance(layer, configuration.ConvLayer) else layer
                   for layer in dense.layers)
    gated = trained_for(steps.gated_epochs, layers=layers)
    pruned = trained_for(steps.pruned_epochs, pruning=Pruning(steps.pruned, "layer", Channels("gates")))
    checkpoint = None
    for what, config in (("ternary", dense), ("gated", gated), ("pruned", pruned)):
        checkpoint = train.train(config, FOLDER / name / what, data_dir=data_dir, start=checkpoint)
        yield checkpoint


def in_gateware(figures, what, network, inputs, gates):
    """Compile a network, and hold the gateware to the golden model on some samples."""
    try:
        program = compile(network, TARGET, gates=gates)
    except SpikeloomError as error:
        figures.add(f"{what}: gateware", f"none: {error}", "")
        return
    seen = backend.verify(program, inputs, "verilator", folder=FOLDER / "simulators")
    if seen.difference:
        raise SystemExit(f"{what}: {seen.difference}")
    figures.add(f"{what}: cycles", seen.cycles / len(inputs),
                f"a sample; {len(inputs)} equal to the golden model, every spike and membrane")


if __name__ == "__main__":
    main()
