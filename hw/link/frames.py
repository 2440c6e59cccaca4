"""Frames out of bytes, kept until they have been worked on, and frames into bytes."""

from amaranth import *
from amaranth.lib import crc, data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom import link
from spikeloom.hw.skid import Skid

__all__ = ["FrameReceiver", "FrameTransmitter", "crc_unit", "step_or"]

#: Bytes of a payload's CRC.
CRC_BYTES = 4

# A transport brings a byte every 16 clock cycles or more, so the CRC takes one bit per cycle: a third of the logic.
_CRC = crc.catalog.CRC32_ISO_HDLC(data_width=1)

#: Offset of a sample's first event byte in the buffer, behind the frame's length.
EVENTS_OFFSET = 1 + link.EVENTS_HEADER


def crc_unit(m, start):
    """The submodule ``crc``, which begins anew with ``start``."""
    unit = _CRC.create()
    m.submodules.crc = ResetInserter(start)(unit)  # a register's own reset takes no logic
    return unit


def step_or(value, step, loads, other):
    """``value`` and a ``step`` of 1 or -1, or ``other`` when it ``loads``, in one LUT per bit where LUTs have a carry:
    what the adder adds when its sum is not wanted is free, and so ``loads`` takes no input of its own."""
    held = (~loads).replicate(len(value))
    return Mux(loads, other, value - held if step == 1 else value + held)


class Byte(data.StructLayout):
    """One byte of a frame.

    Members
    -------
    data : unsigned(8)
    last : unsigned(1)
        the frame ends with it
    """

    def __init__(self):
        super().__init__({"data": 8, "last": 1})


