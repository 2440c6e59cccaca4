"""Co-simulation: the generated Verilog under cocotb, on Verilator or Icarus."""

import hashlib
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cocotb_tools import runner
from spikeloom import tools
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.reference import Trace

from . import harness, trace, verilator

__all__ = ["Design", "Run", "preferred", "run"]

#: Files on the way to a simulator, which take a hundred times its room.
_BETWEEN = (".a", ".gch", ".o")


@dataclass(frozen=True)
class Design:
    """Verilog of an array with observation ports.

    Attributes
    ----------
    sources : dict
        name to text of the files
    defines : tuple of str
        macros to set
    verilator : tuple of str
        options for it
    """

    sources: dict[str, str]
    defines: tuple[str, ...] = ()
    verilator: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a co-simulation showed.

    Attributes
    ----------
    trace : Trace or None
        every spike and membrane potential, when they were asked for
    spike_counts : list of int arrays (samples, time steps), one for each layer
    scores, winners : int arrays (samples, n_out), (samples,)
    finished : int array (samples,)
        the clock cycle of each sample's last score
    cycles : int
        clock cycles simulated
    seconds : float
        wall time they took
    """

    trace: Trace | None
    spike_counts: list
    scores: np.ndarray
    winners: np.ndarray
    finished: np.ndarray
    cycles: int
    seconds: float


def _simulator(name):
    """The tool, the runner and the build arguments of a simulator."""
    if name == "icarus":
        return tools.find("iverilog"), runner.Icarus(), ["-g2012"]
    return verilator.find(), verilator.Runner(), [
        "--timing", "-Wno-fatal", "-Wno-WIDTHTRUNC", "-Wno-WIDTHEXPAND", "-O3", "-CFLAGS", "-O1 -std=gnu++20",
        "--x-assign", "fast", "--x-initial", "fast"]


def preferred():
    """The simulator to use where any will do: Verilator, or Icarus where there is only that."""
    for name in ("verilator", "icarus"):
        try:
            _simulator(name)
        except SpikeloomError:
            continue
        return name
    return "verilator"  # whose absence is then told


def run(program, inputs, *, load=None, design=None, simulator="verilator", detail=True, stall=0.0, seed=0,
        folder="build/sim", progress=None):
    """Run ``inputs`` (samples, time steps, n_in) through the generated Verilog; what was seen, as a `Run`.

    Parameters
    ----------
    load : Program, optional
        one of the same shape, which is loaded and runs in place of ``program``; a program that starts empty is loaded
        in any case, before cycles are counted
    design : Design, optional
        what to simulate instead of the generated Verilog
    simulator : "verilator" or "icarus"
    detail : bool
        write down every spike and membrane potential, rather than spike counts
    stall : float
        chance of each side to hesitate in a clock cycle
    folder : path
        where compiled simulators are kept for the next run
    progress : callable, optional
        told the number of samples done, now and then

    Raises `SpikeloomError` when the simulator is missing, fails, or the array stops making progress.
    """
    inputs = np.asarray(inputs)
    samples, steps, _ = inputs.shape
    images = program.to_write(load)
    tool, simulation, build_args = _simulator(simulator)
    design = design or Design({f"{verilog.MODULE}.v": verilog.generate(program, observe=True)})
    sources = {**design.sources, f"{harness.TOP}.v": harness.generate(program)}
    build_args += [f"-D{name}" for name in design.defines] + list(design.verilator if simulator == "verilator" else ())
    digest = hashlib.sha256("\0".join([*sources.values(), str(tool), *build_args]).encode()).hexdigest()
    built = Path(folder).resolve() / f"{simulator}-{digest[:16]}"
    with _environment(tool):
        if not (built / "complete").exists():
            _build(simulation, built, sources, build_args)
        with tempfile.TemporaryDirectory(dir=built, prefix="run-") as where:
            where = Path(where)
            _write_words(where / "words.bin", program, trace.input_words(program, inputs))
            _write_images(where / "load.bin", images)
            _simulate(simulation, built, where, progress, [
                f"+stall={round(100 * stall)}", f"+stall_seed={seed}", f"+samples={samples}",
                f"+patience={trace.patience(program, steps)}", *(["+detail"] if detail else [])])
            return _read(program, where, samples, steps, detail, load)


class _environment:
    """The simulator's tools on PATH, with the variables they need, for the length of a block."""

    def __init__(self, tool):
        folder = str(Path(tool.command[0]).parent)
        self.variables = {"PATH": folder + os.pathsep + os.environ.get("PATH", ""), **tool.environment}

    def __enter__(self):
        self.before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)

    def __exit__(self, *_):
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _build(simulation, built, sources, build_args):
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True)
    for name, text in sources.items():
        (built / name).write_text(text)
    log = built / "build.log"
    try:
        simulation.build(sources=[built / name for name in sources], hdl_toplevel=harness.TOP, build_dir=built,
                         build_args=build_args, timescale=("1ns", "1ps"), log_file=log, always=True)
    except (RuntimeError, SystemExit, OSError) as error:
        raise SpikeloomError(f"The simulator could not be built ({error}); see {log}") from None
    for each in built.iterdir():
        if each.suffix in _BETWEEN:
            each.unlink()
    (built / "complete").touch()


