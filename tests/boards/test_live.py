"""Live events on the virtual board: the reference's answers to the same frames, when they are due."""

import io
import re
import time

import numpy as np
import pytest
from event_files import recording as random_events
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloom import cli, link, reference
from spikeloom.boards.connection import connect
from spikeloom.boards.live import Recording, live, replay
from spikeloom.compiler.program import Placement, Program
from spikeloom.data.encode import Frames
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim.virtual import VirtualBoard
from virtual_boards import BAUD, CLOCK, shared

SHAPE, STEPS, WINDOW = (4, 5, 2), 6, 5_000


def network(**changes):
    rng, form = np.random.default_rng(1), WeightFormat("ternary", 2)
    layers = tuple(Dense(name, rng.choice(form.values, (n_out, n_in)), form, rng.integers(1, 4, n_out),
                         rng.integers(-1, 2, n_out), 6, ShiftLeak(2))
                   for name, n_out, n_in in (("hidden", 12, 40), ("out", 3, 12)))
    return Network(**{"input": InputFormat(40, 1, SHAPE), "layers": layers, "time_steps": STEPS} | changes)


def program():
    return Program(network(), "icebreaker", [Placement(6, 2), Placement(3, 1)])


def recorded(events, **encoder):
    return Recording(events, SHAPE, Frames(time_steps=STEPS, window=WINDOW, **encoder))


def frames(recording):
    """What enters the network, cut sample by sample and made into frames by the encoder alone."""
    events, encoder = recording.events, recording.encoder
    duration, start = encoder.time_steps * encoder.window, int(events["t"][0])
    number = (events["t"] - start) // duration
    return np.stack([encoder.frames(events[number == n], recording.shape, start + n * duration)
                     for n in range(number[-1] + 1)])


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with VirtualBoard(program(), clock=CLOCK, baud=BAUD, folder=shared(tmp_path_factory)) as board:
        yield board


@pytest.fixture(autouse=True)
def at_first(request):
    if "board" in request.fixturenames:
        board = request.getfixturevalue("board")
        board.noise()
        board.power()


def assert_equal(answers, recording):
    expected = reference.run(network(), frames(recording))
    assert [answer.scores for answer in answers] == expected.scores.tolist()
    assert [answer.winner for answer in answers] == expected.winners.tolist()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200), duration=st.sampled_from([1, 4_000, 100_000]),
       denoise=st.sampled_from([0, 1, 300, WINDOW, 3 * WINDOW + 1]), downsample=st.sampled_from([1, 2]))
def test_frames_as_they_come_are_those_of_the_encoder(seed, count, duration, denoise, downsample):
    events = random_events(np.random.default_rng(seed), count, SHAPE, duration)
    recording = recorded(events, denoise=denoise, downsample=downsample, width=2)
    made = [[recording.frame(sample, step) for step in range(STEPS)] for sample in range(recording.samples)]
    assert np.array_equal(made, frames(recording))


def test_answers_are_the_references_and_come_when_they_are_due(board):
    recording = recorded(random_events(np.random.default_rng(2), 3_000, SHAPE, 400_000))
    assert recording.samples == 14
    begun, arrived, answers = time.monotonic(), [], []
    with connect(board.port, baud=BAUD, timeout=5) as connected:
        for answer in replay(connected, program(), recording, speed=0.5):
            answers.append(answer)
            arrived.append(time.monotonic() - begun)
        assert connected.traffic.resent == 0
    assert_equal(answers, recording)
    for number, (answer, seen) in enumerate(zip(answers, arrived, strict=True)):
        assert answer.end == pytest.approx((number + 1) * STEPS * WINDOW * 1e-6)
        assert 0 < answer.latency <= seen - answer.end / 0.5 + 1e-3
        assert answer.behind == int(answer.latency / (WINDOW * 1e-6 / 0.5))


def test_time_steps_are_sent_before_the_sample_is_whole(board):
    """Half a sample, then nothing for longer than the host waits for answers, then the rest."""
    answered, x = [], frames(recorded(random_events(np.random.default_rng(3), 200, SHAPE, STEPS * WINDOW - 1)))
    with connect(board.port, baud=BAUD, timeout=0.1) as connected:

        def sample():
            for number, frame in enumerate(x[0]):
                if number == 3:
                    before, until = connected.traffic.received, time.monotonic() + 0.5
                    while time.monotonic() < until:
                        yield None
                    answered.append(connected.traffic.received - before)
                yield frame

        ((scores, winner),) = connected.stream([sample()], STEPS)
        assert connected.traffic.resent == 0
    assert answered[0] >= 3 * len(link.encode(bytes(3)))  # a reply to each of three time steps
    expected = reference.run(network(), x)
    assert scores == expected.scores[0].tolist() and winner == expected.winners[0]


