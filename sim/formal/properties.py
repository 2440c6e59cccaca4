"""What the control blocks promise, as properties around the blocks themselves.

The order of a stream is followed by one item: at any time, a free choice marks an item that goes in, and from then on
its place in the queue is counted down. When it is its turn it must come out, and as it should be. As the choice is
free, what holds for the marked item holds for all.
"""

import numpy as np
from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    C,
    Cat,
    Elaboratable,
    Module,
    Mux,
    Signal,
    Value,
    signed,
)
from spikeloom.compiler.core import Core
from spikeloom.compiler.map_core import MapCore
from spikeloom.compiler.words import JointWords, WordFormat, joined
from spikeloom.hw.event_list import EventList
from spikeloom.hw.neuron import NeuronUpdate
from spikeloom.hw.scanner import ScanStage
from spikeloom.hw.skid import Skid
from spikeloom.hw.sorter import Sorter
from spikeloom.hw.synapse import Synapses
from spikeloom.network import Dense, NoLeak, Spike, WeightFormat

from .proof import Proof, drive, free, keeps, moves

__all__ = ["proofs"]


class Queue(Elaboratable):
    """A stream block that turns each item into some others, in order.

    Parameters
    ----------
    block : with streams ``i`` and ``o``
    count : function(payload) -> Value
        how many items an input becomes
    item : function(payload, n) -> list of (Value, expected Value) pairs by name of the output's fields
        the n-th of these (a Value)
    capacity : int
        items that the block holds at most
    within : int
        cycles in which a block that may move must
    most : int
        items that an input becomes at most
    """

    def __init__(self, block, count, item, *, capacity, within, most=1):
        self.block, self.count, self.item = block, count, item
        self.capacity, self.within, self.most = capacity, within, most

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        drive(m, block.i, block.o)
        keeps(m, block.o)

        taken, given = Signal(), Signal()
        m.d.comb += [taken.eq(block.i.valid & block.i.ready), given.eq(block.o.valid & block.o.ready)]
        count = Signal(range(self.most + 1))
        m.d.comb += count.eq(self.count(block.i.payload))

        # No item comes out that did not go in, and none is left behind.
        pending = Signal(range(self.capacity + self.most + 1))
        m.d.sync += pending.eq(pending + Mux(taken, count, 0) - given)
        m.d.comb += Assert(pending <= self.capacity)
        with m.If(block.o.valid):
            m.d.comb += Assert(pending != 0)
        moves(m, pending != 0, block, self.within)

        # The marked item.
        marked, ahead = Signal(), Signal.like(pending)
        payload = Signal(block.i.payload.shape())
        nth = Signal(range(self.most))
        choice = free(m, nth.shape())
        with m.If(marked):
            with m.If(given):
                m.d.sync += ahead.eq(ahead - 1)
                with m.If(ahead == 0):
                    m.d.sync += marked.eq(0)
        with m.Elif(taken & free(m, 1) & (choice < count)):
            m.d.sync += [marked.eq(1), payload.eq(block.i.payload), nth.eq(choice),
                         ahead.eq(pending - given + choice)]
        with m.If(marked & (ahead == 0) & block.o.valid):
            for seen, expected in self.item(payload, nth, block.o.payload):
                m.d.comb += Assert(seen == expected)
        return m


def _same(payload, nth, seen):
    return [(Value.cast(seen), Value.cast(payload))]


def skid(width, block=Skid):
    return Proof(f"Skid({width})", "every item comes out once, unchanged and in order; what is offered stays; with the "
                 "output taken, an item comes out and room is there in every cycle",
                 lambda: Queue(block(width), lambda payload: 1, _same, capacity=2, within=1))


def _ones(bits):
    return sum((bit for bit in bits), C(0, 1))


def _nth_one(bits, nth):
    """Position of the nth set bit."""
    position = C(0, max(1, (len(bits) - 1).bit_length()))
    for n in reversed(range(len(bits))):
        position = Mux(bits[n] & (_ones(bits[:n]) == nth), n, position)
    return position


