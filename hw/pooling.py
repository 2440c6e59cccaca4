"""A pool of kind max before a dense layer."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, PermitSignature
from .line_buffer import LineBuffer
from .scanner import Scanner

__all__ = ["Pooling"]


class Pooling(wiring.Component):
    """Words of a map to those of the map that it becomes when each block turns into one position.

    Throughput: one word in per cycle; one word, or one position without a spike, out.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
        of the layer behind, with a ``pooling``

    Members
    -------
    i : In(stream of EventWord(core.pooling.i_words))
        ``ready`` is always high
    i_permit : Out(PermitSignature())
        for one row each
    o : Out(stream of EventWord(core.i_words))
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "i": In(stream.Signature(EventWord(core.pooling.i_words))),
            "i_permit": Out(PermitSignature()),
            "o": Out(stream.Signature(EventWord(core.i_words))),
        })

    def elaborate(self, platform):
        m = Module()
        words = self.core.i_words
        rows, columns, _ = words.map
        m.submodules.rows = kept = LineBuffer(self.core.pooling)
        connect(m, wiring.flipped(self.i), kept.i)
        connect(m, wiring.flipped(self.i_permit), kept.permit)
        width = min(words.width, len(kept.o.payload.bits))
        m.submodules.scanner = scanner = Scanner(len(kept.o.payload.bits), len(kept.o.payload.index), to=width,
                                                 marks=True)
        connect(m, kept.o, scanner.i)

        entry = scanner.o.payload
        column, row = Signal(range(columns)), Signal(range(rows))
        ends_row, ends = column == columns - 1, (column == columns - 1) & (row == rows - 1)
        spikes, passes = Signal(), Signal()
        m.d.comb += [
            spikes.eq(entry.bits.any()),
            passes.eq(scanner.o.valid & scanner.o.ready & entry.end),
            self.o.valid.eq(scanner.o.valid & (spikes | (entry.end & ends))),
            self.o.payload.bits.eq(entry.bits),
            self.o.payload.index.eq(Cat(field[:bits] for field, bits in zip(
                (entry.index, column, row), words.fields, strict=True))),
            self.o.payload.row.eq(entry.end & ends_row),
            self.o.payload.last.eq(entry.end & ends),
            self.o.payload.final.eq(entry.final),
            scanner.o.ready.eq(self.o.ready),
        ]
        with m.If(passes):
            m.d.sync += column.eq(Mux(ends_row, 0, column + 1))
            with m.If(ends_row):
                m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
        return m
