"""The PyTorch implementation against the reference, with ==."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs as random_inputs
from networks import map_networks, networks, recurrent_networks
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    Attention,
    Conv2d,
    Dense,
    InputFormat,
    Network,
    Pool,
    ShiftLeak,
    Shortcut,
    Silent,
    Spike,
    WeightFormat,
)
from spikeloom.training import attention as joint
from spikeloom.training import model, quantizers
from spikeloom.training.layers import SpikingConv2d, SpikingDense
from spikeloom.training.neuron import Neuron
from spikeloom.training.norm import EPSILON, BatchNorm, NoNorm
from spikeloom.training.scan import scan
from spikeloom.training.synapses import SpikingShortcut


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


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_attention_in_torch_equals_the_reference(data):
    network = data.draw(map_networks(max_layers=3, attention=True))
    assert_same(network, data.draw(random_inputs(network)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_gates_in_torch_equal_the_reference(data):
    network = data.draw(map_networks(max_layers=3, gated=True))
    assert_same(network, data.draw(random_inputs(network)))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_recurrence_in_torch_equals_the_reference(data):
    network = data.draw(recurrent_networks())
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


def convolved(rng, shape, channels, **options):
    """A network that shows what a convolution with the largest weights and inputs makes of maps of this shape."""
    groups, kernel = options.get("groups", 1), options.pop("kernel", 3)
    weights = rng.integers(-128, 128, (channels, shape[2] // groups, kernel, kernel))
    weights[0] = -128
    layer = Conv2d(name="a", input_shape=shape, weights=weights, weight_format=WeightFormat("int", 8), v_width=16,
                   threshold=np.full(channels, 2**14), bias=np.zeros(channels, int), padding=kernel // 2, **options)
    last = Dense("b", np.ones((1, layer.n_out), int), WeightFormat("ternary", 2), np.ones(1, int), np.zeros(1, int), 16)
    return Network(InputFormat(int(np.prod(shape)), 8, shape), (layer, last), 4)


#: Maps for which PyTorch takes another way to the sums: one channel, depthwise, few positions, many; all near 2^24.
SHAPES = [((9, 9, 56), 8, {}), ((12, 12, 16), 16, {"groups": 16}), ((8, 8, 20), 4, {"kernel": 5}),
          ((28, 28, 1), 3, {"kernel": 7}), ((1, 1, 56), 4, {}), ((9, 8, 56), 8, {"groups": 2, "stride": 2}),
          ((7, 7, 56), 9, {"kernel": 1})]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("shape", "channels", "options"), SHAPES)
def test_convolution_is_exact_by_any_backend(shape, channels, options, onednn):
    rng = np.random.default_rng(8)
    network = convolved(rng, shape, channels, **options)
    high = rng.integers(200, 256, (20, 2, network.input.size))
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(onednn)  # where it is off NNPACK would take over, which is not exact
    try:
        assert_same(network, np.concatenate([high, high * rng.integers(0, 2, high.shape), np.full_like(high, 255)]))
    finally:
        torch._C._set_mkldnn_enabled(before)


def test_the_callers_ways_of_convolution_are_given_back():
    conv = getattr(torch.backends.mkldnn, "conv", None)
    with torch.backends.nnpack.flags(enabled=True):
        before = torch.backends.cudnn.enabled, conv and conv.fp32_precision
        with pytest.raises(KeyError), model.exact_products():
            assert not torch.backends.cudnn.enabled
            assert not torch._C._get_nnpack_enabled()
            assert conv is None or conv.fp32_precision == "ieee"
            raise KeyError
        assert (torch.backends.cudnn.enabled, conv and conv.fp32_precision) == before
        assert torch._C._get_nnpack_enabled()


def test_the_largest_pooled_sum_is_exact():
    ternary = WeightFormat("ternary", 2)
    layer = Dense("a", np.array([[1]]), ternary, np.array([0]), np.array([-(255**3)]), 16, input_shape=(255, 255, 1),
                  pool=Pool("sum", 255, 255))
    x = np.full((2, 1, 255 * 255), 255)
    x[1, 0, 7] = 254
    trace = assert_same(Network(InputFormat(255 * 255, 8, (255, 255, 1)), (layer,), 1), x)
    assert (trace.spikes[0].ravel().tolist(), trace.membranes[0].ravel().tolist()) == ([1, 0], [0, -1])


def test_an_identity_adds_another_branch_with_its_factors():
    ternary, shape = WeightFormat("ternary", 2), (2, 2, 2)
    shortcut = Shortcut("input", shape, np.array([3, -2]).reshape(2, 1, 1, 1), WeightFormat("int", 4), groups=2)
    layer = Conv2d(name="a", input_shape=shape, weights=np.zeros((2, 2, 3, 3), int), weight_format=ternary, v_width=6,
                   threshold=np.array([4, 1]), bias=np.array([0, 5]), padding=1, shortcut=shortcut)
    last = Dense("b", np.ones((2, 8), int), ternary, np.ones(2, int), np.zeros(2, int), 6)
    x = np.array([[[1, 1, 0, 1, 1, 0, 0, 0]]])
    trace = assert_same(Network(InputFormat(8, 1, shape), (layer, last), 1, votes=2), x)
    assert trace.membranes[0].ravel().tolist() == [3, 2, 0, 2, 3, 4, 0, 4]
    assert trace.scores.tolist() == [[2]]


# Attention --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 20, 44, 48])
def test_the_largest_products_of_an_attention_are_exact(shift):
    rng = np.random.default_rng(9)
    time_weights, channel_weights = rng.integers(-128, 128, (4, 4, 7)), rng.integers(-128, 128, (4, 4, 7))
    time_weights[1], channel_weights[2] = -128, 127
    attention = Attention(time_weights, channel_weights, WeightFormat("int", 8), shift,
                          tuple(rng.integers(0, 256, 64).tolist()))
    layer = Dense("a", np.eye(4, dtype=int), WeightFormat("ternary", 2), np.full(4, 9), np.zeros(4, int), 16,
                  reset="none", input_shape=(3, 6, 4), attention=attention, pool=Pool("max", 3, 6))
    network = Network(InputFormat(72, 8, (3, 6, 4)), (layer,), 4)
    x = rng.integers(0, 256, (64, 4, 72)) // rng.choice([1, 1, 9], (64, 4, 1))
    x[0] = 255
    assert attention.reach(0, 255, 18) > 2**24 * 0.95
    trace = assert_same(network, x)
    assert len(np.unique(trace.membranes[0])) > 10


def test_gates_learn_as_sigmoids():
    """Quantized, an attention's gradient is that of σ at the integers that it used."""
    torch.manual_seed(4)
    layer = joint.JointAttention((3, 3, 5), 4)
    z = torch.randint(0, 2, (4, 2, 45)).float().requires_grad_()
    value = torch.randn(4, 2, 45)
    gated = layer(z)
    (gated * value).sum().backward()
    grads = [parameter.grad for parameter in (z, layer.time_weight, layer.channel_weight, layer.shift)]

    a_weight, b_weight, shift = (tensor.detach().round().requires_grad_()
                                 for tensor in (layer.time_weight, layer.channel_weight, layer.shift))
    x = z.detach().clone().requires_grad_()
    s = x.view(4, 2, 9, 5).sum(2)
    a = torch.nn.functional.conv1d(torch.nn.functional.pad(s.permute(1, 0, 2), (1, 2)), a_weight).permute(1, 0, 2)
    b = torch.nn.functional.conv1d(torch.nn.functional.pad(s.permute(1, 2, 0), (1, 2)), b_weight).permute(2, 0, 1)
    soft = 15 * torch.sigmoid(a * b * 2.0**-shift * 16 / 64)
    hard = reference.gates(layer.to_attention(), s.detach().transpose(0, 1).long().numpy())
    hard = torch.from_numpy(hard).transpose(0, 1)
    assert (soft - hard).abs().max() <= 1 and hard.unique().numel() > 5
    used = soft + (hard - soft).detach()
    expected = (x.view(4, 2, 9, 5) * used.unsqueeze(2)).flatten(2)
    assert torch.equal(gated, expected.round())
    (expected * value).sum().backward()
    for grad, tensor in zip(grads, (x, a_weight, b_weight, shift), strict=True):
        assert grad.abs().max() > 1e-3
        torch.testing.assert_close(grad, tensor.grad, rtol=1e-4, atol=1e-4)

    floats = layer(z.detach(), quantized=False)
    assert floats.max() <= 15 and not torch.equal(floats, floats.round())


