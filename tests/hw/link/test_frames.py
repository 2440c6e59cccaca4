"""Frames against the host's decoder: good ones in their order, damaged ones told, whatever the bytes."""

import random

import pytest
from amaranth.sim import Simulator
from spikeloom import link
from spikeloom.hw.link.frames import FrameReceiver, FrameTransmitter

DEPTH = 512


def receive(wire, *, stall=0.0, seed=0, lossy=False, asleep=0, again=None):
    """The payloads that a reader takes, b"" for a damaged frame, and how many came damaged.

    The reader hesitates, and begins only after ``asleep`` cycles. Over a ``lossy`` line bytes come every 16 cycles,
    heard or not. The reader asks for a frame ``again`` as often as ``again(payload)`` says.
    """
    receiver, pauses, seen, damaged = FrameReceiver(DEPTH), random.Random(seed), [], [0]

    async def line(ctx):
        for byte in wire:
            ctx.set(receiver.i.payload, byte)
            ctx.set(receiver.i.valid, 1)
            if lossy:
                for _ in range(16):
                    _, _, ready = await ctx.tick().sample(receiver.i.ready)
                    if ready:
                        ctx.set(receiver.i.valid, 0)
                ctx.set(receiver.i.valid, 0)
            else:
                await ctx.tick().until(receiver.i.ready)
                ctx.set(receiver.i.valid, 0)
        await ctx.tick().repeat(20)
        for _ in range(20_000):
            if not ctx.get(receiver.busy):
                return
            await ctx.tick()
        raise AssertionError("never idle again")

    async def reader(ctx):
        await ctx.tick().repeat(1 + asleep)
        content, repeats = [], 0
        ports = receiver.o.valid, receiver.o.payload, receiver.damaged
        while True:
            ready = pauses.random() >= stall
            ctx.set(receiver.o.ready, ready)
            _, _, valid, byte, bad = await ctx.tick().sample(*ports)
            damaged[0] += bad
            if not (valid and ready):
                continue
            content.append(byte.data)
            if len(content) == 1 + link.EVENTS_HEADER and again:
                repeats = again(bytes(content[1:]))
                ctx.set(receiver.again, repeats > 0)
            if byte.last:
                if repeats:
                    repeats -= 1
                    ctx.set(receiver.again, repeats > 0)
                else:
                    assert content[0] == 0 or again or content[0] == len(content) - 1
                    seen.append(bytes(content[1:]))
                    content = []

    simulator = Simulator(receiver)
    simulator.add_clock(1e-6)
    simulator.add_testbench(reader, background=True)
    simulator.add_testbench(line)
    simulator.run()
    return seen, damaged[0]


def decoded(wire):
    """What `link.Decoder` makes of it: payloads, b"" for each damaged frame."""
    decoder, seen = link.Decoder(), []
    for byte in wire:
        before = decoder.damaged
        seen += decoder.feed([byte]) + [b""] * (decoder.damaged - before)
    return seen


def merged(frames):
    """With one b"" for all in a row."""
    return [frame for n, frame in enumerate(frames) if frame or n == 0 or frames[n - 1]]


def good(pick, count, most=40):
    return [bytes([pick.choice([0xC0, 0xDB, 0xDC, 0xDD, pick.randrange(256)]) for _ in range(pick.randint(2, most))])
            for _ in range(count)]


@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_good_frames_come_as_they_are(stall):
    pick = random.Random(1)
    payloads = [*good(pick, 12), bytes(range(251)), b"\xc0" * 251, b"\xdb\xdb"]
    seen, damaged = receive(b"".join(map(link.encode, payloads)), stall=stall)
    assert seen == payloads and damaged == 0