def scan_stage(chunks, chunk_width, index_width, block=ScanStage):
    def busy(payload):
        return Cat(payload.bits.word_select(n, chunk_width).any() for n in range(chunks))

    def item(payload, nth, seen):
        position = _nth_one(busy(payload), nth)
        index = Cat(position[: (chunks - 1).bit_length()], payload.index)
        return [
            (Cat(seen.end, seen.last, seen.final), Cat(payload.end, payload.last, payload.final)),
            (Mux(seen.end, 0, seen.index), Mux(payload.end, 0, index)),
            (Mux(seen.end, 0, seen.bits), Mux(payload.end, 0, payload.bits.word_select(position, chunk_width))),
        ]

    return Proof(f"ScanStage({chunks}, {chunk_width}, {index_width})",
                 "every chunk that is not zero comes out once, in order, with its place; an end passes between them",
                 lambda: Stocked(Queue(
                     block(chunks, chunk_width, index_width), lambda payload: Mux(payload.end, 1, _ones(busy(payload))),
                     item, capacity=chunks, within=chunks, most=chunks)))


def marking_scan_stage(chunks, chunk_width, index_width, block=ScanStage):
    """A stage behind the rows under a kernel, whose ends have spikes of their own."""
    def busy(payload):
        return Cat(payload.bits.word_select(n, chunk_width).any() for n in range(chunks))

    def count(payload):
        return Mux(busy(payload).any(), _ones(busy(payload)), payload.end)

    def item(payload, nth, seen):
        position, some = _nth_one(busy(payload), nth), busy(payload).any()
        index = Cat(position[: (chunks - 1).bit_length()], payload.index)
        return [
            (Cat(seen.last, seen.final), Cat(payload.last, payload.final)),
            (seen.end, payload.end & (nth + 1 == count(payload))),
            (Mux(some, seen.index, seen.index[-index_width:]), Mux(some, index, payload.index)),
            (seen.bits, Mux(some, payload.bits.word_select(position, chunk_width), 0)),
        ]

    return Proof(f"ScanStage({chunks}, {chunk_width}, {index_width}, marks=True)",
                 "every chunk that is not zero comes out once, in order, with its place; an end stays with the last of "
                 "them, or passes alone; what is neither is dropped",
                 lambda: Queue(block(chunks, chunk_width, index_width, marks=True), count, item, capacity=chunks,
                               within=chunks, most=chunks))


class Stocked(Elaboratable):
    """A `Queue` whose producer never sends a word without a bit, but for an end."""

    def __init__(self, queue):
        self.queue = queue

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = self.queue
        payload = self.queue.block.i.payload
        m.d.comb += Assume(payload.end | payload.bits.any())
        return m


