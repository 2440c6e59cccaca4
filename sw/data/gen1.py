"""Prophesee's Gen1 automotive recordings with boxes: ``NAME_td.dat`` and ``NAME_bbox.npy``.

A sample is a moment of a recording at which there are boxes, with the events of the time steps that end there. As is
usual for this data set, boxes of the first half second do not count, nor do small ones, whose diagonal is below 30
pixels or one of whose sides is below 10. Boxes end where the sensor does.

A .dat file has lines that begin with %, a byte for the type of its events and one for their size, 8, and then the
events: uint32 time in microseconds, and uint32 with 14 bits of the column, 14 bits of the row and 4 bits of the
polarity, lowest first. A .npy file has an array of structures with fields t or ts (microseconds), x and y (left,
upper), w, h (pixels) and class_id (0 is a car, 1 a pedestrian).
"""

from __future__ import annotations

import bisect
from pathlib import Path

import numpy as np
from spikeloom.errors import SpikeloomError

from . import events
from .voc import padded

CLASSES = ("car", "pedestrian")
SPLITS = {"train": "train", "test": "test"}
EVENTS, BOXES = "_td.dat", "_bbox.npy"

#: Microseconds at the beginning of a recording whose boxes do not count; the least diagonal and side in pixels.
SKIPPED, LEAST_DIAGONAL, LEAST_SIDE = 500_000, 30, 10

RAW = np.dtype([("t", "<u4"), ("place", "<u4")])
COLUMN_BITS, ROW_BITS = 14, 14

#: Types of events that say where something changed.
TYPES = (0, 12)


class Moments:
    """A split: moments with boxes, as `spikeloom.data.events.frames` takes recordings.

    Attributes
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    folder : path
    files : list of path
        that all of this comes from
    labels : float32 (n, boxes, 5)
        as `spikeloom.detection.Detection` has them
    """

    def __init__(self, dataset, split, folder):
        self.dataset, self.split, self.folder = dataset, split, folder
        rows, columns, _ = dataset.shape
        self.files, self._moments, labels = [], [], []
        for path in sorted(folder.glob(f"*{EVENTS}")):
            boxes_path = path.with_name(path.name.removesuffix(EVENTS) + BOXES)
            self.files += [path, boxes_path]
            times, boxes = read_boxes(boxes_path, rows, columns)
            for time in np.unique(times):
                self._moments.append((path, int(time)))
                labels.append(boxes[times == time])
        if not labels:
            raise SpikeloomError(f"{folder}: has no recordings with boxes that count ({'*' + EVENTS}, {'*' + BOXES})")
        self.labels = padded(labels)
        order = np.random.default_rng(events.SHUFFLE_SEED).permutation(len(labels))
        self.labels, self._moments = self.labels[order], [self._moments[index] for index in order]

    def __len__(self):
        return len(self._moments)

    def frames(self, index, encoder):
        """Frames (time steps, n_in) uint8 of what came before one moment, as ``encoder`` makes them."""
        path, end = self._moments[index]
        length = encoder.window * encoder.time_steps
        return encoder.frames(read_events(path, end - length, end, self.dataset.shape), self.dataset.shape,
                              end - length)


def moments(dataset, split, data_dir, encoder):
    """The `Moments` of a split, for ``encoder`` (`spikeloom.data.encode.Frames`), whose windows must be fixed.

    ``data_dir``: the folder with ``train`` and ``test``, or one that has it at most two levels down.

    Raises `SpikeloomError` when something is missing or not what it should be.
    """
    if not encoder.window:
        raise SpikeloomError(f"Data set {dataset.name} needs frames of a fixed window in microseconds, as they end "
                             "where its boxes are")
    wanted = f"the folder with {' and '.join(SPLITS.values())}, each of *{EVENTS} and *{BOXES}"
    if data_dir is None:
        raise SpikeloomError(f"Data set {dataset.name} needs a data directory: {wanted} (it is not downloaded)")
    root = Path(data_dir)
    if not root.is_dir():
        raise SpikeloomError(f"{root}: no such folder; for {dataset.name} give {wanted}")
    for folder in (root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))):
        if any((folder / SPLITS[split]).glob(f"*{EVENTS}")):
            return Moments(dataset, split, folder / SPLITS[split])
    raise SpikeloomError(f"{root}: has no {split} split of {dataset.name}; give {wanted}")


