"""Integer networks of activities: the same counts where nothing has to be rounded, nearly the same sums elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import GradedSpike, InputFormat, NoLeak, Silent
from spikeloom.training import config, lmu, quantize, train
from spikeloom.training import model as models
from spikeloom.training.hybrid import Constant, Geometric, HybridDense, Identity, LIFRate, ReLU, Spiking, Tanh
from spikeloom.training.layers import SpikingDense
from spikeloom.training.model import SpikingNetwork
from spikeloom.training.neuron import Neuron
from spikeloom.training.quantizers import Integer
from spikeloom.training.synapses import SpikingBranch

STEPS = 40


def last(n_in, weights=None):
    """A read-out with a bias."""
    layer = SpikingDense(n_in, 3, Neuron(16, NoLeak(), "none", Silent()), weights=weights or Integer(8), name="output")
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-9, 10, layer.weight.shape))
        layer.bias.copy_(torch.tensor([1.0, -2.0, 0.0]))
    return layer


def network_of(*layers, n_in, width=1):
    """A network of these layers, and its integers."""
    model = SpikingNetwork(InputFormat(n_in, width), [*layers, last(layers[-1].shape[2])], STEPS, "membrane").eval()
    return model, model.to_network()


def inputs_of(n_in, width=1, samples=4):
    return np.random.default_rng(1).integers(0, 2**width, (samples, STEPS, n_in)).astype(np.uint8)


def counts(model, inputs):
    """What each layer of activities sends, as counts (samples, time steps, neurons), and the last one's potentials."""
    with torch.no_grad():
        spikes, membranes = model(torch.from_numpy(inputs), quantized=False)
    units = [layer.unit for layer in model.layers[:-1]]
    return ([(z.double() * unit).round().transpose(0, 1).numpy() for z, unit in zip(spikes, units, strict=False)],
            membranes[-1].transpose(0, 1).numpy())


@pytest.mark.parametrize("activation", [Identity(), ReLU()], ids=lambda activation: activation.kind)
def test_counts_are_the_same_where_weights_are_integers(activation):
    """Weights of few bits behind the point, and ω a power of two: nothing is rounded, and every count is equal."""
    torch.manual_seed(1)
    first = HybridDense((1, 1, 6), 8, activation=activation, spiking=Spiking(Constant(2.0)), name="first")
    second = HybridDense((1, 1, 8), 5, activation=activation, spiking=Spiking(Constant(4.0)), name="second")
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.copy_(torch.randint(-60, 61, layer.weight.shape) / 64)
            layer.bias.copy_(torch.randint(-9, 10, layer.bias.shape) / 32)
    model, network = network_of(first, second, n_in=6)
    assert [layer.name for layer in network.layers] == ["first", "second", "output"]
    inputs = inputs_of(6)
    trace = reference.run(network, inputs)
    wanted, potentials = counts(model, inputs)
    for z, n in zip(trace.spikes, wanted, strict=False):
        assert np.array_equal(z, n)
        assert len(np.unique(n)) > 3
    assert np.array_equal(trace.membranes[-1], 4 * potentials)  # as counts are 4 times activities
    for layer in network.layers[:2]:
        assert (layer.reset, layer.leak, layer.act is None) == ("subtract", NoLeak(), activation == Identity())


def test_activities_of_graded_input():
    """Inputs of several bits stand for 0 to 1."""
    torch.manual_seed(2)
    layer = HybridDense((1, 1, 4), 6, activation=ReLU(), spiking=Spiking(Constant(3.0)), high=15.0, width=12,
                        name="first")
    model, network = network_of(layer, n_in=4, width=4)
    inputs = inputs_of(4, 4)
    z, = reference.run(network, inputs).spikes[:1]
    wanted = counts(model, inputs)[0][0]
    assert np.abs(z.cumsum(1) - wanted.cumsum(1)).max() <= 1
    assert (z == wanted).mean() > 0.97


@pytest.mark.parametrize("activation", [Tanh(), LIFRate()], ids=lambda activation: activation.kind)
def test_tables(activation):
    torch.manual_seed(3)
    layer = HybridDense((1, 1, 10), 6, activation=activation, spiking=Spiking(Constant(4.0)), entries=1024, width=12,
                        name="first")
    with torch.no_grad():
        layer.weight.mul_(3)
        layer.bias.uniform_(0, 2)
    model, network = network_of(layer, n_in=10)
    inputs = inputs_of(10)
    z, = reference.run(network, inputs).spikes[:1]
    wanted = counts(model, inputs)[0][0]
    assert np.abs(z.cumsum(1) - wanted.cumsum(1)).max() <= 2  # of up to 160
    assert len(network.layers[0].act.table) == 1024
    assert network.layers[0].fire == GradedSpike(-4, 4)


