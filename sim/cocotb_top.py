"""What runs inside the simulator: starts the harness and waits until it is done."""

import time

import cocotb
from cocotb.triggers import Timer

#: Nanoseconds between two looks at the harness: a thousand clock cycles.
LOOK = 10_000


@cocotb.test()
async def replay(dut):
    started = time.perf_counter()
    dut.go.value = 1
    while not int(dut.done.value):
        await Timer(LOOK, "ns")
        assert not int(dut.stuck.value), f"no result for too long, at cycle {int(dut.cycle.value)}"
    cycles, seconds = int(dut.cycle.value), time.perf_counter() - started
    cocotb.log.info("%d cycles in %.2f s", cycles, seconds)
    with open("speed.txt", "w") as file:
        file.write(f"{cycles} {seconds}")
