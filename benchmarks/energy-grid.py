"""[energy-grid] The 75 published energies of Schaefer et al. (arXiv 2302.04174) beside those of our model.

    make bench NAME=energy-grid [DATA_DIR=folder-with-dvsgesture10.npz]

Published, in energy-grid.toml: energies, cycles, the share of zeros for each number of bits, and two rows of a chart of
zeros by layer. Measured here: the density of conv_1's inputs, from ten recordings where a folder is given; it is in the
packaged workload. Derived: the zeros of each layer at other sparsities, from the chart at 80 % and one threshold for
all weights, the magnitudes of each layer falling off exponentially; what is pruned or quantized to zero is zero, and
both take the smallest. Assumed, in the packaged workload: all other activity, the same at all points, for none is
published; so our model cannot tell the two schedules apart. Calibrated: DRAM's energy a bit, to the five networks that
were not pruned, and its bits a cycle to their cycles. Nothing is set for a point of its own.
"""

import argparse
import dataclasses
import itertools
import tomllib
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from common import Figures
from matplotlib import pyplot
from scipy import optimize, stats
from spikeloom import energy
from spikeloom.data.encode import Frames
from spikeloom.data.events import EVENT

WORKLOAD, RECORDINGS = "tcja_dvs128", "dvsgesture10.npz"
PUBLISHED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
PICTURE = Path(__file__).parent / "results" / "energy-grid.png"

BITS, SPARSITIES = PUBLISHED["quantized"]["bits"], PUBLISHED["pruned"]["sparsity"]
FORMATS = ("rle", "cp", "uop", "ubm")
SCHEDULES = ("quantized", "cumulative", "joint")
COLORS = dict(zip(SCHEDULES, ("#d0482f", "#4a7fae", "#7b8794"), strict=True))

#: Points of the two tables that have all formats and cycles, as (sparsity, bits).
ROWS = [*((0.0, bits) for bits in BITS), *((sparsity, 8) for sparsity in SPARSITIES)]

#: Of `ROWS`, those with many zeros, and the pruned ones.
SPARSE, PRUNED = [0, *range(len(BITS), len(ROWS))], range(len(BITS), len(ROWS))

RATIOS = (("energy of 80 % pruned, 8 bits, against ternary", (0.8, 8), (0.0, 2), 1.457, 0.10),
          ("energy of unpruned 8 bits against ternary", (0.0, 8), (0.0, 2), 2.43, 0.15))


# Points -----------------------------------------------------------------------------------------


def points():
    """(schedule, sparsity, bits) and published mJ of each of the 75."""
    found = {("quantized", 0.0, bits): value for bits, value in zip(BITS, PUBLISHED["quantized"]["rle"], strict=True)}
    for schedule in SCHEDULES[1:]:
        for bits, row in zip(BITS, PUBLISHED[schedule]["energy"], strict=True):
            found |= {(schedule, sparsity, bits): value for sparsity, value in zip(SPARSITIES, row, strict=True)}
    return found


def densities(sparsity, bits):
    """Of each layer, the share of weights that is not zero."""
    zeros = dict(zip(BITS, PUBLISHED["quantized"]["zeros"], strict=True))[bits]
    quantized = 1 - np.array(PUBLISHED["chart"]["ternary"] if bits == 2 else [zeros] * len(weights()))
    return np.minimum(quantized, kept(sparsity))


def weights():
    """Weights of each layer."""
    return np.array([layer.weights.positions for layer in energy.load(WORKLOAD).layers])


def kept(sparsity):
    """Of each layer, the share of weights above the one threshold that leaves ``sparsity`` of all below it. Magnitudes
    fall off exponentially, so a threshold t times that of the chart leaves the chart's shares to the power of t."""
    chart, counts = 1 - np.array(PUBLISHED["chart"]["pruned"]), weights()
    return chart**optimize.brentq(lambda t: counts @ chart**t / counts.sum() - (1 - sparsity), 0.0, 100.0)


