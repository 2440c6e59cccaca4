"""From latent floats to integers, with gradients that pass straight through.

Latents are kept *in integer units*: a latent 0.8 is "almost 1", whatever the grid. Each quantizer is a
value that is called on a latent tensor and returns integers as float32; backward is the identity (the
straight-through estimator: Bengio, Léonard, Courville, arXiv 1308.3432). Training keeps weight latents
inside the grid with `limit` after each step, so that none drifts where the identity says nothing
(BinaryConnect: Courbariaux, Bengio, David, arXiv 1511.00363, section 2.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .network import WeightFormat


class _StraightThrough(torch.autograd.Function):
    """``value`` forward, exactly; the gradient goes to ``latent`` unchanged."""

    # latent + (value - latent).detach() would round: it is not always equal to value.

    @staticmethod
    def forward(ctx, latent, value):
        return value

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def straight_through(latent, value):
    """``value`` (same shape as ``latent``), with the gradient of the identity in ``latent``."""
    return _StraightThrough.apply(latent, value)


class _Weights:
    """What the weight quantizers share: a grid, and latents kept within its bounds."""

    @property
    def span(self):
        """The natural size of a latent: half the largest magnitude on the grid, and at least 1."""
        return max(1.0, max(-self.format.bounds[0], self.format.bounds[1]) / 2)

    @torch.no_grad()
    def limit(self, latent):
        """Clip ``latent`` in place to the grid's bounds."""
        latent.clamp_(*self.format.bounds)

    def __call__(self, latent):
        return straight_through(latent, self.nearest(latent.detach()))


@dataclass(frozen=True)
class Binary(_Weights):
    """-1 or +1: the sign, zero counting as positive."""

    kind = "binary"

    @property
    def format(self):
        return WeightFormat("binary", 1)

    def nearest(self, latent):
        return (latent >= 0).to(latent.dtype).mul_(2).sub_(1)


@dataclass(frozen=True)
class Ternary(_Weights):
    """-1, 0 or +1: the sign where the magnitude is above one half."""

    kind = "ternary"

    @property
    def format(self):
        return WeightFormat("ternary", 2)

    def nearest(self, latent):
        return latent.clamp(-1, 1).round_()


@dataclass(frozen=True)
class Integer(_Weights):
    """The nearest two's complement integer of ``width`` bits (2 to 8)."""

    width: int = 4
    kind = "int"

    def __post_init__(self):
        WeightFormat("int", self.width)

    @property
    def format(self):
        return WeightFormat("int", self.width)

    def nearest(self, latent):
        return latent.clamp(*self.format.bounds).round_()


@dataclass(frozen=True)
class PowerOfTwo(_Weights):
    """0 below one half, else ±2^e with e nearest on the logarithmic scale; ``width`` bits (2 to 4)."""

    width: int = 4
    kind = "pot"

    def __post_init__(self):
        WeightFormat("pot", self.width)

    @property
    def format(self):
        return WeightFormat("pot", self.width)

    def nearest(self, latent):
        magnitude = latent.abs()
        exponent = magnitude.clamp(1, self.format.bounds[1]).log2_().round_()
        return torch.where(magnitude > 0.5, exponent.exp2_().copysign_(latent), 0.0)


#: By the name a configuration and a `WeightFormat` give them.
WEIGHTS = {cls.kind: cls for cls in (Binary, Ternary, Integer, PowerOfTwo)}


@dataclass(frozen=True)
class Exact:
    """Latents that are integers already, of a network that is only run: nothing to do, and nothing done.

    ``format``: the `WeightFormat` of weights, None for thresholds and biases.
    """

    format: WeightFormat | None = None
    span = 1.0

    def limit(self, latent):
        """Leaves ``latent`` as it is."""

    def __call__(self, latent):
        return latent


@dataclass(frozen=True)
class Rounded:
    """The nearest integer, at least ``minimum`` (None: any), for biases and thresholds."""

    minimum: int | None = None

    @torch.no_grad()
    def limit(self, latent):
        """Clip ``latent`` in place to what can be reached."""
        if self.minimum is not None:
            latent.clamp_(min=self.minimum)

    def __call__(self, latent):
        value = latent.detach().round()
        return straight_through(latent, value if self.minimum is None else value.clamp_(min=self.minimum))


@dataclass(frozen=True)
class RoundedPowerOfTwo:
    """The nearest of 1, 2, 4, ... 2^15 on the logarithmic scale, for thresholds of graded spikes."""

    @torch.no_grad()
    def limit(self, latent):
        """Clip ``latent`` in place to what can be reached."""
        latent.clamp_(1, 2**15)

    def __call__(self, latent):
        return straight_through(latent, latent.detach().clamp(1, 2**15).log2_().round_().exp2_())