class Replays(Elaboratable):
    """An `EventList` between any producer that keeps its rules and any consumer.

    A time step is marked by free choice, and one of its words. From the marked time step's replays the word must come
    out at its place, in each of them, and after all words the end, with its tags.
    """

    def __init__(self, block, *, within):
        self.block, self.within = block, within

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        words, groups = block.words, block.groups
        i = block.i_0
        drive(m, i, block.o)
        m.d.comb += block.permit_0.ready.eq(free(m, 1))
        keeps(m, block.o)

        taken, given = Signal(), Signal()
        entry = i.payload
        stored = Signal()  # a silent word only ends its time step
        m.d.comb += [taken.eq(i.valid & i.ready), given.eq(block.o.valid & block.o.ready),
                     stored.eq(taken & entry.bits.any())]

        # The producer: no more words in a time step than there are.
        size = Signal(range(words.count + 1))
        with m.If(taken):
            m.d.sync += size.eq(Mux(entry.last, 0, size + entry.bits.any()))
        m.d.comb += Assume((size < words.count) | ~entry.bits.any())

        # What comes out: replays of the time steps that are complete, and of no others.
        most = 2 * groups + 4  # two banks, and what is on its way out
        ends = Signal(range(most + groups + 1))  # that are still to come
        ended = Signal()
        m.d.comb += ended.eq(given & block.o.payload.end)
        m.d.sync += ends.eq(ends + Mux(taken & entry.last, groups, 0) - ended)
        m.d.comb += Assert(ends <= most)
        with m.If(block.o.valid):
            m.d.comb += Assert(ends != 0)
        place = Signal(range(words.count + 2))  # in the replay
        with m.If(given):
            m.d.sync += place.eq(Mux(block.o.payload.end, 0, place + 1))

        # The marked time step, and the marked word in it. ``before`` are the ends of replays that come before its own.
        marked, complete, chosen = Signal(), Signal(), Signal()
        before = Signal.like(ends)
        replay = Signal(range(groups + 1))
        word = Signal(Value.cast(Cat(entry.bits, entry.index)).shape())
        at, length = Signal.like(place), Signal.like(place)
        final = Signal()
        fresh = Signal()  # the word that is taken begins a time step
        first = Signal(init=1)
        with m.If(taken):
            m.d.sync += first.eq(entry.last)
        m.d.comb += fresh.eq(first)
        mark, choose = free(m, 1), free(m, 1)
        begins = Signal()
        m.d.comb += begins.eq(~marked & taken & fresh & mark)
        with m.If(begins):
            m.d.sync += [marked.eq(1), complete.eq(0), chosen.eq(0), replay.eq(0), before.eq(ends - ended)]
        with m.Elif(marked & ended & (before != 0)):
            m.d.sync += before.eq(before - 1)
        with m.If(begins | (marked & ~complete & taken)):
            now = Mux(begins, 0, length)
            m.d.sync += length.eq(now + entry.bits.any())
            with m.If(stored & choose & (begins | ~chosen)):
                m.d.sync += [chosen.eq(1), word.eq(Cat(entry.bits, entry.index)), at.eq(now)]
            with m.If(entry.last & taken):
                m.d.sync += [complete.eq(1), final.eq(entry.final)]
        own = Signal()
        m.d.comb += own.eq(marked & (before == 0) & block.o.valid)
        with m.If(own):
            m.d.comb += [
                Assert(complete),
                Assert(block.o.payload.end == (place == length)),
            ]
            with m.If(chosen & (place == at)):
                m.d.comb += Assert(Cat(block.o.payload.bits, block.o.payload.index) == word)
            with m.If(block.o.payload.end):
                m.d.comb += [Assert(block.o.payload.last == (replay == groups - 1)),
                             Assert(block.o.payload.final == final)]
        with m.If(own & ended):
            m.d.sync += replay.eq(replay + 1)
            with m.If(replay == groups - 1):
                m.d.sync += marked.eq(0)

        # Bounded progress, and the promise of the permits: who waits for them is never told to wait.
        idle = Signal(range(self.within + 2))
        m.d.sync += idle.eq(Mux(block.o.ready & ~block.o.valid & (ends != 0), idle + 1, 0))
        m.d.comb += Assert(idle <= self.within)
        return m


def event_list(words, groups, depth, block=EventList):
    return Proof(f"EventList({words.count} words of {words.width} + {words.index_width} bits, {groups} groups)",
                 "each complete time step comes out once for every group, its words in order and unchanged, then an "
                 "end with its tags; with the output taken, it never pauses for more than six cycles",
                 lambda: Replays(block(words, groups=groups), within=6), depth)


