"""The events that a host expects a board to count are those that the array counts."""

import random

import hypothesis
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from spikeloom import reference
from spikeloom.boards import host
from spikeloom.hw.array import Array
from spikeloom.sim import stream, trace
from test_maps import programs

#: Cycles after the last score in which layers may still see rows that no layer behind them needs.
AFTERWARDS = 1000


def counted(program, x):
    """Events of each layer that the array counts, in Amaranth's simulator."""
    array, winners, events = Array(program), [], []
    words = [dict(zip(("index", "bits", "last", "final"), word, strict=True))
             for word in trace.input_words(program, x).tolist()]
    simulation, pauses = stream.simulator(array), random.Random(0)

    def take(result, _):
        winners.extend([result.winner] * result.last)
        return len(winners) == len(x)

    async def receive(ctx):
        await stream.receive(array.o, take, stall=0, pauses=pauses, patience=trace.patience(program, x.shape[1]),
                             beside=[array.cycles])(ctx)
        await ctx.tick().repeat(AFTERWARDS)
        events.extend(ctx.get(each) for each in array.events)

    simulation.add_testbench(stream.send(array.i, words, stall=0, pauses=pauses), background=True)
    simulation.add_testbench(receive)
    simulation.run()
    return events


@hypothesis.settings(deadline=None, max_examples=15, print_blob=True,
                     suppress_health_check=list(hypothesis.HealthCheck),
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_events_that_each_layer_counts(data):
    program = data.draw(programs())
    hypothesis.assume(not any(layer.shortcut for layer in program.network.layers))
    x = data.draw(inputs(program.network))[:2, :3]
    expected = host._events(program, x, reference.run(program.network, x)).sum(axis=0)
    assert counted(program, x) == expected.tolist()
