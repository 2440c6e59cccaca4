"""Studies: what a file may say, trials by one worker and by several, workers that are killed, and what comes out."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spikeloom import study
from spikeloom.errors import SpikeloomError
from spikeloom.study import definition, results, trial
from spikeloom.training.train import load as load_checkpoint
from spikeloom.training.train import train

NETWORK = """
readout = "membrane"
seed = 1
encoder = { kind = "direct", width = 1, time_steps = 2 }
training = { loss = { kind = "last_membrane" }, epochs_float = 1, epochs_quantized = 1, batch = 64 }

[data]
dataset = "digits"

[[layers]]
size = 6
weights = { kind = "int", width = 3 }

[[layers]]
size = 10
weights = { kind = "int", width = 3 }
reset = "none"
fire = { kind = "silent" }
"""

STUDY = """
config = "network.toml"
target = "hx8k"
samples = 1
backend = "amaranth"
set = { "training.rate" = 0.02 }

[space.bits.choices]
2 = { "layers.*.weights.width" = 2 }
4 = { "layers.*.weights.width" = 4, "layers.*.v_width" = 8 }

[space.epochs]
key = "training.epochs_quantized"
values = [1, 2]
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "network.toml").write_text(NETWORK)
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY)
    return path


def read(path, old, new):
    path.write_text(STUDY.replace(old, new))
    return definition.load(path)


# What is tried -------------------------------------------------------------------------------------


def test_a_grid_has_all_combinations(file):
    found = definition.load(file)
    assert found.combinations == [{"bits": bits, "epochs": epochs} for bits in ("2", "4") for epochs in (1, 2)]
    config = found.config({"bits": "4", "epochs": 2})
    assert [(layer.weights.width, layer.v_width) for layer in config.layers] == [(4, 8), (4, 8)]
    assert config.training.epochs_quantized == 2 and config.training.rate == 0.02
    assert found.placing({"bits": "4", "epochs": 2}) == {"target": "hx8k"}


def test_a_study_that_was_begun_is_known_again():
    """What a storage compares is that of before keys of configurations were added that say nothing new."""
    content = json.dumps(definition.load("fashion_mnist_cnn").fields, sort_keys=True)
    assert hashlib.sha256(content.encode()).hexdigest().startswith("f930a243c10d50a5")


def test_settings_of_the_compiler(file):
    found = read(file, 'set = {', 'set = { "compile.lanes" = 4, "compile.sparse" = "never",')
    assert found.placing({"bits": "2", "epochs": 1}) == {"target": "hx8k", "lanes": 4, "sparse": "never"}


@pytest.mark.parametrize(("old", "new", "message"), [
    ("network.toml", "nowhere.toml", "No such file"),
    ('target = "hx8k"', "", "target must be a string, not None"),
    ("hx8k", "virtex", "virtex"),
    ("samples = 1", "sample = 1", "sample is unknown; known here are config, space, start, target"),
    ("samples = 1", "samples = 0", "samples must be 1 or more, not 0"),
    ("amaranth", "netlist", "backend must be one of verilator, icarus, amaranth, not 'netlist'"),
    ("samples = 1", 'sampler = "best"', "sampler must be one of grid, random, tpe, nsga2, not 'best'"),
    ("samples = 1", 'sampler = "tpe"', "trials must be 1 or more with sampler 'tpe', not 0"),
    ("samples = 1", 'objectives = ["beauty"]', r"objectives must be of accuracy, .*, not \['beauty'\]"),
    ("samples = 1", 'start = { sets = 1 }', "start must be a table with nothing but set"),
    ('"training.rate"', '"training.speed"', "with bits 2, epochs 1: training.speed is unknown"),
    ('"training.rate" = 0.02', '"compile.sparse" = "maybe"', "compile.sparse must be one of"),
    ("values = [1, 2]", "values = []", "space.epochs must have choices; or a key with values, or with low and high"),
    ("values = [1, 2]", "low = 1\nhigh = 3", "space.epochs: a grid needs values or choices, not low and high"),
    ("values = [1, 2]", "values = [1, 0]",
     "with bits 2, epochs 0: training.epochs_quantized must be 1 or more, not 0"),
    ('layers.*.weights.width" = 2', 'layers.5.weights.width" = 2', r"'5' in a setting's path must be \* or below 2"),
    ('layers.*.weights.width" = 2', 'layers.*.size.width" = 2', "goes on with 'width' where there is a value already"),
])
def test_mistakes_are_told(file, old, new, message):
    with pytest.raises(SpikeloomError, match=message) as caught:
        read(file, old, new)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