class Joins(Elaboratable):
    """An `EventList` of two sources, the second of which comes later than it is sent, between any producers that keep
    their rules and any consumer.

    Lengths of samples are chosen for good, and a time step of one of them: only in that the second source's last neuron
    spikes. It must come out in each replay of the time step that is so much later in the same sample, and in no other.
    """

    SAMPLES = 3

    def __init__(self, block, *, within):
        self.block, self.within = block, within

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        first, second = block.words.inputs
        groups, delay = block.groups, second.delay
        keeps(m, block.o)
        m.d.comb += block.o.ready.eq(free(m, 1))
        lengths = Array([free(m, range(4), "anyconst") for _ in range(self.SAMPLES)])
        the_sample, the_step = free(m, range(self.SAMPLES), "anyconst"), free(m, range(4), "anyconst")
        m.d.comb += Assume(the_step <= lengths[the_sample])

        def counted(name, step_ends):
            """Which time step of which sample it is, and how many there were."""
            sample, step, total = (Signal(range(width), name=f"{name}_{what}") for what, width in
                                   (("sample", self.SAMPLES + 1), ("step", 4), ("total", 4 * self.SAMPLES + 1)))
            final = step == lengths[sample]
            with m.If(step_ends):
                m.d.sync += [step.eq(Mux(final, 0, step + 1)), sample.eq(sample + final), total.eq(total + 1)]
            return sample, step, total, final

        totals = []
        for number, source in enumerate((first, second)):
            i, permit = getattr(block, f"i_{number}"), getattr(block, f"permit_{number}")
            taken, word = Signal(), i.payload
            m.d.comb += [i.payload.eq(free(m, Value.cast(i.payload).shape())), i.valid.eq(free(m, 1)),
                         permit.ready.eq(free(m, 1)), taken.eq(i.valid & i.ready)]
            sample, step, total, final = counted(f"i_{number}", taken & word.last)
            totals.append(total)
            next_index = Signal(range(source.words.count + 1), name=f"i_{number}_next")
            rises = (word.index >= next_index) & (word.index < source.words.count)
            m.d.comb += Assume(~i.valid | (rises & (sample < self.SAMPLES) & (word.final == (word.last & final))))
            with m.If(taken):
                m.d.sync += next_index.eq(Mux(word.last, 0, word.index + 1))
        # The second source, of which ``word`` and so on now are.
        marked = (sample == the_sample) & (step == the_step)
        spikes = word.bits.any() & (word.index == second.words.count - 1)
        m.d.comb += Assume(~i.valid | (spikes == (marked & word.last)))

        # What comes out.
        given, entry = Signal(), block.o.payload
        m.d.comb += given.eq(block.o.valid & block.o.ready)
        sample, step, total, final = counted("o", given & entry.end & entry.last)
        group, seen = Signal(range(groups)), Signal()
        its = Signal()
        m.d.comb += its.eq((second.first + second.words.count - 1 == entry.index) & ~entry.end)
        due = (sample == the_sample) & (step == the_step + delay)
        with m.If(block.o.valid):
            m.d.comb += Assert(totals[0] > total)
            with m.If(its):
                m.d.comb += Assert(due & ~seen)
            with m.If(entry.end):
                m.d.comb += [Assert(seen == due), Assert(entry.last == (group == groups - 1)),
                             Assert(entry.final == final)]
        with m.If(given):
            m.d.sync += [seen.eq((seen | its) & ~entry.end)]
            with m.If(entry.end):
                m.d.sync += group.eq(Mux(entry.last, 0, group + 1))

        # Bounded progress, once all that the next replay needs has come.
        needed = Mux(step < delay, total - step, total - delay + 1)
        idle = Signal(range(self.within + 2))
        complete = (totals[0] > total) & (totals[1] >= needed)
        m.d.sync += idle.eq(Mux(block.o.ready & ~block.o.valid & complete, idle + 1, 0))
        m.d.comb += Assert(idle <= self.within)
        return m


def joint_list(delay, groups, depth, block=EventList):
    """Two neurons each, in words of one bit."""
    words = WordFormat(2, 1)
    joint = joined([(words, {}), (words, {"delay": delay, "banks": delay + 1})])
    return Proof(f"EventList(2 sources, delays 0 and {delay}, {groups} groups)",
                 "what a source sends comes out so many time steps later in the same sample, once in each replay, and "
                 "nothing of a sample in another; ends have their tags; once all has come that the next replay needs, "
                 "with the output taken, it never pauses for more than "
                 f"{PAUSE} cycles", lambda: Joins(block(joint, groups=groups), within=PAUSE), depth)


#: Clock cycles of a bounded proof of a list of several sources: a sample, what is dropped behind it, and another.
JOINED = 20

