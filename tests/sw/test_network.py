"""Networks: every rule they are checked by, and files that are not what they should be."""

import dataclasses
import json
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import WEIGHT_FORMATS, networks
from spikeloom import files, network
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    Adaptation,
    Attention,
    BlockGate,
    Branch,
    ChannelGate,
    Conv2d,
    Dense,
    GradedSpike,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ShiftLeak,
    Shortcut,
    Silent,
    SynapticCurrent,
    TableActivation,
    TableLeak,
    WeightFormat,
    signed_width,
)


def dense(name="a", n_in=3, n_out=2, **changes):
    fields = {"name": name, "weights": np.ones((n_out, n_in), int), "weight_format": WeightFormat("ternary", 2),
              "threshold": np.full(n_out, 2), "bias": np.zeros(n_out, int), "v_width": 4}
    return Dense(**fields | changes)


def conv(name="c", shape=(4, 5, 2), channels=3, k=3, **changes):
    channels_in = shape[2] // changes.get("groups", 1)
    fields = {"name": name, "input_shape": shape, "weights": np.ones((channels, channels_in, k, k), int),
              "weight_format": WeightFormat("ternary", 2), "threshold": np.full(channels, 2),
              "bias": np.zeros(channels, int), "v_width": 4}
    return Conv2d(**fields | changes)


def shortcut(shape=(4, 5, 2), channels=3, source="input", **changes):
    fields = {"source": source, "input_shape": shape, "weights": np.ones((channels, shape[2], 1, 1), int),
              "weight_format": WeightFormat("int", 4)}
    return Shortcut(**fields | changes)


def branch(source="a", rows=2, n_in=2, delay=1, **changes):
    fields = {"weights": np.ones((rows, n_in), int), "weight_format": WeightFormat("ternary", 2), "delay": delay}
    return Branch(source, **fields | changes)


def attention(time_steps=5, channels=2, k=3, **changes):
    fields = {"time_weights": np.ones((time_steps, time_steps, k), int),
              "channel_weights": np.ones((channels, channels, 2), int), "weight_format": WeightFormat("ternary", 2),
              "shift": 4, "table": (0, 1, 2, 3)}
    return Attention(**fields | changes)


def gated(**changes):
    """A convolution with gates of both kinds and a dense layer; ``changes`` are to fields of the convolution."""
    first = conv(padding=1, **{"gate": channel_gate(), "block_gate": block_gate()} | changes)
    return Network(InputFormat(40, 1, first.input_shape), (first, dense("last", math.prod(first.shape), 2)), 5)


def channel_gate(channels=3, seen=2, **changes):
    fields = {"weights": np.ones((channels, seen), int), "weight_format": WeightFormat("ternary", 2),
              "bias": np.arange(channels), "table": (0, 1, 2, 5), "shift": 2}
    return ChannelGate(**fields | changes)


def block_gate(channels=3, seen=3, k=3, **changes):
    fields = {"weights": np.ones((channels, seen, k, k), int), "weight_format": WeightFormat("ternary", 2),
              "bias": np.arange(channels)}
    return BlockGate(**fields | changes)


def attended(*, width=1, **changes):
    """A convolution and a dense layer, both with attention before a pool; ``changes`` are to the first one's."""
    first = conv(padding=1, attention=attention(**changes), pool=Pool("max", 2, 1))
    last = dense("last", 6, 2, attention=attention(channels=3), input_shape=first.shape, pool=Pool("sum", 1, 3))
    return Network(InputFormat(40, width, (4, 5, 2)), (first, last), 5)


def residual(**changes):
    """Two convolutions, the second with a shortcut around the first, and a pooled read-out."""
    made = {"first": conv("first", padding=1), "second": conv("second", (4, 5, 3), padding=1, shortcut=shortcut()),
            "last": dense("last", 3, 4, input_shape=(4, 5, 3), pool=Pool("sum", 4, 5))} | changes
    return Network(InputFormat(40, 1, (4, 5, 2)), tuple(made.values()), 5, votes=2)