# Trials --------------------------------------------------------------------------------------------


def test_a_study_and_what_is_written(file, tmp_path):
    said, out = [], tmp_path / "out"
    rows = study.study(file, out, progress=False, say=said.append)
    assert [row.values for row in rows] == definition.load(file).combinations
    assert len(said) == 4 and all("accuracy" in line for line in said)
    for row in rows:
        assert set(row.figures) == {*results.COLUMNS, *results.FOLDERS} and row.figures["cycles"] > 0 and not row.error
        assert row.figures["predicted"] == pytest.approx(row.figures["cycles"], rel=0.3)
    with open(out / "results.csv") as text:
        table = list(csv.DictReader(text))
    assert [line["accuracy"] for line in table] == [str(row.figures["accuracy"]) for row in rows]
    assert (out / "table.txt").read_text() == results.table(rows) + "\n"
    for against in results.AGAINST:
        assert (out / f"accuracy-{against}.png").read_bytes()[:4] == b"\x89PNG"

    # Each point again, from its configuration alone.
    again = train(out / "runs" / rows[1].figures["run"] / "config.toml", tmp_path / "again", progress=False)
    assert load_checkpoint(again).accuracy == rows[1].figures["accuracy"]

    said.clear()
    assert study.study(file, out, progress=False, say=said.append) == rows and said == []

    read(file, "values = [1, 2]", "values = [1, 3]")
    with pytest.raises(SpikeloomError, match="holds another study called tiny"):
        study.study(file, out, progress=False)


def test_trials_that_come_to_nothing_are_told_and_the_others_go_on(file, tmp_path):
    read(file, "[space.epochs]", """
[space.membrane.choices]
saturates = {}
levels = { "layers.1.membrane" = { kind = "levels" } }

[space.epochs]""")
    file.write_text(file.read_text().replace("values = [1, 2]", "values = [1]").replace("4 = {", "# 4 = {"))
    rows = study.study(file, tmp_path / "out", progress=False, say=str)
    assert [bool(row.figures) for row in rows] == [True, False]
    assert "levels of a membrane cannot be read out as scores in gateware" in rows[1].error
    assert rows[1].error in results.table(rows)
    assert rows[1].error in (tmp_path / "out" / "results.csv").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_trial_that_breaks_off_is_taken_up_again(file, tmp_path, monkeypatch, error):
    run, broken = trial.run, []

    def breaks(definition, values, **doing):
        if values == {"bits": "2", "epochs": 2} and not broken:
            broken.append(values)
            raise error
        return run(definition, values, **doing)

    monkeypatch.setattr(trial, "run", breaks)
    with pytest.raises(error):
        study.study(file, tmp_path / "out", progress=False, say=str)
    rows = study.study(file, tmp_path / "out", progress=False, say=str)
    assert broken and [row.values for row in rows] == definition.load(file).combinations
    assert all(row.figures for row in rows)


def test_a_storage_that_cannot_be_used(file, tmp_path):
    with pytest.raises(SpikeloomError, match=r"cannot be used as a study's storage"):
        study.study(file, tmp_path / "out", storage="postgresql://127.0.0.1:1/nothing", progress=False)


