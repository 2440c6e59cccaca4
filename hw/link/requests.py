"""What a board is asked: every frame taken apart, checked, and done."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom import link
from spikeloom.hw.event import EventWord
from spikeloom.hw.load import LoadSignature

from .frames import Byte, step_or
from .memories import Memories
from .player import EventPlayer
from .replies import Answer, Ticket

__all__ = ["Requests"]

#: Bytes of a request to commit.
COMMIT_LENGTH = 2 + 32


class Requests(wiring.Component):
    """Serves the frames that come, one after the other; ``docs/link.md`` says how.

    Samples are handed to the array without waiting for those before them. Whatever else is asked, errors included,
    waits until all scores have been taken.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program

    Members
    -------
    i : In(stream of Byte)
        frames, each beginning with its length
    again : Out(1)
        as in `FrameReceiver`
    words : Out(stream of EventWord)
        into the array
    tickets : Out(stream of Ticket)
        one for each sample the array has been given whole
    settles : Out(1), pending : In(1)
        nothing more is done until the samples before have been answered; not all of them have
    answers : Out(stream of Answer)
    playing : Out(1)
        a sample's events are being taken
    load : Out(LoadSignature(program))
        into the array, if the program is reloadable
    crc : Out(32)
        of the memory that was checked last
    digest_write : Out(1), digest_byte : Out(unsigned(5)), digest_data : Out(8)
        a byte of the network's digest, at a commit
    loaded : Out(1)
        the array has a network
    booted : Out(1)
        high for one cycle at the end of boot
    busy : Out(1)
    """

    def __init__(self, program):
        self.program = program
        super().__init__({
            "i": In(stream.Signature(Byte())),
            "again": Out(1),
            "words": Out(stream.Signature(EventWord(program.i_words))),
            "tickets": Out(stream.Signature(Ticket())),
            "settles": Out(1),
            "pending": In(1),
            "answers": Out(stream.Signature(Answer())),
            "playing": Out(1),
            "crc": Out(32),
            "digest_write": Out(1),
            "digest_byte": Out(5),
            "digest_data": Out(8),
            "loaded": Out(1, init=not program.starts_empty),
            "booted": Out(1),
            "busy": Out(1),
            **({"load": Out(LoadSignature(program))} if program.reloadable else {}),
        })

    def elaborate(self, platform):
        m = Module()
        program = self.program
        m.submodules.player = player = EventPlayer(program.i_words, program.network.time_steps)
        connect(m, player.o, wiring.flipped(self.words))

        byte, last = self.i.payload.data, self.i.payload.last
        m.d.comb += self.digest_data.eq(byte)
        answer = self.answers.payload
        code, kind, tag, chunk = (Signal.like(getattr(answer, name), name=name, reset_less=True)
                                  for name in ("code", "type", "tag", "chunk"))
        damaged = Signal()  # nothing is known of the frame, while the tag is still that of an open sample
        m.d.comb += [answer.code.eq(code), answer.type.eq(kind), answer.chunk.eq(chunk),
                     answer.tag.eq(Mux(damaged, 0, tag))]
        repeat = Signal(8, reset_less=True)
        sets_repeat, repeats = Signal(), Signal()
        with m.If(sets_repeat | repeats):
            m.d.sync += repeat.eq(step_or(repeat, -1, sets_repeat, byte))
        done = Signal(reset_less=True)  # the frame's last byte has been taken
        is_commit_length = Signal(reset_less=True)
        is_sample, is_finish, refused = (Signal(reset_less=True) for _ in range(3))
        open_ = Signal()  # a sample has begun and is not closed
        same_tag, starts, continues = (Signal(reset_less=True) for _ in range(3))

        m.d.comb += [
            player.i.payload.eq(byte),
            player.final.eq(is_finish & last & ~self.again),
            player.begin.eq(~open_),
            self.tickets.payload.tag.eq(tag),
        ]

        if program.reloadable:
            m.submodules.memories = memories = Memories(program)
            connect(m, memories.bus, wiring.flipped(self.load))
            m.d.comb += [
                memories.i.payload.eq(self.i.payload),
                memories.checks.eq(kind == link.CHECK),
                self.crc.eq(memories.crc),
            ]
            # A reset between a load and its commit must not let an old memory pass for the new network's.
            written = Signal()
            with m.If(memories.changes):
                m.d.sync += [self.loaded.eq(0), written.eq(1)]

        def refuse(reason):
            m.d.sync += [code.eq(reason), refused.eq(reason != 0)]

        # What a byte's way to the array depends on is decided a cycle before.
        plays, more = Signal(), Signal()
        m.d.comb += [
            player.i.valid.eq(self.i.valid & plays & ~done & ~player.bad),
            self.again.eq(plays & more),
        ]

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("length"))
            with m.State("length"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [code.eq(0), refused.eq(0), done.eq(0)]
                m.d.sync += [damaged.eq(last), is_commit_length.eq(byte == COMMIT_LENGTH)]
                with m.If(self.i.valid):
                    m.next = "type"
                    with m.If(last):
                        m.d.sync += done.eq(1)
                        refuse(link.DAMAGED)
                        m.next = "settle"
            with m.State("type"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    kind.eq(byte),
                    is_sample.eq((byte == link.EVENTS) | (byte == link.FINISH)),
                    is_finish.eq(byte == link.FINISH),
                ]
                with m.If(self.i.valid):
                    with m.Switch(byte):
                        with m.Case(*range(link.IDENTIFY, link.BOOTED + 1)):
                            pass
                        with m.Default():
                            refuse(link.UNKNOWN)
                    m.next = "tag"
            with m.State("tag"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += same_tag.eq(byte == tag)
                with m.If(self.i.valid):
                    m.d.sync += [tag.eq(byte), done.eq(last)]
                    m.next = "close"
                    with m.If(is_sample):
                        m.next = "chunk"
                        with m.If(last):
                            refuse(link.UNKNOWN)
                            m.next = "close"
            with m.State("chunk"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    continues.eq(open_ & same_tag & (byte == (chunk + 1)[:8])),
                    starts.eq(byte == 0),
                ]
                with m.If(self.i.valid):
                    m.d.sync += [chunk.eq(byte), done.eq(last)]
                    m.next = "repeat"
                    with m.If(last):
                        refuse(link.UNKNOWN)
                        m.next = "close"
            with m.State("repeat"):
                m.d.comb += [self.i.ready.eq(1), sets_repeat.eq(1)]
                with m.If(self.i.valid):
                    m.d.sync += [more.eq(byte[1:].any()), done.eq(last)]
                    with m.If(~self.loaded):
                        refuse(link.NOT_LOADED)
                    with m.Elif(~continues & ~starts):
                        refuse(link.ORDER)
                    m.next = "close"

            with m.State("close"):  # what is open, unless this goes on with it
                with m.If(~refused & is_sample & (continues | ~open_)):
                    m.d.sync += open_.eq(1)
                    m.next = "play"
                with m.Elif(~open_):
                    m.next = "settle"
                with m.Else():
                    m.d.comb += [
                        self.tickets.payload.drop.eq(1),
                        player.close.eq(self.tickets.ready),
                        self.tickets.valid.eq(player.closed),
                    ]
                    with m.If(player.closed):
                        m.d.sync += open_.eq(0)
            with m.State("play"):
                m.d.comb += self.playing.eq(1)
                m.d.sync += plays.eq(1)
                with m.If(done | player.bad):
                    m.d.sync += plays.eq(0)
                    m.next = "played"
                with m.If(plays & ~done & ~player.bad):
                    m.d.comb += self.i.ready.eq(player.i.ready)
                    with m.If(self.i.valid & player.i.ready & last):
                        m.d.comb += repeats.eq(1)
                        m.d.sync += [done.eq(~more), more.eq(repeat[2:].any() | repeat[:2].all())]
            with m.State("played"):
                with m.If(player.bad | (is_finish & ~player.ended)):
                    refuse(link.BAD_EVENTS)
                    m.next = "close"
                with m.Elif(is_finish):
                    m.d.comb += [
                        self.playing.eq(1),
                        player.close.eq(self.tickets.ready),
                        self.tickets.valid.eq(player.closed),
                    ]
                    with m.If(player.closed):
                        m.d.sync += open_.eq(0)
                        m.next = "length"
                with m.Else():
                    m.next = "reply"

            with m.State("settle"):
                m.d.comb += self.settles.eq(1)
                with m.If(~self.pending):
                    m.next = "drain"
                    with m.If(~refused):
                        m.next = "execute"
            with m.State("execute"):
                m.next = "drain"
                with m.Switch(kind):
                    with m.Case(link.LOAD, link.CHECK, link.COMMIT):
                        if not program.reloadable:
                            refuse(link.RANGE)
                    with m.Default():
                        with m.If(~done):
                            refuse(link.UNKNOWN)
                        with m.Elif(kind == link.BOOTED):
                            m.d.comb += self.booted.eq(1)
                if program.reloadable:
                    with m.If((kind == link.LOAD) | (kind == link.CHECK)):
                        with m.If(done):
                            refuse(link.UNKNOWN)
                        with m.Else():
                            m.d.comb += memories.begin.eq(1)
                            m.next = "memories"
                    with m.Elif(kind == link.COMMIT):
                        with m.If(~is_commit_length):
                            refuse(link.UNKNOWN)
                        with m.Elif(~written):
                            refuse(link.NOT_LOADED)
                        with m.Else():
                            m.next = "commit"
            if program.reloadable:
                with m.State("memories"):
                    m.d.comb += [memories.i.valid.eq(self.i.valid & ~done), self.i.ready.eq(memories.i.ready & ~done)]
                    with m.If(self.i.valid & memories.i.ready):
                        m.d.sync += done.eq(done | last)
                    with m.If(memories.finished):
                        refuse(memories.code)
                        m.next = "drain"
                with m.State("commit"):
                    m.d.comb += [self.i.ready.eq(1), self.digest_write.eq(self.i.valid)]
                    with m.If(self.i.valid):
                        m.d.sync += [self.digest_byte.eq(self.digest_byte + 1), done.eq(last)]
                        with m.If(last):
                            m.d.sync += self.loaded.eq(1)
                            m.next = "reply"
            with m.State("drain"):
                m.d.comb += self.i.ready.eq(~done)
                with m.If(done):
                    m.next = "reply"
                with m.Elif(self.i.valid & last):
                    m.d.sync += done.eq(1)
            with m.State("reply"):
                m.d.comb += self.answers.valid.eq(1)
                with m.If(self.answers.ready):
                    m.next = "length"
        return m
