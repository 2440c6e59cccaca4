"""Configurations: the packaged ones, the way to and from JSON, and every mistake in one clear line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloom import data, network
from spikeloom.data.augment import Augment
from spikeloom.data.encode import Direct
from spikeloom.errors import SpikeloomError
from spikeloom.network import FullLeak, ReLU, ShiftLeak, SynapticCurrent, TableActivation
from spikeloom.training import config, hybrid, losses, quantizers
from spikeloom.training.attention import sigmoid_table
from spikeloom.training.membranes import Levels, Shared, Tanh
from spikeloom.training.norm import BatchNorm

PACKAGED = sorted(path.stem for path in config.PACKAGED.glob("*.toml"))

GOOD = """
readout = "membrane"
seed = 7

[data]
dataset = "digits"
validation = 0.25

[encoder]
kind = "direct"
width = 2
time_steps = 3

[[layers]]
size = 12
v_width = 4
threshold = 3
weights = { kind = "int", width = 3 }
leak = { kind = "shift", shift = 2 }

[[layers]]
size = 10
fire = { kind = "silent" }
reset = "none"

[training]
loss = { kind = "tet", weight = 0.1 }
batch = 32
augment = { shift = 1 }
"""


MAPS = """
readout = "count"
votes = 3

[encoder]
kind = "rate"

[[layers]]
kind = "conv"
name = "first"
channels = 4
norm = { kind = "batch", alpha = 2 }

[[layers]]
kind = "conv"
channels = 4
kernel = 2
stride = 2
padding = 0
groups = 2
source = "first"
pool = { kind = "max", rows = 2, columns = 2 }
shortcut = { kind = "projection", source = "input", stride = 4, weights = { kind = "pot", width = 3 } }

[[layers]]
kind = "conv"
channels = 4
attention = { kernel = 3, width = 2, weights = { kind = "int", width = 3 } }
shortcut = { kind = "identity", source = "hidden_2", factor = 2 }

[[layers]]
kind = "dense"
size = 30

