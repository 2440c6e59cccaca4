"""The Verilog around the generated Verilog: feeds words from a file, writes down what every neuron does.

It runs inside the simulator, so that Python is not asked at every clock edge.
"""

from amaranth.hdl import Shape
from spikeloom.hw.load import LoadSignature
from spikeloom.hw.verilog import MODULE
from spikeloom.network import signed_width

__all__ = ["LOAD_FIELDS", "TOP", "WORD_BYTES", "generate"]

TOP = "harness"

#: Bytes of an input word in the file, big-endian.
WORD_BYTES = 8

#: Names and bits of what a word of ``load.bin`` says, from the highest bit on.
LOAD_FIELDS = (("memory", 8), ("row", 32), ("byte", 16), ("data", 8))


def generate(program):
    """The harness of the Verilog of a program's array with ``observe``, or of a netlist made from that.

    It writes the memories as ``load.bin`` says, if the program is reloadable. It then reads input words from
    ``words.bin`` and writes text files of decimal numbers: ``layer_N.txt`` with the number of spikes of layer N in each
    time step (of graded ones their sum), or, with ``+detail``, the spikes and every unit's membrane potential at each
    update (-1 as spikes stands for a row that was skipped); and ``results.txt`` with score, winner, last and clock
    cycle of every result. Each side hesitates in ``+stall=N`` of 100 cycles, at random from ``+stall_seed=N``. It
    raises ``done`` after ``+samples=N`` samples and ``stuck`` when there was no result for ``+patience=N`` cycles.
    """
    cores = program.cores
    i_width = program.i_words.width + program.i_words.index_width + 2
    winner_width = max(1, (program.network.n_out - 1).bit_length())
    score_width = program.score_width
    o_width = score_width + winner_width + 1
    wires, ports = zip(*(_observed(number, core) for number, core in enumerate(cores)), strict=True)
    wires, ports = "\n".join(wires), ",\n    ".join(ports)
    watch = "\n".join(_watch(number, core) for number, core in enumerate(cores))
    opened = "\n".join(f'    layer_{number} = $fopen("layer_{number}.txt", "w");' for number in range(len(cores)))
    closed = "\n".join(f"      $fclose(layer_{number});" for number in range(len(cores)))
    files = ", ".join(f"layer_{number}" for number in range(len(cores)))
    load_wires, load_ports, load = _load(program) if program.reloadable else ("", "", "")
    return f"""`timescale 1ns/1ps
module {TOP};
  reg clk = 0, rst = 1;
  reg go /* verilator public_flat_rw */ = 0;
  reg done /* verilator public_flat_rw */ = 0;
  reg stuck /* verilator public_flat_rw */ = 0;
  reg [63:0] cycle /* verilator public_flat_rw */ = 0;
  reg [{i_width - 1}:0] i_payload = 0;
  reg i_valid = 0, o_ready = 0, ended = 0;
  wire i_ready, o_valid;
  wire [{o_width - 1}:0] o_payload;
  // Sign extension by hand: Verilator 5.48 writes a narrow signed slice without masking it.
  wire [{score_width - 1}:0] score_bits = o_payload[{score_width - 1}:0];
  wire [31:0] score = {{{{{32 - score_width}{{score_bits[{score_width - 1}]}}}}, score_bits}};
  wire [{winner_width - 1}:0] winner = o_payload[{score_width} +: {winner_width}];
  wire last = o_payload[{o_width - 1}];
  reg [{8 * WORD_BYTES - 1}:0] word;
{wires}
  reg loading = {int(program.reloadable)};
{load_wires}  integer words, results, {files};
  integer got, detail, stall = 0, seed = 0, samples = 0, patience = 1000000, idle = 0, seen = 0;
  integer left = {cores[-1].lanes + 1};

  {MODULE} dut (.clk(clk), .rst(rst), .i__payload(i_payload), .i__valid(i_valid), .i__ready(i_ready),
    .o__payload(o_payload), .o__valid(o_valid), .o__ready(o_ready),
    {ports}{load_ports});

  always #5 clk = ~clk;

  initial begin
    detail = $test$plusargs("detail");
    got = $value$plusargs("stall=%d", stall);
    got = $value$plusargs("stall_seed=%d", seed);
    got = $value$plusargs("samples=%d", samples);
    got = $value$plusargs("patience=%d", patience);
    words = $fopen("words.bin", "rb");
    results = $fopen("results.txt", "w");
{opened}
  end

  always @(posedge clk) if (go && !done && !stuck) begin
    rst <= 0;
    if (!loading) cycle <= cycle + 1;
{load}    if (!rst && !loading) begin
      if ((i_ready || !i_valid) && !ended) begin
        i_valid <= 0;
        if ($unsigned($random(seed)) % 100 >= stall) begin
          got = $fread(word, words);
          if (got == {WORD_BYTES}) begin
            i_valid <= 1;
            i_payload <= word[{i_width - 1}:0];
          end else
            ended <= 1;
        end
      end else if (i_ready)
        i_valid <= 0;
      o_ready <= $unsigned($random(seed)) % 100 >= stall;
      idle = idle + 1;
      if (o_valid && o_ready) begin
        idle = 0;
        $fwrite(results, "%0d %0d %0d %0d\\n", $signed(score), winner, last, cycle);
        if (last) begin
          seen = seen + 1;
          $fflush(results);
        end
      end
      if (idle > patience) stuck <= 1;
      // Neurons that only fill up the last group may come behind the scores.
      if (seen == samples) left = left - 1;
      if (left == 0) begin
        done <= 1;
        $fclose(results);
{closed}
      end
    end
  end

{watch}
endmodule
"""


