"""The array behind its address-event ports equals the reference."""

import dataclasses
import random
import re
from pathlib import Path

import hypothesis
import numpy as np
from events import scattered, simulate
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw import verilog
from spikeloom.hw.embed import AxiStreamArray, EventArray
from spikeloom.network import WeightFormat
from spikeloom.sim import stream, trace
from test_gateware import network, programs


def through_ports(program, x, *, stall, seed):
    """Scores and winners of samples ``x`` that go through an `EventArray` as events in any order."""
    array, pauses = EventArray(program), random.Random(seed)
    samples, steps, _ = x.shape
    scores, winners = [], []

    def put(ctx, **fields):
        for name, value in fields.items():
            ctx.set(getattr(array, f"event_{name}"), value)

    async def send(ctx):
        for sample in scattered(array.collector.words, x, pauses):
            for number, step in enumerate(sample):
                for address, value in [*step, (0, None)]:
                    put(ctx, valid=0)
                    while pauses.random() < stall:
                        await ctx.tick()
                    put(ctx, valid=1, address=address, end=value is None, final=number == steps - 1)
                    if array.collector.words.graded:
                        put(ctx, value=value or 0)
                    await ctx.tick().until(array.event_ready)
        put(ctx, valid=0)

    async def receive(ctx):
        for _ in range(samples * program.network.n_out):
            ctx.set(array.score_ready, 0)
            while pauses.random() < stall:
                await ctx.tick()
            ctx.set(array.score_ready, 1)
            score, winner, last = await ctx.tick().sample(array.score, array.winner, array.score_last).until(
                array.score_valid)
            scores.append(score)
            if last:
                winners.append(winner)

    async def limit(ctx):
        for _ in range(samples * trace.patience(program, steps)):
            await ctx.tick()
        raise TimeoutError("No scores")

    simulation = stream.simulator(array)
    simulation.add_testbench(send, background=True)
    simulation.add_testbench(limit, background=True)
    simulation.add_testbench(receive)
    simulation.run()
    return np.array(scores).reshape(samples, -1), np.array(winners)


@hypothesis.settings(deadline=None, max_examples=10, print_blob=True,
                     suppress_health_check=[hypothesis.HealthCheck.too_slow],
                     phases=set(hypothesis.Phase) - {hypothesis.Phase.explain})
@given(st.data())
def test_scores_equal_the_reference(data):
    program = data.draw(programs())
    x = data.draw(inputs(program.network))
    stall, seed = data.draw(st.sampled_from([0.0, 0.5])), data.draw(st.integers(0, 1000))
    expected = reference.run(program.network, x)
    scores, winners = through_ports(program, x, stall=stall, seed=seed)
    assert (scores == expected.scores).all()
    assert (winners == expected.winners).all()


def test_example_of_the_documentation(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
    example = re.search(r"```verilog\n(.*?)```", text, re.DOTALL)[1]
    net = dataclasses.replace(network((64, 12, 10), WeightFormat("ternary", 2), seed=8), time_steps=8)
    program = Program(net, "hx8k", [Placement(4, 2), Placement(5, 1)])
    rng = np.random.default_rng(0)
    x = (rng.random((8, 8, 64)) < 0.7 * rng.random((8, 1, 64)) ** 2).astype(int)
    winners = reference.run(net, x).winners.tolist()
    assert len(set(winners)) > 2  # so that equal winners mean something
    task = {"seed": 6, "wait": 400, "winners": winners,
            "events": scattered(program.i_words, x, random.Random(6))}
    sources = {"array.v": verilog.generate(program, "events"), "classifier.v": example}
    assert simulate("classifier_pins", sources, "classifier", task, tmp_path, monkeypatch) == (1, 0)


def test_packet_of_the_documentation():
    # {9, 4}, {4} and {} for 784 binary inputs.
    net = network((784, 2), WeightFormat("ternary", 2))
    fields = dict(AxiStreamArray(Program(net, "hx8k", [Placement(2, 1)])).beat)
    assert (fields["address"].offset, fields["end"].offset) == (0, 15)
