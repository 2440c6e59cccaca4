"""A packed bitstream taken apart again: the Verilog of what its bits say, to be simulated between the board's pins.

For iCE40, whose bits Project IceStorm turns back into a circuit. What it shows covers everything after synthesis too:
placement, routing, packing, the initial content of memories.
"""

import re
import tempfile
from pathlib import Path

from spikeloom import tools
from spikeloom.boards import BuildReport, find
from spikeloom.errors import SpikeloomError

from . import netlist
from .virtual import VirtualBoard

__all__ = ["sources", "virtual_board"]


def sources(folder):
    """The Verilog of the build in ``folder``, module ``top`` with the board's pins, and models of its cells: file name
    to text.

    Its clock is the one behind the PLL, which is a wire here. Raises `SpikeloomError` when there is no such build, the
    bitstream is not for iCE40, or a tool is missing.
    """
    folder = Path(folder)
    build = BuildReport.load(folder)
    device = find(build.board).device
    if device.family != "ice40":
        raise SpikeloomError(f"{folder}: the bitstream is for {device.name}, and only those for iCE40 can be unpacked")
    package = device.nextpnr_options[device.nextpnr_options.index("--package") + 1]
    with tempfile.TemporaryDirectory(prefix="spikeloom-") as work:
        work = Path(work)
        (work / "top.bin").write_bytes((folder / build.bitstream).read_bytes())
        (work / "top.pins").write_text(_plain((folder / "top.pins").read_text()))
        tools.find("iceunpack").run(["top.bin", "top.asc"], cwd=work)
        text = tools.find("icebox_vlog").run(["-s", "-n", "top", "-d", package, "-p", "top.pins", "top.asc"], cwd=work)
    # Ports are declared once more as wires, which Verilog wants declared in its older way.
    text = re.sub(r"^module top \((.*)\);$", lambda found: "module top ({});\n{}".format(
        ", ".join(re.findall(r"\w+ (\w+)", found[1])), "".join(f"{port};\n" for port in found[1].split(", "))),
        text, count=1, flags=re.MULTILINE)
    # icebox_vlog does not follow the wire from the PLL to the pad beside it, where the clock comes in.
    text = re.sub(r"\.PACKAGEPIN\(\w+\)", ".PACKAGEPIN(clk)", text)
    return {"top.v": text, "cells.v": netlist.models("ice40", text, _PLL)}


def virtual_board(program, folder, *, work="build/sim", progress=None):
    """A `VirtualBoard` that runs the bitstream of the build in ``folder``.

    Raises `SpikeloomError` when it was built from another program, or not for a UART, and as `sources` does.
    """
    build = BuildReport.load(folder)
    if build.build != program.build_digest:
        raise SpikeloomError(f"{folder}: was built from another program; build it again")
    if build.transport != "uart":
        raise SpikeloomError(f"{folder}: the bitstream has no UART")
    if program.starts_empty:
        raise SpikeloomError(f"{folder}: weights are in single-port memory, which icebox_vlog does not unpack")
    return VirtualBoard(program, clock=round(build.target_clock * 1e6), baud=build.baud, sources=sources(folder),
                        options=[f"-D{name}" for name in netlist.DEFINES] + list(netlist.LINT), folder=work,
                        progress=progress)


def _plain(pins):
    """Constraints with nothing but ports and pins, which is all that icebox_vlog reads."""
    return "".join(f"set_io {port} {pin}\n" for port, pin in
                   re.findall(r"^set_io (?:-\S+ \S+ )*(\w+) (\S+)$", pins, re.MULTILINE))


#: The virtual board's clock is the one behind the PLL.
_PLL = "".join(f"""
module SB_PLL40_{kind} #(
  parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK", DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED",
  DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED", SHIFTREG_DIV_MODE = 0, FDA_FEEDBACK = 0, FDA_RELATIVE = 0, DIVR = 0,
  DIVF = 0, DIVQ = 0, FILTER_RANGE = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0
) (
  input {clock}, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK,
  input [7:0] DYNAMICDELAY,
  output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
  assign PLLOUTCORE = {clock}, PLLOUTGLOBAL = {clock}, LOCK = 1'b1, SDO = 1'b0;
endmodule
""" for kind, clock in (("PAD", "PACKAGEPIN"), ("CORE", "REFERENCECLK")))
