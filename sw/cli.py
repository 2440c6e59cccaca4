"""The command line: ``spikeloom VERB``, a verb for each arrow from images to a bitstream.

Each verb is a thin function over the library that reads and writes files, so any stage can be run again alone. A stage
is imported only when its verb runs. Exit status: 0 when all went well, 1 when a simulation or a board differs from the
reference, 2 for a mistake of the user's, which is told in one line.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

from . import __version__
from .errors import SpikeloomError


def main(arguments=None):
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.verb(options) or 0
    except SpikeloomError as error:
        print(f"spikeloom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("spikeloom: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="spikeloom", description="Spiking neural networks from PyTorch to FPGA bitstreams, equal bit for bit.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function, *, data=False):
        name = function.__name__.strip("_")
        summary = function.__doc__.split("\n")[0]
        sub = verbs.add_parser(name, help=summary, description=function.__doc__,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(verb=function)
        if data:
            sub.add_argument("--data-dir", metavar="DIR", help="where data sets are on disk")
        return sub

    sub = verb(_train, data=True)
    sub.add_argument("config", help="a TOML file, or the name of a packaged configuration")
    sub.add_argument("-o", "--out", metavar="DIR", help="the run's folder (default: runs/NAME)")
    sub.add_argument("--device", help="cpu or cuda (default: a GPU where there is one)")

    sub.add_argument("--start", type=Path, metavar="CHECKPOINT", help="begin with what another run has learnt")

    sub = verb(_study, data=True)
    sub.add_argument("config", help="a study's TOML file, or the name of a packaged one")
    sub.add_argument("-o", "--out", type=Path, metavar="DIR",
                     help="the study's folder on this machine (default: runs/studies/NAME)")
    sub.add_argument("--storage", metavar="URL",
                     help="of a database that workers share, such as postgresql+psycopg://user@host/name (default: a "
                          "file in the study's folder)")
    sub.add_argument("--device", help="cpu or cuda (default: a GPU where there is one)")

    sub = verb(_energy, data=True)
    sub.add_argument("network", type=Path)
    sub.add_argument("--samples", type=int, default=100, metavar="N",
                     help="test samples whose activity is taken (default: %(default)s)")
    sub.add_argument("--inputs", type=Path, metavar="FILE",
                     help="an .npz with 'inputs' (samples, time steps, inputs) instead of the network's own test set")
    sub.add_argument("--costs", default="schaefer", help="a TOML file of energies per access, or a packaged one's name")
    sub.add_argument("--architecture", default="schaefer", help="a TOML file, or a packaged one's name")
    sub.add_argument("--worst", action="store_true", help="the activity of the most active time step, not the mean")

    sub = verb(_quantize, data=True)
    sub.add_argument("checkpoint", type=Path)
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: network.npz beside the checkpoint")

    sub = verb(_compile)
    sub.add_argument("network", type=Path)
    where = sub.add_mutually_exclusive_group(required=True)
    where.add_argument("--target", help="what it will run on, such as icebreaker")
    where.add_argument("--like", type=Path, metavar="PROGRAM",
                       help="make what can be loaded into a board that was built for this reloadable program")
    sub.add_argument("--activity", type=float, nargs="+", metavar="EVENTS",
                     help="events per time step of each layer's input (default: as measured in training)")
    sub.add_argument("--sparse", default="auto", metavar="WHEN",
                     help="leave out words of weights that are all zero: auto (where that is cheaper), never, always")
    sub.add_argument("--gates", default="auto", metavar="WHEN",
                     help="have channel gates on the array: auto (where that is faster), never, always")
    sub.add_argument("--reloadable", action="store_true",
                     help="let any network of the same shape be loaded later, without another bitstream")
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: program.npz beside the network")

    sub = verb(_verilog)
    sub.add_argument("program", type=Path)
    sub.add_argument("--ports", default="words",
                     help="words (default), events (addresses in any order) or axi-stream, for a design of yours")
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: program.v beside the program")

    sub = verb(_simulate, data=True)
    sub.add_argument("file", type=Path, metavar="PROGRAM", help="a program, or a network for reference and torch")
    sub.add_argument("--backend", default="verilator",
                     help="reference, torch, amaranth, verilator (default), icarus, netlist or bitstream")
    sub.add_argument("--samples", type=int, default=20, metavar="N", help="test samples to run (default: %(default)s)")
    sub.add_argument("--inputs", type=Path, metavar="FILE",
                     help="an .npz with 'inputs' (samples, time steps, inputs) instead of the network's own test set")
    sub.add_argument("--stall", type=float, default=0.0, metavar="SHARE",
                     help="chance of each side of the array to hesitate in a clock cycle")
    sub.add_argument("--seed", type=int, default=0, help="of the hesitations")
    sub.add_argument("--load", type=Path, metavar="PROGRAM",
                     help="load the network of this program of the same shape first, over the array's bus")
    sub.add_argument("--work-dir", type=Path, default=Path("build/sim"), metavar="DIR",
                     help="where compiled simulators are kept (default: %(default)s)")
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="keep what was seen in a simulation file")

    sub = verb(_build)
    sub.add_argument("program", type=Path)
    sub.add_argument("--board", help="default: the program's target")
    sub.add_argument("--seed", type=int, default=1, help="of the placement (default: %(default)s)")
    sub.add_argument("--clock", type=_clock, metavar="MHZ",
                     help="or oscillator, for no PLL (default: the best that routing meets)")
    sub.add_argument("--baud", type=int, help="of the UART (default: the fastest that board and clock can)")
    sub.add_argument("--link", default="uart", help="uart (default) or spi")
    sub.add_argument("--spi-pins", nargs=4, metavar="PIN",
                     help="CS, COPI, CIPO and SCK (default: pins 1 to 4 of the first PMOD)")
    sub.add_argument("--start", action="store_true", help="read network and samples from the board's SPI flash first")
    sub.add_argument("-o", "--out", type=Path, metavar="DIR", help="default: build beside the program")

    sub = verb(_boards)
    sub.add_argument("file", type=Path, nargs="?", help="a network or program: what would each board make of it?")

    sub = verb(_flash, data=True)
    sub.add_argument("build", type=Path, metavar="DIR", help="a build's folder, or one that holds it as build/")
    sub.add_argument("--board", help="refuse a build for any other")
    sub.add_argument("--memory", action="store_true", help="into the device, until power goes off, not into its flash")
    sub.add_argument("--start", type=Path, metavar="PROGRAM",
                     help="write this program's network where a board built with --start looks for it")
    sub.add_argument("--samples", type=int, default=0, metavar="N",
                     help="with --start: test samples to run at the start (default: %(default)s)")
    sub.add_argument("--inputs", type=Path, metavar="FILE", help="with --start: an .npz with 'inputs' instead")

    def board(function, *, samples=None):
        sub = verb(function, data=samples is not None)
        sub.add_argument("program", type=Path)
        where = sub.add_mutually_exclusive_group()
        where.add_argument("--port", help="the board's serial port; without it, those that there are get listed")
        where.add_argument("--virtual", type=Path, nargs="?", const=True, metavar="PROGRAM",
                           help="a virtual board, built for this program (default: the same)")
        sub.add_argument("--baud", type=int, help="default: that of build/build.json beside the program")
        if samples is not None:
            sub.add_argument("--load", action="store_true", help="load the program's network first")
            sub.add_argument("--samples", type=int, default=samples, metavar="N",
                             help="test samples to run (default: %(default)s)")
            sub.add_argument("--inputs", type=Path, metavar="FILE",
                             help="an .npz with 'inputs' (samples, time steps, inputs) instead of the network's own "
                                  "test set")
        return sub

    sub = board(_run, samples=20)
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="keep scores and winners in an .npz file")

    board(_verify, samples=100)

    sub = board(_monitor, samples=100)
    sub.add_argument("--seconds", type=float, help="stop after so long (default: when interrupted)")

    sub = board(_live)
    sub.add_argument("events", type=Path, metavar="FILE", help="a recording: .bin, .aedat4 or .npz")
    sub.add_argument("--recording", type=int, default=0, metavar="N",
                     help="which one of several in the file (default: %(default)s)")
    sub.add_argument("--window", type=int, metavar="MICROSECONDS",
                     help="of a time step (default: as in training, where that was fixed)")
    sub.add_argument("--speed", type=float, default=1.0, metavar="FACTOR",
                     help="times real time, or 0: as fast as the line takes it (default: %(default)s)")
    sub.add_argument("--load", action="store_true", help="load the program's network first")

    sub = board(_load)
    sub.add_argument("--check", action="store_true", help="only compare what the board's memories hold")

    sub = verb(_prove, data=True)
    sub.add_argument("program", type=Path)
    sub.add_argument("--samples", type=int, default=20, metavar="N", help="test samples to run (default: %(default)s)")
    sub.add_argument("--inputs", type=Path, metavar="FILE", help="an .npz with 'inputs' instead")
    sub.add_argument("--timeout", type=float, default=600, metavar="SECONDS",
                     help="for each proof (default: %(default)s)")
    sub.add_argument("--work-dir", type=Path, default=Path("build/sim"), metavar="DIR",
                     help="where compiled simulators are kept (default: %(default)s)")
    sub.add_argument("-o", "--out", type=Path, metavar="DIR", help="of the certificate (default: beside the program)")

    sub = verb(_report, data=True)
    sub.add_argument("folder", type=Path, help="where network.npz, program.npz, simulation.npz and build/ are")
    sub.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: report.html in the folder")

    sub = verb(_info)
    sub.add_argument("file", type=Path)
    return parser


def _train(options):
    """Train a network in integer units; continue where an interrupted run stopped.

    Under torchrun all processes share each batch.
    """
    from .training import ranks
    from .training.train import train
    out = options.out or Path("runs") / Path(options.config).stem
    checkpoint = train(options.config, out, data_dir=options.data_dir, device=options.device, start=options.start)
    if ranks.is_first():
        print(checkpoint)


def _study(options):
    """Train, compile and simulate a network under many settings; print what each is worth and costs.

    Any number of workers, on this machine or on others, can be started by the same command with one --storage. A study
    that was interrupted goes on where it stopped.
    """
    from .study import study
    from .study.results import table
    out = options.out or Path("runs") / "studies" / Path(options.config).stem
    rows = study(options.config, out, storage=options.storage, data_dir=options.data_dir, device=options.device,
                 say=_say)
    print(table(rows))
    print(out)


def _energy(options):
    """Model the energy and cycles of a network on an accelerator with row-stationary dataflow, layer by layer."""
    from . import energy
    from .network import Network
    from .training import model
    network = Network.load(options.network)
    inputs, _ = _inputs(options, network, options.network)
    work = energy.of_network(network, inputs, model.run(network, inputs).spikes)
    print(energy.table(energy.estimate(work, options.architecture, options.costs, worst=options.worst)))


def _quantize(options):
    """Turn a finished run's checkpoint into an integer network."""
    from .training.quantize import quantize
    out = options.out or options.checkpoint.parent / "network.npz"
    network = quantize(options.checkpoint, data_dir=options.data_dir)
    network.save(out)
    print(f"{out}: {_describe_network(network)}")


