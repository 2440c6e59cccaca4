"""The host on the virtual board: the reference's answers, whatever happens to the line, the board or the host."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tty
from pathlib import Path

import numpy as np
import pytest
import serial
import virtual_boards
from spikeloom import cli, link, reference
from spikeloom.boards import host
from spikeloom.boards.connection import Connection, Refusal
from spikeloom.boards.connection import connect as connect_to
from spikeloom.boards.monitor import monitor
from spikeloom.boards.port import open_port
from spikeloom.errors import SpikeloomError
from virtual_boards import BAUD, SIZES, STEPS, program, samples, shared, virtual


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with virtual(shared(tmp_path_factory)) as board:
        yield board


@pytest.fixture(autouse=True)
def at_first(board):
    """Each test begins with a board that was just switched on."""
    board.noise()
    board.power()


def connect(board, timeout=0.5):
    return connect_to(board.port, baud=BAUD, timeout=timeout)


def assert_equal(program, inputs, scores, winners):
    expected = reference.run(program.network, inputs)
    assert np.array_equal(scores, expected.scores)
    assert np.array_equal(winners, expected.winners)


@pytest.mark.parametrize("steps, density", [(6, 0.3), (1, 0.0), (STEPS, 0.5), (STEPS, 1.0)])
def test_scores_are_the_references(board, steps, density):
    inputs = samples(steps, 40 if steps < STEPS else 6, steps=steps, density=density)
    with connect(board) as connected:
        assert_equal(program(0), inputs, *host.run(connected, program(0), inputs))
        assert connected.traffic.resent == 0


def test_results_come_in_order_while_others_are_under_way(board):
    inputs = samples(1, 30)
    expected = reference.run(program(0).network, inputs)
    taken = []

    def supply():
        for number, x in enumerate(inputs):
            taken.append(number)
            yield x

    with connect(board) as connected:
        for number, (scores, winner) in enumerate(connected.samples(supply())):
            assert (scores, winner) == (expected.scores[number].tolist(), expected.winners[number])
            if number == 0:
                assert len(taken) > 1


def test_an_iterator_left_early_leaves_a_usable_board(board):
    inputs = samples(2, 20)
    with connect(board) as connected:
        for _ in connected.samples(inputs):
            break
        assert_equal(program(0), inputs, *host.run(connected, program(0), inputs))


def test_verify_compares_scores_and_spikes(board):
    inputs = samples(3, 50)
    told = []
    with connect(board) as connected:
        result = host.verify(connected, program(0), inputs, progress=told.append)
    trace = reference.run(program(0).network, inputs)
    assert result.difference is None
    assert (result.samples, result.scores, result.resent) == (50, 250, 0)
    assert result.spikes == inputs.sum() + trace.spikes[0].sum()
    assert result.cycles > 0
    assert told == [50]


def test_verify_names_time_step_and_layer(board):
    """The board holds another network under the name of the one that is expected."""
    right, wrong, inputs = program(0), program(5), samples(4, 10)
    with connect(board) as connected:
        host.load(connected, wrong)
        connected._ask(bytes([link.COMMIT, 0]) + bytes.fromhex(right.network.digest))
        connected.identify()
        difference = host.verify(connected, right, inputs).difference
    a, b = (reference.run(p.network, inputs) for p in (right, wrong))
    totals = [x.spikes[0].sum(axis=2) for x in (a, b)]
    running = [x.spikes[1].cumsum(axis=1) for x in (a, b)]
    differ = (totals[0] != totals[1]) | (running[0] != running[1]).any(axis=2)
    sample, step = np.argwhere(differ)[0]
    assert (difference.sample, difference.time_step) == (sample, step)
    if totals[0][sample, step] != totals[1][sample, step]:
        assert (difference.layer, difference.neuron) == ("layer_0", None)
        assert (difference.expected, difference.seen) == (totals[0][sample, step], totals[1][sample, step])
    else:
        neuron = (running[0] != running[1])[sample, step].argmax()
        assert (difference.layer, difference.neuron) == ("layer_1", neuron)


def test_load_another_network(board):
    told, inputs = [], samples(5, 10)
    with connect(board) as connected:
        for seed in (1, 2, 0):
            host.load(connected, program(seed), progress=told.append)
            assert host.verify(connected, program(seed), inputs).difference is None
            with pytest.raises(SpikeloomError, match=f"holds network {program(seed).network.digest[:16]}"):
                host.run(connected, program(seed + 1), inputs)
    assert told[-1] == 1 and told == sorted(told[:len(told) // 3]) * 3


def test_another_shape_is_refused(board):
    other = program(0, sizes=(40, 11, 5))
    with connect(board) as connected:
        for refused in (lambda: host.load(connected, other), lambda: host.run(connected, other, samples(0, 1))):
            with pytest.raises(SpikeloomError, match=f"the program is for build {other.build_digest[:16]}"):
                refused()
        with pytest.raises(SpikeloomError, match=r"\(the board has inputs 40, not 41\)"):
            host.load(connected, program(0, sizes=(41, 12, 5)))


def test_inputs_that_do_not_fit_are_refused(board):
    with connect(board) as connected:
        with pytest.raises(SpikeloomError, match="A sample for this board must be integers between 0 and 1"):
            list(connected.samples(2 * np.ones((1, 3, SIZES[0]), int)))
        assert_equal(program(0), samples(6, 3), *host.run(connected, program(0), samples(6, 3)))


# Faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["flip", "drop", "repeat"])
def test_a_bad_line_costs_time_only(board, fault):
    inputs = [*samples(7, 150), *samples(8, 5, steps=STEPS, density=0.9)]  # the latter take several frames each
    with connect(board, timeout=0.05) as connected:
        board.noise(**{fault: 0.002}, seed=1)
        results = list(connected.samples(inputs))
        faults = board.noise().faults
        assert connected.traffic.resent > 0 and faults > 5
    for x, (scores, winner) in zip(inputs, results, strict=True):
        assert_equal(program(0), x[None], [scores], [winner])


def test_verify_on_a_bad_line(board):
    with connect(board, timeout=0.05) as connected:
        board.noise(flip=0.0005, drop=0.0005, repeat=0.0005, seed=2)
        result = host.verify(connected, program(0), samples(8, 60))
        board.noise()
    assert result.difference is None and result.samples == 60 and result.resent > 0


def test_load_on_a_bad_line(board):
    with connect(board, timeout=0.05) as connected:
        board.noise(flip=0.001, drop=0.001, seed=3)
        host.load(connected, program(1))
        board.noise()
        assert connected.traffic.resent > 0
        assert host.verify(connected, program(1), samples(9, 20)).difference is None


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from spikeloom.boards import connection, host
from virtual_boards import program
def stop(share):
    if share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
with connection.connect({port!r}, baud={baud}) as board:
    host.load(board, program(1), progress=stop)
"""


