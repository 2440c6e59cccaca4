"""From Verilog to a bitstream, step by step, the same for each family of devices."""

import collections
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from spikeloom import tools
from spikeloom.errors import SpikeloomError

__all__ = ["FAMILIES", "Device", "Family", "Netlist", "Routed", "constraints", "pack", "place_and_route", "synthesize"]


@dataclass(frozen=True)
class Family:
    """How the open tools build for a family.

    Parameters
    ----------
    synth : str
        the Yosys command, without names
    nextpnr, packer : str
        the tools
    placers : tuple of str
        nextpnr's, in the order to try them when one fails
    luts : dict
        four-input look-up tables in each kind of netlist cell
    ff : str
        what the names of flip-flop cells begin with
    logic, block : str
        nextpnr's names of logic cells and block RAMs
    unconstrained : tuple of str
        nextpnr's options that let it choose pins
    suffix : str
        of a bitstream file
    limit : int, optional
        seconds that nextpnr's placer gets, where it goes on looking though there are too few places
    """

    synth: str
    nextpnr: str
    packer: str
    placers: tuple[str, ...]
    luts: dict[str, int]
    ff: str
    logic: str
    block: str
    unconstrained: tuple[str, ...]
    suffix: str
    limit: int | None = None

    @property
    def tools(self):
        return "yosys", self.nextpnr, self.packer


FAMILIES = {
    # Eight neighbouring cells share a clock enable. With one for every few flip-flops a full device cannot be placed.
    "ice40": Family("synth_ice40 -dffe_min_ce_use 4", "nextpnr-ice40", "icepack", ("heap",), {"SB_LUT4": 1}, "SB_DFF",
                    "ICESTORM_LC", "ICESTORM_RAM", ("--pcf-allow-unconstrained",), ".bin"),
    # The electrostatic placer's designs run ten percent faster here than the default's.
    "ecp5": Family("synth_ecp5", "nextpnr-ecp5", "ecppack", ("static", "heap"),
                   {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}, "TRELLIS_FF",
                   "TRELLIS_COMB", "DP16KD", ("--lpf-allow-unconstrained",), ".bit"),
    "gowin": Family("synth_gowin", "nextpnr-himbaechel-gowin", "gowin_pack", ("heap",),
                    {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1, "RAM16SDP4": 4}, "DFF",
                    "LUT4", "BSRAM", (), ".fs", limit=600),
}


@dataclass(frozen=True)
class Device:
    """A device in its package.

    Parameters
    ----------
    family : str
        of `FAMILIES`
    name : str
        as its maker calls it
    nextpnr_options, packer_options : tuple of str
        that select it
    synth_options : str
        likewise for Yosys
    """

    family: str
    name: str
    nextpnr_options: tuple[str, ...]
    packer_options: tuple[str, ...] = ()
    synth_options: str = ""


@dataclass(frozen=True)
class Netlist:
    """What synthesis made.

    Parameters
    ----------
    path : Path
        of the netlist, JSON as nextpnr reads it
    cells : dict
        how many of each kind of cell
    luts, ffs : int
        four-input look-up tables (adders included where they are made of them), and flip-flops
    layers : dict
        ``luts`` by layer name; "" for what belongs to none
    logic : dict
        likewise the device's logic cells, but for those that only pass on carries: look-up tables, and on iCE40
        flip-flops that do not share the cell of one
    """

    path: Path
    cells: dict[str, int]
    luts: int
    ffs: int
    layers: dict[str, int]
    logic: dict[str, int]


@dataclass(frozen=True)
class Routed:
    """What place and route made.

    Parameters
    ----------
    clock : float
        MHz that the slowest path allows
    used, available : dict
        of each kind of cell of the device, by nextpnr's name
    """

    clock: float
    used: dict[str, int] = field(default_factory=dict)
    available: dict[str, int] = field(default_factory=dict)


def synthesize(verilog, family, netlist, *, options="", progress=None):
    """Turn the file ``verilog`` (module ``top``) into the file ``netlist`` with Yosys; a `Netlist`."""
    verilog, netlist = Path(verilog), Path(netlist)
    form = FAMILIES[family]
    tools.find("yosys").run(
        ["-q", "-l", f"{netlist.stem}.yosys.log", "-p",
         f"read_verilog {verilog.name}; {form.synth} {options} -top top -json {netlist.name}"],
        cwd=verilog.parent, progress=progress)
    found = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    cells, layers = collections.Counter(cell["type"] for cell in found.values()), collections.Counter()
    for name, cell in found.items():
        layers[_layer(name)] += form.luts.get(cell["type"], 0)
    logic = layers.copy()
    if family == "ice40":
        logic.update(_layer(name) for name in _alone(found, form))
    ffs = sum(count for kind, count in cells.items() if kind.startswith(form.ff))
    return Netlist(netlist, dict(sorted(cells.items())), layers.total(), ffs, dict(sorted(layers.items())),
                   dict(sorted(logic.items())))