def _compile(options):
    """Choose lanes and update units for a target, and write the memory images."""
    from .compiler.compile import compile, table
    from .compiler.program import Program
    from .network import Network
    out = options.out or options.network.parent / "program.npz"
    like = options.like and Program.load(options.like)
    program = compile(Network.load(options.network), like.target if like else options.target,
                      activity=options.activity, placements=like and like.placements,
                      reloadable=options.reloadable or bool(like), sparse=options.sparse,
                      gates=options.gates)
    if like:
        like.check_same_shape(program)
    program.save(out)
    print(table(program))
    print(out)


def _verilog(options):
    """Write the Verilog of a program's array."""
    from . import files
    from .compiler.program import Program
    from .hw.verilog import generate
    out = options.out or options.program.with_suffix(".v")
    files.write_text(out, generate(Program.load(options.program), options.ports))
    print(out)


def _simulate(options):
    """Run test samples on a backend and hold every spike and membrane potential to the reference.

    A bitstream shows scores and the number of spikes of each layer; all else shows everything. Exits with status 1 at
    the first difference, which it names.
    """
    from .compiler.program import Program
    from .sim import backend, trace
    program, network = _load_either(options.file)
    if options.backend == "bitstream":
        return _simulate_bitstream(options, program)
    load = options.load and Program.load(options.load)
    inputs, labels = _inputs(options, load.network if load else network, options.load or options.file)
    progress = _Progress(len(inputs))
    result = backend.verify(program, inputs, options.backend, load=load, stall=options.stall, seed=options.seed,
                            folder=options.work_dir, progress=progress)
    progress.close()
    spikes = sum(int((layer != 0).sum()) for layer in result.seen.spikes)
    updates = sum(layer.size for layer in result.seen.membranes)
    if result.difference is not None:
        print(f"{options.backend} differs from the reference: {result.difference}", file=sys.stderr)
        return 1
    accuracy = _merit(options, network, result.seen.scores, labels)
    cycles = "" if result.cycles is None else f", {result.cycles / len(inputs):.0f} clock cycles per sample"
    print(f"{options.backend} equals the reference on {len(inputs)} samples: {updates} membrane potentials and "
          f"{spikes} spikes{cycles}{accuracy} ({result.seconds:.1f} s)")
    if options.out:
        trace.save(options.out, load or program, options.backend, inputs, labels, result.seen, result.cycles)


