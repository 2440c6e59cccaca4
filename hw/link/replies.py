"""What a board says: the scores of each sample, and the answer to every other request."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from spikeloom import link
from spikeloom.hw.readout import Result

from .frames import Byte

__all__ = ["Answer", "Replies", "Ticket"]


class Ticket(data.StructLayout):
    """A sample that the array has been given whole.

    Members
    -------
    tag : unsigned(8)
        its request's
    drop : unsigned(1)
        it was given up, and its scores are nobody's
    """

    def __init__(self):
        super().__init__({"tag": 8, "drop": 1})


class Answer(data.StructLayout):
    """The answer to a request, less what `Replies` knows itself.

    Members
    -------
    code : unsigned(3)
        0, or that of an error
    type : unsigned(4)
        the request's
    tag, chunk : unsigned(8)
        the request's
    """

    def __init__(self):
        super().__init__({"code": 3, "type": 4, "tag": 8, "chunk": 8})


class Replies(wiring.Component):
    """Puts replies together, byte by byte: scores as the array has them, in the order of the tickets, and answers
    in between.

    Parameters
    ----------
    program : spikeloom.program.Program
    identity : spikeloom.link.Identity

    Members
    -------
    ready : In(1)
        all scores of a sample are there
    tickets : In(stream of Ticket)
        the samples in the array, taken when their last score has been
    results : In(stream of Result)
    answers : In(stream of Answer)
        taken when the last byte of the reply has been
    o : Out(stream of Byte)
        payloads of frames
    busy : Out(1)
        the last byte of a reply has not been taken
    loaded : In(1)
        for the identity
    counters : In(8 * bytes of them)
        in the order of ``docs/link.md``; they must stand still while an answer to `COUNTERS` is under way
    crc : In(32)
        for the answer to `CHECK`
    digest_write : In(1), digest_byte : In(unsigned(5)), digest_data : In(8)
        replaces a byte of the network's digest; not while an answer is under way
    winner : Out(unsigned)
        that of the last sample which was not given up
    """

    def __init__(self, program, identity):
        self.program = program
        self.identity = identity
        self.layers = len(program.network.layers)
        result = Result(program.score_width, program.network.n_out)
        super().__init__({
            "ready": In(1),
            "tickets": In(stream.Signature(Ticket())),
            "results": In(stream.Signature(result)),
            "answers": In(stream.Signature(Answer())),
            "o": Out(stream.Signature(Byte())),
            "busy": Out(1),
            "loaded": In(1),
            "counters": In(8 * (6 + 6 * self.layers)),
            "crc": In(32),
            "digest_write": In(1),
            "digest_byte": In(5),
            "digest_data": In(8),
            "winner": Out(len(Value.cast(Signal(result).winner))),
        })

    def elaborate(self, platform):
        m = Module()
        content = self.identity.pack()
        m.submodules.identity = identity = memory.Memory(shape=8, depth=len(content), init=content,
                                                         attrs={"no_rw_check": 1, "ram_style": "block"})
        digest, port = identity.write_port(), identity.read_port()
        m.d.comb += [
            digest.en.eq(self.digest_write),
            digest.addr.eq(Cat(self.digest_byte, C(self.identity.NETWORK >> 5, 2))),
            digest.data.eq(self.digest_data),
        ]

        answer, result = self.answers.payload, self.results.payload
        scores, winner = Signal(), Signal()  # what the reply is about; the winner follows the scores
        n = Signal(range(max(len(content), len(self.counters) // 8) + 1))  # byte of the body, score or winner
        score_bytes = self.identity.score_bytes
        score = Signal(signed(8 * score_bytes))
        m.d.comb += [score.eq(result.score), port.addr.eq(n)]

        # The body: its byte number n, and the number of the last.
        body, end = Signal(8), Signal.like(n)

        def holds(value):
            value = Value.cast(value)
            count = -(-len(value) // 8)
            return [body.eq(value.word_select(n[:(count - 1).bit_length()], 8) if count > 1 else value),
                    end.eq(count - 1)]

        empty = Signal()
        with m.If(scores & winner):
            m.d.comb += holds(Cat(result.winner, C(0, 32 - len(result.winner))))
        with m.Elif(scores):
            m.d.comb += holds(score.as_unsigned())
        with m.Elif(answer.code != 0):
            m.d.comb += holds(answer.code)
        with m.Else():
            with m.Switch(answer.type):
                with m.Case(link.IDENTIFY):
                    m.d.comb += [body.eq(Mux(n == len(content), self.loaded, port.data)), end.eq(len(content))]
                with m.Case(link.EVENTS):
                    m.d.comb += holds(answer.chunk)
                with m.Case(link.COUNTERS):
                    m.d.comb += holds(self.counters)
                with m.Case(link.CHECK):
                    m.d.comb += holds(self.crc)
                with m.Default():
                    m.d.comb += empty.eq(1)

        o, at_end = self.o, Signal()
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        m.d.comb += self.busy.eq(o.valid)
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [n.eq(0), winner.eq(0), scores.eq(0)]
                with m.If(self.ready & self.tickets.valid):
                    m.d.sync += scores.eq(1)
                    m.next = "type"
                    with m.If(self.tickets.payload.drop):
                        m.next = "drop"
                with m.Elif(self.answers.valid):
                    m.next = "type"
            with m.State("type"):
                with m.If(~o.valid):
                    m.d.sync += [o.valid.eq(1), o.payload.last.eq(0), o.payload.data.eq(answer.type | link.REPLY)]
                    with m.If(scores):
                        m.d.sync += o.payload.data.eq(link.FINISH | link.REPLY)
                    with m.Elif(answer.code != 0):
                        m.d.sync += o.payload.data.eq(link.ERROR)
                    m.next = "tag"
            with m.State("tag"):
                with m.If(~o.valid):
                    m.d.sync += [
                        o.valid.eq(1),
                        o.payload.last.eq(empty),
                        o.payload.data.eq(Mux(scores, self.tickets.payload.tag, answer.tag)),
                    ]
                    m.next = "score"
                    with m.If(empty):
                        m.next = "done"
            with m.State("score"):
                with m.If(~scores | self.results.valid):
                    m.next = "body"
            with m.State("body"):
                with m.If(~o.valid):
                    m.d.sync += [
                        o.valid.eq(1),
                        o.payload.data.eq(body),
                        o.payload.last.eq((n == end) & (~scores | winner)),
                        at_end.eq(n == end),
                        n.eq(n + 1),
                    ]
                    m.next = "after"
            with m.State("after"):
                m.next = "score"  # a cycle later the memory has the next byte
                with m.If(at_end):
                    m.d.sync += n.eq(0)
                    with m.If(scores & ~winner):
                        m.d.sync += winner.eq(result.last)
                        m.d.comb += self.results.ready.eq(~result.last)
                    with m.Else():
                        m.next = "done"
            with m.State("done"):
                m.next = "idle"
                m.d.comb += self.answers.ready.eq(~scores)
                with m.If(scores):
                    m.d.comb += [self.tickets.ready.eq(1), self.results.ready.eq(1)]
                    m.d.sync += self.winner.eq(result.winner)
            with m.State("drop"):
                m.d.comb += self.results.ready.eq(1)
                with m.If(self.results.valid & result.last):
                    m.d.comb += self.tickets.ready.eq(1)
                    m.next = "idle"
        return m
