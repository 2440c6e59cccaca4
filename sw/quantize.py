"""From a checkpoint to the integer `Network`, with notes on where it comes from.

``network.notes`` then holds

``data``
    {"dataset": name, "encoder": {"kind": kind, **fields}}: `spikeloom.data.samples` rebuilds inputs from it
``accuracy``
    {"float": share or null, "torch": share} on the whole test set: after the float phase, in floats; and of
    this network, in PyTorch
``activity``, ``events``
    lists with an entry for each layer, measured on training samples: mean non-zero inputs per time step, and
    mean set bits of their magnitudes (the same where inputs are binary)
``config``
    SHA-256 of the training configuration
``trained``
    {"epochs_float": epochs, "epochs_quantized": epochs}
"""

from __future__ import annotations

import numpy as np

from . import config as configuration
from . import data, model
from .errors import SpikeloomError
from .train import load

#: Activity is measured on so many training samples.
ACTIVITY_SAMPLES = 1000


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
                 "encoder": configuration.describe(state.config.encoder)},
        "accuracy": {"float": state.accuracy_float, "torch": state.accuracy},
        "config": state.config.digest,
        "trained": {"epochs_float": training.epochs_float, "epochs_quantized": training.epochs_quantized},
    }
    network = trained.to_network(notes)
    available = len(data.load(state.config.data.dataset, "train", data_dir, state.config.encoder)[0])
    inputs, _ = data.samples(notes["data"], "train", min(ACTIVITY_SAMPLES, available), data_dir)
    notes["activity"], notes["events"] = activity(network, inputs, device=device)
    return trained.to_network(notes)


def activity(network, inputs, *, device=None):
    """Mean non-zero inputs, and mean set bits of their magnitudes, per time step: a list each, by layer."""
    trace = model.run(network, inputs, device=device)
    entering = [inputs, *trace.spikes[:-1]]
    per_step = inputs.shape[0] * inputs.shape[1]
    nonzero = [int(np.count_nonzero(z)) / per_step for z in entering]
    bits = [int(np.bitwise_count(np.abs(z)).sum()) / per_step for z in entering]
    return nonzero, bits
