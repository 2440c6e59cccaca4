"""Bytes through a UART: each side against a bit-level model of the other, and both in a loop."""

import gc
import random
import re

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from spikeloom.hw.link.uart import UARTReceiver, UARTTransmitter


def simulate(module, *benches):
    simulator = Simulator(module)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


async def send_bits(ctx, pin, bits, divisor):
    for bit in bits:
        ctx.set(pin, bit)
        await ctx.tick().repeat(divisor)


def framed(byte, stop=1):
    return [0, *(byte >> n & 1 for n in range(8)), stop]


async def take(ctx, stream, count, patience=10_000):
    taken = []
    ctx.set(stream.ready, 1)
    for _ in range(patience):
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if valid:
            taken.append(payload)
        if len(taken) == count:
            return taken
    raise AssertionError(f"{len(taken)} of {count} bytes after {patience} cycles")


@pytest.mark.parametrize("divisor", [4, 5, 12])
def test_receiver_takes_back_to_back_bytes(divisor):
    sent = [0x00, 0xFF, 0x55, 0xAA, *random.Random(divisor).randbytes(10)]
    receiver = UARTReceiver(divisor)

    async def line(ctx):
        for byte in sent:
            await send_bits(ctx, receiver.rx, framed(byte), divisor)

    async def sink(ctx):
        assert await take(ctx, receiver.o, len(sent)) == sent

    simulate(receiver, line, sink)


def test_receiver_stands_a_clock_off_by_three_percent():
    receiver, divisor = UARTReceiver(32), 33
    sent = list(random.Random(1).randbytes(6))

    async def line(ctx):
        for byte in sent:
            await send_bits(ctx, receiver.rx, framed(byte), divisor)

    async def sink(ctx):
        assert await take(ctx, receiver.o, len(sent)) == sent

    simulate(receiver, line, sink)


def test_receiver_drops_a_byte_without_stop_bit_and_a_glitch():
    receiver, divisor = UARTReceiver(8), 8

    async def line(ctx):
        await send_bits(ctx, receiver.rx, [*framed(0x0F, stop=0), 0, 0, 1], divisor)
        ctx.set(receiver.rx, 0)
        await ctx.tick().repeat(2)
        await send_bits(ctx, receiver.rx, [1, 1, *framed(0x42)], divisor)

    async def sink(ctx):
        assert await take(ctx, receiver.o, 1) == [0x42]

    simulate(receiver, line, sink)


@pytest.mark.parametrize("divisor", [4, 7])
def test_transmitter_to_receiver(divisor):
    pauses = random.Random(divisor)
    sent = list(pauses.randbytes(12))
    transmitter, receiver = UARTTransmitter(divisor), UARTReceiver(divisor)
    m = Module()
    m.submodules += [transmitter, receiver]
    m.d.comb += receiver.rx.eq(transmitter.tx)

    async def source(ctx):
        for byte in sent:
            if pauses.random() < 0.3:
                await ctx.tick().repeat(pauses.randrange(1, 30))
            ctx.set(transmitter.i.payload, byte)
            ctx.set(transmitter.i.valid, 1)
            await ctx.tick().until(transmitter.i.ready)
            ctx.set(transmitter.i.valid, 0)

    async def sink(ctx):
        assert await take(ctx, receiver.o, len(sent)) == sent

    simulate(m, source, sink)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("block", [UARTReceiver, UARTTransmitter])
def test_divisor_is_checked(block):
    with pytest.raises(ValueError, match=re.escape("Divisor must be at least 4 clock cycles per bit, not 3")):
        block(3)
    gc.collect()  # while the filter holds
