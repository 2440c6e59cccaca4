"""The synthesized netlist equals the reference; the models of block RAMs equal memories."""

import random
import re
import shutil
import subprocess

import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from spikeloom import reference, tools
from spikeloom.compiler.program import Placement, Program
from spikeloom.hw import verilog
from spikeloom.network import ShiftLeak, WeightFormat
from spikeloom.sim import backend, cosim, netlist, trace
from test_gateware import frames, network

#: Icarus is ready sooner for something as small as this.
QUICK = "icarus" if shutil.which("iverilog") else "verilator"


def tiny(target):
    net = network((16, 12, 3), WeightFormat("ternary", 2), leak=ShiftLeak(1), v_width=4, seed=5)
    return Program(net, target, [Placement(8, 2), Placement(3, 1)])


@pytest.mark.parametrize("target, simulator", [("icebreaker", "verilator"), ("ulx3s-25f", QUICK),
                                               ("tang_nano_9k", QUICK)])
def test_netlist_equals_reference(target, simulator, tmp_path):
    program = tiny(target)
    x = frames(program.network, 4)
    design = netlist.array(program, folder=tmp_path)
    run = cosim.run(program, x, design=design, simulator=simulator, stall=0.2, folder=tmp_path)
    assert trace.first_difference(program.network, reference.run(program.network, x), run.trace) is None
    assert run.trace.spikes[0].any() and run.trace.spikes[1].any()
    if simulator != "verilator":  # a netlist that computes something else is found out
        text, initial = design.sources["spikeloom.v"], re.compile(r"(\.INIT(?:VAL|_RAM)_00\(\d+'h\w+)(\w)\)")
        wrong = initial.sub(lambda found: f"{found[1]}{int(found[2], 16) ^ 15:x})", text)
        assert wrong != text
        broken = cosim.Design({**design.sources, "spikeloom.v": wrong}, design.defines, design.verilator)
        run = cosim.run(program, x, design=broken, simulator=simulator, folder=tmp_path)
        assert trace.first_difference(program.network, reference.run(program.network, x), run.trace) is not None


class Memories(wiring.Component):
    """Memories in block RAM, of shapes that use its ports at each width, each read every cycle."""

    SHAPES = ((4000, 4), (1024, 9), (60, 36))

    def __init__(self):
        super().__init__({"w_addr": In(14), "r_addr": In(14), "w_en": In(1), "r_en": In(1), "data": In(36),
                          **{f"out_{width}": Out(width) for _, width in self.SHAPES}})

    def elaborate(self, platform):
        m = Module()
        pick = random.Random(0)
        for depth, width in self.SHAPES:
            init = [pick.randrange(1 << width) for _ in range(depth)]
            m.submodules[f"memory_{width}"] = block = memory.Memory(
                shape=width, depth=depth, init=init, attrs={"ram_style": "block", "no_rw_check": 1})
            w_port, r_port = block.write_port(), block.read_port()
            m.d.comb += [
                w_port.addr.eq(self.w_addr), r_port.addr.eq(self.r_addr), w_port.data.eq(self.data),
                w_port.en.eq(self.w_en & (self.w_addr < depth)), r_port.en.eq(self.r_en & (self.r_addr < depth)),
                getattr(self, f"out_{width}").eq(r_port.data),
            ]
        return m


BENCH = """
module bench;
  reg clk = 0, rst = 0, w_en = 0, r_en = 0;
  reg [13:0] w_addr = 0, r_addr = 0;
  reg [35:0] data = 0;
  {wires}
  rtl a(.clk(clk), .rst(rst), .w_addr(w_addr), .r_addr(r_addr), .w_en(w_en), .r_en(r_en), .data(data), {a});
  netlist b(.clk(clk), .rst(rst), .w_addr(w_addr), .r_addr(r_addr), .w_en(w_en), .r_en(r_en), .data(data), {b});
  integer n, wrong = 0;
  initial begin
    for (n = 0; n < 1000; n = n + 1) begin
      // Few addresses, so that many are read again, but never in the cycle that writes them.
      w_addr = ($random & 14'h3f) * ($random & 1 ? 1 : 5);
      r_addr = ($random & 14'h3f) * ($random & 1 ? 1 : 5);
      data = {{$random, $random}};
      w_en = $random;
      r_en = $random;
      if (n == 0) begin  // what comes out before the first read is nobody's business
        r_en = 1;
        r_addr = 1;
      end
      if (w_addr == r_addr) w_en = 0;
      #1 clk = 1;
      #1 clk = 0;
      if (!({same})) wrong = wrong + 1;
    end
    $display("%0d of %0d wrong", wrong, n);
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("family", ["ecp5", "gowin"])
def test_models_of_block_ram(family, tmp_path):
    rtl = verilog.convert(Memories(), "rtl")
    made = netlist.synthesize(verilog.convert(Memories(), "top"), family, "netlist", pins=False, folder=tmp_path)
    names = [f"out_{width}" for _, width in Memories.SHAPES]
    bench = BENCH.format(
        wires="\n  ".join(f"wire [{width - 1}:0] a_{width}, b_{width};" for _, width in Memories.SHAPES),
        a=", ".join(f".{name}({name.replace('out', 'a')})" for name in names),
        b=", ".join(f".{name}({name.replace('out', 'b')})" for name in names),
        same=" && ".join(f"a_{width} === b_{width}" for _, width in Memories.SHAPES))
    assert re.findall(r"^  (DP16KD|S?DPX?9?B|SPX?9?) #", made, re.MULTILINE)
    for name, text in (("rtl.v", rtl), ("netlist.v", made), ("cells.v", netlist.models(family, made)),
                       ("bench.v", bench)):
        (tmp_path / name).write_text(text)
    sources = ["rtl.v", "netlist.v", "cells.v", "bench.v"]
    defines = [f"-D{name}" for name in netlist.DEFINES]
    if QUICK == "icarus":
        tools.find("iverilog").run(["-g2012", "-s", "bench", "-o", "bench", *defines, *sources], cwd=tmp_path)
        output = subprocess.run(["vvp", "bench"], cwd=tmp_path, capture_output=True, text=True).stdout
    else:
        tools.find("verilator").run(["--binary", "--timing", "--top-module", "bench", "-Wno-fatal", *netlist.LINT,
                                     *defines, *sources], cwd=tmp_path)
        output = subprocess.run([tmp_path / "obj_dir" / "Vbench"], capture_output=True, text=True).stdout
    assert "0 of 1000 wrong" in output.splitlines()


def test_netlist_is_a_backend(tmp_path):
    program = tiny("tang_nano_9k")
    result = backend.verify(program, frames(program.network, 2), "netlist", folder=tmp_path)
    assert result.difference is None and result.cycles > 0
