"""Recordings of events: from single files, and from the data sets that `tonic` reads.

An event is a structure of `EVENT`; a recording is an array of them in the order of their times. A sensor's ``shape`` is
(rows, columns, polarities): of two polarities, 0 is "off" and 1 is "on".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from spikeloom import files
from spikeloom.errors import SpikeloomError
from tqdm import tqdm

#: Column, row, microseconds, polarity.
EVENT = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])

#: Part of every name in the cache: whatever changes the frames that the same recordings give must change it.
CACHE_VERSION = 1
SHUFFLE_SEED = 2024
BIN_EVENT_BYTES, AEDAT4_MAGIC = 5, b"#!AER-DAT4.0\r\n"
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True)
class Source:
    """What a data set looks like on disk: what `tonic` makes of it when it downloads it.

    Parameters
    ----------
    tonic : str
        its class in ``tonic.datasets``, and the folder that tonic makes for it
    train, test : tuple of str
        the parts, folders or files, that must be there for a split; no ``test`` where there is no official one
    within : str
        what is in the parts, in words
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
    "nmnist": Source("NMNIST", ("Train",), ("Test",), "DIGIT/*.bin", 5),
    "dvsgesture": Source("DVSGesture", ("ibmGestureTrain",), ("ibmGestureTest",), "USER_LIGHT/CLASS.npy"),
    "shd": Source("SHD", ("shd_train.h5",), ("shd_test.h5",), "spikes/times, spikes/units, labels"),
    "cifar10dvs": Source("CIFAR10DVS", ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                                        "truck"), (), "*.aedat4", 10),
    "ncaltech101": Source("NCALTECH101", ("Caltech101",), (), "CLASS/*.bin", 5)}


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
    with reading(path):
        _check(path)
        recordings, own_shape = READERS[path.suffix](path)
    if not 0 <= recording < len(recordings):
        raise SpikeloomError(f"{path}: has {len(recordings)} recordings, numbered from 0; there is no {recording}")
    return ordered(recordings[recording], own_shape or shape, path)


def _read_bin(path):
    return [tonic().io.read_mnist_file(path, dtype=EVENT)], None


def _check_bin(path):
    size = path.stat().st_size
    if size % BIN_EVENT_BYTES:
        raise SpikeloomError(f"{path}: must have {BIN_EVENT_BYTES} bytes for each event, but has {size}; it is "
                             "truncated or something else")


def _read_aedat4(path):
    events = tonic().io.read_aedat4(str(path))
    events.dtype.names = ("t", "x", "y", "p")
    import aedat  # tonic reads with it, and loses the sensor's size

    streams = aedat.Decoder(str(path)).id_to_stream()
    stream = streams[min(number for number, stream in streams.items() if stream["type"] == "events")]
    return [events], (stream["height"], stream["width"], 2)


def _check_aedat4(path):
    """Refuse a file whose description of its streams is damaged: the decoder ends the whole process on some."""
    with path.open("rb") as file:
        magic, size = file.read(len(AEDAT4_MAGIC)), int.from_bytes(file.read(4), "little")
        header = file.read(size)
    if magic != AEDAT4_MAGIC:
        raise SpikeloomError(f"{path}: not an AEDAT4 file (it begins with {magic or 'nothing'})")
    try:
        ElementTree.fromstring(header[max(header.find(b"<dv"), 0):].rstrip(b"\0"))
    except ElementTree.ParseError as error:
        raise SpikeloomError(f"{path}: truncated or corrupted, as its header is no description of streams "
                             f"({error})") from None


