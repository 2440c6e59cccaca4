"""Networks with maps: the gateware equals the reference, every spike and membrane potential, however the array is held
up."""

import dataclasses
import math
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs, map_networks
from spikeloom import reference
from spikeloom.compiler import cost, order
from spikeloom.compiler.map_core import MapCore
from spikeloom.compiler.program import Placement, Program
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    ChannelGate,
    Conv2d,
    Dense,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ShiftLeak,
    Shortcut,
    WeightFormat,
)
from spikeloom.sim import backend, cosim, pysim, trace
from test_gateware import EXAMPLES_FACTOR, LENIENT
from test_load import same_shape, simpler

TERNARY = WeightFormat("ternary", 2)
FORMS = [TERNARY, WeightFormat("binary", 1), WeightFormat("int", 4), WeightFormat("pot", 3)]


def differences(program, x, seen):
    return trace.first_difference(program.network, reference.run(program.network, x), seen)


# Random networks -----------------------------------------------------------------------------------


def has_gateware(network):
    """Whether there is gateware for the pools and sources of ``network``."""
    bounds = dict(zip(("input", *(layer.name for layer in network.layers)),
                      (network.input.bounds, *((layer.fire.low, layer.fire.high) for layer in network.layers)),
                      strict=True))
    for layer, sources in zip(network.layers, network.sources, strict=True):
        for branch, source in zip(layer.branches, sources, strict=True):
            if branch.pool and branch.pool.kind == "max" and bounds[source][1] > 1:
                return False
    return True


