"""What a board knows of itself, in one memory: its identity, and what it has counted."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from spikeloom.link import Counters

__all__ = ["Facts"]

#: Whoever reads takes at most one cycle in so many, and one more: a frame's byte lasts longer than this, and there is
#: room for one on its way.
READ_PACE = 8

#: Bytes of an answer to identify that follow the identity.
LOADED_BYTES = 1


class Facts(wiring.Component):
    """A memory of two halves, each read up to its end: the identity and one byte that is zero, and the counters.

    What is counted gathers in a few bits for each counter. They are added to the memory's bytes, counter after counter
    without end, before they can overflow: a sweep takes three cycles for a byte, and one more for each byte that
    is read in the meantime. (It also waits while a digest is stored; then nothing is counted that could be frequent.)

    Parameters
    ----------
    identity : spikeloom.link.Identity

    Members
    -------
    counts : In(1), one for each counter, in the order of ``docs/link.md``
        one more
    asked : In(1), fresh : Out(1)
        all that was counted before ``asked`` went high is in the memory
    address : In(unsigned), reads : In(1), data : Out(8)
        a byte is read, and is at ``data`` in the next cycle; no more often than `READ_PACE` says
    digest_write : In(1), digest_byte : In(unsigned(5)), digest_data : In(8)
        replaces a byte of the network's digest
    """

    def __init__(self, identity):
        self.identity = identity
        self.sizes = [Counters.BUSY // 8, Counters.DAMAGED // 8] + 2 * identity.layers * [Counters.LAYER // 8]
        size = sum(self.sizes)
        self.half = max(256, 1 << (size - 1).bit_length())
        self.depth = 2 * self.half
        #: Addresses where the two begin.
        self.identity_at = self.half - LOADED_BYTES - identity.FORM.size
        self.counters_at = self.depth - size
        cycles = -(-(3 * size + 1) * READ_PACE // (READ_PACE - 1))
        #: Bits in which each counter's counts of one sweep gather.
        self.gathered = cycles.bit_length()
        super().__init__({
            "counts": In(1).array(len(self.sizes)),
            "asked": In(1),
            "fresh": Out(1),
            "address": In(range(self.depth)),
            "reads": In(1),
            "data": Out(8),
            "digest_write": In(1),
            "digest_byte": In(5),
            "digest_data": In(8),
        })

    def elaborate(self, platform):
        m = Module()
        content = bytes(self.identity_at) + self.identity.pack()
        m.submodules.memory = held = memory.Memory(shape=8, depth=self.depth, init=content,
                                                   attrs={"no_rw_check": 1, "ram_style": "block"})
        w_port, r_port = held.write_port(), held.read_port()
        changing = range(self.depth - self.counters_at)
        at = Signal(changing, init=self.counters_at & (1 << len(Signal(changing))) - 1)
        address = Cat(at, C(-1, len(self.address) - len(at)))  # of a byte of the counters
        addend = Signal(self.gathered, reset_less=True)
        total = Signal(max(self.gathered, 8) + 1, reset_less=True)
        writes, takes, ends = Signal(), Signal(), at.all()
        m.d.comb += [
            r_port.addr.eq(Mux(self.reads, self.address, address)),
            self.data.eq(r_port.data),
            w_port.en.eq(writes | self.digest_write),
            w_port.addr.eq(address),
            w_port.data.eq(total),
        ]
        with m.If(self.digest_write):
            m.d.comb += [
                w_port.addr.eq(self.digest_byte + (self.identity_at + self.identity.NETWORK)),
                w_port.data.eq(self.digest_data),
            ]
        with m.FSM():
            with m.State("take"):
                m.d.comb += takes.eq(1)
                m.next = "add"
                with m.If(self.reads):
                    m.next = "read"
            with m.State("read"):  # what could not be while another read
                with m.If(~self.reads):
                    m.next = "add"
            with m.State("add"):
                m.d.sync += total.eq(r_port.data + addend)
                m.next = "write"
            with m.State("write"):
                m.d.comb += writes.eq(1)
                with m.If(~self.digest_write):
                    m.d.sync += [at.eq(at + 1), addend.eq(total >> 8)]
                    with m.If(ends):
                        m.d.sync += at.eq(at.init)
                    m.next = "take"

        first = self.counters_at
        for count, size in zip(self.counts, self.sizes, strict=True):
            gathered, taken = Signal(self.gathered), Signal()
            more = (gathered + count)[:self.gathered]
            m.d.comb += taken.eq(takes & (address == first))
            m.d.sync += gathered.eq(more)
            with m.If(taken):
                m.d.sync += [addend.eq(more), gathered.eq(0)]
            first += size

        swept = Signal(2)  # since `asked`: the end of a sweep, and that of a whole one
        with m.If(~self.asked):
            m.d.sync += swept.eq(0)
        with m.Elif(writes & ends):
            m.d.sync += swept.eq(Cat(1, swept[0]))
        m.d.comb += self.fresh.eq(swept[1])
        return m
