"""A virtual board: the whole top level, UART pins included, in Verilator behind a pseudo-terminal."""

import hashlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.hw.board import BoardTop

from . import verilator

__all__ = ["BAUD", "CLOCK", "State", "VirtualBoard"]

#: Hz and bits per second, unless said otherwise.
CLOCK, BAUD = 48_000_000, 12_000_000

MAIN = Path(__file__).with_name("virtual.cpp")

_OPTIONS = ["--cc", "--exe", "--top-module", "top", "-O3", "--x-assign", "unique", "--x-initial", "unique",
            "-Wno-fatal", "-Wno-lint", "-CFLAGS", "-std=gnu++20"]
_MAKE = ["-j", "2", "OPT_FAST=-O2"]


@dataclass(frozen=True)
class State:
    """What a virtual board tells of itself.

    Attributes
    ----------
    cycle : int
        clock cycles since it began
    busy : bool
        the clock runs
    loaded, winner : int
        the level of the top level's ports, -1 where it has none
    sent, received : int
        bytes that left and entered the board's pins
    malformed : int
        bytes from the board without a stop bit
    lost : int
        bytes from the board that the host left unread for too long
    faults : int
        that `VirtualBoard.noise` caused
    """

    cycle: int
    busy: bool
    loaded: int
    winner: int
    sent: int
    received: int
    malformed: int
    lost: int
    faults: int


class VirtualBoard:
    """A process that is a board, for the length of a ``with`` block; its ``port`` is opened like any serial port.

    The clock runs while something is going on and stops otherwise, so its cycles are those of a host that answers
    at once. Raises `SpikeloomError` when the simulator is missing or does not compile.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    clock : int
        Hz
    baud : int
        bits per second of the UART
    image : path, optional
        what the SPI flash holds from the address ``offset`` on
    sources : dict, optional
        other Verilog with the ports of `BoardTop` (module ``top``) and what it needs: file name to text
    options : list of str
        more arguments for Verilator
    folder : path
        where compiled simulators are kept for the next time
    progress : callable, optional
        called with a line of text before what takes long
    """

    def __init__(self, program, *, clock=CLOCK, baud=BAUD, image=None, offset=0, sources=None, options=(),
                 folder="build/sim", progress=None):
        self.clock = clock
        self.baud = baud
        self.port = None
        self._arguments = [str(clock), str(baud)]
        if image is not None:
            if not Path(image).is_file():
                raise SpikeloomError(f"{image}: no such file")
            self._arguments += [str(image), str(offset)]
        if sources is None:
            boot = {} if image is None else {"boot_offset": offset}
            sources = {"top.v": verilog.convert(BoardTop(program, clock=clock, baud=baud, **boot), "top")}
        self._binary = _build(sources, [*_OPTIONS, *options], Path(folder).resolve(), progress)
        self._process = None

    def __enter__(self):
        self._process = subprocess.Popen([self._binary, *self._arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, bufsize=1,
                                         start_new_session=True)  # an interrupt is for the host alone
        self.port = self._answer()
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def state(self):
        """The `State` of now."""
        return self._do("state")

    def seconds(self):
        """The time on its clock."""
        return self.state().cycle / self.clock

    def power(self):
        """Switch it off and on again; the `State` after it. What is on the line meanwhile still arrives."""
        return self._do("power")

    def noise(self, *, flip=0.0, drop=0.0, repeat=0.0, seed=0):
        """Disturb the line from now on: chances of each byte, in either direction, to have a bit flipped, to be lost,
        to come twice."""
        return self._do(f"noise {flip} {drop} {repeat} {seed}")

    def _do(self, command):
        try:
            self._process.stdin.write(f"{command}\n")
        except (BrokenPipeError, ValueError):
            raise SpikeloomError("The virtual board has ended") from None
        return State(**json.loads(self._answer()))

    def _answer(self):
        line = self._process.stdout.readline().strip()
        if not line:
            raise SpikeloomError("The virtual board has ended")
        return line


def _build(sources, options, folder, progress):
    """The compiled simulator of ``sources`` (file name to text)."""
    tool = verilator.find()
    texts = {**sources, MAIN.name: MAIN.read_text()}
    digest = hashlib.sha256("\0".join([*texts, *texts.values(), str(tool), *options, *_MAKE]).encode()).hexdigest()
    built = folder / f"board-{digest[:16]}"
    if not (built / "board").exists():
        if progress:
            progress("the virtual board is compiled")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".board-") as work:
            work = Path(work)
            for name, text in texts.items():
                (work / name).write_text(text)
            tool.run([*options, "--Mdir", "model", "--prefix", "Vtop", "-o", work / "board", *texts], cwd=work)
            verilator.make(work / "model", "Vtop", _MAKE, {**os.environ, **tool.environment})
            built.mkdir(exist_ok=True)
            (work / "board").replace(built / "board")
    return built / "board"
