"""Programs: placement, memory images, files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloom import files
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, GradedSpike, InputFormat, Network, WeightFormat
from spikeloom.program import KIND, VERSION, Placement, Program, WordFormat


def network(n_in=11, sizes=(7, 3), **fields):
    rng, layers = np.random.default_rng(0), []
    for number, n_out in enumerate(sizes):
        layers.append(Dense(f"layer_{number}", rng.integers(-1, 2, (n_out, n_in)), WeightFormat("ternary", 2),
                            rng.integers(1, 9, n_out), rng.integers(-2, 3, n_out), 6, **fields))
        n_in = n_out
    return Network(InputFormat(11), tuple(layers), 4)


@pytest.fixture
def program():
    return Program(network(), "hx8k", [Placement(4, 2), Placement(3, 1)])


@given(st.data())
def test_words_pack_and_unpack(data):
    graded = data.draw(st.booleans())
    words = WordFormat(data.draw(st.integers(1, 50)), data.draw(st.sampled_from([1, 2, 4, 8, 16])), graded)
    high = 2**words.width - 1 if graded else 1
    z = np.array(data.draw(st.lists(st.integers(0, high), min_size=words.size, max_size=words.size)))
    packed = words.pack(z)
    assert packed.shape == (words.count,)
    assert np.array_equal(words.unpack(packed), z)


def test_weight_memory_has_a_row_for_each_group_and_input(program):
    core = program.cores[0]
    assert (core.groups, core.lanes, core.units, core.updates) == (2, 4, 2, 2)
    values = core.layer.weight_format.values[core.weights]
    assert values.shape == (2 * 11, 4)
    for neuron in range(7):
        rows = slice(neuron // 4 * 11, (neuron // 4 + 1) * 11)
        assert np.array_equal(values[rows, neuron % 4], core.layer.weights[neuron])


def test_parameters_are_in_order_of_update(program):
    core = program.cores[0]
    assert np.array_equal(core.minus_threshold.values.ravel()[:7], -core.layer.threshold)
    assert np.array_equal(core.bias.values.ravel()[:7], core.layer.bias)


def test_file_round_trip(program, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    loaded = Program.load(path)
    assert loaded.digest == program.digest and loaded.placements == program.placements
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_a_changed_memory_image_is_refused(program, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    header, arrays = files.load(path)
    arrays["0.weight_memory"][3, 1] ^= 1
    files.save(path, KIND, VERSION, {k: v for k, v in header.items() if k not in ("kind", "version")}, arrays)
    with pytest.raises(SpikeloomError, match="the weight memory of layer layer_0 is not that of its network$"):
        Program.load(path)


@pytest.mark.parametrize("placements, message", [
    ([Placement(4, 2)], "A program needs a placement for each of its 2 layers, not 1"),
    ([Placement(4, 2), Placement(2, 2)], "The last layer, which is read out, must have one update unit, not 2"),
    ([Placement(4, 3), Placement(3, 1)], "Layer layer_0: update units must be 1, 2, 4, 8 or 16, not 3"),
    ([Placement(5, 2), Placement(3, 1)], "Layer layer_0: lanes must be a multiple of its 2 update units, not 5"),
])
def test_impossible_placements(placements, message):
    with pytest.raises(SpikeloomError) as error:
        Program(network(), "hx8k", placements)
    assert str(error.value) == message


def test_graded_spikes_have_no_gateware_yet():
    layer = Dense("only", np.ones((2, 11), int), WeightFormat("ternary", 2), np.array([2, 4]), np.zeros(2, int), 6,
                  fire=GradedSpike(0, 3))
    net = Network(InputFormat(11), (layer,), 4)
    with pytest.raises(SpikeloomError, match="^Layer only: graded spikes run in the reference, not yet in gateware$"):
        Program(net, "hx8k", [Placement(2, 1)])


def test_unknown_target():
    with pytest.raises(SpikeloomError, match="^Target must be one of icebreaker, .*, not 'virtex'$"):
        Program(network(), "virtex", [Placement(4, 2), Placement(3, 1)])
