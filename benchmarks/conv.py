"""[conv] Convolutions in gateware: how busy lanes are, and how cycles follow activity; what the packaged models take.

    make bench NAME=conv

Each layer below is followed by a read-out whose inputs never fire, so that the array's rate is the layer's own. Random
spikes of each density go through the generated Verilog, and the cycles of a time step are those between the scores of
two samples. A useful operation is an addition of a weight to a neuron of the map: those that a kernel has beyond the
border are not. Layers have biases, so that every position is updated at every time step; the last has none, so that
rows at rest are skipped. The packaged models that have been trained and quantized (runs/NAME) are built, link
included, for the smallest board that holds them.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from common import Figures
from matplotlib import pyplot
from spikeloom import reference
from spikeloom.boards import build
from spikeloom.compiler import compile
from spikeloom.compiler.program import Placement, Program
from spikeloom.errors import SpikeloomError
from spikeloom.network import Conv2d, Dense, InputFormat, Network, Pool, WeightFormat
from spikeloom.sim import cosim

from boards import FOLDER

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).parent / "results" / "conv.png"

#: Name; rows, columns and channels in; channels out; kernel; stride; pool; channels at once and update units; biases.
LAYERS = (
    ("16 to 32 channels, 3 x 3, 28 x 28", (28, 28, 16), 32, 3, 1, None, 16, 16, True),
    ("16 to 32 channels, 3 x 3, 28 x 28, half the units", (28, 28, 16), 32, 3, 1, None, 16, 8, True),
    ("32 to 32 channels, 5 x 5, 14 x 14", (14, 14, 32), 32, 5, 1, None, 16, 16, True),
    ("64 to 64 channels, 3 x 3, 14 x 14, behind a max pool", (28, 28, 64), 64, 3, 1, Pool("max", 2, 2), 16, 16, True),
    ("32 to 64 channels, 3 x 3, stride 2, 28 x 28", (28, 28, 32), 64, 3, 2, None, 16, 16, True),
    ("16 to 32 channels, 3 x 3, 28 x 28, rows at rest skipped", (28, 28, 16), 32, 3, 1, None, 16, 16, False),
)
DENSITIES = (0.0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STEPS, SAMPLES, MEASURED = 4, 4, 2  # the first samples fill the pipeline

#: What "near zero" is taken to be stands last.
EFFICIENCY_AIM, FLOOR_AIM, SKIPPED_AIM = 0.85, 1.0, 0.1
MODELS = ("nmnist_cnn", "fashion_mnist_cnn")
BOARDS = ("icebreaker", "hx8k", "tang_nano_9k", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f")


def array(shape, channels, kernel, stride, pool, group, units, biased):
    """A program of the layer and of a read-out that hears nothing, for an ECP5."""
    rng, ternary = np.random.default_rng(1), WeightFormat("ternary", 2)
    layer = Conv2d(name="layer", input_shape=shape, weights=rng.integers(-1, 2, (channels, shape[2], kernel, kernel)),
                   weight_format=ternary, threshold=np.full(channels, 2**20), bias=np.arange(channels) % 2 * biased,
                   v_width=6, stride=stride, padding=kernel // 2, pool=pool)
    last = Dense("last", np.ones((2, channels), int), ternary, np.ones(2, int), np.zeros(2, int), 4,
                 input_shape=layer.shape, pool=Pool("sum", *layer.shape[:2]))
    sets = -(-kernel // stride)
    return Program(Network(InputFormat(layer.n_in, 1, shape), (layer, last), STEPS), "ulx3s-85f",
                   [Placement(sets * group, units), Placement(2, 1)])


def measured(program, density):
    """Cycles of a time step, events of the layer, and useful operations, for random spikes."""
    layer = program.network.layers[0]
    rng = np.random.default_rng(2)
    inputs = (rng.random((SAMPLES, STEPS, layer.n_in)) < density).astype(np.int64)
    run = cosim.run(program, inputs, detail=False, folder=ROOT / "build" / "sim")
    cycles = (run.finished[-1] - run.finished[-1 - MEASURED]) / (MEASURED * STEPS)
    seen = inputs[-MEASURED:]
    ones = Conv2d(name="ones", input_shape=layer.input_shape, weights=np.ones_like(layer.weights[:1]),
                  weight_format=layer.weight_format, threshold=np.ones(1, int), bias=np.zeros(1, int), v_width=2,
                  stride=layer.stride, padding=layer.padding, pool=layer.pool)
    useful = reference.currents(ones, seen).sum() * layer.shape[2] / (MEASURED * STEPS)
    kept = reference.pool(layer, seen).sum() / (MEASURED * STEPS)
    return float(cycles), float(kept), float(useful)


def sweep(figures, axes, name, *layer):
    """Cycles against density for one of `LAYERS`."""
    program = array(*layer)
    core = program.cores[0]
    points = np.array([(density, *measured(program, density)) for density in DENSITIES])
    density, cycles, events, useful = points.T
    floor = cycles[0] / (core.positions * core.groups)
    busy = density >= 0.05
    slope = np.polyfit(events[busy], cycles[busy], 1)[0]
    efficiency = useful / (core.lanes * cycles)
    at_five = float(efficiency[density == 0.05][0])
    figures.add(f"{name}: lanes", core.lanes, f"lanes, {core.units} update units, {core.groups} groups")
    figures.add(f"{name}: useful additions per lane and cycle at 5 % activity", at_five, "", f">= {EFFICIENCY_AIM}",
                at_five >= EFFICIENCY_AIM)
    worst = float(efficiency[busy].min())
    figures.add(f"{name}: the least of it from 5 to 50 %", worst, "", f">= {EFFICIENCY_AIM}", worst >= EFFICIENCY_AIM)
    # Fewer units take longer for a position, whatever comes.
    aim = SKIPPED_AIM if core.skips else FLOOR_AIM if core.units == core.group else None
    figures.add(f"{name}: floor, at no activity", floor, "cycles per position and group",
                aim and f"<= {aim:g}", aim and floor <= aim)
    figures.add(f"{name}: slope, from 5 % on", slope, "cycles per event")
    figures.add(f"{name}: what each event must take", core.layer.kernel / core.layer.stride * core.groups,
                "cycles: rows that see it, times groups")
    axes.plot(100 * density[1:], cycles[1:] / (core.positions * core.groups), marker="o", markersize=3, label=name)
    print(f"{name}: " + ", ".join(f"{100 * d:g} %: {c:.0f} cycles" for d, c in zip(density, cycles, strict=True)),
          flush=True)


def model(figures, name):
    """A packaged model on the smallest board that holds it."""
    path = ROOT / "runs" / name / "network.npz"
    if not path.is_file():
        print(f"{name}: not trained and quantized, so not routed", flush=True)
        return
    network = Network.load(path)
    for board in BOARDS:
        try:
            program = compile.compile(network, board)
            report = build(program, board, FOLDER / f"{board}-{name}", progress=print)
        except SpikeloomError as error:
            print(f"{name}: {error}", flush=True)
            continue
        figures.add(f"{name}: smallest board", program.notes["cycles_per_sample"], f"cycles per sample on {board}")
        figures.add(f"{name} on {board}: LUTs", report.luts,
                    f"{report.logic_used} of {report.logic_available} logic cells")
        figures.add(f"{name} on {board}: block RAMs", report.blocks_used, f"of {report.blocks_available}")
        figures.add(f"{name} on {board}: clock", report.target_clock,
                    f"MHz, {report.clock_source}, routed for {report.clock:g}")
        return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    parser.parse_args()
    figures = Figures("conv")
    picture, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for layer in LAYERS:
        sweep(figures, axes, *layer)
    axes.set(xscale="log", yscale="log", xlabel="input spikes, % of all", ylabel="cycles per position and group")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    for name in MODELS:
        model(figures, name)
    figures.write()
    picture.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
