"""Gen1 recordings with boxes from files in their original format, whole and damaged."""

import re

import numpy as np
import pytest
from event_files import recording
from spikeloom import data
from spikeloom.data import gen1
from spikeloom.data.encode import Frames
from spikeloom.errors import SpikeloomError

pytest.importorskip("tonic")

HEADER = b"% Data file containing CD events.\n% Version 2\n% Date 2017-3-30 12:53:58\n% Height 240\n% Width 304\n"
SHAPE = 240, 304, 2
BOX = [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"),
       ("confidence", "<f4"), ("track_id", "<u4")]
ENCODER = Frames(3, window=40_000, width=4, downsample=4)


def dat(events, head=b"\x00\x08"):
    """What a .dat file holds: header, type and size, 8 bytes an event."""
    raw = np.zeros(len(events), [("t", "<u4"), ("word", "<u4")])
    raw["t"] = events["t"]
    raw["word"] = events["x"] | events["y"] << 14 | events["p"].astype(np.uint32) << 28
    return HEADER + head + raw.tobytes()


def boxes(*rows, names=BOX):
    """An array of boxes (time, x, y, w, h, class)."""
    found = np.zeros(len(rows), names)
    for number, row in enumerate(rows):
        for name, value in zip([name for name, _ in names], row, strict=False):
            found[number][name] = value
    return found


