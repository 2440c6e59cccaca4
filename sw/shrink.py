"""Channels that never do anything, taken out of a network for good.

What pruning leaves of a channel may be nothing: no weights, no bias. Its neurons then rest at 0 and never fire, so the
channel can go, and with it all weights of what it would have fed: fewer channels, smaller memories, fewer cycles. What
is left computes the same.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from . import reference
from .network import Conv2d, Dense


def shrink(network):
    """``network`` without the channels that never do anything, and how many it lost: {layer: channels}.

    A layer keeps its channels where they are bound to others by their numbers: in groups of a convolution, or of a
    shortcut, before an attention, or before a gate that takes several together. One of them stays in any case.
    """
    lost = {}
    while (found := next(filter(None, (_idle(network, layer) for layer in network.layers[:-1])), None)) is not None:
        layer, kept = found
        lost[layer.name] = lost.get(layer.name, 0) + layer.shape[2] - len(kept)
        network = _without(network, layer, kept)
    return network, lost


def _idle(network, layer):
    """The layer and the channels that it has to keep, or None where these are all."""
    if any(getattr(branch, "groups", 1) > 1 for branch in layer.branches):
        return None
    for other, sources in zip(network.layers, network.sources, strict=True):
        for branch, source in zip(other.branches, sources, strict=True):
            if source == layer.name and (branch.attention or getattr(branch, "groups", 1) > 1 or (
                    branch is other and other.gate and other.gate.reduce > 1)):
                return None
    weights = sum(np.abs(branch.weights).reshape(len(branch.weights), -1).sum(1) for branch in layer.branches)
    alone = dataclasses.replace(layer, block_gate=None) if layer.block_gate else layer
    nothing = np.zeros((1, 1, layer.shape[2]), np.int64)
    states = reference.States.before(nothing)
    z = reference.update(alone, states, nothing)
    stays = (np.stack([z, states.v, states.j, states.a]) == 0).all((0, 1, 2))
    busy = (weights != 0) | (layer.bias != 0) | ~stays
    busy[0] |= not busy.any()
    return None if busy.all() else (layer, np.flatnonzero(busy))


def _without(network, layer, kept):
    layers = []
    for other, sources in zip(network.layers, network.sources, strict=True):
        fields = _fewer_out(other, kept) if other is layer else {}
        if sources[0] == layer.name:
            fields |= _fewer_in(other, fields.get("weights", other.weights), layer, kept)
        if other.shortcut and sources[1] == layer.name:
            shortcut = other.shortcut
            fields["shortcut"] = dataclasses.replace(shortcut, **_fewer_in(shortcut, shortcut.weights, layer, kept))
        if other.others:
            others = fields.get("others", other.others)
            fields["others"] = tuple(
                dataclasses.replace(branch, weights=_of_channels(branch.weights, layer.shape, kept))
                if source == layer.name else branch for branch, source in zip(others, sources[1:], strict=True))
        layers.append(dataclasses.replace(other, **fields))
    return dataclasses.replace(network, layers=tuple(layers))


def _fewer_out(layer, kept):
    """What changes of a layer that keeps only these of its channels."""
    fields = {name: getattr(layer, name)[kept] for name in ("weights", "threshold", "bias")}
    if layer.others:
        fields["others"] = tuple(dataclasses.replace(branch, weights=branch.weights[kept]) for branch in layer.others)
    if layer.adaptation:
        fields["adaptation"] = dataclasses.replace(layer.adaptation, step=layer.adaptation.step[kept])
    if layer.shortcut:
        fields["shortcut"] = dataclasses.replace(layer.shortcut, weights=layer.shortcut.weights[kept])
    if gate := layer.gate:
        fields["gate"] = dataclasses.replace(gate, weights=gate.weights[kept], bias=gate.bias[kept])
    if gate := layer.block_gate:
        weights = gate.weights[kept] if gate.weights.shape[1] == 1 else gate.weights[kept][:, kept]
        fields["block_gate"] = dataclasses.replace(gate, weights=weights, bias=gate.bias[kept])
    return fields


def _of_channels(weights, shape, kept):
    """Dense ``weights`` of these channels of a map of this ``shape`` alone."""
    rows, columns, channels = shape
    return weights.reshape(-1, rows * columns, channels)[:, :, kept].reshape(len(weights), -1)


def _fewer_in(synapses, weights, source, kept):
    """What changes of synapses with these ``weights`` that get only these channels of their source."""
    if isinstance(synapses, Dense):
        weights = _of_channels(weights, synapses.pool.shape(source.shape) if synapses.pool else source.shape, kept)
        is_map = synapses.input_shape == source.shape
        shape = (*source.shape[:2], len(kept)) if is_map else (1, 1, math.prod(source.shape[:2]) * len(kept))
        return {"weights": weights, "input_shape": shape}
    fields = {"weights": weights[:, kept], "input_shape": (*source.shape[:2], len(kept))}
    if isinstance(synapses, Conv2d) and (gate := synapses.gate):
        gone = np.setdiff1d(np.arange(source.shape[2]), kept)
        bias = gate.bias + gate.weights[:, gone].sum(1) * gate.table[0]  # what they have always added
        fields["gate"] = dataclasses.replace(gate, weights=gate.weights[:, kept], bias=bias)
    return fields
