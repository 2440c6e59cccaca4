"""The array with ports for other people's designs: address events in any order, plainly or over AXI4-Stream."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.errors import SpikeloomError

from .array import Array
from .collector import AddressEvent, Collector
from .skid import Skid

__all__ = ["AxiStreamArray", "EventArray"]

COUNTER_WIDTH = 24

#: Port of the scores to field of `Result`.
_RESULT = {"score": "score", "winner": "winner", "score_last": "last"}


def _counters(program):
    """The counters' ports, `Array`'s and `Collector`'s."""
    layers = len(program.cores)
    return {"dropped": Out(COUNTER_WIDTH), "cycles": Out(COUNTER_WIDTH),
            "events": Out(COUNTER_WIDTH).array(layers), "stalls": Out(COUNTER_WIDTH).array(layers)}


def _pass_counters(m, inner, outer):
    m.d.comb += [outer.cycles.eq(inner.cycles)]
    for name in ("events", "stalls"):
        m.d.comb += [o.eq(i) for o, i in zip(getattr(outer, name), getattr(inner, name), strict=True)]


class EventArray(wiring.Component):
    """The array behind a `Collector`, every field of its streams a port of its own.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    address_width : int, optional
        as in `AddressEvent`

    Members
    -------
    event_valid : In(1), event_ready : Out(1), event_address, event_value, event_end, event_final : In
        a stream of `AddressEvent`; ``event_value`` only where inputs have several bits
    score_valid : Out(1), score_ready : In(1), score, winner, score_last : Out
        a stream of `Result`
    dropped, cycles, events, stalls : Out(24)
        counters of `Collector` and `Array`

    Raises `SpikeloomError` for a reloadable program: nothing here could load it.
    """

    def __init__(self, program, *, address_width=None):
        if program.reloadable:
            raise SpikeloomError("A reloadable program has a bus for its memories, which only the ports words offer")
        self.program = program
        self.collector = Collector(program.i_words, address_width=address_width, counter_width=COUNTER_WIDTH)
        self.array = Array(program, counter_width=COUNTER_WIDTH)
        super().__init__({
            "event_valid": In(1), "event_ready": Out(1),
            **{f"event_{name}": In(field.shape) for name, field in self.collector.i.payload.shape()},
            "score_valid": Out(1), "score_ready": In(1),
            **{port: Out(self.array.o.payload.shape()[name].shape) for port, name in _RESULT.items()},
            **_counters(program),
        })

    @property
    def lines(self):
        """What the ports are, for the head of the Verilog."""
        event = ", ".join(f"event_{name}[{field.width}]" for name, field in self.collector.i.payload.shape())
        result = self.array.o.payload.shape()
        return [f"{event}: an input event, or the end of a time step (end) and sample (final)",
                ", ".join(f"{port}[{result[name].width}]" for port, name in _RESULT.items())
                + ": the scores of each sample, with the best so far"]

    def elaborate(self, platform):
        m = Module()
        m.submodules.collector = collector = self.collector
        m.submodules.array = array = self.array
        connect(m, collector.o, array.i)
        m.d.comb += [
            collector.i.valid.eq(self.event_valid),
            self.event_ready.eq(collector.i.ready),
            *(collector.i.payload[name].eq(getattr(self, f"event_{name}"))
              for name, _ in collector.i.payload.shape()),
            self.score_valid.eq(array.o.valid),
            array.o.ready.eq(self.score_ready),
            *(getattr(self, port).eq(array.o.payload[name]) for port, name in _RESULT.items()),
            self.dropped.eq(collector.dropped),
        ]
        _pass_counters(m, array, self)
        return m


class AxiStreamArray(wiring.Component):
    """`EventArray` over AXI4-Stream: a sample is a packet of address events, its scores are one of scores.

    ``aresetn`` is synchronous. Every output but the counters comes from a register.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program

    Members
    -------
    aclk, aresetn : In(1)
    s_axis_tdata, s_axis_tlast, s_axis_tvalid : In, s_axis_tready : Out
        ``tdata`` is a beat of `tdata_width` bits: `AddressEvent` without its ``final``, whose address has the bits that
        are left and whose ``end`` is the highest. ``tlast`` ends the sample, and the time step too
    m_axis_tdata, m_axis_tuser, m_axis_tlast, m_axis_tvalid : Out, m_axis_tready : In
        ``tdata`` is a score with its sign extended to whole bytes, ``tuser`` the winner so far
    dropped, cycles, events, stalls : Out(24)
        counters, as in `EventArray`
    """

    def __init__(self, program):
        least = AddressEvent(program.i_words)
        width = self.tdata_width(least.size - 1)
        address_width = least["address"].width + width - (least.size - 1)
        self.array = EventArray(program, address_width=address_width)
        event = self.array.collector.i.payload.shape()
        self.beat = data.StructLayout({name: field.shape for name, field in event if name != "final"})
        super().__init__({
            "aclk": In(1), "aresetn": In(1),
            "s_axis_tdata": In(self.beat), "s_axis_tlast": In(1), "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
            "m_axis_tdata": Out(signed(self.tdata_width(len(self.array.score)))),
            "m_axis_tuser": Out(len(self.array.winner)), "m_axis_tlast": Out(1), "m_axis_tvalid": Out(1),
            "m_axis_tready": In(1),
            **_counters(program),
        })

    @staticmethod
    def tdata_width(bits):
        """Bits of a beat that holds ``bits``: 8, 16, 32 and so on, which every DMA engine can do."""
        return max(8, 1 << (bits - 1).bit_length())

    @property
    def lines(self):
        """What the ports are, for the head of the Verilog."""
        beat = ", ".join(f"{name}[{field.width}]" for name, field in self.beat)
        return [f"s_axis_tdata, lowest bit first: {beat}; s_axis_tlast: the sample ends",
                f"m_axis_tdata[{len(self.m_axis_tdata)}]: a score; m_axis_tlast: the sample's last one",
                f"m_axis_tuser[{len(self.m_axis_tuser)}]: the best so far"]

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        m.submodules.array = array = self.array
        m.submodules.skid = skid = Skid(data.StructLayout({"beat": self.beat, "last": 1}))
        m.d.comb += [
            skid.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(skid.i.ready),
            skid.i.payload.beat.eq(self.s_axis_tdata),
            skid.i.payload.last.eq(self.s_axis_tlast),
        ]

        # A packet whose last beat is an event gets an end behind it: the beat is kept and used twice.
        beat, last = skid.o.payload.beat, skid.o.payload.last
        again = Signal()
        ends = beat.end | again
        m.d.comb += [
            array.event_valid.eq(skid.o.valid),
            skid.o.ready.eq(array.event_ready & (ends | ~last)),
            *(getattr(array, f"event_{name}").eq(beat[name]) for name, _ in self.beat if name != "end"),
            array.event_end.eq(ends),
            array.event_final.eq(last),
        ]
        with m.If(skid.o.valid & array.event_ready):
            m.d.sync += again.eq(last & ~ends)

        m.d.comb += [
            self.m_axis_tvalid.eq(array.score_valid),
            array.score_ready.eq(self.m_axis_tready),
            self.m_axis_tdata.eq(array.score),
            self.m_axis_tuser.eq(array.winner),
            self.m_axis_tlast.eq(array.score_last),
            self.dropped.eq(array.dropped),
        ]
        _pass_counters(m, array, self)
        return m
