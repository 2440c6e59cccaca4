"""CIFAR-10 from the files as distributed: binary ones, and those for Python, whose pickles can name nothing that runs.

Either stands in a folder, or in the archive that it comes in, which is read where it is.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from spikeloom.errors import SpikeloomError

SHAPE, CLASSES = (32, 32, 3), 10
PIXELS = 32 * 32 * 3

#: Images of each file.
IMAGES = 10_000


@dataclass(frozen=True)
class Layout:
    """How one of the two is distributed: its ``folder`` and ``archive``, and the files of each split."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]


LAYOUTS = (Layout("cifar-10-batches-bin", "cifar-10-binary.tar.gz",
                  tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)),
           Layout("cifar-10-batches-py", "cifar-10-python.tar.gz",
                  tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",)))


def load(split, data_dir):
    """Images uint8 (n, 3072), values in the order of rows, columns, then red, green and blue, and labels (n,) int64.

    Parameters
    ----------
    split : "train" or "test"
    data_dir : path
        the folder with the files of one of `LAYOUTS`, one that has such a folder or the archive, or one that has either
        in a folder called ``cifar10``. Of several the first counts: binary before Python, folder before archive.

    Of each file the number of images, their size and the range of the labels are checked, and of an archive its
    checksums; none is known for single files, which other tools pickle anew. Raises `SpikeloomError` where something is
    missing or not what it should be.
    """
    wanted = "the folder with " + ", or ".join(f"{layout.archive}, or {layout.train[0]} to {layout.test[0]} of it"
                                               for layout in LAYOUTS) + " (they are not downloaded)"
    if data_dir is None:
        raise SpikeloomError(f"Data set cifar10 needs a data directory: {wanted}")
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise SpikeloomError(f"{data_dir}: no such folder; for cifar10 give {wanted}")
    for layout in LAYOUTS:
        names = getattr(layout, split)
        for folder in (data_dir, data_dir / "cifar10"):
            for place in (folder, folder / layout.folder):
                if any((place / name).is_file() for name in names):
                    return _joined(_files(place, names))
            if (folder / layout.archive).is_file():
                return _joined(_members(folder / layout.archive, names))
    raise SpikeloomError(f"{data_dir}: has no files of cifar10; give {wanted}")


def _files(folder, names):
    """The name and the content of each file."""
    for name in names:
        path = folder / name
        try:
            yield path, path.read_bytes()
        except FileNotFoundError:
            raise SpikeloomError(f"{folder}: lacks {name}, which cifar10 needs") from None
        except OSError as error:
            raise SpikeloomError(f"{path}: cannot be read: {error.strerror}") from None


def _members(path, names):
    """As `_files`, out of an archive; nothing is written."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (name := Path(member.name).name) in names:
                    found[name] = archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise SpikeloomError(f"{path}: cannot be read, truncated or corrupted ({error})") from None
    for name in names:
        if name not in found:
            raise SpikeloomError(f"{path}: lacks {name}, which cifar10 needs")
        yield f"{path}, {name}", found[name]


def _joined(files):
    """All images and labels, in the order of the files."""
    images, labels = zip(*(_read(content, name) for name, content in files), strict=True)
    planes = np.concatenate(images).reshape(-1, SHAPE[2], *SHAPE[:2])
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)).reshape(-1, PIXELS), np.concatenate(labels)


def _read(content, name):
    """Planes of red, green and blue, uint8 (n, 3072), and labels int64 (n,) of one file."""
    images, labels = (_binary if str(name).endswith(".bin") else _unpickled)(content, name)
    if len(images) != IMAGES or len(labels) != IMAGES:
        raise SpikeloomError(f"{name}: must have {IMAGES:,} images and labels, not {len(images):,} and {len(labels):,}")
    if not 0 <= labels.min() <= labels.max() < CLASSES:
        raise SpikeloomError(f"{name}: labels must lie within 0 to {CLASSES - 1}, not {labels.min()} to {labels.max()}")
    return images, labels


def _binary(content, name):
    size = IMAGES * (1 + PIXELS)
    if len(content) != size:
        raise SpikeloomError(f"{name}: must have {size:,} bytes, a label and {PIXELS:,} values for each of {IMAGES:,} "
                             f"images, but has {len(content):,}")
    records = np.frombuffer(content, np.uint8).reshape(IMAGES, 1 + PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


# Pickles ----------------------------------------------------------------------------------------


class _Inert:
    """Stands for something of NumPy's that a pickle makes: keeps what it is made of, and does nothing."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


class _Encoded:
    """Stands for `codecs.encode`, by which protocol 2 writes bytes: gives them."""

    def __new__(cls, text, encoding):
        return text.encode("latin1")


#: What these files name, and what we take it for. NumPy's own functions would trust what else a pickle tells them.
NAMED = {("numpy.core.multiarray", "_reconstruct"): _Inert, ("numpy._core.multiarray", "_reconstruct"): _Inert,
         ("numpy", "ndarray"): _Inert, ("numpy", "dtype"): _Inert, ("_codecs", "encode"): _Encoded}


class _Reader(pickle._Unpickler):  # the other, in C, takes all memory if a damaged file asks for that
    def find_class(self, module, name):
        if (module, name) not in NAMED:
            raise pickle.UnpicklingError(f"it names {f'{module}.{name}'!r}")
        return NAMED[module, name]


def _unpickled(content, name):
    try:
        batch = _Reader(io.BytesIO(content), encoding="bytes").load()
        images, labels = (batch[key] if key in batch else batch[key.encode()] for key in ("data", "labels"))
        _, shape, dtype, columns_first, values = images.state
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise ValueError("its data are not bytes")
        if not (isinstance(labels, list) and all(isinstance(label, int) for label in labels)):
            raise ValueError("its labels are not a list of integers")
        images = np.frombuffer(values, np.uint8).reshape(shape, order="F" if columns_first else "C")
        if images.shape[1:] != (PIXELS,):
            raise ValueError(f"its data have shape {images.shape}, not ({IMAGES}, {PIXELS})")
        return images, np.array(labels, np.int64)
    except Exception as error:  # a damaged pickle raises anything
        raise SpikeloomError(f"{name}: not a batch of cifar10, truncated or corrupted "
                             f"({type(error).__name__}: {error})") from None