def test_a_sampler_of_ranges(file, tmp_path):
    file.write_text(STUDY.replace("values = [1, 2]", "low = 1\nhigh = 3").replace(
        "samples = 1", 'samples = 1\nsampler = "tpe"\ntrials = 2'))
    rows = study.study(file, tmp_path / "out", progress=False, say=str)
    assert 1 <= len(rows) <= 2 and all(1 <= row.values["epochs"] <= 3 for row in rows)


# Workers -------------------------------------------------------------------------------------------

WORKER = """
import sys
from spikeloom.study import study
study(sys.argv[1], sys.argv[2], storage=sys.argv[3], progress=False, heartbeat=1,
      say=lambda text: print(text, flush=True))
"""


def worker(file, out, storage):
    return subprocess.Popen([sys.executable, "-c", WORKER, str(file), str(out), storage], stdout=subprocess.PIPE,
                            text=True)


def trials(lines):
    return [int(line.split()[1].rstrip(":")) for line in lines]


def test_a_killed_worker_loses_its_trial_alone(file, tmp_path):
    storage, out = f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "out"
    read(file, "values = [1, 2]", "values = [1]")
    with worker(file, out, storage) as first:
        done = first.stdout.readline()
        until = time.monotonic() + 60
        while len(list((out / "runs").glob("*/config.toml"))) < 2 and time.monotonic() < until:
            time.sleep(0.01)  # the second one is under way
        first.send_signal(signal.SIGKILL)
    said = []
    until = time.monotonic() + 120
    while not said and time.monotonic() < until:  # it is put back once it has been silent for long enough
        rows = study.study(file, out, storage=storage, progress=False, heartbeat=1, say=said.append)
        time.sleep(0.2)
    assert [row.values for row in rows] == definition.load(file).combinations
    assert all(row.figures for row in rows)
    assert trials([done]) == [0] and len(said) == 1


def together(file, tmp_path, storage):
    """Two workers on one storage, each with a folder of its own; every combination is done once."""
    read(file, "values = [1, 2]", "values = [1]")
    workers = [worker(file, tmp_path / f"out_{number}", storage) for number in range(2)]
    lines = [each.communicate(timeout=300)[0].splitlines() for each in workers]
    assert [each.returncode for each in workers] == [0, 0]
    assert len(lines[0]) + len(lines[1]) == 2
    rows = study.study(file, tmp_path / "out", storage=storage, progress=False, heartbeat=1)
    assert [row.values for row in rows] == definition.load(file).combinations
    assert len({row.number for row in rows}) == 2 and all(row.figures for row in rows)


def test_two_workers_on_one_file(file, tmp_path):
    together(file, tmp_path, f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture
def postgres(tmp_path):
    """The URL of a database of its own on a PostgreSQL server."""
    pytest.importorskip("psycopg")
    programs = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL is not installed")
    folder = Path("/tmp") / f"spikeloom-{os.getpid()}"  # the path of its socket must be short, and open to its user
    folder.mkdir(mode=0o700)
    who = {}
    if os.getuid() == 0:  # it refuses to be run by root
        try:
            shutil.chown(folder, "postgres")
        except LookupError:
            pytest.skip("there is no user to run PostgreSQL as")
        who = {"user": "postgres", "cwd": folder}
    options = {"check": True, "stdout": subprocess.DEVNULL, **who}
    initdb, pg_ctl = programs
    data = folder / "data"
    try:
        made = subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "postgres"], **options | {"check": False})
        if made.returncode:
            pytest.skip("PostgreSQL cannot make a database here")
        subprocess.run([pg_ctl, "-D", data, "-w", "-l", folder / "log", "-o", f"-c listen_addresses='' -k {folder}",
                        "start"], **options)
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], **options)
    finally:
        shutil.rmtree(folder)


def test_two_workers_on_a_postgresql_server(file, tmp_path, postgres):
    together(file, tmp_path, postgres)
