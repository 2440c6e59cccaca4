"""How neurons behave: what becomes of their currents, leaks, what is stored, firing."""

from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError

from .checks import EXACT_IN_FLOAT32, LARGEST_SHIFT, between, check_table, integers, is_integer

# Leaks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoLeak:
    """The membrane potential stays as it is (an integrate-and-fire neuron)."""

    kind = "none"


@dataclass(frozen=True)
class ShiftLeak:
    """v - (v >> shift), the shift rounding toward minus infinity. ``shift``: 1 to 15."""

    shift: int
    kind = "shift"

    def __post_init__(self):
        between("Leak shift", self.shift, 1, 15)


@dataclass(frozen=True)
class FullLeak:
    """Nothing stays: a neuron without memory, whose potential is its current alone."""

    kind = "full"


@dataclass(frozen=True)
class TableLeak:
    """Any function of the stored state: an entry for each, from the lowest: 2^v_width of them, or a grid's levels."""

    table: tuple[int, ...]
    kind = "table"


# Currents ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReLU:
    """A current below 0 counts as 0."""

    kind = "relu"

    def check(self, what):
        """Nothing can be wrong."""

    def __call__(self, current):
        """What becomes of ``current`` (int array)."""
        return np.maximum(current, 0)

    def bounds(self, low, high):
        """Smallest and largest value of what currents from ``low`` to ``high`` become."""
        return max(low, 0), max(high, 0)


@dataclass(frozen=True)
class TableActivation:
    """Any function of the current, coarsely: tanh, or the rate of a spiking neuron.

    Parameters
    ----------
    table : tuple of int
        below 2^24 in magnitude, for each floor(current / 2^shift): 2^n entries, for -2^(n-1) to 2^(n-1) - 1, within
        which that is clipped
    shift : int
        0 to 48
    """

    table: tuple[int, ...]
    shift: int = 0
    kind = "table"

    def check(self, what):
        """Refuse, as ``what``, a table or shift that is none."""
        check_table(what, self.table, 1 - EXACT_IN_FLOAT32, EXACT_IN_FLOAT32 - 1)
        between(f"{what}: shift", self.shift, 0, LARGEST_SHIFT)

    def __call__(self, current):
        """What becomes of ``current`` (int array)."""
        half = len(self.table) // 2
        return np.array(self.table)[np.clip(current >> self.shift, -half, half - 1) + half]

    def bounds(self, low, high):
        """Smallest and largest value of what any current becomes."""
        return min(self.table), max(self.table)


class _State:
    """Something that a neuron keeps beside its membrane potential, in ``width`` bits (2 to 16), saturating, with a
    ``leak`` of its own."""

    def check(self, what):
        """Refuse, as ``what``, fields that do not fit each other."""
        between(f"{what}: width", self.width, 2, 16, " bits")
        if isinstance(self.leak, TableLeak):
            check_leak_table(what, self.leak, 2**self.width, *self.bounds)

    @property
    def bounds(self):
        """Smallest and largest value that is kept."""
        return -(2 ** (self.width - 1)), 2 ** (self.width - 1) - 1


@dataclass(frozen=True)
class SynapticCurrent(_State):
    """A second state between currents and the potential (a current-based, or CUBA, neuron): what comes in is added to
    what has leaked of it, the exact sum goes on to the membrane, and ``width`` bits of it stay.

    Parameters
    ----------
    width : int
        2 to 16 bits
    leak : NoLeak, ShiftLeak, FullLeak or TableLeak
    """

    width: int
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak


@dataclass(frozen=True, eq=False)
class Adaptation(_State):
    """Thresholds that rise with each spike and fall again (an adaptive, or ALIF, neuron: Bellec, Salaj, Subramoney,
    Legenstein, Maass, NeurIPS 2018): a second state that is added to them, as the time step before left it.

    Parameters
    ----------
    width : int
        2 to 16 bits
    leak : NoLeak, ShiftLeak, FullLeak or TableLeak
    step : int array (channels,)
        by how much a spike raises the state
    """

    width: int
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak
    step: np.ndarray

    def check(self, what, channels):
        """Refuse, as ``what``, fields that do not fit each other, or so many ``channels``."""
        super().check(what)
        if integers(self, what, "step", 1).shape != (channels,):
            raise SpikeloomError(f"{what}: step must have shape ({channels},), one for each channel, not "
                                 f"{self.step.shape}")


