"""What a board carries: the array, and the link between it and a host."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.errors import SpikeloomError
from spikeloom.link import Identity

from .array import Array
from .link import Link
from .link.flash import FlashReader
from .link.spi import SPIPeripheral
from .link.uart import UARTReceiver, UARTTransmitter

__all__ = ["Top", "uart_divisor"]


def uart_divisor(clock, baud):
    """Clock cycles per bit; raises `SpikeloomError` when ``clock`` (Hz) cannot make ``baud`` to within 2 %."""
    divisor = round(clock / baud)
    if divisor < 4 or abs(divisor * baud / clock - 1) > 0.02:
        raise SpikeloomError(f"Baud rate {baud} cannot be made from {clock / 1e6:g} MHz: it must divide it to within "
                             "2 %, by 4 or more")
    return divisor


class Top(wiring.Component):
    """The array between the pins of a transport, as ``docs/link.md`` says.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    clock : int
        Hz
    baud : int
        bits per second of the UART
    transport : "uart" or "spi"
    boot_offset : int, optional
        address in the board's SPI flash to read frames from first

    Members
    -------
    rx : In(1), tx : Out(1)
        the UART's pins
    sck, cs, copi : In(1), cipo : Out(1)
        or those of the SPI peripheral
    flash_cs, flash_clk, flash_copi : Out(1), flash_cipo : In(1)
        the flash's, where it is read; both selected when low
    winner : Out(unsigned)
        that of the last sample
    loaded : Out(1)
        the array has a network
    busy : Out(1)
        a frame, a sample or a reply is on its way: while this is low and nothing comes in, the clock might stop
    """

    def __init__(self, program, *, clock, baud=None, transport="uart", boot_offset=None):
        self.program = program
        if transport == "uart":
            self.divisor = uart_divisor(clock, baud)
            pins = {"rx": In(1, init=1), "tx": Out(1, init=1)}
        elif transport == "spi":
            baud = 0
            pins = {"sck": In(1), "cs": In(1, init=1), "copi": In(1), "cipo": Out(1)}
        else:
            raise SpikeloomError(f"Transport must be uart or spi, not {transport!r}")
        self.transport = transport
        self.reader = None
        if boot_offset is not None:
            self.reader = FlashReader(boot_offset, clock)
            pins |= {"flash_cs": Out(1, init=1), "flash_clk": Out(1), "flash_copi": Out(1), "flash_cipo": In(1)}
        self.link = Link(program, Identity.of(program, clock=clock, baud=baud))
        super().__init__({
            **pins,
            "winner": Out(self.link.winner.shape()),
            "loaded": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.submodules.array = array = Array(self.program, counter_width=0, tells=True)
        connect(m, link.words, array.i)
        connect(m, array.o, link.results)
        m.d.comb += link.finished.eq(array.finished)
        for ours, theirs in ((link.event, array.event), (link.stalled, array.stalled)):
            m.d.comb += [one.eq(other) for one, other in zip(ours, theirs, strict=True)]
        if self.program.reloadable:
            connect(m, link.load, array.load)

        if self.transport == "uart":
            m.submodules.receiver = receiver = UARTReceiver(self.divisor)
            m.submodules.transmitter = transmitter = UARTTransmitter(self.divisor)
            m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        else:
            m.submodules.spi = receiver = transmitter = SPIPeripheral()
            m.d.comb += [receiver.sck.eq(self.sck), receiver.cs.eq(self.cs), receiver.copi.eq(self.copi),
                         self.cipo.eq(receiver.cipo)]

        boots = C(0)
        if self.reader is not None:
            m.submodules.flash = reader = self.reader
            boots = Signal(init=1)
            with m.If(reader.done & ~link.busy):
                m.d.sync += boots.eq(0)
            m.d.comb += [self.flash_cs.eq(reader.cs), self.flash_clk.eq(reader.clk), self.flash_copi.eq(reader.copi),
                         reader.cipo.eq(self.flash_cipo), reader.pause.eq(link.busy), reader.stop.eq(link.booted)]
        with m.If(boots):  # replies go nowhere, and what comes is not heard
            if self.reader is not None:
                connect_stream(m, reader.o, link.i)
            m.d.comb += [link.o.ready.eq(1), receiver.o.ready.eq(1)]
        with m.Else():
            connect_stream(m, receiver.o, link.i)
            connect_stream(m, link.o, transmitter.i)
        m.d.comb += [
            self.winner.eq(link.winner),
            self.loaded.eq(link.loaded),
            self.busy.eq(receiver.busy | link.busy | transmitter.busy | boots),
        ]
        return m


def connect_stream(m, source, sink):
    """Connect two streams where the statement stands, which may be under a condition."""
    m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
