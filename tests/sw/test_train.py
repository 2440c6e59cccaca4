"""Training and quantization: learning, resuming in the same bits, and checkpoints that are not right."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloom import augment, config, data, model, quantize, reference, train
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, InputFormat, Network, WeightFormat


def tiny(**changes):
    """A configuration that trains in a second: 64-16-10 on the digits."""
    packaged = config.load("digits")
    training = replace(packaged.training, epochs_float=1, epochs_quantized=2, batch=64, rate=0.03,
                       augment=augment.Augment(shift=0.5, elastic=0.1))
    layers = (replace(packaged.layers[0], size=16), packaged.layers[1])
    return replace(packaged, layers=layers, training=training, **changes)


def run(config_, out):
    return train.train(config_, out, device="cpu", progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a finished run of `tiny`."""
    return run(tiny(), tmp_path_factory.mktemp("finished"))


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for each, another in zip(one, other, strict=True):
            assert_same(each, another)
    else:
        assert one == other


class Stop(BaseException):
    """Stands for a kill, or for Ctrl-C."""


@pytest.mark.parametrize("moment", [1, 2, 17, 30])
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, monkeypatch, finished, moment, validation):
    wanted = tiny(data=config.Data("digits", validation))
    whole = train.load(run(wanted, tmp_path / "whole") if validation else finished)
    set_rate, count = train.set_rate, 0

    def stop(*arguments):
        nonlocal count
        count += 1
        if count == moment:
            raise Stop
        set_rate(*arguments)

    monkeypatch.setattr(train, "set_rate", stop)
    with pytest.raises(Stop):
        run(wanted, tmp_path / "parts")
    checkpoint = tmp_path / "parts" / train.CHECKPOINT
    assert train.load(checkpoint).epoch == (moment - 1) // (16 if validation else 21)
    moment = 25
    count = 0
    with pytest.raises(Stop):  # and once more
        run(wanted, tmp_path / "parts")
    monkeypatch.undo()
    parts = train.load(run(wanted, tmp_path / "parts"))
    assert_same(vars(parts), vars(whole))


def test_stopped_while_a_checkpoint_is_written(tmp_path, monkeypatch, finished):
    save, count = torch.save, 0

    def stop(content, file):
        nonlocal count
        count += 1
        if count == 3:
            raise Stop
        save(content, file)

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(Stop):
        run(tiny(), tmp_path)
    monkeypatch.undo()
    assert train.load(tmp_path / train.CHECKPOINT).epoch == 1
    assert_same(vars(train.load(run(tiny(), tmp_path))), vars(train.load(finished)))


def test_the_callers_threads_are_given_back(tmp_path, monkeypatch):
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(train, "_train", lambda *arguments: seen.append(torch.get_num_threads()))
    packaged = tiny()
    run(replace(packaged, training=replace(packaged.training, threads=3)), tmp_path)
    assert seen == [3]
    assert torch.get_num_threads() == before


def test_it_learns(finished):
    state = train.load(finished)
    assert state.finished
    assert state.accuracy_float > 0.35
    assert state.accuracy > 0.6


def test_a_finished_run_is_not_repeated(finished, monkeypatch):
    before = finished.stat().st_mtime_ns, sorted(path.name for path in finished.parent.iterdir())
    monkeypatch.setattr(data, "load", None)  # not even the data is needed
    assert run(tiny(), finished.parent) == finished
    assert (finished.stat().st_mtime_ns, sorted(path.name for path in finished.parent.iterdir())) == before


def test_another_configuration_is_refused(finished):
    with pytest.raises(SpikeloomError) as error:
        run(tiny(seed=2), finished.parent)
    assert str(error.value) == (f"{finished}: is from another configuration (seed is 1 there, 2 here); give "
                                "another folder, or remove this one to start again")
    with pytest.raises(SpikeloomError, match=r"layers\[0\].size is 16 there, 64 here"):
        run("digits", finished.parent)
    with pytest.raises(SpikeloomError, match=r"training.epochs_quantized is 2 there, 5 here"):
        train.train(tiny(), finished.parent, epochs=(1, 5), progress=False)


def test_without_a_float_phase(tmp_path):
    path = train.train(tiny(), tmp_path, epochs=(0, 1), device="cpu", progress=False)
    state = train.load(path)
    assert state.epoch == 1
    assert state.accuracy_float is None
    assert quantize.quantize(path).notes["accuracy"]["float"] is None


def test_the_best_epoch_is_chosen_by_the_validation_part(tmp_path, monkeypatch):
    asked = []

    def accuracy(config_, model_, images, labels, *, quantized=True):
        asked.append((len(images), quantized, {name: value.clone() for name, value in
                                               model_.state_dict().items()}))
        return {2: 0.9, 3: 0.5}.get(len([each for each in asked if each[0] == 269]), 0.95)

    monkeypatch.setattr(train, "accuracy", accuracy)
    state = train.load(run(tiny(data=config.Data("digits", 0.2)), tmp_path))
    # Of three epochs the float one is not eligible; the test set (450) is looked at once a phase.
    assert [(count, quantized) for count, quantized, _ in asked] == [
        (269, False), (450, False), (269, True), (269, True), (450, True)]
    assert_same(state.model, asked[2][2])
    assert state.best_accuracy == 0.9


def test_tensorboard_can_read_what_is_logged(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.parent))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert events.Scalars("accuracy/test")[0].value == np.float32(train.load(finished).accuracy)
    assert "activity/hidden_1" in events.Tags()["scalars"]


# Checkpoints ------------------------------------------------------------------------------------


