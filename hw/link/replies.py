"""What a board says: the scores of each sample, and the answer to every other request."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from spikeloom import link
from spikeloom.hw.readout import Result

from .frames import Byte, step_or

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
    program : spikeloom.compiler.program.Program
    facts : spikeloom.hw.link.facts.Facts
        where identity and counters are read

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
    address : Out(unsigned), reads : Out(1), data : In(8)
        of the facts
    crc : In(32)
        for the answer to `CHECK`
    winner : Out(unsigned)
        that of the last sample which was not given up
    """

    def __init__(self, program, facts):
        self.program = program
        self.facts = facts
        result = Result(program.score_width, program.network.n_out)
        super().__init__({
            "ready": In(1),
            "tickets": In(stream.Signature(Ticket())),
            "results": In(stream.Signature(result)),
            "answers": In(stream.Signature(Answer())),
            "o": Out(stream.Signature(Byte())),
            "busy": Out(1),
            "loaded": In(1),
            "address": Out(facts.address.shape()),
            "reads": Out(1),
            "data": In(8),
            "crc": In(32),
            "winner": Out(len(Value.cast(Signal(result).winner))),
        })

    def elaborate(self, platform):
        m = Module()
        answer, result = self.answers.payload, self.results.payload
        # What the reply is about; the winner follows the scores.
        scores, winner = Signal(reset_less=True), Signal(reset_less=True)
        is_error = answer.code != 0
        score_bytes = -(-self.program.score_width // 8)
        score = Signal(signed(8 * score_bytes))
        m.d.comb += score.eq(result.score)

        # All bodies, the facts among them, are counted up to an address whose lowest bits are ones.
        n = self.address
        ends = n[:-1].all()
        begins, steps = Signal(), Signal()
        begin, body, empty = Signal.like(n), Signal(8), Signal()

        def holds(value, size):
            """The body is ``value``, filled up in front to a power of two of bytes."""
            count = 1 << (size - 1).bit_length()
            value = Cat(C(0, 8 * (count - size)), value)
            return [body.eq(value.word_select(n[:(count - 1).bit_length()], 8) if count > 1 else value)]

        with m.If(scores & winner):
            m.d.comb += holds(Cat(result.winner, C(0, 32 - len(result.winner))), 4)
        with m.Elif(scores):
            m.d.comb += holds(score.as_unsigned(), score_bytes)
        with m.Elif(is_error):
            m.d.comb += body.eq(answer.code)
        with m.Else():
            with m.Switch(answer.type):
                with m.Case(link.IDENTIFY, link.COUNTERS):
                    m.d.comb += body.eq(self.data | (self.loaded & ends & ~n[-1]))
                with m.Case(link.CHECK):
                    m.d.comb += holds(self.crc, 4)
                with m.Default():
                    m.d.comb += body.eq(answer.chunk)

        m.d.comb += begin.eq(-1)
        with m.If(scores):
            m.d.comb += begin.eq(Mux(winner, -4, -score_bytes))
        with m.Elif(~is_error):
            with m.Switch(answer.type):
                with m.Case(link.IDENTIFY):
                    m.d.comb += begin.eq(self.facts.identity_at)
                with m.Case(link.COUNTERS):
                    m.d.comb += begin.eq(self.facts.counters_at)
                with m.Case(link.CHECK):
                    m.d.comb += begin.eq(-4)
                with m.Case(link.EVENTS):
                    pass
                with m.Default():
                    m.d.comb += empty.eq(1)

        with m.If(begins | steps):
            m.d.sync += n.eq(step_or(n, 1, begins, begin))

        o, at_end = self.o, Signal(reset_less=True)
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        m.d.comb += self.busy.eq(o.valid)
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [winner.eq(0), scores.eq(0)]
                with m.If(self.ready & self.tickets.valid):
                    m.d.sync += scores.eq(1)
                    m.next = "type"
                    with m.If(self.tickets.payload.drop):
                        m.next = "drop"
                with m.Elif(self.answers.valid):
                    m.next = "type"
            with m.State("type"):
                with m.If(~o.valid):
                    m.d.sync += [
                        o.valid.eq(1),
                        o.payload.last.eq(0),
                        o.payload.data.eq(Mux(scores, link.FINISH, answer.type) | link.REPLY),
                    ]
                    with m.If(~scores & is_error):
                        m.d.sync += o.payload.data.eq(link.ERROR)
                    m.next = "tag"
            with m.State("tag"):
                with m.If(~o.valid):
                    m.d.sync += [
                        o.valid.eq(1),
                        o.payload.last.eq(empty),
                        o.payload.data.eq(Mux(scores, self.tickets.payload.tag, answer.tag)),
                    ]
                    m.next = "begin"
                    with m.If(empty):
                        m.next = "done"
            with m.State("begin"):
                m.d.comb += begins.eq(1)
                m.next = "score"
            with m.State("score"):
                with m.If(~o.valid & (~scores | self.results.valid)):
                    m.d.comb += self.reads.eq(~scores)
                    m.next = "body"
            with m.State("body"):
                m.d.comb += steps.eq(1)
                m.d.sync += [
                    o.valid.eq(1),
                    o.payload.data.eq(body),
                    o.payload.last.eq(ends & (~scores | winner)),
                    at_end.eq(ends),
                ]
                m.next = "after"
            with m.State("after"):
                m.next = "score"
                with m.If(at_end):
                    m.next = "begin"
                    with m.If(scores & ~winner):
                        m.d.sync += winner.eq(result.last)
                        m.d.comb += self.results.ready.eq(~result.last)
                    with m.Else():
                        m.next = "done"
            with m.State("done"):
                m.next = "rest"
                m.d.sync += self.answers.ready.eq(~scores)
                with m.If(scores):
                    m.d.comb += [self.tickets.ready.eq(1), self.results.ready.eq(1)]
                    m.d.sync += self.winner.eq(result.winner)
            with m.State("rest"):  # the answer is being taken
                m.d.sync += self.answers.ready.eq(0)
                m.next = "idle"
            with m.State("drop"):
                m.d.comb += self.results.ready.eq(1)
                with m.If(self.results.valid & result.last):
                    m.d.comb += self.tickets.ready.eq(1)
                    m.next = "idle"
        return m
