"""How the spiking neurons of a layer behave in PyTorch, as `spikeloom.network` says it of integers, and how they learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    RESETS,
    FullLeak,
    GradedSpike,
    NoLeak,
    ReLU,
    ShiftLeak,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
)

from .membranes import Exact, Levels, Shared, Tanh, stored
from .surrogate import ATan, FastSigmoid, Sigmoid, Triangle

#: Ways of `Neuron` to teach thresholds.
THRESHOLD_GRADIENTS = ("surrogate", "fired")


@dataclass(frozen=True)
class Adapting(SynapticCurrent):
    """Thresholds that rise with each spike and fall again, as `spikeloom.network.Adaptation` says.

    Parameters
    ----------
    width : int
        of the state that is added to thresholds, 2 to 16 bits
    leak : NoLeak, ShiftLeak, FullLeak or TableLeak
    step : float
        by how much a spike raises it at the start, as a share of the initial threshold
    learned : bool
        whether each channel learns a step of its own from there on
    """

    step: float = 0.25
    learned: bool = True

    def check(self, what):
        """Refuse, as ``what``, fields that do not fit each other."""
        super().check(what)
        if not -math.inf < self.step < math.inf:
            raise SpikeloomError(f"{what}: step must be a number, not {self.step}")


@dataclass(frozen=True)
class Neuron:
    """How the neurons of a layer behave; the first four, ``act`` and ``current`` as in `spikeloom.network.Dense`.

    Parameters
    ----------
    v_width : int
        bits of the stored membrane potential (2 to 16), where it saturates
    leak : NoLeak, ShiftLeak, FullLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
    surrogate : ATan, Sigmoid, Triangle or FastSigmoid
        derivative of a spike (a graded spike's is that of a clipped line)
    detach_reset : bool
        whether the backward pass takes the spike inside the reset for a constant
    membrane : Levels, Shared, Tanh, or Exact
        what a potential is rounded to when it is stored, in place of saturation
    threshold_gradient : str
        how thresholds learn: "surrogate", by the derivative of firing wherever neurons are; or "fired", by that of the
        spikes alone, times σ of their normalised distance from the threshold (LT-SNN: Hasssan, Meng, Seo, IJCNN 2024)
    act : ReLU or TableActivation, optional
    current : SynapticCurrent, optional
    adaptation : Adapting, optional
    """

    v_width: int
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    surrogate: ATan | Sigmoid | Triangle | FastSigmoid = field(default_factory=ATan)
    detach_reset: bool = False
    membrane: Levels | Shared | Tanh | Exact | None = None
    threshold_gradient: str = "surrogate"
    act: ReLU | TableActivation | None = None
    current: SynapticCurrent | None = None
    adaptation: Adapting | None = None

    def __post_init__(self):
        if self.threshold_gradient not in THRESHOLD_GRADIENTS:
            raise SpikeloomError(f"threshold_gradient must be one of {', '.join(THRESHOLD_GRADIENTS)}, not "
                                 f"{self.threshold_gradient!r}")
        if self.grid:
            object.__setattr__(self, "v_width", self.grid.width)
        if not 2 <= self.v_width <= 16:
            raise SpikeloomError(f"Membrane width must be between 2 and 16 bits, not {self.v_width}")
        if self.reset not in RESETS:
            raise SpikeloomError(f"Reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        states = self.grid.high - self.grid.low + 1 if self.grid else 2**self.v_width
        if isinstance(self.leak, TableLeak) and len(self.leak.table) != states:
            raise SpikeloomError(f"A leak table for {self.v_width}-bit membranes must have {states} entries, not "
                                 f"{len(self.leak.table)}")
        for name in ("act", "current", "adaptation"):
            if part := getattr(self, name):
                part.check(name.capitalize())
        if self.adaptation and not isinstance(self.fire, Spike):
            raise SpikeloomError(f"An adaptation is for neurons that fire \"spike\", not {self.fire.kind!r}")

    @property
    def grid(self):
        """The `Grid` of stored potentials, or None."""
        return self.membrane and self.membrane.grid

    @property
    def v_min(self):
        """The lowest potential that saturation leaves, or that a table of leaks knows."""
        return self.grid.low * self.pitch if self.grid else -(2 ** (self.v_width - 1))

    @property
    def v_max(self):
        return 2 ** (self.v_width - 1) - 1

    @property
    def pitch(self):
        """How far apart the potentials are that a table of leaks knows; 1 where a grid's step is the threshold's."""
        return self.grid.step or 1 if self.grid else 1

    @property
    def has_tables(self):
        """Whether something that it does is told by a table, which holds for one size of weights."""
        return any(isinstance(each, TableLeak | TableActivation) for each in (
            self.leak, self.act, *(state.leak for state in (self.current, self.adaptation) if state)))

    def stored(self, v, threshold, out=None):
        """What potentials ``v`` are stored as, by neurons with this ``threshold``."""
        if not self.grid:
            return torch.clamp(v, self.v_min, self.v_max, out=out)
        found = stored(self.grid, v, threshold)
        return found if out is None else out.copy_(found)