def write(folder, rng, name="17-03-30_a", split="train", rows=None):
    """A recording of a second and a half, its boxes; the events."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    events = recording(rng, 4000, SHAPE, 1_500_000)
    (folder / split / f"{name}_td.dat").write_bytes(dat(events))
    rows = [(600_000, 10, 20, 60, 40, 0), (600_000, 200, 100, 20, 30, 1), (1_200_000, 290, 10, 40, 40, 0)] \
        if rows is None else rows
    np.save(folder / split / f"{name}_bbox.npy", boxes(*rows))
    return events


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def histogram(events, end, encoder):
    """Counts by position, polarity and time step, one event after the other."""
    side = encoder.downsample
    counts = np.zeros((encoder.time_steps, SHAPE[0] // side, SHAPE[1] // side, 2), int)
    begin = end - encoder.time_steps * encoder.window
    for event in events:
        if begin <= event["t"] < end:
            counts[(event["t"] - begin) // encoder.window, event["y"] // side, event["x"] // side, event["p"]] += 1
    return np.minimum(counts, 2**encoder.width - 1).reshape(encoder.time_steps, -1)


def test_frames_are_histograms_of_what_came_before_each_moment(tmp_path):
    rng = np.random.default_rng(1)
    events = {name: write(tmp_path, rng, name) for name in ("17-03-30_a", "17-03-30_b")}
    frames, labels = data.load("gen1", "train", tmp_path, ENCODER)
    assert frames.shape == (4, 3, 60 * 76 * 2) and labels.shape == (4, 2, 5)
    want = {histogram(each, end, ENCODER).tobytes(): end for each in events.values() for end in (600_000, 1_200_000)}
    ends = [want.pop(frame.astype(int).tobytes()) for frame in frames]
    assert not want and histogram(events["17-03-30_a"], 600_000, ENCODER).sum() > 200
    for end, label in zip(ends, labels, strict=True):
        if end == 600_000:
            np.testing.assert_allclose(label, [(0, 40 / 304, 40 / 240, 60 / 304, 40 / 240),
                                               (1, 210 / 304, 115 / 240, 20 / 304, 30 / 240)], rtol=1e-6)
        else:  # cut off where the sensor ends
            np.testing.assert_allclose(label[0], (0, 297 / 304, 30 / 240, 14 / 304, 40 / 240), rtol=1e-6)
            assert label[1, 0] == -1
    assert data.find("gen1").names == ("car", "pedestrian")


def test_boxes_that_do_not_count(tmp_path):
    path = tmp_path / "x_bbox.npy"
    kept = (500_000, 0, 0, 30, 10, 1)
    np.save(path, boxes((499_999, 0, 0, 50, 50, 0), (600_000, 0, 0, 60, 9.5, 0), (600_000, 0, 0, 20, 20, 0),
                        (600_000, 310, 0, 60, 60, 0), kept))
    times, labels = gen1.read_boxes(path, 240, 304)
    assert times.tolist() == [500_000]
    np.testing.assert_allclose(labels, [(1, 15 / 304, 5 / 240, 30 / 304, 10 / 240)])


def test_newer_names_of_fields(tmp_path):
    path = tmp_path / "x_bbox.npy"
    np.save(path, boxes((700_000, 1, 2, 60, 40, 0), names=[("t", "<i8"), *BOX[1:6], ("track_id", "<u4"),
                                                           ("class_confidence", "<f4")]))
    assert gen1.read_boxes(path, 240, 304)[0].tolist() == [700_000]


@pytest.mark.parametrize("content, message", [
    (dat(np.zeros(3, [(n, int) for n in "txyp"]))[:-3], "truncated, as 21 bytes of events are no multiple of 8"),
    (dat(np.zeros(3, [(n, int) for n in "txyp"]), b"\x0e\x08"),
     "must have events of type 0 or 12 and 8 bytes behind its header, but has 0e 08"),
    (dat(np.zeros(3, [(n, int) for n in "txyp"]), b"\x00\x10"),
     "must have events of type 0 or 12 and 8 bytes behind its header, but has 00 10"),
    (HEADER, "must have events of type 0 or 12 and 8 bytes behind its header, but has nothing"),
    (dat(np.array([(5, 0, 240, 0)], [(n, int) for n in "txyp"])),
     r"event 0 \(row 240, column 0, polarity 0\) is outside of the sensor's 240 x 304 x 2"),
    (dat(np.array([(5, 0, 0, 2)], [(n, int) for n in "txyp"])),
     r"event 0 \(row 0, column 0, polarity 2\) is outside of the sensor's 240 x 304 x 2"),
])
def test_damaged_events_are_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "x_td.dat"
    path.write_bytes(content)
    with pytest.raises(SpikeloomError) as error:
        gen1.read_events(path, 0, 1000, SHAPE)
    assert re.fullmatch(f"{re.escape(str(path))}: {message}", str(error.value))


def test_events_out_of_order(tmp_path):
    path = tmp_path / "x_td.dat"
    path.write_bytes(dat(np.array([(1, 0, 0, 0), (9, 0, 0, 0), (5, 0, 0, 0), (9, 0, 0, 0)],
                                  [(n, int) for n in "txyp"])))
    with pytest.raises(SpikeloomError, match="corrupted, as its events are not in the order of time"):
        gen1.read_events(path, 0, 1000, SHAPE)


@pytest.mark.parametrize("content, message", [
    (None, "no such file"),
    (b"\x93NUMPY\x01\x00", r"cannot be read as .npy, truncated or corrupted \(.*\)"),
    (boxes((700_000, 1, 2, 60, 40, 2)), "classes must be below 2, but one is 2"),
    (boxes((700_000, 1, 2, 60, 40, 0), names=[*BOX[:3], *BOX[4:]]), "boxes have no field w"),
    (np.zeros(3), "boxes have no field t"),
    (np.array([{}]), r"cannot be read as .npy, .*Object arrays cannot be loaded when allow_pickle=False\)"),
])
def test_damaged_boxes_are_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "x_bbox.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(SpikeloomError) as error:
        gen1.read_boxes(path, 240, 304)
    assert re.fullmatch(f"{re.escape(str(path))}: {message}", str(error.value))


def test_what_is_not_there(tmp_path):
    with pytest.raises(SpikeloomError, match="Data set gen1 needs a data directory: the folder with train and test"):
        data.load("gen1", "train", None, ENCODER)
    with pytest.raises(SpikeloomError, match="has no train split of gen1"):
        data.load("gen1", "train", tmp_path, ENCODER)
    with pytest.raises(SpikeloomError, match="Data set gen1 needs frames of a fixed window in microseconds"):
        data.load("gen1", "train", tmp_path, Frames(3))
    write(tmp_path, np.random.default_rng(1), rows=[])
    with pytest.raises(SpikeloomError, match="has no recordings with boxes that count"):
        data.load("gen1", "train", tmp_path, ENCODER)
