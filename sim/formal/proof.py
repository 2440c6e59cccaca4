"""What proofs are made of: a block, its properties around it, and values that the solver chooses."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Assert, Elaboratable, Instance, Mux, Signal, Value

__all__ = ["Proof", "drive", "free", "keeps", "moves"]


@dataclass(frozen=True)
class Proof:
    """A block and what it promises.

    Attributes
    ----------
    name : str
        of the block, with its parameters
    claim : str
        what is proved, in a sentence
    harness : function() -> Elaboratable
        makes the block with its properties around it
    depth : int
        clock cycles that are looked at; 0 for all time
    """

    name: str
    claim: str
    harness: Callable[[], Elaboratable]
    depth: int = 0


def free(m, shape, kind="anyseq"):
    """A value the solver chooses freely, in each cycle or (``anyconst``) for good."""
    chosen = Signal(shape)
    width = len(Value.cast(chosen))
    if width:
        m.submodules += Instance(kind, p_WIDTH=width, o_value=Value.cast(chosen))
    return chosen


def drive(m, i, o):
    """Free inputs for a block's streams: what goes in, and whether the other side takes what comes out."""
    m.d.comb += [
        i.payload.eq(free(m, Value.cast(i.payload).shape())),
        i.valid.eq(free(m, 1)),
        o.ready.eq(free(m, 1)),
    ]


def keeps(m, port):
    """The rule of a stream: what is offered stays, unchanged, until it is taken."""
    waiting = Signal()
    before = Signal(Value.cast(port.payload).shape())
    m.d.sync += [waiting.eq(port.valid & ~port.ready), before.eq(port.payload)]
    with m.If(waiting):
        m.d.comb += [Assert(port.valid), Assert(Value.cast(port.payload) == before)]


def moves(m, pending, block, within):
    """Bounded progress: while something is pending and the output is taken, something comes out within so many
    cycles; and so does room for an input."""
    idle, full = Signal(range(within + 2)), Signal(range(within + 2))
    m.d.sync += [
        idle.eq(Mux(block.o.ready & ~block.o.valid & pending, idle + 1, 0)),
        full.eq(Mux(block.o.ready & ~block.i.ready, full + 1, 0)),
    ]
    m.d.comb += [Assert(idle <= within), Assert(full <= within)]