def small():
    return Network(InputFormat(3, 2), (dense("a"), dense("b", 2, 4)), 5, "membrane", {"why": "test"})


# Rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "message"), [
    (lambda: dense(name="a b"), "Layer name must be made of letters, digits and underscores, not 'a b'"),
    (lambda: dense(weights=np.ones((2, 3))), "Layer a: weights must be integers, not float64"),
    (lambda: dense(weights=np.ones(3, int)), "Layer a: weights must have 2 dimensions, not 1"),
    (lambda: dense(weights=np.ones((2, 0), int)), "Layer a: weights must not be empty, but have shape (2, 0)"),
    (lambda: dense(weights=np.array([[0, 0, 1], [0, 2, 0]])),
     "Layer a: weight [1, 1] = 2 is not on the 2-bit ternary grid"),
    (lambda: dense(threshold=np.full(3, 1)),
     "Layer a: threshold must have shape (2,), one for each neuron, not (3,)"),
    (lambda: dense(bias=np.full(2, 2**24)), "Layer a: bias must lie within ±2^24"),
    (lambda: dense(v_width=1), "Layer a: membrane width must be between 2 and 16 bits, not 1"),
    (lambda: dense(v_width=17), "Layer a: membrane width must be between 2 and 16 bits, not 17"),
    (lambda: dense(reset="half"), "Layer a: reset must be one of subtract, zero, none, not 'half'"),
    (lambda: dense(leak=TableLeak((0,) * 8)),
     "Layer a: a leak table must have 16 entries, one for each stored state, not 8"),
    (lambda: dense(leak=TableLeak((8,) * 16)), "Layer a: leak table entries must lie within -8 to 7"),
    (lambda: Grid(0, 1),
     "A membrane grid's levels must hold 0, be three or more, and lie within -32768 to 32767, not 0 to 1"),
    (lambda: Grid(1, 4),
     "A membrane grid's levels must hold 0, be three or more, and lie within -32768 to 32767, not 1 to 4"),
    (lambda: Grid(-1, 1, shift=8), "A membrane grid's shift must be between 0 and 7, not 8"),
    (lambda: Grid(-1, 1, 0), "A membrane grid's step must be between 1 and 32767, not 0"),
    (lambda: Grid(-1, 1, 2, 1), "A membrane grid with a step has no shift, which here is 1"),
    (lambda: Grid(-1, 1, bounds=(-1, 1)), "A membrane grid with bounds needs a step"),
    (lambda: Grid(-1, 1, 2, bounds=(1, 1)), "A membrane grid of 3 levels needs 2 increasing integers for bounds"),
    (lambda: dense(grid=Grid(-1, 1)), "Layer a: 3 levels of a membrane are stored in 2 bits, not 4"),
    (lambda: dense(grid=Grid(-1, 1), v_width=2, threshold=np.array([0, 3])),
     "Layer a: levels in units of the threshold need thresholds of 1 or more"),
    (lambda: dense(grid=Grid(-1, 1), v_width=2, leak=TableLeak((0, 0, 0))),
     "Layer a: a leak table needs levels that are the same for all channels: a grid with a step"),
    (lambda: dense(grid=Grid(-1, 1, 2), v_width=2, leak=TableLeak((0, 0, 0, 0))),
     "Layer a: a leak table must have 3 entries, one for each stored state, not 4"),
    (lambda: dense(fire=GradedSpike(0, 3), threshold=np.array([2, 3])),
     "Layer a: thresholds of graded spikes must be powers of two"),
    (lambda: dense(name="input"), "Layer name must not be 'input', which is where a network's input comes from"),
    (lambda: dense(pool=Pool("max", 2, 2)), "Layer a: a map's shape is (rows, columns, channels), not None"),
    (lambda: dense(input_shape=(2, 2, 3)), "Layer a: weights must have shape (2, 12), not (2, 3)"),
    (lambda: dense(input_shape=(2, 2, 3), pool=Pool("max", 3, 1)),
     "Layer a: a map of 2 x 2 x 3 has no block of 3 x 1 to pool"),
    (lambda: Pool("mean", 2, 2), "Pool kind must be max or sum, not 'mean'"),
    (lambda: Pool("max", 0, 2), "Rows of a pooled block must be between 1 and 255, not 0"),
    (lambda: conv(weights=np.ones((3, 2, 3, 2), int)),
     "Layer c: a kernel must be 1 x 1 to 7 x 7, not 3 x 2"),
    (lambda: conv(k=8, shape=(9, 9, 2)), "Layer c: a kernel must be 1 x 1 to 7 x 7, not 8 x 8"),
    (lambda: conv(k=5), "Layer c: a kernel of 5 x 5 does not fit into 4 x 5 positions with a padding of 0"),
    (lambda: conv(padding=3), "Layer c: padding must be between 0 and 2, not 3"),
    (lambda: conv(stride=0), "Layer c: stride must be between 1 and 7, not 0"),
    (lambda: conv(groups=2), "Layer c: groups must divide its 2 channels in and 3 channels out, not be 2"),
    (lambda: conv(weights=np.ones((3, 1, 3, 3), int)),
     "Layer c: weights must have shape (3, 2, 3, 3), not (3, 1, 3, 3)"),
    (lambda: conv(threshold=np.full(4, 2)),
     "Layer c: threshold must have shape (3,), one for each channel, not (4,)"),
    (lambda: conv(weights=np.full((3, 2, 3, 3), 2)),
     "Layer c: weight [0, 0, 0, 0] = 2 is not on the 2-bit ternary grid"),
    (lambda: conv(shape=(2048, 2048, 2), k=1), "Layer c: must have at most 4194304 neurons, not 12582912"),
    (lambda: conv(padding=1, shortcut=shortcut(weights=np.ones((3, 2, 3, 3), int))),
     "Layer c, shortcut: its kernel must be 1 x 1, not 3 x 3"),
    (lambda: conv(shortcut=shortcut()),
     "Layer c, shortcut: gives a map of 4 x 5 x 3, where the layer's own convolution gives 2 x 3 x 3"),
    (lambda: dense(attention=attention()), "Layer a: a map's shape is (rows, columns, channels), not None"),
    (lambda: gated(gate=channel_gate(reduce=3)), "Layer c, gate: reduce must divide its 2 channels in, not be 3"),
    (lambda: gated(gate=channel_gate(seen=1)), "Layer c, gate: weights must have shape (3, 2), not (3, 1)"),
    (lambda: gated(gate=channel_gate(bias=np.zeros(2, int))),
     "Layer c, gate: bias must have shape (3,), one for each channel, not (2,)"),
    (lambda: gated(gate=channel_gate(weights=np.full((3, 2), 2))),
     "Layer c, gate: weight [0, 0] = 2 is not on the 2-bit ternary grid"),
    (lambda: gated(gate=channel_gate(table=(1, 2, 3))),
     "Layer c, gate: table must have 2 to 65536 entries, a power of two, not 3"),
    (lambda: gated(gate=channel_gate(table=(0, 2**15))),
     "Layer c, gate: table entries must be integers from 0 to 32767"),
    (lambda: gated(gate=channel_gate(shift=-1)), "Layer c, gate: shift must be between 0 and 48, not -1"),
    (lambda: gated(gate=channel_gate(bias=np.full(3, 2**24 - 1))),
     "Layer c, gate: sums reach ±16777225, beyond the 2^24 that float32 holds exactly; use smaller weights"),
    (lambda: residual(first=conv("first", padding=1, fire=GradedSpike(-1, 1)), second=conv(
        "second", (4, 5, 3), padding=1, gate=channel_gate(seen=3))),
     "Layer second, gate: takes values that are not negative, but its source sends -1 and more"),
    (lambda: gated(block_gate=block_gate(k=2)), "Layer c, block gate: its kernel must be odd and at most 7, not 2"),
    (lambda: gated(block_gate=block_gate(seen=2)),
     "Layer c, block gate: weights must have shape (3, 3, 3, 3), not (3, 2, 3, 3)"),
    (lambda: gated(block_gate=block_gate(rows=17)), "Layer c, block gate: rows must be between 1 and 16, not 17"),
    (lambda: gated(block_gate=block_gate(bias=np.full(3, -2**24 + 1))),
     "Layer c, block gate: sums reach ±16778079, beyond the 2^24 that float32 holds exactly; use smaller weights"),
    (lambda: attended(time_weights=np.ones((5, 4, 3), int)),
     "Layer c, attention: time_weights must have shape (5, 5, 1 to 7), not (5, 4, 3)"),
    (lambda: attended(k=8), "Layer c, attention: time_weights must have shape (5, 5, 1 to 7), not (5, 5, 8)"),
    (lambda: attended(channels=3),
     "Layer c, attention: channel_weights must have shape (2, 2, 1 to 7), not (3, 3, 2)"),
    (lambda: attended(time_steps=0),
     "Layer c, attention: time_weights must have shape (1, 1, 1 to 7), not (0, 0, 3)"),
    (lambda: attended(channel_weights=np.full((2, 2, 2), 2)),
     "Layer c, attention: weight [0, 0, 0] = 2 is not on the 2-bit ternary grid"),
    (lambda: attended(channel_weights=np.ones((2, 2, 2))),
     "Layer c, attention: channel_weights must be integers, not float64"),
    (lambda: attended(shift=49), "Layer c, attention: shift must be between 0 and 48, not 49"),
    (lambda: attended(table=(0, 1, 2)),
     "Layer c, attention: table must have 2 to 65536 entries, a power of two, not 3"),
    (lambda: attended(table=(0, 256)), "Layer c, attention: table entries must be integers from 0 to 255"),
    (lambda: attended(time_steps=6), "Layer c, attention: is for 6 time steps, where the network has 5"),
    (lambda: attended(width=8, weight_format=WeightFormat("int", 8), time_weights=np.full((5, 5, 7), -128)),
     ("Layer c, attention: sums reach ±22848000, beyond the 2^24 that float32 holds exactly; use smaller weights "
      "or inputs")),
    (lambda: dataclasses.replace(attended(), layers=(attended().layers[0], dense("last", 30, attention=attention(
        channels=15), input_shape=(1, 2, 15)))),
     "Layer last: takes a map of 1 x 2 x 15, but layer c has one of 2 x 5 x 3"),
    (lambda: dense(delay=-1), "Layer a: delay must be between 0 and 65535 time steps, not -1"),
    (lambda: dense(others=[branch(rows=3)]), "Layer a, branch 0: weights must have 2 rows, one for each neuron, not 3"),
    (lambda: dense(others=[branch(), branch(weights=np.full((2, 2), 2))]),
     "Layer a, branch 1: weight [0, 0] = 2 is not on the 2-bit ternary grid"),
    (lambda: Network(InputFormat(3), (dense(others=[branch(delay=0)]),), 1),
     "Layer a, branch 0: its source must be one of input, not 'a'; with a delay it may come later"),
    (lambda: Network(InputFormat(3), (dense(others=[branch("b")]),), 1),
     "Layer a, branch 0: its source must be one of input, a, not 'b'"),
    (lambda: Network(InputFormat(3), (dense(others=[branch("input")]),), 1),
     "Layer a, branch 0: takes 2 inputs, but the input has 3"),
    (lambda: Network(InputFormat(3), (dense(others=[branch()]), dense("b", source="input")), 1),
     "Layer a: feeds no other layer, and is not the last"),
    (lambda: Network(InputFormat(30, 1, (2, 5, 3)), (dense("a", 30, input_shape=(2, 5, 3), attention=attention(
        time_steps=1, channels=3), others=[branch()]),), 1),
     "Layer a, attention: needs all time steps of what comes in, so it cannot be where layers feed back"),
    (lambda: dense(act=TableActivation((1, 2, 3))),
     "Layer a, act: table must have 2 to 65536 entries, a power of two, not 3"),
    (lambda: dense(act=TableActivation((1, 2**24))),
     "Layer a, act: table entries must be integers from -16777215 to 16777215"),
    (lambda: dense(act=TableActivation((1, 2), 49)), "Layer a, act: shift must be between 0 and 48, not 49"),
    (lambda: dense(current=SynapticCurrent(17, NoLeak())),
     "Layer a, current: width must be between 2 and 16 bits, not 17"),
    (lambda: dense(current=SynapticCurrent(2, TableLeak((0, 1)))),
     "Layer a, current: a leak table must have 4 entries, one for each stored state, not 2"),
    (lambda: dense(adaptation=Adaptation(2, TableLeak((0, 1, 2, 0)), np.array([1, 1]))),
     "Layer a, adaptation: leak table entries must lie within -2 to 1"),
    (lambda: dense(adaptation=Adaptation(4, NoLeak(), np.array([1]))),
     "Layer a, adaptation: step must have shape (2,), one for each channel, not (1,)"),
    (lambda: dense(adaptation=Adaptation(4, NoLeak(), np.array([1, 1])), fire=Silent()),
     "Layer a: an adaptation is for neurons that fire \"spike\", not 'silent'"),
    (lambda: Network(InputFormat(3), (dense(act=TableActivation((-2**24 + 1, 0)), threshold=np.array([2, 2])),), 1),
     "Layer a: potentials reach ±16777225, beyond the 2^24 that float32 holds exactly; use smaller weights or inputs"),
    (lambda: InputFormat(12, 1, (3, 5, 1)), "Input shape 3 x 5 x 1 must have 12 values, not 15"),
    (lambda: residual(first=conv("first", (5, 4, 2), padding=1)),
     "Layer first: takes a map of 5 x 4 x 2, but the input has one of 4 x 5 x 2"),
    (lambda: residual(second=conv("second", (4, 5, 3), padding=1, source="last")),
     "Layer second: its source must be one of input, first, not 'last'; with a delay it may come later"),
    (lambda: residual(second=conv("second", (4, 5, 3), padding=1, shortcut=shortcut(source="other"))),
     "Layer second, shortcut: its source must be one of input, first, not 'other'"),
    (lambda: residual(second=conv("second", padding=1, source="input")),
     "Layer first: feeds no other layer, and is not the last"),
    (lambda: Network(InputFormat(40, 1, (4, 5, 2)), (conv(padding=1),), 1),
     "The last layer, which is read out, must be dense, not conv2d"),
    (lambda: Network(InputFormat(3), (dense(),), 1, votes=3),
     "Votes for a class must divide the 2 neurons of the last layer, not be 3"),
    (lambda: ShiftLeak(0), "Leak shift must be between 1 and 15, not 0"),
    (lambda: GradedSpike(1, 3),
     "A graded spike's range must hold 0, reach above it, and lie within -128 to 127, not 1 to 3"),
    (lambda: WeightFormat("quaternary", 2),
     "Weight kind must be one of binary, ternary, int, pot, not 'quaternary'"),
    (lambda: WeightFormat("int", 17), "Width of int weights must be between 2 and 16 bits, not 17"),
    (lambda: InputFormat(0), "Input size must be between 1 and 4194304, not 0"),
    (lambda: InputFormat(1, 9), "Input width must be between 1 and 8 bits, not 9"),
    (lambda: Network(InputFormat(3), (), 1), "A network must have at least one layer"),
    (lambda: Network(InputFormat(3), (dense(),), 0), "Time steps must be between 1 and 65535, not 0"),
    (lambda: Network(InputFormat(3), (dense(),), 1, "loudest"),
     "Read-out must be one of count, membrane, not 'loudest'"),
    (lambda: Network(InputFormat(4), (dense(),), 1), "Layer a: takes 3 inputs, but the input has 4"),
    (lambda: Network(InputFormat(3), (dense(), dense("b")), 1), "Layer b: takes 3 inputs, but layer a has 2"),
    (lambda: Network(InputFormat(3), (dense(), dense("a", 2)), 1), "Layer names must differ, but are a, a"),
    (lambda: Network(InputFormat(3), (dense(bias=np.full(2, 2**24 - 1)),), 1),
     ("Layer a: currents reach ±16777218, beyond the 2^24 that float32 holds exactly; use smaller weights "
      "or inputs")),
])
def test_every_rule_has_its_line(make, message):
    with pytest.raises(SpikeloomError) as error:
        make()
    assert str(error.value) == message


