"""Boards: a line each for what amaranth-boards does not say; the rest is from its description of pins and device."""

import importlib
from dataclasses import dataclass
from functools import cached_property

from spikeloom.errors import SpikeloomError
from spikeloom.hw.board import Fittings
from spikeloom.hw.clock import ECP5PLL, ICE40PLL, GowinPLL, Oscillator

from .flow import Device
from .programmer import COPY, DFU, ICEPROG, ICEPROG_MEMORY, ICESPROG, Programmer, open_fpga_loader

__all__ = ["BOARDS", "BRIDGES", "Board", "Wiring", "find"]

#: Bits per second that what stands between USB and the UART takes. On pin headers that is any adapter.
BRIDGES = {
    "FT2232H": 12_000_000,
    "FT231X": 3_000_000,
    "BL702": 3_000_000,
    "CH340": 2_000_000,
    "iCELink": 115_200,
    "pin header": 1_000_000,
}

#: Packages of iCE40 that have no PLL.
_WITHOUT_PLL = ("VQ100", "CM36")

#: Where a start image lies, in bytes: behind the largest bitstream of the family.
_BEHIND = {"ice40": 0x100000, "ecp5": 0x200000, "gowin": 0x200000}


@dataclass(frozen=True)
class Wiring:
    """What the ports of a bitstream are connected to.

    Parameters
    ----------
    pins : dict
        for each port: the pin, and its attributes
    fittings : Fittings
        but for the clock
    """

    pins: dict[str, tuple[str, dict]]
    fittings: Fittings


