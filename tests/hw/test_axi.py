"""The array over AXI4-Stream, on Verilator with cocotbext-axi at both ends."""

import random

import numpy as np
import pytest
from events import scattered, simulate
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw import verilog
from spikeloom.hw.embed import AxiStreamArray
from spikeloom.network import WeightFormat
from test_gateware import network


def packets(array, events, pick):
    """A packet of beats for each sample; the last time step's end is left to ``tlast`` where ``pick`` says so. Also how
    many events were put among them that have no input."""
    words, fields = array.array.collector.words, dict(array.beat)
    highest = (1 << fields["address"].width) - 1
    made, beyond = [], 0

    def beat(**values):
        return sum(value << fields[name].offset for name, value in values.items())

    for sample in events:
        packet = []
        for step in sample:
            for address, value in step:
                packet.append(beat(address=address, **({"value": value} if words.graded else {})))
                if pick.random() < 0.1:
                    packet.append(beat(address=pick.randint(words.size, highest)))
                    beyond += 1
            packet.append(beat(end=1))
        if sample[-1] and pick.random() < 0.5:
            packet.pop()
        made.append(packet)
    return made, beyond


@pytest.mark.parametrize("width, readout, seed", [(1, "count", 0), (3, "membrane", 1)])
def test_packets_in_scores_out(width, readout, seed, tmp_path, monkeypatch):
    pick, rng = random.Random(seed), np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(5, 24, 3))
    net = network(sizes, WeightFormat("ternary", 2), width=width, readout=readout, seed=seed)
    program = Program(net, "hx8k", [Placement(4, 2), Placement(sizes[2], 1)])
    shape = (6, 4, sizes[0])
    x = (rng.random(shape) < 0.4) * rng.integers(0, 2**width, shape)
    x[1] = 0
    x[2] = 2**width - 1
    expected = reference.run(net, x)
    array = AxiStreamArray(program)
    sent, beyond = packets(array, scattered(array.array.collector.words, x, pick), pick)
    task = {"packets": sent, "dropped": beyond,
            "scores": expected.scores.tolist(), "winners": expected.winners.tolist()}
    assert simulate("axi_pins", {"array.v": verilog.generate(program, "axi-stream")}, verilog.MODULE, task,
                    tmp_path, monkeypatch) == (1, 0)


@pytest.mark.parametrize("bits, width", [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32)])
def test_beats_are_powers_of_two_bytes(bits, width):
    assert AxiStreamArray.tdata_width(bits) == width
