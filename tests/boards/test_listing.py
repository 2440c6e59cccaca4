"""The table of boards."""

from spikeloom import boards
from spikeloom.compiler import compile
from spikeloom.compiler.target import TARGETS
from test_build import program


def test_every_board_has_a_line():
    lines = boards.listing().splitlines()
    assert [line.split()[0] for line in lines] == ["board", *boards.BOARDS]
    assert lines[1].split() == ["icebreaker", "iCE40UP5K", "SG48", "5280", "30", "12", "MHz", "FT2232H", "12000000",
                                "flash", "iceprog"]


def test_what_fits():
    network = program("hx8k", sizes=(256, 128, 10)).network
    rows = {line.split()[0]: line.split() for line in boards.listing(network).splitlines()}
    made = compile.compile(network, "hx8k")
    assert rows["hx8k"][-3] == f"{made.notes['cycles_per_time_step']:g}"
    assert 0.8 < made.notes["cycles_per_sample"] / TARGETS["hx8k"].clock / float(rows["hx8k"][-2]) <= 1.05
    assert rows["icestick"][-3:] == ["too", "large", "-"]