@dataclass(frozen=True)
class Board:
    """A board with a clock and a UART.

    Parameters
    ----------
    name : str
        that of its target
    module, platform : str
        where amaranth-boards describes it
    bridge : str
        one of `BRIDGES`
    programmers : tuple of Programmer
        the best first
    pad : bool
        the clock comes in beside the PLL of an iCE40 (other families do not care)
    boot_offset : int, optional
        of the start image in the SPI flash, where it is not that of its family (bytes)
    own_flash : bool
        the SPI flash can be written and read by the user
    """

    name: str
    module: str
    platform: str
    bridge: str
    programmers: tuple[Programmer, ...]
    pad: bool = False
    boot_offset: int | None = None
    own_flash: bool = True

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
                          ("-d", die, "--sspi_as_gpio", "--mspi_as_gpio"), f"-family {die.split('-')[0].lower()}")
        if board.device.startswith("iCE40"):
            kind, package = board.device.removeprefix("iCE40").lower(), board.package.lower()
            synth = {"h": "-device hx", "l": "-device lp", "u": "-device u -spram"}[kind[0]]
            return Device("ice40", f"{board.device} {board.package}", (f"--{kind}", "--package", package),
                          synth_options=synth)
        kind, size = board.device.removeprefix("LFE5").lower().removesuffix("f").split("-")
        kind = kind.removeprefix("u")  # LFE5U, LFE5UM, LFE5UM5G: "", "m", "m5g"
        package = board.package.replace("BG", "CABGA")
        return Device("ecp5", f"{board.device}-{board.speed}{board.package}",
                      (f"--u{kind}-{size}k" if kind else f"--{size}k", "--package", package, "--speed", board.speed))

    @property
    def oscillator(self):
        """Of the board's clock, in MHz."""
        return self.description.lookup(self.description.default_clk).clock.frequency / 1e6

    @cached_property
    def clocks(self):
        """Everything the array's clock can come from: the oscillator, and the PLL's settings (of `spikeloom.hw.clock`),
        one for each clock."""
        board = self.description
        if self.device.family == "gowin":
            settings = GowinPLL.settings(self.oscillator, device=board.family)
        elif self.device.family == "ecp5":
            settings = ECP5PLL.settings(self.oscillator)
        else:
            settings = () if board.package in _WITHOUT_PLL else ICE40PLL.settings(self.oscillator, pad=self.pad)
        found = {self.oscillator: Oscillator(self.oscillator)}
        for setting in settings:  # the first has the fastest phase detector, so the least jitter
            found.setdefault(setting.clock, setting)
        return tuple(found[clock] for clock in sorted(found))

    @property
    def flash(self):
        """Where a start image lies in the board's SPI flash, in bytes; None when it has none that can be used."""
        if self._spi_flash is None or not self.own_flash or not any(each.data for each in self.programmers):
            return None
        return _BEHIND[self.device.family] if self.boot_offset is None else self.boot_offset

    def wiring(self, transport="uart", *, boot=False, spi_pins=None):
        """What the ports of a bitstream go to; a `Wiring`.

        Parameters
        ----------
        transport : "uart" or "spi"
        boot : bool
            there are ports to the SPI flash
        spi_pins : sequence of str, optional
            of CS, COPI, CIPO and SCK; by default the first PMOD's pins 1 to 4 that nothing else uses

        Raises `SpikeloomError` where the board has no such pins.
        """
        board = self.description
        clock = board.lookup(board.default_clk)
        pins = {"clk": (_names(clock.ios[0])[0], self._attributes(clock))}
        usrmclk, high = False, []
        if boot:
            if self.flash is None:
                raise SpikeloomError(f"Board {self.name} has no SPI flash that a start image can be in")
            usrmclk = self.device.family == "ecp5"  # its clock pin is the configuration logic's
            for signal in self._spi_flash.ios:
                if (signal.name == "clk" and usrmclk) or signal.name not in ("cs", "clk", "copi", "cipo", "wp", "hold"):
                    continue
                port = f"flash_{signal.name}"
                pins[port] = (_names(signal.ios[0])[0], self._attributes(self._spi_flash, signal))
                if signal.name in ("wp", "hold"):
                    high.append(port)
        if transport == "uart":
            uart = board.lookup("uart", 0)
            pins |= {signal.name: (_names(signal.ios[0])[0], self._attributes(uart, signal))
                     for signal in uart.ios if signal.name in ("rx", "tx")}
        leds = [(pin, inverted, attributes) for pin, inverted, attributes in self._leds
                if pin not in {used for used, _ in pins.values()}]
        if transport == "spi":
            taken = {used for used, _ in pins.values()}
            chosen = self._spi_pins(taken, {pin for pin, *_ in leds}) if spi_pins is None else tuple(spi_pins)
            if len(chosen) != 4 or len({*chosen} - taken) != 4:
                raise SpikeloomError(f"Board {self.name}: SPI needs four pins (CS, COPI, CIPO, SCK) that nothing else "
                                     f"uses, not {' '.join(chosen)}")
            standard = {} if self.device.family == "ice40" else {"IO_TYPE": "LVCMOS33"}
            pins |= {port: (pin, standard) for port, pin in zip(("cs", "copi", "cipo", "sck"), chosen, strict=True)}
            leds = [led for led in leds if led[0] not in chosen]
        pins |= {f"led_{number}": (pin, attributes) for number, (pin, _, attributes) in enumerate(leds)}
        return Wiring(pins, Fittings(tuple(inverted for _, inverted, _ in leds), usrmclk, tuple(high)))

    @property
    def _spi_flash(self):
        resources = self.description.resources
        return resources.get(("spi_flash_1x", 0)) or resources.get(("spi_flash", 0))

    @property
    def _leds(self):
        """Pin, whether it is lit when low, and attributes of each LED; those of many colours count as several."""
        leds = []
        for (name, _), resource in self.description.resources.items():
            if name == "led":
                leds.append((_names(resource.ios[0])[0], resource.ios[0].invert, self._attributes(resource)))
            elif name == "rgb_led":
                leds += [(_names(signal.ios[0])[0], signal.ios[0].invert, self._attributes(resource, signal))
                         for signal in resource.ios]
        return leds

    def _spi_pins(self, taken, leds):
        """Pins 1 to 4 of the first PMOD where they are free, rather than shared with LEDs."""
        rows = [tuple(connector.mapping[str(pin)] for pin in range(1, 5))
                for (kind, _), connector in self.description.connectors.items() if kind == "pmod"]
        for avoided in (taken | leds, taken):
            for row in rows:
                if not avoided & {*row}:
                    return row
        raise SpikeloomError(f"Board {self.name} has no PMOD with four free pins: SPI needs the pins of CS, COPI, CIPO "
                             "and SCK named")

    def _attributes(self, *holders):
        """The attributes of a resource and its signals, those that depend on the board's voltages included."""
        merged = {}
        for holder in holders:
            merged |= holder.attrs
        return {name: value(self.description) if callable(value) else value for name, value in merged.items()}