[training]
loss = { kind = "rate_mse" }
"""


def read(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return config.load(path)


def test_every_field_arrives(tmp_path):
    read_back = read(tmp_path, GOOD)
    assert (read_back.readout, read_back.seed) == ("membrane", 7)
    assert read_back.data == config.Data("digits", 0.25)
    assert read_back.encoder == Direct(3, 2)
    assert read_back.layers == (
        config.DenseLayer(4, 3.0, quantizers.Integer(3), network.ShiftLeak(2), size=12),
        config.DenseLayer(size=10, fire=network.Silent(), reset="none"))
    assert read_back.training == config.Training(losses.TET(weight=0.1), batch=32,
                                                 augment=Augment(shift=1.0))
    assert isinstance(read_back.layers[0].threshold, float)


def test_every_field_of_maps_arrives(tmp_path):
    loaded = read(tmp_path, MAPS)
    projection = config.Projection("input", 4, weights=quantizers.PowerOfTwo(3))
    assert loaded.layers == (
        config.ConvLayer(channels=4, name="first", norm=BatchNorm(2.0)),
        config.ConvLayer(channels=4, kernel=2, stride=2, padding=0, groups=2, source="first",
                         pool=network.Pool("max", 2, 2), shortcut=projection),
        config.ConvLayer(channels=4, attention=config.Attention(3, 2, quantizers.Integer(3)),
                         shortcut=config.Identity("hidden_2", 2.0)),
        config.DenseLayer(size=30))
    assert config.from_description(json.loads(json.dumps(config.describe(loaded))), "x") == loaded
    made = loaded.build(torch.Generator().manual_seed(1)).to_network()
    assert [layer.name for layer in made.layers] == ["first", "hidden_2", "hidden_3", "output"]
    assert [layer.shape for layer in made.layers] == [(8, 8, 4), (2, 2, 4), (2, 2, 4), (1, 1, 30)]
    assert made.sources == [("input",), ("first", "input"), ("hidden_2", "hidden_2"), ("hidden_3",)]
    assert (made.n_out, made.votes) == (10, 3)
    gates = made.layers[2].attention
    steps = loaded.encoder.time_steps
    assert (gates.time_weights.shape, gates.channel_weights.shape) == ((steps, steps, 3), (4, 4, 3))
    assert (gates.weight_format, gates.table) == (network.WeightFormat("int", 3), sigmoid_table(2))
    assert np.unique(gates.time_weights).tolist() == [-2, -1, 0, 1, 2]
    identity = made.layers[2].shortcut
    assert (identity.groups, identity.weights.ravel().tolist(), identity.weight_format.kind) == (4, [2] * 4, "int")


@pytest.mark.parametrize(("table", "weights"), [
    ('"learned", width = 3', quantizers.LearnedRange(3)), ('"learned"', quantizers.LearnedRange(4)),
    ('"sawb", width = 8, alpha = "statistics"', quantizers.SAWB(8, "statistics")),
    ('"threshold_ternary", share = 0.1', quantizers.ThresholdTernary(0.1)),
    ('"sigmoids", width = 1, first = 1, last = 9', quantizers.SumOfSigmoids(1, 1.0, 9.0)),
    ('"normalized_binary", last = 5', quantizers.NormalizedBinary(0.1, 5.0))])
def test_weights_with_a_step_are_read(tmp_path, table, weights):
    loaded = read(tmp_path, GOOD.replace('"int", width = 3', table))
    assert loaded.layers[0].weights == weights
    assert config.from_description(json.loads(json.dumps(config.describe(loaded))), "x") == loaded
    assert loaded.build(torch.Generator().manual_seed(1)).to_network().layers[0].weight_format == weights.format


@pytest.mark.parametrize(("text", "old", "new", "message"), [
    (GOOD, '{ kind = "int", width = 3 }', '{ kind = "learned", width = 9 }',
     "layers[0].weights: Width of learned weights must be between 2 and 8 bits, not 9"),
    (GOOD, "size = 10", 'size = 10\nweights = { kind = "normalized_binary" }',
     ('readout "membrane" compares potentials of the last layer, which with weights of kind normalized_binary have a '
      "unit of their own for each class")),
    (MAPS, 'kind = "pot", width = 3', 'kind = "learned"',
     "layers[1].shortcut.weights must have a kind, one of binary, ternary, int, pot, not 'learned'"),
    (MAPS, 'kind = "int", width = 3', 'kind = "normalized_binary"',
     ("layers[2].attention.weights must have a kind, one of binary, ternary, int, pot, learned, sawb, "
      "threshold_ternary, sigmoids, not 'normalized_binary'")),
    (GOOD + '\n[pruning]\nfraction = 0.5\nepoch = 30\n', "", "",
     "pruning: its last round comes after 30 epochs, where training has 25")])
def test_each_mistake_with_weights_and_pruning_is_one_clear_line(tmp_path, text, old, new, message):
    with pytest.raises(SpikeloomError) as error:
        read(tmp_path, text.replace(old, new, 1))
    assert str(error.value) == f"{tmp_path / 'run.toml'}: {message}"


def test_loading_leaves_the_callers_random_numbers_alone(tmp_path):
    before = torch.get_rng_state()
    read(tmp_path, MAPS).build(torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("channels = 4\nkernel = 2", "channels = 0\nkernel = 2", "layers[1]: channels must be 1 or more, not 0"),
    ("kernel = 2", "kernel = 8", "layers[1]: kernel must be between 1 and 7, not 8"),
    ("padding = 0", "padding = 2", "Layer hidden_2: padding must be between 0 and 1, not 2"),
    ("groups = 2", "groups = 3",
     "Layer hidden_2: groups must divide its 4 channels in and 4 channels out, not be 3"),
    ("groups = 2", "groups = 0", "layers[1]: groups must be 1 or more, not 0"),
    ('source = "first"', 'source = "last"',
     "Layer hidden_2: a source must be one of input, first, not 'last'"),
    ('source = "hidden_2"', 'source = "hidden_3"',
     "Layer hidden_3: a source must be one of input, first, hidden_2, not 'hidden_3'"),
    ('groups = 2\nsource = "first"', 'source = "input"', "Layer first: feeds no other layer, and is not the last"),
    ('name = "first"', 'name = "input"',
     "Layer name must not be 'input', which is where a network's input comes from"),
    ("rows = 2, columns", "rows = 9, columns", "Layer hidden_2: a map of 8 x 8 x 4 has no block of 9 x 2 to pool"),
    ('"max", rows = 2', '"mean", rows = 2', "layers[1].pool: Pool kind must be max or sum, not 'mean'"),
    ("rows = 2, ", "", "layers[1].pool.rows is missing"),
    ("stride = 4,", "stride = 3,",
     "Layer hidden_2, shortcut: gives a map of 3 x 3 x 4, where the layer's own convolution gives 2 x 2 x 4"),
    ('kind = "identity"', 'kind = "same"',
     "layers[2].shortcut must have a kind, one of projection, identity, not 'same'"),
    ("kernel = 3", "kernel = 0", "layers[2].attention: kernel must be between 1 and 7, not 0"),
    ("width = 2, w", "width = 9, w", "layers[2].attention: width must be between 1 and 8, not 9"),
    ("width = 2, w", "bits = 2, w", "layers[2].attention.bits is unknown; known here are kernel, width, weights"),
    ("factor = 2", "stride = 2",
     "layers[2].shortcut.stride is unknown; known here are source, factor, pool, weights, delay"),
    ("factor = 2", "factor = 8", "layers[2].shortcut: factor must lie within its weights' -8 to 7, not 8.0"),
    ("size = 30", 'size = 30\npool = { kind = "sum", rows = 3, columns = 1 }',
     "Layer output: a map of 2 x 2 x 4 has no block of 3 x 1 to pool"),
    ("alpha = 2", "alpha = 0", "layers[0].norm: Batch norm: alpha must be positive, not 0.0"),
    ("alpha = 2", "momentum = 2", "layers[0].norm: Batch norm: momentum must lie above 0 and up to 1, not 2.0"),
    ("channels = 4", "threshold = 3.0\nchannels = 4",
     "layers[0]: threshold cannot be set beside batch norm, whose alpha says where it starts, but is 3.0"),
    ("size = 30", "size = 10",
     "size of the last layer must be 30, 3 votes for each of the classes of digits, not 10"),
    ("votes = 3", "votes = 0", "votes must be 1 or more, not 0"),
    ('kind = "dense"\nsize = 30', 'kind = "conv"\nchannels = 30',
     "The last layer, which is read out, must be dense, not conv2d"),
    ('kind = "dense"\nsize', 'kind = "thick"\nsize',
     "layers[3] must have a kind, one of dense, conv, unrolled, hybrid, lmu, lstm, gru, not 'thick'"),
])
def test_each_mistake_with_maps_is_one_clear_line(tmp_path, old, new, message):
    assert old in MAPS
    with pytest.raises(SpikeloomError) as error:
        read(tmp_path, MAPS.replace(old, new, 1))
    assert str(error.value) == f"{tmp_path / 'run.toml'}: {message}"


def test_frames_cannot_be_bent(tmp_path):
    text = MAPS.replace('kind = "rate"', 'kind = "frames"') + "augment = { shift = 1, flip = true, rotate = 3 }\n"
    with pytest.raises(SpikeloomError, match=r"training\.augment: frames of recordings can be shifted and flipped"):
        read(tmp_path, text + '[data]\ndataset = "nmnist"\n')


def test_a_table_leak_is_read(tmp_path):
    text = GOOD.replace('leak = { kind = "shift", shift = 2 }',
                        f'leak = {{ kind = "table", table = {list(range(-8, 8))} }}')
    assert read(tmp_path, text).layers[0].leak == network.TableLeak(tuple(range(-8, 8)))


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_ones_build_a_network(name):
    loaded = config.load(name)
    built = loaded.build(torch.Generator().manual_seed(1))
    if not loaded.training.epochs_quantized:  # of activities, some of which have no integers
        assert built.layers[-1].shape == (1, 1, loaded.task.size)
        return
    made = built.to_network()
    assert made.n_out == loaded.task.size
    if name.endswith("spquant") or loaded.detection:  # as published; with wider scores
        return
    if made.time_steps >= 32:  # long sequences take wider states
        return
    if not name.startswith("tcja"):  # which is as published, with gates that need wider membranes
        assert made.time_steps <= 10
        assert all(layer.v_width <= 6 for layer in made.layers)
    assert all(branch.weight_format.kind == ("int" if isinstance(branch, network.Shortcut) and branch.groups > 1
                                             else "ternary") for layer in made.layers for branch in layer.branches)


def test_tcja_has_the_published_weights():
    made = config.load("tcja").build(torch.Generator()).to_network()
    assert made.weight_bits == 2 * 1831296
    assert [layer.input_shape for layer in made.layers] == [
        (128, 128, 2), (128, 128, 128), (64, 64, 128), (32, 32, 128), (16, 16, 128), (8, 8, 128), (1, 1, 512)]
    assert [layer.attention is not None for layer in made.layers] == [False] * 4 + [True, True, False]
    assert (made.time_steps, made.layers[-1].n_out, made.n_out, made.votes) == (20, 110, 11, 10)


def test_packaged_names():
    assert {"digits", "fashion_mnist", "fashion_mnist_cnn", "mnist", "nmnist_cnn", "resnet19",
            "resnet19_spquant", "tcja", "tcja_nmnist", "vgg9", "vgg9_spquant"} <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_description_is_json_and_reads_back(name):
    loaded = config.load(name)
    text = json.dumps(config.describe(loaded))
    again = config.from_description(json.loads(text), "x")
    assert again == loaded
    assert again.digest == loaded.digest


@pytest.mark.parametrize(("table", "membrane"), [
    ('kind = "levels"', Levels()),
    ('kind = "levels", low = -16, high = 7, shift = 3, temperature = 4', Levels(-16, 7, shift=3, temperature=4.0)),
    ('kind = "levels", step = 4', Levels(step=4)), ('kind = "shared", width = 3', Shared(3)),
    ('kind = "tanh", width = 4, unit = 9', Tanh(4, 9))])
def test_membranes_and_ways_to_learn_thresholds(tmp_path, table, membrane):
    text = GOOD.replace("v_width = 4", 'thresholds = "layer"\nthreshold_gradient = "fired"\n'
                        f"membrane = {{ {table} }}")
    loaded = read(tmp_path, text)
    layer = loaded.layers[0]
    assert (layer.membrane, layer.thresholds, layer.threshold_gradient) == (membrane, "layer", "fired")
    built = loaded.build().layers[0]
    assert built.neuron.grid == membrane.grid and built.neuron.v_width == membrane.grid.width
    assert built.threshold.shape == (1,) and built.neuron.threshold_gradient == "fired"
    digests = {read(tmp_path, text.replace(old, new)).digest for old, new in (
        ("", ""), ('"layer"', '"fixed"'), ('"fired"', '"surrogate"'), (f"membrane = {{ {table} }}", ""))}
    assert len(digests) == 4
    assert config.from_description(json.loads(json.dumps(config.describe(loaded))), "there").digest == loaded.digest


def test_digests_of_before_are_kept():
    """Runs are known by them."""
    assert config.load("digits").digest.startswith("2635313a8ab2c069")
    assert config.load("fashion_mnist_cnn").digest.startswith("7db45f31f96f79e6")


def test_the_digest_sees_every_change(tmp_path):
    first = read(tmp_path, GOOD)
    for old, new in (("seed = 7", "seed = 8"), ("shift = 2", "shift = 3"), ("0.1", "0.2")):
        assert read(tmp_path, GOOD.replace(old, new)).digest != first.digest


@pytest.mark.parametrize(("old", "new", "message"), [
    ("seed = 7", "sead = 7",
     ("sead is unknown; known here are encoder, layers, training, data, readout, seed, votes, "
      "pruning, detection")),
    ("batch = 32", "bach = 32",
     ("training.bach is unknown; known here are loss, epochs_float, epochs_quantized, "
      "batch, rate, schedule, augment, threads")),
    ("shift = 2", "shift = 16", "layers[0].leak: Leak shift must be between 1 and 15, not 16"),
    ("shift = 2", "shift = 2, speed = 1", "layers[0].leak.speed is unknown; known here are shift"),
    ('{ kind = "silent" }', '{ kind = "silent", low = 1 }',
     "layers[1].fire.low is unknown; nothing can be set here"),
    (", shift = 2", "", "layers[0].leak.shift is missing"),
    ('kind = "shift"', 'kind = "drift"',
     "layers[0].leak must have a kind, one of none, shift, full, table, not 'drift'"),
    ('kind = "direct"', "",
     "encoder must have a kind, one of direct, rate, latency, delta, pixels, frames, spikes, bands, not None"),
    ("size = 12", "size = 12.5", "layers[0].size must be an integer, not 12.5"),
    ("size = 12", "size = true", "layers[0].size must be an integer, not True"),
    ("size = 12", "", "layers[0].size is missing"),
    ("size = 12", "size = 0", "layers[0]: size must be between 1 and 65536 neurons, not 0"),
    ("size = 10", "size = 11", "size of the last layer must be 10, the classes of digits, not 11"),
    ("v_width = 4", 'v_width = 4\nmembrane = { kind = "levels" }',
     "layers[0]: v_width cannot be set beside a membrane of kind levels, which has a width of its own"),
    ("v_width = 4", 'membrane = { kind = "steps" }',
     "layers[0].membrane must have a kind, one of levels, shared, tanh, not 'steps'"),
    ("v_width = 4", 'thresholds = "all"', "layers[0]: thresholds must be one of channel, layer, fixed, not 'all'"),
    ("v_width = 4", 'threshold_gradient = "all"',
     "layers[0]: threshold_gradient must be one of surrogate, fired, not 'all'"),
    ("v_width = 4", "v_width = 17", "layers[0]: Membrane width must be between 2 and 16 bits, not 17"),
    ("v_width = 4", 'v_width = "4"', "layers[0].v_width must be an integer, not '4'"),
    ("threshold = 3", "threshold = 0.5",
     "layers[0]: threshold must be at least 1 and below 32768, not 0.5"),
    ('"int", width = 3', '"int", width = 17',
     "layers[0].weights: Width of int weights must be between 2 and 16 bits, not 17"),
    ("width = 2", "width = 9", "encoder: Input width must be between 1 and 8 bits, not 9"),
    ("time_steps = 3", "time_steps = 0",
     "encoder: Encoder direct: time_steps must be between 1 and 65535, not 0"),
    ('reset = "none"', 'reset = "half"',
     "layers[1]: Reset must be one of subtract, zero, none, not 'half'"),
    ('"membrane"', '"loudest"', "readout must be one of count, membrane, not 'loudest'"),
    ('"membrane"', '"count"', 'readout "count" needs a last layer that fires, not fire = "silent"'),
    ('kind = "tet", weight = 0.1', 'kind = "rate_mse"',
     'loss rate_mse needs a last layer that fires, not fire = "silent"'),
    ("size = 12", 'size = 12\nfire = { kind = "silent" }',
     'only the last layer may have fire = "silent"'),
    ('"digits"', '"letters"',
     f"data: Data set must be one of {', '.join(data.DATASETS)}, not 'letters'"),
    ("validation = 0.25", "validation = 0.75", "data: validation must lie within 0 to 0.5, not 0.75"),
    ("batch = 32", "batch = 0", "training: batch must be 1 or more, not 0"),
    ("batch = 32", "rate = 0", "training: rate must be positive, not 0.0"),
    ("batch = 32", 'schedule = "linear"',
     "training: schedule must be one of cosine, constant, not 'linear'"),
    ("augment = { shift = 1 }", "augment = { shift = -1 }",
     "training.augment: Augmentation: shift must be 0 or more, not -1.0"),
    ("augment = { shift = 1 }", "augment = 1", "training.augment must be a table, not 1"),
    ("seed = 7", "seed = -1", "seed must be between 0 and 2^31 - 1, not -1"),
])
def test_each_mistake_is_one_clear_line(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(SpikeloomError) as error:
        read(tmp_path, GOOD.replace(old, new, 1))
    path = tmp_path / "run.toml"
    assert str(error.value) == f"{path}: {message}"


def test_layers_must_be_a_list(tmp_path):
    with pytest.raises(SpikeloomError, match="layers must be a list, not"):
        read(tmp_path, 'layers = 3\n[encoder]\nkind = "rate"\n[training]\nloss = { kind = "tet" }\n')
    with pytest.raises(SpikeloomError, match="layers must hold at least one layer"):
        read(tmp_path, 'layers = []\n[encoder]\nkind = "rate"\n[training]\nloss = { kind = "tet" }\n')


def test_unreadable_files_are_told(tmp_path):
    with pytest.raises(SpikeloomError, match="packaged are blood_cells, braille, .*, vgg9, vgg9_spquant, any"):
        config.load("mnits")
    with pytest.raises(SpikeloomError, match=r"absent\.toml: cannot be read as TOML: No such file"):
        config.load(tmp_path / "absent.toml")
    for content in (b"[data", b"\xff\xfe", b"a = 1\na = 2"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(SpikeloomError, match=r"bad\.toml: cannot be read as TOML: ") as error:
            config.load(tmp_path / "bad.toml")
        assert "\n" not in str(error.value)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SpikeloomError, match=r"folder\.toml: cannot be read as TOML: Is a directory"):
        config.load(tmp_path / "folder.toml")


# Recurrence -------------------------------------------------------------------------------------


LOOPS = """
readout = "membrane"
[data]
dataset = "digits"
[encoder]
kind = "direct"
time_steps = 4
[[layers]]
kind = "conv"
channels = 3
delay = 1
name = "first"
act = { kind = "table", table = [0, 0, 1, 4], shift = 3 }
shortcut = { kind = "projection", source = "input", delay = 2 }
[[layers]]
name = "second"
size = 12
source = "output"
delay = 1
recurrent = { weights = { kind = "int", width = 3 }, delay = 2 }
branches = [{ source = "first" }, { source = "output", delay = 3, weights = { kind = "pot" } }]
act = { kind = "relu" }
current = { width = 6, leak = { kind = "shift", shift = 1 } }
adaptation = { width = 7, leak = { kind = "full" }, step = 0.5, learned = false }
leak = { kind = "full" }
[[layers]]
size = 10
branches = [{ source = "first", delay = 1 }]
[training]
loss = { kind = "last_membrane" }
"""


def test_recurrence_comes_from_the_file(tmp_path):
    found = read(tmp_path, LOOPS)
    built = found.build().to_network()
    first, second, output = built.layers
    assert (first.delay, first.shortcut.delay, second.delay, output.delay) == (1, 2, 1, 0)
    assert [(each.source, each.delay, each.weight_format.kind) for each in second.others] == [
        ("second", 2, "int"), ("first", 0, "ternary"), ("output", 3, "pot")]
    assert [(each.source, each.delay) for each in output.others] == [("first", 1)]
    assert built.loops == [range(1), range(1, 3)]
    assert (first.act, second.act) == (TableActivation((0, 0, 1, 4), 3), ReLU())
    assert second.current == SynapticCurrent(6, ShiftLeak(1))
    assert (second.adaptation.width, second.adaptation.leak) == (7, FullLeak())
    assert second.adaptation.step.tolist() == [4] * 12
    assert not found.build().layers[1].raise_by.requires_grad
    assert config.from_description(config.describe(found), "again") == found


def test_without_recurrence_a_configuration_is_what_it_was():
    content = config.identity(config.describe(config.load("digits")))
    assert not {"delay", "recurrent", "branches", "act", "current", "adaptation"} & set(content["layers"][0])


@pytest.mark.parametrize(("old", "new", "message"), [
    ("size = 12\nsource = \"output\"\ndelay = 1", "size = 12\nsource = \"output\"",
     "Layer second: a source must be one of input, first, not 'output'"),
    ('source = "output", delay = 3', 'source = "third", delay = 3',
     "Layer second: a source must be one of input, second, output, first, not 'third'"),
    ('width = 3 }, delay = 2', 'width = 3 }, delay = 0',
     "layers[1].recurrent: delay must be between 1 and 65535 time steps, not 0"),
    ("channels = 3\ndelay = 1", "channels = 3\ndelay = -1",
     "layers[0]: delay must be between 0 and 65535 time steps, not -1"),
    ('{ kind = "int", width = 3 }', '{ kind = "learned" }',
     "layers[1].recurrent.weights must have a kind, one of binary, ternary, int, pot, not 'learned'"),
    ("current = { width = 6", "current = { width = 1",
     "layers[1]: Current: width must be between 2 and 16 bits, not 1"),
    ("step = 0.5", "step = inf", "layers[1]: Adaptation: step must be a number, not inf"),
    ('leak = { kind = "full" }\n[[', 'fire = { kind = "graded", low = 0, high = 3 }\n[[',
     "layers[1]: An adaptation is for neurons that fire \"spike\", not 'graded'"),
    ('leak = { kind = "full" }\n[[', 'norm = { kind = "batch" }\n[[',
     "Layer second: where layers feed back there is no batch norm, which takes all time steps at once"),
    ('shortcut = { kind', 'attention = {}\nshortcut = { kind', None),
    ('leak = { kind = "full" }\n[[', 'attention = {}\n[[',
     "Layer second, attention: needs all time steps of what comes in, so it cannot be where layers feed back"),
])
def test_each_mistake_with_recurrence_is_one_clear_line(tmp_path, old, new, message):
    assert old in LOOPS
    if message is None:  # none at all: that layer does not feed back
        read(tmp_path, LOOPS.replace(old, new, 1))
        return
    with pytest.raises(SpikeloomError) as error:
        read(tmp_path, LOOPS.replace(old, new, 1))
    assert str(error.value) == f"{tmp_path / 'run.toml'}: {message}"


# Layers of activities ---------------------------------------------------------------------------


def lmu(**fields):
    return config.LMULayer(**{"size": 8, "order": 4, "window": 16.0} | fields)


def test_layers_of_activities_are_read(tmp_path):
    text = """
        readout = "membrane"
        encoder = { kind = "pixels", time_steps = 64 }
        [[layers]]
        kind = "lmu"
        size = 8
        order = 4
        window = 16.0
        hidden = { omega = { kind = "points", shares = [0.0, 0.5], omegas = [8.0, 1.0] }, rounding = "stochastic" }
        [[layers]]
        kind = "hybrid"
        size = 9
        activation = { kind = "lif_rate", tau = 10.0 }
        spiking = { omega = { kind = "cosine", first = 8.0, last = 2.0 } }
        [[layers]]
        kind = "gru"
        size = 5
        [[layers]]
        size = 10
        reset = "none"
        fire = { kind = "silent" }
        [training]
        loss = { kind = "last_membrane" }
        epochs_quantized = 0
    """
    path = tmp_path / "activities.toml"
    path.write_text(text)
    read_ = config.load(path)
    first, second, third, _ = read_.layers
    assert first == lmu(hidden=hybrid.Spiking(hybrid.Points((0.0, 0.5), (8.0, 1.0)), "stochastic"))
    assert second == config.HybridLayer(9, activation=hybrid.LIFRate(10.0),
                                        spiking=hybrid.Spiking(hybrid.Cosine(8.0, 2.0)))
    assert third == config.GRULayer(5)
    assert config.from_description(config.describe(read_), "json") == read_
    built = read_.build(torch.Generator().manual_seed(1))
    assert [layer.high for layer in built.layers[:3]] == [255.0, 1.0, 1.0]
    again = read_.build(torch.Generator().manual_seed(1))
    for one, other in zip(built.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: lmu(size=0), "size must be between 1 and 65536 neurons, not 0"),
    (lambda: lmu(order=2000), "order must be between 1 and 1024, not 2000"),
    (lambda: lmu(window=0.5), "window must be between 1 and 65535 time steps, not 0.5"),
    (lambda: lmu(late=-1), "late must be 0 or more, not -1"),
    (lambda: lmu(memory_width=17), "memory_width must be between 2 and 16 bits, not 17"),
    (lambda: lmu(entries=100), "entries must be a power of two between 2 and 65536, not 100"),
    (lambda: config.HybridLayer(4, width=1), "width must be between 2 and 16 bits, not 1"),
    (lambda: replace(config.load("digits_lmu"), layers=(lmu(), config.GRULayer(10))),
     "The last layer must be one of spiking neurons, not of kind gru")])
def test_impossible_activities_are_refused(make, message):
    with pytest.raises(SpikeloomError) as error:
        make()
    assert str(error.value) == message
