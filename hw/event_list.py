"""A time step's events: written once, replayed for every group of neurons."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, ListEntry, PermitSignature
from .skid import Skid
from .storage import in_use, storage

__all__ = ["EventList"]


class EventList(wiring.Component):
    """Double-buffered list of a layer's input words.

    Words of a time step are written into one bank while the other bank, which holds the time step before, is
    replayed ``groups`` times. A replay is its words, in the order they came, and then an entry marked ``end``.

    A producer that cannot be stopped within a time step asks first: each token taken from ``permit`` is the
    promise of a bank for one time step more.

    Throughput: one word in and one entry out per cycle; between two time steps at least one cycle without an
    entry. Latency from a time step's last word to its first entry: 6 cycles.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat
    groups : int
        replays of each time step

    Members
    -------
    i : In(stream of EventWord)
    permit : Out(PermitSignature())
    o : Out(stream of ListEntry)
    """

    def __init__(self, words, *, groups):
        if groups < 1:
            raise ValueError(f"Groups must be at least 1, not {groups}")
        self.words = words
        self.groups = groups
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "permit": Out(PermitSignature()),
            "o": Out(stream.Signature(ListEntry(words.width, words.index_width))),
        })

    def elaborate(self, platform):
        m = Module()
        depth = 1 << (self.words.most - 1).bit_length()  # of a bank
        addr_width = depth.bit_length()
        count_shape = signed(self.words.most.bit_length() + 1)  # counts start at -1: the sign bit says "none left"

        m.submodules.entries = entries = storage(
            self.words.width + self.words.index_width, 2 * depth)
        w_port = entries.write_port()
        r_port = entries.read_port()

        released = Signal()  # the replay has read a bank for the last time

        # Write side: a word is taken, then written one cycle later. Each count is of banks, from another event on.
        word = Signal(EventWord(self.words), reset_less=True)
        word_valid = Signal()
        store = Signal()  # the word is not silent
        accepted = in_use(m, self.i.valid & self.i.ready & self.i.payload.last, released)
        promised = in_use(m, self.permit.valid & self.permit.ready, released)
        m.d.comb += self.i.ready.eq(~accepted[1])
        m.d.comb += self.permit.valid.eq(~promised[1])
        m.d.sync += [
            word.eq(self.i.payload),
            word_valid.eq(self.i.valid & self.i.ready),
            store.eq(self.i.valid & self.i.ready & self.i.payload.bits.any()),
        ]

        w_bank = Signal()
        w_addr = Signal(addr_width)
        w_tail = Signal(count_shape, init=-1)  # index of the last word written
        tails = [Signal(count_shape, name=f"tail_{bank}", reset_less=True) for bank in range(2)]
        finals = Signal(2, reset_less=True)
        w_done = Signal()
        m.d.comb += [
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
        readable = in_use(m, w_done, released)

        # Read side.
        active = Signal()
        r_bank = Signal()
        r_tail = Signal(count_shape, reset_less=True)
        left = Signal(count_shape, reset_less=True)  # entries left of this replay, less one
        group = Signal(signed(self.groups.bit_length() + 1))  # replays left after this one, less one
        last_group = group[-1]
        bank_tail = Mux(r_bank, tails[1], tails[0])
        r_final = finals.bit_select(r_bank, 1)

        # Block RAM is slow to answer, so its output goes straight into a register.
        m.submodules.skid = skid = Skid(self.o.payload.shape())
        connect(m, skid.o, wiring.flipped(self.o))
        read = skid.i.ready  # everything before the skid moves on
        read_valid = Signal()
        read_tags = Signal(3, reset_less=True)  # end, last, final
        m.d.comb += r_port.en.eq(read)
        with m.If(read):
            m.d.sync += [
                skid.i.valid.eq(read_valid),
                skid.i.payload.eq(Cat(r_port.data, read_tags)),
            ]
        r_addr = Signal(addr_width, reset_less=True)
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
