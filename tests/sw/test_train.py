"""Training and quantization: learning, resuming in the same bits, and checkpoints that are not right."""

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import event_files
import numpy as np
import pytest
import torch
from spikeloom import data, reference
from spikeloom.data import augment
from spikeloom.data.encode import Frames, Pixels
from spikeloom.errors import SpikeloomError
from spikeloom.network import Dense, InputFormat, Network, Pool, TableLeak, WeightFormat
from spikeloom.training import config, losses, model, quantize, quantizers, ranks, train
from spikeloom.training.hybrid import Geometric, Spiking
from spikeloom.training.norm import BatchNorm
from spikeloom.training.pruning import Pruning


def tiny(**changes):
    """A configuration that trains in a second: 64-16-10 on the digits."""
    packaged = config.load("digits")
    training = replace(packaged.training, epochs_float=1, epochs_quantized=2, batch=64, rate=0.03,
                       augment=augment.Augment(shift=0.5, elastic=0.1))
    layers = (replace(packaged.layers[0], size=16), packaged.layers[1])
    return replace(packaged, layers=layers, training=training, **changes)


def maps(**changes):
    """A configuration of convolutions with all that there is, for the digits: batch norm, pools, shortcuts, attention,
    votes."""
    digits = config.load("digits")
    conv = partial(config.ConvLayer, channels=12, norm=BatchNorm(), weights=quantizers.Ternary())
    layers = (conv(name="entry"),
              conv(name="middle", pool=Pool("max", 2, 2), groups=2),
              conv(stride=1, shortcut=config.Identity("entry", 3.0, Pool("sum", 2, 2))),
              conv(stride=2, kernel=2, padding=0, v_width=10, attention=config.Attention(2, 3),
                   shortcut=config.Projection("middle", stride=2)),
              config.DenseLayer(size=20, source="hidden_4", attention=config.Attention(), pool=Pool("sum", 1, 2),
                                v_width=10, norm=BatchNorm()))
    training = replace(digits.training, loss=losses.RateCrossEntropy(0.5), epochs_float=1, epochs_quantized=2,
                       rate=0.03, augment=augment.Augment(shift=0.5))
    return replace(digits, layers=layers, training=training, votes=2, readout="count", **changes)


def sparse(**changes):
    """A configuration that is pruned in two rounds, the second of which it goes back for, with weights that have
    parameters of their own."""
    layers = (config.DenseLayer(size=16, v_width=9, weights=quantizers.LearnedRange(4), norm=BatchNorm()),
              config.DenseLayer(size=10, v_width=9, weights=quantizers.SumOfSigmoids(2)))
    training = replace(tiny().training, loss=losses.RateCrossEntropy(0.5))
    return replace(tiny(), layers=layers, training=training, readout="count",
                   pruning=Pruning(0.5, rounds=2, every=2, rewind=True), **changes)


def hybrid(**changes):
    """A configuration with layers of activities, whose ω changes from batch to batch."""
    omega = Spiking(Geometric(64.0, 8.0, 0.5))
    layers = (config.LMULayer(size=12, order=8, window=32.0, hidden=omega, memory=omega),
              config.HybridLayer(size=12, spiking=omega), config.DenseLayer(size=12, v_width=12),
              replace(config.load("digits").layers[1], weights=quantizers.LearnedRange(4)))
    training = replace(tiny().training, loss=losses.LastMembrane(1.0), epochs_float=3, epochs_quantized=0, rate=0.03)
    return replace(tiny(), encoder=Pixels(16, 4), layers=layers, training=training, **changes)


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


@pytest.mark.parametrize(("moment", "validation", "kind"), [
    *((moment, validation, tiny) for moment in (1, 2, 17, 30) for validation in (0.0, 0.2)),
    (24, 0.0, maps), (24, 0.0, sparse)])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, monkeypatch, finished, moment, validation, kind):
    wanted = kind(data=config.Data("digits", validation))
    whole = train.load(run(wanted, tmp_path / "whole") if validation or kind is not tiny else finished)
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


