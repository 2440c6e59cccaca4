"""Counters in a memory: none loses a count, however often it counts."""

import dataclasses
import random

import pytest
from amaranth.sim import Simulator
from programs import random_program
from spikeloom import link
from spikeloom.hw.link.facts import READ_PACE, Facts

IDENTITY = link.Identity.of(random_program(0), clock=10_000_000, baud=1_000_000)


@pytest.mark.parametrize("layers, chance", [(1, 1.0), (2, 1.0), (2, 0.3), (13, 1.0)])
def test_no_count_is_lost(layers, chance):
    """While the memory is read as often as it may be, and to the least of bits that a sweep's counts fit into."""
    identity, pick = dataclasses.replace(IDENTITY, layers=layers), random.Random(layers)
    facts, content = Facts(identity), identity.pack() + b"\0"
    size, expected, seen = sum(facts.sizes), [0] * len(facts.sizes), []
    assert 3 * size < 1 << facts.gathered <= 8 * size

    async def script(ctx):
        read = 0
        for _ in range(2):
            for cycle in range(pick.randrange(600, 700)):
                counting = pick.random() < chance
                for number, count in enumerate(facts.counts):
                    ctx.set(count, counting)
                    expected[number] += counting
                reads = cycle % READ_PACE == 0 or cycle == 1
                ctx.set(facts.reads, reads)
                ctx.set(facts.address, facts.identity_at + read % len(content))
                await ctx.tick()
                if reads:
                    assert ctx.get(facts.data) == content[read % len(content)]
                    read += 1
            ctx.set(facts.reads, 0)
            for count in facts.counts:
                ctx.set(count, 0)
            ctx.set(facts.asked, 1)
            await ctx.tick()
            assert not ctx.get(facts.fresh)
            await ctx.tick().until(facts.fresh)
            ctx.set(facts.asked, 0)
            body = b""
            for address in range(facts.counters_at, facts.depth):
                ctx.set(facts.address, address)
                ctx.set(facts.reads, 1)
                await ctx.tick()
                body += bytes([ctx.get(facts.data)])
            ctx.set(facts.reads, 0)
            at = 0
            for number, length in enumerate(facts.sizes):
                seen.append((int.from_bytes(body[at:at + length], "little"), expected[number]))
                at += length

    simulator = Simulator(facts)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()
    assert len(seen) == 2 * len(facts.sizes) and all(told == counted for told, counted in seen)
    assert seen[-1][1] > 300


@pytest.mark.parametrize("layers, half", [(1, 256), (41, 256), (42, 512), (255, 2048)])
def test_any_number_of_layers_fits(layers, half):
    facts = Facts(dataclasses.replace(IDENTITY, layers=layers))
    assert (facts.half, facts.depth) == (half, 2 * half)
    assert facts.half <= facts.counters_at == facts.depth - 6 - 6 * layers
