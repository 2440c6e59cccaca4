"""Samples and labels: scikit-learn's digits, embedded; images, and recordings of events, spike trains or sounds, from
files that the user has.

What `load` gives is indexed by sample, and ``encoder(samples[chosen])`` is what enters a network, for images and
recordings alike: images become spikes then, while recordings were made into frames when they were loaded. Nothing is
ever downloaded.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from spikeloom.errors import SpikeloomError

from . import braille, cifar, events, fsdd, gen1, voc
from .encode import ENCODERS


@dataclass(frozen=True)
class Dataset:
    """What a data set ``holds``: "images", which are grey or of 3 ``colors``; "events" of a sensor with 1 or 2
    ``polarities``; "spikes", recordings of as many time steps as ``height`` and trains as ``width``; or "sounds". Where
    labels are boxes, classes have ``names``."""

    name: str
    height: int
    width: int
    classes: int
    polarities: int = 0
    colors: int = 1
    names: tuple[str, ...] = ()
    holds: str = "images"

    @property
    def has_frames(self):
        """Whether it holds recordings, of which frames are made when they are loaded, rather than images."""
        return self.holds != "images"

    @property
    def has_boxes(self):
        """Whether labels are boxes rather than classes."""
        return bool(self.names)

    @property
    def shape(self):
        """The map of an image or of a sensor, (rows, columns, channels); of spike trains, (time steps, trains, 1)."""
        return self.height, self.width, self.polarities or self.colors

    def input_format(self, encoder):
        """The `InputFormat` of a network fed through ``encoder``; raises `SpikeloomError` where it does not suit."""
        if getattr(encoder, "takes", None) != self.holds:
            kinds = [kind for kind, cls in ENCODERS.items() if cls.takes == self.holds]
            raise SpikeloomError(f"Data set {self.name} has {self.holds}: its encoder must be {' or '.join(kinds)}, "
                                 f"not {getattr(encoder, 'kind', None)}")
        return encoder.input_format(self.shape)


DATASETS = {dataset.name: dataset for dataset in (
    Dataset("digits", 8, 8, 10), Dataset("mnist", 28, 28, 10), Dataset("fashion_mnist", 28, 28, 10),
    Dataset("cifar10", *cifar.SHAPE[:2], cifar.CLASSES, colors=cifar.SHAPE[2]),
    Dataset("nmnist", 34, 34, 10, 2, holds="events"), Dataset("dvsgesture", 128, 128, 11, 2, holds="events"),
    Dataset("shd", 1, 700, 20, 1, holds="events"), Dataset("cifar10dvs", 128, 128, 10, 2, holds="events"),
    Dataset("ncaltech101", 180, 240, 101, 2, holds="events"),
    Dataset("gen1", 240, 304, len(gen1.CLASSES), 2, names=gen1.CLASSES, holds="events"),
    Dataset("braille", braille.STEPS, braille.TAXELS, braille.CLASSES, holds="spikes"),
    Dataset("fsdd", 1, 1, fsdd.CLASSES, holds="sounds"), Dataset("fsdd_speakers", 1, 1, fsdd.CLASSES, holds="sounds"),
    Dataset("voc", 0, 0, 0))}  # a user's own images, whose `Images` say the rest
SPLITS = ("train", "test")

#: Of scikit-learn's 1797 digits, so many are the test set; which ones is drawn with a fixed seed.
DIGITS_TEST, DIGITS_SEED = 450, 2024
IDX_PREFIX = {"train": "train", "test": "t10k"}


def find(name, images=None):
    """The `Dataset` of that name, which is "voc" where it is of a user's own ``images`` (`spikeloom.data.voc.Images`);
    or ``name`` itself if it is one.

    Raises `SpikeloomError` when there is none.
    """
    if isinstance(name, Dataset):
        return name
    if name not in DATASETS:
        raise SpikeloomError(f"Data set must be one of {', '.join(DATASETS)}, not {name!r}")
    if (name == "voc") != (images is not None):
        raise SpikeloomError(f"Data set {name} " + ("has images of its own: give no table of them" if images else
                                                    "needs a table images that says their classes, rows and columns"))
    if images is None:
        return DATASETS[name]
    return Dataset(name, images.rows, images.columns, len(images.classes), colors=1 if images.grey else 3,
                   names=images.classes)


def load(name, split, data_dir=None, encoder=None, count=None):
    """Samples uint8 and labels (n,) int64 of a data set's split, as NumPy arrays; labels that are boxes are float32 (n,
    boxes, 5), as `spikeloom.detection.Detection` has them.

    Samples are images (n, values), in the order of rows, columns and colors, for ``encoder`` to be called on, or frames
    (n, time steps, n_in) as ``encoder`` made them from recordings, on which calling it changes nothing.
    Frames are kept in the user's cache (`spikeloom.data.events.frames`) and mapped from there into memory, writable as
    a private copy.

    Parameters
    ----------
    name : a key of `DATASETS`, or a `Dataset`
    split : "train" or "test"
    data_dir : path, needed for all but the digits
        for images, the folder with the four IDX files, plain or gzipped, or for CIFAR-10 those of
        `spikeloom.data.cifar.LAYOUTS`, and for images with boxes what `spikeloom.data.voc.load` says; for recordings,
        the one that holds what `spikeloom.data.events.SOURCES`, `spikeloom.data.gen1`, `spikeloom.data.braille` or
        `spikeloom.data.fsdd` says; or one that has them in a folder called ``name``
    encoder : a value of one of `spikeloom.data.encode.ENCODERS`, needed for recordings
    count : int, optional
        only the first so many; of recordings whose frames are not in the cache no others are read then

    Raises `SpikeloomError` when a file is missing, truncated or not what it should be.
    """
    dataset = find(name)
    name = dataset.name
    if split not in SPLITS:
        raise SpikeloomError(f"Split must be one of {', '.join(SPLITS)}, not {split!r}")
    if dataset.has_frames:
        dataset.input_format(encoder)
        samples = _recordings(dataset, split, data_dir, encoder)
        labels = samples.labels
    elif name == "digits":
        samples, labels = _digits(split)
    elif name == "cifar10":
        samples, labels = cifar.load(split, data_dir)
    elif name == "voc":
        images = voc.Images(dataset.names, dataset.height, dataset.width, dataset.colors == 1)
        annotated = voc.load(images, split, data_dir, count and max(1, count))
        samples, labels = annotated.images, annotated.labels
    else:
        samples, labels = _idx(dataset, split, data_dir)
    if count is not None and not 1 <= count <= len(labels):
        raise SpikeloomError(f"Samples of the {split} split of {name} must be between 1 and {len(labels)}, "
                             f"not {count}")
    return events.frames(samples, encoder, count) if dataset.has_frames else samples[:count], labels[:count]


def samples(description, split, count=None, data_dir=None):
    """Encoded inputs (n, time steps, n_in) int64, as a network was trained to take them, and labels (n,).

    Parameters
    ----------
    description : dict
        ``network.notes["data"]``: {"dataset": name, "encoder": {"kind": kind, **fields}}, and for "voc" the fields of
        its "images"
    split, count, data_dir : as for `load`
    """
    dataset, encoder = described(description)
    loaded, labels = load(dataset, split, data_dir, encoder, count)
    return encoder(torch.from_numpy(loaded)).numpy().astype(np.int64), labels


def described(description):
    """The `Dataset`, and the encoder, in a network's ``notes["data"]``."""
    try:
        fields, images = dict(description["encoder"]), description.get("images")
        if images is not None:
            images = voc.Images(**{**images, "classes": tuple(images["classes"])})
        return find(description["dataset"], images), ENCODERS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise SpikeloomError("The network does not say how its data was encoded "
                             f"({type(error).__name__}: {error})") from None


