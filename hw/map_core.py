"""A convolution: rows of events in, rows of spikes out, membranes kept."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .convolution import MapSynapses
from .event import EventWord, PermitSignature
from .gate import Gate, GroupsSignature
from .line_buffer import ColumnTags, LineBuffer
from .load import CoreLoadSignature
from .neuron import NeuronUpdate, UpdateSignature
from .row_queue import RowQueue
from .scanner import Scanner
from .skid import Skid
from .storage import delayed, looked_up

__all__ = ["MapCore"]


class MapCore(wiring.Component):
    """A core for convolutions, with sums that slide along the rows of their maps.

    What the rows under the kernel hold passes by column by column, once for each of ``core.groups`` groups of channels
    and each row that goes out. Every event takes a cycle, in which it is added to the sums of all positions of the row
    that see its column, ``core.lanes`` sums at once; a column without events takes one cycle. A position whose sums are
    complete passes through the ``core.units`` update units, which takes ``core.pace`` cycles, while others go on.

    With a shortcut, a position whose other sums are complete first gets the events that the shortcut has for it, each
    of which takes a cycle too.

    Where ``core.sparse``, events that the group under way has no weight for take no cycle. Where ``core.gated``, no
    event does while no channel of the group is open.

    Where ``core.skips``, a row is skipped if nothing is under its kernel and no neuron of it fired when it was updated
    last: it takes no column's cycles, its neurons are not touched, and only the mark of its end goes out.

    Once begun, a row is never stopped, so before its first position is complete a token is taken from ``o_permit``:
    whoever takes the spikes promises room for one row.

    Several layers may share the core: it then works on a row of one, with all that belongs to it, and on one of
    another. A row may go when its events are there and somebody takes its spikes.

    Parameters
    ----------
    core : spikeloom.compiler.map_core.MapCore or spikeloom.compiler.sharing.SharedCore

    Members
    -------
    i_N : In(stream of EventWord(i_words)), one for each of ``core.members``
        ``ready`` is always high
    i_permit_N : Out(PermitSignature())
        for one row each
    shortcut, shortcut_permit
        likewise with ``core.shortcut.i_words``, where there is a shortcut
    o_N : Out(stream of EventWord(o_words))
        words with a spike, and the last word of each row; ``ready`` is not waited for
    o_permit_N : In(PermitSignature())
    event, stalled : Out(1).array
        for each of ``core.members``, as in `LayerCore`; an ``event`` is one under the kernel or of the shortcut, for
        the first group, so each is counted as often as rows go out that see it. Where ``core.sparse``, one under the
        kernel is only counted where the first group has a weight for it, and where ``core.gated``, where a channel of
        it is open
    update, load
        as in `LayerCore`
    """

    def __init__(self, core):
        self.core = core
        ports = {}
        for number, member in enumerate(core.members):
            ports |= {
                f"i_{number}": In(stream.Signature(EventWord(member.i_words))),
                f"i_permit_{number}": Out(PermitSignature()),
                f"o_{number}": Out(stream.Signature(EventWord(member.o_words))),
                f"o_permit_{number}": In(PermitSignature()),
            }
        super().__init__({
            **ports,
            **({"shortcut": In(stream.Signature(EventWord(core.shortcut.i_words))),
                "shortcut_permit": Out(PermitSignature())} if core.shortcut else {}),
            "update": Out(UpdateSignature(core)),
            "event": Out(1).array(len(core.members)),
            "stalled": Out(1).array(len(core.members)),
            **({"load": In(CoreLoadSignature(core))} if core.reloadable else {}),
        })

    def entries(self, number):
        """For each branch of a layer, where its words come in, and its permits."""
        entries = [(getattr(self, f"i_{number}"), getattr(self, f"i_permit_{number}"))]
        return [*entries, (self.shortcut, self.shortcut_permit)] if self.core.shortcut else entries

    def exit(self, number):
        """Where a layer's spikes go out, and what promises to take them."""
        return getattr(self, f"o_{number}"), getattr(self, f"o_permit_{number}")

    def elaborate(self, platform):
        m = Module()
        core, members = self.core, self.core.members
        m.submodules.events = events = _Events(members, [member.waiting[0] for member in members])
        m.submodules.synapses = synapses = MapSynapses(core)
        m.submodules.neurons = neurons = NeuronUpdate(core)
        gate = self._gate(m, events, neurons) if core.gated else None
        for number in range(len(members) if gate is None else 0):
            for name in (f"i_{number}", f"i_permit_{number}"):
                connect(m, wiring.flipped(getattr(self, name)), getattr(events, name))

        entry, tags, visit = events.o.payload, events.tags, synapses.visit
        layer = tags.layer if len(members) > 1 else C(0, 0)

        def of_layer(value):
            """What a function of a core says of the layer under way."""
            return looked_up(m, layer, [value(member) for member in members])

        passes = Signal()

        # Which sets belong to a position of the map, and which of these to the pass under way: others get nothing.
        # Column by column positions begin, of a row as many as its map has.
        count = of_layer(lambda member: member.layer.shape[1])
        begins = of_layer(lambda member: sum(
            (0 <= member.early - each < member.layer.shape[1]) << each for each in range(core.sets)))
        kept_held, kept_mine = Signal(core.sets), Signal(core.sets)
        held, mine = Signal(core.sets), Signal(core.sets)
        begun = Signal(range(max(member.layer.shape[1] for member in members) + 1))
        now_begun = Signal.like(begun)
        m.d.comb += [
            held.eq(kept_held | Mux(tags.start, begins, 0)),
            mine.eq(Mux(tags.start, begins, kept_mine)),
            now_begun.eq(Mux(tags.start, of_layer(lambda member: min(member.early + 1, member.layer.shape[1])), begun)),
        ]
        another = now_begun != count
        skips = tags.skips if core.skips else C(0, 1)
        with m.If(passes & entry.end & ~skips):
            m.d.sync += [
                kept_held.eq(Cat(another, held)),
                kept_mine.eq(Cat(another, mine)),
                begun.eq(now_begun + another),
            ]
        # The sets that have a weight for the column.
        taps = looked_up(m, Cat(tags.phase, layer), [
            sum((phase + member.layer.stride * each < member.layer.kernel) << each for each in range(core.sets))
            for member in members for phase in range(1 << len(tags.phase))])
        retires = held[-1]

        adds, joined, counts = self._shortcut(m, visit, events.o.valid & entry.end & retires, passes, gate)

        # The gate: a position passes when the update units will be free for it and, for a row's first, when somebody
        # will take the spikes. That a permit was taken is seen two cycles late.
        def in_row(member):
            return member.layer.shape[1] * member.groups

        of_row = Signal(range(max(map(in_row, members))))
        steps = [Signal(range(member.layer.shape[0]), name=f"of_step_{number}")
                 for number, member in enumerate(members)]
        first = of_row == 0
        ends_row = (of_row == of_layer(lambda member: in_row(member) - 1)) | skips
        last_row = Cat(step == member.layer.shape[0] - 1 for step, member in zip(steps, members, strict=True))
        last = ends_row & _of(last_row, layer)
        # Of a row's last pass positions may be left when the next time step has begun.
        kept_final = Signal(reset_less=True)
        final = Mux(mine[-1] | skips, entry.final, kept_final)
        with m.If(passes & entry.end & tags.ends & tags.ends_groups):
            m.d.sync += kept_final.eq(entry.final)
        wait = Signal(signed((core.pace - 1).bit_length() + 1), reset_less=True)  # cycles to wait, less one
        permitted, takes, blocked = Signal(init=1), Signal(), Signal()
        if len(members) == 1:
            o_permit = self.o_permit_0
            m.d.comb += [
                permitted.eq(delayed(m, o_permit.valid, reset_less=False)
                             & ~takes & ~delayed(m, takes, reset_less=False)),
                o_permit.ready.eq(takes),
            ]
        else:  # no row must wait where it keeps others from going, so its permit is taken before it comes here
            for number in range(len(members)):
                _, o_permit = self.exit(number)
                m.d.comb += [events.may[number].eq(o_permit.valid), o_permit.ready.eq(events.takes[number])]
        position_passes = passes & entry.end & (retires | skips)
        m.d.comb += [
            blocked.eq(entry.end & (retires | skips) & (~wait[-1] | (first & ~permitted) | ~joined)),
            passes.eq(events.o.valid & ~blocked),
            events.o.ready.eq(~blocked),
        ]
        m.d.sync += takes.eq(position_passes & first)
        with m.If(position_passes):
            m.d.sync += [wait.eq(core.pace - 2), of_row.eq(Mux(ends_row, 0, of_row + 1))]
            with m.If(ends_row):
                for number, step in enumerate(steps):
                    with m.If(layer == number if len(layer) else 1):
                        m.d.sync += step.eq(Mux(last, 0, step + 1))
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)

        later_group = Signal()
        with m.If(passes & entry.end & tags.ends):
            m.d.sync += later_group.eq(~tags.ends_groups)
        for number in range(len(members)):
            mine_now = layer == number if len(layer) else 1
            m.d.sync += [
                self.event[number].eq(((passes & entry.bits.any() & ~later_group) | counts) & mine_now),
                self.stalled[number].eq(events.o.valid & blocked & ~adds & mine_now),
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
        if len(members) > 1:
            m.d.comb += [visit.layer.eq(layer), neurons.layer.eq(synapses.layer)]
        if members[0].i_words.graded:
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
            over = (update.valid & update.row) | update.skipped
            m.d.sync += [
                events.over.eq(over << update.layer if len(members) > 1 else over),
                events.rests.eq(update.skipped | ~update.fired),
            ]
        goes = (update.valid & (bits.any() | ends)) | (update.skipped if core.skips else 0)
        for number in range(len(members)):
            o, _ = self.exit(number)
            m.d.sync += [
                o.valid.eq(goes & (update.layer == number if len(members) > 1 else 1)),
                o.payload.bits.eq(bits),
                o.payload.index.eq(update.place),
                o.payload.row.eq(ends),
                o.payload.last.eq(update.last_word),
                o.payload.final.eq(update.final_step),
            ]
        return m

    def _gate(self, m, events, neurons):
        """A `Gate` that sees the words of the layer's own ``events``."""
        m.submodules.gate = gate = Gate(self.core)
        permit, both = self.i_permit_0, events.i_permit_0.valid & gate.permit.valid
        m.d.comb += permit.valid.eq(both)
        for taker, takes_permit in ((events.i_0, events.i_permit_0), (gate.i, gate.permit)):
            m.d.comb += [taker.valid.eq(self.i_0.valid), taker.payload.eq(self.i_0.payload),
                         takes_permit.ready.eq(permit.ready & both)]
        m.d.comb += self.i_0.ready.eq(1)
        connect(m, gate.groups_0, events.groups)
        connect(m, neurons.channels, gate.channels)
        return gate

    def _shortcut(self, m, visit, awaits, passes, gate):
        """Make visits of the shortcut's events while a position ``awaits`` them. Whether there is one, whether they all
        have been, and whether the visit is to be counted."""
        if not self.core.shortcut:
            return C(0, 1), C(1, 1), C(0, 1)
        m.submodules.shortcut = events = _Events([self.core.shortcut], self.core.waiting[1:])
        connect(m, wiring.flipped(self.shortcut), events.i_0)
        connect(m, wiring.flipped(self.shortcut_permit), events.i_permit_0)
        if gate:
            connect(m, gate.groups_1, events.groups)
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


def _of(bits, layer):
    """The bit of a layer."""
    return bits.bit_select(layer, 1) if len(layer) else bits


class _Events(wiring.Component):
    """The events of a branch, column by column, each with what its address says. Where several layers share the core,
    one row of a layer after the other: of those whose row may go, that of the last.

    Parameters
    ----------
    windows : sequence of spikeloom.compiler.window.Window
        one for each layer
    waiting : sequence of int
        for each, rows that can wait before they are kept

    Members
    -------
    i_N, i_permit_N
        words and permits of layer N, as in `MapCore`
    may, takes : In(unsigned), Out(unsigned), where there are several layers
        a bit for each: somebody would take the spikes of a row; one is on its way, a cycle ago
    o : Out(stream of ListEntry with one bit)
    tags : Out(ColumnTags(windows))
    channel, bank : Out(unsigned)
        the channel, of those that the group sees, and the bank that its row is in
    shift : Out(unsigned)
        which bit of a graded value
    over, rests
        as in `LineBuffer`; a bit of ``over`` for each layer
    groups
        as in `LineBuffer`
    """

    def __init__(self, windows, waiting):
        self.windows, self.waiting = windows, waiting
        self.lines = [LineBuffer(window, windows) for window in windows]
        rows = self.lines[0]
        entry = rows.o.payload.shape()
        self.scanner = Scanner(rows.o_bits, entry["index"].width, marks=True)
        #: Bits of an address: of a value, of a channel; the rest is the bank.
        self.widths = rows.channel_bits.bit_length() - 1, (rows.bank_bits // rows.channel_bits).bit_length() - 1
        super().__init__({
            **{f"i_{number}": In(line.i.signature.flip()) for number, line in enumerate(self.lines)},
            **{f"i_permit_{number}": Out(PermitSignature()) for number in range(len(windows))},
            **({"may": In(len(windows)), "takes": Out(len(windows))} if len(windows) > 1 else {}),
            "o": Out(self.scanner.o.signature),
            "tags": Out(ColumnTags(windows)),
            "shift": Out(self.widths[0]),
            "channel": Out(self.widths[1]),
            "bank": Out(self.scanner.position_width - sum(self.widths)),
            **({"over": In(len(windows)), "rests": In(1)} if windows[0].skips else {}),
            **({"groups": In(GroupsSignature(windows[0].groups))} if windows[0].gated else {}),
        })

    def elaborate(self, platform):
        m = Module()
        for number, (window, waiting, rows) in enumerate(zip(self.windows, self.waiting, self.lines, strict=True)):
            m.submodules[f"rows_{number}"] = rows
            source, permit = (wiring.flipped(getattr(self, f"{name}_{number}")) for name in ("i", "i_permit"))
            if waiting:
                m.submodules[f"queue_{number}"] = queue = RowQueue(window.i_words, waiting)
                connect(m, source, queue.i)
                connect(m, permit, queue.permit)
                source, permit = queue.o, queue.o_permit
            connect(m, source, rows.i)
            connect(m, permit, rows.permit)
            if window.skips:
                m.d.comb += [rows.over.eq(self.over[number]), rows.rests.eq(self.rests)]
            if window.gated:
                connect(m, wiring.flipped(self.groups), rows.groups)
        m.submodules.scanner = scanner = self.scanner
        m.submodules.skid = skid = Skid(scanner.o.payload.shape())
        if len(self.lines) == 1:
            connect(m, self.lines[0].o, scanner.i)
        else:
            self._in_turn(m, scanner.i)
        connect(m, scanner.o, skid.i)
        connect(m, skid.o, wiring.flipped(self.o))
        m.d.comb += Cat(self.shift, self.channel, self.bank, self.tags).eq(skid.o.payload.index)
        return m

    def _in_turn(self, m, into):
        """Lead one row of a layer after another ``into`` what they share."""
        turn, busy = Signal(range(len(self.lines))), Signal()
        leaves = ColumnTags(self.windows)(into.payload.index).leaves
        m.d.comb += [
            into.valid.eq(busy & Cat(line.o.valid for line in self.lines).bit_select(turn, 1)),
            into.payload.eq(Array(line.o.payload for line in self.lines)[turn]),
        ]
        for number, line in enumerate(self.lines):
            m.d.comb += line.o.ready.eq(busy & (turn == number) & into.ready)
        m.d.sync += self.takes.eq(0)
        with m.If(busy):
            m.d.sync += busy.eq(~(into.valid & into.ready & leaves))
        with m.Else():
            for number, line in enumerate(self.lines):  # the last that may has it
                with m.If(line.o.valid & self.may[number]):
                    m.d.sync += [turn.eq(number), busy.eq(1), self.takes.eq(1 << number)]
