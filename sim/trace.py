"""Put together what a simulation showed, and find the first difference from what it should have shown."""

from dataclasses import dataclass

import numpy as np
from spikeloom import files
from spikeloom.compiler.order import restored
from spikeloom.errors import SpikeloomError
from spikeloom.reference import Trace

KIND = "simulation"
VERSION = 1


@dataclass(frozen=True)
class Difference:
    """Where two runs part: the earliest sample, time step, layer and neuron, as far as it is known, and what each of
    them has there."""

    what: str
    sample: int
    time_step: int | None
    layer: str | None
    neuron: int | None
    expected: int
    seen: int

    def __str__(self):
        place = f"sample {self.sample}"
        if self.time_step is not None:
            place += f", time step {self.time_step}, layer {self.layer}"
        if self.neuron is not None:
            place += f", neuron {self.neuron}"
        return f"{place}: {self.what} {self.seen}, expected {self.expected}"


def first_difference(network, expected, seen):
    """The first `Difference` between two `Trace` of ``network``, or None when they are equal.

    Ordered by sample, then time step, then layer; a spike before a membrane potential, and both before scores.
    """
    found = []
    for number, layer in enumerate(network.layers):
        for order, what in enumerate(("spikes", "membranes")):
            a, b = getattr(expected, what)[number], getattr(seen, what)[number]
            if a.shape != b.shape:
                raise ValueError(f"{what} of layer {layer.name} have shapes {a.shape} and {b.shape}")
            if not np.array_equal(a, b):
                sample, step, neuron = (int(n) for n in np.argwhere(a != b)[0])
                found.append(((sample, step, number, order), Difference(
                    "spike" if what == "spikes" else "membrane potential", sample, step, layer.name, neuron,
                    int(a[sample, step, neuron]), int(b[sample, step, neuron]))))
    if not np.array_equal(expected.scores, seen.scores):
        sample, neuron = (int(n) for n in np.argwhere(expected.scores != seen.scores)[0])
        found.append(((sample, 1 << 30, 0, 0), Difference(
            "score", sample, None, None, neuron,
            int(expected.scores[sample, neuron]), int(seen.scores[sample, neuron]))))
    if not np.array_equal(expected.winners, seen.winners):
        sample = int(np.argwhere(expected.winners != seen.winners)[0, 0])
        found.append(((sample, 1 << 30, 1, 0), Difference(
            "winner", sample, None, None, int(expected.winners[sample]),
            int(expected.winners[sample]), int(seen.winners[sample]))))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def from_updates(program, samples, time_steps, updates, scores, winners, loads=()):
    """A `Trace` from the neuron updates of every layer.

    Parameters
    ----------
    updates : for each layer, int arrays ``z`` (updates seen,) and ``v`` (updates seen, units)
        spikes as the bits of a word, or one that is graded, and membrane potentials; -1 in place of the spikes of a map
        stands for a row of it that was skipped, whose neurons keep their potentials, or have none yet in a sample's
        first time step
    loads : sequence of Program or None, optional
        for each sample, what was loaded in place of ``program``
    """
    spikes, membranes = [], []
    for number, (core, placement, (z, v)) in enumerate(zip(program.cores, program.placements, updates, strict=True)):
        layers = [(load or program).cores[number].layer for load in loads or [None] * samples]
        shape = (samples, time_steps, core.update_count, core.units)
        z, v = _with_skipped(core, time_steps, np.asarray(z), np.asarray(v))
        z = core.arrange((z if core.graded else z[:, None] >> np.arange(core.units) & 1).reshape(shape))
        spikes.append(restored(z, placement.order))
        membranes.append(restored(_potentials(layers, core.arrange(v.reshape(shape))), placement.order))
    n_out = program.network.n_out
    return Trace(spikes, membranes, np.asarray(scores).reshape(samples, n_out), np.asarray(winners))


def _potentials(layers, v):
    """Potentials (samples, time steps, n_out) that gateware stores as ``v``, of a layer as each sample meets it."""
    grid = layers[0].grid if layers else None
    if not grid:
        return v
    level = v & ((1 << grid.width) - 1)
    level = np.where(level <= grid.high, level, level - (1 << grid.width))
    threshold = np.array([np.tile(layer.threshold, layer.n_out // len(layer.threshold)) for layer in layers])
    return grid.value(level, threshold[:, None])


def _with_skipped(core, time_steps, z, v):
    """Updates with those of skipped rows in their places."""
    if not core.skips or not (z < 0).any():
        return z, v
    lengths = np.where(z < 0, core.row_updates, 1)
    places = np.cumsum(lengths) - lengths
    whole_z, whole_v = np.zeros(lengths.sum(), np.int64), np.zeros((lengths.sum(), core.units), np.int64)
    whole_z[places[z >= 0]], whole_v[places[z >= 0]] = z[z >= 0], v[z >= 0]
    for place in places[z < 0]:
        if place // core.update_count % time_steps:
            before = place - core.update_count
            whole_v[place:place + core.row_updates] = whole_v[before:before + core.row_updates]
    return whole_z, whole_v


def input_words(program, inputs):
    """The words that drive the array: int array (words, 4) of index, bits, last and final.

    Words of zero are left out, as every producer does, except where one has to end its time step.
    """
    words = program.i_words.pack(inputs)
    steps = words.shape[1]
    stays = words != 0
    stays[:, :, -1] |= ~stays.any(axis=2)  # a silent time step still ends
    last = stays & (np.cumsum(stays[:, :, ::-1], axis=2)[:, :, ::-1] == 1)
    _, step, index = np.nonzero(stays)
    return np.stack([index, words[stays], last[stays], last[stays] & (step == steps - 1)], axis=1).astype(np.int64)


def patience(program, time_steps):
    """Clock cycles without a score after which the array must have stopped: a generous time for a whole sample."""
    return 1000 + 40 * time_steps * sum(
        core.groups * (core.i_words.size * core.i_words.width + core.pace) for core in program.cores)


def save(path, program, backend, inputs, labels, seen, cycles):
    """Write a simulation file (``docs/format.md``): what ``backend`` showed for ``inputs``."""
    arrays = {"inputs": _smallest(inputs), "scores": _smallest(seen.scores), "winners": _smallest(seen.winners)}
    if labels is not None:
        arrays["labels"] = labels.astype(np.float32) if labels.dtype.kind == "f" else _smallest(labels)
    for number in range(len(seen.spikes)):
        arrays[f"{number}.spikes"] = _smallest(seen.spikes[number])
        arrays[f"{number}.membranes"] = _smallest(seen.membranes[number])
    files.save(path, KIND, VERSION, {"backend": backend, "digest": program.digest, "cycles": cycles}, arrays)


def load(path):
    """Read a simulation file: its header, the inputs, the labels (or None) and the `Trace`."""
    header, arrays = files.load(path, KIND, VERSION)
    try:
        layers = sum(name.endswith(".spikes") for name in arrays)
        seen = Trace([arrays[f"{n}.spikes"].astype(np.int64) for n in range(layers)],
                     [arrays[f"{n}.membranes"].astype(np.int64) for n in range(layers)],
                     arrays["scores"].astype(np.int64), arrays["winners"].astype(np.int64))
        return header, arrays["inputs"].astype(np.int64), arrays.get("labels"), seen
    except KeyError as error:
        raise SpikeloomError(f"{path}: lacks the array {error}") from None


def _smallest(array):
    """``array`` in the smallest integer type that holds it."""
    array = np.asarray(array)
    if not array.size:
        return array.astype(np.int8)
    return array.astype(np.promote_types(np.min_scalar_type(int(array.min())), np.min_scalar_type(int(array.max()))))
