"""From words of the input to those of a list or a map that several layers may take."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .event import EventWord, PermitSignature

__all__ = ["Admission", "Raster", "RowPermits"]


class Admission(wiring.Component):
    """Lets a time step's words pass once there is a permit for it.

    Throughput: one word per cycle, beside one cycle for each time step. Latency: 0.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat

    Members
    -------
    i : In(stream of EventWord(words))
    o : Out(stream of EventWord(words))
        ``ready`` is not waited for
    permit : In(PermitSignature())
        for one time step each
    """

    def __init__(self, words):
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "o": Out(stream.Signature(EventWord(words))),
            "permit": In(PermitSignature()),
        })

    def elaborate(self, platform):
        m = Module()
        granted = Signal()
        m.d.comb += [
            self.i.ready.eq(granted),
            self.o.valid.eq(self.i.valid & granted),
            self.o.payload.eq(self.i.payload),
            self.permit.ready.eq(~granted),
        ]
        m.d.sync += granted.eq(Mux(granted, ~(self.i.valid & self.i.payload.last), self.permit.valid))
        return m


class Raster(wiring.Component):
    """Turns words in the order of their indices into words of a map, and says where its rows end.

    It waits for a permit before each row. Throughput: one word per cycle, beside one cycle for the end of each row.

    Parameters
    ----------
    i_words, o_words : spikeloom.compiler.words.WordFormat
        of the same values, the latter with a shape

    Members
    -------
    i : In(stream of EventWord(i_words))
    o : Out(stream of EventWord(o_words))
        ``ready`` is not waited for
    permit : In(PermitSignature())
        for one row each
    """

    def __init__(self, i_words, o_words):
        self.i_words, self.o_words = i_words, o_words
        super().__init__({
            "i": In(stream.Signature(EventWord(i_words))),
            "o": Out(stream.Signature(EventWord(o_words))),
            "permit": In(PermitSignature()),
        })

    def elaborate(self, platform):
        m = Module()
        rows, columns, _ = self.o_words.map
        parts, word = self.o_words.parts, self.i.payload
        part_width, column_width, row_width = self.o_words.fields

        # A word waits here until the rows before its own have ended; the one that ends a time step, until all have.
        held = Signal(word.shape(), reset_less=True)
        valid, granted, closing = Signal(), Signal(), Signal()
        base = Signal(range(rows * columns * parts))  # index of the row's first word
        row = Signal(range(rows))
        last_row = row == rows - 1
        beyond = held.index >= base + columns * parts
        goes = granted & valid
        passes, ends = Signal(), Signal()
        m.d.comb += [
            passes.eq(goes & ~beyond & ~closing),
            ends.eq(goes & (beyond | closing | (held.last & last_row))),
            self.i.ready.eq(~valid | (passes & ~held.last) | (ends & last_row)),
            self.permit.ready.eq(~granted),
        ]
        with m.If(self.i.ready):
            m.d.sync += [held.eq(word), valid.eq(self.i.valid)]
        with m.If(passes & held.last):
            m.d.sync += closing.eq(1)
        with m.If(self.permit.valid & self.permit.ready):
            m.d.sync += granted.eq(1)
        with m.If(ends):
            m.d.sync += [granted.eq(0), base.eq(base + columns * parts), row.eq(row + 1)]
            with m.If(last_row):
                m.d.sync += [base.eq(0), row.eq(0), closing.eq(0)]

        within = (held.index - base)[:max(1, (columns * parts - 1).bit_length())]
        column, part = (within // parts)[:column_width], (within % parts)[:part_width]
        m.d.sync += [
            self.o.valid.eq(passes | ends),
            self.o.payload.bits.eq(Mux(passes, held.bits, 0)),
            self.o.payload.index.eq(Cat(part, column, row[:row_width])),
            self.o.payload.row.eq(ends),
            self.o.payload.last.eq(ends & last_row),
            self.o.payload.final.eq(held.final),
        ]
        return m


class RowPermits(wiring.Component):
    """Permits for the rows of a map, from those for its time steps.

    Parameters
    ----------
    rows : int

    Members
    -------
    i : In(PermitSignature())
        for a time step each
    o : Out(PermitSignature())
        for a row each
    """

    def __init__(self, rows):
        self.rows = rows
        super().__init__({"i": In(PermitSignature()), "o": Out(PermitSignature())})

    def elaborate(self, platform):
        m = Module()
        row = Signal(range(self.rows))
        first = row == 0
        m.d.comb += [self.o.valid.eq(self.i.valid | ~first), self.i.ready.eq(self.o.ready & first)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += row.eq(Mux(row == self.rows - 1, 0, row + 1))
        return m