def work(sparsity, bits, activity=None):
    """The workload, if asked with another ``activity`` wherever it is assumed: (mean, worst)."""
    made = energy.load(WORKLOAD, weight_bits=bits, densities=densities(sparsity, bits))
    if activity is None:
        return made
    assumed, other = made.layers[1].inputs, energy.Density(*activity)
    swapped = {name: other for name in ("inputs", "outputs", "source")}
    return energy.Workload(tuple(dataclasses.replace(layer, **{name: value for name, value in swapped.items()
                                                               if getattr(layer, name) == assumed})
                                 for layer in made.layers))


def millijoules(sparsity, bits, *, activity=None, **options):
    return energy.estimate(work(sparsity, bits, activity), **options).energy * 1e-9


# Statistics -------------------------------------------------------------------------------------


def spearman(ours, theirs):
    return float(stats.spearmanr(ours, theirs).statistic)


def misses(ours, theirs):
    """Relative errors."""
    return np.abs(np.asarray(ours) / np.asarray(theirs) - 1)


# Calibration ------------------------------------------------------------------------------------


def calibrated():
    """pJ a bit of DRAM and its bits a cycle, in words of 64 bits, at which the five networks that were not pruned come
    nearest to what is published, in the mean of squared logarithms."""
    costs = energy.Costs.load("schaefer")
    hardware = energy.Architecture.load("schaefer")

    def nearest(values, ours, theirs):
        return min(values, key=lambda value: sum(np.log(ours(value, bits) / seen)**2
                                                 for bits, seen in zip(BITS, theirs, strict=True)))

    # Energy is a line in what a bit costs.
    ends = {bits: [millijoules(0.0, bits, costs=dataclasses.replace(costs, dram_bit=value)) for value in (1.0, 2.0)]
            for bits in BITS}
    bit = nearest(np.arange(100, 2000) / 100, lambda value, bits: ends[bits][0] + (value - 1) * np.diff(ends[bits])[0],
                  PUBLISHED["quantized"]["rle"])

    def cycles(value, bits):
        wide = dataclasses.replace(hardware, dram_bits_per_cycle=value)
        return energy.estimate(work(0.0, bits), wide).cycles * 1e-6
    return float(bit), int(nearest(range(64, 1025, 64), cycles, PUBLISHED["quantized"]["cycles"]))


def measured(folder):
    """Shares of conv_1's inputs that are not zero in the recordings, cut into 20 frames of equal counts: the mean, and
    that of the densest frame."""
    encoder = Frames(slicing="count", time_steps=20, width=8)
    with np.load(Path(folder) / RECORDINGS, allow_pickle=False) as file:
        events, offsets = file["events"], file["offsets"]
    shares = []
    for start, stop in itertools.pairwise(offsets):
        recording = np.zeros(stop - start, EVENT)
        for name in EVENT.names:
            recording[name] = events[name][start:stop]
        shares.append((encoder.frames(recording, (128, 128, 2)) != 0).mean(1))
    return float(np.mean(shares)), float(np.max(shares))


# Figures ----------------------------------------------------------------------------------------


def grid(figures, found):
    """The 75 points; returns ours."""
    ours = {point: millijoules(*point[1:]) for point in found}
    for point, theirs in found.items():
        schedule, sparsity, bits = point
        figures.add(f"{schedule}, {bits} bits, {sparsity:.1%} pruned: published {theirs:.2f}", ours[point], "mJ")
    both = [list(values.values()) for values in (ours, found)]
    value = spearman(*both)
    figures.add("rank correlation of all 75", value, "", ">= 0.95", value >= 0.95)
    fitted = [point for point in found if point[0] == "quantized"]
    rest = [point for point in found if point not in fitted]
    for name, group in (("5 that DRAM's energy is calibrated to", fitted), ("70 others", rest)):
        errors = misses([ours[point] for point in group], [found[point] for point in group])
        figures.add(f"mean error of the {name}", 100 * errors.mean(), "%")
        figures.add(f"largest error of the {name}", 100 * errors.max(), "%")
    for name, above, below, aim, tolerance in RATIOS:
        value = millijoules(*above) / millijoules(*below)
        figures.add(name, value, "", f"{aim} ± {tolerance:.0%}", abs(value / aim - 1) <= tolerance)
    for mean in (0.01, 0.02, 0.1, 0.2):
        values = [millijoules(*point[1:], activity=(mean, 1.0)) for point in found]
        figures.add(f"rank correlation where {mean:.0%} of neurons fire", spearman(values, both[1]), "")
    return ours