def _simulate_bitstream(options, program):
    from .boards import host
    from .boards.connection import connect
    from .compiler.program import Program
    from .sim.bitstream import virtual_board
    if not isinstance(program, Program):
        raise SpikeloomError(f"{options.file}: the bitstream is that of a program, not of a network")
    load = options.load and Program.load(options.load)
    inputs, labels = _inputs(options, (load or program).network, options.load or options.file)
    with (virtual_board(program, _build_folder(options.file), work=options.work_dir, progress=_say) as virtual,
          connect(virtual.port, baud=virtual.baud, timeout=5) as board):
        if load or not board.loaded:
            host.load(board, load or program, built=program)
        return _held(options, board, "the bitstream", load or program, inputs, labels)


def _build(options):
    """Synthesize, place and route a bitstream for a board."""
    from .boards import build
    from .compiler.program import Program
    program = Program.load(options.program)
    out = options.out or _build_folder(options.program)
    print(build(program, options.board or program.target, out, seed=options.seed, clock=options.clock,
                baud=options.baud, transport=options.link, boot=options.start, spi_pins=options.spi_pins,
                progress=_say))


def _boards(options):
    """List the boards there are, and what each would make of a network."""
    from .boards import listing
    print(listing(_load_either(options.file)[1] if options.file else None))