@pytest.mark.parametrize("width", range(1, 9))
def test_a_table_has_every_gate(width):
    table = joint.sigmoid_table(width)
    assert sorted(set(table)) == list(range(2**width)) and list(table) == sorted(table)
    assert [2**width - 1 - gate for gate in reversed(table)] == list(table)  # σ(−x) = 1 − σ(x)


def test_an_attention_begins_where_the_sigmoid_is_steep():
    generator = torch.Generator().manual_seed(2)
    for shape, time_steps, weights in (((16, 16, 64), 20, None), ((4, 4, 16), 8, quantizers.Integer(8))):
        layer = joint.JointAttention(shape, time_steps, weights=weights)
        layer.reset_parameters(generator)
        z = (torch.rand(time_steps, 8, int(np.prod(shape)), generator=generator) < joint.SUPPOSED_ACTIVITY).float()
        gates = layer(z, quantized=False).unflatten(2, (-1, shape[2])).amax(2)
        inner = (gates > 1) & (gates < 14)
        assert inner.float().mean() > 0.7
        assert gates.std() > 1


def test_latents_of_an_attention_stay_on_their_grid():
    layer = SpikingDense((1, 2, 3), 2, Neuron(6), attention=joint.JointAttention((1, 2, 3), 4))
    with torch.no_grad():
        for parameter in layer.attention.parameters():
            parameter.fill_(-70.0)
    layer.limit()
    assert {parameter.detach().unique().item() for parameter in layer.attention.parameters()} == {-1.0, 0.0}
    made = layer.to_layer().attention
    assert (made.shift, made.time_weights.max(), made.table) == (0, -1, joint.sigmoid_table(4))


