"""[membrane-bits] Bits of stored membrane potentials: accuracy, logic, memory and clock of four ways to save them.

    make bench NAME=membrane-bits DATA_DIR=folder-with-the-IDX-files

One network for Fashion-MNIST (membrane-bits.toml), trained in floats once; from there two epochs for each:

- saturating: integers of so many bits
- levels (SpQuant-SNN): from -2 thresholds to the threshold, in steps of the threshold / 2^(bits - 2); ternary: -1, 0, 1
- shared (MINT): integers of so many bits, as many below zero as above, in steps of the weights; ternary with 2 bits
- tanh (Q-SNNs): tanh of the potential over the layer's median threshold; ternary with 2 bits

Each ends in an integer network, of which PyTorch and reference are held equal on the first 200 test images, and
gateware (Verilog in Verilator) on the first 10: every spike and membrane potential. Then the core of its first layer,
which has two thirds of the potentials, is synthesized, placed and routed for an iCE40 HX8K; all have the same lanes and
update units. Saturation at 16 bits stands for 32: no
potential of a test image saturates there. Left out are ternary potentials that saturate, as two bits have four, and
levels and tanh with more steps up to a threshold than there are integers, as potentials are.

What is done in runs/membrane-bits and build/ is not done again.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from common import RESULTS, Figures
from matplotlib import pyplot
from silicon import implement, kept
from spikeloom import data, reference
from spikeloom.compiler import compile
from spikeloom.compiler.program import Placement
from spikeloom.errors import SpikeloomError
from spikeloom.hw.array import Array
from spikeloom.hw.map_core import MapCore
from spikeloom.hw.verilog import convert
from spikeloom.network import Network
from spikeloom.sim import backend
from spikeloom.training import config as configuration
from spikeloom.training.membranes import Levels, Shared, Tanh
from spikeloom.training.quantize import quantize
from spikeloom.training.train import load as load_checkpoint
from spikeloom.training.train import train

ROOT = Path(__file__).parents[1]
CONFIG = Path(__file__).with_suffix(".toml")
RUNS = ROOT / "runs" / "membrane-bits"
PICTURE = RESULTS / "membrane-bits.png"
FLOAT_EPOCHS, WIDEST = 8, 16
IN_TORCH, IN_GATEWARE = 200, 10
TARGET = "hx8k"
SEEDS = range(1, 4)
SEEDS = (1,)
PLACEMENTS = [Placement(12, 2), Placement(6, 1), Placement(2, 1)]
WIDTHS = (8, 6, 4, 3, 2)
TERNARY = math.log2(3)  # bits
COLORS = {"saturating": "#1f77b4", "levels": "#d62728", "shared": "#2ca02c", "tanh": "#9467bd"}


def ways(medians):
    """By name and bits, how layers with these ``medians`` of thresholds differ from the configuration's."""
    def alike(**fields):
        return [fields] * len(medians)

    found = {("saturating", width): alike(v_width=width) for width in (WIDEST, *WIDTHS)}
    found["levels", TERNARY] = alike(membrane=Levels(-1, 1))
    for width in WIDTHS:
        shift, bits = width - 2, TERNARY if width == 2 else width
        if 1 << shift <= min(medians):
            found["levels", width] = alike(membrane=Levels(-2 << shift, 1 << shift, shift=shift))
        found["shared", bits] = alike(membrane=Shared(width))
        if 2 ** (width - 1) <= min(medians):
            found["tanh", bits] = [{"membrane": Tanh(width, median)} for median in medians]
    return found


def shown(way, bits):
    return f"{way}, {'ternary' if bits == TERNARY else f'{bits} bits'}"


def trained(config, run, data_dir, start=None):
    """The checkpoint of a run that is done, or done now, and its integer network."""
    checkpoint, path = train(config, run, data_dir=data_dir, device="cpu", start=start), run / "network.npz"
    if not path.exists():
        quantize(checkpoint, data_dir=data_dir, device="cpu").save(path)
    return load_checkpoint(checkpoint), Network.load(path)


def begun(data_dir):
    """The run that all others start from: trained in floats, and rounded for the one epoch that there has to be."""
    config = configuration.load(CONFIG)
    config = replace(config, layers=tuple(replace(layer, v_width=WIDEST) for layer in config.layers),
                     training=replace(config.training, epochs_float=FLOAT_EPOCHS, epochs_quantized=1))
    return trained(config, RUNS / "start", data_dir)