@pytest.mark.parametrize("kind", [tiny, hybrid])
def test_a_run_that_was_stopped_within_an_epoch_ends_in_the_same_bits(tmp_path, monkeypatch, kind):
    wanted = kind(data=config.Data("digits", 0.2))
    whole = train.load(run(wanted, tmp_path / "whole"))
    set_rate, count = train.set_rate, 0

    def stop(*arguments):
        nonlocal count
        count += 1
        if count in (7, 31):
            raise Stop
        set_rate(*arguments)

    monkeypatch.setattr(train, "set_rate", stop)
    monkeypatch.setattr(train, "SAVE_SECONDS", -1)  # before every step
    checkpoint = tmp_path / "parts" / train.CHECKPOINT
    for epoch, step in ((0, 6), (1, 13)):  # of 16; the 7th step is repeated
        with pytest.raises(Stop):
            run(wanted, tmp_path / "parts")
        state = train.load(checkpoint)
        assert (state.epoch, state.step) == (epoch, step)
    assert_same(vars(train.load(run(wanted, tmp_path / "parts"))), vars(whole))


def test_checkpoints_of_the_first_version_go_on(tmp_path, monkeypatch, finished):
    monkeypatch.setattr(train, "set_rate", stop_after(21, train.set_rate))
    with pytest.raises(Stop):
        run(tiny(), tmp_path)
    monkeypatch.undo()
    checkpoint = tmp_path / train.CHECKPOINT
    changed(checkpoint, checkpoint, version=1, step=..., sums=..., random=...)
    assert train.load(checkpoint).epoch == 1
    assert_same(vars(train.load(run(tiny(), tmp_path))), vars(train.load(finished)))


def stop_after(steps, set_rate):
    """``set_rate``, that stops the run after so many steps."""
    left = iter(range(steps))

    def stop(*arguments):
        if next(left, None) is None:
            raise Stop
        set_rate(*arguments)

    return stop


def test_activities_are_trained_in_floats(tmp_path):
    state = train.load(checkpoint := run(hybrid(), tmp_path))
    assert state.finished
    assert state.accuracy == state.accuracy_float > 0.3
    network = trained(checkpoint)
    assert all(layer.settled for layer in network.layers[:2])
    with pytest.raises(SpikeloomError) as error:
        quantize.quantize(checkpoint)
    assert str(error.value) == ("Layer hidden_1: its memory goes on with what is not sent, so there is no integer "
                                "network; train it with exact = false")
    with pytest.raises(SpikeloomError) as error:
        replace(hybrid(), training=replace(hybrid().training, epochs_quantized=1))
    assert str(error.value) == ("training.epochs_quantized must be 0, and epochs_float 1 or more: layer hidden_1 of "
                                "kind lmu is trained in floats")
    with pytest.raises(SpikeloomError) as error:
        replace(tiny(), training=replace(tiny().training, epochs_quantized=0))
    assert str(error.value) == "training.epochs_quantized must be 1 or more, not 0"


@pytest.mark.parametrize("layer", [config.LSTMLayer(size=12), config.GRULayer(size=12)], ids=lambda layer: layer.kind)
def test_baselines_learn_in_the_same_loop(tmp_path, layer):
    wanted = replace(hybrid(), encoder=Pixels(8, 4), layers=(layer, hybrid().layers[-1]))
    state = train.load(checkpoint := run(wanted, tmp_path))
    assert state.accuracy > 0.3
    with pytest.raises(SpikeloomError, match=f"is of kind {layer.kind}, for which there is no integer network"):
        quantize.quantize(checkpoint)
    again = train.State.fresh(wanted, tmp_path / train.CHECKPOINT)
    for name, tensor in again.model.items():
        assert torch.equal(tensor, state.model[name])


