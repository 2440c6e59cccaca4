"""Spiking networks as PyTorch modules in integer units, and the bridge to and from the integer `Network`.

A module holds latents (floats; of integer size, unless `spikeloom.training.quantizers` say otherwise). With
``quantized`` its forward pass works on their integers and equals `spikeloom.reference`; without, it works on the
latents themselves, the float baseline of the same network. Tensors are time-major: (time steps, batch, neurons), a
map's neurons in the order that the reference says, which is PyTorch's ``channels_last`` without copying.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from spikeloom import network as integer
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Conv2d, Dense, GradedSpike, Network, Shortcut, TableLeak
from torch import nn
from torch.nn import functional

from . import quantizers, ranks
from .attention import JointAttention
from .gates import SpikingBlockGate, SpikingChannelGate
from .membranes import Exact
from .neuron import Neuron, gated_scan, parts, scan, workspace
from .weighted import Weighted, evaluating, integer_array

#: So many values the largest tensor of a `batch_size` has: 8 MiB of float32, which stay in a processor's cache.
BATCH_VALUES = 2**21

#: Added to a channel's variance, in squared weight steps.
EPSILON = 1e-5

#: The lowest threshold latent beside batch norm, in standard deviations: where all is rounded, it is 1 step at least.
LEAST_DEVIATIONS = 1 / 16


# Batch norm -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoNorm:
    """Thresholds and biases are what they are."""

    kind = "none"


@dataclass(frozen=True)
class BatchNorm:
    """Thresholds and biases in units of each channel's currents: θ = t·σ and b = β·σ − μ, for latents t and β.

    That is batch norm in the form it has once it is folded. With s = α·θ'/σ as the scale of a norm before neurons of
    threshold θ', dividing all by s leaves the weights alone, and θ = θ'/s = σ/α. So 1/α is where the latents t begin,
    which makes it the threshold-dependent norm (tdBN: Zheng, Wu, Deng, Hu, Li, AAAI 2021, arXiv 2011.05280) when μ and
    σ, mean and standard deviation, are taken over time, batch and positions, as they are here. In training they are
    those of the batch; then running ones, with which θ and b are integers of the network.

    Parameters
    ----------
    alpha : float
        where thresholds start: at σ/α
    momentum : float
        the batch's share in the running statistics, 0 to 1
    center : bool
        False takes μ and β for zero, and for σ the root of the currents' mean square: neurons without bias do nothing
        where nothing comes in, which hardware need not spend time on
    """

    alpha: float = 1.0
    momentum: float = 0.1
    center: bool = True
    kind = "batch"

    def __post_init__(self):
        if not 0 < self.alpha < math.inf:
            raise SpikeloomError(f"Batch norm: alpha must be positive, not {self.alpha}")
        if not 0 < self.momentum <= 1:
            raise SpikeloomError(f"Batch norm: momentum must lie above 0 and up to 1, not {self.momentum}")


class _Normed(torch.autograd.Function):
    """Currents (time steps, batch, positions · channels) with a ``bias`` for each channel added; backward, as if they
    had been divided by ``deviation`` after ``mean`` was taken off, where these come from the currents themselves
    (``of_batch``), and a ``latent`` β for each channel been added. Without a latent (None) it was not, and the mean is
    zero.

    This is the textbook's gradient of batch norm, so thresholds need not pass on any to the deviation.
    """

    @staticmethod
    def forward(ctx, current, latent, mean, deviation, bias, of_batch):
        ctx.of_batch, ctx.centered = of_batch, latent is not None
        biased = current + _each_position(bias, current.shape[-1])
        ctx.save_for_backward(biased, mean + bias, deviation)
        return biased

    @staticmethod
    def backward(ctx, grad):
        current, mean, deviation = ctx.saved_tensors
        total, along = _sums(grad, current, len(mean))
        if not ctx.centered:
            total.zero_()
        latent_grad = total * deviation if ctx.centered else None
        if ctx.of_batch:
            total, along, count = ranks.total(total, along, current.numel() // len(mean))
            slope = (mean * total - along) / (count * deviation.square())  # − Σ grad · normalised current / (count · σ)
            offset, slope = (_each_position(each, current.shape[-1]) for each in (-total / count - slope * mean, slope))
            for part in parts(grad):  # in place: `scan` made this gradient, and nobody else has it
                grad[:, part].addcmul_(current[:, part], slope).add_(offset)
        return grad, latent_grad, None, None, None, None


def _sums(values, factors, channels):
    """The sums of ``values`` (time steps, batch, positions · channels) for each channel, and of their products with
    ``factors`` of the same shape."""
    products = values.new_zeros(values.shape[-1])
    for part in parts(values):
        # Of a product that is written anew, as sums of a part of a tensor are slow.
        product, = workspace(values[:, part], 1)
        products.add_(torch.mul(values[:, part], factors[:, part], out=product).sum((0, 1)))
    return [sums.view(-1, channels).sum(0) for sums in (values.sum((0, 1)), products)]


def _each_position(channels, neurons):
    """What is given for each channel, for each of the ``neurons`` of a map."""
    return channels.expand(neurons // len(channels), -1).reshape(-1)


# Layers -----------------------------------------------------------------------------------------


class _Synapses(Weighted):
    """From the map of one source to one current for each neuron of a layer.

    Members: ``weight`` (parameter, latents) and what `Weighted` says; ``input_shape``, ``source`` and ``pool`` as in
    `spikeloom.network`; ``attention``, a `JointAttention` or None.
    """

    def __init__(self, input_shape, weight_shape, weights, source, pool, attention=None):
        super().__init__()
        self.input_shape, self.source, self.pool, self.attention = tuple(input_shape), source, pool, attention
        self._init_weights(weights, weight_shape)
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Draw the weights, and those of its attention."""
        self.draw(generator)
        if self.attention:
            self.attention.reset_parameters(generator)

    def attended(self, z, time_steps, quantized):
        """Inputs (time steps, batch, n_in) as its attention leaves them, for all time steps where it has one."""
        return self.attention(z.expand(time_steps, -1, -1), quantized) if self.attention else z

    def pooled(self, z):
        """Of inputs (time steps, batch, n_in) the maps that the weights meet (time steps · batch, channels, rows,
        columns), in memory channels last."""
        maps = z.reshape(-1, *self.input_shape).permute(0, 3, 1, 2)
        if self.pool is None:
            return maps
        block = self.pool.rows, self.pool.columns
        if self.pool.kind == "max":
            return functional.max_pool2d(maps, block)
        return functional.avg_pool2d(maps, block, divisor_override=1)

    def _integer_fields(self, weights):
        """What the `spikeloom.network` counterpart needs of this one's, for integer ``weights``."""
        return {"weights": weights, "weight_format": self.weight_quantizer.format, "source": self.source,
                "input_shape": self.input_shape, "pool": self.pool}


