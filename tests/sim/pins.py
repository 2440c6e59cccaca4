"""Runs inside the simulator: drives the bare array at its pins, from Python at every clock edge, both sides stalling.

It knows the array only by the comment at the head of its Verilog, as a user does who embeds it.
"""

import json
import random
import re
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


def layout(verilog, stream):
    """Field name to (lowest bit, width) of a stream's payload."""
    fields, low = {}, 0
    line = re.search(rf"^// {stream}__payload \(.*?\), lowest bit first: (.*)$", verilog, re.MULTILINE)[1]
    for name, width in re.findall(r"(\w+)\[(\d+)\]", line):
        fields[name] = (low, int(width))
        low += int(width)
    return fields


async def drive(dut, fields, words, pauses):
    for word in words:
        while pauses.random() < 0.3:
            await RisingEdge(dut.clk)
        dut.i__payload.value = sum(int(word[name]) << low for name, (low, _) in fields.items())
        dut.i__valid.value = 1
        await RisingEdge(dut.clk)
        while not int(dut.i__ready.value):
            await RisingEdge(dut.clk)
        dut.i__valid.value = 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def scores(dut):
    task = json.loads(Path("task.json").read_text())
    text, pauses = Path(task["verilog"]).read_text(), random.Random(task["seed"])
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value, dut.i__valid.value, dut.o__ready.value = 1, 0, 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(drive(dut, layout(text, "i"), task["words"], pauses))

    fields = layout(text, "o")
    for number, (expected, winner) in enumerate(zip(task["scores"], task["winners"], strict=True)):
        seen = []
        while len(seen) < len(expected):
            dut.o__ready.value = ready = int(pauses.random() < 0.5)
            await RisingEdge(dut.clk)
            if not (ready and int(dut.o__valid.value)):
                continue
            payload = int(dut.o__payload.value)
            part = {name: payload >> low & ((1 << width) - 1) for name, (low, width) in fields.items()}
            sign = 1 << (fields["score"][1] - 1)
            seen.append((part["score"] ^ sign) - sign)
            assert part["last"] == (len(seen) == len(expected)), f"sample {number}: {len(seen)} scores"
        assert seen == expected, f"sample {number}"
        assert part["winner"] == winner, f"sample {number}"
