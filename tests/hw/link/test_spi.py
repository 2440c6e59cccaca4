"""Bytes over SPI against a model of a controller, and a board behind it."""

import random

import pytest
from amaranth.sim import Simulator
from programs import random_inputs, random_program
from spikeloom import link, reference
from spikeloom.hw.link.spi import SPIPeripheral
from spikeloom.hw.top import Top


class Controller:
    """A controller in mode 0 with a clock of ``period`` of ours."""

    def __init__(self, pins, period=8):
        self.pins = pins
        self.half = period // 2

    async def select(self, ctx, on):
        ctx.set(self.pins.cs, not on)
        await ctx.tick().repeat(self.half)

    async def exchange(self, ctx, byte, bits=8):
        """The byte that comes while ``byte`` goes, or the first ``bits`` of them."""
        seen = 0
        for n in range(bits):
            ctx.set(self.pins.copi, byte >> (7 - n) & 1)
            await ctx.tick().repeat(self.half)
            seen = seen << 1 | ctx.get(self.pins.cipo)
            ctx.set(self.pins.sck, 1)
            await ctx.tick().repeat(self.half)
            ctx.set(self.pins.sck, 0)
        return seen


@pytest.mark.parametrize("period", [8, 9, 20])
def test_bytes_go_both_ways_and_a_broken_one_is_lost_alone(period):
    pick = random.Random(period)
    there, back = pick.randbytes(60), bytes(byte for byte in pick.randbytes(80) if byte != link.END)[:40]
    spi, heard, answered = SPIPeripheral(), [], []

    async def board_in(ctx):
        ctx.set(spi.o.ready, 1)
        while True:
            _, _, valid, byte = await ctx.tick().sample(spi.o.valid, spi.o.payload)
            if valid:
                heard.append(byte)

    async def board_out(ctx):
        for byte in back:
            while pick.random() < 0.97:
                await ctx.tick()
            ctx.set(spi.i.payload, byte)
            ctx.set(spi.i.valid, 1)
            await ctx.tick().until(spi.i.ready)
            ctx.set(spi.i.valid, 0)

    async def host(ctx):
        controller = Controller(spi, period)
        await ctx.tick().repeat(3)
        for number, byte in enumerate(there):
            if number % 7 == 0:
                await controller.select(ctx, False)
                await controller.select(ctx, True)
            answered.append(await controller.exchange(ctx, byte))
        while ctx.get(spi.busy) or len(answered) < 150:
            answered.append(await controller.exchange(ctx, link.END))
        await controller.exchange(ctx, 0x55, bits=3)
        await controller.select(ctx, False)
        await controller.select(ctx, True)
        await controller.exchange(ctx, 0xA5)
        await ctx.tick().repeat(4)

    simulator = Simulator(spi)
    simulator.add_clock(1e-6)
    simulator.add_testbench(board_in, background=True)
    simulator.add_testbench(board_out, background=True)
    simulator.add_testbench(host)
    simulator.run()
    assert [byte for byte in answered if byte != link.END] == list(back)
    assert heard[:60] == list(there) and set(heard[60:-1]) == {link.END} and heard[-1] == 0xA5


def test_a_board_behind_spi():
    program = random_program(1, target="ulx3s-25f")
    inputs = random_inputs(program, 2)
    expected = reference.run(program.network, inputs)
    top = Top(program, clock=8_000_000, transport="spi")
    payloads = [b"\x01\x42", *(payload for number, sample in enumerate(inputs)
                               for payload in link.sample(number, program.i_words.pack(sample)))]
    replies = []

    async def host(ctx):
        controller, decoder = Controller(top), link.Decoder()
        await controller.select(ctx, True)
        wire = list(b"".join(map(link.encode, payloads)))
        for _ in range(600):
            replies.extend(decoder.feed([await controller.exchange(ctx, wire.pop(0) if wire else link.END)]))
            if len(replies) == len(payloads):
                break
        assert decoder.damaged == 0

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.run()
    identity = link.Identity.of(program, clock=8_000_000, baud=0)
    assert replies[0] == b"\x81\x42" + identity.pack() + b"\1"
    assert [link.scores(reply[2:], identity) for reply in replies[1:]] == [
        (scores.tolist(), winner) for scores, winner in zip(expected.scores, expected.winners, strict=True)]
