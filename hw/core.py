"""One layer: events in, spikes out, membranes kept."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, Visit
from .event_list import EventList
from .neuron import NeuronUpdate, UpdateSignature
from .scanner import Scanner
from .synapse import Synapses

__all__ = ["LayerCore"]


class LayerCore(wiring.Component):
    """An output-stationary, event-replay core for one dense layer.

    The list of a time step's events is replayed for each group of ``core.lanes`` neurons, one event per cycle, into
    as many accumulators. While the next group's replay runs, the finished group's sums pass through
    ``core.units`` update units. A group takes max(events + 1, ``core.pace``) cycles, and a time step ``core.groups``
    times that: a silent input costs nothing.

    Once begun, a time step is never stopped, so before the first group ends a token is taken from ``o_permit``:
    whoever takes the spikes promises room for one time step.

    Parameters
    ----------
    core : spikeloom.program.Core

    Members
    -------
    i : In(stream of EventWord(core.i_words))
    i_permit : Out(stream without payload)
        for a producer that cannot be stopped within a time step
    o : Out(stream of EventWord(core.o_words))
        words with a spike, and the last word of each time step; ``ready`` is not waited for
    o_permit : In(stream without payload)
    update : Out(UpdateSignature(core))
        every neuron update, for a read-out or an observer
    event : Out(1)
        an event is replayed for the time step's first group
    stalled : Out(1)
        a finished replay waits for the update units or for a permit
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "i": In(stream.Signature(EventWord(core.i_words))),
            "i_permit": Out(stream.Signature(0)),
            "o": Out(stream.Signature(EventWord(core.o_words))),
            "o_permit": In(stream.Signature(0)),
            "update": Out(UpdateSignature(core)),
            "event": Out(1),
            "stalled": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        core, words = self.core, self.core.i_words
        m.submodules.event_list = event_list = EventList(words, groups=core.groups)
        m.submodules.scanner = scanner = Scanner(words)
        m.submodules.synapses = synapses = Synapses(core)
        m.submodules.neurons = neurons = NeuronUpdate(core)
        connect(m, wiring.flipped(self.i), event_list.i)
        connect(m, wiring.flipped(self.i_permit), event_list.permit)
        connect(m, event_list.o, scanner.i)

        # The gate: an end passes when the update units will be free for it and, for a time step's first group,
        # when somebody will take the spikes.
        entry = scanner.o.payload
        wait = Signal(signed((core.pace - 1).bit_length() + 1), init=-1)  # cycles until an end may pass, less one
        first_group = Signal(init=1)
        passes = Signal()
        taken = Signal()
        m.d.comb += [
            passes.eq(wait[-1] & (~first_group | self.o_permit.valid)),
            scanner.o.ready.eq(~entry.end | passes),
            taken.eq(scanner.o.valid & scanner.o.ready),
            self.o_permit.ready.eq(scanner.o.valid & entry.end & wait[-1] & first_group),
        ]
        with m.If(taken & entry.end):
            m.d.sync += [wait.eq(core.pace - 2), first_group.eq(entry.last)]
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)

        visit = Signal(Visit(words))
        visit_valid = Signal()
        if words.graded:
            m.d.sync += [
                visit.input.eq(entry.index >> scanner.position_width),
                visit.shift.eq(entry.index[: scanner.position_width]),
            ]
        else:
            m.d.sync += visit.input.eq(entry.index)
        m.d.sync += [
            visit.end.eq(entry.end),
            visit.last.eq(entry.last),
            visit.final.eq(entry.final),
            visit_valid.eq(taken),
            self.event.eq(taken & ~entry.end & first_group),
            self.stalled.eq(scanner.o.valid & entry.end & ~passes),
        ]
        m.d.comb += [
            synapses.visit.eq(visit),
            synapses.visit_valid.eq(visit_valid),
            neurons.start.eq(synapses.start),
            neurons.last.eq(synapses.last),
            neurons.final.eq(synapses.final),
        ]
        m.d.comb += [neurons.sums[unit].eq(synapses.sums[unit]) for unit in range(core.units)]
        connect(m, neurons.update, wiring.flipped(self.update))

        spikes, update = self.o.payload, neurons.update
        m.d.comb += [
            spikes.bits.eq(update.z),
            spikes.index.eq(update.index),
            spikes.last.eq(update.last_word),
            spikes.final.eq(update.final_step),
            self.o.valid.eq(update.valid & (update.z.any() | update.last_word)),
        ]
        return m
