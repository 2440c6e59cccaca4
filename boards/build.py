"""From a program to a bitstream for a board, and a report of what it took."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spikeloom import files, tools
from spikeloom.compiler import target
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.board import FittedTop

from . import clocks, flow
from .board import find

__all__ = ["BuildReport", "build"]

#: Most routings on the way to the best clock, and how many placements of one circuit among them: where the first comes
#: this near to its clock, for placements do not differ by more.
PASSES, PLACEMENTS, NEAR = 5, 2, 0.85

KIND = "build"
VERSION = 2
REPORT = "build.json"


@dataclass(frozen=True)
class BuildReport:
    """What a build made; the content of ``build.json`` beside the bitstream.

    Attributes
    ----------
    board, device : str
    seed : int
        of the placement
    program, network : str
        digests of what it was built from
    build : str
        digest of what could be loaded into it, and what the board answers to the host
    target_clock, clock : float
        MHz: what the array runs at on the board, and what the slowest path would allow
    clock_source : str
        what makes it: "oscillator", or "PLL" and its divisors
    transport : "uart" or "spi"
    baud : int
        bits per second of the UART, 0 over SPI
    boot_offset : int or None
        where in the SPI flash it looks for a start image (bytes)
    luts, ffs : int
        four-input look-up tables and flip-flops after synthesis
    logic_used, logic_available, blocks_used, blocks_available : int
        of the device's logic cells and block RAMs
    layers : dict
        ``luts`` by layer name; "" for what belongs to none
    cells : dict
        used, of each kind of the device's cells
    tools : dict
        version and origin of each tool
    inputs : str
        digest of everything the bitstream depends on
    bitstream, bitstream_digest : str
        file name beside ``build.json``, and its SHA-256
    reused : bool
        this call found a finished build
    path : Path
        of the folder; not stored
    """

    board: str
    device: str
    seed: int
    program: str
    network: str
    build: str
    target_clock: float
    clock_source: str
    clock: float
    transport: str
    baud: int
    boot_offset: int | None
    luts: int
    ffs: int
    logic_used: int
    logic_available: int
    blocks_used: int
    blocks_available: int
    layers: dict[str, int]
    cells: dict[str, int]
    tools: dict[str, str]
    inputs: str
    bitstream: str
    bitstream_digest: str
    reused: bool = False
    path: Path | None = None

    def __str__(self):
        layers = ", ".join(f"{name or 'the rest'} {luts}" for name, luts in self.layers.items())
        tools = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        link = f"UART at {self.baud} baud" if self.baud else "SPI"
        start = "" if self.boot_offset is None else f", starts from flash at {self.boot_offset:#x}"
        return (f"{self.path / self.bitstream}{' (up to date)' if self.reused else ''}: {self.board}, {self.device}\n"
                f"runs at {self.target_clock:g} MHz ({self.clock_source}), routed for up to {self.clock:g} MHz "
                f"(placement seed {self.seed}); {link}{start}\n"
                f"{self.logic_used} of {self.logic_available} logic cells, {self.blocks_used} of "
                f"{self.blocks_available} block RAMs, {self.ffs} flip-flops, {self.luts} LUTs: {layers}\n"
                f"{tools}")

    def save(self):
        """Write ``build.json``, complete or not at all."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                  if field.name not in ("reused", "path")}
        files.write_text(self.path / REPORT,
                         json.dumps({"kind": KIND, "version": VERSION, **fields}, indent=1) + "\n")

    @classmethod
    def load(cls, folder):
        """Read the report in ``folder``; raises `SpikeloomError` when there is no valid one."""
        path = Path(folder) / REPORT
        try:
            fields = json.loads(path.read_text())
        except OSError as error:
            raise SpikeloomError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise SpikeloomError(f"{path}: not a build report, truncated or corrupted ({error})") from None
        if not isinstance(fields, dict) or (fields.pop("kind", None), fields.pop("version", None)) != (KIND, VERSION):
            raise SpikeloomError(f"{path}: not a build report of version {VERSION}")
        try:
            return cls(**fields, path=Path(folder))
        except TypeError as error:
            raise SpikeloomError(f"{path}: a field is missing or not known ({error})") from None


