"""The bytes between a host and a board, as ``docs/link.md`` says: frames, requests, events, identity."""

import dataclasses
import re
import struct
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import SpikeloomError

END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD

IDENTIFY, EVENTS, FINISH, COUNTERS, LOAD, CHECK, COMMIT, BOOTED = range(1, 9)
REPLY, ERROR = 0x80, 0xFF

DAMAGED, UNKNOWN, NOT_LOADED, ORDER, BAD_EVENTS, RANGE = range(1, 7)

#: What each error code means.
ERRORS = {
    DAMAGED: "a frame came damaged",
    UNKNOWN: "unknown request",
    NOT_LOADED: "no network is loaded",
    ORDER: "not the chunk that was expected",
    BAD_EVENTS: "the events do not fit the network",
    RANGE: "no such memory or row",
}

#: Most bytes of a request's payload.
MAX_PAYLOAD = 251

#: Bytes of a board's buffer that hosts may not fill: room for a CRC, and one that tells full from empty.
RESERVED = 5

#: Bytes before the events in a payload: type, tag, chunk, repeat.
EVENTS_HEADER = 4

#: Bytes before the data in a payload: type, tag, memory, row, byte.
LOAD_HEADER = 8

#: Most times a chunk's events can be played.
MAX_REPEAT = 255


def crc(data):
    """The CRC-32 that frames and memory checks use."""
    return zlib.crc32(data)


def encode(payload):
    """The bytes on the wire of one frame."""
    content = payload + crc(payload).to_bytes(4, "little")
    content = content.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPED_ESCAPE]))
    return bytes([END]) + content.replace(bytes([END]), bytes([ESCAPE, ESCAPED_END])) + bytes([END])


class Decoder:
    """Finds frames in a stream of bytes, whatever else is in it.

    Attributes
    ----------
    damaged : int
        frames seen that were no whole ones
    """

    def __init__(self):
        self.damaged = 0
        self._content = bytearray()
        self._escaped = False
        self._bad = False

    def feed(self, data):
        """Take ``data`` in; the payloads of all frames that it completes, in order."""
        payloads = []
        for byte in data:
            if byte == END:
                if self._content or self._bad or self._escaped:
                    payload = bytes(self._content[:-4])
                    check = int.from_bytes(self._content[-4:], "little")
                    if self._bad or self._escaped or len(payload) < 2 or crc(payload) != check:
                        self.damaged += 1
                    else:
                        payloads.append(payload)
                self._content.clear()
                self._escaped = self._bad = False
            elif self._escaped:
                self._escaped = False
                if byte in (ESCAPED_END, ESCAPED_ESCAPE):
                    self._content.append(END if byte == ESCAPED_END else ESCAPE)
                else:
                    self._bad = True
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._content.append(byte)
        return payloads


# Samples -----------------------------------------------------------------------------------------


_ZEROS = re.compile(rb"\0{1,255}")


def events(words):
    """The event bytes of one time step.

    Parameters
    ----------
    words : int array (words,)
        every spike word of the step, silent ones included, each of at most 8 bits
    """
    present = np.asarray(words).astype(np.uint8).tobytes().rstrip(b"\0")
    return _ZEROS.sub(lambda run: bytes([0, len(run[0])]), present) + b"\0\0"


