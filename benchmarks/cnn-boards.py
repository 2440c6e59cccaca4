"""[cnn-boards] Bitstreams of CNNs for N-MNIST: the packaged one on a ULX3S with an ECP5-25F, and one as large as the
iCE40 UP5K of an iCEBreaker holds; recordings verified on virtual boards at the clocks found.

    make bench NAME=cnn-boards DATA_DIR=folder-with-the-recordings

Both are trained first, or taken from runs, and built at the best clock that the board's PLL makes and routing meets.
The virtual board is held to the reference on 40 recordings of the test split: scores, winners, and the spikes of each
layer. For iCE40 so is the packed bitstream on the first few, unpacked again, where Debian's fpga-icestorm is installed.
Builds are kept under build/boards, so an interrupted run goes on where it stopped.
"""

from common import Figures
from nmnist import options, trained
from spikeloom import data
from spikeloom.boards import build
from spikeloom.compiler import compile, target
from spikeloom.errors import SpikeloomError
from spikeloom.sim import bitstream
from spikeloom.sim.virtual import VirtualBoard

from boards import FOLDER, verified

#: The packaged configuration for each board.
NETWORKS = {"ulx3s-25f": "nmnist_cnn", "icebreaker": "nmnist_icebreaker"}

RECORDINGS = 40

#: Recordings verified on a bitstream, whose simulation goes through every look-up table.
ON_BITSTREAM = 10


def main():
    chosen, figures = options("cnn-boards", ""), Figures("cnn-boards")
    for board, name in NETWORKS.items():
        network = trained(name, chosen.run / name, chosen.data_dir)
        inputs, labels = data.samples(network.notes["data"], "test", None, chosen.data_dir)
        program = compile.compile(network, board)
        print(compile.table(program), flush=True)
        folder = FOLDER / f"{board}-{name}"
        report = build(program, board, folder, progress=print)
        what = f"{name} on {board}"
        figures.add(f"{what}: neurons", sum(layer.n_out for layer in network.layers), "neurons")
        figures.add(f"{what}: weights", sum(branch.weights.size for layer in network.layers
                                            for branch in layer.branches), "ternary weights")
        figures.add(f"{what}: accuracy", 100 * network.notes["accuracy"]["torch"], f"% of {len(labels)} recordings")
        figures.add(f"{what}: lanes", "/".join(str(core.lanes) for core in program.cores), "of each layer")
        figures.add(f"{what}: clock", report.target_clock,
                    f"MHz, {report.clock_source}, routed for {report.clock:g}")
        figures.add(f"{what}: UART", report.baud, "bits/s")
        figures.add(f"{what}: LUTs", report.luts, f"{report.logic_used} of {report.logic_available} logic cells")
        figures.add(f"{what}: block RAMs", report.blocks_used, f"of {report.blocks_available}")
        if target.find(board).single_ports:
            figures.add(f"{what}: single-port RAMs", sum(core.single_ports for core in program.cores),
                        f"of {target.find(board).single_ports}")
        virtual = VirtualBoard(program, clock=round(report.target_clock * 1e6), baud=report.baud)
        result = verified(figures, f"{name} on virtual {board}", virtual, program, inputs[:RECORDINGS], "recordings")
        cycles = result.cycles / result.samples
        figures.add(f"{what}: clock cycles per recording", cycles, "cycles, the array at work")
        figures.add(f"{what}: time per recording", cycles / report.target_clock, "µs")
        if target.find(board).family == "ice40":
            try:
                verified(figures, f"{name}, bitstream of {board}", bitstream.virtual_board(program, folder), program,
                         inputs[:ON_BITSTREAM], "recordings")
            except SpikeloomError as error:
                print(f"{what}: {error}", flush=True)
    figures.write()


if __name__ == "__main__":
    main()
