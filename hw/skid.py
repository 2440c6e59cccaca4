"""A register in a stream that cuts the path of ``ready`` as well as that of the payload."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid"]


class Skid(wiring.Component):
    """One register on the way forward, and a spare one for what arrives before a stall has been noticed.

    Throughput: one transfer per cycle. Latency: 1 cycle. ``i.ready`` comes from a register.

    Parameters
    ----------
    shape : shape-like
        of the payload

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        shape = self.i.payload.shape()
        held, spare = Signal(shape, reset_less=True), Signal(shape, reset_less=True)
        held_valid, spare_valid = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~spare_valid),
            self.o.valid.eq(held_valid),
            self.o.payload.eq(held),
        ]
        # The valid bits are written without an enable, which a reset would have to pass on some devices.
        m.d.sync += [
            held_valid.eq(self.i.valid | spare_valid | (held_valid & ~self.o.ready)),
            spare_valid.eq(held_valid & ~self.o.ready & (spare_valid | self.i.valid)),
        ]
        with m.If(~held_valid | self.o.ready):
            m.d.sync += held.eq(Mux(spare_valid, spare, self.i.payload))
        with m.If(self.i.ready):
            m.d.sync += spare.eq(self.i.payload)
        return m
