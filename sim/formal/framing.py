"""What the blocks of the link promise, whatever bytes come."""

from types import SimpleNamespace
from unittest import mock

from amaranth.hdl import Assert, Assume, Elaboratable, Fragment, Module, Mux, ResetInserter, ResetSignal, Signal, Value
from amaranth.lib import crc
from spikeloom import link
from spikeloom.hw.link import frames
from spikeloom.hw.link.frames import CRC_BYTES, FrameReceiver, FrameTransmitter
from spikeloom.hw.link.player import EventPlayer

from .proof import Proof, free, keeps

__all__ = ["proofs"]


def _offers(m, port, when=1):
    """Drive a stream's input freely, but for its rule: what is offered stays, unchanged, until it is taken."""
    waiting = Signal()
    before = Signal(Value.cast(port.payload).shape())
    m.d.comb += [Value.cast(port.payload).eq(free(m, before.shape())), port.valid.eq(when & free(m, 1))]
    m.d.sync += [waiting.eq(port.valid & ~port.ready), before.eq(port.payload)]
    with m.If(waiting):
        m.d.comb += [Assume(port.valid), Assume(Value.cast(port.payload) == before)]


class Playing(Elaboratable):
    """An `EventPlayer` between bytes of any kind and any consumer.

    Samples begin and are closed at any time. No byte comes before a sample has begun, behind its final byte, once
    ``bad`` is told, or together with ``close``. What the bytes say is counted beside, as ``docs/link.md`` has it, and
    compared with what the player says.
    """

    def __init__(self, block):
        self.block = block

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        words, steps = block.words, block.time_steps
        byte, out = block.i.payload, block.o.payload

        # The user.
        opened, over = Signal(), Signal()
        m.d.comb += [
            block.begin.eq(~opened),
            byte.eq(free(m, 8)),
            block.i.valid.eq(opened & ~over & ~block.bad & free(m, 1)),
            block.final.eq(free(m, 1)),
            block.close.eq(opened & ~block.i.valid & free(m, 1)),
            block.o.ready.eq(free(m, 1)),
        ]
        keeps(m, block.o)
        taken, given = Signal(), Signal()
        m.d.comb += [taken.eq(block.i.valid & block.i.ready), given.eq(block.o.valid & block.o.ready)]
        m.d.sync += [
            opened.eq(Mux(opened, ~block.closed, free(m, 1))),
            over.eq(opened & (over | (taken & block.final))),
        ]

        # What the bytes say.
        partner, broken, ended = Signal(), Signal(), Signal()  # `broken`: they have made no sense
        place, whole = Signal(range(words.count + 256)), Signal(range(steps))  # words and time steps that are complete
        value, run, end, breaks = Signal(), Signal(), Signal(), Signal()
        beyond = byte >> min(8, words.width) != 0
        if not words.graded and words.size % words.width:
            beyond |= (place == words.count - 1) & (byte >> words.size % words.width != 0)
        m.d.comb += [
            value.eq(taken & ~partner & (byte != 0)),
            run.eq(taken & partner & (byte != 0)),
            end.eq(taken & partner & (byte == 0)),
            breaks.eq((value & ((place >= words.count) | beyond)) | (run & (place + byte > words.count))
                      | (end & ~block.final & (whole == steps - 1))),
        ]
        made = Signal()
        m.d.comb += made.eq((value | (end & ~block.final)) & ~breaks & ~broken)
        with m.If(~opened):
            m.d.sync += [partner.eq(0), broken.eq(0), ended.eq(0), place.eq(0), whole.eq(0)]
        with m.Elif(taken):
            m.d.sync += [
                partner.eq(~partner & (byte == 0)),
                broken.eq(broken | breaks),
                ended.eq(end & block.final & ~broken),
                place.eq(Mux(end, 0, place + Mux(run, byte, value))),
                whole.eq(whole + end),
            ]

        # It says the same. It may find out that a run was too long with the next word or end.
        refused = Signal()
        m.d.sync += refused.eq((value | end) & (broken | breaks))
        with m.If(opened):
            m.d.comb += [Assert(~block.bad | broken), Assert(block.bad | ~refused), Assert(block.ended == ended)]
        due = Signal()
        expected = Signal.like(out)
        with m.If(made | block.closed):
            m.d.sync += [due.eq(1), expected.bits.eq(Mux(value, byte, 0)), expected.index.eq(place),
                         expected.last.eq(~value), expected.final.eq(block.closed)]
        with m.Elif(given):
            m.d.sync += due.eq(0)
        m.d.comb += Assert(block.o.valid == due)
        with m.If(block.o.valid):
            m.d.comb += [Assert(out.bits == expected.bits), Assert(out.last == expected.last)]
            with m.If(out.last):
                m.d.comb += Assert(out.final == expected.final)
            with m.Else():
                m.d.comb += Assert(out.index == expected.index)

        # Nothing waits but for the consumer, and nothing overtakes it.
        room = Signal()
        m.d.comb += [
            room.eq(block.o.ready | ~due),
            Assert(~block.i.valid | (block.i.ready == room)),
            Assert(block.closed == (block.close & room)),
        ]

        # So the array gets only what it can bear.
        least, ends = Signal(range(words.count + 1)), Signal(range(steps + 1))
        with m.If(given):
            m.d.sync += [
                least.eq(Mux(out.last, 0, out.index + 1)),
                ends.eq(Mux(out.last, Mux(out.final, 0, ends + 1), ends)),
            ]
        with m.If(block.o.valid):
            m.d.comb += [Assert(ends < steps), Assert(out.last | out.bits.any())]
            with m.If(out.bits.any()):
                m.d.comb += [Assert(out.index >= least), Assert(out.index < words.count)]
                if not words.graded and words.size % words.width:
                    with m.If(out.index == words.count - 1):
                        m.d.comb += Assert(out.bits >> words.size % words.width == 0)
        return m


