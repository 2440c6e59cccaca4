"""Spiking networks as PyTorch modules in integer units, and the bridge to and from the integer `Network`.

A module holds latents (floats; of integer size, unless `spikeloom.training.quantizers` say otherwise). With
``quantized`` its forward pass works on their integers and equals `spikeloom.reference`; without, it works on the
latents themselves, the float baseline of the same network. Tensors are time-major: (time steps, batch, neurons), a
map's neurons in the order that the reference says, which is PyTorch's ``channels_last`` without copying.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import torch
from spikeloom import network as integer
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Dense, Network
from torch import nn

from . import quantizers
from .attention import JointAttention
from .gates import SpikingBlockGate, SpikingChannelGate
from .integers import to_layers
from .layers import SpikingConv2d, SpikingDense
from .membranes import Exact
from .neuron import Adapting, Neuron
from .norm import BatchNorm
from .synapses import SpikingBranch, SpikingShortcut

#: So many values the largest tensor of a `batch_size` has: 8 MiB of float32, which stay in a processor's cache.
BATCH_VALUES = 2**21


class SpikingNetwork(nn.Module):
    """Layers, each fed by the spikes that its sources fire, in the same time step or by a delay earlier; by default the
    layer before.

    Parameters
    ----------
    input : InputFormat
    layers : iterable of SpikingDense and SpikingConv2d
    time_steps : int
    readout : "count" or "membrane"
    votes : int
        neighbouring neurons of the last layer that vote for one class

    Raises `SpikeloomError` for a layer that feeds back and has a batch norm, or is not of spiking neurons.
    """

    def __init__(self, input, layers, time_steps, readout="count", votes=1):
        super().__init__()
        self.input, self.time_steps, self.readout, self.votes = input, time_steps, readout, votes
        self.layers = nn.ModuleList(layers)
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise SpikeloomError(f"Layer names must differ, but are {', '.join(names)}")
        for layer in self.layers:
            if integer.is_looped([*self.layers], layer):
                if not isinstance(layer, SpikingDense | SpikingConv2d):
                    raise SpikeloomError(f"Layer {layer.name}: of kind {layer.kind}, it cannot be where layers feed "
                                         "back")
                if isinstance(layer.norm, BatchNorm):
                    raise SpikeloomError(f"Layer {layer.name}: where layers feed back there is no batch norm, which "
                                         "takes all time steps at once")

    def forward(self, x, *, quantized=True, record=False):
        """Spikes and membranes of each layer, two lists of tensors (time steps, batch, n_out).

        Membranes of all but the last layer are None unless ``record``.

        ``x``: (batch, time steps, n_in), numeric. A time axis made by ``expand`` (stride 0) is known to be
        constant, and the product with weights that it feeds is then done once.
        """
        time_steps = x.shape[1]
        z = x[:, :1] if x.stride(1) == 0 else x
        fired = {INPUT: z.transpose(0, 1).contiguous().float()}
        membranes, sources, last = [], integer.sources(self.layers), len(self.layers) - 1
        for loop in integer.loops(self.layers):
            layer, options = self.layers[loop.start], {"time_steps": time_steps, "quantized": quantized}
            if len(loop) > 1 or not _at_once(layer, sources[loop.start]):
                found = _run_loop(self.layers[loop.start:loop.stop], sources[loop.start:loop.stop], fired, **options)
            else:
                found = [layer(*(fired.get(source) for source in sources[loop.start]), **options,
                               record=record or loop.start == last)]
            for number, (z, v) in zip(loop, found, strict=True):
                fired[self.layers[number].name] = z
                membranes.append(v if record or number == last else None)
            if self.training and 0 < getattr(layer, "late", 0) < time_steps:  # and all that comes after it
                time_steps = layer.late
                fired = {name: z if len(z) == 1 else z[-time_steps:] for name, z in fired.items()}
        return [fired[layer.name] for layer in self.layers], membranes

    def classes(self, spikes, membranes, *, quantized=True):
        """The last layer's spikes and membranes (time steps, batch, classes): means over those that vote for a
        class, and membranes in latents of the layer's weights, as large as those of floats."""
        spikes, membranes, last = spikes[-1], membranes[-1], self.layers[-1]
        if isinstance(last.weight_quantizer, quantizers.Scaled):
            membranes = membranes * last.step(quantized)
        return tuple(tensor.unflatten(2, (-1, self.votes)).mean(3) if self.votes > 1 else tensor
                     for tensor in (spikes, membranes))

    def scores(self, spikes, membranes):
        """A sample's scores (batch, classes) from the last layer's spikes and membranes."""
        scores = spikes[-1].sum(0) if self.readout == "count" else membranes[-1][-1]
        return scores.unflatten(1, (-1, self.votes)).sum(2)

    @property
    def penalty(self):
        """What gates add to the loss of the batch that was seen last, a scalar."""
        return sum(gate.penalty for layer in self.layers for gate in layer.gates)

    @property
    def tensors(self):
        """(owner, name) of every tensor of weights, without those of gates."""
        return [tensor for layer in self.layers for tensor in layer.own_tensors]

    def take(self, other):
        """Take the latents of another `SpikingNetwork` of the same shapes, so that both compute the same in floats.

        What was pruned there is zero. Where the kinds of weights differ, a layer's weights, thresholds and potentials
        are scaled alike, by the ratio of their natural sizes; weights of kind normalized_binary normalize what they
        take.

        Raises `SpikeloomError` where that cannot be.
        """
        if len(self.layers) != len(other.layers):
            raise SpikeloomError(f"has {len(other.layers)} layers, where {len(self.layers)} are needed")
        for mine, its in zip(self.layers, other.layers, strict=True):
            mine.take(its)

    def start_quantizing(self):
        """Set what quantizers learn from the latents at hand, which are clipped as `limit` does."""
        for weighted, name in self.tensors:
            latent, quantizer, _ = weighted.of(name)
            quantizer.start(latent)
        self.limit()

    def anneal(self, share):
        """So much of the quantized phase (0 to 1) is over."""
        for weighted, name in self.tensors:
            weighted.of(name)[1].anneal(share)

    def limit(self):
        """Clip all latents in place to what their integers can reach."""
        for layer in self.layers:
            layer.limit()

    def to_network(self, notes=None):
        """The integer `Network`; raises `SpikeloomError` when it would break one of its rules."""
        return Network(self.input, to_layers(self), self.time_steps, self.readout, notes or {}, self.votes)


