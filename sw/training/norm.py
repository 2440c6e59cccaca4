"""Batch norm of currents, in the form it has once it is folded into thresholds and biases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError

from . import ranks
from .scan import parts, workspace

#: Added to a channel's variance, in squared weight steps.
EPSILON = 1e-5

#: The lowest threshold latent beside batch norm, in standard deviations: where all is rounded, it is 1 step at least.
LEAST_DEVIATIONS = 1 / 16


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


class Normed(torch.autograd.Function):
    """Currents (time steps, batch, positions · channels) with a ``bias`` for each channel added; backward, as if they
    had been divided by ``deviation`` after ``mean`` was taken off, where these come from the currents themselves
    (``of_batch``), and a ``latent`` β for each channel been added. Without a latent (None) it was not, and the mean is
    zero.

    This is the textbook's gradient of batch norm, so thresholds need not pass on any to the deviation.
    """

    @staticmethod
    def forward(ctx, current, latent, mean, deviation, bias, of_batch):
        ctx.of_batch, ctx.centered = of_batch, latent is not None
        biased = current + each_position(bias, current.shape[-1])
        ctx.save_for_backward(biased, mean + bias, deviation)
        return biased

    @staticmethod
    def backward(ctx, grad):
        current, mean, deviation = ctx.saved_tensors
        total, along = sums(grad, current, len(mean))
        if not ctx.centered:
            total.zero_()
        latent_grad = total * deviation if ctx.centered else None
        if ctx.of_batch:
            total, along, count = ranks.total(total, along, current.numel() // len(mean))
            slope = (mean * total - along) / (count * deviation.square())  # − Σ grad · normalised current / (count · σ)
            offset, slope = (each_position(each, current.shape[-1]) for each in (-total / count - slope * mean, slope))
            for part in parts(grad):  # in place: `scan` made this gradient, and nobody else has it
                grad[:, part].addcmul_(current[:, part], slope).add_(offset)
        return grad, latent_grad, None, None, None, None


def sums(values, factors, channels):
    """The sums of ``values`` (time steps, batch, positions · channels) for each channel, and of their products with
    ``factors`` of the same shape."""
    products = values.new_zeros(values.shape[-1])
    for part in parts(values):
        # Of a product that is written anew, as sums of a part of a tensor are slow.
        product, = workspace(values[:, part], 1)
        products.add_(torch.mul(values[:, part], factors[:, part], out=product).sum((0, 1)))
    return [each.view(-1, channels).sum(0) for each in (values.sum((0, 1)), products)]


def each_position(channels, neurons):
    """What is given for each channel, for each of the ``neurons`` of a map."""
    return channels.expand(neurons // len(channels), -1).reshape(-1)
