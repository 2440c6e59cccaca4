"""From a checkpoint to the integer `Network`, with notes on where it comes from.

``network.notes`` then holds

``data``
    {"dataset": name, "encoder": {"kind": kind, **fields}}: `spikeloom.data.samples` rebuilds inputs from it; of a
    user's own images with "images", the fields of `spikeloom.data.voc.Images`
``detection``
    of a detector, what boxes its scores are: the names of "classes" and the fields of `spikeloom.detection.Cells`
``accuracy``
    {"float": share or null, "torch": share} on the whole test set: after the float phase, in floats; and of
    this network, in PyTorch. Of a detector, mean average precisions
``activity``, ``events``, ``events_pooled``, ``events_shortcut``
    lists with an entry for each layer, measured on training samples, all of them means per time step: non-zero
    inputs of the layer's own synapses, before pooling; set bits of their magnitudes (the same where inputs are
    binary); set bits after attention and pooling (the same where there is neither); set bits of what comes to its
    shortcut, before pooling, or null where it has none
``events_branches``
    a list for each layer: mean set bits per time step of what comes to each of its further branches; only where there
    are some
``rows``
    a list with an entry for each layer: of a convolution, the mean clock cycles that a pass over each row of its map
    takes in gateware, for each of `spikeloom.compiler.cost.PACES`; null of others
``opened``
    a list with an entry for each layer: with a channel gate, the share of groups of neighbouring channels that have an
    open one, for each of `spikeloom.compiler.cost.NEIGHBOURS`; null of others
``config``
    SHA-256 of the training configuration
``trained``
    {"epochs_float": epochs, "epochs_quantized": epochs}, and where it began with another run's latents "start",
    SHA-256 of that checkpoint
``channels_removed``
    {layer: channels} that pruning left nothing of and `spikeloom.shrink` took out; only where channels were pruned
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from spikeloom import data, reference
from spikeloom.compiler import cost
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT
from spikeloom.shrink import shrink

from . import config as configuration
from . import model
from .hybrid import ActivityLayer
from .pruning import Channels
from .train import load, unit

#: Activity is measured on so many training samples, of fewer where their inputs would have more values than this.
ACTIVITY_SAMPLES, ACTIVITY_VALUES = 1000, 2**25

#: ... and the cycles of each row of a convolution on so many of them.
ROW_SAMPLES = 50


def quantize(checkpoint, *, data_dir=None, device=None):
    """The `Network` that a finished run's checkpoint holds.

    Parameters
    ----------
    checkpoint : path
    data_dir : path, optional
        where the images are, to measure activity (`spikeloom.data.load`)
    device : str, optional

    Raises `SpikeloomError` when the checkpoint is unreadable, or its training is not finished.
    """
    state = load(checkpoint)
    training = state.config.training
    if not state.finished:
        raise SpikeloomError(f"{checkpoint}: its training stopped after {state.epoch} of {training.epochs} "
                             "epochs; train to the end first")
    trained = state.config.build()
    trained.load_state_dict(state.model)
    notes = {
        "data": {"dataset": state.config.data.dataset,
                 "encoder": configuration.describe(state.config.encoder)}
        | ({"images": configuration.describe(state.config.data.images)} if state.config.data.images else {}),
        "accuracy": {"float": state.accuracy_float, "torch": state.accuracy},
        "config": state.config.digest,
        "trained": {"epochs_float": training.epochs_float, "epochs_quantized": training.epochs_quantized}
        | ({"start": state.start} if state.start else {}),
    }
    if state.config.detection:
        notes["detection"] = state.config.task.to_notes(unit(state.config, trained))
    network = trained.to_network(notes)
    if state.config.pruning and isinstance(state.config.pruning.granularity, Channels):
        network, notes["channels_removed"] = shrink(network)
    if any(isinstance(layer, ActivityLayer) for layer in trained.layers):  # training did not see its integers
        notes["accuracy"]["torch"] = accuracy(state.config, network, data_dir, device)
    available = len(data.load(state.config.dataset, "train", data_dir, state.config.encoder)[1])
    each = network.time_steps * network.input.size
    count = min(ACTIVITY_SAMPLES, available, max(1, ACTIVITY_VALUES // each))
    inputs, _ = data.samples(notes["data"], "train", count, data_dir)
    few = inputs[:ROW_SAMPLES]
    rows = cost.mean(cost.measure(network, few, model.run(network, few, device=device).spikes))
    notes |= activity(network, inputs, device=device) | cost.notes(rows)
    return replace(network, notes=notes)


def accuracy(config, network, data_dir=None, device=None):
    """The figure of merit of ``network`` on the test set that ``config`` names."""
    samples, labels = data.load(config.dataset, "test", data_dir, config.encoder)
    batch = model.batch_size(network, network.time_steps)
    scores = [model.run(network, config.encoder(torch.as_tensor(samples[first:first + batch])).numpy(),
                        device=device).scores for first in range(0, len(samples), batch)]
    return config.task.measure(np.concatenate(scores), labels)


def activity(network, inputs, *, device=None):
    """The notes on activity that ``inputs`` (samples, time steps, n_in) give, as this module's docstring says."""
    totals = [np.zeros(2 + len(layer.branches), np.int64) for layer in network.layers]
    batch = model.batch_size(network, inputs.shape[1])
    for start in range(0, len(inputs), batch):  # what all layers fire for all samples would not fit into memory
        chunk = inputs[start:start + batch]
        trace = model.run(network, chunk, device=device)
        fired = {INPUT: chunk} | {layer.name: z for layer, z in zip(network.layers, trace.spikes, strict=True)}
        for total, layer, sources in zip(totals, network.layers, network.sources, strict=True):
            own, *others = (fired[source] for source in sources)
            total += (np.count_nonzero(own), _bits(own), _bits(reference.pool(layer, reference.attend(layer, own))),
                      *map(_bits, others))
    per_step = inputs.shape[0] * inputs.shape[1]
    means = [[int(count) / per_step for count in total] for total in totals]
    nonzero, bits, pooled = zip(*(mean[:3] for mean in means), strict=True)
    further = [(layer, mean[3:]) for layer, mean in zip(network.layers, means, strict=True)]
    notes = {"activity": [*nonzero], "events": [*bits], "events_pooled": [*pooled],
             "events_shortcut": [mean[0] if layer.shortcut else None for layer, mean in further]}
    if any(layer.others for layer in network.layers):
        notes["events_branches"] = [mean if layer.others else [] for layer, mean in further]
    return notes


def _bits(values):
    return int(np.bitwise_count(np.abs(values)).sum())
