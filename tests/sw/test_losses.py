"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.training.losses import LOSSES, TET, LastMembrane, MaximalMembrane, RateCrossEntropy, RateMSE

# Two time steps, two samples, two classes.
SPIKES = torch.tensor([[[1.0, 0], [0, 0]], [[1, 1], [0, 1]]])
MEMBRANES = torch.tensor([[[4.0, 0], [-4, 8]], [[0, 4], [4, 4]]])
LABELS = torch.tensor([0, 1])


def entropy(*margins):
    """Mean cross-entropy of two-class samples whose right class leads by so many units of logit."""
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


@pytest.mark.parametrize(("loss", "expected"), [
    (RateCrossEntropy(), entropy(1, 1)),
    (RateCrossEntropy(scale=0.5), entropy(2, 2)),
    (RateMSE(correct=1.0, incorrect=0.0), (0 + 0.25 + 0 + 0.25) / 4),
    (RateMSE(correct=0.9, incorrect=0.1), (0.01 + 0.16 + 0.01 + 0.16) / 4),
    (TET(scale=4.0, weight=0.0), entropy(1, 3, -1, 0)),
    (TET(scale=4.0, weight=1.0, target=1.0), (0 + 1 + 4 + 1 + 1 + 0 + 0 + 0) / 8),
    (TET(scale=4.0, weight=0.5), (entropy(1, 3, -1, 0) + 7 / 8) / 2),
    (MaximalMembrane(scale=4.0), entropy(0, 1)),
    (LastMembrane(scale=4.0), entropy(-1, 0)),
    (LastMembrane(scale=2.0), entropy(-2, 0)),
], ids=str)
def test_values(loss, expected):
    torch.testing.assert_close(loss(SPIKES, MEMBRANES, LABELS), torch.tensor(expected))


@pytest.mark.parametrize("cls", LOSSES.values())
def test_each_pulls_the_right_class_up(cls):
    spikes, membranes = (SPIKES / 2).requires_grad_(), MEMBRANES.clone().requires_grad_()
    cls()(spikes, membranes, LABELS).backward()
    grad = membranes.grad if spikes.grad is None else spikes.grad
    assert grad.sum(0)[0, 0] < 0  # sample 0, whose label is 0
    assert grad.sum(0)[0, 1] > 0


@pytest.mark.parametrize(("cls", "options", "message"), [
    (RateCrossEntropy, {"scale": 0}, "Loss rate_cross_entropy: scale must be positive, not 0"),
    (LastMembrane, {"scale": -1}, "Loss last_membrane: scale must be positive, not -1"),
    (MaximalMembrane, {"scale": 0}, "Loss maximal_membrane: scale must be positive, not 0"),
    (TET, {"weight": 2}, "Loss tet: weight must lie within 0 to 1, not 2")])
def test_impossible_settings_are_refused(cls, options, message):
    with pytest.raises(SpikeloomError) as error:
        cls(**options)
    assert str(error.value) == message