def check_leak_table(what, leak, states, low, high):
    """Refuse a `TableLeak` that has not an entry from ``low`` to ``high`` for each of so many stored states."""
    if len(leak.table) != states:
        raise SpikeloomError(f"{what}: a leak table must have {states} entries, one for each stored state, not "
                             f"{len(leak.table)}")
    if min(leak.table) < low or max(leak.table) > high:
        raise SpikeloomError(f"{what}: leak table entries must lie within {low} to {high}")


# Stored states ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Membrane potentials stored as one of few levels, ``low`` to ``high`` times a step, the nearest; halves go down.

    Without leak and with a step of 1 that is a saturating potential; with levels -1, 0, 1 of the threshold the ternary
    membrane of SpQuant-SNN.

    Parameters
    ----------
    low, high : int
        -32768 <= low <= 0 <= high <= 32767, at least three levels
    step : int, optional
        in state units, 1 to 32767; by default that of each channel is its threshold / 2^shift, and the level k stands
        for floor(k * threshold / 2^shift)
    shift : int
        0 to 7, of a step that is the threshold's
    bounds : tuple of int, optional
        for a ``step``: where another level than the nearest is to be stored. With n of these increasing numbers at or
        below the potential, that is the level low + n.
    """

    low: int
    high: int
    step: int | None = None
    shift: int = 0
    bounds: tuple[int, ...] | None = None

    def __post_init__(self):
        if not (is_integer(self.low) and is_integer(self.high) and -(2**15) <= self.low <= 0 <= self.high < 2**15
                and self.high - self.low >= 2):
            raise SpikeloomError("A membrane grid's levels must hold 0, be three or more, and lie within -32768 to "
                                 f"32767, not {self.low} to {self.high}")
        if self.step is None:
            between("A membrane grid's shift", self.shift, 0, 7)
            if self.bounds is not None:
                raise SpikeloomError("A membrane grid with bounds needs a step")
            return
        between("A membrane grid's step", self.step, 1, 2**15 - 1)
        if self.shift != 0:
            raise SpikeloomError(f"A membrane grid with a step has no shift, which here is {self.shift}")
        if self.bounds is not None and not (
                len(self.bounds) == self.high - self.low and all(map(is_integer, self.bounds))
                and all(below < above for below, above in zip(self.bounds, self.bounds[1:], strict=False))):
            raise SpikeloomError(f"A membrane grid of {self.high - self.low + 1} levels needs {self.high - self.low} "
                                 "increasing integers for bounds")

    @property
    def width(self):
        """Bits of a stored level."""
        return (self.high - self.low).bit_length()

    def value(self, level, threshold):
        """The potential that a ``level`` stands for, of neurons with this ``threshold``: integers, or int arrays."""
        return level * threshold >> self.shift if self.step is None else level * self.step

    def level(self, u, threshold):
        """The level that potentials ``u`` (int array) are stored as."""
        if self.bounds is not None:
            return self.low + np.searchsorted(self.bounds, u, side="right")
        step = threshold if self.step is None else self.step
        return np.clip(((u << (self.shift + 1)) + step - 1) // (2 * step), self.low, self.high)


# Firing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spike:
    """Fires 1 where the potential reaches the threshold (inclusive), else 0."""

    kind = "spike"
    low, high = 0, 1


@dataclass(frozen=True)
class GradedSpike:
    """Fires a signed count, clip(floor(u / threshold), low, high); thresholds are powers of two."""

    low: int
    high: int
    kind = "graded"

    def __post_init__(self):
        if not (is_integer(self.low) and is_integer(self.high) and -128 <= self.low <= 0 < self.high <= 127):
            raise SpikeloomError("A graded spike's range must hold 0, reach above it, and lie within "
                                 f"-128 to 127, not {self.low} to {self.high}")


@dataclass(frozen=True)
class Silent:
    """Never fires: an integrator that is read out by its membrane potential."""

    kind = "silent"
    low, high = 0, 0


LEAKS = {cls.kind: cls for cls in (NoLeak, ShiftLeak, FullLeak, TableLeak)}
ACTIVATIONS = {cls.kind: cls for cls in (ReLU, TableActivation)}
FIRES = {cls.kind: cls for cls in (Spike, GradedSpike, Silent)}
RESETS = ("subtract", "zero", "none")
READOUTS = ("count", "membrane")