def _simulate(simulation, built, where, progress, plusargs):
    ended = threading.Event()

    def watch():
        while not ended.wait(0.5):
            with open(where / "results.txt") as file:
                progress(sum(line.split()[2] == "1" for line in file if line.count(" ") == 3))

    simulation.build_dir = built  # also when an earlier session built it
    simulation.hdl_toplevel = harness.TOP
    if progress:
        (where / "results.txt").touch()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
    log = built / "simulation.log"
    try:
        simulation.test(test_module="spikeloom.sim.cocotb_top", hdl_toplevel=harness.TOP, hdl_toplevel_lang="verilog",
                        build_dir=built, test_dir=where, plusargs=plusargs, log_file=log,
                        results_xml=str(where / "results.xml"), timescale=("1ns", "1ps"))
    except (RuntimeError, SystemExit, OSError) as error:
        raise SpikeloomError(f"The simulation failed ({error}); see {log}") from None
    finally:
        ended.set()
        if progress:
            watcher.join()
    if not (where / "speed.txt").exists():
        text = log.read_text(errors="replace")
        reason = "the array made no progress" if "no result for too long" in text else "the simulator stopped early"
        raise SpikeloomError(f"The simulation failed: {reason}; see {log}")


def _write_words(path, program, words):
    """Input words (words, 4) of index, bits, last and final, packed as the array's payload."""
    index, bits, last, final = words.T
    form = program.i_words
    flags = form.width + form.index_width
    packed = bits | index << form.width | last << flags | final << (flags + 1)
    packed.astype(f">u{harness.WORD_BYTES}").tofile(path)


def _write_images(path, images):
    """A word for each byte of the memories, with its address."""
    at = [np.stack([np.full(len(image.data), number), *np.divmod(np.arange(len(image.data)), image.row_bytes),
                    np.frombuffer(image.data, np.uint8)], axis=1) for number, image in enumerate(images)]
    fields = np.concatenate([np.zeros((0, 4), np.int64), *at]).T
    words, low = 0, 8 * harness.WORD_BYTES
    for (_, width), values in zip(harness.LOAD_FIELDS, fields.astype(np.uint64), strict=True):
        low -= width
        words |= values << np.uint64(low)
    words.astype(f">u{harness.WORD_BYTES}").tofile(path)


def _read(program, where, samples, steps, detail, load):
    def numbers(name):
        return np.fromstring((where / name).read_text(), dtype=np.int64, sep=" ")

    results = numbers("results.txt").reshape(-1, 4)
    scores = results[:, 0].reshape(samples, program.network.n_out)
    last = results[results[:, 2] == 1]
    cycles, seconds = (where / "speed.txt").read_text().split()
    if detail:
        updates = []
        for number, core in enumerate(program.cores):
            rows = numbers(f"layer_{number}.txt").reshape(-1, core.units + 1)
            updates.append((rows[:, 0], rows[:, 1:]))
        seen = trace.from_updates(program, samples, steps, updates, scores, last[:, 1], [load] * samples)
        counts = [spikes.sum(axis=2) for spikes in seen.spikes]
    else:
        seen = None
        counts = [numbers(f"layer_{number}.txt").reshape(samples, steps) for number in range(len(program.cores))]
    return Run(seen, counts, scores, last[:, 1], last[:, 3], int(cycles), float(seconds))
