"""The recipes of SpQuant-SNN among the packaged configurations: networks of the published sizes, which train."""

from dataclasses import replace

import pytest
import torch
from spikeloom.network import Grid, ShiftLeak
from spikeloom.training import config, train

# Weights, neurons before the last layer, and bits of a weight.
RECIPES = {"vgg9_spquant": (9_263_232, 921_600, 2), "resnet19_spquant": (12_688_640, 1_442_048, 4)}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(name):
    weights, neurons, bits = RECIPES[name]
    loaded = config.load(name)
    loaded = replace(loaded, encoder=replace(loaded.encoder, time_steps=2))  # the published ones take their time
    model = loaded.build(torch.Generator().manual_seed(1))
    optimizer = train.make_optimizer(loaded, model)
    train.set_rate(optimizer, loaded, 0)
    before = {key: value.clone() for key, value in model.named_parameters()}
    images = torch.rand(2, 2, loaded.input.size, generator=torch.Generator().manual_seed(2))
    x = (images * (loaded.input.bounds[1] + 1)).floor() if loaded.input.width > 1 else (images < 0.1).float()
    labels = torch.tensor([3, 7])
    spikes, membranes = model(x, quantized=True)
    _, outputs = model.classes(spikes, membranes)
    assert 0.01 < (outputs / loaded.training.loss.scale).abs().mean() < 1  # as published code begins
    loss = loaded.training.loss(spikes[-1], outputs, labels)
    loss.backward()
    optimizer.step()
    model.limit()
    assert torch.isfinite(loss)
    assert all(0 < (z != 0).float().mean() < 0.9 for z in spikes[:-1])
    for key, value in model.named_parameters():
        assert torch.isfinite(value).all(), key
        if key.endswith((".weight", ".threshold")) and not key.startswith(f"layers.{len(model.layers) - 1}.threshold"):
            assert not torch.equal(value, before[key]), key

    network = model.to_network()
    assert sum(branch.weights.size for layer in network.layers for branch in layer.branches) == weights
    assert sum(layer.n_out for layer in network.layers[:-1]) == neurons
    for layer in network.layers[:-1]:
        assert layer.grid == Grid(-1, 1) and layer.v_width == 2
        assert (layer.leak, layer.reset) == (ShiftLeak(1), "zero")
        assert layer.weight_format.width == bits
    assert network.layers[-1].weight_format.width == bits


def test_settings_of_the_published_scripts():
    vgg, resnet = (config.load(name) for name in RECIPES)
    assert (vgg.input.shape, vgg.encoder.time_steps, vgg.training.batch) == ((48, 48, 2), 10, 24)
    assert (resnet.input.shape, resnet.encoder.time_steps, resnet.training.batch) == ((32, 32, 3), 2, 128)
    assert (vgg.training.epochs_float, vgg.training.epochs_quantized, vgg.training.loss.weight) == (200, 200, 0.9)
    assert (resnet.training.epochs_float, resnet.training.epochs_quantized, resnet.training.loss.weight) == (
        300, 300, 0.05)
    assert [len(layer.weight) for layer in vgg.build().layers] == [64, 128, 256, 256, 512, 512, 512, 512, 10]
    assert [layer.weight.shape[0] for layer in resnet.build().layers] == [
        *[128] * 7, *[256] * 6, *[512] * 4, 256, 10]
    for recipe in (vgg, resnet):
        assert (recipe.training.schedule, recipe.training.loss.kind) == ("cosine", "tet")
        for layer in recipe.layers[:-1]:
            assert (layer.thresholds, layer.threshold_gradient) == ("layer", "fired")
            assert (layer.surrogate.kind, layer.norm.kind) == ("triangle", "batch")
