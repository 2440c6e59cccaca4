"""[boards] A small network on every board that it fits: clock, baud rate, logic and memory of the routed bitstream.

    make bench NAME=boards

64-32-10 with random ternary weights, compiled for each board and built at the best clock that its PLL makes and routing
meets. Builds are kept under build/boards, so an interrupted run goes on where it stopped.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from common import Figures
from spikeloom import compile
from spikeloom.boards import BOARDS, build
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat

FOLDER = Path(__file__).parents[1] / "build" / "boards"

SIZES, STEPS = (64, 32, 10), 8


def network():
    rng = np.random.default_rng(0)
    layers = tuple(Dense(f"layer_{number}", rng.integers(-1, 2, (n_out, n_in)), WeightFormat("ternary", 2),
                         rng.integers(3, 9, n_out), rng.integers(-1, 2, n_out), 6, ShiftLeak(3))
                   for number, (n_in, n_out) in enumerate(pairwise(SIZES)))
    return Network(InputFormat(SIZES[0]), layers, STEPS)


def main():
    figures, net, built, refused = Figures("boards"), network(), 0, []
    for name in BOARDS:
        try:
            program = compile.compile(net, name)
            report = build(program, name, FOLDER / name, progress=print)
        except SpikeloomError as error:
            if "too large" not in str(error) and "too small" not in str(error):
                raise
            refused.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        built += 1
        figures.add(f"{name}, {report.device}: clock", report.target_clock, f"MHz, {report.clock_source}")
        figures.add(f"{name}: UART", report.baud, "bits/s")
        figures.add(f"{name}: logic cells", report.logic_used, f"of {report.logic_available}")
        figures.add(f"{name}: block RAMs", report.blocks_used, f"of {report.blocks_available}")
    figures.add("boards built for", built, "boards, too small: " + (", ".join(refused) or "none"),
                ">= 3", built >= 3)
    figures.write()


if __name__ == "__main__":
    main()
