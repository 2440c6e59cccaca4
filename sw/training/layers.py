"""Layers of spiking neurons as PyTorch modules in integer units."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import Adaptation, Conv2d, Dense, GradedSpike
from torch import nn

from . import quantizers, ranks
from .norm import EPSILON, LEAST_DEVIATIONS, BatchNorm, NoNorm, Normed, each_position, sums
from .scan import States, advance, scan
from .synapses import Convolution, FullyConnected
from .weighted import evaluating, integer_array


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
    delay : int
        time steps by which the source's spikes come later than they are fired

    Members: ``threshold``, ``bias`` (parameters (channels,), in latents of the weights, or as `BatchNorm` says; one
    threshold of shape (1,) where all learn the same), ``raise_by`` (parameter (channels,), in units of thresholds: the
    step of the adaptation, or None), ``shape`` (the map of neurons), ``bias_mask`` (buffer
    (channels,), 0 where a neuron has no bias, or None), ``opened`` (buffer (channels,), the share of time that each
    channel was open in the layer whose latents it took, or None), and with batch norm ``mean``, ``deviation`` (buffers
    (channels,), running statistics of currents, in latents of the weights).
    All raise `SpikeloomError` where the integer layer would break a rule of `spikeloom.network`.
    """

    def _init_neurons(self, channels, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer):
        self.name, self.neuron, self.norm = name, neuron, norm or NoNorm()
        for branch in self.branches[1:]:
            branch.beside = (self,)  # a tuple, as it is not a part
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
        adapting, self.raise_by = neuron.adaptation, None
        if adapting:
            self.raise_by = nn.Parameter(torch.full((channels,), adapting.step * threshold),
                                         requires_grad=adapting.learned)
        self.register_buffer("bias_mask", None)
        self.register_buffer("opened", None)
        # What the network has to say of shapes it says here. Every grid has a 1.
        self.shape = self._integer(lambda branch: np.ones(branch.weight.shape, np.int64), np.ones(channels, np.int64),
                                   np.zeros(channels, np.int64)).shape

    @property
    def branches(self):
        """The synapses that lead into the layer: its own, then its shortcut's or its further ones."""
        return (self, self.shortcut) if self.shortcut else (self, *self.others)

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
        """(owner, name) of every tensor of weights of the layer, its branches and its attention."""
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
        total, square, count = ranks.total(*sums(current, current, len(self.mean)),
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

    def used_step(self, quantized, deviation=None):
        """By how much a spike raises thresholds (channels,), likewise; None without an adaptation."""
        if self.raise_by is None:
            return None
        if isinstance(self.norm, BatchNorm):
            step = self.raise_by * (self.deviation / self.step(quantized) if deviation is None else deviation)
        else:
            step = self.raise_by / self.step(quantized)
        return quantizers.Rounded()(step) if quantized else step

    def forward(self, *inputs, time_steps=None, quantized=True, record=True):
        """Spikes and membranes (time steps, batch, n_out) for inputs (time steps, batch, n_in) of each branch, None
        where it takes what the layer itself fires.

        Inputs of shape (1, batch, n_in) with ``time_steps`` are the same at each step; their product with the weights
        is then done once.
        """
        time_steps = time_steps or max(len(z) for z in inputs if z is not None)
        if self.block_gate:
            step = self.stepper(inputs, time_steps, quantized, inputs[0])
            spikes, membranes = zip(*(step(t) for t in range(time_steps)), strict=True)
            return torch.stack(spikes), torch.stack(membranes) if record else None
        current, opened, threshold, raised = self._arriving(inputs, time_steps, quantized)
        if opened is not None:
            current = self._gated(current, opened)
        recurrent = [(branch.used_weight(quantized), branch.delay)
                     for branch, z in zip(self.branches, inputs, strict=True) if z is None]
        return scan(current, threshold, self.neuron, step=raised, recurrent=recurrent, time_steps=time_steps,
                    quantized=quantized, record=record)

    def stepper(self, inputs, time_steps, quantized, like):
        """A function of time steps in turn, and of what comes then, (batch, n_in) for each branch whose ``inputs`` are
        None: spikes and membranes (batch, n_out). Of the other branches ``inputs`` are those of `forward`; where there
        is none, batches are those of ``like`` (…, batch, values)."""
        current, opened, threshold, raised = self._arriving(inputs, time_steps, quantized, like)
        weights = [branch.used_weight(quantized) if z is None else None
                   for branch, z in zip(self.branches, inputs, strict=True)]
        channels = threshold.detach()[:self.shape[2]]
        states = None

        def step(t, arriving=()):
            nonlocal states
            i = current[t:t + 1] if len(current) > 1 else current
            coming = iter(arriving)
            for branch, weight in zip(self.branches, weights, strict=True):
                if weight is None:
                    continue
                z = next(coming).unsqueeze(0)
                i = i + branch.sums(z, weight)
                if self.gate and branch is self:
                    own = self.gate(z, quantized)
            if self.gate:
                i = self._gated(i, own if opened is None else opened[t:t + 1] if len(opened) > 1 else opened)
            i = i[0]
            if states is None:
                states = States.before(self.neuron, i)
            gate = self.block_gate and self.block_gate(states.v.detach(), channels, quantized)
            z, states = advance(i, threshold, self.neuron, states, step=raised, opened=gate, quantized=quantized)
            return z, states.v

        return step

    def _arriving(self, inputs, time_steps, quantized, like=None):
        """Of ``inputs`` as in `forward`, those that are there: currents (time steps, or 1 where they are constant,
        batch, n_out), biases included; which channels the gate opens, where it is known by then; and thresholds and
        steps of the adaptation (neurons,)."""
        normed = isinstance(self.norm, BatchNorm)
        threshold, bias = (None, None) if normed else self.used(quantized)
        current = opened = deviation = None
        for branch, z in zip(self.branches, inputs, strict=True):
            if z is None:
                continue
            z = branch.attended(branch.delayed(z, time_steps), time_steps, quantized)
            if self.gate and branch is self:
                opened = self.gate(z, quantized)
            if current is None:
                current = branch.sums(z, branch.used_weight(quantized), bias)
            else:
                current = current + branch.sums(z, branch.used_weight(quantized))
        if current is None:
            current = each_position(bias, math.prod(self.shape)).expand(1, like.shape[-2], -1)
        if normed:
            mean, deviation = self._statistics(current, self.step(quantized))
            threshold, bias = self.used(quantized, mean, deviation)
            current = Normed.apply(current, self.bias if self._centered else None, mean, deviation, bias.detach(),
                                   self.training)
        threshold, raised = (each if each is None else each_position(each, math.prod(self.shape))
                             for each in (threshold, self.used_step(quantized, deviation)))
        return current, opened, threshold, raised

    def _gated(self, current, opened):
        """Currents (time steps, batch, n_out) of channels that are ``opened`` (time steps, batch, channels)."""
        return (current.unflatten(2, (-1, self.shape[2])) * opened.unsqueeze(2)).flatten(2)

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
        if ratio != 1 and self.neuron.has_tables:
            raise SpikeloomError(f"layer {other.name} has weights of another kind than layer {self.name}, whose table "
                                 "holds for one")
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
        if self.raise_by is not None and other.raise_by is not None:
            self.raise_by.copy_(other.raise_by * ratio)

    def to_layer(self):
        """The integer layer (`spikeloom.network.Dense` or `Conv2d`)."""
        with torch.no_grad(), evaluating(self):
            threshold, bias = (integer_array(tensor) for tensor in self.used(True))
            layer = self._integer(lambda branch: integer_array(branch.used_weight(True)), threshold, bias)
            adapting = self.neuron.adaptation
            step = adapting and np.tile(integer_array(self.used_step(True)), layer.shape[2] // len(threshold))
            parts = {"adaptation": adapting and Adaptation(adapting.width, adapting.leak, step),
                     "attention": self.attention and self.attention.to_attention(),
                     "gate": self.gate and self.gate.to_gate(),
                     "block_gate": self.block_gate and self.block_gate.to_gate(self.used(True)[0])}
        return dataclasses.replace(layer, **{name: part for name, part in parts.items() if part})

    def _integer_neurons(self, threshold, bias):
        neuron = self.neuron
        return {"name": self.name, "threshold": threshold, "bias": bias, "v_width": neuron.v_width,
                "grid": neuron.grid, "leak": neuron.leak, "reset": neuron.reset, "fire": neuron.fire,
                "act": neuron.act, "current": neuron.current}


class SpikingDense(_Neurons, FullyConnected):
    """A fully connected layer of spiking neurons; what it takes beside the following is said in `_Neurons`.

    Parameters
    ----------
    n_in : int, or (rows, columns, channels)
        inputs, or the map that they make, which ``attention`` and ``pool`` need
    n_out : int
    others : iterable of SpikingBranch
        whose currents are added

    ``weight`` has shape (n_out, inputs after pooling).
    """

    shortcut = gate = block_gate = None

    def __init__(self, n_in, n_out, neuron, *, weights=None, threshold=8.0, name="dense", source=None,
                 attention=None, pool=None, norm=None, thresholds="channel",
                 threshold_quantizer=None, bias_quantizer=None, delay=0, others=()):
        input_shape = n_in if isinstance(n_in, tuple | list) else (1, 1, int(n_in))
        weight_shape = n_out, max(1, math.prod(pool.shape(input_shape) if pool else input_shape))
        super().__init__(input_shape, weight_shape, weights, source, pool, attention, delay)
        self.others = nn.ModuleList(others)
        self._init_neurons(n_out, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer)

    def _integer(self, weights, threshold, bias):
        return Dense(**self._integer_fields(weights(self)), **self._integer_neurons(threshold, bias),
                     others=tuple(branch._integer(weights(branch)) for branch in self.others))


class SpikingConv2d(_Neurons, Convolution):
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

    others = ()

    def __init__(self, input_shape, channels, neuron, *, kernel=3, stride=1, padding=None, groups=1, weights=None,
                 threshold=8.0, name="conv", source=None, attention=None, pool=None, shortcut=None, norm=None,
                 thresholds="channel", threshold_quantizer=None, bias_quantizer=None, gate=None, block_gate=None,
                 delay=0):
        padding = kernel // 2 if padding is None else padding
        super().__init__(input_shape, channels, kernel, stride, padding, groups, weights, source, pool, attention,
                         delay)
        self.shortcut, self.gate, self.block_gate = shortcut, gate, block_gate
        self._init_neurons(channels, neuron, threshold, name, norm, thresholds, threshold_quantizer, bias_quantizer)

    def _integer(self, weights, threshold, bias):
        shortcut = self.shortcut and self.shortcut._integer(weights(self.shortcut))
        return Conv2d(**self._integer_fields(weights(self)), **self._integer_neurons(threshold, bias),
                      stride=self.stride, padding=self.padding, groups=self.groups, shortcut=shortcut)
