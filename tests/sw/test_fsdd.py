"""Spoken digits in files and archives as they come, whole and damaged; bands of frequency and their changes."""

import dataclasses
import re
import shutil
import tarfile
import wave
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from spikeloom import data
from spikeloom.data import fsdd
from spikeloom.data.encode import ENCODERS, Bands
from spikeloom.errors import SpikeloomError
from spikeloom.training import config

SPEAKERS = ("ada", "bob", "cy_2", "dan")
ENCODER = Bands(10, bands=8, width=3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spikeloom"


def write_wav(path, samples, rate=8000, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.writeframes(np.asarray(samples, f"<i{width}" if width > 1 else np.uint8).tobytes())


def write(folder, indices=range(5, 12), digits=(0, 3), speakers=SPEAKERS):
    """Recordings; returns their samples by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(1), {}
    for digit in digits:
        for speaker in speakers:
            for index in indices:
                name = f"{digit}_{speaker}_{index}.wav"
                written[name] = rng.integers(-2**15, 2**15, rng.integers(200, 2500))
                write_wav(folder / name, written[name])
    return written


def pack(folder, archive):
    """The files of a folder in an archive, in a folder of its own there."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.iterdir():
                file.write(path, f"digits/recordings/{path.name}")
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, "recordings")
    shutil.rmtree(folder)


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "fsdd", "a/recordings", "fsdd_train.tar.gz", "free-spoken-digit-dataset-1.zip",
                                   "any.tgz"])
@pytest.mark.parametrize("first", [0, 5])
def test_the_first_five_of_each_speaker_are_for_testing(tmp_path, cache, place, first):
    archive = "." in place
    written = write(tmp_path / "data" / ("" if archive else place), range(first, first + 7))
    root = tmp_path / "data"
    if archive:
        pack(root, tmp_path / place)
        root = tmp_path / place if place.startswith("any") else tmp_path
    for split in data.SPLITS:
        found = fsdd.recordings(data.find("fsdd"), split, root)
        expected = {name for name in written if (int(re.search(r"(\d+)\.", name)[1]) < first + 5) == (split == "test")}
        assert {path.name for path in found.files} == expected
        assert len(found) == len(expected) == (40 if split == "test" else 16)
        frames, labels = data.load("fsdd", split, root, ENCODER)
        assert labels.dtype == np.int64
        for index, path in enumerate(found.files):
            assert labels[index] == found.labels[index] == int(path.name[0])
            np.testing.assert_array_equal(frames[index], ENCODER.frames(written[path.name] / 2**15, 8000), strict=True)
    assert set(labels[:5].tolist()) == {0, 3}  # not in order


def test_speakers_are_held_out(tmp_path):
    write(tmp_path, speakers=("ann", "bob", "cid", "dan", "eve", "fay", "gil"))
    speakers = {split: {path.name.split("_")[1] for path in fsdd.recordings(data.find("fsdd_speakers"), split,
                                                                            tmp_path).files}
                for split in data.SPLITS}
    assert speakers == {"train": {"ann", "bob", "dan", "eve", "gil"}, "test": {"cid", "fay"}}
    assert len(fsdd.recordings(data.find("fsdd_speakers"), "test", tmp_path)) == 2 * 2 * 7


def test_frames_are_made_once_and_for_all_settings(tmp_path, cache, monkeypatch):
    folder = tmp_path / "data"
    write(folder)
    whole = np.array(data.load("fsdd", "train", folder, ENCODER)[0])
    others = [dataclasses.replace(ENCODER, **{name: value}) for name, value in
              (("time_steps", 9), ("bands", 7), ("width", 1), ("coding", "levels"), ("hop", 15), ("step", 5.0),
               ("floor", -60.0))]
    for encoder in others:
        data.load("fsdd", "train", folder, encoder)
    assert len([*cache.iterdir()]) == 1 + len(others)
    monkeypatch.setattr(Bands, "frames", None)
    np.testing.assert_array_equal(data.load("fsdd", "train", folder, ENCODER)[0], whole)
    notes = {"dataset": "fsdd", "encoder": {"kind": "bands", "time_steps": 10, "bands": 8, "width": 3}}
    np.testing.assert_array_equal(data.samples(notes, "train", 3, folder)[0], whole[:3])


def rename(name):
    return lambda path: path.rename(path.with_name(name))