def _read_npz(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # NumPy would leave the file open
        events = archive["events"]
        offsets = archive["offsets"] if "offsets" in archive else [0, len(events)]
        shape = tuple(map(int, archive["shape"])) if "shape" in archive else None
    if offsets[0] != 0 or offsets[-1] != len(events) or (np.diff(offsets) < 0).any():
        raise ValueError(f"its offsets must rise from 0 to the number of events, {len(events)}")
    return np.split(events, offsets[1:-1]), shape


READERS = {".npz": _read_npz, ".bin": _read_bin, ".aedat4": _read_aedat4}


def _check(path):
    """Refuse a file that tonic's readers would misread, or worse."""
    if path.suffix == ".bin":
        _check_bin(path)
    elif path.suffix == ".aedat4":
        _check_aedat4(path)


@contextlib.contextmanager
def reading(path, what="cannot be read, truncated or corrupted"):
    """Tell in one line what goes wrong inside the block."""
    try:
        yield
    except (SpikeloomError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tonic and its decoders raise anything, Rust's panics too
        raise SpikeloomError(f"{path}: {what} ({type(error).__name__}: {error})") from None


def ordered(raw, shape, path):
    """Events of any structure as `EVENT`, in the order of time, and ``shape`` or the smallest that holds them.

    Raises `SpikeloomError`, naming the file ``path``, where a field is missing or an event lies outside of ``shape``.
    """
    names = raw.dtype.names or ()
    lacking = [name for name in ("x", "t", "p") if name not in names]
    if lacking:
        raise SpikeloomError(f"{path}: events have no field {lacking[0]}")
    events = np.zeros(len(raw), EVENT)
    for name in names:
        if name in EVENT.names:
            events[name] = raw[name]
    if shape is None:
        shape = int(events["y"].max(initial=0)) + 1, int(events["x"].max(initial=0)) + 1, 2
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
    """A split of a data set: ``recordings[i]`` reads one, as an array of `EVENT`.

    The order is a fixed shuffle, so that the first so many are of all classes.

    Attributes
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    folder : path
    labels : int64 (n,)
    files : list of path
        where each is
    """

    def __init__(self, dataset, split, folder, held_out):
        """``folder`` has the split's parts; ``held_out`` says that the split is a part of the training part."""
        self.dataset, self.split, self.folder = dataset, split, folder
        source = SOURCES[dataset.name]
        with reading(folder, f"not laid out as tonic's {source.tonic}, {source.within}"):
            self._tonic = _tonic_dataset(source, folder, split == "train" or held_out)
            files, labels = _listed(self._tonic)
        if not files:
            raise SpikeloomError(f"{folder}: has no recordings of {dataset.name} ({source.within})")
        if isinstance(labels[0], str):
            names = sorted(set(labels))
            if len(names) != dataset.classes:
                raise SpikeloomError(f"{folder}: must have {dataset.classes} classes, but has {len(names)}")
            labels = [names.index(label) for label in labels]
        for file, label in zip(files, labels, strict=True):
            if not 0 <= label < dataset.classes:
                raise SpikeloomError(f"{file}: labels must be below {dataset.classes}, not {label}")
        chosen = sorted(range(len(files)), key=lambda index: files[index])  # folders are listed in any order
        if held_out:
            chosen = stratified(chosen, labels, source.hold_out, split)
        if not chosen:
            raise SpikeloomError(f"{folder}: every {source.hold_out}th recording of a class is the test split of "
                                 f"{dataset.name}, but no class has so many")
        chosen = np.random.default_rng(SHUFFLE_SEED).permutation(chosen)
        self._indices = chosen.tolist()
        self.labels = np.array(labels, np.int64)[chosen]
        self.files = [files[index] for index in chosen]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        path = self.files[index]
        shape = self.dataset.shape
        with reading(path):
            _check(path)
            raw, _ = self._tonic[self._indices[index]]
        events, own_shape = ordered(raw, None if self._tonic.sensor_size is None else shape, path)
        if own_shape != shape:
            crop = tonic().transforms.CenterCrop((own_shape[1], own_shape[0], 2), (shape[1], shape[0]))
            events = crop(events)
        return events

    def frames(self, index, encoder):
        """Frames (time steps, n_in) uint8 of a recording, as ``encoder`` makes them."""
        return encoder.frames(self[index], self.dataset.shape)


def recordings(dataset, split, data_dir):
    """The `Recordings` of a data set's split.

    Recordings that differ in size (N-Caltech101) are centred on the data set's map; what does not fit is left out.

    Parameters
    ----------
    dataset : spikeloom.data.Dataset
    split : "train" or "test"
    data_dir : path
        a folder with the parts that `SOURCES` says, or one that has them in a folder called as tonic or we call the
        data set. An archive of each part, such as Train.tar.gz, does too: it is unpacked into `cache`.

    Raises `SpikeloomError` when something is missing or not what it should be.
    """
    source = SOURCES[dataset.name]
    official = source.test and not source.hold_out
    parts = source.test if split == "test" and official else source.train
    arguments = f"'{data_dir or 'FOLDER'}'" + (f", train={parts == source.train}" if source.test else "")
    wanted = (f"the folder with {', '.join(parts)} ({source.within}), or an archive of each. Nothing is downloaded by "
              f'itself; tonic does it with: python -c "import tonic; tonic.datasets.{source.tonic}({arguments})"')
    if data_dir is None:
        raise SpikeloomError(f"Data set {dataset.name} needs a data directory: {wanted}")
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise SpikeloomError(f"{data_dir}: no such folder; for {dataset.name} give {wanted}")
    for folder in (data_dir / source.tonic, data_dir / dataset.name, data_dir):
        held_out = bool(source.hold_out) and not _present(folder, source.test)
        parts = source.test if split == "test" and not held_out else source.train
        if present := _present(folder, parts):
            whole = present == [folder / part for part in parts]
            return Recordings(dataset, split, folder if whole else unpacked(present, parts), held_out)
    raise SpikeloomError(f"{data_dir}: has no recordings of {dataset.name}; give {wanted}")


def _present(folder, parts):
    """Each of the parts in ``folder``, or an archive of each; an empty list where one is missing."""
    if not folder.is_dir():
        return []
    plain = [folder / part for part in parts]
    if all(path.exists() for path in plain):
        return plain
    by_name = {path.name.lower(): path for path in folder.iterdir()}
    archives = [next((by_name[name] for suffix in ARCHIVES if (name := part.lower() + suffix) in by_name), None)
                for part in parts]
    return archives if all(archives) else []


def _tonic_dataset(source, folder, train):
    """tonic's data set of what is in ``folder``."""

    class OnDisk(getattr(tonic().datasets, source.tonic)):
        location_on_system = property(lambda self: str(folder), lambda self, value: None)

        def _check_exists(self):
            return True  # tonic asks for the archive too, and downloads what it misses

    return OnDisk("", **({"train": train} if source.test else {}))


def _listed(dataset):
    """The file and the label of each recording of a data set of tonic's."""
    if not isinstance(dataset, tonic().datasets.SHD):
        return [Path(file) for file in dataset.data], dataset.targets
    import h5py  # all recordings are in one file, and tonic does not list their labels

    path = Path(dataset.location_on_system, dataset.data_filename)
    with h5py.File(path) as file:
        labels = file["labels"][:].tolist()
    return [path] * len(labels), labels


def stratified(chosen, labels, every, split):
    """Of indices ``chosen``, those that a split has where every so-manieth of each class is the test split's."""
    seen, kept = {}, []
    for index in chosen:
        seen[labels[index]] = seen.get(labels[index], 0) + 1
        if (seen[labels[index]] % every == 0) == (split == "test"):
            kept.append(index)
    return kept


# The cache --------------------------------------------------------------------------------------


def frames(recordings, encoder, count=None):
    """Frames (n, time steps, n_in) uint8 of `Recordings`, or of what has their ``dataset``, ``split``, ``folder``,
    ``files`` and ``frames``, as ``encoder`` (`spikeloom.data.encode`) makes them.

    Those of a whole split are made once and kept in `spikeloom.files.cache`, under a name that depends on the data set,
    the split, the encoder, for events tonic's version, and the name, size and time of every file. A file there that is
    not whole is made again. The result is mapped from it into memory, and writable as a private copy.

    ``count`` asks for only the first so many: from the cache where they are there; if not, no other recordings are
    read, and nothing is kept.
    """
    dataset = recordings.dataset
    path = files.cache() / f"{dataset.name}-{recordings.split}-{_frames_digest(recordings, encoder)}.npy"
    shape = len(recordings), encoder.time_steps, encoder.input_format(dataset.shape).size
    mapped = _mapped(path, shape)
    if mapped is None:
        whole = count is None or count == len(recordings)
        made = (recordings.frames(index, encoder)
                for index in tqdm(range(len(recordings) if whole else count), unit="recording", leave=False,
                                  desc=f"frames of {dataset.name}, {recordings.split}", disable=None))
        if not whole:
            return np.stack(list(made))
        with files.replacing(path) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for each in made:
                file.write(each.tobytes())
        mapped = _mapped(path, shape)
    return mapped[:count]


def _mapped(path, shape):
    """The uint8 array of a ``shape`` in a file, or None where there is none."""
    try:
        array = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _frames_digest(recordings, encoder):
    of_others = "colors", "names", "holds"
    sensor = {key: value for key, value in vars(recordings.dataset).items() if key not in of_others}
    fields = {key: value for key, value in vars(encoder).items() if key != "rows" or value}  # which once were not
    version = tonic().__version__ if recordings.dataset.holds == "events" else encoder.kind
    return _digest([CACHE_VERSION, version, sensor, fields,
                    _stamps(dict.fromkeys(recordings.files), recordings.folder)])


def unpacked(archives, parts):
    """The folder in the cache with what is in ``archives``, each of which must have its one of the ``parts``.

    Raises `SpikeloomError` when one is damaged or lacks its part.
    """
    folder = files.cache() / f"unpacked-{_digest(_stamps(archives, archives[0].parent))}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.")
    except OSError as error:
        raise SpikeloomError(f"{folder}: cannot be written: {error.strerror}") from None
    with beside:
        for archive, part in zip(archives, parts, strict=True):
            with reading(archive):
                safely = {} if zipfile.is_zipfile(archive) else {"filter": "data"}
                shutil.unpack_archive(archive, beside.name, **safely)
            if not Path(beside.name, part).exists():
                raise SpikeloomError(f"{archive}: has no {part}")
        try:
            Path(beside.name).rename(folder)
        except OSError:
            if not folder.is_dir():  # where another process was first, its folder is as good
                raise
    return folder


def _stamps(paths, folder):
    """Name, size in bytes and time in nanoseconds of each file."""
    return [[str(path.relative_to(folder)), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
