"""From grey levels, events, spike trains or sounds to what enters a network at each time step.

Each encoder of images is a value, called on images (batch, values), a tensor of uint8 (0 to 255) or floats (0 to 1)
whose values, a grey level or three of colors for each pixel, are in the order of rows, columns and channels; the result
is uint8 of shape (batch, time steps, n_in). It depends on nothing but the encoder and the image:
neither on the batch an image comes in nor on its order.

Recordings differ in length, so their encoders (`Frames` of events, `Spikes` of spike trains, `Bands` of sounds) make
frames of each when data is loaded (`spikeloom.data.load`), and a call on a batch of frames returns it as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import InputFormat

from .events import tonic

SLICINGS = ("time", "count")
MOST_IN_INT16 = 2**15 - 1

CODINGS = ("delta", "levels")

#: Hertz at which the lowest band begins.
LOWEST = 100


def _levels(images):
    """Images as float32 in 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class _Encoder:
    time_steps: int = 8
    width = 1
    takes = "images"  # what data sets must hold

    def __post_init__(self):
        if not 1 <= self.time_steps <= 65535:
            raise SpikeloomError(f"Encoder {self.kind}: time_steps must be between 1 and 65535, "
                                 f"not {self.time_steps}")

    def input_format(self, shape):
        """The `InputFormat` of a network fed with maps of a ``shape``, (rows, columns, channels)."""
        return InputFormat(math.prod(shape), self.width, shape)


@dataclass(frozen=True)
class Direct(_Encoder):
    """The grey level's ``width`` highest bits at every time step; width 1 is the image in black and white.

    The time axis is an ``expand``: `SpikingNetwork` sees that the input is constant and does the first
    layer's matrix product once.
    """

    width: int = 1
    kind = "direct"

    def __post_init__(self):
        super().__post_init__()
        InputFormat(1, self.width)

    def __call__(self, images):
        codes = (_levels(images) * 2**self.width).floor_().clamp_(0, 2**self.width - 1).to(torch.uint8)
        return codes[:, None].expand(-1, self.time_steps, -1)


@dataclass(frozen=True)
class Rate(_Encoder):
    """A spike with the grey level as its probability, at each time step anew (Bernoulli).

    The random numbers are a hash of ``seed``, the image itself, time step and pixel.
    """

    seed: int = 0
    kind = "rate"

    def __call__(self, images):
        levels = _levels(images)
        pixel = torch.arange(images.shape[1], device=images.device)
        content = (levels * 255).round_().long() * _hash(pixel + 1)
        of_image = _hash(content.sum(1) + _hash(torch.tensor(self.seed, device=images.device)))  # (batch,)
        step = _hash(torch.arange(self.time_steps, device=images.device) - 2**40)
        random = _hash(of_image[:, None, None] + step[:, None] + pixel * 0x5851F42D4C957F2D)
        uniform = (random >> 40).float() / 2**24 + 0.5  # 24 bits of it, in [0, 1)
        return (uniform < levels[:, None]).to(torch.uint8)


@dataclass(frozen=True)
class Latency(_Encoder):
    """One spike, the earlier the brighter, t = round((1 − level)·(time_steps − 1)); none below
    ``threshold``."""

    threshold: float = 0.1
    kind = "latency"

    def __post_init__(self):
        super().__post_init__()
        _check_threshold(self)

    def __call__(self, images):
        levels = _levels(images)
        when = ((1 - levels) * (self.time_steps - 1)).round_()
        step = torch.arange(self.time_steps, device=images.device)[:, None]
        return ((when[:, None] == step) & (levels >= self.threshold)[:, None]).to(torch.uint8)


