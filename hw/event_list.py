"""A time step's events: written once, replayed for every group of neurons."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .event import EventWord, ListEntry, PermitSignature
from .skid import Skid
from .storage import places, storage

__all__ = ["EventList", "SourceLists"]


class SourceLists(wiring.Component):
    """The words of one source, a list for each time step, which whoever replays them takes in order.

    With a delay of d, the first d time steps of a sample find nothing, and each later one the list of d time steps
    before. What is left of the sample after its last one is dropped, and until then the next sample does not begin; so
    nothing of a sample reaches another, however short they are.

    A producer that cannot be stopped within a time step asks first: each token taken from ``permit`` is the promise of
    a bank for one time step more.

    Parameters
    ----------
    input : spikeloom.compiler.words.Input
    index_width, step : int
        as in the `spikeloom.compiler.words.JointWords` that the lists are part of

    Members
    -------
    i : In(stream of EventWord(input.words))
    permit : Out(PermitSignature())
    there : Out(1)
        what the next time step needs has come
    more : Out(signed)
        entries of its list, less two: so the sign says that there is one at most, and the lowest bit which
    final : Out(1)
        the sample ends with it (not meaningful with a delay)
    taken, ends : In(1)
        the time step has been replayed; with it, the sample ends
    rewind, advance : In(1)
        to the first entry; to the next
    read : In(1)
        show the entry in the next cycle
    entry : Out(unsigned)
        bits, index and sign
    """

    def __init__(self, input, index_width, step):
        self.input, self.index_width, self.step = input, index_width, step
        words = input.words
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "permit": Out(PermitSignature()),
            "there": Out(1),
            # Counts start at -2: the sign bit says "not two".
            "more": Out(signed(words.most.bit_length() + 1)),
            "final": Out(1),
            "taken": In(1), "ends": In(1), "rewind": In(1), "advance": In(1), "read": In(1),
            "entry": Out(words.width + index_width + words.signed),
        })

    def elaborate(self, platform):
        m = Module()
        words, banks = self.input.words, self.input.banks
        released = Signal()  # a bank has been read for the last time

        # Write side: a word is taken, then written one cycle later. Each count is of banks, from another event on.
        word = Signal(EventWord(words), reset_less=True)
        word_valid = Signal()
        store = Signal()  # the word is not silent
        _, full = places(m, banks, self.i.valid & self.i.ready & self.i.payload.last, released)
        _, promised = places(m, banks, self.permit.valid & self.permit.ready, released)
        m.d.comb += [self.i.ready.eq(~full), self.permit.valid.eq(~promised)]
        m.d.sync += [
            word.eq(self.i.payload),
            word_valid.eq(self.i.valid & self.i.ready),
            store.eq(self.i.valid & self.i.ready & self.i.payload.bits.any() & self.input.kept),
        ]
        w_bank, r_bank = Signal(range(banks)), Signal(range(banks))
        depth_bits = (self.input.depth - 1).bit_length()
        w_place = Signal(depth_bits + 1)
        w_more = Signal(self.more.shape(), init=-2)
        lists = [Signal(self.more.shape(), name=f"more_{bank}", reset_less=True) for bank in range(banks)]
        finals = Signal(banks, reset_less=True)
        w_done = Signal()
        m.d.sync += w_done.eq(word_valid & word.last)
        with m.If(store):
            m.d.sync += [w_place.eq(w_place + 1), w_more.eq(w_more + 1)]
        with m.If(word_valid & word.last):
            for bank in range(banks):
                with m.If(w_bank == bank):
                    m.d.sync += [lists[bank].eq(w_more + store), finals[bank].eq(word.final)]
            m.d.sync += [w_bank.eq(Mux(w_bank == banks - 1, 0, w_bank + 1)), w_place.eq(0), w_more.eq(-2)]
        readable, _ = places(m, banks, w_done, released)

        r_place = Signal(depth_bits, reset_less=True)
        if self.input.kept:
            m.submodules.entries = entries = storage(len(self.entry), banks * self.input.depth)
            w_port, r_port = entries.write_port(), entries.read_port()
            index = Signal(self.index_width, reset_less=True)
            times = (words.step // self.step).bit_length() - 1
            m.d.sync += index.eq((self.i.payload.index << times) + self.input.first // self.step)
            m.d.comb += [
                w_port.addr.eq(Cat(w_place[:depth_bits], w_bank)),
                w_port.data.eq(Cat(word.bits, index, *([word.negative] if words.signed else []))),
                w_port.en.eq(store),
                r_port.addr.eq(Cat(r_place, r_bank)),
                r_port.en.eq(self.read),
                self.entry.eq(r_port.data),
            ]
        with m.If(self.rewind):
            m.d.sync += r_place.eq(0)
        with m.Elif(self.advance):
            m.d.sync += r_place.eq(r_place + 1)
        with m.If(released):
            m.d.sync += r_bank.eq(Mux(r_bank == banks - 1, 0, r_bank + 1))
        more = Array(lists)[r_bank]
        m.d.comb += self.final.eq(finals.bit_select(r_bank, 1))

        delay = self.input.delay
        if not delay:
            m.d.comb += [self.there.eq(readable), self.more.eq(more), released.eq(self.taken)]
            return m
        before = Signal(range(delay + 1), init=delay)  # time steps until the sample's first list is needed
        early, drops = before != 0, Signal()
        m.d.comb += [
            self.there.eq(~drops & (early | readable)),
            self.more.eq(Mux(early, -2, more)),
            released.eq((self.taken & ~early) | (drops & readable)),
        ]
        with m.If(self.taken):
            m.d.sync += [before.eq(before - early), drops.eq(self.ends)]
        with m.If(drops & readable & self.final):
            m.d.sync += [drops.eq(0), before.eq(delay)]
        return m


class EventList(wiring.Component):
    """Double-buffered lists of a layer's input words, of one source or of several.

    Words of a time step are written into one bank while another, which holds the time step before, is replayed
    ``groups`` times. A replay is the words, source after source, each in the order they came, and then an entry marked
    ``end``.

    Throughput: one word of each source in and one entry out per cycle; between two time steps at least one cycle
    without an entry. Latency from a time step's last word to its first entry: 6 cycles, with several sources 7.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat or spikeloom.compiler.words.JointWords
    groups : int
        replays of each time step

    Members
    -------
    i_N : In(stream of EventWord), permit_N : Out(PermitSignature()), for each of ``words.inputs``
        as in `SourceLists`
    o : Out(stream of ListEntry)
    """

    def __init__(self, words, *, groups):
        if groups < 1:
            raise ValueError(f"Groups must be at least 1, not {groups}")
        self.words = words
        self.groups = groups
        ports = {}
        for number, each in enumerate(words.inputs):
            ports |= {f"i_{number}": In(stream.Signature(EventWord(each.words))),
                      f"permit_{number}": Out(PermitSignature())}
        super().__init__({**ports, "o": Out(stream.Signature(ListEntry(words.width, words.entry_width)))})

    def elaborate(self, platform):
        m = Module()
        words, lists = self.words, []
        for number, each in enumerate(words.inputs):
            m.submodules[f"lists_{number}"] = source = SourceLists(each, words.index_width, words.step)
            connect(m, wiring.flipped(getattr(self, f"i_{number}")), source.i)
            connect(m, source.permit, wiring.flipped(getattr(self, f"permit_{number}")))
            lists.append(source)

        # Of each source's list, whether it has entries; and those whose turn is still to come in this replay.
        some = Cat(~each.more[-1] | each.more[0] for each in lists)
        here, later = Signal(len(lists), reset_less=True), Signal(len(lists), reset_less=True)
        active, ending = Signal(), Signal(reset_less=True)  # the entry now is the replay's end
        left = Signal(signed(max(len(each.more) for each in lists)), reset_less=True)  # entries of this list after it
        group = Signal(signed(self.groups.bit_length() + 1))  # replays left after this one, less one
        last_group, final = group[-1], Signal(reset_less=True)

        # Block RAM is slow to answer, so its output goes straight into a register.
        m.submodules.skid = skid = Skid(self.o.payload.shape())
        connect(m, skid.o, wiring.flipped(self.o))
        read = skid.i.ready  # everything before the skid moves on
        stages = [(active, Cat(ending, last_group, final), here)]
        for _ in range(1 + (len(lists) > 1)):
            stage = Signal(), *(Signal.like(each, reset_less=True) for each in (Cat(ending, last_group, final), here))
            with m.If(read):
                m.d.sync += [now.eq(before) for now, before in zip(stage, stages[-1], strict=True)]
            stages.append(stage)
        entries = [self._entry(each) for each in lists]
        if len(lists) > 1:
            shown = [Signal.like(entry, reset_less=True) for entry in entries]
            with m.If(read):
                m.d.sync += [register.eq(entry) for register, entry in zip(shown, entries, strict=True)]
            entries = shown
        valid, tags, of = stages[-1]
        with m.If(read):
            m.d.sync += [skid.i.valid.eq(valid), skid.i.payload.eq(Cat(_chosen(entries, of), tags))]

        def begin(waiting):
            """Go on with the first of the lists that wait."""
            now = Cat(waiting[n] & ~waiting[:n].any() for n in range(len(lists)))
            return [here.eq(now), later.eq(waiting & ~now), ending.eq(~waiting.any()),
                    left.eq(_chosen([each.more for each in lists], now))]

        released, rewinds = Signal(), Signal()
        for number, each in enumerate(lists):
            m.d.comb += [each.read.eq(read), each.taken.eq(released), each.ends.eq(final), each.rewind.eq(rewinds),
                         each.advance.eq(read & here[number])]
        m.d.comb += rewinds.eq(~active | (read & ending))
        with m.If(~active):
            m.d.sync += [
                active.eq(Cat(each.there for each in lists).all()),
                *begin(some),
                group.eq(self.groups - 2),
                final.eq(next(source.final for source, each in zip(lists, words.inputs, strict=True)
                              if not each.delay)),
            ]
        with m.Elif(read):
            m.d.sync += left.eq(left - 1)
            with m.If(ending):
                m.d.sync += [*begin(some), group.eq(group - 1)]
                with m.If(last_group):
                    m.d.comb += released.eq(1)
                    m.d.sync += active.eq(0)
            with m.Elif(left[-1]):
                m.d.sync += begin(later)
        return m

    def _entry(self, source):
        """What a source's list shows, as a `ListEntry` has it, without its tags."""
        words, own = self.words, source.input.words
        if not source.input.kept:
            return C(0, words.width + words.entry_width)
        bits, index = source.entry[:own.width], source.entry[own.width:own.width + words.index_width]
        fields = [bits, C(0, words.width - own.width), index]
        if words.signed:
            fields.append(source.entry[-1] if own.signed else C(0, 1))
        if words.mixed:
            fields.append(C(not own.graded, 1))
        return Cat(fields)


def _chosen(values, which):
    """That one of ``values`` for which a bit is set in ``which``."""
    if len(values) == 1:
        return values[0]
    width = max(len(value) for value in values)
    wide = [value if len(value) == width else Cat(value, value[-1].replicate(width - len(value))) for value in values]
    return reduce(or_, (Mux(chosen, value.as_unsigned(), 0) for value, chosen in zip(wide, which, strict=True)))