def facts(figures, formats, ignored):
    """(i) to (v); ``formats`` and ``ignored`` in mJ, by format, at each of `ROWS`."""
    value = formats["rle"][0] / ignored[0]
    figures.add("(i) ternary against the same with its zeros ignored, published 0.579", value, "", "< 1", value < 1)
    for bits, theirs in ((6, 22.166 / 18.446), (8, 23.281 / 20.326)):
        row = BITS.index(bits)
        value = formats["rle"][row] / ignored[row]
        figures.add(f"(ii) RLE against sparsity ignored, {bits} bits, published {theirs:.3f}", value, "", "> 1",
                    value > 1)
    ordered = [max(formats["rle"][row], formats["cp"][row]) < formats["uop"][row] < formats["ubm"][row]
               and abs(formats["rle"][row] / formats["cp"][row] - 1) < 0.05 for row in SPARSE]
    figures.add("(iii) RLE = CP (to 5 %) < UOP < UBM with many zeros", sum(ordered), f"of {len(SPARSE)}",
                f"{len(SPARSE)}", all(ordered))
    cheapest = [min(FORMATS, key=lambda name: formats[name][row]) for row in range(len(BITS))]
    figures.add("(iii) cheapest unpruned at 2, 3, 4, 6, 8 bits, published RLE RLE UOP UOP UOP",
                " ".join(name.upper() for name in cheapest), "", "UOP below 15 % zeros",
                cheapest[:2] == ["rle", "rle"] and cheapest[3:] == ["uop", "uop"])
    row = dict(zip(SPARSITIES, PRUNED, strict=True))
    fall = 100 * (1 - formats["rle"][row[0.975]] / formats["rle"][row[0.925]])
    accuracy = PUBLISHED["joint"]["accuracy"][BITS.index(8)]
    figures.add(f"(iv) energy saved from 92.5 to 97.5 % pruned (accuracy {accuracy[4]} to {accuracy[6]} %), "
                "published 6.8", fall, "%", "0 to 10", 0 <= fall <= 10)
    rises = [100 * (millijoules(*ROWS[row], weights=form, inputs=form, worst=True) / formats[form][row] - 1)
             for row in PRUNED for form in FORMATS]
    figures.add("(v) least rise in the worst case, pruned 8 bits, published 11", min(rises), "%", "11 to 31",
                11 <= min(rises) <= 31)
    figures.add("(v) most, published 31", max(rises), "%", "11 to 31", 11 <= max(rises) <= 31)

    def rise(worst):
        made = millijoules(0.8, 8, activity=(0.05, worst), worst=True)
        return 100 * (made / formats["rle"][row[0.8]] - 1)
    figures.add("(v) neurons that fire in the worst case for a rise of 20 %, 80 % pruned, RLE",
                100 * optimize.brentq(lambda worst: rise(worst) - 20, 0.05, 1.0), "%")


def columns(figures, formats, cycles):
    """Rank correlations of columns, over the two tables."""
    for name in FORMATS:
        theirs = PUBLISHED["quantized"][name] + PUBLISHED["pruned"][name]
        figures.add(f"rank correlation of {name.upper()}, {len(ROWS)} points", spearman(formats[name], theirs), "")
        figures.add(f"mean error of {name.upper()}", 100 * misses(formats[name], theirs).mean(), "%")
    theirs = PUBLISHED["quantized"]["cycles"] + PUBLISHED["pruned"]["cycles"]
    figures.add(f"rank correlation of cycles, {len(ROWS)} points", spearman(cycles, theirs), "")
    figures.add("mean error of cycles", 100 * misses(cycles, theirs).mean(), "%")
    edp = [np.multiply(*pair) for pair in ((formats["rle"], cycles),
                                           (PUBLISHED["quantized"]["rle"] + PUBLISHED["pruned"]["rle"], theirs))]
    figures.add(f"rank correlation of energy times cycles, {len(ROWS)} points", spearman(*edp), "")


