"""A convolution: rows of events in, rows of spikes out, membranes kept."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .convolution import MapSynapses
from .event import EventWord, PermitSignature
from .line_buffer import ColumnTags, LineBuffer
from .load import CoreLoadSignature
from .neuron import NeuronUpdate, UpdateSignature
from .row_queue import RowQueue
from .scanner import Scanner
from .skid import Skid
from .storage import delayed

__all__ = ["MapCore"]


class MapCore(wiring.Component):
    """A core for one convolution, with sums that slide along the rows of its map.

    What the rows under the kernel hold passes by column by column, once for each of ``core.groups`` groups of channels
    and each row that goes out. Every event takes a cycle, in which it is added to the sums of all positions of the row
    that see its column, ``core.lanes`` sums at once; a column without events takes one cycle. A position whose sums are
    complete passes through the ``core.units`` update units, which takes ``core.pace`` cycles, while others go on.

    With a shortcut, a position whose other sums are complete first gets the events that the shortcut has for it, each
    of which takes a cycle too.

    Where ``core.skips``, a row is skipped if nothing is under its kernel and no neuron of it fired when it was updated
    last: it takes no column's cycles, its neurons are not touched, and only the mark of its end goes out.

    Once begun, a row is never stopped, so before its first position is complete a token is taken from ``o_permit``:
    whoever takes the spikes promises room for one row.

    Parameters
    ----------
    core : spikeloom.program.MapCore

    Members
    -------
    i : In(stream of EventWord(core.i_words))
        ``ready`` is always high
    i_permit : Out(PermitSignature())
        for one row each
    shortcut, shortcut_permit
        likewise with ``core.shortcut.i_words``, where there is a shortcut
    o : Out(stream of EventWord(core.o_words))
        words with a spike, and the last word of each row; ``ready`` is not waited for
    o_permit : In(PermitSignature())
    update, event, stalled, load
        as in `LayerCore`; an ``event`` is one under the kernel or of the shortcut, for the first group, so each is
        counted as often as rows go out that see it
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "i": In(stream.Signature(EventWord(core.i_words))),
            "i_permit": Out(PermitSignature()),
            **({"shortcut": In(stream.Signature(EventWord(core.shortcut.i_words))),
                "shortcut_permit": Out(PermitSignature())} if core.shortcut else {}),
            "o": Out(stream.Signature(EventWord(core.o_words))),
            "o_permit": In(PermitSignature()),
            "update": Out(UpdateSignature(core)),
            "event": Out(1),
            "stalled": Out(1),
            **({"load": In(CoreLoadSignature(core))} if core.reloadable else {}),
        })

    @property
    def entries(self):
        """For each branch, where its words come in, and its permits."""
        entries = [(self.i, self.i_permit)]
        return [*entries, (self.shortcut, self.shortcut_permit)] if self.core.shortcut else entries

    def elaborate(self, platform):
        m = Module()
        core = self.core
        m.submodules.events = events = _Events(core, core.waiting[0])
        m.submodules.synapses = synapses = MapSynapses(core)
        m.submodules.neurons = neurons = NeuronUpdate(core)
        connect(m, wiring.flipped(self.i), events.i)
        connect(m, wiring.flipped(self.i_permit), events.i_permit)

        entry, tags, visit = events.o.payload, events.tags, synapses.visit
        passes = Signal()

        # Which sets belong to a position of the map, and which of these to the pass under way: others get nothing.
        # Column by column positions begin, of a row as many as its map has.
        count = core.layer.shape[1]
        begins = Cat(C(0 <= core.early - each < count, 1) for each in range(core.sets))
        kept_held, kept_mine = Signal(core.sets), Signal(core.sets)
        held, mine = Signal(core.sets), Signal(core.sets)
        begun = Signal(range(count + 1))
        now_begun = Signal.like(begun)
        m.d.comb += [
            held.eq(kept_held | Mux(tags.start, begins, 0)),
            mine.eq(Mux(tags.start, begins, kept_mine)),
            now_begun.eq(Mux(tags.start, min(core.early + 1, count), begun)),
        ]
        another = now_begun != count
        skips = tags.skips if core.skips else C(0, 1)
        with m.If(passes & entry.end & ~skips):
            m.d.sync += [
                kept_held.eq(Cat(another, held)),
                kept_mine.eq(Cat(another, mine)),
                begun.eq(now_begun + another),
            ]
        phases = [sum((phase + core.layer.stride * each < core.layer.kernel) << each for each in range(core.sets))
                  for phase in range(core.layer.stride)]
        taps = Array(C(each, core.sets) for each in phases)[tags.phase]  # the sets that have a weight for the column
        retires = held[-1]

        adds, joined, counts = self._shortcut(m, visit, events.o.valid & entry.end & retires, passes)

        # The gate: a position passes when the update units will be free for it and, for a row's first, when somebody
        # will take the spikes. That a permit was taken is seen two cycles late.
        row_count = count * core.groups
        of_row, of_step = Signal(range(row_count)), Signal(range(core.layer.shape[0]))
        first, ends_row = of_row == 0, (of_row == row_count - 1) | skips
        last = ends_row & (of_step == core.layer.shape[0] - 1)
        # Of a row's last pass positions may be left when the next time step has begun.
        ends_passes = entry.end & tags.ends & tags.ends_groups
        kept_final = Signal(reset_less=True)
        final = Mux(ends_passes, entry.final, kept_final)
        with m.If(passes & ends_passes):
            m.d.sync += kept_final.eq(entry.final)
        wait = Signal(signed((core.pace - 1).bit_length() + 1), reset_less=True)  # cycles to wait, less one
        takes = Signal()
        permitted = delayed(m, self.o_permit.valid, reset_less=False) & ~takes & ~delayed(m, takes, reset_less=False)
        blocked = Signal()
        position_passes = passes & entry.end & (retires | skips)
        m.d.comb += [
            blocked.eq(entry.end & (retires | skips) & (~wait[-1] | (first & ~permitted) | ~joined)),
            passes.eq(events.o.valid & ~blocked),
            events.o.ready.eq(~blocked),
            self.o_permit.ready.eq(takes),
        ]
        m.d.sync += takes.eq(position_passes & first)
        with m.If(position_passes):
            m.d.sync += [wait.eq(core.pace - 2), of_row.eq(Mux(ends_row, 0, of_row + 1))]
            with m.If(ends_row):
                m.d.sync += of_step.eq(Mux(last, 0, of_step + 1))
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)

        group = Signal(range(core.groups))
        with m.If(passes & entry.end & tags.ends):
            m.d.sync += group.eq(Mux(tags.ends_groups, 0, group + 1))
        m.d.sync += [
            self.event.eq((passes & entry.bits.any() & (group == 0)) | counts),
            self.stalled.eq(events.o.valid & blocked & ~adds),
        ]

        m.d.comb += [
            synapses.visit_valid.eq(passes | adds),
            visit.adds.eq(mine & taps & (passes & entry.bits.any()).replicate(core.sets)),
            visit.channel.eq(events.channel),
            visit.bank.eq(events.bank),
            visit.first.eq(tags.first),
            visit.phase.eq(tags.phase),
            visit.end.eq(entry.end & passes),
            visit.retires.eq(retires),
            *([visit.skips.eq(skips), neurons.skip.eq(synapses.skip)] if core.skips else ()),
            visit.ends.eq(tags.ends),
            visit.ends_groups.eq(tags.ends_groups),
            visit.last.eq(last),
            visit.final.eq(final),
            neurons.start.eq(synapses.start),
            neurons.last.eq(synapses.last),
            neurons.final.eq(synapses.final),
        ]
        if core.i_words.graded:
            with m.If(passes):
                m.d.comb += visit.shift.eq(events.shift)
        m.d.comb += [neurons.sums[unit].eq(synapses.sums[unit]) for unit in range(core.units)]
        connect(m, neurons.update, wiring.flipped(self.update))

        if core.reloadable:
            connect(m, wiring.flipped(self.load.weights), synapses.load)
            if core.shortcut:
                connect(m, wiring.flipped(self.load.shortcut), synapses.shortcut_load)
            for name in neurons.loaded:
                connect(m, wiring.flipped(getattr(self.load, name)), getattr(neurons.load, name))

        update = neurons.update
        ends, bits = update.row, update.z
        if core.skips:
            ends, bits = ends | update.skipped, Mux(update.skipped, 0, bits)
            m.d.sync += [
                events.over.eq((update.valid & update.row) | update.skipped),
                events.rests.eq(update.skipped | ~update.fired),
            ]
        m.d.sync += [
            self.o.valid.eq((update.valid & (bits.any() | ends)) | (update.skipped if core.skips else 0)),
            self.o.payload.bits.eq(bits),
            self.o.payload.index.eq(update.place),
            self.o.payload.row.eq(ends),
            self.o.payload.last.eq(update.last_word),
            self.o.payload.final.eq(update.final_step),
        ]
        return m

    def _shortcut(self, m, visit, awaits, passes):
        """Make visits of the shortcut's events while a position ``awaits`` them. Whether there is one, whether they all
        have been, and whether the visit is to be counted."""
        if not self.core.shortcut:
            return C(0, 1), C(1, 1), C(0, 1)
        m.submodules.shortcut = events = _Events(self.core.shortcut, self.core.waiting[1])
        connect(m, wiring.flipped(self.shortcut), events.i)
        connect(m, wiring.flipped(self.shortcut_permit), events.i_permit)
        entry, tags = events.o.payload, events.tags
        over = Signal()  # the position has got its last one
        none_left, adds = Signal(), Signal()  # a mere mark passes together with the position
        group = Signal(range(self.core.groups))
        ends = Signal()
        m.d.comb += [
            adds.eq(awaits & ~over & events.o.valid & entry.bits.any()),
            none_left.eq(~over & events.o.valid & ~entry.bits.any()),
            events.o.ready.eq(adds | (awaits & passes & none_left)),
            ends.eq(events.o.ready & tags.ends),
            visit.shortcut.eq(adds),
            visit.shortcut_channel.eq(events.channel),
            visit.shortcut_ends.eq(ends & entry.end),
            visit.shortcut_ends_groups.eq(tags.ends_groups),
        ]
        if self.core.shortcut.i_words.graded:
            with m.If(adds):
                m.d.comb += visit.shift.eq(events.shift)
        with m.If(awaits & passes):
            m.d.sync += over.eq(0)
        with m.Elif(adds & entry.end):
            m.d.sync += over.eq(1)
        with m.If(ends & entry.end):
            m.d.sync += group.eq(Mux(tags.ends_groups, 0, group + 1))
        return adds, over | none_left, adds & (group == 0)


