"""Rows that come before their taker has room, because another of its sources is late."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .event import EventWord, PermitSignature
from .skid import Skid
from .storage import storage

__all__ = ["RowQueue"]


class RowQueue(wiring.Component):
    """Words of a map, first in, first out, with room for so many rows whatever is in them.

    Throughput: one word per cycle, beside one cycle for the end of each row. Latency: 5 cycles.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat
        with a shape
    rows : int

    Members
    -------
    i : In(stream of EventWord(words))
        ``ready`` is always high
    permit : Out(PermitSignature())
        for a row each
    o : Out(stream of EventWord(words))
        ``ready`` is not waited for; of the index, the field of the row has no meaning
    o_permit : In(PermitSignature())
        for a row each
    """

    def __init__(self, words, rows):
        self.words, self.rows = words, rows
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "permit": Out(PermitSignature()),
            "o": Out(stream.Signature(EventWord(words))),
            "o_permit": In(PermitSignature()),
        })

    def elaborate(self, platform):
        m = Module()
        depth, _ = self.words.queue(self.rows)
        place = sum(self.words.fields[:2])
        layout = data.StructLayout({"bits": self.words.width, "place": place, "row": 1, "last": 1, "final": 1})
        m.submodules.entries = entries = storage(layout, depth)
        w_port, r_port = entries.write_port(), entries.read_port()

        word = Signal(EventWord(self.words), reset_less=True)
        store = Signal()
        m.d.comb += self.i.ready.eq(1)
        m.d.sync += [
            word.eq(self.i.payload),
            store.eq(self.i.valid & (self.i.payload.bits.any() | self.i.payload.row)),
        ]
        m.d.comb += [
            w_port.en.eq(store),
            w_port.data.place.eq(word.index[:place]),
            *(w_port.data[name].eq(word[name]) for name in ("bits", "row", "last", "final")),
        ]

        # Block RAM is slow to answer, so its output goes straight into a register.
        m.submodules.skid = skid = Skid(layout)
        step, beside = skid.i.ready, Signal()
        level = Signal(range(depth + 1))
        reads = Signal()
        m.d.comb += [reads.eq(step & (level != 0)), r_port.en.eq(step)]
        m.d.sync += level.eq(level + store - reads)
        for port, moves in ((w_port, store), (r_port, reads)):
            address = Signal(range(depth), name=f"{'w' if port is w_port else 'r'}_addr")
            m.d.comb += port.addr.eq(address)
            with m.If(moves):
                m.d.sync += address.eq(Mux(address == depth - 1, 0, address + 1))
        with m.If(step):
            m.d.sync += [beside.eq(reads), skid.i.valid.eq(beside), skid.i.payload.eq(r_port.data)]

        granted = Signal()  # for the row under way
        ends = skid.o.valid & skid.o.ready & skid.o.payload.row
        m.d.comb += [skid.o.ready.eq(granted), self.o_permit.ready.eq(~granted)]
        with m.If(self.o_permit.valid & self.o_permit.ready):
            m.d.sync += granted.eq(1)
        with m.If(ends):
            m.d.sync += granted.eq(0)
        m.d.comb += [
            self.o.valid.eq(skid.o.valid & granted),
            self.o.payload.index.eq(skid.o.payload.place),
            *(self.o.payload[name].eq(skid.o.payload[name]) for name in ("bits", "row", "last", "final")),
        ]

        free = Signal(range(self.rows + 1), init=self.rows)
        m.d.comb += self.permit.valid.eq(free != 0)
        m.d.sync += free.eq(free + ends - (self.permit.valid & self.permit.ready))
        return m
