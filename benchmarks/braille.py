"""[braille] A recurrent spiking classifier of Braille letters on an iCEBreaker: 12 tactile sensors, 7 letters.

    make bench NAME=braille DATA_DIR=folder-with-braille7.npz

Trains the packaged configuration in runs/braille first, or takes it from there. Its accuracy is that on the test split,
every 5th recording of each letter in the order of the file, which training never sees; on all recordings, those of
training included, it is there for comparison with figures that are of all. PyTorch is held to the reference on every
recording, spike for spike and membrane for membrane, and so is the generated Verilog on the test split. Then the
bitstream is built at the best clock that the board's PLL makes and routing meets, and the virtual board is held to the
reference on the whole test split: scores, winners, and the spikes of each layer.
"""

import numpy as np
from common import Figures
from nmnist import options, trained
from spikeloom import data, reference
from spikeloom.boards import build
from spikeloom.compiler import compile
from spikeloom.report import meters
from spikeloom.sim import backend
from spikeloom.sim.virtual import VirtualBoard
from spikeloom.training import model

from boards import FOLDER, verified

BOARD = "icebreaker"

#: %, of all recordings: what a published recurrent network reaches in floats.
PUBLISHED = 96.4


def main():
    chosen, figures = options("braille", "braille"), Figures("braille")
    network = trained("braille", chosen.run, chosen.data_dir)
    notes = network.notes["data"]
    splits = {split: data.samples(notes, split, None, chosen.data_dir) for split in ("train", "test")}
    right = {}
    for split, (inputs, labels) in splits.items():
        expected, seen = reference.run(network, inputs), model.run(network, inputs)
        same = all(np.array_equal(*pair) for what in ("spikes", "membranes")
                   for pair in zip(getattr(expected, what), getattr(seen, what), strict=True))
        figures.add(f"{split}: torch = reference", len(inputs), "recordings, every spike and membrane", "all equal",
                    same)
        right[split] = int((expected.winners == labels).sum())
        if split == "test":
            activity = meters.activity(network, inputs, expected)
    inputs, labels = splits["test"]
    figures.add("accuracy", 100 * right["test"] / len(labels), f"% of the {len(labels)} recordings of the test split")
    figures.add("accuracy in floats", 100 * network.notes["accuracy"]["float"], "% of them, before quantization")
    count = sum(len(labels) for _, labels in splits.values())
    figures.add("accuracy on all recordings", 100 * sum(right.values()) / count,
                f"% of {count}, most of them trained on; published, in floats: {PUBLISHED} %")
    figures.add("neurons", sum(layer.n_out for layer in network.layers), "neurons")
    figures.add("weights", network.weight_bits, "bits")
    figures.add("synaptic operations", sum(each.operations for each in activity), "per recording")
    program = compile.compile(network, BOARD)
    print(compile.table(program), flush=True)
    seen = backend.verify(program, inputs, "verilator")
    figures.add("gateware = reference", len(inputs), "recordings, every spike and membrane", "all equal",
                seen.difference is None)
    report = build(program, BOARD, FOLDER / f"{BOARD}-braille", progress=print)
    figures.add("clock", report.target_clock, f"MHz, {report.clock_source}, routed for {report.clock:g}")
    figures.add("LUTs", report.luts, f"{report.logic_used} of {report.logic_available} logic cells")
    figures.add("block RAMs", report.blocks_used, f"of {report.blocks_available}")
    virtual = VirtualBoard(program, clock=round(report.target_clock * 1e6), baud=report.baud)
    result = verified(figures, f"virtual {BOARD}", virtual, program, inputs, "recordings")
    cycles = result.cycles / result.samples
    figures.add("clock cycles per recording", cycles, f"cycles, {cycles / network.time_steps:.0f} a time step")
    figures.add("time per recording", cycles / report.target_clock, "µs, where the recording lasted seconds")
    figures.write()


if __name__ == "__main__":
    main()
