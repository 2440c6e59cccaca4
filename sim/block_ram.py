"""Verilog models of the block RAMs of ECP5 and Gowin, which Yosys knows by their ports only.

All are one memory of 2048 bytes (of eight or nine bits) with two ports, each of a width of its own. Data read in the
cycle that writes them through the other port are undefined in these devices; here they come inverted, so that whatever
counts on them is found out. What Yosys never asks for (output registers, asynchronous resets, other block
selects) stops the simulation.
"""

__all__ = ["ECP5", "GOWIN"]

_BLOCKS = 64  # initial values, as parameters

_MEMORY = """
module spikeloom_block_ram #(
  parameter BYTE = 9,
  parameter [2048 * BYTE - 1:0] INIT = 0,
  parameter A_WIDTH = 18, B_WIDTH = 18,  // 1, 2, 4, and 1, 2 or 4 bytes
  parameter A_MODE = 0, B_MODE = 0  // what a write shows: 0 nothing new, 1 what was written, 2 what was there
) (
  input a_clk, a_en, a_write, a_rst, b_clk, b_en, b_write, b_rst,
  input [13:0] a_addr, b_addr,
  input [35:0] a_data, b_data,
  output reg [35:0] a_out, b_out
);
  reg [BYTE - 1:0] bytes [0:2047];
  integer n;
  initial begin
    for (n = 0; n < 2048; n = n + 1) bytes[n] = INIT[n * BYTE +: BYTE];
    a_out = 0;
    b_out = 0;
  end
{port_a}
{port_b}
endmodule
"""

# Wide ports take the lowest address bits as byte enables.
_PORT = """
  localparam {p}_PART = {P}_WIDTH < BYTE ? {P}_WIDTH : BYTE;
  localparam {p}_BYTES = {P}_WIDTH / {p}_PART;
  localparam [10:0] {p}_SPAN = {p}_BYTES - 1;
  localparam [2:0] {p}_FINE = {P}_WIDTH < BYTE ? {P}_WIDTH - 1 : 7;
  wire [10:0] {p}_first = {p}_addr[13:3] & ~{p}_SPAN;
  wire [3:0] {p}_enable = {p}_BYTES == 4 ? {p}_addr[3:0] : {p}_BYTES == 2 ? {{2'd0, {p}_addr[1:0]}} : 4'd1;
  wire [2:0] {p}_bit = {P}_WIDTH < BYTE ? {p}_addr[2:0] & ~{p}_FINE : 3'd0;
  wire {p}_beside = (({p}_addr[2:0] ^ {q}_addr[2:0]) & ~({p}_FINE | {q}_FINE)) != 0;  // other bits of the same byte
  reg [10:0] {p}_at;
  reg [35:0] {p}_old, {p}_new;
  reg {p}_met;
  integer {p}_n;
  always @(posedge {p}_clk) begin
    {p}_old = 0;
    {p}_new = 0;
    for ({p}_n = 0; {p}_n < {p}_BYTES; {p}_n = {p}_n + 1) begin
      {p}_at = {p}_first + {p}_n;
      {p}_met = {q}_en && {q}_write && ({p}_at & ~{q}_SPAN) == {q}_first && {q}_enable[{p}_at & {q}_SPAN]
        && !{p}_beside;
      {p}_old[{p}_n * {p}_PART +: {p}_PART] = bytes[{p}_at][{p}_bit +: {p}_PART] ^ {{{p}_PART{{{p}_met}}}};
      {p}_new[{p}_n * {p}_PART +: {p}_PART] =
        {p}_enable[{p}_n] ? {p}_data[{p}_n * {p}_PART +: {p}_PART] : {p}_old[{p}_n * {p}_PART +: {p}_PART];
      if ({p}_en && {p}_write && {p}_enable[{p}_n])
        bytes[{p}_at][{p}_bit +: {p}_PART] <= {p}_data[{p}_n * {p}_PART +: {p}_PART];
    end
    if ({p}_rst)
      {p}_out <= 0;
    else if ({p}_en && (!{p}_write || {P}_MODE != 0))
      {p}_out <= {p}_write && {P}_MODE == 1 ? {p}_new : {p}_old;
  end
"""

MEMORY = _MEMORY.format(port_a=_PORT.format(p="a", P="A", q="b"), port_b=_PORT.format(p="b", P="B", q="a"))


