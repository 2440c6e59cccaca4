"""Driving and watching one stream of a block, both sides hesitating at random."""

import random

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator


def transfer(block, items, count, *, stall=0.5, seed=0, patience=2000):
    """Send ``items`` into ``block.i`` and return the first ``count`` payloads that leave ``block.o``, as values.

    Each side hesitates in a share ``stall`` of the cycles. Fails when nothing moves for ``patience`` cycles.
    """
    pauses = random.Random(seed)
    received = []

    async def send(ctx):
        for item in items:
            while pauses.random() < stall:
                await ctx.tick()
            ctx.set(block.i.payload, item)
            ctx.set(block.i.valid, 1)
            await ctx.tick().until(block.i.ready)
            ctx.set(block.i.valid, 0)

    async def receive(ctx):
        idle = 0
        while len(received) < count:
            ready = pauses.random() >= stall
            ctx.set(block.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(block.o.valid, block.o.payload)
            if valid and ready:
                received.append(payload)
            idle = 0 if valid and ready else idle + 1
            if idle > patience:
                raise AssertionError(f"nothing came for {idle} cycles, after {len(received)} of {count}")

    module = Module()
    module.domains.sync = ClockDomain()
    module.submodules.block = block
    simulator = Simulator(module)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send, background=True)
    simulator.add_testbench(receive)
    simulator.run()
    return received
