"""Random networks and inputs for property tests: every kind of leak, reset, firing and weight."""

import numpy as np
from hypothesis import strategies as st
from spikeloom.network import (
    RESETS,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    NoLeak,
    ShiftLeak,
    Silent,
    Spike,
    TableLeak,
    WeightFormat,
)

WEIGHT_FORMATS = [WeightFormat("binary", 1), WeightFormat("ternary", 2),
                  *(WeightFormat("int", width) for width in range(2, 9)),
                  *(WeightFormat("pot", width) for width in range(2, 5))]


@st.composite
def layers(draw, n_in, name):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_out, v_width = draw(st.integers(1, 6)), draw(st.sampled_from([2, 3, 4, 6, 8, 16]))
    weight_format = draw(st.sampled_from(WEIGHT_FORMATS))
    fire = draw(st.sampled_from([Spike(), Spike(), Silent(), GradedSpike(0, 3), GradedSpike(-128, 127),
                                 GradedSpike(-1, 1)]))
    if isinstance(fire, GradedSpike):
        threshold = 2 ** rng.integers(0, min(v_width + 2, 12), n_out)
    else:
        low, high = draw(st.sampled_from([-3, 1])), draw(st.sampled_from([2, 8, 2**v_width]))
        threshold = rng.integers(low, high, n_out)
    reach = draw(st.sampled_from([0, 3, 100]))
    table = rng.integers(-(2 ** (v_width - 1)), 2 ** (v_width - 1), 2**v_width)
    leak = draw(st.sampled_from([NoLeak(), ShiftLeak(1), ShiftLeak(3), ShiftLeak(15),
                                 TableLeak(tuple(table.tolist()))]))
    return Dense(name=name, weights=rng.choice(weight_format.values, (n_out, n_in)),
                 weight_format=weight_format, threshold=threshold,
                 bias=rng.integers(-reach, reach + 1, n_out), v_width=v_width, leak=leak,
                 reset=draw(st.sampled_from(RESETS)), fire=fire)


@st.composite
def networks(draw, max_layers=3):
    """A `Network` of one to ``max_layers`` small layers."""
    entry = InputFormat(draw(st.integers(1, 9)), draw(st.integers(1, 8)))
    made, size = [], entry.size
    for number in range(draw(st.integers(1, max_layers))):
        made.append(draw(layers(size, f"layer_{number}")))
        size = made[-1].n_out
    return Network(entry, tuple(made), draw(st.integers(1, 7)), draw(st.sampled_from(["count", "membrane"])))


@st.composite
def inputs(draw, network):
    """Inputs (samples, time steps, n_in): random, sparse, silent, all at their highest, or constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, network.time_steps)), network.input.size)
    high = network.input.bounds[1]
    x = rng.integers(0, high + 1, shape)
    kind = draw(st.sampled_from(["random", "sparse", "silent", "full", "constant"]))
    if kind == "sparse":
        x *= rng.random(shape) < 0.1
    elif kind == "silent":
        x[:] = 0
    elif kind == "full":
        x[:] = high
    elif kind == "constant":
        x[:] = x[:, :1]
    return x
