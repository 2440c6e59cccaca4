"""Address events in any order, collected into the words of a time step."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.compiler.words import WordFormat

from .event import EventWord
from .scanner import Scanner
from .skid import Skid
from .storage import delayed, in_use, storage

__all__ = ["AddressEvent", "Collector", "Tally"]


class AddressEvent(data.StructLayout):
    """An event of one input, or the end of a time step.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat
    address_width : int, optional
        bits of an address; those that the inputs need, unless told

    Members
    -------
    address : unsigned(address_width)
        the input; not meaningful at an ``end``
    value : unsigned(words.width)
        what the event adds to its input (graded inputs; absent from the layout otherwise)
    end : unsigned(1)
        this is not an event: the time step ends
    final : unsigned(1)
        with ``end``: the sample ends with this time step
    """

    def __init__(self, words, address_width=None):
        least = max(1, (words.size - 1).bit_length())
        address_width = least if address_width is None else address_width
        if address_width < least:
            raise ValueError(f"Bits of an address must be at least {least} for {words.size} inputs, "
                             f"not {address_width}")
        self.words = words
        super().__init__({
            "address": address_width, **({"value": words.width} if words.graded else {}), "end": 1, "final": 1})


class Tally(wiring.Component):
    """Two banks of small numbers: one is added to while the other is read and cleared.

    An addition can begin in every cycle, to the same number as the one before too: sums that have not reached the
    memory yet are forwarded. Latency: what begins to be added in a cycle is in the sum `SUM_CYCLES` later, and can be
    read `ADD_CYCLES` later. Reading takes two cycles in which ``r_en`` is high.

    Parameters
    ----------
    depth : int
        numbers in a bank
    width : int
        bits of a number
    adds : bool
        numbers are added up to 2^width - 1, where they stay; otherwise their bits are set

    Members
    -------
    w_valid, w_bank : In(1), w_addr : In(range(depth)), w_data : In(width)
        an addition
    w_sum : Out(width)
        what the number is now
    r_busy, r_bank : In(1)
        which bank is being read and cleared, if one is; nothing is added to it
    r_en : In(1)
        the reading side moves on
    r_valid : In(1), r_addr : In(range(depth))
        a number is read, and cleared
    r_data : Out(width)
    """

    SUM_CYCLES, ADD_CYCLES = 3, 4

    def __init__(self, depth, width, *, adds):
        self.depth = depth
        self.width = width
        self.adds = adds
        super().__init__({
            "w_valid": In(1), "w_bank": In(1), "w_addr": In(range(depth)), "w_data": In(width),
            "w_sum": Out(width),
            "r_busy": In(1), "r_bank": In(1), "r_en": In(1), "r_valid": In(1), "r_addr": In(range(depth)),
            "r_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()

        # An addition reads its number in cycle 0, holds it in a register in cycle 2, and writes in cycle 3. So it has
        # missed the sums of the three before it, which are in cycles 3, 4 and 5 when it is in cycle 2.
        place = Cat(self.w_addr, self.w_bank)
        valid, places = [self.w_valid], [place]
        for _ in range(4):
            valid.append(delayed(m, valid[-1], reset_less=False))
            places.append(delayed(m, places[-1]))
        total = Signal(self.width, reset_less=True)  # in cycle 3
        m.d.comb += self.w_sum.eq(total)
        before = delayed(m, total)  # in cycle 4
        same = [Signal(name=f"same_{cycle}") for cycle in (2, 3, 4)]  # as the place in cycle 1
        m.d.comb += [bit.eq(valid[cycle] & (places[cycle] == places[1]))
                     for bit, cycle in zip(same, (2, 3, 4), strict=True)]
        near, far = delayed(m, same[0]), delayed(m, same[1] | same[2])
        far_number = delayed(m, Mux(same[1], total, before))

        numbers = []
        clear = Signal()
        clear_addr = Signal(range(self.depth), reset_less=True)
        m.d.sync += clear.eq(self.r_busy & self.r_en & self.r_valid)
        with m.If(self.r_en):
            m.d.sync += clear_addr.eq(self.r_addr)
        for bank in range(2):
            memory = storage(self.width, self.depth)
            m.submodules[f"bank_{bank}"] = memory
            r_port, w_port = memory.read_port(), memory.write_port()
            number = Signal(self.width, name=f"number_{bank}", reset_less=True)
            numbers.append(number)
            busy = self.r_busy & (self.r_bank == bank)
            clears = clear & (self.r_bank == bank)
            m.d.comb += [
                r_port.en.eq(~busy | self.r_en),
                r_port.addr.eq(Mux(busy, self.r_addr, self.w_addr)),
                w_port.en.eq(clears | (valid[3] & (places[3][-1] == bank))),
                w_port.addr.eq(Mux(clears, clear_addr, places[3][:-1])),
                w_port.data.eq(Mux(clears, 0, total)),
            ]
            with m.If(r_port.en):
                m.d.sync += number.eq(r_port.data)
        m.d.comb += self.r_data.eq(Mux(self.r_bank, numbers[1], numbers[0]))

        old = Mux(near, total, Mux(far, far_number, Mux(places[2][-1], numbers[1], numbers[0])))
        new = delayed(m, self.w_data, 2)
        if self.adds:
            exact = old + new
            m.d.sync += total.eq(exact[: self.width] | exact[-1].replicate(self.width))
        else:
            m.d.sync += total.eq(old | new)
        return m


class Collector(wiring.Component):
    """Collects the address events of a time step, in any order, and sends the words that hold them.

    Two events of the same binary input are one; those of a graded input add up, and stay at 2^width - 1. Words
    leave in the order of their indices, silent ones left out, the last one marked ``last``; a time step without events
    is one empty word. An event beyond the last input has no other effect than to be counted.

    A second memory says which words have an event, so that silence costs a cycle for sixteen words. Banks are
    double: while one time step's words leave, the next one's events come in. After a reset each bank holds the
    remains of a time step, which is read and cleared like any other, but not sent.

    Throughput: one event per cycle, whatever its address, and one cycle for the end of a time step; its words leave
    in a cycle each, and one for every row of sixteen silent words, and `OVERHEAD`. Latency from a time step's end to
    its first word, where the first row has two: 15 cycles. After a reset the first event waits until a bank has been
    cleared, at a word a cycle.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat
        of the words that leave
    address_width : int, optional
        as in `AddressEvent`
    counter_width : int
        bits of the counter, which wraps

    Members
    -------
    i : In(stream of AddressEvent)
    o : Out(stream of EventWord)
    dropped : Out(counter_width)
        events beyond the last input
    """

    #: Words that share a row of flags: the most bits that a scanner takes.
    ROW = 16

    #: Cycles of a time step in which no word of it is looked for.
    OVERHEAD = 9

    def __init__(self, words, *, address_width=None, counter_width=24):
        self.words = words
        self.rows = WordFormat(words.count, self.ROW)
        super().__init__({
            "i": In(stream.Signature(AddressEvent(words, address_width))),
            "o": Out(stream.Signature(EventWord(words))),
            "dropped": Out(counter_width),
        })

    def elaborate(self, platform):
        m = Module()
        words, rows = self.words, self.rows
        m.submodules.sums = sums = Tally(words.count, words.width, adds=words.graded)
        m.submodules.flags = flags = Tally(rows.count, rows.width, adds=False)
        m.submodules.scanner = scanner = Scanner(rows.width, rows.index_width)
        m.submodules.row_skid = row_skid = Skid(scanner.i.payload.shape())
        m.submodules.skid = skid = Skid(self.o.payload.shape())
        connect(m, row_skid.o, scanner.i)
        connect(m, skid.o, wiring.flipped(self.o))

        released = Signal()  # a bank has been read and cleared

        # Write side.
        event = self.i.payload
        taken = self.i.valid & self.i.ready
        ends = taken & event.end
        accepted = in_use(m, ends, released, init=2)
        w_bank = Signal()
        finals = Signal(2, reset_less=True)
        m.d.comb += self.i.ready.eq(~accepted[1])
        with m.If(ends):
            m.d.sync += [w_bank.eq(~w_bank), finals.bit_select(w_bank, 1).eq(event.final)]
        address = delayed(m, event.address)
        arrived = delayed(m, taken & ~event.end, reset_less=False)
        known = address < words.size
        m.d.sync += self.dropped.eq(self.dropped + delayed(m, arrived & ~known, reset_less=False))
        index = address if words.graded else address[(words.width - 1).bit_length():]
        m.d.comb += [
            sums.w_data.eq(delayed(m, event.value) if words.graded
                           else 1 << address[: (words.width - 1).bit_length()]),
            sums.w_addr.eq(index),
            flags.w_data.eq(1 << index[: (self.ROW - 1).bit_length()]),
            flags.w_addr.eq(index[(self.ROW - 1).bit_length():]),
        ]
        for tally in (sums, flags):
            m.d.comb += [
                tally.w_valid.eq(arrived & known),
                tally.w_bank.eq(delayed(m, w_bank)),
            ]
        readable = in_use(m, delayed(m, ends, Tally.ADD_CYCLES, reset_less=False), released, init=2)

        # Read side: the rows of flags, and an end behind them.
        busy = Signal()
        r_bank = Signal()
        remains = Signal(2, init=0b11)  # of what was there before the reset
        row = Signal(range(rows.count + 1), reset_less=True)
        r_valid = Signal()
        r_end = row == rows.count
        for tally in (sums, flags):
            m.d.comb += [tally.r_busy.eq(busy), tally.r_bank.eq(r_bank)]
        with m.If(~busy):
            m.d.sync += [busy.eq(readable.any()), r_valid.eq(readable.any()), row.eq(0)]
        with m.Elif(flags.r_en & r_valid):
            m.d.sync += [row.eq(row + 1), r_valid.eq(~r_end)]
        with m.If(released):
            m.d.sync += [busy.eq(0), r_bank.eq(~r_bank), remains.eq(remains >> 1)]

        def follow(tally, valid, end, index):
            # What the number that ``tally`` shows belongs to.
            shown = Signal(data.StructLayout({"valid": 1, "end": 1, "index": len(index)}))
            coming = Signal.like(shown)
            m.d.comb += [tally.r_valid.eq(valid & ~end), tally.r_addr.eq(index)]
            with m.If(tally.r_en):
                m.d.sync += [coming.valid.eq(valid), coming.end.eq(end), coming.index.eq(index), shown.eq(coming)]
            return shown

        shown = follow(flags, r_valid, r_end, row)
        m.d.comb += [
            flags.r_en.eq(row_skid.i.ready),
            row_skid.i.valid.eq(shown.valid),
            row_skid.i.payload.bits.eq(flags.r_data | remains[0].replicate(rows.width)),
            row_skid.i.payload.index.eq(shown.index),
            row_skid.i.payload.end.eq(shown.end),
            sums.r_en.eq(skid.i.ready),
            scanner.o.ready.eq(skid.i.ready),
        ]

        # A word waits until the next one, or the end, shows whether it is the last.
        shown = follow(sums, scanner.o.valid, scanner.o.payload.end, scanner.o.payload.index)
        empty = {"bits": 0, "index": words.count - 1}
        waiting = Signal(data.StructLayout({"bits": words.width, "index": words.index_width}), init=empty)
        found = shown.valid & ~shown.end & sums.r_data.any() & ~remains[0]
        ended = shown.valid & shown.end
        m.d.comb += [
            skid.i.valid.eq(Mux(ended, ~remains[0], found & waiting.bits.any())),
            skid.i.payload.bits.eq(waiting.bits),
            skid.i.payload.index.eq(waiting.index),
            skid.i.payload.last.eq(ended),
            skid.i.payload.final.eq(ended & finals.bit_select(r_bank, 1)),
            released.eq(ended & skid.i.ready),
        ]
        with m.If(skid.i.ready):
            with m.If(found):
                m.d.sync += [waiting.bits.eq(sums.r_data), waiting.index.eq(shown.index)]
            with m.Elif(ended):
                m.d.sync += waiting.eq(Const(empty, waiting.shape()))
        return m
