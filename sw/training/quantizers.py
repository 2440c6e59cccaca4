"""From latent floats to integers, with gradients that pass straight through.

A quantizer of weights is called on a latent tensor and returns integers as float32. Of some kinds (`Binary`, `Ternary`,
`Integer`, `PowerOfTwo`) latents are *in integer units*: a latent 0.8 is "almost 1", whatever the grid. Backward is the
identity (the straight-through estimator: Bengio, Léonard, Courville, arXiv 1308.3432), and training keeps latents
inside the grid with `limit` after each step, so that none drifts where the identity says nothing (BinaryConnect:
Courbariaux, Bengio, David, arXiv 1511.00363, section 2.4).

Of the others, which are `Scaled`, latents are in units of their own, and an integer stands for ``step`` of these. The
published weight is step times integer; as a step that divides currents, thresholds, biases and potentials alike changes
no spike, a network of integers takes its weights without the step, and what is beside them divided by it.

What all quantizers of weights have:

``format``
    the `WeightFormat` of the integers
``span``
    the natural size of a latent
``make()``
    what quantizes one tensor: itself, or where there is something to learn or to anneal a new module
``start(latent)``
    set what is learned from the latents at hand; called where a tensor is drawn, and where quantization begins
``anneal(share)``
    so much (0 to 1) of the quantized phase is over
``floats(latent)``
    the weights of the network in floats
``quantizer(latent)``
    those of the network in integers, differentiable
``step(latent)``
    latents that one of them stands for: 1.0, a scalar, or a value for each channel (the first dimension of the tensor)
``limit(latent)``
    clip ``latent`` in place to what can be reached
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import WeightFormat
from torch import nn

#: The smallest step, and range, that is taken for one.
TINY = 1e-12

#: z0 and z1 of `SAWB` by width, as in the code of SpQuant-SNN (Hasssan et al., Front. Neurosci. 18:1440000).
FITTED = {4: (0.077, 1.013), 8: (0.027, 1.114)}


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


class _Quantizer:
    """As most are: nothing is learned, and latents are in integer units."""

    def make(self):
        return self

    def start(self, latent):
        pass

    def anneal(self, share):
        pass

    def floats(self, latent):
        return latent

    def step(self, latent):
        return 1.0


class _Weights(_Quantizer):
    """What the quantizers of latents in integer units share: a grid, and latents kept within its bounds."""

    @property
    def span(self):
        """Half the largest magnitude on the grid, and at least 1."""
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
    """The nearest two's complement integer of ``width`` bits (2 to 16)."""

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


# With a step ------------------------------------------------------------------------------------


class Scaled(_Quantizer):
    """What the quantizers of latents in units of their own share."""

    span = 1.0

    def limit(self, latent):
        """Leaves ``latent`` as it is: the step follows."""


def _symmetric(kind, width):
    """The format of ``width`` bits whose largest integer is used with either sign."""
    if not 2 <= width <= 8:
        raise SpikeloomError(f"Width of {kind} weights must be between 2 and 8 bits, not {width}")
    return WeightFormat("ternary", 2) if width == 2 else WeightFormat("int", width)


class _StraightScaled(Scaled):
    """The integer nearest to latent / step, up to ``most``; the step counts as constant in backward, so that the
    gradient of the published weight, step times integer, is the latent's."""

    @property
    def most(self):
        """The largest integer."""
        return self.format.bounds[1]

    def __call__(self, latent):
        units = latent / self.step(latent)
        return straight_through(units, units.detach().round().clamp_(-self.most, self.most))


@dataclass(frozen=True)
class SAWB(_StraightScaled):
    """Clipped at ±α, which follows from the latents' statistics: ``width`` bits (2 to 8), -n to n with n =
    2^(width-1) - 1, and α / n as the step.

    ``alpha`` "mean" is α = 2 · mean|w|, and "statistics" α = (std - z1 · mean|w|) / z0, with z0 and z1 fitted to
    typical distributions of weights (statistics-aware weight binning: Choi et al., arXiv 1807.06964), which are known
    here for 4 and 8 bits. Where that is below mean|w|, as for distributions that are nothing like weights, α is
    mean|w|.
    """

    width: int = 4
    alpha: str = "mean"
    kind = "sawb"

    def __post_init__(self):
        _symmetric(self.kind, self.width)
        if self.alpha not in ("mean", "statistics"):
            raise SpikeloomError(f"alpha must be mean or statistics, not {self.alpha!r}")
        if self.alpha == "statistics" and self.width not in FITTED:
            raise SpikeloomError(f'alpha "statistics" has fitted values for {" and ".join(map(str, FITTED))} bits, '
                                 f"not for {self.width}")

    @property
    def format(self):
        return _symmetric(self.kind, self.width)

    @torch.no_grad()
    def step(self, latent):
        mean = latent.abs().mean()
        if self.alpha == "mean":
            alpha = 2 * mean
        else:
            z0, z1 = FITTED[self.width]
            alpha = torch.maximum((latent.std(correction=0) - z1 * mean) / z0, mean)
        return (alpha / self.most).clamp_(min=TINY)