#: Cycles in which a list of several sources may show nothing, what is dropped at a sample's end among them.
PAUSE = 10


class Sorting(Elaboratable):
    """A `Sorter` between any producer that keeps its rules and any consumer.

    A time step is marked by free choice, and for good a row of weights. In the marked time step's replay of the row's
    group it must come out once if its input had an event, and not otherwise; and no row comes out in another group's.
    """

    def __init__(self, block, *, within):
        self.block, self.within = block, within

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        groups, rows = block.core.groups, block.core.sparse_rows
        drive(m, block.i, block.o)
        keeps(m, block.o)
        taken, given = Signal(), Signal()
        m.d.comb += [taken.eq(block.i.valid & block.i.ready), given.eq(block.o.valid & block.o.ready)]
        entry, visit = block.i.payload, block.o.payload

        # The producer: an input has one event in a time step at most.
        inputs = block.core.layer.n_in
        fired = Signal(inputs)
        m.d.comb += Assume(entry.end | ((entry.index < inputs) & ~fired.bit_select(entry.index, 1)))
        with m.If(taken):
            m.d.sync += fired.eq(Mux(entry.end, 0, fired | (1 << entry.index)))

        # What comes out: replays of the time steps that are complete, and of no others.
        most = 6 * groups + 4  # two banks, and what is on its way to them and out
        ends = Signal(range(most + groups + 1))  # that are still to come
        ended = Signal()
        m.d.comb += ended.eq(given & visit.end)
        m.d.sync += ends.eq(ends + Mux(taken & entry.end, groups, 0) - ended)
        m.d.comb += Assert(ends <= most)
        group = Signal(range(groups))
        with m.If(ended):
            m.d.sync += group.eq(Mux(group == groups - 1, 0, group + 1))
        with m.If(block.o.valid):
            m.d.comb += Assert(ends != 0)
            with m.If(visit.end):
                m.d.comb += Assert(visit.last == (group == groups - 1))
            with m.Else():
                m.d.comb += [Assert(visit.row < rows.count),
                             Assert(group == Array(rows.groups.tolist())[visit.row])]

        # The marked time step, and the row. ``before`` are the ends of replays that come before its own.
        marked, complete, due, seen, final = (Signal() for _ in range(5))
        before, first = Signal.like(ends), Signal(init=1)
        with m.If(taken):
            m.d.sync += first.eq(entry.end)
        row = free(m, range(rows.count), "anyconst")
        m.d.comb += Assume(row < rows.count)
        begins = Signal()
        m.d.comb += begins.eq(~marked & taken & first & free(m, 1))
        its = taken & ~entry.end & (entry.index == Array(rows.inputs.tolist())[row])
        with m.If(begins):
            m.d.sync += [marked.eq(1), complete.eq(entry.end), due.eq(its), seen.eq(0), final.eq(entry.final),
                         before.eq(ends - ended)]
        with m.Elif(marked):
            with m.If(ended & (before != 0)):
                m.d.sync += before.eq(before - 1)
            with m.If(~complete & taken):
                m.d.sync += [complete.eq(entry.end), due.eq(due | its), final.eq(entry.final)]
        with m.If(marked & (before == 0) & block.o.valid):
            m.d.comb += Assert(complete)
            with m.If(visit.end):
                m.d.comb += Assert(visit.final == final)
                with m.If(group == Array(rows.groups.tolist())[row]):
                    m.d.comb += Assert(seen == due)
            with m.Elif(visit.row == row):
                m.d.comb += Assert(~seen)
            with m.If(given):
                m.d.sync += [seen.eq(seen | (~visit.end & (visit.row == row))), marked.eq(~(visit.end & visit.last))]

        idle = Signal(range(self.within + 2))
        m.d.sync += idle.eq(Mux(block.o.ready & ~block.o.valid & (ends != 0), idle + 1, 0))
        m.d.comb += Assert(idle <= self.within)
        return m


