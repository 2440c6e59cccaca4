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
    words : spikeloom.program.WordFormat
        of the array's input
    time_steps : int
        the most a sample may have

    Members
    -------
    begin : In(1)
        a sample begins; between samples
    i : In(stream of unsigned(8))
    final : In(1)
        the sample ends with the byte at ``i``
    ended : Out(1)
        that byte did end a time step, and the sample only needs to be closed
    bad : Out(1)
        a byte made no sense; stays until ``begin``
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
        # Words of the time step still to come, less one: the sign bit says "none left", and a run of zeros that goes
        # beyond the last word leaves less than -1.
        left = Signal(range(-256, words.count))
        steps = Signal(range(self.time_steps))  # time steps still to come, less one
        zero = Signal()  # the byte before this was zero, and its partner is this one
        free = self.o.ready | ~self.o.valid
        misfit = byte[min(8, words.width):].any()
        excess = words.count * words.width - words.size
        if not words.graded and excess:
            misfit |= (left == 0) & byte[words.width - excess:].any()

        word = Signal()  # goes out for this byte
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(self.close | word),
                self.o.payload.bits.eq(Mux(self.close, 0, byte)),
                self.o.payload.index.eq(words.count - 1 - left),
                self.o.payload.last.eq(self.close | zero),
                self.o.payload.final.eq(self.close),
            ]
        m.d.comb += [self.i.ready.eq(free), self.closed.eq(free & self.close)]

        silent = byte == 0
        with m.If(self.i.valid & free):
            m.d.sync += zero.eq(~zero & silent)
            with m.If(~zero):
                m.d.sync += left.eq(left - ~silent)
                m.d.comb += word.eq(~silent & ~left[-1] & ~misfit)
                with m.If(~silent & (left[-1] | misfit)):
                    m.d.sync += self.bad.eq(1)
            with m.Elif(~silent):
                m.d.sync += left.eq(left - byte)
                with m.If(left[-1]):
                    m.d.sync += self.bad.eq(1)
            with m.Else():
                m.d.sync += [left.eq(words.count - 1), steps.eq(steps - 1)]
                with m.If(left[-1] & ~left.all()):
                    m.d.sync += self.bad.eq(1)
                with m.Elif(self.final):
                    m.d.sync += self.ended.eq(1)
                with m.Elif(steps == 0):
                    m.d.sync += self.bad.eq(1)
                with m.Else():
                    m.d.comb += word.eq(1)
        with m.If(self.begin):
            m.d.sync += [
                left.eq(words.count - 1),
                steps.eq(self.time_steps - 1),
                zero.eq(0),
                self.ended.eq(0),
                self.bad.eq(0),
            ]
        return m
