"""[study] Bits x sparsity x schedule on the packaged Fashion-MNIST CNN: accuracy, modelled energy, simulated cycles,
LUTs; and whether the findings of Schaefer et al. (arXiv 2302.04174) hold here.

    make bench NAME=study DATA_DIR=folder-with-the-IDX-files

This is `spikeloom study fashion_mnist_cnn`, which can be run by several workers beforehand: whatever is done in
runs/studies/fashion_mnist_cnn is not done again, and an interrupted run goes on where it stopped. It takes hours. Table
and pictures are kept beside the figures.
"""

import argparse
import shutil
from pathlib import Path

from common import RESULTS, Figures
from spikeloom.study import results, study

NAME = "fashion_mnist_cnn"
FOLDER = Path(__file__).parents[1] / "runs" / "studies" / NAME

#: Points of accuracy (%) within which two trials are taken to be as good: of 10,000 images, 2 standard deviations.
EQUAL = 0.6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    rows = study(NAME, FOLDER, data_dir=parser.parse_args().data_dir)
    print(results.table(rows), flush=True)
    figures = Figures("study")
    done = [row for row in rows if row.figures]
    figures.add("trials", len(done), f"of {len(rows)}, gateware equal to the golden model in each", f"{len(rows)}",
                len(done) == len(rows))
    known = {tuple(row.values.values()): row.figures for row in done}
    for (bits, sparsity, schedule), found in known.items():
        what = f"{bits} bits, {sparsity:.0%} pruned, {schedule}"
        figures.add(f"{what}: accuracy", 100 * found["accuracy"], "% of 10,000 images")
        figures.add(f"{what}: energy", found["energy"], "µJ per image, modelled")
        figures.add(f"{what}: cycles", found["cycles"],
                    f"simulated, per image; sparse: {', '.join(found['sparse']) or 'no layer'}")
        figures.add(f"{what}: LUTs", found["luts"], f"estimated, {found['blocks']} block RAMs")
        figures.add(f"{what}: weights", found["weight_bytes"], f"bytes, {found['sparsity']:.1%} zero")
    findings(figures, known)
    figures.write()
    for name in ("results.csv", *(f"accuracy-{against}.png" for against in results.AGAINST)):
        shutil.copyfile(FOLDER / name, RESULTS / f"study-{name}")


def findings(figures, known):
    """Whether ternary weights cost nothing, and whether pruning costs more than it saves next to them."""
    ternary, dense = (max((found for (width, sparsity, _), found in known.items() if width == bits and not sparsity),
                          key=lambda found: found["accuracy"]) for bits in ("2", "8"))
    lost = 100 * (dense["accuracy"] - ternary["accuracy"])
    figures.add("accuracy that ternary weights lose against 8 bits", lost, "points", f"<= {EQUAL}", lost <= EQUAL)
    equal = [(sparsity, found) for (bits, sparsity, _), found in known.items()
             if bits == "8" and 100 * (dense["accuracy"] - found["accuracy"]) <= EQUAL]
    sparsity, pruned = max(equal, key=lambda each: (each[0], each[1]["accuracy"]))
    figures.add("pruning of 8-bit weights without loss", 100 * sparsity, "% pruned")
    for name in ("energy", "cycles", "luts", "weight_bytes"):
        ratio = pruned[name] / ternary[name]
        figures.add(f"{results.COLUMNS[name][0]} of that against ternary", ratio, "times", "> 1, as published",
                    ratio > 1)
    best = max((found for (bits, pruned, _), found in known.items() if bits == "2" and pruned
                and 100 * (ternary["accuracy"] - found["accuracy"]) <= EQUAL), key=lambda found: -found["energy"],
               default=None)
    for name in ("energy", "cycles", "weight_bytes"):
        figures.add(f"{results.COLUMNS[name][0]} of ternary weights pruned without loss, against unpruned",
                    "none is without loss" if best is None else best[name] / ternary[name], "times")


if __name__ == "__main__":
    main()