# Weights with a step ----------------------------------------------------------------------------

SCALED = [*(quantizers.LearnedRange(width) for width in (2, 3, 8)), quantizers.SAWB(4),
          quantizers.SAWB(8, "statistics"), quantizers.ThresholdTernary(), quantizers.SumOfSigmoids(1),
          quantizers.SumOfSigmoids(3), quantizers.NormalizedBinary()]


def scaled(weights, norm=None, *, attention=False, v_width=10, seed=3, **options):
    """Two layers whose weights are of this kind, with thresholds and biases of all sizes; and inputs."""
    generator = torch.Generator().manual_seed(seed)
    shape, options = (5, 4, 3), {"weights": weights, "norm": norm, "threshold": 3.0, **options}
    shortcut = SpikingShortcut("input", shape, 6, weights=quantizers.Integer(8))
    first = SpikingConv2d(shape, 6, Neuron(v_width, ShiftLeak(2)), name="first", shortcut=shortcut, **options)
    gates = joint.JointAttention((5, 4, 6), 4, weights=weights) if attention else None
    last = SpikingDense((5, 4, 6), 4, Neuron(v_width), name="last", attention=gates, pool=Pool("max", 2, 2),
                              **options)
    for layer in (first, last):
        for branch in layer.branches:
            branch.reset_parameters(generator)
        with torch.no_grad():
            if layer.shortcut:
                layer.shortcut.weight.div_(64)
            layer.threshold.mul_(0.5 + torch.rand(layer.threshold.shape, generator=generator))
            layer.bias.add_(torch.rand(layer.bias.shape, generator=generator) - 0.5)
    return model.SpikingNetwork(InputFormat(60, 2, shape), [first, last], 4), torch.randint(
        0, 4, (5, 4, 60), generator=generator)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("norm", [None, BatchNorm()])
