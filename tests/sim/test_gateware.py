"""The gateware equals the reference: every spike and membrane potential, in Amaranth's simulator and in Verilog."""

import dataclasses
import os
import shutil
import tempfile
from itertools import pairwise

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import in_gateware, inputs, networks
from spikeloom import reference
from spikeloom.compiler import compile, cost
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import (
    Conv2d,
    Dense,
    GradedSpike,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ShiftLeak,
    Silent,
    TableLeak,
    WeightFormat,
)
from spikeloom.sim import backend, cosim, pysim, trace


def thinned(layer, lanes, share, seed=0):
    """A dense layer of whose words of so many weights only a ``share`` are left, and of some inputs and some groups of
    neurons none."""
    rng, inputs = np.random.default_rng(seed), layer.weights.shape[1]
    groups = -(-layer.n_out // lanes)
    left = rng.random((groups, inputs)) < share
    if share < 1:
        left &= (rng.random(inputs) < 0.8) & (rng.random((groups, 1)) < 0.8)
    return dataclasses.replace(layer, weights=layer.weights * left.repeat(lanes, axis=0)[:layer.n_out])


@st.composite
def programs(draw):
    """A small network with any placement."""
    network = in_gateware(draw(networks()))
    layers = list(network.layers)
    placements = []
    for number, layer in enumerate(layers):
        one = layer is layers[-1] or isinstance(layer.fire, GradedSpike)
        units = 1 if one else draw(st.sampled_from([1, 2, 4, 8]))
        lanes = units * draw(st.integers(1, -(-layer.n_out // units) + 1))
        signed = number and layers[number - 1].fire.low < 0
        sparse = not signed and 0 in layer.weight_format.values and draw(st.booleans())
        if sparse:
            layers[number] = thinned(layer, lanes, draw(st.sampled_from([0, 0.2, 0.6, 1])), draw(st.integers(0, 99)))
        placements.append(Placement(lanes, units, sparse=sparse))
    network = dataclasses.replace(network, layers=tuple(layers))
    return Program(network, draw(st.sampled_from(["icebreaker", "ulx3s-25f"])), placements)


#: Times as many random examples as usual, for a long search.
EXAMPLES_FACTOR = int(os.environ.get("EXAMPLES", "1"))

LENIENT = hypothesis.settings(deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])


@hypothesis.settings(LENIENT, max_examples=25 * EXAMPLES_FACTOR,
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_amaranth_equals_reference(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    stall, seed = data.draw(st.sampled_from([0.0, 0.5])), data.draw(st.integers(0, 1000))
    seen, _ = pysim.run(program, x, stall=stall, seed=seed)
    assert trace.first_difference(program.network, reference.run(program.network, x), seen) is None


@hypothesis.settings(LENIENT, max_examples=1 * EXAMPLES_FACTOR,  # what fails here shrinks in the test above
                     phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate])
@given(st.data())
def test_verilator_equals_reference_on_random_networks(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    with tempfile.TemporaryDirectory() as folder:
        run = cosim.run(program, x, stall=data.draw(st.sampled_from([0.0, 0.5])), folder=folder)
    assert trace.first_difference(program.network, reference.run(program.network, x), run.trace) is None


def network(sizes, form, *, width=1, v_width=6, leak=None, reset="subtract", readout="count", last=None, seed=0):
    rng = np.random.default_rng(seed)
    layers = [Dense(f"layer_{number}", rng.choice(form.values, (n_out, n_in)), form, rng.integers(1, 9, n_out),
                    rng.integers(-2, 3, n_out), v_width, leak or ShiftLeak(2), reset)
              for number, (n_in, n_out) in enumerate(pairwise(sizes))]
    if last is not None:
        layers[-1] = dataclasses.replace(layers[-1], reset="none", fire=last)
    return Network(InputFormat(sizes[0], width), tuple(layers), 5, readout)


def on_grids(net, *grids, leak, reset="zero"):
    """A network whose layers store their potentials as levels, and where one neuron's threshold is beyond reach."""
    return dataclasses.replace(net, layers=tuple(
        dataclasses.replace(layer, grid=grid, v_width=grid.width, leak=leak, reset=reset,
                            threshold=np.where(np.arange(layer.n_out) == 1, 1000, 4) * layer.threshold)
        for layer, grid in zip(net.layers, grids, strict=True)))


def thin(net, lanes, share):
    """A network of thinned layers."""
    return dataclasses.replace(net, layers=tuple(
        thinned(layer, each, share, seed) for seed, (layer, each) in enumerate(zip(net.layers, lanes, strict=True))))


EXAMPLES = {
    "ternary": (network((20, 24, 10), WeightFormat("ternary", 2)), [(8, 4), (5, 1)]),
    "graded input, int weights, table leak": (
        network((12, 16, 6), WeightFormat("int", 4), width=3, v_width=8, seed=1,
                leak=TableLeak(tuple(v * 3 // 4 for v in range(-128, 128)))), [(16, 8), (6, 1)]),
    "membrane read-out, power-of-two weights": (
        network((9, 7, 5), WeightFormat("pot", 4), v_width=16, reset="zero", readout="membrane", last=Silent(), seed=2),
        [(4, 2), (3, 1)]),
    "sparse, graded input": (
        thin(network((9, 16, 6), WeightFormat("int", 3), width=3, seed=3), (4, 2), 0.5),
        [(4, 2, "block", None, True), (2, 1, "block", None, True)]),
    "ternary membranes, levels with bounds": (
        on_grids(network((20, 12, 5), WeightFormat("int", 4), seed=4), Grid(-1, 1),
                 Grid(-3, 3, 4, bounds=(-20, -9, -2, 3, 9, 20)), leak=ShiftLeak(1)), [(4, 2), (5, 1)]),
}


def frames(net, samples=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2**net.input.width, (samples, net.time_steps, net.input.size))
    x[0], x[1] = 0, net.input.bounds[1]
    return x


@pytest.mark.parametrize("grid", [
    Grid(-1, 1), Grid(-2, 0), Grid(-1, 1, shift=1), Grid(-1, 1, 5),
    Grid(-3, 1), Grid(-16, 7, shift=3), Grid(-4, 3, shift=2),
    Grid(-8, 8, 1), Grid(-3, 4, 4), Grid(-3, 4, 5), Grid(0, 3, 3), Grid(-2, 0, 7),
    Grid(-7, 7, 3, bounds=(-39, -33, -20, -12, -9, -5, -1, 2, 3, 8, 14, 20, 26, 31)),
    Grid(-2, 2, 6, bounds=(-9, 3, 9, 12))], ids=str)
def test_levels_of_membranes(grid):
    """One group of one update, whose neurons come back as soon as they can; and several. The last grid has no level
    zero at zero."""
    rng = np.random.default_rng(5)
    levels = rng.integers(grid.low, grid.high + 1, grid.high - grid.low + 1) * (grid.step or 1)
    table = [(TableLeak(tuple(levels.tolist())), "zero")] if grid.step else []
    for leak, reset in ((NoLeak(), "none"), (ShiftLeak(1), "zero"), (ShiftLeak(2), "subtract"), *table):
        net = on_grids(network((10, 12, 2), WeightFormat("int", 4), seed=6), grid, grid, leak=leak, reset=reset)
        x = frames(net, 4)
        expected = reference.run(net, x)
        assert len(np.unique(expected.membranes[0])) > 2
        seen, _ = pysim.run(Program(net, "hx8k", [Placement(4, 2), Placement(1, 1)]), x)
        assert trace.first_difference(net, expected, seen) is None


@pytest.mark.parametrize("name", EXAMPLES)
def test_verilator_equals_reference(name, tmp_path):
    net, placements = EXAMPLES[name]
    program = Program(net, "hx8k", [Placement(*placement) for placement in placements])
    x = frames(net, 30)
    expected = reference.run(net, x)
    for stall in (0.0, 0.4):
        run = cosim.run(program, x, stall=stall, seed=3, folder=tmp_path)
        assert trace.first_difference(net, expected, run.trace) is None
    run = cosim.run(program, x, detail=False, folder=tmp_path)
    assert run.trace is None
    for counts, spikes in zip(run.spike_counts, expected.spikes, strict=True):
        assert np.array_equal(counts, spikes.sum(axis=2))
    assert np.array_equal(run.scores, expected.scores) and np.array_equal(run.winners, expected.winners)
    _, cycles = pysim.run(program, x)
    assert abs(int(run.finished[-1]) - cycles) <= 4  # each starts its clock a little apart from the first word


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus is not installed")
def test_icarus_equals_reference(tmp_path):
    net, placements = EXAMPLES["ternary"]
    program = Program(net, "hx8k", [Placement(*placement) for placement in placements])
    assert backend.verify(program, frames(net), "icarus", folder=tmp_path).difference is None


# Corners ------------------------------------------------------------------------------------------


def one_layer(weights, threshold, *, v_width=4, reset="subtract", bias=0, leak=None, steps=6):
    weights = np.array(weights)
    n_out = len(weights)
    layer = Dense("only", weights, WeightFormat("int", 8), np.full(n_out, threshold), np.full(n_out, bias), v_width,
                  leak or ShiftLeak(1), reset)
    return Network(InputFormat(weights.shape[1]), (layer,), steps)


CORNERS = {
    "no spikes": (one_layer([[1, 1]] * 3, 100), 0),
    "all spikes": (one_layer([[9, 9]] * 3, 1), 1),
    "saturates high": (one_layer([[100, 100]] * 3, 127, reset="none"), 1),
    "saturates low": (one_layer([[-100, -100]] * 3, 1), 1),
    "exactly at threshold": (one_layer([[3, 4]] * 3, 7, reset="zero"), 1),
    "one below threshold": (one_layer([[3, 4]] * 3, 8, reset="zero", leak=ShiftLeak(15)), 1),
    "threshold below zero": (one_layer([[-3, -4]] * 3, -5), 0),
    "threshold below zero, deep potential": (one_layer([[-100, 90]] * 3, -30, v_width=8), 1),
    "bias alone fires": (one_layer([[0, 0]] * 3, 3, bias=2), 0),
    "one neuron": (one_layer([[5]], 9), 1),
}


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_corners(name, lanes):
    net, level = CORNERS[name]
    x = np.full((3, net.time_steps, net.input.size), level)
    seen, _ = pysim.run(Program(net, "hx8k", [Placement(lanes, 1)]), x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None


def test_reset_between_samples():
    net = one_layer([[3]], 100, reset="none", leak=ShiftLeak(15))
    x = np.ones((4, 6, 1), int)
    x[1::2] = 0
    seen, _ = pysim.run(Program(net, "hx8k", [Placement(1, 1)]), x)
    assert not seen.membranes[0][1].any()  # nothing of the sample before


# Differences, predictions, mistakes ------------------------------------------------------------------


def test_first_difference_is_named():
    net, _ = EXAMPLES["ternary"]
    x = frames(net)
    expected = reference.run(net, x)
    assert trace.first_difference(net, expected, expected) is None
    membranes = [m.copy() for m in expected.membranes]
    membranes[1][4, 2, 3] += 1
    membranes[0][4, 3, 0] += 1
    seen = dataclasses.replace(expected, membranes=membranes)
    value = expected.membranes[1][4, 2, 3]
    assert str(trace.first_difference(net, expected, seen)) == (
        f"sample 4, time step 2, layer layer_1, neuron 3: membrane potential {value + 1}, expected {value}")
    scores = expected.scores.copy()
    scores[2, 1] -= 1
    seen = dataclasses.replace(expected, scores=scores)
    assert str(trace.first_difference(net, expected, seen)) == (
        f"sample 2, neuron 1: score {scores[2, 1]}, expected {scores[2, 1] + 1}")


def test_a_wrong_weight_memory_is_found(tmp_path):
    """One flipped weight in the gateware alone must not pass."""
    net, placements = EXAMPLES["ternary"]
    weights = net.layers[0].weights.copy()
    weights[5, 7] = 1 if weights[5, 7] < 1 else -1
    changed = dataclasses.replace(net, layers=(dataclasses.replace(net.layers[0], weights=weights), net.layers[1]))
    program = Program(changed, "hx8k", [Placement(*placement) for placement in placements])
    x = frames(net, 20)
    seen, _ = pysim.run(program, x)
    difference = trace.first_difference(net, reference.run(net, x), seen)
    assert difference is not None and difference.layer == "layer_0" and difference.neuron == 5


@pytest.mark.parametrize("name", ["neurons", "maxima", "sums", "values", "summed values"])
def test_sparse_layers_behind_maps(name):
    """Whose events are numbered by their places on the map, of which a pool may leave some out."""
    rng, ternary, shape = np.random.default_rng(2), WeightFormat("ternary", 2), (5, 3, 6)
    pool = {"maxima": Pool("max", 2, 2), "sums": Pool("sum", 2, 1), "summed values": Pool("sum", 2, 2)}.get(name)
    size = int(np.prod(pool.shape(shape) if pool else shape))
    entry = InputFormat(90, 3 if "values" in name else 1, shape)
    conv = Conv2d(name="conv", weights=rng.integers(-1, 2, (6, 6, 3, 3)), weight_format=ternary,
                  threshold=np.full(6, 2), bias=np.zeros(6, int), v_width=5, input_shape=shape, padding=1)
    last = Dense("last", rng.integers(-1, 2, (10, size)), ternary, np.full(10, 3), np.zeros(10, int), 5,
                 input_shape=shape, pool=pool)
    last = thinned(last, 3, 0.6)
    behind = [] if "values" in name else [conv]
    net = Network(entry, (*behind, last), 4)
    program = Program(net, "hx8k", [*(Placement(18, 1) for _ in behind), Placement(3, 1, sparse=True)])
    x = frames(net, 2)  # nothing, and all there can be
    seen, _ = pysim.run(program, x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None


@pytest.mark.parametrize("sizes, lanes, units, density, share", [
    ((512, 96, 10), 16, 8, 0.1, 0.1), ((100, 64, 40, 10), 8, 2, 0.3, 0.4), ((64, 40, 10), 4, 1, 0.3, 0.9)])
def test_predicted_cycles_of_sparse_layers_are_within_five_percent(sizes, lanes, units, density, share):
    net = thin(network(sizes, WeightFormat("ternary", 2), seed=4), [lanes] * (len(sizes) - 2) + [10], share)
    placements = [*(Placement(lanes, units, sparse=True) for _ in sizes[2:]), Placement(10, 1)]
    program = Program(net, "ulx3s-25f", placements)
    x = (np.random.default_rng(0).random((3, 5, sizes[0])) < density).astype(int)
    expected = reference.run(net, x)
    steps = cost.measure(net, x, expected.spikes)
    seen, cycles = pysim.run(program, x)
    assert trace.first_difference(net, expected, seen) is None
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)
    # The mean knows how often each input spikes, and so how visits vary, but not which inputs do so together.
    assert cost.predict(program, [cost.mean(steps)] * len(steps)) == pytest.approx(cycles, rel=0.15)


@pytest.mark.parametrize("sizes, density", [((64, 40, 10), 0.3), ((64, 64, 64, 32, 16), 0.1), ((32, 64, 12), 0.5)])
def test_predicted_cycles_are_within_five_percent(sizes, density):
    net = network(sizes, WeightFormat("ternary", 2), seed=4)
    x = (np.random.default_rng(0).random((6, 5, sizes[0])) < density).astype(int)
    steps = cost.measure(net, x, reference.run(net, x).spikes)
    program = compile.compile(net, "ulx3s-25f", activity=[each.events for each in cost.mean(steps)])
    _, cycles = pysim.run(program, x)
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)


@pytest.mark.parametrize(("density", "target"), [(0.01, "ulx3s-25f"), (0.05, "icebreaker"), (0.3, "ulx3s-25f")])
def test_predicted_cycles_of_convolutions_are_within_five_percent(density, target):
    rng, ternary = np.random.default_rng(1), WeightFormat("ternary", 2)

    def neurons(name, channels):
        return {"name": name, "threshold": np.full(channels, 4), "bias": np.zeros(channels, int), "v_width": 5,
                "weight_format": ternary}

    first = Conv2d(**neurons("first", 8), input_shape=(16, 18, 2), weights=rng.integers(-1, 2, (8, 2, 3, 3)), padding=1)
    second = Conv2d(**neurons("second", 12), input_shape=first.shape, weights=rng.integers(-1, 2, (12, 8, 3, 3)),
                    pool=Pool("max", 2, 2), padding=1, stride=2)
    last = Dense(**neurons("last", 10), weights=rng.integers(-1, 2, (10, second.n_out)))
    net = Network(InputFormat(first.n_in, 1, first.input_shape), (first, second, last), 6)
    x = (rng.random((4, 6, first.n_in)) < density).astype(int)
    steps = cost.measure(net, x, reference.run(net, x).spikes)
    noted = dataclasses.replace(net, notes={"events": [each.events for each in cost.mean(steps)],
                                            **cost.notes(cost.mean(steps))})
    program = compile.compile(noted, target, sparse="never")
    seen, cycles = pysim.run(program, x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)
    # A mean knows how often rows are skipped, not that they are so together.
    often = 0.1 if density > 0.1 else 0.25
    assert cost.predict(program, [cost.known(noted)] * len(steps)) == pytest.approx(cycles, rel=often)


def small_maps(convolutions, channels=6, threshold=4):
    """Convolutions one after the other and a dense layer, and inputs of which most rows are empty."""
    rng, ternary, layers, at = np.random.default_rng(0), WeightFormat("ternary", 2), [], (12, 12, 4)

    def neurons(name, count):
        return {"name": name, "threshold": np.full(count, threshold), "bias": np.zeros(count, int), "v_width": 5,
                "weight_format": ternary}

    for number in range(convolutions):
        layers.append(Conv2d(**neurons(f"conv_{number}", channels), input_shape=at, padding=1,
                             weights=rng.integers(-1, 2, (channels, at[2], 3, 3))))
        at = layers[-1].shape
    last = Dense(**neurons("last", 3), weights=rng.integers(-1, 2, (3, layers[-1].n_out)))
    net = Network(InputFormat(576, 1, (12, 12, 4)), (*layers, last), 6)
    x = rng.random((3, 6, 12, 48)) < 0.2
    x[:, :, :5] = False
    x[:, 3:] = False
    return net, x.reshape(3, 6, -1).astype(int)


def test_layers_share_a_core_where_the_target_has_no_room_for_each(tmp_path):
    net, x = small_maps(3)
    steps = cost.measure(net, x, reference.run(net, x).spikes)
    noted = dataclasses.replace(net, notes={"events": [each.events for each in cost.mean(steps)],
                                            **cost.notes(cost.mean(steps))})
    assert len(compile.compile(noted, "ulx3s-25f").engines) == 4
    program = compile.compile(noted, "icebreaker")
    assert len(program.engines) < 4
    assert " share a core, whose logic and memories stand with " in compile.table(program)
    seen, cycles = pysim.run(program, x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)
    assert backend.verify(program, x, cosim.preferred(), folder=tmp_path).difference is None


def test_rows_at_rest_take_next_to_no_time():
    net, x = small_maps(1)
    program = Program(net, "hx8k", [Placement(18, 1), Placement(3, 1)])
    steps = cost.measure(net, x, reference.run(net, x).spikes)
    seen, cycles = pysim.run(program, x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)
    _, silent = pysim.run(program, np.zeros_like(x))
    biased = dataclasses.replace(net.layers[0], bias=np.full(6, -1))  # so nothing is at rest
    _, busy = pysim.run(dataclasses.replace(program, network=dataclasses.replace(
        net, layers=(biased, net.layers[1]))), np.zeros_like(x))
    assert silent < busy / 5


def test_mistakes_are_told_in_one_line():
    net, _ = EXAMPLES["ternary"]
    from spikeloom.errors import SpikeloomError
    with pytest.raises(SpikeloomError, match="^Backend must be one of reference, torch, amaranth, verilator, icarus, "
                                             "netlist, not 'fpga'$"):
        backend.verify(net, frames(net), "fpga")
    with pytest.raises(SpikeloomError, match="^Backend amaranth simulates gateware and needs a program"):
        backend.verify(net, frames(net), "amaranth")
