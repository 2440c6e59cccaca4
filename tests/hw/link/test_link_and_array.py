"""What a board answers: each request, samples in any shape, and whatever else comes over a line."""

import pytest
from bench import converse, error, scores_reply
from programs import random_inputs, random_program
from spikeloom import link, reference
from spikeloom.compiler.program import Placement


def samples(program, inputs):
    """The payloads of each sample."""
    words = program.i_words
    return [link.sample(number, words.pack(sample)) for number, sample in enumerate(inputs)]


def expected(program, inputs, identity):
    result = reference.run(program.network, inputs)
    return [scores_reply(number, *pair, identity)
            for number, pair in enumerate(zip(result.scores, result.winners, strict=True))]


NETWORKS = [{}, {"i_width": 3, "kind": ("int", 4), "readout": "membrane"}, {"sizes": (3, 4, 2), "time_steps": 1},
            {"sizes": (64, 12, 5), "kind": ("binary", 1), "target": "ulx3s-25f"}]


@pytest.mark.parametrize("options, listens", [(NETWORKS[0], 0.03), *((network, 1.0) for network in NETWORKS[1:])])
def test_scores_are_those_of_the_reference(options, listens):
    program = random_program(1, **options)
    inputs = random_inputs(program, 4)

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


# Loading -----------------------------------------------------------------------------------------


def same_shape(seeds=(1, 2), **options):
    programs = [random_program(seed, reloadable=True, **options) for seed in seeds]
    programs[0].check_same_shape(programs[1])
    return programs


def loading(program, tag=0x33):
    return [payload for number, image in enumerate(program.images) for payload in link.load(tag, number, image)]


def commit(program):
    return b"\x07\x44" + bytes.fromhex(program.network.digest)


@pytest.mark.parametrize("options", [{}, {"i_width": 3, "kind": ("int", 4), "readout": "membrane"}])
def test_another_network_is_loaded(options):
    before, after = same_shape(**options)
    inputs = random_inputs(before, 3)
    sent = [payload for (payload,) in samples(before, inputs)]

    async def script(ctx, host):
        identity = host.board.identity
        assert await host.ask(ctx, *sent) == expected(before, inputs, identity)
        for payload in loading(after):
            assert await host.ask(ctx, payload) == [b"\x85\x33"]
        assert await host.ask(ctx, sent[0]) == [error(0, link.NOT_LOADED)]
        assert await host.ask(ctx, b"\x01\1") == [b"\x81\1" + identity.pack() + b"\0"]
        for number, image in enumerate(after.images):
            assert await host.ask(ctx, bytes([link.CHECK, 0x55, number])) == [
                b"\x86\x55" + link.crc(image.data).to_bytes(4, "little")]
        assert await host.ask(ctx, commit(after)) == [b"\x87\x44"]
        digest = bytes.fromhex(after.network.digest)
        assert await host.ask(ctx, b"\x01\1") == [b"\x81\1" + identity.pack()[:96] + digest + b"\1"]
        assert await host.ask(ctx, *sent) == expected(after, inputs, identity)

    converse(before, script)


def test_loads_that_are_refused_change_nothing():
    program, _ = same_shape()
    images, inputs = program.images, random_inputs(program, 2)
    sent = [payload for (payload,) in samples(program, inputs)]

    def load(memory, row, byte, content):
        return bytes([link.LOAD, 7, memory]) + row.to_bytes(3, "little") + byte.to_bytes(2, "little") + content

    refused = [
        (load(len(images), 0, 0, b"x"), link.RANGE),
        (load(255, 0, 0, b""), link.RANGE),
        (load(0, images[0].rows, 0, b"x"), link.RANGE),
        (load(0, 1 << 23, 0, b"x"), link.RANGE),
        (load(0, 0, images[0].row_bytes, b"x"), link.RANGE),
        (load(0, 0, 0x8000, b"x"), link.RANGE),
        (load(0, 0, 0, b"")[:-1], link.UNKNOWN),
        (b"\x05\x07", link.UNKNOWN),
        (b"\x05\x07\0", link.UNKNOWN),
        (b"\x06\x07", link.UNKNOWN),
        (b"\x06\x07\0\0", link.UNKNOWN),
        (bytes([6, 7, len(images)]), link.RANGE),
        (b"\x07\x07", link.UNKNOWN),
        (b"\x07\x07" + b"x" * 31, link.UNKNOWN),
        (b"\x07\x07" + b"x" * 33, link.UNKNOWN),
    ]

    async def script(ctx, host):
        for payload, code in refused:
            assert await host.ask(ctx, payload) == [error(7, code)], payload
        assert await host.ask(ctx, *sent) == expected(program, inputs, host.board.identity)
        assert await host.ask(ctx, load(0, 0, 0, b"")) == [b"\x85\7"]
        assert await host.ask(ctx, b"\x01\1") == [b"\x81\1" + host.board.identity.pack() + b"\1"]
        # One byte too many: what fits is written, so the network is gone.
        assert await host.ask(ctx, load(0, images[0].rows - 1, 0, b"xyz"), sent[0]) == [
            error(7, link.RANGE), error(0, link.NOT_LOADED)]

    converse(program, script)


def test_memories_that_a_bitstream_cannot_fill_start_without_a_network():
    program = random_program(1, reloadable=True, placements=(Placement(8, 2, "single_port"), Placement(5, 1)))
    inputs = random_inputs(program, 2)
    sent = [payload for (payload,) in samples(program, inputs)]

    async def script(ctx, host):
        assert await host.ask(ctx, *sent) == [error(n, link.NOT_LOADED) for n in range(2)]
        await host.ask(ctx, *loading(program), commit(program))
        assert await host.ask(ctx, *sent) == expected(program, inputs, host.board.identity)

    converse(program, script)


def test_counters():
    program = random_program(9, sizes=(64, 12, 5))
    inputs = random_inputs(program, 4)
    trace = reference.run(program.network, inputs)
    spikes = [int((inputs != 0).sum()), int((trace.spikes[0] != 0).sum())]

    async def script(ctx, host):
        (reply,) = await host.ask(ctx, b"\x04\x66")
        assert reply == b"\x84\x66" + bytes(18)
        await host.ask(ctx, *(payload for (payload,) in samples(program, inputs)))
        await host.send(ctx, b"\xc0garbage\xc0garbage\xc0")
        await host.quiet(ctx)
        first, second = [link.Counters.unpack(reply[2:], 2) for reply in await host.ask(ctx, b"\x04\0", b"\x04\1")]
        assert first == second  # they stand still
        assert first.events == tuple(spikes) and first.damaged == 2
        assert all(first.stalls) and sum(first.events) < first.busy < 20_000

    converse(program, script)