@pytest.mark.parametrize("weights", SCALED, ids=str)
def test_weights_with_a_step_end_in_the_same_integers(weights, norm, attention):
    if attention and isinstance(weights, quantizers.NormalizedBinary):
        return  # is refused, below
    net, x = scaled(weights, norm, attention=attention)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for quantized in (False, False, True, True):
        spikes, membranes = net(x, quantized=quantized)
        loss = (torch.stack(net.classes(spikes, membranes, quantized=quantized)) - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)
        optimizer.step()
        if quantized:
            net.limit()
    trace = reference.run(net.to_network(), x.numpy())
    with torch.no_grad():
        spikes, membranes = net.eval()(x, record=True)
    for expected, seen in zip(trace.spikes + trace.membranes, spikes + membranes, strict=True):
        np.testing.assert_array_equal(seen.numpy().transpose(1, 0, 2), expected)
    assert 0 < trace.spikes[0].mean() < 1 and len(np.unique(trace.membranes[0])) > 3


@pytest.mark.parametrize("norm", [None, BatchNorm()])
@pytest.mark.parametrize("weights", [quantizers.LearnedRange(8), quantizers.SAWB(8)], ids=str)
def test_fine_integers_do_what_floats_do(weights, norm):
    """Thresholds, biases and statistics mean the same before and after quantization, whatever the step."""
    net, x = scaled(weights, norm, v_width=16)
    for _ in range(30):
        net(x, quantized=False)  # statistics
    net.eval()
    with torch.no_grad():
        floats, potentials = net(x, quantized=False)
        integers, membranes = net(x)
    assert (floats[0] != integers[0]).float().mean() < 0.02
    assert 0.05 < floats[0].mean() < 0.6
    one, other = (net.classes(*outputs, quantized=quantized)[1] for outputs, quantized in
                  (((floats, potentials), False), ((integers, membranes), True)))
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize("norm", [NoNorm(), BatchNorm(alpha=0.5)])
def test_a_threshold_for_the_whole_layer(norm):
    torch.manual_seed(0)
    x = torch.randint(0, 2, (8, 5, 20))
    layers = {kind: SpikingDense(20, 6, Neuron(10), norm=norm, threshold=3.0, thresholds=kind)
              for kind in ("channel", "layer", "fixed")}
    grads = {}
    for kind, layer in layers.items():
        layer.take(layers["channel"])
        net = model.SpikingNetwork(InputFormat(20), [layer], 5)
        net(x, quantized=False)[0][0].square().sum().backward()
        grads[kind] = layer.threshold.grad
    assert grads["layer"].shape == (1,) and grads["channel"].shape == (6,) and grads["fixed"] is None
    torch.testing.assert_close(grads["layer"], grads["channel"].sum().view(1))
    with torch.no_grad():
        layers["layer"].threshold.fill_(7.0)
        layers["channel"].threshold.copy_(torch.arange(6.0))
    layers["fixed"].take(layers["layer"])
    assert layers["fixed"].threshold.tolist() == [7.0] * 6
    made = layers["layer"].to_layer()
    if isinstance(norm, NoNorm):
        assert made.threshold.tolist() == [7] * 6
    else:
        assert made.threshold.tolist() == (7 * layers["layer"].deviation).round().int().tolist()
    layers["layer"].take(layers["channel"])
    assert layers["layer"].threshold.item() == 2.5
    binary = SpikingDense(20, 6, Neuron(10), weights=quantizers.NormalizedBinary(), thresholds="layer")
    binary.limit()


def test_thresholds_and_biases_are_counted_in_steps():
    layer = SpikingDense(3, 2, Neuron(8), weights=quantizers.LearnedRange(3), threshold=2.0)
    quantizer = layer.weight_quantizer
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.2, 9.0], [-1.6, 0.0, 0.74]]))
        quantizer.a.fill_(1.5)
        quantizer.c.fill_(0.75)  # a step of 1/4
        layer.bias.copy_(torch.tensor([0.3, -1.0]))
    made = layer.to_layer()
    assert (made.weights.tolist(), made.weight_format) == ([[1, 0, 3], [-3, 0, 1]], WeightFormat("int", 3))
    assert (made.threshold.tolist(), made.bias.tolist()) == ([8, 8], [1, -4])
    with torch.no_grad():
        layer.threshold.copy_(torch.tensor([0.01, 5.0]))
    layer.limit()
    assert layer.threshold.tolist() == [0.25, 5.0]
    threshold, bias = layer.used(True)
    (threshold.sum() + 10 * bias.sum()).backward()  # straight through: d(θ / step) / dc = −3 θ / c²
    torch.testing.assert_close(quantizer.c.grad, torch.tensor(-3 * (5.25 + 10 * -0.7) / 0.75**2))


