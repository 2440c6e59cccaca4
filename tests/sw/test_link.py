"""The bytes of the link, in both directions, whatever lies between frames."""

import dataclasses
import random

import numpy as np
import pytest
from spikeloom import link
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError


def test_the_frame_of_the_documentation():
    words = WordFormat(8, 8).pack([[1, 0, 0, 0, 0, 0, 0, 1]] * 2)
    (payload,) = link.sample(0x2A, words)
    assert link.encode(payload) == bytes.fromhex("C0 03 2A 00 02 81 00 00 8F 5A 4D 40 C0")


def test_frames_survive_every_byte_and_any_cut():
    payloads = [bytes([value, value, *range(256)])[:250] for value in range(256)] + [b"\xc0\xdb", b"\xdb\xc0\xdc\xdd"]
    wire = b"".join(map(link.encode, payloads))
    pieces, decoder, seen = random.Random(1), link.Decoder(), []
    while wire:
        cut = pieces.randint(1, 40)
        seen += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert seen == payloads and decoder.damaged == 0


def test_a_good_frame_follows_any_garbage():
    noise, good = random.Random(2), link.encode(b"\x01\x55")
    for _ in range(2000):
        decoder = link.Decoder()
        garbage = bytes(noise.choice([0xC0, 0xDB, 0xDC, noise.randrange(256)]) for _ in range(noise.randint(0, 40)))
        assert decoder.feed(garbage + good)[-1:] == [b"\x01\x55"]


@pytest.mark.parametrize("position", range(2, 10))
def test_a_changed_or_lost_byte_damages_its_frame_only(position):
    frame = link.encode(b"\x02\x07\x01\x01\x33")
    before, byte, after = frame[:position], frame[position], frame[position + 1:]
    for broken in (before + bytes([byte ^ 4]) + after, before + after, before + bytes([before[-1], byte]) + after):
        decoder = link.Decoder()
        assert decoder.feed(broken + link.encode(b"\x01\x01")) == [b"\x01\x01"]
        assert decoder.damaged == 1


def _play(payloads, count):
    """The words that the payloads of one sample mean, by the table of the documentation."""
    steps, step, zero = [], [], False
    for payload in payloads:
        for byte in payload[link.EVENTS_HEADER:] * (payload[3] or 1):
            if zero:
                zero = False
                if byte:
                    step += [0] * byte
                else:
                    steps.append(step + [0] * (count - len(step)))
                    step = []
            elif byte:
                step.append(byte)
            else:
                zero = True
    assert not step and not zero
    return np.array(steps)


@pytest.mark.parametrize("count", [1, 5, 98, 700])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 13])
@pytest.mark.parametrize("still", [False, True])
def test_samples_are_their_words(count, density, steps, still):
    draw = np.random.default_rng(count + steps)
    words = draw.integers(1, 256, (steps, count)) * (draw.random((steps, count)) < density)
    if still:
        words[:] = words[0]
    payloads = link.sample(9, words)
    assert np.array_equal(_play(payloads, count), words)
    assert all(len(payload) <= link.MAX_PAYLOAD and payload[1] == 9 for payload in payloads)
    assert [payload[0] for payload in payloads] == [link.EVENTS] * (len(payloads) - 1) + [link.FINISH]
    assert [payload[2] for payload in payloads] == [n % 256 for n in range(len(payloads))]


def test_an_identity_is_what_was_packed():
    identity = link.Identity(True, False, 512, 12_000_000, 1_000_000, 784, 10, 4, 8, 1, 2, 5, "icebreaker", "ab" * 32,
                             "cd" * 32)
    assert len(identity.pack()) == 128
    assert identity.pack()[link.Identity.NETWORK:] == b"\xcd" * 32
    assert link.Identity.unpack(identity.pack()) == identity


def test_scores_are_signed_and_of_the_identitys_size():
    identity = link.Identity(False, False, 512, 1, 1, 4, 2, 3, 8, 2, 1, 0, "x", "00" * 32, "00" * 32)
    assert link.scores(bytes.fromhex("ffff 0001 01000000"), identity) == ([-1, 256], 1)
    with pytest.raises(SpikeloomError, match="must be 8 bytes, not 7"):
        link.scores(bytes(7), identity)


def test_identities_tell_what_differs():
    one = link.Identity(False, False, 512, 1, 1, 4, 2, 3, 8, 2, 1, 0, "x", "00" * 32, "00" * 32)
    other = dataclasses.replace(one, inputs=5, clock=2, build="11" * 32)
    assert one.differences(other) == [("inputs", 4, 5)]


def test_other_identities_are_refused():
    identity = link.Identity(False, True, 512, 1, 1, 1, 1, 1, 1, 1, 1, 1, "x", "00" * 32, "00" * 32).pack()
    with pytest.raises(SpikeloomError, match="not that of a Spikeloom board"):
        link.Identity.unpack(b"X" + identity[1:])
    with pytest.raises(SpikeloomError, match="speaks version 2 of the link"):
        link.Identity.unpack(identity[:4] + b"\2" + identity[5:])


def test_counters_wrap():
    before = link.Counters.unpack(bytes.fromhex("feffffff ffff ffffff 010000"), 1)
    after = link.Counters.unpack(bytes.fromhex("01000000 0100 020000 010000"), 1)
    assert after.since(before) == link.Counters(3, 2, (3,), (0,))
