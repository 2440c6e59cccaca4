"""Small recordings, and files of them in the formats of the data sets."""

import struct

import numpy as np
from spikeloom.data.events import EVENT


def recording(rng, count, shape, duration=300_000):
    """``count`` random events on a sensor of a ``shape`` (rows, columns, polarities), as `EVENT`, ordered by time."""
    events = np.zeros(count, EVENT)
    for name, size in zip(("y", "x", "p"), shape, strict=True):
        events[name] = rng.integers(0, size, count)
    events["t"] = np.sort(rng.integers(0, duration, count))
    return events


def bin_content(events):
    """What a ``.bin`` file of N-MNIST or N-Caltech101 holds: x, y, then polarity above 23 bits of time."""
    words = events["p"].astype(np.int64) << 23 | events["t"]
    content = [events["x"], events["y"], words >> 16, words >> 8 & 255, words & 255]
    return np.stack(content, 1).astype(np.uint8).tobytes()


def aedat4_content(events, shape, packet=1000):
    """What an ``.aedat4`` file holds: a header, then FlatBuffers of events, none compressed."""

    def node(name, inside):
        return f'<node name="{name}" path="/">{inside}</node>'

    def attribute(name, kind, value):
        return f'<attr key="{name}" type="{kind}">{value}</attr>'

    info = node("info", attribute("sizeX", "int", shape[1]) + attribute("sizeY", "int", shape[0])
                + attribute("source", "string", "camera"))
    stream = node("0", attribute("compression", "string", "NONE") + attribute("originalModuleName", "string", "capture")
                  + attribute("originalOutputName", "string", "events")
                  + attribute("typeIdentifier", "string", "EVTS") + info)
    text = f'<dv version="2.0">{node("outInfo", stream)}</dv>'.encode()
    # Root offset, identifier, table of fields, padding; the table: compression, no index of packets, the text.
    header = struct.pack("<I4s5Hxxiiq2I", 20, b"IOHE", 10, 20, 4, 8, 16, 12, 0, -1, 4, len(text)) + text + b"\0"
    content = [b"#!AER-DAT4.0\r\n", struct.pack("<I", len(header)), header]
    stored = np.zeros(len(events), np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"],
                                             "offsets": [0, 8, 10, 12], "itemsize": 16}))
    for name in stored.dtype.names:
        stored[name] = events[name]
    for first in range(0, len(stored), packet):
        part = stored[first:first + packet]
        body = struct.pack("<I4s3Hxxi2I", 16, b"EVTS", 6, 8, 4, 8, 4, len(part)) + part.tobytes()
        content += [struct.pack("<iiI", 0, 4 + len(body), len(body)), body]
    return b"".join(content)


def write_nmnist(folder, rng, each, *, part="Train", events=40):
    """``each`` recordings of every digit in ``folder``/``part``; what they hold, by path below ``folder``."""
    written, index = {}, 0
    for _ in range(each):
        for digit in rng.permutation(10):
            index += 1
            path = folder / part / str(digit) / f"{index:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            written[path] = recording(rng, events, (34, 34, 2))
            path.write_bytes(bin_content(written[path]))
    return written


def write_dvsgesture(folder, rng, users, *, part="ibmGestureTrain"):
    """A recording of each of 11 classes by each of ``users``: columns x, y, polarity and time in milliseconds."""
    written = {}
    for user in range(1, users + 1):
        for label in range(11):
            path = folder / part / f"user{user:02}_fluorescent_led" / f"{label}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            events = recording(rng, 60, (128, 128, 2), 6000)
            np.save(path, np.stack([events[name] for name in ("x", "y", "p", "t")], 1).astype(np.float64))
            events["t"] *= 1000
            written[path] = events
    return written


def write_shd(folder, rng, count, *, part="shd_train.h5"):
    """``count`` recordings of 700 channels in one file: times in seconds, as half floats, and units; and the labels."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    written, labels = [], rng.permutation(count) % 20
    with h5py.File(folder / part, "w") as file:
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.uint16))
        file["labels"] = labels.astype(np.uint16)
        file["extra/keys"] = np.array([f"word {number}".encode() for number in range(20)])
        file["extra/speaker"] = np.zeros(count, np.uint16)
        for index in range(count):
            events = recording(rng, 50, (1, 700, 1))
            times[index] = (seconds := (events["t"] * 1e-6).astype(np.float16))
            units[index] = events["x"].astype(np.uint16)
            events["t"] = seconds.astype(np.float64) * 1e6
            written.append(events)
    return written, labels


def write_cifar10dvs(folder, rng, each):
    """``each`` recordings of every class of CIFAR10-DVS; what they hold, by path."""
    written = {}
    for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            path = folder / name / f"cifar10_{name}_{index}.aedat4"
            written[path] = recording(rng, 30, (128, 128, 2))
            path.write_bytes(aedat4_content(written[path], (128, 128, 2), 20))
    return written


def write_ncaltech101(folder, rng, each):
    """``each`` recordings of 101 classes, of two sizes of sensor: half the map, and larger than it; by path."""
    written = {}
    for label in range(101):
        for index in range(each):
            path = folder / "Caltech101" / f"class_{label:03}" / f"image_{index:04}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (90, 120, 2) if index % 2 else (200, 250, 2)
            events = recording(rng, 30, shape)
            events["x"][:2], events["y"][:2] = (0, shape[1] - 1), (0, shape[0] - 1)
            written[path] = events
            path.write_bytes(bin_content(events))
    return written
