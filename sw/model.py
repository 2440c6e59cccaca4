"""Spiking networks as PyTorch modules in integer units, and the bridge to and from the integer `Network`.

A module holds latents (floats of integer size). With ``quantized`` its forward pass works on their integers
and equals `spikeloom.reference`; without, it works on the latents themselves, the float baseline of the same
network. Tensors are time-major: (time steps, batch, neurons).
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import nn

from . import quantizers, reference
from .errors import SpikeloomError
from .network import Dense, GradedSpike, InputFormat, Network
from .neuron import Neuron, scan

#: `run` takes as many samples at a time as keep the largest tensor near this many values: 8 MiB of float32, which
#: stay in a processor's cache.
BATCH_VALUES = 2**21


class SpikingDense(nn.Module):
    """A fully connected layer of spiking neurons.

    Parameters
    ----------
    n_in, n_out : int
    neuron : Neuron
    weights : quantizer of `spikeloom.quantizers`
    threshold : float
        initial threshold, in state units
    name : str
        of the layer in the `Network`
    threshold_quantizer, bias_quantizer : quantizers
        by default what the way of firing allows: thresholds from 1, powers of two for graded spikes; any biases

    Members (parameters, latents in integer units)
    ----------------------------------------------
    weight : (n_out, n_in)
    threshold, bias : (n_out,)
    """

    def __init__(self, n_in, n_out, neuron, *, weights=None, threshold=8.0, name="dense",
                 threshold_quantizer=None, bias_quantizer=None):
        super().__init__()
        self.name, self.neuron = name, neuron
        self.weight_quantizer = weights if weights is not None else quantizers.Ternary()
        graded = isinstance(neuron.fire, GradedSpike)
        self.threshold_quantizer = threshold_quantizer or (
            quantizers.RoundedPowerOfTwo() if graded else quantizers.Rounded(minimum=1))
        self.bias_quantizer = bias_quantizer or quantizers.Rounded()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.threshold = nn.Parameter(torch.full((n_out,), float(threshold)))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Draw the weights uniformly from the middle half of their grid (all of a binary or ternary one)."""
        span = self.weight_quantizer.span
        nn.init.uniform_(self.weight, -span, span, generator=generator)

    @torch.no_grad()
    def limit(self):
        """Clip the latents in place to what their integers can reach."""
        self.weight_quantizer.limit(self.weight)
        self.threshold_quantizer.limit(self.threshold)
        self.bias_quantizer.limit(self.bias)

    def integers(self):
        """Weight, threshold and bias as integer-valued float32, differentiable in the latents."""
        return (self.weight_quantizer(self.weight), self.threshold_quantizer(self.threshold),
                self.bias_quantizer(self.bias))

    def forward(self, z, *, time_steps=None, quantized=True, record=True):
        """Spikes and membranes (time steps, batch, n_out) for inputs (time steps, batch, n_in).

        Inputs of shape (1, batch, n_in) with ``time_steps`` are the same at each step; their matrix product
        is then done once.
        """
        weight, threshold, bias = self.integers() if quantized else (self.weight, self.threshold, self.bias)
        current = nn.functional.linear(z, weight, bias)  # (time steps or 1, batch, n_out), one matrix product
        return scan(current, threshold, self.neuron, time_steps=time_steps, quantized=quantized,
                    record=record)

    def to_layer(self):
        """The integer layer (`spikeloom.network.Dense`)."""
        with torch.no_grad():
            weight, threshold, bias = (_integer_array(tensor) for tensor in self.integers())
        return Dense(name=self.name, weights=weight, weight_format=self.weight_quantizer.format,
                     threshold=threshold, bias=bias, v_width=self.neuron.v_width, leak=self.neuron.leak,
                     reset=self.neuron.reset, fire=self.neuron.fire)


class SpikingNetwork(nn.Module):
    """Layers, each fed by the spikes that the one before it fires in the same time step.

    Parameters
    ----------
    input : InputFormat
    layers : iterable of SpikingDense
    time_steps : int
    readout : "count" or "membrane"
    """

    def __init__(self, input, layers, time_steps, readout="count"):
        super().__init__()
        self.input, self.time_steps, self.readout = input, time_steps, readout
        self.layers = nn.ModuleList(layers)

    def forward(self, x, *, quantized=True, record=False):
        """Spikes and membranes of each layer, two lists of tensors (time steps, batch, n_out).

        Membranes of all but the last layer are None unless ``record``.

        ``x``: (batch, time steps, n_in), numeric. A time axis made by ``expand`` (stride 0) is known to be
        constant, and the first layer's matrix product is then done once.
        """
        time_steps = x.shape[1]
        z = x[:, :1] if x.stride(1) == 0 else x
        z = z.transpose(0, 1).contiguous().float()
        spikes, membranes = [], []
        for layer in self.layers:
            z, v = layer(z, time_steps=time_steps, quantized=quantized,
                         record=record or layer is self.layers[-1])
            spikes.append(z)
            membranes.append(v)
        return spikes, membranes

    def scores(self, spikes, membranes):
        """A sample's scores (batch, n_out) from the last layer's spikes and membranes."""
        return spikes[-1].sum(0) if self.readout == "count" else membranes[-1][-1]

    def limit(self):
        """Clip all latents in place to what their integers can reach."""
        for layer in self.layers:
            layer.limit()

    def to_network(self, notes=None):
        """The integer `Network`; raises `SpikeloomError` when it would break one of its rules."""
        layers = tuple(layer.to_layer() for layer in self.layers)
        return Network(self.input, layers, self.time_steps, self.readout, notes or {})


def from_network(network):
    """A `SpikingNetwork` whose latents are the integers of ``network``, to be run and not to be trained."""
    layers = []
    for layer in network.layers:
        neuron = Neuron(layer.v_width, layer.leak, layer.reset, layer.fire)
        module = SpikingDense(layer.n_in, layer.n_out, neuron, name=layer.name,
                              weights=quantizers.Exact(layer.weight_format),
                              threshold_quantizer=quantizers.Exact(), bias_quantizer=quantizers.Exact())
        with torch.no_grad():
            for parameter, values in ((module.weight, layer.weights), (module.threshold, layer.threshold),
                                      (module.bias, layer.bias)):
                parameter.copy_(torch.from_numpy(values.copy()))
        layers.append(module)
    return SpikingNetwork(InputFormat(network.input.size, network.input.width), layers, network.time_steps,
                          network.readout)


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
    widest = max(network.input.size, *(layer.n_out for layer in network.layers))
    batch = batch or max(1, min(BATCH_VALUES // (steps * widest), 4096))
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


@contextlib.contextmanager
def exact_products():
    """Full float32 matrix products inside the block, even where the caller allowed TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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


def _integer_array(tensor):
    return tensor.cpu().numpy().astype(np.int64)
