"""What has weights in PyTorch: latents, the quantizers that make integers of them, and masks."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import nn

from . import quantizers


class Weighted(nn.Module):
    """What has weights. Each of its ``tensors`` is the name of a parameter with latents; NAME_quantizer makes integers
    of it, and what NAME_mask (a buffer of its shape, 0 or 1; None keeps all) does not keep is zero then."""

    tensors = ("weight",)

    def _init_weights(self, quantizer, *shapes):
        quantizer = quantizer if quantizer is not None else quantizers.Ternary()
        for name, shape in zip(self.tensors, shapes, strict=True):
            setattr(self, name, nn.Parameter(torch.empty(shape)))
            setattr(self, f"{name}_quantizer", quantizer.make())
            self.register_buffer(f"{name}_mask", None)

    def of(self, name):
        """The latents called ``name``, their quantizer, and their mask."""
        return getattr(self, name), getattr(self, f"{name}_quantizer"), getattr(self, f"{name}_mask")

    def draw(self, generator=None):
        """Draw the weights uniformly from the middle half of their grid (all of a binary or ternary one)."""
        for latent, quantizer, _ in map(self.of, self.tensors):
            nn.init.uniform_(latent, -quantizer.span, quantizer.span, generator=generator)
            quantizer.start(latent)

    def used_weight(self, quantized, name="weight"):
        """The weights that are worked with, differentiable in the latents."""
        latent, quantizer, mask = self.of(name)
        weight = quantizer(latent) if quantized else quantizer.floats(latent)
        return weight if mask is None else weight * mask

    def step(self, quantized, name="weight"):
        """Latents that a weight of one stands for: a number, or a tensor of one or for each channel."""
        latent, quantizer, _ = self.of(name)
        return quantizer.step(latent) if quantized else 1.0

    @torch.no_grad()
    def limit(self):
        """Clip the latents in place to what their integers can reach."""
        for latent, quantizer, _ in map(self.of, self.tensors):
            quantizer.limit(latent)


@contextlib.contextmanager
def evaluating(module):
    """``module`` in evaluation inside the block."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def integer_array(tensor):
    """A tensor of integers as NumPy's int64."""
    return tensor.cpu().numpy().astype(np.int64)
