"""Boards: a name each, and the rest from amaranth-boards' own description of pins and device."""

import importlib
from dataclasses import dataclass
from functools import cached_property

from spikeloom.errors import SpikeloomError

from .flow import Device

__all__ = ["BOARDS", "Board", "find"]


@dataclass(frozen=True)
class Board:
    """A board with a clock and a UART.

    Parameters
    ----------
    name : str
        that of its target
    module, platform : str
        where amaranth-boards describes it
    """

    name: str
    module: str
    platform: str

    @cached_property
    def description(self):
        """amaranth-boards' platform. Only its pins and its device are used, never its own build."""
        return getattr(importlib.import_module(f"amaranth_boards.{self.module}"), self.platform)()

    @cached_property
    def device(self):
        """The `Device` it carries."""
        board = self.description
        if hasattr(board, "part"):  # Gowin
            # A package with memory in it has no chip database of its own. The UART shares pins with the SPI ports.
            die = board.family.replace("GW1NR", "GW1N")
            return Device("gowin", board.part, ("--device", board.part, "--vopt", f"family={die}"),
                          ("-d", die, "--sspi_as_gpio", "--mspi_as_gpio"))
        if board.device.startswith("iCE40"):
            kind, package = board.device.removeprefix("iCE40").lower(), board.package.lower()
            return Device("ice40", f"{board.device} {board.package}", (f"--{kind}", "--package", package))
        kind, package = board.device.removeprefix("LFE5U-").removesuffix("F"), board.package.replace("BG", "CABGA")
        return Device("ecp5", f"{board.device}-{board.speed}{board.package}",
                      (f"--{kind}k", "--package", package, "--speed", board.speed))

    @property
    def oscillator(self):
        """Of the board's clock, in MHz."""
        return self.description.lookup(self.description.default_clk).clock.frequency / 1e6

    @property
    def pins(self):
        """For the ports ``clk``, ``rx`` and ``tx``: the pin, and its attributes."""
        board = self.description
        clock, uart = board.lookup(board.default_clk), board.lookup("uart", 0)
        (pin,) = clock.ios[0].names
        pins = {"clk": (pin, dict(clock.attrs))}
        for signal in uart.ios:
            if signal.name in ("rx", "tx"):
                (pin,) = signal.ios[0].names
                pins[signal.name] = (pin, {**uart.attrs, **signal.attrs})
        return pins


BOARDS = {board.name: board for board in (
    Board("icebreaker", "icebreaker", "ICEBreakerPlatform"),
    Board("hx8k", "ice40_hx8k_b_evn", "ICE40HX8KBEVNPlatform"),
    Board("ulx3s-25f", "ulx3s", "ULX3S_25F_Platform"),
    Board("ulx3s-85f", "ulx3s", "ULX3S_85F_Platform"),
    Board("tang_nano_9k", "tang_nano_9k", "TangNano9kPlatform"),
)}


def find(name):
    """The `Board` called ``name``; raises `SpikeloomError` when there is none."""
    try:
        return BOARDS[name]
    except KeyError:
        raise SpikeloomError(f"Board must be one of {', '.join(BOARDS)}, not {name!r}") from None
