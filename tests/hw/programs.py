"""Small programs to put on an array."""

from itertools import pairwise

import numpy as np
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat


def random_network(seed, *, i_width=1, kind=("ternary", 2), readout="count", sizes=(11, 12, 5), time_steps=3):
    rng = np.random.default_rng(seed)
    weight_format = WeightFormat(*kind)
    layers = []
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(Dense(f"layer_{number}", rng.choice(weight_format.values, (n_out, n_in)), weight_format,
                            rng.integers(1, 5, n_out), rng.integers(-1, 2, n_out), 6, ShiftLeak(2)))
    return Network(InputFormat(sizes[0], i_width), tuple(layers), time_steps, readout)


PLACEMENTS = Placement(8, 2), Placement(5, 1)


def random_program(seed, *, target="icebreaker", placements=PLACEMENTS, reloadable=False, **options):
    return Program(random_network(seed, **options), target, placements, reloadable=reloadable)


def random_inputs(program, samples, seed=0, *, density=0.4, time_steps=None):
    """Inputs (samples, time steps, inputs), the second of them silent."""
    rng, network = np.random.default_rng(seed), program.network
    shape = (samples, time_steps or network.time_steps, network.input.size)
    inputs = (rng.random(shape) < density) * rng.integers(1, 2**network.input.width, shape)
    inputs[1:2] = 0
    return inputs
