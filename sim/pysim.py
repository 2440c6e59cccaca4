"""The array in Amaranth's own simulator."""

import random

import numpy as np
from spikeloom.hw.array import Array

from . import stream, trace

__all__ = ["run"]


def run(program, inputs, *, load=None, stall=0.0, seed=0):
    """Run ``inputs`` (samples, time steps, n_in) through the array; a `reference.Trace`, and the cycles it took.

    ``load`` is a program of the same shape whose memories are written first; those of a program that starts empty are
    in any case. The cycles of that are not counted. ``stall`` is the chance of each side to hesitate in a cycle. Raises
    `SpikeloomError` when the array stops making progress.
    """
    array, cores, images = Array(program), program.cores, program.to_write(load)
    samples, steps, _ = inputs.shape
    names = ("index", "bits", "last", "final")
    words = [dict(zip(names, word, strict=True)) for word in trace.input_words(program, inputs).tolist()]
    updates = [([], []) for _ in cores]
    scores, winners, cycles, begun = [], [], [], [0]

    def take(result, cycle):
        scores.append(result.score)
        if result.last:
            winners.append(result.winner)
            cycles.append(cycle)
        return len(winners) == samples

    def watch(number):
        update = array.cores[number].update
        spikes, membranes = updates[number]

        async def process(ctx):
            async for _, _, valid, z, *v in ctx.tick().sample(update.valid, update.z, *update.v):
                if valid:
                    spikes.append([z >> unit & 1 for unit in range(cores[number].units)])
                    membranes.append(v)

        return process

    async def drive(ctx):
        if images:
            await stream.write(array.load, images)(ctx)
            begun[0] = ctx.get(array.cycles)
        await stream.send(array.i, words, stall=stall, pauses=pauses)(ctx)

    simulation, pauses = stream.simulator(array), random.Random(seed)
    patience = trace.patience(program, steps) + sum(len(image.data) for image in images)
    simulation.add_testbench(drive, background=True)
    simulation.add_testbench(stream.receive(array.o, take, stall=stall, pauses=pauses,
                                            patience=patience, beside=[array.cycles]))
    for number in range(len(cores)):
        simulation.add_process(watch(number))
    simulation.run()
    seen = [(np.array(z, np.int64), np.array(v, np.int64)) for z, v in updates]
    return trace.from_updates(program, samples, steps, seen, scores, winners), cycles[-1] - begun[0]