def read_boxes(path, rows, columns):
    """Times int64 (n,) and labels (n, 5) of class, x, y, w, h of the boxes in a file that count, on a sensor of so many
    pixels."""
    if not path.is_file():
        raise SpikeloomError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            raw = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpikeloomError(f"{path}: cannot be read as .npy, truncated or corrupted ({error})") from None
    names = raw.dtype.names or ()
    time = next((name for name in ("t", "ts") if name in names), "t")
    lacking = [name for name in (time, "x", "y", "w", "h", "class_id") if name not in names]
    if lacking:
        raise SpikeloomError(f"{path}: boxes have no field {lacking[0]}")
    x, y, w, h = (raw[name].astype(np.float64) for name in ("x", "y", "w", "h"))
    kind, times = raw["class_id"].astype(np.int64), raw[time].astype(np.int64)
    if len(kind) and not 0 <= kind.min() <= kind.max() < len(CLASSES):
        raise SpikeloomError(f"{path}: classes must be below {len(CLASSES)}, but one is {kind.max()}")
    left, right = (np.clip(each / columns, 0, 1) for each in (x, x + w))
    upper, lower = (np.clip(each / rows, 0, 1) for each in (y, y + h))
    labels = np.stack([kind, (left + right) / 2, (upper + lower) / 2, right - left, lower - upper], 1)
    counts = ((times >= SKIPPED) & (np.minimum(w, h) >= LEAST_SIDE) & (np.hypot(w, h) >= LEAST_DIAGONAL)
              & (right > left) & (lower > upper))
    return times[counts], labels[counts]


def read_events(path, begin, end, shape):
    """The events of a file, an array of `spikeloom.data.events.EVENT`, from ``begin`` to before ``end`` (microseconds),
    on a sensor of a ``shape``. No others are read."""
    raw = _mapped(path)
    first, last = (bisect.bisect_left(raw, time, key=lambda event: int(event["t"])) for time in (begin, end))
    raw = raw[first:last]
    if (np.diff(raw["t"].astype(np.int64)) < 0).any():
        raise SpikeloomError(f"{path}: corrupted, as its events are not in the order of time")
    found = np.zeros(len(raw), events.EVENT)
    place = raw["place"]
    found["t"], found["x"] = raw["t"], place & (2**COLUMN_BITS - 1)
    found["y"], found["p"] = place >> COLUMN_BITS & (2**ROW_BITS - 1), place >> COLUMN_BITS + ROW_BITS
    return events.ordered(found, shape, path)[0]


def _mapped(path):
    """All events of a file, mapped into memory."""
    try:
        with path.open("rb") as file:
            while (begin := file.read(1)) == b"%":
                file.readline()
            head = begin + file.read(1)
            start = file.tell()
        size = path.stat().st_size - start
        if len(head) < 2 or head[0] not in TYPES or head[1] != RAW.itemsize:
            raise SpikeloomError(f"{path}: must have events of type {' or '.join(map(str, TYPES))} and {RAW.itemsize} "
                                 f"bytes behind its header, but has {head.hex(' ') or 'nothing'}")
        if size % RAW.itemsize:
            raise SpikeloomError(f"{path}: truncated, as {size} bytes of events are no multiple of {RAW.itemsize}")
        return np.memmap(path, RAW, "r", start) if size else np.zeros(0, RAW)
    except OSError as error:
        raise SpikeloomError(f"{path}: cannot be read: {error.strerror}") from None
