"""The array in Amaranth's own simulator."""

import random

import numpy as np
from amaranth.hdl import Const
from spikeloom.hw.array import Array
from spikeloom.reference import Trace

from . import stream, trace

__all__ = ["run", "run_in_turn"]


def run(program, inputs, *, load=None, stall=0.0, seed=0):
    """Run ``inputs`` (samples, time steps, n_in) through the array; a `reference.Trace`, and the cycles it took.

    ``load`` is a program of the same shape whose memories are written first; those of a program that starts empty are
    in any case. The cycles of that are not counted. ``stall`` is the chance of each side to hesitate in a cycle. Raises
    `SpikeloomError` when the array stops making progress.
    """
    (seen,), cycles = run_in_turn(program, [(load, inputs)], stall=stall, seed=seed)
    return seen, cycles


def run_in_turn(program, turns, *, stall=0.0, seed=0):
    """Run several networks in the same array, one after the other; a `reference.Trace` of each, and the cycles since
    the last was loaded.

    Parameters
    ----------
    turns : list of (Program or None, int array (samples, time steps, n_in))
        what to load, as in `run`, and its inputs; the time steps are as many for all
    """
    array, cores = Array(program, observe=True), program.cores
    images = [program.to_write(load) for load, _ in turns]
    samples, steps = [len(inputs) for _, inputs in turns], turns[0][1].shape[1]
    names = ("index", "bits", "last", "final")
    words = [[dict(zip(names, word, strict=True)) for word in trace.input_words(program, inputs).tolist()]
             for _, inputs in turns]
    updates = [([], []) for _ in cores]
    scores, winners, cycles, begun = [], [], [], [0]

    def take(result, cycle):
        scores.append(result.score)
        if result.last:
            winners.append(result.winner)
            cycles.append(cycle)
        return len(winners) == sum(samples)

    def watch(number):
        update = getattr(array, f"update_{number}")
        spikes, membranes = updates[number]
        skipped = update.skipped if cores[number].skips else Const(0)

        async def process(ctx):
            async for _, _, valid, skips_row, z, *v in ctx.tick().sample(update.valid, skipped, update.z, *update.v):
                if valid or skips_row:
                    spikes.append(-1 if skips_row else z)
                    membranes.append(v)

        return process

    async def drive(ctx):
        for turn in range(len(turns)):
            while len(winners) < sum(samples[:turn]):  # memories are written while the array is idle
                await ctx.tick()
            if images[turn]:
                await stream.write(array.load, images[turn])(ctx)
                begun[0] = ctx.get(array.cycles)
            await stream.send(array.i, words[turn], stall=stall, pauses=pauses)(ctx)

    simulation, pauses = stream.simulator(array), random.Random(seed)
    patience = trace.patience(program, steps) + max(sum(len(image.data) for image in each) for each in images)
    simulation.add_testbench(drive, background=True)
    receive = stream.receive(array.o, take, stall=stall, pauses=pauses, patience=patience, beside=[array.cycles])

    async def finish(ctx):
        await receive(ctx)
        await ctx.tick().repeat(cores[-1].lanes)  # neurons that only fill up the last group may come behind the scores

    simulation.add_testbench(finish)
    for number in range(len(cores)):
        simulation.add_process(watch(number))
    simulation.run()
    seen = trace.from_updates(program, sum(samples), steps, [
        (np.array(z, np.int64), np.array(v, np.int64)) for z, v in updates], scores, winners,
        [load for (load, _), count in zip(turns, samples, strict=True) for _ in range(count)])
    ends = np.cumsum(samples)[:-1]
    each = [Trace(*parts) for parts in zip(
        zip(*(np.split(z, ends) for z in seen.spikes), strict=True),
        zip(*(np.split(v, ends) for v in seen.membranes), strict=True),
        np.split(seen.scores, ends), np.split(seen.winners, ends), strict=True)]
    return each, cycles[-1] - begun[0]