def _at_once(layer, sources):
    """Whether a layer that no other one waits for can take all time steps of its ``sources`` at once: most can, and
    those that feed themselves where that is but one matrix product."""
    own = [branch for branch, source in zip(layer.branches, sources, strict=True) if source == layer.name]
    return not own or (isinstance(layer, SpikingDense) and len(own) < len(sources)
                       and not any(branch.pool for branch in own))


def _run_loop(layers, sources, fired, time_steps, quantized):
    """Pairs of spikes and membranes (time steps, batch, n_out) of ``layers`` that feed each other or themselves, time
    step after time step; ``sources``: those of their branches, ``fired``: by name, what comes from before them."""
    names, like = [layer.name for layer in layers], fired[INPUT]
    inner = [[(branch, names.index(source)) for branch, source in zip(layer.branches, of_layer, strict=True)
              if source in names] for layer, of_layer in zip(layers, sources, strict=True)]
    steppers = [layer.stepper([fired.get(source) for source in of_layer], time_steps, quantized, like)
                for layer, of_layer in zip(layers, sources, strict=True)]
    silence = [like.new_zeros(like.shape[1], math.prod(layer.shape)) for layer in layers]
    spikes, membranes = [[] for _ in layers], [[] for _ in layers]
    for t in range(time_steps):
        for step, of_layer, z_of, v_of in zip(steppers, inner, spikes, membranes, strict=True):
            z, v = step(t, [spikes[number][t - branch.delay] if branch.delay <= t else silence[number]
                            for branch, number in of_layer])
            z_of.append(z)
            v_of.append(v)
    return [(torch.stack(z), torch.stack(v)) for z, v in zip(spikes, membranes, strict=True)]


def from_network(network):
    """A `SpikingNetwork` whose latents are the integers of ``network``, to be run and not to be trained."""
    return SpikingNetwork(network.input, [_from_layer(layer) for layer in network.layers], network.time_steps,
                          network.readout, network.votes).eval()


