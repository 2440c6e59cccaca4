"""Layers that feed back, from their training to report and energy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloom import data, reference
from spikeloom.energy import workload
from spikeloom.errors import SpikeloomError
from spikeloom.network import GradedSpike, InputFormat, ReLU, ShiftLeak, Spike, SynapticCurrent
from spikeloom.report import meters, page
from spikeloom.report.findings import Findings
from spikeloom.shrink import shrink
from spikeloom.training import config, model, quantize, quantizers, train
from spikeloom.training.layers import SpikingDense
from spikeloom.training.neuron import Adapting, Neuron
from spikeloom.training.pruning import Channels, Pruning, Words
from spikeloom.training.synapses import SpikingBranch

NEURON = Neuron(8, ShiftLeak(2), act=ReLU(), current=SynapticCurrent(6, ShiftLeak(1)),
                adaptation=Adapting(6, ShiftLeak(3)))


def pair(*, back=True, weights=None):
    """Two layers: one that feeds itself, and with ``back`` takes what the other fires too, and one of 3 classes."""
    others = [SpikingBranch("first", 6, 6, delay=1)] + ([SpikingBranch("last", 3, 6, delay=2)] if back else [])
    first = SpikingDense(5, 6, NEURON, weights=weights, threshold=3.0, name="first", others=others)
    last = SpikingDense(6, 3, Neuron(8), weights=weights, threshold=3.0, name="last")
    return model.SpikingNetwork(InputFormat(5, 2), [first, last], 7)


@pytest.mark.parametrize("quantized", [True, False])
def test_one_pass_and_steps_in_turn_are_the_same(quantized, monkeypatch):
    torch.manual_seed(2)
    net = pair(back=False).double()
    x = torch.randint(0, 4, (4, 7, 5)).double()
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor.double())  # of inputs
    results = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr(model, "_at_once", lambda layer, sources: layer.name not in sources)
        net.zero_grad()
        spikes, membranes = net(x, quantized=quantized, record=True)
        (spikes[-1].sum() * 2 + sum(v.sum() for v in membranes)).backward()
        results.append([*spikes, *membranes, *(each.grad.clone() for each in net.parameters())])
    assert results[0][0].any()
    assert all(grad.abs().sum() > 0 for grad in results[0][4:])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("quantized", [True, False])
def test_gradients_reach_everything_that_is_learned(quantized):
    torch.manual_seed(3)
    net = pair()
    spikes, _ = net(torch.randint(0, 4, (8, 7, 5)), quantized=quantized)
    (spikes[-1] * torch.randn_like(spikes[-1])).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_what_a_layer_fires_late_does_not_depend_on_what_comes_later():
    """The gradient of a spike at t in the inputs is zero from t on, with a delay from before."""
    torch.manual_seed(4)
    layer = SpikingDense(5, 3, Neuron(8), threshold=2.0, delay=2)
    z = torch.rand(7, 1, 5, requires_grad=True)
    spikes, _ = layer(z, quantized=False)
    grad, = torch.autograd.grad(spikes[4].sum(), z)
    assert grad[:3].abs().sum(2).all()
    assert not grad[3:].any()


@pytest.mark.parametrize("weights", [quantizers.Integer(3), quantizers.LearnedRange(4), quantizers.NormalizedBinary()])
def test_branches_count_steps_of_the_layers_own_weights(weights):
    torch.manual_seed(5)
    net = pair(weights=weights)
    net.start_quantizing()
    for layer in net.layers:
        layer.threshold.data.mul_(torch.as_tensor(layer.step(True)).detach().mean())
    network = net.eval().to_network()
    x = np.random.default_rng(1).integers(0, 4, (6, 7, 5))
    with torch.no_grad(), model.exact_products():
        spikes, membranes = net(torch.from_numpy(x), record=True)
    expected = reference.run(network, x)
    assert expected.spikes[0].any()
    for number in range(2):
        np.testing.assert_array_equal(spikes[number].transpose(0, 1), expected.spikes[number])
        np.testing.assert_array_equal(membranes[number].transpose(0, 1), expected.membranes[number])


def test_latents_are_taken_with_branches_and_steps():
    torch.manual_seed(6)
    one, other = pair(), pair()
    with torch.no_grad():
        one.layers[0].raise_by.uniform_(0, 3)
    other.take(one)
    for (name, mine), its in zip(other.named_parameters(), one.parameters(), strict=True):
        assert torch.equal(mine, its), name
    with pytest.raises(SpikeloomError, match="layer first has weights of shape"):
        pair(back=False).take(one)


def test_a_branch_has_no_step_of_its_own():
    with pytest.raises(SpikeloomError) as error:
        SpikingBranch("input", 2, 2, weights=quantizers.SAWB(4))
    assert str(error.value) == ("Branch: its weights count steps of the layer's own, so they cannot be of kind sawb, "
                                "which has one")


def test_names_must_differ():
    with pytest.raises(SpikeloomError) as error:
        model.SpikingNetwork(InputFormat(2), [SpikingDense(2, 2, Neuron(4)), SpikingDense(2, 2, Neuron(4))], 3)
    assert str(error.value) == "Layer names must differ, but are dense, dense"


@pytest.mark.parametrize("granularity", [Words(4), Channels()])
def test_branches_are_pruned_too(granularity):
    torch.manual_seed(7)
    net = pair()
    pruning = Pruning(0.5, granularity=granularity)
    pruning.prepare(net)
    pruning.prune(net, 0)
    masks = [branch.weight_mask for branch in net.layers[0].branches]
    gone = [(mask == 0).flatten(1).all(1) for mask in masks]
    if isinstance(granularity, Channels):
        assert gone[0].sum() == 3
        assert all(torch.equal(each, gone[0]) for each in gone)
        network = net.to_network()
        smaller, lost = shrink(network)
        assert lost == {"first": 3}
        x = np.random.default_rng(1).integers(0, 4, (6, 7, 5))
        np.testing.assert_array_equal(reference.run(smaller, x).scores, reference.run(network, x).scores)
    else:
        assert all((mask == 0).any() for mask in masks)
        assert all(torch.equal(mask[:4], mask[:1].expand(4, -1)) for mask in masks)  # words of 4 neighbours


# From a configuration to the report -------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run on digits, its network in it."""
    digits = config.load("digits")
    layers = (
        config.DenseLayer(size=16, name="first", recurrent=config.Recurrent(quantizers.Integer(3), 2),
                          branches=(config.FurtherBranch("output", delay=1),), adaptation=Adapting(6, ShiftLeak(2))),
        config.DenseLayer(size=12, fire=GradedSpike(-2, 3), act=ReLU(), current=SynapticCurrent(6, ShiftLeak(1)),
                          delay=1),
        replace(digits.layers[1], v_width=8, fire=Spike()))
    wanted = replace(digits, layers=layers, training=replace(digits.training, epochs_float=1, epochs_quantized=3))
    folder = tmp_path_factory.mktemp("run")
    quantize.quantize(train.train(wanted, folder, device="cpu", progress=False)).save(folder / "network.npz")
    return folder