def build(program, board, out_dir, seed=1, clock=None, baud=None, transport="uart", boot=False, spi_pins=None,
          progress=None):
    """Build ``program`` for ``board`` (a name) into the folder ``out_dir``; a `BuildReport`.

    The folder gets the Verilog (``top.v``), the pins, the bitstream and ``build.json``, each complete or not at
    all, the report last. A finished build of the same program, pins, options and tools is not repeated.

    Parameters
    ----------
    seed : int
        of the placement; the search for the best clock may go on to the next one
    clock : float or "oscillator", optional
        MHz to run the array at; default: the best that the board can make and routing meets, found in a few passes
    baud : int, optional
        bits per second of the UART; default: the fastest that the board's bridge takes and the clock makes
    transport : "uart" or "spi"
    boot : bool
        start from the board's SPI flash
    spi_pins : sequence of str, optional
        of CS, COPI, CIPO and SCK, where they are not on the first PMOD
    progress : callable, optional
        called with a line of text at each step
    """
    say = progress or (lambda text: None)
    board, out_dir = find(board), Path(out_dir)
    if program.target != board.name:
        raise SpikeloomError(f"Board {board.name} cannot carry a program compiled for {program.target}")
    if transport not in ("uart", "spi"):
        raise SpikeloomError(f"Transport must be uart or spi, not {transport!r}")
    if transport == "spi":
        baud = 0
    expected = target.find(program.target).clock
    choice = clocks.best(board, expected, baud=baud) if clock is None else clocks.fixed(board, clock, baud=baud)
    if choice is None:
        choice = clocks.fixed(board, "oscillator", baud=baud)
    connected = board.wiring(transport, boot=boot, spi_pins=spi_pins)
    boot_offset = board.flash if boot else None

    def verilog_of(choice):
        what = f"UART at {choice.baud} baud" if choice.baud else "SPI"
        return verilog.convert(
            FittedTop(program, source=choice.source, fittings=connected.fittings, baud=choice.baud, transport=transport,
                      boot_offset=boot_offset), "top",
            header=[*verilog.describe(program),
                    f"on {board.name} ({board.device.name}) at {choice.clock:g} MHz ({choice.source}), {what}"])

    family = flow.FAMILIES[board.device.family]
    text = verilog_of(choice)
    pins = flow.constraints(connected.pins, board.device)
    versions = {name: str(tools.find(name)) for name in family.tools}
    flows = dataclasses.astuple(family), dataclasses.astuple(board.device)
    inputs = hashlib.sha256(
        json.dumps([VERSION, text, pins, seed, clock, baud, flows, versions]).encode()).hexdigest()
    finished = _finished(out_dir, inputs)
    if finished:
        say(f"{board.name}: the build in {out_dir} is up to date")
        return finished

    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpikeloomError(f"{out_dir}: cannot be written: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".build.") as work:
        tried, met, netlist, placement = [], None, None, seed
        for number in range(PASSES if clock is None else 1):
            if netlist is None:
                folder = Path(work) / str(number)
                folder.mkdir()
                (folder / "top.v").write_text(text)
                (folder / "top.pins").write_text(pins)
                say(f"{board.name}: synthesis at {choice.clock:g} MHz ({choice.source})")
                netlist = flow.synthesize(folder / "top.v", board.device.family, folder / "top.json",
                                          options=board.device.synth_options, progress=say)
            say(f"{board.name}: place and route, {netlist.luts} LUTs")
            routed = flow.place_and_route(netlist.path, board.device, output=folder / "top.routed",
                                          constraints=folder / "top.pins", clock=max(choice.clock, 1.1 * expected),
                                          seed=placement, progress=say)
            say(f"{board.name}: {routed.clock:g} MHz possible")
            tried.append((choice, routed.clock))
            if routed.clock >= choice.clock:
                met, limit = (choice, netlist, routed, folder, placement), routed.clock
            elif clock is None and placement < seed + PLACEMENTS - 1 and routed.clock >= NEAR * choice.clock:
                placement += 1
                continue
            else:  # no two placements are equal, so right below what these have just missed the next may miss again
                limit = 0.98 * max(reached for each, reached in tried if each == choice)
            choice, netlist, placement = clocks.best(board, limit, baud=baud), None, seed
            if choice is None or choice in [each for each, _ in tried] or (met and not _worth(choice, met[0])):
                break
            text = verilog_of(choice)
        if met is None:
            missed = "; ".join(f"at {each.clock:g} MHz it reaches {reached:g} MHz" for each, reached in tried)
            raise SpikeloomError(f"Board {board.name}: the routed design is too slow for its clock ({missed}): try "
                                 "another seed, or a slower clock")
        choice, netlist, routed, folder, placement = met
        say(f"{board.name}: bitstream")
        bitstream = folder / f"{board.name}{family.suffix}"
        flow.pack(folder / "top.routed", board.device, bitstream, progress=say)
        report = BuildReport(
            board=board.name, device=board.device.name, seed=placement, program=program.digest,
            network=program.network.digest, build=program.build_digest, target_clock=choice.clock,
            clock_source=str(choice.source), clock=routed.clock, transport=transport, baud=choice.baud,
            boot_offset=boot_offset, luts=netlist.luts, ffs=netlist.ffs,
            logic_used=routed.used[family.logic], logic_available=routed.available[family.logic],
            blocks_used=routed.used.get(family.block, 0), blocks_available=routed.available.get(family.block, 0),
            layers=netlist.layers, cells={name: used for name, used in routed.used.items() if used},
            tools=versions, inputs=inputs, bitstream=bitstream.name,
            bitstream_digest=hashlib.sha256(bitstream.read_bytes()).hexdigest(), path=out_dir)
        (out_dir / REPORT).unlink(missing_ok=True)
        for path in (folder / "top.v", folder / "top.pins", bitstream):
            shutil.move(path, out_dir / path.name)  # within one file system: a rename
    report.save()
    return report


def _worth(choice, met):
    """Whether ``choice`` would be enough of a gain over the one that routing ``met`` for another pass."""
    return choice.baud > met.baud or (choice.baud == met.baud and choice.clock > 1.02 * met.clock)


def _finished(out_dir, inputs):
    """The report of a build of these ``inputs`` whose bitstream is still what was built, or None."""
    try:
        report = BuildReport.load(out_dir)
        if report.inputs != inputs:
            return None
        content = (out_dir / report.bitstream).read_bytes()
    except (SpikeloomError, OSError):
        return None
    intact = hashlib.sha256(content).hexdigest() == report.bitstream_digest
    return dataclasses.replace(report, reused=True) if intact else None
