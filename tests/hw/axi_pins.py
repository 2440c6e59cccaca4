"""Runs inside the simulator: packets of events in, packets of scores out, by cocotbext-axi, both sides pausing."""

import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource


def pauses(seed, share):
    pick = random.Random(seed)
    while True:
        yield pick.random() < share


async def reset(dut):
    dut.aresetn.value = 0
    for _ in range(3):
        await RisingEdge(dut.aclk)
    dut.aresetn.value = 1


async def play(dut, task, source, sink):
    for packet in task["packets"]:
        source.send_nowait(packet)
    for number, (scores, winner) in enumerate(zip(task["scores"], task["winners"], strict=True)):
        frame = await sink.recv()
        sign = 1 << (len(dut.m_axis_tdata) - 1)
        assert [(int(beat) ^ sign) - sign for beat in frame.tdata] == scores, f"sample {number}"
        # The sink makes one number of a list whose elements are all the same.
        last = frame.tuser[-1] if isinstance(frame.tuser, list) else frame.tuser
        assert last == winner, f"sample {number}"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def scores(dut):
    task = json.loads(Path("task.json").read_text())
    cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
    lane = {"reset_active_level": False, "byte_lanes": 1}  # a frame's elements are whole beats
    source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, dut.aresetn, **lane)
    sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, dut.aresetn, **lane)
    for share in (0.0, 0.5, 0.9):
        await reset(dut)
        source.set_pause_generator(pauses(1, share))
        sink.set_pause_generator(pauses(2, share))
        await play(dut, task, source, sink)
        assert int(dut.dropped.value) == task["dropped"]
        assert sink.empty()

    # A reset in the middle of a packet, and of one that leaves: what comes after it is right.
    for _ in range(3):
        source.send_nowait(task["packets"][0])
        source.send_nowait(task["packets"][1])
        for _ in range(random.Random(3).randrange(50, 400)):
            await RisingEdge(dut.aclk)
        dut.aresetn.value = 0
        await RisingEdge(dut.aclk)
        source.clear()
        sink.clear()
        await reset(dut)
        sink.clear()
        await play(dut, task, source, sink)
