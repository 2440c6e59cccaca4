"""Bytes in, scores out: the top level equal to the reference, through its pins."""

from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator
from spikeloom import reference
from spikeloom.hw.top import BoardTop, Top
from spikeloom.hw.verilog import convert
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.program import Placement, Program
from spikeloom.sim import trace

DIVISOR = 4


def random_program(seed, *, i_width=1, kind=("ternary", 2), readout="count", target="icebreaker"):
    rng = np.random.default_rng(seed)
    weight_format = WeightFormat(*kind)
    sizes, layers = (11, 12, 5), []
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(Dense(f"layer_{number}", rng.choice(weight_format.values, (n_out, n_in)), weight_format,
                            rng.integers(1, 5, n_out), rng.integers(-1, 2, n_out), 6, ShiftLeak(2)))
    network = Network(InputFormat(sizes[0], i_width), tuple(layers), 3, readout)
    return Program(network, target, [Placement(8, 2), Placement(5, 1)])


def through_pins(top, inputs):
    """Scores (samples, n_out) and winners (samples,) of ``inputs``, sent and received bit by bit."""
    program = top.program
    fields = trace.input_words(program, inputs).tolist()
    words = program.cores[0].i_words
    score_width, n_out = program.score_width, program.network.n_out
    winner_width = max(1, (n_out - 1).bit_length())
    i_width = words.width + words.index_width + 2
    o_width = score_width + winner_width + 1
    scores, winners = [], []

    async def byte_out(ctx):
        """The next byte the board sends."""
        for _ in range(20_000):
            if not ctx.get(top.tx):
                break
            await ctx.tick()
        else:
            raise AssertionError("nothing was sent")
        await ctx.tick().repeat(DIVISOR + DIVISOR // 2)
        byte = 0
        for n in range(8):
            byte |= ctx.get(top.tx) << n
            await ctx.tick().repeat(DIVISOR)
        assert ctx.get(top.tx) == 1
        return byte

    async def send(ctx):
        samples = 0
        await ctx.delay(300e-6)  # a board resets after configuration
        for index, bits, last, final in fields:
            word = bits | index << words.width | last << (i_width - 2) | final << (i_width - 1)
            for byte in word.to_bytes(-(-i_width // 8), "little"):
                for bit in [0, *(byte >> n & 1 for n in range(8)), 1]:
                    ctx.set(top.rx, bit)
                    await ctx.tick().repeat(DIVISOR)
            samples += final
            while final and len(winners) < samples:
                await ctx.tick()

    async def receive(ctx):
        for _ in inputs:
            row = []
            for neuron in range(n_out):
                word = 0
                for n in range(-(-o_width // 8)):
                    word |= await byte_out(ctx) << 8 * n
                score = word & (1 << score_width) - 1
                row.append(score - (score >> score_width - 1 << score_width))
                assert word >> o_width - 1 == (neuron == n_out - 1)
            scores.append(row)
            winners.append(word >> score_width & (1 << winner_width) - 1)

    async def oscillate(ctx):
        while True:
            await ctx.delay(0.5e-6)
            ctx.set(top.clk, ~ctx.get(top.clk))

    simulator = Simulator(top)
    if isinstance(top, BoardTop):
        simulator.add_testbench(oscillate, background=True)
    else:
        simulator.add_clock(1e-6)
    simulator.add_testbench(send, background=True)
    simulator.add_testbench(receive)
    simulator.run()
    return np.array(scores), np.array(winners)


@pytest.mark.parametrize("block, options", [
    (Top, {}), (Top, {"i_width": 3, "kind": ("int", 4), "readout": "membrane"}), (BoardTop, {"kind": ("binary", 1)})])
def test_bytes_in_scores_out(block, options):
    for seed in range(2):
        program = random_program(seed, **options)
        rng = np.random.default_rng(seed)
        shape = (3, program.network.time_steps, program.network.input.size)
        inputs = (rng.random(shape) < 0.4) * rng.integers(0, 2**program.network.input.width, shape)
        inputs[1] = 0
        expected = reference.run(program.network, inputs)
        scores, winners = through_pins(block(program, divisor=DIVISOR), inputs)
        assert (scores == expected.scores).all()
        assert (winners == expected.winners).all()


def test_verilog_is_deterministic_and_keeps_names():
    texts = {convert(Top(random_program(0), divisor=12), "top", header=["a line"]) for _ in range(2)}
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith("// a line\n")
    for name in ("module top(", "layer_layer_0", "accumulator_7", "receiver"):
        assert name in text
    assert __file__.rsplit("/tests", 1)[0] not in text