def test_frames_are_damaged_in_every_way():
    pick, wire = random.Random(1), bytearray()
    for payload in good(pick, 50, most=25):
        frame = bytearray(link.encode(payload))
        at = pick.randrange(len(frame))
        match pick.randrange(7):
            case 0:
                frame[at] ^= 1 << pick.randrange(8)
            case 1:
                del frame[at]
            case 2:
                frame.insert(at, frame[at])
            case 3:
                del frame[at:]
            case 4:
                frame[at:at] = pick.randbytes(pick.randrange(8))
            case 5:
                frame = bytearray(pick.choice([b"\xdb", b"\xdb\xc0", b"\xc0\xc0", b"\xdb\xdb\xdc", b"x"]))
        wire += frame
    wire += b"\xc0\xc0" + link.encode(b"the end")
    expected = decoded(wire)
    assert 12 < expected.count(b"") < 45
    seen, damaged = receive(wire)
    # A reader that keeps up is told of each; all in a row may be told as one.
    assert merged(seen) == merged(expected) and damaged == expected.count(b"")
    assert receive(wire, stall=0.95)[1] == damaged
    assert seen[-1] == b"the end"


def test_frames_of_a_wrong_length_are_damaged():
    wrong = [b"", b"x", b"x" * 252, b"z" * 256, b"x" * 600]
    wire = b"".join(link.encode(payload) + link.encode(b"ok") for payload in wrong)
    seen, damaged = receive(wire)
    assert seen == [b"", b"ok"] * len(wrong) and damaged == len(wrong)


def test_noise_leaves_the_next_frame():
    noise = random.Random(3)
    garbage = bytes(noise.choice([0xC0, 0xDB, noise.randrange(256)]) for _ in range(600))
    seen, _ = receive(garbage + link.encode(b"good"), lossy=True, asleep=20_000)
    assert seen[-1] == b"good" and len(seen) < 4


def test_what_a_host_may_send_fits_and_more_is_lost_but_no_wedge():
    pick = random.Random(4)
    room = DEPTH - link.RESERVED
    for payloads in [bytes([n, 7]) for n in range(room // 3)], [pick.randbytes(250), pick.randbytes(251), b"ab"]:
        wire = b"".join(map(link.encode, payloads))
        seen, damaged = receive(wire, lossy=True, asleep=17 * len(wire))
        assert seen == payloads and damaged == 0
    # Half as much again is too much; what comes after some time is served.
    wire += link.encode(pick.randbytes(250))
    seen, _ = receive(wire + bytes([link.END] * 400) + link.encode(b"after"), lossy=True, asleep=17 * len(wire))
    assert seen[:len(payloads)] == payloads and seen[-1] == b"after" and b"" in seen


def test_events_are_read_again():
    pick = random.Random(5)
    payloads = [payload for payload in good(pick, 40) if len(payload) > link.EVENTS_HEADER]
    seen, _ = receive(b"".join(map(link.encode, payloads)), stall=0.4, again=lambda head: head[0] % 4)
    head = link.EVENTS_HEADER
    assert seen == [payload[:head] + payload[head:] * (1 + payload[0] % 4) for payload in payloads]


@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_the_transmitter_sends_what_a_host_decodes(stall):
    transmitter, pauses, sent = FrameTransmitter(), random.Random(6), bytearray()
    payloads = [*good(pauses, 12), bytes(300)]

    async def source(ctx):
        for payload in payloads:
            for at, byte in enumerate(payload):
                while pauses.random() < stall:
                    await ctx.tick()
                ctx.set(transmitter.i.payload, {"data": byte, "last": at == len(payload) - 1})
                ctx.set(transmitter.i.valid, 1)
                await ctx.tick().until(transmitter.i.ready)
                ctx.set(transmitter.i.valid, 0)
        while ctx.get(transmitter.busy):
            await ctx.tick()

    async def line(ctx):
        while True:
            ready = pauses.random() >= stall
            ctx.set(transmitter.o.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(transmitter.o.valid, transmitter.o.payload)
            if valid and ready:
                sent.append(byte)

    simulator = Simulator(transmitter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(line, background=True)
    simulator.add_testbench(source)
    simulator.run()
    assert bytes(sent) == b"".join(map(link.encode, payloads))


@pytest.mark.parametrize("depth", [256, 600])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=f"^Depth must be a power of two from 512 on, not {depth}$"):
        FrameReceiver(depth)