def test_an_omega_on_its_way_is_not_the_best(tmp_path, monkeypatch):
    """Though the validation part may like large ones better."""
    monkeypatch.setattr(train, "measured", lambda *arguments, **options: next(figures))
    figures = iter([0.9, 0.5, 0.6, 0.4, 0.7, 0.8])
    state = train.load(run(hybrid(data=config.Data("digits", 0.2)), tmp_path))
    assert state.best_accuracy == 0.6  # ω is what it should be after half of three epochs


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
    assert state.accuracy > 0.5


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

    monkeypatch.setattr(train, "measured", accuracy)
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


# Another run's latents --------------------------------------------------------------------------


def trained(checkpoint):
    state = train.load(checkpoint)
    network = state.config.build()
    network.load_state_dict(state.model)
    return network.eval()


def test_a_run_begins_with_the_latents_of_another(finished, tmp_path):
    sixteen, ten = tiny().layers
    fine = (replace(sixteen, weights=quantizers.LearnedRange(4)), replace(ten, weights=quantizers.Integer(4)))
    wanted = replace(tiny(pruning=Pruning(0.5)), layers=fine, training=replace(tiny().training, epochs_float=0))
    first = train.State.fresh(wanted, finished)
    before, after = trained(finished), wanted.build().eval()
    after.load_state_dict(first.model)
    described = {"dataset": "digits", "encoder": config.describe(wanted.encoder)}
    inputs = torch.from_numpy(data.samples(described, "test")[0])
    expected, seen = (network(inputs, quantized=False, record=True) for network in (before, after))
    for number, ratio in enumerate((1, 4)):  # the span of 4-bit integers
        assert torch.equal(expected[0][number], seen[0][number])
        torch.testing.assert_close(expected[1][number] * ratio, seen[1][number])

    def begin(out, config_=wanted, start=finished):
        return train.train(config_, out, start=start, device="cpu", progress=False)

    path = begin(tmp_path / "run")
    state = train.load(path)
    assert (len(state.start), state.accuracy > train.load(finished).accuracy - 0.2) == (64, True)
    assert begin(tmp_path / "run") == path
    assert quantize.quantize(path).notes["trained"]["start"] == state.start
    other = tmp_path / "other.pt"
    train.save(replace(train.load(finished), epoch=2), other)
    for start, message in ((other, f"began elsewhere, not with {other}"),
                           (None, "began with a checkpoint, not with weights drawn at random")):
        with pytest.raises(SpikeloomError) as error:
            begin(tmp_path / "run", start=start)
        assert str(error.value) == (f"{path}: {message}; give another folder, or remove this one to start again")
    with pytest.raises(SpikeloomError, match="no such file"):
        begin(tmp_path / "absent", start=tmp_path / "absent.pt")


def test_maps_begin_with_the_latents_of_others(tmp_path):
    """All that there is, pruned: convolutions with batch norm, shortcuts, attentions."""
    source = replace(maps(), pruning=Pruning(0.3))
    model_ = source.build(torch.Generator().manual_seed(3))
    source.pruning.prune(model_, 0)
    x = torch.randint(0, 4, (30, 4, 64), generator=torch.Generator().manual_seed(4))
    for _ in range(5):
        model_(x, quantized=False)
    path = tmp_path / "source.pt"
    train.save(train.State(source, 3, model_.state_dict()), path)
    layers = [replace(layer, weights=quantizers.Integer(6)) for layer in maps().layers]
    layers[-1] = replace(layers[-1], weights=quantizers.SAWB(3), attention=config.Attention(weights=quantizers.SAWB(4)))
    wanted = replace(maps(), layers=tuple(layers))
    made = wanted.build().eval()
    made.load_state_dict(train.State.fresh(wanted, path).model)
    expected, seen = (network.eval()(x, quantized=False)[0] for network in (model_, made))
    for one, other in zip(expected, seen, strict=True):
        assert (one != other).float().mean() < 2e-3  # rounding, of what is nearly at a threshold
        assert one.any()