def _bits(name, high, low=0):
    """The bits of a port that has a name for each, highest first."""
    return ", ".join(f"{name}{bit}" for bit in range(high, low - 1, -1))


def _initial(name, width):
    """The parameters with the initial content, and all of them in one, highest first."""
    names = [f"{name}_{number:02X}" for number in range(_BLOCKS)]
    return (",\n  ".join(f"parameter [{width - 1}:0] {name} = 0" for name in names), ", ".join(reversed(names)))


def _refuse(condition, mode, resets):
    """Stop where ``condition`` holds, or when one of ``resets`` comes while ``mode`` is not "SYNC"."""
    message = '$fatal(1, "block RAM %m: used in a way that is not modelled");'
    return f"""  initial if ({condition}) {message}
  always @(posedge ({resets})) if ({mode} != "SYNC") {message}"""


def _dp16kd():
    parameters, initial = _initial("INITVAL", 320)
    packed = "\n".join(
        f"  wire [{high}:0] {name} = {{{_bits(name, high)}}};"
        for name, high in (("DIA", 17), ("DIB", 17), ("ADA", 13), ("ADB", 13)))
    # Ports of 36 bits are made of both: the low half of the data is A's.
    return f"""
module DP16KD #(
  {parameters},
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
  parameter [127:0] REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
  parameter [127:0] CSDECODE_A = "0b000", CSDECODE_B = "0b000", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
  parameter [127:0] CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED", INIT_DATA = "STATIC"
) (
  input {_bits("DIA", 17)}, {_bits("ADA", 13)}, CEA, OCEA, CLKA, WEA, RSTA, {_bits("CSA", 2)},
  input {_bits("DIB", 17)}, {_bits("ADB", 13)}, CEB, OCEB, CLKB, WEB, RSTB, {_bits("CSB", 2)},
  output {_bits("DOA", 17)}, {_bits("DOB", 17)}
);
{packed}
  function [18431:0] content(input [{320 * _BLOCKS - 1}:0] padded);  // words of 18 bits, each in 20
    integer word;
    for (word = 0; word < 1024; word = word + 1) content[word * 18 +: 18] = padded[word * 20 +: 18];
  endfunction
  wire [35:0] a_out, b_out;
  spikeloom_block_ram #(
    .BYTE(9), .INIT(content({{{initial}}})), .A_WIDTH(DATA_WIDTH_A), .B_WIDTH(DATA_WIDTH_B),
    .A_MODE(WRITEMODE_A == "WRITETHROUGH" ? 1 : WRITEMODE_A == "READBEFOREWRITE" ? 2 : 0),
    .B_MODE(WRITEMODE_B == "WRITETHROUGH" ? 1 : WRITEMODE_B == "READBEFOREWRITE" ? 2 : 0)
  ) memory (
    .a_clk(CLKAMUX == "INV" ? ~CLKA : CLKA), .a_en(CEA & ~({_bits("CSA", 2).replace(", ", " | ")})), .a_write(WEA),
    .a_rst(RSTA), .a_addr(ADA), .a_data({{DIB, DIA}}), .a_out(a_out),
    .b_clk(CLKBMUX == "INV" ? ~CLKB : CLKB), .b_en(CEB & ~({_bits("CSB", 2).replace(", ", " | ")})), .b_write(WEB),
    .b_rst(RSTB), .b_addr(ADB), .b_data({{18'd0, DIB}}), .b_out(b_out));
  assign {{{_bits("DOA", 17)}}} = DATA_WIDTH_B == 36 ? b_out[17:0] : a_out[17:0];
  assign {{{_bits("DOB", 17)}}} = DATA_WIDTH_B == 36 ? b_out[35:18] : b_out[17:0];
{_refuse('REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"',
         "RESETMODE", "RSTA | RSTB")}
endmodule
"""