def fractions(matrix, bits=10):
    """``matrix`` with so many bits behind the point."""
    return (matrix * 2**bits).round() / 2**bits


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("feedback", [False, True])
def test_legendre_memory_units_are_two_layers(monkeypatch, feedback, recurrent):
    """Where nothing in a memory has to be rounded, all its counts are equal, unless it hears neurons, which a table
    rounds. Those that hear nothing back are never further off than their tables."""
    torch.manual_seed(4)
    real = lmu.legendre
    monkeypatch.setattr(lmu, "legendre", lambda *fields: tuple(fractions(each) for each in real(*fields)))
    omega = Spiking(Constant(16.0))
    layer = lmu.LMU((1, 1, 2), 9, order=6, window=15.0, hidden=omega, memory=omega, exact=False, feedback=feedback,
                    recurrent=recurrent, width=12, entries=4096, name="lmu").double()
    with torch.no_grad():
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
            parameter.copy_(fractions(parameter, 3))
        if feedback:
            layer.memory_encoder.mul_(0.25)
    network = network_of(layer, n_in=2)[1]
    memory, neurons, _ = network.layers
    assert (memory.name, neurons.name) == ("lmu_memory", "lmu")
    assert [(branch.source, branch.delay) for branch in memory.others] == (
        [("lmu", 1)] * feedback + [("lmu_memory", 1)])
    assert [(branch.source, branch.delay) for branch in neurons.others] == [("input", 0)] + [("lmu", 1)] * recurrent
    assert neurons.fire == GradedSpike(-16, 16)
    inputs = inputs_of(2, samples=20)
    of_memory, of_neurons, _ = reference.run(network, inputs).spikes
    with torch.no_grad():
        h, m = ((each * 16).round().transpose(0, 1).numpy() for each in
                layer(torch.from_numpy(inputs).transpose(0, 1).double(), record=True))
    assert np.abs(m).mean() > 1
    assert np.abs(h).mean() > 1
    if feedback:
        assert (of_memory == m)[:, :3].mean() > 0.9
    else:
        assert np.array_equal(of_memory, m)
    alike = slice(0, 3) if feedback or recurrent else slice(None)
    off = np.abs(of_neurons.cumsum(1) - h.cumsum(1))[:, alike]
    assert off.max() <= 2
    assert (off == 0).mean() > 0.7


def small():
    packaged = config.load("digits")
    omega = Spiking(Geometric(32.0, 8.0, 0.5))
    layers = (config.LMULayer(size=24, order=10, window=16.0, hidden=omega, memory=Spiking(Constant(16.0)),
                              exact=False), replace(packaged.layers[1], v_width=16, weights=Integer(6)))
    training = replace(packaged.training, loss=replace(packaged.training.loss, scale=20.0), epochs_float=4,
                       epochs_quantized=0, rate=0.02)
    return replace(packaged, encoder=config.Pixels(16, 4), layers=layers, training=training)


def test_a_trained_one_is_about_as_good_in_integers(tmp_path):
    checkpoint = train.train(small(), tmp_path, device="cpu", progress=False)
    network = quantize.quantize(checkpoint)
    accuracy = network.notes["accuracy"]
    assert accuracy["float"] == train.load(checkpoint).accuracy > 0.5
    assert accuracy["torch"] > accuracy["float"] - 0.05
    inputs = inputs_of(network.input.size, 4)[:, :16]
    for one, other in zip(models.run(network, inputs).spikes, reference.run(network, inputs).spikes, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("spiking", "message"), [
    (None, "Layer first: what is sent of its activity are no counts, so there is no integer network"),
    (Spiking(Constant(1.0), "stochastic"),
     "Layer first: its activity is rounded by chance, so there is no integer network"),
    (Spiking(Constant(2.0**30)), "Layer first: its weights are too large for integers with an ω of 1.07374e+09")])
def test_what_has_no_integers_says_so(spiking, message):
    with pytest.raises(SpikeloomError) as error:
        network_of(HybridDense((1, 1, 2), 3, activation=ReLU(), spiking=spiking, name="first"), n_in=2)
    assert str(error.value) == message


def test_an_exact_memory_has_no_integers():
    omega = Spiking(Constant(1.0))
    with pytest.raises(SpikeloomError) as error:
        network_of(lmu.LMU((1, 1, 2), 3, order=4, window=8.0, hidden=omega, memory=omega, name="first"), n_in=2)
    assert str(error.value) == ("Layer first: its memory goes on with what is not sent, so there is no integer "
                                "network; train it with exact = false")


def test_counts_that_are_summed_have_the_same_unit():
    first, second = (HybridDense((1, 1, 2), 4, activation=ReLU(), spiking=Spiking(Constant(omega)), name=name,
                                 source="input") for omega, name in ((2.0, "first"), (4.0, "second")))
    both = last(4)
    both.others.append(SpikingBranch("first", 4, 3))
    model = SpikingNetwork(InputFormat(2), [first, second, both], STEPS, "membrane")
    with pytest.raises(SpikeloomError) as error:
        model.to_network()
    assert str(error.value) == "Layer output: sums counts of different ω, 2 and 4"
