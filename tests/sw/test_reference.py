"""The reference against numbers worked out by hand, one rule of its page at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    Adaptation,
    Attention,
    Branch,
    Conv2d,
    Dense,
    FullLeak,
    GradedSpike,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ReLU,
    ShiftLeak,
    Shortcut,
    Silent,
    SynapticCurrent,
    TableActivation,
    TableLeak,
    WeightFormat,
)


def neuron(threshold=4, *, weight=1, bias=0, v_width=4, width=8, readout="count", time_steps=16, **options):
    layer = Dense("one", np.array([[weight]]), WeightFormat("int", 8), np.array([threshold]), np.array([bias]),
                  v_width, **options)
    return Network(InputFormat(1, width), (layer,), time_steps, readout)


def steps(network, *values):
    """Spikes and membranes of a single neuron over the time steps."""
    trace = reference.run(network, np.array(values)[None, :, None])
    return trace.spikes[0].ravel().tolist(), trace.membranes[0].ravel().tolist()


def test_it_integrates_fires_at_the_threshold_and_subtracts():
    assert steps(neuron(4), 3, 1, 3, 2) == ([0, 1, 0, 1], [3, 0, 3, 1])


def test_reset_to_zero_and_none():
    assert steps(neuron(4, reset="zero"), 3, 3, 3) == ([0, 1, 0], [3, 0, 3])
    assert steps(neuron(4, reset="none"), 3, 3, 0) == ([0, 1, 1], [3, 6, 6])


def test_the_threshold_is_inclusive_and_may_be_negative():
    assert steps(neuron(-2, weight=-1), 2, 1) == ([1, 1], [0, 1])
    assert steps(neuron(-2, weight=-1), 3) == ([0], [-3])


def test_bias_comes_every_step():
    assert steps(neuron(4, bias=1), 0, 0, 0, 0, 0) == ([0, 0, 0, 1, 0], [1, 2, 3, 0, 1])


@pytest.mark.parametrize(("shift", "expected"), [(1, [-7, -3, -1, 0]), (2, [-7, -5, -3, -2]), (15, [-7, -6, -5, -4])])
def test_a_shift_leak_rounds_toward_minus_infinity(shift, expected):
    assert steps(neuron(100, weight=-1, leak=ShiftLeak(shift)), 7, 0, 0, 0)[1] == expected
    assert steps(neuron(100, leak=ShiftLeak(1)), 7, 0, 0, 0)[1] == [7, 4, 2, 1]
    assert steps(neuron(100, leak=ShiftLeak(15)), 7, 0, 0)[1] == [7, 7, 7]


def test_a_table_leak_acts_before_the_first_step_too():
    table = [0] * 16
    table[0 + 8], table[3 + 8] = 2, -1  # zero goes to two, three to minus one
    assert steps(neuron(100, leak=TableLeak(tuple(table))), 1, 5)[1] == [3, 4]


def test_it_saturates_only_when_it_stores():
    assert steps(neuron(100), 5, 5, 5) == ([0, 0, 0], [5, 7, 7])
    assert steps(neuron(100, weight=-1), 5, 5, 5)[1] == [-5, -8, -8]
    # U = 7 + 120 fires at 120 and only what is left, 7, is stored; a sum that had saturated could not.
    assert steps(neuron(120), 7, 120) == ([0, 1], [7, 7])


def test_a_ternary_membrane():
    options = {"grid": Grid(-1, 1), "v_width": 2, "leak": ShiftLeak(1), "reset": "zero"}
    assert steps(neuron(4, **options), 2, 3, 1, 0, 4, 1) == ([0, 0, 0, 0, 1, 0], [0, 4, 4, 0, 0, 0])
    assert steps(neuron(4, weight=-1, **options), 1, 2, 0, 3) == ([0, 0, 0, 0], [0, -4, -4, -4])


def test_a_membrane_with_a_step_and_with_bounds():
    assert steps(neuron(100, grid=Grid(-2, 3, 5), v_width=3), 2, 3, 4, 7)[1] == [0, 5, 10, 15]
    assert steps(neuron(100, grid=Grid(-2, 3, 4), v_width=3), 2, 3, 2, 9)[1] == [0, 4, 4, 12]
    assert steps(neuron(100, weight=-1, grid=Grid(-2, 3, 5), v_width=3), 7, 3, 6)[1] == [-5, -10, -10]
    bounds = Grid(-1, 1, 5, bounds=(-6, 7))
    assert steps(neuron(100, grid=bounds, v_width=2), 6, 7)[1] == [0, 5]
    assert steps(neuron(100, weight=-1, grid=bounds, v_width=2), 5, 6, 7)[1] == [0, 0, -5]


def test_graded_spikes():
    network = neuron(4, fire=GradedSpike(-2, 3), weight=1)
    assert steps(network, 3, 8, 1) == ([0, 2, 1], [3, 3, 0])
    assert steps(network, 200) == ([3], [7])  # 200 - 12, saturated
    negative = neuron(4, fire=GradedSpike(-2, 3), weight=-1)
    assert steps(negative, 1, 0) == ([-1, 0], [3, 3])  # floor(-1/4) = -1
    assert steps(negative, 100) == ([-2], [-8])
    assert steps(neuron(4, fire=GradedSpike(-2, 3), weight=-1, reset="zero"), 1, 0) == ([-1, 0], [0, 0])


def test_a_silent_neuron_integrates():
    assert steps(neuron(1, fire=Silent(), readout="membrane"), 3, 3) == ([0, 0], [3, 6])


def test_a_full_leak_leaves_nothing():
    assert steps(neuron(4, leak=FullLeak()), 3, 3, 5) == ([0, 0, 1], [3, 3, 1])


def test_synapses_with_a_delay():
    assert steps(neuron(4, delay=2), 4, 5, 0, 0) == ([0, 0, 1, 1], [0, 0, 0, 1])
    assert steps(neuron(4, delay=9), 4, 5) == ([0, 0], [0, 0])


def test_a_neuron_that_feeds_itself():
    network = neuron(4, others=[Branch("one", np.array([[2]]), WeightFormat("int", 3), 1)])
    assert steps(network, 4, 0, 2, 0) == ([1, 0, 1, 0], [0, 2, 0, 2])


def test_layers_that_feed_each_other():
    form = WeightFormat("int", 4)
    first = Dense("first", np.array([[1]]), form, np.array([3]), np.array([0]), 6,
                  others=[Branch("second", np.array([[-2]]), form, 1), Branch("input", np.array([[5]]), form, 2)])
    second = Dense("second", np.array([[4]]), form, np.array([4]), np.array([0]), 6)
    trace = reference.run(Network(InputFormat(1, 3), (first, second), 5), np.array([[[3], [1], [0], [0], [0]]]))
    # I of the first: 3, 1 - 2, 15, 5 - 2, -2
    assert [z.ravel().tolist() for z in trace.spikes] == [[1, 0, 1, 1, 1], [1, 0, 1, 1, 1]]
    assert trace.membranes[0].ravel().tolist() == [0, -1, 11, 11, 6]


def test_what_becomes_of_currents():
    assert steps(neuron(100, act=ReLU()), 3, 2)[1] == [3, 5]
    assert steps(neuron(100, weight=-1, act=ReLU()), 3, 2)[1] == [0, 0]
    table = TableActivation((-3, -1, 2, 5), 1)
    assert steps(neuron(100, act=table, leak=FullLeak()), 0, 1, 2, 3, 4, 200)[1] == [2, 2, 5, 5, 5, 5]
    assert steps(neuron(100, weight=-1, act=table, leak=FullLeak()), 1, 2, 3, 200)[1] == [-1, -1, -3, -3]


def test_a_synaptic_current_leaks_and_saturates():
    network = neuron(100, v_width=8, current=SynapticCurrent(4, ShiftLeak(1)))
    assert steps(network, 6, 0, 9, 0)[1] == [6, 9, 20, 24]  # of K = 6, 3, 2 + 9, 4, where 11 was kept as 7


def test_an_adaptation_raises_the_threshold():
    network = neuron(4, adaptation=Adaptation(4, ShiftLeak(1), np.array([3])))
    assert steps(network, 5, 5, 5, 5) == ([1, 0, 1, 1], [1, 6, 5, 2])  # at thresholds of 4, 7, 6 and 8


def test_an_error_diffused_over_time():
    network = neuron(8, fire=GradedSpike(-4, 4), act=TableActivation(tuple(range(-32, 32)), 0), v_width=8)
    values = [3, 20, 7, 0, 31, 9, 1, 2]
    spikes, membranes = steps(network, *values)
    assert spikes == np.diff(np.cumsum([0, *values]) // 8).tolist()
    assert membranes == (np.cumsum(values) % 8).tolist()


def test_layers_see_the_spikes_of_the_same_step():
    ternary = WeightFormat("ternary", 2)
    first = Dense("a", np.array([[1]]), ternary, np.array([1]), np.array([0]), 4)
    second = Dense("b", np.array([[1]]), ternary, np.array([1]), np.array([0]), 4)
    trace = reference.run(Network(InputFormat(1), (first, second), 3), np.array([[[0], [1], [0]]]))
    assert trace.spikes[1].ravel().tolist() == [0, 1, 0]


def test_each_sample_starts_at_zero():
    trace = reference.run(neuron(100), np.array([[[3], [3]], [[1], [1]]]))
    assert trace.membranes[0][:, :, 0].tolist() == [[3, 6], [1, 2]]


def two_classes(readout, **options):
    layer = Dense("out", np.array([[1], [1], [-1]]), WeightFormat("ternary", 2), np.array([2, 2, 2]),
                  np.zeros(3, int), 4, **options)
    return Network(InputFormat(1, 2), (layer,), 4, readout)


def test_read_out_and_ties():
    x = np.array([[[3], [3], [0]]])
    counted = reference.run(two_classes("count"), x)
    assert counted.scores.tolist() == [[3, 3, 0]]
    assert counted.winners.tolist() == [0]  # the lowest index of the highest score
    read = reference.run(two_classes("membrane", fire=Silent(), leak=NoLeak()), x)
    assert read.scores.tolist() == [[6, 6, -6]]
    assert read.winners.tolist() == [0]


@pytest.mark.parametrize(("inputs", "message"), [
    (np.zeros((1, 1, 1)), "Inputs must be integers, not float64"),
    (np.zeros((1, 1), int), "Inputs must have shape (samples, 1 to 16 time steps, 1), not (1, 1)"),
    (np.zeros((1, 0, 1), int), "Inputs must have shape (samples, 1 to 16 time steps, 1), not (1, 0, 1)"),
    (np.zeros((1, 17, 1), int), "Inputs must have shape (samples, 1 to 16 time steps, 1), not (1, 17, 1)"),
    (np.zeros((1, 1, 2), int), "Inputs must have shape (samples, 1 to 16 time steps, 1), not (1, 1, 2)"),
    (np.full((1, 1, 1), 256), "Inputs must lie between 0 and 255, not 256 to 256"),
    (np.full((1, 1, 1), -1), "Inputs must lie between 0 and 255, not -1 to -1"),
])
def test_wrong_inputs_are_told(inputs, message):
    with pytest.raises(SpikeloomError) as error:
        reference.run(neuron(), inputs)
    assert str(error.value) == message


def test_no_samples_give_no_results():
    trace = reference.run(neuron(), np.zeros((0, 2, 1), int))
    assert trace.winners.shape == (0,)
    assert trace.spikes[0].shape == (0, 2, 1)


@pytest.mark.parametrize("seed", range(60))
def test_convolutions_are_those_of_pytorch(seed):
    rng = np.random.default_rng(seed)
    rows, columns, channels = (int(n) for n in rng.integers(1, 10, 3))
    groups, kernel, stride = int(rng.choice([1, channels])), int(rng.integers(1, 8)), int(rng.integers(1, 4))
    padding, out = int(rng.integers(0, kernel)), groups * int(rng.integers(1, 4))
    pool = [None, Pool("max", 2, 1), Pool("sum", 1, 2)][seed % 3]
    pooled = pool.shape((rows, columns, channels)) if pool else (rows, columns, channels)
    if min(pooled[:2]) + 2 * padding < kernel or 0 in pooled:
        kernel, padding, pool = 1, 0, None
    layer = Conv2d(name="c", input_shape=(rows, columns, channels), stride=stride, padding=padding, groups=groups,
                   weights=rng.integers(-8, 8, (out, channels // groups, kernel, kernel)), pool=pool,
                   weight_format=WeightFormat("int", 4), threshold=np.ones(out, int), bias=rng.integers(-9, 9, out),
                   v_width=4)
    z = rng.integers(0, 4, (2, 3, layer.n_in))
    images = torch.from_numpy(z.reshape(6, rows, columns, channels)).permute(0, 3, 1, 2).double()
    if pool:
        block = pool.rows, pool.columns
        images = (torch.nn.functional.max_pool2d(images, block) if pool.kind == "max"
                  else torch.nn.functional.avg_pool2d(images, block, divisor_override=1))
    weights, bias = (torch.from_numpy(array.copy()).double() for array in (layer.weights, layer.bias))
    expected = torch.nn.functional.conv2d(images, weights, bias, stride, padding, groups=groups)
    assert expected.shape[1:] == (layer.shape[2], *layer.shape[:2])
    assert np.array_equal(reference.currents(layer, z), expected.permute(0, 2, 3, 1).numpy().reshape(2, 3, -1, out))


def test_an_attention_by_hand():
    # Two positions and two channels in two time steps; the sums are [[2, 1], [0, 1]].
    x = np.array([[[1, 1, 1, 0], [0, 0, 0, 1]]])
    attention = Attention(np.array([[[1], [2]], [[0], [3]]]), np.array([[[1, 2], [0, 0]], [[0, 0], [-1, 1]]]),
                          WeightFormat("int", 4), 1, (9, 8, 7, 6, 0, 1, 2, 3))
    # a = [[2, 3], [0, 3]]; b, of this time step and the next, = [[2, 0], [0, -1]]; a·b / 2 = [[2, 0], [0, -1.5]]
    assert reference.gates(attention, np.array([[[2, 1], [0, 1]]])).tolist() == [[[2, 0], [0, 7]]]
    layer = Dense("a", np.eye(4, dtype=int), WeightFormat("ternary", 2), np.full(4, 99), np.zeros(4, int), 6,
                  reset="none", input_shape=(1, 2, 2), attention=attention)
    run = reference.run(Network(InputFormat(4, 1, (1, 2, 2)), (layer,), 2), x)
    assert run.membranes[0].tolist() == [[[2, 0, 2, 0], [2, 0, 2, 7]]]
    # Products far beyond either end of the table meet its first and last entries.
    extreme = dataclasses.replace(attention, shift=0)
    assert reference.gates(extreme, np.array([[[200, 1], [0, 100]]])).tolist() == [[[3, 3], [0, 9]]]


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # which copies its input
@pytest.mark.parametrize("seed", range(40))
def test_an_attentions_sums_are_those_of_pytorch(seed):
    rng = np.random.default_rng(seed)
    time_steps, channels = (int(n) for n in rng.integers(1, 7, 2))
    weights = [rng.integers(-8, 8, (side, side, int(rng.integers(1, 8)))) for side in (time_steps, channels)]
    attention = Attention(*weights, WeightFormat("int", 4), int(rng.integers(0, 9)), tuple(range(64)))
    seen = int(rng.integers(1, time_steps + 1))
    s = rng.integers(0, 5, (2, seen, channels))
    sums = torch.zeros(2, time_steps, channels, dtype=torch.float64)  # time steps that a sample lacks are silent
    sums[:, :seen] = torch.from_numpy(s)
    along_channels, along_time = (torch.from_numpy(weight).double() for weight in weights)
    a = torch.nn.functional.conv1d(sums, along_channels, padding="same")
    b = torch.nn.functional.conv1d(sums.transpose(1, 2), along_time, padding="same").transpose(1, 2)
    expected = torch.floor(a * b / 2**attention.shift).clamp(-32, 31)[:, :seen] + 32
    assert np.array_equal(reference.gates(attention, s), expected.numpy())


def test_a_shortcut_adds_to_the_currents():
    ternary, ones = WeightFormat("ternary", 2), np.ones(2, int)
    layer = Conv2d(name="c", input_shape=(2, 2, 1), weights=np.ones((2, 1, 1, 1), int), weight_format=ternary,
                   threshold=ones, bias=ones, v_width=6,
                   shortcut=Shortcut("input", (4, 4, 2), np.array([3, -2]).reshape(2, 1, 1, 1), WeightFormat("int", 3),
                                     stride=2, groups=2))
    own, other = np.array([0, 1, 0, 1]), np.zeros((4, 4, 2), int)
    other[0, 0] = other[2, 2] = other[1, 1] = 1
    assert reference.currents(layer, own, other.ravel()).tolist() == [[4, -1], [2, 2], [1, 1], [5, 0]]


def test_neighbours_vote_for_a_class():
    layer = Dense("out", np.array([[1], [0], [1], [1]]), WeightFormat("ternary", 2), np.full(4, 1), np.zeros(4, int), 4)
    made = Network(InputFormat(1), (layer,), 2, votes=2)
    run = reference.run(made, np.ones((1, 2, 1), int))
    assert run.spikes[0].tolist() == [[[1, 0, 1, 1]] * 2]
    assert run.scores.tolist() == [[2, 4]] and run.winners.tolist() == [1]
