"""The PyTorch implementation against the reference, with ==."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs as random_inputs
from networks import map_networks, networks
from spikeloom import model, quantizers, reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, Silent, Spike, WeightFormat
from spikeloom.neuron import Neuron


def assert_same(network, x):
    expected, seen = reference.run(network, x), model.run(network, x, device="cpu")
    for number, layer in enumerate(network.layers):
        for what in ("spikes", "membranes"):
            np.testing.assert_array_equal(getattr(seen, what)[number], getattr(expected, what)[number],
                                          f"{what} of {layer}", strict=True)
    np.testing.assert_array_equal(expected.scores, seen.scores, strict=True)
    np.testing.assert_array_equal(expected.winners, seen.winners, strict=True)
    return expected


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_torch_equals_reference(data):
    network = data.draw(networks())
    assert_same(network, data.draw(random_inputs(network)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_maps_in_torch_equal_the_reference(data):
    network = data.draw(map_networks())
    assert_same(network, data.draw(random_inputs(network)))


def single(weight, threshold, *, v_width=4, bias=0, **options):
    """One neuron with one input of 8 bits."""
    layer = Dense("one", np.array([[weight]]), WeightFormat("int", 8), np.array([threshold]),
                  np.array([bias]), v_width, **options)
    return Network(InputFormat(1, 8), (layer,), 64)


def test_fires_exactly_at_threshold():
    trace = assert_same(single(1, 7), np.array([[[6]], [[7]], [[8]]]))
    assert trace.spikes[0].ravel().tolist() == [0, 1, 1]
    assert trace.membranes[0].ravel().tolist() == [6, 0, 1]


@pytest.mark.parametrize(("weight", "edge"), [(1, 7), (-1, -8)])
def test_saturates_at_both_ends(weight, edge):
    network = single(weight, 100, fire=Silent())
    trace = assert_same(network, np.full((1, 5, 1), 3))
    assert trace.membranes[0].ravel().tolist() == [3 * weight, 6 * weight, edge, edge, edge]


def test_leak_rounds_toward_minus_infinity():
    network = single(-1, 100, leak=ShiftLeak(1))
    trace = assert_same(network, np.array([[[5], [0], [0], [0]]]))
    assert trace.membranes[0].ravel().tolist() == [-5, -2, -1, 0]


def test_run_in_small_batches_is_the_same():
    rng = np.random.default_rng(5)
    layer = Dense("a", rng.integers(-1, 2, (4, 6)), WeightFormat("ternary", 2), np.full(4, 2),
                  np.zeros(4, int), 5)
    network = Network(InputFormat(6), (layer,), 3)
    x = rng.integers(0, 2, (7, 3, 6))
    whole, parts = model.run(network, x, device="cpu"), model.run(network, x, device="cpu", batch=2)
    np.testing.assert_array_equal(whole.membranes[0], parts.membranes[0])


def test_run_is_exact_where_the_caller_lowered_the_precision():
    rng = np.random.default_rng(6)
    layer = Dense("a", rng.integers(-128, 128, (64, 256)), WeightFormat("int", 8), np.full(64, 99),
                  np.zeros(64, int), 16)
    network = Network(InputFormat(256, 8), (layer,), 2)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(network, rng.integers(0, 256, (64, 2, 256)))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_network_survives_the_way_through_torch(data):
    network = data.draw(networks() | map_networks())
    assert model.from_network(network).to_network().digest == network.digest


def test_a_constant_input_equals_its_repetition():
    torch.manual_seed(1)
    net = model.SpikingNetwork(InputFormat(5), [model.SpikingDense(5, 4, Neuron(5), threshold=2.0),
                                                model.SpikingDense(4, 3, Neuron(5), threshold=2.0)], 6)
    x = torch.randint(0, 2, (7, 1, 5))
    results = []
    for inputs in (x.expand(-1, 6, -1), x.repeat(1, 6, 1)):
        net.zero_grad()
        spikes, membranes = net(inputs, record=True)
        (spikes[-1].sum() * 2 + membranes[-1].sum()).backward()
        results.append(([*spikes, *membranes], [parameter.grad.clone() for parameter in net.parameters()]))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)  # float sums in another order


def test_to_network_uses_the_quantizers():
    layer = model.SpikingDense(2, 2, Neuron(6, fire=Spike()), name="only", weights=quantizers.Ternary())
    net = model.SpikingNetwork(InputFormat(2), [layer], 4, "membrane")
    with torch.no_grad():
        net.layers[0].weight.copy_(torch.tensor([[0.6, -3.0], [0.4, -0.7]]))
        net.layers[0].threshold.copy_(torch.tensor([-4.0, 7.6]))
        net.layers[0].bias.copy_(torch.tensor([-1.4, 2.6]))
    network = net.to_network({"why": "test"})
    assert network.layers[0].weights.tolist() == [[1, -1], [0, -1]]
    assert network.layers[0].threshold.tolist() == [1, 8]
    assert network.layers[0].bias.tolist() == [-1, 3]
    assert (network.time_steps, network.readout, network.notes) == (4, "membrane", {"why": "test"})


def test_run_refuses_what_the_reference_refuses():
    network = single(1, 1)
    for bad in (np.zeros((1, 1, 2), int), np.zeros((1, 1, 1)), np.full((1, 1, 1), 256)):
        with pytest.raises(SpikeloomError) as expected:
            reference.run(network, bad)
        with pytest.raises(SpikeloomError) as seen:
            model.run(network, bad)
        assert str(seen.value) == str(expected.value)


def test_an_absent_device_is_named():
    with pytest.raises(SpikeloomError, match="Device 'nonsense' is not usable here"):
        model.choose_device("nonsense")


def test_every_membrane_width_saturates_as_the_reference():
    rng = np.random.default_rng(7)
    for v_width in range(2, 17):
        layer = dataclasses.replace(single(127, 2 ** (v_width - 1), v_width=v_width).layers[0], reset="none")
        network = Network(InputFormat(1, 8), (layer,), 300)
        assert_same(network, rng.integers(0, 256, (2, 300, 1)))
