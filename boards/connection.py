"""A host's connection to a board, real or virtual: its requests, as many at once as the board takes.

The bytes are those of ``docs/link.md``. Requests are repeated when the line damages them or their answers, so that
whatever comes back is what the board computed; a line that stays silent is an error.
"""

import collections
import contextlib
import random
import time
from dataclasses import dataclass, field

import numpy as np
import serial
from spikeloom import link
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError

from .port import open_port

__all__ = ["Connection", "Refusal", "Traffic", "connect"]

#: Requests that may be unanswered at once: a tag must not come again while an old reply with it may be on its way.
IN_FLIGHT = 100

#: Identities asked for in vain, without a single byte in answer, before a board counts as absent.
SILENCE = 8

#: Seconds between two looks for something to send, while there is nothing yet.
TICK = 0.001

#: Bytes that may have to pass before an answer does: a full buffer, and the longest reply.
LONGEST = 4096


@contextlib.contextmanager
def connect(port=None, *, baud, **options):
    """A `Connection` on the serial port of that name, for the length of a ``with`` block, with its ``options``.

    Raises `SpikeloomError` when there is no such port, or no board that answers.
    """
    line = open_port(port, baud=baud)
    with contextlib.closing(line):
        yield Connection(line, **options)


@dataclass
class Traffic:
    """What has happened on the line.

    Attributes
    ----------
    sent, received : int
        bytes
    resent : int
        requests that had to be sent again
    errors : dict
        error replies by code
    """

    sent: int = 0
    received: int = 0
    resent: int = 0
    errors: collections.Counter = field(default_factory=collections.Counter)


class Refusal(SpikeloomError):
    """The board answered with an error that sending again would not change; ``code`` as in ``docs/link.md``."""

    def __init__(self, code):
        self.code = code
        super().__init__(f"The board refuses: {link.ERRORS.get(code, f'error {code:02x}')}")


@dataclass(eq=False)
class _Request:
    """Payloads that belong together, up to one that does not announce more, as they are taken from ``source``;
    ``body`` is that of the last one's reply, once it is there."""

    source: object
    payloads: list = field(default_factory=list)
    tag: int = 0
    sent: int = 0
    tries: int = 0
    body: bytes | None = None


