"""The energy model: its formats, counted bit by bit; its parts, worked out by hand; and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs, map_networks
from spikeloom import energy, reference
from spikeloom.energy import FORMATS, Architecture, Costs, Density, Layer, Occupancy, Workload, hardware
from spikeloom.errors import SpikeloomError
from spikeloom.network import Conv2d, Dense, InputFormat, Network, Pool, WeightFormat

# Formats ----------------------------------------------------------------------------------------


def run_lengths(values):
    """Entries (zeros before, value) of a list of values, each with at most 15 zeros."""
    entries, zeros = [], 0
    for value in values:
        if value == 0 and zeros < 15:
            zeros += 1
            continue
        entries.append((zeros, value))
        zeros = 0
    return entries


def unrolled(entries, length):
    values = [each for zeros, value in entries for each in [0] * zeros + [value]]
    return values + [0] * (length - len(values))


@settings(max_examples=200)
@given(st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -3]), min_size=1, max_size=200),
       st.integers(1, 8))
def test_sizes_are_those_of_the_code(values, width):
    seen, entries = Occupancy.of(np.array([values])), run_lengths(values)
    assert unrolled(entries, len(values)) == values and seen.fiber == 1
    found = sum(value != 0 for value in values)
    assert FORMATS["rle"](seen, width) == len(entries) * (4 + width)
    assert FORMATS["dense"](seen, width) == len(values) * width
    assert FORMATS["bitmask"](seen, width) == len(values) + found * width
    assert FORMATS["ubm"](seen, width) == len(values) * (1 + width)
    blocks = [values[start:start + 16] for start in range(0, len(values), 16)]
    assert FORMATS["cp"](seen, width) == sum(5 + sum(value != 0 for value in block) * (4 + width) for block in blocks)
    name, bits = energy.cheapest(seen, width)
    assert bits == FORMATS[name](seen, width) == min(size(seen, width) for size in FORMATS.values())


@pytest.mark.parametrize(("kernel", "offsets"), [(1, 2), (3, 8), (4, 15), (5, 18), (7, 24)])
def test_offsets_of_a_kernels_rows(kernel, offsets):
    """Of a row of 3 there are 4 offsets from 0 to 3, of 2 bits each."""
    weights = np.zeros((2, 3, kernel, kernel), int)
    weights[0, 0, 0, 0] = 1
    assert FORMATS["uop"](Occupancy.of(weights), 8) == 2 * 3 * kernel * offsets + 8


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.5, 0.99, 1.0])
def test_what_is_expected_is_the_mean_of_what_is_counted(density):
    values = np.random.default_rng(4).random((1, 400_000)) < density
    counted, expected = Occupancy.of(values), Occupancy.expected(values.size, density)
    for name, size in FORMATS.items():
        assert size(counted, 4) == pytest.approx(size(expected, 4), rel=0.02), name


def test_a_format_that_is_not_known():
    with pytest.raises(SpikeloomError) as caught:
        energy.estimate(Workload((layer(),)), weights="zip")
    assert str(caught.value) == "Format must be one of dense, bitmask, rle, cp, uop, ubm, not 'zip'"
    with pytest.raises(SpikeloomError, match=r"Density must be between 0 and 1, not 1\.5"):
        Occupancy.expected(10, 1.5)


# The model --------------------------------------------------------------------------------------

HARDWARE = Architecture({}, pes=8, buffer_bytes=100, input_bytes=16, weight_bytes=4, psum_bytes=64, activation_bits=2,
                        dram_bits_per_cycle=10, buffer_bits_per_cycle=1000)
COSTS = Costs({}, dram_bit=100, sram_bit=1, sram_bytes=100, network_bit=10, adder_bit=0.5)


def layer(density=1.0, **options):
    """Two channels of 4 x 5 to three of 4 x 5 by a kernel of 3 x 3, five time steps."""
    fields = {"name": "it", "shape_in": (4, 5, 2), "shape": (4, 5, 3), "kernel": (3, 3), "weight_bits": 4, "times": 5,
              "weights": Occupancy.expected(54, density, 3), "inputs": Density(0.1, 0.4),
              "outputs": Density(0.2, 0.3)}
    return Layer(**fields | options)


def test_by_hand():
    """Every part, from the numbers of the example above with half of all weights and a bitmask."""
    made = energy.estimate(Workload((layer(0.5),)), HARDWARE, COSTS, weights="bitmask", inputs="bitmask")
    one, = made.layers
    assert made.parts == one.parts and made.energy == one.energy and made.cycles == one.cycles
    # Sums have 4 + ceil(log2 18) = 9 bits. A row of them has 135 bits, a row of inputs of 2 bits 20; 400 bits hold two
    # rows and the four under them (350 bits), but not three (505).
    stored = 54 + 27 * 4
    inputs, outputs, states = 5 * (40 + 4 * 2), 5 * 60 * 2, 5 * 60 * 9
    computes = 54 * 20 * 5 * 0.1 * 0.5
    touched = 1 - 0.95**18
    passes = 2  # 162 bits of weights, where two rows at a time leave room for 4 times 32
    assert one.strips == 2 and one.computes == pytest.approx(computes)
    # Inputs of 400 bits stay in the buffer; outputs of 600 do not.
    buffer, network = inputs * passes + 2 * states + 2 * outputs, (
        stored * 5 * 2 + inputs * passes + 2 * states + 5 * 60 * 9 * touched * 3 + outputs)
    expected = {
        "dram_weights": stored * 5 * 2 * 100, "dram_states": 2 * 4 * 60 * 9 * 100, "dram_maps": outputs * 100,
        "buffer": buffer, "network": network * 10,
        "input_pad": (inputs * passes * 3 + 54 * 20 * 5 * 0.5 * (40 + 8) / 40) * math.sqrt(16 / 100),
        "weight_pad": (stored * 5 * 2 * 2 + computes * stored / 27) * math.sqrt(4 / 100),
        "psum_pad": 2 * computes * 9 * math.sqrt(64 / 100), "adders": (computes * 9 + 2 * states) * 0.5}
    assert one.parts == {name: pytest.approx(value, rel=1e-12) for name, value in expected.items()}
    assert list(one.parts) == list(energy.COMPONENTS)
    assert one.cycles == pytest.approx((stored * 10 + 2 * 4 * 540 + outputs) / 10)
    assert made.edp == pytest.approx(made.energy * 1e-9 * made.cycles)


def test_cycles_are_those_of_the_slowest_part():
    work = Workload((layer(0.5),))
    only = {"dram_bits_per_cycle": 1e9, "buffer_bits_per_cycle": 1e9, "pes": 1e9}
    one = energy.estimate(work, HARDWARE, COSTS)
    for name in only:
        slow = dataclasses.replace(HARDWARE, **only | {name: getattr(HARDWARE, name)})
        cycles = energy.estimate(work, slow, COSTS).cycles
        assert 0 < cycles <= one.cycles
        half = dataclasses.replace(slow, **{name: getattr(HARDWARE, name) * 2})
        assert energy.estimate(work, half, COSTS).cycles == pytest.approx(cycles / 2)


@pytest.mark.parametrize(("buffer", "strips"), [(1e6, 1), (165, 1), (164, 2), (87, 4), (49, 4), (48, 8),
                                                 (20, 12)])
def test_strips(buffer, strips):
    """A row of sums takes 135 bits, of inputs 20, and a strip has two more of these than of those."""
    hardware = dataclasses.replace(HARDWARE, buffer_bytes=buffer)
    # all four rows: 4 * 135 + 6 * 20 = 660 bits; one: 135 + 60 = 195 bits
    one, = energy.estimate(Workload((layer(),)), hardware, COSTS).layers
    half = buffer * 4
    rows = max((held for held in range(1, 5) if held * 135 + (held + 2) * 20 <= half), default=0)
    assert one.strips == (math.ceil(4 / rows) if rows else 4 * math.ceil(195 / half)) == strips
    assert (one.parts["dram_states"] == 0) == (strips == 1)


def test_ignored_sparsity_is_as_if_nothing_were_zero():
    sparse, full = (Workload((layer(density, inputs=Density(share, share)),))
                    for density, share in ((0.1, 0.2), (1, 1)))
    options = {"weights": "dense", "inputs": "dense"}
    seen, known = (energy.estimate(work, HARDWARE, COSTS, **options) for work in (sparse, full))
    assert seen.parts == known.parts and seen.computes == 54 * 20 * 5
    assert energy.estimate(sparse, HARDWARE, COSTS).energy < seen.energy


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted), st.sampled_from(["rle", "cp", "uop", "bitmask"]))
def test_fewer_weights_never_cost_more(densities, form):
    few, many = (energy.estimate(Workload((layer(density),)), HARDWARE, COSTS, weights=form) for density in densities)
    assert few.energy <= many.energy * (1 + 1e-9) and few.cycles <= many.cycles * (1 + 1e-9)
    assert few.computes <= many.computes


def test_the_worst_case_costs_more_than_the_mean():
    work = Workload((layer(0.3),))
    mean, worst = (energy.estimate(work, worst=worst) for worst in (False, True))
    assert worst.computes == pytest.approx(4 * mean.computes) and worst.energy > mean.energy


def test_no_weights_and_no_spikes():
    work = Workload((layer(0.0, inputs=Density(0, 0)),))
    for form in FORMATS:
        made = energy.estimate(work, weights=form, inputs=form)
        assert math.isfinite(made.energy) and (made.computes == 0) == (form != "dense")


def test_the_table_has_every_layer_and_adds_up():
    lines = energy.table(energy.estimate(Workload((layer(), layer(name="other"))))).splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "it", "other", "all", "energy"]
    for name in energy.COMPONENTS:
        assert name.replace("_", " ") in lines[0]
    assert len({len(line) for line in lines[:4]}) == 1


# Networks ---------------------------------------------------------------------------------------


def test_a_networks_workload():
    rng, form = np.random.default_rng(2), WeightFormat("int", 4)
    conv = Conv2d(name="conv", input_shape=(6, 4, 2), weights=rng.choice(form.values, (5, 2, 3, 3)), weight_format=form,
                  threshold=np.full(5, 4), bias=np.zeros(5, int), v_width=7, padding=1, pool=Pool("sum", 2, 1))
    out = Dense("out", rng.choice(form.values, (2, 60)), form, np.full(2, 4), np.zeros(2, int), 8)
    network = Network(InputFormat(48, 2, (6, 4, 2)), (conv, out), 3)
    x = rng.integers(0, 4, (5, 3, 48)) * (rng.random((5, 3, 48)) < 0.3)
    spikes = reference.run(network, x).spikes
    first, last = energy.of_network(network, x, spikes).layers
    assert (first.shape_in, first.shape, first.kernel, first.read) == ((3, 4, 2), (3, 4, 5), (3, 3), 48)
    assert (first.input_bits, first.output_bits, first.weight_bits, first.state_bits) == (3, 1, 4, 7)
    assert first.times == last.times == 3 and first.weights == Occupancy.of(conv.weights)
    pooled = reference.pool(conv, x)
    assert first.inputs.mean == pytest.approx((pooled != 0).mean())
    assert first.source.mean == pytest.approx((x != 0).mean())
    assert first.inputs.worst == pytest.approx((pooled != 0).mean((2, 3, 4)).max())
    assert first.outputs == last.inputs and last.outputs.mean == pytest.approx((spikes[1] != 0).mean())
    low, high = network.current_bounds(conv)
    assert -2 ** (first.sum_bits - 1) <= low and high < 2 ** (first.sum_bits - 1)
    assert (last.shape_in, last.shape, last.kernel) == ((1, 1, 60), (1, 1, 2), (1, 1))


@settings(max_examples=40)
@given(st.data())
def test_any_network_has_an_estimate(data):
    network = data.draw(map_networks(attention=True, gated=True))
    x = data.draw(inputs(network))
    work = energy.of_network(network, x, reference.run(network, x).spikes)
    branches = [branch for each in network.layers for branch in each.branches]
    attentions = [each for each in branches if each.attention]
    gates = [gate for each in network.layers for gate in (each.gate, each.block_gate) if gate]
    assert len(work.layers) == len(branches) + 2 * len(attentions) + len(gates)
    assert sum(layer.weights.positions for layer in work.layers if "gate of" in layer.name) == sum(
        gate.weights.size for gate in gates)
    made = energy.estimate(work)
    assert math.isfinite(made.energy) and made.energy > 0 and made.cycles > 0
    assert energy.estimate(work, worst=True).computes >= made.computes
    assert energy.table(made).splitlines()[-2].startswith("all")


# Files ------------------------------------------------------------------------------------------


def test_the_packaged_files():
    work = energy.load("tcja_dvs128", weight_bits=2, densities=[0.5] * 11)
    assert work.weight_count == 1_831_296 and work.density == pytest.approx(0.5) and len(work.layers) == 11
    assert [each.sum_bits for each in work.layers] == [7, 13, 13, 13, 9, 11, 13, 9, 11, 13, 11]
    assert sum(each.state_bits > 0 for each in work.layers) == 7
    made = energy.estimate(work)
    dram = sum(value for name, value in made.parts.items() if name.startswith("dram"))
    assert 0.7 < dram / made.energy < 0.95
    assert set(Costs.load("schaefer").sources) == {each.name for each in dataclasses.fields(Costs)} - {"sources"}


def test_what_is_known_of_formats_holds_for_the_published_network():
    """With few zeros metadata costs more than it saves; with many, offsets for each position more than run lengths."""
    def picojoules(zeros, bits, **options):
        work = energy.load("tcja_dvs128", weight_bits=bits, densities=[1 - zeros] * 11)
        return energy.estimate(work, **options).energy

    for zeros, bits in ((0.036, 6), (0.009, 8)):
        assert picojoules(zeros, bits) > picojoules(zeros, bits, weights="dense")
        by_format = {name: picojoules(zeros, bits, weights=name, inputs=name) for name in ("rle", "cp", "uop", "ubm")}
        assert min(by_format, key=by_format.get) == "uop"
    for zeros in (0.75, 0.9, 0.975):
        rle, cp, uop, ubm = (picojoules(zeros, 8, weights=name, inputs=name) for name in ("rle", "cp", "uop", "ubm"))
        assert rle == pytest.approx(cp, rel=0.05) and max(rle, cp) < uop < ubm


def test_files_of_ones_own(tmp_path):
    text = (hardware.PACKAGED / "costs" / "schaefer.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("value = 4.47", "value = 8"))
    assert Costs.load(tmp_path / "mine.toml").dram_bit == 8
    work = energy.load("tcja_dvs128")
    theirs, mine = (energy.estimate(work, costs=name).parts for name in ("schaefer", tmp_path / "mine.toml"))
    assert mine["dram_weights"] == pytest.approx(theirs["dram_weights"] * 8 / 4.47)
    assert mine["buffer"] == theirs["buffer"]


@pytest.mark.parametrize(("change", "said"), [
    (("[dram_bit]", "[dram]"), "dram is not one of dram_bit, sram_bit, sram_bytes, network_bit, adder_bit"),
    (("value = 4.47", "value = 0"), "dram_bit must be a number above 0, not 0"),
    (("value = 4.47", "value = true"), "dram_bit must be a number above 0, not True"),
    (("value = 4.47", "value = inf"), "dram_bit must be a number above 0, not inf"),
    (("value = 4.47\n", ""), "dram_bit must be a table of value and source"),
    (('source = "as sram_bit', 'source = " " # "'), "sram_bytes must say where it is from"),
    (("[dram_bit]", "[dram_bit"), "cannot be read as TOML"),
])
def test_costs_that_are_amiss(tmp_path, change, said):
    path = tmp_path / "mine.toml"
    path.write_text((hardware.PACKAGED / "costs" / "schaefer.toml").read_text().replace(*change))
    with pytest.raises(SpikeloomError) as caught:
        Costs.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SpikeloomError) as caught:
        Architecture.load(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: cannot be read as TOML: No such file or directory"
    with pytest.raises(SpikeloomError) as caught:
        Architecture.load("none")
    assert str(caught.value) == ("none: no such architecture; packaged are schaefer, anything else is the path of a "
                                 "TOML file")


GOOD = """
[[layers]]
name = "one"
shape_in = [1, 1, 4]
shape = [1, 1, 2]
kernel = [1, 1]
inputs = { mean = 0.1, worst = 0.2 }
outputs = { mean = 0.1, worst = 0.2 }
"""


@pytest.mark.parametrize(("change", "said"), [
    (("[[layers]]", "[layers]"), "must have [[layers]]"),
    (('name = "one"', ""), "Layer ?: lacks name"),
    (("kernel", "kernels"), "Layer one: lacks kernel"),
    (("mean = 0.1, worst", "mean = 0.3, worst"),
     "Density must have a mean and a worst case, 0 <= mean <= worst <= 1, not 0.3 and 0.2"),
    (("mean = 0.1,", ""), "Layer one: inputs must be a table of mean and worst, not {'worst': 0.2}"),
    (("[1, 1, 2]", "[1, 2]"), "Layer one: a field is of the wrong type"),
    (("[1, 1, 2]", "[1, 0, 2]"), "Layer one: shape must be 3 numbers from 1 on, not [1, 0, 2]"),
    (("kernel = [1, 1]", "kernel = [1, 1]\ntimes = 0"), "Layer one: times must be an integer from 1 on, not 0"),
    (("kernel = [1, 1]", "kernel = [1, 1]\nread = 0"), "Layer one: read must be an integer from 1 on, not 0"),
    (("kernel = [1, 1]", "kernel = [1, 1]\nstate_bits = -1"),
     "Layer one: state_bits must be an integer from 0 on, not -1"),
    (("kernel = [1, 1]", "kernel = [1, 1]\nsum_bits = 1.5"),
     "Layer one: sum_bits must be an integer from 1 on, not 1.5"),
    (("kernel = [1, 1]", "kernel = [1, 1]\ngroups = 3"), "Layer one: must have 2 weights for 4 channels in 3 groups"),
    (("kernel = [1, 1]", "kernel = [1, 1]\nhue = 3"), "Layer one: hue is not one of name, "),
])
def test_workloads_that_are_amiss(tmp_path, change, said):
    path = tmp_path / "work.toml"
    path.write_text(GOOD)
    assert energy.load(path, densities=[0.5]).weight_count == 8
    path.write_text(GOOD.replace(*change))
    with pytest.raises(SpikeloomError) as caught:
        energy.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_densities_for_other_layers():
    with pytest.raises(SpikeloomError, match="has 11 layers, for which 3 densities were given"):
        energy.load("tcja_dvs128", densities=[1, 1, 1])
