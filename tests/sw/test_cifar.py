"""CIFAR-10 in its original files, whole and damaged; pickles of it that name something else are not obeyed."""

import io
import pickle
import re
import struct
import tarfile
from unittest import mock

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from spikeloom import data
from spikeloom.data import cifar
from spikeloom.errors import SpikeloomError

COUNT = 12
BINARY, PYTHON = cifar.LAYOUTS


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cifar, "IMAGES", COUNT)


def batches(count=COUNT):
    """Planes (count, 3072) and labels of each file, training first."""
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count)) for _ in range(6)]


def binary(images, labels):
    return np.concatenate([labels[:, None].astype(np.uint8), images], 1).tobytes()


def python_2(images, labels, dtype="u1"):
    """As Python 2 and its NumPy wrote batches, in protocol 2: every string is one of bytes."""
    def text(value):
        value = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    kind = b"cnumpy\ndtype\n(" + text(dtype) + number(0) + number(1) + b"tR(" + number(3) + text("|") + b"NNN" + (
        number(-1) * 2 + number(0)) + b"tb"
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text("b") + b"tR("
             + number(1) + number(len(images)) + number(images.shape[1]) + b"\x86" + kind + b"\x89"
             + text(images.tobytes()) + b"tb")
    return (b"\x80\x02}(" + text("batch_label") + text("testing batch 1 of 1") + text("labels") + b"]("
            + b"".join(map(number, labels.tolist())) + b"e" + text("data") + array + text("filenames") + b"]u.")


def python_3(images, labels, protocol=2):
    return pickle.dumps({"labels": labels.tolist(), "data": images, "filenames": ["x.png"] * len(labels)}, protocol)


WRITERS = {"binary": (BINARY, binary), "python 2": (PYTHON, python_2), "python 3, protocol 2": (PYTHON, python_3),
           "python 3, protocol 4": (PYTHON, lambda *batch: python_3(*batch, 4)),
           "columns first": (PYTHON, lambda images, labels: python_3(np.asfortranarray(images), labels, 4))}


def write(folder, layout, writer, change=lambda name, content: content, *, archive=False):
    """All six files in a folder, or in the archive; returns the planes and labels in them."""
    made = batches()
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: change(name, writer(*batch))
                for name, batch in zip(layout.train + layout.test, made, strict=True)}
    if archive:
        with tarfile.open(folder / layout.archive, "w:gz") as file:
            for name, content in contents.items():
                member = tarfile.TarInfo(f"{layout.folder}/{name}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    else:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    return made


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("place", ["", "folder", "cifar10", "archive", "cifar10/archive"])
def test_all_that_is_distributed_is_found_and_read(tmp_path, small, how, place):
    layout, writer = WRITERS[how]
    inner = place.replace("folder", layout.folder).removesuffix("archive")
    made = write(tmp_path / inner, layout, writer, archive=place.endswith("archive"))
    for split, parts in (("train", made[:5]), ("test", made[5:])):
        images, labels = data.load("cifar10", split, tmp_path)
        planes = np.concatenate([images for images, _ in parts]).reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(images.reshape(-1, 32, 32, 3), np.moveaxis(planes, 1, 3), strict=True)
        np.testing.assert_array_equal(labels, np.concatenate([labels for _, labels in parts]), strict=True)
        assert images.flags.writeable and labels.dtype == np.int64


def test_a_file_of_the_real_size(tmp_path):
    (images, labels), *_ = batches(10_000)
    (tmp_path / BINARY.test[0]).write_bytes(binary(images, labels))
    seen, found = data.load("cifar10", "test", tmp_path, count=7)
    assert seen.shape == (7, 3072) and found.tolist() == labels[:7].tolist()
    assert seen[3, (5 * 32 + 6) * 3 + 2] == images[3, 2 * 1024 + 5 * 32 + 6]


def test_colors_enter_a_network_as_channels(tmp_path, small):
    write(tmp_path, BINARY, binary)
    notes = {"dataset": "cifar10", "encoder": {"kind": "direct", "time_steps": 2, "width": 8}}
    inputs, _ = data.samples(notes, "test", 5, tmp_path)
    images, _ = data.load("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(inputs, np.repeat(images[:5, None], 2, 1))
    name, encoder = data.described(notes)
    assert data.find(name).input_format(encoder).shape == (32, 32, 3)


def at(wanted, change):
    return lambda name, content: change(content) if name == wanted else content


class _Call:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


RECORD = 3073
DAMAGED = [
    (BINARY, binary, at("data_batch_3.bin", lambda content: content[:-1]),
     "data_batch_3.bin: must have 36,876 bytes, a label and 3,072 values for each of 12 images, but has 36,875"),
    (BINARY, binary, at("data_batch_3.bin", lambda content: content[RECORD:]), "but has 33,803"),
    (BINARY, binary, at("data_batch_1.bin", lambda content: b"\x0a" + content[1:]),
     "data_batch_1.bin: labels must lie within 0 to 9, not "),
    (PYTHON, python_2, at("data_batch_2", lambda content: content[:-100]), "data_batch_2: not a batch of cifar10, "),
    (PYTHON, python_2, at("data_batch_2", lambda content: b""), "(EOFError: "),
    (PYTHON, python_2, at("data_batch_2", lambda content: b"\x80\x02]."), "data_batch_2: not a batch of cifar10, "),
    (PYTHON, python_2, at("data_batch_2", lambda content: python_2(*batches(11)[1])),
     "data_batch_2: must have 12 images and labels, not 11 and 11"),
    (PYTHON, python_2, at("data_batch_2", lambda content: python_2(batches()[1][0], np.arange(11) % 10)),
     "not 12 and 11"),
    (PYTHON, python_2, at("data_batch_2", lambda content: python_2(batches()[1][0], np.full(12, -1))),
     "data_batch_2: labels must lie within 0 to 9, not -1 to -1"),
    (PYTHON, python_2, at("data_batch_2", lambda content: python_2(*batches()[1], dtype="O8")),
     "its data are not bytes"),
    (PYTHON, python_3, at("data_batch_2", lambda content: python_3(np.zeros((12, 3071), np.uint8), np.zeros(12, int))),
     "its data have shape (12, 3071), not (12, 3072)"),
    (PYTHON, python_3, at("data_batch_2", lambda content: pickle.dumps({"data": batches()[1][0], "labels": "labels"})),
     "data_batch_2: not a batch of cifar10, "),
    (PYTHON, python_3, at("data_batch_2", lambda content: pickle.dumps({"labels": [1] * 12})), "(KeyError: "),
]


@pytest.mark.parametrize(("layout", "writer", "change", "message"), DAMAGED)
@pytest.mark.parametrize("archive", [False, True])
def test_a_damaged_file_is_told_in_one_line(tmp_path, small, layout, writer, change, message, archive):
    write(tmp_path, layout, writer, change, archive=archive)
    with pytest.raises(SpikeloomError, match=re.escape(message)) as error:
        data.load("cifar10", "train", tmp_path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path))


@hypothesis.given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=3),
                  st.sampled_from([python_2, python_3]))