def test_a_host_killed_in_a_load_leaves_no_half_network(board):
    script = KILLED.format(tests=str(Path(virtual_boards.__file__).parent), port=board.port, baud=BAUD)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    with connect(board) as connected:
        assert not connected.loaded
        for wanted in (0, 1):
            with pytest.raises(SpikeloomError, match="holds no network"):
                host.run(connected, program(wanted), samples(0, 1))
        with pytest.raises(Refusal, match="no network is loaded"):
            list(connected.samples(samples(0, 3)))
        host.load(connected, program(1))
        assert host.verify(connected, program(1), samples(10, 10)).difference is None


def test_a_commit_after_a_reset_is_refused(board):
    """What was loaded may be gone, so its name must not stand over what is there."""
    with connect(board) as connected:
        host.load(connected, program(1))
        board.power()
        with pytest.raises(Refusal, match="no network is loaded"):
            connected._ask(bytes([link.COMMIT, 0]) + bytes.fromhex(program(1).network.digest))
        connected.identify()
        assert host.verify(connected, program(0), samples(10, 3)).difference is None


def test_a_reset_among_samples_costs_those_under_way(board):
    inputs = samples(11, 30)
    with connect(board, timeout=0.1) as connected:
        results = []
        for result in connected.samples(inputs):
            results.append(result)
            if len(results) == 5:
                board.power()
        assert_equal(program(0), inputs, *host._arrays(results, 5))


@pytest.mark.parametrize("when", [5, 30])
def test_a_reset_that_brings_an_old_network_back_is_told(board, when):
    inputs = samples(12, 30)
    with connect(board, timeout=0.1) as connected:
        host.load(connected, program(1))
        with pytest.raises(SpikeloomError, match="was reset or loaded on the way"):
            for number, _ in enumerate(connected.samples(inputs), 1):
                if number == when:
                    board.power()


@pytest.mark.parametrize("cut", [3, 100, 254, 300])
def test_a_cable_pulled_in_the_middle_of_a_sample(board, cut):
    frames = b"".join(map(link.encode, link.sample(1, samples(13, 1, steps=STEPS, density=0.9)[0].reshape(STEPS, 5, 8)
                                                   @ (1 << np.arange(8)))))
    with connect(board) as connected:
        connected.line.write(frames[:cut])
    with connect(board) as connected:
        result = host.verify(connected, program(0), samples(14, 10))
    assert result.difference is None and result.samples == 10