def cut(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(("harm", "message"), [
    (rename("hello.wav"), "hello.wav: must be called DIGIT_SPEAKER_INDEX.wav, as recordings of fsdd"),
    (rename("10_ada_5.wav"), "10_ada_5.wav: must be called DIGIT_SPEAKER_INDEX.wav, as recordings of fsdd"),
    (lambda path: write_wav(path, np.zeros(900), rate=16000),
     "0_ada_5.wav: must have 8000 samples per second, 1 channel and 16 bits, not 16000, 1 and 16"),
    (lambda path: write_wav(path, np.zeros(900), channels=2), "not 8000, 2 and 16"),
    (lambda path: write_wav(path, np.zeros(900), width=1), "not 8000, 1 and 8"),
    (lambda path: write_wav(path, []), "0_ada_5.wav: must have any samples, but has 0"),
    (lambda path: (write_wav(path, np.zeros(900)), cut(lambda content: content[:-10])(path)),
     "0_ada_5.wav: must have 900 samples, but has 895"),
    (cut(lambda content: content[:30]), "0_ada_5.wav: cannot be read as WAV, truncated or corrupted ("),
    (cut(lambda content: b""), "0_ada_5.wav: cannot be read as WAV, truncated or corrupted ("),
    (cut(lambda content: b"RIFX" + content[4:]), "0_ada_5.wav: cannot be read as WAV, truncated or corrupted ("),
    (lambda path: (path.unlink(), path.mkdir()), "0_ada_5.wav: cannot be read as WAV, truncated or corrupted (")])
def test_a_bad_recording_is_told_in_one_line(tmp_path, cache, harm, message):
    write(tmp_path)
    harm(tmp_path / "0_ada_5.wav")
    with pytest.raises(SpikeloomError, match=re.escape(f"{tmp_path}/" if message[0].isdigit() else "")
                       + ".*" + re.escape(message)) as error:
        data.load("fsdd", "test", tmp_path, ENCODER)
    assert "\n" not in str(error.value)


@hypothesis.given(st.integers(0, 60), st.binary(min_size=1, max_size=8), st.booleans())
@hypothesis.settings(deadline=None, max_examples=100)
def test_any_damage_is_told_or_does_none(tmp_path_factory, place, noise, insert):
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    write_wav(path, np.arange(20))
    content = path.read_bytes()
    path.write_bytes(content[:place] + noise + content[place + (0 if insert else len(noise)):])
    try:
        assert np.abs(fsdd.read(path)).max() <= 1
    except SpikeloomError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_what_is_missing_is_told(tmp_path, cache):
    for folder, start in ((None, "Data set fsdd needs a data directory: "),
                          (tmp_path / "absent", f"{tmp_path / 'absent'}: no such folder; for fsdd give "),
                          (tmp_path, f"{tmp_path}: has no recordings of fsdd; give ")):
        with pytest.raises(SpikeloomError) as error:
            data.load("fsdd", "test", folder, ENCODER)
        assert str(error.value) == start + fsdd.WANTED
    write(tmp_path / "a", range(5), speakers=SPEAKERS[:2])
    with pytest.raises(SpikeloomError, match="a: has too few recordings for a train split of fsdd"):
        data.load("fsdd", "train", tmp_path, ENCODER)
    with pytest.raises(SpikeloomError, match="a: has too few recordings for a test split of fsdd_speakers"):
        data.load("fsdd_speakers", "test", tmp_path, ENCODER)
    write(tmp_path / "b")
    with pytest.raises(SpikeloomError, match=r"has several folders of recordings; give one of .*a, .*b$"):
        data.load("fsdd", "test", tmp_path, ENCODER)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "fsdd.tar.gz").write_bytes(b"not one")
    with pytest.raises(SpikeloomError, match=r"fsdd\.tar\.gz: cannot be read, truncated or corrupted"):
        data.load("fsdd", "test", tmp_path / "c", ENCODER)


# Bands ------------------------------------------------------------------------------------------


def tone(frequency, amplitude=0.5, samples=8000):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / 8000)


def centres(bands):
    """Hertz of the middles of bands, by the mel scale as O'Shaughnessy gives it."""
    lowest, highest = 2595 * np.log10(1 + np.array([100, 4000]) / 700)
    return [700 * (10**((lowest + (highest - lowest) * (band + 1) / (bands + 1)) / 2595) - 1) for band in range(bands)]


def test_a_tone_is_heard_in_its_band():
    encoder = Bands(20, "levels", bands=12, width=8, step=1.0, floor=-60.0)
    for band, frequency in enumerate(centres(12)):
        levels = encoder.frames(tone(frequency), 8000)
        assert (levels.argmax(1) == band).all()
        loud = levels[:, band].astype(int)
        assert (abs(loud - (60 - 6)) <= 3).all()  # half of the largest amplitude; neighbours have a share of it
        assert (levels[:, abs(np.arange(12) - band) > 2] < loud.min() - 30).all()
        louder = encoder.levels(tone(frequency, 1.0), 8000)[:, band] - encoder.levels(tone(frequency), 8000)[:, band]
        np.testing.assert_allclose(louder, 20 * np.log10(2), atol=1e-3)


