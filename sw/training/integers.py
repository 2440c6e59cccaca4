"""From layers of activities to integer ones.

An integer neuron with the threshold θ = 2^k, that sends graded spikes, subtracts them and does not leak, is the
quantizer of `spikeloom.training.hybrid`: what comes to it is θ·ω·a[t] of the activity, what it keeps is θ·v. So counts
are those of the floats, but for what is rounded here: weights, and the tables of activations that are not linear.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import EXACT_IN_FLOAT32, INPUT, Branch, Dense, GradedSpike, TableActivation, WeightFormat

#: The largest magnitude of a count, and the most bits of a stored potential.
LARGEST_COUNT, V_WIDTH = 128, 16

#: 2^k is the threshold behind a table.
TABLE_EXPONENT = 10


@dataclass(frozen=True)
class Source:
    """What integers a layer sends: ``unit`` of them stand for an activity of 1, up to ``high`` in magnitude."""

    name: str
    unit: float
    high: int


@dataclass(frozen=True)
class Term:
    """Of the sum that comes to a layer: a float ``matrix`` (n_out, n_in) of what a `Source` sent ``delay`` time steps
    before, as activities; as integers of up to ``width`` bits."""

    source: Source
    matrix: np.ndarray
    width: int
    delay: int = 0

    @property
    def of_integers(self):
        """The matrix that integers are multiplied with."""
        return self.matrix / self.source.unit

    @property
    def scale(self):
        """The largest number that the matrix can be multiplied with."""
        return (2 ** (self.width - 1) - 1) / max(np.abs(self.of_integers).max(initial=0), 1e-9)

    def integers(self, scale):
        return np.rint(self.of_integers * scale).astype(np.int64)


def linear(name, terms, omega, bias=None, *, input_shape, act=None, limit=LARGEST_COUNT):
    """A `Dense` that counts with ``omega`` what a linear sum of ``terms``, or one behind a `ReLU`, comes to, with the
    finest threshold there is room for. ``limit``: how large counts can become.

    Raises `SpikeloomError` where there is none.
    """
    for exponent in range(min(V_WIDTH - 1, math.floor(math.log2(min(term.scale for term in terms) / omega))), -1, -1):
        scale = 2**exponent * omega
        sums = sum(np.abs(term.integers(scale)).sum(1) * term.source.high for term in terms)
        if bias is not None:
            sums = sums + np.abs(bias) * scale
        if sums.max() + 2**V_WIDTH < EXACT_IN_FLOAT32:
            return _dense(name, terms, bias, scale, exponent, act, limit, input_shape)
    raise SpikeloomError(f"Layer {name}: its weights are too large for integers with an ω of {omega:g}")


def tabled(name, terms, omega, activation, reach, bias=None, *, input_shape, entries):
    """A `Dense` that counts with ``omega`` what an ``activation`` with values from -1 to 1 makes of a sum of ``terms``:
    a table with so many ``entries`` for sums from -``reach`` to ``reach``."""
    scale = min(term.scale for term in terms)
    for term in terms:  # what can come must be exact in float32
        scale = min(scale, EXACT_IN_FLOAT32 / 4 / len(terms) / max(1e-9, float(
            np.abs(term.of_integers).sum(1).max() * term.source.high)))
    shift = max(0, round(math.log2(max(1.0, scale * reach / (entries // 2)))))
    middle = (torch.arange(-(entries // 2), entries // 2, dtype=torch.float64) + 0.5) * 2**shift / scale
    exponent = min(TABLE_EXPONENT, V_WIDTH - 1)
    table = torch.round(activation(middle) * (2**exponent * omega)).long().tolist()
    return _dense(name, terms, bias, scale, exponent, TableActivation(tuple(table), shift), math.ceil(omega),
                  input_shape)


def _dense(name, terms, bias, scale, exponent, act, limit, input_shape):
    first, *others = terms
    n_out = len(first.matrix)
    bias = np.zeros(n_out) if bias is None else bias
    formats = [_format(term.integers(scale)) for term in terms]
    return Dense(name=name, weights=first.integers(scale), weight_format=formats[0], source=first.source.name,
                 delay=first.delay, input_shape=input_shape, threshold=np.full(n_out, 2**exponent),
                 bias=np.rint(bias * scale).astype(np.int64), v_width=max(2, exponent + 1),
                 reset="subtract", fire=GradedSpike(-min(limit, LARGEST_COUNT), min(limit, LARGEST_COUNT - 1)), act=act,
                 others=tuple(Branch(term.source.name, term.integers(scale), weight_format, term.delay)
                              for term, weight_format in zip(others, formats[1:], strict=True)))


def _format(weights):
    """The narrowest that holds ``weights``."""
    return WeightFormat("int", max(2, int(np.abs(weights).max(initial=0)).bit_length() + 1))


def array(tensor):
    """A tensor as NumPy's float64."""
    return tensor.detach().cpu().numpy().astype(np.float64)


def to_layers(model):
    """The integer layers of a `SpikingNetwork`, one or more for each of its own.

    What comes to a layer of spiking neurons from one of activities are counts, ω times as large: so are its thresholds
    and biases then. Raises `SpikeloomError` for layers that have no integers, and where sources of one layer have
    different ω.
    """
    known = {INPUT: Source(INPUT, 1.0, model.input.bounds[1])}
    before, found = INPUT, []
    for layer in model.layers:
        if hasattr(layer, "to_layers"):
            made = layer.to_layers(known[layer.source or before])
            known[layer.name] = Source(layer.name, layer.unit, -made[-1].fire.low)
        else:
            feeding = [known.get(branch.source or before) for branch in layer.branches]  # none yet: it feeds back
            units = {source.unit if source else 1.0 for source in feeding}
            if len(units) > 1:
                raise SpikeloomError(f"Layer {layer.name}: sums counts of different ω, {_listed(units)}")
            made = [_scaled(layer, units.pop()).to_layer()]
            known[layer.name] = Source(layer.name, 1.0, max(made[0].fire.high, -made[0].fire.low))
        found += made
        before = layer.name
    return tuple(found)


def _listed(units):
    return " and ".join(f"{unit:g}" for unit in sorted(units))


def _scaled(layer, unit):
    """A layer of spiking neurons for currents that are ``unit`` times as large."""
    if unit == 1:
        return layer
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        scaled = [layer.mean, layer.deviation] if hasattr(layer, "mean") else [
            layer.threshold, layer.bias, *([] if layer.raise_by is None else [layer.raise_by])]
        for tensor in scaled:
            tensor.mul_(unit)
    return layer
