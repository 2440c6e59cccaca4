"""The memories of an idle array, written and checked over the link."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from spikeloom import link
from spikeloom.hw.load import READ_CYCLES, LoadSignature

from .frames import Byte, crc_unit

__all__ = ["Memories"]


class Memories(wiring.Component):
    """Does what requests to load or to check a memory say.

    Throughput: a byte written per cycle; one checked every ``READ_CYCLES`` + 10 cycles.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
        a reloadable one

    Members
    -------
    begin : In(1)
        a request begins; not before the last one is ``finished``
    checks : In(1)
        with it: it is one to check
    i : In(stream of Byte)
        the request's body
    finished : Out(1)
        high for one cycle: the request has been done, or refused. Bytes that it has left are nobody's.
    code : Out(unsigned(3))
        with it: 0, or that of the error
    changes : Out(1)
        a memory is written
    crc : Out(32)
        of the memory that was checked last
    bus : Out(LoadSignature(program))
    """

    def __init__(self, program):
        self.images = program.images
        super().__init__({
            "begin": In(1),
            "checks": In(1),
            "i": In(stream.Signature(Byte())),
            "finished": Out(1),
            "code": Out(3),
            "changes": Out(1),
            "crc": Out(32),
            "bus": Out(LoadSignature(program)),
        })

    def elaborate(self, platform):
        m = Module()
        bus, data, last = self.bus, self.i.payload.data, self.i.payload.last
        taken = self.i.valid & self.i.ready
        checks, outside, ended = Signal(), Signal(), Signal()
        last_row, last_byte = Signal.like(bus.row), Signal.like(bus.byte)
        with m.Switch(bus.memory):
            for number, image in enumerate(self.images):
                with m.Case(number):
                    m.d.sync += [last_row.eq(image.rows - 1), last_byte.eq(image.row_bytes - 1)]
        row_ends, memory_ends = bus.byte == last_byte, bus.row == last_row

        def step():
            """Go to the byte after this one; behind the memory's last everything is outside."""
            m.d.sync += bus.byte.eq(bus.byte + 1)
            with m.If(row_ends):
                m.d.sync += [bus.byte.eq(0), bus.row.eq(bus.row + 1), outside.eq(memory_ends)]

        starts = Signal()
        crc = crc_unit(m, starts)
        m.d.comb += self.crc.eq(crc.crc)
        shift = Signal(8, reset_less=True)
        wait = Signal(range(max(READ_CYCLES, 8) + 1))
        address = Signal(range(5))  # which byte of row and byte is next

        m.d.comb += [bus.data.eq(data), self.changes.eq(bus.write)]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [outside.eq(0), address.eq(0), bus.row.eq(0), bus.byte.eq(0)]
                m.d.sync += checks.eq(self.checks)
                with m.If(self.begin):
                    m.next = "memory"
            with m.State("memory"):
                m.d.comb += [self.i.ready.eq(1), starts.eq(1)]
                m.d.sync += [bus.memory.eq(data), ended.eq(last)]
                with m.If(taken):
                    with m.If(data >= len(self.images)):
                        m.d.sync += outside.eq(1)
                    m.next = "address"
                    with m.If(checks):
                        m.next = "choose"
                    with m.If(checks != last):
                        m.next = "malformed"
            with m.State("address"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(taken):
                    m.d.sync += [address.eq(address + 1), ended.eq(last)]
                    with m.Switch(address):
                        for number in range(5):
                            part, at = (bus.row, 8 * number) if number < 3 else (bus.byte, 8 * (number - 3))
                            room = max(0, min(8, len(part) - at))
                            with m.Case(number):
                                if room:
                                    m.d.sync += part[at:at + room].eq(data)
                                with m.If(data[room:].any()):
                                    m.d.sync += outside.eq(1)
                    with m.If(address == 4):
                        m.next = "look"
                    with m.Elif(last):
                        m.next = "malformed"
            with m.State("look"):
                m.next = "choose"
                with m.If((bus.row > last_row) | (bus.byte > last_byte)):
                    m.d.sync += outside.eq(1)
            with m.State("choose"):
                m.d.sync += wait.eq(READ_CYCLES)
                m.next = "write"
                with m.If(outside):
                    m.next = "outside"
                with m.Elif(checks):
                    m.next = "read"
            with m.State("write"):
                with m.If(ended):
                    m.next = "finished"
                with m.Elif(outside):
                    m.next = "outside"
                with m.Else():
                    m.d.comb += [self.i.ready.eq(1), bus.active.eq(self.i.valid), bus.write.eq(self.i.valid)]
                    with m.If(taken):
                        m.d.sync += ended.eq(last)
                        step()
            with m.State("read"):
                m.d.comb += bus.active.eq(1)
                m.d.sync += [shift.eq(bus.read_data), wait.eq(wait - 1)]
                with m.If(wait == 0):
                    m.d.sync += wait.eq(8)
                    m.next = "shift"
            with m.State("shift"):
                m.d.comb += [bus.active.eq(1), crc.valid.eq(wait != 0), crc.data.eq(shift[0])]
                m.d.sync += [shift.eq(shift >> 1), wait.eq(wait - 1)]
                with m.If(wait == 0):
                    step()
                    m.d.sync += wait.eq(READ_CYCLES)
                    m.next = "read"
                    with m.If(row_ends & memory_ends):
                        m.next = "finished"

            with m.State("finished"):
                m.d.comb += self.finished.eq(1)
                m.next = "idle"
            with m.State("malformed"):
                m.d.comb += [self.finished.eq(1), self.code.eq(link.UNKNOWN)]
                m.next = "idle"
            with m.State("outside"):
                m.d.comb += [self.finished.eq(1), self.code.eq(link.RANGE)]
                m.next = "idle"
        return m
