"""The generated Verilog: the same bytes each time, with names to read."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from spikeloom.compiler.program import Placement, Program
from spikeloom.errors import SpikeloomError
from spikeloom.hw import verilog
from spikeloom.network import Dense, InputFormat, Network, WeightFormat


@pytest.fixture(scope="module")
def program():
    weights = np.random.default_rng(0).integers(-1, 2, (6, 9))
    layer = Dense("edges", weights, WeightFormat("ternary", 2), np.full(6, 2), np.zeros(6, int), 4)
    return Program(Network(InputFormat(9), (layer,), 3), "hx8k", [Placement(3, 1)])


@pytest.fixture(scope="module")
def text(program):
    return verilog.generate(program)


def test_same_program_gives_same_bytes(program, text):
    assert verilog.generate(program) == text


def test_names_are_kept(text):
    assert f"module {verilog.MODULE}(" in text
    for name in ("layer_edges", "synapses", "neurons", "event_list", "accumulator_0", "potential_0", "membranes"):
        assert name in text


def test_header_says_what_it_is(program, text):
    header = "\n".join(line[2:] for line in text.splitlines() if line.startswith("//"))
    assert program.digest in header
    assert "edges: 9 -> 6, 2-bit ternary weights, 4-bit membranes, 3 lanes, 1 update units" in header
    assert "i__payload (input words), lowest bit first: bits[8], index[1], last[1], final[1]" in header


@pytest.mark.parametrize("ports, line", [
    ("events", "score[3], winner[3], score_last[1]: the scores of each sample, with the best so far"),
    ("axi-stream", "s_axis_tdata, lowest bit first: address[7], end[1]; s_axis_tlast: the sample ends"),
])
def test_other_ports_say_what_they_carry(program, ports, line):
    text = verilog.generate(program, ports)
    assert verilog.generate(program, ports) == text
    assert f"// {line}\n" in text and f"module {verilog.MODULE}(" in text


def test_unknown_ports_are_refused(program):
    with pytest.raises(SpikeloomError, match="^Ports of the module must be one of words, events, axi-stream, not apb$"):
        verilog.generate(program, "apb")


def test_nothing_of_the_machine_is_in_it(text):
    assert str(Path(__file__).parents[2]) not in text and "src =" not in text


@pytest.mark.parametrize("ports", ["events", "axi-stream"])
def test_what_must_be_loaded_is_not_embedded_without_its_bus(program, ports):
    with pytest.raises(SpikeloomError, match="^A reloadable program has a bus for its memories"):
        verilog.generate(dataclasses.replace(program, reloadable=True), ports)
