"""What a host does with a board: run samples, load a network, check memories, hold it all to the reference.

``board`` is a `Connection` to one.
"""

from dataclasses import dataclass

import numpy as np
from spikeloom import link, reference
from spikeloom.compiler.map_core import MapCore
from spikeloom.compiler.order import arranged
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT
from spikeloom.sim.trace import Difference

__all__ = ["Verification", "check", "load", "run", "verify"]

#: Samples whose events are counted together. Counters wrap, so these are fewer where samples have many events.
BATCH = 256


def run(board, program, inputs, progress=None):
    """Scores (samples, n_out) and winners (samples,) of ``inputs`` (samples, time steps, n_in) on a board.

    ``progress`` is told the number of samples done. Raises `SpikeloomError` when the board carries another build or
    network, the inputs do not fit, or the line fails.
    """
    board.expect(program)
    results = []
    for result in board.samples(reference.check_inputs(program.network, inputs)):
        results.append(result)
        if progress:
            progress(len(results))
    return _arrays(results, program.network.n_out)


def load(board, program, *, built=None, progress=None):
    """Load the network of ``program`` into a board that was built for a program of the same shape.

    Raises `SpikeloomError` when the board is of another shape (naming where, if the program that it was ``built`` for
    is given) or its memories cannot be loaded, and when one does not hold what was written; the board then refuses
    samples until a load succeeds.
    """
    _check_reloadable(board, program, built)
    board.load(program, progress)


def check(board, program, *, built=None):
    """The names of the board's memories that do not hold what ``program`` has there, by their CRC.

    Raises `SpikeloomError` as `load` does.
    """
    _check_reloadable(board, program, built)
    return board.differing(program)


def _check_reloadable(board, program, built):
    if built is not None:
        built.check_same_shape(program)
    board.expect(program, network=False)
    if not program.reloadable:
        raise SpikeloomError("The memories of this board cannot be loaded: compile the program as reloadable, and "
                             "build it again")


@dataclass(frozen=True)
class Verification:
    """What `verify` compared.

    Attributes
    ----------
    samples, scores, spikes : int
        compared; spikes by their number in each layer, the input's included and the last layer's left out
    given : int array (samples, n_out)
        the scores that the board gave
    difference : Difference or None
        the first one; then fewer samples may have been compared
    cycles : int
        clock cycles in which the board was busy with a sample
    resent : int
        requests that had to be sent again
    """

    samples: int
    scores: int
    spikes: int
    given: np.ndarray
    difference: Difference | None
    cycles: int
    resent: int


def verify(board, program, inputs, progress=None):
    """Hold a board to the reference on ``inputs`` (samples, time steps, n_in); a `Verification`.

    Compared are all scores and winners, and the number of events that each layer received. The first sample that
    differs runs again with its first time step alone, with the first two and so on, to find where.

    ``progress`` is told the number of samples done. Raises `SpikeloomError` as `run` does.
    """
    board.expect(program)
    network = program.network
    inputs = reference.check_inputs(network, inputs)
    given, spikes, cycles, difference, resent = [], 0, 0, None, board.traffic.resent
    start = 0
    while start < len(inputs) and difference is None:
        batch = inputs[start: start + BATCH]
        expected = reference.run(network, batch)
        events = _events(program, batch, expected)
        # Counters must not come round.
        fit = int((events.cumsum(axis=0) < 1 << link.Counters.LAYER - 1).all(axis=1).sum())
        batch, events = batch[:max(fit, 1)], events[:max(fit, 1)]
        results, seen, busy = _measure(board, batch)
        scores, batch_winners = _arrays(results, network.n_out)
        same = (scores == expected.scores[:len(batch)]).all(axis=1) & (batch_winners == expected.winners[:len(batch)])
        if not same.all() or not np.array_equal(seen, events.sum(axis=0)):
            difference = _first_difference(board, program, batch, start, expected, events, seen, scores, batch_winners)
        given += scores.tolist()
        spikes += int(events.sum())
        cycles += busy
        start += len(batch)
        if progress:
            progress(start)
    return Verification(start, start * network.n_out, spikes,
                        np.array(given, np.int64).reshape(-1, network.n_out), difference, cycles,
                        board.traffic.resent - resent)