def breakdown(figures):
    """DRAM's share of energy; returns parts in mJ by point."""
    parts = {}
    for (name, point), theirs in zip((("ternary", (0.0, 2)), ("8 bits", (0.0, 8)), ("8 bits, 80 % pruned", (0.8, 8))),
                                     PUBLISHED["dram"]["share"], strict=True):
        made = energy.estimate(work(*point))
        dram = sum(value for part, value in made.parts.items() if part.startswith("dram"))
        figures.add(f"DRAM's share of energy, {name}: published {theirs:.1%}", 100 * dram / made.energy, "%")
        parts[name] = {part: value * 1e-9 for part, value in made.parts.items()}
    return parts


def picture(found, ours, parts):
    """Ours against theirs, and where energy goes."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for schedule in SCHEDULES:
        chosen = [point for point in found if point[0] == schedule]
        left.scatter([found[point] for point in chosen], [ours[point] for point in chosen], s=18, alpha=0.8,
                     color=COLORS[schedule], label=schedule)
    ends = [0.95 * min(*found.values(), *ours.values()), 1.05 * max(*found.values(), *ours.values())]
    left.plot(ends, ends, color="#cccccc", zorder=0)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="published, mJ", ylabel="ours, mJ",
             title="75 networks: bits and share of pruned weights")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(matplotlib.ticker.FixedLocator([8, 10, 15, 20, 25]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
    left.legend(frameon=False)
    below = np.zeros(len(parts))
    shades = matplotlib.colormaps["tab10"]
    for number, part in enumerate(energy.COMPONENTS):
        heights = np.array([each[part] for each in parts.values()])
        right.bar(list(parts), heights, 0.6, bottom=below, label=part.replace("_", " "), color=shades(number))
        below += heights
    right.set(ylabel="mJ", title="Where energy goes")
    right.legend(frameon=False, reverse=True)
    figure.savefig(PICTURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help=f"where {RECORDINGS} is")
    arguments = parser.parse_args()
    figures, found = Figures("energy-grid"), points()
    ours = grid(figures, found)
    made = {name: [energy.estimate(work(*row), weights=name, inputs=name) for row in ROWS] for name in FORMATS}
    formats = {name: [each.energy * 1e-9 for each in column] for name, column in made.items()}
    ignored = [millijoules(*row, weights="dense") for row in ROWS]
    facts(figures, formats, ignored)
    columns(figures, formats, [each.cycles * 1e-6 for each in made["rle"]])
    parts = breakdown(figures)
    for name, chart, share in (("ternary", "ternary", 0.321), ("80 % pruned", "pruned", 0.2)):
        left = 1 - np.array(PUBLISHED["chart"][chart])
        figures.add(f"weights left as read off the chart, {name}: published {share:.1%}",
                    100 * float(left @ weights() / weights().sum()), "%")
    bit, width = calibrated()
    costs, hardware = energy.Costs.load("schaefer"), energy.Architecture.load("schaefer")
    figures.add("DRAM's energy that fits 5 points best", bit, "pJ a bit", f"{costs.dram_bit}, as packaged",
                bit == costs.dram_bit)
    figures.add("DRAM's bits a cycle that fit 5 points best", width, "", f"{hardware.dram_bits_per_cycle}, as packaged",
                width == hardware.dram_bits_per_cycle)
    if arguments.data_dir:
        inputs = energy.load(WORKLOAD).layers[0].inputs
        for name, value, stored in zip(("mean", "densest frame"), measured(arguments.data_dir),
                                       (inputs.mean, inputs.worst), strict=True):
            figures.add(f"conv_1's inputs that are not zero, {name}", value, "", f"{stored}, as packaged",
                        abs(value - stored) < 0.0005)
    picture(found, ours, parts)
    figures.write()


if __name__ == "__main__":
    main()
