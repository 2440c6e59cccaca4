"""Temporal-channel joint attention in PyTorch: `spikeloom.network.Attention` with latents."""

from __future__ import annotations

import math

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import LARGEST_SHIFT, Attention
from torch import nn
from torch.nn import functional

from . import quantizers
from .weighted import Weighted, evaluating, integer_array

#: A table of gates is that of the sigmoid from minus to plus this.
SIGMOID_REACH = 8.0

#: The share of neurons that spike at a time step, as far as an attention's shift at the start supposes: more than do,
#: so that gates begin near one half, where the sigmoid is steepest.
SUPPOSED_ACTIVITY = 1 / 4


def sigmoid_table(width):
    """The sigmoid as gates of ``width`` bits, fine enough that none is left out."""
    entries = 2 ** (width + 2)
    x = (torch.arange(entries, dtype=torch.float64) + 0.5 - entries / 2) * (2 * SIGMOID_REACH / entries)
    return tuple(torch.sigmoid(x).mul_(2**width - 1).round_().int().tolist())


class JointAttention(Weighted):
    """Gates that multiply a map: `spikeloom.network.Attention` with latents.

    In floats a gate is the table's largest times σ(a·b / 2^shift · pitch), where ``pitch`` is how far apart the table's
    entries are on the sigmoid's axis; ``quantized``, it is the table's entry, with the gradient of that.

    Parameters
    ----------
    input_shape : (rows, columns, channels)
    time_steps : int
        of the network
    kernel : int
        neighbouring channels, and time steps, that a gate sees: 1 to 7
    weights : quantizer of `spikeloom.training.quantizers`
    table : tuple of int
        as `sigmoid_table` makes it, by default for 4 bits

    Members: ``time_weight``, ``channel_weight`` (parameters, latents) and what `Weighted` says; ``shift`` (parameter,
    a scalar, for weights in latents: quantized, it takes in their steps). Raises `SpikeloomError` for weights with a
    step for each channel, as all channels share the shift.
    """

    tensors = ("time_weight", "channel_weight")

    def __init__(self, input_shape, time_steps, *, kernel=4, weights=None, table=None):
        super().__init__()
        self.positions, channels = math.prod(input_shape[:2]), input_shape[2]
        if isinstance(weights, quantizers.NormalizedBinary):
            raise SpikeloomError(f"Attention: weights of kind {weights.kind} have a step for each channel, where both "
                                 "kernels can have only one")
        self._init_weights(weights, (time_steps, time_steps, kernel), (channels, channels, kernel))
        self.shift = nn.Parameter(torch.empty(()))
        self.table = sigmoid_table(4) if table is None else table
        self.register_buffer("gates", torch.tensor(self.table, dtype=torch.float32), persistent=False)
        self.reset_parameters()

    @property
    def pitch(self):
        """How far apart the table's entries are on the sigmoid's axis."""
        return 2 * SIGMOID_REACH / len(self.table)

    def reset_parameters(self, generator=None):
        """Draw the weights as those of synapses are, and begin with a shift that takes products to about 1 on the
        sigmoid's axis."""
        self.draw(generator)
        squared = math.prod(latent[0].numel() * quantizer.span**2 / 3
                            for latent, quantizer, _ in map(self.of, self.tensors))
        sums = (SUPPOSED_ACTIVITY * self.positions)**2 * math.sqrt(squared)
        nn.init.constant_(self.shift, max(0.0, math.log2(sums * self.pitch)))

    @torch.no_grad()
    def limit(self):
        """Clip the latents in place to what their integers can reach."""
        super().limit()
        steps = self._steps(True)
        self.shift.clamp_(steps, LARGEST_SHIFT + steps)

    def _steps(self, quantized):
        """The power of two that the product of both steps is."""
        steps = math.prod(self.step(quantized, name) for name in self.tensors)
        return torch.log2(steps) if torch.is_tensor(steps) else math.log2(steps)

    def used(self, quantized):
        """Both weights and the shift that gates are made with, differentiable in the latents."""
        shift = self.shift
        if quantized:
            shift = shift - self._steps(True)
            shift = quantizers.straight_through(shift, shift.detach().round().clamp(0, LARGEST_SHIFT))
        return *(self.used_weight(quantized, name) for name in self.tensors), shift

    def forward(self, z, quantized=True):
        """Inputs (time steps, batch, n_in) times their gates."""
        maps = z.reshape(*z.shape[:2], self.positions, -1)
        s = maps.sum(2)
        time_weight, channel_weight, shift = self.used(quantized)
        a = _slide(s.permute(1, 0, 2), time_weight[:len(z), :len(z)]).permute(2, 0, 1)
        b = _slide(s.permute(1, 2, 0), channel_weight).permute(1, 0, 2)
        gates = torch.sigmoid(a * b * (self.pitch * torch.exp2(-shift))) * self.gates.max()
        if quantized:
            # Float64 holds every product of sums below 2^24.
            quotient = (a.detach().double() * b.detach().double() * 2.0**-int(shift)).floor_()
            half = len(self.table) // 2
            gates = quantizers.straight_through(gates, self.gates[quotient.clamp_(-half, half - 1).long() + half])
        return (maps * gates.unsqueeze(2)).flatten(2)

    def to_attention(self):
        """The integer `Attention`."""
        with torch.no_grad(), evaluating(self):
            time_weight, channel_weight, shift = self.used(True)
            return Attention(integer_array(time_weight), integer_array(channel_weight),
                             self.time_weight_quantizer.format, int(shift), self.table)


def _slide(s, weight):
    """Of ``s`` (batch, in, length) the sums (batch, length, out) of a one-dimensional convolution with ``weight`` (out,
    in, k), as many as there are positions."""
    k = weight.shape[2]
    before = (k - 1) // 2
    seen = functional.pad(s, (before, k - 1 - before)).unfold(2, k, 1)  # (batch, in, length, k)
    return functional.linear(seen.transpose(1, 2).flatten(2), weight.flatten(1))