def _recordings(dataset, split, data_dir, encoder):
    """The recordings of a split, as `spikeloom.data.events.frames` takes them."""
    if dataset.name == "gen1":
        return gen1.moments(dataset, split, data_dir, encoder)
    module = {"spikes": braille, "sounds": fsdd}.get(dataset.holds, events)
    return module.recordings(dataset, split, data_dir)


def _idx(dataset, split, data_dir):
    name = dataset.name
    folder = _folder(name, data_dir)
    images_path = _idx_path(folder, f"{IDX_PREFIX[split]}-images-idx3-ubyte", name)
    labels_path = _idx_path(folder, f"{IDX_PREFIX[split]}-labels-idx1-ubyte", name)
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (dataset.height, dataset.width):
        raise SpikeloomError(f"{images_path}: images must have {dataset.height} x {dataset.width} pixels, "
                             f"not {images.shape[1]} x {images.shape[2]}")
    if len(images) != len(labels):
        raise SpikeloomError(f"{labels_path}: has {len(labels)} labels for the {len(images)} images of "
                             f"{images_path.name}")
    if labels.max(initial=0) >= dataset.classes:
        raise SpikeloomError(f"{labels_path}: labels must be below {dataset.classes}, "
                             f"but one is {labels.max()}")
    return images.reshape(len(images), -1), labels.astype(np.int64)


def read_idx(path, dimensions):
    """The uint8 array of an IDX file, plain or gzipped, that must have so many ``dimensions``."""
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SpikeloomError(f"{path}: cannot be read, truncated or corrupted ({error})") from None
    magic = bytes([0, 0, 8, dimensions])
    start = 4 + 4 * dimensions
    if content[:4] != magic or len(content) < start:
        raise SpikeloomError(f"{path}: not an IDX file of bytes in {dimensions} dimensions (it begins with "
                             f"{content[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')})")
    shape = [int.from_bytes(content[i:i + 4], "big") for i in range(4, start, 4)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise SpikeloomError(f"{path}: must have {expected} bytes for shape {' x '.join(map(str, shape))}, "
                             f"but has {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # PyTorch wants it writable


def _folder(name, data_dir):
    files = ", ".join(f"{prefix}-{what}-ubyte" for prefix in IDX_PREFIX.values()
                      for what in ("images-idx3", "labels-idx1"))
    wanted = f"the folder with {files} (plain or .gz; they are not downloaded)"
    if data_dir is None:
        raise SpikeloomError(f"Data set {name} needs a data directory: {wanted}")
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise SpikeloomError(f"{data_dir}: no such folder; for {name} give {wanted}")
    for folder in (data_dir / name, data_dir):
        if any(folder.glob("*-ubyte*")):
            return folder
    raise SpikeloomError(f"{data_dir}: has no {name} files; give {wanted}")


def _idx_path(folder, stem, name):
    # Some mirrors write train-images.idx3-ubyte.
    for candidate in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise SpikeloomError(f"{folder}: lacks {stem} (plain or .gz), which {name} needs")


def _digits(split):
    from sklearn.datasets import load_digits  # half a second to import

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(DIGITS_SEED).permutation(len(images))
    chosen = order[:DIGITS_TEST] if split == "test" else order[DIGITS_TEST:]
    return np.rint(images[chosen] * (255 / 16)).astype(np.uint8), labels[chosen].astype(np.int64)
