"""Channels in another order: the same spikes from other places, and zeros that fall together."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs, map_networks, networks
from spikeloom import reference
from spikeloom.compiler import order
from spikeloom.network import Conv2d, Dense, WeightFormat


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_reordered_network_fires_the_same_spikes(data):
    network = data.draw(st.one_of(networks(), map_networks(attention=True, gated=True)))
    movable = order.movable(network)
    assert len(network.layers) - 1 not in movable
    orders = [tuple(data.draw(st.permutations(range(layer.shape[2])))) if number in movable else None
              for number, layer in enumerate(network.layers)]
    x = data.draw(inputs(network))
    expected, seen = reference.run(network, x), reference.run(order.reordered(network, orders), x)
    for layer, channels, *arrays in zip(network.layers, orders, expected.spikes, seen.spikes, expected.membranes,
                                        seen.membranes, strict=True):
        channels = range(layer.shape[2]) if channels is None else channels
        z, z_seen, v, v_seen = (array.reshape(*array.shape[:2], *layer.shape) for array in arrays)
        assert np.array_equal(z[..., list(channels)], z_seen)
        assert np.array_equal(v[..., list(channels)], v_seen)
    assert np.array_equal(expected.scores, seen.scores)
    assert np.array_equal(expected.winners, seen.winners)


def dense(weights):
    neurons = len(weights)
    return Dense("layer", weights, WeightFormat("ternary", 2), np.ones(neurons, int), np.zeros(neurons, int), 4)


def empty(layer, group):
    """Words without a weight."""
    used = order.places(layer)
    return sum(int((~used[at:at + group].any(0)).sum()) for at in range(0, len(used), group))


@pytest.mark.parametrize("group", [1, 4, 5])
def test_zeros_that_were_scattered_are_gathered(group):
    rng = np.random.default_rng(3)
    kinds = rng.random((4, 40)) < 0.2  # four kinds of neurons, each with the same zeros
    weights = np.repeat(kinds, 5, axis=0).astype(int)[rng.permutation(20)]
    layer = dense(weights)
    found = order.gathered(layer, group)
    assert sorted(found) == list(range(20))
    best = dataclasses.replace(layer, weights=weights[list(found)])
    assert empty(best, group) >= empty(layer, group)
    if group == 5:
        assert empty(best, 5) == int((~kinds).sum())


def test_places_of_a_convolution_are_its_rows_and_phases():
    weights = np.zeros((2, 3, 3, 3), int)
    weights[0, 1, 2, 0] = 1  # column 0 of the kernel, and with a stride of 2 so is column 2
    weights[1, 1, 2, 2] = -1
    layer = Conv2d(name="layer", input_shape=(6, 6, 3), weights=weights, weight_format=WeightFormat("ternary", 2),
                   threshold=np.ones(2, int), bias=np.zeros(2, int), v_width=4, stride=2)
    used = order.places(layer).reshape(2, 3, 3, 2)
    assert used.sum() == 2 and used[0, 1, 2, 0] and used[1, 1, 2, 0]
