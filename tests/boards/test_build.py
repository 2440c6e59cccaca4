"""Bitstreams: one real build for each family, and what cannot be built."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from spikeloom import boards, tools
from spikeloom.boards import flow
from spikeloom.compiler.program import Placement, Program
from spikeloom.compiler.target import TARGETS
from spikeloom.errors import SpikeloomError
from spikeloom.hw.board import BoardTop
from spikeloom.hw.verilog import convert
from spikeloom.network import Dense, InputFormat, Network, ShiftLeak, WeightFormat


def program(target, seed=0, sizes=(8, 6, 3), **options):
    """Random layers, two lanes each."""
    rng = np.random.default_rng(seed)
    ternary = WeightFormat("ternary", 2)

    layers = tuple(
        Dense(f"layer{n}", rng.integers(-1, 2, (n_out, n_in)), ternary, np.full(n_out, 2), np.zeros(n_out, int), 4,
              ShiftLeak(2)) for n, (n_in, n_out) in enumerate(pairwise(sizes)))
    return Program(Network(InputFormat(sizes[0]), layers, 4), target, [Placement(2, 1)] * len(layers), **options)


def test_every_board_is_a_target():
    assert set(boards.BOARDS) == set(TARGETS)
    for name, board in boards.BOARDS.items():
        assert board.device.family == TARGETS[name].family
        assert board.oscillator == TARGETS[name].oscillator
        assert board.device.name.replace(" ", "").startswith(TARGETS[name].device)
        assert {"clk", "rx", "tx"} <= set(board.wiring().pins)
        assert all(pin for pin, _ in board.wiring(boot=board.flash is not None).pins.values())


def test_constraints_are_those_of_the_board():
    def text(name):
        board = boards.find(name)
        return flow.constraints(board.wiring().pins, board.device)

    assert text("icebreaker") == ("set_io clk 35\nset_io -pullup yes rx 6\nset_io -pullup yes tx 9\n"
                                  "set_io led_0 11\nset_io led_1 37\n")
    assert 'LOCATE COMP "rx" SITE "M1";\nIOBUF PORT "rx" IO_TYPE=LVCMOS33;\n' in text("ulx3s-85f")
    assert 'IO_LOC "tx" 17;\nIO_PORT "tx" PULL_MODE=UP IO_TYPE=LVCMOS33;\n' in text("tang_nano_9k")


@pytest.fixture(scope="module")
def icebreaker(tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("icebreaker"), []
    return program("icebreaker"), folder, boards.build(program("icebreaker"), "icebreaker", folder, clock=24.0,
                                                       progress=said.append), said


def test_icebreaker(icebreaker):
    made, folder, report, said = icebreaker
    assert sorted(path.name for path in folder.iterdir()) == ["build.json", "icebreaker.bin", "top.pins", "top.v"]
    assert (folder / "icebreaker.bin").stat().st_size > 100_000
    assert report.program == made.digest and not report.reused
    assert report.clock >= report.target_clock == 24.0 and report.clock_source.startswith("PLL 12 / ")
    assert report.baud == 6_000_000 and report.transport == "uart" and report.boot_offset is None
    assert (report.logic_available, report.blocks_available) == (5280, 30)
    assert sum(report.layers.values()) == report.luts <= report.logic_used
    assert set(report.layers) == {"", "layer0", "layer1"} and min(report.layers.values()) > 50
    assert boards.BuildReport.load(folder) == report
    assert any("synthesis" in line for line in said)
    assert f"runs at {report.target_clock:g} MHz ({report.clock_source}), routed for up to" in str(report)
    assert str(folder) not in (folder / "build.json").read_text()
    assert made.digest in (folder / "top.v").read_text().splitlines()[0]


def test_a_finished_build_is_reused_unless_something_changed(icebreaker, monkeypatch):
    made, folder, report, _ = icebreaker
    again = boards.build(made, "icebreaker", folder, clock=24.0)
    assert again.reused and again.bitstream_digest == report.bitstream_digest
    monkeypatch.setattr(flow, "synthesize", lambda *args, **options: pytest.fail("built again"))
    with pytest.raises(pytest.fail.Exception, match="built again"):
        boards.build(made, "icebreaker", folder, clock=24.0, seed=2)
    with pytest.raises(pytest.fail.Exception, match="built again"):
        boards.build(program("icebreaker", seed=1), "icebreaker", folder, clock=24.0)
    bitstream = folder / report.bitstream
    content = bitstream.read_bytes()
    bitstream.write_bytes(content[:-1])
    with pytest.raises(pytest.fail.Exception, match="built again"):
        boards.build(made, "icebreaker", folder, clock=24.0)
    bitstream.write_bytes(content)
    assert boards.build(made, "icebreaker", folder, clock=24.0).reused


@pytest.mark.parametrize("name", ["ulx3s-25f", "tang_nano_9k"])
def test_other_families(name, tmp_path):
    report = boards.build(program(name, sizes=(8, 3)), name, tmp_path, clock="oscillator")
    assert report.clock >= report.target_clock == boards.find(name).oscillator
    assert (tmp_path / report.bitstream).stat().st_size > 100_000


def test_too_large_a_design_says_by_how_much(tmp_path):
    (tmp_path / "top.v").write_text(convert(BoardTop(program("icebreaker"), clock=12_000_000, baud=1_000_000), "top"))
    netlist = flow.synthesize(tmp_path / "top.v", "ice40", tmp_path / "top.json")
    small = flow.Device("ice40", "iCE40LP384 QN32", ("--lp384", "--package", "qn32"))
    with pytest.raises(SpikeloomError, match=r"^iCE40LP384 QN32 is too small: \d+ logic cells of 384 \(\d+ too many\)"):
        flow.place_and_route(netlist.path, small)


def test_too_large_a_design_for_a_gowin_device_is_not_placed_for_ever(tmp_path):
    chains = "".join(f" reg [69:0] r{n}; always @(posedge clk) r{n} <= {{r{n}[68:0], i ^ r{n}[{n % 69}]}};"
                     for n in range(100))
    (tmp_path / "top.v").write_text(f"module top(input clk, input i, output o);{chains}"
                                    f" assign o = {' ^ '.join(f'r{n}[69]' for n in range(100))}; endmodule")
    device = boards.find("tang_nano_9k").device
    netlist = flow.synthesize(tmp_path / "top.v", "gowin", tmp_path / "top.json")
    pins = tmp_path / "top.pins"
    pins.write_text(flow.constraints({"clk": ("52", {}), "i": ("3", {}), "o": ("10", {})}, device))
    with pytest.raises(SpikeloomError, match="^GW1NR-LV9QN88PC6/I5 is too small: 7000 DFF of 6480 \\(520 too many\\)$"):
        flow.place_and_route(netlist.path, device, constraints=pins)


@pytest.mark.parametrize("options, message", [
    ({"board": "spartan"}, f"Board must be one of {', '.join(boards.BOARDS)}, not 'spartan'"),
    ({"board": "hx8k"}, "Board hx8k cannot carry a program compiled for icebreaker"),
    ({"clock": 13.0}, "Clock of icebreaker cannot be 13 MHz: the nearest it can be is 12 MHz"),
    ({"clock": "oscillator", "baud": 9_000_000},
     "Baud rate 9000000 cannot be made from 12 MHz: it must divide it to within 2 %, by 4 or more"),
    ({"transport": "i2c"}, "Transport must be uart or spi, not 'i2c'"),
    ({"transport": "spi", "spi_pins": ("4", "2", "47", "35")},
     "Board icebreaker: SPI needs four pins (CS, COPI, CIPO, SCK) that nothing else uses, not 4 2 47 35"),
])
def test_mistakes(options, message, tmp_path):
    with pytest.raises(SpikeloomError, match=f"^{re.escape(message)}$"):
        boards.build(program("icebreaker"), **{"board": "icebreaker", "out_dir": tmp_path, **options})


def test_a_clock_that_routing_misses_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "synthesize", lambda *args, **options: flow.Netlist(tmp_path, {}, 1, 1, {}, {}))
    monkeypatch.setattr(flow, "place_and_route", lambda *args, **options: flow.Routed(11.5))
    with pytest.raises(SpikeloomError, match=re.escape(
            "Board icebreaker: the routed design is too slow for its clock (at 12 MHz it reaches 11.5 MHz): try "
            "another seed, or a slower clock")):
        boards.build(program("icebreaker"), "icebreaker", tmp_path, clock="oscillator")


@pytest.mark.parametrize("routings, result", [
    # The first guess is too slow, the next too fast for two placements, the last right for the second of them; and the
    # fastest link goes first.
    ([(42.75, 1, 61.0), (60.75, 1, 54.0), (60.75, 2, 55.0), (48.75, 1, 48.0), (48.75, 2, 54.9)],
     (48.75, 54.9, 2, 12_000_000)),
    # So far from the first that another placement is not tried, the next meets and leaves room for one more.
    ([(42.75, 1, 28.1), (27.375, 1, 28.6), (28.5, 1, 27.9), (28.5, 2, 28.6)], (28.5, 28.6, 2, 4_000_000)),
])
def test_the_best_clock_is_searched_for(routings, result, tmp_path, monkeypatch):
    asked = []

    def place_and_route(netlist, device, *, output, seed, **options):
        asked.append((float(re.search(r"at ([\d.]+) MHz", netlist.with_name("top.v").read_text())[1]), seed))
        netlist.with_name(output.name).write_text("")  # where nextpnr runs
        return flow.Routed(routings[len(asked) - 1][2], {"ICESTORM_LC": 1}, {"ICESTORM_LC": 2})

    monkeypatch.setattr(flow, "synthesize", lambda path, *args, **options: flow.Netlist(path, {}, 1, 1, {}, {}))
    monkeypatch.setattr(flow, "place_and_route", place_and_route)
    monkeypatch.setattr(flow, "pack",
                        lambda routed, device, bitstream, **options: bitstream.write_text(routed.read_text()))
    report = boards.build(program("icebreaker"), "icebreaker", tmp_path)
    assert asked == [(pytest.approx(clock, abs=0.01), seed) for clock, seed, _ in routings]
    assert (report.target_clock, report.clock, report.seed, report.baud) == result


def test_a_damaged_report_is_named(tmp_path):
    path = tmp_path / "build.json"
    with pytest.raises(SpikeloomError, match="No such file"):
        boards.BuildReport.load(tmp_path)
    for text, message in [("{", "not a build report, truncated or corrupted"),
                          ("[]", "not a build report of version 2"),
                          (json.dumps({"kind": "build", "version": 1}), "not a build report of version 2"),
                          (json.dumps({"kind": "build", "version": 2}), "a field is missing")]:
        path.write_text(text)
        with pytest.raises(SpikeloomError, match=message):
            boards.BuildReport.load(tmp_path)


def test_tools_of_every_family_are_known():
    for family in flow.FAMILIES.values():
        assert set(family.tools) <= set(tools.NAMES)