def test_arrays_are_frozen_copies():
    weights = np.ones((2, 3), np.int8)
    layer = dense(weights=weights)
    weights[0, 0] = 0
    assert layer.weights[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0, 0] = 0


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS, ids=str)
def test_codes_decode_to_their_weights(weight_format):
    values = np.unique(weight_format.values)
    codes = weight_format.encode(values)
    assert codes.max() < 2**weight_format.width
    np.testing.assert_array_equal(weight_format.values[codes], values)
    assert weight_format.bounds == (values[0], values[-1])


def test_signed_width():
    for width in range(2, 20):
        low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
        assert signed_width(low, high) == signed_width(0, high) == signed_width(low, 0) == width
        assert signed_width(low - 1, high) == signed_width(low, high + 1) == width + 1


@given(networks())
@settings(max_examples=50, deadline=None)
def test_bounds_hold_and_are_reached(made):
    for layer, (low, high) in zip(made.layers, made.input_bounds, strict=True):
        best = np.where(layer.weights > 0, high, low)
        worst = np.where(layer.weights > 0, low, high)
        sums = (layer.weights * worst).sum(1), (layer.weights * best).sum(1)
        assert layer.current_bounds(low, high) == (sums[0].min(), sums[1].max())


# Files ------------------------------------------------------------------------------------------


