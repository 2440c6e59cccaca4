"""Braille letters under a robot's fingertip: spike trains of 12 tactile sensors, from one file, ``braille7.npz``.

The file has ``x`` (recordings, 256, 12), 0 or 1, and ``y`` (recordings,), the number of the letter; ``letters`` (7,)
tells their names. Whatever else is in it is left alone. Each recording is one pass of the finger over one letter, and
no person's; so there is nobody whose recordings have to stay together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from spikeloom.errors import SpikeloomError

from . import events

FILE = "braille7.npz"
STEPS, TAXELS, CLASSES = 256, 12, 7

#: Every so-manieth recording of each letter, in the order of the file, is the test split.
HOLD_OUT = 5


class Trains:
    """A split, as `spikeloom.data.events.frames` takes recordings, in the order of the file, in which letters are
    mixed.

    Attributes
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    folder : path
    files : list of path
        that all of this comes from
    labels : int64 (n,)
    trains : uint8 (n, 256, 12)
    """

    def __init__(self, dataset, split, path):
        self.dataset, self.split, self.folder, self.files = dataset, split, path.parent, [path]
        trains, labels = read(path)
        chosen = events.stratified(range(len(labels)), labels, HOLD_OUT, split)
        if not chosen:
            raise SpikeloomError(f"{path}: every {HOLD_OUT}th recording of a letter is the test split of "
                                 f"{dataset.name}, but no letter has so many")
        self.trains, self.labels = trains[chosen], labels[chosen]

    def __len__(self):
        return len(self.labels)

    def frames(self, index, encoder):
        """Frames (time steps, n_in) uint8 of a recording, as ``encoder`` makes them."""
        return encoder.frames(self.trains[index])


def recordings(dataset, split, data_dir):
    """The `Trains` of a split.

    ``data_dir``: the file, the folder with it, or one that has it in a folder called ``braille``.

    Raises `SpikeloomError` when something is missing or not what it should be.
    """
    wanted = f"the folder with {FILE} (it is not downloaded)"
    if data_dir is None:
        raise SpikeloomError(f"Data set {dataset.name} needs a data directory: {wanted}")
    root = Path(data_dir)
    if not root.exists():
        raise SpikeloomError(f"{root}: no such folder; for {dataset.name} give {wanted}")
    for path in (root / dataset.name / FILE, root / FILE, root):
        if path.is_file():
            return Trains(dataset, split, path)
    raise SpikeloomError(f"{root}: has no recordings of {dataset.name}; give {wanted}")


def read(path):
    """Spike trains uint8 (n, 256, 12) and labels int64 (n,) of a file, both checked."""
    with (events.reading(path, "cannot be read as .npz with x and y, truncated or corrupted"),
          path.open("rb") as file, np.load(file, allow_pickle=False) as archive):  # NumPy would leave the file open
        trains, labels = archive["x"], archive["y"]
    if trains.shape[1:] != (STEPS, TAXELS) or labels.shape != trains.shape[:1]:
        raise SpikeloomError(f"{path}: x and y must have the shapes (n, {STEPS}, {TAXELS}) and (n,), not "
                             f"{trains.shape} and {labels.shape}")
    for name, array, most in (("x", trains, 1), ("y", labels, CLASSES - 1)):
        if array.dtype.kind not in "biu" or not 0 <= array.min(initial=0) <= array.max(initial=0) <= most:
            raise SpikeloomError(f"{path}: {name} must be integers from 0 to {most}")
    return trains.astype(np.uint8), labels.astype(np.int64)
