"""[weight-skip] Words of weights that are all zero, neither stored nor visited: cycles and memory against dense.

    make bench NAME=weight-skip

A dense layer and a convolution with ternary weights of which a share is zero: scattered at random (unstructured), or
such that whole words of weights are (block). Each is placed dense, sparse, and sparse with its channels in an order
that gathers zeros. Random spikes go through the generated Verilog; a read-out behind the layer hears nothing, so that
the cycles of a time step are the layer's own. Memory is what weights, their indices and lists of events take.
"""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from common import Figures
from matplotlib import pyplot
from spikeloom.compiler import order
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import Conv2d, Dense, InputFormat, Network, Pool, WeightFormat
from spikeloom.sim import cosim

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).parent / "results" / "weight-skip.png"
TERNARY = WeightFormat("ternary", 2)
SPARSITIES = (0.0, 0.5, 0.75, 0.8, 0.9, 0.95, 0.975)
ACTIVITY, BUSY = 0.05, 0.2
STEPS, SAMPLES, MEASURED = 4, 4, 2  # the first samples fill the pipeline
CYCLES_AIM, MEMORY_AIM, AIMED = 0.2, 0.25, 0.9

#: Name to map in, channels out, kernel, and the placement.
LAYERS = {
    "512 to 512, dense": ((1, 1, 512), 512, None, Placement(32, 16)),
    "32 to 64 channels, 3 x 3, 14 x 14": ((14, 14, 32), 64, 3, Placement(48, 16)),
}


def weights(shape, channels, kernel, group, sparsity, block):
    """Random ternary weights of which a share is zero, whole words where ``block``."""
    rng = np.random.default_rng(1)
    size = (channels, shape[2]) if kernel is None else (channels, shape[2], kernel, kernel)
    values = rng.choice([-1, 1], size)
    if block:  # a word: neighbouring channels, and all columns of a row of the kernel
        words = channels // group, *size[1:3]
        kept = np.repeat(rng.random(words) >= sparsity, group, axis=0)
        kept = kept if kernel is None else kept[..., None]
    else:
        kept = rng.random(size) >= sparsity
    # Neighbours no longer stand side by side, as in a network that was trained without a thought of words.
    return (values * kept)[rng.permutation(channels)]


def placed(shape, kernel, values, placement):
    """A program of the layer and of a read-out that hears nothing."""
    channels = len(values)
    common = {"name": "layer", "input_shape": shape, "weights": values, "weight_format": TERNARY, "v_width": 6,
              "threshold": np.full(channels, 2**20), "bias": np.arange(channels) % 2}
    layer = Dense(**common) if kernel is None else Conv2d(**common, padding=kernel // 2)
    last = Dense("last", np.ones((2, channels), int), TERNARY, np.ones(2, int), np.zeros(2, int), 4,
                 input_shape=layer.shape, pool=Pool("sum", *layer.shape[:2]) if kernel else None)
    return Program(Network(InputFormat(layer.n_in, 1, shape), (layer, last), STEPS), "ulx3s-85f",
                   [placement, Placement(2, 1)])


def cycles(program, activity=ACTIVITY):
    """Of a time step in the steady state, for random spikes."""
    inputs = np.random.default_rng(2).random((SAMPLES, STEPS, program.network.input.size)) < activity
    run = cosim.run(program, inputs.astype(np.int64), detail=False, folder=ROOT / "build" / "sim")
    return (run.finished[-1] - run.finished[-1 - MEASURED]) / (MEASURED * STEPS)


def memory(program):
    """Bits of the layer's memories but the membrane potentials and what keeps rows of a map."""
    return sum(entries * bits for name, (entries, bits) in program.cores[0].memories.items()
               if name != "membranes" and not name.startswith("row_"))


def crossover(ratios):
    """The sparsity from which on ratios to dense are below one, by interpolation between `SPARSITIES`; or None."""
    for at in range(len(ratios)):
        if all(ratio < 1 for ratio in ratios[at:]):
            if at == 0:
                return 0.0
            low, high = SPARSITIES[at - 1], SPARSITIES[at]
            return low + (high - low) * (ratios[at - 1] - 1) / (ratios[at - 1] - ratios[at])
    return None


def main():
    figures = Figures("weight-skip")
    picture, axes = pyplot.subplots(2, len(LAYERS), figsize=(10, 7), layout="constrained", squeeze=False)
    for column, (name, (shape, channels, kernel, placement)) in enumerate(LAYERS.items()):
        sets = kernel or 1
        group = placement.lanes // sets
        values = weights(shape, channels, kernel, group, 0.0, False)
        program = placed(shape, kernel, values, placement)
        whole, whole_busy = (cycles(program), memory(program)), cycles(program, BUSY)
        figures.add(f"{name}: cycles of a time step, dense", whole[0], f"cycles, {placement.lanes} lanes")
        figures.add(f"{name}: memory, dense", whole[1], "bits")
        for block in (False, True):
            for gathered in (False, True):
                kind = f"{'block' if block else 'unstructured'}, {'gathered' if gathered else 'as it is'}"
                ratios = []
                for sparsity in SPARSITIES:
                    values = weights(shape, channels, kernel, group, sparsity, block)
                    chosen = Placement(placement.lanes, placement.units, sparse=True)
                    program = placed(shape, kernel, values, chosen)
                    if gathered:
                        found = order.gathered(program.network.layers[0], group)
                        chosen = Placement(placement.lanes, placement.units, sparse=True, order=found)
                        program = placed(shape, kernel, values, chosen)
                    ratios.append((cycles(program) / whole[0], memory(program) / whole[1]))
                    if block and gathered and sparsity == AIMED:
                        figures.add(f"{name}, {kind}: cycles at {AIMED:.0%} zeros and {BUSY:.0%} activity",
                                    cycles(program, BUSY) / whole_busy, "of dense")
                    print(f"{name}: {kind}, {sparsity:.1%} zero: {ratios[-1][0]:.3f} of the cycles, "
                          f"{ratios[-1][1]:.3f} of the memory", flush=True)
                for row, (what, aim) in enumerate((("cycles", CYCLES_AIM), ("memory", MEMORY_AIM))):
                    of_what = [each[row] for each in ratios]
                    at_aim = of_what[SPARSITIES.index(AIMED)]
                    aimed = block and gathered and kernel is None
                    figures.add(f"{name}, {kind}: {what} at {AIMED:.0%} zeros", at_aim, "of dense",
                                f"<= {aim}" if aimed else None, at_aim <= aim if aimed else None)
                    found = crossover(of_what)
                    figures.add(f"{name}, {kind}: less {what} than dense from",
                                "never" if found is None else 100 * found, "% zeros")
                    axes[row][column].plot([100 * each for each in SPARSITIES], of_what, marker="o", markersize=3,
                                           label=kind)
                    axes[row][column].set(xlabel="weights that are zero (%)", ylabel=f"{what} against dense",
                                          title=name)
    for each in axes.flat:
        each.axhline(1, color="black", linewidth=0.8)
        each.grid(alpha=0.3)
        each.legend(fontsize=7)
    figures.write()
    picture.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