def same(one, other):
    return one.digest == other.digest and one.notes == other.notes


@given(networks())
@settings(max_examples=50, deadline=None)
def test_a_network_reads_back(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("networks") / "network.npz"
    made.save(path)
    assert same(Network.load(path), made)


@pytest.mark.parametrize("pool", [None, Pool("max", 1, 1)])
def test_branches_read_back(tmp_path, pool):
    made = residual(second=conv("second", (4, 5, 3), padding=1, groups=3, pool=pool, source="first",
                                shortcut=shortcut(groups=1, pool=pool)))
    made.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz")
    assert same(again, made)
    assert again.sources == [("input",), ("first", "input"), ("second",)]
    assert again.layers[1].pool == again.layers[1].shortcut.pool == pool
    assert again.n_out == 2 and again.layers[1].shape == (4, 5, 3)
    assert again.current_bounds(again.layers[1]) == (0, 9 + 2)


def test_attention_reads_back(tmp_path):
    made = attended()
    made.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz")
    assert same(again, made)
    assert isinstance(again.layers[0].attention.table, tuple)
    assert made.weight_bits == 2 * (54 + 75 + 8 + 12 + 75 + 18)
    # Every part of it is part of what the network computes.
    for changes in ({"shift": 5}, {"table": (0, 1, 2, 4)}, {"table": (0, 1, 2, 3) * 2}, {"k": 4},
                    {"channel_weights": -np.ones((2, 2, 2), int)}, {"weight_format": WeightFormat("int", 2)}):
        assert attended(**changes).digest != made.digest


def test_gates_read_back(tmp_path):
    made = gated()
    made.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz")
    assert same(again, made)
    assert again.layers[0].gate.table == (0, 1, 2, 5) and again.layers[0].block_gate.rows == 2


def test_what_is_closed_is_within_the_bounds():
    biased = conv(bias=np.full(3, 100))
    assert biased.potential_bounds(0, 5) == (biased.v_min + 100, biased.v_max + 105)
    for options in ({"gate": channel_gate()}, {"block_gate": block_gate()}):
        assert conv(bias=np.full(3, 100), **options).potential_bounds(0, 5) == (biased.v_min, biased.v_max + 105)


@pytest.mark.parametrize("width", [1, 8])
def test_gates_are_part_of_the_bounds(width):
    made = attended(width=width, table=(0, 7, 3, 0))
    high = 2**width - 1
    assert made.layers[0].pooled_bounds(0, high) == (0, 7 * high)
    assert made.current_bounds(made.layers[0]) == (0, 18 * 7 * high)
    assert made.current_bounds(made.layers[1]) == (0, 6 * 3 * 3)  # its own gates reach 3, its pool 3 positions
    assert made.layers[0].attention.reach(0, high, 20) == 20 * 15 * high


def test_the_same_network_gives_the_same_bytes(tmp_path):
    small().save(tmp_path / "one.npz")
    small().save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_the_digest_sees_all_that_computes_and_no_more():
    digest = small().digest
    assert dataclasses.replace(small(), notes={}).digest == digest
    first, second = small().layers
    for changed in (dict(time_steps=6), dict(readout="count"), dict(input=InputFormat(3, 3)),
                    *(dict(layers=(dataclasses.replace(first, **change), second)) for change in (
                        dict(threshold=np.array([2, 3])), dict(bias=np.array([0, 1])), dict(v_width=5),
                        dict(leak=ShiftLeak(1)), dict(reset="none"), dict(name="c"),
                        dict(weights=np.array([[1, 1, 1], [1, 1, 0]]))))):
        assert dataclasses.replace(small(), **changed).digest != digest


def refusal(path):
    with pytest.raises(SpikeloomError) as error:
        Network.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "network.npz"
    small().save(path)
    content = path.read_bytes()
    for length in (0, 1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "truncated or corrupted" in refusal(path)
    told = 0
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1:])
        try:
            loaded = Network.load(path)
        except SpikeloomError as error:
            assert "\n" not in str(error)
            told += 1
        else:
            assert same(loaded, small())  # only where the byte means nothing, such as a time stamp
    assert told > len(content) / 7 / 2