def _flash(options):
    """Put a build onto the board it is for, which must be connected.

    The tool that writes it must be installed; where it is not, the command it would be given is told.
    """
    from . import files
    from .boards import BuildReport, program_board, start_image
    from .boards.build import REPORT
    from .compiler.program import Program
    folder = options.build if (options.build / REPORT).exists() else options.build / "build"
    report = BuildReport.load(folder)
    if options.board not in (None, report.board):
        raise SpikeloomError(f"{folder}: built for {report.board}, not for {options.board}")
    start = None
    if options.start:
        program = Program.load(options.start)
        if program.build_digest != report.build:
            raise SpikeloomError(f"{options.start}: not a program of the shape that {folder} was built from")
        inputs = ()
        if options.samples or options.inputs:
            inputs, _ = _inputs(options, program.network, options.start)
        start = folder / "start.bin"
        with files.replacing(start) as file:
            file.write(start_image(program, inputs))
    program_board(folder, memory=options.memory, start=start, progress=_say)


def _run(options):
    """Run test samples on a board and print its answers."""
    from . import tasks
    from .boards import host
    from .compiler.program import Program
    program = Program.load(options.program)
    inputs, labels = _inputs(options, program.network, options.program)
    with _board(options, program) as (board, _, _):
        progress = _Progress(len(inputs))
        scores, winners = host.run(board, program, inputs, progress)
        progress.close()
    print(tasks.of(program.network).told(scores, winners))
    if labels is not None:
        print(_merit(options, program.network, scores, labels).removeprefix(", "))
    if options.out:
        import numpy as np

        from .files import replacing
        with replacing(options.out) as file:
            np.savez_compressed(file, inputs=inputs, scores=scores, winners=winners,
                                **({} if labels is None else {"labels": labels}))