class _Events(wiring.Component):
    """The events of one branch, column by column, each with what its address says.

    Parameters
    ----------
    window : spikeloom.program.Window
    waiting : int
        rows that can wait before they are kept

    Members
    -------
    i, i_permit
        as in `MapCore`
    o : Out(stream of ListEntry with one bit)
    tags : Out(ColumnTags(window))
    channel, bank : Out(unsigned)
        the channel, of those that the group sees, and the bank that its row is in
    shift : Out(unsigned)
        which bit of a graded value
    over, rests
        as in `LineBuffer`
    """

    def __init__(self, window, waiting):
        self.window, self.waiting = window, waiting
        self.rows = rows = LineBuffer(window)
        entry = rows.o.payload.shape()
        self.scanner = Scanner(rows.o_bits, entry["index"].width, marks=True)
        #: Bits of an address: of a value, of a channel; the rest is the bank.
        self.widths = rows.channel_bits.bit_length() - 1, (rows.bank_bits // rows.channel_bits).bit_length() - 1
        super().__init__({
            "i": In(rows.i.signature.flip()),
            "i_permit": Out(PermitSignature()),
            "o": Out(self.scanner.o.signature),
            "tags": Out(ColumnTags(window)),
            "shift": Out(self.widths[0]),
            "channel": Out(self.widths[1]),
            "bank": Out(self.scanner.position_width - sum(self.widths)),
            **({"over": In(1), "rests": In(1)} if window.skips else {}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = self.rows
        m.submodules.scanner = scanner = self.scanner
        m.submodules.skid = skid = Skid(scanner.o.payload.shape())
        source, permit = wiring.flipped(self.i), wiring.flipped(self.i_permit)
        if self.waiting:
            m.submodules.queue = queue = RowQueue(self.window.i_words, self.waiting)
            connect(m, source, queue.i)
            connect(m, permit, queue.permit)
            source, permit = queue.o, queue.o_permit
        connect(m, source, rows.i)
        connect(m, permit, rows.permit)
        connect(m, rows.o, scanner.i)
        connect(m, scanner.o, skid.i)
        connect(m, skid.o, wiring.flipped(self.o))
        if self.window.skips:
            m.d.comb += [rows.over.eq(self.over), rows.rests.eq(self.rests)]
        m.d.comb += Cat(self.shift, self.channel, self.bank, self.tags).eq(skid.o.payload.index)
        return m
