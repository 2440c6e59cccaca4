"""A link with its array, and a host that speaks to it in bytes."""

import random

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.sim import Simulator
from spikeloom import link
from spikeloom.hw.array import Array
from spikeloom.hw.link import Link

#: Clock cycles after which somebody waits in vain.
PATIENCE = 40_000


class Linked(wiring.Component):
    """An array behind its link, without a transport."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def __init__(self, program):
        self.program = program
        self.identity = link.Identity.of(program, clock=10_000_000, baud=1_000_000)
        self.link = Link(program, self.identity)
        self.array = Array(program, counter_width=0, tells=True)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.link, m.submodules.array = self.link, self.array
        connect(m, wiring.flipped(self.i), self.link.i)
        connect(m, self.link.o, wiring.flipped(self.o))
        connect(m, self.link.words, self.array.i)
        connect(m, self.array.o, self.link.results)
        m.d.comb += self.link.finished.eq(self.array.finished)
        for ours, theirs in ((self.link.event, self.array.event), (self.link.stalled, self.array.stalled)):
            m.d.comb += [one.eq(other) for one, other in zip(ours, theirs, strict=True)]
        if self.program.reloadable:
            connect(m, self.link.load, self.array.load)
        return m


class Host:
    """What a host does: bytes out, replies in.

    Attributes
    ----------
    replies : list of bytes
        all payloads so far
    listens : float
        chance per cycle to take a byte
    """

    def __init__(self, board, *, listens=1.0, seed=0):
        self.board = board
        self.replies = []
        self.listens = listens
        self.decoder = link.Decoder()
        self._random = random.Random(seed)

    async def receive(self, ctx):
        """Runs beside, for ever."""
        o = self.board.o
        while True:
            ready = self._random.random() < self.listens
            ctx.set(o.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(o.valid, o.payload)
            if valid and ready:
                self.replies += self.decoder.feed([byte])

    async def send(self, ctx, wire, *, lossy=False, pace=0):
        """Send the bytes ``wire``, one every ``pace`` cycles at most; ``lossy``, as over a line that cannot wait."""
        i = self.board.i
        for byte in wire:
            ctx.set(i.payload, byte)
            ctx.set(i.valid, 1)
            if lossy:
                await ctx.tick().repeat(16)
            else:
                await ctx.tick().until(i.ready)
            ctx.set(i.valid, 0)
            if pace:
                await ctx.tick().repeat(pace)

    async def frames(self, ctx, *payloads):
        for payload in payloads:
            await self.send(ctx, link.encode(payload))

    async def until(self, ctx, count):
        """Wait until there are so many replies."""
        for _ in range(PATIENCE):
            if len(self.replies) >= count:
                return
            await ctx.tick()
        raise AssertionError(f"{len(self.replies)} of {count} replies: {[reply.hex() for reply in self.replies]}")

    async def quiet(self, ctx):
        """Wait until nothing more comes."""
        count = None
        while count != len(self.replies):
            count = len(self.replies)
            await ctx.tick().repeat(1000)

    async def ask(self, ctx, *payloads):
        """The replies to ``payloads``, all sent at once."""
        before = len(self.replies)
        await self.frames(ctx, *payloads)
        await self.until(ctx, before + len(payloads))
        await ctx.tick().repeat(40)
        assert len(self.replies) == before + len(payloads)
        return self.replies[before:]


def converse(program, script, **options):
    """Run ``script(ctx, host)`` against a new board; the `Host`."""
    board = Linked(program)
    host = Host(board, **options)
    simulator = Simulator(board)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host.receive, background=True)

    async def told(ctx):
        await script(ctx, host)

    simulator.add_testbench(told)
    simulator.run()
    return host


def scores_reply(tag, scores, winner, identity):
    """The payload that answers a sample."""
    return (bytes([link.FINISH | link.REPLY, tag])
            + b"".join(int(score).to_bytes(identity.score_bytes, "little", signed=True) for score in scores)
            + int(winner).to_bytes(4, "little"))


def error(tag, code):
    """The payload that refuses a request."""
    return bytes([link.ERROR, tag, code])
