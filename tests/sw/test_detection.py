"""Boxes out of scores, their suppression, loss and precision; detectors end to end, to gateware."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloom import cli, data, reference, tasks
from spikeloom.compiler.compile import compile
from spikeloom.data import augment
from spikeloom.detection import YOLO, Cells, Detection, boxes, evaluate
from spikeloom.detection.boxes import Found
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, Network, Silent
from spikeloom.sim import backend
from spikeloom.training import config as configuration
from spikeloom.training import model
from spikeloom.training.neuron import Neuron
from spikeloom.training.quantizers import Integer
from spikeloom.training.unrolled import SpikingUnrolled, unroll
from voc_files import write_voc

NAMES = "red", "green", "blue"
TASK = Detection(NAMES, Cells((3, 4), ((0.1, 0.1), (0.4, 0.5)), scale=4.0))


def box(kind, x, y, w, h):
    return kind, x, y, w, h


def labels_of(*rows, most=3):
    """One image's labels, filled up."""
    labels = np.full((1, most, 5), -1.0, np.float32)
    labels[0, :len(rows)] = np.reshape(rows, (-1, 5))
    return labels


def scores_for(task, rows):
    """One image's scores that say just these boxes (class, x, y, w, h): what decoding does, the other way round."""
    rows_, columns = task.layout.cells
    logits = np.zeros((rows_, columns, len(task.layout.anchors), 5 + len(task.classes)))
    logits[..., 4] = -30
    for kind, x, y, w, h in rows:
        r, c = int(y * rows_), int(x * columns)
        a = max(range(len(task.layout.anchors)), key=lambda a: shape_iou((w, h), task.layout.anchors[a]))
        fx, fy = x * columns - c, y * rows_ - r
        aw, ah = task.layout.anchors[a]
        logits[r, c, a, :5] = np.log(fx / (1 - fx)), np.log(fy / (1 - fy)), np.log(w / aw), np.log(h / ah), 20
        logits[r, c, a, 5 + int(kind)] = 20
    return logits.reshape(1, -1) * task.layout.scale


def shape_iou(one, other):
    shared = min(one[0], other[0]) * min(one[1], other[1])
    return shared / (one[0] * one[1] + other[0] * other[1] - shared)


def plain_iou(a, b):
    """By the areas of rectangles, one pair at a time."""
    left, right = max(a[0] - a[2] / 2, b[0] - b[2] / 2), min(a[0] + a[2] / 2, b[0] + b[2] / 2)
    upper, lower = max(a[1] - a[3] / 2, b[1] - b[3] / 2), min(a[1] + a[3] / 2, b[1] + b[3] / 2)
    shared = max(0.0, right - left) * max(0.0, lower - upper)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def random_boxes(rng, count):
    return np.concatenate([rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.05, 0.5, (count, 2))], 1)


# Boxes ------------------------------------------------------------------------------------------