class FrameReceiver(wiring.Component):
    """Finds frames in a stream of bytes and hands out those whose CRC is right.

    Bytes are written into a circular buffer as they come; when a frame turns out to be whole its length is written
    before it, and only then is it there for the reader. A damaged frame leaves a length of 0 instead, one for all
    that come in a row, so that its error is answered in turn.

    A frame is read as its length (bytes of its payload) and then its payload. When its last byte is taken the frame
    is gone, or, if ``again`` is high, is read once more from its fifth byte of payload on: a sample's events.

    Throughput: a byte in at least every 12 cycles; one byte out per cycle, with some cycles between frames.
    While the buffer is full ``i`` is not ready. No single frame fills it, so that never lasts.

    Parameters
    ----------
    depth : int
        bytes of the buffer, a power of two and at least 512, or 2 · (``longest`` + 5)
    longest : int
        most bytes of payload, a power of two less 5 (other than the link's own for proofs)

    Members
    -------
    i : In(stream of unsigned(8))
    o : Out(stream of Byte)
    again : In(1)
        looked at when ``o`` hands over a frame's last byte
    damaged : Out(1)
        high for one cycle for each frame that came damaged
    busy : Out(1)
        part of a frame has come, or a whole one has not been read to its end
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(Byte()))
    again: In(1)
    damaged: Out(1)
    busy: Out(1)

    def __init__(self, depth, *, longest=link.MAX_PAYLOAD):
        least = 2 * (longest + CRC_BYTES + 1)
        if depth < least or depth & (depth - 1):
            raise ValueError(f"Depth must be a power of two from {least} on, not {depth}")
        self.depth = depth
        self.longest = longest
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = memory.Memory(
            shape=8, depth=self.depth, init=(), attrs={"no_rw_check": 1, "ram_style": "block"})
        w_port, r_port = buffer.write_port(), buffer.read_port()
        starts = Signal()
        check = crc_unit(m, starts)

        # Addresses. Between `base` and `head` are frames to be read; behind `head`, where the length will stand, is
        # the frame that comes. Bytes are taken only while `tail` is not `base`, so the two never meet.
        head, tail = Signal(range(self.depth)), Signal(range(self.depth), init=1)
        base = Signal(range(self.depth))
        empty, full = Signal(init=1), Signal()
        m.d.sync += [empty.eq(head == base), full.eq(tail == base)]

        # Write side.
        byte = Signal(8, reset_less=True)
        left = Signal(range(9), reset_less=True)  # bits of the byte that the CRC has not seen
        length = Signal(range(-CRC_BYTES, self.longest + 2), init=-CRC_BYTES)  # bytes of payload so far
        outside = length[2:-1].all()  # as it begins, and beyond the most that there can be
        escaped, bad = Signal(), Signal()
        marked = Signal()  # the newest frame in the buffer is a damaged one
        begun = escaped | bad | (length != -CRC_BYTES)
        w_byte, w_length = Signal(), Signal()
        matches = Signal()
        m.d.sync += matches.eq(check.match_detected)
        m.d.comb += [
            w_port.en.eq(w_byte | w_length),
            w_port.addr.eq(tail),
            w_port.data.eq(Mux(w_length, length[:8], byte)),
            check.data.eq(byte[0]),
        ]
        walks, to_head = Signal(), Signal()
        with m.If(walks | to_head):
            m.d.sync += tail.eq(step_or(tail, 1, to_head, head))
        with m.FSM(name="writer"):
            with m.State("take"):
                m.d.comb += self.i.ready.eq(~full)
                m.d.sync += byte.eq(self.i.payload)
                with m.If(self.i.valid & ~full):
                    m.next = "sort"
            with m.State("sort"):
                m.next = "take"
                m.d.sync += escaped.eq(0)
                with m.If(byte == link.END):
                    with m.If(begun):
                        m.next = "judge"
                        m.d.sync += bad.eq(bad | escaped | ~matches | outside | ~length[1:8].any())
                with m.Elif(escaped):
                    m.next = "keep"
                    # What both may become differs from them in few bits.
                    m.d.sync += [byte[at].eq(byte[0]) if link.ESCAPE >> at & 1 else byte[at].eq(0)
                                 for at in range(1, 5)]
                    with m.If(byte[1:] != link.ESCAPED_END >> 1):
                        m.d.sync += bad.eq(1)
                with m.Elif(byte == link.ESCAPE):
                    m.d.sync += escaped.eq(1)
                with m.Else():
                    m.next = "keep"
            with m.State("keep"):
                m.d.sync += left.eq(8)
                m.next = "crc"
                with m.If(outside & ~length[-1]):
                    m.d.sync += bad.eq(1)
                with m.Elif(~bad):
                    m.d.comb += [w_byte.eq(1), walks.eq(1)]
                    m.d.sync += length.eq(length + 1)
            with m.State("crc"):
                m.d.comb += check.valid.eq(1)
                m.d.sync += [byte.eq(byte >> 1), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "settle"
            with m.State("settle"):
                m.next = "take"
            with m.State("judge"):
                m.d.comb += [self.damaged.eq(bad), to_head.eq(1)]
                m.d.sync += marked.eq(bad)
                m.next = "store"
                with m.If(bad):
                    m.d.sync += length.eq(0)
                    with m.If(marked & ~empty):
                        m.next = "begin"
            with m.State("store"):  # what came last was the CRC, which nobody reads
                m.d.comb += w_length.eq(1)
                m.d.sync += head.eq((Cat(1, head) + Cat(1, length[:8]))[1:])
                m.next = "follow"
            with m.State("follow"):
                m.d.comb += to_head.eq(1)
                m.next = "begin"
            with m.State("begin"):
                m.next = "settle"
                m.d.comb += [walks.eq(1), starts.eq(1)]
                m.d.sync += [length.eq(-CRC_BYTES), bad.eq(0)]

        # Read side: between frames, `r_addr` is `base`.
        r_addr = Signal(range(self.depth))
        end = Signal(range(self.depth), reset_less=True)  # address of the frame's last byte
        offset = Signal(range(EVENTS_OFFSET + 2), reset_less=True)
        asks, asks_last, returns = Signal(), Signal(), Signal()
        m.submodules.skid = skid = Skid(Byte())
        connect(m, skid.o, wiring.flipped(self.o))
        moves = skid.i.ready
        m.d.comb += [r_port.addr.eq(r_addr), r_port.en.eq(moves), skid.i.payload.data.eq(r_port.data)]
        with m.If(moves):
            m.d.sync += [skid.i.valid.eq(asks), skid.i.payload.last.eq(asks_last)]
        with m.If((asks & moves) | returns):
            m.d.sync += r_addr.eq(step_or(r_addr, 1, returns, base))
        gone, wanted = Signal(), Signal()  # the last byte has just been taken; and `again` then
        m.d.sync += [gone.eq(self.o.valid & self.o.ready & self.o.payload.last), wanted.eq(self.again)]
        with m.FSM(name="reader") as reader:
            m.d.comb += self.busy.eq(begun | ~empty | ~reader.ongoing("idle"))
            with m.State("idle"):
                with m.If(~empty):
                    m.next = "length"
            with m.State("length"):
                m.d.sync += [end.eq(base + r_port.data), offset.eq(0)]
                m.next = "read"
            with m.State("read"):
                m.d.comb += [asks.eq(1), asks_last.eq(r_addr == end)]
                with m.If(moves):
                    with m.If(offset != EVENTS_OFFSET + 1):
                        m.d.sync += offset.eq(offset + 1)
                    with m.If(offset == EVENTS_OFFSET):
                        m.d.sync += base.eq(r_addr)
                    with m.If(asks_last):
                        m.next = "ends"
            with m.State("ends"):
                with m.If(gone):
                    m.next = "free"
                    with m.If(wanted):
                        m.next = "return"
            with m.State("return"):
                m.d.comb += returns.eq(1)
                m.next = "read"
            with m.State("free"):
                m.d.sync += base.eq(r_addr)
                m.next = "settle"
            with m.State("settle"):  # until `empty` knows
                m.next = "idle"
        return m


class FrameTransmitter(wiring.Component):
    """Sends frames: each between two END, with its CRC.

    Throughput: a byte at most every 11 cycles.

    Members
    -------
    i : In(stream of Byte)
        the payload
    o : Out(stream of unsigned(8))
    busy : Out(1)
        part of a frame has been sent
    """

    i: In(stream.Signature(Byte()))
    o: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        starts = Signal()
        check = crc_unit(m, starts)
        byte = Signal(8, reset_less=True)
        left = Signal(range(9), reset_less=True)
        last = Signal(reset_less=True)
        more = Signal(range(CRC_BYTES + 1), reset_less=True)  # bytes of CRC that follow
        closing = Signal(reset_less=True)

        with m.FSM(name="sender") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("idle"))
            with m.State("idle"):
                m.d.comb += [self.o.payload.eq(link.END), self.o.valid.eq(self.i.valid), starts.eq(1)]
                m.d.sync += closing.eq(0)
                with m.If(self.i.valid & self.o.ready):
                    m.next = "take"
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [byte.eq(self.i.payload.data), last.eq(self.i.payload.last), left.eq(8)]
                m.d.sync += more.eq(CRC_BYTES)
                with m.If(self.i.valid):
                    m.next = "crc"
            with m.State("crc"):
                # A bit of payload goes round and into the CRC. A bit of the CRC comes out of it when its own inverse
                # goes in, which moves it on with nothing added.
                m.d.comb += [check.valid.eq(1), check.data.eq(Mux(closing, ~check.crc[0], byte[0]))]
                m.d.sync += [byte.eq(Cat(byte[1:], Mux(closing, check.crc[0], byte[0]))), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "look"
            with m.State("look"):
                m.next = "send"
                m.d.sync += left.eq(8)
                with m.If((byte == link.END) | (byte == link.ESCAPE)):
                    m.next = "escape"
            with m.State("escape"):
                m.d.comb += [self.o.payload.eq(link.ESCAPE), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += byte.eq(Mux(byte == link.END, link.ESCAPED_END, link.ESCAPED_ESCAPE))
                    m.next = "send"
            with m.State("send"):
                m.d.comb += [self.o.payload.eq(byte), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "take"
                    with m.If(closing | last):
                        m.d.sync += [closing.eq(1), more.eq(more - 1)]
                        m.next = "crc"
                        with m.If(more == 0):
                            m.next = "end"
            with m.State("end"):
                m.d.comb += [self.o.payload.eq(link.END), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "idle"
        return m