def _from_layer(layer):
    attention = layer.attention and JointAttention(
        layer.input_shape, len(layer.attention.time_weights), table=layer.attention.table,
        weights=quantizers.Exact(layer.attention.weight_format))
    options = {"name": layer.name, "source": layer.source, "attention": attention, "pool": layer.pool,
               "weights": quantizers.Exact(layer.weight_format), "threshold_quantizer": quantizers.Exact(),
               "bias_quantizer": quantizers.Exact(), "delay": layer.delay}
    neuron = Neuron(layer.v_width, layer.leak, layer.reset, layer.fire,
                    membrane=Exact(layer.grid) if layer.grid else None, act=layer.act, current=layer.current,
                    adaptation=layer.adaptation and Adapting(layer.adaptation.width, layer.adaptation.leak))
    if isinstance(layer, Dense):
        others = [SpikingBranch(branch.source, branch.n_in, layer.n_out, delay=branch.delay,
                                weights=quantizers.Exact(branch.weight_format)) for branch in layer.others]
        module = SpikingDense(layer.input_shape, layer.n_out, neuron, others=others, **options)
    else:
        shortcut = layer.shortcut and SpikingShortcut(
            layer.shortcut.source, layer.shortcut.input_shape, layer.shape[2], stride=layer.shortcut.stride,
            groups=layer.shortcut.groups, weights=quantizers.Exact(layer.shortcut.weight_format),
            pool=layer.shortcut.pool, delay=layer.shortcut.delay)
        module = SpikingConv2d(layer.input_shape, layer.shape[2], neuron, kernel=layer.kernel, stride=layer.stride,
                               padding=layer.padding, groups=layer.groups, shortcut=shortcut,
                               gate=layer.gate and SpikingChannelGate.from_gate(layer.gate, layer),
                               block_gate=layer.block_gate and SpikingBlockGate.from_gate(layer.block_gate, layer),
                               **options)
    with torch.no_grad():
        for branch, of_branch in zip(module.branches, layer.branches, strict=True):
            branch.weight.copy_(torch.from_numpy(of_branch.weights.copy()))
        if attention:  # whose two kernels may differ in length
            attention.time_weight, attention.channel_weight = (
                nn.Parameter(torch.from_numpy(weights.copy()).float())
                for weights in (layer.attention.time_weights, layer.attention.channel_weights))
            attention.shift.fill_(layer.attention.shift)
        module.threshold.copy_(torch.from_numpy(layer.threshold.copy()))
        module.bias.copy_(torch.from_numpy(layer.bias.copy()))
        if layer.adaptation:
            module.raise_by.copy_(torch.from_numpy(layer.adaptation.step.copy()))
    return module


def run(network, inputs, *, device=None, batch=None):
    """Run ``network`` in PyTorch on ``inputs`` (samples, time steps, n_in); as `spikeloom.reference.run`.

    Parameters
    ----------
    device : str, optional
        where to compute ("cpu", "cuda"); by default a GPU where there is one
    batch : int, optional
        samples at a time; by default as many as keep tensors small

    Raises `SpikeloomError` as the reference does.
    """
    inputs = reference.check_inputs(network, inputs)
    device = choose_device(device)
    model = from_network(network).to(device)
    samples, steps, _ = inputs.shape
    batch = batch or batch_size(model, steps)
    spikes = [np.empty((samples, steps, layer.n_out), np.int64) for layer in network.layers]
    membranes = [np.empty_like(array) for array in spikes]
    constant = steps > 1 and all((inputs[:, t] == inputs[:, 0]).all() for t in range(1, steps))
    with torch.no_grad(), exact_products():
        for start in range(0, samples, batch):
            chunk = torch.from_numpy(inputs[start:start + batch, :1 if constant else None]).to(device)
            outputs = model(chunk.expand(-1, steps, -1) if constant else chunk, record=True)
            for arrays, tensors in zip((spikes, membranes), outputs, strict=True):
                for array, tensor in zip(arrays, tensors, strict=True):
                    array[start:start + batch] = tensor.transpose(0, 1).cpu().numpy()
    return reference.Trace(spikes, membranes, *reference.read_out(network, spikes[-1], membranes[-1]))


def batch_size(model, time_steps):
    """Samples of so many time steps that ``model``, a `SpikingNetwork` or `Network`, takes at a time with the least
    effort."""
    widest = max(model.input.size, *(math.prod(layer.shape) for layer in model.layers))
    return max(1, min(BATCH_VALUES // (time_steps * widest), 4096))


@contextlib.contextmanager
def exact_products():
    """Matrix products and convolutions inside the block that are exact where all sums are integers below 2^24.

    That is full float32, even where the caller allowed TF32 or bfloat16, and direct convolution: not by way of
    Winograd's or Fourier's transform, as cuDNN and NNPACK may choose.
    """
    cudnn, conv = torch.backends.cudnn, getattr(torch.backends.mkldnn, "conv", None)
    matmul, enabled, precision = torch.get_float32_matmul_precision(), cudnn.enabled, conv and conv.fp32_precision
    with torch.backends.nnpack.flags(enabled=False):
        try:
            torch.set_float32_matmul_precision("highest")
            cudnn.enabled = False
            if conv:  # in newer versions of PyTorch only
                conv.fp32_precision = "ieee"
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            cudnn.enabled = enabled
            if conv:
                conv.fp32_precision = precision


def choose_device(device=None):
    """The `torch.device` that ``device`` names; by default a GPU where there is one.

    Raises `SpikeloomError` when there is no such device.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SpikeloomError(f"Device {device!r} is not usable here: {str(error).splitlines()[0]}") from None
    return chosen
