"""Recordings of events: from single files, and from the data sets that `tonic` reads.

An event is a structure of `EVENT`; a recording is an array of them in the order of their times. A sensor's ``shape`` is
(rows, columns, polarities): of two polarities, 0 is "off" and 1 is "on".
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import files
from .errors import SpikeloomError

#: Column, row, microseconds, polarity.
EVENT = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])

#: Part of every name in the cache: whatever changes the frames that the same recordings give must change it.
CACHE_VERSION = 1
SHUFFLE_SEED = 2024
BIN_EVENT_BYTES = 5
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True)
class Source:
    """What a data set looks like on disk: as `tonic` leaves it when it has downloaded and unpacked it.

    Parameters
    ----------
    tonic : str
        its class in ``tonic.datasets``, which is also the name of the folder that tonic makes for it
    train, test : tuple of str
        folders or files that must be there for a split; no ``test`` where there is no official one
    within : str
        what is in them, in words
    hold_out : int
        where there is no test part, every so-manieth recording of each class, in the order of file names, is the test
        split, and the others are the training split; 0 where the test part is needed
    """

    tonic: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    within: str
    hold_out: int = 0


SOURCES = {
    "nmnist": Source("NMNIST", ("Train",), ("Test",), "with DIGIT/*.bin", 5),
    "dvsgesture": Source("DVSGesture", ("ibmGestureTrain",), ("ibmGestureTest",), "with USER_LIGHT/CLASS.npy"),
    "shd": Source("SHD", ("shd_train.h5",), ("shd_test.h5",), "of spikes, units and labels"),
    "cifar10dvs": Source("CIFAR10DVS", ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                                        "truck"), (), "with *.aedat4", 10),
    "ncaltech101": Source("NCALTECH101", ("Caltech101",), (), "with CLASS/*.bin", 5)}


def tonic():
    """The package `tonic`; raises `SpikeloomError` where it is not installed."""
    try:
        import tonic  # seconds to import
    except ModuleNotFoundError as error:
        raise SpikeloomError(f"Event data needs the package {error.name}, which is not installed: "
                             'pip install "spikeloom[events]"') from None
    return tonic


# Single files -----------------------------------------------------------------------------------


def read(path, recording=0, shape=None):
    """The events of a file, an array (n,) of `EVENT`, and its sensor's shape.

    Parameters
    ----------
    path : path
        ``.bin``: events of N-MNIST's 5 bytes. ``.aedat4``: those of its first stream of events. ``.npz``: array
        ``events``, structured, with fields x, y, p (0 or 1) and t (microseconds) of any integer type; optionally
        ``offsets`` (recordings + 1,), where in ``events`` each of several recordings begins and the last one ends; and
        optionally ``shape`` (rows, columns, polarities)
    recording : int
        which one of several
    shape : (rows, columns, polarities), optional
        the sensor's, for files that do not say it: ``.bin`` and some ``.npz``. By default the smallest that holds all
        events of the recording.

    Raises `SpikeloomError` when the file is absent, damaged, of another kind, has no such recording, or has events
    outside its sensor.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise SpikeloomError(f"{path}: a file of events must end in {', '.join(READERS)}")
    if not path.is_file():
        raise SpikeloomError(f"{path}: no such file")
    with _reading(path):
        recordings, own_shape = READERS[path.suffix](path)
    if not 0 <= recording < len(recordings):
        raise SpikeloomError(f"{path}: has {len(recordings)} recordings, numbered from 0; there is no {recording}")
    return _ordered(recordings[recording], own_shape or shape, path)


def _read_bin(path):
    _check_bin(path)
    return [tonic().io.read_mnist_file(path, dtype=EVENT)], None


def _check_bin(path):
    size = path.stat().st_size
    if size % BIN_EVENT_BYTES:
        raise SpikeloomError(f"{path}: events of {BIN_EVENT_BYTES} bytes each do not make {size} bytes; it is truncated "
                             "or something else")


