"""Braille recordings in their original file, whole and damaged; what enters a network of spike trains."""

import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from spikeloom import data
from spikeloom.data.encode import ENCODERS, Spikes
from spikeloom.errors import SpikeloomError

COUNT = 75


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spikeloom"


def recorded(count=COUNT):
    rng = np.random.default_rng(3)
    return {"x": rng.integers(0, 2, (count, 256, 12), np.uint8), "y": rng.permutation(np.arange(count) % 7)}


def write(folder, **arrays):
    """The file, with some of its arrays replaced, or left out where they are None; returns what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = recorded() | {"letters": np.array(["A", "E", "I", "O", "Space", "U", "Y"])} | arrays
    np.savez_compressed(folder / "braille7.npz", **{name: each for name, each in arrays.items() if each is not None})
    return arrays


@pytest.mark.parametrize("place", ["", "braille", "braille7.npz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_every_fifth_of_each_letter_is_for_testing(tmp_path, cache, place, dtype):
    made = write(tmp_path / place.removesuffix("braille7.npz"))
    write(tmp_path / place.removesuffix("braille7.npz"), x=made["x"].astype(dtype))
    chosen = {"train": [], "test": []}
    for letter in range(7):
        for number, index in enumerate(np.flatnonzero(made["y"] == letter)):
            chosen["test" if number % 5 == 4 else "train"].append(index)
    folder = tmp_path / place if place.endswith(".npz") else tmp_path
    for split, indices in chosen.items():
        trains, labels = data.load("braille", split, folder, Spikes(256))
        np.testing.assert_array_equal(trains, made["x"][sorted(indices)], strict=True)
        np.testing.assert_array_equal(labels, made["y"][sorted(indices)], strict=True)
    assert len(chosen["train"]) + len(chosen["test"]) == COUNT


@hypothesis.given(st.sampled_from([1, 2, 4, 16, 256]), st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(0, 1))
@hypothesis.settings(deadline=None, max_examples=30)
def test_spikes_are_counted_in_each_part(time_steps, width, seed, rate):
    trains = (np.random.default_rng(seed).random((256, 3)) < rate).astype(np.uint8)
    counts = np.zeros((time_steps, 3), int)
    for step, train in np.argwhere(trains):
        counts[step * time_steps // 256, train] += 1
    encoder = Spikes(time_steps, width)
    np.testing.assert_array_equal(encoder.frames(trains), np.minimum(counts, 2**width - 1).astype(np.uint8),
                                  strict=True)
    assert encoder.input_format((256, 3, 1)).bounds == (0, 2**width - 1)
    assert encoder.input_format((256, 3, 1)).shape == (1, 3, 1)


def test_samples_are_rebuilt_from_the_notes(tmp_path, cache):
    made = write(tmp_path)
    notes = {"dataset": "braille", "encoder": {"kind": "spikes", "time_steps": 64, "width": 2}}
    inputs, labels = data.samples(notes, "train", 5, tmp_path)
    assert inputs.dtype == np.int64
    np.testing.assert_array_equal(inputs[0], made["x"][0].reshape(64, 4, 12).sum(1).clip(max=3))
    assert labels[0] == made["y"][0]
    name, encoder = data.described(notes)
    assert data.find(name).input_format(encoder).size == 12


def test_another_file_makes_other_frames(tmp_path, cache):
    write(tmp_path)
    before = data.load("braille", "test", tmp_path, Spikes(256))[0].copy()
    write(tmp_path, x=1 - recorded()["x"], spare=np.arange(3))
    np.testing.assert_array_equal(data.load("braille", "test", tmp_path, Spikes(256))[0], 1 - before)


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def change(cut):
    def apply(path):
        path.write_bytes(cut(path.read_bytes()))
    return apply


@pytest.mark.parametrize(("arrays", "harm", "message"), [
    ({}, change(lambda content: content[:-50]), "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({}, change(lambda content: b""), "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({}, change(lambda content: b"letters"), "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({}, lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05", 1)),
     "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({}, lambda path: path.write_bytes(np.lib.format.magic(1, 0)), "cannot be read as .npz with x and y, truncated or"),
    ({}, one_array, "cannot be read as .npz with x and y, truncated or corrupted (TypeError: "),
    ({"y": None}, None, "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({"x": np.array([None])}, None, "cannot be read as .npz with x and y, truncated or corrupted ("),
    ({"x": np.zeros((COUNT, 250, 12), np.uint8)}, None,
     f"x and y must have the shapes (n, 256, 12) and (n,), not ({COUNT}, 250, 12) and ({COUNT},)"),
    ({"x": np.uint8(0)}, None, f"x and y must have the shapes (n, 256, 12) and (n,), not () and ({COUNT},)"),
    ({"y": np.zeros(COUNT - 1, int)}, None, f"not ({COUNT}, 256, 12) and ({COUNT - 1},)"),
    ({"x": 2 * recorded()["x"]}, None, "x must be integers from 0 to 1"),
    ({"x": recorded()["x"] / 2}, None, "x must be integers from 0 to 1"),
    ({"y": recorded()["y"] + 1}, None, "y must be integers from 0 to 6"),
    ({"y": recorded()["y"] - 1}, None, "y must be integers from 0 to 6"),
    (recorded(4), None, "every 5th recording of a letter is the test split of braille, but no letter has so many")])
def test_a_bad_file_is_told_in_one_line(tmp_path, arrays, harm, message):
    write(tmp_path, **arrays)
    path = tmp_path / "braille7.npz"
    if harm:
        harm(path)
    with pytest.raises(SpikeloomError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}") as error:
        data.load("braille", "test", tmp_path, Spikes(256))
    assert "\n" not in str(error.value)


def test_what_is_missing_is_told(tmp_path):
    for folder, start in ((None, "Data set braille needs a data directory: "),
                          (tmp_path / "absent", f"{tmp_path / 'absent'}: no such folder; for braille give "),
                          (tmp_path, f"{tmp_path}: has no recordings of braille; give ")):
        with pytest.raises(SpikeloomError) as error:
            data.load("braille", "test", folder, Spikes(256))
        assert str(error.value) == start + "the folder with braille7.npz (it is not downloaded)"


def test_only_whole_parts_and_only_its_encoder():
    with pytest.raises(SpikeloomError) as error:
        data.find("braille").input_format(Spikes(100))
    assert str(error.value) == ("Encoder spikes: recordings of 256 time steps do not divide into 100 parts; time_steps "
                                "must be a divisor")
    with pytest.raises(SpikeloomError, match="Input width must be between 1 and 8 bits, not 9"):
        Spikes(256, 9)
    for kind, cls in ENCODERS.items():
        if kind != "spikes":
            with pytest.raises(SpikeloomError) as error:
                data.load("braille", "test", None, cls(4))
            assert str(error.value) == f"Data set braille has spikes: its encoder must be spikes, not {kind}"
