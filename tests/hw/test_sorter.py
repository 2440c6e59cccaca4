"""The sorter: each event's rows come out once, in the replay of their group, however both sides stall and whenever a
reset comes."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from spikeloom.compiler.core import Core
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.hw.sorter import Sorter
from spikeloom.network import Dense, NoLeak, WeightFormat
from spikeloom.sim import stream
from streams import transfer

STALLS = [0.0, 0.3, 0.8]


def core(occupied, *, lanes=2, width=1, graded=False):
    """A sparse core whose groups have weights for the inputs that ``occupied`` (groups, inputs) tells."""
    occupied = np.array(occupied, int)
    weights = np.zeros((len(occupied), lanes, occupied.shape[1]), int)
    weights[:, -1] = occupied
    weights = weights.reshape(-1, occupied.shape[1])
    layer = Dense("layer", weights, WeightFormat("ternary", 2), np.ones(len(weights), int),
                  np.zeros(len(weights), int), 4, NoLeak())
    return Core(layer, WordFormat(occupied.shape[1], width, graded), lanes, 1, sparse=True)


def random_core(seed, groups, inputs, share, **options):
    """Some inputs and some groups have no weights at all."""
    rng = np.random.default_rng(seed)
    occupied = rng.random((groups, inputs)) < share
    occupied[:, rng.random(inputs) < 0.2] = False
    occupied[rng.random(groups) < 0.2] = False
    return core(occupied, **options)


CORES = {
    "some": random_core(0, 5, 12, 0.4),
    "all": core(np.ones((3, 4))),
    "none": core(np.zeros((3, 4))),
    "one group": random_core(2, 1, 9, 0.5),
    "one input": core([[1], [0], [1], [1]]),
    "many groups": random_core(3, 40, 6, 0.2),
    "the first group alone": core([[1] * 6, [0] * 6, [0] * 6]),
    "values": random_core(4, 4, 7, 0.5, width=3, graded=True),
}


def frames(core, count, seed=0):
    """Sets of events (as the scanner numbers them) of so many time steps: none, all, or any."""
    pick, words = random.Random(seed), core.i_words
    bits = words.width if words.graded else 1
    width = (bits - 1).bit_length()
    every = [number << width | bit for number in range(words.size) for bit in range(bits)]
    return [pick.choice([[], every, sorted(pick.sample(every, pick.randint(1, len(every))))]) for _ in range(count)]


def entries(frames):
    """What a scanner sends for ``frames``; every third time step ends a sample."""
    sent = []
    for step, events in enumerate(frames):
        sent += [{"bits": 1, "index": event, "end": 0, "last": 0, "final": 0} for event in events]
        sent.append({"bits": 0, "index": 0, "end": 1, "last": 1, "final": int(step % 3 == 2)})
    return sent


def replays(core, frames):
    """For each replay, the sorted pairs of group and input that it visits and the bits of values they are for, whether
    it is the last and whether the sample ends."""
    shift, weights = (core.i_words.width - 1).bit_length(), core.layer.weights.copy()
    if not weights.any():  # the first row is there all the same
        weights[0, 0] = 1
    found = []
    for step, events in enumerate(frames):
        for group in range(core.groups):
            neurons = weights[group * core.lanes:(group + 1) * core.lanes]
            found.append((sorted((group, event >> shift, event & (1 << shift) - 1) for event in events
                                 if neurons[:, event >> shift].any()),
                          group == core.groups - 1, step % 3 == 2))
    return found


def seen_replays(core, visits):
    """The same of what a sorter sent."""
    rows, found, replay = core.sparse_rows, [], []
    for visit in visits:
        if visit.end:
            found.append((sorted(replay), bool(visit.last), bool(visit.final)))
            replay = []
        else:
            replay.append((int(rows.groups[visit.row]), int(rows.inputs[visit.row]),
                           int(visit.shift) if core.i_words.graded else 0))
    assert not replay
    return found


def visits_of(core, frames):
    """How many visits and ends come out."""
    return sum(len(visits) + 1 for visits, *_ in replays(core, frames))


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", CORES)
def test_each_row_is_replayed_once_in_its_group(name, stall):
    core = CORES[name]
    sent = frames(core, 12)
    seen = transfer(Sorter(core), entries(sent), visits_of(core, sent), stall=stall, patience=4000)
    assert seen_replays(core, seen) == replays(core, sent)


def timed(core, frames):
    """Clock cycles in which each time step's end goes in, and its first and last entries come out, when nobody
    stalls."""
    sorter, cycle, m = Sorter(core), Signal(16), Module()
    m.submodules.sorter = sorter
    m.d.sync += cycle.eq(cycle + 1)
    simulation, pauses = stream.simulator(m), random.Random(0)
    taken, firsts, ends, fresh = [], [], [], [True]

    async def watch(ctx):
        async for *_, valid, ready, entry, now in ctx.tick().sample(sorter.i.valid, sorter.i.ready, sorter.i.payload,
                                                                    cycle):
            if valid and ready and entry.end:
                taken.append(now)

    def take(visit, now):
        if fresh[0]:
            firsts.append(now)
        fresh[0] = visit.end and visit.last
        if fresh[0]:
            ends.append(now)
        return len(ends) == len(frames)

    simulation.add_process(watch)
    simulation.add_testbench(stream.send(sorter.i, entries(frames), stall=0.0, pauses=pauses), background=True)
    simulation.add_testbench(stream.receive(sorter.o, take, stall=0.0, pauses=pauses, patience=4000, beside=[cycle]))
    simulation.run()
    return taken, firsts, ends


@pytest.mark.parametrize("occupied, events, sorting, replaying", [
    (np.ones((4, 30)), range(30), 4 * 30, 4 * 31),
    (np.ones((2, 20)), range(5), 2 * 5, 2 * 6),
    (np.eye(4, 30), range(30), 30, 4 + 4),
    (np.eye(30), range(30), 30, 60),
    (np.zeros((20, 6)), [], 0, 20),
    (np.ones((2, 2)), [0], 2, 4),
])
def test_time_steps_follow_each_other_at_the_stated_rate(occupied, events, sorting, replaying):
    taken = core(occupied)
    _, _, ends = timed(taken, [list(events)] * 11)
    two = np.subtract(ends[6:], ends[4:-2])
    assert set(two) == {max(2 * (sorting + 1), 2 * replaying, 2 * (taken.groups + Sorter.OVERHEAD),
                            sorting + replaying + Sorter.TURN)}


def test_latency_is_as_stated():
    taken, firsts, _ = timed(core(np.ones((1, 99))), [range(99), [0]])  # a reset's traces are gone when it ends
    assert firsts[0] - taken[0] == Sorter.LATENCY


def test_two_time_steps_wait_and_no_more():
    taken = core(np.ones((2, 3)))
    # Nobody takes the replays: a third time step is not sorted before the first has left.
    sent = entries([[0, 1, 2]] * 30)
    with pytest.raises(SpikeloomError, match="^Nothing came for 101 cycles$"):
        transfer(Sorter(taken), sent, 10**6, stall=0.0, patience=100)


def test_a_reset_leaves_nothing_behind():
    taken = random_core(5, 4, 8, 0.6)
    sent = frames(taken, 4, seed=2)
    expected, count = replays(taken, sent), visits_of(taken, sent)
    before = entries(frames(taken, 12, seed=3))
    for moment in range(1, 90, 9):
        sorter, reset, m = Sorter(taken), Signal(), Module()
        m.submodules.sorter = ResetInserter(reset)(sorter)
        simulation, seen = stream.simulator(m), []

        async def testbench(ctx, moment=moment, sorter=sorter, reset=reset, seen=seen):
            async def play(items, cycles):
                left = list(items)
                for _ in range(cycles):
                    ctx.set(sorter.i.valid, bool(left))
                    if left:
                        ctx.set(sorter.i.payload, left[0])
                    ctx.set(sorter.o.ready, 1)
                    *_, ready, valid, visit = await ctx.tick().sample(sorter.i.ready, sorter.o.valid, sorter.o.payload)
                    if left and ready:
                        left.pop(0)
                    if valid:
                        seen.append(visit)

            await play(before, moment)
            ctx.set(reset, 1)
            await play([], 1)
            ctx.set(reset, 0)
            seen.clear()
            await play(entries(sent), 2 * count + 100)

        simulation.add_testbench(testbench)
        simulation.run()
        assert seen_replays(taken, seen) == expected, moment
