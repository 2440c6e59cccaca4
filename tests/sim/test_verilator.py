"""Verilator's library is compiled once for all designs that want the same one."""

import os
import subprocess

import pytest
from spikeloom.errors import SpikeloomError
from spikeloom.sim import verilator

DESIGN = 'module top; initial begin $display("{0}"); $finish; end endmodule'


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds the design that says a word, without optimization; what it says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tool = verilator.find()

    def build(word, *flags):
        folder = tmp_path / word
        folder.mkdir()
        (folder / "top.v").write_text(DESIGN.format(word))
        tool.run(["--cc", "--exe", "--main", "--prefix", "Vtop", "--Mdir", ".", "-CFLAGS", " ".join(["-O0", *flags]),
                  "top.v"], cwd=folder)
        verilator.make(folder, "Vtop", ["OPT_GLOBAL=", "OPT_FAST=", "OPT_SLOW="], {**os.environ, **tool.environment})
        return subprocess.run([folder / "Vtop"], capture_output=True, text=True).stdout.split()[0]

    return build


def test_the_library_is_shared_by_designs(build, tmp_path):
    assert build("once") == "once"
    kept, = (tmp_path / "cache" / "spikeloom").iterdir()
    assert {each.name for each in kept.iterdir()} >= {"verilated.o", "verilated_threads.o"}
    for each in kept.iterdir():
        each.write_bytes((tmp_path / "once" / each.name).read_bytes() + b"kept")  # which the linker does not mind
    assert build("again") == "again"
    assert all((tmp_path / "again" / each.name).read_bytes().endswith(b"kept") for each in kept.iterdir())
    assert build("otherwise", "-DOTHERWISE") == "otherwise"
    assert len(list(kept.parent.iterdir())) == 2
    assert not (tmp_path / "otherwise" / "verilated.o").read_bytes().endswith(b"kept")


def test_no_place_to_keep_it(build, tmp_path):
    (tmp_path / "cache").write_text("")  # a file where the folder would be
    assert build("alone") == "alone"


def test_what_does_not_compile_is_told(build):
    with pytest.raises(SpikeloomError, match="^make failed.*nonesuch.h"):
        build("word", "-include nonesuch.h")
