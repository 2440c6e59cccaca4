"""What a bitstream holds: the array and its link, a clock, a reset, and whatever else a board has."""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .clock import Clocking
from .top import Top

__all__ = ["BoardTop", "FittedTop", "Fittings"]

#: Seconds from configuration, or from a stable clock, to the end of reset. The block RAM of iCE40 answers only some
#: microseconds after the logic runs.
RESET_SECONDS = 10e-6


class BoardTop(wiring.Component):
    """`Top` with its clock as a pin, and a reset after configuration. This is what a virtual board runs.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    clock : int
        Hz
    options
        those of `Top`

    Members
    -------
    clk : In(1)
    locked : In(1)
        only with ``lockable``: the reset begins when this goes high; of no clock domain
    busy : Out(1)
        that of `Top`; high in reset too
    others
        those of `Top`
    """

    def __init__(self, program, *, clock, lockable=False, **options):
        self.clock = clock
        self.lockable = lockable
        self.top = Top(program, clock=clock, **options)
        super().__init__({"clk": In(1), **({"locked": In(1)} if lockable else {}), **self.top.signature.members})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.power_on = ClockDomain(reset_less=True, local=True)
        wait = Signal(range(2 * round(RESET_SECONDS * self.clock)))
        reset = Signal(init=1)
        m.d.comb += [
            ClockSignal("sync").eq(self.clk),
            ClockSignal("power_on").eq(self.clk),
            ResetSignal("sync").eq(reset),
        ]
        with m.If(~wait[-1]):
            m.d.power_on += wait.eq(wait + 1)
        m.d.power_on += reset.eq(~wait[-1])
        if self.lockable:
            locked = Signal()
            m.submodules.locked = FFSynchronizer(self.locked, locked, o_domain="power_on")
            with m.If(~locked):
                m.d.power_on += wait.eq(0)
        m.submodules.top = self.top
        for name, member in self.top.signature.members.items():
            ours, theirs = getattr(self, name), getattr(self.top, name)
            m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        m.d.comb += self.busy.eq(self.top.busy | reset)
        return m


@dataclass(frozen=True)
class Fittings:
    """What is around a `BoardTop` on a board.

    Parameters
    ----------
    leds : tuple of bool
        for each LED whether it is lit when its pin is low
    usrmclk : bool
        the SPI flash's clock goes through the configuration logic (ECP5)
    high : tuple of str
        ports that are high
    """

    leds: tuple[bool, ...] = ()
    usrmclk: bool = False
    high: tuple[str, ...] = ()


class FittedTop(wiring.Component):
    """A `BoardTop` with a clock of its own making and the board's LEDs.

    The LEDs show the last winner's number in binary, the first LED its lowest bit, once a network is loaded.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    source : Oscillator, ICE40PLL, ECP5PLL or GowinPLL
        of `spikeloom.hw.clock`
    fittings : Fittings
    options
        those of `Top`, but for the clock

    Members
    -------
    clk : In(1)
        the oscillator
    led_N : Out(1)
    others
        `Fittings.high`, and those of `Top` but for what only a simulation looks at
    """

    def __init__(self, program, *, source, fittings, **options):
        self.source = source
        self.fittings = fittings
        self.board = BoardTop(program, clock=round(source.clock * 1e6), lockable=True, **options)
        inside = {"clk", "locked", "winner", "loaded", "busy"} | ({"flash_clk"} if fittings.usrmclk else set())
        self._passed = {name: member for name, member in self.board.signature.members.items() if name not in inside}
        super().__init__({"clk": In(1), **self._passed, **{f"led_{n}": Out(1) for n in range(len(fittings.leds))},
                          **{name: Out(1, init=1) for name in fittings.high}})

    def elaborate(self, platform):
        m = Module()
        m.submodules.clocking = clocking = Clocking(self.source)
        m.submodules.board = board = self.board
        m.d.comb += [
            clocking.pin.eq(self.clk),
            board.clk.eq(clocking.clk),
            board.locked.eq(clocking.locked),
        ]
        for name, member in self._passed.items():
            ours, theirs = getattr(self, name), getattr(board, name)
            m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        for number, inverted in enumerate(self.fittings.leds):
            lit = board.winner[number] & board.loaded if number < len(board.winner) else Const(0)
            m.d.comb += getattr(self, f"led_{number}").eq(lit ^ inverted)
        if self.fittings.usrmclk:
            m.submodules.usrmclk = Instance("USRMCLK", i_USRMCLKI=board.flash_clk, i_USRMCLKTS=Const(0))
        return m
