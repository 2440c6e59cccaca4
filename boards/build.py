"""From a program to a bitstream for a board, and a report of what it took."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spikeloom import files, target, tools
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.top import BoardTop

from . import flow
from .board import find

__all__ = ["BAUD", "BuildReport", "build"]

#: Bits per second of the UART, unless said otherwise.
BAUD = 1_000_000

KIND = "build"
VERSION = 1
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
    target_clock, clock : float
        MHz: what the array runs at on the board, and what the slowest path would allow
    baud : int
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
    target_clock: float
    clock: float
    baud: int
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
        return (f"{self.path / self.bitstream}{' (up to date)' if self.reused else ''}: {self.board}, {self.device}\n"
                f"runs at {self.target_clock:g} MHz, routed for up to {self.clock:g} MHz (placement seed {self.seed})\n"
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


def build(program, board, out_dir, seed=1, clock=None, baud=BAUD, progress=None):
    """Build ``program`` for ``board`` (a name) into the folder ``out_dir``; a `BuildReport`.

    The folder gets the Verilog (``top.v``), the pins, the bitstream and ``build.json``, each complete or not at
    all, the report last. A finished build of the same Verilog, pins, seed and tools is not repeated.

    Parameters
    ----------
    seed : int
        of the placement
    clock : float, optional
        MHz to run the array at: the board's oscillator, there being no PLL yet
    baud : int
        bits per second of the UART
    progress : callable, optional
        called with a line of text at each step
    """
    say = progress or (lambda text: None)
    board, out_dir = find(board), Path(out_dir)
    if program.target != board.name:
        raise SpikeloomError(f"Board {board.name} cannot carry a program compiled for {program.target}")
    clock = board.oscillator if clock is None else clock
    if clock != board.oscillator:
        raise SpikeloomError(f"Clock of {board.name} must be its oscillator's {board.oscillator:g} MHz, not {clock:g}")
    divisor = round(clock * 1e6 / baud)
    if divisor < 4 or abs(divisor * baud / (clock * 1e6) - 1) > 0.02:
        raise SpikeloomError(f"Baud rate {baud} cannot be made from {clock:g} MHz: it must divide it to within 2 %, "
                             "by 4 or more")

    device, family = board.device, flow.FAMILIES[board.device.family]
    text = verilog.convert(BoardTop(program, divisor=divisor), "top", header=[
        *verilog.describe(program), f"on {board.name} ({board.device.name}) at {clock:g} MHz, UART at {baud} baud"])
    pins = flow.constraints(board.pins, device)
    versions = {name: str(tools.find(name)) for name in family.tools}
    inputs = hashlib.sha256(json.dumps([VERSION, text, pins, seed, versions]).encode()).hexdigest()
    finished = _finished(out_dir, inputs)
    if finished:
        say(f"{board.name}: the build in {out_dir} is up to date")
        return finished

    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpikeloomError(f"{out_dir}: cannot be written: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".build.") as work:
        work = Path(work)
        source, constraints, bitstream = work / "top.v", work / "top.pins", work / f"{board.name}{family.suffix}"
        source.write_text(text)
        constraints.write_text(pins)
        say(f"{board.name}: synthesis")
        netlist = flow.synthesize(source, device.family, work / "top.json", progress=say)
        say(f"{board.name}: place and route, {netlist.luts} LUTs")
        routed = flow.place_and_route(netlist.path, device, output=work / "top.routed", constraints=constraints,
                                      clock=max(clock, 1.1 * target.find(program.target).clock), seed=seed,
                                      progress=say)
        if routed.clock < clock:
            raise SpikeloomError(f"Board {board.name} runs at {clock:g} MHz, but the routed design only reaches "
                                 f"{routed.clock:g} MHz: try another seed")
        say(f"{board.name}: bitstream, {routed.clock:g} MHz possible")
        flow.pack(work / "top.routed", device, bitstream, progress=say)
        report = BuildReport(
            board=board.name, device=device.name, seed=seed, program=program.digest, network=program.network.digest,
            target_clock=clock, clock=routed.clock, baud=baud, luts=netlist.luts, ffs=netlist.ffs,
            logic_used=routed.used[family.logic], logic_available=routed.available[family.logic],
            blocks_used=routed.used.get(family.block, 0), blocks_available=routed.available.get(family.block, 0),
            layers=netlist.layers, cells={name: used for name, used in routed.used.items() if used},
            tools=versions, inputs=inputs, bitstream=bitstream.name,
            bitstream_digest=hashlib.sha256(bitstream.read_bytes()).hexdigest(), path=out_dir)
        (out_dir / REPORT).unlink(missing_ok=True)
        for path in (source, constraints, bitstream):
            shutil.move(path, out_dir / path.name)  # within one file system: a rename
    report.save()
    return report


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
