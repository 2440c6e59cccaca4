"""Loaders: what they return, and one clear line for everything that can be wrong with a file."""

import gzip
import re

import numpy as np
import pytest
from spikeloom import data
from spikeloom.errors import SpikeloomError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
         "t10k-labels-idx1-ubyte")


def idx(array):
    shape = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def write_mnist(folder, *, zipped=False, dotted=False):
    """A tiny MNIST in ``folder``: 30 training and 20 test samples; returns its arrays by file name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name in FILES:
        count = 30 if name.startswith("train") else 20
        array = rng.integers(0, 256, (count, 28, 28)) if "images" in name else rng.integers(0, 10, count)
        arrays[name] = array.astype(np.uint8)
        content = idx(arrays[name])
        path = folder / (name.replace("-idx", ".idx") if dotted else name)
        if zipped:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("inner", ["", "fashion_mnist"])
def test_idx_files_are_found_and_read(tmp_path, zipped, dotted, inner):
    arrays = write_mnist(tmp_path / inner, zipped=zipped, dotted=dotted)
    images, labels = data.load("fashion_mnist", "test", tmp_path)
    np.testing.assert_array_equal(images, arrays[FILES[2]].reshape(20, 784), strict=True)
    np.testing.assert_array_equal(labels, arrays[FILES[3]].astype(np.int64), strict=True)
    assert len(data.load("fashion_mnist", "train", tmp_path)[0]) == 30
    notes = {"dataset": "fashion_mnist", "encoder": {"kind": "latency", "time_steps": 4}}
    assert data.samples(notes, "train", 7, tmp_path)[0].shape == (7, 4, 784)


def test_digits_are_split_once_and_for_all():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (train[0].shape, test[0].shape) == ((1347, 64), (450, 64))
    assert train[0].dtype == np.uint8
    assert train[1].dtype == np.int64
    assert (train[0].min(), train[0].max()) == (0, 255)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    joined = np.concatenate([np.c_[train[0], train[1]], np.c_[test[0], test[1]]])
    everything = np.c_[np.rint(images * 255 / 16), labels].astype(np.int64)
    order = np.lexsort(joined.T), np.lexsort(everything.T)
    np.testing.assert_array_equal(joined[order[0]], everything[order[1]])
    again = data.load("digits", "test")
    np.testing.assert_array_equal(again[0], test[0])
    assert test[1][:8].tolist() == again[1][:8].tolist()
    assert np.bincount(test[1], minlength=10).min() > 20


def test_samples_are_rebuilt_from_the_notes():
    notes = {"dataset": "digits", "encoder": {"kind": "direct", "time_steps": 3, "width": 2}}
    inputs, labels = data.samples(notes, "test", 5)
    images, expected = data.load("digits", "test")
    assert inputs.dtype == np.int64
    np.testing.assert_array_equal(inputs, np.repeat(images[:5, None] >> 6, 3, axis=1))
    np.testing.assert_array_equal(labels, expected[:5])
    assert len(data.samples(notes, "train")[0]) == 1347


@pytest.mark.parametrize(("notes", "count", "message"), [
    ({}, 1, "The network does not say how its data was encoded (KeyError: 'encoder')"),
    ({"dataset": "digits", "encoder": {"kind": "odd"}}, 1,
     "The network does not say how its data was encoded (KeyError: 'odd')"),
    ({"dataset": "letters", "encoder": {"kind": "rate"}}, 1,
     f"Data set must be one of {', '.join(data.DATASETS)}, not 'letters'"),
    ({"dataset": "digits", "encoder": {"kind": "rate"}}, 451,
     "Samples of the test split of digits must be between 1 and 450, not 451"),
])
def test_samples_says_what_is_wrong(notes, count, message):
    with pytest.raises(SpikeloomError) as error:
        data.samples(notes, "test", count)
    assert str(error.value) == message


def damage(name, change):
    def apply(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
    return apply


@pytest.mark.parametrize(("harm", "message"), [
    (damage(FILES[0], lambda content: content[:-1]),
     "train-images-idx3-ubyte: must have 23536 bytes for shape 30 x 28 x 28, but has 23535"),
    (damage(FILES[0], lambda content: content + b"x"), "but has 23537"),
    (damage(FILES[0], lambda content: content[:7]), "not an IDX file of bytes in 3 dimensions"),
    (damage(FILES[0], lambda content: b""), "it begins with nothing, not 00 00 08 03"),
    (damage(FILES[0], lambda content: b"\x00\x00\x08\x01" + content[4:]),
     "it begins with 00 00 08 01, not 00 00 08 03"),
    (damage(FILES[0], lambda content: gzip.compress(content)[:-20]),
     "cannot be read, truncated or corrupted"),
    (damage(FILES[0], lambda content: b"\x1f\x8b" + content), "cannot be read, truncated or corrupted"),
    (damage(FILES[0], lambda content: content[:4] + b"\xff" * 12 + content[16:]), "for shape 4294967295 x"),
    (damage(FILES[0], lambda content: idx(np.zeros((30, 8, 8), np.uint8))),
     "images must have 28 x 28 pixels, not 8 x 8"),
    (damage(FILES[1], lambda content: idx(np.zeros(29, np.uint8))),
     "train-labels-idx1-ubyte: has 29 labels for the 30 images of train-images-idx3-ubyte"),
    (damage(FILES[1], lambda content: idx(np.full(30, 10, np.uint8))),
     "labels must be below 10, but one is 10"),
    (lambda folder: (folder / FILES[1]).unlink(),
     "lacks train-labels-idx1-ubyte (plain or .gz), which mnist needs"),
])
def test_a_bad_file_is_told_in_one_line(tmp_path, harm, message):
    write_mnist(tmp_path)
    harm(tmp_path)
    with pytest.raises(SpikeloomError, match=re.escape(message)) as error:
        data.load("mnist", "train", tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_told_with_what_belongs_there(tmp_path):
    for folder, start in ((None, "Data set mnist needs a data directory: "),
                          (tmp_path / "absent", f"{tmp_path / 'absent'}: no such folder; for mnist give "),
                          (tmp_path, f"{tmp_path}: has no mnist files; give ")):
        with pytest.raises(SpikeloomError) as error:
            data.load("mnist", "test", folder)
        assert str(error.value) == start + (
            "the folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            "t10k-labels-idx1-ubyte (plain or .gz; they are not downloaded)")


def test_unknown_names_are_told():
    with pytest.raises(SpikeloomError, match="Split must be one of train, test, not 'valid'"):
        data.load("digits", "valid")
    with pytest.raises(SpikeloomError, match="Data set must be one of digits, mnist, .*, not 'x'"):
        data.load("x", "test")
