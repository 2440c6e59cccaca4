"""Free Spoken Digits: ``DIGIT_SPEAKER_INDEX.wav``, 8,000 samples per second, mono, 16 bits, in a folder or an archive.

In ``fsdd`` the first five recordings of each digit by each speaker are the test split: 0 to 4, as is official, or where
there is only the training part, which begins with 5, 5 to 9. In ``fsdd_speakers`` every third speaker is.
"""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
from spikeloom.errors import SpikeloomError

from . import events

RATE, BITS, CLASSES = 8000, 16, 10

NAME = re.compile(r"([0-9])_([A-Za-z]\w*)_([0-9]+)\.wav")
PATTERN = "[0-9]_*_[0-9]*.wav"
WANTED = ("the folder with DIGIT_SPEAKER_INDEX.wav, or an archive of it called fsdd….tar.gz or .zip (they are not "
          "downloaded)")
ARCHIVES = ("fsdd*", "free-spoken-digit-dataset*")

#: Recordings of a digit by a speaker that are for testing; and where speakers are held out, every so-manieth one.
TESTED, HELD_OUT = 5, 3


class Sounds:
    """A split, as `spikeloom.data.events.frames` takes recordings, in a fixed shuffled order.

    Attributes
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    folder : path
    files : list of path
        where each is
    labels : int64 (n,)
    """

    def __init__(self, dataset, split, folder):
        self.dataset, self.split, self.folder = dataset, split, folder
        found = []
        for path in folder.glob("*.wav"):
            if not (match := NAME.fullmatch(path.name)):
                raise SpikeloomError(f"{path}: must be called DIGIT_SPEAKER_INDEX.wav, as recordings of {dataset.name}")
            digit, speaker, index = match.groups()
            found.append((speaker, int(digit), int(index), path))
        tested = (_others if dataset.name == "fsdd_speakers" else _first)(found)
        chosen = sorted(each for each in found if (each in tested) == (split == "test"))
        if not chosen:
            raise SpikeloomError(f"{folder}: has too few recordings for a {split} split of {dataset.name}")
        order = np.random.default_rng(events.SHUFFLE_SEED).permutation(len(chosen))
        self.files = [chosen[index][3] for index in order]
        self.labels = np.array([chosen[index][1] for index in order], np.int64)

    def __len__(self):
        return len(self.labels)

    def frames(self, index, encoder):
        """Frames (time steps, n_in) uint8 of a recording, as ``encoder`` makes them."""
        return encoder.frames(read(self.files[index]), RATE)


def _first(found):
    """The first so many recordings of each digit by each speaker."""
    groups = {}
    for each in sorted(found):
        groups.setdefault(each[:2], []).append(each)
    return {each for group in groups.values() for each in group[:TESTED]}


def _others(found):
    """All recordings of every third speaker."""
    speakers = sorted({speaker for speaker, *_ in found})[HELD_OUT - 1::HELD_OUT]
    return {each for each in found if each[0] in speakers}


def recordings(dataset, split, data_dir):
    """The `Sounds` of a split.

    ``data_dir``: the folder with the recordings, one that has it at most two levels down, or has archives of them; or
    one such archive.

    Raises `SpikeloomError` when something is missing or not what it should be.
    """
    if data_dir is None:
        raise SpikeloomError(f"Data set {dataset.name} needs a data directory: {WANTED}")
    root = Path(data_dir)
    if not root.exists():
        raise SpikeloomError(f"{root}: no such folder; for {dataset.name} give {WANTED}")
    archives = [root] if root.is_file() else sorted(
        path for pattern in ARCHIVES for path in root.glob(pattern) if path.name.lower().endswith(events.ARCHIVES))
    folders = [] if root.is_file() else _folders(root)
    if not folders and archives:
        folders = _folders(events.unpacked(archives, [""] * len(archives)))
    if not folders:
        raise SpikeloomError(f"{root}: has no recordings of {dataset.name}; give {WANTED}")
    if len(folders) > 1:
        raise SpikeloomError(f"{root}: has several folders of recordings; give one of {', '.join(map(str, folders))}")
    return Sounds(dataset, split, folders[0])


def _folders(root):
    return sorted(folder for folder in (root, *root.glob("*"), *root.glob("*/*"))
                  if folder.is_dir() and any(folder.glob(PATTERN)))


def read(path):
    """Samples (n,) from -1 to 1 of a recording."""
    with events.reading(path, "cannot be read as WAV, truncated or corrupted"), wave.open(str(path)) as file:
        found = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
        count = file.getnframes()
        content = file.readframes(count)
    if found != (RATE, 1, BITS):
        raise SpikeloomError(f"{path}: must have {RATE} samples per second, 1 channel and {BITS} bits, not "
                             f"{found[0]}, {found[1]} and {found[2]}")
    if not count or len(content) != count * BITS // 8:
        raise SpikeloomError(f"{path}: must have {count or 'any'} samples, but has {len(content) * 8 // BITS}")
    return np.frombuffer(content, "<i2") / 2**(BITS - 1)
