"""The certificate: every part in it, kept when it is finished, and told apart when something differs."""

import json

import pytest
from spikeloom.errors import SpikeloomError
from spikeloom.sim import prove
from test_gateware import frames
from test_netlist import tiny


@pytest.fixture
def parts(monkeypatch):
    """In the place of the long ones: what each comes to, and the names of those that ran."""
    results, ran = {"a": {"result": "equal", "spikes": 3}, "b": {"result": "differs", "difference": "here"}}, []

    def some(program, inputs, build, work, timeout):
        for name in (*results, "c"):
            def part(name=name):
                ran.append(name)
                if name == "c":
                    raise SpikeloomError("no tool")
                return dict(results[name])
            yield name, part

    monkeypatch.setattr(prove, "_parts", some)
    return results, ran


def test_certificate(parts, tmp_path):
    results, ran = parts
    program = tiny("hx8k")
    inputs = frames(program.network, 2)
    made = prove.prove(program, inputs, tmp_path)
    assert not made.good and ran == ["a", "b", "c"]
    stored = json.loads((tmp_path / prove.FILE).read_text())
    assert (stored["kind"], stored["program"], stored["samples"]) == ("certificate", program.digest, 2)
    assert stored["parts"]["c"]["result"] == "not run" and stored["parts"]["c"]["why"] == "no tool"
    assert prove.describe(stored["parts"]["b"]) == "differs, here"
    # Only what was good is kept.
    results["b"] = {"result": "equal"}
    again = prove.prove(program, inputs, tmp_path)
    assert again.good and ran == ["a", "b", "c", "b", "c"]
    assert prove.Certificate.load(tmp_path / prove.FILE) == again
    # Other inputs are another matter.
    prove.prove(program, inputs[:1], tmp_path)
    assert ran[5:] == ["a", "b", "c"]


def test_a_damaged_certificate_is_named(tmp_path):
    path = tmp_path / prove.FILE
    for text, message in (("{", "not a certificate, truncated"), ("[]", "not a certificate of version 1"),
                          ('{"kind": "certificate", "version": 1}', "a field is missing")):
        path.write_text(text)
        with pytest.raises(SpikeloomError, match=message):
            prove.Certificate.load(path)
