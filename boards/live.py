"""Events sent to a board as they come, here from a recording that is replayed in real time, and its answers.

A time step is a window of a fixed duration. Its events are sent as soon as it closes, whatever the answers to those
before; as many time steps as the network takes are a sample, and the next one begins where it ends. Nothing is ever
dropped: what the line or the board cannot take yet waits in the host, and every answer says how late it is.
"""

import dataclasses
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from spikeloom import data
from spikeloom.data import events
from spikeloom.data.encode import Frames
from spikeloom.errors import SpikeloomError

__all__ = ["Answer", "Recording", "live", "replay"]


@dataclass(frozen=True, eq=False)
class Recording:
    """Events, and how they become frames of a network.

    Attributes
    ----------
    events : array (n,) of `spikeloom.data.events.EVENT`, at least one
    shape : (rows, columns, polarities)
        the sensor's
    encoder : spikeloom.data.encode.Frames
        with as many time steps as a sample has, and a ``window``
    """

    events: np.ndarray
    shape: tuple[int, int, int]
    encoder: Frames

    @classmethod
    def read(cls, path, network, *, number=0, window=None):
        """A recording in a file (`spikeloom.data.events.read`), for ``network``.

        Parameters
        ----------
        path : path
        network : Network
            its notes tell the encoder, and the sensor where the file does not; without notes a frame is its input's map
        number : int
            which one of several recordings
        window : int, optional
            a time step's duration in microseconds; needed unless the network was trained on frames of one

        Raises `SpikeloomError` where the file cannot be read or has no events, and where events do not suit the
        network.
        """
        encoder, shape = _encoder(network, window)
        found, shape = events.read(path, number, shape)
        entering = encoder.input_format(shape).shape
        if entering != network.input.shape:
            raise SpikeloomError(f"{path}: a sensor of {_by(shape)} gives frames of {_by(entering)}, but the network "
                                 f"takes {_by(network.input.shape)}")
        if not len(found):
            raise SpikeloomError(f"{path}: has no events")
        return cls(found, shape, encoder)

    @property
    def samples(self):
        """How many samples the events reach into. The last one is filled up with empty time steps."""
        duration = int(self.events["t"][-1] - self.events["t"][0]) + 1
        return -(-duration // (self.encoder.window * self.encoder.time_steps))

    def frame(self, sample, step):
        """What enters the network (n_in,) in a time step of a sample; needs no event that comes after it.

        The frames of a sample are those that the encoder makes of its events.
        """
        window, steps = self.encoder.window, self.encoder.time_steps
        # Denoising looks back, but not beyond the sample.
        earlier = min(step, -(-self.encoder.denoise // window))
        end = int(self.events["t"][0]) + (sample * steps + step + 1) * window
        start = end - (earlier + 1) * window
        first, last = np.searchsorted(self.events["t"], [start, end])
        encoder = dataclasses.replace(self.encoder, time_steps=earlier + 1)
        return encoder.frames(self.events[first:last], self.shape, start)[-1]


def _encoder(network, window):
    """The `Frames` of a live ``network``, and its sensor's shape."""
    if "data" in network.notes:
        dataset, encoder = data.described(network.notes["data"])
        if not isinstance(encoder, Frames):
            raise SpikeloomError(f"The network takes {dataset.holds} of {dataset.name}, not events")
        shape = dataset.shape
    else:
        encoder, shape = Frames(width=network.input.width), network.input.shape
    window = encoder.window if window is None else window
    if not window:
        known = "their number of events" if encoder.slicing == "count" else "a share of a whole recording"
        made = f"was trained on frames of {known}" if "data" in network.notes else "does not say how long a frame is"
        raise SpikeloomError(f"The network {made}, so the window of a live one must be given, in microseconds")
    return dataclasses.replace(encoder, time_steps=network.time_steps, slicing="time", window=window), shape


def _by(shape):
    return " x ".join(map(str, shape))


@dataclass(frozen=True)
class Answer:
    """What a board said of a sample.

    Attributes
    ----------
    end : float
        seconds of the recording, from its first event to the end of the sample's last window
    scores : list of int
    winner : int
    latency : float
        seconds from then to the answer, as time went by here
    behind : int
        time steps that closed meanwhile: 0 where the answer kept up
    """

    end: float
    scores: list
    winner: int
    latency: float
    behind: int


def replay(board, program, recording, *, speed=1.0):
    """Send a `Recording` to a board (a `Connection`) that carries ``program``; an iterator of the `Answer` to each
    sample, as it comes.

    ``speed``: seconds of the recording for each second here; 0 is as fast as the line takes it, and then latencies
    count from the time at which the last time step was made, and nothing is behind.

    Raises `SpikeloomError` when the board carries another build or network, or the line fails.
    """
    if not 0 <= speed < math.inf:
        raise SpikeloomError(f"Speed must be 0 or more, not {speed}")
    board.expect(program)
    steps, window = recording.encoder.time_steps, recording.encoder.window * 1e-6
    begun, closed = time.monotonic(), {}

    def frames(sample):
        for step in range(steps):
            closes = begun + (sample * steps + step + 1) * window / speed if speed else time.monotonic()
            while time.monotonic() < closes:
                yield None
            closed[sample] = closes
            yield recording.frame(sample, step)

    answers = board.stream(map(frames, range(recording.samples)), steps)
    for sample, (scores, winner) in enumerate(answers):
        latency = time.monotonic() - closed.pop(sample)
        yield Answer((sample + 1) * steps * window, scores, winner, latency, int(latency / window * speed))


def live(board, program, recording, *, speed=1.0, out=None):
    """`replay`, with a line for each answer as it comes, and one in the end that sums up.

    ``out`` : text file; standard output, unless said otherwise
    """
    out, answers, begun = out or sys.stdout, [], time.monotonic()
    for answer in replay(board, program, recording, speed=speed):
        answers.append(answer)
        late = f"  {_counted(answer.behind, 'time step')} behind" if answer.behind else ""
        out.write(f"{answer.end:9.3f} s  winner {answer.winner}  after {_milliseconds(answer.latency)}  scores "
                  f"{' '.join(map(str, answer.scores))}{late}\n")
        out.flush()
    late = [answer.behind for answer in answers if answer.behind]
    kept_up = f"{len(late)} behind, by up to {_counted(max(late), 'time step')}" if late else "none behind"
    slowest, pace = max(answer.latency for answer in answers), answers[-1].end / (time.monotonic() - begun)
    out.write(f"{_counted(len(answers), 'answer')}, {kept_up}; the slowest after {_milliseconds(slowest)}; "
              f"{pace:.3g} seconds of events a second\n")


def _counted(count, what):
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _milliseconds(seconds):
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
