"""What leads from what a source sends to the currents of a layer, in PyTorch: latents of `spikeloom.network` synapses.
"""

from __future__ import annotations

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import Branch, Shortcut
from torch import nn
from torch.nn import functional

from . import quantizers
from .weighted import Weighted


class Synapses(Weighted):
    """From the map of one source to one current for each neuron of a layer.

    Members: ``weight`` (parameter, latents) and what `Weighted` says; ``input_shape``, ``source``, ``pool`` and
    ``delay`` as in `spikeloom.network`; ``attention``, a `JointAttention` or None.
    """

    def __init__(self, input_shape, weight_shape, weights, source, pool=None, attention=None, delay=0):
        super().__init__()
        self.input_shape, self.source, self.pool, self.attention = tuple(input_shape), source, pool, attention
        self.delay = delay
        self._init_weights(weights, weight_shape)
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Draw the weights, and those of its attention."""
        self.draw(generator)
        if self.attention:
            self.attention.reset_parameters(generator)

    def delayed(self, z, time_steps):
        """Inputs (time steps, batch, n_in) as they come, by the delay later."""
        if not self.delay:
            return z
        return functional.pad(z.expand(time_steps, -1, -1), (0, 0, 0, 0, min(self.delay, time_steps), 0))[:time_steps]

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
                "input_shape": self.input_shape, "pool": self.pool, "delay": self.delay}


class FullyConnected(Synapses):
    """Synapses of every neuron with every value that comes in; ``weight`` has shape (n_out, inputs after pooling)."""

    def sums(self, z, weight, bias=None):
        """Sums (time steps, batch, n_out) for inputs (time steps, batch, n_in), all in one matrix product with the
        ``weight`` that is used."""
        if self.pool:
            z = self.pooled(z).permute(0, 2, 3, 1).reshape(*z.shape[:2], -1)
        return functional.linear(z, weight, bias)


class Convolution(Synapses):
    """Synapses that every position has alike. Members beside those of `Synapses`: ``stride``, ``padding``, ``groups``
    as in `spikeloom.network`."""

    def __init__(self, input_shape, channels, kernel, stride, padding, groups, weights, source, pool, attention=None,
                 delay=0):
        shape = channels, max(1, input_shape[2] // groups), kernel, kernel
        super().__init__(input_shape, shape, weights, source, pool, attention, delay)
        self.stride, self.padding, self.groups = stride, padding, groups

    def sums(self, z, weight, bias=None):
        """As `FullyConnected.sums`, all in one convolution."""
        # The weights' layout is what makes PyTorch keep that of maps of one channel.
        weight = weight.contiguous(memory_format=torch.channels_last)
        sums = functional.conv2d(self.pooled(z), weight, bias, self.stride, self.padding, groups=self.groups)
        return sums.permute(0, 2, 3, 1).reshape(*z.shape[:2], -1)


class _Beside:
    """A second branch into a layer. As its integers are added to those of the layer's own branch, they count steps of
    that one's weights.

    Member: ``beside``, a tuple of the layer that it leads into. Raises `SpikeloomError` for weights with a step.
    """

    beside = ()

    def _init_weights(self, quantizer, *shapes):
        if isinstance(quantizer, quantizers.Scaled):
            raise SpikeloomError(f"{self.what}: its weights count steps of the layer's own, so they cannot be of kind "
                                 f"{quantizer.kind}, which has one")
        super()._init_weights(quantizer, *shapes)

    def step(self, quantized, name="weight"):
        """That of the layer's own weights, for each channel where they have one for each."""
        step = self.beside[0].step(quantized) if self.beside else 1.0
        return step.view(-1, *[1] * (self.weight.dim() - 1)) if torch.is_tensor(step) else step

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


class SpikingBranch(_Beside, FullyConnected):
    """A further branch into a `SpikingDense`; see `_Beside`.

    Parameters
    ----------
    source : str
        name of a layer, or "input"; with a delay also the layer itself or a later one
    n_in, n_out : int
    weights : quantizer of `spikeloom.training.quantizers`
        without a step of its own
    delay : int
        time steps
    """

    what = "Branch"

    def __init__(self, source, n_in, n_out, *, weights=None, delay=0):
        super().__init__((1, 1, n_in), (n_out, n_in), weights, source, delay=delay)

    def _integer(self, weights):
        return Branch(self.source, weights, self.weight_quantizer.format, self.delay)


class SpikingShortcut(_Beside, Convolution):
    """A second branch into a `SpikingConv2d`: a convolution with a 1 x 1 kernel, or with as many ``groups`` as channels
    the identity, times a factor for each channel; see `_Beside`.

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
    delay : int
        time steps
    """

    what = "Shortcut"

    def __init__(self, source, input_shape, channels, *, stride=1, groups=1, weights=None, pool=None, factor=None,
                 delay=0):
        self.factor = factor
        super().__init__(input_shape, channels, 1, stride, 0, groups, weights, source, pool, delay=delay)

    def reset_parameters(self, generator=None):
        """Set the weights to the factor, or draw them."""
        if self.factor is None:
            super().reset_parameters(generator)
        else:
            nn.init.constant_(self.weight, self.factor)

    def _integer(self, weights):
        fields = self._integer_fields(weights)
        return Shortcut(**fields, stride=self.stride, groups=self.groups)
