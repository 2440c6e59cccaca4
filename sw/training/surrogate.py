"""What stands in for the derivative of the step function when a spike is differentiated.

Each surrogate is a value, called on the normalised distance from the threshold, x = (U − θ) / max(|θ|, 1)
(no unit; U and θ in state units), of any shape, and returns the spike's derivative in x, of the same shape,
which may be in x's own memory.
`spikeloom.training.scan` divides by max(|θ|, 1) once more to get the derivative in U.
"""

import math
from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError


class _Surrogate:
    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise SpikeloomError(f"Surrogate {self.kind}: {name} must be positive, not {value}")


@dataclass(frozen=True)
class ATan(_Surrogate):
    """(α/2) / (1 + (π/2·α·x)²); with α = 2 that of Fang et al., ICCV 2021 (arXiv 2007.05785)."""

    alpha: float = 2.0
    kind = "atan"

    def __call__(self, x):
        # As 1 / (2/α + 2/α·(π/2·α)²·x²): one operation and a reciprocal.
        one = x.new_tensor(2 / self.alpha)
        return torch.addcmul(one, x, x, value=math.pi**2 / 2 * self.alpha, out=x).reciprocal_()


@dataclass(frozen=True)
class Sigmoid(_Surrogate):
    """α·σ(αx)·(1 − σ(αx)): Neftci, Mostafa, Zenke, IEEE Signal Processing Magazine 2019 (arXiv 1901.09948)."""

    alpha: float = 4.0
    kind = "sigmoid"

    def __call__(self, x):
        s = x.mul_(self.alpha).sigmoid_()
        return torch.addcmul(s, s, s, value=-1, out=x).mul_(self.alpha)


@dataclass(frozen=True)
class Triangle(_Surrogate):
    """γ·max(0, 1 − |x|): Bellec et al., NeurIPS 2018 (arXiv 1803.09574)."""

    gamma: float = 1.0
    kind = "triangle"

    def __call__(self, x):
        return x.abs_().neg_().add_(1).clamp_(min=0).mul_(self.gamma)


@dataclass(frozen=True)
class FastSigmoid(_Surrogate):
    """1 / (1 + β·|x|)²: Zenke, Ganguli, "SuperSpike", Neural Computation 2018 (arXiv 1705.11146)."""

    beta: float = 5.0
    kind = "fast_sigmoid"

    def __call__(self, x):
        return x.abs_().mul_(self.beta).add_(1).square_().reciprocal_()
