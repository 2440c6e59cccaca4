"""What is around the top level on a board: reset, lock, LEDs, and the primitives."""

import re

from amaranth.sim import Simulator
from programs import random_inputs, random_program
from spikeloom import link, reference
from spikeloom.hw.board import RESET_SECONDS, BoardTop, FittedTop, Fittings
from spikeloom.hw.clock import ICE40PLL, Oscillator
from spikeloom.hw.verilog import convert
from test_top import BAUD, CLOCK, through_pins


def test_reset_waits_for_the_lock_and_returns_when_it_is_lost():
    top = BoardTop(random_program(1), clock=CLOCK, baud=BAUD, lockable=True)
    enough = round(RESET_SECONDS * CLOCK)

    async def testbench(ctx):
        async def cycles(count):
            for _ in range(count):
                ctx.set(top.clk, 1)
                await ctx.delay(1e-7)
                ctx.set(top.clk, 0)
                await ctx.delay(1e-7)

        await cycles(4 * enough)
        assert ctx.get(top.busy)
        ctx.set(top.locked, 1)
        await cycles(enough)
        assert ctx.get(top.busy)
        await cycles(2 * enough)
        assert not ctx.get(top.busy)
        ctx.set(top.locked, 0)
        await cycles(8)
        assert ctx.get(top.busy)
        ctx.set(top.locked, 1)
        await cycles(4 * enough)
        assert not ctx.get(top.busy)

    simulator = Simulator(top)
    simulator.add_testbench(testbench)
    simulator.run()


def test_leds_show_the_winner():
    program, inverted = random_program(1), (False, True, False, True, True)
    inputs = random_inputs(program, 3)
    winners = reference.run(program.network, inputs).winners
    assert winners.any()
    shown = []

    def look(ctx):
        shown.append([ctx.get(getattr(top, f"led_{n}")) ^ low for n, low in enumerate(inverted)])

    for number in range(3):
        top = FittedTop(program, source=Oscillator(CLOCK / 1e6), fittings=Fittings(inverted), baud=BAUD)
        through_pins(top, link.sample(0, program.i_words.pack(inputs[number])), look)
    assert shown == [[int(winner) >> n & 1 for n in range(5)] for winner in winners]


def test_what_only_a_simulation_looks_at_has_no_pins():
    program = random_program(1)
    fittings = Fittings((True,), usrmclk=True, high=("flash_wp", "flash_hold"))
    text = convert(FittedTop(program, source=ICE40PLL(12.0, 1, 64, 5, pad=True), fittings=fittings, transport="spi",
                             boot_offset=0x100000), "top")
    assert re.search(r"^  USRMCLK ", text, re.MULTILINE) and re.search(r"^  SB_PLL40_PAD ", text, re.MULTILINE)
    top = re.search(r"^module top\((.*?)\);", text, re.MULTILINE | re.DOTALL)[1]
    assert set(top.split(", ")) == {
        "clk", "sck", "cs", "copi", "cipo", "flash_cs", "flash_copi", "flash_cipo", "flash_wp", "flash_hold", "led_0"}
    assert "assign flash_wp = 1'h1;" in text and "assign flash_hold = 1'h1;" in text
