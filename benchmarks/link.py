"""[link] MNIST over the link: bytes and time per image against compute time, and images per second end to end.

    make bench NAME=link DATA_DIR=folder-with-the-IDX-files

The network of `make bench NAME=mnist` on a virtual board: the whole top level in Verilator behind a pseudo-terminal,
with the host program at the other end. Times are those of the board's clock, for a host that answers at once. Every
image's scores and events are held to the reference's.
"""

import argparse
import collections
import time
from pathlib import Path

import numpy as np
from common import Figures
from spikeloom import data, link
from spikeloom.boards import host
from spikeloom.boards.connection import connect
from spikeloom.compiler import compile
from spikeloom.compiler.words import WordFormat
from spikeloom.network import Network
from spikeloom.sim.virtual import VirtualBoard

TARGET = "ulx3s-25f"

#: Hz: what a routed bitstream for a ULX3S reaches, and both bauds divide.
CLOCK = 120_000_000

#: Bits per second, and how many images are run at it: as many as take a minute or so.
RATES = {1_000_000: 200, 12_000_000: 2000}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True, help="where the MNIST IDX files are")
    parser.add_argument("--run", type=Path, default=Path("runs/mnist"), help="the folder that bench mnist trained in")
    options = parser.parse_args()

    network = Network.load(options.run / "network.npz")
    program = compile.compile(network, TARGET)
    inputs, labels = data.samples(network.notes["data"], "test", max(RATES.values()), options.data_dir)
    words = WordFormat.of_input(network.input)
    frames = [link.sample(0, words.pack(x)) for x in inputs]
    payload = np.mean([sum(map(len, payloads)) for payloads in frames])

    figures = Figures("link")
    figures.add("bytes of an image's requests, before framing", payload, "bytes")
    figures.add("bytes of its spikes, one bit for each input and time step", inputs[0].size / 8, "bytes")
    for baud, count in RATES.items():
        with (VirtualBoard(program, clock=CLOCK, baud=baud, folder=options.run / "build/sim", progress=print) as board,
              connect(board.port, baud=baud, timeout=10) as connected):
            rate = f"{baud / 1e6:g} Mbaud"
            result = host.verify(connected, program, inputs[:count])
            figures.add(f"{rate}: images equal to the reference, scores and events of each layer",
                        count if result.difference is None else 0, "images", f"{count}", result.difference is None)
            figures.add(f"{rate}: accuracy on them", 100 * (result.winners == labels[:count]).mean(), "%")
            counters, before = connected.counters(), board.state()
            started = time.perf_counter()
            collections.deque(connected.exchange(frames[:count]), maxlen=0)
            seconds = time.perf_counter() - started
            after = board.state()
            busy = connected.counters().since(counters).busy / count
            cycles = (after.cycle - before.cycle) / count
            line = 10 * (after.received - before.received) / count / baud
            back = 10 * (after.sent - before.sent) / count / baud
            figures.add(f"{rate}: bytes to the board per image", (after.received - before.received) / count, "bytes")
            figures.add(f"{rate}: bytes back per image", (after.sent - before.sent) / count, "bytes")
            figures.add(f"{rate}: time per image on the line to the board", 1e6 * line, "µs")
            figures.add(f"{rate}: time per image on the line back", 1e6 * back, "µs")
            figures.add(f"{rate}: time per image in the array", 1e6 * busy / CLOCK, "µs")
            figures.add(f"{rate}: time per image end to end", 1e6 * cycles / CLOCK, "µs")
            figures.add(f"{rate}: images per second end to end", CLOCK / cycles, "images/s")
            ideal = max(line, back, busy / CLOCK) / (cycles / CLOCK)
            figures.add(f"{rate}: the busiest of line and array is at work", 100 * ideal, "% of the time", ">= 95",
                        ideal >= 0.95)

            few, before = frames[:max(count // 10, 1)], board.state().cycle
            for payloads in few:
                list(connected.exchange([payloads]))
            alone = (board.state().cycle - before) / len(few)
            figures.add(f"{rate}: images per second when each waits for the answer to the one before", CLOCK / alone,
                        "images/s")
            figures.add(f"{rate}: time per image that double buffering hides", 1e6 * (alone - cycles) / CLOCK, "µs")
            figures.add(f"{rate}: simulated clock", count * cycles / seconds, "cycles/s of wall time")
    figures.write()


if __name__ == "__main__":
    main()