@dataclass(frozen=True)
class ThresholdTernary(Scaled):
    """The sign where the magnitude is at least ``share`` of the largest, else 0; the step is the mean magnitude of
    those (ternary weights of SpQuant-SNN: Hasssan et al., Front. Neurosci. 18:1440000). Backward as in `SAWB`."""

    share: float = 0.05
    kind = "threshold_ternary"

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise SpikeloomError(f"share must lie between 0 and 1, not {self.share}")

    @property
    def format(self):
        return WeightFormat("ternary", 2)

    def _parts(self, latent):
        magnitude = latent.detach().abs()
        kept = magnitude >= self.share * magnitude.max()
        return kept, (magnitude * kept).sum().div_(kept.sum()).clamp_(min=TINY)

    def step(self, latent):
        return self._parts(latent)[1]

    def __call__(self, latent):
        kept, step = self._parts(latent)
        return straight_through(latent / step, latent.detach().sign() * kept)


@dataclass(frozen=True)
class LearnedRange(_StraightScaled):
    """Clipped at ±a, with a step of c / n: ``width`` bits (2 to 8), -n to n with n = 2^(width-1) - 1, so 2 are ternary.

    a and c are learned, for each tensor of weights, and start at max|mean ± 3 std| (DuQ of PROFIT: Park, Yoo, arXiv
    2008.04693; on spiking networks: Schaefer et al., arXiv 2302.04174). Rounding passes gradients straight through, the
    clip stops them. c is of no use beside batch norm, which absorbs it, and gets no gradient there unless a loss sees
    membranes or a shortcut counts steps.
    """

    width: int = 4
    kind = "learned"

    def __post_init__(self):
        _symmetric(self.kind, self.width)

    @property
    def format(self):
        return _symmetric(self.kind, self.width)

    def make(self):
        return _Range(self.format)


class _Range(_StraightScaled, nn.Module):
    """What `LearnedRange` makes. Parameters: ``a``, ``c`` (scalars, in latents)."""

    def __init__(self, format):
        super().__init__()
        self.format = format
        self.a, self.c = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    @torch.no_grad()
    def start(self, latent):
        mean, deviation = latent.mean(), latent.std(correction=0)
        for parameter in (self.a, self.c):
            parameter.copy_(torch.maximum((mean - 3 * deviation).abs(), (mean + 3 * deviation).abs()).clamp_(min=TINY))

    def step(self, latent):
        return self.c / self.most

    @torch.no_grad()
    def limit(self, latent):
        """Keep a and c positive."""
        self.a.clamp_(min=TINY)
        self.c.clamp_(min=TINY)

    def __call__(self, latent):
        units = (latent / self.a).clamp(-1, 1) * self.most
        return straight_through(units, units.detach().round())


@dataclass(frozen=True)
class SumOfSigmoids(LearnedRange):
    """As `LearnedRange`, but with steps that are soft while the network trains: Σ σ(T · (n · w / a - b_i)) - n, for the
    midpoints b_i between neighbouring integers, where T grows from ``first`` to ``last`` over the quantized phase
    (differentiable quantization: Yang et al., arXiv 1911.09464; of spiking networks: arXiv 2305.19295). In evaluation
    they are steps. ``width`` is 1 to 4; 1 is -1 and +1, whose a and c start at mean|w|.
    """

    first: float = 5.0
    last: float = 100.0
    kind = "sigmoids"

    def __post_init__(self):
        if not 1 <= self.width <= 4:  # each step is a sigmoid of its own
            raise SpikeloomError(f"Width of {self.kind} weights must be between 1 and 4 bits, not {self.width}")
        _check_annealed(self.first, self.last)

    @property
    def format(self):
        return WeightFormat("binary", 1) if self.width == 1 else super().format

    def make(self):
        return _Sigmoids(self.format, self.first, self.last)