def test_a_bad_line_costs_time_only(board):
    recording = recorded(random_events(np.random.default_rng(4), 4_000, SHAPE, 1_000_000))
    with connect(board.port, baud=BAUD, timeout=0.05) as connected:
        board.noise(flip=0.001, drop=0.001, repeat=0.001, seed=1)
        answers = list(replay(connected, program(), recording, speed=4))
        assert board.noise().faults > 5 and connected.traffic.resent > 0
    assert_equal(answers, recording)


def test_who_cannot_keep_up_says_so_and_drops_nothing(board):
    recording = recorded(random_events(np.random.default_rng(5), 5_000, SHAPE, 300_000))
    out = io.StringIO()
    with connect(board.port, baud=BAUD, timeout=5) as connected:
        live(connected, program(), recording, speed=1e6, out=out)
    *lines, last = out.getvalue().splitlines()
    expected = reference.run(network(), frames(recording))
    assert len(lines) == recording.samples == 10
    for line, scores, winner in zip(lines, expected.scores, expected.winners, strict=True):
        assert re.fullmatch(rf" +0\.\d{{3}} s  winner {winner}  after \S+ ms?  scores {' '.join(map(str, scores))}"
                            r"  [\d,]+ time steps behind", line)
    assert re.match(r"10 answers, 10 behind, by up to [\d,]+ time steps; the slowest after ", last)


def test_as_fast_as_the_line_takes_it_nothing_is_behind(board):
    recording = recorded(random_events(np.random.default_rng(6), 2_000, SHAPE, 12_000_000))
    begun = time.monotonic()
    with connect(board.port, baud=BAUD, timeout=5) as connected:
        answers = list(replay(connected, program(), recording, speed=0))
    assert time.monotonic() - begun < 12
    assert_equal(answers, recording)
    assert all(answer.behind == 0 and answer.latency < 1 for answer in answers)


# The command, and what it refuses --------------------------------------------------------------------------------


def saved(folder, events, **arrays):
    np.savez(folder / "events.npz", events=events, **arrays)
    return folder / "events.npz"


def test_the_command_prints_answers(board, tmp_path, capsys):
    program().save(tmp_path / "program.npz")
    events = random_events(np.random.default_rng(7), 500, SHAPE, 70_000)
    path = saved(tmp_path, np.concatenate([events[:10], events]), offsets=[0, 10, 510], shape=SHAPE)
    arguments = ["live", tmp_path / "program.npz", path, "--recording", 1, "--port", board.port, "--baud", BAUD]
    assert cli.main([str(each) for each in [*arguments, "--window", WINDOW, "--speed", 0]]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    winners = reference.run(network(), frames(recorded(events))).winners
    assert [int(re.search(r"winner (\d+)", line)[1]) for line in lines] == winners.tolist()
    assert last.startswith("3 answers, none behind; ")
    assert cli.main([str(each) for each in arguments]) == 2
    assert capsys.readouterr().err == ("spikeloom: The network does not say how long a frame is, so the window of a "
                                       "live one must be given, in microseconds\n")


def noted(dataset, **encoder):
    return network(notes={"data": {"dataset": dataset, "encoder": encoder}})


@pytest.mark.parametrize(("of", "window", "message"), [
    (noted("nmnist", kind="frames", slicing="count"), None,
     "The network was trained on frames of their number of events, so the window of a live one must be given"),
    (noted("nmnist", kind="frames"), None, "The network was trained on frames of a share of a whole recording, so"),
    (noted("nmnist", kind="frames", window=9), None,
     "events.npz: a sensor of 4 x 5 x 2 gives frames of 4 x 5 x 2, but the network takes 2 x 3 x 2"),
    (noted("digits", kind="direct"), 9, "The network takes images of digits, not events"),
    (network(), -1, "Encoder frames: window must be between 0 and"),
])
def test_what_does_not_suit_is_refused(tmp_path, of, window, message):
    path = saved(tmp_path, random_events(np.random.default_rng(0), 5, SHAPE), shape=SHAPE)
    if "takes 2 x 3" in message:
        of = Network(InputFormat(12, 1, (2, 3, 2)), (Dense("out", np.ones((3, 12), int), WeightFormat("int", 2),
                     np.ones(3, int), np.ones(3, int), 6),), STEPS, notes=of.notes)
    with pytest.raises(SpikeloomError, match=re.escape(message)):
        Recording.read(path, of, window=window)