def test_power_is_that_of_a_spectrum_written_out():
    encoder = Bands(3, "levels", bands=4, hop=2, step=0.5, floor=-100.0)
    sound = np.random.default_rng(2).uniform(-1, 1, 64)
    middle = [100.0, *centres(4), 4000.0]
    for step, levels in enumerate(encoder.levels(sound, 8000)):
        power = np.zeros(4)
        for line in range(17):
            frequency = line * 8000 / 32
            hann = [0.5 - 0.5 * np.cos(2 * np.pi * n / 32) for n in range(32)]
            value = sum(sound[step * 16 + n] * hann[n] * np.exp(-2j * np.pi * line * n / 32) for n in range(32))
            for band in range(4):
                below, at, above = middle[band:band + 3]
                part = (frequency - below) / (at - below) if frequency < at else (above - frequency) / (above - at)
                power[band] += max(0, part) * abs(value / 8)**2
        np.testing.assert_allclose(levels, 10 * np.log10(1 + power * 1e10) / 0.5, rtol=1e-4)


def test_silence_is_nothing_and_sounds_end():
    for coding in ("delta", "levels"):
        encoder = Bands(30, coding, width=4)
        assert not encoder.frames(np.zeros(10), 8000).any()
        long = tone(700, samples=40_000)
        short = encoder.frames(long[:31 * 128], 8000)
        np.testing.assert_array_equal(encoder.frames(long, 8000), short)
        ended = encoder.frames(long[:10 * 128], 8000)
        np.testing.assert_array_equal(ended[:9], short[:9])
        assert not ended[-5:].any()
    assert encoder.levels(long, 8000).shape == (30, 20)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1.5, 6.0]))
@hypothesis.settings(deadline=None, max_examples=40)
def test_changes_tell_levels(seed, width, step):
    """What was told follows the level to less than a step, as fast as ``width`` allows, and moves for no less."""
    rng = np.random.default_rng(seed)
    sound = rng.uniform(-1, 1, 4000) * np.repeat(rng.choice([0, 1e-4, 0.01, 1], 20), 200)
    encoder = Bands(30, bands=6, step=step, width=width)
    levels, most = encoder.levels(sound, 8000), 2**width - 1
    frames = encoder.frames(sound, 8000).astype(int).reshape(30, 6, 2)
    assert not frames.min(2).any()
    change = frames[..., 1] - frames[..., 0]
    told = change.cumsum(0)
    behind = levels - told
    assert (abs(behind)[abs(change) < most] < 1).all()
    assert (np.sign(behind)[abs(behind) >= 1] == np.sign(change)[abs(behind) >= 1]).all()
    assert (abs(levels - (told - change))[change != 0] >= 1).all()
    assert (told >= 0).all()
    assert encoder.input_format((1, 1, 1)).shape == (1, 6, 2)
    assert Bands(30, "levels", 6, step=step, width=width).frames(sound, 8000).tolist() == np.minimum(
        np.floor(levels), most).tolist()


@pytest.mark.parametrize(("options", "message"), [
    ({"coding": "mel"}, "Encoder bands: coding must be one of delta, levels, not 'mel'"),
    ({"bands": 0}, "Encoder bands: bands must be between 1 and 256, not 0"),
    ({"hop": 1001}, "Encoder bands: hop must be between 1 and 1000 milliseconds, not 1001"),
    ({"step": 0.0}, "Encoder bands: step must be between 0.1 and 100 decibels, not 0.0"),
    ({"floor": 1.0}, "Encoder bands: floor must be between -200 and 0 decibels, not 1.0"),
    ({"floor": float("nan")}, "Encoder bands: floor must be between -200 and 0 decibels, not nan"),
    ({"width": 9}, "Input width must be between 1 and 8 bits, not 9"),
    ({"time_steps": 0}, "Encoder bands: time_steps must be between 1 and 65535, not 0")])
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(SpikeloomError) as error:
        Bands(**options)
    assert str(error.value) == message


def test_bands_that_hear_nothing_are_refused():
    with pytest.raises(SpikeloomError) as error:
        Bands(4, bands=200).frames(np.zeros(100), 8000)
    assert str(error.value) == ("Encoder bands: some of 200 bands lie between the lines of the spectrum at a hop of 16 "
                                "milliseconds; take fewer bands, or a longer hop")


def test_the_page_tells_every_field_and_data_set():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = page.split("## Spike trains and sounds")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE))
    named = [name for name, dataset in data.DATASETS.items() if dataset.holds in ("spikes", "sounds")]
    fields = {field.name: field.default for field in dataclasses.fields(Bands) if field.name != "time_steps"}
    assert sorted(rows) == sorted([*named, *fields])
    for name in named:
        dataset, cells = data.find(name), rows[name].split("|")
        assert re.match(r"\d+", cells[2].strip())[0] == str(dataset.classes)
        assert ENCODERS[cells[4].strip().strip("`")].takes == dataset.holds
    for name in ("bands", "hop", "step", "floor"):
        assert rows[name].endswith(f"by default {fields[name]:g} ".replace("-", "−"))


def test_the_packaged_configuration_takes_them():
    packaged = config.load("fsdd")
    assert packaged.dataset == data.find("fsdd")
    assert packaged.input.shape == (1, 20, 2)
    assert packaged.layers[-1].size == packaged.dataset.classes
