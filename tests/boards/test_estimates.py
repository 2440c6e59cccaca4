"""What the compiler reckons with, beside what synthesis makes of it."""

import re

import numpy as np
import pytest
from spikeloom.boards import flow
from spikeloom.compiler import compile
from spikeloom.compiler.program import Placement
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.array import Array
from spikeloom.network import Conv2d, Dense, InputFormat, Network, Pool, ShiftLeak, WeightFormat


def test_logic_of_convolutions_on_ice40(tmp_path):
    """Logic cells of each core are those of the estimate to within a fifth, of both to within a tenth."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)

    def neurons(name, channels):
        return {"name": name, "threshold": np.full(channels, 3), "bias": rng.integers(-2, 3, channels),
                "v_width": 6, "weight_format": ternary}

    first = Conv2d(**neurons("first", 16), input_shape=(12, 12, 12), weights=rng.integers(-1, 2, (16, 12, 3, 3)),
                   pool=Pool("max", 2, 2), stride=2, padding=1)
    last = Dense(**neurons("last", 10), weights=rng.integers(-1, 2, (10, first.n_out)), leak=ShiftLeak(3))
    network = Network(InputFormat(first.n_in, 1, first.input_shape), (first, last), 4)
    program = compile.compile(network, "icebreaker", placements=[Placement(4, 1), Placement(1, 1)])
    (tmp_path / "top.v").write_text(verilog.convert(Array(program), "top"))
    netlist = flow.synthesize(tmp_path / "top.v", "ice40", tmp_path / "top.json", options="-device u -spram")
    rows = program.notes["layers"]
    for row in rows:
        assert netlist.logic[row["layer"]] == pytest.approx(row["luts"], rel=0.2), row["layer"]
    assert sum(netlist.logic[row["layer"]] for row in rows) == pytest.approx(sum(row["luts"] for row in rows), rel=0.1)
    blocks = sum(row["blocks"] for row in rows)
    assert blocks <= netlist.cells["SB_RAM40_4K"] <= blocks + 1  # the read-out's queue may become flip-flops


def test_what_does_not_fit_is_refused_before_synthesis():
    """A layer updated in one unit sends words of one bit, which take the next one's event list more block RAM."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)

    def neurons(name, channels):
        return {"name": name, "threshold": np.full(channels, 3), "bias": rng.integers(-2, 3, channels),
                "v_width": 5, "weight_format": ternary}

    def network(channels):
        first = Conv2d(**neurons("first", 8), input_shape=(34, 34, 2), weights=rng.integers(-1, 2, (8, 2, 3, 3)),
                       stride=2, padding=1)
        second = Conv2d(**neurons("second", channels), input_shape=first.shape,
                        weights=rng.integers(-1, 2, (channels, 8, 3, 3)), pool=Pool("max", 2, 2), stride=2, padding=1)
        last = Dense(**neurons("last", 20), weights=rng.integers(-1, 2, (20, second.n_out)), leak=ShiftLeak(3))
        return Network(InputFormat(first.n_in, 1, first.input_shape), (first, second, last), 8, votes=2)

    for channels in (32, 48):
        rows = compile.compile(network(channels), "icebreaker").notes["layers"]
        assert sum(row["blocks"] for row in rows) + compile.FIXED_BLOCKS <= 30, channels
    with pytest.raises(SpikeloomError) as refused:
        compile.compile(network(96), "icebreaker")
    assert int(re.search(r"and (\d+) block RAMs of 30 ", str(refused.value))[1]) > 30