def test_batch_norm_absorbs_a_scale():
    x = torch.randint(0, 2, (3, 5, 20), generator=torch.Generator().manual_seed(1)).float()
    for norm in (None, BatchNorm()):
        layer = SpikingDense(20, 6, Neuron(10), weights=quantizers.LearnedRange(3), threshold=2.0, norm=norm)
        layer(x)[0].sum().backward()
        assert layer.weight_quantizer.a.grad is not None and layer.weight.grad.any()
        assert (layer.weight_quantizer.c.grad is None) == (norm is not None)
        spikes = layer(x)[0]
        with torch.no_grad():
            layer.weight_quantizer.c.mul_(3)
        assert torch.equal(layer(x)[0], spikes) == (norm is not None)


def test_each_channel_has_the_step_of_its_own_sign():
    layer = SpikingDense(4, 2, Neuron(8), weights=quantizers.NormalizedBinary(), threshold=3.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 8.0]]))
    assert layer.step(True).tolist() == [1.0, 1.0]
    wide = SpikingDense(64, 2, Neuron(8), weights=quantizers.NormalizedBinary(), threshold=3.0)
    with torch.no_grad():
        wide.weight.copy_(torch.stack([torch.linspace(-1, 1, 64), torch.eye(64)[5]]))
    assert wide.step(True).tolist() == [1.0, 0.25]  # mean|ŵ| is 0.87, and 0.25
    assert wide.to_layer().threshold.tolist() == [3, 12]


def test_a_shortcut_counts_steps_of_the_layers_own_weights():
    shortcut = SpikingShortcut("input", (4, 4, 2), 2, weights=quantizers.Integer(3), groups=2)
    layer = SpikingConv2d((4, 4, 2), 2, Neuron(6), weights=quantizers.LearnedRange(2), shortcut=shortcut)
    with torch.no_grad():
        layer.weight_quantizer.c.fill_(0.5)
        shortcut.weight.copy_(torch.tensor([0.9, -3.0]).view(2, 1, 1, 1))
    assert layer.to_layer().shortcut.weights.ravel().tolist() == [2, -4]
    layer.limit()
    assert shortcut.weight.flatten().tolist() == [pytest.approx(0.9), -2.0]
    shortcut.used_weight(True).sum().backward()
    assert shortcut.weight.grad.flatten().tolist() == [2.0, 2.0]
    torch.testing.assert_close(layer.weight_quantizer.c.grad, torch.tensor(-(0.9 - 2.0) / 0.5**2))
    with pytest.raises(SpikeloomError) as error:
        SpikingShortcut("input", (4, 4, 2), 2, weights=quantizers.SAWB(4))
    assert str(error.value) == ("Shortcut: its weights count steps of the layer's own, so they cannot be of kind sawb, "
                                "which has one")


def test_an_attention_has_no_step_for_each_channel():
    with pytest.raises(SpikeloomError, match="Attention: weights of kind normalized_binary have a step for each"):
        joint.JointAttention((2, 2, 4), 4, weights=quantizers.NormalizedBinary())


