"""The two ends of a stream in Amaranth's simulator, each hesitating at random."""

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from spikeloom.errors import SpikeloomError

__all__ = ["receive", "send", "simulator", "write"]


def simulator(block):
    """A `Simulator` of ``block`` with a clock and a reset that never comes."""
    module = Module()
    module.domains.sync = ClockDomain()
    module.submodules.block = block
    simulation = Simulator(module)
    simulation.add_clock(1e-6)
    return simulation


def send(stream, payloads, *, stall, pauses):
    """A testbench that transfers ``payloads``; before each it waits with chance ``stall`` per cycle, drawn from the
    generator ``pauses``."""
    async def testbench(ctx):
        for payload in payloads:
            while pauses.random() < stall:
                await ctx.tick()
            ctx.set(stream.payload, payload)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    return testbench


def write(bus, images):
    """A testbench that writes each of ``images`` over a `spikeloom.hw.load.LoadSignature`, a byte in each cycle."""
    async def testbench(ctx):
        ctx.set(bus.active, 1)
        ctx.set(bus.write, 1)
        for number, image in enumerate(images):
            ctx.set(bus.memory, number)
            for at, byte in enumerate(image.data):
                row, offset = divmod(at, image.row_bytes)
                ctx.set(bus.row, row)
                ctx.set(bus.byte, offset)
                ctx.set(bus.data, byte)
                await ctx.tick()
        ctx.set(bus.write, 0)
        ctx.set(bus.active, 0)

    return testbench


def receive(stream, take, *, stall, pauses, patience, beside=()):
    """A testbench that hands each payload to ``take``, with the values ``beside`` it in the same cycle, until that
    returns True. It is not ready with chance ``stall`` per cycle.

    Raises `SpikeloomError` when nothing comes for ``patience`` cycles.
    """
    async def testbench(ctx):
        idle, enough = 0, False
        while not enough:
            ready = pauses.random() >= stall
            ctx.set(stream.ready, ready)
            _, _, valid, payload, *others = await ctx.tick().sample(stream.valid, stream.payload, *beside)
            idle += 1
            if valid and ready:
                idle, enough = 0, take(payload, *others)
            if idle > patience:
                raise SpikeloomError(f"Nothing came for {idle} cycles")

    return testbench