def _gowin(name, byte):
    """One of the Gowin primitives: ``SP``, ``SDPB`` or ``DPB``, or its like with bytes of nine bits."""
    kind, half, full = name.replace("X9", ""), 2 * byte, 4 * byte
    parameters, initial = _initial("INIT_RAM", 32 * byte)
    common = (f".BYTE({byte}), .INIT({{{initial}}})")
    if kind == "SP":
        own = f"parameter READ_MODE = 1'b0, WRITE_MODE = 2'b00, BIT_WIDTH = {full}, BLK_SEL = 3'b000"
        ports = f"""output [{full - 1}:0] DO, input [{full - 1}:0] DI, input [2:0] BLKSEL, input [13:0] AD,
  input WRE, CLK, CE, OCE, RESET"""
        sizes = ".A_WIDTH(BIT_WIDTH), .B_WIDTH(BIT_WIDTH), .A_MODE(WRITE_MODE)"
        joined = """.a_clk(CLK), .a_en(CE && BLKSEL == BLK_SEL), .a_write(WRE), .a_rst(RESET), .a_addr(AD),
    .a_data(DI), .a_out(a_out), .b_clk(1'b0), .b_en(1'b0), .b_write(1'b0), .b_rst(1'b0), .b_addr(14'd0),
    .b_data(36'd0), .b_out(b_out)"""
        out = f"  assign DO = a_out[{full - 1}:0];"
        refused = "READ_MODE"
    elif kind == "SDPB":
        own = (f"parameter READ_MODE = 1'b0, BIT_WIDTH_0 = {full}, BIT_WIDTH_1 = {full}, BLK_SEL_0 = 3'b000, "
               "BLK_SEL_1 = 3'b000")
        ports = f"""output [{full - 1}:0] DO, input [{full - 1}:0] DI, input [2:0] BLKSELA, BLKSELB,
  input [13:0] ADA, ADB, input CLKA, CLKB, CEA, CEB, OCE, RESETA, RESETB"""
        sizes = ".A_WIDTH(BIT_WIDTH_0), .B_WIDTH(BIT_WIDTH_1)"
        joined = """.a_clk(CLKA), .a_en(CEA && BLKSELA == BLK_SEL_0), .a_write(1'b1), .a_rst(RESETA), .a_addr(ADA),
    .a_data(DI), .a_out(a_out), .b_clk(CLKB), .b_en(CEB && BLKSELB == BLK_SEL_1), .b_write(1'b0), .b_rst(RESETB),
    .b_addr(ADB), .b_data(36'd0), .b_out(b_out)"""
        out = f"  assign DO = b_out[{full - 1}:0];"
        refused = "READ_MODE"
    else:
        own = (f"parameter READ_MODE0 = 1'b0, READ_MODE1 = 1'b0, WRITE_MODE0 = 2'b00, WRITE_MODE1 = 2'b00, "
               f"BIT_WIDTH_0 = {half}, BIT_WIDTH_1 = {half}, BLK_SEL_0 = 3'b000, BLK_SEL_1 = 3'b000")
        ports = f"""output [{half - 1}:0] DOA, DOB, input [{half - 1}:0] DIA, DIB, input [2:0] BLKSELA, BLKSELB,
  input [13:0] ADA, ADB, input WREA, WREB, CLKA, CLKB, CEA, CEB, OCEA, OCEB, RESETA, RESETB"""
        sizes = ".A_WIDTH(BIT_WIDTH_0), .B_WIDTH(BIT_WIDTH_1), .A_MODE(WRITE_MODE0), .B_MODE(WRITE_MODE1)"
        joined = """.a_clk(CLKA), .a_en(CEA && BLKSELA == BLK_SEL_0), .a_write(WREA), .a_rst(RESETA), .a_addr(ADA),
    .a_data(DIA), .a_out(a_out), .b_clk(CLKB), .b_en(CEB && BLKSELB == BLK_SEL_1), .b_write(WREB), .b_rst(RESETB),
    .b_addr(ADB), .b_data(DIB), .b_out(b_out)"""
        out = f"  assign DOA = a_out[{half - 1}:0];\n  assign DOB = b_out[{half - 1}:0];"
        refused = "READ_MODE0 || READ_MODE1"
    refused = _refuse(refused, "RESET_MODE", "RESET" if kind == "SP" else "RESETA | RESETB")
    return f"""
module {name} #(
  {parameters},
  {own},
  parameter [127:0] RESET_MODE = "SYNC"
) (
  {ports}
);
  wire [35:0] a_out, b_out;
  spikeloom_block_ram #(
    {common}, {sizes}
  ) memory (
    {joined});
{out}
{refused}
endmodule
"""


ECP5 = MEMORY + _dp16kd()
GOWIN = MEMORY + "".join(_gowin(name, 9 if "X9" in name else 8)
                         for name in ("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"))