@dataclass(frozen=True)
class Delta(_Encoder):
    """Changes along the image, read as ``time_steps`` rows one after the other, from a dark row before the
    first.

    Each value of a row has two inputs: the first half of them fires where the level rises by ``threshold`` or more
    from a row to the next, the second half where it falls by as much; so the map has two rows. The pixels must divide
    into the time steps.
    """

    threshold: float = 0.2
    kind = "delta"

    def __post_init__(self):
        super().__post_init__()
        _check_threshold(self)

    def input_format(self, shape):
        """The `InputFormat` of a network fed with images of a ``shape``, (rows, columns, channels)."""
        pixels = shape[0] * shape[1]
        if pixels % self.time_steps:
            raise SpikeloomError(f"Encoder delta: images of {pixels} pixels do not divide into "
                                 f"{self.time_steps} rows; time_steps must be a divisor")
        return super().input_format((2, pixels // self.time_steps, shape[2]))

    def __call__(self, images):
        rows = _levels(images).view(len(images), self.time_steps, -1)
        change = torch.diff(rows, dim=1, prepend=torch.zeros_like(rows[:, :1]))
        return torch.cat([change >= self.threshold, change <= -self.threshold], 2).to(torch.uint8)


@dataclass(frozen=True)
class Pixels(_Encoder):
    """The image pixel by pixel, as many at each time step as make ``time_steps``, which must divide them; of each value
    the ``width`` highest bits.

    ``permute``: 0 for the order of rows; or the seed, up to 2^32 - 1, of NumPy's ``RandomState``, whose ``permutation``
    is the order in which values come, grey levels or colors.
    """

    width: int = 8
    permute: int = 0
    kind = "pixels"

    def __post_init__(self):
        super().__post_init__()
        InputFormat(1, self.width)
        if not 0 <= self.permute < 2**32:
            raise SpikeloomError(f"Encoder pixels: permute must be between 0 and 2^32 - 1, not {self.permute}")

    def input_format(self, shape):
        """The `InputFormat` of a network fed with images of a ``shape``, (rows, columns, channels)."""
        pixels = shape[0] * shape[1]
        if pixels % self.time_steps:
            raise SpikeloomError(f"Encoder pixels: images of {pixels} pixels do not divide into {self.time_steps} time "
                                 "steps; time_steps must be a divisor")
        return super().input_format((1, pixels // self.time_steps, shape[2]))

    def order(self, values):
        """Of an image of so many ``values``, that which comes 1st, 2nd …: (values,)."""
        return np.random.RandomState(self.permute).permutation(values) if self.permute else np.arange(values)

    def __call__(self, images):
        codes = (_levels(images) * 2**self.width).floor_().clamp_(0, 2**self.width - 1).to(torch.uint8)
        if self.permute:
            codes = codes[:, torch.from_numpy(self.order(codes.shape[1])).to(codes.device)]
        return codes.view(len(codes), self.time_steps, -1)


class _OfRecordings(_Encoder):
    def __call__(self, frames):
        return frames


@dataclass(frozen=True)
class Frames(_OfRecordings):
    """Events of a recording counted for each position and polarity, one frame for each time step.

    Parameters
    ----------
    slicing : "time" or "count"
        what all frames of a recording have alike: their duration, or their number of events (within one)
    window : int
        with slicing "time", a frame's duration in microseconds, from the first event on; what comes after the last
        frame is left out, and frames after the last event are empty. 0 divides the time from the first event to the
        last among the frames.
    width : int
        bits of a count, 1 to 8; counts saturate at 2^width - 1, so that 1 says whether there was any event
    downsample : int
        positions on a side of the square that becomes one, 1 to 32
    rows : int
        in place of that, rows of a frame, at most the sensor's, to which columns are in proportion: row y of R becomes
        floor(y * rows / R). 0 leaves all of them
    denoise : int
        drop an event unless one of its four neighbours had one less than so many microseconds before; 0 keeps all
    """

    slicing: str = "time"
    window: int = 0
    width: int = 1
    downsample: int = 1
    denoise: int = 0
    rows: int = 0
    kind = "frames"
    takes = "events"

    def __post_init__(self):
        super().__post_init__()
        if self.slicing not in SLICINGS:
            raise SpikeloomError(f"Encoder frames: slicing must be one of {', '.join(SLICINGS)}, not {self.slicing!r}")
        for name, low, high, unit in (("window", 0, 2**31 - 1, " microseconds"), ("width", 1, 8, " bits"),
                                      ("downsample", 1, 32, ""), ("denoise", 0, 2**31 - 1, " microseconds"),
                                      ("rows", 0, 65536, "")):
            if not low <= getattr(self, name) <= high:
                raise SpikeloomError(f"Encoder frames: {name} must be between {low} and {high}{unit}, "
                                     f"not {getattr(self, name)}")
        if self.window and self.slicing != "time":
            raise SpikeloomError(f'Encoder frames: window is for slicing "time", not "{self.slicing}"')
        if self.rows and self.downsample > 1:
            raise SpikeloomError(f"Encoder frames: rows cannot be set beside downsample, but are {self.rows} and "
                                 f"{self.downsample}")

    def _scale(self, shape):
        """Positions of a frame, and of the sensor, that lie in the same length of a side."""
        if self.rows > shape[0]:
            raise SpikeloomError(f"Encoder frames: rows must be at most the sensor's {shape[0]}, not {self.rows}")
        return (self.rows, shape[0]) if self.rows else (1, self.downsample)

    def _shape(self, shape):
        part, whole = self._scale(shape)
        return -(-shape[0] * part // whole), -(-shape[1] * part // whole), shape[2]

    def input_format(self, shape):
        """The `InputFormat` of a network fed with frames of a sensor of a ``shape``, (rows, columns, polarities)."""
        return super().input_format(self._shape(shape))

    def frames(self, events, shape, start=None):
        """Frames (time steps, n_in) uint8 of one recording, or of a part of one.

        Parameters
        ----------
        events : array (n,) of `spikeloom.data.events.EVENT`
            in the order of their times
        shape : (rows, columns, polarities)
            the sensor's; every event lies within it
        start : int, optional
            the time (microseconds) at which the first frame begins; by default that of the first event. None is before
            it.
        """
        transforms = tonic().transforms
        events = events.copy()
        if length := len(events):
            start = events["t"][0] if start is None else start
            length = int(events["t"][-1] - start) + 1
            events["t"] += self.denoise - start  # Denoise takes every pixel to have had an event at time 0
        if self.denoise and len(events):
            events = transforms.Denoise(self.denoise)(events)
        part, whole = self._scale(shape)
        for axis in "xy":  # tonic's Downsample rounds what it multiplies by
            events[axis] = events[axis].astype(np.int64) * part // whole

        # Asked for a number of frames, ToFrame rounds their length down and loses what is left at the end, so it is
        # asked for a length instead, by a clock that makes it an integer. One that ticks once an event makes frames of
        # equal counts.
        if self.slicing == "count":
            length = len(events)
            events["t"] = np.arange(length)
        else:
            events["t"] -= self.denoise
        ticks, window = (1, self.window) if self.window else (self.time_steps, length)
        events["t"] *= ticks
        rows, columns, channels = self._shape(shape)
        to_frame = transforms.ToFrame((columns, rows, channels), time_window=window, start_time=0,
                                      end_time=window * self.time_steps)
        frames = np.zeros((self.time_steps, channels, rows, columns), np.int32)
        for first in range(0, len(events), MOST_IN_INT16):  # ToFrame counts in int16
            frames += to_frame(events[first:first + MOST_IN_INT16])
        return np.minimum(frames, 2**self.width - 1).astype(np.uint8).transpose(0, 2, 3, 1).reshape(self.time_steps, -1)


@dataclass(frozen=True)
class Spikes(_OfRecordings):
    """Spike trains as they were recorded: how many spikes each has in each of ``time_steps`` parts of equal length.

    The time steps of a recording must divide into the parts.

    Parameters
    ----------
    width : int
        bits of a count, 1 to 8; counts saturate at 2^width - 1, so that 1 says whether there was any spike
    """

    width: int = 1
    kind = "spikes"
    takes = "spikes"

    def __post_init__(self):
        super().__post_init__()
        InputFormat(1, self.width)

    def input_format(self, shape):
        """The `InputFormat` of a network fed with recordings of a ``shape``, (time steps, trains, 1)."""
        if shape[0] % self.time_steps:
            raise SpikeloomError(f"Encoder spikes: recordings of {shape[0]} time steps do not divide into "
                                 f"{self.time_steps} parts; time_steps must be a divisor")
        return super().input_format((1, *shape[1:]))

    def frames(self, trains):
        """Frames (time steps, n_in) uint8 of one recording, ``trains`` (its time steps, n_in) of 0 and 1."""
        counts = trains.reshape(self.time_steps, -1, trains.shape[1]).sum(1)
        return np.minimum(counts, 2**self.width - 1).astype(np.uint8)


@dataclass(frozen=True)
class Bands(_OfRecordings):
    """How loud a sound is in each of several bands of frequency, or how much louder or quieter it gets.

    The spectrum is that of a Hann window twice as long as ``hop``. Bands are triangles whose corners are equally far
    apart on the mel scale, from `LOWEST` to half of the sampling rate. A band with the power P has the level
    log10(1 + P / P0) * 10 / step, where P0 is at ``floor``. Time steps after the end of a sound are silent, and what
    comes after the last time step is left out.

    Parameters
    ----------
    coding : "delta" or "levels"
        "levels": each band's level, rounded down. "delta": each band has two inputs, the first one for whole steps that
        its level fell and the second one for whole steps that it rose since they last told, as a pixel of an event
        camera tells changes; what exceeds ``width`` is told in the next time steps.
    bands : int
        1 to 256
    hop : int
        milliseconds from a time step to the next, 1 to 1000
    step : float
        decibels of a level
    floor : float
        decibels, at most 0, where 0 is the power of the loudest tone that there can be
    width : int
        bits of a level, or of the number of steps, 1 to 8; they saturate at 2^width - 1
    """

    coding: str = "delta"
    bands: int = 20
    hop: int = 16
    step: float = 6.0
    floor: float = -78.0
    width: int = 1
    kind = "bands"
    takes = "sounds"

    def __post_init__(self):
        super().__post_init__()
        InputFormat(1, self.width)
        if self.coding not in CODINGS:
            raise SpikeloomError(f"Encoder bands: coding must be one of {', '.join(CODINGS)}, not {self.coding!r}")
        for name, low, high, unit in (("bands", 1, 256, ""), ("hop", 1, 1000, " milliseconds"),
                                      ("step", 0.1, 100, " decibels"), ("floor", -200, 0, " decibels")):
            if not low <= getattr(self, name) <= high:
                raise SpikeloomError(f"Encoder bands: {name} must be between {low} and {high}{unit}, "
                                     f"not {getattr(self, name)}")

    def input_format(self, shape):
        """The `InputFormat` of a network fed with sounds, whose ``shape`` is (1, 1, 1): bands are columns, and falls
        and rises are channels."""
        return super().input_format((1, self.bands, 2 if self.coding == "delta" else 1))

    def frames(self, sound, rate):
        """Frames (time steps, n_in) uint8 of one ``sound``, samples (n,) from -1 to 1, ``rate`` of them a second."""
        levels = self.levels(sound, rate)
        most = 2**self.width - 1
        if self.coding == "levels":
            return np.minimum(levels, most).astype(np.uint8)
        told = np.zeros(self.bands)
        frames = np.zeros((self.time_steps, self.bands, 2), np.uint8)
        for frame, level in zip(frames, levels, strict=True):
            change = np.trunc(level - told).clip(-most, most)
            told += change
            frame[:, 0], frame[:, 1] = (-change).clip(0), change.clip(0)
        return frames.reshape(self.time_steps, -1)

    def levels(self, sound, rate):
        """Levels (time steps, bands) of a sound, not rounded."""
        hop = round(rate * self.hop / 1000)
        heard = np.zeros((self.time_steps + 1) * hop)
        heard[:len(sound)] = sound[:len(heard)]
        window = np.hanning(2 * hop + 1)[:-1]
        windows = np.lib.stride_tricks.sliding_window_view(heard, 2 * hop)[::hop]
        power = np.abs(np.fft.rfft(windows * window) * (2 / window.sum()))**2 @ self._filters(2 * hop, rate)
        return 10 / self.step * np.log10(1 + power * 10**(-self.floor / 10))

    def _filters(self, length, rate):
        """The share that each frequency of a spectrum has in each band (length / 2 + 1, bands)."""
        lowest, highest = (1127 * math.log1p(frequency / 700) for frequency in (LOWEST, rate / 2))
        corners = 700 * np.expm1(np.linspace(lowest, highest, self.bands + 2) / 1127)
        frequency = np.fft.rfftfreq(length, 1 / rate)[:, None]
        rising = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
        falling = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
        filters = np.minimum(rising, falling).clip(0)
        if not filters.any(0).all():
            raise SpikeloomError(f"Encoder bands: some of {self.bands} bands lie between the lines of the spectrum at "
                                 f"a hop of {self.hop} milliseconds; take fewer bands, or a longer hop")
        return filters


def _check_threshold(encoder):
    if not 0 < encoder.threshold <= 1:
        raise SpikeloomError(f"Encoder {encoder.kind}: threshold must lie above 0 and up to 1, "
                             f"not {encoder.threshold}")


def _hash(x):
    """A well-mixed int64 for each int64: two rounds of multiply and xor-shift (as in splitmix64, Steele
    2014)."""
    for multiplier, shift in ((-0x40A7B892E31B1A47, 30), (-0x6B2FB644ECCEEE15, 27)):
        x = x * multiplier
        x = x ^ ((x >> shift) & (2 ** (64 - shift) - 1))
    return x


#: By the name a configuration gives them.
ENCODERS = {cls.kind: cls for cls in (Direct, Rate, Latency, Delta, Pixels, Frames, Spikes, Bands)}