def place_and_route(netlist, device, *, output=None, constraints=None, clock=0.0, seed=1, progress=None):
    """Place and route the file ``netlist`` with nextpnr; a `Routed`.

    Parameters
    ----------
    output : Path, optional
        what to write for the packer
    constraints : Path, optional
        pins and clock; without it nextpnr chooses the pins
    clock : float
        MHz to aim for; missing them is no error
    seed : int
        of the placement
    """
    netlist = Path(netlist)
    form = FAMILIES[device.family]
    report = netlist.with_name(f"{netlist.stem}.{seed}.report.json")
    log = netlist.with_name(f"{netlist.stem}.{seed}.nextpnr.log")
    arguments = [*device.nextpnr_options, "--json", netlist.name, "--seed", seed, "--freq", clock,
                 "--timing-allow-fail", "--report", report.name, "--log", log.name, "-q"]
    if constraints is None:
        arguments += form.unconstrained
    arguments += {"ice40": _ice40_files, "ecp5": _ecp5_files, "gowin": _gowin_files}[device.family](
        constraints and constraints.name, output and output.name)

    def run(*options, limit=None):
        tools.find(form.nextpnr).run([*arguments, *options], cwd=netlist.parent, progress=progress, limit=limit)

    for placer in form.placers:
        try:
            if form.limit:
                run("--pack-only")
                if _excess(log, device):
                    raise SpikeloomError(_excess(log, device))
            run("--placer", placer, limit=form.limit)
            break
        except SpikeloomError as error:
            excess = _excess(log, device)
            if excess or placer == form.placers[-1]:
                raise SpikeloomError(excess or f"{device.name}: {error}") from None
    result = json.loads(report.read_text())
    clocks = [entry["achieved"] for entry in result["fmax"].values()]
    if not clocks:
        raise SpikeloomError(f"{device.name}: {form.nextpnr} reports no clock")
    cells = result["utilization"]
    return Routed(round(min(clocks), 2), {name: cell["used"] for name, cell in cells.items()},
                  {name: cell["available"] for name, cell in cells.items()})


def pack(routed, device, bitstream, *, progress=None):
    """Turn nextpnr's output file ``routed`` into the file ``bitstream``."""
    form = FAMILIES[device.family]
    output = ["-o", bitstream.name, routed.name] if device.family == "gowin" else [routed.name, bitstream.name]
    tools.find(form.packer).run([*device.packer_options, *output], cwd=bitstream.parent, progress=progress)


def constraints(pins, device):
    """The text of nextpnr's constraints file: port by port the pin and its attributes."""
    lines = []
    for port, (pin, attributes) in pins.items():
        if device.family == "ice40":
            pullup = "-pullup yes " if attributes.get("PULLUP") else ""
            lines.append(f"set_io {pullup}{port} {pin}")
        elif device.family == "ecp5":
            settings = " ".join(f"{name}={value}" for name, value in attributes.items())
            lines += [f'LOCATE COMP "{port}" SITE "{pin}";', f'IOBUF PORT "{port}" {settings};']
        else:
            settings = " ".join(f"{name}={value}" for name, value in attributes.items())
            lines += [f'IO_LOC "{port}" {pin};', f'IO_PORT "{port}" {settings};']
    return "".join(f"{line}\n" for line in lines)


def _ice40_files(constraints, output):
    return [*(["--pcf", constraints] if constraints else []), *(["--asc", output] if output else [])]


def _ecp5_files(constraints, output):
    return [*(["--lpf", constraints] if constraints else []), *(["--textcfg", output] if output else [])]


def _gowin_files(constraints, output):
    return [*(["--vopt", f"cst={constraints}"] if constraints else []), *(["--write", output] if output else [])]


def _alone(cells, form):
    """Names of the flip-flops that no look-up table feeds which feeds nothing else."""
    sources, readers = {}, collections.Counter()
    for cell in cells.values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                sources.update((bit, cell["type"]) for bit in bits)
            else:
                readers.update(bits)
    inputs = {name: cell["connections"]["D"][0] for name, cell in cells.items() if cell["type"].startswith(form.ff)}
    return [name for name, bit in inputs.items() if sources.get(bit) not in form.luts or readers[bit] > 1]


def _layer(cell):
    """The layer that a cell's hierarchical name tells, or "". """
    match = re.search(r"(?:^|\.)layer_(\w+?)\.", cell)
    return match[1] if match else ""


def _excess(log, device):
    """One line on what the design has too much of, from nextpnr's log; empty if it is not that."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    over = [(name, int(used), int(available)) for name, used, available
            in re.findall(r"(\w+): +(\d+)/ *(\d+) +\d+%", text) if int(used) > int(available)]
    form = FAMILIES[device.family]
    names = {form.logic: "logic cells", form.block: "block RAMs"}
    return over and f"{device.name} is too small: " + ", ".join(
        f"{used} {names.get(name, name)} of {available} ({used - available} too many)"
        for name, used, available in dict.fromkeys(over))
