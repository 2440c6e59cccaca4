"""Training: a float phase, then a phase with everything rounded, in one loop that can be stopped at any time; rounds of
pruning fall into either.

After every epoch, and every few minutes of a long one, the whole state goes to ``checkpoint.pt``, that of random
numbers too, which follow from the seed and the epoch's number: a run that was killed and started again ends in the same
bits as one that was not (on the same machine, with as many threads and processes).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import pickle
import time
import zipfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from spikeloom import data, files
from spikeloom.errors import SpikeloomError
from spikeloom.tasks import Classification
from tqdm import tqdm

from . import config as configuration
from . import ranks
from .hybrid import ActivityLayer
from .model import batch_size, choose_device, exact_products

KIND = "checkpoint"
VERSION, VERSIONS = 2, (1, 2)
CHECKPOINT = "checkpoint.pt"
ZIP_FOLDER = 0x10

#: Seconds after which a checkpoint is written within an epoch.
SAVE_SECONDS = 300


def train(config, out, *, data_dir=None, device=None, epochs=None, progress=True, start=None):
    """Train what ``config`` says and return the path of the checkpoint, ``out``/checkpoint.pt.

    A run that is under way in ``out`` is continued; one that is finished is left alone. TensorBoard event
    files go to ``out`` too. Processes that torchrun started share the work, and all return when it is done.

    Parameters
    ----------
    config : Config, or path or packaged name of one
    out : path
        the run's folder, made if needed
    data_dir : path, optional
        where the images are (`spikeloom.data.load`)
    device : str, optional
        "cpu", "cuda"; by default a GPU where there is one
    epochs : (int, int), optional
        other numbers of float and quantized epochs than the configuration's
    progress : bool
        whether to show it
    start : path, optional
        another run's checkpoint, with whose latents to begin (`spikeloom.training.model.SpikingNetwork.take`)

    Raises `SpikeloomError` when the data is not there, ``out`` holds another configuration's run or one with another
    start, or the start does not fit.
    """
    config = config if isinstance(config, configuration.Config) else configuration.load(config)
    if epochs is not None:
        config = replace(config, training=replace(config.training, epochs_float=epochs[0],
                                                  epochs_quantized=epochs[1]))
    path = Path(out) / CHECKPOINT
    state = load(path) if path.exists() else State.fresh(config, start)
    if state.config != config:
        raise SpikeloomError(f"{path}: is from another configuration ({_difference(state.config, config)}); "
                             "give another folder, or remove this one to start again")
    if state.start != (start and _digest(start)):
        raise SpikeloomError(f"{path}: began {'elsewhere' if start else 'with a checkpoint'}, not with "
                             f"{start or 'weights drawn at random'}; give another folder, or remove this one to start "
                             "again")
    if not state.finished:
        device = choose_device(ranks.own_device(device))
        with (_threads(config.training.threads), ranks.joined(device),
              torch.random.fork_rng([device] if device.type == "cuda" else [])):
            _train(state, path, data_dir, device, progress)
    return path


def _train(state, path, data_dir, device, progress):
    """Take ``state`` from where it is to its last epoch, saving it to ``path`` after each."""
    config, task = state.config, state.config.task
    task.check()
    samples, labels = (torch.from_numpy(array).to(device)
                       for array in data.load(config.dataset, "train", data_dir, config.encoder))
    test = data.load(config.dataset, "test", data_dir, config.encoder)
    held_out = round(len(samples) * config.data.validation)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(config.seed)).to(device)
    validation = samples[order[:held_out]], labels[order[:held_out]]
    kept = order[held_out:]

    model = config.build().to(device)
    model.load_state_dict(state.model)
    hybrid = [layer for layer in model.layers if isinstance(layer, ActivityLayer)]
    optimizer = make_optimizer(config, model)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    training, phases = config.training, config.phases
    steps = max(1, len(kept) // training.batch)
    counted = isinstance(task, Classification)
    if min(training.batch, len(kept)) < ranks.count():
        raise SpikeloomError(f"A batch of {min(training.batch, len(kept))} samples cannot be divided among "
                             f"{ranks.count()} processes")

    first = ranks.is_first()
    if first:
        save(state, path)
    saved = time.monotonic()
    with (_events(path.parent, state.epoch + 1) if first else contextlib.nullcontext() as events,
          tqdm(total=training.epochs * steps, initial=state.epoch * steps + state.step,
               disable=not (progress and first), unit="step", desc="training") as bar):
        while state.epoch < training.epochs:
            epoch = state.epoch
            quantized = epoch >= training.epochs_float
            if epoch in phases and not state.step:
                begins = epoch == training.epochs_float
                if config.pruning and epoch in config.pruning.epochs:
                    config.pruning.prune(model, epoch)
                    if config.pruning.rewind:
                        masks = {name: value for name, value in model.state_dict().items() if name.endswith("_mask")}
                        model.load_state_dict(state.initial | masks)
                        begins = quantized
                if begins:
                    model.start_quantizing()
                optimizer = make_optimizer(config, model)
            if quantized:
                model.anneal((epoch - training.epochs_float) / max(1, training.epochs_quantized - 1))
            generator = torch.Generator(device).manual_seed(config.seed * 100003 + epoch + 1)
            torch.manual_seed(generator.initial_seed())  # of the noise that gates decide with
            order = kept[torch.randperm(len(kept), generator=generator, device=device)]
            total_loss, right, seen = state.sums or (0, 0, 0)
            if state.step:
                total_loss, right = (torch.as_tensor(value, device=device) for value in (total_loss, right))
                _set_random_state(state.random, generator, device)
            for step in range(state.step, steps):
                if first and time.monotonic() - saved > SAVE_SECONDS:
                    state.step, state.random = step, _random_state(generator, device)
                    state.sums = [torch.as_tensor(value).item() for value in (total_loss, right, seen)]
                    state.model, state.optimizer = _copy(model), optimizer.state_dict()
                    save(state, path)
                    saved = time.monotonic()
                chosen = order[step * training.batch:(step + 1) * training.batch]
                set_rate(optimizer, config, epoch + step / steps)
                for layer in hybrid:
                    layer.progress((epoch + step / steps) / training.epochs_float)
                # What is random is so for the batch as a whole, whoever gets which part.
                inputs, wanted = map(ranks.share, augmented(config, samples[chosen], labels[chosen], generator))
                spikes, membranes = model(config.encoder(inputs), quantized=quantized)
                loss = config.loss(*model.classes(spikes, membranes, quantized=quantized), wanted)
                loss = (loss + model.penalty) * (len(wanted) / len(chosen))
                optimizer.zero_grad()
                loss.backward()
                ranks.add_gradients(model.parameters())
                optimizer.step()
                if quantized:
                    model.limit()
                total_loss += loss.detach() * len(chosen)
                if counted:
                    right += (model.scores(spikes, membranes).argmax(1) == wanted).sum()
                seen += len(chosen)
                bar.update()

            for layer in hybrid:
                layer.progress((epoch + 1) / training.epochs_float)
            total_loss, right, *fired = ranks.total(total_loss, right, *((z != 0).sum() for z in spikes))
            figures = {"loss": float(total_loss) / seen, "rate": optimizer.param_groups[0]["lr"]}
            if counted:
                figures["accuracy/train"] = int(right) / seen
            figures |= {f"activity/{layer.name}": int(count) / (z.numel() // len(wanted) * len(chosen))
                        for layer, z, count in zip(model.layers, spikes, fired, strict=True)}
            state.epoch, state.step, state.random, state.sums = epoch + 1, 0, None, None
            if held_out:
                merit = figures[f"{task.figure}/validation"] = measured(config, model, *validation, quantized=quantized)
                if (epoch >= phases[-2] and merit > state.best_accuracy
                        and all(layer.settled for layer in hybrid)):
                    state.best_accuracy = merit
                    state.best = _copy(model)
            if state.epoch == training.epochs_float:
                state.accuracy_float = figures[f"{task.figure}/test_float"] = measured(config, model, *test,
                                                                                       quantized=False)
            if state.epoch == training.epochs:
                if state.best:
                    model.load_state_dict(state.best)
                state.accuracy = state.accuracy_float
                if quantized or state.best:
                    state.accuracy = measured(config, model, *test, quantized=quantized)
                figures[f"{task.figure}/test"] = state.accuracy
                state.best = None
            state.model, state.optimizer = _copy(model), optimizer.state_dict()
            if first:
                for name, value in figures.items():
                    events.add_scalar(name, value, state.epoch)
                save(state, path)
                saved = time.monotonic()
            phase = "quantized" if quantized else "float"
            shown = figures.get(f"{task.figure}/validation", figures.get("accuracy/train"))
            bar.set_postfix_str(f"{phase}, epoch {state.epoch}, loss {figures['loss']:.3f}"
                                + ("" if shown is None else f", {shown:.2%}"))


def _events(folder, step):
    """The writer of what happens from this epoch on."""
    from torch.utils.tensorboard import SummaryWriter  # seconds to import

    return SummaryWriter(str(folder), purge_step=step)


@contextlib.contextmanager
def _threads(count):
    """PyTorch's number of threads inside the block (0: unchanged)."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_optimizer(config, model):
    """Adam, with each parameter's rate in proportion to its natural size (`Training.rate`)."""
    groups = []
    for layer, module in zip(config.layers, model.layers, strict=True):
        if isinstance(module, ActivityLayer):
            groups += [{"params": [parameter], "size": module.size_of(name)}
                       for name, parameter in module.named_parameters()]
            continue
        groups += [{"params": [branch.weight], "size": branch.weight_quantizer.span} for branch in module.branches]
        if attention := module.attention:
            groups.append({"params": [attention.time_weight, attention.channel_weight],
                           "size": attention.time_weight_quantizer.span})
            groups.append({"params": [attention.shift], "size": 1.0})
        for weighted in module.weighted:  # what is learned of quantizers is in latents
            quantizers = (weighted.of(name)[1] for name in weighted.tensors)
            groups += [{"params": [*quantizer.parameters()], "size": quantizer.span} for quantizer in quantizers
                       if isinstance(quantizer, torch.nn.Module) and [*quantizer.parameters()]]
        for gate in module.gates:
            groups += [{"params": [gate.weight], "size": gate.weight_quantizer.span},
                       {"params": [gate.bias], "size": 1.0}]
        learned = [module.threshold, module.bias, *([] if module.raise_by is None else [module.raise_by])]
        groups.append({"params": learned, "size": layer.start})
    return torch.optim.Adam(groups, lr=config.training.rate, fused=True)


