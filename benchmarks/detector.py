"""[detector] The packaged detector of blood cells: precision in floats, quantized, quantized and pruned; gateware.

    make bench NAME=detector DATA_DIR=folder-or-archive-with-the-images

Trains the packaged configuration on the images of ImageSets/Main/train.txt, in runs/blood_cells, or continues there;
then again from where that ended with channels pruned, in runs/blood_cells_pruned. Precision (mAP@0.5 as COCO has it) is
that of the images in val.txt, which no training and no choice has seen. PyTorch is held to the reference on all of
them, the generated Verilog in Verilator on the first ten: every spike and every membrane potential. A picture of boxes
that the gateware found goes to benchmarks/results/detector.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import RESULTS, Figures
from spikeloom import data, reference, tasks
from spikeloom.compiler import compile, target
from spikeloom.data import voc
from spikeloom.detection.boxes import TOLD
from spikeloom.network import Network
from spikeloom.report import meters, pictures
from spikeloom.sim import cosim, trace
from spikeloom.training import config as configuration
from spikeloom.training import model
from spikeloom.training.pruning import Channels, Pruning
from spikeloom.training.quantize import quantize
from spikeloom.training.train import train

NAME, TARGET = "blood_cells", "ulx3s-85f"

#: Images of which every spike and membrane potential of the gateware is compared; images drawn.
DETAILED, DRAWN = 10, 6

#: Of weights, in whole channels; and epochs to get over it.
PRUNED, EPOCHS = 0.3, 40


def trained(config, run, data_dir, start=None):
    """The integer network of a configuration, trained in the folder ``run`` if need be, and its checkpoint."""
    checkpoint, path = train(config, run, data_dir=data_dir, start=start), run / "network.npz"
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        quantize(checkpoint, data_dir=data_dir).save(path)
    return Network.load(path), checkpoint


def measure(figures, what, network, inputs, labels, run):
    """Note the figures of ``network`` on its test split; its precision in %, and what the gateware showed of the first
    images."""
    task, want = tasks.of(network), reference.run(network, inputs)
    precision = task.precision(want.scores, labels)
    figures.add(f"mAP@0.5, {what}", 100 * precision.mean, f"% of {len(inputs)} images")
    for name, value in precision.classes.items():
        figures.add(f"average precision of {name}, {what}", 100 * value, "%")
    difference = trace.first_difference(network, want, model.run(network, inputs))
    figures.add(f"torch equals reference, every spike and membrane, {what}", len(inputs) if difference is None else 0,
                "images", f"{len(inputs)}", difference is None)
    program = compile.compile(network, TARGET)
    print(compile.table(program))
    seen = cosim.run(program, inputs[:DETAILED], folder=run / "build/sim")
    few = reference.run(network, inputs[:DETAILED])
    difference = trace.first_difference(network, few, seen.trace)
    print(f"gateware: {difference or 'equal'}")
    figures.add(f"gateware equals reference, every spike and membrane, {what}", DETAILED if difference is None else 0,
                "images", ">= 5", difference is None and DETAILED >= 5)
    figures.add(f"membrane potentials compared, {what}", sum(m.size for m in few.membranes), "values")
    cycles, clock = int(seen.finished[-1]) / DETAILED, target.find(TARGET).clock
    figures.add(f"clock cycles per image, {what}", cycles, "cycles")
    figures.add(f"time per image at the {clock:g} MHz expected of {TARGET}, {what}", cycles / clock / 1000, "ms")
    memory = meters.memory(network)
    figures.add(f"weights that are not zero, {what}", sum(each.weights - each.zeros for each in memory), "weights")
    figures.add(f"membranes, {what}", meters.bytes_of(sum(each.membrane_bits for each in memory)), "bytes")
    return 100 * precision.mean, seen.trace


def main():
    parser = argparse.ArgumentParser(description="The figures of [detector].")
    parser.add_argument("--data-dir", required=True, help="where the images are")
    parser.add_argument("--run", type=Path, default=Path("runs") / NAME)
    chosen = parser.parse_args()
    figures = Figures("detector")

    config = configuration.load(NAME)
    network, checkpoint = trained(config, chosen.run, chosen.data_dir)
    inputs, labels = data.samples(network.notes["data"], "test", None, chosen.data_dir)
    for split, used in (("train", "to train on"), ("test", "to measure on, never seen in training")):
        annotated = voc.load(config.data.images, split, chosen.data_dir)
        figures.add(f"images {used}", len(annotated.images), "images")
        figures.add(f"boxes {used}", int((annotated.labels[..., 0] >= 0).sum()), f"boxes, without {annotated.dropped} "
                    "that have no area")
    rows, columns, channels = network.input.shape
    figures.add("pixels", f"{rows} x {columns} x {channels}", f"of {network.input.width} bits")
    figures.add("time steps", network.time_steps, "steps")
    in_floats = 100 * network.notes["accuracy"]["float"]
    figures.add(f"mAP@0.5, in floats after {config.training.epochs_float} epochs", in_floats,
                f"% of {len(inputs)} images")
    quantized, shown = measure(figures, "quantized", network, inputs, labels, chosen.run)
    lost = in_floats - quantized
    figures.add("quantized, less than in floats by", lost, "points", "<= 2", lost <= 2)
    task = tasks.of(network)
    found = [each.above(TOLD) for each in task.find(shown.scores[:DRAWN])]
    picture = pictures.boxes.__wrapped__(inputs[:DRAWN], network.input.shape, network.input.bounds[1], found,
                                         labels[:DRAWN], task.classes)
    picture.savefig(RESULTS / "detector.png", dpi=100)

    pruned_config = replace(config, pruning=Pruning(PRUNED, granularity=Channels()),
                            training=replace(config.training, epochs_float=0, epochs_quantized=EPOCHS))
    run = chosen.run.with_name(chosen.run.name + "_pruned")
    pruned, _ = trained(pruned_config, run, chosen.data_dir, start=checkpoint)
    figures.add("channels taken out", sum(a.shape[2] - b.shape[2] for a, b in zip(network.layers, pruned.layers,
                                                                                strict=True)), "channels")
    merit, _ = measure(figures, "quantized and pruned", pruned, inputs, labels, run)
    figures.add("quantized and pruned, less than in floats by", in_floats - merit, "points")
    figures.write()


if __name__ == "__main__":
    main()
