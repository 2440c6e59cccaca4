"""Scores of a network, and the winner among them."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.network import signed_width

from .event import PermitSignature
from .neuron import UpdateSignature
from .skid import Skid
from .storage import delayed, in_use, storage

__all__ = ["Readout", "Result"]


#: Scores that may be between a neuron update and the queue's level, generously.
IN_FLIGHT = 8


class Result(data.StructLayout):
    """One score: that of a neuron, or of several that vote together.

    Members
    -------
    score : signed(score_width)
        spikes counted, or membrane potentials
    winner : unsigned
        the lowest index of the highest score so far: of the sample, when ``last``
    last : unsigned(1)
        the sample's last score
    """

    def __init__(self, score_width, n_out):
        super().__init__({"score": signed(score_width), "winner": max(1, (n_out - 1).bit_length()), "last": 1})


class Readout(wiring.Component):
    """Counts the last layer's spikes, or takes its membrane potentials, and names the winner.

    The last layer has one update unit, so neurons come one by one, those that vote together one after the other; in a
    sample's last time step the scores go into a queue. Permits for time steps are given only while the queue has room
    for two more samples.

    Throughput: one neuron per cycle. Latency from a sample's last update to the winner: 9 cycles, with votes 10.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
        of the last layer
    count : bool
        count spikes; otherwise take membrane potentials
    score_width : int
        bits of a score, its sign included
    votes : int
        neighbouring neurons that have one score together

    Members
    -------
    update : In(UpdateSignature(core))
    permit : Out(PermitSignature())
    o : Out(stream of Result)
        the scores of each sample
    finished : Out(1)
        high for one cycle for each sample, whose scores are then all on their way to ``o``
    """

    def __init__(self, core, *, count, score_width, votes=1):
        if core.units != 1:
            raise ValueError(f"Update units of a core that is read out must be 1, not {core.units}")
        self.core = core
        self.count = count
        self.score_width = score_width
        self.votes = votes
        self.n_out = core.layer.n_out // votes
        super().__init__({
            "update": In(UpdateSignature(core)),
            "permit": Out(PermitSignature()),
            "o": Out(stream.Signature(Result(score_width, self.n_out))),
            "finished": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        n_out, vote = self.n_out, self._vote(m)

        # Scores: a counter each in a memory that is read and written in step with the votes.
        score = Signal(signed(self.score_width), reset_less=True)
        if self.count:
            m.submodules.counts = counts = storage(self.score_width, -(-self.core.update_count // self.votes))
            r_port, w_port = counts.read_port(), counts.write_port()
            before = Signal(self.score_width, reset_less=True)
            with m.If(delayed(m, vote.first_step)):
                m.d.sync += before.eq(0)
            with m.Else():
                m.d.sync += before.eq(r_port.data)
            after_read = 3
            m.d.sync += score.eq(before + delayed(m, vote.value, 2))
            m.d.comb += [
                r_port.addr.eq(vote.index),
                w_port.en.eq(delayed(m, vote.valid, after_read, reset_less=False)),
                w_port.addr.eq(delayed(m, vote.index, after_read)),
                w_port.data.eq(score),
            ]
        else:
            after_read = 1
            m.d.sync += score.eq(vote.value)
        scored = delayed(m, vote.valid & vote.final_step & (vote.index < n_out), after_read, reset_less=False)
        index = delayed(m, vote.index, after_read)
        word_last = delayed(m, vote.index == n_out - 1, after_read)

        # The winner so far.
        best = Signal(signed(self.score_width), reset_less=True)
        winner = Signal(range(max(2, n_out)), reset_less=True)
        begins = Signal(init=1)
        with m.If(scored):
            m.d.sync += begins.eq(word_last)
            with m.If(begins | (score > best)):
                m.d.sync += [best.eq(score), winner.eq(index)]

        # The queue. Its level starts at -1, so that the sign bit says "empty".
        depth = 1 << (4 * n_out + IN_FLIGHT).bit_length()
        layout = self.o.payload.shape()
        m.submodules.queue = queue = storage(layout, depth)
        m.submodules.skid = skid = Skid(layout)
        connect(m, skid.o, wiring.flipped(self.o))
        w_port, r_port = queue.write_port(), queue.read_port()
        level = Signal(range(-1, depth), init=-1)
        taken = Signal()
        m.d.comb += [
            w_port.en.eq(delayed(m, scored, reset_less=False)),
            w_port.data.score.eq(delayed(m, score)),
            w_port.data.winner.eq(winner),
            w_port.data.last.eq(delayed(m, word_last)),
            self.finished.eq(w_port.en & w_port.data.last),
            taken.eq(~level[-1] & skid.i.ready),
            r_port.en.eq(skid.i.ready),
        ]
        m.d.sync += [
            level.eq(level + w_port.en - taken),
            w_port.addr.eq(w_port.addr + w_port.en),
            r_port.addr.eq(r_port.addr + taken),
        ]
        read_valid = Signal()
        with m.If(skid.i.ready):  # block RAM is slow to answer, so its output goes straight into a register
            m.d.sync += [read_valid.eq(taken), skid.i.valid.eq(read_valid), skid.i.payload.eq(r_port.data)]

        # Up to two time steps are on their way, and either may be a sample's last.
        room = Signal(init=1)
        m.d.sync += room.eq(level < depth - 2 * n_out - IN_FLIGHT)
        offered = Signal()  # a permit once offered stays so until it is taken
        granted = offered & self.permit.ready
        finished = delayed(m, self.update.valid & self.update.last_word, after_read + 2 + (self.votes > 1),
                           reset_less=False)
        promised = in_use(m, granted, finished)
        m.d.comb += self.permit.valid.eq(offered)
        m.d.sync += offered.eq(~granted & (offered | (~promised[1] & room)))
        return m

    def _vote(self, m):
        """What the neurons of a score add to it in a time step, once they all have come."""
        update, votes = self.update, self.votes
        fire = self.core.layer.fire
        value = update.z if self.count else update.v[0]
        bounds = (fire.low, fire.high) if self.count else (self.core.layer.v_min, 0)
        width = signed_width(*(votes * bound for bound in bounds))
        vote = Signal(data.StructLayout({
            "valid": 1, "first_step": 1, "final_step": 1, "index": range(-(-self.core.update_count // votes)),
            "value": signed(width)}))
        if votes == 1:
            m.d.comb += [vote.valid.eq(update.valid), vote.first_step.eq(update.first_step),
                         vote.final_step.eq(update.final_step), vote.index.eq(update.index), vote.value.eq(value)]
            return vote
        voter, index = Signal(range(votes)), Signal.like(vote.index)
        ends = voter == votes - 1
        with m.If(update.valid):
            m.d.sync += [voter.eq(Mux(ends, 0, voter + 1)), index.eq(index + ends)]
            with m.If(update.last_word):  # what only fills up the last group has no score
                m.d.sync += [voter.eq(0), index.eq(0)]
            m.d.sync += [vote.first_step.eq(update.first_step), vote.final_step.eq(update.final_step),
                         vote.index.eq(index), vote.value.eq(Mux(voter == 0, 0, vote.value) + value)]
        m.d.sync += vote.valid.eq(update.valid & ends)
        return vote
