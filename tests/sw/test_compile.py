"""The compiler: the fastest placement that fits, and a clear word when none does."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from spikeloom.boards import flow
from spikeloom.compiler import compile, cost
from spikeloom.compiler.program import Placement
from spikeloom.compiler.target import TARGETS
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.array import Array
from spikeloom.hw.core import LayerCore
from spikeloom.network import (
    BlockGate,
    ChannelGate,
    Conv2d,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    Pool,
    Shortcut,
    WeightFormat,
)
from spikeloom.report import findings


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
    graded = Conv2d(name="g", weights=np.ones((2, 1, 1, 1), int), weight_format=WeightFormat("ternary", 2),
                    threshold=np.array([2, 4]), bias=np.zeros(2, int), v_width=6, input_shape=(2, 2, 1),
                    fire=GradedSpike(0, 3))
    last = Dense("last", np.ones((2, 8), int), WeightFormat("ternary", 2), np.array([2, 4]), np.zeros(2, int), 6)
    with pytest.raises(SpikeloomError, match="^Layer g: graded spikes of a convolution run in the reference, not yet "
                                             "in gateware$"):
        compile.compile(Network(InputFormat(4, 1, (2, 2, 1)), (graded, last), 2), "icebreaker")


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


# Sparse layers ------------------------------------------------------------------------------------


def pruned(share=0.1, lanes=32, sizes=(512, 256, 10), events=(25.6, 12.0)):
    """A network of whose first layer's words of so many weights only a ``share`` is not zero."""
    net = network(sizes, list(events))
    first = net.layers[0]
    left = np.random.default_rng(1).random((-(-first.n_out // lanes), first.n_in)) < share
    weights = first.weights * left.repeat(lanes, axis=0)[:first.n_out]
    return dataclasses.replace(net, layers=(dataclasses.replace(first, weights=weights), *net.layers[1:]))


def test_a_layer_is_sparse_where_that_is_cheaper():
    net = pruned()
    with pytest.raises(SpikeloomError, match="^The network is too large for hx8k"):
        compile.compile(net, "hx8k", sparse="never")
    program = compile.compile(net, "hx8k")
    assert [placement.sparse for placement in program.placements] == [True, False]
    row, text = program.notes["layers"][0], compile.table(program).splitlines()[-2]
    assert row["words"] == len(program.cores[0].weights) and row["zero"] > row["words"] / 2
    why = program.notes["layers"][1]["dense"]
    assert text == (f"layer_0 is sparse: it has {row['words'] - row['zero']} of {row['words']} words of weights; "
                    f"layer_1 is dense: {why}")
    assert compile.compile(net, "hx8k", placements=program.placements).notes == program.notes


def test_a_layer_is_dense_where_zeros_save_too_little():
    net = pruned(share=0.97)
    program = compile.compile(net, "ulx3s-25f")
    assert not any(placement.sparse for placement in program.placements)
    never = compile.compile(net, "ulx3s-25f", sparse="never")
    assert program.notes == never.notes
    row = compile.compile(net, "ulx3s-25f", placements=[Placement(32, 4), Placement(10, 1)]).notes["layers"][0]
    thin = compile.compile(net, "ulx3s-25f", placements=[Placement(32, 4, sparse=True), Placement(10, 1)])
    instead = thin.notes["layers"][0]
    assert row["dense"] == (
        f"without the {instead['zero']} of its {row['words']} words of weights that are zero it would take "
        f"{instead['cycles']} cycles, {instead['luts']} LUTs and {instead['blocks']} block RAMs")


def test_sparse_when_told():
    net = pruned(share=0.5, lanes=48, sizes=(64, 48, 10))
    always = compile.compile(net, "ulx3s-85f", sparse="always")
    assert [placement.sparse for placement in always.placements] == [row["zero"] > 0 for row in always.notes["layers"]]
    assert always.placements[0].sparse
    with pytest.raises(SpikeloomError, match="^Sparse must be one of auto, never, always, not 'often'$"):
        compile.compile(net, "ulx3s-85f", sparse="often")


def test_where_no_word_is_zero_nothing_is_said():
    net = network((64, 64, 10))
    dense = dataclasses.replace(net, layers=tuple(
        dataclasses.replace(layer, weights=np.ones_like(layer.weights)) for layer in net.layers))
    text = compile.table(compile.compile(dense, "icebreaker"))
    assert "sparse" not in text and "dense" not in text


def test_weights_that_are_never_zero_stay_dense():
    net = network((64, 64, 10))
    binary = dataclasses.replace(net.layers[0], weights=np.ones((64, 64), int), weight_format=WeightFormat("binary", 1))
    net = dataclasses.replace(net, layers=(binary, net.layers[1]))
    with pytest.raises(SpikeloomError, match="^Layer layer_0: weights of kind binary are never zero, "
                                             "so it cannot be sparse$"):
        compile.compile(net, "icebreaker", placements=[Placement(16, 2, sparse=True), Placement(10, 1)])
    program = compile.compile(net, "icebreaker", sparse="always")
    assert not program.placements[0].sparse
    assert program.notes["layers"][0]["dense"] == "weights of kind binary are never zero, so it cannot be sparse"


def test_where_each_input_spikes_counts():
    """Two networks of equal mean activity, of which one's inputs that spike have no weights left."""
    net = pruned(share=0)
    first = net.layers[0]
    weights = first.weights.copy()
    weights[:, 100:300] = 1
    net = dataclasses.replace(net, layers=(dataclasses.replace(first, weights=weights), net.layers[1]))
    cycles = []
    for spiking in (slice(0, 50), slice(100, 150)):
        inputs = np.zeros(512)
        inputs[spiking] = 0.5
        noted = dataclasses.replace(net, notes={"events": [25.0, 5.0], "inputs": [inputs.tolist(), None]})
        cycles.append(compile.compile(noted, "ulx3s-25f", placements=[
            Placement(32, 4, sparse=True), Placement(10, 1)]).notes["layers"][0]["cycles"])
    assert cycles[0] == 8 * 8 and cycles[1] > 8 * 25


def test_sparse_layers_take_what_was_reckoned_with(tmp_path):
    """Against synthesis for an iCE40."""
    net, target = pruned(share=0.3, lanes=8, sizes=(64, 32, 10)), TARGETS["hx8k"]
    core = compile.compile(net, "hx8k", placements=[Placement(8, 2, sparse=True), Placement(10, 1)]).cores[0]
    (tmp_path / "top.v").write_text(verilog.convert(LayerCore(core), "top"))
    netlist = flow.synthesize(tmp_path / "top.v", "ice40", tmp_path / "top.json")
    assert sum(netlist.logic.values()) == pytest.approx(cost.estimate_luts(core, target), rel=0.2)
    assert netlist.cells["SB_RAM40_4K"] == cost.estimate_blocks(core, target)


# Gates ---------------------------------------------------------------------------------------------


def gated_network(opened, channels=16, side=10, wide=8):
    """A convolution whose input is busy and of whose groups of neighbours such a share is ``opened``."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)
    gate = ChannelGate(rng.integers(-1, 2, (channels, wide)), ternary, np.zeros(channels, int), (0, 1, 2, 3), 4)
    layer = Conv2d(name="first", weights=rng.integers(-1, 2, (channels, wide, 3, 3)), weight_format=ternary,
                   threshold=np.full(channels, 4), bias=np.zeros(channels, int), v_width=5,
                   input_shape=(side, side, wide), padding=1, gate=gate)
    last = Dense("last", rng.integers(-1, 2, (10, layer.n_out)), ternary, np.full(10, 5), np.zeros(10, int), 6)
    net = Network(InputFormat(layer.n_in, 1, layer.input_shape), (layer, last), 4)
    notes = {"events": [0.4 * layer.n_in, 0.01 * layer.n_out],
             "opened": [[opened] * len(cost.NEIGHBOURS), None]}
    return dataclasses.replace(net, notes=notes)


def test_a_gate_is_kept_where_it_saves_more_than_it_costs():
    net = gated_network(0.2)
    program = compile.compile(net, "ulx3s-25f")
    assert program.network is net and "left_out" not in program.notes and "goes without" not in compile.table(program)
    bare = compile.compile(net, "ulx3s-25f", gates="never", placements=program.placements)
    assert bare.network.layers[0].gate is None and bare.network.digest != net.digest
    cycles = [made.notes["layers"][0]["cycles"] for made in (program, bare)]
    assert cycles[0] < 0.5 * cycles[1]
    assert compile.table(bare).splitlines()[4:6] == [
        "first goes without its channel gate: gates were not wanted",
        "the program's network is the one without what is left out, and accuracy was measured with it"]


def test_a_gate_is_left_out_where_it_costs_more_than_it_saves():
    net = gated_network(1.0)
    program = compile.compile(net, "ulx3s-25f")
    assert program.network.layers[0].gate is None
    (left_out,) = program.notes["left_out"]
    assert left_out["layer"] == "first" and left_out["gate"] == "channel gate"
    assert "first goes without its channel gate: a time step would take" in compile.table(program)
    always = compile.compile(net, "ulx3s-25f", gates="always")
    assert always.network is net and always.notes["cycles_per_time_step"] >= program.notes["cycles_per_time_step"]


def test_a_gate_is_kept_where_the_layer_behind_would_suffer():
    net = gated_network(1.0, side=6, channels=16, wide=2)
    (few, *others), (events, _) = net.notes["opened"][0], net.notes["events"]
    notes = {"events": [events, 0.1 * net.layers[0].n_out], "opened": [[0.1 * few, *others], None]}
    kept, never = (compile.compile(dataclasses.replace(net, notes=notes), "icebreaker", gates=gates)
                   for gates in ("auto", "never"))
    assert kept.network.layers[0].gate and never.notes["bottleneck"] == "last"
    assert kept.notes["cycles_per_time_step"] < never.notes["cycles_per_time_step"]
    assert compile.compile(net, "icebreaker").network.layers[0].gate is None


def test_a_gate_is_left_out_where_it_does_not_fit():
    """Or where programs can have none."""
    net = gated_network(0.2, side=8, wide=40)
    program = compile.compile(net, "hx8k")
    assert [each["why"] for each in program.notes["left_out"]] == ["with gates the network does not fit hx8k"]
    net = gated_network(0.2)
    program = compile.compile(net, "ulx3s-25f", reloadable=True)
    assert [each["why"] for each in program.notes["left_out"]] == ["a reloadable program has none"]


def test_gates_of_blocks_are_left_out():
    net = gated_network(0.2)
    gate = BlockGate(np.ones((16, 16, 3, 3), int), WeightFormat("ternary", 2), np.zeros(16, int))
    net = dataclasses.replace(net, layers=(dataclasses.replace(net.layers[0], block_gate=gate), net.layers[1]))
    program = compile.compile(net, "ulx3s-25f")
    assert program.network.layers[0].block_gate is None and program.network.layers[0].gate is not None
    assert program.notes["left_out"] == [{"layer": "first", "gate": "block gate", "why": (
        "to look at all blocks takes 57600 multiplications for a time step, 144 for each block and channel, beside "
        "1600 neurons")}]
    with pytest.raises(SpikeloomError, match="^Layer first: a gate of blocks runs in the reference, not in gateware"):
        compile.compile(net, "ulx3s-25f", gates="always")
    with pytest.raises(SpikeloomError, match="^Gates must be one of auto, never, always, not 'often'$"):
        compile.compile(net, "ulx3s-25f", gates="often")


def test_a_report_is_of_the_network_that_the_program_has(tmp_path):
    net = gated_network(0.2)
    program = compile.compile(net, "ulx3s-25f", gates="never", placements=[Placement(12, 4), Placement(1, 1)])
    net.save(tmp_path / "network.npz")
    program.save(tmp_path / "program.npz")
    read = findings.Findings.gather(tmp_path)
    assert read.network.digest == program.network.digest
    assert "accuracy without the gates that the program leaves out: it was measured with them" in read.missing
    gated_network(0.2, side=11).save(tmp_path / "network.npz")
    with pytest.raises(SpikeloomError, match="is of network"):
        findings.Findings.gather(tmp_path)
