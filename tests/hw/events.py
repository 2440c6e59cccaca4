"""The address events of random inputs, and the pins of a module in cocotb."""

import json
from pathlib import Path

import numpy as np
from cocotb_tools import runner
from spikeloom.sim import verilator


def scattered(words, x, pick):
    """Inputs ``x`` (samples, time steps, n_in) as events of one time step after the other, in the order in which
    ``pick`` shuffles them: lists (samples) of lists (time steps) of pairs of address and value.

    A binary input may have several events. A graded one's value comes in parts, which are more than it holds when it is
    the greatest.
    """
    def parts(value):
        if not words.graded:
            return [1] * (value and pick.choice([1, 1, 2, 5]))
        greatest = 2**words.width - 1
        left = value if value < greatest else pick.randint(greatest, 3 * greatest)
        made = []
        while left:
            made.append(pick.randint(0, min(left, greatest)))
            left -= made[-1]
        return made

    def events(values):
        made = [(address, part) for address, value in enumerate(values) for part in parts(value)]
        pick.shuffle(made)
        return made

    return [[events(values) for values in sample] for sample in np.asarray(x).tolist()]


def simulate(module, sources, top, task, folder, monkeypatch):
    """Run cocotb's tests in ``module`` on Verilog ``sources`` (name to text), in ``folder`` with ``task`` in task.json;
    how many ran, and how many failed."""
    for name, value in verilator.find().environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the simulator finds the module
    for name, text in sources.items():
        (folder / name).write_text(text)
    (folder / "task.json").write_text(json.dumps(task))
    simulator = verilator.Runner(public=True)
    simulator.build(sources=[folder / name for name in sources], hdl_toplevel=top, build_dir=folder, always=True,
                    build_args=["-Wno-fatal", "-CFLAGS", "-O0"], timescale=("1ns", "1ps"),
                    log_file=folder / "build.log")
    results = simulator.test(test_module=module, hdl_toplevel=top, build_dir=folder, test_dir=folder,
                             timescale=("1ns", "1ps"), log_file=folder / "test.log")
    return runner.get_results(results)
