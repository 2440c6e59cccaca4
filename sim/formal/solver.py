"""Hand a proof to SymbiYosys."""

import re
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import UnusedElaboratable
from spikeloom import tools
from spikeloom.errors import SpikeloomError

__all__ = ["Verdict", "prove"]


#: Values that the solver chooses: in each cycle anew, or once.
_FREE = "".join(f"""
module {kind} #(parameter WIDTH = 1) (output [WIDTH - 1:0] value);
  (* {kind} *) wire [WIDTH - 1:0] chosen;
  assign value = chosen;
endmodule
""" for kind in ("anyseq", "anyconst"))


@dataclass(frozen=True)
class Verdict:
    """What became of a proof.

    Attributes
    ----------
    holds : bool or None
        None when no answer came in time
    seconds : float
        wall time
    """

    holds: bool | None
    seconds: float


def prove(proof, *, timeout=600):
    """Run a `Proof` for at most ``timeout`` seconds; a `Verdict`.

    Raises `SpikeloomError` when the tools fail or are missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        text = verilog.convert(proof.harness(), name="top", ports=[], emit_src=False)
    # A proof for all time needs no depth; a bounded one ends at its own.
    options = f"mode bmc\ndepth {proof.depth}" if proof.depth else "mode prove"
    engine = "abc bmc3" if proof.depth else "abc pdr"
    job = f"""[options]
{options}
timeout {timeout}
aigsmt none
[engines]
{engine}
[script]
read_verilog -formal top.v
prep -top top
memory_map
opt -full
[files]
top.v
"""
    sby, yosys = tools.find("sby"), tools.find("yosys")
    # SymbiYosys would take whatever Yosys is on PATH, which may be too old for it.
    own = {"yosys": yosys.command[0], "abc": f"{sys.executable} -m spikeloom.sim.formal.abc",
           "witness": f"{yosys.command[0]}-witness"}
    chosen = [part for name, command in own.items() for part in (f"--{name}", command)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="spikeloom-") as folder:
        folder = Path(folder)
        (folder / "top.v").write_text(text + _FREE)
        (folder / "job.sby").write_text(job)
        try:
            output = sby.run([*chosen, "-f", "job.sby"], cwd=folder)
        except SpikeloomError as error:
            output = error.output
            if "DONE (" not in output:
                raise
    seconds = time.perf_counter() - started
    status = re.search(r"DONE \((\w+)", output)
    if status is None or status[1] not in ("PASS", "FAIL", "TIMEOUT"):
        error = next((line for line in output.splitlines() if "ERROR" in line), "no verdict")
        raise SpikeloomError(f"{proof.name}: SymbiYosys failed: {error}")
    return Verdict({"PASS": True, "FAIL": False, "TIMEOUT": None}[status[1]], seconds)
