"""How membrane potentials are rounded when they are stored, beside saturation, and how gradients pass.

Each is a value with the `Grid` that comes of it in the integer network, and a ``slope``: the derivative that stands in
for that of the rounding, a staircase, in the backward pass.
"""

import math
from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import Grid

__all__ = ["MEMBRANES", "Exact", "Levels", "Shared", "Tanh", "steps", "stored"]

#: How far from a mid-point, in units of 1 / temperature, its slope does not count any more.
NEGLIGIBLE = 20


@dataclass(frozen=True)
class Levels:
    """Few levels, with the stacked surrogate of SpQuant-SNN (``low`` = -1: ternary).

    The slope is Σ_k T·σ(T(x − c_k))·(1 − σ(T(x − c_k))) for the potential x in steps and the mid-points c_k between
    neighbouring levels.

    Parameters
    ----------
    low, high, step, shift
        as in `spikeloom.network.Grid`: by default levels in units of the threshold
    temperature : float
        T
    """

    low: int = -1
    high: int = 1
    step: int | None = None
    shift: int = 0
    temperature: float = 2.0
    kind = "levels"

    def __post_init__(self):
        _ = self.grid  # checks the rest
        if not 0 < self.temperature < math.inf:
            raise SpikeloomError(f"Membrane levels: temperature must be positive, not {self.temperature}")

    @property
    def grid(self):
        return Grid(self.low, self.high, self.step, self.shift)

    def slope(self, v, threshold):
        """At potentials ``v`` of neurons with this ``threshold``."""
        x = v * (self.temperature / steps(self.grid, threshold))
        first, last = self.low, self.high
        near = math.ceil(NEGLIGIBLE / self.temperature)
        if last - first > 2 * near:
            lowest = (x / self.temperature).floor_().sub_(near).clamp_(first, last - 2 * near)
            x = x.sub_(lowest, alpha=self.temperature)
            first, last = 0, 2 * near
        slope = torch.zeros_like(x)
        for level in range(first, last):
            s = torch.sigmoid(x - self.temperature * (level + 0.5))
            slope.addcmul_(s, 1 - s)
        return slope.mul_(self.temperature)


@dataclass(frozen=True)
class Shared:
    """One scale for weights and membrane, as in MINT (Yin, Li, Moitra, Panda, ASP-DAC 2024, arXiv 2305.09850): integers
    of ``width`` bits (2 to 16), as many below zero as above, that count steps of the weights. Gradients pass straight
    through where nothing is clipped."""

    width: int = 2
    kind = "shared"

    def __post_init__(self):
        _check_width(self)

    @property
    def grid(self):
        high = 2 ** (self.width - 1) - 1
        return Grid(-high, high, 1)

    def slope(self, v, threshold):
        """At potentials ``v``."""
        return (v.abs() <= self.grid.high).to(v.dtype)


@dataclass(frozen=True)
class Tanh:
    """The membrane of Q-SNNs (Wei et al., ACM MM 2024, arXiv 2406.13672): squashed by tanh, then rounded to ``width``
    bits (2 to 8), as many levels below zero as above.

    Their scale, the largest tanh of a batch, is 1 here, as a network has no batches. The slope is 1 − tanh².

    Parameters
    ----------
    unit : int
        the potential that counts as 1, in state units: where thresholds are
    """

    width: int = 8
    unit: int = 8
    kind = "tanh"

    def __post_init__(self):
        _check_width(self, 8)
        if not self._half <= self.unit < 2**15:
            raise SpikeloomError(f"Membrane tanh: unit must be between {self._half}, so that {self.width} bits make a "
                                 f"difference, and {2**15 - 1}, not {self.unit}")

    @property
    def _half(self):
        return 2 ** (self.width - 1) - 1

    @property
    def grid(self):
        half = self._half
        # Further apart than unit / half, so no two are equal.
        bounds = [math.ceil(self.unit * math.atanh((level + 0.5) / half)) for level in range(-half, half)]
        return Grid(-half, half, round(self.unit / half), bounds=tuple(bounds))

    def slope(self, v, threshold):
        """At potentials ``v``."""
        return 1 - torch.tanh(v / self.unit).square()


@dataclass(frozen=True)
class Exact:
    """A grid as it is, to be run and not to be trained."""

    grid: Grid
    kind = "exact"


MEMBRANES = {each.kind: each for each in (Levels, Shared, Tanh)}


def steps(grid, threshold):
    """The step between levels of a ``grid``: a number, or a tensor like ``threshold``."""
    return grid.step if grid.step is not None else threshold * 2.0**-grid.shift


def stored(grid, v, threshold):
    """What potentials ``v`` (float tensor of integers) are stored as."""
    if grid.bounds is not None:
        bounds = torch.tensor(grid.bounds, dtype=v.dtype, device=v.device)
        return torch.bucketize(v, bounds, right=True).add_(grid.low).mul_(grid.step).to(v.dtype)
    step = threshold if grid.step is None else grid.step
    level = torch.div(v * 2 ** (grid.shift + 1) + (step - 1), 2 * step, rounding_mode="floor")
    level.clamp_(grid.low, grid.high)
    return level.mul_(step) if not grid.shift else level.mul_(step).mul_(2.0**-grid.shift).floor_()


def _check_width(membrane, high=16):
    if not 2 <= membrane.width <= high:
        raise SpikeloomError(f"Membrane {membrane.kind}: width must be between 2 and {high} bits, not "
                             f"{membrane.width}")
