"""What a board carries: the array between the two pins of a UART."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .array import Array
from .uart import UARTReceiver, UARTTransmitter

__all__ = ["BoardTop", "BytesToWords", "Top", "WordsToBytes"]


def _byte_count(shape):
    return -(-Shape.cast(shape).width // 8)


class BytesToWords(wiring.Component):
    """Puts words together from their bytes, lowest first; bits above the word's width are ignored.

    Parameters
    ----------
    shape : shape-like
        of a word

    Members
    -------
    i : In(stream of unsigned(8))
    o : Out(stream of shape)
    """

    def __init__(self, shape):
        self.count = _byte_count(shape)
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        word = Signal(8 * self.count, reset_less=True)
        have = Signal(range(self.count + 1))
        complete = have == self.count
        m.d.comb += [
            self.o.valid.eq(complete),
            self.o.payload.eq(word),
            self.i.ready.eq(~complete),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(Cat(word[8:], self.i.payload)), have.eq(have + 1)]
        with m.If(complete & self.o.ready):
            m.d.sync += have.eq(0)
        return m


class WordsToBytes(wiring.Component):
    """Takes words apart into bytes, lowest first; bits above the word's width are zero.

    Parameters
    ----------
    shape : shape-like
        of a word

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of unsigned(8))
    """

    def __init__(self, shape):
        self.count = _byte_count(shape)
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        word = Signal(8 * self.count, reset_less=True)
        left = Signal(range(self.count + 1))
        m.d.comb += [
            self.i.ready.eq(left == 0),
            self.o.valid.eq(left != 0),
            self.o.payload.eq(word[:8]),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), left.eq(self.count)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [word.eq(word[8:]), left.eq(left - 1)]
        return m


class Top(wiring.Component):
    """The array, fed and read through a UART.

    In: each `EventWord` of the array as ceil(bits / 8) bytes, lowest first, time step after time step.
    Out: each `Result` the same way, ``n_out`` of them for each sample. Bytes are not framed, so one lost on
    the way shifts all that follow until a reset. A host that waits for a sample's scores before it sends the
    next never sends faster than the array takes.

    Parameters
    ----------
    program : spikeloom.program.Program
    divisor : int
        clock cycles per bit of the UART

    Members
    -------
    rx : In(1), tx : Out(1)
        the pins
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)

    def __init__(self, program, *, divisor):
        self.program = program
        self.receiver = UARTReceiver(divisor)
        self.transmitter = UARTTransmitter(divisor)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = self.receiver
        m.submodules.transmitter = transmitter = self.transmitter
        m.submodules.array = array = Array(self.program, counter_width=0)
        m.submodules.words = words = BytesToWords(array.i.payload.shape())
        m.submodules.results = results = WordsToBytes(array.o.payload.shape())
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        connect(m, receiver.o, words.i)
        connect(m, words.o, array.i)
        connect(m, array.o, results.i)
        connect(m, results.o, transmitter.i)
        return m


class BoardTop(wiring.Component):
    """`Top` with the clock as a pin, and a reset of 256 cycles after configuration.

    (The block RAM of iCE40 answers only some microseconds after the logic runs.)

    Parameters
    ----------
    program : spikeloom.program.Program
    divisor : int
        clock cycles per bit of the UART
    """

    clk: In(1)
    rx: In(1, init=1)
    tx: Out(1, init=1)

    def __init__(self, program, *, divisor):
        self.program = program
        self.divisor = divisor
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.power_on = ClockDomain(reset_less=True, local=True)
        wait = Signal(9)
        reset = Signal(init=1)
        with m.If(~wait[-1]):
            m.d.power_on += wait.eq(wait + 1)
        m.d.power_on += reset.eq(~wait[-1])
        m.d.comb += [
            ClockSignal("sync").eq(self.clk),
            ClockSignal("power_on").eq(self.clk),
            ResetSignal("sync").eq(reset),
        ]
        m.submodules.top = top = Top(self.program, divisor=self.divisor)
        m.d.comb += [top.rx.eq(self.rx), self.tx.eq(top.tx)]
        return m
