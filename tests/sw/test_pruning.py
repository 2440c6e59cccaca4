"""Pruning: what goes, by magnitude and in blocks; that it stays away; the schedules that it makes with quantizers."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spikeloom import reference
from spikeloom.compiler.window import Branch
from spikeloom.errors import SpikeloomError
from spikeloom.network import InputFormat, Pool
from spikeloom.training import config, losses, model, quantize, quantizers, train
from spikeloom.training.attention import JointAttention
from spikeloom.training.layers import SpikingConv2d, SpikingDense
from spikeloom.training.neuron import Neuron
from spikeloom.training.norm import BatchNorm
from spikeloom.training.pruning import Channels, Pruning, Single, Words
from spikeloom.training.synapses import SpikingShortcut

SHAPE, INNER = (6, 6, 4), (6, 6, 6)


def built(pruning, norm=None, weights=None, seed=5):
    """A network of all that has weights, prepared to be pruned: convolutions with a stride and groups, a shortcut, an
    attention, a dense layer; without latents that round to zero."""
    generator = torch.Generator().manual_seed(seed)
    options = {"weights": weights or quantizers.Integer(4), "norm": norm}
    shortcut = SpikingShortcut("first", INNER, 8, stride=2, weights=quantizers.Ternary())
    layers = [SpikingConv2d(SHAPE, 6, Neuron(8), groups=2, name="first", **options),
              SpikingConv2d(INNER, 8, Neuron(8), stride=2, name="second", norm=norm, shortcut=shortcut),
              SpikingDense((3, 3, 8), 12, Neuron(8), name="third", attention=JointAttention((3, 3, 8), 4),
                                 pool=Pool("sum", 3, 3), **options),
              SpikingDense(12, 10, Neuron(8), name="last", **options)]
    network = model.SpikingNetwork(InputFormat(144, 1, SHAPE), layers, 4)
    with torch.no_grad():
        for owner, name in network.tensors:
            latent, quantizer, _ = owner.of(name)
            latent.uniform_(0.6 * quantizer.span, quantizer.span, generator=generator)
            latent.mul_(torch.randint(0, 2, latent.shape, generator=generator) * 2 - 1)
        for layer in layers:
            layer.bias.uniform_(-3, 3, generator=generator)
    pruning.prepare(network)
    return network


def masks(network):
    return [owner.of(name)[2] for owner, name in network.tensors]


def magnitudes(network):
    return [(owner.of(name)[0].detach().abs() / owner.of(name)[1].span) for owner, name in network.tensors]


# What goes --------------------------------------------------------------------------------------


def test_of_single_weights_the_smallest_go_wherever_they_are():
    network = built(pruning := Pruning(0.8))
    assert len(masks(network)) == 7 and all(mask.all() for mask in masks(network))
    pruning.prune(network, 0)
    size = torch.cat([each.flatten() for each in magnitudes(network)])
    kept = torch.cat([mask.flatten() for mask in masks(network)]).bool()
    assert (~kept).sum() == round(0.8 * len(kept))
    assert size[~kept].max() <= size[kept].min()
    assert {mask.mean().item() > 0.2 for mask in masks(network)} == {False, True}


def test_of_each_layer_the_same_share_goes():
    network = built(pruning := Pruning(0.3, "layer"))
    pruning.prune(network, 0)
    for mask, size in zip(masks(network), magnitudes(network), strict=True):
        assert (mask == 0).sum() == round(0.3 * mask.numel())
        assert size[mask == 0].max() <= size[mask == 1].min()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("lanes", [1, 2, 4, 5])
def test_words_are_rows_of_the_weight_memory(lanes, scope):
    network = built(pruning := Pruning(0.5, scope, Words(lanes)))
    pruning.prune(network, 0)
    first, second, third, last = network.to_network().layers
    kept = masks(network)
    for synapses, mask in ((first, kept[0]), (second, kept[1]), (second.shortcut, kept[2])):
        layer = replace(synapses, weights=np.ones_like(synapses.weights))
        rows, whole = (Branch(each, None, -(-layer.shape[2] // lanes), lanes).weights for each in (synapses, layer))
        if layer.shape[2] % lanes == 0:  # otherwise copies of the first channel fill up the last group
            assert ((rows != 0) == (whole != 0))[(rows != 0).any(1)].all()  # a row is there or not, whole
            assert 0 < (rows != 0).any(1).sum() < (whole != 0).any(1).sum()
        assert ((mask == 0).numpy() == (synapses.weights == 0)).all()
    for dense, mask in ((third, kept[3]), (last, kept[6])):
        for group in range(0, len(mask), lanes):
            assert torch.equal(mask[group:group + lanes], mask[group:group + 1].expand_as(mask[group:group + lanes]))
        assert (dense.weights == 0).any() and (dense.weights != 0).any()
    total = sum(mask.numel() for mask in kept)
    gone = sum(int((mask == 0).sum()) for mask in kept)
    assert 0.5 * total - (lanes * 3 if scope == "global" else lanes * 3 * len(kept)) <= gone <= 0.5 * total


def test_words_go_by_their_mean_magnitude():
    network = built(pruning := Pruning(0.5, granularity=Words(4)))
    pruning.prune(network, 0)
    last = network.layers[3]
    means = torch.stack([(rows.abs() / 4).mean(0) for rows in last.weight.detach().split(4)])
    kept = torch.stack([rows[0] for rows in last.weight_mask.split(4)]).bool()
    first = network.layers[0].weight.detach().abs() / 4
    # Channels 0 to 3 are a word's: of group 0 the first three, of group 1 the last, whose inputs are others.
    own, foreign = first[:3].mean((0, 3)), first[3].mean(2)
    conv_kept = torch.cat([network.layers[0].weight_mask[0, :, :, 0], network.layers[0].weight_mask[3, :, :, 0]]).bool()
    conv = torch.cat([own, foreign])
    assert max(means[~kept].max(), conv[~conv_kept].max()) <= min(means[kept].min(), conv[conv_kept].min())


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_pruned_channels_never_fire(norm):
    network = built(pruning := Pruning(0.4, granularity=Channels()), norm)
    pruning.prune(network, 0)
    x = torch.randint(0, 2, (6, 4, 144), generator=torch.Generator().manual_seed(1))
    for quantized in (False, True):  # statistics are of use
        network(x, quantized=quantized)[0][-1].sum().backward()
    network.eval()
    trace = reference.run(network.to_network(), x.numpy())
    floats, _ = network(x, quantized=False)
    for number, layer in enumerate(network.layers[:-1]):
        gone = layer.bias_mask == 0
        assert all((branch.weight_mask[gone] == 0).all() and (branch.weight_mask[~gone] == 1).all()
                   for branch in layer.branches)
        channels = len(gone)
        for spikes in (torch.from_numpy(trace.spikes[number]), floats[number]):
            fired = spikes.reshape(-1, channels).sum(0)
            assert (fired[gone] == 0).all()
        assert trace.spikes[number].any()
        assert not network.to_network().layers[number].bias[gone.numpy()].any()
    assert network.layers[3].weight_mask.all() and network.layers[2].attention.time_weight_mask.all()
    gone = torch.cat([layer.bias_mask == 0 for layer in network.layers[:-1]])
    assert 0.2 < gone.float().mean() < 0.7


def test_rounds_take_more_of_what_is_left():
    pruning = Pruning(0.9, epoch=2, rounds=3, every=4)
    assert pruning.epochs == [2, 6, 10]
    network, before = built(pruning), None
    total = sum(mask.numel() for mask in masks(network))
    for number, epoch in enumerate(pruning.epochs, 1):
        pruning.prune(network, epoch)
        flat = torch.cat([mask.flatten() for mask in masks(network)])
        assert (flat == 0).sum() == round(0.9 * number / 3 * total)
        assert before is None or (flat <= before).all()
        before = flat
        with torch.no_grad():  # what was pruned does not come back, however large it is
            for owner, name in network.tensors:
                owner.of(name)[0][owner.of(name)[2] == 0] = 100.0


def test_masks_come_after_the_quantizer():
    network = built(pruning := Pruning(0.5), weights=quantizers.LearnedRange(4))
    pruning.prune(network, 0)
    last = network.layers[3]
    last.weight_quantizer.start(last.weight)
    assert torch.equal(last.used_weight(True), last.weight_quantizer(last.weight) * last.weight_mask)
    last.used_weight(True).square().sum().backward()
    assert (last.weight.grad[last.weight_mask == 0] == 0).all() and last.weight.grad.any()


@pytest.mark.parametrize("weights", [quantizers.Binary(), quantizers.SumOfSigmoids(1), quantizers.NormalizedBinary()],
                         ids=str)
def test_a_grid_without_zero_is_not_pruned(weights):
    with pytest.raises(SpikeloomError) as error:
        built(Pruning(0.5), weights=weights)
    assert str(error.value) == "Layer first: weights of kind binary cannot be pruned, as their grid has no zero"


@pytest.mark.parametrize(("fields", "message"), [
    ({"fraction": 1.0}, "fraction must be at least 0 and below 1, not 1.0"),
    ({"scope": "local"}, "scope must be one of global, layer, not 'local'"),
    ({"rounds": 0}, "rounds must be 1 or more, not 0"),
    ({"epoch": -1}, "epoch must be 0 or more, not -1")])
def test_what_pruning_cannot_be(fields, message):
    with pytest.raises(SpikeloomError) as error:
        Pruning(**{"fraction": 0.5} | fields)
    assert str(error.value) == message
    with pytest.raises(SpikeloomError, match="lanes must be 1 or more, not 0"):
        Words(0)


def test_a_single_layer_has_no_channels_to_prune():
    network = model.SpikingNetwork(InputFormat(4), [SpikingDense(4, 2, Neuron(6))], 2)
    with pytest.raises(SpikeloomError, match="Pruning of channels leaves the last layer alone, and there is no other"):
        Pruning(0.5, granularity=Channels()).prepare(network)


# Schedules --------------------------------------------------------------------------------------


def digits(pruning, epochs=(1, 2), weights=None, **changes):
    """A configuration that trains in a second."""
    packaged = config.load("digits")
    weights = weights or quantizers.LearnedRange(3)
    layers = tuple(config.DenseLayer(size=size, v_width=10, weights=weights, norm=BatchNorm()) for size in (20, 10))
    training = replace(packaged.training, loss=losses.RateCrossEntropy(0.5), epochs_float=epochs[0],
                       epochs_quantized=epochs[1], rate=0.03)
    return replace(packaged, layers=layers, training=training, readout="count", pruning=pruning, **changes)


def test_phases():
    assert digits(None, (3, 4)).phases == [0, 3, 7]
    assert digits(None, (0, 4)).phases == [0, 4]
    assert digits(Pruning(0.5), (3, 4)).phases == [0, 3, 7]  # cumulative
    assert digits(Pruning(0.5), (0, 4)).phases == [0, 4]  # joint
    assert digits(Pruning(0.5, epoch=1, rounds=3, every=2), (3, 4)).phases == [0, 1, 3, 5, 7]
    with pytest.raises(SpikeloomError) as error:
        digits(Pruning(0.5, epoch=1, rounds=3, every=3), (3, 4))
    assert str(error.value) == "pruning: its last round comes after 7 epochs, where training has 7"


def seen_by(monkeypatch):
    """What is done when: rates, masks and whether it is quantized, at each step of training."""
    steps, set_rate, forward = [], train.set_rate, model.SpikingNetwork.forward

    def watch(optimizer, config_, epoch):
        set_rate(optimizer, config_, epoch)
        steps.append([epoch, optimizer.param_groups[0]["lr"], len(optimizer.state)])

    def look(self, x, *, quantized=True, record=False):
        if self.training:
            gone = sum(int((mask == 0).sum()) for mask in masks(self)) / sum(mask.numel() for mask in masks(self))
            steps[-1] += [quantized, round(gone, 2)]
        return forward(self, x, quantized=quantized, record=record)

    monkeypatch.setattr(train, "set_rate", watch)
    monkeypatch.setattr(model.SpikingNetwork, "forward", look)
    return steps


@pytest.mark.parametrize(("pruning", "epochs", "expected"), [
    (Pruning(0.8), (0, 2), [(True, 0.8), (True, 0.8)]),
    (Pruning(0.8), (1, 1), [(False, 0.8), (True, 0.8)]),
    (Pruning(0.8, epoch=1), (2, 1), [(False, 0.0), (False, 0.8), (True, 0.8)]),
    (Pruning(0.9, rounds=3), (1, 2), [(False, 0.3), (True, 0.6), (True, 0.9)])],
    ids=["joint", "cumulative", "dense first", "iterative"])
def test_schedules(tmp_path, monkeypatch, pruning, epochs, expected):
    wanted = digits(pruning, epochs)
    steps = seen_by(monkeypatch)
    path = train.train(wanted, tmp_path, device="cpu", progress=False)
    each = len(steps) // wanted.training.epochs
    for number, phase in enumerate(expected):
        assert {tuple(step[3:]) for step in steps[number * each:(number + 1) * each]} == {phase}
    assert [step[0] for step in steps if step[2] == 0] == wanted.phases[:-1]  # where the optimizer is a fresh one
    assert {step[1] for step in steps if step[0] in wanted.phases} == {wanted.training.rate}
    monkeypatch.undo()
    made = quantize.quantize(path, device="cpu")
    weights = np.concatenate([layer.weights.ravel() for layer in made.layers])
    assert (weights == 0).mean() >= pruning.fraction - 1e-3
    assert train.load(path).accuracy > 0.2


def test_rewinding_goes_back_to_the_first_latents(tmp_path, monkeypatch):
    wanted = digits(Pruning(0.6, rounds=2, epoch=1, rewind=True), (0, 3))
    seen, make = [], train.make_optimizer

    def watch(config_, model_):
        seen.append({name: value.clone() for name, value in model_.state_dict().items()})
        return make(config_, model_)

    monkeypatch.setattr(train, "make_optimizer", watch)
    path = train.train(wanted, tmp_path, device="cpu", progress=False)
    *_, first, second = seen
    initial = wanted.build(torch.Generator().manual_seed(wanted.seed)).state_dict()
    for state, gone in ((first, 0.3), (second, 0.6)):
        for name, value in state.items():
            if name.endswith("_mask"):
                assert (value == 0).any()
            else:
                torch.testing.assert_close(value, initial[name])
        flat = torch.cat([value.flatten() for name, value in state.items() if name.endswith("_mask")])
        assert (flat == 0).float().mean().item() == pytest.approx(gone, abs=1e-3)
    assert not torch.equal(train.load(path).model["layers.0.weight"], initial["layers.0.weight"])


def test_the_best_epoch_is_one_of_the_last_phase(tmp_path, monkeypatch):
    asked = []

    def measured(config_, model_, images, labels, *, quantized=True):
        asked.append(len(images))
        return 1 / len(asked)  # worse and worse

    monkeypatch.setattr(train, "measured", measured)
    wanted = digits(Pruning(0.5, rounds=2, every=2), (0, 4), data=config.Data("digits", 0.2))
    state = train.load(train.train(wanted, tmp_path, device="cpu", progress=False))
    assert asked == [269] * 4 + [450]
    assert state.best_accuracy == 1 / 3


def test_the_documented_table_is_one(tmp_path):
    docs = (Path(__file__).parents[2] / "docs/training.md").read_text()
    path = tmp_path / "run.toml"
    table = re.search(r"\n\[pruning\]\n.*?(?=```)", docs, re.DOTALL)[0]
    path.write_text((config.PACKAGED / "digits.toml").read_text() + table)
    assert config.load(path).pruning == Pruning(0.9, granularity=Words(32))


def test_a_configuration_says_what_is_pruned(tmp_path):
    text = (config.PACKAGED / "digits.toml").read_text()
    path = tmp_path / "run.toml"
    for table, pruning in (
            ('fraction = 0.5', Pruning(0.5, "global", Single())),
            ('fraction = 0.9\nscope = "layer"\ngranularity = { kind = "words", lanes = 8 }',
             Pruning(0.9, "layer", Words(8))),
            ('fraction = 0.5\nepoch = 1\nrounds = 3\nevery = 2\nrewind = true',
             Pruning(0.5, "global", Single(), 1, 3, 2, True)),
            ('fraction = 0.5\ngranularity = { kind = "channels" }', Pruning(0.5, granularity=Channels()))):
        path.write_text(f"{text}\n[pruning]\n{table}\n")
        loaded = config.load(path)
        assert loaded.pruning == pruning
        assert config.from_description(config.describe(loaded), "x") == loaded
    path.write_text(f"{text}\n[pruning]\nfraction = 2\n")
    with pytest.raises(SpikeloomError) as error:
        config.load(path)
    assert str(error.value) == f"{path}: pruning: fraction must be at least 0 and below 1, not 2.0"
