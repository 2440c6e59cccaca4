"""Which clock and which baud rate a board runs at."""

from dataclasses import dataclass

from spikeloom.errors import SpikeloomError
from spikeloom.hw.clock import Oscillator
from spikeloom.hw.top import uart_divisor

from .board import BRIDGES

__all__ = ["RATES", "Choice", "best", "fixed"]

#: Bits per second to choose from.
RATES = (12_000_000, 6_000_000, 4_000_000, 3_000_000, 2_000_000, 1_000_000, 500_000, 230_400, 115_200, 57_600, 38_400,
         19_200, 9_600)

#: Share of the clock worth giving up for a faster link, which keeps an array waiting more often than its clock does.
GIVEN_UP = 0.1


@dataclass(frozen=True)
class Choice:
    """A clock and a baud rate.

    Parameters
    ----------
    source : Oscillator, ICE40PLL, ECP5PLL or GowinPLL
        of `spikeloom.hw.clock`
    baud : int
        bits per second; 0 where there is no UART
    """

    source: object
    baud: int

    @property
    def clock(self):
        """MHz"""
        return self.source.clock


def best(board, limit, *, baud=None):
    """The `Choice` with the fastest link among the clocks that are at most ``limit`` MHz and not much less than can
    be, then with the fastest clock.

    Parameters
    ----------
    board : Board
    limit : float
        MHz
    baud : int, optional
        bits per second; default: the fastest of `RATES` that the board's bridge takes; 0 where there is no UART

    Returns None where no clock is slow enough. Raises `SpikeloomError` when no such clock makes the baud rate.
    """
    sources = [source for source in board.clocks if source.clock <= limit]
    if not sources:
        return None
    worthwhile = [source for source in sources if source.clock >= (1 - GIVEN_UP) * sources[-1].clock]
    made = [Choice(source, rate) for source in worthwhile
            if (rate := _rate(source.clock, BRIDGES[board.bridge], baud)) is not None]
    if not made:
        uart_divisor(sources[-1].clock * 1e6, RATES[-1] if baud is None else baud)  # says why
    return max(made, key=lambda choice: (choice.baud, choice.clock))


def fixed(board, clock, *, baud=None):
    """The `Choice` for a ``clock`` that the user asks for: "oscillator", or MHz to within 0.5 %.

    Raises `SpikeloomError` when the board cannot make it, saying what it can.
    """
    if clock == "oscillator":
        source = Oscillator(board.oscillator)
    else:
        source = min(board.clocks, key=lambda source: abs(source.clock - clock))
        if abs(source.clock - clock) > 0.005 * clock:
            raise SpikeloomError(f"Clock of {board.name} cannot be {clock:g} MHz: the nearest it can be is "
                                 f"{source.clock:g} MHz")
    rate = _rate(source.clock, BRIDGES[board.bridge], baud)
    if rate is None:
        uart_divisor(source.clock * 1e6, RATES[-1] if baud is None else baud)  # says why
    return Choice(source, rate)


def _rate(clock, highest, baud):
    """The fastest rate up to ``highest`` that ``clock`` MHz makes, or ``baud`` if it makes that; else None."""
    for rate in [rate for rate in RATES if rate <= highest] if baud is None else [baud]:
        if rate == 0:
            return 0
        try:
            uart_divisor(clock * 1e6, rate)
        except SpikeloomError:
            continue
        return rate
    return None
