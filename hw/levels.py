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
        self.grid = core.layer.grid
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
        value = -(level * self.minus_threshold) >> grid.shift if grid.step is None else level * grid.step
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
    level : Out(core.layer.v_width)
    """

    def __init__(self, core, width):
        self.core, self.grid = core, core.layer.grid
        super().__init__({
            "potential": In(signed(width)),
            "minus_threshold": In(signed(core.minus_threshold.width)),
            "level": Out(core.layer.v_width),
        })

    def elaborate(self, platform):
        m = Module()
        grid = self.grid
        if grid.bounds is not None:
            above = self._search(m)
        elif not self.core.rounds and (grid.low, grid.high) == (-1, 1):
            self._compare(m)
            return m
        elif self.core.rounds:
            nearest = (self.potential * 2 + (grid.step - 1)) >> grid.step.bit_length()
            rounded = Signal(nearest.shape(), reset_less=True)
            m.d.sync += rounded.eq(nearest)
            m.d.sync += self.level.eq(Mux(rounded < grid.low, grid.low, Mux(rounded > grid.high, grid.high, rounded)))
            return m
        else:
            above = self._divide(m)
        most = grid.high - grid.low  # levels above the lowest
        m.d.sync += self.level.eq(Mux(above > most, most, above) + grid.low)
        return m

    def _compare(self, m):
        """Whether the potential is above half a step, or not above its negative."""
        minus_step = C(-self.grid.step) if self.grid.step else delayed(m, self.minus_threshold)
        potential = self.potential << (self.grid.shift + 1)
        over, under = potential + minus_step, potential + ~minus_step
        less_step, below = Signal(over.shape(), reset_less=True), Signal(reset_less=True)
        m.d.sync += [less_step.eq(over), below.eq(under[-1])]
        m.d.sync += self.level.eq(Mux(below, -1, ~less_step[-1] & less_step.any()))

    def _divide(self, m):
        """How many levels above the lowest, clipped to what ``width`` bits hold."""
        grid = self.grid
        low, high = self.core.minus_threshold.bounds
        if grid.step is None:
            minus_step, steps = self.minus_threshold, (-high, -low)
        else:
            minus_step, steps = C(-grid.step), (grid.step, grid.step)
        raised = 1 - 2 * grid.low  # half steps, from the middle below the lowest level to zero
        offset = Signal(signed(signed_width(0, steps[1] * raised)), reset_less=True)
        m.d.sync += offset.eq(-(minus_step * raised) - 1)
        reach = 1 << (len(self.potential) + grid.shift)
        shape = signed(signed_width(-reach, reach + steps[1] * raised))
        left = Signal(shape, name="left", reset_less=True)
        m.d.sync += left.eq((self.potential << (grid.shift + 1)) + offset)
        if grid.step is None:
            minus_step = delayed(m, minus_step, 2)
        bits = []
        for bit in reversed(range(grid.width)):
            rest = Signal(signed(len(left) + 1), name=f"rest_{bit}")
            m.d.comb += rest.eq(left + (minus_step << (bit + 1)))
            next_left = Signal(shape, name=f"left_{bit}", reset_less=True)
            m.d.sync += next_left.eq(Mux(rest[-1], left, rest))
            bits = [~rest[-1], *bits]
            bits = [delayed(m, each) for each in bits]
            left = next_left
            if grid.step is None and bit:
                minus_step = delayed(m, minus_step)
        return Cat(bits)

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
        return Cat(bits)
