"""Recurrent networks to compare with: PyTorch's LSTM and GRU as layers of the same training loop."""

from __future__ import annotations

import torch
from torch import nn

from .hybrid import ActivityLayer


class _Baseline(ActivityLayer):
    """What is sent is the hidden state, of one layer that runs forwards; parameters as in `ActivityLayer`."""

    def __init__(self, input_shape, size, *, high=1.0, name="baseline", source=None):
        super().__init__(input_shape, size, high=high, name=name, source=source)
        self.cell = self.module(self.n_in, size)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator=None):
        """Draw all within 1/√size, as PyTorch does."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.shape[2]**-0.5), self.shape[2]**-0.5, generator=generator)

    def forward(self, z, *, time_steps=None, quantized=False, record=False):
        """Hidden states (time steps, batch, size), and None, for inputs ``z`` (time steps, batch, n_in)."""
        if quantized:
            raise self._floats()
        return self.cell(z.expand(time_steps or len(z), -1, -1) / self.high)[0], None


class LSTM(_Baseline):
    """Long short-term memory; the biases of forget gates begin with 1 more, so that it does not forget at the start."""

    kind, module = "lstm", nn.LSTM

    @torch.no_grad()
    def reset_parameters(self, generator=None):
        super().reset_parameters(generator)
        size = self.shape[2]
        self.cell.bias_ih_l0[size:2 * size] += 1  # input, forget, cell, output


class GRU(_Baseline):
    """Gated recurrent units."""

    kind, module = "gru", nn.GRU
