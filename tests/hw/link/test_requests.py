"""What a board answers: each request, samples in any shape, and whatever else comes over a line."""

import pytest
from bench import converse, scores_reply
from programs import random_inputs, random_program
from spikeloom import link, reference


def samples(program, inputs):
    """The payloads of each sample."""
    words = program.cores[0].i_words
    return [link.sample(number, words.pack(sample)) for number, sample in enumerate(inputs)]


def expected(program, inputs, identity):
    result = reference.run(program.network, inputs)
    return [scores_reply(number, *pair, identity)
            for number, pair in enumerate(zip(result.scores, result.winners, strict=True))]


NETWORKS = [{}, {"i_width": 3, "kind": ("int", 4), "readout": "membrane"}, {"sizes": (3, 4, 2), "time_steps": 1},
            {"sizes": (64, 12, 5), "kind": ("binary", 1)}]


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("listens", [1.0, 0.05])
def test_scores_are_those_of_the_reference(options, listens):
    program = random_program(1, **options)
    inputs = random_inputs(program, 7)

    async def script(ctx, host):
        sent = [payloads[0] for payloads in samples(program, inputs)]
        assert await host.ask(ctx, *sent) == expected(program, inputs, host.board.identity)

    converse(program, script, listens=listens)


def test_identity():
    program = random_program(2)

    async def script(ctx, host):
        (reply,) = await host.ask(ctx, b"\x01\x77")
        assert reply == b"\x81\x77" + host.board.identity.pack() + b"\1"

    converse(program, script)
