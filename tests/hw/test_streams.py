"""Skid, scanner and event list: nothing lost, doubled or out of order, however both sides stall."""

import random

import pytest
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.hw.event_list import EventList
from spikeloom.hw.scanner import Scanner, ScanStage
from spikeloom.hw.skid import Skid
from streams import transfer

STALLS = [0.0, 0.3, 0.8]


@pytest.mark.parametrize("stall", STALLS)
def test_skid_keeps_order(stall):
    items = [random.Random(1).randrange(256) for _ in range(200)]
    assert transfer(Skid(8), items, len(items), stall=stall) == items


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 16])
def test_scanner_visits_each_spike_once(width, stall):
    pick = random.Random(width)
    words = WordFormat(40, width, graded=width == 3)
    scanner = Scanner(words.width, words.index_width)
    items, expected = [], []
    for _ in range(60):
        index = pick.randrange(words.count)
        if pick.random() < 0.2:  # what a memory shows beside an end has no meaning
            items.append({"bits": pick.randrange(1 << width), "index": index, "end": 1, "last": 1, "final": 0})
            expected.append(None)
        else:
            bits = pick.choice([1, (1 << width) - 1, pick.randrange(1, 1 << width)])
            items.append({"bits": bits, "index": index, "end": 0, "last": 0, "final": 0})
            expected += [index << scanner.position_width | n for n in range(width) if bits >> n & 1]
    seen = transfer(scanner, items, len(expected), stall=stall)
    assert [None if entry.end else int(entry.index) for entry in seen] == expected


def test_scanner_takes_one_cycle_a_spike():
    words = WordFormat(64, 8)
    items = [{"bits": 0xFF, "index": n, "end": 0, "last": 0, "final": 0} for n in range(8)]
    # Sixty-four spikes within sixty-four cycles and the latency of two stages.
    assert len(transfer(Scanner(words.width, words.index_width), items, 64, stall=0.0, patience=8)) == 64


def test_scan_stage_refuses_more_than_a_table_holds():
    with pytest.raises(ValueError, match="^Chunks must be 2 to 4, not 5$"):
        ScanStage(5, 1, 4)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("groups", [1, 3])
def test_event_list_replays_each_time_step_for_every_group(groups, stall):
    pick = random.Random(groups)
    words = WordFormat(40, 8)
    items, expected = [], []
    for step in range(12):
        final = step % 4 == 3
        indices = sorted(pick.sample(range(words.count), pick.choice([0, 1, words.count])))
        entries = [(index, pick.randrange(1, 256)) for index in indices]
        sent = entries or [(0, 0)]  # a silent time step is one empty word
        for number, (index, bits) in enumerate(sent):
            last = number == len(sent) - 1
            items.append({"bits": bits, "index": index, "last": last, "final": last and final})
        for group in range(groups):
            expected += [*entries, ("end", group == groups - 1, final)]
    event_list = EventList(words, groups=groups)
    seen = transfer(event_list, items, len(expected), i="i_0", stall=stall)
    assert [("end", bool(e.last), bool(e.final)) if e.end else (int(e.index), int(e.bits)) for e in seen] == expected


def test_event_list_holds_two_time_steps_and_no_more():
    words = WordFormat(8, 8)
    step = {"bits": 1, "index": 0, "last": 1, "final": 0}
    event_list = EventList(words, groups=1)
    # Nobody takes the replays: after the two banks (and the pipeline behind them) are full, the list stalls.
    with pytest.raises(SpikeloomError, match="^Nothing came for 101 cycles$"):
        transfer(event_list, [step] * 50, 101, i="i_0", stall=0.0, patience=100)


def test_event_list_refuses_no_groups():
    with pytest.raises(ValueError, match="^Groups must be at least 1, not 0$"):
        EventList(WordFormat(8, 8), groups=0)
