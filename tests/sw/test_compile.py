"""The compiler: the fastest placement that fits, and a clear word when none does."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from spikeloom import compile, cost
from spikeloom.boards import flow
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.array import Array
from spikeloom.network import Conv2d, Dense, GradedSpike, InputFormat, Network, Pool, Shortcut, WeightFormat
from spikeloom.program import Placement
from spikeloom.target import TARGETS


def network(sizes, events=None):
    rng = np.random.default_rng(0)
    layers = tuple(Dense(f"layer_{number}", rng.integers(-1, 2, (n_out, n_in)), WeightFormat("ternary", 2),
                         np.full(n_out, 5), np.zeros(n_out, int), 6)
                   for number, (n_in, n_out) in enumerate(pairwise(sizes)))
    return Network(InputFormat(sizes[0]), layers, 4, notes={"events": events} if events else {})


@pytest.mark.parametrize("target", [name for name, target in TARGETS.items() if target.luts > 2000])
def test_what_is_chosen_fits_beside_the_link(target):
    program = compile.compile(network((64, 64, 10)), target)
    device, rows = TARGETS[target], program.notes["layers"]
    around = compile.FIXED_LUTS[device.family] + compile.COUNTER_LUTS * len(rows)
    assert sum(row["luts"] for row in rows) + around <= compile.USABLE_LOGIC[device.family] * device.luts
    assert sum(row["blocks"] for row in rows) + compile.FIXED_BLOCKS <= device.blocks
    assert program.placements[-1].units == 1


def test_a_larger_device_is_not_slower():
    cycles = [compile.compile(network((256, 128, 10)), target).notes["cycles_per_time_step"]
              for target in ("icebreaker", "ulx3s-25f")]
    assert cycles[1] <= cycles[0]


def test_no_other_placement_is_faster():
    """Against every placement there is of a small network on a small device."""
    net, target = network((32, 24, 10), [8.0, 5.0]), TARGETS["icebreaker"]
    best = compile.compile(net, "icebreaker").notes["cycles_per_time_step"]
    options = [compile.estimates(net, number, target, cost.Activity(events))
               for number, events in enumerate([8.0, 5.0])]
    fitting = [max(a.cycles, b.cycles) for a in options[0] for b in options[1]
               if a.luts + b.luts + compile.FIXED_LUTS["ice40"] <= compile.USABLE_LOGIC["ice40"] * target.luts
               and a.blocks + b.blocks <= target.blocks - 1]
    assert best == min(fitting)


def test_measured_activity_decides():
    busy = compile.compile(network((64, 64, 64, 10), [50.0, 2.0, 2.0]), "icebreaker")
    late = compile.compile(network((64, 64, 64, 10), [2.0, 50.0, 2.0]), "icebreaker")
    assert busy.placements[0].lanes > busy.placements[1].lanes
    assert late.placements[1].lanes > late.placements[0].lanes


def test_table_marks_the_bottleneck():
    program = compile.compile(network((64, 64, 10), [30.0, 2.0]), "icebreaker")
    lines = compile.table(program).splitlines()
    assert lines[1].startswith("layer_0") and lines[1].endswith("<- bottleneck")
    assert lines[-1].startswith("icebreaker: ")


def test_too_large_says_by_how_much_and_what_would_fit():
    with pytest.raises(SpikeloomError) as error:
        compile.compile(network((784, 128, 10)), "hx8k")
    message = str(error.value)
    assert message.startswith("The network is too large for hx8k: with the fewest lanes it needs about ")
    assert "block RAMs of 32; it fits icebreaker, ulx3s-12f, ulx3s-45f, ulx3s-85f" in message


def test_larger_than_anything():
    with pytest.raises(SpikeloomError, match="no target we know holds it$"):
        compile.compile(network((4000, 2000, 10)), "ulx3s-25f")


def test_mistakes():
    with pytest.raises(SpikeloomError, match="^Activity must be 2 numbers of events per time step, not"):
        compile.compile(network((64, 64, 10)), "icebreaker", activity=[3.0])
    graded = Dense("g", np.ones((2, 4), int), WeightFormat("ternary", 2), np.array([2, 4]), np.zeros(2, int), 6,
                   fire=GradedSpike(0, 3))
    with pytest.raises(SpikeloomError, match="^Layer g: graded spikes run in the reference, not yet in gateware$"):
        compile.compile(Network(InputFormat(4), (graded,), 2), "icebreaker")


# Single-port memory -------------------------------------------------------------------------------


def test_what_block_ram_cannot_hold_goes_to_single_port_memory():
    program = compile.compile(network((784, 128, 10)), "icebreaker")
    assert program.reloadable and program.starts_empty
    assert [placement.memory for placement in program.placements] == ["single_port", "block"]
    assert sum(core.single_ports for core in program.cores) <= TARGETS["icebreaker"].single_ports
    lines = compile.table(program).splitlines()
    assert lines[0].endswith("single-port RAMs")
    assert lines[-1] == "reloadable with any network of this shape; to be loaded before it runs"


def test_block_ram_is_preferred_where_it_is_as_fast():
    program = compile.compile(network((64, 64, 10)), "icebreaker")
    assert not program.reloadable and "single-port" not in compile.table(program)
    program = compile.compile(network((64, 64, 10)), "icebreaker", reloadable=True)
    assert program.reloadable and not program.starts_empty
    assert compile.table(program).splitlines()[-1] == "reloadable with any network of this shape"


def test_single_port_memory_is_used_only_where_the_array_is_faster():
    """Against the search without it: never slower, and of block RAM alone where no faster."""
    for sizes in ((256, 64, 10), (300, 100, 100, 10), (400, 32, 10)):
        net, target = network(sizes), TARGETS["icebreaker"]
        activity = cost.known(net)
        without = compile.compile(net, "icebreaker", placements=compile.choose(
            net, dataclasses.replace(target, single_ports=0), activity))
        chosen = compile.compile(net, "icebreaker")
        faster = chosen.notes["cycles_per_time_step"] < without.notes["cycles_per_time_step"]
        assert faster == chosen.starts_empty
        assert faster or chosen.digest == without.digest


def test_too_many_weights_for_either_memory():
    with pytest.raises(SpikeloomError, match=r"30 \(or, for all its weights, 9 single-port memories of 4\); it fits "):
        compile.compile(network((8000, 128, 10)), "icebreaker")


def test_reloading_takes_what_was_reckoned_with(tmp_path):
    """Against synthesis for an iCE40 UP5K."""
    program = compile.compile(network((100, 16, 10)), "icebreaker",
                              placements=[Placement(16, 2, "single_port"), Placement(5, 1)])
    source = tmp_path / "top.v"
    source.write_text(verilog.convert(Array(program, counter_width=0), "top"))
    netlist = flow.synthesize(source, "ice40", tmp_path / "top.json", options="-device u -spram")
    rows = program.notes["layers"]
    assert netlist.cells["SB_SPRAM256KA"] == sum(row["single_ports"] for row in rows) == 2
    blocks = sum(row["blocks"] for row in rows) + 1  # the read-out's queue
    assert blocks - 1 <= netlist.cells["SB_RAM40_4K"] <= blocks  # membranes of few neurons may become flip-flops
    cells = sum(row["luts"] for row in rows) + 300  # the read-out and the bus
    assert sum(netlist.logic.values()) == pytest.approx(cells, rel=0.2)


def test_residual_and_pooled_networks_are_placed():
    """Whatever has gateware is placed, and what is chosen makes a program."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)

    def neurons(name, channels):
        return {"name": name, "threshold": np.full(channels, 3), "bias": np.zeros(channels, int), "v_width": 5,
                "weight_format": ternary}

    first = Conv2d(**neurons("first", 4), input_shape=(8, 8, 2), weights=rng.integers(-1, 2, (4, 2, 3, 3)), padding=1)
    identity = Shortcut("first", first.shape, np.full((4, 1, 1, 1), 2), WeightFormat("int", 4), groups=4)
    second = Conv2d(**neurons("second", 4), input_shape=first.shape, weights=rng.integers(-1, 2, (4, 4, 3, 3)),
                    padding=1, shortcut=identity)
    last = Dense(**neurons("last", 6), weights=rng.integers(-1, 2, (6, 64)), input_shape=second.shape,
                 pool=Pool("max", 2, 2))
    made = Network(InputFormat(128, 1, (8, 8, 2)), (first, second, last), 3, votes=2)
    for target in ("ulx3s-25f", "icebreaker"):
        program = compile.compile(made, target)
        assert [core.layer.name for core in program.cores] == ["first", "second", "last"]
        assert program.notes["cycles_per_sample"] > 0

    binary = WeightFormat("binary", 1)
    apart = Conv2d(**neurons("apart", 6) | {"weight_format": binary}, input_shape=(8, 8, 2), groups=2,
                   weights=rng.choice([-1, 1], (6, 1, 3, 3)))
    last = Dense(**neurons("last", 2), weights=rng.integers(-1, 2, (2, apart.n_out)))
    program = compile.compile(Network(InputFormat(128, 1, (8, 8, 2)), (apart, last), 3), "ulx3s-25f")
    assert 3 % program.cores[0].group == 0
