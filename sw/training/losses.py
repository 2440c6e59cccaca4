"""What a classifier is trained to minimise.

Each loss is a value, called on the last layer's spikes and membranes (time steps, batch, classes) and the
labels (batch,); the result is a scalar. Membranes are in state units; ``scale`` makes one unit of logit.
"""

from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError
from torch.nn import functional


def _positive(loss, *names):
    for name in names:
        if not getattr(loss, name) > 0:
            raise SpikeloomError(f"Loss {loss.kind}: {name} must be positive, not {getattr(loss, name)}")


@dataclass(frozen=True)
class RateCrossEntropy:
    """Cross-entropy of the spike counts, ``scale`` spikes making one unit of logit."""

    scale: float = 1.0
    kind = "rate_cross_entropy"

    def __post_init__(self):
        _positive(self, "scale")

    def __call__(self, spikes, membranes, labels):
        return functional.cross_entropy(spikes.sum(0) / self.scale, labels)


@dataclass(frozen=True)
class RateMSE:
    """Squared distance of the firing rates from ``correct`` for the label and ``incorrect`` for the others.

    The target rates are spikes per time step (snnTorch's ``mse_count_loss`` states the same idea in counts).
    """

    correct: float = 0.9
    incorrect: float = 0.05
    kind = "rate_mse"

    def __call__(self, spikes, membranes, labels):
        target = torch.full_like(spikes[0], self.incorrect)
        target.scatter_(1, labels[:, None], self.correct)
        return functional.mse_loss(spikes.mean(0), target)


@dataclass(frozen=True)
class TET:
    """(1 − λ)·mean over t of CE(o_t, y) + λ·MSE(o, φ), with o the membranes over ``scale``.

    Temporal efficient training: Deng, Li, Zhang, Gu, ICLR 2022 (arXiv 2202.11946).
    """

    scale: float = 4.0
    weight: float = 0.05
    target: float = 1.0
    kind = "tet"

    def __post_init__(self):
        _positive(self, "scale")
        if not 0 <= self.weight <= 1:
            raise SpikeloomError(f"Loss {self.kind}: weight must lie within 0 to 1, not {self.weight}")

    def __call__(self, spikes, membranes, labels):
        outputs = membranes / self.scale
        entropy = functional.cross_entropy(outputs.flatten(0, 1), labels.repeat(len(outputs)))
        return (1 - self.weight) * entropy + self.weight * (outputs - self.target).square().mean()


@dataclass(frozen=True)
class MaximalMembrane:
    """Cross-entropy of each class's highest membrane potential over time.

    Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg spiking data sets", 2020 (arXiv 1910.07407).
    """

    scale: float = 4.0
    kind = "maximal_membrane"

    def __post_init__(self):
        _positive(self, "scale")

    def __call__(self, spikes, membranes, labels):
        return functional.cross_entropy(membranes.amax(0) / self.scale, labels)


@dataclass(frozen=True)
class LastMembrane:
    """Cross-entropy of the potentials after the last time step, which read-out ``membrane`` compares."""

    scale: float = 4.0
    kind = "last_membrane"

    def __post_init__(self):
        _positive(self, "scale")

    def __call__(self, spikes, membranes, labels):
        return functional.cross_entropy(membranes[-1] / self.scale, labels)


#: By the name a configuration gives them.
LOSSES = {cls.kind: cls for cls in (RateCrossEntropy, RateMSE, TET, MaximalMembrane, LastMembrane)}
