"""Verilator, whose C++ library is compiled once rather than again for every design.

That library is most of what there is to compile for a small design. Its objects are kept in the user's cache
(`spikeloom.files.cache`) under a digest of all that goes into them.
"""

import contextlib
import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from cocotb_tools import runner
from spikeloom import files, tools
from spikeloom.errors import SpikeloomError

__all__ = ["Runner", "find", "make"]


def find():
    """The `Tool`; raises `SpikeloomError` when it, or what compiles the C++ that it writes, is missing."""
    tool = tools.find("verilator")
    missing = [what for what in ("make", "perl", "c++") if shutil.which(what) is None]
    if missing:
        raise SpikeloomError(f"{' and '.join(missing)} not found, which Verilator needs: apt install g++ make perl")
    return tool


class Runner(runner.Verilator):
    """cocotb's runner.

    Parameters
    ----------
    public : bool
        show every signal to Python, as cocotb's own does; that makes the model several times slower
    """

    def __init__(self, public=False):
        super().__init__()
        self.public = public

    def _build_command(self):
        commands = super()._build_command()
        return commands if self.public else [[part for part in command if part != "--public-flat-rw"]
                                             for command in commands]

    def _execute_cmds(self, cmds, cwd, stdout=None):
        for command in cmds:
            compiles = command[0] == "make"
            with _library(command, self.build_dir, self.env) if compiles else contextlib.nullcontext():
                super()._execute_cmds([command], cwd, stdout)


def make(folder, prefix, arguments, environment):
    """Compile what Verilator wrote to ``folder``; raises `SpikeloomError` with the compiler's complaint."""
    command = ["make", "-f", f"{prefix}.mk", *arguments]
    with _library(command, folder, environment):
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if "error" in line] or ["nothing was said"]
            raise SpikeloomError(f"make failed (status {done.returncode}): {said[0]}")


@contextlib.contextmanager
def _library(command, folder, environment):
    """Put the library's objects into ``folder`` before ``command``, a make, runs there; or keep those that it made."""
    folder = Path(folder)
    asked = subprocess.run([*command, "--dry-run"], cwd=folder, env=environment, capture_output=True, text=True)
    rules = re.findall(r"^(.* -c -o (verilated\w*\.o) (/\S+\.cpp))$", asked.stdout, re.MULTILINE)
    kept = files.cache() / f"verilated-{_digest(rules, environment)}" if rules else None
    if kept is not None and kept.is_dir():
        for _, name, _ in rules:
            shutil.copyfile(kept / name, folder / name)
    yield
    if kept is not None and not kept.is_dir():
        with contextlib.suppress(OSError):  # no place for a cache; or another process was quicker
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".verilated-") as beside:
                whole = Path(beside) / "objects"
                whole.mkdir()
                for _, name, _ in rules:
                    shutil.copyfile(folder / name, whole / name)
                whole.rename(kept)


def _digest(rules, environment):
    """Of the commands, the compiler, and all sources of the library."""
    compiler = shlex.split(rules[0][0].split(" -")[0])
    version = subprocess.run([*compiler, "--version"], env=environment, capture_output=True, text=True).stdout
    digest = hashlib.sha256("\0".join([version, *(line for line, _, _ in rules)]).encode())
    for source in sorted(each for each in Path(rules[0][2]).parent.iterdir() if each.is_file()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