def set_rate(optimizer, config, epoch):
    """Set the learning rates for a moment, ``epoch`` in fractions of an epoch since the beginning."""
    training = config.training
    first, end = next((first, end) for first, end in pairwise(config.phases) if epoch < end)
    done = (epoch - first) / (end - first)
    factor = (1 + math.cos(math.pi * done)) / 2 if training.schedule == "cosine" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = training.rate * factor * group["size"]


def augmented(config, samples, labels, generator):
    """Samples and labels as `spikeloom.data.load` gives them, but images as floats from 0 to 1, deformed at random as
    the configuration says, boxes with them."""
    dataset, augment = config.dataset, config.training.augment
    if dataset.has_frames:
        frames = samples.view(*samples.shape[:2], *config.input.shape)
        frames, moved = augment.moved_frames(frames, generator)
        samples = frames.flatten(2)
    else:
        images, moved = augment.moved(samples.float().div_(255).view(len(samples), *dataset.shape), generator)
        samples = images.flatten(1)
    return samples, moved.boxes(labels) if dataset.has_boxes else labels


@torch.no_grad()
def measured(config, model, samples, labels, *, quantized=True):
    """The figure of merit (`spikeloom.tasks`) of ``model`` on ``samples`` and ``labels``, as `spikeloom.data.load`
    gives them. Several processes divide them among themselves."""
    device = next(model.parameters()).device
    scores = torch.zeros(len(samples), config.task.size, device=device)
    samples, own = ranks.share(torch.as_tensor(samples, device=device)), ranks.share(scores)
    training, batch = model.training, batch_size(model, config.encoder.time_steps)
    model.eval()
    with exact_products():
        for start in range(0, len(samples), batch):
            outputs = model(config.encoder(samples[start:start + batch]), quantized=quantized)
            own[start:start + batch] = model.scores(*outputs)
    model.train(training)
    scores, = ranks.total(scores)
    return config.task.measure(scores.cpu(), torch.as_tensor(labels).cpu(), unit(config, model, quantized))


