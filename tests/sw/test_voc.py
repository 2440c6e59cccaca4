"""Images with boxes from files as Pascal VOC has them, whole and damaged."""

import re
import tarfile

import numpy as np
import pytest
from PIL import Image
from spikeloom import data
from spikeloom.data import voc
from spikeloom.errors import SpikeloomError
from voc_files import annotation, write_voc

IMAGES = voc.Images(("red", "blue"), 12, 16)


@pytest.fixture
def folder(tmp_path):
    write_voc(tmp_path / "cells", np.random.default_rng(1), {"train": 5, "val": 3})
    return tmp_path / "cells"


def boxes(objects, size=(24, 32)):
    """Rows of labels for objects in pixels of an image of ``size``."""
    rows, columns = size
    return np.array([(IMAGES.classes.index(name), (left + right) / 2 / columns, (upper + lower) / 2 / rows,
                      (right - left) / columns, (lower - upper) / rows)
                     for name, left, upper, right, lower in objects], np.float32)


def test_every_box_of_each_list(tmp_path):
    written = write_voc(tmp_path, np.random.default_rng(2), {"train": 6, "val": 4})
    for split, name in (("train", "train"), ("test", "val")):
        found = voc.load(IMAGES, split, tmp_path)
        assert found.images.shape == (len(written[name]), 12 * 16 * 3) and found.images.dtype == np.uint8
        assert found.labels.dtype == np.float32 and found.dropped == 0
        for image, labels, objects in zip(found.images, found.labels, written[name].values(), strict=True):
            np.testing.assert_array_equal(labels[:len(objects)], boxes(objects))
            assert (labels[len(objects):, 0] == -1).all()
            colors = image.reshape(12, 16, 3).max((0, 1)) > 0
            names = {each[0] for each in objects}
            assert colors.tolist() == ["red" in names, False, "blue" in names]


def test_pixels_are_means_of_the_blocks_they_were(tmp_path):
    write_voc(tmp_path, np.random.default_rng(3), {"train": 1, "val": 1})
    path, = (tmp_path / "JPEGImages").glob("image_0*")
    pixels = np.random.default_rng(4).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    image = voc.load(voc.Images(("red",), 12, 16), "train", tmp_path, 1).images[0].reshape(12, 16, 3)
    assert np.abs(image - pixels.reshape(12, 2, 16, 2, 3).mean((1, 3))).max() <= 1  # rows and columns are rounded each
    grey = voc.load(voc.Images(("red",), 12, 16, grey=True), "train", tmp_path, 1).images
    assert grey.shape == (1, 12 * 16)


def test_an_archive_and_the_folders_around(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    outside = tmp_path_factory.mktemp("outside")
    path = outside / "cells.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "devkit/CELLS")
    want = voc.load(IMAGES, "train", folder)
    for place in (path, folder.parent):
        seen = voc.load(IMAGES, "train", place)
        assert np.array_equal(seen.images, want.images) and np.array_equal(seen.labels, want.labels)


def test_boxes_without_area_and_of_other_names_are_left_out(folder):
    name = (folder / "ImageSets/Main/train.txt").read_text().split()[0]
    (folder / f"Annotations/{name}.xml").write_text(annotation(32, 24, [
        ("red", 4, 4, 4, 10), ("blue", 9, 9, 5, 12), ("red", -3, 2, 8, 30), ("green", 1, 1, 5, 5)]))
    found = voc.load(IMAGES, "train", folder, 1)
    assert found.dropped == 2
    np.testing.assert_array_equal(found.labels[0], boxes([("red", 0, 2, 8, 24)]))


def test_as_a_data_set(folder):
    dataset = data.find("voc", IMAGES)
    assert (dataset.shape, dataset.classes, dataset.names) == ((12, 16, 3), 2, ("red", "blue"))
    images, labels = data.load(dataset, "train", folder, None, 2)
    assert len(images) == len(labels) == 2
    description = {"dataset": "voc", "encoder": {"kind": "direct", "time_steps": 2, "width": 4},
                   "images": {"classes": ["red", "blue"], "rows": 12, "columns": 16, "grey": False}}
    inputs, again = data.samples(description, "train", 2, folder)
    assert inputs.shape == (2, 2, 12 * 16 * 3) and np.array_equal(again, labels)
    assert np.array_equal(inputs[:, 0], images.astype(int) >> 4)


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "Annotations/image_1.xml").write_text("<annotation><size>"),
     r"image_1.xml: not an annotation of Pascal VOC, truncated or corrupted \(no element found.*"),
    (lambda folder: (folder / "Annotations/image_1.xml").write_text("<annotation/>"),
     r"image_1.xml: lacks size/width, size/height, or an object's name or bndbox"),
    (lambda folder: (folder / "Annotations/image_1.xml").write_text(annotation(0, 24, [])),
     r"image_1.xml: not an annotation .*its size must be positive, not 0 x 24\)"),
    (lambda folder: (folder / "Annotations/image_1.xml").write_text(annotation(32, 24, [("red", 1, "two", 3, 4)])),
     r"image_1.xml: not an annotation .*could not convert string to float: 'two'\)"),
    (lambda folder: (folder / "Annotations/image_1.xml").unlink(), "image_1.xml: no such file"),
    (lambda folder: (folder / "JPEGImages/image_1.png").unlink(), r".*has no image image_1 \(.jpg, .jpeg or .png\)"),
    (lambda folder: (folder / "JPEGImages/image_1.png").write_bytes(b"no image"),
     r"image_1.png: cannot be read as an image, truncated or corrupted \(.*"),
    (lambda folder: (folder / "JPEGImages/image_1.png").write_bytes(
        (folder / "JPEGImages/image_1.png").read_bytes()[:60]),
     r"image_1.png: cannot be read as an image, truncated or corrupted \(.*"),
    (lambda folder: (folder / "ImageSets/Main/train.txt").write_text("\n"), "train.txt: lists no images"),
    (lambda folder: (folder / "ImageSets/Main/train.txt").unlink(), "train.txt: cannot be read: No such file.*"),
    (lambda folder: (folder / "ImageSets/Main").rename(folder / "lists"),
     ".*has no images with boxes; give a folder with Annotations, JPEGImages, ImageSets/Main.*"),
])
def test_damaged_files_are_told_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(SpikeloomError) as error:
        voc.load(IMAGES, "train", folder)
    assert re.search(rf"{message}$", str(error.value)) and "\n" not in str(error.value)


def test_what_is_not_there(folder, tmp_path):
    with pytest.raises(SpikeloomError, match="no object is called 'rde'; there are blue, red"):
        voc.load(voc.Images(("rde",), 12, 16), "train", folder)
    with pytest.raises(SpikeloomError, match="no such folder"):
        voc.load(IMAGES, "train", tmp_path / "none")
    with pytest.raises(SpikeloomError, match="Images with boxes need a data directory"):
        voc.load(IMAGES, "train", None)
    with pytest.raises(SpikeloomError, match=r"rows must be between 1 and 2048 pixels, not 0"):
        voc.Images(("red",), 0, 16)
    with pytest.raises(SpikeloomError, match=r"classes must be names that differ, not \['red', 'red'\]"):
        voc.Images(("red", "red"), 12, 16)
    with pytest.raises(SpikeloomError, match="Data set voc needs a table images"):
        data.find("voc")
    with pytest.raises(SpikeloomError, match="Data set digits has images of its own"):
        data.find("digits", IMAGES)