class _Sigmoids(_Range):
    """What `SumOfSigmoids` makes."""

    def __init__(self, format, first, last):
        super().__init__(format)
        self.first, self.last, self.steepness = first, last, first
        self.rise = 2 if format.kind == "binary" else 1
        self.middles = [level - self.rise / 2 for level in range(self.rise - self.most, self.most + 1, self.rise)]

    @torch.no_grad()
    def start(self, latent):
        super().start(latent)
        if self.rise == 2:
            for parameter in (self.a, self.c):
                parameter.copy_(latent.abs().mean().clamp_(min=TINY))

    def anneal(self, share):
        self.steepness = _annealed(self.first, self.last, share)

    def __call__(self, latent):
        units = latent / self.a * self.most
        total = torch.full_like(units, -self.most)
        for middle in self.middles:
            x = units - middle
            soft = torch.sigmoid(self.steepness * x) if self.training else (x >= 0).to(x.dtype)
            total = total + self.rise * soft
        return total


@dataclass(frozen=True)
class NormalizedBinary(Scaled):
    """-1 or +1: the sign of ŵ = (w - mean) / std of each output channel, with a step of 2^round(log2 mean|ŵ|) for each
    (Q-SNN: Wei et al., arXiv 2406.13672). In floats the weights are ŵ.

    The gradient of the sign is k · t · (1 - tanh²(t · ŵ)) with k = max(1 / t, 1), where t grows from ``first`` to
    ``last`` over the quantized phase, on a logarithmic scale.
    """

    first: float = 0.1
    last: float = 10.0
    kind = "normalized_binary"

    def __post_init__(self):
        _check_annealed(self.first, self.last)

    @property
    def format(self):
        return WeightFormat("binary", 1)

    def make(self):
        return _NormalizedSign(self.format, self.first, self.last)


class _NormalizedSign(Scaled, nn.Module):
    """What `NormalizedBinary` makes."""

    def __init__(self, format, first, last):
        super().__init__()
        self.format, self.first, self.last, self.steepness = format, first, last, first

    def anneal(self, share):
        self.steepness = _annealed(self.first, self.last, share)

    def floats(self, latent):
        rows = latent.flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        return (rows / rows.std(1, correction=0, keepdim=True).clamp(min=TINY)).view_as(latent)

    @torch.no_grad()
    def step(self, latent):
        return self.floats(latent).flatten(1).abs().mean(1).clamp_(min=TINY).log2_().round_().exp2_()

    def __call__(self, latent):
        return _AnnealedSign.apply(self.floats(latent), self.steepness)


class _AnnealedSign(torch.autograd.Function):
    """The sign of ``x``, zero counting as positive, with the gradient of max(1, ``t``) · tanh(t · x) / min(1, t)."""

    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x)
        ctx.t = t
        return (x >= 0).to(x.dtype).mul_(2).sub_(1)

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad * (1 - torch.tanh(ctx.t * x).square()) * (max(1 / ctx.t, 1.0) * ctx.t), None


def _check_annealed(first, last):
    if not 0 < first <= last < math.inf:
        raise SpikeloomError(f"first and last must be positive, and last not below first, not {first} and {last}")


def _annealed(first, last, share):
    """On the way from ``first`` to ``last``, on a logarithmic scale."""
    return first * (last / first) ** share


# Of integers, thresholds and biases -------------------------------------------------------------


@dataclass(frozen=True)
class Exact(_Quantizer):
    """Latents that are integers already, of a network that is only run: nothing to do, and nothing done.

    ``format``: the `WeightFormat` of weights, None for thresholds and biases.
    """

    format: WeightFormat | None = None
    span = 1.0

    def limit(self, latent, step=1.0):
        """Leaves ``latent`` as it is."""

    def __call__(self, latent):
        return latent


@dataclass(frozen=True)
class Rounded:
    """The nearest integer, at least ``minimum`` (None: any), for biases and thresholds."""

    minimum: int | None = None

    @torch.no_grad()
    def limit(self, latent, step=1.0):
        """Clip ``latent`` in place to what can be reached, in units of which ``step`` are an integer."""
        if self.minimum is not None:
            latent.clamp_(min=self.minimum * step)

    def __call__(self, latent):
        value = latent.detach().round()
        return straight_through(latent, value if self.minimum is None else value.clamp_(min=self.minimum))


@dataclass(frozen=True)
class RoundedPowerOfTwo:
    """The nearest of 1, 2, 4, ... 2^15 on the logarithmic scale, for thresholds of graded spikes."""

    @torch.no_grad()
    def limit(self, latent, step=1.0):
        """Clip ``latent`` in place to what can be reached, in units of which ``step`` are an integer."""
        latent.clamp_(step, 2**15 * step)

    def __call__(self, latent):
        return straight_through(latent, latent.detach().clamp(1, 2**15).log2_().round_().exp2_())