def refusal(path):
    with pytest.raises(SpikeloomError) as error:
        train.load(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_a_damaged_checkpoint_is_told(tmp_path, finished):
    content, path = finished.read_bytes(), tmp_path / "damaged.pt"
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "not readable as a Spikeloom checkpoint, truncated or corrupted" in refusal(path)
    rng, expected = np.random.default_rng(4), vars(train.load(finished))
    told = 0
    for place in rng.integers(0, len(content), 150):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1:])
        try:
            state = train.load(path)
        except SpikeloomError as error:
            assert "\n" not in str(error)
            told += 1
        else:
            assert_same(vars(state), expected)  # only where the byte means nothing, as in padding
    assert told > 75


def changed(path, target, **fields):
    content = torch.load(path, weights_only=True) | fields
    torch.save({name: value for name, value in content.items() if value is not ...}, target)
    return target


def test_another_kind_or_version_is_told(tmp_path, finished):
    path = tmp_path / "other.pt"
    assert refusal(changed(finished, path, version=99)) == (
        f"{path}: checkpoint version 99, where this Spikeloom reads version 1")
    assert refusal(changed(finished, path, kind="spikes")) == (
        f"{path}: holds a 'spikes', where a 'checkpoint' is needed")
    for fields in ({"model": ...}, {"config": ...}, {"extra": 1}, {"config": "{"}, {"config": 3},
                   {"model": {}}):
        assert "a field is missing or of the wrong type" in refusal(changed(finished, path, **fields))
    assert refusal(changed(finished, path, config='{"encoder": 1}')) == f"{path}: layers is missing"
    torch.save([1, 2], path)
    assert "not readable as a Spikeloom checkpoint" in refusal(path)
    assert refusal(tmp_path / "absent.pt").endswith("no such file")


def test_a_pickle_is_not_executed(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harmed").touch, ())

    path = tmp_path / "harm.pt"
    torch.save({"kind": Harm()}, path)
    assert "not readable as a Spikeloom checkpoint" in refusal(path)
    path.write_bytes(pickle.dumps(Harm()))
    assert "not readable as a Spikeloom checkpoint" in refusal(path)
    assert not (tmp_path / "harmed").exists()


def test_a_network_file_is_not_a_checkpoint(tmp_path):
    layer = Dense("a", np.ones((1, 1), int), WeightFormat("binary", 1), np.ones(1, int), np.zeros(1, int), 4)
    Network(InputFormat(1), (layer,), 1).save(tmp_path / "network.npz")
    assert "not readable as a Spikeloom checkpoint" in refusal(tmp_path / "network.npz")


# Quantization -----------------------------------------------------------------------------------


def test_the_network_is_what_was_trained(finished, tmp_path):
    network = quantize.quantize(finished, device="cpu")
    network.save(tmp_path / "network.npz")
    network = Network.load(tmp_path / "network.npz")
    notes = network.notes
    assert notes["data"] == {"dataset": "digits", "encoder": {"kind": "direct", "width": network.input.width,
                                                              "time_steps": network.time_steps}}
    inputs, labels = data.samples(notes["data"], "test")
    trace = reference.run(network, inputs)
    state = train.load(finished)
    assert notes["accuracy"] == {"float": state.accuracy_float, "torch": state.accuracy}
    assert (trace.winners == labels).mean() == state.accuracy
    assert notes["config"] == tiny().digest
    assert notes["trained"] == {"epochs_float": 1, "epochs_quantized": 2}
    seen = model.run(network, inputs, device="cpu")
    for expected, other in zip(trace.spikes + trace.membranes, seen.spikes + seen.membranes, strict=True):
        np.testing.assert_array_equal(other, expected)


def test_activity_counts_inputs_and_their_bits(finished):
    network = quantize.quantize(finished, device="cpu")
    inputs, _ = data.samples(network.notes["data"], "train", quantize.ACTIVITY_SAMPLES)
    hidden = reference.run(network, inputs).spikes[0]
    assert network.notes["activity"] == [float((inputs > 0).sum(2).mean()), float(hidden.sum(2).mean())]
    ones = sum(((inputs >> bit) & 1).sum(2).mean() for bit in range(8))
    assert network.notes["events"] == pytest.approx([ones, hidden.sum(2).mean()], rel=1e-12)


def test_an_unfinished_run_is_not_quantized(tmp_path):
    path = tmp_path / "half.pt"
    train.save(replace(train.State.fresh(tiny()), epoch=2), path)
    with pytest.raises(SpikeloomError) as error:
        quantize.quantize(path)
    assert str(error.value) == f"{path}: its training stopped after 2 of 3 epochs; train to the end first"


# Augmentation -----------------------------------------------------------------------------------


def test_augmentation_moves_and_repeats_by_its_generator():
    images = torch.zeros(64, 28, 28)
    images[:, 10:18, 10:18] = 1
    change = augment.Augment(shift=3.0)
    moved = change(images, torch.Generator().manual_seed(1))
    assert torch.equal(moved, change(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(moved, change(images, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(moved.sum((1, 2)), torch.full((64,), 64.0))
    ramp = torch.arange(28.0)
    center = (moved.sum(1) @ ramp) / 64
    assert 1.5 < (center - 13.5).abs().max() <= 3.001
    assert (center - 13.5).mean().abs() < 1
    for kind in ("rotate", "scale", "shear", "elastic"):
        other = augment.Augment(**{kind: 0.3 if kind in ("scale", "shear") else 5.0})
        assert (other(images, torch.Generator().manual_seed(1)) - images).abs().mean() > 1e-3
    assert augment.Augment()(images, None) is images