def verified(program, inputs, folder):
    """Hold PyTorch and gateware to the reference; raises `SpikeloomError` at the first difference."""
    def work():
        for what, of, samples in (("torch", program.network, IN_TORCH), ("verilator", program, IN_GATEWARE)):
            seen = backend.verify(of, inputs[:samples], what, **({"folder": folder} if of is program else {}))
            if seen.difference is not None:
                raise SpikeloomError(f"{what} differs from the reference: {seen.difference}")
        return {"cycles": seen.cycles / IN_GATEWARE}

    return kept([program.digest, convert(Array(program), "top")], "verified", work)


def picture(points):
    """Each figure over the bits of a potential, a line for each way."""
    drawn, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axis, (name, what) in zip(axes.flat, {
            "accuracy": "% of the test images", "memory": "bits of membrane memory",
            "logic": "cells of the first layer's core", "clock": "MHz"}.items(), strict=True):
        for way, color in COLORS.items():
            line = sorted((bits, point[name]) for (each, bits), point in points.items() if each == way)
            axis.plot(*zip(*line, strict=True), marker="o", markersize=4, color=color, label=way)
        axis.set(xscale="log", xlabel="bits of a potential", ylabel=what)
        axis.set_xticks([TERNARY, *reversed(WIDTHS), WIDEST], ["ternary", *map(str, reversed(WIDTHS)), str(WIDEST)])
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.grid(alpha=0.3)
    axes[0, 0].legend(frameon=False)
    drawn.savefig(PICTURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="where the IDX files of Fashion-MNIST are")
    data_dir = parser.parse_args().data_dir
    started, network = begun(data_dir)
    medians = [int(np.median(layer.threshold)) for layer in network.layers]
    config, networks, points = configuration.load(CONFIG), {}, {}
    for (way, bits), fields in ways(medians).items():
        layers = tuple(replace(layer, **each) for layer, each in zip(config.layers, fields, strict=True))
        run = RUNS / shown(way, bits).replace(", ", "-").replace(" ", "-")
        state, networks[way, bits] = trained(replace(config, layers=layers), run, data_dir,
                                             RUNS / "start" / "checkpoint.pt")
        points[way, bits] = {"accuracy": 100 * state.accuracy}
        print(f"{shown(way, bits)}: {state.accuracy:.2%}", flush=True)

    figures = Figures("membrane-bits")
    inputs, _ = data.samples(network.notes["data"], "test", IN_TORCH, data_dir)
    widest = reference.run(networks["saturating", WIDEST], inputs)
    reach = max(int(np.abs(membranes).max()) for membranes in widest.membranes)
    figures.add("accuracy in floats, potentials of 32 bits", 100 * started.accuracy_float, "% of the test images")
    figures.add(f"largest potential that {WIDEST} bits store", reach, "", f"< {2 ** (WIDEST - 1) - 1}",
                reach < 2 ** (WIDEST - 1) - 1)
    figures.add("median thresholds at the start", "/".join(map(str, medians)), "of each layer")
    for (way, bits), point in points.items():
        program = compile.compile(networks[way, bits], TARGET, placements=PLACEMENTS)
        point |= verified(program, inputs, RUNS / "sim")
        made = implement(MapCore(program.cores[0]), TARGET, SEEDS)
        stored = sum(entries * width for core in program.cores for name, (entries, width) in core.memories.items()
                     if name == "membranes")
        point |= {"memory": stored, "logic": made.logic, "blocks": made.blocks, "clock": made.clock,
                  "estimated": program.notes["layers"][0]["luts"]}
        for name, unit in (("accuracy", "% of 10,000 test images"), ("memory", "bits of membrane memory"),
                           ("logic", "cells"), ("estimated", "cells, estimated"), ("blocks", "block RAMs"),
                           ("clock", "MHz"), ("cycles", "cycles an image")):
            figures.add(f"{shown(way, bits)}: {name}", point[name], unit)
    figures.add("every spike and membrane potential equal: PyTorch, gateware", f"{IN_TORCH}, {IN_GATEWARE}",
                f"images of each of {len(points)} networks")
    picture(points)
    figures.write()


if __name__ == "__main__":
    main()