def test_other_files_are_told(tmp_path):
    path = tmp_path / "network.npz"
    assert refusal(path).endswith("no such file")
    assert refusal(tmp_path).endswith("is a folder, not a file")
    np.savez(path, a=np.zeros(3))
    assert refusal(path).endswith("not a Spikeloom file (it has no header)")
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "not a Spikeloom file" in refusal(tmp_path / "array.npy")
    path.write_text("hello")
    assert "truncated or corrupted" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", "nothing")
    assert "truncated or corrupted" in refusal(path)


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "network.npz"
    np.savez(path, header=np.array([{"kind": "network"}], dtype=object))
    assert "truncated or corrupted" in refusal(path)


def test_another_kind_or_version_is_told(tmp_path):
    path = tmp_path / "network.npz"
    header, arrays = small().content()
    files.save(path, "program", 1, header, arrays)
    assert refusal(path).endswith("holds a 'program', where a 'network' is needed")
    files.save(path, "network", 6, header, arrays)
    assert refusal(path).endswith("format version 6, where this Spikeloom reads versions 1, 2, 3, 4 and 5")
    for version in (1, 2, 3, 4, 5):
        files.save(path, "network", version, header, arrays)
        assert Network.load(path).digest == small().digest


def change_header(change):
    def apply(header, arrays):
        change(header)
    return apply


