"""Blocks that handle the rows of maps: nothing lost, doubled or out of order, however long both sides wait, nor left
behind by a reset."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.sim import Simulator
from spikeloom.compiler.window import Branch
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.hw.line_buffer import ColumnTags, LineBuffer
from spikeloom.hw.raster import Raster, RowPermits
from spikeloom.hw.row_queue import RowQueue
from spikeloom.hw.scanner import Scanner
from spikeloom.network import Pool, Shortcut, WeightFormat
from spikeloom.sim import stream
from streams import transfer

STALLS = [0.0, 0.3, 0.8]


def play(block, words, count, *, counts, i_permit=None, o_permit=None, stall=0.0, resets=(), patience=2000):
    """Send ``words`` into ``block.i``, and what then leaves ``block.o`` until ``count`` of it ``counts``.

    With ``i_permit``, a stream of permits for rows, each row waits for one of them, and else each word for ``ready``.
    With ``o_permit`` permits for rows are given, and else words are taken; both at random. In each cycle of ``resets``
    there is a reset, and all begins anew.
    """
    module, pauses, reset = Module(), random.Random(0), Signal()
    module.domains.sync = domain = ClockDomain()
    module.submodules.block = block
    module.d.comb += domain.rst.eq(reset)
    simulation, seen = Simulator(module), []
    simulation.add_clock(1e-6)
    asked = i_permit.ready if i_permit is not None else Signal()
    given = o_permit.valid if o_permit is not None else block.o.ready
    granting = i_permit.valid if i_permit is not None else block.i.ready
    taking = o_permit.ready if o_permit is not None else block.o.ready

    async def testbench(ctx):
        left, granted, permits, cycle, idle = list(words), i_permit is None, 0, 0, 0
        while sum(map(counts, seen)) < count:
            cycle, idle = cycle + 1, idle + 1
            if idle > patience:
                raise SpikeloomError(f"Nothing came for {idle} cycles")
            gives, goes = (pauses.random() >= stall for _ in range(2))
            sends, asks = goes and granted and bool(left), goes and not granted and bool(left)
            ctx.set(block.i.valid, sends)
            if sends:
                ctx.set(block.i.payload, left[0])
            if i_permit is not None:
                ctx.set(asked, asks)
            ctx.set(given, gives)
            ctx.set(reset, cycle in resets)
            *_, grants, takes, valid, payload = await ctx.tick().sample(
                granting, taking, block.o.valid, block.o.payload)
            if cycle in resets:
                left, granted, permits = list(words), i_permit is None, 0
                seen.clear()
                continue
            if asks and grants:
                granted = True
            if sends and (i_permit is not None or grants):
                ended = left.pop(0).get("row", 0)
                granted = i_permit is None or not ended
            permits += o_permit is not None and gives and takes
            if valid and (o_permit is not None or gives):
                idle = 0
                seen.append(payload)
                if o_permit is not None:
                    assert permits > 0, "a word of a row that nobody promised to take"
                    permits -= payload.row
        assert not left

    simulation.add_testbench(testbench)
    simulation.run()
    return seen


def frames(words, steps=4):
    """Values of so many time steps (steps, size), the second of which is silent and the third at its highest."""
    rng, high = np.random.default_rng(0), words.bounds[1]
    z = rng.integers(0, high + 1, (steps, words.size)) * (rng.random((steps, words.size)) < 0.5)
    z[1], z[2] = 0, high
    return z


def rows_of(words, z, pick):
    """The words of a map for the values ``z``, those of a row in any order, now and then with its end in a word of its
    own. Every second time step ends a sample."""
    rows, columns, _ = words.map
    part_width, column_width, _ = words.fields
    made = []
    for step, packed in enumerate(words.pack(z).tolist()):
        for row in range(rows):
            places = [(row << column_width | column) << part_width | part
                      for column in range(columns) for part in range(words.parts)]
            sent = [(index, packed[index]) for index in places if packed[index]]
            pick.shuffle(sent)
            if not sent or pick.random() < 0.5:
                sent.append((places[0], 0))
            for number, (index, bits) in enumerate(sent):
                ends = number == len(sent) - 1
                last = ends and row == rows - 1
                made.append({"index": index, "bits": bits, "row": int(ends), "last": int(last),
                             "final": int(last and step % 2)})
    return made


# Line buffer ---------------------------------------------------------------------------------------


class Padded(Shortcut):
    """A shortcut has no padding, but the geometry knows of it."""

    padding = 1


def window(shape, kernel=1, *, channels=2, group=None, width=4, graded=False, groups=1, kind=Shortcut, **fields):
    """What a core sees of a map of this ``shape``."""
    weights = np.ones((channels, shape[2] // groups, kernel, kernel), int)
    synapses = kind("input", shape, weights, WeightFormat("ternary", 2), groups=groups, **fields)
    group = group or channels
    return Branch(synapses, WordFormat(int(np.prod(shape)), width, graded, shape), -(-channels // group), group)


class SparseBranch(Branch):
    sparse = True


def thinned(window):
    """``window`` with half of its weights, of which the first group has none for a channel in the middle of the kernel,
    and without those rows of them that are zero."""
    weights = window.synapses.weights * np.random.default_rng(0).integers(0, 2, window.synapses.weights.shape)
    weights[:window.group, 0, weights.shape[2] // 2] = 0
    synapses = dataclasses.replace(window.synapses, weights=weights)
    return SparseBranch(synapses, window.i_words, window.groups, window.group)


WINDOWS = {
    "kernel of one": window((4, 3, 2)),
    "kernel of three": window((5, 4, 3), 3),
    "padding": window((4, 3, 2), 3, kind=Padded),
    "one row": window((1, 5, 2), 3, kind=Padded),
    "stride": window((6, 5, 2), 2, stride=2),
    "stride over rows": window((7, 5, 2), 1, stride=3),
    "several words": window((3, 3, 9), 2),
    "maxima": window((7, 5, 6), 2, pool=Pool("max", 2, 2)),
    "sums": window((6, 5, 2), 1, pool=Pool("sum", 2, 2)),
    "groups of channels": window((4, 3, 6), 2, channels=6, groups=6, group=2),
    "passes": window((4, 3, 2), 2, channels=6, group=2),
    "values of several bits": window((4, 3, 2), 2, width=3, graded=True),
}


def has_weight(window, group, row, column, channel):
    """Whether any channel of the group has a weight for the channel it sees, in that row of what is kept under the
    kernel, and that column or one some strides beyond."""
    synapses = window.synapses
    count, per_group = synapses.shape[2] // synapses.groups, synapses.weights.shape[1]
    for out in range(group * window.group, min((group + 1) * window.group, synapses.shape[2])):
        seen = window.seen[group] + channel - out // count * per_group
        if 0 <= seen < per_group:
            weights = synapses.weights[out, seen, row // window.summed[0]]
            if weights[column // window.summed[1]::synapses.stride].any():
                return True
    return False


def columns_of(window, z):
    """For each column that passes by (time step, row that goes out, pass, column): the set of (row under the kernel,
    channel that the pass sees, bit) that is under the kernel."""
    (rows, columns), (high, wide) = window.kept, window.merged
    found = []
    for values in z:
        values = values.reshape(window.i_words.map)
        values = values[:values.shape[0] // high * high, :values.shape[1] // wide * wide]
        values = values.reshape(len(values) // high, high, -1, wide, values.shape[2]).max((1, 3))
        for out in range(window.synapses.shape[0]):
            top = out * window.stride[0] - window.padding[0]
            for group, first in enumerate(window.seen):
                for column in range(columns):
                    place = (column + window.padding[1]) % window.stride[1]
                    found.append({
                        (row - top, channel, bit)
                        for row in range(max(top, 0), min(top + window.kernel[0], rows))
                        for channel in range(window.seen_channels)
                        for bit in range(3)
                        if place < window.kernel[1] and values[row, column, first + channel] >> bit & 1
                        and (not window.sparse or has_weight(window, group, row - top, place, channel))})
    return found


def check_columns(window, z, entries):
    """Hold what a `LineBuffer` sent to what it should have sent. What it sends behind a pass is empty, and as much as
    the positions there need or nothing."""
    buffer, tags_of, expected = LineBuffer(window), ColumnTags([window]), columns_of(window, z)
    columns, passes = window.kept[1], window.groups
    rows, number, behind = window.synapses.shape[0], 0, 0
    for entry in entries:
        tags = tags_of.from_bits(entry.index)
        column, done = number % columns, number // columns
        if column == 0 and not tags.start:
            assert entry.end and not entry.bits and done
            behind += 1
            continue
        assert behind in (0, window.pause, window.tail)
        behind = 0
        seen = set()
        for at in range(buffer.o_bits):
            if entry.bits >> at & 1:
                bank, place = divmod(at, buffer.bank_bits)
                row = (bank - tags.first) % window.banks if window.kernel[0] > 1 else 0
                seen.add((row, *divmod(place, buffer.channel_bits)))
        assert seen == expected[number]
        phase = (column + window.padding[1]) % window.stride[1]
        assert tags.phase == phase // window.summed[1]
        assert entry.end == (phase == window.stride[1] - 1 or column == columns - 1)
        assert tags.ends == (column == columns - 1)
        assert tags.ends_groups == (done % passes == passes - 1)
        step, row = divmod(done // passes, rows)
        if tags.ends and row == rows - 1:
            assert entry.final == step % 2
        number += 1
    assert number == len(expected)


def run_buffer(window, z, **options):
    """What a `LineBuffer` sends for the values ``z``, up to the end of the last pass."""
    buffer, tags_of = LineBuffer(window), ColumnTags([window])
    return play(buffer, rows_of(window.i_words, z, random.Random(1)), len(z) * window.synapses.shape[0] * window.groups,
                counts=lambda entry: tags_of.from_bits(entry.index).ends, i_permit=buffer.permit, **options)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", WINDOWS)
def test_columns_pass_by(name, stall):
    window = WINDOWS[name]
    z = frames(window.i_words)
    check_columns(window, z, run_buffer(window, z, stall=stall))


@pytest.mark.parametrize("name", WINDOWS)
def test_columns_without_events_that_have_no_weight(name):
    dense, window = WINDOWS[name], thinned(WINDOWS[name])
    z = frames(window.i_words)
    check_columns(window, z, run_buffer(window, z, stall=0.3))
    visits = [[len(column) for column in columns_of(each, z)] for each in (window, dense)]
    assert sum(visits[0]) < sum(visits[1])
    for each, counts in zip((window, dense), visits, strict=True):
        shape = len(z), window.synapses.shape[0], window.groups, window.kept[1]
        assert np.array_equal(np.moveaxis(each.visits(z[None])[:, 0], 0, 2), np.reshape(counts, shape))


@pytest.mark.parametrize("name, changed", [
    ("kernel of three", None), ("maxima", None), ("several words", None), ("padding", thinned)])
def test_a_reset_clears_the_rows(name, changed):
    """Also where it comes while they are being cleared after another one."""
    window = changed(WINDOWS[name]) if changed else WINDOWS[name]
    z = np.concatenate([frames(window.i_words)[2:3], frames(window.i_words)])
    for moment in range(20, 60, 7):
        check_columns(window, z[1:], run_buffer(window, z[1:], resets=(moment,)))
        check_columns(window, z[1:], run_buffer(window, z[1:], resets=(moment, moment + 3)))


# Raster, queue, permits ----------------------------------------------------------------------------


def listed(words, z):
    """The words of a list for the values ``z``; a time step without any, or now and then, ends with an empty one."""
    made = []
    for step, packed in enumerate(words.pack(z).tolist()):
        sent = [(index, bits) for index, bits in enumerate(packed) if bits]
        if not sent or step % 3 == 2:
            sent.append((sent[-1][0] if sent else words.count - 1, 0))
        for number, (index, bits) in enumerate(sent):
            last = int(number == len(sent) - 1)
            made.append({"index": index, "bits": bits, "last": last, "final": last * (step % 2)})
    return made


def by_row(words, seen):
    """Rows of words with a spike, as sets, each with how it ends."""
    rows, row = [], set()
    for word in seen:
        if word.bits:
            row.add((int(word.index), int(word.bits)))
        if word.row:
            rows.append((row, word.last, word.last and word.final))
            row = set()
    assert not row
    return rows


def expected_rows(words, z):
    rows, column_bits = words.map[0], sum(words.fields[:2])
    found = []
    for step, packed in enumerate(words.pack(z).tolist()):
        packed += [0] * ((rows << column_bits) - len(packed))
        for row in range(rows):
            low = row << column_bits
            found.append(({(index, packed[index]) for index in range(low, low + (1 << column_bits)) if packed[index]},
                          row == rows - 1, row == rows - 1 and step % 2))
    return found


MAPS = {"binary": ((3, 5, 6), 2, False), "one position": ((1, 1, 4), 4, False), "one row": ((1, 6, 3), 1, False),
        "one column": ((5, 1, 16), 16, False), "values": ((4, 3, 3), 3, True)}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", MAPS)
def test_raster_makes_rows_of_a_list(name, stall):
    shape, width, graded = MAPS[name]
    size = int(np.prod(shape))
    i_words, o_words = (WordFormat(size, width, graded, map_shape) for map_shape in (None, shape))
    z = frames(i_words, 6)
    raster = Raster(i_words, o_words)
    seen = play(raster, listed(i_words, z), len(z) * shape[0], counts=lambda word: word.row, o_permit=raster.permit,
                stall=stall)
    assert by_row(o_words, seen) == expected_rows(o_words, z)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MAPS)
def test_queue_keeps_rows(name, rows, stall):
    shape, width, graded = MAPS[name]
    words = WordFormat(int(np.prod(shape)), width, graded, shape)
    z, queue = frames(words, 6), RowQueue(words, rows)
    seen = play(queue, rows_of(words, z, random.Random(1)), len(z) * shape[0], counts=lambda word: word.row,
                i_permit=queue.permit, o_permit=queue.o_permit, stall=stall)
    low = (1 << sum(words.fields[:2])) - 1  # the number of the row is not kept
    expected = [({(index & low, bits) for index, bits in row}, *ends) for row, *ends in expected_rows(words, z)]
    assert [({(index & low, bits) for index, bits in row}, *ends) for row, *ends in by_row(words, seen)] == expected


def test_queue_promises_as_many_rows_as_it_holds():
    words = WordFormat(12, 2, shape=(3, 2, 2))
    queue, given = RowQueue(words, 2), []
    simulation = stream.simulator(queue)

    async def testbench(ctx):
        ctx.set(queue.permit.ready, 1)
        for _ in range(50):
            *_, gives = await ctx.tick().sample(queue.permit.valid)
            given.append(gives)

    simulation.add_testbench(testbench)
    simulation.run()
    assert sum(given) == 2


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_row_permits_give_one_for_each_row(rows):
    permits, given, pauses = RowPermits(rows), [], random.Random(0)
    simulation = stream.simulator(permits)

    async def testbench(ctx):
        taken = 0
        for _ in range(300):
            offers, asks = (pauses.random() < 0.5 for _ in range(2))
            ctx.set(permits.i.valid, offers)
            ctx.set(permits.o.ready, asks)
            *_, takes, gives = await ctx.tick().sample(permits.i.ready, permits.o.valid)
            taken += offers and takes
            if asks and gives:
                given.append(taken)

    simulation.add_testbench(testbench)
    simulation.run()
    assert len(given) > 50 and given == [1 + number // rows for number in range(len(given))]


# Scanner -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("width, to", [(1, 1), (2, 1), (3, 1), (16, 1), (40, 1), (16, 4), (32, 16), (64, 16), (24, 8),
                                       (8, 8)])
def test_marks_stay_with_the_last_spike(width, to, stall):
    pick, chunks = random.Random(width), -(-width // to)
    scanner = Scanner(width, 5, to=to, marks=True)
    items, expected = [], []
    for number in range(60):
        bits = pick.choice([0, 1, 1 << (width - 1), (1 << width) - 1, pick.randrange(1 << width)])
        end = pick.randrange(2)
        items.append({"bits": bits, "index": number % 32, "end": end, "last": 0, "final": number % 3 == 0})
        parts = [(number % 32 << scanner.position_width | chunk, part) for chunk in range(chunks)
                 if (part := bits >> chunk * to & (1 << to) - 1)] or [(None, 0)] * end
        expected += [(*part, end and at == len(parts) - 1, number % 3 == 0) for at, part in enumerate(parts)]
    seen = transfer(scanner, items, len(expected), stall=stall)
    assert [(int(entry.index) if entry.bits else None, int(entry.bits), entry.end, entry.final)
            for entry in seen] == expected
