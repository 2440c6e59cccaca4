"""Frames from the SPI flash of a board, before a host is listened to."""

from math import ceil

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out
from spikeloom.errors import SpikeloomError
from spikeloom.link import END

__all__ = ["FlashReader"]

#: What is not read beyond, in bytes.
MOST = 2**20

#: Seconds that flash chips take to wake up, generously.
WAKE = 50e-6

RELEASE_POWER_DOWN, READ = 0xAB, 0x03


class FlashReader(wiring.Component):
    """Reads a boot image once after reset: wakes the flash and reads from ``offset`` on at a quarter of the clock.

    After each `END` it waits until that frame has been worked on, so nothing behind the end of boot is read. It stops
    at ``stop``, at a first byte other than `END`, and after `MOST` bytes, then with an `END` of its own.

    Parameters
    ----------
    offset : int
        address of the image's first byte, below 2^24
    clock : int
        Hz

    Members
    -------
    cs, clk, copi : Out(1), cipo : In(1)
        the pins; ``cs`` selects when low
    o : Out(stream of unsigned(8))
        the image
    pause : In(1)
        what came before is being worked on
    stop : In(1)
        end of boot
    done : Out(1)
        nothing more will be read
    """

    cs: Out(1, init=1)
    clk: Out(1)
    copi: Out(1)
    cipo: In(1)
    o: Out(stream.Signature(8))
    pause: In(1)
    stop: In(1)
    done: Out(1)

    def __init__(self, offset, clock):
        if not 0 <= offset < 2**24:
            raise SpikeloomError(f"Offset of a boot image must be between 0 and {2**24 - 1}, not {offset}")
        self.offset = offset
        self.clock = clock
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        cipo = Signal()
        m.submodules.cipo = FFSynchronizer(self.cipo, cipo)
        # A bit takes four phases: the pin changes with the fall before phase 0, and what is seen of it in phase 3 is
        # two cycles old.
        phase = Signal(2)
        bit = Signal(range(32))  # bits still to come, less one
        byte = Signal(8, reset_less=True)
        count = Signal(range(MOST))
        first, stopped = Signal(init=1), Signal()
        rest = Signal(range(ceil(WAKE * self.clock) + 1), init=ceil(WAKE * self.clock))
        shifts = Signal()
        m.d.sync += [self.clk.eq(shifts & (phase >= 1) & (phase <= 2)), stopped.eq(stopped | self.stop)]
        with m.If(shifts):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == 3):
                m.d.sync += [byte.eq(Cat(cipo, byte)), bit.eq(bit - 1)]
        ends = (phase == 3) & (bit == 0)

        m.d.comb += self.o.payload.eq(byte)
        with m.FSM():
            with m.State("begin"):
                m.d.sync += [self.cs.eq(0), bit.eq(7)]
                m.next = "wake"
            with m.State("wake"):
                m.d.comb += [shifts.eq(1), self.copi.eq(C(RELEASE_POWER_DOWN, 8).bit_select(bit[:3], 1))]
                with m.If(ends):
                    m.next = "rest"
            with m.State("rest"):
                m.d.sync += [self.cs.eq(1), rest.eq(rest - 1), bit.eq(31)]
                with m.If(rest == 0):
                    m.d.sync += self.cs.eq(0)
                    m.next = "command"
            with m.State("command"):
                m.d.comb += [shifts.eq(1), self.copi.eq(C(READ << 24 | self.offset, 32).bit_select(bit, 1))]
                with m.If(ends):
                    m.d.sync += bit.eq(7)
                    m.next = "read"
            with m.State("read"):
                m.d.comb += shifts.eq(1)
                with m.If(ends):
                    m.next = "look"
            with m.State("look"):
                m.d.sync += [first.eq(0), bit.eq(7)]
                m.next = "give"
                with m.If(first & (byte != END)):
                    m.next = "end"
            with m.State("give"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += count.eq(count + 1)
                    m.next = "read"
                    with m.If(count == MOST - 1):
                        m.next = "end"
                    with m.Elif(byte == END):
                        m.next = "wait"
            with m.State("wait"):
                with m.If(stopped):
                    m.next = "end"
                with m.Elif(~self.pause):
                    m.next = "read"
            with m.State("end"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(END)]
                m.d.sync += self.cs.eq(1)
                with m.If(self.o.ready):
                    m.next = "done"
            with m.State("done"):
                m.d.comb += self.done.eq(1)
        return m
