"""Membrane potentials stored as few levels (`spikeloom.network.Grid`): from memory and to it, for one update unit.

A stored level is its number modulo 2^width, so that memories cleared to zero hold the potential zero.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from spikeloom.network import signed_width

from .storage import delayed, looked_up

__all__ = ["LevelDecoder", "LevelEncoder"]


class LevelDecoder(wiring.Component):
    """The potential that a stored level stands for. Latency: 1 cycle.

    It takes no multiplier of the device's, of which there are few.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core

    Members
    -------
    level : In(core.layer.v_width)
    minus_threshold : In(signed)
    potential : Out(signed(core.stored_width))
    """

    def __init__(self, core):
        self.core, self.grid = core, core.layer.grid
        super().__init__({
            "level": In(core.layer.v_width),
            "minus_threshold": In(signed(core.minus_threshold.width)),
            "potential": Out(signed(core.stored_width)),
        })

    def elaborate(self, platform):
        m = Module()
        grid = self.grid
        level = Signal(range(grid.low, grid.high + 1))
        m.d.comb += level.eq(Mux(self.level <= grid.high, self.level, self.level - (1 << grid.width)))
        if grid.step is not None:
            value = _multiplied(level, grid.step)
        elif self.core.ternary:
            value = Mux(level[1], self.minus_threshold, Mux(level[0], -self.minus_threshold, 0)) >> grid.shift
        else:
            minus_level = Signal(signed(signed_width(-grid.high, -grid.low)))
            m.d.comb += minus_level.eq(-level)
            *bits, sign = minus_level
            parts = [Mux(bit, self.minus_threshold << place, 0) for place, bit in enumerate(bits)]
            value = (sum(parts) - Mux(sign, self.minus_threshold << len(bits), 0)) >> grid.shift
        m.d.sync += self.potential.eq(value)
        return m


class LevelEncoder(wiring.Component):
    """The level that a potential is stored as, to be written to memory. Latency: ``core.encoding_cycles``.

    A step that is a power of two takes an addition, a ternary level of any step two at a time. Any other step is
    divided by in one subtraction after the other, a bit of the level each; bounds are searched, a bit of the level each
    too.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
    width : int
        bits of a potential

    Members
    -------
    potential : In(signed(width))
    minus_threshold : In(signed)
        a cycle before the potential
    clear : In(1)
        a cycle before the level: it is to be zero
    level : Out(core.layer.v_width)
    """

    def __init__(self, core, width):
        self.core, self.grid = core, core.layer.grid
        super().__init__({
            "potential": In(signed(width)),
            "minus_threshold": In(signed(core.minus_threshold.width)),
            "clear": In(1),
            "level": Out(core.layer.v_width),
        })

    def elaborate(self, platform):
        m = Module()
        if self.grid.bounds is not None:
            level = self._search(m)
        elif self.core.rounds:
            level = self._round(m)
        elif self.core.ternary:
            level = self._compare(m)
        else:
            level = self._divide(m)
        m.d.sync += self.level.eq(Mux(self.clear, 0, level))
        return m

    def _round(self, m):
        grid = self.grid
        nearest = (self.potential * 2 + (grid.step - 1)) >> grid.step.bit_length()
        rounded = Signal(nearest.shape(), reset_less=True)
        m.d.sync += rounded.eq(nearest)
        return Mux(rounded < grid.low, grid.low, Mux(rounded > grid.high, grid.high, rounded))

    def _compare(self, m):
        """Whether the potential is more than half a step, or at most its negative."""
        grid = self.grid
        minus_step, halves = self.minus_threshold if grid.step is None else C(-grid.step), grid.shift + 1
        # Only signs are looked at: u > h is u + ~h >= 0, and u <= h is u + ~h < 0.
        ends = (minus_step - 1) >> halves, ~(minus_step >> halves)
        if grid.step is None:
            ends = [delayed(m, each) for each in ends]
        over, under = (self.potential + each for each in ends)
        above, below = delayed(m, ~over[-1]), delayed(m, under[-1])
        return Cat(above | below, below)

    def _divide(self, m):
        core, grid = self.core, self.grid
        if grid.step is None:
            minus_step, largest = self.minus_threshold, -core.minus_threshold.bounds[0]
        else:
            minus_step, largest = C(-grid.step), grid.step
        raised = 1 - 2 * grid.low  # half steps, from the middle below the lowest level to zero
        offset = ~_multiplied(minus_step, raised) >> 1
        if grid.step is None:
            offset, minus_step = delayed(m, offset), delayed(m, minus_step, 2)
        left = delayed(m, (self.potential << grid.shift) + offset)
        # What is below the lowest level counts as the lowest, so after the first step nothing left is negative. Where
        # neurons that fire are cleared, nobody minds what becomes of potentials beyond the threshold.
        fits = core.clears and grid.step is None and (1 << grid.shift) - grid.low < 1 << grid.width
        bits = []
        for bit in reversed(range(grid.width)):
            rest = left + (minus_step << bit)
            width = min(len(left), (largest << bit).bit_length()) if fits else len(left)
            next_left = Signal(width, name=f"left_{bit}", reset_less=True)
            kept = left if bits else Mux(left[-1], 0, left)
            m.d.sync += next_left.eq(Mux(rest[-1], kept, rest))
            bits = [delayed(m, each) for each in (~rest[-1], *bits)]
            left = next_left
            if grid.step is None and bit:
                minus_step = delayed(m, minus_step)
        return self._from_lowest(Cat(bits))

    def _search(self, m):
        grid, beyond = self.grid, (1 << len(self.potential)) - 1
        bounds = [*grid.bounds, *[beyond] * ((1 << grid.width) - 1 - len(grid.bounds))]
        offset = min(0, *bounds)  # looked up as numbers from zero
        potential, bits = self.potential, []
        for bit in reversed(range(grid.width)):
            # The bound in the middle of those that are left.
            middle = [bounds[(first << (bit + 1)) + (1 << bit) - 1] for first in range(1 << (grid.width - 1 - bit))]
            bound = Signal(signed(signed_width(offset, max(bounds))), name=f"bound_{bit}", reset_less=True)
            index = Cat(bits) if bits else C(0, 1)
            m.d.sync += bound.eq(looked_up(m, index, [each - offset for each in middle]) + offset)
            potential, bits = delayed(m, potential), [delayed(m, each) for each in bits]
            bits = [delayed(m, potential >= bound), *(delayed(m, each) for each in bits)]
            potential = delayed(m, potential)
        return self._from_lowest(Cat(bits))

    def _from_lowest(self, above):
        """The level so many ``above`` the lowest, or the highest."""
        most = self.grid.high - self.grid.low
        return Mux(above > most, most, above) + self.grid.low


def _multiplied(value, factor):
    """A ``value`` times an integer, in additions."""
    product, place = C(0, 1), 0
    while factor:
        if factor & 1:  # one subtraction for a run of ones
            digit = 2 - (factor & 3)
            product = product + (value << place) if digit > 0 else product - (value << place)
            factor -= digit
        factor >>= 1
        place += 1
    return product
