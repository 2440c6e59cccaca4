"""The events of a sample: from bytes to the words of an array."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from spikeloom.hw.event import EventWord

__all__ = ["EventPlayer"]


class EventPlayer(wiring.Component):
    """Takes event bytes apart into spike words, and refuses those that make no sense before any word of them.

    Throughput: a byte per cycle. Latency from a byte to its word: 1 cycle.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat
        of the array's input
    time_steps : int
        the most a sample may have

    Members
    -------
    begin : In(1)
        no sample is being played, and the next one to come begins anew
    i : In(stream of unsigned(8))
    final : In(1)
        the sample ends with the byte at ``i``
    ended : Out(1)
        that byte did end a time step, and the sample only needs to be closed
    bad : Out(1)
        a byte made no sense
    close : In(1)
        end time step and sample, with no further spike
    closed : Out(1)
        high in the cycle that does so
    o : Out(stream of EventWord)
    """

    def __init__(self, words, time_steps):
        self.words = words
        self.time_steps = time_steps
        super().__init__({
            "begin": In(1),
            "i": In(stream.Signature(8)),
            "final": In(1),
            "ended": Out(1),
            "bad": Out(1),
            "close": In(1),
            "closed": Out(1),
            "o": Out(stream.Signature(EventWord(words))),
        })

    def elaborate(self, platform):
        m = Module()
        words, byte = self.words, self.i.payload
        # The next word's index less the count of words: negative while words are to come, and more than zero after a
        # run of zeros that goes beyond the last.
        at = Signal(range(-words.count, 256), init=-words.count, reset_less=True)
        # Time steps still to come, less one.
        steps = Signal(range(self.time_steps), init=self.time_steps - 1, reset_less=True)
        full = ~at[-1]
        zero = Signal(reset_less=True)  # the byte before this was zero, and its partner is this one
        free = self.o.ready | ~self.o.valid
        misfit = byte[min(8, words.width):].any()
        excess = words.count * words.width - words.size
        if not words.graded and excess:
            misfit |= at.all() & byte[words.width - excess:].any()

        word = Signal()  # goes out for this byte
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(self.close | word),
                self.o.payload.bits.eq(Mux(self.close, 0, byte)),
                self.o.payload.index.eq(at + words.count),
                self.o.payload.last.eq(self.close | zero),
                self.o.payload.final.eq(self.close),
            ]
        m.d.comb += [self.i.ready.eq(free), self.closed.eq(free & self.close)]

        # What a byte does is decided here, and that it is taken enters last.
        silent, wrong, taken = ~byte.any(), Signal(), self.i.valid & free
        ends = zero & silent
        m.d.comb += [
            wrong.eq(Mux(silent, zero & ((full & at[:-1].any()) | (~self.final & (steps == 0))),
                         full | (~zero & misfit))),
            word.eq(taken & Mux(silent, zero & ~self.final, ~zero) & ~wrong),
        ]
        with m.If(taken):
            m.d.sync += zero.eq(~zero & silent)
            with m.If(ends):
                m.d.sync += [at.eq(at.init), steps.eq(steps - 1)]
            with m.Elif(~silent):
                m.d.sync += at.eq(at + Mux(zero, byte, 1))
        m.d.sync += [
            self.bad.eq(self.bad | (taken & wrong)),
            self.ended.eq(self.ended | (taken & ends & self.final & ~wrong)),
        ]
        with m.If(self.begin):
            m.d.sync += [at.eq(at.init), steps.eq(steps.init), zero.eq(0), self.ended.eq(0), self.bad.eq(0)]
        return m
