"""The report of a run's folder: what it finds, what it says, and what it refuses."""

import dataclasses
import json
import re

import numpy as np
import pytest
from spikeloom import cli, files, reference, report
from spikeloom.compiler.compile import compile
from spikeloom.data import samples
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    Attention,
    ChannelGate,
    Conv2d,
    Dense,
    GradedSpike,
    InputFormat,
    Network,
    Pool,
    ShiftLeak,
    Shortcut,
    Silent,
    WeightFormat,
)
from spikeloom.report import meters, pictures
from spikeloom.sim import trace
from spikeloom.training import config, train

SAMPLES = 6


def layer(rng, name, n_in, n_out, kind="ternary", width=2, **options):
    weight_format = WeightFormat(kind, width)
    return Dense(name, rng.choice(weight_format.values, (n_out, n_in)), weight_format, np.full(n_out, 4),
                 rng.integers(-1, 2, n_out), 6, **options)


@pytest.fixture
def network():
    rng = np.random.default_rng(1)
    return Network(InputFormat(9, 2), (layer(rng, "hidden", 9, 12, leak=ShiftLeak(3)),
                                       layer(rng, "out", 12, 3, "int", 4, fire=Silent(), reset="none")),
                   5, "membrane", {"accuracy": {"float": 0.75, "torch": 0.5}, "events": [9.0, 4.0]})


@pytest.fixture
def folder(tmp_path, network):
    """A run's folder with everything but a checkpoint; the simulation is the reference's, called Verilator's."""
    program = compile(network, "icebreaker")
    inputs = np.random.default_rng(2).integers(0, 4, (SAMPLES, 5, 9))
    network.save(tmp_path / "network.npz")
    program.save(tmp_path / "program.npz")
    simulate(tmp_path, program, inputs, reference.run(network, inputs))
    build(tmp_path, program=program.digest, network=network.digest)
    return tmp_path


