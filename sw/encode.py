"""From grey levels to what enters a network at each time step.

Each encoder is a value, called on images (batch, pixels), a tensor of uint8 (0 to 255) or floats (0 to 1);
the result is uint8 of shape (batch, time steps, n_in). It depends on nothing but the encoder and the image:
neither on the batch an image comes in nor on its order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import SpikeloomError
from .network import InputFormat


def _levels(images):
    """Images as float32 in 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class _Encoder:
    time_steps: int = 8

    def __post_init__(self):
        if not 1 <= self.time_steps <= 65535:
            raise SpikeloomError(f"Encoder {self.kind}: time_steps must be between 1 and 65535, "
                                 f"not {self.time_steps}")

    def input_format(self, pixels):
        """The `InputFormat` of a network fed with images of so many pixels."""
        return InputFormat(pixels, 1)


@dataclass(frozen=True)
class Direct(_Encoder):
    """The grey level's ``width`` highest bits at every time step; width 1 is the image in black and white.

    The time axis is an ``expand``: `SpikingNetwork` sees that the input is constant and does the first
    layer's matrix product once.
    """

    width: int = 1
    kind = "direct"

    def __post_init__(self):
        super().__post_init__()
        InputFormat(1, self.width)

    def input_format(self, pixels):
        """The `InputFormat` of a network fed with images of so many pixels."""
        return InputFormat(pixels, self.width)

    def __call__(self, images):
        codes = (_levels(images) * 2**self.width).floor_().clamp_(0, 2**self.width - 1).to(torch.uint8)
        return codes[:, None].expand(-1, self.time_steps, -1)


@dataclass(frozen=True)
class Rate(_Encoder):
    """A spike with the grey level as its probability, at each time step anew (Bernoulli).

    The random numbers are a hash of ``seed``, the image itself, time step and pixel.
    """

    seed: int = 0
    kind = "rate"

    def __call__(self, images):
        levels = _levels(images)
        pixel = torch.arange(images.shape[1], device=images.device)
        content = (levels * 255).round_().long() * _hash(pixel + 1)
        of_image = _hash(content.sum(1) + _hash(torch.tensor(self.seed, device=images.device)))  # (batch,)
        step = _hash(torch.arange(self.time_steps, device=images.device) - 2**40)
        random = _hash(of_image[:, None, None] + step[:, None] + pixel * 0x5851F42D4C957F2D)
        uniform = (random >> 40).float() / 2**24 + 0.5  # 24 bits of it, in [0, 1)
        return (uniform < levels[:, None]).to(torch.uint8)


@dataclass(frozen=True)
class Latency(_Encoder):
    """One spike, the earlier the brighter, t = round((1 − level)·(time_steps − 1)); none below
    ``threshold``."""

    threshold: float = 0.1
    kind = "latency"

    def __post_init__(self):
        super().__post_init__()
        _check_threshold(self)

    def __call__(self, images):
        levels = _levels(images)
        when = ((1 - levels) * (self.time_steps - 1)).round_()
        step = torch.arange(self.time_steps, device=images.device)[:, None]
        return ((when[:, None] == step) & (levels >= self.threshold)[:, None]).to(torch.uint8)


@dataclass(frozen=True)
class Delta(_Encoder):
    """Changes along the image, read as ``time_steps`` rows one after the other, from a dark row before the
    first.

    Each column has two inputs: the first half of them fires where the level rises by ``threshold`` or more
    from a row to the next, the second half where it falls by as much. The pixels must divide into the time
    steps.
    """

    threshold: float = 0.2
    kind = "delta"

    def __post_init__(self):
        super().__post_init__()
        _check_threshold(self)

    def input_format(self, pixels):
        """The `InputFormat` of a network fed with images of so many pixels."""
        if pixels % self.time_steps:
            raise SpikeloomError(f"Encoder delta: images of {pixels} pixels do not divide into "
                                 f"{self.time_steps} rows; time_steps must be a divisor")
        return InputFormat(2 * pixels // self.time_steps, 1)

    def __call__(self, images):
        rows = _levels(images).view(len(images), self.time_steps, -1)
        change = torch.diff(rows, dim=1, prepend=torch.zeros_like(rows[:, :1]))
        return torch.cat([change >= self.threshold, change <= -self.threshold], 2).to(torch.uint8)


def _check_threshold(encoder):
    if not 0 < encoder.threshold <= 1:
        raise SpikeloomError(f"Encoder {encoder.kind}: threshold must lie above 0 and up to 1, "
                             f"not {encoder.threshold}")


def _hash(x):
    """A well-mixed int64 for each int64: two rounds of multiply and xor-shift (as in splitmix64, Steele
    2014)."""
    for multiplier, shift in ((-0x40A7B892E31B1A47, 30), (-0x6B2FB644ECCEEE15, 27)):
        x = x * multiplier
        x = x ^ ((x >> shift) & (2 ** (64 - shift) - 1))
    return x


#: By the name a configuration gives them.
ENCODERS = {cls.kind: cls for cls in (Direct, Rate, Latency, Delta)}
