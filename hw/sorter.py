"""Events to visits of the rows of weights that there are, sorted by groups of neurons."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .collector import Tally
from .event import ListEntry, Visit
from .load import image_memory
from .skid import Skid
from .storage import delayed, in_use, storage

__all__ = ["Sorter"]


class Sorter(wiring.Component):
    """Makes each event of a time step into visits of its rows of weights, and replays these group by group.

    A sparse core has rows of weights only for groups in which an input has a weight. A memory tells where those of an
    input begin and how many they are, another tells the group of each; and each row's number is appended to the list
    of its group. Lists lie side by side, with as much room as there are rows. While those of one time step fill, those
    of the one before are replayed: for each group its list, the latest entry first, and then an entry marked ``end``.

    As the order in which weights are added does not matter, a list is read from its end, so that both who writes it and
    who reads it go by how many entries it has. These numbers are read ahead, so that groups with few entries, or none,
    follow each other without a pause.

    Throughput: an event takes a cycle for each of its rows, and one if it has none; an entry comes out per cycle; the
    numbers of a time step take a cycle for each group and `OVERHEAD`. As a third time step waits for one of the two
    banks, sorting one and replaying it takes no less than two time steps, with `TURN` cycles between. Latency from a
    time step's end to its first entry: `LATENCY` cycles. After a reset the first event waits until the numbers of a
    bank have been cleared.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
        a sparse one

    Members
    -------
    i : In(stream of ListEntry with one bit)
        as a `Scanner` sends them, one replay of each time step
    o : Out(stream of Visit(core))
    event : Out(1)
        an event is taken
    """

    OVERHEAD, TURN, LATENCY = 3, 11, 17

    def __init__(self, core):
        words = core.i_words
        self.core = core
        #: Low bits of an index that say which bit of a graded value it is.
        self.position_width = (words.width - 1).bit_length()
        super().__init__({
            "i": In(stream.Signature(ListEntry(1, words.index_width + self.position_width))),
            "o": Out(stream.Signature(Visit(core))),
            "event": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        core = self.core
        m.submodules.numbers = numbers = Tally(core.groups, core.memories["numbers_0"][1], adds=True)
        row_width = len(self.o.payload.row)
        shift = {"shift": self.o.payload.shift.shape()} if core.i_words.graded else {}
        visits = storage(data.StructLayout({"row": row_width, **shift}), core.memories["visits"][0])
        m.submodules.visits = visits

        released = Signal()  # a bank has been replayed
        ends, finals = self._fill(m, numbers, visits.write_port(), released)
        self._replay(m, numbers, visits.read_port(), released, ends, finals)
        return m

    def _fill(self, m, numbers, w_port, released):
        """Whether a time step is complete, its last rows being on their way, and for each bank whether its time step is
        the sample's last."""
        core, images = self.core, self.core.images
        graded, rows = core.i_words.graded, core.sparse_rows

        # Where the event's rows begin, and how many there are.
        found_layout = data.StructLayout({"first": len(self.o.payload.row), "count": range(core.groups + 1)})
        tags = {"end": 1, "final": 1, **({"shift": self.o.payload.shift.shape()} if graded else {})}
        m.submodules.skid = skid = Skid(data.StructLayout({"found": found_layout, "tags": data.StructLayout(tags)}))
        step, entry = skid.i.ready, self.i.payload
        position, index = entry.index[:self.position_width], entry.index[self.position_width:]
        found = image_memory(m, "inputs", images["inputs"], index if graded else entry.index, layout=found_layout,
                             en=step)
        valid, beside = Signal(), Signal(skid.i.payload.tags.shape(), reset_less=True)
        m.d.comb += self.i.ready.eq(step)
        with m.If(step):
            m.d.sync += [
                valid.eq(self.i.valid), beside.end.eq(entry.end), beside.final.eq(entry.final),
                skid.i.valid.eq(valid), skid.i.payload.found.eq(found), skid.i.payload.tags.eq(beside),
            ]
            if graded:
                m.d.sync += beside.shift.eq(position)

        # One of these rows per cycle.
        event = skid.o.payload
        row = Signal(range(rows.count), reset_less=True)
        left = Signal(signed(core.groups.bit_length() + 1), init=-1)  # rows of the event after this one, less one
        row_valid, taken, adds, ends = Signal(), Signal(), Signal(), Signal()
        accepted = in_use(m, ends, released, init=2)
        m.d.comb += [
            skid.o.ready.eq(left[-1] & ~accepted[1]),
            taken.eq(skid.o.valid & skid.o.ready),
            adds.eq(taken & ~event.tags.end & event.found.count.any()),
            ends.eq(taken & event.tags.end),
            self.event.eq(taken & ~event.tags.end),
        ]
        m.d.sync += row_valid.eq(adds | ~left[-1])
        with m.If(left[-1]):
            m.d.sync += [row.eq(event.found.first), left.eq(Mux(adds, event.found.count - 2, -1))]
        with m.Else():
            m.d.sync += [row.eq(row + 1), left.eq(left - 1)]
        bank, finals = Signal(), Signal(2, reset_less=True)
        with m.If(ends):
            m.d.sync += [bank.eq(~bank), finals.bit_select(bank, 1).eq(event.tags.final)]

        # Its group, and its place in the list of this.
        group = delayed(m, image_memory(m, "groups", images["groups"], row))
        m.d.comb += [
            numbers.w_valid.eq(delayed(m, row_valid, 2, reset_less=False)),
            numbers.w_bank.eq(delayed(m, bank, 2)),
            numbers.w_addr.eq(group),
            numbers.w_data.eq(1),
        ]
        start = image_memory(m, "w_starts", images["w_starts"], Cat(numbers.w_bank, group))
        wait = 2 + Tally.SUM_CYCLES
        m.d.sync += w_port.addr.eq(delayed(m, start, Tally.SUM_CYCLES - 1) + numbers.w_sum)
        m.d.comb += [w_port.data.row.eq(delayed(m, row, wait + 1)),
                     w_port.en.eq(delayed(m, row_valid, wait + 1, reset_less=False))]
        if graded:
            shift = Signal(beside.shift.shape(), reset_less=True)
            with m.If(left[-1]):
                m.d.sync += shift.eq(event.tags.shift)
            m.d.comb += w_port.data.shift.eq(delayed(m, shift, wait + 1))
        return ends, finals

    def _replay(self, m, numbers, r_port, released, ends, finals):
        core = self.core

        # The numbers of entries are read, and cleared. What a reset finds of a time step in a bank is cleared alone.
        list_layout = data.StructLayout({
            "addr": len(r_port.addr), "left": signed(numbers.width + 1), "last": 1, "final": 1})
        m.submodules.lists = lists = Skid(list_layout)
        counted = Signal()
        readable = in_use(m, delayed(m, ends, Tally.ADD_CYCLES, reset_less=False), counted, init=2)
        busy, r_bank, r_valid, remains = Signal(), Signal(), Signal(), Signal(2, init=0b11)
        group = Signal(range(core.groups))
        last = group == core.groups - 1
        with m.If(~busy):
            m.d.sync += [busy.eq(readable.any()), r_valid.eq(readable.any()), group.eq(0)]
        with m.Elif(numbers.r_en & r_valid):
            m.d.sync += [group.eq(group + 1), r_valid.eq(~last)]
        with m.If(counted):
            m.d.sync += [busy.eq(0), r_bank.eq(~r_bank), remains.eq(remains >> 1)]
        m.d.comb += [
            numbers.r_busy.eq(busy), numbers.r_bank.eq(r_bank), numbers.r_en.eq(lists.i.ready),
            numbers.r_valid.eq(r_valid), numbers.r_addr.eq(group),
        ]
        start = image_memory(m, "r_starts", core.images["r_starts"], Cat(r_bank, group), en=numbers.r_en)
        coming, shown = (Signal(data.StructLayout({"valid": 1, "last": 1}), name=name) for name in ("coming", "shown"))
        shown_start = Signal(start.shape(), reset_less=True)
        with m.If(numbers.r_en):
            m.d.sync += [coming.valid.eq(r_valid), coming.last.eq(last), shown.eq(coming), shown_start.eq(start)]
        replayed = Signal()
        m.d.comb += [
            counted.eq(shown.valid & shown.last & numbers.r_en),
            released.eq(replayed | (counted & remains[0])),
        ]
        with m.If(numbers.r_en):
            m.d.sync += [
                lists.i.valid.eq(shown.valid & ~remains[0]),
                lists.i.payload.addr.eq(shown_start + numbers.r_data),
                lists.i.payload.left.eq(numbers.r_data - 1),
                lists.i.payload.last.eq(shown.last),
                lists.i.payload.final.eq(finals.bit_select(r_bank, 1)),
            ]

        # Block RAM is slow to answer, so its output goes straight into a register.
        m.submodules.o_skid = skid = Skid(self.o.payload.shape())
        connect(m, skid.o, wiring.flipped(self.o))
        read = skid.i.ready  # everything before the skid moves on
        active, under = Signal(), Signal(list_layout, reset_less=True)
        end = under.left[-1]
        m.d.comb += [
            lists.o.ready.eq(~active | (read & end)),
            replayed.eq(active & read & end & under.last),
            r_port.addr.eq(under.addr),
            r_port.en.eq(read & ~end),
        ]
        m.d.sync += active.eq(lists.o.valid | (active & ~(read & end)))
        with m.If(lists.o.ready):
            m.d.sync += under.eq(lists.o.payload)
        with m.Elif(read):
            m.d.sync += [under.addr.eq(under.addr - 1), under.left.eq(under.left - 1)]
        read_valid, tags = Signal(), Signal(data.StructLayout({"end": 1, "last": 1, "final": 1}), reset_less=True)
        with m.If(read):
            m.d.sync += [
                read_valid.eq(active), tags.end.eq(end), tags.last.eq(under.last), tags.final.eq(under.final),
                skid.i.valid.eq(read_valid),
                *(skid.i.payload[name].eq(value[name]) for value in (r_port.data, tags)
                  for name, _ in value.shape()),
            ]