class _Convolution(_Synapses):
    """Synapses that every position has alike. Members beside those of `_Synapses`: ``stride``, ``padding``, ``groups``
    as in `spikeloom.network`."""

    def __init__(self, input_shape, channels, kernel, stride, padding, groups, weights, source, pool, attention=None):
        shape = channels, max(1, input_shape[2] // groups), kernel, kernel
        super().__init__(input_shape, shape, weights, source, pool, attention)
        self.stride, self.padding, self.groups = stride, padding, groups

    def currents(self, z, quantized, bias=None):
        """Sums (time steps, batch, n_out) for inputs (time steps, batch, n_in), all in one convolution."""
        # The weights' layout is what makes PyTorch keep that of maps of one channel.
        weight = self.used_weight(quantized).contiguous(memory_format=torch.channels_last)
        sums = functional.conv2d(self.pooled(z), weight, bias, self.stride, self.padding, groups=self.groups)
        return sums.permute(0, 2, 3, 1).reshape(*z.shape[:2], -1)


class SpikingShortcut(_Convolution):
    """A second branch into a `SpikingConv2d`: a convolution with a 1 x 1 kernel, or with as many ``groups`` as channels
    the identity, times a factor for each channel. As its integers are added to those of the layer's own branch, they
    count steps of that one's weights.

    Parameters
    ----------
    source : str
        name of a layer, or "input"
    input_shape : (rows, columns, channels)
        the source's map
    channels : int
    stride, groups : int
    weights : quantizer of `spikeloom.training.quantizers`
        without a step of its own
    pool : `spikeloom.network.Pool`, optional
    factor : float, optional
        every latent weight at the start; by default they are drawn

    Member: ``beside``, a tuple of the layer that it leads into. Raises `SpikeloomError` for weights with a step.
    """

    beside = ()

    def __init__(self, source, input_shape, channels, *, stride=1, groups=1, weights=None, pool=None, factor=None):
        if isinstance(weights, quantizers.Scaled):
            raise SpikeloomError(f"Shortcut: its weights count steps of the layer's own, so they cannot be of kind "
                                 f"{weights.kind}, which has one")
        self.factor = factor
        super().__init__(input_shape, channels, 1, stride, 0, groups, weights, source, pool)

    def reset_parameters(self, generator=None):
        """Set the weights to the factor, or draw them."""
        if self.factor is None:
            super().reset_parameters(generator)
        else:
            nn.init.constant_(self.weight, self.factor)

    def step(self, quantized, name="weight"):
        """That of the layer's own weights, for each channel where they have one for each."""
        step = self.beside[0].step(quantized) if self.beside else 1.0
        return step.view(-1, 1, 1, 1) if torch.is_tensor(step) else step

    def used_weight(self, quantized, name="weight"):
        step = self.step(quantized)
        if not torch.is_tensor(step):
            return super().used_weight(quantized)
        weight = self.weight_quantizer(self.weight / step)
        return weight if self.weight_mask is None else weight * self.weight_mask

    @torch.no_grad()
    def limit(self):
        step = self.step(True)
        self.weight.div_(step)
        super().limit()
        self.weight.mul_(step)

    def _integer(self, weights):
        fields = self._integer_fields(weights)
        return Shortcut(**fields, stride=self.stride, groups=self.groups)


class _Neurons:
    """What every layer has beside its own synapses.

    Parameters that all kinds take:

    neuron : Neuron
    weights : quantizer of `spikeloom.training.quantizers`
    threshold : float
        initial threshold, in state units; of no use with batch norm
    name : str
        of the layer in the `Network`
    source : str, optional
        name of the layer (or "input") that feeds this one, by default the layer before
    attention : JointAttention, optional
        what happens to the source's map first
    pool : `spikeloom.network.Pool`, optional
        what happens to it next
    norm : NoNorm or BatchNorm
    thresholds : "channel", "layer" or "fixed"
        whether each channel learns a threshold of its own, all learn one, or none is learned
    threshold_quantizer, bias_quantizer : quantizers
        by default what the way of firing allows: thresholds from 1, powers of two for graded spikes; any biases

    Members: ``threshold``, ``bias`` (parameters (channels,), in latents of the weights, or as `BatchNorm` says; one
    threshold of shape (1,) where all learn the same), ``shape`` (the map of neurons), ``bias_mask`` (buffer
    (channels,), 0 where a neuron has no bias, or None), ``opened`` (buffer (channels,), the share of time that each
    channel was open in the layer whose latents it took, or None), and with batch norm ``mean``, ``deviation`` (buffers
    (channels,), running statistics of currents, in latents of the weights).
    All raise `SpikeloomError` where the integer layer would break a rule of `spikeloom.network`.
    """

    def _init_neurons(self, channels, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer):
        self.name, self.neuron, self.norm = name, neuron, norm or NoNorm()
        if self.shortcut:
            self.shortcut.beside = (self,)  # a tuple, as it is not a part
        graded = isinstance(neuron.fire, GradedSpike)
        self.threshold_quantizer = threshold_quantizer or (
            quantizers.RoundedPowerOfTwo() if graded else quantizers.Rounded(minimum=1))
        self.bias_quantizer = bias_quantizer or quantizers.Rounded()
        if isinstance(self.norm, BatchNorm):
            threshold = 1 / self.norm.alpha
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("deviation", torch.ones(channels))
        self.threshold = nn.Parameter(torch.full((1 if thresholds == "layer" else channels,), float(threshold)),
                                      requires_grad=thresholds != "fixed")
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=self._centered)
        self.register_buffer("bias_mask", None)
        self.register_buffer("opened", None)
        # What the network has to say of shapes it says here. Every grid has a 1.
        self.shape = self._integer(lambda branch: np.ones(branch.weight.shape, np.int64), np.ones(channels, np.int64),
                                   np.zeros(channels, np.int64)).shape

    @property
    def branches(self):
        """The synapses that lead into the layer: its own, then its shortcut's if it has one."""
        return (self, self.shortcut) if self.shortcut else (self,)

    @property
    def weighted(self):
        """All that has weights: the synapses that lead into the layer, and its attention if it has one."""
        return (*self.branches, self.attention) if self.attention else self.branches

    @property
    def gates(self):
        """Its gates, of channels and of blocks."""
        return tuple(gate for gate in (self.gate, self.block_gate) if gate)

    @property
    def open_share(self):
        """The share of time that each channel has been open (channels,), by its own gate or that of the layer whose
        latents it took; None where that is not known."""
        return self.gate.opened if self.gate else self.opened

    @property
    def own_tensors(self):
        """(owner, name) of every tensor of weights of the layer, its shortcut and its attention."""
        return [(owner, name) for owner in self.weighted for name in owner.tensors]

    @property
    def _centered(self):
        return not isinstance(self.norm, BatchNorm) or self.norm.center

    @torch.no_grad()
    def limit(self):
        """Clip the latents in place to what their integers can reach."""
        super().limit()
        for other in (*self.weighted[1:], *self.gates):
            other.limit()
        if isinstance(self.norm, BatchNorm):
            self.threshold.clamp_(min=LEAST_DEVIATIONS)
        else:
            step = self.step(True)
            alone = torch.is_tensor(step) and len(self.threshold) < step.numel()
            self.threshold_quantizer.limit(self.threshold, step.max() if alone else step)
            self.bias_quantizer.limit(self.bias, step)

    @torch.no_grad()
    def _statistics(self, current, step):
        """Mean and standard deviation of each channel's ``current``, of the batch while training; a current of one is
        worth ``step`` latents."""
        if not self.training:
            return self.mean / step, self.deviation / step
        total, square, count = ranks.total(*_sums(current, current, len(self.mean)),
                                           current.numel() // len(self.mean))
        mean = total / count if self._centered else torch.zeros_like(self.mean)
        deviation = (square / count - mean.square()).clamp_(min=0).add_(EPSILON).sqrt_()
        self.mean.lerp_(mean * step, self.norm.momentum)
        self.deviation.lerp_(deviation * step, self.norm.momentum)
        return mean, deviation

    def used(self, quantized, mean=None, deviation=None):
        """Threshold and bias (channels,) that neurons work with, differentiable in the latents; with batch norm those
        for a mean and deviation of their currents, by default the running ones."""
        threshold, bias = self.threshold.expand(len(self.bias)), self.bias
        if isinstance(self.norm, BatchNorm):
            if mean is None:
                with torch.no_grad():
                    step = self.step(quantized)
                    mean, deviation = self.mean / step, self.deviation / step
            threshold, bias = threshold * deviation, bias * deviation - mean
        elif isinstance(self.weight_quantizer, quantizers.Scaled):
            step = self.step(quantized)
            threshold, bias = threshold / step, bias / step
        if self.bias_mask is not None:
            bias = bias * self.bias_mask
        return (self.threshold_quantizer(threshold), self.bias_quantizer(bias)) if quantized else (threshold, bias)

    def forward(self, *inputs, time_steps=None, quantized=True, record=True):
        """Spikes and membranes (time steps, batch, n_out) for inputs (time steps, batch, n_in) of each branch.

        Inputs of shape (1, batch, n_in) with ``time_steps`` are the same at each step; their product with the weights
        is then done once.
        """
        time_steps = time_steps or len(inputs[0])
        inputs = [branch.attended(z, time_steps, quantized) for branch, z in zip(self.branches, inputs, strict=True)]
        normed = isinstance(self.norm, BatchNorm)
        threshold, bias = (None, None) if normed else self.used(quantized)
        current = self.currents(inputs[0], quantized, bias)
        for branch, z in zip(self.branches[1:], inputs[1:], strict=True):
            current = current + branch.currents(z, quantized)
        if normed:
            mean, deviation = self._statistics(current, self.step(quantized))
            threshold, bias = self.used(quantized, mean, deviation)
            current = _Normed.apply(current, self.bias if self._centered else None, mean, deviation, bias.detach(),
                                    self.training)
        if self.gate:
            opened = self.gate(inputs[0], quantized).unsqueeze(2)
            current = (current.unflatten(2, (-1, self.shape[2])) * opened).flatten(2)
        run, options = scan, {"time_steps": time_steps, "quantized": quantized, "record": record}
        if self.block_gate:
            run, options["opened"] = gated_scan, functools.partial(self.block_gate, threshold=threshold.detach(),
                                                                   quantized=quantized)
        return run(current, _each_position(threshold, math.prod(self.shape)), self.neuron, **options)

    @torch.no_grad()
    def take(self, other):
        """Take the latents of another layer, as `SpikingNetwork.take` says."""
        for what, here, there in (
                ("weights of shape", *([tuple(getattr(*tensor).shape) for tensor in layer.own_tensors]
                                       for layer in (self, other))),
                ("neurons with norm", *(layer.norm.kind + " without center" * (not layer._centered)
                                        for layer in (self, other)))):
            if here != there:
                here, there = (each if isinstance(each, str) else ", ".join(map(str, each)) for each in (here, there))
                raise SpikeloomError(f"layer {other.name} has {what} {there}, where layer {self.name} needs {here}")
        ratio = self.weight_quantizer.span / other.weight_quantizer.span
        if ratio != 1 and isinstance(self.neuron.leak, TableLeak):
            raise SpikeloomError(f"layer {other.name} has weights of another kind than layer {self.name}, whose table "
                                 "of leaks holds for one")
        if self.attention:
            gain = self.attention.time_weight_quantizer.span / other.attention.time_weight_quantizer.span
            self.attention.shift.copy_(other.attention.shift + 2 * math.log2(gain))
        for (owner, name), (its_owner, _) in zip(self.own_tensors, other.own_tensors, strict=True):
            latent, quantizer, mask = its_owner.of(name)
            weight = quantizer.floats(latent) * (1.0 if mask is None else mask)
            getattr(owner, name).copy_(weight * (gain if owner is self.attention else ratio))
        kept = 1.0 if other.bias_mask is None else other.bias_mask
        if isinstance(self.norm, BatchNorm):
            self.mean.copy_(other.mean * kept * ratio)
            self.deviation.copy_(other.deviation * ratio)
            ratio = 1.0
        for mine, its in ((self.gate, other.gate), (self.block_gate, other.block_gate)):
            if mine and its and mine.weight.shape == its.weight.shape:
                mine.take(its)
        if self.opened is not None and other.open_share is not None:
            self.opened.copy_(other.open_share)
        threshold = other.threshold * ratio
        self.threshold.copy_(threshold.mean() if len(self.threshold) < len(threshold) else threshold)
        self.bias.copy_(other.bias * kept * ratio)

    def to_layer(self):
        """The integer layer (`spikeloom.network.Dense` or `Conv2d`)."""
        with torch.no_grad(), evaluating(self):
            threshold, bias = (integer_array(tensor) for tensor in self.used(True))
            layer = self._integer(lambda branch: integer_array(branch.used_weight(True)), threshold, bias)
            parts = {"attention": self.attention and self.attention.to_attention(),
                     "gate": self.gate and self.gate.to_gate(),
                     "block_gate": self.block_gate and self.block_gate.to_gate(self.used(True)[0])}
        return dataclasses.replace(layer, **{name: part for name, part in parts.items() if part})

    def _integer_neurons(self, threshold, bias):
        neuron = self.neuron
        return {"name": self.name, "threshold": threshold, "bias": bias, "v_width": neuron.v_width,
                "grid": neuron.grid, "leak": neuron.leak, "reset": neuron.reset, "fire": neuron.fire}


class SpikingDense(_Neurons, _Synapses):
    """A fully connected layer of spiking neurons; what it takes beside the following is said in `_Neurons`.

    Parameters
    ----------
    n_in : int, or (rows, columns, channels)
        inputs, or the map that they make, which ``attention`` and ``pool`` need
    n_out : int

    ``weight`` has shape (n_out, inputs after pooling).
    """

    shortcut = gate = block_gate = None

    def __init__(self, n_in, n_out, neuron, *, weights=None, threshold=8.0, name="dense", source=None,
                 attention=None, pool=None, norm=None, thresholds="channel",
                 threshold_quantizer=None, bias_quantizer=None):
        input_shape = n_in if isinstance(n_in, tuple | list) else (1, 1, int(n_in))
        weight_shape = n_out, max(1, math.prod(pool.shape(input_shape) if pool else input_shape))
        super().__init__(input_shape, weight_shape, weights, source, pool, attention)
        self._init_neurons(n_out, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer)

    def currents(self, z, quantized, bias=None):
        """Sums (time steps, batch, n_out) for inputs (time steps, batch, n_in), all in one matrix product."""
        if self.pool:
            z = self.pooled(z).permute(0, 2, 3, 1).reshape(*z.shape[:2], -1)
        return functional.linear(z, self.used_weight(quantized), bias)

    def _integer(self, weights, threshold, bias):
        return Dense(**self._integer_fields(weights(self)), **self._integer_neurons(threshold, bias))


class SpikingConv2d(_Neurons, _Convolution):
    """A map of spiking neurons whose synapses are a convolution; what it takes beside the following is said in
    `_Neurons`.

    Parameters
    ----------
    input_shape : (rows, columns, channels)
        the source's map, before pooling
    channels : int
    kernel : int
        positions on a side, 1 to 7
    stride, groups : int
    padding : int, optional
        positions of zeros on each side; by default half the kernel, which keeps the size of maps
    shortcut : SpikingShortcut, optional
        a second branch, whose currents are added
    gate : SpikingChannelGate, optional
    block_gate : SpikingBlockGate, optional

    ``weight`` has shape (channels, channels in / groups, kernel, kernel).
    """

    def __init__(self, input_shape, channels, neuron, *, kernel=3, stride=1, padding=None, groups=1, weights=None,
                 threshold=8.0, name="conv", source=None, attention=None, pool=None, shortcut=None, norm=None,
                 thresholds="channel", threshold_quantizer=None, bias_quantizer=None, gate=None, block_gate=None):
        padding = kernel // 2 if padding is None else padding
        super().__init__(input_shape, channels, kernel, stride, padding, groups, weights, source, pool, attention)
        self.shortcut, self.gate, self.block_gate = shortcut, gate, block_gate
        self._init_neurons(channels, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer)

    def _integer(self, weights, threshold, bias):
        shortcut = self.shortcut and self.shortcut._integer(weights(self.shortcut))
        return Conv2d(**self._integer_fields(weights(self)), **self._integer_neurons(threshold, bias),
                      stride=self.stride, padding=self.padding, groups=self.groups, shortcut=shortcut)


class SpikingNetwork(nn.Module):
    """Layers, each fed by the spikes that its sources fire in the same time step, by default the layer before.

    Parameters
    ----------
    input : InputFormat
    layers : iterable of SpikingDense and SpikingConv2d
    time_steps : int
    readout : "count" or "membrane"
    votes : int
        neighbouring neurons of the last layer that vote for one class
    """

    def __init__(self, input, layers, time_steps, readout="count", votes=1):
        super().__init__()
        self.input, self.time_steps, self.readout, self.votes = input, time_steps, readout, votes
        self.layers = nn.ModuleList(layers)

    def forward(self, x, *, quantized=True, record=False):
        """Spikes and membranes of each layer, two lists of tensors (time steps, batch, n_out).

        Membranes of all but the last layer are None unless ``record``.

        ``x``: (batch, time steps, n_in), numeric. A time axis made by ``expand`` (stride 0) is known to be
        constant, and the product with weights that it feeds is then done once.
        """
        time_steps = x.shape[1]
        z = x[:, :1] if x.stride(1) == 0 else x
        fired = {INPUT: z.transpose(0, 1).contiguous().float()}
        membranes = []
        for layer, sources in zip(self.layers, integer.sources(self.layers), strict=True):
            fired[layer.name], v = layer(*(fired[source] for source in sources), time_steps=time_steps,
                                         quantized=quantized, record=record or layer is self.layers[-1])
            membranes.append(v)
        return [fired[layer.name] for layer in self.layers], membranes

    def classes(self, spikes, membranes, *, quantized=True):
        """The last layer's spikes and membranes (time steps, batch, classes): means over those that vote for a
        class, and membranes in latents of the layer's weights, as large as those of floats."""
        spikes, membranes, last = spikes[-1], membranes[-1], self.layers[-1]
        if isinstance(last.weight_quantizer, quantizers.Scaled):
            membranes = membranes * last.step(quantized)
        return tuple(tensor.unflatten(2, (-1, self.votes)).mean(3) if self.votes > 1 else tensor
                     for tensor in (spikes, membranes))

    def scores(self, spikes, membranes):
        """A sample's scores (batch, classes) from the last layer's spikes and membranes."""
        scores = spikes[-1].sum(0) if self.readout == "count" else membranes[-1][-1]
        return scores.unflatten(1, (-1, self.votes)).sum(2)

    @property
    def penalty(self):
        """What gates add to the loss of the batch that was seen last, a scalar."""
        return sum(gate.penalty for layer in self.layers for gate in layer.gates)

    @property
    def tensors(self):
        """(owner, name) of every tensor of weights, without those of gates."""
        return [tensor for layer in self.layers for tensor in layer.own_tensors]

    def take(self, other):
        """Take the latents of another `SpikingNetwork` of the same shapes, so that both compute the same in floats.

        What was pruned there is zero. Where the kinds of weights differ, a layer's weights, thresholds and potentials
        are scaled alike, by the ratio of their natural sizes; weights of kind normalized_binary normalize what they
        take.

        Raises `SpikeloomError` where that cannot be.
        """
        if len(self.layers) != len(other.layers):
            raise SpikeloomError(f"has {len(other.layers)} layers, where {len(self.layers)} are needed")
        for mine, its in zip(self.layers, other.layers, strict=True):
            mine.take(its)

    def start_quantizing(self):
        """Set what quantizers learn from the latents at hand, which are clipped as `limit` does."""
        for weighted, name in self.tensors:
            latent, quantizer, _ = weighted.of(name)
            quantizer.start(latent)
        self.limit()

    def anneal(self, share):
        """So much of the quantized phase (0 to 1) is over."""
        for weighted, name in self.tensors:
            weighted.of(name)[1].anneal(share)

    def limit(self):
        """Clip all latents in place to what their integers can reach."""
        for layer in self.layers:
            layer.limit()

    def to_network(self, notes=None):
        """The integer `Network`; raises `SpikeloomError` when it would break one of its rules."""
        layers = tuple(layer.to_layer() for layer in self.layers)
        return Network(self.input, layers, self.time_steps, self.readout, notes or {}, self.votes)


def from_network(network):
    """A `SpikingNetwork` whose latents are the integers of ``network``, to be run and not to be trained."""
    return SpikingNetwork(network.input, [_from_layer(layer) for layer in network.layers], network.time_steps,
                          network.readout, network.votes).eval()


def _from_layer(layer):
    attention = layer.attention and JointAttention(
        layer.input_shape, len(layer.attention.time_weights), table=layer.attention.table,
        weights=quantizers.Exact(layer.attention.weight_format))
    options = {"name": layer.name, "source": layer.source, "attention": attention, "pool": layer.pool,
               "weights": quantizers.Exact(layer.weight_format), "threshold_quantizer": quantizers.Exact(),
               "bias_quantizer": quantizers.Exact()}
    neuron = Neuron(layer.v_width, layer.leak, layer.reset, layer.fire,
                    membrane=Exact(layer.grid) if layer.grid else None)
    if isinstance(layer, Dense):
        module = SpikingDense(layer.input_shape, layer.n_out, neuron, **options)
    else:
        shortcut = layer.shortcut and SpikingShortcut(
            layer.shortcut.source, layer.shortcut.input_shape, layer.shape[2], stride=layer.shortcut.stride,
            groups=layer.shortcut.groups, weights=quantizers.Exact(layer.shortcut.weight_format),
            pool=layer.shortcut.pool)
        module = SpikingConv2d(layer.input_shape, layer.shape[2], neuron, kernel=layer.kernel, stride=layer.stride,
                               padding=layer.padding, groups=layer.groups, shortcut=shortcut,
                               gate=layer.gate and SpikingChannelGate.from_gate(layer.gate, layer),
                               block_gate=layer.block_gate and SpikingBlockGate.from_gate(layer.block_gate, layer),
                               **options)
    with torch.no_grad():
        for branch, of_branch in zip(module.branches, layer.branches, strict=True):
            branch.weight.copy_(torch.from_numpy(of_branch.weights.copy()))
        if attention:  # whose two kernels may differ in length
            attention.time_weight, attention.channel_weight = (
                nn.Parameter(torch.from_numpy(weights.copy()).float())
                for weights in (layer.attention.time_weights, layer.attention.channel_weights))
            attention.shift.fill_(layer.attention.shift)
        module.threshold.copy_(torch.from_numpy(layer.threshold.copy()))
        module.bias.copy_(torch.from_numpy(layer.bias.copy()))
    return module


def run(network, inputs, *, device=None, batch=None):
    """Run ``network`` in PyTorch on ``inputs`` (samples, time steps, n_in); as `spikeloom.reference.run`.

    Parameters
    ----------
    device : str, optional
        where to compute ("cpu", "cuda"); by default a GPU where there is one
    batch : int, optional
        samples at a time; by default as many as keep tensors small

    Raises `SpikeloomError` as the reference does.
    """
    inputs = reference.check_inputs(network, inputs)
    device = choose_device(device)
    model = from_network(network).to(device)
    samples, steps, _ = inputs.shape
    batch = batch or batch_size(model, steps)
    spikes = [np.empty((samples, steps, layer.n_out), np.int64) for layer in network.layers]
    membranes = [np.empty_like(array) for array in spikes]
    constant = steps > 1 and all((inputs[:, t] == inputs[:, 0]).all() for t in range(1, steps))
    with torch.no_grad(), exact_products():
        for start in range(0, samples, batch):
            chunk = torch.from_numpy(inputs[start:start + batch, :1 if constant else None]).to(device)
            outputs = model(chunk.expand(-1, steps, -1) if constant else chunk, record=True)
            for arrays, tensors in zip((spikes, membranes), outputs, strict=True):
                for array, tensor in zip(arrays, tensors, strict=True):
                    array[start:start + batch] = tensor.transpose(0, 1).cpu().numpy()
    return reference.Trace(spikes, membranes, *reference.read_out(network, spikes[-1], membranes[-1]))


def batch_size(model, time_steps):
    """Samples of so many time steps that ``model``, a `SpikingNetwork` or `Network`, takes at a time with the least
    effort."""
    widest = max(model.input.size, *(math.prod(layer.shape) for layer in model.layers))
    return max(1, min(BATCH_VALUES // (time_steps * widest), 4096))


@contextlib.contextmanager
def exact_products():
    """Matrix products and convolutions inside the block that are exact where all sums are integers below 2^24.

    That is full float32, even where the caller allowed TF32 or bfloat16, and direct convolution: not by way of
    Winograd's or Fourier's transform, as cuDNN and NNPACK may choose.
    """
    cudnn, conv = torch.backends.cudnn, getattr(torch.backends.mkldnn, "conv", None)
    matmul, enabled, precision = torch.get_float32_matmul_precision(), cudnn.enabled, conv and conv.fp32_precision
    with torch.backends.nnpack.flags(enabled=False):
        try:
            torch.set_float32_matmul_precision("highest")
            cudnn.enabled = False
            if conv:  # in newer versions of PyTorch only
                conv.fp32_precision = "ieee"
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            cudnn.enabled = enabled
            if conv:
                conv.fp32_precision = precision


def choose_device(device=None):
    """The `torch.device` that ``device`` names; by default a GPU where there is one.

    Raises `SpikeloomError` when there is no such device.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SpikeloomError(f"Device {device!r} is not usable here: {str(error).splitlines()[0]}") from None
    return chosen