# Batch norm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part_values", [2**19, 600])  # the whole batch at once, and two samples
@pytest.mark.parametrize("center", [True, False])
def test_batch_norm_is_the_textbooks_folded(center, part_values, monkeypatch):
    """In floats, neurons with θ = t·σ on currents with b = β·σ − μ are those with θ = t on normalised currents."""
    monkeypatch.setattr("spikeloom.training.scan.PART_VALUES", part_values)
    torch.manual_seed(3)
    neuron = Neuron(8, ShiftLeak(2))
    layer = SpikingConv2d((5, 5, 2), 4, neuron, norm=BatchNorm(center=center)).double()
    with torch.no_grad():
        layer.threshold.add_(torch.rand(4))
        layer.bias.add_((torch.rand(4) - 0.5) * center)
    z = torch.randint(0, 2, (3, 6, 50)).double()
    weight, threshold, bias = (parameter.detach().clone().requires_grad_()
                               for parameter in (layer.weight, layer.threshold, layer.bias))
    maps = torch.nn.functional.conv2d(z.view(18, 5, 5, 2).permute(0, 3, 1, 2), weight, padding=1)
    if center:
        normal = torch.nn.functional.batch_norm(maps, None, None, None, bias, True, eps=EPSILON)
    else:
        normal = maps / (maps.square().mean((0, 2, 3), keepdim=True) + EPSILON).sqrt()
    expected, _ = scan(normal.permute(0, 2, 3, 1).reshape(3, 6, 100), threshold.repeat(25), neuron,
                             quantized=False)
    spikes, _ = layer(z, quantized=False)
    assert torch.equal(spikes, expected)
    assert 0.02 < spikes.mean() < 0.5
    value = torch.randn_like(spikes)
    (spikes * value).sum().backward()
    (expected * value).sum().backward()
    learned = ((layer.weight, weight), (layer.threshold, threshold), (layer.bias, bias))
    for parameter, other in learned if center else learned[:2]:
        assert other.grad.abs().max() > 1e-3
        torch.testing.assert_close(parameter.grad, other.grad)
    mean = maps.detach().mean((0, 2, 3)) * center
    square = (maps.detach() - mean.view(-1, 1, 1)).square().mean((0, 2, 3))
    torch.testing.assert_close(layer.mean, 0.1 * mean)
    torch.testing.assert_close(layer.deviation, 0.9 + 0.1 * (square + EPSILON).sqrt())
    assert layer.to_layer().bias.any() == center


def test_batch_norm_becomes_integers():
    layer = SpikingConv2d((1, 1, 1), 2, Neuron(6), kernel=1, norm=BatchNorm(alpha=2.0))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        layer.mean.copy_(torch.tensor([2.2, -3.0]))
        layer.deviation.copy_(torch.tensor([9.0, 0.1]))
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
    assert layer.to_layer().threshold.tolist() == [4, 1]  # 4.5 rounds to even; 0.05 to the least there is
    assert layer.to_layer().bias.tolist() == [2, 3]
    layer.limit()
    torch.testing.assert_close(layer.threshold, torch.tensor([0.5, 0.5]))
    layer.eval()
    x = torch.tensor([[[2.0]], [[0.0]]])
    spikes, membranes = layer(x)
    assert (spikes.flatten().tolist(), membranes.flatten().tolist()) == ([1, 1, 0, 1], [0, 0, 2, 2])
    assert layer.mean.tolist() == pytest.approx([2.2, -3.0])  # only training changes them


def test_losses_see_the_mean_of_votes_and_scores_are_their_sum():
    net = model.SpikingNetwork(InputFormat(2), [SpikingDense(2, 6, Neuron(6))], 3, votes=2)
    spikes, membranes = [torch.arange(18.0).view(3, 1, 6)], [torch.zeros(3, 1, 6)]
    assert net.classes(spikes, membranes)[0][0].tolist() == [[0.5, 2.5, 4.5]]
    assert net.scores(spikes, membranes).tolist() == [[39, 51, 63]]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_network_survives_the_way_through_torch(data):
    network = data.draw(networks() | map_networks() | map_networks(attention=True, gated=True) | recurrent_networks())
    assert model.from_network(network).to_network().digest == network.digest


def test_a_constant_input_equals_its_repetition():
    torch.manual_seed(1)
    net = model.SpikingNetwork(InputFormat(5), [SpikingDense(5, 4, Neuron(5), threshold=2.0, name="first"),
                                                SpikingDense(4, 3, Neuron(5), threshold=2.0)], 6)
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
    layer = SpikingDense(2, 2, Neuron(6, fire=Spike()), name="only", weights=quantizers.Ternary())
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