def _verify(options):
    """Hold a board to the reference: scores, winners, and the number of spikes of each layer.

    Exits with status 1 at the first difference, which it names.
    """
    from .compiler.program import Program
    program = Program.load(options.program)
    inputs, labels = _inputs(options, program.network, options.program)
    with _board(options, program) as (board, what, _):
        return _held(options, board, what, program, inputs, labels)


def _held(options, board, what, program, inputs, labels):
    """Verify ``board``, which is called ``what``, and say what came of it; the exit status."""
    from .boards import host
    progress = _Progress(len(inputs))
    result = host.verify(board, program, inputs, progress)
    progress.close()
    if result.difference is not None:
        print(f"{what} differs from the reference: {result.difference}", file=sys.stderr)
        return 1
    accuracy = _merit(options, program.network, result.given, labels)
    print(f"{what} equals the reference on {result.samples} samples: {result.scores} scores and {result.spikes} "
          f"spikes, {result.cycles / result.samples:.0f} clock cycles per sample{accuracy}; {result.resent} requests "
          "sent again")


def _monitor(options):
    """Show what a board does while it runs test samples over and over."""
    from . import tasks
    from .boards.monitor import monitor
    from .compiler.program import Program
    program = Program.load(options.program)
    inputs, labels = _inputs(options, program.network, options.program)
    if not isinstance(tasks.of(program.network), tasks.Classification):
        labels = None  # winners are not what such a network is for
    with _board(options, program) as (board, _, now):
        monitor(board, program, inputs, labels, seconds=options.seconds, now=now)


def _live(options):
    """Replay a recording of events to a board in real time, and print its answers as they come.

    A time step's events are sent as soon as its window closes. Whatever line and board do not keep up with waits here,
    and the answers say how far behind they are; nothing is dropped.
    """
    from .boards.live import Recording, live
    from .compiler.program import Program
    program = Program.load(options.program)
    recording = Recording.read(options.events, program.network, number=options.recording, window=options.window)
    with _board(options, program) as (board, _, _):
        live(board, program, recording, speed=options.speed)


def _load(options):
    """Load a program's network into a board that was built for one of the same shape."""
    from .boards import host
    from .compiler.program import Program
    program = Program.load(options.program)
    built = Program.load(options.virtual) if isinstance(options.virtual, Path) else None
    with _board(options, program) as (board, what, _):
        if options.check:
            wrong = host.check(board, program, built=built)
            print(f"{what}: " + (f"other content in {', '.join(wrong)}" if wrong else "all memories as they should be"))
            return bool(wrong)
        host.load(board, program, built=built)
        print(f"{what} holds network {program.network.digest[:16]}")


