"""The link between a transport's bytes and an array's streams."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.compiler.target import find
from spikeloom.hw.event import EventWord
from spikeloom.hw.load import LoadSignature
from spikeloom.hw.readout import Result
from spikeloom.hw.skid import Skid
from spikeloom.hw.storage import delayed

from .facts import Facts
from .frames import FrameReceiver, FrameTransmitter
from .replies import Replies, Ticket
from .requests import Requests

__all__ = ["Link"]

#: Most samples that the array has been given whole and whose scores have not all been read.
IN_ARRAY = 3


class Link(wiring.Component):
    """Speaks ``docs/link.md``: frames in, words into the array, its scores and all other replies out.

    Whatever bytes come and however long replies wait to be taken, the next whole frame is served.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    identity : spikeloom.link.Identity
        what it says of itself

    Members
    -------
    i, o : In, Out(stream of unsigned(8))
        of a transport
    words : Out(stream of EventWord), results : In(stream of Result)
        of the array
    finished : In(1)
        high for one cycle when the array has a sample's scores
    event, stalled : In(1), one for each layer
        of the array, to be counted
    load : Out(LoadSignature(program))
        of the array, if the program is reloadable
    winner : Out(unsigned)
        that of the last sample
    loaded : Out(1)
        the array has a network
    booted : Out(1)
        high for one cycle at the end of boot
    busy : Out(1)
        a frame, a sample or a reply is on its way
    """

    def __init__(self, program, identity):
        self.program = program
        layers = len(program.network.layers)
        self.facts = Facts(identity)
        self.replies = Replies(program, self.facts)
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(8)),
            "words": Out(stream.Signature(EventWord(program.i_words))),
            "results": In(stream.Signature(Result(program.score_width, program.network.n_out))),
            "finished": In(1),
            "event": In(1).array(layers),
            "stalled": In(1).array(layers),
            "winner": Out(self.replies.winner.shape()),
            "loaded": Out(1),
            "booted": Out(1),
            "busy": Out(1),
            **({"load": Out(LoadSignature(program))} if program.reloadable else {}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver(find(self.program.target).buffer)
        m.submodules.requests = requests = Requests(self.program)
        m.submodules.tickets = tickets = Skid(Ticket())
        m.submodules.facts = facts = self.facts
        m.submodules.replies = replies = self.replies
        m.submodules.transmitter = transmitter = FrameTransmitter()
        connect(m, wiring.flipped(self.i), receiver.i)
        connect(m, receiver.o, requests.i)
        connect(m, requests.words, wiring.flipped(self.words))
        connect(m, requests.tickets, tickets.i)
        connect(m, tickets.o, replies.tickets)
        connect(m, wiring.flipped(self.results), replies.results)
        connect(m, requests.answers, replies.answers)
        connect(m, replies.o, transmitter.i)
        connect(m, transmitter.o, wiring.flipped(self.o))

        if self.program.reloadable:
            connect(m, requests.load, wiring.flipped(self.load))

        # Scores are read only when all are there, for a reply must not pause over SPI.
        computing, ready = Signal(range(IN_ARRAY + 1)), Signal(range(IN_ARRAY + 1))
        begins, replied = tickets.i.valid & tickets.i.ready, tickets.o.valid & tickets.o.ready
        m.d.sync += [
            computing.eq(computing + begins - self.finished),
            ready.eq(ready + self.finished - replied),
        ]
        m.d.comb += replies.ready.eq(ready != 0)

        counted = [requests.playing | (computing != 0), receiver.damaged]
        for layer in zip(self.event, self.stalled, strict=True):
            counted += layer
        m.d.comb += [
            receiver.again.eq(requests.again),
            [count.eq(delayed(m, value, reset_less=False))
             for count, value in zip(facts.counts, counted, strict=True)],
            facts.asked.eq(requests.settles & ~tickets.o.valid),
            requests.pending.eq(~facts.fresh),
            replies.loaded.eq(requests.loaded),
            replies.crc.eq(requests.crc),
            facts.address.eq(replies.address),
            facts.reads.eq(replies.reads),
            replies.data.eq(facts.data),
            facts.digest_write.eq(requests.digest_write),
            facts.digest_byte.eq(requests.digest_byte),
            facts.digest_data.eq(requests.digest_data),
            self.winner.eq(replies.winner),
            self.loaded.eq(requests.loaded),
            self.booted.eq(requests.booted),
            self.busy.eq(receiver.busy | requests.busy | tickets.o.valid | replies.busy | transmitter.busy),
        ]
        return m
