"""Proofs of the control blocks hold; and with something taken out of the block, they fail."""

from unittest import mock

import pytest
from amaranth.lib import crc
from spikeloom.compiler.words import WordFormat
from spikeloom.hw.collector import Tally
from spikeloom.hw.event_list import EventList
from spikeloom.hw.link import frames
from spikeloom.hw.link.frames import FrameReceiver, FrameTransmitter
from spikeloom.hw.link.player import EventPlayer
from spikeloom.hw.scanner import ScanStage
from spikeloom.hw.skid import Skid
from spikeloom.sim import formal
from spikeloom.sim.formal import framing, properties


def holds(proof):
    return formal.prove(proof, timeout=300).holds


class Overrun(Skid):
    """Takes more than it can hold."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.i.ready.eq(1)
        return m


class Restless(ScanStage):
    """Offers something else while it waits."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.o.payload.index[0].eq(self.o.ready)
        return m


class Boundless(EventList):
    """Takes a third time step while both banks are full."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.i_0.ready.eq(1)
        return m


class Forgetful(EventList):
    """Does not tell a delayed source that a sample has ended."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += m.submodules.lists_1.ends.eq(0)
        return m


class Generous(EventPlayer):
    """Lets one time step too many pass."""

    def elaborate(self, platform):
        self.time_steps += 1
        return super().elaborate(platform)


class Wide(EventPlayer):
    """Lets a bit beyond the last input pass."""

    def elaborate(self, platform):
        self.words = WordFormat(self.words.size + 1, self.words.width)
        return super().elaborate(platform)


class Hasty(FrameTransmitter):
    """Takes a byte while it sends another."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.i.ready.eq(1)
        return m


class OtherCRC(FrameTransmitter):
    """Computes what others do not."""

    def elaborate(self, platform):
        with mock.patch.object(frames, "_CRC", crc.catalog.CRC32_JAMCRC(data_width=1)):
            return super().elaborate(platform)


class Hushed(FrameReceiver):
    """Tells nobody of damage."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.damaged.eq(0)
        return m


def test_skid():
    assert holds(properties.skid(5))
    assert holds(properties.skid(5, Overrun)) is False


def test_scan_stage():
    assert holds(properties.scan_stage(3, 1, 2))
    assert holds(properties.scan_stage(3, 1, 2, Restless)) is False


def test_scan_stage_behind_rows():
    class Late(ScanStage):
        """Takes the next entry while the last spike of this one still waits."""

        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.d.comb += self.i.ready.eq(1)
            return m

    assert holds(properties.marking_scan_stage(3, 1, 2))
    assert holds(properties.marking_scan_stage(3, 1, 2, Late)) is False


def test_event_list():
    words = WordFormat(4, 2)
    assert holds(properties.event_list(words, 2, depth=14))
    assert holds(properties.event_list(words, 2, 14, Boundless)) is False


def test_event_list_of_several_sources():
    assert holds(properties.joint_list(1, 1, 16))
    assert holds(properties.joint_list(1, 1, 16, Forgetful)) is False


def test_sorter():
    core = properties._thin()
    assert holds(properties.sorter(core, properties.SORTED))
    with mock.patch.object(Tally, "SUM_CYCLES", 2):  # an entry is written where the one before it is
        assert holds(properties.sorter(core, properties.SORTED)) is False


@pytest.mark.parametrize("units, pace, too_fast", [(1, 4, 3), (2, 3, 1)])
def test_update_units_are_shared(units, pace, too_fast):
    core = properties._adder(2, 16, lanes=4, units=units)
    assert core.pace == pace
    assert holds(properties.sharing(core, 24))
    assert holds(properties.sharing(core, 24, pace=too_fast)) is False  # sums are overwritten before a unit takes them


def test_event_player():
    words = WordFormat(5, 2)
    assert holds(framing.player(words, 3))
    assert holds(framing.player(WordFormat(3, 4, graded=True), 2))
    assert holds(framing.player(words, 3, Generous)) is False
    assert holds(framing.player(words, 3, Wide)) is False


def test_frame_transmitter():
    assert holds(framing.transmitter())
    assert holds(framing.transmitter(Hasty)) is False


def test_crc_of_the_frame_transmitter():
    assert holds(framing.transmitter_crc(60))
    assert holds(framing.transmitter_crc(60, OtherCRC)) is False


def test_frame_receiver():
    # For all time it takes a minute.
    assert holds(framing.receiver(16, 3, depth=40))
    assert holds(framing.receiver(16, 3, Hushed, 40)) is False