def unit(config, model, quantized=True):
    """What one of a detector's scores is worth, in latents."""
    return float(model.layers[-1].step(quantized)) if config.detection else 1.0


# Checkpoints ------------------------------------------------------------------------------------


@dataclass
class State:
    """All that a run is made of between two steps.

    Attributes
    ----------
    config : Config
    epoch : int
        epochs done
    model, optimizer : dict
        state dictionaries; ``optimizer`` is None before the first epoch
    best, best_accuracy : dict or None, float
        the model that did best on the validation part so far
    accuracy_float, accuracy : float or None
        on the test set, at the end of the float phase (in floats) and of the run (in integers; where layers have
        activities, in floats); of a detector, its mean average precision
    start : str or None
        SHA-256 (hexadecimal) of the checkpoint that the run began with
    initial : dict or None
        the model before the first epoch, where pruning rewinds to it
    step : int
        batches of the epoch under way that are done
    sums : list or None
        of these the sum of losses and how many samples were right and seen
    random : list or None
        after them the states of random numbers: of data, of PyTorch on the CPU, and on the GPU where there is one
    """

    config: configuration.Config
    epoch: int
    model: dict
    optimizer: dict | None = None
    best: dict | None = None
    best_accuracy: float = -1.0
    accuracy_float: float | None = None
    accuracy: float | None = None
    start: str | None = None
    initial: dict | None = None
    step: int = 0
    sums: list | None = None
    random: list | None = None

    @classmethod
    def fresh(cls, config, start=None):
        """The state before the first epoch, with the latents of the checkpoint ``start`` (a path) if it is given."""
        model = config.build(torch.Generator().manual_seed(config.seed))
        if start:
            other = load(start)
            trained = other.config.build()
            trained.load_state_dict(other.model)
            try:
                model.take(trained)
            except SpikeloomError as error:
                raise SpikeloomError(f"{start}: {error}") from None
        rewinds = config.pruning and config.pruning.rewind
        return cls(config, 0, _copy(model), start=start and _digest(start), initial=_copy(model) if rewinds else None)

    @property
    def finished(self):
        return self.epoch == self.config.training.epochs