def test_a_host_that_never_reads(board):
    with connect(board) as connected:
        window = b"".join(link.encode(frame) for n in range(30) for frame in link.sample(n, np.full((2, 5), 255)))
        while not board.state().lost:
            with contextlib.suppress(serial.SerialTimeoutException):
                connected.line.write(window)
    with connect(board) as connected:
        result = host.verify(connected, program(0), samples(15, 10))
        assert result.difference is None and result.samples == 10


def test_lines_without_a_board_are_told():
    terminal, end = os.openpty()
    tty.setraw(end)
    port = os.ttyname(end)
    with pytest.raises(SpikeloomError, match=f"{port}: nothing answers at {BAUD} baud"):
        with connect_to(port, baud=BAUD, timeout=0.01):
            pass
    os.write(terminal, bytes(range(256)) * 3)
    line = open_port(port, baud=BAUD)
    os.write(terminal, b"\xc0login:\xc0" * 10)
    with pytest.raises(SpikeloomError, match="but no answer of a Spikeloom board"):
        Connection(line, timeout=0.01, tries=3)
    os.close(terminal)
    with pytest.raises(SpikeloomError, match="the connection broke"):
        Connection(line, timeout=0.01)
    line.close()
    os.close(end)


def test_ports_that_are_not_there_are_told():
    with pytest.raises(SpikeloomError, match="/dev/none: cannot be opened at 9600 baud: No such file or directory"):
        open_port("/dev/none", baud=9600)
    with pytest.raises(SpikeloomError, match="Name the serial port of the board"):
        open_port(baud=9600)


def test_a_port_in_use_is_told(board):
    with connect(board), pytest.raises(SpikeloomError, match="cannot be opened"), connect(board):
        pass


# Monitor ---------------------------------------------------------------------------------------------


def test_monitor_shows_what_happens(board):
    inputs, out = samples(16, 20), io.StringIO()
    trace = reference.run(program(0).network, inputs)
    with connect(board) as connected:
        done = monitor(connected, program(0), inputs, trace.winners, seconds=0.5, interval=0.2, out=out)
    tables = out.getvalue().split("samples ")[1:]
    assert len(tables) >= 2 and f"{done:,} done" in tables[-1]
    assert "(accuracy 100.00%)" in tables[-1] and "0 requests sent again" in tables[-1]
    shown = tables[-1].split("winners ")[1].split("(")[0].split()
    assert [int(winner) for winner in shown] == [trace.winners[n % 20] for n in range(done - len(shown), done)]


# Command line ----------------------------------------------------------------------------------------


def test_verbs(board, tmp_path, capsys):
    inputs = samples(17, 20)
    trace = reference.run(program(0).network, inputs)
    np.savez(tmp_path / "inputs.npz", inputs=inputs, labels=trace.winners)
    for seed in (0, 1):
        program(seed).save(tmp_path / f"{seed}.npz")

    def spikeloom(verb, seed, *options):
        status = cli.main([verb, str(tmp_path / f"{seed}.npz"), "--port", board.port, "--baud", str(BAUD), *options])
        return status, *capsys.readouterr()

    given = ("--inputs", str(tmp_path / "inputs.npz"))
    status, out, _ = spikeloom("run", 0, *given, "-o", str(tmp_path / "results.npz"))
    assert status == 0 and out == f"{' '.join(map(str, trace.winners))}\naccuracy 100.00%\n"
    with np.load(tmp_path / "results.npz") as results:
        assert np.array_equal(results["scores"], trace.scores)
    status, out, _ = spikeloom("verify", 0, *given)
    assert status == 0
    assert out.startswith(f"the board at {board.port} equals the reference on 20 samples: 100 scores and ")
    status, _, error = spikeloom("verify", 1, *given)
    assert status == 2 and "The board holds network" in error
    status, out, _ = spikeloom("load", 1, "--check")
    assert status == 1 and "other content in layer_0.weights" in out
    assert spikeloom("load", 1)[0] == 0
    assert spikeloom("load", 1, "--check")[:2] == (0, f"the board at {board.port}: all memories as they should be\n")
    assert spikeloom("verify", 1, *given)[0] == 0
    assert spikeloom("verify", 0, *given, "--load")[0] == 0
    status, out, _ = spikeloom("monitor", 0, *given, "--seconds", "0.1")
    assert status == 0 and "(accuracy 100.00%)" in out
    with connect(board) as connected:
        connected._ask(bytes([link.COMMIT, 0]) + bytes.fromhex(program(1).network.digest))
    status, _, error = spikeloom("verify", 1, *given)
    assert status == 1 and "differs from the reference: sample " in error


def test_a_baud_rate_must_be_known(board, tmp_path, capsys):
    program(0).save(tmp_path / "program.npz")
    assert cli.main(["load", str(tmp_path / "program.npz"), "--port", board.port]) == 2
    assert "holds no build that tells the baud rate; give --baud" in capsys.readouterr().err
