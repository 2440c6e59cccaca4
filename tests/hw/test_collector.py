"""The collector: any events in any order come out as the words that hold them, however both sides stall."""

import random

import hypothesis
import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from hypothesis import given
from hypothesis import strategies as st
from spikeloom.compiler.words import WordFormat
from spikeloom.hw.collector import AddressEvent, Collector
from spikeloom.sim import stream


def event(words, address, value=1):
    return {"address": address, "end": 0, "final": 0, **({"value": value} if words.graded else {})}


def end(final):
    return {"end": 1, "final": int(final)}


def collected(words, steps):
    """What leaves a collector for ``steps`` of (events as pairs of address and value, final): index, bits and marks of
    each word; and how many events have no input."""
    expected, beyond = [], 0
    for events, final in steps:
        z = np.zeros(words.size, int)
        for address, value in events:
            if address < words.size:
                z[address] += value
            else:
                beyond += 1
        packed = words.pack(np.minimum(z, 2**words.width - 1 if words.graded else 1))
        indices = np.flatnonzero(packed).tolist() or [words.count - 1]
        expected += [(index, int(packed[index]), index == indices[-1], index == indices[-1] and final)
                     for index in indices]
    return expected, beyond


def payloads(words, steps):
    sent = []
    for events, final in steps:
        sent += [*(event(words, address, value) for address, value in events), end(final)]
    return sent


def simulate(words, steps, *, stall, seed=0, address_width=None):
    """What leaves a `Collector` for ``steps``, and what it counts as dropped when the last word leaves."""
    collector, pauses = Collector(words, address_width=address_width), random.Random(seed)
    count, seen, dropped = len(collected(words, steps)[0]), [], []

    def take(word, beyond):
        seen.append((word.index, word.bits, bool(word.last), bool(word.final)))
        dropped.append(beyond)
        return len(seen) == count

    simulation = stream.simulator(collector)
    sent = payloads(words, steps)
    simulation.add_testbench(stream.send(collector.i, sent, stall=stall, pauses=pauses), background=True)
    patience = 2000 + round(2 * len(sent) / (1 - stall))  # a time step may be all that is sent
    simulation.add_testbench(stream.receive(collector.o, take, stall=stall, pauses=pauses, patience=patience,
                                            beside=[collector.dropped]))
    simulation.run()
    return seen, dropped[-1]


@st.composite
def inputs(draw):
    """A word format, an address width, and time steps of events: few or many, many of them to few inputs."""
    if draw(st.booleans()):
        words = WordFormat(draw(st.integers(1, 40)), draw(st.integers(2, 4)), graded=True)
    else:
        words = WordFormat(draw(st.integers(1, 250)), draw(st.sampled_from([1, 2, 4, 8, 16])))
    least = max(1, (words.size - 1).bit_length())
    address_width = draw(st.one_of(st.none(), st.integers(least, least + 3)))
    highest = 2 ** (address_width or least) - 1
    pick = random.Random(draw(st.integers(0, 2**32)))
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["none", "few", "any", "repeats", "all"]))
        reach = {"repeats": min(highest, 2)}.get(kind, highest)
        addresses = [pick.randint(0, reach) for _ in range({"none": 0, "few": 3, "all": 0}.get(kind, 40))]
        if kind == "all":
            addresses = [*range(words.size), *range(words.size)]
            pick.shuffle(addresses)
        steps.append(([(address, pick.randrange(2**words.width) if words.graded else 1) for address in addresses],
                      draw(st.booleans())))
    return words, address_width, steps


