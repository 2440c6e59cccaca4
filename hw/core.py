"""One layer: events in, spikes out, membranes kept."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, PermitSignature
from .event_list import EventList
from .load import CoreLoadSignature
from .neuron import NeuronUpdate, UpdateSignature
from .scanner import Scanner
from .skid import Skid
from .storage import delayed
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
    i_permit : Out(PermitSignature())
        for a producer that cannot be stopped within a time step
    o : Out(stream of EventWord(core.o_words))
        words with a spike, and the last word of each time step; ``ready`` is not waited for
    o_permit : In(PermitSignature())
    update : Out(UpdateSignature(core))
        every neuron update, for a read-out or an observer
    event : Out(1)
        an event is replayed for the time step's first group
    stalled : Out(1)
        a finished replay waits for the update units or for a permit
    load : In(CoreLoadSignature(core))
        where the core is reloadable; only to be used while no time step is under way
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "i": In(stream.Signature(EventWord(core.i_words))),
            "i_permit": Out(PermitSignature()),
            "o": Out(stream.Signature(EventWord(core.o_words))),
            "o_permit": In(PermitSignature()),
            "update": Out(UpdateSignature(core)),
            "event": Out(1),
            "stalled": Out(1),
            **({"load": In(CoreLoadSignature(core))} if core.reloadable else {}),
        })

    def elaborate(self, platform):
        m = Module()
        core, words = self.core, self.core.i_words
        m.submodules.event_list = event_list = EventList(words, groups=core.groups)
        m.submodules.scanner = scanner = Scanner(words)
        m.submodules.skid = skid = Skid(scanner.o.payload.shape())
        m.submodules.synapses = synapses = Synapses(core)
        m.submodules.neurons = neurons = NeuronUpdate(core)
        connect(m, wiring.flipped(self.i), event_list.i)
        connect(m, wiring.flipped(self.i_permit), event_list.permit)
        connect(m, event_list.o, scanner.i)
        connect(m, scanner.o, skid.i)

        # The gate: an end passes when the update units will be free for it and, for a time step's first group,
        # when somebody will take the spikes. A permit seen a cycle ago is still there: only this gate takes
        # it, and the next group that needs one is `Core.UPDATE_CYCLES` away.
        entry = skid.o.payload
        wait = Signal(signed((core.pace - 1).bit_length() + 1), reset_less=True)  # cycles to wait, less one
        later_group = Signal()
        permitted = delayed(m, self.o_permit.valid, reset_less=False)
        blocked = Signal()
        passes = Signal()
        m.d.comb += [
            blocked.eq(entry.end & (~wait[-1] | (~later_group & ~permitted))),
            passes.eq(skid.o.valid & entry.end & ~blocked),
            skid.o.ready.eq(~blocked),
        ]
        m.d.sync += self.o_permit.ready.eq(passes & ~later_group)
        with m.If(passes):
            m.d.sync += [wait.eq(core.pace - 2), later_group.eq(~entry.last)]
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)
        m.d.sync += [
            self.event.eq(skid.o.valid & ~entry.end & ~later_group),
            self.stalled.eq(skid.o.valid & blocked),
        ]

        visit = synapses.visit
        m.d.comb += [
            synapses.visit_valid.eq(skid.o.valid & ~blocked),
            visit.input.eq(entry.index >> scanner.position_width if words.graded else entry.index),
            visit.end.eq(entry.end),
            visit.last.eq(entry.last),
            visit.final.eq(entry.final),
            neurons.start.eq(synapses.start),
            neurons.last.eq(synapses.last),
            neurons.final.eq(synapses.final),
        ]
        if words.graded:
            m.d.comb += visit.shift.eq(entry.index[: scanner.position_width])
        m.d.comb += [neurons.sums[unit].eq(synapses.sums[unit]) for unit in range(core.units)]
        connect(m, neurons.update, wiring.flipped(self.update))

        if core.reloadable:
            connect(m, wiring.flipped(self.load.weights), synapses.load)
            for name in neurons.loaded:
                connect(m, wiring.flipped(getattr(self.load, name)), getattr(neurons.load, name))

        update = neurons.update
        m.d.sync += [
            self.o.valid.eq(update.valid & (update.z.any() | update.last_word)),
            self.o.payload.bits.eq(update.z),
            self.o.payload.index.eq(update.index),
            self.o.payload.last.eq(update.last_word),
            self.o.payload.final.eq(update.final_step),
        ]
        return m