def fewer(**changes):
    return replace(tiny(), layers=(replace(tiny().layers[0], **changes), *tiny().layers[1:]))


@pytest.mark.parametrize(("wanted", "message"), [
    (lambda: fewer(size=12), "layer hidden_1 has weights of shape (16, 64), where layer hidden_1 needs (12, 64)"),
    (lambda: fewer(norm=BatchNorm(), threshold=None),
     "layer hidden_1 has neurons with norm none, where layer hidden_1 needs batch"),
    (lambda: fewer(leak=TableLeak(tuple(range(-32, 32))), weights=quantizers.Integer(4), name="first"),
     "layer hidden_1 has weights of another kind than layer first, whose table holds for one"),
    (lambda: replace(tiny(), layers=(tiny().layers[0], *tiny().layers)), "has 2 layers, where 3 are needed")])
def test_a_start_that_does_not_fit_is_told(finished, tmp_path, wanted, message):
    with pytest.raises(SpikeloomError) as error:
        train.train(wanted(), tmp_path, start=finished, device="cpu", progress=False)
    assert str(error.value) == f"{finished}: {message}"
    assert not any(tmp_path.iterdir())


# Several processes ------------------------------------------------------------------------------


SHARED = """
readout = "count"
data = { validation = 0.1 }
encoder = { kind = "direct", width = 2, time_steps = 4 }

[[layers]]
kind = "conv"
channels = 8
norm = { kind = "batch" }
weights = { kind = "learned", width = 3 }
v_width = 8

[[layers]]
size = 10
norm = { kind = "batch" }
v_width = 8

[training]
loss = { kind = "rate_cross_entropy", scale = 0.5 }
epochs_float = 2
epochs_quantized = 3
batch = 401
rate = 0.03
augment = { shift = 0.3 }

[pruning]
fraction = 0.3
epoch = 1
"""


def losses_of(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path.parent))
    events.Reload()
    return [event.value for event in events.Scalars("loss")]


def test_two_processes_do_what_one_does(tmp_path, monkeypatch):
    """torchrun takes over after the first epoch of one process, and goes on as that would have."""
    file, out = tmp_path / "run.toml", tmp_path / "two"
    file.write_text(SHARED)
    alone = run(file, tmp_path / "one")
    save = train.save

    def stop(state, path):
        save(state, path)
        if state.epoch == 1:
            raise Stop

    monkeypatch.setattr(train, "save", stop)
    with pytest.raises(Stop):
        run(file, out)
    monkeypatch.undo()
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                    "spikeloom.cli", "train", str(file), "-o", str(out), "--device", "cpu"], check=True, timeout=300,
                   capture_output=True)
    expected, seen = losses_of(alone), losses_of(out / train.CHECKPOINT)
    # Sums in another order round differently, and where a weight, or a neuron, is just at its threshold that can tell.
    assert seen[:3] == pytest.approx(expected[:3], rel=1e-4)
    assert seen == pytest.approx(expected, rel=0.03)
    one, two = train.load(alone), train.load(out / train.CHECKPOINT)
    assert two.finished and two.accuracy == pytest.approx(one.accuracy, abs=0.03) and two.accuracy > 0.5
    assert two.accuracy_float == pytest.approx(one.accuracy_float, abs=0.01)
    network = quantize.quantize(out / train.CHECKPOINT, device="cpu")
    inputs, labels = data.samples(network.notes["data"], "test")
    assert (reference.run(network, inputs).winners == labels).mean() == two.accuracy


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (ranks.own_device(), ranks.own_device("cuda"), ranks.is_first()) == (None, "cuda", True)
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert (ranks.own_device(), ranks.own_device("cuda"), ranks.is_first()) == ("cuda:1", "cuda:1", False)
    assert (ranks.own_device("cuda:3"), ranks.own_device("cpu")) == ("cuda:3", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks.own_device() is None


def test_a_batch_is_not_divided_among_more_processes_than_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 65)
    with pytest.raises(SpikeloomError, match="A batch of 64 samples cannot be divided among 65 processes"):
        run(tiny(), tmp_path)


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
        f"{path}: checkpoint version 99, where this Spikeloom reads versions 1 to 2")
    assert refusal(changed(finished, path, kind="spikes")) == (
        f"{path}: holds a 'spikes', where a 'checkpoint' is needed")
    for fields in ({"model": ...}, {"config": ...}, {"extra": 1}, {"config": "{"}, {"config": 3},
                   {"model": {}}):
        assert "a field is missing or of the wrong type" in refusal(changed(finished, path, **fields))
    assert refusal(changed(finished, path, config='{"encoder": 1}')) == f"{path}: layers is missing"
    torch.save([1, 2], path)
    assert "not readable as a Spikeloom checkpoint" in refusal(path)
    assert refusal(tmp_path / "absent.pt").endswith("no such file")


