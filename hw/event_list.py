"""A time step's events: written once, replayed for every group of neurons."""

from amaranth import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .event import EventWord, ListEntry

__all__ = ["EventList"]


class EventList(wiring.Component):
    """Double-buffered list of a layer's input words.

    Words of a time step are written into one bank while the other bank, which holds the time step before, is
    replayed ``groups`` times. A replay is its words, in the order they came, and then an entry marked ``end``.

    A producer that cannot be stopped within a time step asks first: each token taken from ``permit`` is the
    promise of a bank for one time step more.

    Throughput: one word in and one entry out per cycle; between two time steps at least one cycle without an
    entry. Latency from a time step's last word to its first entry: 5 cycles.

    Parameters
    ----------
    words : spikeloom.program.WordFormat
    groups : int
        replays of each time step

    Members
    -------
    i : In(stream of EventWord)
    permit : Out(stream without payload)
    o : Out(stream of ListEntry)
    """

    def __init__(self, words, *, groups):
        if groups < 1:
            raise ValueError(f"Groups must be at least 1, not {groups}")
        self.words = words
        self.groups = groups
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "permit": Out(stream.Signature(0)),
            "o": Out(stream.Signature(ListEntry(words.width, words.index_width))),
        })

    def elaborate(self, platform):
        m = Module()
        depth = self.words.count
        addr_width = max(1, (2 * depth - 1).bit_length())
        count_shape = signed(depth.bit_length() + 1)  # counts start at -1: the sign bit says "none left"

        m.submodules.entries = entries = memory.Memory(
            shape=self.words.width + self.words.index_width, depth=2 * depth, init=[])
        w_port = entries.write_port()
        r_port = entries.read_port()

        released = Signal()  # the replay has read a bank for the last time

        def banks(taken):
            """Banks in use, of two, counting from the event ``taken``."""
            used = Signal(2)
            with m.If(taken & ~released):
                m.d.sync += used.eq(used + 1)
            with m.Elif(released & ~taken):
                m.d.sync += used.eq(used - 1)
            return used

        # Write side: a word is taken, then written one cycle later.
        word = Signal(EventWord(self.words))
        word_valid = Signal()
        accepted = banks(self.i.valid & self.i.ready & self.i.payload.last)
        promised = banks(self.permit.valid & self.permit.ready)
        m.d.comb += self.i.ready.eq(~accepted[1])
        m.d.comb += self.permit.valid.eq(~promised[1])
        m.d.sync += [
            word.eq(self.i.payload),
            word_valid.eq(self.i.valid & self.i.ready),
        ]

        w_bank = Signal()
        w_addr = Signal(addr_width)
        w_tail = Signal(count_shape, init=-1)  # index of the last word written
        tails = [Signal(count_shape, name=f"tail_{bank}") for bank in range(2)]
        finals = Signal(2)
        w_done = Signal()
        store = Signal()
        m.d.comb += [
            store.eq(word_valid & word.bits.any()),
            w_port.addr.eq(w_addr),
            w_port.data.eq(Cat(word.bits, word.index)),
            w_port.en.eq(store),
        ]
        m.d.sync += w_done.eq(word_valid & word.last)
        with m.If(store):
            m.d.sync += [w_addr.eq(w_addr + 1), w_tail.eq(w_tail + 1)]
        with m.If(word_valid & word.last):
            for bank in range(2):
                with m.If(w_bank == bank):
                    m.d.sync += [tails[bank].eq(w_tail + store), finals[bank].eq(word.final)]
            m.d.sync += [
                w_bank.eq(~w_bank),
                w_addr.eq(Mux(w_bank, 0, depth)),
                w_tail.eq(-1),
            ]
        readable = banks(w_done)

        # Read side: three stages, each of which moves on when the next one does.
        active = Signal()
        r_bank = Signal()
        r_tail = Signal(count_shape)
        left = Signal(count_shape)  # entries left of this replay, less one
        group = Signal(signed(self.groups.bit_length() + 1))  # replays left after this one, less one
        last_group = group[-1]
        bank_tail = Mux(r_bank, tails[1], tails[0])
        r_final = finals.bit_select(r_bank, 1)

        read = Signal()  # the memory's output may be replaced
        read_valid = Signal()
        read_tags = Signal(3)  # end, last, final
        held = Signal(ListEntry(self.words.width, self.words.index_width))
        held_valid = Signal()
        hold = Signal()
        m.d.comb += [
            hold.eq(~held_valid | self.o.ready),
            read.eq(~read_valid | hold),
            r_port.en.eq(read),
            self.o.valid.eq(held_valid),
            self.o.payload.eq(held),
        ]
        # Block RAM is slow to answer, so its output goes straight into a register.
        with m.If(hold):
            m.d.sync += [
                held_valid.eq(read_valid),
                held.eq(Cat(r_port.data, read_tags)),
            ]
        r_addr = Signal(addr_width)
        m.d.comb += r_port.addr.eq(r_addr)
        with m.If(read):
            m.d.sync += [
                read_valid.eq(active),
                read_tags.eq(Cat(left[-1], last_group, r_final)),
            ]
        with m.If(~active):
            m.d.sync += [
                active.eq(readable.any()),
                left.eq(bank_tail),
                r_tail.eq(bank_tail),
                r_addr.eq(Mux(r_bank, depth, 0)),
                group.eq(self.groups - 2),
            ]
        with m.Elif(read):
            with m.If(left[-1]):
                m.d.sync += [
                    left.eq(r_tail),
                    r_addr.eq(Mux(r_bank, depth, 0)),
                    group.eq(group - 1),
                ]
                with m.If(last_group):
                    m.d.comb += released.eq(1)
                    m.d.sync += [active.eq(0), r_bank.eq(~r_bank)]
            with m.Else():
                m.d.sync += [left.eq(left - 1), r_addr.eq(r_addr + 1)]
        return m