def _prove(options):
    """Show all that can be shown about a program, from proofs to its bitstream, and write the certificate.

    What an interrupted run had finished is kept. Exits with status 1 where anything differs or fails.
    """
    from .boards.build import REPORT
    from .compiler.program import Program
    from .sim.prove import FILE, prove
    program = Program.load(options.program)
    inputs, _ = _inputs(options, program.network, options.program)
    out, build = options.out or options.program.parent, _build_folder(options.program)
    certificate = prove(program, inputs, out, build=build if (build / REPORT).exists() else None,
                        work=options.work_dir, timeout=options.timeout, progress=_say)
    print(certificate)
    print(out / FILE)
    return 0 if certificate.good else 1


def _report(options):
    """Print the table of all that was measured, and write the HTML report."""
    from .report import Findings, table, write
    findings = Findings.gather(options.folder, data_dir=options.data_dir)
    out = options.out or options.folder / "report.html"
    write(findings, out)
    print(table(findings))
    print(out)


def _info(options):
    """Say what a file of ours holds."""
    print(describe(options.file))


# What files hold -------------------------------------------------------------------------------


def describe(path):
    """What the file at ``path`` holds, as text; raises `SpikeloomError` when it is none of ours."""
    path = Path(path)
    if path.suffix == ".pt":
        from .training.train import load as load_checkpoint
        state = load_checkpoint(path)
        shown = ", ".join(f"{accuracy:.2%} {what}" for what, accuracy in (
            ("float", state.accuracy_float),
            ("integer", state.accuracy if state.config.training.epochs_quantized else None)) if accuracy is not None)
        return (f"checkpoint after epoch {state.epoch} of {state.config.training.epochs}"
                f"{', finished' if state.finished else ''}{': accuracy ' + shown if shown else ''}\n"
                + json.dumps(describe_config(state.config), indent=1))
    if path.suffix == ".json":
        return _describe_json(path)
    if path.suffix == ".toml":
        from .training.config import load
        return json.dumps(describe_config(load(path)), indent=1)
    from . import files
    header, arrays = files.load(path)
    kind = header.get("kind")
    if kind == "network":
        from .network import Network
        return f"network {_describe_network(Network.load(path))}\n{json.dumps(Network.load(path).notes, indent=1)}"
    if kind == "program":
        from .compiler.compile import table
        from .compiler.program import Program
        program = Program.load(path)
        return (f"program {program.digest[:16]} for {program.target}\n{_describe_network(program.network)}\n"
                + table(program))
    if kind == "simulation":
        return (f"simulation of {header['digest'][:16]} on {header['backend']}: {len(arrays['winners'])} samples, "
                f"{header['cycles']} clock cycles")
    raise SpikeloomError(f"{path}: holds a {kind!r}, which is not known here")


def describe_config(config):
    """A training configuration as JSON-serialisable fields."""
    from .training.config import describe as fields
    return fields(config)


def _describe_json(path):
    try:
        content = json.loads(path.read_text())
        return json.dumps(content, indent=1)
    except OSError as error:
        raise SpikeloomError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise SpikeloomError(f"{path}: not JSON ({error})") from None


def _describe_network(network):
    from .report import meters
    from .report.page import sizes, synapses
    layers, memories = [], meters.memory(network)
    for layer, memory in zip(network.layers, memories, strict=True):
        form, zero = layer.weight_format, (layer.weights == 0).mean()
        layers.append(f"  {layer.name}: {' -> '.join(sizes(layer))}, {synapses(layer)}, "
                      f"{form.width}-bit {form.kind} weights ({zero:.0%} zero), "
                      f"{layer.v_width}-bit membranes, leak {layer.leak.kind}, reset {layer.reset}, "
                      f"fire {layer.fire.kind}; "
                      f"{meters.size(memory.weight_bits)} and {meters.size(memory.membrane_bits)}")
    inputs = f"{' x '.join(str(n) for n in network.input.shape if n > 1) or 1} inputs of {network.input.width} bit"
    head = (f"{network.digest[:16]}: {inputs}, up to {network.time_steps} time steps, read out by "
            f"{network.readout}, {-(-network.weight_bits // 8)} bytes of weights; weights and membranes "
            f"{meters.savings(memories)}")
    return "\n".join([head, *layers])