@st.composite
def placed(draw, layer, sparse=False):
    """Any `Placement` of a layer that is not the last, ``sparse`` where it can be."""
    units = draw(st.sampled_from([1, 2, 4, 8, 16]))
    channels = units * draw(st.integers(1, -(-layer.shape[2] // units)))
    if any(branch.weight_format.kind == "binary" and getattr(branch, "groups", 1) > 1 for branch in layer.branches):
        units = channels = 1  # a weight of another group would have to be zero
    return Placement(channels * (-(-layer.kernel // layer.stride) if isinstance(layer, Conv2d) else 1), units,
                     sparse=sparse and 0 in layer.weight_format.values)


def thinned(layer, rng):
    """``layer`` with zeros for the weights of some channels in and out, rows of the kernel, and single ones; now and
    then for all of them."""
    weights, shape = layer.weights, layer.weights.shape
    if 0 not in layer.weight_format.values:
        return layer
    for part in ((1, shape[1]), (shape[0], 1), shape[:2], shape[:3], shape):
        kept = rng.random(part) < rng.choice([0.1, 0.5, 0.8, 1.0, 1.0, 1.0])
        weights = weights * kept.reshape(*part, *[1] * (weights.ndim - len(part)))
    return dataclasses.replace(layer, weights=weights)


def calm(layer):
    """``layer`` without what would change its neurons at a time step without events."""
    return dataclasses.replace(layer, leak=NoLeak(), bias=np.zeros_like(layer.bias),
                               threshold=np.maximum(abs(layer.threshold), 1))


@st.composite
def programs(draw, reloadable=False, max_layers=4, change=lambda layer: layer, gated=False):
    """A small network of maps with any placement; where it can be loaded no other, channels are in any order, and half
    of them are sparse. If asked for, some have a channel gate."""
    network, sparse = simpler(draw(map_networks(max_layers, gated=gated))), not reloadable and draw(st.booleans())
    layers = [change(layer) for layer in network.layers]
    if gated:
        layers = [dataclasses.replace(layer, block_gate=None) if layer.block_gate else layer for layer in layers]
        hypothesis.assume(any(layer.gate for layer in layers))
    if sparse:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        layers = [thinned(layer, rng) for layer in layers]
    network = dataclasses.replace(network, layers=tuple(layers))
    hypothesis.assume(has_gateware(network))
    placements = [draw(placed(layer, sparse)) for layer in network.layers[:-1]]
    last = network.layers[-1]
    placements.append(Placement(draw(st.integers(1, last.n_out)), 1, sparse=sparse and 0 in last.weight_format.values))
    if not reloadable:
        for number in draw(st.sets(st.sampled_from(sorted(order.movable(network))))) if order.movable(network) else ():
            channels = tuple(draw(st.permutations(range(network.layers[number].shape[2]))))
            placements[number] = dataclasses.replace(placements[number], order=channels)
    return Program(network, draw(st.sampled_from(["icebreaker", "ulx3s-25f"])), placements, reloadable=reloadable)


STALLS = st.sampled_from([0.0, 0.3, 0.7])


@hypothesis.settings(LENIENT, max_examples=14 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_amaranth_equals_reference(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))[:2, :3]
    stall, seed = data.draw(STALLS), data.draw(st.integers(0, 1000))
    seen, _ = pysim.run(program, x, stall=stall, seed=seed)
    assert differences(program, x, seen) is None


@hypothesis.settings(LENIENT, max_examples=6 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_rows_at_rest_are_skipped(data):
    program = data.draw(programs(change=calm))
    program = dataclasses.replace(program, network=dataclasses.replace(program.network, time_steps=6))
    hypothesis.assume(any(core.skips for core in program.cores if isinstance(core, MapCore)))
    rng, network = np.random.default_rng(data.draw(st.integers(0, 1000))), program.network
    rows, columns, channels = network.input.shape
    x = np.broadcast_to(rng.integers(*network.input.bounds, (4, 6, 1, 1, 1), endpoint=True),
                        (4, 6, rows, columns, channels))
    x = x * (rng.random(x.shape) < 0.3) * (rng.random((4, 6, rows, 1, 1)) < 0.3)
    x = x.reshape(4, 6, -1)
    seen, _ = pysim.run(program, x, stall=data.draw(STALLS), seed=data.draw(st.integers(0, 1000)))
    assert differences(program, x, seen) is None


@hypothesis.settings(LENIENT, max_examples=10 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_gates(data):
    calms = data.draw(st.booleans())  # where rows at rest are skipped
    program = data.draw(programs(gated=True, **({"change": calm} if calms else {})))
    x = data.draw(inputs(program.network))[:2, :4]
    seen, _ = pysim.run(program, x, stall=data.draw(STALLS), seed=data.draw(st.integers(0, 1000)))
    assert differences(program, x, seen) is None


@hypothesis.settings(LENIENT, max_examples=1 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate])
@given(st.data())
def test_verilator_equals_reference_on_random_networks(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    with tempfile.TemporaryDirectory() as folder:
        run = cosim.run(program, x, stall=data.draw(STALLS), folder=folder)
    assert differences(program, x, run.trace) is None


@hypothesis.settings(LENIENT, max_examples=3 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_networks_of_a_shape_run_one_after_the_other(data):
    program = data.draw(programs(reloadable=True, max_layers=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    loads = [None, same_shape(program, rng), program]
    x = data.draw(inputs(program.network))[:2, :2]
    seen, _ = pysim.run_in_turn(program, [(load, x) for load in loads], stall=data.draw(STALLS))
    for load, each in zip(loads, seen, strict=True):
        assert differences(load or program, x, each) is None


@st.composite
def sharing_programs(draw):
    """Convolutions of different kernels, strides, pools and sizes on one or two cores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sets = draw(st.integers(1, 4))
    kernels = [(kernel, stride) for kernel in range(1, 8) for stride in (1, 2, 3) if -(-kernel // stride) == sets]
    shape = at = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    fields = {"leak": draw(st.sampled_from([NoLeak(), ShiftLeak(1)])), "reset": draw(st.sampled_from(["zero", "none"])),
              "form": draw(st.sampled_from(FORMS[:1] + FORMS[2:]))}
    layers = []
    for number in range(draw(st.integers(2, 4))):
        kernel, stride = draw(st.sampled_from(kernels))
        pool = draw(st.sampled_from([None, None, Pool("max", 2, 1), Pool("sum", 1, 2)]))
        pool = pool if pool and at[0] >= pool.rows and at[1] >= pool.columns and min(pool.shape(at)[:2]) >= 1 else None
        size = min(pool.shape(at)[:2] if pool else at[:2])
        padding = draw(st.integers(max(0, -((size - kernel) // 2)), max(0, kernel - 1)))
        hypothesis.assume(size + 2 * padding >= kernel)
        layers.append(conv(f"conv_{number}", at, draw(st.integers(1, 9)), kernel, rng, stride=stride, pool=pool,
                           padding=padding, threshold=draw(st.integers(1, 3)), **fields))
        at = layers[-1].shape
    net = Network(InputFormat(math.prod(shape), 1, shape), (*layers, dense(at, rng)), 5)
    units = draw(st.sampled_from([1, 2, 4]))
    group = units * draw(st.integers(1, 3))
    cores = [0, 0, *(draw(st.sampled_from([None, 0, 1])) for _ in layers[2:])]
    return Program(net, draw(st.sampled_from(["icebreaker", "ulx3s-25f"])), [
        *(Placement(group * sets, units, core=core) for core in draw(st.permutations(cores))), Placement(2, 1)])


@hypothesis.settings(LENIENT, max_examples=6 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_layers_that_share_a_core(data):
    program, rng = data.draw(sharing_programs()), np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = rng.random((3, 5, *program.network.input.shape)) < data.draw(st.sampled_from([0.02, 0.3, 1.0]))
    x = (x & (rng.random((3, 5, 1, 1, 1)) < 0.7)).astype(int).reshape(3, 5, -1)
    seen, _ = pysim.run(program, x, stall=data.draw(STALLS), seed=data.draw(st.integers(0, 1000)))
    assert differences(program, x, seen) is None


# Corners -------------------------------------------------------------------------------------------


def conv(name, shape, channels, kernel, rng, *, form=TERNARY, threshold=2, bias=0, v_width=5, **fields):
    weights = rng.choice(form.values, (channels, shape[2] // fields.get("groups", 1), kernel, kernel))
    return Conv2d(name=name, input_shape=shape, weights=weights, weight_format=form,
                  threshold=np.full(channels, threshold), bias=np.full(channels, bias), v_width=v_width,
                  **{"leak": ShiftLeak(2), "reset": "subtract"} | fields)


def dense(shape, rng, *, n_out=3, pool=None, v_width=6, **fields):
    n_in = math.prod(pool.shape(shape) if pool else shape)
    return Dense("last", rng.choice(TERNARY.values, (n_out, n_in)), TERNARY, np.full(n_out, 3), np.zeros(n_out, int),
                 v_width, input_shape=shape, pool=pool, **fields)


def stacked(shape, *convs, seed=0, width=1, time_steps=3, pool=None, **fields):
    """A network of convolutions, each given as (channels, kernel, fields of the layer), and a dense layer."""
    rng, layers, at = np.random.default_rng(seed), [], shape
    for number, (channels, kernel, options) in enumerate(convs):
        layers.append(conv(f"conv_{number}", at, channels, kernel, rng, **options))
        at = layers[-1].shape
    return Network(InputFormat(math.prod(shape), width, shape), (*layers, dense(at, rng, pool=pool)), time_steps,
                   **fields)


#: A network, and (channels at once, units) of its convolutions.
CORNERS = {
    "one position": (stacked((1, 1, 3), (4, 1, {})), [(2, 2)]),
    "one row": (stacked((1, 7, 2), (3, 3, {"padding": 1}), (2, 1, {})), [(4, 4), (1, 1)]),
    "one column": (stacked((7, 1, 2), (3, 3, {"padding": 1}), (2, 1, {"stride": 2})), [(2, 1), (2, 2)]),
    "kernel in padding": (stacked((2, 2, 1), (2, 7, {"padding": 6})), [(2, 2)]),
    "kernel as large as the map": (stacked((5, 5, 2), (3, 5, {})), [(1, 1)]),
    "stride over rows and columns": (stacked((7, 8, 2), (2, 1, {"stride": 3}), (3, 2, {"stride": 4, "padding": 1})),
                                     [(2, 2), (2, 1)]),
    "more than a word of channels": (stacked((4, 3, 20), (33, 3, {"padding": 1}), (18, 1, {})), [(16, 16), (18, 2)]),
    "depthwise": (stacked((5, 4, 6), (6, 3, {"groups": 6, "padding": 1}), (12, 3, {"groups": 6})), [(2, 2), (4, 4)]),
    "groups": (stacked((4, 4, 6), (4, 3, {"groups": 2}), (8, 1, {"groups": 4})), [(4, 2), (8, 4)]),
    "maximum of a cropped map": (stacked((7, 8, 3), (4, 2, {"pool": Pool("max", 2, 3)}),
                                         (2, 1, {"pool": Pool("max", 1, 1)})), [(4, 4), (2, 1)]),
    "sum of a cropped map": (stacked((7, 8, 2), (4, 2, {"pool": Pool("sum", 2, 3)})), [(4, 4)]),
    "sum before the last": (stacked((5, 7, 2), (4, 3, {"padding": 1}), pool=Pool("sum", 2, 3)), [(4, 1)]),
    "maximum before the last": (stacked((5, 7, 2), (20, 3, {"padding": 1}), pool=Pool("max", 2, 3)), [(20, 4)]),
    "maximum of few channels": (stacked((4, 4, 2), (3, 3, {"padding": 1}), pool=Pool("max", 2, 1)), [(16, 16)]),
    "maximum of the input": (stacked((5, 6, 20), pool=Pool("max", 2, 2)), []),
    "sum of the input": (stacked((5, 6, 3), pool=Pool("sum", 2, 2), width=2), []),
    "sum of all": (stacked((4, 3, 2), (5, 3, {"padding": 1}), pool=Pool("sum", 4, 3)), [(2, 1)]),
    "values of several bits": (stacked((4, 5, 3), (4, 3, {"padding": 1, "form": WeightFormat("int", 4)}), width=3),
                               [(2, 2)]),
    "a pass that ends no position of its own": (stacked((1, 4, 2), (2, 7, {
        "stride": 2, "padding": 4, "pool": Pool("sum", 1, 2), "leak": NoLeak()}), time_steps=6), [(2, 2)]),
    "no leak, bias below the threshold": (stacked((4, 4, 2), (3, 3, {"leak": NoLeak(), "bias": 1, "v_width": 3})),
                                          [(3, 1)]),
    "always firing": (stacked((3, 4, 1), (2, 3, {"padding": 2, "bias": 2, "threshold": 1}), (2, 3, {"padding": 1})),
                      [(2, 2), (1, 1)]),
}


def program_of(net, channels, target="ulx3s-25f", last=2, **options):
    """``net`` with so many (channels at once, units) for each layer but the last."""
    placements = [Placement(count * (-(-layer.kernel // layer.stride) if isinstance(layer, Conv2d) else 1), units)
                  for layer, (count, units) in zip(net.layers, channels, strict=False)]
    return Program(net, target, [*placements, Placement(last, 1)], **options)


def frames(net, samples=4, seed=0):
    """Inputs: silence, the highest values, and what is between."""
    rng, high = np.random.default_rng(seed), net.input.bounds[1]
    x = rng.integers(0, high + 1, (samples, net.time_steps, net.input.size))
    x[2:] *= rng.random(x[2:].shape) < 0.2
    x[0], x[1] = 0, high
    return x


@pytest.mark.parametrize("name", CORNERS)
def test_corners(name):
    net, channels = CORNERS[name]
    program, x = program_of(net, channels), frames(net, 3)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


@pytest.mark.parametrize("readout", ["count", "membrane"])
@pytest.mark.parametrize("votes, lanes", [(2, 4), (3, 5), (6, 1)])
def test_votes(readout, votes, lanes):
    """Also where the last group is not full."""
    rng = np.random.default_rng(votes)
    layer = Dense("last", rng.integers(-1, 2, (12, 8)), TERNARY, np.full(12, 1), np.zeros(12, int), 4,
                  reset="none" if readout == "membrane" else "subtract")
    net = Network(InputFormat(8), (layer,), 5, readout, votes=votes)
    program, x = Program(net, "hx8k", [Placement(lanes, 1)]), frames(net, 6)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


def sparse(program, rng):
    """``program`` with few weights, and sparse wherever it can be."""
    net = dataclasses.replace(program.network, layers=tuple(thinned(layer, rng) for layer in program.network.layers))
    return dataclasses.replace(program, network=net, placements=[
        dataclasses.replace(placement, sparse=isinstance(layer, Conv2d) and 0 in layer.weight_format.values)
        for placement, layer in zip(program.placements, net.layers, strict=True)])


@pytest.mark.parametrize("name", [
    "one row", "kernel in padding", "stride over rows and columns", "more than a word of channels", "depthwise",
    "groups", "maximum of a cropped map", "sum of a cropped map", "values of several bits",
    "a pass that ends no position of its own", "no leak, bias below the threshold"])
def test_corners_of_sparse_layers(name):
    net, channels = CORNERS[name]
    program, x = sparse(program_of(net, channels), np.random.default_rng(1)), frames(net, 3)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


@pytest.mark.parametrize("shape", [(3, 2, 5), None])
def test_a_sparse_dense_layer_behind_a_map(shape):
    """Whether or not it says what map it is."""
    net = stacked((3, 2, 2), (5, 1, {}))
    last = net.layers[1]
    kept = np.random.default_rng(2).random(last.weights.shape) < 0.3
    last = dataclasses.replace(last, weights=last.weights * kept, input_shape=shape)
    net = dataclasses.replace(net, layers=(net.layers[0], last))
    program = program_of(net, [(4, 2)])
    program = dataclasses.replace(program, placements=[
        program.placements[0], dataclasses.replace(program.placements[1], sparse=True)])
    x = frames(net, 3)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


def test_weights_that_are_never_zero_cannot_be_sparse():
    net = stacked((3, 3, 2), (2, 3, {"form": WeightFormat("binary", 1)}))
    with pytest.raises(SpikeloomError) as refused:
        Program(net, "hx8k", [Placement(3, 1, sparse=True), Placement(3, 1)])
    assert str(refused.value) == "Layer conv_0: weights of kind binary are never zero, so it cannot be sparse"


def test_a_sparse_layer_without_any_weight():
    """Also where masks are deep enough for block RAM."""
    net = stacked((2, 2, 2), (17, 3, {"padding": 1, "bias": 3}))
    empty = dataclasses.replace(net.layers[0], weights=np.zeros_like(net.layers[0].weights))
    for form in (net, dataclasses.replace(net, layers=(empty, net.layers[1]))):
        program = program_of(form, [(1, 1)])
        program = dataclasses.replace(program, placements=[
            dataclasses.replace(program.placements[0], sparse=True), program.placements[1]])
        core, x = program.cores[0], frames(form, 3)
        assert core.memories["mask_0"][0] > 64 and core.memories["weights"][0] == max(1, int(core.filled.sum()))
        seen, _ = pysim.run(program, x, stall=0.3)
        assert differences(program, x, seen) is None


def test_samples_of_any_length():
    net, channels = CORNERS["maximum of a cropped map"]
    program = program_of(net, channels)
    for steps in (1, 2):
        x = frames(net)[:, :steps]
        seen, _ = pysim.run(program, x)
        assert differences(program, x, seen) is None


def test_verilator_equals_reference(tmp_path):
    net = stacked((6, 7, 3), (20, 3, {"padding": 1}), (6, 3, {"groups": 2, "stride": 2, "pool": Pool("max", 2, 1)}),
                  pool=Pool("sum", 1, 2))
    program, x = program_of(net, [(16, 8), (3, 1)], "hx8k", 3), frames(net, 20)
    expected = reference.run(net, x)
    for stall in (0.0, 0.4):
        run = cosim.run(program, x, stall=stall, seed=3, folder=tmp_path)
        assert trace.first_difference(net, expected, run.trace) is None
    _, cycles = pysim.run(program, x[:2])
    run = cosim.run(program, x[:2], folder=tmp_path)
    assert abs(int(run.finished[-1]) - cycles) <= 4


def test_verilator_equals_reference_for_sparse_layers(tmp_path):
    net = stacked((6, 7, 9), (20, 3, {"padding": 1, "leak": NoLeak()}), (6, 3, {"groups": 2, "stride": 2}),
                  pool=Pool("sum", 1, 2))
    program, x = sparse(program_of(net, [(4, 4), (3, 1)], last=3), np.random.default_rng(11)), frames(net, 10)
    assert all(0 < core.filled.mean() < 0.7 for core in program.cores[:2])
    assert backend.verify(program, x, "verilator", folder=tmp_path, stall=0.2).difference is None


def test_a_wrong_weight_memory_is_found():
    """One changed weight in the gateware alone must not pass."""
    net, channels = CORNERS["groups"]
    weights = net.layers[0].weights.copy()
    weights[3, 1, 2, 0] = 1 if weights[3, 1, 2, 0] < 1 else -1
    changed = dataclasses.replace(net, layers=(dataclasses.replace(net.layers[0], weights=weights), *net.layers[1:]))
    x = frames(net)
    seen, _ = pysim.run(program_of(changed, channels), x)
    difference = trace.first_difference(net, reference.run(net, x), seen)
    assert difference is not None and difference.layer == "conv_0" and difference.neuron % 4 == 3


# Shortcuts -----------------------------------------------------------------------------------------


@st.composite
def residual_networks(draw):
    """Blocks of one to three convolutions, one after the other: the last of a block has a shortcut from where the block
    begins, or from further back."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    entry = InputFormat(math.prod(shape), draw(st.sampled_from([1, 1, 2])), shape)
    shapes, layers = {"input": shape}, []
    for block in range(draw(st.integers(1, 3))):
        source = draw(st.sampled_from(sorted(shapes))) if block else "input"
        depth = draw(st.integers(1, 3))
        for number in range(depth):
            at, rows = list(shapes.values())[-1], min(list(shapes.values())[-1][:2])
            kernel = draw(st.sampled_from([k for k in (1, 2, 3, 5) if k <= rows + 2 * (k - 1)]))
            padding = draw(st.integers(max(0, -((rows - kernel) // 2)), kernel - 1)) if kernel > 1 else 0
            pool = draw(st.sampled_from([None, None, None, Pool("max", 2, 1), Pool("sum", 2, 1)]))
            pool = pool if pool and at[0] >= 2 * kernel and (pool.kind == "sum" or entry.width == 1) else None
            name = f"layer_{len(layers)}"
            layer = conv(name, at, draw(st.integers(1, 4)), kernel, rng, padding=padding, pool=pool,
                         stride=draw(st.sampled_from([1, 1, 1, 2])), form=draw(st.sampled_from(FORMS)))
            if number == depth - 1:
                shortcut = draw(ways(source, shapes[source], layer.shape, rng))
                layer = dataclasses.replace(layer, shortcut=shortcut)
            shapes[name] = layer.shape
            layers.append(layer)
    layers.append(dense(layers[-1].shape, rng))
    return Network(entry, tuple(layers), 3)


@st.composite
def ways(draw, source, shape, wanted, rng):
    """A `Shortcut` between maps of any two shapes, or None where there is none."""
    found = [(stride, pool) for stride in range(1, 8)
             for pool in (None, Pool("sum", 1, 2), Pool("sum", 2, 1), Pool("sum", 3, 1))
             if all(-(-side // stride) == want for side, want in zip(
                 pool.shape(shape) if pool else shape, wanted[:2], strict=False))]
    if not found:
        return None
    stride, pool = draw(st.sampled_from(found))
    groups = draw(st.sampled_from([1, math.gcd(shape[2], wanted[2])]))
    form = draw(st.sampled_from(FORMS if groups == 1 else FORMS[:1]))
    return Shortcut(source, shape, rng.choice(form.values, (wanted[2], shape[2] // groups, 1, 1)), form, stride=stride,
                    groups=groups, pool=pool)


@hypothesis.settings(LENIENT, max_examples=6 * EXAMPLES_FACTOR, suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_shortcuts(data):
    network = data.draw(residual_networks())
    hypothesis.assume(any(layer.shortcut for layer in network.layers))
    few, rng = data.draw(st.booleans()), np.random.default_rng(data.draw(st.integers(0, 1000)))
    if few:
        network = dataclasses.replace(network, layers=tuple(thinned(layer, rng) for layer in network.layers))
    placements = [data.draw(placed(layer, few)) for layer in network.layers[:-1]]
    program = Program(network, data.draw(st.sampled_from(["icebreaker", "ulx3s-25f"])), [*placements, Placement(3, 1)])
    x = data.draw(inputs(network))[:2, :3]
    seen, _ = pysim.run(program, x, stall=data.draw(STALLS), seed=data.draw(st.integers(0, 1000)))
    assert differences(program, x, seen) is None


def residual(blocks=1, depth=2, *, side=6, strides=(1, 1, 1), channels=4, seed=0):
    """Blocks as in a ResNet: an identity where the map stays as it is, else a convolution."""
    rng, shape = np.random.default_rng(seed), (side, side, channels)
    layers = [conv("stem", shape, channels, 3, rng, padding=1)]
    for block in range(blocks):
        source, stride = layers[-1], strides[block]
        for number in range(depth):
            layers.append(conv(f"block_{block}_{number}", layers[-1].shape, channels, 3, rng, padding=1,
                               stride=1 if number else stride))
        weights = np.ones((channels, 1, 1, 1), int) if stride == 1 else rng.integers(-1, 2, (channels, channels, 1, 1))
        shortcut = Shortcut(source.name, source.shape, weights, TERNARY, stride, channels if stride == 1 else 1)
        layers[-1] = dataclasses.replace(layers[-1], shortcut=shortcut)
    last = layers[-1].shape
    return Network(InputFormat(math.prod(shape), 1, shape), (*layers, dense(last, rng, pool=Pool("sum", *last[:2]))), 3)


def run_residual(net, samples=1):
    program = program_of(net, [(4, 2)] * (len(net.layers) - 1))
    x = (np.random.default_rng(0).random((samples, 3, net.input.size)) < 0.2).astype(int)
    seen, cycles = pysim.run(program, x)
    assert differences(program, x, seen) is None
    return cycles


def test_blocks_one_after_the_other():
    run_residual(residual(3, strides=(1, 2, 1)), samples=2)


def test_the_shortcut_may_be_the_longer_way():
    rng, shape = np.random.default_rng(0), (5, 4, 2)
    first, second = (conv(name, shape, 2, 3, rng, padding=1, threshold=1) for name in ("first", "second"))
    shortcut = Shortcut("second", shape, rng.integers(-1, 2, (3, 2, 1, 1)), TERNARY)
    both = conv("both", shape, 3, 3, rng, padding=1, source="input", shortcut=shortcut)
    net = Network(InputFormat(40, 1, shape), (first, second, both, dense(both.shape, rng)), 3)
    program, x = program_of(net, [(2, 1), (2, 1), (3, 1)]), frames(net, 3)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


@pytest.mark.parametrize("depth", [2, 3])
def test_shortcuts_do_not_hold_up_the_rest(depth):
    net = residual(depth=depth)
    plain = dataclasses.replace(net, layers=tuple(
        dataclasses.replace(layer, shortcut=None) if isinstance(layer, Conv2d) else layer for layer in net.layers))
    assert run_residual(net) < 1.15 * run_residual(plain)


def test_predicted_cycles_count_the_events_of_shortcuts():
    net = residual(2, strides=(1, 2), side=10)
    program = program_of(net, [(4, 2)] * (len(net.layers) - 1))
    x = (np.random.default_rng(0).random((3, 3, net.input.size)) < 0.4).astype(int)
    _, cycles = pysim.run(program, x)
    assert cost.predict(program, cost.measure(net, x, reference.run(net, x).spikes)) == pytest.approx(cycles, rel=0.05)


@pytest.mark.parametrize("net, near", [
    (stacked((8, 8, 12), (8, 3, {"padding": 1, "threshold": 1}), (8, 3, {"stride": 2})), 0.05),
    (residual(side=10), 0.1)],
    ids=["plain", "residual"])
def test_predicted_cycles_of_sparse_layers(net, near):
    """Of events that are measured for the very cores, and from those of each channel alone."""
    rng = np.random.default_rng(0)
    net = dataclasses.replace(net, layers=tuple(dataclasses.replace(
        layer, weights=layer.weights * (rng.random((len(layer.weights) // 4, layer.weights.shape[1], 3, 1)) < 0.3)
        .repeat(4, axis=0)) if isinstance(layer, Conv2d) else layer for layer in net.layers))
    dense = program_of(net, [(4, 4)] * (len(net.layers) - 1))
    program = dataclasses.replace(dense, placements=[
        *(dataclasses.replace(placement, sparse=True) for placement in dense.placements[:-1]), dense.placements[-1]])
    x = (rng.random((2, 3, net.input.size)) < 0.3).astype(int)
    (seen, cycles), spikes = pysim.run(program, x), reference.run(net, x).spikes
    assert differences(program, x, seen) is None
    assert cycles < 0.8 * cost.predict(dense, cost.measure(net, x, spikes))
    assert cost.predict(program, cost.measure(net, x, spikes, program)) == pytest.approx(cycles, rel=near)
    assert cost.predict(program, cost.measure(net, x, spikes)) == pytest.approx(cycles, rel=near)


def test_verilator_loads_shortcuts(tmp_path):
    net, rng = residual(2, strides=(1, 2), side=5), np.random.default_rng(1)
    program = program_of(net, [(4, 2)] * (len(net.layers) - 1), reloadable=True)
    x = (rng.random((10, 3, net.input.size)) < 0.3).astype(int)
    for load in (None, same_shape(program, rng)):
        assert backend.verify(program, x, "verilator", load=load, folder=tmp_path, stall=0.2).difference is None


# Gates ---------------------------------------------------------------------------------------------


def gated(net, names=None, seed=0, alike=1, bias=0):
    """``net`` with gates for its convolutions, or those of these ``names``: about half of the channels are open, always
    so many neighbours ``alike``."""
    rng, form, layers = np.random.default_rng(seed), WeightFormat("int", 4), []
    high = dict(zip((layer.name for layer in net.layers), (bounds[1] for bounds in net.input_bounds), strict=True))
    for layer in net.layers:
        if isinstance(layer, Conv2d) and (names is None or layer.name in names):
            rows, columns, channels_in = layer.input_shape
            weights = rng.integers(-7, 8, (-(-layer.shape[2] // alike), channels_in)).repeat(alike, axis=0)
            shift = max(0, (rows * columns * high[layer.name]).bit_length() - 5)
            layer = dataclasses.replace(layer, gate=ChannelGate(
                weights[:layer.shape[2]], form, np.full(layer.shape[2], bias), tuple(range(32)), shift))
        layers.append(layer)
    return dataclasses.replace(net, layers=tuple(layers))


#: As `CORNERS`.
GATED_CORNERS = {name: CORNERS[name] for name in (
    "one position", "depthwise", "maximum of a cropped map", "sum of a cropped map", "values of several bits",
    "a pass that ends no position of its own")} | {
    "levels from 0 on": (stacked((3, 4, 4), (4, 3, {
        "padding": 1, "grid": Grid(0, 3, 4), "v_width": 2, "leak": NoLeak(), "bias": -7, "threshold": 30})), [(2, 2)])}


@pytest.mark.parametrize("name", GATED_CORNERS)
def test_corners_of_gated_layers(name):
    net, channels = GATED_CORNERS[name]
    net = gated(dataclasses.replace(net, time_steps=5))
    program, x = program_of(net, channels), frames(net, 4)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


@pytest.mark.parametrize("names", [("block_0_1",), ("block_0_0",), ("stem", "block_0_0", "block_0_1")])
def test_gates_beside_shortcuts(names):
    """Rows that a gate keeps waiting make those of the other branch wait too."""
    net = gated(residual(side=5), names)
    program, x = program_of(net, [(2, 1)] * (len(net.layers) - 1)), frames(net, 3)
    seen, _ = pysim.run(program, x, stall=0.3)
    assert differences(program, x, seen) is None


def test_passes_of_closed_channels_take_no_events():
    """And the cycles are as predicted, of time steps and of their mean."""
    net, cycles = stacked((5, 6, 6), (12, 3, {"padding": 1, "threshold": 2})), {}
    x = (np.random.default_rng(0).random((1, 3, net.input.size)) < 0.5).astype(int)
    for bias in (-10_000, 0, 10_000):
        some = gated(net, alike=4, bias=bias)
        program = program_of(some, [(4, 4)])
        seen, cycles[bias] = pysim.run(program, x)
        assert differences(program, x, seen) is None
        steps = cost.measure(some, x, reference.run(some, x).spikes)
        assert cost.predict(program, steps) == pytest.approx(cycles[bias], rel=0.05)
        assert cost.predict(program, [cost.mean(steps)] * len(steps)) == pytest.approx(cycles[bias], rel=0.1)
    assert cycles[-10_000] < 0.6 * cycles[10_000] and cycles[0] < 0.9 * cycles[10_000]


def test_verilator_equals_reference_for_gated_layers(tmp_path):
    net = gated(stacked((6, 7, 9), (20, 3, {"padding": 1, "leak": NoLeak()}), (6, 3, {"stride": 2}), time_steps=4))
    program, x = sparse(program_of(net, [(4, 4), (4, 2)], last=3), np.random.default_rng(11)), frames(net, 10)
    assert backend.verify(program, x, "verilator", folder=tmp_path, stall=0.2).difference is None


def test_a_wrong_gate_is_found():
    """One bias of the gate that is another in the gateware alone must not pass."""
    net = gated(stacked((5, 6, 4), (6, 3, {"padding": 1, "threshold": 1})))
    gate, x = net.layers[0].gate, frames(net)
    bias = gate.bias.copy()
    bias[4] += 10_000 if reference.open_channels(net.layers[0], x)[..., 4].mean() < 0.5 else -10_000
    changed = dataclasses.replace(net.layers[0], gate=dataclasses.replace(gate, bias=bias))
    seen, _ = pysim.run(program_of(dataclasses.replace(net, layers=(changed, *net.layers[1:])), [(2, 2)]), x)
    difference = trace.first_difference(net, reference.run(net, x), seen)
    assert difference is not None and difference.layer == "conv_0" and difference.neuron % 6 == 4


@pytest.mark.parametrize("change, why", [
    ({"reloadable": True}, ("Layer conv_0: a gate is part of the gateware, so it cannot be in a reloadable program; "
                            "compile without it")),
    ({"placements": [Placement(6, 2, core=0), Placement(6, 2, core=0), Placement(3, 1)]},
     ("Layer conv_0 cannot share a core: only convolutions without a shortcut or a gate can, none that is sparse, and "
      "none whose neurons have other states than potentials"))])
def test_what_cannot_have_a_gate(change, why):
    net = gated(stacked((4, 4, 2), (2, 3, {"padding": 1}), (2, 3, {})), ["conv_0"])
    with pytest.raises(SpikeloomError) as refused:
        dataclasses.replace(program_of(net, [(2, 2), (2, 2)], last=3), **change)
    assert str(refused.value) == why
