"""Which weights stay: masks by magnitude, applied after the quantizer and fixed while the rest is trained on.

A mask is made of blocks of weights, and what blocks are is what kinds of pruning differ in. A block's magnitude is the
mean of its latents', in units of their quantizer's span, so that tensors of different kinds can be compared. What was
pruned stays pruned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from spikeloom.errors import SpikeloomError

from .layers import SpikingConv2d

SCOPES = ("global", "layer")

#: What says which channels go first.
BY = ("weights", "gates")


# Blocks -----------------------------------------------------------------------------------------
#
# Each kind gives a network's blocks as a list of (members, count): those of one layer or tensor, of which members are
# (owner, name, number): the tensor's owner and its name there, and for each weight the number of its block.


@dataclass(frozen=True)
class Single:
    """Each weight by itself."""

    kind = "weights"
    implied = True

    def blocks(self, network):
        return [_each(*tensor) for tensor in network.tensors]


def _each(owner, name):
    latent = getattr(owner, name)
    return [(owner, name, torch.arange(latent.numel()).view(latent.shape))], latent.numel()


@dataclass(frozen=True)
class Words:
    """The weights that gateware of so many ``lanes`` (neurons, or channels of a convolution, at once) reads in one
    cycle: those of neighbouring outputs for one input, and of a convolution for one row of the kernel and all of its
    columns that are a stride apart. An attention has no such words, so its weights are pruned each by itself."""

    lanes: int = 32
    kind = "words"

    def __post_init__(self):
        if self.lanes < 1:
            raise SpikeloomError(f"lanes must be 1 or more, not {self.lanes}")

    def blocks(self, network):
        return [_each(owner, name) if owner.tensors != ("weight",) else self._words(owner)
                for owner, name in network.tensors]

    def _words(self, synapses):
        shape = synapses.weight.shape
        out = torch.arange(shape[0])
        group = -(-len(out) // self.lanes), out // self.lanes
        if len(shape) == 2:
            parts = [(*group, 0), (shape[1], torch.arange(shape[1]), 1)]
        else:
            # By the channel of the map, as a word's outputs may be of several groups of a convolution.
            first = out * synapses.groups // len(out) * shape[1]
            channel = first[:, None] + torch.arange(shape[1])
            phases = min(synapses.stride, shape[3])
            parts = [(*group, 0), (synapses.groups * shape[1], channel, 0), (shape[2], torch.arange(shape[2]), 2),
                     (phases, torch.arange(shape[3]) % phases, 3)]
        number = torch.zeros(shape, dtype=torch.long)
        for count, index, axis in parts:
            number = number * count + index.view(*[1] * axis, *index.shape, *[1] * (len(shape) - axis - index.dim()))
        return [(synapses, "weight", number)], math.prod(count for count, _, _ in parts)


@dataclass(frozen=True)
class Channels:
    """All weights of a neuron, or of a channel of a convolution, those of its shortcut included; it then has no bias
    either, and never fires (unless a table of its leak moves it). The last layer is left alone, as its neurons are the
    classes, and so are attentions.

    ``by``: "weights", whose magnitude counts, or "gates": the share of samples and time steps in which the layer's
    gate, or that of the run which this one began with, left the channel open. Layers without one, or whose gate was
    never closed, are left alone then.
    """

    by: str = "weights"
    kind = "channels"

    def __post_init__(self):
        if self.by not in BY:
            raise SpikeloomError(f"by must be one of {', '.join(BY)}, not {self.by!r}")

    def layers(self, network):
        """Those that can lose channels."""
        return [layer for layer in network.layers[:-1] if self.by == "weights" or (
            layer.open_share is not None and (layer.open_share != 1).any())]

    def blocks(self, network):
        blocks = []
        for layer in self.layers(network):
            count = len(layer.weight)
            blocks.append(([(branch, "weight", torch.arange(count).view(-1, *[1] * (branch.weight.dim() - 1))
                             .expand_as(branch.weight)) for branch in layer.branches], count))
        return blocks


# Pruning ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruning:
    """So much is pruned, and when.

    Parameters
    ----------
    fraction : float
        of the weights that can be pruned, 0 up to 1, exclusive: as many whole blocks as are within it
    scope : "global" or "layer"
        whether blocks are compared over all of the network, or the same fraction taken of each tensor
    granularity : Single, Words or Channels
    epoch : int
        epochs that come before
    rounds : int
        in which the fraction grows by equal parts; 1 is all at once
    every : int
        epochs from a round to the next
    rewind : bool
        whether what is left begins each round with the latents of the run's beginning, instead of going on
    """

    fraction: float
    scope: str = "global"
    granularity: Single | Words | Channels = field(default_factory=Single)
    epoch: int = 0
    rounds: int = 1
    every: int = 1
    rewind: bool = False

    def __post_init__(self):
        if not 0 <= self.fraction < 1:
            raise SpikeloomError(f"fraction must be at least 0 and below 1, not {self.fraction}")
        if self.scope not in SCOPES:
            raise SpikeloomError(f"scope must be one of {', '.join(SCOPES)}, not {self.scope!r}")
        for name, least in (("epoch", 0), ("rounds", 1), ("every", 1)):
            if getattr(self, name) < least:
                raise SpikeloomError(f"{name} must be {least} or more, not {getattr(self, name)}")

    @property
    def epochs(self):
        """Epochs that come before each round."""
        return [self.epoch + number * self.every for number in range(self.rounds)]

    def prepare(self, network):
        """Give the `SpikingNetwork` its masks, which keep all; raises `SpikeloomError` where a grid has no zero."""
        for layer in network.layers:
            for owner in layer.weighted:
                for name in owner.tensors:
                    form = owner.of(name)[1].format
                    if 0 not in form.values:
                        raise SpikeloomError(f"Layer {layer.name}: weights of kind {form.kind} cannot be pruned, as "
                                             "their grid has no zero")
                    setattr(owner, f"{name}_mask", torch.ones_like(getattr(owner, name), requires_grad=False))
            if isinstance(self.granularity, Channels):
                layer.bias_mask = torch.ones_like(layer.bias, requires_grad=False)
                if self.granularity.by == "gates" and isinstance(layer, SpikingConv2d):
                    layer.opened = torch.ones_like(layer.bias, requires_grad=False)
        if isinstance(self.granularity, Channels) and len(network.layers) == 1:
            raise SpikeloomError("Pruning of channels leaves the last layer alone, and there is no other")

    @torch.no_grad()
    def prune(self, network, epoch):
        """Set the masks of the `SpikingNetwork` to those of the round that comes after so many epochs."""
        fraction = self.fraction * (self.epochs.index(epoch) + 1) / self.rounds
        blocks = self.granularity.blocks(network)
        if not blocks:
            raise SpikeloomError("Pruning by gates: no gate has ever been closed; begin with a run that has gates")
        measured = [_measure(*each) for each in blocks]
        if getattr(self.granularity, "by", None) == "gates":
            measured = self._opened(network, measured)
        if self.scope == "global":
            gone = _lowest(*(torch.cat(parts) for parts in zip(*measured, strict=True)), fraction)
            gone = gone.split([count for _, count in blocks])
        else:
            gone = [_lowest(*each, fraction) for each in measured]
        for (members, _), dropped in zip(blocks, gone, strict=True):
            for owner, name, number in members:
                owner.of(name)[2].copy_(~dropped[number])
        if isinstance(self.granularity, Channels):
            for layer, dropped in zip(self.granularity.layers(network), gone, strict=True):
                layer.bias_mask.copy_(~dropped)

    def _opened(self, network, measured):
        """What was ``measured``, with the share of time that channels are open in place of their magnitude."""
        shares = [layer.open_share.double().cpu() for layer in self.granularity.layers(network)]
        return [(torch.where(magnitude < 0, -1.0, share), size)
                for (magnitude, size), share in zip(measured, shares, strict=True)]


def _measure(members, count):
    """Magnitudes and sizes of blocks (count,); those that are pruned already come below all others."""
    total, size, kept = torch.zeros(count, dtype=torch.float64), torch.zeros(count), torch.zeros(count)
    for owner, name, number in members:
        latent, quantizer, mask = owner.of(name)
        number = number.flatten()
        total.index_add_(0, number, (latent.abs() / quantizer.span).double().cpu().flatten())
        kept.index_add_(0, number, mask.cpu().flatten())
        size.index_add_(0, number, torch.ones(len(number)))
    return torch.where(kept > 0, total / size, -1.0), size.long()


def _lowest(magnitude, size, fraction):
    """Of blocks (n,) the bool tensor of those with the lowest ``magnitude`` that make up ``fraction`` of all sizes."""
    order = magnitude.argsort(stable=True)
    gone = torch.empty(len(order), dtype=torch.bool)
    gone[order] = size[order].cumsum(0) <= round(fraction * int(size.sum()))
    return gone