def test_iou_of_every_pair():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 30), random_boxes(rng, 20)
    seen = boxes.iou(torch.from_numpy(a)[:, None], torch.from_numpy(b)[None])
    want = [[plain_iou(one, other) for other in b] for one in a]
    np.testing.assert_allclose(seen, want, atol=1e-12)
    assert (seen == 0).any() and (seen > 0.3).any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_suppression_is_what_a_search_of_all_subsets_finds(seed, count, overlap):
    """Those that stay are the one subset in which no two of a class overlap, and whoever is missing overlaps with a
    more confident one of its class that is there."""
    rng = np.random.default_rng(seed)
    placed, confidence = random_boxes(rng, count), rng.permutation(count) / 20 + 0.1
    kinds = rng.integers(0, 2, count)
    beats = np.array([[kinds[i] == kinds[j] and confidence[i] > confidence[j]
                       and plain_iou(placed[i], placed[j]) > overlap for j in range(count)]
                      for i in range(count)], bool).reshape(count, count)
    right = [subset for size in range(count + 1) for subset in itertools.combinations(range(count), size)
             if all((j in subset) != any(beats[i, j] for i in subset) for j in range(count))]
    seen = boxes.suppress(torch.from_numpy(placed), torch.from_numpy(confidence), torch.from_numpy(kinds), overlap)
    assert [tuple(sorted(seen.tolist()))] == right
    assert (np.diff(confidence[seen.numpy()]) < 0).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_decoding_finds_what_scores_were_made_of(seed, count):
    rng = np.random.default_rng(seed)
    task = Detection(NAMES, Cells((3, 4), ((0.1, 0.1), (0.4, 0.5)), scale=4.0, overlap=1.0))
    cells = rng.permutation(12)[:count]
    rows = [(rng.integers(3), (cell % 4 + rng.uniform(0.1, 0.9)) / 4, (cell // 4 + rng.uniform(0.1, 0.9)) / 3,
             *rng.uniform(0.03, 0.9, 2)) for cell in cells]
    scores = scores_for(task, rows)
    assert scores.shape == (1, task.size)
    found, = task.find(scores)
    order = np.lexsort(found.boxes.T)
    want = np.array([row[1:] for row in rows]).reshape(-1, 4)
    expected = np.lexsort(want.T)
    np.testing.assert_allclose(found.boxes[order], want[expected], rtol=1e-4, atol=1e-6)
    assert found.classes[order].tolist() == [rows[index][0] for index in expected]
    assert (found.confidence > 0.99).all()
    # What is to be learned is where it was.
    labels = labels_of(*rows, most=9)
    assigned, = task.assign(torch.from_numpy(labels))
    _, objectness, _ = task.decode(torch.from_numpy(scores).float())
    assert torch.equal(assigned >= 0, objectness[0] > 0)
    decoded = task.decode(torch.from_numpy(scores).float())[0][0]
    for place in torch.nonzero(assigned >= 0)[:, 0]:
        np.testing.assert_allclose(decoded[place], labels[0, assigned[place], 1:], rtol=1e-4, atol=1e-6)


def test_of_two_labels_for_one_box_the_last_has_it():
    labels = labels_of(box(0, 0.3, 0.3, 0.1, 0.1), box(1, 0.31, 0.3, 0.1, 0.1), box(2, 0.3, 0.31, 0.4, 0.5))
    assigned, = TASK.assign(torch.from_numpy(labels))
    assert sorted(assigned[assigned >= 0].tolist()) == [1, 2]


def test_notes_hold_all_that_decoding_needs():
    again = Detection.from_notes(json.loads(json.dumps(TASK.to_notes(unit=0.5))))
    assert again == Detection(NAMES, dataclasses.replace(TASK.layout, scale=8.0))
    scores = np.random.default_rng(1).normal(0, 20, (2, TASK.size)).astype(np.float32)
    for one, other in zip(TASK.find(scores), again.find(2 * scores), strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-5)
    with pytest.raises(SpikeloomError, match=r"does not say what boxes its scores stand for \(KeyError: 'cells'\)"):
        Detection.from_notes({"classes": ["a"]})


@pytest.mark.parametrize("fields, message", [
    ({"cells": (3,)}, r"cells must be rows and columns, each 1 or more, not \[3\]"),
    ({"anchors": ()}, "anchors must be at least one pair of width and height"),
    ({"anchors": ((0.1, 1.2),)}, r"anchors must be pairs of width and height, .*, not \[0.1, 1.2\]"),
    ({"scale": 0.0}, "scale must be positive, not 0.0"),
    ({"overlap": 1.5}, "overlap must lie within 0 to 1, not 1.5"),
])
def test_impossible_layouts(fields, message):
    with pytest.raises(SpikeloomError, match=message):
        Cells(**{"cells": (3, 4), "anchors": ((0.1, 0.1),), **fields})


# Precision --------------------------------------------------------------------------------------


def found(*rows):
    """Boxes (confidence, class, x, y, w, h), the most confident first."""
    rows = np.array(rows, float).reshape(-1, 6)
    return Found(rows[:, 2:], rows[:, 0], rows[:, 1].astype(int))


def test_precision_of_known_cases():
    one, two = (0.3, 0.3, 0.2, 0.2), (0.7, 0.7, 0.2, 0.2)
    wrong = (0.3, 0.7, 0.2, 0.2)
    labels = labels_of((0, *one), (0, *two))
    cases = [
        ([(0.9, 0, *one), (0.8, 0, *two)], 1.0),
        ([], 0.0),
        ([(0.9, 1, *one), (0.8, 1, *two)], 0.0),  # of another class
        ([(0.9, 0, *one)], 51 / 101),  # recalls of 0, 0.01 … 0.5
        ([(0.9, 0, *wrong), (0.8, 0, *one), (0.7, 0, *two)], 2 / 3),
        ([(0.9, 0, *one), (0.8, 0, *one), (0.7, 0, *two)], (51 + 50 * 2 / 3) / 101),  # the second finds nothing new
    ]
    for rows, want in cases:
        seen = evaluate.precision([found(*rows)], labels, NAMES)
        assert seen.classes == {"red": pytest.approx(want)} and seen.mean == pytest.approx(want)
    # 0.5 of intersection over union is enough, less is not: shifted by a third of its width, and by a bit more.
    for shift, want in ((0.2 / 3 - 1e-4, 1.0), (0.2 / 3 + 1e-4, 0.0)):
        moved = evaluate.precision([found((0.9, 0, 0.3 + shift, 0.3, 0.2, 0.2))], labels_of((0, *one)), NAMES)
        assert moved.mean == pytest.approx(want)
    both = evaluate.precision([found((0.9, 0, *one)), found()], np.concatenate([labels_of((0, *one)),
                                                                             labels_of((1, *two))]), NAMES)
    assert both.classes == {"red": pytest.approx(1), "green": 0.0} and both.mean == pytest.approx(0.5)
    assert evaluate.precision([found()], labels_of(), NAMES).mean == 0.0


def test_measure_of_scores():
    rows = [box(0, 0.3, 0.3, 0.1, 0.1), box(2, 0.6, 0.8, 0.4, 0.4)]
    assert TASK.measure(scores_for(TASK, rows), labels_of(*rows)) == pytest.approx(1)
    assert TASK.measure(scores_for(TASK, rows) / 4, labels_of(*rows), unit=4.0) == pytest.approx(1)
    assert TASK.measure(scores_for(TASK, rows[:1]), labels_of(*rows)) == pytest.approx(0.5)
    assert TASK.told(scores_for(TASK, rows[:1]), None) == "0: red 100% at 0.300 0.300, 0.100 x 0.100"
    with pytest.raises(SpikeloomError, match=r"has int64 labels of shape \(2,\) for 2 samples"):
        TASK.check_labels(np.zeros(2, int), 2)


# Loss -------------------------------------------------------------------------------------------


def test_the_loss_falls_to_nothing_where_all_is_found():
    rows = [box(0, 0.3, 0.3, 0.1, 0.1), box(2, 0.6, 0.8, 0.4, 0.4)]
    labels = torch.from_numpy(labels_of(*rows))
    right = torch.from_numpy(scores_for(TASK, rows)).float()
    steps = torch.stack([right / 3, 2 * right / 3, right])  # as an integrator adds up
    assert YOLO()(TASK, steps, labels) < 1e-3
    nothing = YOLO()(TASK, torch.zeros(3, 1, TASK.size), labels)
    assert nothing > 5
    for number, value in enumerate(right[0]):  # any other logit costs where there is a box, elsewhere that of one
        worse = steps.clone()
        worse[:, 0, number] += (-160 if value > 0 else 160) * torch.tensor([1, 2, 3]) / 3
        asked = right[0, number // 8 * 8 + 4] > 0 or number % 8 == 4
        assert (YOLO()(TASK, worse, labels) > 0.1) == asked, number


def test_weights_of_the_losses_terms():
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(labels_of(box(0, 0.3, 0.3, 0.1, 0.1)))
    scores = torch.from_numpy(rng.normal(0, 4, (2, 1, TASK.size))).float()

    def loss(**fields):
        return YOLO(**{"box": 0.0, "empty": 0.0, "classes": 0.0, "weight": 0.0, **fields})(TASK, scores, labels)

    assigned, = TASK.assign(labels)
    place, = torch.nonzero(assigned >= 0)[0].tolist()
    placed, objectness, classes = TASK.decode(scores[1])
    present = torch.nn.functional.softplus(-objectness[0, place])
    assert torch.isclose(loss(), present)
    assert torch.isclose(loss(classes=2.0) - present, -2 * classes[0, place].log_softmax(0)[0], atol=1e-5)
    one, other = placed[0, place], labels[0, 0, 1:]
    low, high = (torch.stack([one, other])[:, :2] + side * torch.stack([one, other])[:, 2:] / 2 for side in (-1, 1))
    across = ((high.amax(0) - low.amin(0))**2).sum()
    distance = plain_iou(one.tolist(), other.tolist()) - ((one - other)[:2]**2).sum() / across
    assert torch.isclose(loss(box=1.0) - present, 1 - distance, atol=1e-5)
    empty = sum(torch.nn.functional.softplus(value) for number, value in enumerate(objectness[0]) if number != place
                and plain_iou(placed[0, number].tolist(), labels[0, 0, 1:].tolist()) <= 0.6)
    assert torch.isclose(loss(empty=0.5) - present, 0.5 * empty, rtol=1e-5)
    # λ: the mean over time steps, each scaled to a whole sample's.
    first = YOLO(weight=0.0)(TASK, 2 * scores[:1], labels)
    last = YOLO(weight=0.0)(TASK, scores, labels)
    assert torch.isclose(YOLO(weight=0.8)(TASK, scores, labels), 0.2 * last + 0.8 * (first + last) / 2)


# Augmentation -----------------------------------------------------------------------------------


def test_boxes_go_where_the_image_goes():
    """Squares are moved, and their boxes are where they are seen then."""
    rng = np.random.default_rng(1)
    images, labels = torch.zeros(40, 40, 60, 1), np.full((40, 2, 5), -1.0, np.float32)
    for number in range(40):
        upper, left = rng.integers(10, 22), rng.integers(15, 37)
        images[number, upper:upper + 8, left:left + 10] = 1
        labels[number, 0] = 1, (left + 5) / 60, (upper + 4) / 40, 10 / 60, 8 / 40
    change = augment.Augment(shift=6.0, scale=0.2, flip=True)
    moved, move = change.moved(images, torch.Generator().manual_seed(1))
    for image, label in zip(moved, move.boxes(torch.from_numpy(labels)), strict=True):
        rows, columns = (image[..., 0] > 0.5).any(1).nonzero()[:, 0], (image[..., 0] > 0.5).any(0).nonzero()[:, 0]
        seen = [(columns[0] + columns[-1] + 1) / 120, (rows[0] + rows[-1] + 1) / 80, len(columns) / 60, len(rows) / 40]
        assert label[0, 0] == 1 and label[1, 0] == -1
        np.testing.assert_allclose(label[0, 1:], seen, atol=1.1 / 40)
    assert (move.boxes(torch.from_numpy(labels))[:, 0] != torch.from_numpy(labels)[:, 0]).any(0)[1:].all()

    frames = images.byte()[:, None].expand(-1, 2, -1, -1, -1)
    moved, move = change.moved_frames(frames, torch.Generator().manual_seed(1))
    for image, label in zip(moved[:, 1], move.boxes(torch.from_numpy(labels)), strict=True):
        rows, columns = image[..., 0].any(1).nonzero()[:, 0], image[..., 0].any(0).nonzero()[:, 0]
        seen = [(columns[0] + columns[-1] + 1) / 120, (rows[0] + rows[-1] + 1) / 80, len(columns) / 60, len(rows) / 40]
        np.testing.assert_allclose(label[0, 1:], seen, atol=1e-6)


def test_a_box_that_leaves_the_image_is_cut_off_or_forgotten():
    move = augment.Move(torch.tensor([False]), torch.ones(1, 2), torch.tensor([[0.25, 0.0]]))
    labels = torch.tensor([[[0, 0.3, 0.5, 0.4, 0.2], [1, 0.2, 0.5, 0.2, 0.2], [-1, 0, 0, 0, 0]]])
    seen = move.boxes(labels)[0]
    torch.testing.assert_close(seen[0], torch.tensor([0, 0.125, 0.5, 0.25, 0.2]))
    assert seen[1, 0] == seen[2, 0] == -1


# Layers and configurations ----------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2))
def test_an_unrolled_convolution_is_the_dense_layer_it_becomes(seed, kernel, stride, padding):
    rng = np.random.default_rng(seed)
    shape, padding = (5, 4, 3), min(padding, kernel - 1)
    weights = rng.integers(-7, 8, (2, 3, kernel, kernel))
    z = torch.from_numpy(rng.integers(0, 2, shape))
    want = torch.nn.functional.conv2d(z.permute(2, 0, 1)[None].double(), torch.from_numpy(weights).double(), None,
                                      stride, padding)[0].permute(1, 2, 0)
    dense = unroll(weights, shape, tuple(want.shape[:2]), stride, padding)
    assert np.array_equal(dense @ z.numpy().ravel(), want.numpy().ravel())

    neuron = Neuron(8, reset="none", fire=Silent())
    layer = SpikingUnrolled(shape, 2, neuron, kernel=kernel, stride=stride, padding=padding, weights=Integer(4),
                            name="last")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.tensor([3.0, -2.0]))
    made = layer.to_layer()
    assert isinstance(made, Dense) and np.array_equal(made.weights, dense)
    _, membranes = layer(z.reshape(1, 1, -1).float(), time_steps=2)
    _, expected = reference.run_layer(made, np.repeat(z.reshape(1, 1, -1).numpy(), 2, 1))
    assert np.array_equal(membranes[:, 0].detach().numpy(), expected[0])


CONFIG = """
readout = "membrane"
[data]
dataset = "voc"
images = { classes = ["red", "blue"], rows = 12, columns = 16 }
[encoder]
kind = "direct"
time_steps = 2
width = 2
[detection]
cells = [3, 4]
anchors = [[0.25, 0.33]]
scale = 24.0
[[layers]]
kind = "conv"
channels = 8
stride = 2
norm = { kind = "batch" }
membrane = { kind = "levels" }
leak = { kind = "shift", shift = 1 }
reset = "zero"
[[layers]]
kind = "conv"
channels = 8
stride = 2
norm = { kind = "batch" }
[[layers]]
kind = "unrolled"
channels = 7
kernel = 3
weights = { kind = "int", width = 4 }
v_width = 10
reset = "none"
fire = { kind = "silent" }
[training]
loss = { kind = "yolo" }
epochs_float = 12
epochs_quantized = 24
batch = 8
rate = 0.03
augment = { shift = 1.0, scale = 0.1, flip = true }
"""


def load(tmp_path, text=CONFIG):
    path = tmp_path / "squares.toml"
    path.write_text(text)
    return configuration.load(path)


@pytest.mark.parametrize("old, new, message", [
    ("[detection]\ncells = [3, 4]\nanchors = [[0.25, 0.33]]\nscale = 24.0\n", "",
     "detection is missing: it says what boxes the last layer predicts, as data set voc has boxes"),
    ('readout = "membrane"', 'readout = "count"', 'detection needs readout "membrane" and a last layer with fire'),
    ('readout = "membrane"', 'readout = "membrane"\nvotes = 2', "detection has no votes, but votes is 2"),
    ('kind = "yolo"', 'kind = "tet"', "detection needs loss yolo, not tet"),
    ("scale = 0.1", "rotate = 5.0", "training.augment: images with boxes can be shifted, scaled and flipped, no more"),
    ("channels = 7", "channels = 8", "The last layer must have 84 neurons, not 96"),
    ('kind = "unrolled"\nchannels = 7\nkernel = 3', "size = 83",
     "size of the last layer must be 84, the logits of boxes in all cells, not 83"),
    ("[[0.25, 0.33]]", "[[0.25]]", r"detection: anchors must be pairs of width and height.*not \[0.25\]"),
    ("rows = 12, ", "", "data.images.rows is missing"),
    ("images = {", "# {", "data: Data set voc needs a table images that says their classes, rows and columns"),
    ('"voc"\nimages = { classes = ["red", "blue"], rows = 12, columns = 16 }', '"digits"',
     "detection is for boxes, which data set digits does not have"),
])
def test_impossible_configurations(tmp_path, old, new, message):
    assert old in CONFIG
    with pytest.raises(SpikeloomError, match=f"squares.toml: {message}"):
        load(tmp_path, CONFIG.replace(old, new))


def test_boxes_are_for_detectors_alone(tmp_path):
    text = CONFIG[CONFIG.index("[[layers]]"):]
    with pytest.raises(SpikeloomError, match="loss yolo is for boxes, which data set digits does not have"):
        load(tmp_path, 'readout = "membrane"\n[encoder]\nkind = "direct"\n' + text)


def test_the_packaged_configurations():
    blood = configuration.load("blood_cells")
    assert blood.task.size == 9 * 12 * 2 * 8 and blood.task.classes == ("RBC", "WBC", "Platelets")
    gen1 = configuration.load("gen1")
    assert gen1.input.shape == (120, 152, 2) and gen1.task.size == 6 * 8 * 2 * 7
    assert [layer.membrane.kind for layer in gen1.layers[:-1]] == ["levels"] * 16


# End to end -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a small detector's run, by the verbs alone, and what they printed."""
    folder = tmp_path_factory.mktemp("run")
    write_voc(folder / "data", np.random.default_rng(5), {"train": 96, "val": 24})
    (folder / "squares.toml").write_text(CONFIG)
    out = folder / "run"
    options = ["--data-dir", str(folder / "data")]
    assert cli.main(["train", str(folder / "squares.toml"), "-o", str(out), *options]) == 0
    assert cli.main(["quantize", str(out / "checkpoint.pt"), *options]) == 0
    assert cli.main(["compile", str(out / "network.npz"), "--target", "ulx3s-25f"]) == 0
    return folder, out


def test_a_detector_learns_squares_and_is_the_same_in_gateware(run, capsys):
    folder, out = run
    network = Network.load(out / "network.npz")
    labels = data.samples(network.notes["data"], "test", None, folder / "data")[1]
    inputs, _ = data.samples(network.notes["data"], "test", None, folder / "data")
    task = tasks.of(network)
    assert (task.figure, task.classes) == ("mAP@0.5", ("red", "blue"))
    want = reference.run(network, inputs)
    precision = task.measure(want.scores, labels)
    assert precision == network.notes["accuracy"]["torch"] > 0.5
    assert np.array_equal(model.run(network, inputs).scores, want.scores)

    assert cli.main(["simulate", str(out / "program.npz"), "--backend", "amaranth", "--samples", "2", "--data-dir",
                     str(folder / "data"), "-o", str(out / "simulation.npz")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"amaranth equals the reference on 2 samples: .*, mAP@0.5 \d+\.\d+%", said)
    assert cli.main(["report", str(out), "--data-dir", str(folder / "data")]) == 0
    said = capsys.readouterr().out
    assert f"mAP@0.5, reference {precision:.2%} of 24 samples" in re.sub(" +", " ", said)
    page = (out / "report.html").read_text()
    assert "average precision" in page and "labelled boxes are dotted" in page and "confusion\"" not in page


def test_gateware_of_the_compiled_detector(run):
    _, out = run
    network = Network.load(out / "network.npz")
    inputs = np.random.default_rng(1).integers(0, 4, (2, 2, network.input.size))
    assert backend.verify(compile(network, "ulx3s-25f"), inputs, "amaranth").difference is None


def test_a_run_goes_on_where_it_stopped(run, tmp_path):
    from spikeloom.training import train

    folder, _ = run
    config = load(tmp_path, CONFIG.replace("epochs_float = 12", "epochs_float = 1").replace(
        "epochs_quantized = 24", "epochs_quantized = 1").replace('"voc"', '"voc"\nvalidation = 0.25'))
    whole = train.load(train.train(config, tmp_path / "whole", data_dir=folder / "data", progress=False))
    path = tmp_path / "parts" / "checkpoint.pt"

    class Interrupted(Exception):
        pass

    saved = train.save

    def save(state, path):
        saved(state, path)
        if state.epoch == 1:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(train, "save", save)
        train.train(config, tmp_path / "parts", data_dir=folder / "data", progress=False)
    parts = train.load(train.train(config, tmp_path / "parts", data_dir=folder / "data", progress=False))
    assert path.exists() and parts.accuracy == whole.accuracy
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)


def test_without_pycocotools(monkeypatch):
    import builtins

    found = builtins.__import__

    def missing(name, *args, **options):
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError(name=name)
        return found(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SpikeloomError, match=r'not installed: pip install "spikeloom\[detection\]"'):
        TASK.check()