def sorter(core, depth, block=Sorter):
    """Of a sparse core for single spikes."""
    return Proof(f"Sorter({core.layer.n_in} inputs, {core.groups} groups, {core.sparse_rows.count} rows)",
                 "each complete time step comes out once; of each event all rows of weights, each once and in its "
                 "group's replay, which ends with its tags; with the output taken, it never pauses for more than "
                 f"{SORTER_PAUSE} cycles",
                 lambda: Sorting(block(core), within=SORTER_PAUSE), depth)


class Sharing(Elaboratable):
    """The accumulators of a core and its update units, from visits to stored membrane potentials.

    Visits and ends come at any time, ends at least ``pace`` cycles apart. One neuron is followed, which the solver
    chooses for good: its sums and its potential are computed beside, from the weights, and at each of its updates the
    unit must show just that potential.
    """

    def __init__(self, core, *, pace):
        self.core, self.pace = core, pace
        self.synapses, self.neurons = Synapses(core), NeuronUpdate(core)

    def elaborate(self, platform):
        m = Module()
        core, layer = self.core, self.core.layer
        m.submodules.synapses, m.submodules.neurons = synapses, neurons = self.synapses, self.neurons
        visit = synapses.visit
        m.d.comb += [
            Value.cast(visit).eq(free(m, len(Value.cast(visit)))),
            synapses.visit_valid.eq(free(m, 1)),
            Assume(visit.row < layer.n_in),
            neurons.start.eq(synapses.start), neurons.last.eq(synapses.last), neurons.final.eq(synapses.final),
            *(neurons.sums[unit].eq(synapses.sums[unit]) for unit in range(core.units)),
        ]
        # An input is visited once in a replay, or sums would not fit.
        visited = Signal(layer.n_in)
        adds, ends = Signal(), Signal()
        m.d.comb += [adds.eq(synapses.visit_valid & ~visit.end), ends.eq(synapses.visit_valid & visit.end),
                     Assume(~(adds & visited.bit_select(visit.row, 1)))]
        with m.If(ends):
            m.d.sync += visited.eq(0)
        with m.Elif(adds):
            m.d.sync += visited.bit_select(visit.row, 1).eq(1)
        wait = Signal(range(self.pace))
        m.d.sync += wait.eq(Mux(ends, self.pace - 1, Mux(wait == 0, 0, wait - 1)))
        group = Signal(range(core.groups)) if core.groups > 1 else C(0, 1)
        m.d.comb += [Assume(~ends | (wait == 0))]
        last = group == core.groups - 1
        if core.groups > 1:
            with m.If(ends):
                m.d.sync += group.eq(Mux(last, 0, group + 1))
        m.d.comb += Assume(~visit.end | (visit.last == last))
        finals = Signal()  # all groups of a time step agree on whether it is the sample's last
        with m.If(ends):
            m.d.sync += finals.eq(visit.final)
        m.d.comb += Assume(~ends | (group == 0) | (visit.final == finals))

        neuron = free(m, range(core.groups * core.lanes), "anyconst")
        m.d.comb += Assume(neuron < layer.n_out)
        mine = group == neuron // core.lanes
        weights = Array(Array(C(int(w), signed(9)) for w in row) for row in layer.weights)
        total = Signal(signed(core.potential_width + 8))
        v, started = Signal(signed(layer.v_width)), Signal()
        potential = Signal(signed(core.potential_width + 9))
        low, high = -(1 << (layer.v_width - 1)), (1 << (layer.v_width - 1)) - 1
        stored = Mux(potential < low, low, Mux(potential > high, high, potential))
        m.d.comb += potential.eq(total + Mux(started, v, 0))
        with m.If(synapses.visit_valid):
            with m.If(visit.end):
                m.d.sync += total.eq(0)
            with m.Elif(mine):
                m.d.sync += total.eq(total + weights[neuron][visit.row])
        with m.If(ends & mine):
            m.d.sync += [v.eq(stored), started.eq(~visit.final)]

        # The update of its lane comes so many cycles behind the end, then and only then.
        place = (neuron % core.lanes) // core.units
        base = synapses.latency + neurons.latency - 1
        due, value = ends & mine, stored
        dues, values = [], []
        for _ in range(base + core.updates):
            due_next, value_next = Signal(), Signal(signed(layer.v_width))
            m.d.sync += [due_next.eq(due), value_next.eq(value)]
            due, value = due_next, value_next
            dues.append(due)
            values.append(value)
        update = neurons.update
        at = Signal(range(core.update_count + 1))
        m.d.comb += at.eq((neuron // core.lanes) * core.updates + place)
        own = update.valid & (update.index == at)
        m.d.comb += Assert(own == Array(dues[base - 1:])[place])
        with m.If(own):
            m.d.comb += Assert(Array(update.v)[neuron % core.units] == Array(values[base - 1:])[place])
        return m


def sharing(core, depth, *, pace=None):
    """Of a core whose neurons only add up: no leak, no reset, one threshold, no bias."""
    return Proof(f"Synapses and NeuronUpdate({core.layer.n_in} inputs, {core.groups} groups of {core.lanes} lanes, "
                 f"{core.units} units, pace {core.pace})",
                 "every lane's sum reaches its update unit once, in order, and none is overwritten when ends are a "
                 "pace apart; a potential is written before it is read again",
                 lambda: Sharing(core, pace=core.pace if pace is None else pace), depth)


def proofs(program):
    """A `Proof` for each control block of ``program``'s array, none twice.

    Registers between streams and the stages of scanners of lists have the program's own parameters. The stages of
    scanners behind rows of maps, event lists and the sharing of update units are looked at in small sizes, which the
    solvers manage, as are sorters of sparse cores and lists of several sources.
    """
    found = {}
    for core in program.cores:
        if isinstance(core, MapCore):
            for proof in (marking_scan_stage(4, 1, 3), marking_scan_stage(3, 2, 2)):
                found[proof.name] = proof
            continue
        words = core.i_words
        width, index_width = words.width, words.entry_width
        while width > 1:
            chunk_width = max(1, (1 << (width - 1).bit_length()) // 4)
            stage = scan_stage(-(-width // chunk_width), chunk_width, index_width)
            found[stage.name] = stage
            width, index_width = chunk_width, index_width + (-(-width // chunk_width) - 1).bit_length()
        for proof in (skid(words.width + words.entry_width + 3), skid(index_width + 4)):
            found[proof.name] = proof
    if any(core.sparse for core in program.cores if not isinstance(core, MapCore)):
        proof = sorter(_thin(), SORTED)
        found[proof.name] = proof
    if any(isinstance(core.i_words, JointWords) for core in program.cores):
        proof = joint_list(1, 2, JOINED)
        found[proof.name] = proof
    small = [event_list(WordFormat(4, 2), 2, 16), sharing(_adder(2, 8, lanes=4, units=2), BOUNDED),
             sharing(_adder(3, 5, lanes=5, units=1), BOUNDED)]
    return [*found.values(), *small]


#: Clock cycles of a bounded proof of a sorter: a reset's traces are cleared, a time step is sorted and replayed, and
#: the next one sorted meanwhile. And the most in which nothing may come out.
SORTED, SORTER_PAUSE = 24, 20

#: Clock cycles of a bounded proof of update units: two time steps of the small cores, and their latency.
BOUNDED = 24


def _adder(n_in, n_out, *, lanes, units):
    """A core whose neurons only add up."""
    weights = np.array([[(7 * i + 3 * j) % 4 - 2 for i in range(n_in)] for j in range(n_out)])
    layer = Dense("adder", weights, WeightFormat("int", 2), np.full(n_out, 3), np.zeros(n_out, int), 4, NoLeak(),
                  "none", Spike())
    return Core(layer, WordFormat(n_in, 1), lanes, units)


def _thin():
    """A sparse core with an input for both groups, one for one of them, and one for none."""
    weights = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [-1, 0, 0]])
    layer = Dense("thin", weights, WeightFormat("ternary", 2), np.full(4, 3), np.zeros(4, int), 4, NoLeak(), "none",
                  Spike())
    return Core(layer, WordFormat(3, 1), 2, 1, sparse=True)
