"""Small random deformations of training images and frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from spikeloom.errors import SpikeloomError
from torch.nn import functional

#: A box that leaves the image is forgotten where less than this share of it is left.
LEFT = 0.3

#: Elastic displacements are drawn on a grid of so many points a side and interpolated between them.
ELASTIC_GRID = 5


@dataclass(frozen=True)
class Move:
    """Where a deformation took what is in each of some images: what is at ``offset`` + ``scale`` · p goes to p,
    positions (x, y) in shares of the image from its middle; before that some are mirrored.

    Attributes
    ----------
    flipped : bool tensor (batch,)
    scale, offset : float tensors (batch, 2)
    """

    flipped: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def none(cls, batch, device):
        """Everything stays."""
        return cls(torch.zeros(batch, dtype=torch.bool, device=device), torch.ones(batch, 2, device=device),
                   torch.zeros(batch, 2, device=device))

    def boxes(self, labels):
        """Labels (batch, boxes, 5), as `spikeloom.detection.Detection` has them, where they went; boxes end where the
        image does, and those of which too little is left are no more."""
        kind, x, y, w, h = labels.unbind(-1)
        centre = torch.stack([torch.where(self.flipped[:, None], 1 - x, x), y], -1)
        centre = (centre - 0.5 - self.offset[:, None]) / self.scale[:, None] + 0.5
        half = torch.stack([w, h], -1) / self.scale[:, None] / 2
        low, high = (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)
        size = high - low
        stays = (kind >= 0) & (size.prod(-1) >= LEFT * (2 * half).prod(-1))
        return torch.cat([torch.where(stays, kind, -1.0)[..., None], (low + high) / 2, size], -1)


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
        return self.moved(images, generator)[0]

    def moved(self, images, generator):
        """The same, and the `Move` that was made where images are not turned, sheared or bent."""
        batch, height, width, _ = images.shape
        move = Move.none(batch, images.device)
        if self.flip:
            images, flipped = _flipped(images, 2, generator)
            move = replace(move, flipped=flipped)
        if replace(self, flip=False) == Augment():
            return images, move

        def amount(limit):
            return (torch.rand(batch, generator=generator, device=images.device) * 2 - 1) * limit

        angle, shear = amount(math.radians(self.rotate)), amount(self.shear)
        across, down = 1 + amount(self.scale), 1 + amount(self.scale)
        right, below = amount(2 * self.shift / width), amount(2 * self.shift / height)
        rows = [torch.stack([angle.cos() * across, shear - angle.sin(), right], 1),
                torch.stack([angle.sin(), angle.cos() * down, below], 1)]
        grid = functional.affine_grid(torch.stack(rows, 1), (batch, 1, height, width), align_corners=False)
        if self.elastic:
            bend = torch.randn(batch, 2, ELASTIC_GRID, ELASTIC_GRID, generator=generator, device=images.device)
            bend = functional.interpolate(bend, (height, width), mode="bicubic", align_corners=False)
            size = torch.tensor([2 * self.elastic / width, 2 * self.elastic / height], device=images.device)
            grid = grid + bend.permute(0, 2, 3, 1) * size
        moved = functional.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False)
        move = replace(move, scale=torch.stack([across, down], 1), offset=torch.stack([right, below], 1) / 2)
        return moved.clamp_(0, 1).permute(0, 2, 3, 1), move

    def frames(self, frames, generator):
        """Copies of ``frames`` (batch, time steps, rows, columns, channels), uint8, shifted by whole positions along
        the axes that have several, and flipped; the other deformations leave them alone."""
        return self.moved_frames(frames, generator)[0]

    def moved_frames(self, frames, generator):
        """The same, and the `Move` that was made."""
        batch, _, rows, columns, _ = frames.shape
        move = Move.none(batch, frames.device)
        if self.flip:
            frames, flipped = _flipped(frames, 3, generator)
            move = replace(move, flipped=flipped)
        reach = round(self.shift)
        if not reach:
            return frames, move
        down, across = torch.randint(2 * reach + 1, (2, batch, 1), generator=generator, device=frames.device)
        down, across = (shift if size > 1 else torch.full_like(shift, reach)
                        for shift, size in ((down, rows), (across, columns)))
        padded = functional.pad(frames, (0, 0, reach, reach, reach, reach)).transpose(1, 2)
        sample = torch.arange(batch, device=frames.device)[:, None]
        moved = padded[sample, torch.arange(rows, device=frames.device) + down].transpose(1, 3)
        moved = moved[sample, torch.arange(columns, device=frames.device) + across]
        offset = torch.cat([(across - reach) / columns, (down - reach) / rows], 1)
        return moved.permute(0, 2, 3, 1, 4), replace(move, offset=offset)


def _flipped(samples, dimension, generator):
    chosen = torch.rand(len(samples), generator=generator, device=samples.device) < 0.5
    return torch.where(chosen.view(-1, *[1] * (samples.ndim - 1)), samples.flip(dimension), samples), chosen