def _names(io):
    """The pins of an amaranth-boards entry; of a differential pair the positive one, which stands for both."""
    return getattr(io, "p", io).names


_ICE40_FTDI = (ICEPROG, open_fpga_loader("-b", "ice40_generic"))

BOARDS = {board.name: board for board in (
    Board("icebreaker", "icebreaker", "ICEBreakerPlatform", "FT2232H", _ICE40_FTDI, pad=True),
    Board("icesugar", "icesugar", "ICESugarPlatform", "iCELink", (ICESPROG,), pad=True),
    Board("icesugar_nano", "icesugar_nano", "ICESugarNanoPlatform", "iCELink", (ICESPROG,)),
    Board("icestick", "icestick", "ICEStickPlatform", "FT2232H", _ICE40_FTDI),
    Board("nandland_go", "nandland_go", "NandlandGoPlatform", "FT2232H", _ICE40_FTDI, boot_offset=0x10000),
    Board("blackice", "blackice", "BlackIcePlatform", "CH340", (COPY,)),
    Board("blackice_ii", "blackice_ii", "BlackIceIIPlatform", "CH340", (COPY,)),
    Board("hx8k", "ice40_hx8k_b_evn", "ICE40HX8KBEVNPlatform", "FT2232H", (ICEPROG_MEMORY, *_ICE40_FTDI[1:])),
    *(Board(f"ulx3s-{size}f", "ulx3s", f"ULX3S_{size}F_Platform", "FT231X", (open_fpga_loader("-b", "ulx3s"),))
      for size in (12, 25, 45, 85)),
    Board("icepi_zero", "icepi_zero", "IcepiZero1_3Platform", "FT231X", (open_fpga_loader("-b", "icepi-zero"),)),
    Board("icesugar_pro", "icesugar_pro", "ICESugarProPlatform", "iCELink", (ICESPROG,)),
    Board("colorlight_5a75b", "colorlight_5a75b_r7_0", "Colorlight_5A75B_R70Platform", "pin header",
          (open_fpga_loader("-b", "colorlight", "-c", "ft232"),)),
    # Its flash holds the loader that dfu-util talks to.
    Board("supercon19badge", "supercon19badge", "Supercon19BadgePlatform", "pin header", (DFU,), own_flash=False),
    Board("versa_ecp5", "versa_ecp5", "VersaECP5Platform", "FT2232H", (open_fpga_loader("-c", "ft2232"),)),
    Board("versa_ecp5_5g", "versa_ecp5_5g", "VersaECP55GPlatform", "FT2232H", (open_fpga_loader("-c", "ft2232"),)),
    *(Board(f"ecpix5-{size}f", "ecpix5", f"ECPIX5{size}Platform", "FT2232H", (open_fpga_loader("-b", "ecpix5"),))
      for size in (45, 85)),
    # Two resistors have to be moved before its bridge reaches the UART.
    Board("ecp5_5g_evn", "ecp5_5g_evn", "ECP55GEVNPlatform", "FT2232H", (open_fpga_loader("-b", "ecp5_evn"),)),
    # It starts from a flash of its own, so all of the other one is free.
    Board("tang_nano_9k", "tang_nano_9k", "TangNano9kPlatform", "BL702",
          (open_fpga_loader("-b", "tangnano9k", external=True),), boot_offset=0),
    Board("tang_primer_20k", "tang_primer_20k", "TangPrimer20kDockPlatform", "BL702",
          (open_fpga_loader("-b", "tangprimer20k", external=True),)),
)}


def find(name):
    """The `Board` called ``name``; raises `SpikeloomError` when there is none."""
    try:
        return BOARDS[name]
    except KeyError:
        raise SpikeloomError(f"Board must be one of {', '.join(BOARDS)}, not {name!r}") from None
