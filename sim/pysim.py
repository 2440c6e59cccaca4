"""The array in Amaranth's own simulator."""

import random

import numpy as np
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from spikeloom.errors import SpikeloomError
from spikeloom.hw.array import Array

from . import trace

__all__ = ["run"]


def run(program, inputs, *, stall=0.0, seed=0):
    """Run ``inputs`` (samples, time steps, n_in) through the array; a `reference.Trace`, and the cycles it took.

    ``stall`` is the chance of each side to hesitate in a cycle. Raises `SpikeloomError` when the array stops
    making progress.
    """
    array = Array(program)
    samples, steps, _ = inputs.shape
    words = trace.input_words(program, inputs)
    scores, winners, cycles = [], [], []
    updates = [([], []) for _ in program.cores]
    cores = program.cores
    patience = 1000 + 40 * sum(core.groups * (core.i_words.size * core.i_words.width + core.pace) for core in cores)
    pauses = random.Random(seed)

    async def drive(ctx):
        for index, bits, last, final in words.tolist():
            while pauses.random() < stall:
                await ctx.tick()
            ctx.set(array.i.payload, {"index": index, "bits": bits, "last": last, "final": final})
            ctx.set(array.i.valid, 1)
            await ctx.tick().until(array.i.ready)
            ctx.set(array.i.valid, 0)

    async def collect(ctx):
        idle = 0
        while len(winners) < samples:
            ready = pauses.random() >= stall
            ctx.set(array.o.ready, ready)
            _, _, valid, payload, cycle = await ctx.tick().sample(array.o.valid, array.o.payload, array.cycles)
            idle += 1
            if valid and ready:
                idle = 0
                scores.append(payload.score)
                if payload.last:
                    winners.append(payload.winner)
                    cycles.append(cycle)
            if idle > patience * steps:
                raise SpikeloomError(f"The array made no progress for {idle} cycles")

    def watch(number):
        update = array.cores[number].update
        spikes, membranes = updates[number]

        async def process(ctx):
            async for _, _, valid, z, *v in ctx.tick().sample(update.valid, update.z, *update.v):
                if valid:
                    spikes.append([z >> unit & 1 for unit in range(cores[number].units)])
                    membranes.append(v)

        return process

    module = Module()
    module.domains.sync = ClockDomain()
    module.submodules.array = array
    simulator = Simulator(module)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive, background=True)
    simulator.add_testbench(collect)
    for number in range(len(cores)):
        simulator.add_process(watch(number))
    simulator.run()
    seen = [(np.array(z, np.int64), np.array(v, np.int64)) for z, v in updates]
    return trace.from_updates(program, samples, steps, seen, scores, winners), cycles[-1]