def test_damage_anywhere_is_told_or_harmless(damage, writer):
    (images, labels), *_ = batches(2)
    content = bytearray(writer(images, labels))
    for place, value in damage:  # not in the pixels
        content[place - 500 if place >= 500 else place] = value
    with mock.patch.object(cifar, "IMAGES", 2):
        try:
            images, labels = cifar._read(bytes(content), "batch")
        except SpikeloomError as error:
            assert str(error).startswith("batch: ") and "\n" not in str(error)
        else:
            assert images.shape == (2, 3072) and images.dtype == np.uint8 and labels.max() < 10


@pytest.mark.parametrize("call", [
    _Call(print, "run"), _Call(eval, "print('run')"), _Call(getattr, str, "join"), _Call(np.empty, (2,)),
    _Call(np.frombuffer, b"run", "u1")])
def test_what_a_pickle_names_is_not_called(tmp_path, small, capsys, call):
    batch = {"labels": [0] * COUNT, "data": np.zeros((COUNT, 3072), np.uint8), "filenames": call}
    write(tmp_path, PYTHON, python_2, at("test_batch", lambda content: pickle.dumps(batch, 4)))
    with pytest.raises(SpikeloomError, match=r"test_batch: not a batch of cifar10, .*\(UnpicklingError: it names "):
        data.load("cifar10", "test", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("layout", cifar.LAYOUTS)
def test_what_is_missing_is_told(tmp_path, small, layout):
    name = layout.train[2]
    writer = binary if layout is BINARY else python_2
    write(tmp_path / "plain", layout, writer)
    (tmp_path / "plain" / name).unlink()
    with pytest.raises(SpikeloomError, match=f"plain: lacks {re.escape(name)}, which cifar10 needs"):
        data.load("cifar10", "train", tmp_path / "plain")
    assert len(data.load("cifar10", "test", tmp_path / "plain")[0]) == COUNT
    write(tmp_path / "packed", layout, writer, archive=True)
    path = tmp_path / "packed" / layout.archive
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SpikeloomError, match=f"{layout.archive}: cannot be read, truncated or corrupted"):
        data.load("cifar10", "train", tmp_path / "packed")
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(SpikeloomError, match=f"{layout.archive}: lacks {layout.test[0]}, which cifar10 needs"):
        data.load("cifar10", "test", tmp_path / "packed")


def test_a_missing_folder_is_told_with_what_belongs_there(tmp_path):
    wanted = ("the folder with cifar-10-binary.tar.gz, or data_batch_1.bin to test_batch.bin of it, or "
              "cifar-10-python.tar.gz, or data_batch_1 to test_batch of it (they are not downloaded)")
    for folder, start in ((None, "Data set cifar10 needs a data directory: "),
                          (tmp_path / "absent", f"{tmp_path / 'absent'}: no such folder; for cifar10 give "),
                          (tmp_path, f"{tmp_path}: has no files of cifar10; give ")):
        with pytest.raises(SpikeloomError) as error:
            data.load("cifar10", "train", folder)
        assert str(error.value) == start + wanted