@pytest.mark.parametrize(("harm", "message"), [
    (lambda header, arrays: header.pop("layers"), "a field is missing or of the wrong type"),
    (lambda header, arrays: header["layers"][0].pop("reset"), "a field is missing or of the wrong type"),
    (lambda header, arrays: header.update(layers=3), "a field is missing or of the wrong type"),
    (lambda header, arrays: header.update(input={"size": "three"}),
     "Input size must be between 1 and 4194304, not three"),
    (lambda header, arrays: header["layers"][0]["leak"].update(kind="drift"), "a field is missing"),
    (lambda header, arrays: header["layers"][0]["fire"].update(extra=1), "a field is missing"),
    (lambda header, arrays: arrays.pop("1.bias"), "a field is missing or of the wrong type"),
    (lambda header, arrays: arrays.update({"1.bias": np.zeros(4)}), "Layer b: bias must be integers, not float64"),
    (lambda header, arrays: arrays.update({"0.weights": np.full((2, 3), 5, np.int16)}),
     "Layer a: weight [0, 0] = 5 is not on the 2-bit ternary grid"),
    (lambda header, arrays: header.update(time_steps=0), "Time steps must be between 1 and 65535, not 0"),
    (lambda header, arrays: header["layers"][0].update(v_width=40),
     "Layer a: membrane width must be between 2 and 16 bits, not 40"),
])
def test_a_wrong_field_is_told(tmp_path, harm, message):
    header, arrays = json.loads(json.dumps(small().content()[0])), dict(small().content()[1])
    harm(header, arrays)
    path = tmp_path / "network.npz"
    files.save(path, network.KIND, network.VERSION, header, arrays)
    assert message in refusal(path)


