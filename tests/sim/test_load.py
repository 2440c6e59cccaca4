"""Reloadable programs: any network of a shape runs in an array of that shape, and what was written can be read."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import in_gateware, inputs, networks
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.errors import SpikeloomError
from spikeloom.hw.array import Array
from spikeloom.hw.load import READ_CYCLES
from spikeloom.network import (
    Dense,
    Grid,
    InputFormat,
    Network,
    ShiftLeak,
    Silent,
    TableLeak,
    WeightFormat,
)
from spikeloom.sim import backend, pysim, stream, trace


def simpler(network):
    """``network`` as gateware can have it, and without tables that take long to write."""
    network = in_gateware(network, reloadable=True)
    return dataclasses.replace(network, layers=tuple(
        dataclasses.replace(layer, leak=ShiftLeak(3)) if isinstance(layer.leak, TableLeak) and layer.v_width > 8
        else layer for layer in network.layers))


def same_shape(program, rng):
    """A program of the same shape with other weights, thresholds, biases and tables, some at the ends of what fits."""
    def drawn(parameter, before):
        low, high = parameter.bounds
        values = np.where(rng.random(before.shape) < 0.5, rng.integers(low, high + 1, before.shape),
                          rng.choice([low, high, 0, 1], before.shape))
        if parameter.storage == "none":
            return before
        if parameter.storage == "shared":
            return np.full_like(before, values[0] or 1)
        return np.where(np.arange(len(values)) == 0, (values[1] + 1 if values[1] < high else low), values)

    layers = []
    for core in program.cores:
        layer = core.layer
        values = layer.weight_format.values
        weights = rng.choice(values if rng.random() < 0.5 else [values.min(), values.max()], layer.weights.shape)
        leak = layer.leak
        if isinstance(leak, TableLeak):
            leak = TableLeak(tuple(rng.integers(layer.v_min, layer.v_max + 1, len(leak.table)).tolist()))
        threshold = -drawn(core.minus_threshold, -layer.threshold)
        if core.levels_of_threshold:
            threshold = np.maximum(threshold, 1)
        layers.append(dataclasses.replace(layer, weights=weights, leak=leak, bias=drawn(core.bias, layer.bias),
                                          threshold=threshold))
    made = dataclasses.replace(program, network=dataclasses.replace(program.network, layers=tuple(layers)))
    if made.build_digest == program.build_digest:
        return made
    # A value beyond the usual room made room for itself, and has to stay for the shape to do so.
    kept = tuple(dataclasses.replace(layer, threshold=core.layer.threshold, bias=core.layer.bias)
                 for layer, core in zip(layers, program.cores, strict=True))
    return dataclasses.replace(made, network=dataclasses.replace(made.network, layers=kept))


@st.composite
def programs(draw):
    """A small reloadable program, its weights in either kind of memory."""
    network = simpler(draw(networks(max_layers=2)))
    placements = []
    for layer in network.layers:
        units = 1 if layer is network.layers[-1] else draw(st.sampled_from([1, 2, 4]))
        memory = draw(st.sampled_from(["block", "single_port"]))
        placements.append(Placement(units * draw(st.integers(1, -(-layer.n_out // units))), units, memory))
    hypothesis.assume(all(p.memory == "block" or p.lanes * layer.weight_format.width <= 32
                          for p, layer in zip(placements, network.layers, strict=True)))
    target = "icebreaker" if any(p.memory == "single_port" for p in placements) else "ulx3s-25f"
    return Program(network, target, placements, reloadable=True)


@hypothesis.settings(deadline=None, print_blob=True, max_examples=15,
                     suppress_health_check=[hypothesis.HealthCheck.too_slow],
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_networks_of_a_shape_run_one_after_the_other(data):
    program = data.draw(programs())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    loads = [None, same_shape(program, rng), same_shape(program, rng), program]
    x = data.draw(inputs(program.network))
    seen, _ = pysim.run_in_turn(program, [(load, x) for load in loads], stall=data.draw(st.sampled_from([0.0, 0.5])))
    for load, each in zip(loads, seen, strict=True):
        network = (load or program).network
        assert trace.first_difference(network, reference.run(network, x), each) is None


def example(seed=0, memory="single_port", **fields):
    """A program with every kind of memory: several bytes a row, thresholds shared, biases of each, a table."""
    rng = np.random.default_rng(seed)
    table = TableLeak(tuple(rng.integers(-8, 8, 16).tolist()))
    hidden = Dense("hidden", rng.integers(-8, 8, (36, 5)), WeightFormat("int", 4), np.full(36, 9 + seed),
                   rng.integers(-3, 4, 36), 4, table)
    last = Dense("last", rng.choice([-1, 1], (9, 36)), WeightFormat("binary", 1), np.full(9, 4 + seed),
                 np.full(9, 1 + seed), 6, ShiftLeak(2), **fields)
    return Program(Network(InputFormat(5), (hidden, last), 3), "icebreaker",
                   [Placement(12, 4, memory), Placement(9, 1)], reloadable=True)


def read_all(array, images):
    """A testbench that reads every byte of ``images`` over the bus, and the bytes of each memory that it fills."""
    bus, found = array.load, [bytearray() for _ in images]

    async def testbench(ctx):
        ctx.set(bus.active, 1)
        for number, image in enumerate(images):
            ctx.set(bus.memory, number)
            for row in range(image.rows):
                ctx.set(bus.row, row)
                for byte in range(image.row_bytes):
                    ctx.set(bus.byte, byte)
                    await ctx.tick().repeat(READ_CYCLES)
                    found[number].append(ctx.get(bus.read_data))
        ctx.set(bus.active, 0)

    return testbench, found


def test_kinds_of_memory():
    names = [image.name for image in example().images]
    assert names == ["hidden.weights", "hidden.parameters", "hidden.shared", "hidden.leak", "last.weights",
                     "last.shared"]
    names = [image.name for image in example(fire=Silent()).images]
    assert names[-1] == "last.shared"  # the bias


@pytest.mark.parametrize("target", ["icebreaker", "ulx3s-25f"])
def test_what_a_bitstream_starts_with_can_be_read(target):
    program = dataclasses.replace(example(memory="block"), target=target)
    array = Array(program)
    read, found = read_all(array, program.images)
    simulation = stream.simulator(array)
    simulation.add_testbench(read)
    simulation.run()
    assert [bytes(each) for each in found] == [image.data for image in program.images]


def test_what_was_written_can_be_read():
    program, other = example(), example(1)
    array = Array(program)
    read, found = read_all(array, program.images)
    simulation = stream.simulator(array)

    async def write_and_read(ctx):
        await stream.write(array.load, other.images)(ctx)
        await read(ctx)

    simulation.add_testbench(write_and_read)
    simulation.run()
    assert [bytes(each) for each in found] == [image.data for image in other.images]


def test_rows_of_many_bytes_answer_in_time():
    """The widest choice among the bytes of a row that the tests can afford: four stages."""
    rng = np.random.default_rng(0)
    layer = Dense("wide", rng.integers(-128, 128, (80, 1)), WeightFormat("int", 8), np.ones(80, int),
                  np.zeros(80, int), 4)
    program = Program(Network(InputFormat(1), (layer,), 1), "ulx3s-25f", [Placement(80, 1)], reloadable=True)
    array = Array(program)
    read, found = read_all(array, program.images)
    simulation = stream.simulator(array)
    simulation.add_testbench(read)
    simulation.run()
    assert bytes(found[0]) == program.images[0].data


def test_a_byte_missed_in_loading_is_found():
    program = example()
    other = example(1)
    image = other.images[0]
    changed = dataclasses.replace(image, data=bytes([image.data[0] ^ 1]) + image.data[1:])
    other.__dict__["images"] = (changed, *other.images[1:])
    x = np.ones((2, 3, 5), int)
    (seen,), _ = pysim.run_in_turn(program, [(other, x)])
    assert trace.first_difference(other.network, reference.run(other.network, x), seen) is not None


def test_verilator_loads_too(tmp_path):
    program, other = example(), example(1)
    x = np.random.default_rng(0).integers(0, 2, (5, 3, 5))
    for load in (None, other):  # one compiled simulator does for both
        result = backend.verify(program, x, "verilator", load=load, folder=tmp_path, stall=0.2)
        assert result.difference is None
    assert len(list(tmp_path.iterdir())) == 1
    counted = backend.verify(program, x, "verilator", load=other, folder=tmp_path).cycles
    assert abs(counted - backend.verify(program, x, "amaranth", load=other).cycles) <= 4  # loading is not counted


def test_levels_are_those_of_the_threshold_that_was_loaded():
    def made(thresholds):
        layer = Dense("one", np.array([[1], [-1]]), WeightFormat("binary", 1), np.array(thresholds), np.zeros(2, int),
                      2, grid=Grid(-1, 1))
        return Program(Network(InputFormat(1, 2), (layer,), 3), "icebreaker", [Placement(2, 1)], reloadable=True)

    program, other = made([8, 9]), made([3, 2])
    x = np.array([[[2], [0], [3]], [[1], [2], [1]]])
    seen, _ = pysim.run_in_turn(program, [(other, x), (program, x)])
    for each, trace_of_it in zip((other, program), seen, strict=True):
        assert trace.first_difference(each.network, reference.run(each.network, x), trace_of_it) is None


def test_only_the_same_shape_can_be_loaded():
    x = np.ones((1, 3, 5), int)
    with pytest.raises(SpikeloomError, match="^The programs differ in more than what can be loaded: layer 1 reset "
                                             "subtract against zero$"):
        backend.verify(example(), x, "amaranth", load=example(reset="zero"))