def test_a_checkpoint_from_before_pruning_is_read(tmp_path, finished):
    """And from before there were kinds of membranes and of thresholds, a user's own images, detectors and recurrence."""
    described = config.describe(tiny())
    del described["pruning"], described["detection"], described["data"]["images"]
    for layer in described["layers"]:
        for key in ("membrane", "thresholds", "threshold_gradient", "delay", "recurrent", "branches", "act", "current",
                    "adaptation"):
            del layer[key]
    assert tiny().digest == hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    path = changed(finished, tmp_path / "old.pt", start=..., initial=..., config=json.dumps(described))
    assert_same(vars(train.load(path)), vars(train.load(finished)))
    assert quantize.quantize(path).digest == quantize.quantize(finished).digest


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


def test_a_network_of_maps_is_what_was_trained(tmp_path):
    checkpoint = run(maps(), tmp_path)
    network = quantize.quantize(checkpoint, device="cpu")
    assert network.sources == [("input",), ("entry",), ("middle", "entry"), ("hidden_3", "middle"), ("hidden_4",)]
    assert network.votes == 2
    state = train.load(checkpoint)
    assert state.accuracy > 0.5
    inputs, labels = data.samples(network.notes["data"], "test")
    trace = reference.run(network, inputs)
    assert (trace.winners == labels).mean() == state.accuracy
    trained = state.config.build()
    trained.load_state_dict(state.model)
    spikes, membranes = trained.eval()(torch.from_numpy(inputs), record=True)
    for expected, seen in zip(trace.spikes + trace.membranes, spikes + membranes, strict=True):
        np.testing.assert_array_equal(seen.detach().numpy().transpose(1, 0, 2), expected)

    inputs, _ = data.samples(network.notes["data"], "train", quantize.ACTIVITY_SAMPLES)
    entry, middle, third, fourth, _ = reference.run(network, inputs).spikes
    mean = {name: float(z.sum(2).mean()) for name, z in (("entry", entry), ("middle", middle), ("third", third))}
    assert network.notes["activity"][1:4] == pytest.approx([mean["entry"], mean["middle"], mean["third"]])
    assert network.notes["events"][1:4] == network.notes["activity"][1:4]
    either = entry.reshape(len(inputs), 4, 4, 2, 4, 2, 12).max((3, 5)).sum((2, 3, 4)).mean()
    assert network.notes["events_pooled"][:3] == pytest.approx([network.notes["events"][0], either, mean["middle"]])
    gates = reference.gates(network.layers[4].attention, fourth.reshape(len(inputs), 4, 4, 12).sum(2))
    gated = (fourth.reshape(len(inputs), 4, 2, 2, 12) * gates[:, :, None, None]).sum(3)
    assert network.notes["events_pooled"][4] == pytest.approx(np.bitwise_count(gated).sum((2, 3)).mean())
    assert network.notes["events_shortcut"] == [None, None, pytest.approx(mean["entry"]),
                                                pytest.approx(mean["middle"]), None]


