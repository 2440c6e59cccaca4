"""A reset in the middle of a sample leaves nothing behind for the next one."""

import dataclasses

import numpy as np
import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.sim import Simulator
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw.array import Array
from spikeloom.network import (
    Branch,
    Conv2d,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    Shortcut,
    WeightFormat,
)
from spikeloom.sim import trace

#: Clock cycles after which the sample is over, and until its scores are certainly there.
SAMPLE, SCORES = 60, 150
#: The same for maps.
MAP_SAMPLE, MAP_SCORES = 260, 500


def network(width):
    draw = np.random.default_rng(3)

    def layer(name, n_in, n_out, threshold):
        return Dense(name, draw.integers(-3, 4, (n_out, n_in)), WeightFormat("int", 3), np.full(n_out, threshold),
                     np.zeros(n_out, int), 5, NoLeak())

    return Network(InputFormat(5, width), (layer("hidden", 5, 6, 4), layer("output", 6, 3, 2)), 2)


def map_network(width):
    """With a shortcut, so that rows wait in all places there are."""
    draw, shape = np.random.default_rng(5), (4, 3, 2)

    def conv(name, kernel, **fields):
        return Conv2d(name=name, input_shape=shape, weights=draw.integers(-1, 2, (2, 2, kernel, kernel)),
                      weight_format=WeightFormat("ternary", 2), threshold=np.array([2, 1]), bias=np.zeros(2, int),
                      v_width=5, padding=kernel // 2, **fields)

    shortcut = Shortcut("input", shape, draw.integers(-1, 2, (2, 2, 1, 1)), WeightFormat("ternary", 2))
    pool = Pool("max", 2, 1)
    last = Dense("last", draw.integers(-1, 2, (4, 12)), WeightFormat("ternary", 2), np.full(4, 2), np.zeros(4, int), 5,
                 input_shape=shape, pool=pool)
    return Network(InputFormat(24, width, shape), (conv("a", 3), conv("b", 3, shortcut=shortcut), last), 2, votes=2)


def scores_after(program, words, moment, length, wait=SCORES):
    """The scores of a sample that follows a reset of ``length`` cycles, ``moment`` cycles into the same sample, within
    ``wait`` cycles."""
    module, array, reset = Module(), Array(program), Signal()
    module.domains.sync = domain = ClockDomain()
    module.submodules.array = array
    module.d.comb += domain.rst.eq(reset)
    simulation, scores = Simulator(module), []
    simulation.add_clock(1e-6)

    async def testbench(ctx):
        async def cycles(count, left, keep):
            """Feed the array ``left`` for so many cycles."""
            for _ in range(count):
                ctx.set(array.i.valid, bool(left))
                if left:
                    ctx.set(array.i.payload, left[0])
                _, _, ready, valid, result = await ctx.tick().sample(array.i.ready, array.o.valid, array.o.payload)
                if left and ready:
                    left.pop(0)
                if keep and valid:
                    scores.append(result.score)

        ctx.set(array.o.ready, 1)
        await cycles(moment, list(words), False)
        ctx.set(reset, 1)
        await cycles(length, [], False)
        ctx.set(reset, 0)
        await cycles(wait, list(words), True)

    simulation.add_testbench(testbench)
    simulation.run()
    return scores


def sample(program, width):
    """The words of a sample, and its scores."""
    inputs = np.random.default_rng(4).integers(0, 2**width, (1, 2, program.network.input.size))
    words = [dict(zip(("index", "bits", "last", "final"), word, strict=True))
             for word in trace.input_words(program, inputs).tolist()]
    return words, reference.run(program.network, inputs).scores[0].tolist()


@pytest.mark.parametrize("width", [1, 2])  # values of several bits have a register more on their way
def test_a_reset_at_any_moment_is_forgotten(width):
    program = Program(network(width), "ulx3s-25f", [Placement(2, 1), Placement(3, 1)])
    words, expected = sample(program, width)
    assert all(scores_after(program, words, moment, length=1) == expected for moment in range(1, SAMPLE, 2))


@pytest.mark.parametrize("width", [1, 2])
def test_a_reset_at_any_moment_is_forgotten_by_sparse_layers(width):
    net = network(width)
    hidden = net.layers[0].weights.copy()
    hidden[:2, 2:4] = 0
    net = dataclasses.replace(net, layers=(dataclasses.replace(net.layers[0], weights=hidden), net.layers[1]))
    program = Program(net, "ulx3s-25f", [Placement(2, 1, sparse=True), Placement(3, 1, sparse=True)])
    words, expected = sample(program, width)
    assert any(expected)
    assert all(scores_after(program, words, moment, 1, 2 * SCORES) == expected for moment in range(1, 2 * SAMPLE, 9))


@pytest.mark.parametrize("width", [1, 2])
def test_a_reset_at_any_moment_is_forgotten_by_layers_that_feed_back(width):
    """Which take the input both now and later, and counts from themselves."""
    net, draw = network(width), np.random.default_rng(6)
    hidden, output = net.layers
    others = [Branch(source, draw.integers(-3, 4, (6, size)), WeightFormat("int", 3), delay)
              for source, size, delay in (("hidden", 6, 1), ("input", 5, 1))]
    hidden = dataclasses.replace(hidden, others=others, fire=GradedSpike(-2, 3))
    net = dataclasses.replace(net, layers=(hidden, output))
    program = Program(net, "ulx3s-25f", [Placement(2, 1), Placement(3, 1)])
    words, expected = sample(program, width)
    assert any(expected)
    assert all(scores_after(program, words, moment, 1, 3 * SCORES) == expected for moment in range(1, 3 * SAMPLE, 9))


@pytest.mark.parametrize("width", [1, 2])
def test_a_reset_at_any_moment_is_forgotten_by_maps(width):
    program = Program(map_network(width), "ulx3s-25f", [Placement(3, 1), Placement(6, 2), Placement(2, 1)])
    words, expected = sample(program, width)
    assert len(set(expected)) > 1
    for moment in range(3, MAP_SAMPLE, 43):
        assert scores_after(program, words, moment, 1, MAP_SCORES) == expected