def _events(program, inputs, trace):
    """How many events each layer counts: int array (samples, layers). One of a convolution counts once for each row
    that goes out and sees it, in the first group of channels."""
    network, counts = program.network, []
    fired = {INPUT: inputs} | {layer.name: arranged(z, placement.order) for layer, z, placement in zip(
        network.layers, trace.spikes, program.placements, strict=True)}
    for core, sources in zip(program.cores, network.sources, strict=True):
        layer = core.layer
        if isinstance(core, MapCore):
            windows = (core, core.shortcut) if core.shortcut else (core,)
            counts.append(sum(window.visits(fired[source], [0])[0].sum((1, 2, 3)).astype(np.int64)
                              for window, source in zip(windows, sources, strict=True)))
        else:
            each = [reference.delayed(branch, fired[source])
                    for branch, source in zip(layer.branches, sources, strict=True)]
            if layer.pool and layer.pool.kind == "max":
                each[0] = reference.pool(layer, each[0])
            counts.append(sum(_bits(z).reshape(len(z), -1).sum(axis=1) for z in each))
    return np.stack(counts, axis=1)


def _bits(z):
    """The set bits of each magnitude."""
    return np.bitwise_count(np.abs(z)).astype(np.int64)


def _arrays(results, n_out):
    return (np.array([scores for scores, _ in results], np.int64).reshape(-1, n_out),
            np.array([winner for _, winner in results], np.int64))


def _measure(board, inputs):
    """Results, events of each layer, and busy cycles of ``inputs``. What was sent twice would count twice, so samples
    that the line disturbed run again, in halves."""
    for _ in range(board.tries):
        resent, before = board.traffic.resent, board.counters()
        results = list(board.samples(inputs))
        counted = board.counters().since(before)
        if board.traffic.resent == resent:
            return results, np.array(counted.events), counted.busy
        if len(inputs) > 1:
            half = len(inputs) // 2
            first, second = _measure(board, inputs[:half]), _measure(board, inputs[half:])
            return tuple(a + b for a, b in zip(first, second, strict=True))
    raise SpikeloomError(f"{board.line.name}: the line is too bad to count events: of {board.tries} tries none went "
                         "without a request sent again")


def _first_difference(board, program, inputs, start, expected, events, seen, scores, winners):
    """Where a batch that differs does so first, as far as running its samples alone shows."""
    for number in range(len(inputs)):
        difference = _locate(board, program, inputs[number], start + number) or _score_difference(
            (expected.scores[number], expected.winners[number]), (scores[number], winners[number]), start + number)
        if difference is not None:
            return difference
    layer = int((seen != events.sum(axis=0)).argmax())
    return Difference(f"events of layer {program.network.layers[layer].name} in samples {start} to "
                      f"{start + len(inputs) - 1}", start, None, None, None, int(events.sum(axis=0)[layer]),
                      int(seen[layer]))


def _locate(board, program, x, number):
    """The `Difference` of sample ``x`` (time steps, n_in) when it runs alone, or None."""
    (result,), seen, _ = _measure(board, x[None])
    trace = reference.run(program.network, x[None])
    if (_score_difference((trace.scores[0], trace.winners[0]), result, number) is None
            and np.array_equal(seen, _events(program, x[None], trace)[0])):
        return None
    before = seen_before = np.zeros(len(program.cores), np.int64)
    for steps in range(1, len(x) + 1):
        (result,), seen, _ = _measure(board, x[None, :steps])
        trace = reference.run(program.network, x[None, :steps])
        events = _events(program, x[None, :steps], trace)[0]
        for layer in np.flatnonzero(events != seen):
            # The events of a dense layer with a single source are its spikes.
            (own, *others), name = program.network.sources[layer], program.network.layers[layer].name
            several = others or isinstance(program.cores[layer], MapCore)
            what = f"events seen by {name}" if several else "number of spikes"
            return Difference(what, number, steps - 1, own, None, int((events - before)[layer]),
                              int((seen - seen_before)[layer]))
        difference = _score_difference((trace.scores[0], trace.winners[0]), result, number, steps - 1,
                                       program.network.layers[-1].name)
        if difference is not None:
            return difference
        before, seen_before = events, seen
    return None


def _score_difference(expected, seen, number, step=None, layer=None):
    """The `Difference` between two pairs of scores (n_out,) and winner, or None."""
    (scores, winner), (seen_scores, seen_winner) = expected, seen
    for neuron, (a, b) in enumerate(zip(scores, seen_scores, strict=True)):
        if a != b:
            return Difference("score", number, step, layer, neuron, int(a), int(b))
    if winner != seen_winner:
        return Difference("winner", number, step, layer, None, int(winner), int(seen_winner))
    return None