def conv(rng, name, shape, channels, kernel=3, **options):
    form, groups = WeightFormat("ternary", 2), options.get("groups", 1)
    fields = {"input_shape": shape, "weight_format": form, "v_width": 6, "padding": kernel // 2} | options
    return Conv2d(name=name, weights=rng.choice(form.values, (channels, shape[2] // groups, kernel, kernel)),
                  threshold=np.full(channels, 3), bias=rng.integers(-1, 2, channels), **fields)


def map_network(channels, *, votes=2):
    """A network on maps of ``channels``: every kind of convolution, pool and shortcut, and a branch past a layer."""
    rng = np.random.default_rng(5)
    identity = Shortcut("entry", (6, 8, 4), np.full((4, 1, 1, 1), 2), WeightFormat("int", 3), groups=4)
    layers = (conv(rng, "entry", (6, 8, channels), 4, 5),
              conv(rng, "depth", (6, 8, 4), 4, groups=4),
              conv(rng, "both", (6, 8, 4), 4, shortcut=identity),
              conv(rng, "down", (6, 8, 4), 6, padding=0, stride=2, groups=2, pool=Pool("max", 2, 1)),
              layer(rng, "out", 6, 3 * votes, input_shape=(1, 3, 6), pool=Pool("sum", 1, 3)))
    return Network(InputFormat(48 * channels, 2, (6, 8, channels)), layers, 4, votes=votes)


def simulate_maps(folder, network, count=3):
    """A run's folder with a network on maps and a simulation without labels; the inputs, and what was seen."""
    network.save(folder / "network.npz")
    inputs = np.random.default_rng(6).integers(0, 4, (count, network.time_steps, network.input.size))
    seen = reference.run(network, inputs)
    trace.save(folder / "simulation.npz", network, "torch", inputs, None, seen, None)
    return inputs, seen


def simulate(folder, program, inputs, seen, labels=(0, 1, 2, 0, 1, 2)):
    trace.save(folder / "simulation.npz", program, "verilator", inputs, np.array(labels), seen, 600)


def build(folder, **changes):
    fields = {"kind": "build", "version": 2, "board": "icebreaker", "device": "iCE40UP5K SG48", "seed": 7,
              "program": "", "network": "", "build": "", "target_clock": 12.0, "clock_source": "oscillator",
              "clock": 48.0, "transport": "uart", "baud": 1000000, "boot_offset": None,
              "luts": 900, "ffs": 800, "logic_used": 1234, "logic_available": 5280,
              "blocks_used": 8, "blocks_available": 30, "layers": {"": 100, "hidden": 600, "out": 200},
              "cells": {}, "tools": {"yosys": "0.99 (native)"},
              "inputs": "", "bitstream": "icebreaker.bin", "bitstream_digest": "ab" * 32}
    (folder / "build").mkdir(exist_ok=True)
    (folder / "build" / "build.json").write_text(json.dumps(fields | changes))


def page(folder):
    report.write(report.Findings.gather(folder), folder / "report.html")
    return (folder / "report.html").read_text()


def change(path, **arrays):
    header, found = files.load(path)
    kind, version = header.pop("kind"), header.pop("version")
    files.save(path, kind, version, header, found | arrays)


def test_the_table_holds_every_figure(folder):
    rows = dict(report.Findings.gather(folder).rows)
    assert rows["accuracy, float"] == "75.00%" and rows["accuracy, torch-integer"] == "50.00%"
    assert rows["accuracy, gateware"].endswith(" of 6 samples")
    assert re.fullmatch(r"100 simulated, \d+ predicted", rows["cycles per sample"])
    assert rows["clock"] == "12 MHz (icebreaker's oscillator), 48 MHz (routed)"
    assert rows["time per sample"] == "8.33 µs at 12 MHz, 2.08 µs at 48 MHz"
    assert rows["LUTs"] == "900; 1,234 of 5,280 logic cells used" and rows["block RAMs"] == "8 of 30"
    # 108 weights of 2 bits and 36 of 4; 15 membranes of 6 bits
    assert re.fullmatch(r"45 bytes, \d+% zeros; 2\.\d+ bits a weight in the cheapest format", rows["weights"])
    assert rows["membranes"] == "12 bytes"
    assert re.fullmatch(r"equal in \d+ spikes and 450 membrane potentials of 6 samples",
                        rows["gateware against reference"])


def test_the_page_is_self_contained_and_says_what_it_shows(folder):
    text = page(folder)
    assert not re.search(r'<script|<link|(src|href)="(?!data:)|url\(|@import', text)
    assert "Equal, bit for bit." in text and "0 of 900 values differ in 6 samples" in text
    assert text.count("<img") == text.count('src="data:image/svg+xml;base64,') == 3 * 2 + 4
    assert text.count("<figcaption>") == text.count("<figure>") == 3 * 2 + 4 + 1  # and the confusion matrix
    for said in ("1,234 of 5,280", "0.99 (native)", "placement seed 7", "4-bit int", "shift 3", "weights\u00a09"):
        assert said in text


def test_the_same_network_gives_the_same_picture(network):
    assert pictures.weights(network) == pictures.weights(network)


def test_a_difference_is_named_on_top(folder, network, monkeypatch):
    _, inputs, labels, seen = trace.load(folder / "simulation.npz")
    seen.membranes[0][4, 3, 2] += 1
    simulate(folder, compile(network, "icebreaker"), inputs, seen, labels)
    expected = seen.membranes[0][4, 3, 2] - 1
    said = f"sample 4, time step 3, layer hidden, neuron 2: membrane potential {expected + 1}, expected {expected}"
    monkeypatch.setattr(report.page, "_activity", lambda findings: "")  # has nothing to do with it
    text = page(folder)
    assert said in text and '<p class="banner bad">' in text and "1 of 900 values differ" in text
    assert "Equal, bit for bit" not in text and "<h3>Sample 4" in text
    assert f"DIFFERS at {said}" in report.table(report.Findings.gather(folder))


def test_meters_are_those_of_the_simulated_samples(folder, network, monkeypatch):
    for drawn in ("_samples", "_weights", "_activity"):  # have nothing to do with it
        monkeypatch.setattr(report.page, drawn, lambda findings: "")
    _, inputs, _, seen = trace.load(folder / "simulation.npz")
    hidden, out = meters.activity(network, inputs, seen)
    rows = dict(report.Findings.gather(folder).rows)
    assert rows["spike rate"] == f"{(seen.spikes[0] != 0).mean():.1%} of neurons in a time step"  # the other is silent
    assert rows["synaptic operations"] == f"{hidden.operations + out.operations:,.0f} per sample"
    text, (first, last) = page(folder), meters.memory(network)
    assert f"<td>{hidden.rate:.1%}</td>" in text and "<h2>Meters</h2>" in text
    for memory, activity in ((first, hidden), (last, out)):
        assert f"{activity.operations:,.0f}</td>" in text and f"<td>{memory.format}</td>" in text
        assert f">{memory.bits_per_weight:.3g}</td>" in text
    flops = meters.flops(network, [hidden, out])
    dense, saved = sum(each.dense for each in flops), meters.reduction(flops)
    assert rows["FLOPs of a dense network"] == (
        f"{dense:,} per time step, of which gates and potentials at zero save {saved:.1%}")
    assert f">{dense:,}</td>" in text and f">{saved:.1%}</td>" in text and f">{out.resting:.1%}</td>" in text
    assert rows["weights and membranes"] == meters.savings([first, last])
    (folder / "simulation.npz").unlink()
    rows = dict(report.Findings.gather(folder).rows)
    assert "FLOPs of a dense network" not in rows
    assert "spike rate" not in rows and "synaptic operations" not in rows and rows["membranes"] == "12 bytes"
    assert "<h2>Meters</h2>" in page(folder)


def test_only_the_network_is_needed(folder):
    for path in ("program.npz", "simulation.npz", "build/build.json"):
        (folder / path).unlink()
    text = page(folder)
    for path in ("program.npz", "simulation.npz", "build/build.json", "checkpoint.pt", "the test set"):
        assert f"<li>{path}: " in text
        assert f"missing: {path}: " in report.table(report.Findings.gather(folder))


def test_without_a_build_the_logic_is_predicted(folder):
    (folder / "build" / "build.json").unlink()
    rows = dict(report.Findings.gather(folder).rows)
    assert rows["clock"] == "12 MHz (icebreaker's oscillator)"
    assert re.fullmatch(r"about [\d,]+ of 5,280 \(predicted\)", rows["LUTs"])


def test_digits_are_shown_as_images_and_tested_whole(tmp_path):
    rng = np.random.default_rng(3)
    data = {"dataset": "digits", "encoder": {"kind": "direct", "time_steps": 2, "width": 2}}
    Network(InputFormat(64, 2), (layer(rng, "out", 64, 10),), 2, notes={"data": data}).save(tmp_path / "network.npz")
    findings = report.Findings.gather(tmp_path)
    assert findings.shape == (8, 8, 1) and findings.missing[-1].startswith("checkpoint.pt")
    assert dict(findings.rows)["accuracy, reference"].endswith(" of 450 samples")
    assert "The reference on the whole test set" in page(tmp_path)


def test_of_a_large_test_set_only_the_first_samples_run(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    data = {"dataset": "digits", "encoder": {"kind": "direct", "time_steps": 2, "width": 2}}
    network = Network(InputFormat(64, 2), (layer(rng, "out", 64, 10),), 2,
                      notes={"data": data, "accuracy": {"torch": 0.5}})
    network.save(tmp_path / "network.npz")
    whole = report.Findings.gather(tmp_path).test
    monkeypatch.setattr(report.findings, "WORK", 2 * 640 * 100 + 5)
    monkeypatch.setattr(report.findings, "VALUES", 2 * 74 * 30)
    findings = report.Findings.gather(tmp_path)
    assert np.array_equal(findings.test.winners, whole.winners[:100]) and whole.whole and not findings.test.whole
    inputs, _ = samples(network.notes["data"], "test", 100)
    seen, = meters.activity(network, inputs, reference.run(network, inputs))
    found, = findings.activity
    assert (found.rate, found.operations) == pytest.approx((seen.rate, seen.operations), rel=1e-12)
    rows = dict(findings.rows)
    assert rows["synaptic operations"] == f"{seen.operations:,.0f} per sample"
    assert rows["accuracy, torch-integer"] == "50.00% of 450 samples"
    assert rows["accuracy, reference"].endswith(" of 100 samples")
    text = page(tmp_path)
    assert "The reference on the first 100 of 450 samples of the test set" in text
    assert "recomputed here, on the first of 450" in text
    monkeypatch.setattr(report.findings, "WORK", 2 * 640 - 1)
    assert report.Findings.gather(tmp_path).missing[-1] == (
        "the test set: a sample takes up to 1.3e+03 synaptic operations, too many for the reference")


@pytest.mark.parametrize(("channels", "pictures_of"), [(1, 0), (2, 1), (3, 1)])
def test_maps_of_any_channels_without_labels(tmp_path, channels, pictures_of):
    simulate_maps(tmp_path, map_network(channels), 1)
    findings = report.Findings.gather(tmp_path)
    assert findings.shape == (6, 8, channels)
    text = page(tmp_path)
    samples = text.count("<h3>Sample")
    # The kernels of three layers, frames and rasters and traces of each sample, four of activity.
    assert text.count("<img") == 1 + 3 + samples * (2 + pictures_of) + 4 and samples == 1
    assert text.count("<figcaption>The frames that came in: off in blue, on in red.<") == samples * (channels == 2)
    assert text.count("<figcaption>The frames that came in.<") == samples * (channels == 3)
    assert "The kernels of entry, a column for each of its 4 channels" in text and "The kernels of depth" in text
    assert f"Spikeloom: 6x8x{channels}-4c5-4c3-4c3-6c3-6" in text and "2 neurons to a class" in text
    for cell in (f"6x8x{channels} → 6x8x4", "3x3 depthwise conv", "6x8x4 → 1x3x6", "1x3x6 → 6",
                 "3x3 conv, and from entry 1x1 depthwise conv", "max pool 2x1, 3x3 conv, stride 2, padding 0, 2 groups",
                 "sum pool of all positions, dense"):
        assert f"<td>{cell}</td>" in text


def test_a_difference_in_a_map_is_ringed(tmp_path, monkeypatch):
    network = map_network(2)
    inputs, seen = simulate_maps(tmp_path, network, 1)
    ringed = []
    real = pictures._positions
    monkeypatch.setattr(pictures, "_positions", lambda axes, pair, wrong, shape: (
        ringed.append(wrong.reshape(-1, *shape)), real(axes, pair, wrong, shape)))
    seen.spikes[1][0, 2, 77] ^= 1
    monkeypatch.setattr(report.page, "_activity", lambda findings: "")
    monkeypatch.setattr(report.page, "_weights", lambda findings: "")
    trace.save(tmp_path / "simulation.npz", network, "torch", inputs, None, seen, None)
    assert "First at sample 0, time step 2, layer depth, neuron 77: spike" in page(tmp_path)
    assert np.argwhere(ringed[1]).tolist() == [[2, *np.unravel_index(77, (6, 8, 4))]]
    assert sum(wrong.sum() for wrong in ringed) == 1


def test_events_come_from_each_layers_own_source(tmp_path):
    rng = np.random.default_rng(8)
    shortcut = Shortcut("past", (3, 3, 2), np.ones((2, 2, 1, 1), int), WeightFormat("int", 2))
    network = Network(InputFormat(18, 2, (3, 3, 2)), (
        conv(rng, "past", (3, 3, 2), 2), conv(rng, "other", (3, 3, 2), 2, source="input", shortcut=shortcut),
        layer(rng, "out", 18, 2)), 4)
    inputs, seen = simulate_maps(tmp_path, network)
    entering = report.Findings.gather(tmp_path).simulation.entering
    from_input = np.bitwise_count(inputs).sum(axis=2).ravel()
    assert np.array_equal(entering, np.stack([from_input, from_input, seen.spikes[1].sum(axis=2).ravel()], axis=1))


def test_the_reference_runs_in_batches(tmp_path, monkeypatch):
    network = map_network(2)
    _, seen = simulate_maps(tmp_path, network, 5)
    monkeypatch.setattr(report.findings, "VALUES", 2 * network.time_steps * (96 + 4 * 144 + 18 + 6) + 1)
    assert report.findings._batch(network) == 2
    expected = report.Findings.gather(tmp_path).simulation.expected
    for name in ("spikes", "membranes"):
        for a, b in zip(getattr(expected, name), getattr(seen, name), strict=True):
            assert np.array_equal(a, b)
    assert np.array_equal(expected.scores, seen.scores) and np.array_equal(expected.winners, seen.winners)


def test_polarities_have_colours(monkeypatch):
    class Axis:
        def pcolormesh(self, colors, **_):
            self.colors = colors[::-1]

        def __getattr__(self, name):
            return lambda *_, **__: None

    axis = Axis()
    monkeypatch.setattr(pictures, "_frame", lambda axis: None)
    pictures._image(axis, np.array([[[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0]]]))
    white, off, on, both, half = axis.colors[0]
    assert white.tolist() == [1, 1, 1]
    to_rgb = pictures.matplotlib.colors.to_rgb
    assert np.allclose(off, to_rgb(pictures.OFF)) and np.allclose(on, to_rgb(pictures.ON))
    assert (both <= np.minimum(off, on)).all() and np.allclose(half, (1 + off) / 2)
    pictures._image(axis, np.array([[[0.25], [1]]]))
    assert axis.colors[0].tolist() == [[0.75] * 3, [0] * 3]


def test_of_many_layers_some_are_shown_and_all_that_differ():
    rng = np.random.default_rng(9)
    count = 13
    network = Network(InputFormat(4), tuple(layer(rng, f"layer_{n}_", 4, 4) for n in range(count)), 3)
    inputs = np.ones((1, 3, 4), int)
    expected, seen = reference.run(network, inputs), reference.run(network, inputs)
    evenly = [0, 2, 5, 7, 10, 12]
    assert pictures._shown(expected.membranes, seen.membranes, 0, 6) == evenly
    seen.membranes[4][0, 1, 2] += 1
    drawn = pictures.traces(network, expected, seen, 0)
    assert [n for n in range(count) if f"layer_{n}_, neuron" in drawn] == sorted([*evenly, 4])
    assert pictures._shown(expected.spikes, seen.spikes, 0, 20) == list(range(count))


def test_info_says_what_synapses_are(tmp_path, capsys):
    map_network(2).save(tmp_path / "network.npz")
    assert cli.main(["info", str(tmp_path / "network.npz")]) == 0
    said = capsys.readouterr().out
    assert ": 6 x 8 x 2 inputs of 2 bit, " in said
    assert "  entry: 6x8x2 -> 6x8x4, 5x5 conv, 2-bit ternary weights (" in said
    assert "  out: 1x3x6 -> 6, sum pool of all positions, dense, " in said
    first, *_ = memories = meters.memory(map_network(2))
    assert f"; {meters.size(first.weight_bits)} and {meters.size(first.membrane_bits)}\n" in said
    assert f"; weights and membranes {meters.savings(memories)}\n" in said


def test_attention_is_told_and_its_weights_are_shown():
    rng, form = np.random.default_rng(10), WeightFormat("int", 3)
    attention = Attention(rng.choice(form.values, (4, 4, 3)), rng.choice(form.values, (2, 2, 3)), form, 2,
                          (0, 1, 2, 3))
    layers = (conv(rng, "first", (3, 3, 2), 2, 1), layer(rng, "out", 18, 3, input_shape=(3, 3, 2), attention=attention))
    network = Network(InputFormat(18, 1, (3, 3, 2)), layers, 4)
    assert report.page.sizes(layers[1]) == ["3x3x2", "3"]
    assert report.page.synapses(layers[1]) == "attention to time and channels, dense"
    gated = dataclasses.replace(layers[0], gate=ChannelGate(np.ones((2, 2), int), form, np.zeros(2, int), (0, 1)))
    assert report.page.synapses(gated) == report.page.synapses(layers[0]) + ", gate of channels"
    drawn = pictures.weights(network)
    assert "out, attention to time: 3-bit int" in drawn and "out, attention to channels: 3-bit int" in drawn


def test_graded_spikes_in_the_reference_alone(tmp_path):
    rng = np.random.default_rng(4)
    network = Network(InputFormat(40), (layer(rng, "graded", 40, 30, "pot", 4, fire=GradedSpike(-3, 3)),
                                        layer(rng, "out", 30, 2, "int", 8)), 20)
    network.save(tmp_path / "network.npz")
    inputs = rng.integers(0, 2, (2, 20, 40))
    seen = reference.run(network, inputs)
    trace.save(tmp_path / "simulation.npz", network, "torch", inputs, None, seen, None)
    assert "Torch (torch) and reference agree" in page(tmp_path)


def test_a_simulation_of_another_program_is_refused(folder, network):
    other = dataclasses.replace(network, readout="count")
    program = compile(other, "icebreaker")
    _, inputs, _, seen = trace.load(folder / "simulation.npz")
    simulate(folder, program, inputs, seen)
    digest = compile(network, "icebreaker").digest[:16]
    with pytest.raises(SpikeloomError) as caught:
        report.Findings.gather(folder)
    assert str(caught.value) == (f"{folder / 'simulation.npz'}: is of program {program.digest[:16]}, where this "
                                 f"folder's is {digest}; make it again")
    program.save(folder / "program.npz")
    with pytest.raises(SpikeloomError, match=r"program.npz: is of network"):
        report.Findings.gather(folder)


def test_a_build_of_another_program_is_refused(folder):
    build(folder, program="f" * 64)
    with pytest.raises(SpikeloomError, match="build: is of program ffffffffffffffff, where this folder's is"):
        report.Findings.gather(folder)


def test_a_checkpoint_tells_the_configuration_and_must_be_the_runs_own(tmp_path, network):
    state = train.State.fresh(config.load("digits"))
    train.save(state, tmp_path / "checkpoint.pt")
    dataclasses.replace(network, notes={"config": state.config.digest}).save(tmp_path / "network.npz")
    text = page(tmp_path)
    assert f"seed {state.config.seed}, 0 of " in text and state.config.digest in text
    dataclasses.replace(network, notes={"config": "0" * 64}).save(tmp_path / "network.npz")
    with pytest.raises(SpikeloomError, match=f"checkpoint.pt: is of configuration {state.config.digest[:16]}, where "):
        report.Findings.gather(tmp_path)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"0.spikes": np.zeros((6, 5, 11), int)}, "spikes have shapes"),
    ({"inputs": np.full((6, 5, 9), 4)}, "Inputs must lie between 0 and 3, not 4 to 4"),
    ({"labels": np.zeros(5, int)}, r"has labels of shape \(5,\) for 6 samples"),
    ({"labels": np.zeros(6)}, "labels must be integers, not float64"),
    ({"winners": np.zeros(5, int)}, r"winners have shape \(5,\), where the network's have \(6,\)"),
])
def test_a_simulation_that_does_not_fit_is_refused(folder, arrays, message):
    change(folder / "simulation.npz", **arrays)
    with pytest.raises(SpikeloomError, match=f"simulation.npz: {message}"):
        report.Findings.gather(folder)


@pytest.mark.parametrize("path", ["network.npz", "program.npz", "simulation.npz", "build/build.json", "checkpoint.pt"])
def test_a_damaged_file_is_one_line(folder, path, capsys):
    content = (folder / path).read_bytes() if (folder / path).exists() else b"no checkpoint"
    (folder / path).write_bytes(content[: len(content) // 2])
    assert cli.main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"spikeloom: {folder / path}: ") and error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"spikeloom: {tmp_path / 'nowhere'}: no such folder\n"


def test_the_command_prints_the_table(folder, capsys):
    (folder / "simulation.npz").unlink()
    assert cli.main(["report", str(folder), "-o", str(folder / "page.html")]) == 0
    said = capsys.readouterr().out
    assert said == f"{report.table(report.Findings.gather(folder))}\n{folder / 'page.html'}\n"
    assert (folder / "page.html").exists()
