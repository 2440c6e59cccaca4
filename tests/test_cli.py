"""The command line as a user meets it: verbs in a row, and one line for each mistake."""

import json
import subprocess
import sys

import numpy as np
import pytest
from spikeloom import cli
from spikeloom.compiler.program import Program
from spikeloom.network import Network


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a few epochs, quantized and compiled."""
    folder = tmp_path_factory.mktemp("run")
    config = folder / "tiny.toml"
    from importlib.resources import files
    text = (files("spikeloom") / "configs" / "digits.toml").read_text()
    config.write_text(text.replace("epochs_float = 40", "epochs_float = 2").replace(
        "epochs_quantized = 80", "epochs_quantized = 2").replace("size = 64", "size = 24"))
    assert cli.main(["train", str(config), "-o", str(folder)]) == 0
    assert cli.main(["quantize", str(folder / "checkpoint.pt")]) == 0
    assert cli.main(["compile", str(folder / "network.npz"), "--target", "icebreaker"]) == 0
    return folder


def test_verbs_in_a_row(folder, capsys):
    network = Network.load(folder / "network.npz")
    assert [layer.n_out for layer in network.layers] == [24, 10]
    assert Program.load(folder / "program.npz").network.digest == network.digest
    status, out, _ = run(capsys, "verilog", folder / "program.npz")
    assert status == 0 and "module spikeloom" in (folder / "program.v").read_text()
    for backend in ("reference", "torch", "amaranth"):
        status, out, _ = run(capsys, "simulate", folder / "program.npz", "--backend", backend, "--samples", "3")
        assert status == 0 and out.startswith(f"{backend} equals the reference on 3 samples: ")
    status, out, _ = run(capsys, "simulate", folder / "network.npz", "--backend", "torch", "--samples", "3")
    assert status == 0


def test_simulate_exits_at_the_first_difference(folder, tmp_path, capsys, monkeypatch):
    from spikeloom.sim import backend

    def wrong(program, inputs, **_):
        seen, cycles = backend._reference(program, inputs)
        seen.membranes[1][2, 1, 4] += 1
        return seen, cycles

    monkeypatch.setitem(backend.BACKENDS, "torch", wrong)
    status, _, err = run(capsys, "simulate", folder / "network.npz", "--backend", "torch", "--samples", "5")
    assert status == 1
    assert err.startswith("torch differs from the reference: sample 2, time step 1, layer output, neuron 4: "
                          "membrane potential ")


def test_simulate_takes_inputs_of_the_users(folder, tmp_path, capsys):
    network = Network.load(folder / "network.npz")
    path, out = tmp_path / "mine.npz", tmp_path / "seen.npz"
    np.savez(path, inputs=np.ones((2, network.time_steps, network.input.size), np.uint8))
    status, said, _ = run(capsys, "simulate", folder / "program.npz", "--backend", "amaranth", "--inputs", path,
                          "-o", out)
    assert status == 0 and "on 2 samples" in said
    status, said, _ = run(capsys, "info", out)
    assert status == 0 and said.startswith("simulation of ") and "on amaranth: 2 samples" in said


def test_info_says_what_each_file_holds(folder, capsys):
    for name, word in (("checkpoint.pt", "checkpoint after epoch 4 of 4, finished"), ("network.npz", "network "),
                       ("program.npz", "program "), ("tiny.toml", "{")):
        status, out, _ = run(capsys, "info", folder / name)
        assert status == 0 and out.startswith(word)


MISTAKES = {
    "no such file": (["compile", "{tmp}/absent.npz", "--target", "hx8k"], "absent.npz: no such file"),
    "unknown target": (["compile", "{run}/network.npz", "--target", "virtex"], "Target must be one of"),
    "a network where a program is needed": (["verilog", "{run}/network.npz"], "holds a 'network', where a 'program'"),
    "a network for gateware": (["simulate", "{run}/network.npz", "--backend", "amaranth"], "compile the network first"),
    "unknown backend": (["simulate", "{run}/program.npz", "--backend", "fpga"], "Backend must be one of"),
    "stalls for ever": (["simulate", "{run}/program.npz", "--backend", "amaranth", "--stall", "1"],
                        "Stall must be a chance of at least 0 and below 1, not 1.0"),
    "a file of another kind": (["info", "{tmp}/text.npz"], "it is no .npz archive"),
    "unknown configuration": (["train", "nothing", "-o", "{tmp}/x"], "nothing"),
    "too many samples": (["simulate", "{run}/network.npz", "--backend", "torch", "--samples", "99999"], "Samples"),
    "truncated": (["info", "{tmp}/cut.npz"], "truncated or corrupted"),
    "not ours": (["info", "{tmp}/other.npz"], "it has no header"),
    "inputs of the wrong shape": (["simulate", "{run}/program.npz", "--backend", "amaranth",
                                   "--inputs", "{tmp}/other.npz"], "Inputs must have shape"),
    "missing data": (["train", "mnist", "-o", "{tmp}/m"], "Data set mnist needs a data directory"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_take_one_line(name, folder, tmp_path, capsys):
    whole = (folder / "network.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "other.npz", inputs=np.zeros((1, 2, 3), int))
    (tmp_path / "text.npz").write_text("not an archive")
    before = sorted(tmp_path.rglob("*"))
    arguments, words = MISTAKES[name]
    status, out, err = run(capsys, *(argument.format(run=folder, tmp=tmp_path) for argument in arguments))
    assert status == 2 and out == ""
    assert words in err and err.startswith("spikeloom: ") and err.count("\n") == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]


def test_help_imports_no_stage():
    code = ("import json, sys, spikeloom.cli\n"
            "try: spikeloom.cli.main(['--help'])\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'amaranth', 'numpy', 'matplotlib'}\n"
            "print(json.dumps(sorted(heavy & set(sys.modules))), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == []
    for verb in ("train", "quantize", "compile", "verilog", "simulate", "build", "report", "info"):
        assert verb in done.stdout