# Helpers ---------------------------------------------------------------------------------------


def _merit(options, network, scores, labels):
    """How good the scores are, as text to append; nothing where no labels are known."""
    if labels is None:
        return ""
    from . import tasks
    task = tasks.of(network)
    try:
        task.check_labels(labels, len(scores))
    except SpikeloomError as error:
        raise SpikeloomError(f"{options.inputs or options.data_dir}: {error}") from None
    return f", {task.figure} {task.measure(scores, labels):.2%}"


def _build_folder(program):
    """Where `build` puts what it makes of the program file."""
    return program.parent / "build"


def _say(text):
    print(text, file=sys.stderr)


def _clock(text):
    """The value of ``--clock``: MHz, or "oscillator"."""
    return text if text == "oscillator" else float(text)


def _load_either(path):
    """A program and its network, or a network twice, whichever the file holds."""
    from . import files
    from .compiler.program import Program
    from .network import Network
    if files.load(path)[0].get("kind") == "network":
        network = Network.load(path)
        return network, network
    program = Program.load(path)
    return program, program.network


def _inputs(options, network, path):
    """Inputs and labels (or None) that the options name; by default the test set that the network in ``path`` knows."""
    if options.inputs is None:
        from .data import samples
        if "data" not in network.notes:
            raise SpikeloomError(f"{path}: does not say which data it was trained on; give --inputs FILE")
        return samples(network.notes["data"], "test", options.samples, options.data_dir)
    import zipfile

    import numpy as np
    try:
        with np.load(options.inputs, allow_pickle=False) as archive:
            return archive["inputs"], archive["labels"] if "labels" in archive.files else None
    except KeyError:
        raise SpikeloomError(f"{options.inputs}: has no array named 'inputs'") from None
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise SpikeloomError(f"{options.inputs}: not a readable .npz file ({error})") from None


@contextlib.contextmanager
def _board(options, program):
    """A `Connection` to the board that the options name, what to call it, and the time on its clock."""
    from .boards import host
    from .boards.build import REPORT, BuildReport
    from .boards.connection import connect
    folder = _build_folder(options.program)
    report = BuildReport.load(folder) if (folder / REPORT).exists() else None
    baud = options.baud or (report and report.baud)
    if options.virtual is None:
        if options.port and not baud:
            raise SpikeloomError(f"{folder}: holds no build that tells the baud rate; give --baud")
        with connect(options.port, baud=baud) as board:
            if getattr(options, "load", False):
                host.load(board, program)
            yield board, f"the board at {options.port}", time.monotonic
        return
    from .compiler.program import Program
    from .sim.virtual import BAUD, CLOCK, VirtualBoard
    built = program if options.virtual is True else Program.load(options.virtual)
    clock = round(report.target_clock * 1e6) if report and baud == report.baud else CLOCK
    with (VirtualBoard(built, clock=clock, baud=baud or BAUD, progress=_say) as virtual,
          connect(virtual.port, baud=virtual.baud, timeout=5) as board):
        if options.verb is not _load and (options.load or not board.loaded):
            host.load(board, program, built=built)
        yield board, "the virtual board", virtual.seconds


class _Progress:
    """A progress bar over samples, for a simulation that tells how many it has done."""

    def __init__(self, total):
        self.total, self.bar = total, None

    def __call__(self, done):
        if self.bar is None:
            from tqdm import tqdm
            self.bar = tqdm(total=self.total, unit="sample", leave=False)
        self.bar.update(done - self.bar.n)

    def close(self):
        if self.bar is not None:
            self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