def _read_aedat4(path):
    aedat4 = tonic().io.read_aedat4(str(path)) if _has_packets(path) else None
    raise NotImplementedError(aedat4)


def _read_npz(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # NumPy would leave the file open
        events = archive["events"]
        offsets = archive["offsets"] if "offsets" in archive else [0, len(events)]
        shape = tuple(map(int, archive["shape"])) if "shape" in archive else None
    if offsets[0] != 0 or offsets[-1] != len(events) or (np.diff(offsets) < 0).any():
        raise ValueError(f"its offsets must rise from 0 to the number of events, {len(events)}")
    return np.split(events, offsets[1:-1]), shape


READERS = {".npz": _read_npz, ".bin": _read_bin, ".aedat4": _read_aedat4}


@contextlib.contextmanager
def _reading(path):
    """Tell in one line what goes wrong inside the block."""
    try:
        yield
    except SpikeloomError:
        raise
    except Exception as error:  # tonic and its decoders raise anything, bare exceptions too
        raise SpikeloomError(f"{path}: cannot be read, truncated or corrupted ({type(error).__name__}: {error})") from None


def _ordered(raw, shape, path):
    """Events of any structure as `EVENT`, in the order of time, and ``shape`` or the smallest that holds them."""
    names = raw.dtype.names or ()
    lacking = [name for name in ("x", "t", "p") if name not in names]
    if lacking:
        raise SpikeloomError(f"{path}: events have no field {lacking[0]}")
    events = np.zeros(len(raw), EVENT)
    for name in names:
        if name in EVENT.names:
            events[name] = raw[name]
    if shape is None:
        shape = tuple(int(events[name].max(initial=0)) + 1 for name in ("y", "x")) + (2,)
    if shape[2] == 1:
        events["p"] = 0
    for name, size in zip(("y", "x", "p"), shape, strict=True):
        outside = np.flatnonzero((events[name] < 0) | (events[name] >= size))
        if len(outside):
            event = events[outside[0]]
            raise SpikeloomError(f"{path}: event {outside[0]} (row {event['y']}, column {event['x']}, polarity "
                                 f"{event['p']}) is outside of the sensor's {' x '.join(map(str, shape))}")
    if (np.diff(events["t"]) < 0).any():
        events = events[np.argsort(events["t"], kind="stable")]
    return events, shape


# Data sets --------------------------------------------------------------------------------------


class Recordings:
    """A split of a data set: ``recordings[i]`` reads the events of one.

    The order is a fixed shuffle, so that the first so many are of all classes.

    Attributes
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    labels : int64 (n,)
    """

    def __init__(self, dataset, split, folder, hold_out):
        raise NotImplementedError

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        raise NotImplementedError


def recordings(dataset, split, data_dir):
    """The `Recordings` of a data set's split.

    Parameters
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    data_dir : path
        a folder with what `SOURCES` says, or one that has it in a folder of tonic's name or ours for the data set.
        An archive of a part, such as Train.tar.gz or shd_train.h5.zip, does too: it is unpacked into the cache.

    Raises `SpikeloomError` when something is missing or not what it should be.
    """
    raise NotImplementedError


def frames(recordings, encoder, count=None):
    """Frames (n, time steps, n_in) uint8 of `Recordings`, as ``encoder`` (`spikeloom.encode.Frames`) makes them.

    All of a split are made once and kept as an ``.npy`` file in `cache`, under a name that depends on the data set, the
    split, the encoder, tonic's version, and name, size and time of every file; a file that is not complete is not used. Files
    there can be deleted at any time.

    ``count`` asks for only the first so many: from the cache if they are there, otherwise no others are read, and nothing
    is kept.
    """
    raise NotImplementedError


def cache():
    """The folder for what can be made again: ``spikeloom`` in $XDG_CACHE_HOME, which is ~/.cache by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikeloom"