def save(state, path):
    """Write a checkpoint; it is complete or not there at all."""
    content = {"kind": KIND, "version": VERSION, **vars(state),
               "config": json.dumps(configuration.describe(state.config))}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with files.replacing(path) as file:
        file.write(buffer.getvalue())


def load(path):
    """The `State` in a checkpoint, its tensors on the CPU.

    Raises `SpikeloomError` when the file is absent, truncated, corrupted, something else, or of another
    version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            # The directory has no checksum, and PyTorch reads nothing of what it takes for a folder.
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & ZIP_FOLDER]
            damaged = archive.testzip() or next(iter(folders), None)
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        kind = content.pop("kind")
    except FileNotFoundError:
        raise SpikeloomError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, EOFError,
            NotImplementedError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise SpikeloomError(f"{path}: not readable as a Spikeloom checkpoint, truncated or corrupted "
                             f"({type(error).__name__})") from None
    version = content.pop("version", None)
    if kind != KIND:
        raise SpikeloomError(f"{path}: holds a {kind!r}, where a {KIND!r} is needed")
    if version not in VERSIONS:
        raise SpikeloomError(f"{path}: checkpoint version {version!r}, where this Spikeloom reads versions "
                             f"{VERSIONS[0]} to {VERSION}")
    try:
        config = configuration.from_description(json.loads(content.pop("config")), path)
        state = State(config, **content)
        config.build().load_state_dict(state.model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SpikeloomError(f"{path}: a field is missing or of the wrong type "
                             f"({type(error).__name__})") from None
    return state


def _random_state(generator, device):
    """The states of random numbers, as `State.random`."""
    states = [generator.get_state(), torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(states, generator, device):
    generator.set_state(states[0])
    torch.set_rng_state(states[1])
    if device.type == "cuda" and len(states) > 2:
        torch.cuda.set_rng_state(states[2], device)


def _digest(path):
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise SpikeloomError(f"{path}: cannot be read: {error.strerror}") from None


def _copy(model):
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _difference(one, other):
    """The first key in which two configurations differ, in words."""

    def flat(value, key=""):
        if isinstance(value, dict):
            return {name: leaf for each in value for name, leaf in flat(value[each], f"{key}.{each}").items()}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return {name: leaf for number, each in enumerate(value)
                    for name, leaf in flat(each, f"{key}[{number}]").items()}
        return {key.lstrip("."): value}

    one, other = flat(configuration.describe(one)), flat(configuration.describe(other))
    key = next(key for key in [*one, *other] if one.get(key) != other.get(key))
    return f"{key} is {one.get(key)!r} there, {other.get(key)!r} here"