class Connection:
    """A board behind an open serial port. It is identified when this object is made.

    Parameters
    ----------
    line : serial.Serial
        open, with a short timeout
    timeout : float
        seconds without an answer, beside those that the bytes take, after which the host asks what has become of its
        requests; it need not be as long as the slowest of them
    tries : int
        how often a request is sent before it is given up

    Attributes
    ----------
    identity : link.Identity
    loaded : bool
        whether the board has a network
    traffic : Traffic
    """

    def __init__(self, line, *, timeout=0.5, tries=50):
        self.line = line
        self.timeout = timeout + 10 * LONGEST / line.baudrate
        self.tries = tries
        self.traffic = Traffic()
        self.identity = self.loaded = None
        self._decoder = link.Decoder()
        self._tag = random.randrange(256)  # not the one of an answer that an earlier host left behind
        self._used = 0  # bytes of the board's buffer
        self._pending = {}  # reply that is expected -> its request, and what the frame takes of the buffer
        self._flying = collections.deque()
        self._disturbed = False
        self._refused = None
        self._heard = 0.0  # when an answer came or the first of those to come was asked for
        self.identify()

    # Requests -------------------------------------------------------------------------------------

    def identify(self):
        """Ask the board what it is, whatever was on the line before; sets ``identity`` and ``loaded``.

        Raises `SpikeloomError` when nothing answers, or what answers is no Spikeloom board.
        """
        self._abandon()
        self.identity, self.loaded = self._synchronize()

    def counters(self):
        """The board's `link.Counters`, after all samples before."""
        (body,) = self.exchange([[bytes([link.COUNTERS, 0])]])
        return link.Counters.unpack(body, self.identity.layers)

    def samples(self, inputs):
        """Run ``inputs`` (samples, time steps, n_in), an iterable of arrays or an array; an iterator of scores (list
        of int) and winner of each, in order, as they come.

        Raises `SpikeloomError` for inputs that do not fit, and when the board was reset on the way so that another
        network may have answered.
        """
        return self._scored(link.sample(0, self._words.pack(self._checked(x))) for x in inputs)

    def stream(self, samples, steps):
        """As `samples`, for samples whose time steps come one after the other and are sent at once.

        Parameters
        ----------
        samples : iterable of iterables of int arrays (n_in,)
            one for each time step; None where the next one is not there yet
        steps : int
            time steps of each sample
        """
        return self._scored(self._chunks(sample, steps) for sample in samples)

    def _scored(self, requests):
        before = self.identity, self.loaded
        for body in self.exchange(requests):
            yield link.scores(body, self.identity)
        self.identify()
        self._same_as(before)

    def _chunks(self, sample, steps):
        """The payloads of a sample, those of each time step by themselves."""
        number = step = 0
        for x in sample:
            if x is None:
                yield None
                continue
            step += 1
            chunks = link.chunks(0, link.events(self._words.pack(self._checked(x[None])[0])), number, step == steps)
            number += len(chunks)
            yield from chunks

    @property
    def _words(self):
        return WordFormat(self.identity.inputs, self.identity.word_width, self.identity.graded)

    def load(self, program, progress=None):
        """Write all memories of ``program``, check them and commit; ``progress`` is told the share done, 0 to 1.

        Until it is through, the board refuses samples. Raises `SpikeloomError` when a memory does not hold what was
        written.
        """
        frames = [payload for memory, image in enumerate(program.images) for payload in link.load(0, memory, image)]
        for done, _ in enumerate(self.exchange([frame] for frame in frames)):
            if progress:
                progress((done + 1) / len(frames))
        wrong = self.differing(program)
        if wrong:
            raise SpikeloomError(f"The board does not hold what was written to its memories {', '.join(wrong)}")
        self._ask(bytes([link.COMMIT, 0]) + bytes.fromhex(program.network.digest))
        self.identify()

    def check(self, memory):
        """The CRC-32 of what memory number ``memory`` holds."""
        return int.from_bytes(self._ask(bytes([link.CHECK, 0, memory])), "little")

    def differing(self, program):
        """The names of those memories that do not hold what ``program`` has there, by their CRC."""
        return [image.name for memory, image in enumerate(program.images)
                if self.check(memory) != link.crc(image.data)]

    def expect(self, program, *, network=True):
        """Raise `SpikeloomError` unless the board was built for ``program``, and holds its ``network`` if asked."""
        want = link.Identity.of(program, clock=self.identity.clock, baud=self.identity.baud)
        if self.identity.build != want.build:
            told = ", ".join(f"{name.replace('_', ' ')} {seen}, not {expected}" for name, seen, expected
                             in self.identity.differences(want))
            raise SpikeloomError(f"The board carries build {self.identity.build[:16]}, and the program is for build "
                                 f"{want.build[:16]}{f' (the board has {told})' if told else ''}: flash its bitstream")
        if network and not self.loaded:
            raise SpikeloomError("The board holds no network: load one")
        if network and self.identity.network != want.network:
            raise SpikeloomError(f"The board holds network {self.identity.network[:16]}, and the program's is "
                                 f"{want.network[:16]}: load it")

    def exchange(self, requests):
        """Send requests, as many at once as the board's buffer holds; yield the body of each one's reply, in order.

        Parameters
        ----------
        requests : iterable of iterables of bytes
            payloads that belong together, with any tag; they are answered by the reply to the last one. Where the next
            payload is not there yet, None: it is asked for again soon.

        Raises `Refusal` at an error reply that is the request's own fault, `SpikeloomError` when the line fails.
        """
        if self._flying:  # an iterator that was left before its end
            self.identify()
        source, flying = iter(requests), self._flying
        unsent = collections.deque()
        while True:
            more_to_come = self._fill(source, unsent)
            if not flying:
                return
            self._await(wait=not more_to_come)
            if self._disturbed or self._refused is not None:
                self._recover(unsent)
            while flying and flying[0].body is not None:
                yield flying.popleft().body

    def _ask(self, payload):
        (body,) = self.exchange([[payload]])
        return body

    def _checked(self, x):
        x = np.asarray(x)
        high = 2**self.identity.word_width - 1 if self.identity.graded else 1
        fits = x.ndim == 2 and 1 <= len(x) <= self.identity.time_steps and x.shape[1] == self.identity.inputs
        if not fits or x.dtype.kind not in "iub" or x.min() < 0 or x.max() > high:
            raise SpikeloomError(f"A sample for this board must be integers between 0 and {high} of shape (1 to "
                                 f"{self.identity.time_steps} time steps, {self.identity.inputs}), not {x.dtype} "
                                 f"{x.shape}")
        return x

    def _same_as(self, before):
        if (self.identity, self.loaded) != before:
            raise SpikeloomError("The board was reset or loaded on the way: it holds network "
                                 f"{self.identity.network[:16] if self.loaded else 'none'}, not "
                                 f"{before[0].network[:16]}")

    # The line -------------------------------------------------------------------------------------

    def _fill(self, source, unsent):
        """Send what the board's buffer has room for. Whether a payload was asked for that is not there yet."""
        out, more_to_come = [], False
        while True:
            if not unsent:
                payloads = next(source, None) if len(self._flying) < IN_FLIGHT else None
                if payloads is None:
                    break
                unsent.append(_Request(iter(payloads)))
                self._flying.append(unsent[0])
            request = unsent[0]
            if request.sent == len(request.payloads):
                payload = next(request.source)
                more_to_come = payload is None
                if more_to_come:
                    break
                request.payloads.append(payload)
            payload = request.payloads[request.sent]
            size = len(payload) + 1
            if self._pending and self._used + size > self.identity.buffer:
                break
            if request.sent == 0:
                request.tag = self._new_tag()
            kind, chunk = payload[0] | link.REPLY, payload[2:3] if payload[0] == link.EVENTS else b""
            if not self._pending:
                self._heard = time.monotonic()
            self._pending[kind, request.tag, chunk] = request, size
            self._used += size
            out.append(link.encode(bytes([payload[0], request.tag]) + payload[2:]))
            request.sent += 1
            if payload[0] != link.EVENTS:
                unsent.popleft()
        if out:
            self._write(b"".join(out))
        return more_to_come

    def _await(self, *, wait):
        """Take in what comes, and ``wait`` for something to come, or else only for as long as there may be nothing to
        send. Without an answer in time the line counts as disturbed."""
        damaged = self._decoder.damaged
        while True:
            payloads = self._read(wait=wait)
            for payload in payloads:
                self._take(payload)
            if payloads:
                self._heard = time.monotonic()
            overdue = self._pending and time.monotonic() > self._heard + self.timeout
            if self._decoder.damaged != damaged or overdue:
                self._disturbed = True
            if payloads or self._disturbed:
                return
            if not wait:
                time.sleep(TICK)
                return

    def _take(self, payload):
        """Give a reply to its request. One that nobody waits for belongs to what was sent again, or to an old host."""
        kind, tag, body = payload[0], payload[1], payload[2:]
        if kind == link.ERROR:
            code = body[0] if body else 0
            self.traffic.errors[code] += 1
            if code in (link.DAMAGED, link.ORDER):
                self._disturbed = True
            elif any(request.tag == tag for request, _ in self._pending.values()):
                self._refused = code
            return
        chunk = body if kind == link.EVENTS | link.REPLY else b""
        request, size = self._pending.pop((kind, tag, chunk), (None, 0))
        self._used -= size
        if request and kind != link.EVENTS | link.REPLY:
            request.body = body
            # Replies to its earlier chunks may be missing; this one says that they were taken.
            for key in [key for key, (other, _) in self._pending.items() if other is request]:
                self._used -= self._pending.pop(key)[1]

    def _recover(self, unsent):
        """Find out what of all that was sent the board has answered, and have the rest sent again."""
        self._disturbed = False
        before = self.identity, self.loaded
        self.identity, self.loaded = self._synchronize()
        self._disturbed = False
        if self._refused is not None:
            code = self._refused
            self._abandon()
            raise Refusal(code)
        self._forget()
        unsent.clear()
        for request in self._flying:
            if request.body is None:
                self.traffic.resent += request.sent > 0
                request.tries += request.sent > 0
                request.sent = 0
                unsent.append(request)
                if request.tries >= self.tries:
                    self._abandon()
                    raise SpikeloomError(f"{self.line.name}: a request was sent {self.tries} times without an answer")
        if any(payload[0] in (link.EVENTS, link.FINISH) for request in unsent for payload in request.payloads[:1]):
            self._same_as(before)

    def _forget(self):
        self._pending.clear()
        self._used = 0

    def _abandon(self):
        self._forget()
        self._flying.clear()
        self._disturbed, self._refused = False, None

    def _synchronize(self):
        """The identity and whether a network is loaded. All that was sent before has then been answered, or never
        will be."""
        silent, heard = 0, self.traffic.received
        for _ in range(self.tries):
            tag = self._new_tag()
            received = self.traffic.received
            self._write(link.encode(bytes([link.IDENTIFY, tag])))
            deadline, damaged = time.monotonic() + self.timeout, self._decoder.damaged
            while time.monotonic() < deadline and self._decoder.damaged == damaged:
                for payload in self._read():
                    if payload[:2] == bytes([link.IDENTIFY | link.REPLY, tag]):
                        size = link.Identity.FORM.size
                        return link.Identity.unpack(payload[2:2 + size]), payload[2 + size:] == b"\1"
                    self._take(payload)
            silent = silent + 1 if self.traffic.received == received else 0
            if silent == SILENCE:
                break
        raise SpikeloomError(
            f"{self.line.name}: nothing answers at {self.line.baudrate} baud" if self.traffic.received == heard else
            f"{self.line.name}: bytes come at {self.line.baudrate} baud, but no answer of a Spikeloom board")

    def _new_tag(self):
        self._tag = (self._tag + 1) & 0xFF
        return self._tag

    def _read(self, *, wait=True):
        """The payloads that have come; may ``wait`` a little when there is nothing."""
        try:
            data = self.line.read(self.line.in_waiting or int(wait))
        except (serial.SerialException, OSError, TypeError) as error:  # a TypeError where it was closed meanwhile
            raise SpikeloomError(f"{self.line.name}: the connection broke: {error}") from None
        self.traffic.received += len(data)
        return self._decoder.feed(data)

    def _write(self, data):
        data = data.replace(2 * bytes([link.END]), bytes([link.END]))  # one is enough between two frames
        try:
            self.line.write(data)
        except serial.SerialTimeoutException:
            raise SpikeloomError(f"{self.line.name}: takes no bytes") from None
        except (serial.SerialException, OSError) as error:
            raise SpikeloomError(f"{self.line.name}: the connection broke: {error}") from None
        self.traffic.sent += len(data)