@pytest.mark.parametrize(("harm", "message"), [
    (lambda entry, arrays: entry["attention"].update(width=4), "a field is missing or of the wrong type"),
    (lambda entry, arrays: entry["attention"].pop("shift"), "a field is missing or of the wrong type"),
    (lambda entry, arrays: entry.update(attention=3), "a field is missing or of the wrong type"),
    (lambda entry, arrays: arrays.pop("0.attention_time_weights"), "a field is missing or of the wrong type"),
    (lambda entry, arrays: arrays.update({"0.attention_table": np.zeros(4)}),
     "Layer c, attention: table entries must be integers from 0 to 255"),
    (lambda entry, arrays: arrays.update({"0.attention_table": np.zeros((4, 4), int)}),
     "Layer c, attention: table entries must be integers from 0 to 255"),
])
def test_a_wrong_field_of_an_attention_is_told(tmp_path, harm, message):
    header, arrays = attended().content()
    harm(header["layers"][0], arrays)
    files.save(tmp_path / "network.npz", network.KIND, network.VERSION, header, arrays)
    assert message in refusal(tmp_path / "network.npz")


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    files.write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), files.replacing(path, "w") as file:
        file.write("second")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpikeloomError, match=r"network\.npz: cannot be written: "):
        small().save(tmp_path / "file" / "network.npz")


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_headers_survive(tmp_path_factory, data):
    notes = data.draw(st.dictionaries(st.text(), st.one_of(st.integers(-2**53, 2**53), st.text(), st.none(),
                                                           st.floats(allow_nan=False))))
    path = tmp_path_factory.mktemp("headers") / "network.npz"
    dataclasses.replace(small(), notes=notes).save(path)
    assert Network.load(path).notes == notes


@pytest.mark.parametrize("make", [
    lambda: InputFormat(64.0), lambda: InputFormat(4, 1.5), lambda: ShiftLeak(1.5), lambda: WeightFormat("int", 2.0),
    lambda: dense(v_width=4.5), lambda: InputFormat(True),
])
def test_fractions_are_no_widths(make):
    with pytest.raises(SpikeloomError, match="must be between"):
        make()


def test_values_that_no_reader_could_hold():
    for value in (np.full(2, -(2**63)), np.full(2, 2**64 - 1, np.uint64)):
        with pytest.raises(SpikeloomError, match="^Layer a: threshold must lie within ±2\\^24$"):
            dense(threshold=value)
