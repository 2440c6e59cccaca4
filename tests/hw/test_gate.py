"""Channel gates: decisions equal the reference's, however long words, and those who are told, take their time."""

import math
import random

import numpy as np
import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.sim import Simulator
from spikeloom import reference
from spikeloom.compiler.map_core import MapCore
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.hw.gate import Gate
from spikeloom.network import ChannelGate, Conv2d, WeightFormat
from test_rows import frames, rows_of

INT, TERNARY = WeightFormat("int", 4), WeightFormat("ternary", 2)

#: Words of the map that comes in, the format of weights, entries of the table and its shift, channels that are taken
#: together, channels out, those at once, units, and registers behind memories.
CASES = {
    "words of part of a position": (WordFormat(72, 4, shape=(3, 4, 6)), INT, 16, 0, 1, 7, 4, 2, 0),
    "one word a position": (WordFormat(30, 8, shape=(5, 3, 2)), TERNARY, 4, 1, 2, 5, 2, 1, 1),
    "one position": (WordFormat(5, 2, shape=(1, 1, 5)), WeightFormat("binary", 1), 2, 0, 5, 3, 4, 4, 0),
    "values of several bits": (WordFormat(24, 3, True, (2, 3, 4)), WeightFormat("pot", 4), 8, 2, 2, 4, 4, 2, 1),
}


