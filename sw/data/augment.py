"""Small random deformations of training images and frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from spikeloom.errors import SpikeloomError
from torch.nn import functional

#: Elastic displacements are drawn on a grid of so many points a side and interpolated between them.
ELASTIC_GRID = 5


@dataclass(frozen=True)
class Augment:
    """Shifts, turns, stretches and bends images, each by a random amount drawn evenly up to its limit.

    Parameters
    ----------
    shift : float
        pixels, along each axis
    rotate : float
        degrees
    scale, shear : float
        as a fraction
    elastic : float
        standard deviation, in pixels, of a smooth random displacement
    flip : bool
        whether to mirror half of the images, left to right
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    flip: bool = False

    def __post_init__(self):
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise SpikeloomError(f"Augmentation: {field.name} must be 0 or more, "
                                     f"not {getattr(self, field.name)}")

    def __call__(self, images, generator):
        """Deformed copies of ``images`` (batch, rows, columns, channels), float; random numbers from ``generator``.
        What comes in from outside is black."""
        if self.flip:
            images = _flipped(images, 2, generator)
        if replace(self, flip=False) == Augment():
            return images
        batch, height, width, _ = images.shape

        def amount(limit):
            return (torch.rand(batch, generator=generator, device=images.device) * 2 - 1) * limit

        angle, shear = amount(math.radians(self.rotate)), amount(self.shear)
        across, down = 1 + amount(self.scale), 1 + amount(self.scale)
        rows = [torch.stack([angle.cos() * across, shear - angle.sin(), amount(2 * self.shift / width)], 1),
                torch.stack([angle.sin(), angle.cos() * down, amount(2 * self.shift / height)], 1)]
        grid = functional.affine_grid(torch.stack(rows, 1), (batch, 1, height, width), align_corners=False)
        if self.elastic:
            bend = torch.randn(batch, 2, ELASTIC_GRID, ELASTIC_GRID, generator=generator, device=images.device)
            bend = functional.interpolate(bend, (height, width), mode="bicubic", align_corners=False)
            size = torch.tensor([2 * self.elastic / width, 2 * self.elastic / height], device=images.device)
            grid = grid + bend.permute(0, 2, 3, 1) * size
        moved = functional.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False)
        return moved.clamp_(0, 1).permute(0, 2, 3, 1)

    def frames(self, frames, generator):
        """Copies of ``frames`` (batch, time steps, rows, columns, channels), uint8, shifted by whole positions and
        flipped; the other deformations leave them alone."""
        if self.flip:
            frames = _flipped(frames, 3, generator)
        reach = round(self.shift)
        if not reach:
            return frames
        batch, _, rows, columns, _ = frames.shape
        down, across = torch.randint(2 * reach + 1, (2, batch, 1), generator=generator, device=frames.device)
        padded = functional.pad(frames, (0, 0, reach, reach, reach, reach)).transpose(1, 2)
        sample = torch.arange(batch, device=frames.device)[:, None]
        moved = padded[sample, torch.arange(rows, device=frames.device) + down].transpose(1, 3)
        moved = moved[sample, torch.arange(columns, device=frames.device) + across]
        return moved.permute(0, 2, 3, 1, 4)


def _flipped(samples, dimension, generator):
    chosen = torch.rand(len(samples), generator=generator, device=samples.device) < 0.5
    return torch.where(chosen.view(-1, *[1] * (samples.ndim - 1)), samples.flip(dimension), samples)