def test_recordings_of_events_are_learned_from(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    event_files.write_nmnist(tmp_path / "data", np.random.default_rng(9), 5, events=400)
    layers = (config.ConvLayer(channels=4, kernel=5, stride=3, norm=BatchNorm()), tiny().layers[1])
    training = replace(tiny().training, batch=8, augment=augment.Augment(shift=1.0, flip=True))
    events = replace(tiny(), data=config.Data("nmnist", 0.25), encoder=Frames(3, downsample=2), layers=layers,
                     training=training)
    checkpoint = train.train(events, tmp_path / "run", data_dir=tmp_path / "data", device="cpu", progress=False)
    network = quantize.quantize(checkpoint, data_dir=tmp_path / "data", device="cpu")
    assert network.input == InputFormat(17 * 17 * 2, 1, (17, 17, 2))
    inputs, labels = data.samples(network.notes["data"], "test", None, tmp_path / "data")
    assert (reference.run(network, inputs).winners == labels).mean() == network.notes["accuracy"]["torch"]


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
    images = torch.zeros(64, 28, 28, 1)
    images[:, 10:18, 10:18] = 1
    change = augment.Augment(shift=3.0)
    moved = change(images, torch.Generator().manual_seed(1))
    assert torch.equal(moved, change(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(moved, change(images, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.full((64,), 64.0))
    ramp = torch.arange(28.0)
    center = (moved.sum((1, 3)) @ ramp) / 64
    assert 1.5 < (center - 13.5).abs().max() <= 3.001
    assert (center - 13.5).mean().abs() < 1
    for kind in ("rotate", "scale", "shear", "elastic"):
        other = augment.Augment(**{kind: 0.3 if kind in ("scale", "shear") else 5.0})
        assert (other(images, torch.Generator().manual_seed(1)) - images).abs().mean() > 1e-3
    assert augment.Augment()(images, None) is images
    random = torch.rand(64, 28, 28, 3)
    flipped = augment.Augment(flip=True)(random, torch.Generator().manual_seed(1))
    mirrored = [torch.equal(image, each.flip(1)) for image, each in zip(flipped, random, strict=True)]
    assert 16 < sum(mirrored) < 48
    assert all(mirror or torch.equal(image, each)
               for mirror, image, each in zip(mirrored, flipped, random, strict=True))


def test_augmentation_does_the_same_to_all_colors():
    change = augment.Augment(shift=3.0, rotate=10.0, scale=0.2, shear=0.1, elastic=1.0, flip=True)
    images = torch.rand(16, 12, 10, 3)
    moved = change(images, torch.Generator().manual_seed(1))
    assert moved.shape == images.shape
    for color in range(3):
        alone = change(images[..., color:color + 1], torch.Generator().manual_seed(1))
        assert torch.equal(moved[..., color:color + 1], alone)


def test_frames_are_shifted_and_flipped_as_a_whole():
    rows, columns, reach = 5, 7, 2
    frames = torch.randint(1, 256, (200, 3, rows, columns, 2), dtype=torch.uint8)
    moved = augment.Augment(shift=float(reach), flip=True).frames(frames, torch.Generator().manual_seed(1))
    assert torch.equal(moved, augment.Augment(shift=2.0, flip=True).frames(frames, torch.Generator().manual_seed(1)))
    ways = {}
    for frame, seen in zip(frames, moved, strict=True):
        found = []
        for flip in (False, True):
            padded = torch.nn.functional.pad(frame.flip(2) if flip else frame, (0, 0, reach, reach, reach, reach))
            found += [(flip, down, across) for down in range(2 * reach + 1) for across in range(2 * reach + 1)
                      if torch.equal(padded[:, down:down + rows, across:across + columns], seen)]
        assert len(found) == 1
        ways[found[0]] = True
    assert len(ways) > 40  # of 50
    assert augment.Augment(rotate=5.0).frames(frames, None) is frames
