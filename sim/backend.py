"""One question, several machines: run inputs on a backend and hold every spike and membrane to the reference."""

import time
from dataclasses import dataclass

from spikeloom import reference
from spikeloom.compiler.program import Program
from spikeloom.errors import SpikeloomError

from . import trace

__all__ = ["BACKENDS", "Simulation", "verify"]


@dataclass(frozen=True)
class Simulation:
    """Attributes: the `Trace` seen, the one expected, the first `Difference` (or None), clock cycles (None where the
    backend has no clock) and seconds of wall time, compiling included."""

    seen: reference.Trace
    expected: reference.Trace
    difference: trace.Difference | None
    cycles: int | None
    seconds: float


def _reference(program, inputs, *, load=None, **_):
    return reference.run(_network(load or program), inputs), None


def _torch(program, inputs, *, load=None, **_):
    from spikeloom.training import model
    return model.run(_network(load or program), inputs), None


def _amaranth(program, inputs, *, load=None, stall=0.0, seed=0, **_):
    from . import pysim
    return pysim.run(program, inputs, load=load, stall=stall, seed=seed)


def _cosimulated(simulator):
    def run(program, inputs, *, load=None, stall=0.0, seed=0, folder="build/sim", progress=None):
        from . import cosim
        seen = cosim.run(program, inputs, load=load, simulator=simulator, stall=stall, seed=seed, folder=folder,
                         progress=progress)
        return seen.trace, int(seen.finished[-1])
    return run


def _netlist(program, inputs, *, folder="build/sim", **options):
    from . import cosim, netlist
    design = netlist.array(program, folder=folder)
    seen = cosim.run(program, inputs, design=design, simulator=cosim.preferred(), folder=folder, **options)
    return seen.trace, int(seen.finished[-1])


#: Name to function(program or network, inputs, **options) -> (Trace, cycles or None).
BACKENDS = {
    "reference": _reference,
    "torch": _torch,
    "amaranth": _amaranth,
    "verilator": _cosimulated("verilator"),
    "icarus": _cosimulated("icarus"),
    "netlist": _netlist,
}

#: Backends that need no gateware, and so take a network as well as a program.
OF_NETWORKS = ("reference", "torch")


def _network(program):
    return program.network if isinstance(program, Program) else program


def verify(program, inputs, backend, **options):
    """Run ``inputs`` (samples, time steps, n_in) on ``backend`` and on the reference; a `Simulation`.

    ``program`` is a `Program`, or for the backends ``reference`` and ``torch`` a `Network` too. Options: ``load`` (a
    program of the same shape that is loaded into the array and runs in its place), ``stall``
    (chance of each side to hesitate), ``seed``, ``folder`` (for compiled simulators), ``progress`` (told the
    samples done). Raises `SpikeloomError` for an unknown backend or inputs that do not fit.
    """
    if backend not in BACKENDS:
        raise SpikeloomError(f"Backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend not in OF_NETWORKS and not isinstance(program, Program):
        raise SpikeloomError(f"Backend {backend} simulates gateware and needs a program: compile the network first")
    if not 0 <= options.get("stall", 0.0) < 1:
        raise SpikeloomError(f"Stall must be a chance of at least 0 and below 1, not {options['stall']}")
    network = _network(options.get("load") or program)
    inputs = reference.check_inputs(network, inputs)
    expected = reference.run(network, inputs)
    started = time.perf_counter()
    seen, cycles = BACKENDS[backend](program, inputs, **options)
    seconds = time.perf_counter() - started
    return Simulation(seen, expected, trace.first_difference(network, expected, seen), cycles, seconds)
