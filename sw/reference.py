"""THE meaning of a `Network`: plain NumPy over integers. Everything else is held equal to this.

For one sample, at each time step t, layer after layer, for each neuron j of a layer with inputs z_i
(the network's input for the first layer, the spikes of the layer before, *of the same time step*, for the
others):

    I_j = Σ_i W_ji · z_i[t] + b_j            exact: wide integers, no saturation on the way
    U_j = leak(V_j[t-1]) + I_j               V_j = 0 before the first time step of every sample
    z_j = fire(U_j)                          1 where U_j ≥ θ_j, else 0
    V_j[t] = store(reset(U_j, z_j))          saturated once, when it is stored

leak
    ``none``: V.  ``shift`` k: V − ⌊V / 2^k⌋.  ``table``: table[V − v_min].
fire
    ``spike``: 1 where U ≥ θ (inclusive), else 0.  ``graded``: clip(⌊U/θ⌋, low, high), θ a power of two.
    ``silent``: 0.
reset
    ``subtract``: U − θ·z.  ``zero``: 0 where z ≠ 0, else U.  ``none``: U.
store
    clip to [−2^(v_width−1), 2^(v_width−1) − 1].

A sample's scores are the last layer's spikes summed over its time steps (read-out ``count``) or its stored
membrane potentials after the last time step (``membrane``). The winner is the index of the highest score, the
lowest such index when several are equal.
"""

from dataclasses import dataclass

import numpy as np

from .errors import SpikeloomError
from .network import GradedSpike, ShiftLeak, Silent, TableLeak


@dataclass(frozen=True)
class Trace:
    """All that a run over samples showed.

    Attributes
    ----------
    spikes, membranes : list of int arrays (samples, time steps, n_out), one for each layer
        what each neuron fired, and its membrane potential as stored after the time step
    scores : int array (samples, n_out of the last layer)
    winners : int array (samples,)
    """

    spikes: list
    membranes: list
    scores: np.ndarray
    winners: np.ndarray


def leak(layer, v):
    """The stored potential ``v`` (any shape) after one time step's leak."""
    if isinstance(layer.leak, ShiftLeak):
        return v - (v >> layer.leak.shift)
    if isinstance(layer.leak, TableLeak):
        return np.asarray(layer.leak.table)[v - layer.v_min]
    return v


def fire(layer, u):
    """What neurons at potential ``u`` (..., n_out) fire."""
    if isinstance(layer.fire, Silent):
        return np.zeros_like(u)
    if isinstance(layer.fire, GradedSpike):
        return np.clip(u // layer.threshold, layer.fire.low, layer.fire.high)
    return (u >= layer.threshold).astype(u.dtype)


def reset(layer, u, z):
    """The potential left behind by ``u`` (..., n_out) after firing ``z``."""
    if layer.reset == "subtract":
        return u - layer.threshold * z
    if layer.reset == "zero":
        return np.where(z != 0, 0, u)
    return u


def store(layer, u):
    """``u`` saturated to the width of the membrane memory."""
    return np.clip(u, layer.v_min, layer.v_max)


def currents(layer, z):
    """Σ_i W_ji · z_i + b_j for inputs ``z`` (..., n_in); result (..., n_out), int64."""
    # Float64 holds these integers exactly (a network's sums stay below 2^24), and its matrix product is the
    # one NumPy has a fast routine for.
    return (z.astype(np.float64) @ layer.weights.T.astype(np.float64)).astype(np.int64) + layer.bias


def run_layer(layer, z):
    """Spikes and membranes (samples, time steps, n_out) of one layer for inputs (samples, time steps, n_in)."""
    current = currents(layer, z)
    spikes, membranes = np.empty_like(current), np.empty_like(current)
    v = np.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        u = leak(layer, v) + current[:, t]
        spikes[:, t] = fire(layer, u)
        membranes[:, t] = v = store(layer, reset(layer, u, spikes[:, t]))
    return spikes, membranes


def check_inputs(network, inputs):
    """``inputs`` as an int64 array, once it is known to fit ``network``."""
    inputs = np.asarray(inputs)
    if inputs.dtype.kind not in "iub":
        raise SpikeloomError(f"Inputs must be integers, not {inputs.dtype}")
    if inputs.ndim != 3 or inputs.shape[2] != network.input.size or not 1 <= inputs.shape[1] <= network.time_steps:
        raise SpikeloomError(f"Inputs must have shape (samples, 1 to {network.time_steps} time steps, "
                             f"{network.input.size}), not {inputs.shape}")
    low, high = network.input.bounds
    if inputs.size and not low <= int(inputs.min()) <= int(inputs.max()) <= high:
        raise SpikeloomError(f"Inputs must lie between {low} and {high}, not {inputs.min()} to {inputs.max()}")
    return inputs.astype(np.int64)


def read_out(network, spikes, membranes):
    """Scores (samples, n_out) and winners (samples,) from the last layer's spikes and membranes."""
    scores = spikes.sum(axis=1) if network.readout == "count" else membranes[:, -1]
    return scores, scores.argmax(axis=1)


def run(network, inputs):
    """Run ``network`` on ``inputs`` (samples, time steps, n_in) and return the `Trace`.

    Raises `SpikeloomError` when the inputs are not integers of the network's shape and range.
    """
    z = check_inputs(network, inputs)
    spikes, membranes = [], []
    for layer in network.layers:
        z, v = run_layer(layer, z)
        spikes.append(z)
        membranes.append(v)
    return Trace(spikes, membranes, *read_out(network, spikes[-1], membranes[-1]))
