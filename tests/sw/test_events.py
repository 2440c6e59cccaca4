"""Recordings: every format read back, frames as counted one event at a time, splits, the cache, and what is refused."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import event_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from spikeloom import data
from spikeloom.data import events
from spikeloom.data.encode import Frames
from spikeloom.data.events import EVENT
from spikeloom.errors import SpikeloomError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spikeloom"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def counted(encoder, recorded, shape, start=None):
    """Frames of a recording, event after event."""
    rows, columns, channels = encoder.input_format(shape).shape
    frames = np.zeros((encoder.time_steps, rows, columns, channels), int)
    first = start if start is not None else recorded[0]["t"] if len(recorded) else 0
    length = recorded[-1]["t"] - first + 1 if len(recorded) else 0
    kept, last = [], {}
    for event in recorded:
        x, y, t = int(event["x"]), int(event["y"]), int(event["t"])
        near = [last.get(place) for place in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1))]
        if not encoder.denoise or any(when is not None and t - when < encoder.denoise for when in near):
            kept.append(event)
        last[x, y] = t
    for number, event in enumerate(kept):
        if encoder.slicing == "count":
            frame = number * encoder.time_steps // len(kept)
        elif encoder.window:
            frame = (event["t"] - first) // encoder.window
        else:
            frame = (event["t"] - first) * encoder.time_steps // length
        if frame < encoder.time_steps:
            part, whole = (encoder.rows, shape[0]) if encoder.rows else (1, encoder.downsample)
            frames[frame, event["y"] * part // whole, event["x"] * part // whole, event["p"]] += 1
    return np.minimum(frames, 2**encoder.width - 1).reshape(encoder.time_steps, -1)


# Frames -----------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    shape = draw(st.sampled_from([(1, 1, 1), (1, 20, 1), (5, 7, 2), (12, 9, 2)]))
    slicing = draw(st.sampled_from(["time", "count", "window"]))
    rows = draw(st.integers(0, shape[0]))
    encoder = Frames(draw(st.integers(1, 9)), "count" if slicing == "count" else "time",
                     draw(st.integers(1, 60)) if slicing == "window" else 0, draw(st.integers(1, 8)),
                     1 if rows else draw(st.integers(1, 5)), draw(st.sampled_from([0, 0, 1, 20])), rows)
    duration = draw(st.sampled_from([1, 3, 200]))
    recorded = event_files.recording(np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
                                     draw(st.sampled_from([0, 1, 2, 5, 300])), shape, duration)
    recorded["t"] += draw(st.sampled_from([0, 5, 2**40]))
    start = int(recorded["t"].min(initial=2**41)) - draw(st.integers(0, 50)) if draw(st.booleans()) else None
    return encoder, recorded, shape, start


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(cases())
def test_frames_are_counts_of_events(case):
    encoder, recorded, shape, start = case
    before = recorded.copy()
    frames = encoder.frames(recorded, shape, start)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, counted(encoder, recorded, shape, start))
    np.testing.assert_array_equal(recorded, before)


def test_no_event_is_lost_and_none_overflows():
    recorded = np.zeros(70_000, EVENT)  # more than an int16 counts
    recorded["t"] = np.arange(len(recorded))
    assert Frames(1, width=8).frames(recorded, (2, 2, 2))[0].tolist() == [255, 0, 0, 0, 0, 0, 0, 0]
    few = event_files.recording(np.random.default_rng(1), 23, (4, 4, 2), 10)
    for slicing in ("time", "count"):
        for time_steps in (1, 7, 23, 60):
            assert Frames(time_steps, slicing, width=8).frames(few, (4, 4, 2)).sum() == 23


def test_equal_counts_are_equal_within_one():
    recorded = event_files.recording(np.random.default_rng(1), 1003, (4, 4, 2))
    counts = Frames(10, "count", width=8).frames(recorded, (4, 4, 2)).sum(1)
    assert sorted(counts.tolist()) == [100] * 7 + [101] * 3


def test_frames_are_the_same_after_encoding():
    frames = np.ones((3, 4, 8), np.uint8)
    assert Frames(4)(frames) is frames


@pytest.mark.parametrize(("options", "message"), [
    ({"time_steps": 0}, "time_steps must be between 1 and 65535, not 0"),
    ({"slicing": "length"}, "slicing must be one of time, count, not 'length'"),
    ({"window": -1}, "window must be between 0 and 2147483647 microseconds, not -1"),
    ({"width": 9}, "width must be between 1 and 8 bits, not 9"),
    ({"downsample": 0}, "downsample must be between 1 and 32, not 0"),
    ({"denoise": -1}, "denoise must be between 0 and 2147483647 microseconds, not -1"),
    ({"rows": -1}, "rows must be between 0 and 65536, not -1"),
    ({"rows": 8, "downsample": 2}, "rows cannot be set beside downsample, but are 8 and 2"),
    ({"slicing": "count", "window": 5}, 'window is for slicing "time", not "count"')])
def test_impossible_frames_are_refused(options, message):
    with pytest.raises(SpikeloomError) as error:
        Frames(**options)
    assert str(error.value) == f"Encoder frames: {message}"


# Single files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 700])
def test_a_bin_file_is_read_back(tmp_path, rng, count):
    recorded = event_files.recording(rng, count, (34, 34, 2))
    path = tmp_path / "recording.bin"
    path.write_bytes(event_files.bin_content(recorded))
    found, shape = events.read(path, shape=(34, 34, 2))
    np.testing.assert_array_equal(found, recorded, strict=True)
    assert shape == (34, 34, 2)
    smallest = tuple(int(recorded[name].max(initial=0)) + 1 for name in ("y", "x"))
    assert events.read(path)[1] == (*smallest, 2)


def test_a_bin_file_tells_when_its_clock_wraps(tmp_path, rng):
    recorded = event_files.recording(rng, 6, (34, 34, 2))
    wrap = bytes([0, 240, 0, 0, 0])
    content = event_files.bin_content(recorded)
    path = tmp_path / "recording.bin"
    path.write_bytes(content[:10] + wrap + content[10:20] + wrap + content[20:])
    recorded["t"] += 2**13 * np.array([0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(events.read(path)[0], recorded)


def test_an_aedat4_file_is_read_back(tmp_path, rng):
    recorded = event_files.recording(rng, 2500, (90, 120, 2))
    path = tmp_path / "recording.aedat4"
    path.write_bytes(event_files.aedat4_content(recorded, (90, 120, 2)))
    found, shape = events.read(path)
    np.testing.assert_array_equal(found, recorded, strict=True)
    assert shape == (90, 120, 2)


def test_an_npz_file_holds_one_recording_or_several(tmp_path, rng):
    recorded = event_files.recording(rng, 50, (8, 9, 2))
    small = recorded[["x", "y", "p", "t"]].astype([("x", "u1"), ("y", "u1"), ("p", "u1"), ("t", "<i4")])
    np.savez(tmp_path / "one.npz", events=small)
    found, shape = events.read(tmp_path / "one.npz")
    np.testing.assert_array_equal(found, recorded, strict=True)
    assert shape == (8, 9, 2)
    np.savez(tmp_path / "more.npz", events=small, offsets=[0, 20, 20, 50], shape=[10, 11, 2])
    for number, (first, last) in enumerate([(0, 20), (20, 20), (20, 50)]):
        found, shape = events.read(tmp_path / "more.npz", number)
        np.testing.assert_array_equal(found, recorded[first:last], strict=True)
        assert shape == (10, 11, 2)


def test_events_are_put_in_the_order_of_time(tmp_path, rng):
    recorded = event_files.recording(rng, 200, (8, 9, 2), 100)
    shuffled = rng.permutation(recorded)
    np.savez(tmp_path / "one.npz", events=shuffled)
    ordered = shuffled[np.argsort(shuffled["t"], kind="stable")]
    np.testing.assert_array_equal(events.read(tmp_path / "one.npz")[0], ordered)


def npz(**arrays):
    def write(path):
        with path.open("wb") as file:
            np.savez(file, **arrays)
    return write


SEVEN = event_files.recording(np.random.default_rng(0), 7, (8, 9, 2))
AEDAT4 = event_files.aedat4_content(SEVEN, (8, 9, 2))


@pytest.mark.parametrize(("name", "write", "message"), [
    ("a.raw", None, "a file of events must end in .npz, .bin, .aedat4"),
    ("a.bin", None, "no such file"),
    ("a.bin", lambda path: path.write_bytes(b"1234567"),
     "must have 5 bytes for each event, but has 7; it is truncated or something else"),
    ("a.aedat4", lambda path: path.write_bytes(b""), "not an AEDAT4 file (it begins with nothing)"),
    ("a.aedat4", lambda path: path.write_bytes(AEDAT4[:100]),
     "truncated or corrupted, as its header is no description of streams ("),
    ("a.aedat4", lambda path: path.write_bytes(AEDAT4.replace(b"capture", b"\xffapture")),
     "truncated or corrupted, as its header is no description of streams ("),
    ("a.aedat4", lambda path: path.write_bytes(AEDAT4[:-3]), "cannot be read, truncated or corrupted (RuntimeError: "),
    ("a.aedat4", lambda path: path.write_bytes(AEDAT4.replace(b"EVTS</attr>", b"IMUS</attr>")),
     "cannot be read, truncated or corrupted ("),
    ("a.npz", lambda path: path.write_bytes(b"PK\x03\x04junk"), "cannot be read, truncated or corrupted (BadZipFile: "),
    ("a.npz", npz(samples=SEVEN), "cannot be read, truncated or corrupted (KeyError: "),
    ("a.npz", npz(events=np.array([{}], object)), "cannot be read, truncated or corrupted (ValueError: "),
    ("a.npz", npz(events=np.zeros(3)), "events have no field x"),
    ("a.npz", npz(events=SEVEN[["x", "y", "t"]]), "events have no field p"),
    ("a.npz", npz(events=SEVEN, offsets=[0, 9]), "its offsets must rise from 0 to the number of events, 7"),
    ("a.npz", npz(events=SEVEN, offsets=[0, 5, 3, 7]), "its offsets must rise from 0 to the number of events, 7"),
    ("a.npz", npz(events=SEVEN, shape=[8, 3, 2]), "is outside of the sensor's 8 x 3 x 2"),
    ("a.npz", npz(events=SEVEN, offsets=[7]), "its offsets must rise from 0 to the number of events, 7")])
def test_a_bad_file_is_told_in_one_line(tmp_path, name, write, message):
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(SpikeloomError, match=re.escape(message)) as error:
        events.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_recording_that_is_not_there_is_refused(tmp_path):
    npz(events=SEVEN)(tmp_path / "a.npz")
    for number in (-1, 1):
        with pytest.raises(SpikeloomError, match=f"has 1 recordings, numbered from 0; there is no {number}"):
            events.read(tmp_path / "a.npz", number)


# Data sets --------------------------------------------------------------------------------------


def paths_of(written):
    """Recordings that were written for a data set, by path, and their labels by path."""
    return written, {path: int(re.search(r"(\d+)$", path.parent.name)[0]) for path in written}


def check(name, split, folder, encoder, written, labels):
    """A split holds exactly the recordings ``written``, by path, with ``labels``; the same when asked again."""
    found = events.recordings(data.find(name), split, folder)
    assert sorted(found.files) == sorted(written)
    assert [labels[path] for path in found.files] == found.labels.tolist()
    frames, targets = data.load(name, split, folder, encoder)
    shape = data.find(name).shape
    assert frames.shape == (len(written), encoder.time_steps, encoder.input_format(shape).size)
    assert targets.dtype == np.int64
    np.testing.assert_array_equal(targets, found.labels)
    for index, path in enumerate(found.files):
        np.testing.assert_array_equal(frames[index], counted(encoder, written[path], shape))
    again, _ = data.load(name, split, folder, encoder)
    np.testing.assert_array_equal(again, frames)


@pytest.mark.parametrize("inner", ["NMNIST", "nmnist", ""])
def test_nmnist(tmp_path, cache, rng, inner):
    folder = tmp_path / "data" / inner
    train, labels = paths_of(event_files.write_nmnist(folder, rng, 6))
    held_out = {sorted(path for path in train if labels[path] == digit)[4] for digit in range(10)}
    for split in ("train", "test"):
        check("nmnist", split, tmp_path / "data", Frames(3, width=2),
              {path: train[path] for path in train if (path in held_out) == (split == "test")}, labels)
    test, test_labels = paths_of(event_files.write_nmnist(folder, rng, 2, part="Test"))
    check("nmnist", "test", tmp_path / "data", Frames(3), test, test_labels)
    check("nmnist", "train", tmp_path / "data", Frames(3), train, labels)  # all of them, now that there is a test part


def test_dvsgesture(tmp_path, cache, rng):
    for part, split, users in (("ibmGestureTrain", "train", 2), ("ibmGestureTest", "test", 1)):
        written = event_files.write_dvsgesture(tmp_path, rng, users, part=part)
        check("dvsgesture", split, tmp_path, Frames(4, "count", downsample=4), written,
              {path: int(path.stem) for path in written})


def test_shd(tmp_path, cache, rng):
    for part, split, count in (("shd_train.h5", "train", 50), ("shd_test.h5", "test", 30)):
        written, labels = event_files.write_shd(tmp_path / "SHD", rng, count, part=part)
        encoder = Frames(20, window=14_000, downsample=5)
        frames, found = data.load("shd", split, tmp_path, encoder)
        assert frames.shape == (count, 20, 140)
        expected = [counted(encoder, recorded, (1, 700, 1)) for recorded in written]
        assert sorted(zip(found.tolist(), map(bytes, frames), strict=True)) == sorted(
            zip(labels.tolist(), (bytes(each.astype(np.uint8)) for each in expected), strict=True))
        assert found.tolist() != labels.tolist()
    assert encoder.input_format((1, 700, 1)).shape == (1, 140, 1)


def test_cifar10dvs(tmp_path, cache, rng):
    written = event_files.write_cifar10dvs(tmp_path, rng, 10)
    names = sorted({path.parent.name for path in written})
    labels = {path: names.index(path.parent.name) for path in written}
    for split in ("train", "test"):
        check("cifar10dvs", split, tmp_path, Frames(2, downsample=8),
              {path: written[path] for path in written if path.stem.endswith("_9") == (split == "test")}, labels)


def test_ncaltech101(tmp_path, cache, rng):
    written, labels = paths_of(event_files.write_ncaltech101(tmp_path, rng, 5))
    centred = {}
    for path, recorded in written.items():
        columns, rows = recorded["x"].max() + 1, recorded["y"].max() + 1
        recorded["x"] += (240 - columns) // 2
        recorded["y"] += (180 - rows) // 2
        inside = (recorded["x"] >= 0) & (recorded["x"] < 240) & (recorded["y"] >= 0) & (recorded["y"] < 180)
        centred[path] = recorded[inside]
    assert min(map(len, centred.values())) < 30
    for split in ("train", "test"):
        check("ncaltech101", split, tmp_path, Frames(2, "count", downsample=10),
              {path: centred[path] for path in centred if (path.stem == "image_0004") == (split == "test")}, labels)
    shutil.rmtree(tmp_path / "Caltech101" / "class_007")
    with pytest.raises(SpikeloomError, match="must have 101 classes, but has 100"):
        data.load("ncaltech101", "test", tmp_path, Frames(2))


def test_too_few_to_hold_any_out_is_told(tmp_path, cache, rng):
    event_files.write_nmnist(tmp_path, rng, 4)
    assert len(data.load("nmnist", "train", tmp_path, Frames(1))[1]) == 40
    with pytest.raises(SpikeloomError, match="every 5th recording of a class is the test split of nmnist, but no"):
        data.load("nmnist", "test", tmp_path, Frames(1))


def test_the_first_recordings_are_of_all_classes(tmp_path, cache, rng):
    event_files.write_nmnist(tmp_path, rng, 20, part="Test", events=2)
    event_files.write_nmnist(tmp_path, rng, 1, events=2)
    labels = data.load("nmnist", "test", tmp_path, Frames(1))[1]
    assert len(set(labels[:30].tolist())) >= 8
    assert np.bincount(labels).tolist() == [20] * 10


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_into_the_cache(tmp_path, cache, rng, kind):
    written = event_files.write_nmnist(tmp_path / "made", rng, 1)
    folder = tmp_path / "data"
    folder.mkdir()
    if kind == "zip":  # as tonic names it
        with zipfile.ZipFile(folder / "train.zip", "w") as archive:
            for path in written:
                archive.write(path, path.relative_to(tmp_path / "made"))
    else:
        with tarfile.open(folder / "Train.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "made" / "Train", "Train")
    for _ in range(2):
        found = events.recordings(data.find("nmnist"), "train", folder)
        np.testing.assert_array_equal(
            sorted(bytes(found[index]) for index in range(10)), sorted(map(bytes, written.values())))
    assert len(list(cache.iterdir())) == 1
    with zipfile.ZipFile(folder / "Test.zip", "w") as archive:
        archive.writestr("other/0/1.bin", b"")
    with pytest.raises(SpikeloomError, match=re.escape(f"{folder / 'Test.zip'}: has no Test")):
        data.load("nmnist", "test", folder, Frames(1))
    (folder / "Test.zip").write_bytes(b"PK")
    with pytest.raises(SpikeloomError, match="cannot be read, truncated or corrupted"):
        data.load("nmnist", "test", folder, Frames(1))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(("name", "split", "wanted", "arguments"), [
    ("nmnist", "train", "Train (DIGIT/*.bin)", ", train=True"),
    ("dvsgesture", "test", "ibmGestureTest (USER_LIGHT/CLASS.npy)", ", train=False"),
    ("shd", "train", "shd_train.h5 (spikes/times, spikes/units, labels)", ", train=True"),
    ("cifar10dvs", "test", "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck (*.aedat4)", ""),
    ("ncaltech101", "train", "Caltech101 (CLASS/*.bin)", "")])
def test_what_is_missing_is_told_and_never_downloaded(tmp_path, name, split, wanted, arguments):
    for folder, start in ((None, f"Data set {name} needs a data directory: "),
                          (tmp_path / "absent", f"{tmp_path / 'absent'}: no such folder; for {name} give "),
                          (tmp_path, f"{tmp_path}: has no recordings of {name}; give ")):
        with pytest.raises(SpikeloomError) as error:
            data.load(name, split, folder, Frames(1))
        assert str(error.value) == (
            f"{start}the folder with {wanted}, or an archive of each. Nothing is downloaded by itself; tonic does it "
            f"with: python -c \"import tonic; tonic.datasets.{events.SOURCES[name].tonic}('{folder or 'FOLDER'}'"
            f'{arguments})"')


@pytest.mark.parametrize(("harm", "message"), [
    (lambda folder: (folder / "Train/3/00009.bin").write_bytes(b"1234"),
     "00009.bin: must have 5 bytes for each event, but has 4; it is truncated or something else"),
    (lambda folder: (folder / "Train/3/00009.bin").write_bytes(bytes([34, 0, 0, 0, 0])),
     "00009.bin: event 0 (row 0, column 34, polarity 0) is outside of the sensor's 34 x 34 x 2"),
    (lambda folder: (folder / "Train/3").rename(folder / "Train/three"),
     "not laid out as tonic's NMNIST, DIGIT/*.bin ("),
    (lambda folder: [path.unlink() for path in folder.rglob("*.bin")], "has no recordings of nmnist (DIGIT/*.bin)")])
def test_a_bad_recording_is_told_in_one_line(tmp_path, cache, rng, harm, message):
    event_files.write_nmnist(tmp_path, rng, 1)
    (tmp_path / "Train/3").mkdir(exist_ok=True)
    (tmp_path / "Train/3/00009.bin").write_bytes(b"")
    harm(tmp_path)
    with pytest.raises(SpikeloomError, match=re.escape(message)) as error:
        data.load("nmnist", "train", tmp_path, Frames(1))
    assert "\n" not in str(error.value)


def test_an_encoder_must_suit_the_data():
    with pytest.raises(SpikeloomError) as error:
        data.load("nmnist", "train", None, None)
    assert str(error.value) == "Data set nmnist has events: its encoder must be frames, not None"
    with pytest.raises(SpikeloomError, match=r"^Data set digits has images: its encoder must be direct or rate or "
                       r"latency or [a-z ]+, not frames$"):
        data.find("digits").input_format(Frames(2))
    assert data.find("nmnist").input_format(Frames(2, width=3, downsample=3)).shape == (12, 12, 2)
    assert data.find("cifar10dvs").input_format(Frames(2, rows=48)).shape == (48, 48, 2)
    assert data.find("ncaltech101").input_format(Frames(2, rows=100)).shape == (100, 134, 2)
    with pytest.raises(SpikeloomError, match="Encoder frames: rows must be at most the sensor's 34, not 35"):
        data.find("nmnist").input_format(Frames(2, rows=35))


# The cache --------------------------------------------------------------------------------------


def test_frames_are_made_once(tmp_path, cache, rng, monkeypatch):
    event_files.write_nmnist(tmp_path, rng, 2)
    encoder = Frames(3)
    few, labels = data.load("nmnist", "train", tmp_path, encoder, 4)
    assert (few.shape, labels.shape) == ((4, 3, 2312), (4,))
    assert not cache.exists()  # the rest was not read
    whole, _ = data.load("nmnist", "train", tmp_path, encoder)
    np.testing.assert_array_equal(whole[:4], few)
    monkeypatch.setattr(Frames, "frames", None)
    again, labels = data.load("nmnist", "train", tmp_path, encoder, 15)
    np.testing.assert_array_equal(again, whole[:15])
    assert labels.shape == (15,)
    again[:] = 7  # a private copy
    np.testing.assert_array_equal(data.load("nmnist", "train", tmp_path, encoder)[0], whole)
    for count in (0, 21):
        with pytest.raises(SpikeloomError, match="of the train split of nmnist must be between 1 and 20"):
            data.load("nmnist", "train", tmp_path, encoder, count)


def test_other_frames_are_other_files(tmp_path, cache, rng):
    written = event_files.write_nmnist(tmp_path, rng, 5)
    path = min(written)

    def load(encoder=None, split="train"):
        before = set(cache.glob("*"))
        data.load("nmnist", split, tmp_path, encoder or Frames(3))
        return len(set(cache.glob("*")) - before)

    assert load() == 1
    assert load() == 0
    assert load(split="test") == 1
    for encoder in (Frames(4), Frames(3, "count"), Frames(3, width=2), Frames(3, downsample=2), Frames(3, denoise=9000),
                    Frames(3, window=1000), Frames(3, rows=17)):
        assert load(encoder) == 1
    os.utime(path, ns=(0, 0))
    assert load() == 1
    path.write_bytes(b"")
    os.utime(path, ns=(0, 0))
    assert load() == 1
    path.rename(path.with_name("99999.bin"))
    assert load() == 1


@pytest.mark.parametrize("harm", [lambda content: b"", lambda content: content[:50], lambda content: content[:-1],
                                  lambda content: content.replace(b"|u1", b"|i1"),
                                  lambda content: content.replace(b"20", b"19")])
def test_a_damaged_cache_is_made_again(tmp_path, cache, rng, harm):
    event_files.write_nmnist(tmp_path, rng, 2)
    whole = np.array(data.load("nmnist", "train", tmp_path, Frames(3))[0])
    file, = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(harm(content))
    assert file.read_bytes() != content
    np.testing.assert_array_equal(data.load("nmnist", "train", tmp_path, Frames(3))[0], whole)
    assert file.read_bytes() == content


def test_an_interrupted_run_leaves_nothing(tmp_path, cache, rng, monkeypatch):
    event_files.write_nmnist(tmp_path, rng, 2)
    made = Frames.frames

    def interrupted(self, *arguments, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return made(self, *arguments)

    monkeypatch.setattr(Frames, "frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load("nmnist", "train", tmp_path, Frames(3))
    assert list(cache.iterdir()) == []


def test_samples_are_rebuilt_from_the_notes(tmp_path, cache, rng):
    event_files.write_nmnist(tmp_path, rng, 5)
    notes = {"dataset": "nmnist", "encoder": {"kind": "frames", "time_steps": 3, "slicing": "count", "window": 0,
                                              "width": 4, "downsample": 2, "denoise": 0}}
    for count in (4, None):
        inputs, labels = data.samples(notes, "test", count, tmp_path)
        frames, expected = data.load("nmnist", "test", tmp_path, Frames(3, "count", width=4, downsample=2))
        assert inputs.dtype == np.int64
        np.testing.assert_array_equal(inputs, frames[:count])
        np.testing.assert_array_equal(labels, expected[:count])


def test_the_page_tells_every_field_and_data_set():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text().split("## Event data")[1]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    fields = [field.name for field in dataclasses.fields(Frames) if field.name != "time_steps"]
    assert [name for name, _ in rows] == fields + list(events.SOURCES)
    for name, text in rows[len(fields):]:
        where, shape, classes, test = (cell.strip() for cell in text.split("|"))
        dataset, source = data.find(name), events.SOURCES[name]
        assert shape == " x ".join(map(str, dataset.shape))
        assert classes == str(dataset.classes)
        assert all(part in where for part in (source.train[0], source.train[-1], *source.test))
        assert all(part in test for part in source.test)
        assert (f"every {source.hold_out}th" in test) == (source.hold_out > 0)


# tonic ------------------------------------------------------------------------------------------


def test_tonic_is_imported_only_for_events():
    subprocess.run([sys.executable, "-c", "import sys, spikeloom.data; assert 'tonic' not in sys.modules"], check=True)


def test_without_tonic_the_extra_is_named(tmp_path, rng, monkeypatch):
    event_files.write_nmnist(tmp_path, rng, 1)
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(SpikeloomError) as error:
        data.load("nmnist", "train", tmp_path, Frames(1))
    assert str(error.value) == ("Event data needs the package tonic, which is not installed: "
                                'pip install "spikeloom[events]"')
