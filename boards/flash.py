"""Bitstreams onto boards, and what a board starts from without a host."""

import hashlib
import shlex

from spikeloom import link, tools
from spikeloom.errors import SpikeloomError

from .board import find
from .build import BuildReport

__all__ = ["START_BYTES", "command", "program_board", "start_image"]

#: Most bytes that a board reads of its flash at its start.
START_BYTES = 2**20


def start_image(program, inputs=()):
    """What a board reads from its flash to start without a host (``docs/link.md``), as bytes.

    Parameters
    ----------
    program : Program
        whose memories are loaded, where they are not part of the bitstream
    inputs : int array (samples, time steps, inputs), optional
        samples to begin with

    Raises `SpikeloomError` when it is more than a board reads.
    """
    payloads = []
    if program.reloadable:
        for number, image in enumerate(program.images):
            payloads += link.load(0, number, image)
        payloads.append(bytes([link.COMMIT, 0]) + bytes.fromhex(program.network.digest))
    for sample in inputs:
        payloads += link.sample(0, program.i_words.pack(sample))
    payloads.append(bytes([link.BOOTED, 0]))
    content = b"".join(map(link.encode, payloads))
    if len(content) > START_BYTES:
        raise SpikeloomError(f"The start image has {len(content)} bytes, but a board reads only {START_BYTES}: give it "
                             "fewer samples, or a smaller network")
    return content


def command(board, what, path, offset=0):
    """The tool and its arguments that put the file ``path`` onto ``board``; the first tool that is installed.

    Parameters
    ----------
    board : Board
    what : "memory", "flash" or "data"
        as `Programmer` has it
    offset : int
        of data in the SPI flash, in bytes

    Returns a `tools.Tool` and a list of str. Raises `SpikeloomError` when the board cannot be written so, or no tool
    is installed, saying which commands would do.
    """
    ways = [(each.tool, [argument.format(file=path, offset=offset) for argument in getattr(each, what)])
            for each in board.programmers if getattr(each, what)]
    if not ways:
        where = {"memory": "its device's memory", "flash": "flash", "data": "flash beside its bitstream"}[what]
        raise SpikeloomError(f"Board {board.name} cannot be written to in {where} by any tool we know")
    missing = []
    for name, arguments in ways:
        try:
            return tools.find(name), arguments
        except SpikeloomError as error:
            missing.append(f"`{shlex.join([name, *arguments])}` ({error})")
    raise SpikeloomError(f"Board {board.name} is written by {', or '.join(missing)}")


def program_board(folder, *, memory=False, start=None, progress=None):
    """Put the build in ``folder`` onto the board it is for, which must be connected.

    Parameters
    ----------
    folder : path
        with ``build.json``
    memory : bool
        into the device itself, until power goes off, rather than into its flash
    start : path, optional
        a file with a start image, for the SPI flash; written before the bitstream
    progress : callable, optional
        called with a line of text at each step

    Returns the commands that were run, as text. Raises `SpikeloomError` when the bitstream is not the one that was
    built, a tool is missing (naming the command) or fails.
    """
    report = BuildReport.load(folder)
    board = find(report.board)
    bitstream = report.path / report.bitstream
    try:
        digest = hashlib.sha256(bitstream.read_bytes()).hexdigest()
    except OSError as error:
        raise SpikeloomError(f"{bitstream}: {error.strerror}") from None
    if digest != report.bitstream_digest:
        raise SpikeloomError(f"{bitstream}: not the bitstream of {report.path / 'build.json'}: build it again")
    steps = []
    if start is not None:
        if report.boot_offset is None:
            raise SpikeloomError(f"{bitstream}: built without a start from flash, so it would never read {start}")
        steps.append(command(board, "data", start, report.boot_offset))
    steps.append(command(board, "memory" if memory else "flash", bitstream))
    done = []
    for tool, arguments in steps:
        done.append(shlex.join([tool.name, *arguments]))
        if progress:
            progress(done[-1])
        tool.run(arguments, progress=progress)
    return done
