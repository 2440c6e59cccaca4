"""Synthesis, place and route of a design on the devices of the benchmarks; finished work is kept under build/."""

import hashlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from spikeloom import tools
from spikeloom.boards import flow
from spikeloom.errors import SpikeloomError
from spikeloom.hw.verilog import convert

CACHE = Path(__file__).parents[1] / "build" / "silicon"
SEEDS = range(1, 6)

DEVICES = {
    "up5k": flow.Device("ice40", "iCE40UP5K SG48", ("--up5k", "--package", "sg48")),
    "hx8k": flow.Device("ice40", "iCE40HX8K CT256", ("--hx8k", "--package", "ct256")),
    "ecp5-25f": flow.Device("ecp5", "LFE5U-25F-6 CABGA381", ("--25k", "--package", "CABGA381", "--speed", "6")),
}
#: MHz for place and route to aim at: out of reach, so that it does its best.
AIMS = {"up5k": 60, "hx8k": 170, "ecp5-25f": 160}


@dataclass(frozen=True)
class Silicon:
    """A design on a device.

    Parameters
    ----------
    luts : int
        after synthesis: LUT4, those that adders take on ECP5 included
    ffs : int
    logic : int
        the device's logic cells: LUT and flip-flop pairs on iCE40 (ICESTORM_LC), LUTs on ECP5 (TRELLIS_COMB)
    blocks : int
        block RAMs
    clocks : tuple of float
        MHz, one for each placement seed
    """

    luts: int
    ffs: int
    logic: int
    blocks: int
    clocks: tuple[float, ...]

    @property
    def clock(self):
        """The median, in MHz."""
        return statistics.median(self.clocks)


class Unfinished(LookupError):
    """Work that no earlier run has finished, where none is to be begun."""


def kept(key, name, work, *, begin=True):
    """The JSON result ``work()`` as kept from an earlier run with this ``key`` (any JSON value), or done now.

    Raises `Unfinished` instead of beginning it, when told not to ``begin``.
    """
    path = _folder(key) / f"{name}.json"
    if not path.exists():
        if not begin:
            raise Unfinished(name)
        result = work()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result))
        part.replace(path)
    return json.loads(path.read_text())


def _folder(key):
    folder = CACHE / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def implement(component, device_name, seeds=SEEDS, *, begin=True):
    """``component`` on a device of `DEVICES`; a `Silicon`, or None when it does not fit. ``begin`` as in `kept`."""
    device = DEVICES[device_name]
    family = flow.FAMILIES[device.family]
    text = convert(component, "top")
    key = [text, device_name, AIMS[device_name], family.synth, family.placers,
           [str(tools.find(name)) for name in family.tools[:2]]]
    folder = _folder(key)

    def synthesize():
        (folder / "top.v").write_text(text)
        netlist = flow.synthesize(folder / "top.v", device.family, folder / "netlist.json", progress=print)
        return {"luts": netlist.luts, "ffs": netlist.ffs}

    def place(seed):
        try:
            routed = flow.place_and_route(folder / "netlist.json", device, clock=AIMS[device_name], seed=seed,
                                          progress=print)
        except SpikeloomError as error:
            if "too small" not in str(error):
                raise
            return {"excess": str(error)}
        return {"clock": routed.clock, "logic": routed.used[family.logic], "blocks": routed.used[family.block]}

    netlist = kept(key, "synthesis", synthesize, begin=begin)
    placed = []
    for seed in seeds:
        placed.append(kept(key, f"seed{seed}", lambda seed=seed: place(seed), begin=begin))
        if "excess" in placed[-1]:
            print(f"  {device_name}: {placed[-1]['excess']}", flush=True)
            return None
    return Silicon(netlist["luts"], netlist["ffs"], placed[0]["logic"], placed[0]["blocks"],
                   tuple(each["clock"] for each in placed))
