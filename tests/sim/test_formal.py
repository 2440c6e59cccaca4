"""Proofs of the control blocks hold; and with something taken out of the block, they fail."""

import pytest
from spikeloom.hw.event_list import EventList
from spikeloom.hw.scanner import ScanStage
from spikeloom.hw.skid import Skid
from spikeloom.program import WordFormat
from spikeloom.sim import formal
from spikeloom.sim.formal import properties


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
        m.d.comb += self.i.ready.eq(1)
        return m


def test_skid():
    assert holds(properties.skid(5))
    assert holds(properties.skid(5, Overrun)) is False


def test_scan_stage():
    assert holds(properties.scan_stage(3, 1, 2))
    assert holds(properties.scan_stage(3, 1, 2, Restless)) is False


def test_event_list():
    words = WordFormat(4, 2)
    assert holds(properties.event_list(words, 2, depth=14))
    assert holds(properties.event_list(words, 2, 14, Boundless)) is False


@pytest.mark.parametrize("units, pace, too_fast", [(1, 4, 3), (2, 3, 1)])
def test_update_units_are_shared(units, pace, too_fast):
    core = properties._adder(2, 16, lanes=4, units=units)
    assert core.pace == pace
    assert holds(properties.sharing(core, 24))
    assert holds(properties.sharing(core, 24, pace=too_fast)) is False  # sums are overwritten before a unit takes them
