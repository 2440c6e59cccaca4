"""One layer: events in, spikes out, membranes kept."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, PermitSignature
from .event_list import EventList
from .load import CoreLoadSignature
from .neuron import NeuronUpdate, UpdateSignature
from .raster import RowPermits
from .scanner import Scanner
from .skid import Skid
from .sorter import Sorter
from .storage import delayed, looked_up
from .synapse import Synapses

__all__ = ["LayerCore"]


class LayerCore(wiring.Component):
    """An output-stationary, event-replay core for one dense layer.

    The list of a time step's events is replayed for each group of ``core.lanes`` neurons, one event per cycle, into
    as many accumulators. While the next group's replay runs, the finished group's sums pass through
    ``core.units`` update units. A group takes max(events + 1, ``core.pace``) cycles, and a time step ``core.groups``
    times that: a silent input costs nothing.

    Where the core is sparse, a group's replay has only those events for which it has a row of weights. Events are
    sorted by groups as they come, which takes a cycle for each of these visits, and one for an event without any. Of
    this and the replay of the time step before, which goes on meanwhile, the longer decides.

    Once begun, a time step is never stopped, so before the first group ends a token is taken from ``o_permit``:
    whoever takes the spikes promises room for one time step.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core

    Members
    -------
    i_N : In(stream of EventWord), for each of ``core.i_words.inputs``
    i_permit_N : Out(PermitSignature())
        for a producer that cannot be stopped within a time step; of a map's words, for one row each
    o : Out(stream of EventWord(core.o_words))
        words with a spike, and the last word of each time step; ``ready`` is not waited for
    o_permit : In(PermitSignature())
    update : Out(UpdateSignature(core))
        every neuron update, for a read-out or an observer
    event : Out(1).array(1)
        an event is replayed for the time step's first group; in a sparse core, is sorted
    stalled : Out(1).array(1)
        a finished replay waits for the update units or for a permit
    load : In(CoreLoadSignature(core))
        where the core is reloadable; only to be used while no time step is under way
    """

    def __init__(self, core):
        self.core = core
        ports = {}
        for number, each in enumerate(core.i_words.inputs):
            ports |= {f"i_{number}": In(stream.Signature(EventWord(each.words))),
                      f"i_permit_{number}": Out(PermitSignature())}
        super().__init__({
            **ports,
            "o": Out(stream.Signature(EventWord(core.o_words))),
            "o_permit": In(PermitSignature()),
            "update": Out(UpdateSignature(core)),
            "event": Out(1).array(1),
            "stalled": Out(1).array(1),
            **({"load": In(CoreLoadSignature(core))} if core.reloadable else {}),
        })

    def entries(self, number):
        """For each source, where its words come in, and its permits."""
        return [(getattr(self, f"i_{each}"), getattr(self, f"i_permit_{each}"))
                for each in range(len(self.core.i_words.inputs))]

    def exit(self, number):
        """Where its spikes go out, and what promises to take them."""
        return self.o, self.o_permit

    def elaborate(self, platform):
        m = Module()
        core, words = self.core, self.core.i_words
        m.submodules.event_list = event_list = EventList(words, groups=1 if core.sparse else core.groups)
        m.submodules.scanner = scanner = Scanner(words.width, words.entry_width)
        m.submodules.replay = replay = Sorter(core) if core.sparse else Skid(scanner.o.payload.shape())
        m.submodules.synapses = synapses = Synapses(core)
        m.submodules.neurons = neurons = NeuronUpdate(core)
        for number, (i, permit) in enumerate(self.entries(0)):
            connect(m, wiring.flipped(i), getattr(event_list, f"i_{number}"))
            granted = getattr(event_list, f"permit_{number}")
            if words.shape:
                m.submodules.row_permits = row_permits = RowPermits(words.map[0])
                connect(m, granted, row_permits.i)
                granted = row_permits.o
            connect(m, granted, wiring.flipped(permit))
        connect(m, event_list.o, scanner.i)
        connect(m, scanner.o, replay.i)

        # The gate: an end passes when the update units will be free for it and, for a time step's first group,
        # when somebody will take the spikes. A permit seen a cycle ago is still there: only this gate takes
        # it, and the next group that needs one is `Core.UPDATE_CYCLES` away.
        entry = replay.o.payload
        wait = Signal(signed((core.pace - 1).bit_length() + 1), reset_less=True)  # cycles to wait, less one
        later_group = Signal()
        permitted = delayed(m, self.o_permit.valid, reset_less=False)
        blocked = Signal()
        passes = Signal()
        m.d.comb += [
            blocked.eq(entry.end & (~wait[-1] | (~later_group & ~permitted))),
            passes.eq(replay.o.valid & entry.end & ~blocked),
            replay.o.ready.eq(~blocked),
        ]
        m.d.sync += self.o_permit.ready.eq(passes & ~later_group)
        with m.If(passes):
            m.d.sync += [wait.eq(core.pace - 2), later_group.eq(~entry.last)]
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)
        m.d.sync += [
            self.event[0].eq(replay.event if core.sparse else replay.o.valid & ~entry.end & ~later_group),
            self.stalled[0].eq(replay.o.valid & blocked),
        ]

        valid = replay.o.valid & ~blocked
        if core.sparse:
            m.d.comb += synapses.visit.eq(entry)
        else:
            valid = self._visit(m, entry, valid, scanner.position_width, synapses.visit)
        m.d.comb += [
            synapses.visit_valid.eq(valid),
            neurons.start.eq(synapses.start),
            neurons.last.eq(synapses.last),
            neurons.final.eq(synapses.final),
        ]
        m.d.comb += [neurons.sums[unit].eq(synapses.sums[unit]) for unit in range(core.units)]
        connect(m, neurons.update, wiring.flipped(self.update))

        if core.reloadable:
            connect(m, wiring.flipped(self.load.weights), synapses.load)
            for name in neurons.loaded:
                connect(m, wiring.flipped(getattr(self.load, name)), getattr(neurons.load, name))

        update = neurons.update
        if core.o_words.signed:
            m.d.sync += self.o.payload.negative.eq(update.z[-1])
        m.d.sync += [
            self.o.valid.eq(update.valid & (update.z.any() | update.last_word)),
            self.o.payload.bits.eq(Mux(update.z[-1], -update.z, update.z) if core.o_words.signed else update.z),
            self.o.payload.index.eq(update.index),
            self.o.payload.last.eq(update.last_word),
            self.o.payload.final.eq(update.final_step),
        ]
        return m

    def _visit(self, m, entry, valid, position_width, visit):
        """Drive a ``visit`` with the event that an ``entry`` is; whether it is ``valid`` then."""
        words = self.core.i_words
        index, position = entry.index[position_width:], entry.index[:position_width]
        visited = Signal(visit.shape())
        of_neuron = index[-1] if words.mixed else C(not words.graded, 1)  # what the position is that of
        m.d.comb += [
            visited.row.eq((index[:words.index_width] << (words.step - 1).bit_length()) | Mux(of_neuron, position, 0)),
            visited.end.eq(entry.end),
            visited.last.eq(entry.last),
            visited.final.eq(entry.final),
        ]
        if words.graded:
            m.d.comb += visited.shift.eq(Mux(of_neuron, 0, position))
        if words.signed:
            m.d.comb += visited.negative.eq(index[words.index_width])
        if not words.shape:
            m.d.comb += visit.eq(visited)
            return valid
        on_map, inside = self._on_map(m, index, 0 if words.graded else position)
        m.d.comb += [visit.eq(delayed(m, visited, 2)), visit.row.eq(on_map)]
        return delayed(m, delayed(m, valid, reset_less=False) & (inside | delayed(m, entry.end)), reset_less=False)

    def _on_map(self, m, index, position):
        """Two cycles later, the input that an event of a map is, and a cycle later whether it is one at all: a pool may
        leave out the map's last rows and columns."""
        layer, words = self.core.layer, self.core.i_words
        summed = layer.pool if layer.pool and layer.pool.kind == "sum" else None  # a maximum comes as it is
        high, wide = (summed.rows, summed.columns) if summed else (1, 1)
        rows, columns, channels = layer.pooled_shape if layer.pool else words.map
        part_width, column_width, _ = words.fields
        part, column, row = (index[:part_width], index[part_width:part_width + column_width],
                             index[part_width + column_width:])
        raw_rows, raw_columns, _ = words.map

        def of(field, block, count, size, weight):
            places = [min(at // block, count - 1) * weight for at in range(size)]
            found, inside = Signal(range(max(places) + 1), reset_less=True), Signal(reset_less=True)
            m.d.sync += [found.eq(looked_up(m, field, places)),
                         inside.eq(looked_up(m, field, [at // block < count for at in range(size)]))]
            return found, inside

        of_row, row_inside = of(row, high, rows, raw_rows, columns * channels)
        of_column, column_inside = of(column, wide, columns, raw_columns, channels)
        channel = delayed(m, part if words.graded else Cat(position, part))
        found = Signal(range(layer.weights.shape[1]), reset_less=True)
        m.d.sync += found.eq(of_row + of_column + channel)
        return found, row_inside & column_inside
