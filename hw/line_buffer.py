"""The rows under a kernel: written as they come, read column by column as often as there are groups of channels."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.compiler.window import MASK_DEPTH

from .event import EventWord, ListEntry, PermitSignature
from .gate import GroupsSignature
from .skid import Skid
from .storage import delayed, looked_up, storage

__all__ = ["ColumnTags", "LineBuffer"]

#: Cycles from a word to the moment at which it can be read.
WRITE_CYCLES = 5

#: More rows than can be on their way through the blocks behind a `LineBuffer`, beside those of a time step.
IN_FLIGHT = 64


class ColumnTags(data.StructLayout):
    """Where a column is; the ``index`` of a `LineBuffer`'s entries.

    Members
    -------
    phase : unsigned
        which column of the weights its place within a stride has
    first : unsigned
        the bank that the first row of the kernel is in, or would be
    start : unsigned(1)
        no column of the pass has been an ``end`` before
    ends : unsigned(1)
        with ``end``: the pass ends with this column
    ends_groups : unsigned(1)
        with ``ends``: it was the pass of the last group
    skips : unsigned(1), where the window skips
        with ``ends_groups``: there was no pass at all
    leaves : unsigned(1), where several layers share a core
        nothing more of the row follows
    layer : unsigned, where several layers share a core
        which of them

    Parameters
    ----------
    windows : sequence of spikeloom.compiler.window.Window
        those whose columns go the same way
    """

    def __init__(self, windows):
        super().__init__({
            "phase": max(1, *((window.synapses.stride - 1).bit_length() for window in windows)),
            "first": max((window.banks - 1).bit_length() for window in windows),
            "start": 1, "ends": 1, "ends_groups": 1, **({"skips": 1} if windows[0].skips else {}),
            **({"leaves": 1, "layer": range(len(windows))} if len(windows) > 1 else {})})


class LineBuffer(wiring.Component):
    """Keeps as many rows of a map as lie under the kernel, and those that come in meanwhile.

    Words come row by row, those of a row in any order. Each row of positions that goes out is done in as many *passes*
    as there are groups of channels; a pass reads all columns, and of each what the rows under the kernel have
    there, all at once. The bits of a bank fill up to a power of two, and so do those of a graded value. With the last
    pass over it, a row is cleared, so that silence need not be written.

    A column that completes what a position gets is marked ``end``. Behind the last column there are positions left,
    which get nothing more. They go on during the next pass if that can begin at once, else empty columns are sent.

    Where ``core.skips``, a row that has nothing under the kernel, and whose neurons are at rest, goes out as a mere
    mark, in a cycle or two. They are at rest at the beginning of a sample, and later when those who update them say so;
    a row that has not come back yet is taken for restless.

    A producer that cannot be stopped within a row asks first: each token taken from ``permit`` is the promise to take
    one row more.

    Where ``core.sparse``, events that the pass has no weight for are left out, and where ``core.gated`` all events, if
    no channel of its group is open. No row goes out then before that is known.

    Throughput: one word in and one column out per cycle. Latency from a row's last word to the first column that
    needs it: `WRITE_CYCLES` + 4 cycles. After a reset all rows are cleared, a column per cycle.

    Parameters
    ----------
    core : spikeloom.compiler.window.Window
    windows : sequence of spikeloom.compiler.window.Window, optional
        of all layers that share a core with this one, itself included. Then a row goes out whole, with the positions
        that it leaves behind, before the next begins.

    Members
    -------
    i : In(stream of EventWord)
        ``ready`` is always high
    permit : Out(PermitSignature())
    o : Out(stream of ListEntry with `ColumnTags` as index)
    over, rests : In(1), where ``core.skips``
        a row that went out has been updated, one after the other; its neurons are at rest
    groups : In(GroupsSignature(core.groups)), where ``core.gated``
    """

    def __init__(self, core, windows=None):
        self.core, self.windows = core, windows or (core,)
        words = core.i_words
        #: Bits of a value and of its power of two, of all channels of a position, and of what a group sees of them.
        self.value_bits = words.width if words.graded else 1
        self.bits = words.parts * words.width
        self.channel_bits = 1 << (self.value_bits - 1).bit_length()
        self.bank_bits = self.channel_bits << max((each.seen_channels - 1).bit_length() for each in self.windows)
        #: Bits of an entry: one row under the kernel needs no place of its own.
        self.o_bits = self.bank_bits * max(each.banks if each.kernel[0] > 1 else 1 for each in self.windows)
        super().__init__({
            "i": In(stream.Signature(EventWord(words))),
            "permit": Out(PermitSignature()),
            "o": Out(stream.Signature(ListEntry(self.o_bits, Shape.cast(ColumnTags(self.windows)).width))),
            **({"over": In(1), "rests": In(1)} if core.skips else {}),
            **({"groups": In(GroupsSignature(core.groups))} if core.gated else {}),
        })

    def elaborate(self, platform):
        m = Module()
        core = self.core
        _, columns = core.kept
        stride, banks = core.stride, core.banks
        count = core.synapses.shape[0]  # rows that go out

        needed, dropped, awaited = core.needed, core.dropped, core.awaited

        # After a reset, banks are cleared before the first row is promised.
        sweep = Signal(range(columns + 1))
        clean = sweep == columns
        with m.If(~clean):
            m.d.sync += sweep.eq(sweep + 1)

        step = Signal()  # everything before the skid moves on
        skipping, moved = Signal(), Signal()  # a row is skipped; the row under way is done with
        release = Signal(range(max(dropped) + 1))
        complete = Signal()
        level = Signal(range(banks + 1))  # rows complete and not released
        m.d.sync += level.eq(level + complete - release)
        read = Signal.like(release)  # of rows that are released, all but the last column has left its memory
        with m.If(step):
            m.d.sync += read.eq(Mux(skipping, 0, release))
        # Nothing is in the rows that a skipped one releases.
        self._promise(m, clean, Mux(skipping, release, Mux(step, read, 0)))
        writing = self._write(m, complete)

        # Which row goes out, for which group, at which column. A finished pass goes on with the next one at once where
        # positions left behind do not meet its first ones.
        row, group = Signal(range(count)), Signal(range(core.groups))
        column, phase = Signal(range(columns)), Signal(range(stride[1]), init=core.padding[1] % stride[1])
        flushes = Signal(range(max(core.tail, core.pause, 1) + 1))  # empty columns to come
        running = Signal()
        head = Signal(range(banks))  # the bank of the oldest row
        window = Signal(banks)  # banks under the kernel
        last_column, last_group = column == columns - 1, group == core.groups - 1
        last_row = row == count - 1
        followed = Signal()  # the next row could begin at once
        first = Signal(range(banks), init=-core.padding[0] % banks)  # the bank of the kernel's first row
        shown = Signal(range(1, banks + 1))
        released = Signal.like(release)
        m.d.comb += [
            shown.eq(looked_up(m, row, needed)),
            released.eq(looked_up(m, row, dropped)),
            window.eq(Cat(_modulo(bank + banks - head, banks) < shown for bank in range(banks))
                      & (self.groups.open.bit_select(group, 1).replicate(banks) if core.gated else -1)),
        ]
        # Decisions on rows may take a cycle where a row takes several.
        alone = len(self.windows) == 1
        # Nor may positions be left behind when the next row turns out to be skipped.
        slow = alone and not (core.skips and core.pause) and columns * core.groups >= 4 and columns > core.tail
        can_follow = level >= looked_up(m, row, [
            now + then for now, then in zip(dropped, [*awaited[1:], awaited[0]], strict=True)])
        newest = _modulo(head + (shown - 1), banks)
        final = writing.finals.bit_select(newest, 1)  # the row that is complete last says whether the sample ends
        known, silent, next_silent = C(1, 1), C(0, 1), C(0, 1)
        if core.skips:
            known, silent, next_silent = self._silence(m, row, head, moved, final, writing)
        if core.gated:  # what the next time step's gates are is looked at between the two
            known, can_follow = known & self.groups.valid, can_follow & ~last_row
            m.d.comb += self.groups.ends.eq(moved & last_row)
        m.d.comb += [
            moved.eq(step & ((running & last_column & last_group) | skipping)),
            followed.eq(delayed(m, can_follow & ~next_silent, reset_less=False) if slow else 0),
        ]

        tags = Signal(ColumnTags(self.windows))
        end = (phase == stride[1] - 1) | last_column
        valid, flushing = Signal(), flushes != 0
        starts = Signal(init=1)  # nothing of the pass has been marked as an end
        m.d.comb += [
            valid.eq(running | flushing | skipping),
            tags.phase.eq(looked_up(m, phase, [each // core.summed[1] for each in range(stride[1])])),
            tags.first.eq(first),
            tags.start.eq(running & starts),
            tags.ends.eq((running & last_column) | skipping),
            tags.ends_groups.eq(last_group | skipping),
            *([tags.skips.eq(skipping)] if core.skips else ()),
        ]
        if not alone:
            m.d.comb += [
                tags.layer.eq(self.windows.index(core)),
                tags.leaves.eq(skipping | ((flushes == 1) & (group == 0) if core.tail else
                                           running & last_column & last_group)),
            ]
        with m.If(flushing):
            with m.If(step):
                m.d.sync += flushes.eq(flushes - 1)
        with m.If(running):
            with m.If(step):
                m.d.sync += [
                    column.eq(column + 1), phase.eq(Mux(phase == stride[1] - 1, 0, phase + 1)),
                    starts.eq(last_column | (starts & ~end)),
                ]
                with m.If(last_column):
                    m.d.sync += [column.eq(0), phase.eq(core.padding[1] % stride[1]), group.eq(group + 1)]
                    if core.pause:
                        m.d.sync += [flushes.eq(core.pause), running.eq(0)]
                    with m.If(last_group):
                        m.d.sync += group.eq(0)
                        with m.If(~followed):
                            m.d.sync += [running.eq(0), flushes.eq(core.tail)]
        with m.Elif(step):
            begins = known & (flushes <= 1) & ~skipping & (level >= looked_up(m, row, awaited))
            m.d.sync += [
                running.eq(((flushes <= 1) & (group != 0)) | (begins & ~silent)),
                skipping.eq(begins & silent & (group == 0)),
            ]
        with m.If(moved):
            m.d.comb += release.eq(released)
            down = Mux(last_row, (core.kept[0] - stride[0] * (count - 1)) % banks, stride[0])
            m.d.sync += [row.eq(Mux(last_row, 0, row + 1)), head.eq(_modulo(head + released, banks)),
                         first.eq(_modulo(first + down, banks))]

        # Stage 1 beside the memories' outputs, stage 2 in the skid's registers: block RAM is slow to answer.
        m.submodules.skid = skid = Skid(self.o.payload.shape())
        connect(m, skid.o, wiring.flipped(self.o))
        m.d.comb += step.eq(skid.i.ready)
        beside = Signal(data.StructLayout({
            "valid": 1, "end": 1, "final": 1, "window": banks, "group": max(1, len(group)), "tags": tags.shape()}))
        with m.If(step):
            m.d.sync += [
                beside.valid.eq(valid), beside.end.eq(Mux(running, end, 1)), beside.window.eq(Mux(running, window, 0)),
                beside.group.eq(group), beside.tags.eq(tags),
            ]
            with m.If(running | skipping):
                m.d.sync += beside.final.eq(final)
        cleared = Signal(banks)  # banks that are cleared at the column before
        clear_column = Signal.like(column)
        with m.If(step):
            m.d.sync += clear_column.eq(column)
        m.d.sync += cleared.eq(Mux(step & running & last_group, Cat(
            _modulo(bank + banks - head, banks) < released for bank in range(banks)), 0))

        seen = []
        for bank in range(banks):
            memory = storage(self.bits, columns)
            m.submodules[f"row_{bank}"] = memory
            r_port, w_port = memory.read_port(), memory.write_port()
            reads = window[bank] & running
            m.d.comb += [
                r_port.addr.eq(Mux(reads, column, writing.r_column)),
                r_port.en.eq(~(reads | beside.window[bank]) | step),
                writing.r_data[bank].eq(r_port.data),
                w_port.en.eq(~clean | cleared[bank] | (writing.w_valid & (writing.w_bank == bank))),
                w_port.addr.eq(Mux(~clean, sweep, Mux(cleared[bank], clear_column, writing.w_column))),
                w_port.data.eq(Mux(clean & ~cleared[bank], writing.w_data, 0)),
            ]
            seen.append(Mux(beside.window[bank], self._seen(r_port.data, beside.group), 0))
        if core.kernel[0] == 1:
            seen = [reduce(or_, seen)]
        if core.sparse:
            seen = [bits & self._mask(m, bank, first, tags.phase, group, step) for bank, bits in enumerate(seen)]
        with m.If(step):
            m.d.sync += [
                skid.i.valid.eq(beside.valid),
                skid.i.payload.bits.eq(Cat(seen)),
                skid.i.payload.index.eq(beside.tags),
                skid.i.payload.end.eq(beside.end),
                skid.i.payload.final.eq(beside.final),
            ]
        return m

    def _silence(self, m, row, head, moved, final, writing):
        """Whether the following is known, and whether the row that is next to go out, and the one after it, can be
        skipped. ``moved``: the row is done with; ``final``: the sample ends with its time step."""
        core, banks, count = self.core, self.core.banks, self.core.synapses.shape[0]
        needed, dropped, rows = core.needed, core.dropped, range(count)
        last_row = row == count - 1

        # Banks that something is in. It is there before the row is complete.
        dirty = Signal(banks)
        ages = [_modulo(bank + banks - head, banks) for bank in range(banks)]
        now = looked_up(m, row, dropped)
        for bank, age in enumerate(ages):
            with m.If(writing.w_valid & (writing.w_bank == bank)):
                m.d.sync += dirty[bank].eq(1)
            with m.Elif(moved & (age < now)):
                m.d.sync += dirty[bank].eq(0)

        # Rows at rest, and how many are on their way: a row that may be among them is not known to be at rest.
        resting, returning = Signal(count), Signal(range(count))
        away = Signal(range(count + IN_FLIGHT))
        begun = Signal(init=1)  # the sample has just begun
        m.d.sync += away.eq(away + moved - self.over)
        with m.If(self.over):
            m.d.sync += [resting.bit_select(returning, 1).eq(self.rests),
                         returning.eq(Mux(returning == count - 1, 0, returning + 1))]
        with m.If(moved & last_row):
            m.d.sync += begun.eq(final)

        under = Cat(age < looked_up(m, row, needed) for age in ages)
        later = Cat((age >= now) & (age < looked_up(m, row, [
            dropped[each] + needed[(each + 1) % count] for each in rows])) for age in ages)
        following = Mux(last_row, 0, row + 1)
        silent = ~(dirty & under).any() & (begun | resting.bit_select(row, 1)) & (away < count)
        next_silent = (~(dirty & later).any() & (away < count - 1)
                       & (Mux(last_row, final, begun) | resting.bit_select(following, 1)))
        return delayed(m, ~moved, reset_less=False), delayed(m, silent), next_silent

    def _promise(self, m, clean, release):
        """Permits: rows that share a place, or have none, need no more than the first of them does."""
        core = self.core
        raw = core.synapses.input_shape[0]
        row = Signal(range(raw))
        takes = Signal()  # this row needs a bank
        free = Signal(range(core.banks + 1), init=core.banks)
        offered = Signal()
        m.d.comb += takes.eq(looked_up(m, row, core.opens))
        granted = self.permit.valid & self.permit.ready
        m.d.comb += self.permit.valid.eq(offered)
        m.d.sync += [
            offered.eq(~granted & (offered | (clean & (~takes | (free != 0))))),
            free.eq(free + release - (granted & takes)),
        ]
        with m.If(granted):
            m.d.sync += row.eq(Mux(row == raw - 1, 0, row + 1))

    def _write(self, m, complete):
        """Where words come in: what they have to do with the memories."""
        core, words = self.core, self.core.i_words
        (rows, columns), (high, wide) = core.kept, core.merged
        banks, word = core.banks, self.i.payload
        part_width, column_width, _ = words.fields
        merges = words.parts > 1 or core.merged != (1, 1)
        m.d.comb += self.i.ready.eq(1)

        # Where a word belongs. Rows and columns that no kernel meets are left out: nothing would clear them.
        def met(count, size, axis):
            places = [at // core.merged[axis] for at in range(size)]
            return [place < count and (place + core.padding[axis]) % core.stride[axis] < core.kernel[axis]
                    for place in places]

        raw_rows, raw_columns, _ = words.map
        raw, bank = Signal(range(raw_rows)), Signal(range(banks))
        ends = self.i.valid & word.row
        row_ends = ends & Mux(word.last, 1, looked_up(m, raw, [
            at % high == high - 1 and at // high < rows - 1 for at in range(raw_rows)]))
        with m.If(ends):
            m.d.sync += raw.eq(Mux(word.last, 0, raw + 1))
        with m.If(row_ends):
            m.d.sync += bank.eq(Mux(bank == banks - 1, 0, bank + 1))
        at = word.index[part_width:part_width + column_width] if column_width else C(0, 1)
        valid = Signal()
        m.d.sync += valid.eq(self.i.valid & word.bits.any() & looked_up(m, raw, met(rows, raw_rows, 0))
                             & looked_up(m, at, met(columns, raw_columns, 1)))
        column = Signal(range(columns), reset_less=True)
        m.d.sync += column.eq(looked_up(m, at, [min(each // wide, columns - 1) for each in range(raw_columns)]))
        placed = Signal(self.bits, reset_less=True)
        part = word.index[:part_width] if part_width else C(0, 1)
        m.d.sync += placed.eq(Cat(Mux(part == each, word.bits, 0) for each in range(words.parts)))
        # A row waits until its words are written; behind silence there is nothing to wait for.
        writes, late = Signal(WRITE_CYCLES), Signal(WRITE_CYCLES - 1)  # words of the last cycles; rows that wait
        m.d.sync += writes.eq(Cat(self.i.valid & word.bits.any(), writes))
        ended = delayed(m, row_ends, reset_less=False)
        waits = ended & (writes.any() | late.any())
        m.d.sync += late.eq(Cat(waits, late))
        m.d.comb += complete.eq(late[-1] | (ended & ~waits))
        into = delayed(m, bank)
        finals = Signal(banks, reset_less=True)
        with m.If(self.i.valid & word.last):
            m.d.sync += finals.bit_select(bank, 1).eq(word.final)

        writing = Signal(data.StructLayout({
            "r_column": column.shape(), "r_data": data.ArrayLayout(self.bits, banks), "w_valid": 1,
            "w_bank": bank.shape(), "w_column": column.shape(), "w_data": self.bits, "finals": banks}))
        m.d.comb += [writing.r_column.eq(column), writing.finals.eq(finals)]
        if not merges:
            m.d.comb += [writing.w_valid.eq(valid), writing.w_bank.eq(into), writing.w_column.eq(column),
                         writing.w_data.eq(placed)]
            return writing

        # What is there is read in cycle 0, held in a register in cycle 2, and written with the new bits in cycle 3.
        # So a word misses what the three before it wrote, which are in cycles 3, 4 and 5 when it is in cycle 2.
        place = Cat(column, into)
        valids, places = [valid], [place]
        for _ in range(4):
            valids.append(delayed(m, valids[-1], reset_less=False))
            places.append(delayed(m, places[-1]))
        total = Signal(self.bits, reset_less=True)  # in cycle 3
        same = [valids[cycle] & (places[cycle] == places[1]) for cycle in (2, 3, 4)]
        near = delayed(m, same[0])
        before = delayed(m, total)
        forward = delayed(m, Mux(same[1], total, 0) | Mux(same[2], before, 0))
        old = Signal(self.bits, reset_less=True)
        m.d.sync += old.eq(Array(writing.r_data[each] for each in range(banks))[places[1][len(column):]])
        m.d.sync += total.eq(delayed(m, placed, 2) | old | forward | Mux(near, total, 0))
        m.d.comb += [writing.w_valid.eq(valids[3]), writing.w_bank.eq(places[3][len(column):]),
                     writing.w_column.eq(places[3][:len(column)]), writing.w_data.eq(total)]
        return writing

    def _seen(self, position, group):
        """The channels of a position's bits that the group sees, each value filled up to a power of two."""
        core = self.core
        values = [position[at:at + self.value_bits] for at in range(0, self.bits, self.value_bits)]
        filled = Cat(Cat(value, C(0, self.channel_bits - self.value_bits)) for value in values)
        width = core.seen_channels * self.channel_bits
        starts = [first * self.channel_bits for first in core.seen]
        slices = [filled[start:start + width] for start in starts]
        chosen = slices[0] if len(set(starts)) == 1 else Array(slices)[group]
        return Cat(chosen, C(0, self.bank_bits - width))

    def _mask(self, m, bank, first, phase, group, step):
        """Which bits of a bank the group has a weight for, beside what is read from the bank at the same ``step``."""
        core = self.core
        _, kernel, stride, _ = core.weight_rows
        below = _modulo(bank + core.banks - first, core.banks)
        if core.summed[0] > 1:
            below = looked_up(m, below, [min(each // core.summed[0], kernel - 1) for each in range(core.banks)])
        # The mask of a bank that is not under the kernel does not matter.
        m.submodules[f"mask_{bank}"] = memory = storage(
            core.seen_channels, len(core.masks), core.masks, logic=len(core.masks) <= MASK_DEPTH)
        port = memory.read_port()
        m.d.comb += [
            port.en.eq(step),
            port.addr.eq(Cat(phase[:(stride - 1).bit_length()], below[:(kernel - 1).bit_length()], group)),
        ]
        return Cat(bit.replicate(self.channel_bits) for bit in port.data)


def _modulo(value, count):
    """``value``, which is less than twice ``count``, modulo ``count``."""
    value = Value.cast(value)
    return Mux(value >= count, value - count, value)[:max(1, (count - 1).bit_length())]
