"""Bytes over SPI, as a peripheral: mode 0, most significant bit first, as many out as in."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out
from spikeloom.link import END

__all__ = ["SPIPeripheral"]


class SPIPeripheral(wiring.Component):
    """Exchanges bytes with a controller, whose clock is an input like any other: at most an eighth of ours.

    A byte begins when the chip is selected or another one ends; one that is broken off is lost. Where there is
    nothing to send, `END` is sent. A byte received and not taken before the next one ends is lost.

    Members
    -------
    sck, cs, copi : In(1)
        the pins, of no clock domain; ``cs`` selects when low
    cipo : Out(1)
        the pin, straight from a register, driven always
    i, o : In, Out(stream of unsigned(8))
        to and from the controller
    busy : Out(1)
        part of a byte has been exchanged, or one has not been taken or sent
    """

    sck: In(1)
    cs: In(1, init=1)
    copi: In(1)
    cipo: Out(1)
    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        sck, cs, copi, sck_before = Signal(), Signal(init=1), Signal(), Signal()
        m.submodules.sck = FFSynchronizer(self.sck, sck)
        m.submodules.cs = FFSynchronizer(self.cs, cs, init=1)
        m.submodules.copi = FFSynchronizer(self.copi, copi)
        m.d.sync += sck_before.eq(sck)
        rises, falls = ~cs & sck & ~sck_before, ~cs & ~sck & sck_before

        count = Signal(3)  # bits of the byte that have been exchanged
        shift_in = Signal(7, reset_less=True)
        shift_out = Signal(8, init=END)
        unsent = Signal()  # what is to be shifted out is more than a filler, and no bit of it has been seen
        next_byte = Mux(cs, ~unsent, falls & (count == 0))
        m.d.comb += [
            self.cipo.eq(shift_out[-1]),
            self.i.ready.eq(next_byte),
            self.busy.eq((count != 0) | self.o.valid | unsent),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(cs):
            m.d.sync += count.eq(0)
        with m.If(rises):
            m.d.sync += [count.eq(count + 1), shift_in.eq(Cat(copi, shift_in)), unsent.eq(0)]
            with m.If(count == 7):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(Cat(copi, shift_in))]
        with m.If(next_byte):
            m.d.sync += [shift_out.eq(Mux(self.i.valid, self.i.payload, END)), unsent.eq(self.i.valid)]
        with m.Elif(falls):
            m.d.sync += shift_out.eq(Cat(C(0, 1), shift_out))
        return m
