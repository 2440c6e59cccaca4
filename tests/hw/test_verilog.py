"""The generated Verilog: the same bytes each time, with names to read."""

from pathlib import Path

import numpy as np
import pytest
from spikeloom.hw import verilog
from spikeloom.network import Dense, InputFormat, Network, WeightFormat
from spikeloom.program import Placement, Program


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


def test_nothing_of_the_machine_is_in_it(text):
    assert str(Path(__file__).parents[2]) not in text and "src =" not in text
