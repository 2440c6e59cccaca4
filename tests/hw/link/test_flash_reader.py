"""A board that starts from its flash, whatever that holds."""

import pytest
from amaranth.sim import Simulator
from programs import random_inputs, random_program
from spikeloom import link, reference
from spikeloom.errors import SpikeloomError
from spikeloom.hw.link import flash
from spikeloom.hw.link.flash import FlashReader
from spikeloom.hw.top import Top

CLOCK, OFFSET = 1_000_000, 0x12345


def memory(pins, content, log):
    """A testbench that is a flash chip, asleep at first, with ``content`` from `OFFSET` on and FF elsewhere; ``log``
    takes the addresses that are read."""
    async def testbench(ctx):
        awake, bits, address, clk_before = False, [], None, 0
        async for _, _, cs, clk, copi in ctx.tick().sample(pins.flash_cs, pins.flash_clk, pins.flash_copi):
            if cs:
                awake |= bits == [1, 0, 1, 0, 1, 0, 1, 1]
                bits, address = [], None
            elif clk and not clk_before:
                bits.append(copi)
                if awake and len(bits) == 32:
                    word = int("".join(map(str, bits)), 2)
                    assert word >> 24 == 0x03
                    address = word & 0xFFFFFF
            elif clk_before and not clk and address is not None:
                at = address + (len(bits) - 32) // 8
                if len(bits) % 8 == 0:
                    log.append(at)
                byte = content[at - OFFSET] if 0 <= at - OFFSET < len(content) else 0xFF
                ctx.set(pins.flash_cipo, byte >> (7 - len(bits) % 8) & 1)
            clk_before = clk

    return testbench


def start(program, content, payloads, *, cycles=40_000):
    """Start a board with ``content`` in its flash, and then send it ``payloads``.

    What the board says, whether it has a network and its last winner at the end of boot, and the addresses read.
    """
    top = Top(program, clock=CLOCK, baud=CLOCK // 4, boot_offset=OFFSET)
    replies, log, state = [], [], []

    async def host(ctx):
        for _ in range(cycles):
            if not ctx.get(top.busy):
                break
            assert ctx.get(top.tx) == 1
            await ctx.tick()
        else:
            raise AssertionError("still at its flash")
        state.extend((ctx.get(top.loaded), ctx.get(top.winner)))
        assert ctx.get(top.flash_cs) == 1
        for byte in b"".join(map(link.encode, payloads)):
            for bit in [0, *(byte >> n & 1 for n in range(8)), 1]:
                ctx.set(top.rx, bit)
                await ctx.tick().repeat(4)
        await ctx.tick().repeat(20)
        while ctx.get(top.busy):
            await ctx.tick()

    async def listen(ctx):
        decoder = link.Decoder()
        while True:
            if ctx.get(top.tx):
                await ctx.tick()
                continue
            await ctx.tick().repeat(6)
            byte = 0
            for n in range(8):
                byte |= ctx.get(top.tx) << n
                await ctx.tick().repeat(4)
            replies.extend(decoder.feed([byte]))

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory(top, content, log), background=True)
    simulator.add_testbench(listen, background=True)
    simulator.add_testbench(host)
    simulator.run()
    return replies, *state, log


def image(*payloads):
    return b"".join(map(link.encode, payloads))


END_OF_BOOT = b"\x08\x00"


def test_a_network_and_a_sample_from_flash():
    before, after = (random_program(seed, reloadable=True, sizes=(11, 8, 5)) for seed in (1, 2))
    inputs = random_inputs(before, 1, seed=4)
    (sample,) = link.sample(9, before.i_words.pack(inputs[0]))
    (winner,) = reference.run(after.network, inputs).winners
    loads = [payload for number, each in enumerate(after.images) for payload in link.load(0, number, each)]
    content = image(*loads, b"\x07\0" + bytes.fromhex(after.network.digest), sample, END_OF_BOOT)
    replies, loaded, shown, log = start(before, content + image(b"\x01\1") + b"rest", [b"\x04\x55"])
    assert loaded == 1 and shown == winner != 0
    assert log[0] == OFFSET and OFFSET + len(content) <= max(log) + 1 <= OFFSET + len(content) + 1
    (reply,) = replies  # only what a host asked for
    assert reply[:2] == b"\x84\x55" and link.Counters.unpack(reply[2:], 2).damaged == 0


@pytest.mark.parametrize("content", [b"", b"\x03\x05", b"\xc1" + image(END_OF_BOOT)])
def test_a_flash_that_holds_no_frames(content):
    program = random_program(1)
    replies, loaded, _, log = start(program, content, [b"\x08\x01"], cycles=1000)
    assert replies == [b"\x88\x01"] and loaded == 1 and set(log) <= {OFFSET, OFFSET + 1}


def test_a_damaged_image(monkeypatch):
    """Frames with errors, one that begins a load, and no end: the board serves its host afterwards."""
    monkeypatch.setattr(flash, "MOST", 100)
    program = random_program(3, reloadable=True)
    good = image(b"\x05\0\0\0\0\0\0\0x")
    content = image(b"\x01\0")[:-2] + b"\xc0" + good + b"\xc0\x03\x05\0\1" + b"\1" * 10
    replies, loaded, _, log = start(program, content, [b"\x03\x07\0\1\1\0\0", b"\x08\x01"])
    assert replies == [bytes([0xFF, 7, link.NOT_LOADED]), b"\x88\x01"]
    assert loaded == 0 and max(log) <= OFFSET + 100


def test_offsets_are_checked():
    with pytest.raises(SpikeloomError, match="^Offset of a boot image must be between 0 and 16777215, not 16777216$"):
        FlashReader(2**24, CLOCK)
