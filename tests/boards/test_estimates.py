"""What the compiler reckons with, beside what synthesis makes of it."""

import re

import numpy as np
import pytest
from spikeloom.boards import flow
from spikeloom.compiler import compile, cost
from spikeloom.compiler.program import Placement, Program
from spikeloom.compiler.target import TARGETS
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.array import Array
from spikeloom.hw.core import LayerCore
from spikeloom.network import (
    Adaptation,
    Branch,
    Conv2d,
    Dense,
    GradedSpike,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ShiftLeak,
    SynapticCurrent,
    TableActivation,
    WeightFormat,
)


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


LEVELS = {
    "of the threshold, ternary": Grid(-1, 1),
    "of the threshold, 6 bits": Grid(-32, 16, shift=4),
    "of a step, 3 bits": Grid(-3, 3, 5),
    "of a step that is a power of two": Grid(-3, 3, 4),
    "with bounds": Grid(-3, 3, 3, bounds=(-12, -8, -4, 4, 8, 12)),
}


@pytest.mark.parametrize("levels", LEVELS)
def test_logic_of_levels(levels, tmp_path):
    """To within a fifth, where update units are most of a core."""
    core = on_grid(LEVELS[levels], "hx8k")
    netlist = synthesized(core, "ice40", tmp_path)
    assert sum(netlist.logic.values()) == pytest.approx(cost.estimate_luts(core, TARGETS["hx8k"]), rel=0.2)


BEYOND = {
    "feedback, a current and an adaptation": {
        "current": SynapticCurrent(8, ShiftLeak(2)), "adaptation": Adaptation(8, ShiftLeak(4), np.full(32, 5))},
    "counts of both signs, and a table": {
        "fire": GradedSpike(-8, 7), "leak": NoLeak(), "act": TableActivation(tuple(range(-64, 64)), 1)},
}


@pytest.mark.parametrize("name", BEYOND)
def test_logic_of_layers_that_feed_back(name, tmp_path):
    rng, form, fields = np.random.default_rng(0), WeightFormat("int", 4), {"leak": ShiftLeak(3)} | BEYOND[name]

    def weights(n_in, n_out):
        return rng.integers(-8, 8, (n_out, n_in))

    layer = Dense("layer", weights(32, 32), form, np.full(32, 8), np.full(32, 1), 6, **fields,
                  others=(Branch("layer", weights(32, 32), form, 1),))
    last = Dense("last", weights(32, 2), form, np.full(2, 5), np.zeros(2, int), 6)
    units = 1 if "fire" in fields else 4
    core = Program(Network(InputFormat(32), (layer, last), 4), "hx8k", [Placement(16, units), Placement(2, 1)]).cores[0]
    netlist = synthesized(core, "ice40", tmp_path)
    assert sum(netlist.logic.values()) == pytest.approx(cost.estimate_luts(core, TARGETS["hx8k"]), rel=0.2)
    assert netlist.cells["SB_RAM40_4K"] == cost.estimate_blocks(core, TARGETS["hx8k"])


@pytest.mark.parametrize("levels", ["of the threshold, 6 bits", "of a step, 3 bits"])
def test_levels_take_no_multipliers(levels, tmp_path):
    netlist = synthesized(on_grid(LEVELS[levels], "ulx3s-25f"), "ecp5", tmp_path)
    assert not any(name.startswith("MULT") for name in netlist.cells)


def on_grid(grid, target):
    """The core of a layer that stores its potentials as levels."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)
    layer = Dense("layer", rng.integers(-1, 2, (16, 32)), ternary, rng.integers(6, 30, 16), rng.integers(-2, 3, 16),
                  grid.width, ShiftLeak(1), "zero", grid=grid)
    last = Dense("last", rng.integers(-1, 2, (2, 16)), ternary, np.full(2, 5), np.zeros(2, int), 6)
    return Program(Network(InputFormat(32), (layer, last), 4), target, [Placement(8, 4), Placement(2, 1)]).cores[0]


def synthesized(core, family, folder):
    (folder / "top.v").write_text(verilog.convert(LayerCore(core), "top"))
    return flow.synthesize(folder / "top.v", family, folder / "top.json")


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
