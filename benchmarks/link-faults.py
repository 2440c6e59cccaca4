"""[link-faults] Noise, damaged frames and senseless requests at the pins of a board, and a good sample after each.

    make bench NAME=link-faults

The virtual board is a small network's whole top level in Verilator. After every burst a sample must get the reference's
scores. The bytes of each burst also go through the host's own frame decoder, which has to find as many damaged frames
as the board counts.
"""

import random
import time
from itertools import pairwise

import numpy as np
from common import Figures
from spikeloom import link, reference
from spikeloom.boards.connection import connect
from spikeloom.compiler.program import Placement, Program
from spikeloom.compiler.words import WordFormat
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim.virtual import VirtualBoard

SIZES, STEPS = (16, 8, 4), 5
CLOCK, BAUD = 48_000_000, 12_000_000

#: Random bytes, damaged frames, whole frames of random content.
BYTES, DAMAGED, SENSELESS = 10_000_000, 20_000, 50_000

#: Seconds without an answer that count as a wedge.
PATIENCE = 60


class Wedge(Exception):
    """A good frame was not served."""


class Line:
    """A board's serial port, and what a good host knows of it."""

    def __init__(self, port, program):
        self.port, self.program = port, program
        self.replies, self.model = link.Decoder(), link.Decoder()
        draw = np.random.default_rng(0)
        self.inputs = (draw.random((100, STEPS, SIZES[0])) < 0.3).astype(int)
        self.expected = reference.run(program.network, self.inputs)
        words = WordFormat.of_input(program.network.input)
        self.frames = [link.sample(0, words.pack(x))[0] for x in self.inputs]
        self.number = self.served = 0
        self.others = []  # replies that were neither asked for nor the error of a damaged frame

    def throw(self, burst):
        """Send ``burst`` and then a sample, and wait for its scores."""
        self.number += 1
        which, tag = self.number % len(self.frames), self.number % 127 + 1
        frame = self.frames[which]
        good = link.encode(bytes([frame[0], tag]) + frame[2:])
        self.model.feed(burst + good[:1])
        self.port.write(burst + good)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for reply in self.read():
                if reply[:2] == bytes([link.FINISH | link.REPLY, tag]):
                    size = len(reply) - 6
                    scores = np.frombuffer(reply[2:2 + size], np.int8)
                    if not np.array_equal(scores, self.expected.scores[which]):
                        raise Wedge(f"scores {scores} after burst {burst.hex()}")
                    self.served += 1
                    return
                if reply != bytes([link.ERROR, 0, link.DAMAGED]):
                    self.others.append(reply)
        raise Wedge(f"no answer after burst {burst.hex()}")

    def read(self):
        return self.replies.feed(self.port.read(self.port.in_waiting or 1))


def noise(source):
    """A burst of random bytes: any, or mostly those that mean something between frames."""
    size = source.randint(1, 4000)
    if source.random() < 0.5:
        return source.randbytes(size)
    special = bytes([link.END, link.ESCAPE, link.ESCAPED_END, link.ESCAPED_ESCAPE, link.IDENTIFY, link.FINISH])
    share = source.random()
    return bytes(source.choice(special) if source.random() < share else source.randrange(256) for _ in range(size))


def damage(frame, source):
    """A frame with some of its bytes flipped, lost, repeated or exchanged, or cut off."""
    broken = bytearray(frame)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        at = source.randrange(len(broken))
        kind = source.randrange(5)
        if kind == 0:
            broken[at] ^= 1 << source.randrange(8)
        elif kind == 1 and len(broken) > 1:
            del broken[at]
        elif kind == 2:
            broken.insert(at, broken[at])
        elif kind == 3:
            broken[at] = source.randrange(256)
        else:
            del broken[max(at, 1):]
    return bytes(broken)


def senseless(source):
    """A payload that comes whole and means nothing in particular; its tag is none of a good sample's."""
    kind = source.choice((*range(link.IDENTIFY, link.BOOTED + 1), source.randrange(256)))
    size = source.choice((0, 1, 2, 3, 6, 32, source.randrange(link.MAX_PAYLOAD - 2)))
    return bytes([kind, source.randrange(128, 256)]) + source.choice((bytes(size), source.randbytes(size)))


def main():
    draw, form = np.random.default_rng(1), WeightFormat("ternary", 2)
    layers = tuple(Dense(f"layer_{number}", draw.choice(form.values, (n_out, n_in)), form, draw.integers(1, 4, n_out),
                         draw.integers(-1, 2, n_out), 6, ShiftLeak(2))
                   for number, (n_in, n_out) in enumerate(pairwise(SIZES)))
    program = Program(Network(InputFormat(SIZES[0]), layers, STEPS), "icebreaker", [Placement(4, 1), Placement(4, 1)])
    figures, source = Figures("link-faults"), random.Random(1)
    with (VirtualBoard(program, clock=CLOCK, baud=BAUD, progress=print) as board,
          connect(board.port, baud=BAUD, timeout=PATIENCE) as connected):
        line, counted = Line(connected.line, program), 0

        def settle():
            """The damaged frames that the board has counted."""
            nonlocal counted
            seen = connected.counters().damaged
            counted += (seen - counted) % (1 << link.Counters.DAMAGED)

        sent = 0
        while sent < BYTES:
            burst = noise(source)
            line.throw(burst)
            sent += len(burst)
            settle()
        figures.add("random bytes", sent, "bytes", f">= {BYTES}", sent >= BYTES)
        figures.add("bursts of them, each followed by a sample with the right scores", line.served, "bursts")
        figures.add("frames among them", line.model.damaged, "frames")
        figures.add("frames accepted by chance", len(line.others), "frames",
                    f"0, as one in 2^32 makes {line.model.damaged / 2**32:.0e}", not line.others)

        damaged, before = 0, line.served
        while damaged < DAMAGED:
            frame = damage(link.encode(source.choice((source.choice(line.frames), b"\1\2", b"\4\5"))), source)
            if link.Decoder().feed(frame + b"\xc0"):
                continue  # what has changed means nothing, as an END more
            line.throw(frame)
            settle()
            damaged += 1
        figures.add("damaged frames, each followed by a sample with the right scores", line.served - before, "frames",
                    f">= {DAMAGED}", line.served - before >= DAMAGED)
        figures.add("damaged frames accepted", len(line.others), "frames", "0", not line.others)
        figures.add("damaged frames as counted by the board", counted, "frames", f"{line.model.damaged}",
                    counted == line.model.damaged)

        before, answered = line.served, 0
        for _ in range(SENSELESS):
            payload, line.others = senseless(source), []
            line.throw(link.encode(payload))
            answered += len(line.others) == 1 and (
                line.others[0][0] in (payload[0] | link.REPLY, link.ERROR) and line.others[0][1] == payload[1])
        figures.add("whole frames of random content, each followed by a sample with the right scores",
                    line.served - before, "frames", f"{SENSELESS}", line.served - before == SENSELESS)
        figures.add("answered once, with the frame's own tag", answered, "frames", f"{SENSELESS}",
                    answered == SENSELESS)
        figures.add("clock cycles simulated", board.state().cycle, "cycles")
    figures.write()


if __name__ == "__main__":
    main()