@hypothesis.settings(deadline=None, max_examples=30, print_blob=True,
                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
@given(inputs(), st.sampled_from([0.0, 0.3, 0.8]), st.integers(0, 1000))
def test_words_hold_the_events(case, stall, seed):
    words, address_width, steps = case
    assert simulate(words, steps, stall=stall, seed=seed, address_width=address_width) == collected(words, steps)


@pytest.mark.parametrize("words", [WordFormat(784, 8), WordFormat(64, 8), WordFormat(100, 3, graded=True)])
@pytest.mark.parametrize("kind", ["none", "one", "all", "the same"])
def test_time_steps_follow_each_other_at_the_stated_rate(words, kind):
    events = {"none": [], "one": [words.size - 1], "all": list(range(words.size)), "the same": [5] * 300}[kind]
    packed = words.pack(np.bincount(events, minlength=words.size) > 0)
    rows = np.add.reduceat(packed != 0, np.arange(0, words.count, Collector.ROW))
    steps = [([(address, 1) for address in events], True)] * 8
    collector, ends = Collector(words), []

    def take(word, cycle):
        if word.last:
            ends.append(cycle)
        return len(ends) == len(steps)

    cycle = Signal(16)
    m = Module()
    m.submodules.collector = collector
    m.d.sync += cycle.eq(cycle + 1)
    simulation, pauses = stream.simulator(m), random.Random(0)
    simulation.add_testbench(stream.send(collector.i, payloads(words, steps), stall=0.0, pauses=pauses),
                             background=True)
    simulation.add_testbench(stream.receive(collector.o, take, stall=0.0, pauses=pauses, patience=2000,
                                            beside=[cycle]))
    simulation.run()
    assert set(np.diff(ends[2:])) == {max(len(events) + 1, np.maximum(rows, 1).sum() + Collector.OVERHEAD)}


@pytest.mark.parametrize("words", [WordFormat(128, 8), WordFormat(16, 2, graded=True)])
def test_the_last_event_of_a_time_step_is_in_its_words(words):
    # It has nothing else to do, so it begins to read as soon as it may, and only the last event tells of its word.
    steps = [([(words.size - 1, 1)] * 200 + [(last, 1)], False) for last in range(0, words.size, words.size // 16)]
    assert simulate(words, steps, stall=0.0) == collected(words, steps)


WAITS = range(0, 120, 5)


def test_reset_leaves_nothing_behind():
    words = WordFormat(40, 8)
    reset, collector = Signal(), Collector(words)
    m = Module()
    m.submodules.collector = ResetInserter(reset)(collector)
    pick, simulation = random.Random(3), stream.simulator(m)
    seen = []

    async def testbench(ctx):
        ctx.set(collector.o.ready, 1)
        for wait in WAITS:
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            # Each time another part of what follows has been done before the next reset.
            script = [*[event(words, pick.randrange(40)) for _ in range(10)], end(0)] * 3
            for _ in range(wait):
                ctx.set(collector.i.payload, script[0])
                ctx.set(collector.i.valid, 1)
                if ctx.get(collector.i.ready):
                    script = script[1:] + script[:1]
                await ctx.tick()
            ctx.set(collector.i.valid, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for number in range(2):
                ctx.set(collector.i.payload, event(words, 9 + number))
                ctx.set(collector.i.valid, 1)
                await ctx.tick().until(collector.i.ready)
                ctx.set(collector.i.payload, end(number))
                await ctx.tick().until(collector.i.ready)
                ctx.set(collector.i.valid, 0)
                (word,) = await ctx.tick().sample(collector.o.payload).until(collector.o.valid)
                seen.append((wait, word.index, word.bits, word.last, word.final))

    simulation.add_testbench(testbench)
    simulation.run()
    assert seen == [(wait, 1, 2 << number, 1, number) for wait in WAITS for number in range(2)]


def test_a_consumer_that_stalls_for_ever_loses_nothing():
    words = WordFormat(8, 8)
    collector, taken = Collector(words), []

    async def testbench(ctx):
        ctx.set(collector.i.valid, 1)
        for cycle in range(400):
            ctx.set(collector.i.payload, event(words, 1) if len(taken) % 2 == 0 else end(0))
            if ctx.get(collector.i.ready):
                taken.append(cycle)
            await ctx.tick()
        ctx.set(collector.i.valid, 0)
        ctx.set(collector.o.ready, 1)
        for _ in range(len(taken) // 2):
            (word,) = await ctx.tick().sample(collector.o.payload).until(collector.o.valid)
            assert (word.index, word.bits, word.last, word.final) == (0, 2, 1, 0)
        for _ in range(100):
            _, _, valid = await ctx.tick().sample(collector.o.valid)
            assert not valid

    simulation = stream.simulator(collector)
    simulation.add_testbench(testbench)
    simulation.run()
    # Two time steps in the register behind the collector, and two in its banks.
    assert len(taken) == 8 and taken[-1] < 200


def test_address_event_refuses_too_few_bits():
    with pytest.raises(ValueError, match="^Bits of an address must be at least 10 for 784 inputs, not 8$"):
        AddressEvent(WordFormat(784, 8), 8)