def test_a_recurrent_network_is_trained_and_quantized(run):
    state = train.load(run / train.CHECKPOINT)
    assert state.accuracy > 0.4
    network = model.Network.load(run / "network.npz")
    assert network.loops == [range(3)]
    learned = state.model["layers.0.raise_by"]
    assert len(learned.unique()) > 1  # they began alike
    inputs, labels = data.samples(network.notes["data"], "test")
    expected, seen = reference.run(network, inputs), model.run(network, inputs, device="cpu")
    for one, other in zip(expected.spikes + expected.membranes, seen.spikes + seen.membranes, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (seen.winners == labels).mean() == pytest.approx(state.accuracy)
    assert network.notes["events_branches"][0] == pytest.approx(
        [network.notes["events"][1], network.notes["events_branches"][0][1]])  # what it fires is what the next gets
    assert network.notes["events_branches"][1:] == [[], []]


def test_reports_count_branches_and_states(run):
    network = model.Network.load(run / "network.npz")
    first = network.layers[0]
    inputs, _ = data.samples(network.notes["data"], "test", 20)
    seen = reference.run(network, inputs)
    memory = meters.memory(network)
    assert memory[0].weights == 16 * (64 + 16 + 10)
    assert (memory[0].membranes, memory[0].membrane_bits) == (32, 16 * (6 + 6))
    assert memory[1].membrane_bits == 12 * (6 + 6)
    fired = {"first": seen.spikes[0], "output": seen.spikes[2]}
    for branch in first.others:
        present = (branch.weights != 0).sum(0)
        events = np.bitwise_count(np.abs(fired[branch.source])).sum((0, 1))
        assert meters.operations(branch, fired[branch.source]) == int(present @ events)
    names = [layer.name for layer in workload.of_network(network, inputs, seen.spikes).layers]
    assert names == ["first", "first, branch 0", "first, branch 1", "hidden_2", "output"]
    assert page.synapses(first) == ("dense, and from first dense, 2 time steps late, and from output dense, 1 time "
                                    "step late")
    page.write(Findings.gather(run), run / "report.html")
    text = (run / "report.html").read_text()
    assert "synaptic current of 6 bits, leak shift 1" in text
    assert "adaptation of 6 bits, leak shift 2" in text
