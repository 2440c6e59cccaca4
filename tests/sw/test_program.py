"""Programs: placement, memory images, files."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloom import files
from spikeloom.compiler.program import KIND, VERSION, Placement, Program
from spikeloom.compiler.words import WordFormat
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    Attention,
    Branch,
    Conv2d,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    Pool,
    ShiftLeak,
    WeightFormat,
)


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


def test_graded_spikes_leave_one_by_one():
    layers = (graded("first", 11, 2), graded("last", 2, 2))
    net = Network(InputFormat(11), layers, 4)
    with pytest.raises(SpikeloomError, match="^Layer first: graded spikes leave one by one, so it must have one update "
                                             "unit, not 2$"):
        Program(net, "hx8k", [Placement(2, 2), Placement(2, 1)])


def graded(name, n_in, n_out, **fields):
    return Dense(name, np.ones((n_out, n_in), int), WeightFormat("ternary", 2), np.full(n_out, 2), np.zeros(n_out, int),
                 6, fire=GradedSpike(-1, 3), **fields)


def test_what_recurrence_has_no_gateware():
    """Convolutions with a delay, or that graded spikes come to or leave; maps and pools beside other branches; sparse
    layers with several sources; and reloadable programs of any of these."""
    ternary, shape, feedback = WeightFormat("ternary", 2), (2, 2, 2), Branch("last", np.ones((2, 2), int),
                                                                             WeightFormat("ternary", 2), 1)
    fields = {"weight_format": ternary, "threshold": np.full(2, 2), "bias": np.zeros(2, int), "v_width": 5}
    conv = {"name": "conv", "input_shape": shape, "weights": np.ones((2, 2, 1, 1), int), **fields}
    last = {"name": "last", "weights": np.ones((2, 8), int), **fields}
    entry = InputFormat(8, 1, shape)

    def refused(message, *layers, sparse=False, reloadable=False):
        placements = [*[Placement(1, 1)] * (len(layers) - 1), Placement(1, 1, sparse=sparse)]
        with pytest.raises(SpikeloomError) as error:
            Program(Network(entry, layers, 4), "hx8k", placements, reloadable=reloadable)
        assert str(error.value) == message

    later = "in the reference, not yet in gateware"
    refused(f"Layer conv: a convolution with a delay runs {later}", Conv2d(**conv, delay=1), Dense(**last))
    refused(f"Layer conv: graded spikes of a convolution run {later}", Conv2d(**conv, fire=GradedSpike(0, 3)),
            Dense(**last))
    wide = graded("first", 8, 2)
    refused(f"Layer conv: graded spikes before a convolution or a pool run {later}", wide,
            Conv2d(**conv | {"input_shape": (1, 1, 2)}), Dense(**last | {"weights": np.ones((2, 2), int)}))
    beside = f"Layer last: maps and pools beside other branches or with a delay run {later}"
    refused(beside, Conv2d(**conv), Dense(**last, others=(feedback,)))
    refused(beside, Dense(**last, input_shape=shape, pool=Pool("max", 1, 1), others=(feedback,)))
    refused("Layer last: visits of several sources, or of counts with a sign, are not sorted, so it cannot be sparse",
            Dense(**last, others=(feedback,)), sparse=True)
    refused("Layer last: further branches cannot be in a reloadable program", Dense(**last, others=(feedback,)),
            reloadable=True)
    refused("Layer last: graded spikes cannot be in a reloadable program", Dense(**last, fire=GradedSpike(0, 1)),
            reloadable=True)


def test_weights_of_all_branches_lie_one_behind_the_other():
    """The input's words have four bits, so the rows behind its six begin at a multiple of one of the layer's own word;
    codes are those of integers that hold both grids."""
    ternary, binary = WeightFormat("ternary", 2), WeightFormat("binary", 1)
    own, back = np.array([[1, 0, -1], [0, 1, 1], [1, 1, 1]]), np.array([[1, -1, 1]] * 3)
    first = Dense("first", own, ternary, np.full(3, 2), np.zeros(3, int), 5, others=(Branch("first", back, binary, 1),))
    last = Dense("last", own[:2], ternary, np.full(2, 2), np.zeros(2, int), 5)
    program = Program(Network(InputFormat(3), (first, last), 2), "hx8k", [Placement(4, 2), Placement(2, 1)])
    core = program.cores[0]
    assert core.weight_format == ternary and [each.first for each in core.i_words.inputs] == [0, 4]
    expected = np.concatenate([own.T, np.zeros((1, 3), int), back.T])
    assert np.array_equal(core.weights[:, :3], ternary.encode(expected))
    assert np.array_equal(core.weights[:, 3], core.weights[:, 0])  # what only fills up the group


def test_attention_has_no_gateware_yet():
    gates = Attention(np.ones((4, 4, 1), int), np.ones((11, 11, 1), int), WeightFormat("ternary", 2), 0, (0, 1))
    layer = Dense("only", np.ones((2, 11), int), WeightFormat("ternary", 2), np.array([2, 4]), np.zeros(2, int), 6,
                  input_shape=(1, 1, 11), attention=gates)
    with pytest.raises(SpikeloomError, match="^Layer only: attention runs in the reference, not yet in gateware$"):
        Program(Network(InputFormat(11), (layer,), 4), "hx8k", [Placement(2, 1)])


def test_unknown_target():
    with pytest.raises(SpikeloomError, match="^Target must be one of icebreaker, .*, not 'virtex'$"):
        Program(network(), "virtex", [Placement(4, 2), Placement(3, 1)])


# Reloadable programs ------------------------------------------------------------------------------


def reloadable(memory="block", target="icebreaker", net=None):
    return Program(net or network(), target, [Placement(4, 2, memory), Placement(3, 1)], reloadable=True)


def changed(net, number=0, **fields):
    layers = list(net.layers)
    layers[number] = dataclasses.replace(layers[number], **fields)
    return dataclasses.replace(net, layers=tuple(layers))


def test_images_hold_rows_of_whole_bytes():
    program = reloadable()
    core, (weights, parameters, *_) = program.cores[0], program.images
    assert [image.name for image in program.images] == [
        "layer_0.weights", "layer_0.parameters", "layer_1.weights", "layer_1.parameters"]
    assert (weights.rows, weights.row_bits, weights.row_bytes, len(weights.data)) == (22, 8, 1, 22)
    assert weights.data[5] == sum(int(code) << 2 * lane for lane, code in enumerate(core.weights[5]))
    threshold, bias = core.minus_threshold, core.bias
    row = parameters.words[2]  # the neurons 4 and 5
    fields = [(row >> low) & ((1 << width) - 1) for low, width in (
        (0, threshold.width), (threshold.width, threshold.width), (2 * threshold.width, bias.width))]
    assert fields == [int(value) & ((1 << width) - 1) for value, width in (
        (-core.layer.threshold[4], threshold.width), (-core.layer.threshold[5], threshold.width),
        (core.layer.bias[4], bias.width))]
    assert parameters.row_bits == 2 * (threshold.width + bias.width)
    assert program.to_write() == () and Program(network(), "hx8k", program.placements).images == ()


def test_widths_of_a_shape_do_not_depend_on_values():
    """Each holds what any weights of the format can make of it."""
    net = network()
    silent = changed(changed(net, weights=np.zeros((7, 11), int)), 1, weights=np.zeros((3, 7), int))
    assert reloadable(net=net).build_digest == reloadable(net=silent).build_digest
    assert reloadable(net=net).digest != reloadable(net=silent).digest
    assert reloadable().cores[0].current_width == 5  # eleven times -1 to 1
    ordinary = Program(silent, "hx8k", [Placement(4, 2), Placement(3, 1)])
    assert ordinary.cores[0].current_width == 1 and ordinary.build_digest == ordinary.digest


def test_a_threshold_beyond_what_matters_makes_a_shape_of_its_own():
    far = np.full(7, 1000)
    far[0] = 1
    program, other = reloadable(), reloadable(net=changed(network(), threshold=far))
    with pytest.raises(SpikeloomError, match="^The programs differ in more than what can be loaded: "
                                             "layer 0 threshold width 8 against 11$"):
        program.check_same_shape(other)


@pytest.mark.parametrize("other, message", [
    (reloadable("single_port"), "layer 0 memory block against single_port"),
    (reloadable(target="hx8k"), "target icebreaker against hx8k"),
    (reloadable(net=changed(network(), 1, reset="zero")), "layer 1 reset subtract against zero"),
    (reloadable(net=changed(network(), bias=np.zeros(7, int))), "layer 0 bias storage each against none"),
    (reloadable(net=changed(network(), 1, threshold=np.full(3, 2))), "layer 1 threshold storage each against shared"),
    (reloadable(net=changed(network(), leak=ShiftLeak(2))), "layer 0 leak none against shift 2"),
    (reloadable(net=dataclasses.replace(network(), time_steps=5)), "time_steps 4 against 5"),
])
def test_differences_of_shape_are_named(other, message):
    with pytest.raises(SpikeloomError) as error:
        reloadable().check_same_shape(other)
    assert str(error.value) == "The programs differ in more than what can be loaded: " + message


def test_names_of_layers_are_no_part_of_a_shape():
    assert reloadable().build_digest == reloadable(net=changed(network(), name="another")).build_digest


def test_ordinary_programs_are_not_loaded(program):
    with pytest.raises(SpikeloomError, match=f"^The program {program.digest[:16]} is not reloadable: compile it so$"):
        reloadable().check_same_shape(program)


@pytest.mark.parametrize("memory, target, may, message", [
    ("block_ram", "icebreaker", True, "Layer layer_0: memory must be one of block, single_port, not 'block_ram'"),
    ("single_port", "icebreaker", False,
     "Layer layer_0: weights in single-port memory have to be loaded, so the program must be reloadable"),
    ("single_port", "hx8k", True, "The weights need 1 single-port memories, and hx8k has 0"),
])
def test_impossible_memories(memory, target, may, message):
    with pytest.raises(SpikeloomError) as error:
        Program(network(), target, [Placement(4, 2, memory), Placement(3, 1)], reloadable=may)
    assert str(error.value) == message


def test_reloadable_file_round_trip(tmp_path):
    path = tmp_path / "program.npz"
    program = reloadable("single_port")
    program.save(path)
    loaded = Program.load(path)
    assert loaded.reloadable and loaded.placements == program.placements
    assert (loaded.digest, loaded.build_digest) == (program.digest, program.build_digest)
    assert loaded.images == program.images == loaded.to_write()


def test_files_of_version_1_are_read(program, tmp_path):
    path = tmp_path / "program.npz"
    program.save(path)
    header, arrays = files.load(path)
    header = {key: value for key, value in header.items() if key not in ("kind", "version", "reloadable")}
    header["placements"] = [{"lanes": 4, "units": 2}, {"lanes": 3, "units": 1}]
    files.save(path, KIND, 1, header, arrays)
    assert Program.load(path).digest == program.digest
    files.save(path, KIND, 6, header, arrays)
    with pytest.raises(SpikeloomError, match="format version 6, where this Spikeloom reads versions 1, 2, 3, 4 and 5$"):
        Program.load(path)
    files.save(path, KIND, VERSION, header, arrays)
    with pytest.raises(SpikeloomError, match="a field is missing or of the wrong type"):
        Program.load(path)


# Layers that share a core ---------------------------------------------------------------------------


def maps(**second):
    """Two convolutions and a dense layer."""
    rng, ternary = np.random.default_rng(0), WeightFormat("ternary", 2)

    def conv(name, fields):
        return Conv2d(**{"name": name, "input_shape": (6, 5, 4), "weights": rng.integers(-1, 2, (4, 4, 3, 3)),
                         "weight_format": ternary, "threshold": np.full(4, 2), "bias": np.ones(4, int), "v_width": 5,
                         "padding": 1} | fields)

    layers = conv("first", {}), conv("second", second)
    last = Dense("last", rng.integers(-1, 2, (3, 120)), ternary, np.full(3, 2), np.zeros(3, int), 5,
                 input_shape=layers[1].shape)
    return Network(InputFormat(120, 1, (6, 5, 4)), (*layers, last), 4)


SHARING = [Placement(12, 2, core=0), Placement(12, 2, core=0), Placement(3, 1)]


def test_a_shared_core_has_what_each_of_its_layers_needs(tmp_path):
    net = maps(threshold=np.full(4, 5))
    program = Program(net, "hx8k", SHARING)
    shared, _ = program.engines
    assert program.places == ((0, 0), (0, 1), (1, 0))
    first, second = shared.members
    assert shared.images["weights"].data == b"".join(core.images["weights"].data for core in (first, second))
    assert shared.images["parameters"].rows == first.channel_updates + second.channel_updates
    assert shared.update_count == first.update_count + second.update_count
    assert shared.potential_width == max(first.potential_width, second.potential_width)
    apart = Program(net, "hx8k", [dataclasses.replace(placement, core=None) for placement in SHARING])
    assert len(apart.engines) == 3 and apart.digest != program.digest
    program.save(tmp_path / "program.npz")
    loaded = Program.load(tmp_path / "program.npz")
    assert (loaded.placements, loaded.digest) == (program.placements, program.digest)


@pytest.mark.parametrize("net, placements, options, message", [
    (maps(v_width=6), SHARING, {},
     "Layer second cannot share a core with first: they differ in bits of a membrane potential"),
    (maps(leak=ShiftLeak(2)), SHARING, {}, "Layer second cannot share a core with first: they differ in leak"),
    (maps(), [SHARING[0], Placement(6, 2, core=0), SHARING[2]], {},
     "Layer second cannot share a core with first: they differ in channels at once"),
    (maps(), [SHARING[0], Placement(12, 2), Placement(3, 1, core=0)], {},
     ("Layer last cannot share a core: only convolutions without a shortcut or a gate can, none that is sparse, and "
      "none whose neurons have other states than potentials")),
    (maps(), SHARING, {"reloadable": True}, "Layer first cannot share a core in a reloadable program"),
])
def test_who_cannot_share_a_core(net, placements, options, message):
    with pytest.raises(SpikeloomError, match=f"^{message}$"):
        Program(net, "hx8k", placements, **options)


def test_files_without_cores_know_none(tmp_path):
    path = tmp_path / "program.npz"
    Program(maps(), "hx8k", SHARING).save(path)
    header, arrays = files.load(path)
    header = {key: value for key, value in header.items() if key not in ("kind", "version")}
    files.save(path, KIND, 2, header, arrays)
    with pytest.raises(SpikeloomError, match="unexpected field 'core'"):
        Program.load(path)


def test_channels_in_another_order(tmp_path):
    first = next(layer for layer in network().layers)
    turned = tuple(reversed(range(first.n_out)))
    program = Program(network(), "hx8k", [Placement(4, 2, order=turned), Placement(3, 1)])
    plain = Program(network(), "hx8k", [Placement(4, 2), Placement(3, 1)])
    assert program.digest != plain.digest
    assert program.network.digest == plain.network.digest
    assert np.array_equal(program.cores[0].layer.weights, first.weights[::-1])
    assert np.array_equal(program.cores[1].layer.weights, plain.cores[1].layer.weights[:, ::-1])
    path = tmp_path / "program.npz"
    program.save(path)
    loaded = Program.load(path)
    assert loaded.placements == program.placements
    assert loaded.digest == program.digest


@pytest.mark.parametrize(("placements", "options", "message"), [
    ([Placement(4, 2, order=(0, 1)), Placement(3, 1)], {},
     "Layer layer_0: the order of its channels must have each of 0 to"),
    ([Placement(4, 2), Placement(3, 1, order=(1, 0, 2))], {},
     "Layer layer_1: its channels cannot stand in another order$"),
    ([Placement(4, 2, order=(0, 1)), Placement(3, 1)], {"reloadable": True},
     "cannot stand in another order in a reloadable program$"),
])
def test_orders_that_cannot_be(placements, options, message):
    with pytest.raises(SpikeloomError, match=message):
        Program(network(), "hx8k", placements, **options)


# Sparse layers --------------------------------------------------------------------------------------


def thin():
    """Of the first layer's words, those of the last group have only neurons that fill it up, but for two; and the third
    input has no weights."""
    net = network()
    weights = net.layers[0].weights.copy()
    weights[6] = 0
    weights[6, [1, 4]] = 1
    weights[:, 2] = 0
    return changed(net, weights=weights)


def test_a_sparse_core_has_the_words_that_are_not_zero(tmp_path):
    net = thin()
    program = Program(net, "hx8k", [Placement(3, 1, sparse=True), Placement(3, 1)])
    core, rows = program.cores[0], program.cores[0].sparse_rows
    layer = net.layers[0]
    dense = Program(net, "hx8k", [Placement(3, 1), Placement(3, 1)]).cores[0]
    assert core.groups == 3 and np.array_equal(core.weights, dense.weights)  # what the file holds
    found = {(group, i): values for group, i, values in zip(
        rows.groups.tolist(), rows.inputs.tolist(), layer.weight_format.values[rows.weights].tolist(), strict=True)}
    lanes = np.zeros((9, 11), int)
    lanes[:7] = layer.weights
    assert found == {(group, i): lanes[3 * group:3 * group + 3, i].tolist() for group in range(3) for i in range(11)
                     if lanes[3 * group:3 * group + 3, i].any()}
    assert rows.inputs.tolist() == sorted(rows.inputs) and (2, 3) not in found and (2, 4) in found
    words, first_width = core.images["inputs"].words, max(1, (rows.count - 1).bit_length())
    for i, word in enumerate(words[:11]):
        first, count = word & (1 << first_width) - 1, word >> first_width
        assert rows.inputs[first:first + count].tolist() == [i] * count == [i] * rows.inputs.tolist().count(i)
    assert not any(word >> first_width for word in words[11:])  # events that are no input's
    assert core.images["groups"].words == rows.groups.tolist()
    program.save(tmp_path / "program.npz")
    loaded = Program.load(tmp_path / "program.npz")
    assert loaded.placements == program.placements and loaded.digest == program.digest
    assert program.digest != Program(net, "hx8k", [Placement(3, 1), Placement(3, 1)]).digest


def test_events_are_numbered_by_words_and_bits():
    for words in (WordFormat(11, 4), WordFormat(11, 3, graded=True), WordFormat(30, 4, shape=(3, 2, 5)),
                  WordFormat(30, 2, graded=True, shape=(3, 2, 5))):
        for neuron, event in enumerate(words.events.tolist()):
            packed = words.pack(np.arange(words.size) == neuron)
            index = int(np.flatnonzero(packed)[0])
            assert event == (index if words.graded else index * words.width + int(packed[index]).bit_length() - 1)
            assert event < words.event_count


def test_a_sparse_layer_cannot_be_reloaded():
    with pytest.raises(SpikeloomError, match="^Layer layer_0: which words of weights are left out is part of the "
                                             "gateware, so a sparse layer cannot be in a reloadable program$"):
        Program(network(), "hx8k", [Placement(4, 2, sparse=True), Placement(3, 1)], reloadable=True)
