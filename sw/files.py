"""Every file we write: arrays and a JSON header in one ``.npz``, complete or not there at all."""

import contextlib
import json
import os
import tempfile
import tomllib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .errors import SpikeloomError

HEADER = "header"


def cache():
    """The folder for what can be made again: ``spikeloom`` in $XDG_CACHE_HOME, which is ~/.cache by default.

    Whatever is in it can be deleted at any time.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikeloom"


@contextlib.contextmanager
def replacing(path, mode="wb"):
    """Open a file beside ``path``; rename it to ``path`` when the block ends well, remove it otherwise."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise SpikeloomError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with open(handle, mode) as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp makes files private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path, text):
    """Write ``text`` to ``path``, complete or not at all."""
    with replacing(path, "w") as file:
        file.write(text)


def save(path, kind, version, header, arrays):
    """Write ``arrays`` (name to array) under a JSON ``header`` that carries ``kind`` and ``version``.

    The same content gives the same bytes: entries are sorted and the archive stores no time.
    """
    text = json.dumps({"kind": kind, "version": version, **header}, sort_keys=True, indent=1)
    content = {HEADER: np.frombuffer(text.encode(), np.uint8)}
    content |= {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    with replacing(path) as file:
        np.savez_compressed(file, **content)


def load(path, kind=None, *versions):
    """Read what `save` wrote: the header (a dict) and the arrays (name to array).

    Raises `SpikeloomError` when the file is absent, truncated, corrupted, of another ``kind``, or of none of the format
    ``versions``.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:  # NumPy would leave it open where it is damaged
            if file.read(4) not in (b"PK\x03\x04", b"\x93NUM"):
                raise SpikeloomError(f"{path}: not a Spikeloom file, truncated or corrupted (it is no .npz archive)")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile) or HEADER not in archive.files:
                raise SpikeloomError(f"{path}: not a Spikeloom file (it has no header)")
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
    except FileNotFoundError:
        raise SpikeloomError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise SpikeloomError(f"{path}: is a folder, not a file") from None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error) as error:
        raise SpikeloomError(f"{path}: not readable as a Spikeloom file, truncated or corrupted "
                             f"({error})") from None
    if kind is not None and header.get("kind") != kind:
        raise SpikeloomError(f"{path}: holds a {header.get('kind')!r}, where a {kind!r} is needed")
    if versions and header.get("version") not in versions:
        *most, last = map(str, versions)
        known = f"versions {', '.join(most)} and {last}" if most else f"version {last}"
        raise SpikeloomError(f"{path}: format version {header.get('version')!r}, where this Spikeloom reads {known}")
    return header, arrays


def toml(source, packaged, what):
    """The content of a TOML file, and its path: ``source`` is one, or the name of one in the folder ``packaged``.

    Raises `SpikeloomError` when there is neither, calling it a ``what``, or when it cannot be read.
    """
    path = Path(source)
    if path.suffix != ".toml" and not path.is_file():
        path = packaged / f"{path.name}.toml"
        if path.stem != str(source) or not path.is_file():
            names = ", ".join(sorted(each.stem for each in packaged.glob("*.toml")))
            raise SpikeloomError(f"{source}: no such {what}; packaged are {names}, anything else is the path of a TOML "
                                 "file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpikeloomError(f"{path}: cannot be read as TOML: {reason}") from None
