"""Layers that feed back, graded spikes, and neurons with more to them: the gateware equals the reference."""

import dataclasses
import os
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs, recurrent_networks
from spikeloom import reference
from spikeloom.compiler import compile, cost
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import (
    Adaptation,
    Branch,
    Conv2d,
    Dense,
    FullLeak,
    GradedSpike,
    InputFormat,
    Network,
    NoLeak,
    ReLU,
    ShiftLeak,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
    WeightFormat,
)
from spikeloom.sim import backend, cosim, pysim, trace

TERNARY, INTEGERS = WeightFormat("ternary", 2), WeightFormat("int", 4)

#: Times as many random examples as usual, for a long search.
EXAMPLES_FACTOR = int(os.environ.get("EXAMPLES", "1"))


@st.composite
def programs(draw):
    """A small recurrent network with any placement, its tables short enough to be simulated quickly."""
    network = draw(recurrent_networks(maps=False))

    def quick(owner):
        long = owner and isinstance(owner.leak, TableLeak) and len(owner.leak.table) > 256
        return dataclasses.replace(owner, leak=ShiftLeak(2)) if long else owner

    layers = [dataclasses.replace(quick(layer), pool=None, current=quick(layer.current),
                                  adaptation=quick(layer.adaptation)) for layer in network.layers]
    placements = []
    for layer in layers:
        units = 1
        if layer is not layers[-1] and not isinstance(layer.fire, GradedSpike):
            units = draw(st.sampled_from([1, 2, 4, 8]))
        placements.append(Placement(units * draw(st.integers(1, -(-layer.n_out // units) + 1)), units))
    readout = "count" if layers[-1].grid else network.readout  # levels cannot be read out
    network = dataclasses.replace(network, layers=tuple(layers), readout=readout)
    return Program(network, draw(st.sampled_from(["icebreaker", "ulx3s-25f"])), placements)


@hypothesis.settings(deadline=None, print_blob=True, max_examples=12 * EXAMPLES_FACTOR,
                     suppress_health_check=[hypothesis.HealthCheck.too_slow],
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_amaranth_equals_reference(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    stall, seed = data.draw(st.sampled_from([0.0, 0.5])), data.draw(st.integers(0, 1000))
    seen, _ = pysim.run(program, x, stall=stall, seed=seed)
    assert trace.first_difference(program.network, reference.run(program.network, x), seen) is None


@hypothesis.settings(deadline=None, max_examples=1 * EXAMPLES_FACTOR,  # what fails here shrinks in the test above
                     phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],
                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
@given(st.data())
def test_verilator_equals_reference_on_random_networks(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    with tempfile.TemporaryDirectory() as folder:
        run = cosim.run(program, x, stall=data.draw(st.sampled_from([0.0, 0.5])), folder=folder)
    assert trace.first_difference(program.network, reference.run(program.network, x), run.trace) is None


# By hand ------------------------------------------------------------------------------------------


def layer(rng, name, n_in, n_out, form=TERNARY, **fields):
    fields = {"threshold": np.full(n_out, 3), "bias": rng.integers(-2, 3, n_out), "v_width": 6} | fields
    return Dense(name, rng.choice(form.values, (n_out, n_in)), form, **fields)


def branch(rng, source, n_in, n_out, delay, form=TERNARY):
    return Branch(source, rng.choice(form.values, (n_out, n_in)), form, delay)


def tanh(entries, high, shift):
    """A table that looks like tanh, up to ``high``."""
    places = np.arange(-entries // 2, entries // 2) * 4 / entries
    return TableActivation(tuple(np.round(high * np.tanh(places)).astype(int).tolist()), shift)


def lmu(n_in=3, order=5, hidden=8, steps=6, width=4):
    """What a hybrid Legendre memory unit becomes: a scaled input without a memory of its own, a memory and hidden
    neurons, both quantized with what is left of them carried on."""
    rng, count = np.random.default_rng(3), GradedSpike(-8, 7)
    wide, quantized = WeightFormat("int", 9), {"leak": NoLeak(), "reset": "subtract", "fire": count}
    u = layer(rng, "u", n_in, 1, others=(branch(rng, "m", order, 1, 1), branch(rng, "h", hidden, 1, 1)),
              fire=count, leak=FullLeak(), reset="none", threshold=np.full(1, 4))
    m = layer(rng, "m", 1, order, INTEGERS, others=(branch(rng, "m", order, order, 1, wide),),
              threshold=np.full(order, 128), v_width=9, bias=np.zeros(order, int), **quantized)
    h = layer(rng, "h", order, hidden, others=(branch(rng, "input", n_in, hidden, 0, INTEGERS),
                                               branch(rng, "h", hidden, hidden, 1)),
              threshold=np.full(hidden, 8), v_width=6, act=tanh(64, 60, 1), **quantized)
    last = layer(rng, "last", hidden, 4, v_width=12, reset="none", fire=Spike(), leak=ShiftLeak(3))
    return Network(InputFormat(n_in, width), (u, m, h, last), steps, "membrane")


def lif(n_in=12, hidden=24, steps=8, **fields):
    """Recurrent spiking neurons, and a layer that they are read out by."""
    rng = np.random.default_rng(4)
    fields = {"leak": ShiftLeak(3), "threshold": np.full(hidden, 8)} | fields
    recurrent = layer(rng, "recurrent", n_in, hidden, INTEGERS,
                      others=(branch(rng, "recurrent", hidden, hidden, 1, INTEGERS),), **fields)
    return Network(InputFormat(n_in), (recurrent, layer(rng, "last", hidden, 3)), steps)


def frames(net, samples=3, density=0.4, seed=0):
    rng = np.random.default_rng(seed)
    shape = (samples, net.time_steps, net.input.size)
    return (rng.random(shape) < density) * rng.integers(1, net.input.bounds[1] + 1, shape)


def compiled(net, target, x):
    """A program for the activity that the inputs make."""
    mean = cost.mean(cost.measure(net, x, reference.run(net, x).spikes))
    branches = [[each.events] if each.branches is None else each.branches.tolist() for each in mean]
    noted = dataclasses.replace(net, notes={"events": [own for own, *_ in branches],
                                            "events_branches": [others for _, *others in branches],
                                            **cost.notes(mean)})
    seen = cost.known(noted)
    assert [each.events for each in seen] == pytest.approx([each.events for each in mean])
    assert all((a.branches is None) == (b.branches is None) for a, b in zip(seen, mean, strict=True))
    return compile.compile(noted, target)


def test_lmu_in_verilog(tmp_path):
    """Signed counts of several sources in one list, words of several bits among them; each count out of each layer."""
    net = lmu()
    x = frames(net, 10)
    expected = reference.run(net, x)
    assert all(len(np.unique(z)) > 4 and z.min() < 0 for z in expected.spikes[:3])
    program = compiled(net, "ulx3s-85f", x)
    for stall in (0.0, 0.4):
        run = cosim.run(program, x, stall=stall, seed=2, folder=tmp_path)
        assert trace.first_difference(net, expected, run.trace) is None
    counted = cosim.run(program, x, detail=False, folder=tmp_path)
    for counts, spikes in zip(counted.spike_counts, expected.spikes, strict=True):
        assert np.array_equal(counts, spikes.sum(axis=2))


STATES = {
    "synaptic current": {"current": SynapticCurrent(7, ShiftLeak(1))},
    "synaptic current, leak by a table": {
        "current": SynapticCurrent(5, TableLeak(tuple(v // 2 for v in range(-16, 16)))), "act": ReLU()},
    "adaptation": {"adaptation": Adaptation(6, ShiftLeak(2), np.arange(24))},
    "adaptation, full leak of potentials": {"adaptation": Adaptation(4, NoLeak(), np.full(24, 1)), "leak": FullLeak()},
}


@pytest.mark.parametrize("name", STATES)
def test_states_beside_the_potential(name):
    """One group of one update, whose neurons come back as soon as they can; and several."""
    net = lif(**STATES[name])
    x = frames(net)
    expected = reference.run(net, x)
    assert 0.02 < expected.spikes[0].mean() < 0.9
    for placements in ((24, 8), (8, 1)):
        seen, _ = pysim.run(Program(net, "hx8k", [Placement(*placements), Placement(3, 1)]), x)
        assert trace.first_difference(net, expected, seen) is None


CONVOLVED = {
    "activation by a table, no memory": {"act": tanh(16, 6, 0), "leak": FullLeak()},
    "synaptic current, nothing else at rest": {"current": SynapticCurrent(6, NoLeak()), "leak": NoLeak(),
                                               "bias": np.zeros(4, int)},
    "adaptation": {"adaptation": Adaptation(6, ShiftLeak(2), np.arange(1, 5)), "act": ReLU()},
}


@pytest.mark.parametrize("name", CONVOLVED)
def test_convolutions_have_it_too(name):
    rng, shape = np.random.default_rng(7), (5, 4, 4)

    def convolution(number):
        fields = {"threshold": np.full(4, 3), "bias": rng.integers(-1, 2, 4), "v_width": 6, "leak": ShiftLeak(2)}
        return Conv2d(name=f"conv_{number}", input_shape=shape, weights=rng.integers(-1, 2, (4, 4, 3, 3)),
                      weight_format=TERNARY, padding=1, **fields | CONVOLVED[name])

    net = Network(InputFormat(80, 1, shape), (convolution(0), convolution(1), layer(rng, "last", 80, 3)), 4)
    x = frames(net, 3, 0.2)
    x[0], x[:, 2] = 0, 0
    expected = reference.run(net, x)
    assert all(z.any() for z in expected.spikes[:2])
    cores = [None, 0] if not {"current", "adaptation"} & CONVOLVED[name].keys() else [None]
    for core in cores:
        placements = [Placement(6, 2, core=core), Placement(6, 2, core=core), Placement(3, 1)]
        seen, _ = pysim.run(Program(net, "hx8k", placements), x)
        assert trace.first_difference(net, expected, seen) is None


@pytest.mark.parametrize(("steps", "delay"), [(1, 1), (6, 1), (1, 4), (3, 3), (4, 2)])
def test_nothing_of_a_sample_reaches_the_next(steps, delay):
    """Samples shorter than a delay, as long, and longer."""
    rng = np.random.default_rng(5)
    first = layer(rng, "first", 6, 8, others=(branch(rng, "second", 5, 8, delay), branch(rng, "first", 8, 8, delay)))
    second = layer(rng, "second", 8, 5, others=(branch(rng, "input", 6, 5, delay),))
    alone = layer(rng, "alone", 5, 4, source="second", delay=delay)
    net = Network(InputFormat(6), (first, second, alone, layer(rng, "last", 4, 3)), 6)
    x = frames(net, 4, 0.6)[:, :steps]
    program = Program(net, "hx8k", [Placement(4, 2), Placement(6, 2), Placement(4, 1), Placement(3, 1)])
    for stall in (0.0, 0.7):
        seen, _ = pysim.run(program, x, stall=stall, seed=steps)
        assert trace.first_difference(net, reference.run(net, x), seen) is None


def test_whoever_has_the_scores_knows_that_all_is_done():
    """Of a layer that the last one only sees with a delay, the last time steps as well."""
    rng = np.random.default_rng(6)
    slow = layer(rng, "slow", 6, 40, source="input")
    last = layer(rng, "last", 6, 3, source="input", others=(branch(rng, "slow", 40, 3, 4),))
    net = Network(InputFormat(6), (slow, last), 3)
    program = Program(net, "hx8k", [Placement(1, 1), Placement(3, 1)])
    x = frames(net, 2)
    assert [(each.source, each.kept) for each in program.cores[1].i_words.inputs] == [
        ("input", True), ("slow", True), ("slow", False)]
    seen, _ = pysim.run(program, x)
    assert trace.first_difference(net, reference.run(net, x), seen) is None


@pytest.mark.parametrize("name", ["lmu", "lif", "graded"])
def test_predicted_cycles_are_within_five_percent(name):
    rng = np.random.default_rng(1)
    if name == "graded":
        count = {"fire": GradedSpike(-4, 3), "threshold": np.full(40, 4)}
        net = Network(InputFormat(64, 2), (layer(rng, "first", 64, 40, **count), layer(rng, "last", 40, 10)), 5)
    else:
        net = {"lmu": lmu(4, 10, 16), "lif": lif(32, 64)}[name]
    x = frames(net, 2)
    expected = reference.run(net, x)
    program = compiled(net, "ulx3s-25f", x)
    seen, cycles = pysim.run(program, x)
    assert trace.first_difference(net, expected, seen) is None
    steps = cost.measure(net, x, expected.spikes)
    assert cost.predict(program, steps) == pytest.approx(cycles, rel=0.05)
    assert cost.predict(program, [cost.mean(steps)] * len(steps)) == pytest.approx(cycles, rel=0.15)
    if name != "graded":  # each time step waits for the one before
        _, first = pysim.run(program, x[:, :1])
        assert program.notes["cycles_per_time_step"] == pytest.approx(
            (cycles - first) / len(x) / (net.time_steps - 1), rel=0.15)


def test_graded_weights_of_both_signs_take_as_many_cycles_as_counts_have_bits():
    """A count of -7 takes three cycles, one of -8 a single one."""
    cycles = {}
    for count in (-7, -8, 7, 1):
        first = Dense("first", np.full((16, 1), count), WeightFormat("int", 5), np.full(16, 1), np.zeros(16, int), 6,
                      FullLeak(), "none", GradedSpike(-8, 7))
        last = Dense("last", np.ones((64, 16), int), WeightFormat("int", 5), np.full(64, 3), np.zeros(64, int), 6)
        net = Network(InputFormat(1), (first, last), 8)
        x = np.ones((1, 8, 1), int)
        seen, cycles[count] = pysim.run(Program(net, "hx8k", [Placement(16, 1), Placement(8, 1)]), x)
        assert trace.first_difference(net, reference.run(net, x), seen) is None
        assert (seen.spikes[0] == count).all()
    assert cycles[-7] == cycles[7] and cycles[-8] == cycles[1]
    assert cycles[7] - cycles[1] == pytest.approx(8 * 8 * 16 * 2, rel=0.1)  # time steps, groups, inputs, further bits


def test_a_wrong_weight_of_a_branch_is_found():
    net = lif()
    x = frames(net, 4)
    (back,) = net.layers[0].others
    weights, busiest = back.weights.copy(), reference.run(net, x).spikes[0].sum((0, 1)).argmax()
    weights[7, busiest] += 8 if weights[7, busiest] < 0 else -8
    wrong = dataclasses.replace(net.layers[0], others=(dataclasses.replace(back, weights=weights),))
    program = Program(dataclasses.replace(net, layers=(wrong, net.layers[1])), "hx8k", [Placement(8, 4),
                                                                                         Placement(3, 1)])
    seen, _ = pysim.run(program, x)
    difference = trace.first_difference(net, reference.run(net, x), seen)
    assert difference is not None and difference.layer == "recurrent" and difference.neuron == 7


def test_netlist_equals_reference(tmp_path):
    net = lmu(hidden=6, order=4, steps=3)
    x = frames(net, 2)
    assert backend.verify(compiled(net, "ulx3s-85f", x), x, "netlist", folder=tmp_path).difference is None
