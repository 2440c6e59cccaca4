"""Runs inside the simulator: the example of docs/embedding.md, as the sensor and the tick in front of it."""

import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge


async def cycle(dut, *, spike=0, pixel=0, tick=0):
    dut.spike.value, dut.pixel.value, dut.tick.value = spike, pixel, tick
    await RisingEdge(dut.clk)
    dut.spike.value, dut.tick.value = 0, 0


async def watch(dut, labels):
    while True:
        await RisingEdge(dut.clk)
        if int(dut.label_valid.value):
            labels.append(int(dut.label.value))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def labels(dut):
    task = json.loads(Path("task.json").read_text())
    pick, seen = random.Random(task["seed"]), []
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value, dut.spike.value, dut.tick.value, dut.pixel.value = 1, 0, 0, 0
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await ClockCycles(dut.clk, task["wait"])
    cocotb.start_soon(watch(dut, seen))
    missed = 0
    for sample in task["events"]:
        for step in sample:
            for address, _ in step:
                while pick.random() < 0.3:
                    await cycle(dut)
                await cycle(dut, spike=1, pixel=address)
            await cycle(dut, tick=1)
            if pick.random() < 0.3:  # in the way of the tick, so it must not count
                await cycle(dut, spike=1, pixel=pick.randrange(64))
                missed += 1
            await ClockCycles(dut.clk, task["wait"])
    await ClockCycles(dut.clk, task["wait"])
    assert seen == task["winners"]
    assert int(dut.missed.value) == missed > 0
