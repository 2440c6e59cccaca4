"""Bytes over a UART: eight data bits, no parity, one stop bit, least significant bit first."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UARTReceiver", "UARTTransmitter"]


def _checked(divisor):
    if divisor < 4:
        raise ValueError(f"Divisor must be at least 4 clock cycles per bit, not {divisor}")
    return divisor


class UARTReceiver(wiring.Component):
    """Receives bytes. A line cannot be told to wait: a byte not taken before the next one ends is lost.

    A byte whose stop bit is missing is dropped, as is a start bit shorter than half a bit.
    Latency from the middle of the stop bit to ``o.valid``: 1 cycle, and 2 of the synchronizer.

    Parameters
    ----------
    divisor : int
        clock cycles per bit (at least 4)

    Members
    -------
    rx : In(1)
        the pin, of no clock domain
    o : Out(stream of unsigned(8))
    busy : Out(1)
        a byte is coming
    """

    rx: In(1, init=1)
    o: Out(stream.Signature(8))
    busy: Out(1)

    def __init__(self, divisor):
        self.divisor = _checked(divisor)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx, rx, init=1)
        timer = Signal(range(self.divisor))
        shift = Signal(8, reset_less=True)
        left = Signal(range(9))

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("idle") | ~rx | self.o.valid)
            with m.State("idle"):
                with m.If(~rx):
                    m.d.sync += timer.eq(self.divisor // 2 - 1)
                    m.next = "start"
            with m.State("start"):
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self.divisor - 1), left.eq(8)]
                    m.next = "idle"
                    with m.If(~rx):
                        m.next = "data"
            with m.State("data"):
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "line"
                        with m.If(rx):
                            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(shift)]
                    with m.Else():
                        m.d.sync += shift.eq(Cat(shift[1:], rx))
            with m.State("line"):  # after a missing stop bit the line first has to be idle again
                with m.If(rx):
                    m.next = "idle"
        return m


class UARTTransmitter(wiring.Component):
    """Sends bytes. Throughput: a byte every 10 · ``divisor`` cycles.

    Parameters
    ----------
    divisor : int
        clock cycles per bit (at least 4)

    Members
    -------
    i : In(stream of unsigned(8))
    tx : Out(1)
        the pin, straight from a register
    busy : Out(1)
        a byte is leaving
    """

    i: In(stream.Signature(8))
    tx: Out(1, init=1)
    busy: Out(1)

    def __init__(self, divisor):
        self.divisor = _checked(divisor)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(self.divisor))
        shift = Signal(9, init=0x1FF)
        left = Signal(range(10))  # bits that follow the one on the line
        m.d.comb += self.i.ready.eq((timer == 0) & (left == 0))
        m.d.comb += self.busy.eq(~self.i.ready | ~self.tx)
        m.d.sync += self.tx.eq(shift[0])
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left != 0):
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1), shift.eq(Cat(shift[1:], 1))]
        with m.Elif(self.i.valid):
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(9), shift.eq(Cat(0, self.i.payload))]
        return m
