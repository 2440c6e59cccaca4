"""The bare array in cocotb, pin by pin, as one would drive it in a design of one's own."""

import json
from pathlib import Path

from cocotb_tools import runner
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw import verilog
from spikeloom.network import WeightFormat
from spikeloom.sim import trace, verilator
from test_gateware import frames, network


def test_scores_at_the_pins(tmp_path, monkeypatch):
    net = network((12, 9, 5), WeightFormat("ternary", 2), width=2)
    program = Program(net, "hx8k", [Placement(4, 2), Placement(5, 1)])
    x = frames(net, 8)
    expected = reference.run(net, x)
    source = tmp_path / "array.v"
    source.write_text(verilog.generate(program))
    names = ("index", "bits", "last", "final")
    (tmp_path / "task.json").write_text(json.dumps({
        "verilog": str(source), "seed": 5, "scores": expected.scores.tolist(), "winners": expected.winners.tolist(),
        "words": [dict(zip(names, word, strict=True)) for word in trace.input_words(program, x).tolist()]}))
    for name, value in verilator.find().environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the simulator finds `pins`
    simulator = verilator.Runner(public=True)
    simulator.build(sources=[source], hdl_toplevel=verilog.MODULE, build_dir=tmp_path, always=True,
                    build_args=["-Wno-fatal"], timescale=("1ns", "1ps"), log_file=tmp_path / "build.log")
    results = simulator.test(test_module="pins", hdl_toplevel=verilog.MODULE, build_dir=tmp_path, test_dir=tmp_path,
                             timescale=("1ns", "1ps"), log_file=tmp_path / "test.log")
    assert runner.get_results(results) == (1, 0)