def player(words, time_steps, block=EventPlayer):
    return Proof(f"EventPlayer({words.count} words of {words.width} bits{' for a value' * words.graded}, "
                 f"{words.size} inputs, {time_steps} time steps)",
                 "whatever bytes come, those that make sense become words, each once and in order, and all others are "
                 "refused; no index comes twice or out of order in a time step or is beyond the last, no bit is beyond "
                 "the last input, no time step is too many; close ends the time step; nothing waits but for the array",
                 lambda: Playing(block(words, time_steps)))


class AnyCRC(Elaboratable):
    """A block with any CRC, which matches or not until its unit is given another bit or begins anew.

    What holds for this holds for the block, whatever its CRC's values. ``match`` tells the choice.
    """

    def __init__(self, block):
        self.block = block
        self.match = Signal()

    def elaborate(self, platform):
        def crc_unit(m, start):
            made = SimpleNamespace(data=Signal(), valid=Signal(), crc=Signal(32), match_detected=Signal())
            with m.If(made.valid | start):
                m.d.sync += made.match_detected.eq(free(m, 1))
            m.d.comb += [made.crc.eq(free(m, 32)), self.match.eq(made.match_detected)]
            return made

        with mock.patch.object(frames, "crc_unit", crc_unit):
            return Fragment.get(self.block, platform)


class Sending(Elaboratable):
    """A `FrameTransmitter` between any producer that keeps its rules and any consumer.

    What comes out is decoded beside. A byte of payload is marked by free choice, and must come out in its turn.
    """

    def __init__(self, block, *, within, checks):
        self.block, self.within, self.checks = block, within, checks

    def elaborate(self, platform):
        m = Module()
        block = self.block
        m.submodules.block = block if self.checks else AnyCRC(block)
        _offers(m, block.i)
        m.d.comb += block.o.ready.eq(free(m, 1))
        keeps(m, block.o)
        taken, given = Signal(), Signal()
        m.d.comb += [taken.eq(block.i.valid & block.i.ready), given.eq(block.o.valid & block.o.ready)]

        # What goes over the wire.
        byte = block.o.payload
        inside, escaped = Signal(), Signal()
        ends = byte == link.END
        value, content = Signal(8), Signal()
        m.d.comb += [
            value.eq(Mux(escaped, Mux(byte == link.ESCAPED_END, link.END, link.ESCAPE), byte)),
            content.eq(given & ~ends & (escaped | (byte != link.ESCAPE))),
        ]
        # What went in and is not out, whether it is whole, and how much of the CRC has followed.
        pending, whole, trailer = Signal(2), Signal(), Signal(range(CRC_BYTES + 1))
        pays = Signal()
        m.d.comb += pays.eq(content & (pending != 0))
        m.d.sync += pending.eq(pending + taken - pays)
        with m.If(given):
            m.d.sync += [escaped.eq(~escaped & (byte == link.ESCAPE)), inside.eq(inside ^ ends)]
            with m.If(inside & ends):
                m.d.sync += [whole.eq(0), trailer.eq(0)]
            with m.Elif(content & ~pays):
                m.d.sync += trailer.eq(trailer + 1)
        with m.If(taken):
            m.d.comb += [Assert(~whole), Assert(~pending[1])]
            m.d.sync += whole.eq(block.i.payload.last)
        with m.If(block.o.valid):
            m.d.comb += Assert(ends == (~inside | (trailer == CRC_BYTES)))
            with m.If(escaped):
                m.d.comb += Assert((byte == link.ESCAPED_END) | (byte == link.ESCAPED_ESCAPE))
        with m.If(content & ~pays):
            m.d.comb += Assert(whole)
        m.d.comb += Assert(block.busy == (inside | whole | (pending != 0)))

        # The marked byte.
        marked, ahead, payload = Signal(), Signal.like(pending), Signal(8)
        with m.If(marked):
            m.d.sync += ahead.eq(ahead - pays)
            with m.If(pays & (ahead == 0)):
                m.d.comb += Assert(value == payload)
                m.d.sync += marked.eq(0)
        with m.Elif(taken & free(m, 1)):
            m.d.sync += [marked.eq(1), payload.eq(block.i.payload.data), ahead.eq(pending - pays)]

        # Bounded progress.
        idle = Signal(range(self.within + 2))
        owes = block.i.valid | whole | (pending != 0)
        m.d.sync += idle.eq(Mux(block.o.ready & ~block.o.valid & owes, idle + 1, 0))
        m.d.comb += Assert(idle <= self.within)

        # The CRC, eight bits at a time.
        if self.checks:
            check = crc.catalog.CRC32_ISO_HDLC(data_width=8).create()
            m.submodules.check = ResetInserter(~inside)(check)
            m.d.comb += [check.data.eq(value), check.valid.eq(content)]
            with m.If(block.o.valid & inside & ends):
                m.d.comb += Assert(check.match_detected)
            # Pauses and resets in between would be too much for the solver.
            m.d.comb += [Assume(block.i.valid), Assume(block.o.ready), Assume(~ResetSignal())]
        return m


