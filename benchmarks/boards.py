"""[boards] A bitstream for every board that holds the network, and images verified on those of each family.

    make bench NAME=boards

The packaged configuration for scikit-learn's digits is trained first (or taken from runs/digits) and compiled for each
board. `BEST` are built at the best clock that their PLL makes and routing meets, and as virtual boards verify all test
images with the host. All others are built once, at a clock that routing meets without effort. For an iCE40 the packed
bitstream itself is unpacked again and verified, where Debian's fpga-icestorm is installed. Builds are kept under
build/boards, so an interrupted run goes on where it stopped.
"""

import time
from pathlib import Path

from common import Figures
from spikeloom import data
from spikeloom.boards import BOARDS, build, clocks, connection, host
from spikeloom.compiler import compile, target
from spikeloom.errors import SpikeloomError
from spikeloom.network import Network
from spikeloom.sim import bitstream
from spikeloom.sim.virtual import VirtualBoard
from spikeloom.training.quantize import quantize
from spikeloom.training.train import train

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "boards"

#: Boards whose best clock is looked for, and that are verified.
BEST = ("icebreaker", "hx8k", "ulx3s-25f", "tang_nano_9k")

#: What other boards are built for, as a share of the clock that routed designs reach there.
EASY = 0.5

#: Images verified on a bitstream, whose simulation goes through every look-up table.
ON_BITSTREAM = 20


def network():
    """The integer network for the digits, trained if need be."""
    run = ROOT / "runs" / "digits"
    checkpoint, path = train("digits", run), run / "network.npz"
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        quantize(checkpoint).save(path)
    return Network.load(path)


def verified(figures, what, virtual, program, inputs, samples="images"):
    """Hold a virtual board to the reference on ``inputs``, which are ``samples``, and note what came of it."""
    with virtual, connection.connect(virtual.port, baud=virtual.baud, timeout=5) as board:
        if not board.loaded:
            host.load(board, program)
        started = time.perf_counter()
        result = host.verify(board, program, inputs)
        seconds = time.perf_counter() - started
    equal = result.samples if result.difference is None else 0
    print(f"{what}: {result.difference or 'equal'} ({seconds:.0f} s)", flush=True)
    figures.add(f"{what}: {samples} equal to the reference", equal, f"{samples}, scores and spikes of each layer",
                f"{len(inputs)}", equal == len(inputs))
    return result


def main():
    figures, net, built, refused = Figures("boards"), network(), 0, []
    inputs, _ = data.samples(net.notes["data"], "test", None)
    programs, reports = {}, {}
    for name, board in BOARDS.items():
        try:
            program = programs[name] = compile.compile(net, name)
            easy = clocks.best(board, EASY * target.find(name).clock)
            clock = None if name in BEST else easy.clock if easy else "oscillator"
            report = reports[name] = build(program, name, FOLDER / name, clock=clock, progress=print)
        except SpikeloomError as error:
            if "too large" not in str(error) and "too small" not in str(error):
                raise
            refused.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        built += 1
        figures.add(f"{name}, {report.device}: clock", report.target_clock,
                    f"MHz, {report.clock_source}, routed for {report.clock:g}")
        figures.add(f"{name}: UART", report.baud, "bits/s")
        figures.add(f"{name}: LUTs", report.luts, f"{report.logic_used} of {report.logic_available} logic cells")
        figures.add(f"{name}: block RAMs", report.blocks_used, f"of {report.blocks_available}")
    figures.add("boards built for", built, "boards, too small: " + (", ".join(refused) or "none"),
                ">= 3", built >= 3)
    for name in BEST:
        virtual = VirtualBoard(programs[name], clock=round(reports[name].target_clock * 1e6), baud=reports[name].baud)
        verified(figures, f"virtual {name}", virtual, programs[name], inputs)
    try:
        verified(figures, "bitstream of icebreaker",
                 bitstream.virtual_board(programs["icebreaker"], FOLDER / "icebreaker"), programs["icebreaker"],
                 inputs[:ON_BITSTREAM])
    except SpikeloomError as error:
        print(f"bitstream of icebreaker: {error}", flush=True)
    figures.write()


if __name__ == "__main__":
    main()
