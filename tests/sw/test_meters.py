"""Meters: what they count is counted once more, event by event."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs, map_networks, networks
from spikeloom import reference
from spikeloom.energy import FORMATS, Occupancy
from spikeloom.network import (
    Attention,
    BlockGate,
    ChannelGate,
    Conv2d,
    Dense,
    InputFormat,
    Network,
    Shortcut,
    WeightFormat,
)
from spikeloom.report import meters

TERNARY = WeightFormat("ternary", 2)


def dense(name, weights, v_width=6, **options):
    weights = np.array(weights)
    form = options.pop("form", TERNARY)
    return Dense(name, weights, form, np.ones(len(weights), int), np.zeros(len(weights), int), v_width, **options)


def met_by(synapses):
    """Weights that are not zero which each value of the pooled map meets: one probe for each, through the reference."""
    size = int(np.prod(synapses.pooled_shape))
    present = (synapses.weights != 0).astype(int)
    if isinstance(synapses, Dense):
        return present.sum(0)
    plain = {"weights": present, "weight_format": TERNARY, "pool": None, "input_shape": synapses.pooled_shape}
    probe = dataclasses.replace(synapses, **plain | ({"attention": None} if isinstance(synapses, Conv2d) else {}))
    maps = np.eye(size, dtype=int).reshape(size, *synapses.pooled_shape)
    return reference.convolve(probe, maps).sum((1, 2, 3)).astype(int)


def by_hand(synapses, z):
    """Synaptic operations, value by value of each block."""
    total, met = 0, met_by(synapses)
    for values in reference.attend(synapses, z).reshape(-1, *synapses.input_shape):
        pooled = np.zeros(synapses.pooled_shape, int)
        height, width = (synapses.pool.rows, synapses.pool.columns) if synapses.pool else (1, 1)
        for y, x, c in np.ndindex(*synapses.pooled_shape):
            block = values[y * height:(y + 1) * height, x * width:(x + 1) * width, c].ravel()
            taken = [int(block.max())] if synapses.pool and synapses.pool.kind == "max" else block.tolist()
            pooled[y, x, c] = sum(abs(value).bit_count() for value in taken)
        total += int(pooled.ravel() @ met)
    return total


@settings(max_examples=40)
@given(st.data())
def test_operations_are_events_times_weights_that_are_not_zero(data):
    network = data.draw(networks() | map_networks(attention=True))
    x = data.draw(inputs(network))
    seen = reference.run(network, x)
    fired = {"input": x} | {layer.name: z for layer, z in zip(network.layers, seen.spikes, strict=True)}
    for layer, sources, meter in zip(network.layers, network.sources, meters.activity(network, x, seen), strict=True):
        assert meter.layer == layer.name and meter.rate == (fired[layer.name] != 0).mean()
        expected = sum(by_hand(branch, fired[source].astype(np.int64))
                       for branch, source in zip(layer.branches, sources, strict=True))
        assert meter.operations == expected / len(x)


def test_activity_of_parts_is_that_of_the_whole():
    rng = np.random.default_rng(3)
    network = Network(InputFormat(9), (dense("hidden", rng.integers(-1, 2, (7, 9))),
                                       dense("out", rng.integers(-1, 2, (3, 7)))), 4)
    x = rng.integers(0, 2, (8, 4, 9))
    parts = [(len(x[part]), meters.activity(network, x[part], reference.run(network, x[part])))
             for part in (slice(0, 3), slice(3, 8))]
    for whole, joined in zip(meters.activity(network, x, reference.run(network, x)), meters.mean(parts), strict=True):
        assert joined.layer == whole.layer
        assert dataclasses.astuple(joined)[1:] == pytest.approx(dataclasses.astuple(whole)[1:], rel=1e-12)


def test_memory_by_hand():
    weights = np.zeros((4, 40), int)
    weights[1, 3] = weights[2, 39] = 1  # 43 zeros, 75 zeros, 40 zeros: 2 + 4 + 2 entries beside two values
    network = Network(InputFormat(40), (dense("sparse", weights, 5), dense("full", np.ones((3, 4), int), 9)), 2)
    sparse, full = meters.memory(network)
    assert (sparse.weights, sparse.zeros, sparse.weight_bits, sparse.membrane_bits) == (160, 158, 320, 20)
    assert (sparse.format, sparse.stored_bits) == ("rle", 10 * 6) and sparse.bits_per_weight == 60 / 160
    assert (full.format, full.stored_bits, full.zeros, full.membrane_bits) == ("dense", 24, 0, 27)
    assert meters.bytes_of(full.membrane_bits) == 4
    assert (sparse.membranes, sparse.bits, sparse.baseline_bits) == (4, 340, 32 * 164)
    assert (full.membranes, full.bits, full.baseline_bits) == (3, 24 + 27, 32 * 15)
    assert meters.savings([sparse, full]) == "49 bytes, 14.6 times less than with 32 bits each"  # 391 and 5728 bits
    assert [meters.size(bits) for bits in (0, 7992, 8000, 7_992_000, 8_000_000)] == [
        "0 bytes", "999 bytes", "1 kB", "999 kB", "1.00 MB"]


def test_memory_counts_shortcuts_and_attention():
    rng = np.random.default_rng(5)
    form = WeightFormat("int", 3)
    attention = Attention(rng.choice(form.values, (2, 2, 3)), rng.choice(form.values, (4, 4, 2)), form, 2, (0, 1))
    shortcut = Shortcut("first", (3, 3, 4), np.ones((4, 1, 1, 1), int), TERNARY, groups=4)
    conv = {"input_shape": (3, 3, 4), "weight_format": TERNARY, "threshold": np.ones(4, int), "v_width": 4,
            "bias": np.zeros(4, int), "padding": 1}
    layers = (Conv2d(name="first", weights=rng.integers(-1, 2, (4, 4, 3, 3)), **conv),
              Conv2d(name="second", weights=rng.integers(-1, 2, (4, 4, 3, 3)), attention=attention, shortcut=shortcut,
                     **conv),
              dense("out", rng.integers(-1, 2, (2, 36))))
    network = Network(InputFormat(36, 1, (3, 3, 4)), layers, 2)
    first, second, out = meters.memory(network)
    tensors = [(layers[1].weights, 2), (shortcut.weights, 2),
               (attention.time_weights, 3), (attention.channel_weights, 3)]
    assert second.weights == sum(weights.size for weights, _ in tensors)
    assert second.zeros == sum(int((weights == 0).sum()) for weights, _ in tensors)
    assert second.stored_bits == sum(min(size(Occupancy.of(weights), width) for size in FORMATS.values())
                                     for weights, width in tensors)
    assert sum(each.weight_bits for each in (first, second, out)) == network.weight_bits
    assert second.membrane_bits == 36 * 4


def maps(name, channels, channels_in, **options):
    """A 3 x 3 convolution of a map of 6 x 4 positions."""
    return Conv2d(name=name, input_shape=(6, 4, channels_in), weights=np.ones((channels, channels_in, 3, 3), int),
                  weight_format=TERNARY, threshold=np.full(channels, 5), bias=np.zeros(channels, int), v_width=4,
                  padding=1, **options)


def test_flops_by_hand():
    identity = Shortcut("first", (6, 4, 4), np.ones((4, 1, 1, 1), int), TERNARY, groups=4)
    # Channel 0 opens where anything comes in, channel 1 never, channels 2 and 3 always.
    gate = ChannelGate(np.array([[1, 1], [0, 0], [0, 0], [0, 0]]), TERNARY, np.array([0, 0, 1, 1]), (0, 1))
    blocks = BlockGate(np.ones((4, 4, 1, 1), int), TERNARY, np.zeros(4, int))
    network = Network(InputFormat(48, 1, (6, 4, 2)), (
        maps("first", 4, 2, gate=gate), maps("second", 4, 4, shortcut=identity, block_gate=blocks),
        dense("out", np.ones((3, 96), int))), 2)
    x = np.zeros((2, 2, 48), int)
    x[0, 0, 7] = x[1, 1, 9] = 1  # in two of four time steps
    seen = reference.run(network, x)
    activity = meters.activity(network, x, seen)
    assert [each.open for each in activity] == [(2 * 3 + 2 * 2) / 16, 1, 1]
    assert [each.resting for each in activity] == [1 - np.count_nonzero(v) / v.size for v in seen.membranes]
    assert 0 < activity[0].resting < 1

    found = meters.flops(network, activity)
    assert [each.products for each in found] == [24 * 4 * 2 * 9, 24 * 4 * (4 * 9 + 1), 96 * 3]
    assert [each.updates for each in found] == [96, 96, 3]
    assert [each.gates for each in found] == [8, 3 * 2 * 16, 0]
    assert [each.kept_products for each in found] == [0.625 * 1728, 3552, 288]
    assert [each.kept_updates for each in found] == pytest.approx(
        [0.625 * np.count_nonzero(seen.membranes[0]) / 4, np.count_nonzero(seen.membranes[1]) / 4,
         np.count_nonzero(seen.membranes[2]) / 4])
    dense_network = 1728 + 3552 + 288 + 96 + 96 + 3
    kept = sum(each.kept_products + each.kept_updates for each in found) + 8 + 96
    assert meters.reduction(found) == pytest.approx(1 - kept / dense_network)

    small = [meters.Flops("only", 100, 10, 50.0, 5.0, 5)]
    assert meters.reduction(small) == 1 - 60 / 110
    assert meters.reduction(small, found) == 1 - 60 / dense_network


def test_memory_counts_gates():
    gate = ChannelGate(np.ones((4, 2), int), WeightFormat("int", 8), np.zeros(4, int), (0, 1))
    blocks = BlockGate(np.ones((4, 1, 3, 3), int), TERNARY, np.zeros(4, int))
    network = Network(InputFormat(48, 1, (6, 4, 2)), (maps("first", 4, 2, gate=gate, block_gate=blocks),
                                                      dense("out", np.ones((3, 96), int))), 2)
    first, out = meters.memory(network)
    assert (first.weights, first.weight_bits) == (72 + 8 + 36, 2 * 72 + 8 * 8 + 2 * 36)
    assert first.weight_bits + out.weight_bits == network.weight_bits
