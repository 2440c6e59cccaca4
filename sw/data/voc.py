"""Images with boxes as Pascal VOC has them: ``JPEGImages``, ``Annotations`` (XML), and lists of names in
``ImageSets/Main``."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from spikeloom.errors import SpikeloomError
from tqdm import tqdm

from . import events

FOLDERS = ("Annotations", "JPEGImages", "ImageSets/Main")

#: The list of each split.
LISTS = {"train": "train", "test": "val"}

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Images:
    """What a user's own images are made into.

    Parameters
    ----------
    classes : tuple of str
        names of objects; others that are in the annotations are left out
    rows, columns : int
        pixels that each image is resized to, whatever its shape
    grey : bool
        one channel instead of red, green and blue
    """

    classes: tuple[str, ...]
    rows: int
    columns: int
    grey: bool = False

    def __post_init__(self):
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise SpikeloomError(f"classes must be names that differ, not {list(self.classes)}")
        for name in ("rows", "columns"):
            if not 1 <= getattr(self, name) <= 2048:
                raise SpikeloomError(f"{name} must be between 1 and 2048 pixels, not {getattr(self, name)}")


@dataclass(frozen=True)
class Annotated:
    """A split of images with boxes.

    Attributes
    ----------
    images : uint8 (n, rows · columns · channels)
    labels : float32 (n, boxes, 5)
        as `spikeloom.detection.Detection` has them
    dropped : int
        boxes that were left out, as they have no area
    """

    images: np.ndarray
    labels: np.ndarray
    dropped: int


def load(images, split, data_dir, count=None):
    """An `Annotated` split.

    Parameters
    ----------
    images : Images
    split : "train" or "test"
        the names in ImageSets/Main/train.txt, or val.txt
    data_dir : path
        a folder with `FOLDERS`, or one that holds such a folder, at most two levels down; or a .tar, .tar.gz or .zip of
        one, which is unpacked into the cache
    count : int, optional
        only the first so many

    Raises `SpikeloomError` when something is missing, damaged or not what it should be.
    """
    folder = _folder(data_dir)
    names = _names(folder / "ImageSets/Main" / f"{LISTS[split]}.txt")
    pixels, boxes, dropped, seen = [], [], 0, set()
    for name in tqdm(names[:count], unit="image", leave=False, desc=f"images, {split}", disable=None):
        pixels.append(_pixels(_image_path(folder, name), images))
        found, without_area, called = _boxes(folder / "Annotations" / f"{name}.xml", images.classes)
        boxes.append(found)
        dropped += without_area
        seen |= called
    if count is None and split == "train" and (lacking := set(images.classes) - seen):
        raise SpikeloomError(f"{folder}: no object is called {min(lacking)!r}; there are {', '.join(sorted(seen))}")
    return Annotated(np.stack(pixels), padded(boxes), dropped)


def padded(boxes):
    """Labels float32 (n, boxes, 5) of lists of (class, x, y, w, h), filled up with rows of class -1."""
    labels = np.zeros((len(boxes), max(1, *map(len, boxes)), 5), np.float32)
    labels[..., 0] = -1
    for label, found in zip(labels, boxes, strict=True):
        label[:len(found)] = np.reshape(found, (-1, 5))
    return labels


def _folder(data_dir):
    wanted = f"a folder with {', '.join(FOLDERS)} as Pascal VOC has them, or an archive of one"
    if data_dir is None:
        raise SpikeloomError(f"Images with boxes need a data directory: {wanted}")
    path = Path(data_dir)
    if path.is_file():
        path = events.unpacked([path], [""])
    if not path.is_dir():
        raise SpikeloomError(f"{data_dir}: no such folder; give {wanted}")
    found = sorted(each for each in (path, *path.glob("*"), *path.glob("*/*"))
                   if all((each / folder).is_dir() for folder in FOLDERS))
    if not found:
        raise SpikeloomError(f"{data_dir}: has no images with boxes; give {wanted}")
    if len(found) > 1:
        raise SpikeloomError(f"{data_dir}: has several data sets; give one of {', '.join(map(str, found))}")
    return found[0]


def _names(path):
    try:
        names = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise SpikeloomError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not names:
        raise SpikeloomError(f"{path}: lists no images")
    return names


def _image_path(folder, name):
    for suffix in (".jpg", ".jpeg", ".png"):
        path = folder / "JPEGImages" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise SpikeloomError(f"{folder / 'JPEGImages'}: has no image {name} (.jpg, .jpeg or .png)")


def _pixels(path, images):
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise SpikeloomError('Images with boxes need the package pillow, which is not installed: pip install '
                             '"spikeloom[detection]"') from None
    try:
        with Image.open(path) as image:
            pixels = image.convert("L" if images.grey else "RGB")
        return np.asarray(pixels.resize((images.columns, images.rows), Image.Resampling.BOX)).reshape(-1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SpikeloomError(f"{path}: cannot be read as an image, truncated or corrupted ({error})") from None


def _boxes(path, classes):
    """Of an annotation the (class, x, y, w, h) of its objects, how many had no area, and all names there are."""
    with _reading(path):
        root = ElementTree.parse(path).getroot()
        width, height = (float(root.find(f"size/{name}").text) for name in ("width", "height"))
        if not (0 < width < math.inf and 0 < height < math.inf):
            raise ValueError(f"its size must be positive, not {width:g} x {height:g}")
        found, dropped, names = [], 0, set()
        for entry in root.findall("object"):
            name = entry.find("name").text
            names.add(name)
            if name not in classes:
                continue
            left, upper, right, lower = (float(entry.find(f"bndbox/{corner}").text) for corner in CORNERS)
            left, right = (min(max(x / width, 0), 1) for x in (left, right))
            upper, lower = (min(max(y / height, 0), 1) for y in (upper, lower))
            if right > left and lower > upper:
                found.append((classes.index(name), (left + right) / 2, (upper + lower) / 2, right - left,
                              lower - upper))
            else:
                dropped += 1
    return found, dropped, names


@contextlib.contextmanager
def _reading(path):
    """Tell in one line what goes wrong in reading an annotation."""
    try:
        yield
    except FileNotFoundError:
        raise SpikeloomError(f"{path}: no such file") from None
    except AttributeError:  # of what `find` did not find
        raise SpikeloomError(f"{path}: lacks size/width, size/height, or an object's name or bndbox") from None
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise SpikeloomError(f"{path}: not an annotation of Pascal VOC, truncated or corrupted ({error})") from None