def sample(tag, words):
    """The payloads of one sample's frames.

    Parameters
    ----------
    tag : int
    words : int array (time steps, words)
        as `words.WordFormat.pack` makes them
    """
    still = (words == words[:1]).all()
    steps = [events(words[0])] * len(words) if still else [events(step) for step in words]
    if still and len(steps) > 1:
        best = max(n for n in range(1, min(len(steps), MAX_REPEAT) + 1) if len(steps) % n == 0)
        if len(steps[0]) * (len(steps) // best) <= MAX_PAYLOAD - EVENTS_HEADER:
            return [bytes([FINISH, tag, 0, best]) + steps[0] * (len(steps) // best)]
    return chunks(tag, b"".join(steps))


def chunks(tag, content, first=0, last=True):
    """The payloads for event bytes ``content`` of a sample, from its chunk number ``first`` on; ``last`` says that it
    ends with them."""
    room = MAX_PAYLOAD - EVENTS_HEADER
    return [bytes([FINISH if last and at + room >= len(content) else EVENTS, tag, number & 0xFF, 1])
            + content[at:at + room] for number, at in enumerate(range(0, len(content), room), first)]


def scores(body, identity):
    """The scores (list of int) and the winner in the body of a reply to `FINISH`.

    Raises `SpikeloomError` when it has another length than that of the board's `Identity`.
    """
    size, end = identity.score_bytes, identity.outputs * identity.score_bytes
    if len(body) != end + 4:
        raise SpikeloomError(f"The board's scores must be {end + 4} bytes, not {len(body)}")
    return ([int.from_bytes(body[at:at + size], "little", signed=True) for at in range(0, end, size)],
            int.from_bytes(body[end:], "little"))


# Identity ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """What a board says of itself.

    Attributes
    ----------
    reloadable, graded : bool
    buffer : int
        bytes that frames without an answer may take
    clock : int
        Hz
    baud : int
        bits per second, 0 over SPI
    inputs, outputs, time_steps, word_width, score_bytes, layers, memories : int
    target : str
    build, network : str
        digests (hexadecimal)
    """

    reloadable: bool
    graded: bool
    buffer: int
    clock: int
    baud: int
    inputs: int
    outputs: int
    time_steps: int
    word_width: int
    score_bytes: int
    layers: int
    memories: int
    target: str
    build: str
    network: str

    MAGIC: ClassVar[bytes] = b"SPKL"
    VERSION: ClassVar[int] = 1
    FORM: ClassVar[struct.Struct] = struct.Struct("<4sBBHIIIIHBBBB2x16s16x32s32s")
    #: Offset of the network's digest, which `COMMIT` replaces.
    NETWORK: ClassVar[int] = 96
    #: Names of a target are cut to this.
    TARGET_BYTES: ClassVar[int] = 16

    @classmethod
    def of(cls, program, *, clock, baud):
        """The identity of a board that carries ``program`` (clock in Hz; baud 0 over SPI)."""
        from .compiler.target import find
        network, words = program.network, program.i_words
        return cls(program.reloadable, words.graded, find(program.target).buffer - RESERVED, round(clock), round(baud),
                   network.input.size, network.n_out, network.time_steps, words.width,
                   -(-program.score_width // 8), len(network.layers), len(program.images) if program.reloadable else 0,
                   program.target[:cls.TARGET_BYTES], program.build_digest, network.digest)

    def pack(self):
        """The 128 bytes of ``docs/link.md``."""
        return self.FORM.pack(self.MAGIC, self.VERSION, self.reloadable | self.graded << 1, self.buffer, self.clock,
                              self.baud, self.inputs, self.outputs, self.time_steps, self.word_width,
                              self.score_bytes, self.layers, self.memories, self.target.encode(),
                              bytes.fromhex(self.build), bytes.fromhex(self.network))

    @classmethod
    def unpack(cls, data):
        """The inverse of `pack`; raises `SpikeloomError` when ``data`` is not an identity of this version."""
        if len(data) != cls.FORM.size or data[:4] != cls.MAGIC:
            raise SpikeloomError("The device's answer is not that of a Spikeloom board")
        if data[4] != cls.VERSION:
            raise SpikeloomError(f"The board speaks version {data[4]} of the link, and this host version {cls.VERSION}")
        _, _, flags, *numbers, target, build, network = cls.FORM.unpack(data)
        return cls(bool(flags & 1), bool(flags & 2), *numbers, target.rstrip(b"\0").decode(errors="replace"),
                   build.hex(), network.hex())

    def differences(self, other):
        """Where the gateware of two boards differs, as far as identities tell: name, mine, the other's."""
        names = ("target", "reloadable", "graded", "inputs", "outputs", "time_steps", "word_width", "score_bytes",
                 "layers", "memories")
        return [(name, getattr(self, name), getattr(other, name)) for name in names
                if getattr(self, name) != getattr(other, name)]


# Counters ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counters:
    """What a board has counted; differences of two count what lies between, as all wrap.

    Attributes
    ----------
    busy : int
        clock cycles in which a sample was being computed
    damaged : int
        frames that came damaged
    events, stalls : tuple of int
        for each layer: input events, and cycles of waiting
    """

    busy: int
    damaged: int
    events: tuple[int, ...]
    stalls: tuple[int, ...]

    #: Bits of each.
    BUSY: ClassVar[int] = 32
    DAMAGED: ClassVar[int] = 16
    LAYER: ClassVar[int] = 24

    @classmethod
    def unpack(cls, data, layers):
        """From the body of a reply; raises `SpikeloomError` when that has another length."""
        if len(data) != 6 + 6 * layers:
            raise SpikeloomError(f"The board's counters must be {6 + 6 * layers} bytes, not {len(data)}")
        numbers = [int.from_bytes(data[at:at + 3], "little") for at in range(6, len(data), 3)]
        return cls(int.from_bytes(data[:4], "little"), int.from_bytes(data[4:6], "little"),
                   tuple(numbers[::2]), tuple(numbers[1::2]))

    def since(self, before):
        """What was counted after ``before``."""
        def each(mine, theirs):
            return tuple((a - b) % (1 << self.LAYER) for a, b in zip(mine, theirs, strict=True))
        return dataclasses.replace(
            self, busy=(self.busy - before.busy) % (1 << self.BUSY),
            damaged=(self.damaged - before.damaged) % (1 << self.DAMAGED),
            events=each(self.events, before.events), stalls=each(self.stalls, before.stalls))


# Loading -----------------------------------------------------------------------------------------


def load(tag, memory, image):
    """The payloads that fill memory number ``memory`` with ``image`` (a `core.Image`)."""
    payloads = []
    for at in range(0, len(image.data), MAX_PAYLOAD - LOAD_HEADER):
        row, byte = divmod(at, image.row_bytes)
        payloads.append(bytes([LOAD, tag, memory]) + row.to_bytes(3, "little") + byte.to_bytes(2, "little")
                        + image.data[at:at + MAX_PAYLOAD - LOAD_HEADER])
    return payloads