def core_of(words, form, entries, shift, reduce, channels, group, units, registers):
    rng, channels_in = np.random.default_rng(1), words.shape[2]
    gate = ChannelGate(rng.choice(form.values, (channels, channels_in // reduce)), form,
                       rng.integers(-20, 21, channels), tuple(rng.integers(0, 12, entries).tolist()), shift, reduce)
    layer = Conv2d(name="layer", weights=rng.integers(-1, 2, (channels, channels_in, 1, 1)), weight_format=TERNARY,
                   threshold=np.ones(channels, int), bias=np.zeros(channels, int), v_width=4, input_shape=words.shape,
                   gate=gate)
    return MapCore(layer, words, group, units, registers)


def decisions(core, words, stall, resets=(), slow=None):
    """What `Gate` says of groups, and of channels (time steps, channels), for rows of ``words``. Who sends them and the
    two that are told, hesitate with a chance of ``stall`` in a cycle, the one who asks about channels with one of
    ``slow``."""
    module, reset, pauses = Module(), Signal(), random.Random(0)
    module.domains.sync = domain = ClockDomain()
    module.submodules.block = block = Gate(core)
    module.d.comb += domain.rst.eq(reset)
    simulation = Simulator(module)
    simulation.add_clock(1e-6)
    steps = sum(word["last"] for word in words)
    groups, channels, epoch = [], [], [0]

    def goes(chance=stall):
        return pauses.random() >= chance

    async def send(ctx):
        left, granted = list(words), False
        cycle = 0
        while cycle < max(resets, default=0) + 1 or left:
            asks, sends = not granted and bool(left) and goes(), granted and goes()
            ctx.set(block.permit.ready, asks)
            ctx.set(block.i.valid, sends)
            if sends:
                ctx.set(block.i.payload, left[0])
            ctx.set(reset, cycle in resets)
            *_, grants = await ctx.tick().sample(block.permit.valid)
            if cycle in resets:
                left, granted = list(words), False
                epoch[0] += 1
                groups.clear()
                channels.clear()
            elif sends:
                granted = not left.pop(0)["row"]
            elif asks and grants:
                granted = True
            cycle += 1
        ctx.set(block.permit.ready, 0)
        ctx.set(block.i.valid, 0)

    async def follow(ctx):
        while True:
            done = goes() and ctx.get(block.groups_0.valid)
            if done:
                groups.append(ctx.get(block.groups_0.open))
            ctx.set(block.groups_0.ends, done)
            await ctx.tick()

    async def ask(ctx):
        while True:
            ctx.set(block.channels.ends, 0)
            await ctx.tick()
            began = epoch[0]
            if len(groups) <= len(channels) or not goes(stall if slow is None else slow):
                continue
            found = []
            for row in range(core.channel_updates):
                ctx.set(block.channels.channel, row)
                if row == core.channel_updates - 1 and epoch[0] == began:
                    ctx.set(block.channels.ends, 1)
                await ctx.tick()
                ctx.set(block.channels.ends, 0)
                await ctx.tick()
                found += [ctx.get(block.channels.open) >> unit & 1 for unit in range(core.units)]
            if epoch[0] == began:
                channels.append(found)

    async def finish(ctx):
        for _ in range(20_000):
            if len(channels) == steps and epoch[0] == len(resets):
                return
            await ctx.tick()
        raise SpikeloomError(f"{len(channels)} of {steps} time steps came")

    simulation.add_testbench(send, background=True)
    simulation.add_testbench(follow, background=True)
    simulation.add_testbench(ask, background=True)
    simulation.add_testbench(finish)
    simulation.run()
    return groups, np.array(channels)[:, :len(core.layer.gate.bias)]


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", CASES)
def test_decisions_are_those_of_the_reference(name, stall):
    core = core_of(*CASES[name])
    z = frames(core.i_words, 8)
    expected = reference.open_channels(core.layer, z[None])[0]
    assert 0 < expected.mean() < 1
    groups, channels = decisions(core, rows_of(core.i_words, z, random.Random(2)), stall)
    check(core, groups, channels, expected)


def check(core, groups, channels, expected):
    np.testing.assert_array_equal(channels, expected)
    either = np.logical_or.reduceat(expected, np.arange(0, expected.shape[1], core.group), axis=1)
    assert [[told >> group & 1 for group in range(core.groups)] for told in groups] == either.astype(int).tolist()


def test_decisions_wait_for_who_is_slow():
    """There are places for two time steps."""
    core = core_of(*CASES["words of part of a position"])
    z = frames(core.i_words, 6)
    told = decisions(core, rows_of(core.i_words, z, random.Random(2)), 0.0, slow=0.998)
    check(core, *told, reference.open_channels(core.layer, z[None])[0])


def test_a_reset_leaves_nothing_behind():
    """Whether words come in, sums leave, or logits are added up, at first those of a group that stays closed."""
    core = core_of(*CASES["words of part of a position"])
    z = (np.random.default_rng(0).random((500, 72)) < np.linspace(0, 1, 500)[:, None]).astype(int)
    opened = reference.open_channels(core.layer, z[None])[0]
    z = z[~opened[:, :4].any(1) & opened[:, 4:6].any(1)][:2]
    words, expected = rows_of(core.i_words, z, random.Random(2)), reference.open_channels(core.layer, z[None])[0]
    for resets in ([30], *([cycle, cycle + 1] for cycle in range(45, 120, 5))):
        check(core, *decisions(core, words, 0.0, resets), expected)


@pytest.mark.parametrize("words", [WordFormat(60, 4, shape=(1, 20, 3)), WordFormat(120, 2, shape=(1, 20, 6))])
def test_words_one_after_the_other_for_the_same_channels(words):
    """Each is added to what the few before have not yet written."""
    core = core_of(words, INT, 64, 0, 1, 6, 6, 2, 0)
    z = (np.random.default_rng(0).random((5, words.size)) < 0.8).astype(int)
    _, channels = decisions(core, rows_of(core.i_words, z, random.Random(0)), 0.0)
    np.testing.assert_array_equal(channels, reference.open_channels(core.layer, z[None])[0])


def test_widths_hold_the_largest_sums():
    for case in CASES.values():
        core = core_of(*case)
        gate, predictor, (rows, columns, _) = core.layer.gate, core.predictor, core.i_words.shape
        high = core.i_words.bounds[1]
        assert predictor.sum_width == math.floor(math.log2(rows * columns * high)) + 1
        weights = gate.weights.astype(int)
        ends = [np.clip(weights, *bounds).sum(1) * max(gate.table) + gate.bias - 1 for bounds in ((None, 0), (0, None))]
        half = 1 << predictor.logit_width - 1
        assert -half <= ends[0].min() and ends[1].max() < half
