"""From words of spikes to one visit per spike: the place where silence is skipped."""

from itertools import combinations

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .event import ListEntry

__all__ = ["ScanStage", "Scanner"]


class ScanStage(wiring.Component):
    """Splits the bits of an entry into chunks and passes on the chunks that are not zero, lowest first.

    Every output carries at least one spike, or is an ``end``: a stage that follows is never starved by zeros.
    Throughput: one chunk per cycle. Latency: 1 cycle.

    Parameters
    ----------
    chunks : int
        2 to 4, so that each decision takes one four-input look-up table
    chunk_width : int
        bits in a chunk
    index_width : int
        bits of the incoming index; the outgoing one gains the number of the chunk as its low bits
    marks : bool
        an ``end`` has spikes of its own, and stays with the last of them; an entry that is neither an ``end`` nor has
        spikes is dropped

    Members
    -------
    i : In(stream of ListEntry(chunks * chunk_width, index_width))
    o : Out(stream of ListEntry(chunk_width, index_width + position_width))
    """

    def __init__(self, chunks, chunk_width, index_width, *, marks=False):
        if not 2 <= chunks <= 4:
            raise ValueError(f"Chunks must be 2 to 4, not {chunks}")
        self.chunks = chunks
        self.chunk_width = chunk_width
        self.position_width = (chunks - 1).bit_length()
        self.marks = marks
        super().__init__({
            "i": In(stream.Signature(ListEntry(chunks * chunk_width, index_width))),
            "o": Out(stream.Signature(ListEntry(chunk_width, index_width + self.position_width))),
        })

    def elaborate(self, platform):
        m = Module()
        entry = Signal(self.i.payload.shape(), reset_less=True)
        valid = Signal()
        pending = Signal(self.chunks, reset_less=True)  # chunks not zero and not yet passed on
        lowest = Signal(self.chunks)
        only_one = Signal()
        m.d.comb += [
            lowest.eq(Cat(pending[n] & ~pending[:n].any() for n in range(self.chunks))),
            only_one.eq(~Cat(a & b for a, b in combinations(pending, 2)).any()),
            self.i.ready.eq(~self.o.valid | (self.o.ready & only_one)),
            self.o.valid.eq(valid & (pending.any() | entry.end) if self.marks else valid),
        ]
        chunks = [entry.bits.word_select(n, self.chunk_width) for n in range(self.chunks)]
        position = Signal(self.position_width)
        for n in range(self.chunks):
            with m.If(lowest[n]):
                m.d.comb += [self.o.payload.bits.eq(chunks[n]), position.eq(n)]
        m.d.comb += [
            self.o.payload.index.eq(Cat(position, entry.index)),
            self.o.payload.end.eq(entry.end & only_one if self.marks else entry.end),
            self.o.payload.last.eq(entry.last),
            self.o.payload.final.eq(entry.final),
        ]
        m.d.sync += valid.eq(self.i.valid | (self.o.valid & ~(self.o.ready & only_one)))
        with m.If(self.i.ready):
            arriving = self.i.payload.bits
            if not self.marks:  # the memory shows its old output beside an end: it must not count as spikes
                arriving &= ~self.i.payload.end.replicate(len(entry.bits))
            m.d.sync += [
                entry.eq(self.i.payload),
                pending.eq(Cat(arriving.word_select(n, self.chunk_width).any() for n in range(self.chunks))),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += pending.eq(pending & ~lowest)
        return m


class Scanner(wiring.Component):
    """Turns list entries into single spikes: bit b of word i becomes index i·2^position_width + b.

    A chain of `ScanStage`, each splitting into at most four. One spike (or so many bits as it splits ``to``) per cycle,
    whatever the silence between them within a word; a replay's ``end`` takes one cycle too, unless it ``marks`` the
    last spike of its entry.

    Parameters
    ----------
    width, index_width : int
        bits of an entry, and of its index
    to : int
        bits of what comes out, a power of two
    marks : bool
        as in `ScanStage`

    Members
    -------
    i : In(stream of ListEntry)
    o : Out(stream of ListEntry with ``to`` bits)
        ``index`` has the position within the word as its low bits
    """

    def __init__(self, width, index_width, *, to=1, marks=False):
        self.width, self.index_width, self.to, self.marks = width, index_width, to, marks
        #: Low bits of the outgoing index that say which bit of the word (or how many times ``to`` bits) it was.
        self.position_width = (-(-width // to) - 1).bit_length()
        super().__init__({
            "i": In(stream.Signature(ListEntry(width, index_width))),
            "o": Out(stream.Signature(ListEntry(to, index_width + self.position_width))),
        })

    def elaborate(self, platform):
        m = Module()
        source, width, index_width = wiring.flipped(self.i), self.width, self.index_width
        while width > self.to:
            chunk_width = max(self.to, (1 << (width - 1).bit_length()) // 4)
            stage = ScanStage(-(-width // chunk_width), chunk_width, index_width, marks=self.marks)
            m.submodules[f"stage_{width}"] = stage
            m.d.comb += [
                # Field by field: a stage may be a few bits wider than what comes in.
                *(stage.i.payload[name].eq(source.payload[name]) for name, _ in stage.i.payload.shape()),
                stage.i.valid.eq(source.valid),
                source.ready.eq(stage.i.ready),
            ]
            source, width, index_width = stage.o, chunk_width, index_width + stage.position_width
        wiring.connect(m, wiring.flipped(self.o), source)
        if self.marks and self.width <= self.to:  # no stage has dropped what is empty
            matters = source.payload.bits.any() | source.payload.end
            m.d.comb += [self.o.valid.eq(source.valid & matters), source.ready.eq(self.o.ready | ~matters)]
        return m
