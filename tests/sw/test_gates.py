"""Gates in training: what they decide, how they learn, what their statistics prune; and networks that shrink."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs as random_inputs
from networks import map_networks
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import Adaptation, Branch, Dense, InputFormat, Network, ShiftLeak, Spike, WeightFormat
from spikeloom.shrink import shrink
from spikeloom.training import config, model, train
from spikeloom.training.gates import SpikingBlockGate, SpikingChannelGate
from spikeloom.training.layers import SpikingConv2d, SpikingDense
from spikeloom.training.neuron import Neuron
from spikeloom.training.pruning import Channels, Pruning
from spikeloom.training.quantize import quantize

NETWORK = """
readout = "count"
votes = 2
seed = 3
encoder = {{ kind = "direct", width = 1, time_steps = 3 }}
training = {{ loss = {{ kind = "rate_cross_entropy" }}, epochs_float = 1, epochs_quantized = {epochs}, batch = 64 }}
{more}

[data]
dataset = "digits"

[[layers]]
kind = "conv"
channels = 8
norm = {{ kind = "batch" }}
{first}

[[layers]]
kind = "conv"
channels = 8
norm = {{ kind = "batch" }}
leak = {{ kind = "shift", shift = 1 }}
{second}

[[layers]]
size = 20
pool = {{ kind = "sum", rows = 2, columns = 2 }}
norm = {{ kind = "batch" }}
"""


@pytest.fixture
def run(tmp_path):
    """Train a network with these gates; the folder and the state it ends in."""
    def run(name, epochs=2, first="", second="", more="", **options):
        path = tmp_path / f"{name}.toml"
        path.write_text(NETWORK.format(epochs=epochs, first=first, second=second, more=more))
        checkpoint = train.train(path, tmp_path / name, progress=False, **options)
        return checkpoint, train.load(checkpoint)

    return run


def trained(state):
    net = state.config.build()
    net.load_state_dict(state.model)
    return net.eval()


def test_the_softmax_is_the_published_one():
    """A channel is open where w · softmax(means) + b is above 0."""
    torch.manual_seed(1)
    gate = SpikingChannelGate((4, 4, 6), 50).eval()
    with torch.no_grad():
        gate.bias.uniform_(-0.2, 0.2)
    z = (torch.rand(3, 40, 4 * 4 * 6) < 0.3).float()
    softmax = torch.softmax(z.view(3, 40, 16, 6).mean(2), -1)
    span = gate.weight_quantizer.span
    logits = softmax @ gate.weight.T + gate.bias * (span / 2)
    clear = logits.abs() > span / 200  # a table of 8 bits rounds
    assert clear.float().mean() > 0.9
    assert torch.equal(gate(z, quantized=False)[clear] == 1, logits[clear] > 0)


def test_gates_of_exact_integers_decide_as_the_reference_does():
    torch.manual_seed(2)
    first = SpikingConv2d((6, 5, 3), 4, Neuron(4), name="first", gate=SpikingChannelGate((6, 5, 3), 4, high=3,
                                                                                            predictor="mean"))
    first.block_gate = SpikingBlockGate(first.shape, rows=2, columns=2)
    with torch.no_grad():
        first.gate.bias.uniform_(-1, 1)
        first.block_gate.bias.uniform_(-1, 1)
    layer = first.eval().to_layer()
    z = torch.randint(0, 4, (5, 7, 6 * 5 * 3)).float()
    expected = reference.open_channels(layer, z.transpose(0, 1).long().numpy())
    assert 0.1 < expected.mean() < 0.9
    assert torch.equal(first.gate(z) == 1, torch.from_numpy(expected).transpose(0, 1))
    v = torch.randint(-8, 8, (7, 6 * 5 * 4)).float()
    expected = reference.open_blocks(layer, v.long().view(7, 30, 4).numpy())
    assert 0.1 < expected.mean() < 0.9
    threshold = torch.tensor(layer.threshold.tolist(), dtype=torch.float32)
    assert torch.equal(first.block_gate(v, threshold) == 1, torch.from_numpy(expected).flatten(1))


@pytest.mark.parametrize("gate", ['gate = { share = 0.5, strength = 10.0 }',
                                  'gate = { share = 0.5, strength = 4.0, predictor = "mean", reduce = 4 }',
                                  'block_gate = { share = 0.5, strength = 4.0 }',
                                  'block_gate = { share = 0.5, strength = 4.0, depthwise = true, rows = 3 }'])
def test_gates_learn_their_share_and_end_in_the_same_integers(run, gate):
    _, state = run("gated", 4, second=gate)  # all begin open
    net = trained(state)
    module, = net.layers[1].gates
    assert 0.35 < module.opened.mean() < 0.65
    network = net.to_network()
    assert network.layers[1].gate or network.layers[1].block_gate
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (20, 3, 64))
    expected, seen = reference.run(network, x), model.run(network, x)
    for one, other in zip(expected.spikes + expected.membranes, seen.spikes + seen.membranes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_noise_is_the_same_every_time(run):
    gate = 'block_gate = { share = 0.5 }'
    torch.manual_seed(12345)
    _, one = run("one", 1, second=gate)
    assert torch.initial_seed() == 12345  # the caller's own numbers go on
    _, other = run("other", 1, second=gate)
    assert one.model.keys() == other.model.keys()
    assert all(torch.equal(one.model[name], other.model[name]) for name in one.model)


def test_only_gates_that_are_asked_to_close_cost_anything():
    torch.manual_seed(1)
    net = model.SpikingNetwork(InputFormat(32, 1, (4, 4, 2)), [
        SpikingConv2d((4, 4, 2), 3, Neuron(4), gate=SpikingChannelGate((4, 4, 2), 3, share=0.25, strength=2.0)),
        SpikingDense((4, 4, 3), 2, Neuron(4), name="last")], 2)
    assert net.penalty == 0
    z = torch.ones(5, 2, 32)
    net(z)
    opened = net.layers[0].gate(z.transpose(0, 1)).mean().item()
    assert net.penalty.item() == pytest.approx(2 * (opened - 0.25) ** 2)
    net.penalty.backward()
    assert net.layers[0].gate.bias.grad.abs().sum() > 0
    net.layers[0].gate.share = None
    net.layers[0].gate.penalty = 0.0
    net(torch.ones(5, 2, 32))
    assert net.penalty == 0


def test_channels_that_gates_closed_most_are_pruned_and_go(run):
    gated, state = run("gated", 3, first='gate = { share = 0.6, predictor = "mean" }',
                       second='gate = { share = 0.4, strength = 4.0 }')
    net = trained(state)
    shares = [layer.gate.opened for layer in net.layers[:2]]
    granularity = 'granularity = { kind = "channels", by = "gates" }'
    checkpoint, state = run("pruned", 2, more=f"pruning = {{ fraction = 0.4, scope = \"layer\", {granularity} }}",
                            start=gated)
    pruned = trained(state)
    for layer, share in zip(pruned.layers, shares, strict=False):
        assert layer.gate is None and torch.equal(layer.opened, share)
        gone = layer.bias_mask == 0
        assert gone.sum() == 3 and share[gone].max() <= share[~gone].min()
    whole, network = pruned.to_network(), quantize(checkpoint)
    assert network.notes["channels_removed"] == {"hidden_1": 3, "hidden_2": 3}
    assert [layer.shape[2] for layer in network.layers] == [5, 5, 20]
    assert network.weight_bits < 0.6 * whole.weight_bits
    x = np.random.default_rng(2).integers(0, 2, (30, 3, 64))
    np.testing.assert_array_equal(reference.run(network, x).scores, reference.run(whole, x).scores)


def test_layers_without_gates_keep_their_channels(run):
    gated, _ = run("gated", 1, second='gate = { share = 0.4, strength = 4.0 }')
    granularity = 'granularity = { kind = "channels", by = "gates" }'
    _, state = run("pruned", 1, more=f"pruning = {{ fraction = 0.4, {granularity} }}", start=gated)
    assert [int((layer.bias_mask == 0).sum()) for layer in trained(state).layers] == [0, 3, 0]


def test_pruning_by_gates_needs_some():
    net = model.SpikingNetwork(InputFormat(32, 1, (4, 4, 2)), [
        SpikingConv2d((4, 4, 2), 3, Neuron(4)), SpikingDense((4, 4, 3), 2, Neuron(4), name="last")], 2)
    pruning = Pruning(0.5, granularity=Channels("gates"))
    pruning.prepare(net)
    with pytest.raises(SpikeloomError, match="no gate has ever been closed"):
        pruning.prune(net, 0)


@pytest.mark.parametrize(("table", "message"), [
    ('gate = { predictor = "max" }', "predictor must be one of softmax, mean, not 'max'"),
    ("gate = { share = 0 }", "share must lie above 0 and up to 1, not 0.0"),
    ("gate = { strength = -1 }", "strength must be 0 or more, not -1.0"),
    ("gate = { reduce = 3 }", "reduce must divide the 8 channels that come in, not be 3"),
    ("block_gate = { kernel = 2 }", "kernel must be odd and between 1 and 7, not 2"),
    ("block_gate = { rows = 0 }", "rows must be between 1 and 16, not 0"),
    ('pool = { kind = "max" , rows = 2, columns = 2 }\ngate = { by = 1 }', "by is unknown"),
])
def test_mistakes_are_told(tmp_path, table, message):
    path = tmp_path / "network.toml"
    path.write_text(NETWORK.format(epochs=1, first="", second=table, more=""))
    with pytest.raises(SpikeloomError, match=message):
        config.load(path)


# Shrinking --------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_what_shrinks_computes_the_same(data):
    network = data.draw(map_networks(gated=True, attention=data.draw(st.booleans())))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    layers = []
    for layer in network.layers[:-1]:
        gone = rng.random(layer.shape[2]) < 0.5

        def silenced(weights, gone=gone):
            return np.where(gone.reshape(-1, *[1] * (weights.ndim - 1)), 0, weights)

        fields = {"bias": silenced(layer.bias), "threshold": np.maximum(layer.threshold, 1)}
        if 0 in layer.weight_format.values:
            fields["weights"] = silenced(layer.weights)
        if layer.shortcut and 0 in layer.shortcut.weight_format.values:
            fields["shortcut"] = dataclasses.replace(layer.shortcut, weights=silenced(layer.shortcut.weights))
        layers.append(dataclasses.replace(layer, **fields))
    network = dataclasses.replace(network, layers=(*layers, network.layers[-1]))
    small, lost = shrink(network)
    x = data.draw(random_inputs(network))
    expected, seen = reference.run(network, x), reference.run(small, x)
    np.testing.assert_array_equal(seen.scores, expected.scores)
    for layer, other in zip(network.layers, small.layers, strict=True):
        assert other.shape == (*layer.shape[:2], layer.shape[2] - lost.get(layer.name, 0))
    assert shrink(small)[1] == {}


def test_channels_go_where_nothing_binds_them():
    def made(**options):
        layers = [SpikingConv2d((4, 4, 2), 4, Neuron(4), name="first", threshold=2.0),
                  SpikingConv2d((4, 4, 4), 6, Neuron(4), name="second", threshold=2.0, **options),
                  SpikingDense((4, 4, 6), 2, Neuron(4), name="last")]
        with torch.no_grad():
            for layer in layers:
                layer.weight.fill_(1)
            layers[0].weight[1:3] = 0
        return model.SpikingNetwork(InputFormat(32, 1, (4, 4, 2)), layers, 2).to_network()

    small, lost = shrink(made())
    assert lost == {"first": 2} and small.layers[1].weights.shape == (6, 2, 3, 3)
    assert shrink(made(groups=2))[1] == {}
    biased = made()
    first = dataclasses.replace(biased.layers[0], bias=np.array([0, 1, 0, 0]))
    assert shrink(dataclasses.replace(biased, layers=(first, *biased.layers[1:])))[1] == {"first": 1}
    first = dataclasses.replace(biased.layers[0], threshold=np.array([2, 0, -1, 2]), fire=Spike())
    assert shrink(dataclasses.replace(biased, layers=(first, *biased.layers[1:])))[1] == {}
    first = dataclasses.replace(biased.layers[0], weights=np.zeros_like(biased.layers[0].weights))
    small, lost = shrink(dataclasses.replace(biased, layers=(first, *biased.layers[1:])))
    assert lost == {"first": 3} and small.layers[0].shape == (4, 4, 1)


def test_neurons_go_from_layers_that_feed_back():
    rng, form = np.random.default_rng(3), WeightFormat("int", 4)

    def drawn(*shape):
        return rng.integers(-7, 8, shape)

    def silenced(weights, *channels):
        return np.where(np.isin(np.arange(len(weights)), channels)[:, None], 0, weights)

    first = Dense("first", silenced(drawn(5, 3), 1, 4), form, np.full(5, 3), np.array([1, 0, 2, 0, 0]), 8, others=[
        Branch("first", silenced(drawn(5, 5), 1, 4), form, 1), Branch("last", silenced(drawn(5, 2), 1, 4), form, 2)],
        adaptation=Adaptation(5, ShiftLeak(1), np.arange(5)))
    last = Dense("last", drawn(2, 5), form, np.full(2, 3), np.zeros(2, int), 8, others=[
        Branch("first", drawn(2, 5), form, 1)])
    network = Network(InputFormat(3), (first, last), 9)
    small, lost = shrink(network)
    assert lost == {"first": 2} and [branch.weights.shape for branch in small.layers[0].branches] == [
        (3, 3), (3, 3), (3, 2)]
    x = rng.integers(0, 2, (4, 9, 3))
    expected, seen = reference.run(network, x), reference.run(small, x)
    np.testing.assert_array_equal(seen.spikes[1], expected.spikes[1])
    np.testing.assert_array_equal(seen.membranes[0], expected.membranes[0][..., [0, 2, 3]])
    assert expected.spikes[0].any() and expected.spikes[1].any()
