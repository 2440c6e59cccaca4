"""Bitstreams and start images onto boards, with tools that only note what they were told."""

import hashlib
import re

import numpy as np
import pytest
from spikeloom import boards, link, tools
from spikeloom.boards import BuildReport, flash
from spikeloom.boards.flash import command
from spikeloom.errors import SpikeloomError
from test_build import program


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes stand-ins of tools; their arguments go to ``log``."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    tools.find.cache_clear()

    def install(*names, status=0):
        for name in names:
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\necho "Error: no board"\nexit {status}\n')
            (folder / name).chmod(0o755)
        return log

    yield install
    tools.find.cache_clear()


def built(folder, board, boot_offset=None):
    """A folder as `boards.build` leaves it, with a bitstream that is none."""
    folder.mkdir()
    path = folder / f"{board}.bin"
    path.write_bytes(b"bits")
    BuildReport(
        board=board, device="", seed=1, program="", network="", build="", target_clock=12.0, clock_source="oscillator",
        clock=12.0, transport="uart", baud=1, boot_offset=boot_offset, luts=1, ffs=1, logic_used=1, logic_available=1,
        blocks_used=0, blocks_available=0, layers={}, cells={}, tools={}, inputs="", bitstream=path.name,
        bitstream_digest=hashlib.sha256(b"bits").hexdigest(), path=folder).save()
    return folder


def test_the_first_installed_tool_is_taken(tmp_path, installed):
    folder = built(tmp_path / "build", "icebreaker")
    log = installed("openFPGALoader")
    assert boards.program_board(folder) == [f"openFPGALoader -b ice40_generic -f {folder}/icebreaker.bin"]
    installed("iceprog")
    tools.find.cache_clear()
    boards.program_board(folder)
    assert log.read_text().splitlines() == [f"openFPGALoader -b ice40_generic -f {folder}/icebreaker.bin",
                                            f"iceprog {folder}/icebreaker.bin"]


def test_a_start_image_goes_first(tmp_path, installed):
    folder = built(tmp_path / "build", "ulx3s-25f", boot_offset=0x200000)
    (tmp_path / "start").write_bytes(b"")
    log = installed("openFPGALoader")
    boards.program_board(folder, memory=True, start=tmp_path / "start")
    assert log.read_text().splitlines() == [
        f"openFPGALoader -b ulx3s -f --file-type raw -o 2097152 {tmp_path}/start",
        f"openFPGALoader -b ulx3s -m {folder}/ulx3s-25f.bin"]


@pytest.mark.parametrize("name", boards.BOARDS)
def test_every_board_can_be_written(name, installed):
    board = boards.find(name)
    installed(*(each.tool for each in board.programmers))
    for what in ("memory", "flash", "data"):
        if any(getattr(each, what) for each in board.programmers):
            tool, arguments = command(board, what, "file", 4096)
            assert tool.name in {each.tool for each in board.programmers} and "file" in arguments
            assert ("4096" in arguments) == (what == "data")
    assert any(each.memory or each.flash for each in board.programmers)


def test_mistakes(tmp_path, installed):
    def refused(message, **options):
        with pytest.raises(SpikeloomError, match=f"^{re.escape(message)}$"):
            boards.program_board(folder, **options)

    folder = built(tmp_path / "build", "icebreaker")
    refused(f"Board icebreaker is written by `iceprog {folder}/icebreaker.bin` (iceprog was not found: apt install "
            f"fpga-icestorm), or `openFPGALoader -b ice40_generic -f {folder}/icebreaker.bin` (openFPGALoader was not "
            "found: apt install openfpgaloader)")
    refused(f"{folder}/icebreaker.bin: built without a start from flash, so it would never read start", start="start")
    installed("iceprog", status=1)
    tools.find.cache_clear()
    refused("iceprog failed (status 1): Error: no board")
    (folder / "icebreaker.bin").write_bytes(b"")
    refused(f"{folder}/icebreaker.bin: not the bitstream of {folder}/build.json: build it again")
    (folder / "icebreaker.bin").unlink()
    refused(f"{folder}/icebreaker.bin: No such file or directory")
    folder = built(tmp_path / "badge", "supercon19badge")
    refused("Board supercon19badge cannot be written to in its device's memory by any tool we know", memory=True)


def test_a_start_image_is_frames(monkeypatch):
    made = program("icebreaker")
    inputs = np.random.default_rng(0).integers(0, 2, (2, 4, 8))
    payloads = link.Decoder().feed(boards.start_image(made, inputs))
    assert [payload[0] for payload in payloads] == [link.FINISH, link.FINISH, link.BOOTED]
    assert payloads[:2] == [payload for sample in inputs for payload in
                            link.sample(0, made.i_words.pack(sample))]
    assert boards.start_image(made)[0] == link.END
    monkeypatch.setattr(flash, "START_BYTES", 40)
    with pytest.raises(SpikeloomError, match=r"^The start image has \d+ bytes, but a board reads only 40: "):
        boards.start_image(made, inputs)


def test_a_start_image_loads_a_reloadable_program():
    made = program("icebreaker", reloadable=True)
    payloads = link.Decoder().feed(boards.start_image(made))
    images = made.images
    content = {number: b"" for number in range(len(images))}
    for payload in payloads[:-2]:
        assert payload[0] == link.LOAD
        content[payload[2]] += payload[link.LOAD_HEADER:]
    assert [content[number] for number in range(len(images))] == [image.data for image in images]
    assert payloads[-2] == bytes([link.COMMIT, 0]) + bytes.fromhex(made.network.digest)
    assert payloads[-1] == bytes([link.BOOTED, 0])
