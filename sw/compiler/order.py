"""Which neurons stand side by side: those whose zeros fall together, so that whole words of weights are zero.

The channels of a layer can be put in any order if whoever takes their spikes has its weights in the same one. A network
so reordered fires the same spikes from other places, which nobody outside sees.
"""

import dataclasses
import functools

import numpy as np
from spikeloom.network import INPUT, Conv2d


def movable(network):
    """The numbers of layers whose channels may be put in another order.

    Scores of the last one are read out in their order. And a convolution in groups, such as a shortcut that is the
    identity, or an attention takes channels by their numbers, as does a layer that has such groups itself or a gate of
    blocks, and a gate of channels those that it takes together.
    """
    fixed = {INPUT, network.layers[-1].name}
    for layer, sources in zip(network.layers, network.sources, strict=True):
        for branch, source in zip(layer.branches, sources, strict=True):
            if isinstance(layer, Conv2d) and branch.groups > 1:
                fixed |= {source, layer.name}
        if layer.attention or (layer.gate and layer.gate.reduce > 1):
            fixed.add(sources[0])
        if layer.block_gate:
            fixed.add(layer.name)
    return {number for number, layer in enumerate(network.layers) if layer.name not in fixed}


def reordered(network, orders):
    """``network`` with the channels of each layer in the order that ``orders`` (a sequence with a permutation for each,
    or None) give: channel c of it is channel order[c] of the layer before."""
    if all(order is None for order in orders):
        return network
    by_name = {layer.name: order for layer, order in zip(network.layers, orders, strict=True)}
    return dataclasses.replace(network, layers=tuple(
        moved(layer, order, [by_name.get(source) for source in sources])
        for layer, sources, order in zip(network.layers, network.sources, orders, strict=True)))


def moved(layer, order, sources=(None, None)):
    """``layer`` with its channels in an ``order``, and those of each branch's source in that of ``sources``."""
    changes = {"weights": _weights(layer, sources[0], order)}
    if order is not None:
        changes |= {"threshold": layer.threshold[list(order)], "bias": layer.bias[list(order)]}
    if layer.gate:
        bias = layer.gate.bias if order is None else layer.gate.bias[list(order)]
        changes["gate"] = dataclasses.replace(layer.gate, weights=_weights(layer.gate, sources[0], order), bias=bias)
    if layer.adaptation and order is not None:
        changes["adaptation"] = dataclasses.replace(layer.adaptation, step=layer.adaptation.step[list(order)])
    if layer.others:
        changes["others"] = tuple(dataclasses.replace(branch, weights=_weights(branch, source, order))
                                  for branch, source in zip(layer.others, sources[1:], strict=True))
    if layer.shortcut:
        changes["shortcut"] = dataclasses.replace(layer.shortcut, weights=_weights(layer.shortcut, sources[1], order))
    return dataclasses.replace(layer, **changes)


def _weights(synapses, inputs, outputs):
    """The weights of ``synapses`` for channels in and out in other orders."""
    weights = synapses.weights
    if outputs is not None:
        weights = weights[list(outputs)]
    if inputs is None:
        return weights
    if weights.ndim == 4:
        return weights[:, list(inputs)]
    return weights.reshape(len(weights), -1, len(inputs))[:, :, list(inputs)].reshape(weights.shape)


def arranged(values, order):
    """``values`` (..., neurons) of a layer, with its channels in an ``order``, or as they are (None)."""
    if order is None:
        return values
    return values.reshape(*values.shape[:-1], -1, len(order))[..., list(order)].reshape(values.shape)


def restored(values, order):
    """``values`` (..., neurons) of a layer whose channels stand in an ``order``, or in their own (None), as the layer
    itself has them."""
    if order is None:
        return values
    channels = np.empty_like(values).reshape(*values.shape[:-1], -1, len(order))
    channels[..., list(order)] = values.reshape(channels.shape)
    return channels.reshape(values.shape)


@functools.lru_cache(maxsize=512)
def gathered(layer, group):
    """An order of the layer's channels, of which ``group`` stand in one word, with many words that are zero: a tuple.

    Greedy: a word's first channel is the one with most places of weights that are not zero; of the others that one is
    next which brings in the fewest new ones.
    """
    needed = places(layer).astype(np.float32)
    left = np.arange(len(needed))
    order = []
    while len(left):
        free = np.ones(needed.shape[1], np.float32)  # places that no channel of the word has needed yet
        for at in range(min(group, len(left))):
            new = needed[left] @ free
            chosen = int(np.argmin(new) if at else np.argmax(new))
            order.append(int(left[chosen]))
            free[needed[left[chosen]] > 0] = 0
            left = np.delete(left, chosen)
    return tuple(order)


def places(layer):
    """Which words a channel's weights make necessary: bool (channels, words of a group)."""
    used = layer.weights != 0
    if used.ndim == 2:
        return used
    # The columns of the kernel that are a stride apart are in one word.
    out, seen, kernel, _ = used.shape
    stride = min(layer.stride, kernel)
    padded = np.zeros((out, seen, kernel, -(-kernel // stride) * stride), bool)
    padded[..., :kernel] = used
    return padded.reshape(out, seen, kernel, -1, stride).any(3).reshape(out, -1)
