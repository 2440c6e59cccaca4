"""The virtual board itself: its clock, its flash, its end."""

import contextlib
import os
import time

import pytest
from spikeloom import link, reference
from spikeloom.boards import host
from spikeloom.boards.connection import connect
from spikeloom.boards.port import open_port
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.sim.virtual import VirtualBoard
from virtual_boards import BAUD, CLOCK, program, samples, shared, virtual


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared(tmp_path_factory)


def rest(board, timeout=20):
    """The board's state once nothing goes on any more."""
    ends = time.monotonic() + timeout
    while (state := board.state()).busy:
        assert time.monotonic() < ends
        time.sleep(0.01)
    return state


def test_the_clock_runs_only_while_something_goes_on(folder):
    with virtual(folder) as board:
        before = rest(board)
        time.sleep(0.2)
        assert board.state() == before
        byte, waited = 10 * CLOCK // BAUD, []
        for _ in range(5):  # a host that is held up in the middle of a frame keeps the board waiting
            before = rest(board)
            with connect(board.port, baud=BAUD) as connected:
                list(connected.samples(samples(0, 50)))
            after = rest(board)
            sent, received = after.sent - before.sent, after.received - before.received
            assert (sent, received) == (connected.traffic.received, connected.traffic.sent)
            assert byte * max(sent, received) <= after.cycle - before.cycle
            waited.append((after.cycle - before.cycle) / (byte * (sent + received)))
        assert min(waited) < 1.2


def test_flash_starts_the_board_without_a_host(folder):
    other, x = program(1), samples(1, 1)
    words = WordFormat.of_input(other.network.input).pack(x[0])
    load = [frame for memory, image in enumerate(other.images) for frame in link.load(0, memory, image)]
    frames = [*load, bytes([link.COMMIT, 0]) + bytes.fromhex(other.network.digest), *link.sample(0, words)]
    boot = b"".join(map(link.encode, [*frames, bytes([link.BOOTED, 0])]))
    with virtual(folder, boot) as board:
        state = rest(board)
        assert (state.loaded, state.sent) == (1, 0)
        assert state.winner == reference.run(other.network, x).winners[0]
        with connect(board.port, baud=BAUD) as connected:
            assert host.verify(connected, other, samples(2, 10)).difference is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 300, bytes(1000)])
def test_flash_without_frames_is_left_alone(folder, content):
    with virtual(folder, content) as board:
        assert rest(board).loaded == 1
        with connect(board.port, baud=BAUD) as connected:
            assert host.verify(connected, program(0), samples(3, 3)).difference is None


def test_a_damaged_load_in_flash_leaves_no_half_network(folder):
    other = program(1)
    load = [frame for memory, image in enumerate(other.images) for frame in link.load(0, memory, image)]
    whole = b"".join(map(link.encode, [*load, bytes([link.BOOTED, 0])]))
    with virtual(folder, whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]) as board:
        assert rest(board).loaded == 0


def test_it_ends_with_its_parent(folder):
    with virtual(folder) as board:
        pid = board._process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(SpikeloomError, match="The virtual board has ended"):
        board.state()


def test_mistakes_are_told(folder):
    with pytest.raises(SpikeloomError, match=r"nowhere\.bin: no such file"):
        VirtualBoard(program(0), image=folder / "nowhere.bin", folder=folder)
    with pytest.raises(SpikeloomError, match="verilator failed"):
        VirtualBoard(program(0), sources={"top.v": "module top(input clk; endmodule"}, folder=folder)


ECHO = """
module top(input clk, input rx, output reg tx);
  initial tx = 1;
  always @(posedge clk) tx <= rx;
endmodule
"""


def test_other_verilog_of_the_same_pins(folder):
    """A board that only has a clock and a UART, and sends back what it receives."""
    text = bytes(range(256))
    with (VirtualBoard(None, clock=16_000_000, baud=3_000_000, sources={"top.v": ECHO}, folder=folder) as board,
          contextlib.closing(open_port(board.port, baud=3_000_000)) as line):
        line.write(text)
        line.timeout = 10
        assert line.read(len(text)) == text
        state = rest(board)
        time.sleep(0.2)
        assert board.state() == state
    assert (state.loaded, state.winner, state.malformed, state.sent, state.received) == (-1, -1, 0, 256, 256)
    assert 256 * 10 * 16 / 3 < state.cycle
