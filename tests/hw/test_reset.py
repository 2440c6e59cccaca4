"""A reset in the middle of a sample leaves nothing behind for the next one."""

import numpy as np
import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.sim import Simulator
from spikeloom import reference
from spikeloom.hw.array import Array
from spikeloom.network import Dense, InputFormat, Network, NoLeak, WeightFormat
from spikeloom.program import Placement, Program
from spikeloom.sim import trace

#: Clock cycles after which the sample is over, and until its scores are certainly there.
SAMPLE, SCORES = 60, 150


def network(width):
    draw = np.random.default_rng(3)

    def layer(name, n_in, n_out, threshold):
        return Dense(name, draw.integers(-3, 4, (n_out, n_in)), WeightFormat("int", 3), np.full(n_out, threshold),
                     np.zeros(n_out, int), 5, NoLeak())

    return Network(InputFormat(5, width), (layer("hidden", 5, 6, 4), layer("output", 6, 3, 2)), 2)


def scores_after(program, words, moment, length):
    """The scores of a sample that follows a reset of ``length`` cycles, ``moment`` cycles into the same sample."""
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
        await cycles(SCORES, list(words), True)

    simulation.add_testbench(testbench)
    simulation.run()
    return scores


@pytest.mark.parametrize("width", [1, 2])  # values of several bits have a register more on their way
def test_a_reset_at_any_moment_is_forgotten(width):
    program = Program(network(width), "ulx3s-25f", [Placement(2, 1), Placement(3, 1)])
    inputs = np.random.default_rng(4).integers(0, 2**width, (1, 2, 5))
    words = [dict(zip(("index", "bits", "last", "final"), word, strict=True))
             for word in trace.input_words(program, inputs).tolist()]
    expected = reference.run(program.network, inputs).scores[0].tolist()
    assert all(scores_after(program, words, moment, length=1) == expected for moment in range(1, SAMPLE, 2))
