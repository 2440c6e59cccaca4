"""Everything that can be shown about a program, one part after the other, written down in a certificate."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from spikeloom import files, reference, tools
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog

from . import backend

__all__ = ["FILE", "KIND", "VERSION", "Certificate", "prove"]

KIND = "certificate"
VERSION = 1

#: Its name, in the folder it is about.
FILE = "certificate.json"

#: Chance to hesitate of each side of a simulated array's streams.
STALL = 0.2

#: What a part can come to. The first three are no reason to doubt.
RESULTS = ("equal", "holds", "not run", "no answer", "differs", "fails")


@dataclass
class Certificate:
    """What was shown about a program; the content of ``certificate.json``.

    Attributes
    ----------
    program, network, gateware, inputs : str
        digests: of the program, of its network, of its array's Verilog, of the samples' inputs
    samples : int
    tools : dict
        version and origin of each tool
    parts : dict
        name to what was shown: ``result`` (of `RESULTS`), ``seconds``, and what else there is to say, such as
        ``spikes`` and ``membranes`` compared, the first ``difference``, ``claim`` and ``depth`` of a proof (0 is all
        time), or ``why`` it was not run
    """

    program: str
    network: str
    gateware: str
    inputs: str
    samples: int
    tools: dict[str, str]
    parts: dict[str, dict] = field(default_factory=dict)

    @property
    def good(self):
        """Nothing differs, and no proof fails."""
        return all(part["result"] not in ("differs", "fails") for part in self.parts.values())

    def __str__(self):
        width = max((len(name) for name in self.parts), default=0)
        return "\n".join(f"{name.ljust(width)}  {describe(part)}" for name, part in self.parts.items())

    def save(self, path):
        """Write it, complete or not at all."""
        files.write_text(path, json.dumps({"kind": KIND, "version": VERSION, **vars(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path):
        """Read a certificate; raises `SpikeloomError` when there is no valid one."""
        path = Path(path)
        try:
            fields = json.loads(path.read_text())
        except OSError as error:
            raise SpikeloomError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise SpikeloomError(f"{path}: not a certificate, truncated or corrupted ({error})") from None
        if not isinstance(fields, dict) or (fields.pop("kind", None), fields.pop("version", None)) != (KIND, VERSION):
            raise SpikeloomError(f"{path}: not a certificate of version {VERSION}")
        try:
            made = cls(**fields)
            if any(part["result"] not in RESULTS for part in made.parts.values()):
                raise SpikeloomError(f"{path}: a part came to something that is not known here")
        except (AttributeError, KeyError, TypeError) as error:
            raise SpikeloomError(f"{path}: a field is missing or not known ({error})") from None
        return made


def describe(part):
    """What a part came to, in a line."""
    said = [part["result"]]
    if "claim" in part:
        said.append(f"{part['depth']} cycles" if part["depth"] else "for all time")
    said += [f"{part[what]:,} {what}" for what in ("samples", "spikes", "membranes", "scores") if what in part]
    said += [part[what] for what in ("difference", "why") if part.get(what)]
    return ", ".join(said)


def prove(program, inputs, folder, *, build=None, work="build/sim", timeout=600, progress=None):
    """Show all that can be shown about ``program`` with ``inputs`` (samples, time steps, n_in); a `Certificate`.

    It is written to ``certificate.json`` in ``folder`` after each part. What an earlier run finished with the same
    gateware, inputs and tools are kept.

    Parameters
    ----------
    build : path, optional
        of a finished build, whose bitstream is simulated where that can be done
    work : path
        where simulators are kept
    timeout : float
        seconds for each formal proof
    progress : callable, optional
        called with a line of text before and after each part
    """
    say = progress or (lambda text: None)
    inputs = reference.check_inputs(program.network, inputs)
    path = Path(folder) / FILE
    begun = Certificate(
        program.digest, program.network.digest, hashlib.sha256(verilog.generate(program).encode()).hexdigest(),
        hashlib.sha256(json.dumps(inputs.shape).encode() + inputs.astype("<i8").tobytes()).hexdigest(), len(inputs),
        tools.versions())
    made = _continued(path, begun)
    if made.parts.get("bitstream", {}).get("bitstream") != _bitstream_digest(build):
        made.parts.pop("bitstream", None)
    for name, part in _parts(program, inputs, build, work, timeout):
        if made.parts.get(name, {}).get("result") in ("equal", "holds"):
            say(f"{name}: {describe(made.parts[name])} (kept)")
            continue
        say(f"{name}: …")
        started = time.perf_counter()
        try:
            shown = part()
        except SpikeloomError as error:
            shown = {"result": "not run", "why": str(error)}
        made.parts[name] = {**shown, "seconds": round(time.perf_counter() - started, 2)}
        made.save(path)
        say(f"{name}: {describe(made.parts[name])}")
    return made


def _continued(path, begun):
    """The certificate at ``path`` where it is about the same things, else ``begun``."""
    try:
        found = Certificate.load(path)
    except SpikeloomError:
        return begun
    about = ("program", "network", "gateware", "inputs", "samples", "tools")
    return found if all(getattr(found, name) == getattr(begun, name) for name in about) else begun


def _parts(program, inputs, build, work, timeout):
    """Name and function of each part, from cheap to final."""
    from . import formal
    for proof in formal.proofs(program):
        yield f"proof: {proof.name}", lambda proof=proof: _proved(proof, timeout)
    for name, options in (("verilator", {}), ("verilator, with stalls", {"stall": STALL}), ("netlist", {})):
        yield name, lambda name=name, options=options: _simulated(program, inputs, name.split(",")[0], work, options)
    yield "virtual board", lambda: _on_virtual_board(program, inputs, work)
    yield "bitstream", lambda: _on_bitstream(program, inputs, build, work)


def _proved(proof, timeout):
    from . import formal
    holds = formal.prove(proof, timeout=timeout).holds
    return {"result": {True: "holds", False: "fails", None: "no answer"}[holds], "claim": proof.claim,
            "depth": proof.depth, "engine": "abc bmc3" if proof.depth else "abc pdr"}


def _simulated(program, inputs, name, work, options):
    result = backend.verify(program, inputs, name, folder=work, **options)
    return {"result": "equal" if result.difference is None else "differs", "difference": _text(result.difference),
            "samples": len(inputs), "spikes": sum(int(np.count_nonzero(layer)) for layer in result.seen.spikes),
            "membranes": sum(layer.size for layer in result.seen.membranes), "cycles": result.cycles}


def _on_virtual_board(program, inputs, work):
    from .virtual import VirtualBoard
    return _held(VirtualBoard(program, folder=work), program, inputs)


def _on_bitstream(program, inputs, build, work):
    from . import bitstream
    if build is None:
        raise SpikeloomError("there is no build")
    shown = _held(bitstream.virtual_board(program, build, work=work), program, inputs)
    return {**shown, "bitstream": _bitstream_digest(build)}


def _bitstream_digest(build):
    from spikeloom.boards import BuildReport
    return None if build is None else BuildReport.load(build).bitstream_digest


def _held(board, program, inputs):
    """What the host's own `verify` finds on a board."""
    from spikeloom.boards import connection, host
    with board, connection.connect(board.port, baud=board.baud) as connected:
        if not connected.loaded:
            connected.load(program)
        result = host.verify(connected, program, inputs)
    return {"result": "equal" if result.difference is None else "differs", "difference": _text(result.difference),
            "samples": result.samples, "spikes": result.spikes, "scores": result.scores, "cycles": result.cycles}


def _text(difference):
    return None if difference is None else str(difference)