def _load(program):
    """The bus that the memories are written over: its declaration, the ports of the array, and what writes a byte in
    each cycle until ``load.bin`` ends."""
    widths = {name: Shape.cast(member.shape).width for name, member in LoadSignature(program).members.items()}
    wires = "".join(f"  {'wire' if name == 'read_data' else 'reg'} [{width - 1}:0] load_{name}"
                    f"{'' if name == 'read_data' else ' = 0'};\n" for name, width in widths.items())
    ports = "".join(f",\n    .load__{name}(load_{name})" for name in widths)
    places, low = [], 0
    for name, width in LOAD_FIELDS:
        low += width
        places.append(f"load_{name} <= word[{8 * WORD_BYTES - low} +: {min(width, widths[name])}];")
    wires += '  integer load = 0;\n  initial load = $fopen("load.bin", "rb");\n'
    return wires, ports, f"""    if (!rst && loading) begin
      got = $fread(word, load);
      loading <= got == {WORD_BYTES};
      load_active <= got == {WORD_BYTES};
      load_write <= got == {WORD_BYTES};
      {" ".join(places)}
    end
"""


def _observed(number, core):
    """The wires to one layer's updates, and the ports of the array that they connect to."""
    z_width = signed_width(*core.o_words.bounds) if core.graded else core.units
    wires = [("valid", 1), ("last_word", 1), ("z", z_width),
             *((f"v__{unit}", core.layer.v_width) for unit in range(core.units)),
             *([("skipped", 1)] if core.skips else [])]
    name = f"update_{number}"
    return ("\n".join(f"  wire [{width - 1}:0] {name}__{wire};" for wire, width in wires),
            ", ".join(f".{name}__{wire}({name}__{wire})" for wire, _ in wires))


def _watch(number, core):
    """The block that writes down what one layer does."""
    update = f"update_{number}"
    spikes = f"$signed({update}__z)" if core.graded else f"{update}__z"
    count = spikes if core.graded else f"$countones({spikes})"
    shown = ", ".join([spikes, *(f"$signed({update}__v__{unit})" for unit in range(core.units))])
    numbers = " ".join(["%0d"] * (core.units + 1))
    skipped = " ".join(["-1", *["0"] * core.units])
    skips_row = f"{update}__skipped" if core.skips else "1'b0"
    return f"""  integer spikes_{number} = 0;
  always @(posedge clk) if (go && !done && ({update}__valid || {skips_row})) begin
    if (detail != 0) begin
      if ({skips_row})
        $fwrite(layer_{number}, "{skipped}\\n");
      else
        $fwrite(layer_{number}, "{numbers}\\n", {shown});
    end else begin
      if (!{skips_row})
        spikes_{number} = spikes_{number} + {count};
      if ({update}__last_word) begin
        $fwrite(layer_{number}, "%0d\\n", spikes_{number});
        spikes_{number} = 0;
      end
    end
  end
"""
