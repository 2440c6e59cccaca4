"""The virtual board that several tests share, and samples for it."""

import functools
from itertools import pairwise

import numpy as np
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat
from spikeloom.sim.virtual import VirtualBoard

SIZES, STEPS = (40, 12, 5), 80

#: Hz, and bits per second: the fastest that the UART allows.
CLOCK, BAUD = 48_000_000, 12_000_000

#: Where its flash holds frames to begin with.
BOOT, IMAGE = 0x10000, "flash.bin"


def program(seed, *, sizes=SIZES):
    """A reloadable program; those of all seeds have the same shape."""
    rng = np.random.default_rng(seed)
    form = WeightFormat("ternary", 2)
    layers = tuple(Dense(f"layer_{number}", rng.choice(form.values, (n_out, n_in)), form, rng.integers(2, 7, n_out),
                         rng.integers(-1, 2, n_out), 6, ShiftLeak(2))
                   for number, (n_in, n_out) in enumerate(pairwise(sizes)))
    return Program(Network(InputFormat(sizes[0]), layers, STEPS), "icebreaker", [Placement(6, 2), Placement(5, 1)],
                   reloadable=True)


def samples(seed, count, *, steps=6, density=0.3):
    return (np.random.default_rng(seed).random((count, steps, SIZES[0])) < density).astype(np.int64)


def shared(tmp_path_factory):
    """The folder where all tests keep the compiled simulator."""
    folder = tmp_path_factory.getbasetemp() / "virtual"
    folder.mkdir(exist_ok=True)
    return folder


def virtual(folder, frames=b""):
    """The `VirtualBoard` that carries ``program(0)``; it begins with the ``frames`` in its flash."""
    (folder / IMAGE).write_bytes(frames)
    return _made(folder)


@functools.cache
def _made(folder):
    return VirtualBoard(program(0), clock=CLOCK, baud=BAUD, image=folder / IMAGE, offset=BOOT, folder=folder)
