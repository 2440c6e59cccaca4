"""Gates that leave work out, in PyTorch: `spikeloom.network.ChannelGate` and `BlockGate` with latents.

Both are the dynamic pruning of SpQuant-SNN (Hasssan, Meng, Anupreetham, Seo, Front. Neurosci. 18, 2024). A gate passes
no gradient on to what it decides by, and learns by that of a sigmoid in place of its hard decision. As accuracy alone
gains nothing by closing gates, each can be given a share that is to stay open.
"""

from __future__ import annotations

import math

import torch
from spikeloom.network import BlockGate, ChannelGate
from torch import nn
from torch.nn import functional

from . import quantizers, ranks
from .weighted import Weighted, evaluating, integer_array

#: What a channel gate makes of the mean of a channel's map.
PREDICTORS = ("softmax", "mean")

#: Of a channel gate's table, for integers of 8 bits: the most entries, and the largest.
TABLE_ENTRIES, TABLE_LARGEST = 256, 255

#: At a share of what sums are likely to be, by which gates are open at the start.
OPEN_AT_START = 1.0

#: Temperature of the noise by which a block gate decides while it is trained.
TEMPERATURE = 0.4

#: How fast the share of samples and time steps in which a channel is open is forgotten.
MOMENTUM = 0.02


class _Gate(Weighted):
    """Decisions by a weighted sum, above or at a threshold.

    Parameters
    ----------
    channels : int
    shape : tuple of int
        of the weights
    weights : quantizer without a step
    share : float, optional
        how much is wanted to be open; `penalty` is the squared distance from it
    strength : float
        times that

    Members: ``weight``, ``bias`` (parameters; a bias of 1 is as much as a sum is likely to be), ``opened`` (buffer
    (channels,), the share of samples and time steps in which each channel is open, a running mean while training),
    ``penalty`` (a scalar, of the batch that was seen last).
    """

    def __init__(self, channels, shape, weights, share, strength):
        super().__init__()
        self.share, self.strength, self.penalty, self.exact = share, strength, 0.0, False
        self._init_weights(weights or quantizers.Integer(8), shape)
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("opened", torch.ones(channels))
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Draw the weights, for gates that are mostly open."""
        self.draw(generator)
        nn.init.constant_(self.bias, OPEN_AT_START)

    def take(self, other):
        """Take the latents and the statistics of another gate of the same shape."""
        ratio = self.weight_quantizer.span / other.weight_quantizer.span
        self.weight.copy_(other.weight * ratio)
        self.bias.copy_(other.bias)
        self.opened.copy_(other.opened)

    def used(self, unit, quantized):
        """Weights and biases that are worked with, differentiable in the latents; sums are likely to be as large as
        ``unit``, an integer."""
        bias = self.bias * unit
        return self.used_weight(quantized), quantizers.Rounded()(bias) if quantized else bias

    def _exactly(self, gate):
        """Take the integers of a `spikeloom.network` gate."""
        self.exact = True
        self.weight.copy_(torch.from_numpy(gate.weights.copy()))
        self.bias.copy_(torch.from_numpy(gate.bias.copy()))
        return self

    def _unit(self, values):
        """The size of a sum over as many values of the size ``values`` as a channel has weights; 1 where latents are
        integers."""
        if self.exact:
            return 1.0
        return max(1.0, round(self.weight_quantizer.span / 2 * math.sqrt(self.weight[0].numel()) * float(values)))

    def _decided(self, soft, hard):
        """1 or 0 as ``hard`` (bool) says, with the gradient of ``soft`` (…, channels)."""
        decided = quantizers.straight_through(soft, hard.float())
        if self.training:
            total, count = ranks.total(decided.detach().flatten(0, -2).sum(0), decided.numel() // len(self.opened))
            self.opened.lerp_(total / count, MOMENTUM)
            if self.share is not None:
                mean = quantizers.straight_through(decided.mean(), (total / count).mean())
                self.penalty = self.strength * (mean - self.share).square()
        return decided


class SpikingChannelGate(_Gate):
    """Which channels of a convolution get anything at a time step.

    With the predictor "softmax", as published, a channel is open where a weighted sum of softmax(means of the channels
    that come in), and a bias, is above 0. As the softmax adds up to 1, that is so where Σ (w + bias) · exp(mean) is: no
    more is needed than a table of exp. With "mean" the table is a line.

    Parameters
    ----------
    input_shape : (rows, columns, channels)
        before pooling
    channels : int
        that go out
    high : int
        the largest value that comes in
    predictor : "softmax" or "mean"
    reduce : int
        neighbouring channels that are taken together, a divisor of the channels in
    weights, share, strength
        as in `_Gate`
    """

    def __init__(self, input_shape, channels, *, high=1, predictor="softmax", reduce=1, weights=None, share=None,
                 strength=1.0):
        largest = math.prod(input_shape[:2]) * reduce * high
        self.shift = max(0, largest.bit_length() - (TABLE_ENTRIES - 1).bit_length())
        entries = 1 << (largest >> self.shift).bit_length()
        means = torch.arange(entries, dtype=torch.float64).mul_(2**self.shift / largest).clamp_(max=1)
        values = torch.exp(means - 1) if predictor == "softmax" else means
        self.predictor, self.reduce = predictor, reduce
        super().__init__(channels, (channels, input_shape[2] // reduce), weights, share, strength)
        self.register_buffer("table", values.mul_(TABLE_LARGEST).round_().float(), persistent=False)

    @classmethod
    @torch.no_grad()
    def from_gate(cls, gate, layer):
        """The module that computes what the integer ``gate`` of the integer ``layer`` does, to be run and not trained.
        """
        module = cls(layer.input_shape, len(gate.bias), predictor="mean", reduce=gate.reduce,
                     weights=quantizers.Exact(gate.weight_format))
        module.shift, module.table = gate.shift, torch.tensor(gate.table, dtype=torch.float32)
        return module._exactly(gate)

    def _units(self):
        return self._unit(TABLE_LARGEST / 4)

    def used(self, unit, quantized):
        weight, bias = super().used(unit, quantized)
        if self.predictor == "mean":
            return weight, bias
        # A bias times the sum of all exponentials is one in each weight.
        latent = self.weight + (self.bias * (self.weight_quantizer.span / 2)).unsqueeze(1)
        weight = self.weight_quantizer(latent) if quantized else latent
        return weight, torch.zeros_like(bias)

    def forward(self, z, quantized=True):
        """Whether channels are open, 1 or 0 (time steps, batch, channels), for inputs (time steps, batch, n_in)."""
        with torch.no_grad():
            sums = z.reshape(*z.shape[:2], -1, self.weight.shape[1], self.reduce).sum((2, 4))
            seen = self.table[sums.mul_(2.0**-self.shift).floor_().clamp_(max=len(self.table) - 1).long()]
        unit = self._units()
        logits = functional.linear(seen, *self.used(unit, quantized))
        return self._decided(torch.sigmoid(logits / unit), logits > 0)

    def to_gate(self):
        """The integer `ChannelGate`."""
        with torch.no_grad(), evaluating(self):
            weight, bias = self.used(self._units(), True)
        return ChannelGate(integer_array(weight), self.weight_quantizer.format, integer_array(bias),
                           tuple(self.table.int().tolist()), self.shift, self.reduce)


class SpikingBlockGate(_Gate):
    """In which blocks of a map potentials are left to fire, channel by channel, by those of the time step before.

    While it is trained it decides with noise (Gumbel, of temperature `TEMPERATURE`).

    Parameters
    ----------
    shape : (rows, columns, channels)
        the map of the layer
    kernel : int
        positions on a side, odd
    rows, columns : int
        of a block
    depthwise : bool
        whether each channel sees itself alone
    weights, share, strength
        as in `_Gate`
    """

    def __init__(self, shape, *, kernel=3, rows=2, columns=2, depthwise=False, weights=None, share=None, strength=1.0):
        self.shape, self.rows, self.columns, self.depthwise = tuple(shape), rows, columns, depthwise
        seen = 1 if depthwise else shape[2]
        super().__init__(shape[2], (shape[2], seen, kernel, kernel), weights, share, strength)

    @classmethod
    @torch.no_grad()
    def from_gate(cls, gate, layer):
        """As `SpikingChannelGate.from_gate`."""
        module = cls(layer.shape, kernel=gate.weights.shape[2], rows=gate.rows, columns=gate.columns,
                     depthwise=gate.groups > 1, weights=quantizers.Exact(gate.weight_format))
        return module._exactly(gate)

    def _units(self, threshold):
        return self._unit(threshold.mean() * self.rows * self.columns / 4)

    def forward(self, v, threshold, quantized=True):
        """Whether neurons may fire, 1 or 0 (batch, neurons), where the time step before left potentials ``v`` of the
        same shape; ``threshold`` (channels,) is theirs."""
        rows, columns, channels = self.shape
        with torch.no_grad():
            maps = v.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
            maps = functional.pad(maps, (0, -columns % self.columns, 0, -rows % self.rows))
            sums = functional.avg_pool2d(maps, (self.rows, self.columns), divisor_override=1)
            unit = self._units(threshold)
        weight, bias = self.used(unit, quantized)
        logits = functional.conv2d(sums, weight, bias, padding=weight.shape[2] // 2,
                                   groups=channels if self.depthwise else 1).permute(0, 2, 3, 1)
        soft = logits / unit
        if self.training:
            uniform = torch.rand_like(soft).clamp_(1e-6, 1 - 1e-6)
            soft = torch.sigmoid((soft + torch.logit(uniform)) / TEMPERATURE)
            decided = self._decided(soft, soft >= 0.5)
        else:
            decided = self._decided(torch.sigmoid(soft), logits >= 0)
        each = decided.repeat_interleave(self.rows, 1).repeat_interleave(self.columns, 2)
        return each[:, :rows, :columns].flatten(1)

    def to_gate(self, threshold):
        """The integer `BlockGate` of neurons with this ``threshold`` (channels,)."""
        with torch.no_grad(), evaluating(self):
            weight, bias = self.used(self._units(threshold), True)
        return BlockGate(integer_array(weight), self.weight_quantizer.format, integer_array(bias), self.rows,
                         self.columns)