def transmitter(block=FrameTransmitter):
    return Proof("FrameTransmitter",
                 "between two END stand a frame's bytes, each once, in order and escaped where it must be, and four "
                 "more, whatever the CRC's values; with the output taken, it never pauses for more than eleven cycles",
                 lambda: Sending(block(), within=11, checks=False))


def transmitter_crc(depth, block=FrameTransmitter):
    return Proof("FrameTransmitter's CRC",
                 "the four bytes are the CRC-32 of those before them, computed eight bits at a time: of a first frame "
                 "with neither pauses nor resets, as far as it fits into the depth (one byte of payload)",
                 lambda: Sending(block(), within=11, checks=True), depth)


class Receiving(Elaboratable):
    """A `FrameReceiver` between bytes of any kind and any reader. What is handed out is not looked at.

    What comes in is decoded beside.
    """

    def __init__(self, block):
        self.block = block

    def elaborate(self, platform):
        m = Module()
        block, longest = self.block, self.block.longest
        m.submodules.block = any_crc = AnyCRC(block)
        m.d.comb += [
            block.i.payload.eq(free(m, 8)), block.i.valid.eq(free(m, 1)), block.o.ready.eq(free(m, 1)),
            block.again.eq(free(m, 1)),
        ]
        taken = block.i.valid & block.i.ready

        # What comes over the wire.
        byte = block.i.payload
        escaped, bad, length = Signal(), Signal(), Signal(range(longest + CRC_BYTES + 2))
        content, ends, whole = Signal(), Signal(), Signal()
        most = longest + CRC_BYTES
        m.d.comb += [
            content.eq(taken & (byte != link.END) & (escaped | (byte != link.ESCAPE))),
            ends.eq(taken & (byte == link.END) & (escaped | bad | (length != 0))),
            whole.eq(ends & ~escaped & ~bad & (length >= 2 + CRC_BYTES) & (length <= most) & any_crc.match),
        ]
        with m.If(ends):
            m.d.sync += [escaped.eq(0), bad.eq(0), length.eq(0)]
        with m.Elif(taken):
            m.d.sync += escaped.eq(~escaped & (byte == link.ESCAPE))
            with m.If(escaped & (byte != link.ESCAPED_END) & (byte != link.ESCAPED_ESCAPE)):
                m.d.sync += bad.eq(1)
            with m.If(content & (length <= most)):
                m.d.sync += length.eq(length + 1)
        lost = Signal()  # and not yet told
        m.d.sync += lost.eq((lost & ~block.damaged) | (ends & ~whole))
        m.d.comb += [Assert(~block.damaged | lost), Assert(~taken | ~lost)]
        return m


def receiver(size, longest, block=FrameReceiver, depth=0):
    return Proof(f"FrameReceiver({size} bytes, frames of at most {longest})",
                 "whatever bytes come: of the frames between END, those with a forbidden escape, a wrong length or a "
                 "CRC that does not match are told as damaged, each before the next byte is taken, and no others, "
                 "whatever the CRC's values",
                 lambda: Receiving(block(size, longest=longest)), depth)


def proofs(program):
    """A `Proof` for each block that deals with the bytes of the link.

    The player has ``program``'s own parameters; the receiver is looked at in a small size, which the solvers manage.
    """
    return [player(program.i_words, program.network.time_steps), transmitter(), transmitter_crc(60),
            receiver(16, 3)]
