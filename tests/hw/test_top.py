"""The top level equal to the reference, through its pins."""

import pytest
from amaranth.sim import Simulator
from programs import random_inputs, random_program
from spikeloom import link, reference
from spikeloom.errors import SpikeloomError
from spikeloom.hw.board import BoardTop
from spikeloom.hw.top import Top
from spikeloom.hw.verilog import convert

DIVISOR = 4
CLOCK, BAUD = 4_000_000, 1_000_000


def through_pins(top, payloads, look=None):
    """The replies to ``payloads``, sent and received bit by bit; then ``look(ctx)``, if given, sees the end."""
    replies, decoder = [], link.Decoder()

    async def send(ctx):
        await ctx.delay(300e-6)  # a board resets after configuration
        for byte in b"".join(map(link.encode, payloads)):
            for bit in [0, *(byte >> n & 1 for n in range(8)), 1]:
                ctx.set(top.rx, bit)
                await ctx.tick().repeat(DIVISOR)

    async def receive(ctx):
        while len(replies) < len(payloads):
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
            replies.extend(decoder.feed([byte]))
        assert decoder.damaged == 0
        if look:
            look(ctx)

    async def oscillate(ctx):
        while True:
            await ctx.delay(0.5e-6)
            ctx.set(top.clk, ~ctx.get(top.clk))

    simulator = Simulator(top)
    if hasattr(top, "clk"):
        simulator.add_testbench(oscillate, background=True)
    else:
        simulator.add_clock(1e-6)
    simulator.add_testbench(send, background=True)
    simulator.add_testbench(receive)
    simulator.run()
    return replies


@pytest.mark.parametrize("make, options", [
    (lambda program: Top(program, clock=CLOCK, baud=BAUD), {"i_width": 3, "kind": ("int", 4), "readout": "membrane"}),
    (lambda program: BoardTop(program, clock=CLOCK, baud=BAUD), {"kind": ("binary", 1)})])
def test_samples_in_scores_out(make, options):
    program = random_program(1, **options)
    inputs = random_inputs(program, 3)
    expected = reference.run(program.network, inputs)
    payloads = [payload for number, sample in enumerate(inputs)
                for payload in link.sample(number, program.i_words.pack(sample))]
    replies = through_pins(make(program), payloads)
    identity = link.Identity.of(program, clock=CLOCK, baud=BAUD)
    assert [reply[:2] for reply in replies] == [bytes([0x83, number]) for number in range(3)]
    for reply, scores, winner in zip(replies, expected.scores, expected.winners, strict=True):
        assert link.scores(reply[2:], identity) == (scores.tolist(), winner)


def test_baud_rates_the_clock_cannot_make_are_refused():
    with pytest.raises(SpikeloomError, match="^Baud rate 3000000 cannot be made from 10 MHz"):
        Top(random_program(0), clock=10_000_000, baud=3_000_000)


def test_verilog_is_deterministic_and_keeps_names():
    texts = {convert(Top(random_program(0), clock=12_000_000, baud=BAUD), "top", header=["a line"]) for _ in range(2)}
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith("// a line\n")
    for name in ("module top(", "layer_layer_0", "accumulator_7", "receiver"):
        assert name in text
    assert __file__.rsplit("/tests", 1)[0] not in text
