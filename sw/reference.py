"""THE meaning of a `Network`: plain NumPy over integers. Everything else is held equal to this.

For one sample, at each time step t, layer after layer, for each neuron j with inputs z_i (the network's input or what
the source layer fires; *in the same time step*, unless its synapses have a delay):

    I_j = Σ_i W_ji · z_i[t] + b_j            exact: wide integers, no saturation on the way; 0 where a gate is closed
    U_j = leak(V_j[t-1]) + act(I_j)          V_j = 0 before the first time step of every sample; 0 where a gate of
                                             blocks is closed
    z_j = fire(U_j)                          1 where U_j ≥ θ_j, else 0
    V_j[t] = store(reset(U_j, z_j))          saturated once, when it is stored

The neurons of a layer make a map of rows, columns and channels, and so do values on their way between layers: that of
row y, column x and channel c has the index (y·columns + x)·channels + c. A dense layer has one row and one column.

synapses
    ``dense``: W has a row for each neuron and a column for each input.  ``conv2d``: with stride s, padding p and a
    k x k kernel K, the neuron of row y, column x and channel c receives the sum, over rows i and columns j of the
    kernel and over the channels d of its group, of K[c, d, i, j] · z[s·y + i − p, s·x + j − p, d], where z is zero
    outside its map. Of G groups, channel c belongs to group ⌊c·G / channels out⌋, whose channels d are neighbours.
attention
    before the pool: all that channel c sends at time step t is multiplied by a gate g[t, c], which is
    table[clip(⌊a·b / 2^shift⌋, −n/2, n/2 − 1)] of n entries, the first that of −n/2. Where s[t, c] is the sum of z over
    all positions, and zero outside the channels and the sample's time steps,
        a[t, c] = Σ_t' Σ_j A[t, t', j] · s[t', c + j − p]      slides along the channels and mixes time steps
        b[t, c] = Σ_c' Σ_j B[c, c', j] · s[t + j − p, c']      slides along time and mixes channels
    for k weights each way, p = ⌊(k − 1) / 2⌋. All time steps of a sample are needed before the first one can go on.
pool
    before the weights: each block of rows and columns of the source's map becomes the ``max`` or the ``sum`` of its
    values, channel by channel; blocks lie side by side from the first row and column, and what does not fill one is
    left out.
shortcut
    a second convolution, from another source, whose sum is added to I_j.
others
    of a dense layer: further branches, Σ_k R_jk · z_k, whose sums are added to I_j.
delay
    of d time steps, of any branch: it takes z_i[t − d] of its source, and 0 before the first time step. With a delay
    the source may be the layer itself or one after it (recurrence).
act
    identity, unless the layer has one.  ``relu``: 0 where I < 0, else I.  ``table`` of n entries: that of
    clip(⌊I / 2^shift⌋, −n/2, n/2 − 1), the first entry for −n/2.
current
    of a CUBA neuron: U_j = leak(V_j[t-1]) + K_j, where K_j = leak'(J_j[t-1]) + act(I_j) with a leak of its own, and
    J_j[t] is K_j clipped to [−2^(width−1), 2^(width−1) − 1]; J_j = 0 before the first time step.
adaptation
    of an ALIF neuron: in place of θ_j, fire and reset take θ_j + A_j[t-1], where A_j[t] is
    leak"(A_j[t-1]) + step_j · z_j with a leak of its own, clipped likewise; A_j = 0 before the first time step.
gate
    of a convolution: channel c is open at time step t where Σ_d G[c, d] · table[min(⌊r[t, d] / 2^shift⌋, n − 1)] + b_c
    is above 0, for a table of n entries; r[t, d] is the sum over all positions, and over the ``reduce`` channels from
    d·reduce on, of what comes from the source, which is never negative. All of a time step's inputs are needed before
    it can go on. Where the neuron's channel is closed I_j = 0, shortcut and bias included.
gate of blocks
    of a convolution: the block y, x of rows and columns (those at the end may be cut off) is open in channel c at time
    step t where Σ_d Σ_i Σ_j G[c, d, i, j] · S[t, y + i − p, x + j − p, d] + b_c is 0 or above, for a k x k kernel and
    p = (k − 1) / 2. S[t, y, x, d] is the sum of V_j[t-1] over the block's neurons of channel d, and zero outside the
    map. Of a G that has one channel for each c, d = c alone counts. Where the neuron's block is closed U_j = 0.
leak
    ``none``: V.  ``shift`` k: V − ⌊V / 2^k⌋.  ``full``: 0.  ``table``: an entry for each stored state, the first for
    the lowest.
fire
    ``spike``: 1 where U ≥ θ (inclusive), else 0.  ``graded``: clip(⌊U/θ⌋, low, high), θ a power of two.
    ``silent``: 0.
reset
    ``subtract``: U − θ·z.  ``zero``: 0 where z ≠ 0, else U.  ``none``: U.
store
    clip to [−2^(v_width−1), 2^(v_width−1) − 1]. With a ``grid`` of levels low to high, the potential ⌊k·θ / 2^shift⌋ of
    the nearest level, k = clip(⌊(2^(shift+1)·V + θ − 1) / 2θ⌋, low, high); or k·step, k being nearest likewise, or low
    and as many more as there are ``bounds`` at or below V.

Each neuron of the last layer has a score: its spikes summed over a sample's time steps (read-out ``count``) or its
stored membrane potential after the last time step (``membrane``). The sample's scores are the sums over ``votes``
neighbouring neurons. The winner is the index of the highest score, the lowest such index when several are equal.
"""

import math
from dataclasses import dataclass

import numpy as np

from .errors import SpikeloomError
from .network import INPUT, Conv2d, FullLeak, GradedSpike, ShiftLeak, Silent, TableLeak, is_looped


@dataclass(frozen=True)
class Trace:
    """All that a run over samples showed.

    Attributes
    ----------
    spikes, membranes : list of int arrays (samples, time steps, n_out), one for each layer
        what each neuron fired, and its membrane potential as stored after the time step
    scores : int array (samples, n_out of the network)
    winners : int array (samples,)
    """

    spikes: list
    membranes: list
    scores: np.ndarray
    winners: np.ndarray


def leaked(leak, v, lowest, step=1):
    """Stored states ``v`` (any shape), ``step`` apart from the ``lowest`` on, after one time step's ``leak``."""
    if isinstance(leak, ShiftLeak):
        return v - (v >> leak.shift)
    if isinstance(leak, FullLeak):
        return np.zeros_like(v)
    if isinstance(leak, TableLeak):
        return np.asarray(leak.table)[(v - lowest) // step]
    return v


def leak(layer, v):
    """The stored potential ``v`` (any shape) after one time step's leak."""
    return leaked(layer.leak, v, layer.v_min, layer.grid.step if layer.grid else 1)


def fire(layer, u, threshold):
    """What neurons at potential ``u`` (..., n_out) fire, by the ``threshold`` that they have then."""
    if isinstance(layer.fire, Silent):
        return np.zeros_like(u)
    if isinstance(layer.fire, GradedSpike):
        return np.clip(u // threshold, layer.fire.low, layer.fire.high)
    return (u >= threshold).astype(u.dtype)


def reset(layer, u, z, threshold):
    """The potential left behind by ``u`` (..., n_out) after firing ``z`` by a ``threshold``."""
    if layer.reset == "subtract":
        return u - threshold * z
    if layer.reset == "zero":
        return np.where(z != 0, 0, u)
    return u


def store(layer, u):
    """What the membrane memory keeps of ``u`` (..., channels)."""
    if layer.grid:
        return layer.grid.value(layer.grid.level(u, layer.threshold), layer.threshold)
    return np.clip(u, layer.v_min, layer.v_max)


def attend(synapses, z):
    """Inputs ``z`` (samples, time steps, n_in) of ``synapses``, gated where these have an attention."""
    if synapses.attention is None:
        return z
    maps = z.reshape(*z.shape[:2], *synapses.input_shape).astype(np.int64)
    return (maps * gates(synapses.attention, maps.sum((2, 3)))[:, :, None, None]).reshape(z.shape)


def gates(attention, s):
    """Gates (samples, time steps, channels) for each channel's sums ``s`` over all positions, of the same shape."""
    time_steps, half = s.shape[1], len(attention.table) // 2
    a = _slide(attention.time_weights[:time_steps, :time_steps], s)
    b = _slide(attention.channel_weights, s.swapaxes(1, 2)).swapaxes(1, 2)
    return np.array(attention.table)[np.clip(a * b >> attention.shift, -half, half - 1) + half]


def _slide(weights, s):
    """Σ_i Σ_j W[o, i, j] · s[i, x + j − p] (samples, o, x) for ``s`` (samples, i, x)."""
    length, k = s.shape[2], weights.shape[2]
    before = (k - 1) // 2
    s = np.pad(s, ((0, 0), (0, 0), (before, k - 1 - before)))
    return sum(weights[:, :, j] @ s[:, :, j:j + length] for j in range(k))


def pool(synapses, z):
    """The map (..., rows, columns, channels) that the weights of ``synapses`` meet, of inputs ``z`` (..., n_in)."""
    z = z.reshape(*z.shape[:-1], *synapses.input_shape)
    if synapses.pool is None:
        return z
    rows, columns, channels = synapses.pooled_shape
    height, width = synapses.pool.rows, synapses.pool.columns
    blocks = z[..., :rows * height, :columns * width, :].reshape(*z.shape[:-3], rows, height, columns, width, channels)
    return blocks.max((-4, -2)) if synapses.pool.kind == "max" else blocks.sum((-4, -2))


def open_channels(layer, z):
    """Which channels a layer's gate opens (samples, time steps, channels), bool, for inputs ``z`` (samples, time steps,
    n_in) of its own synapses, after attention."""
    gate = layer.gate
    sums = z.reshape(*z.shape[:2], math.prod(layer.input_shape[:2]), -1, gate.reduce).sum((2, 4))
    seen = np.array(gate.table)[np.minimum(sums >> gate.shift, len(gate.table) - 1)]
    return seen @ gate.weights.T + gate.bias > 0


def open_blocks(layer, v):
    """Which neurons a layer's gate of blocks opens (samples, positions, channels), bool, where potentials are ``v``, of
    the same shape."""
    gate, (rows, columns, channels) = layer.block_gate, layer.shape
    high, wide = gate.blocks(layer.shape)
    v = v.reshape(-1, rows, columns, channels)
    v = np.pad(v, [(0, 0), (0, high * gate.rows - rows), (0, wide * gate.columns - columns), (0, 0)])
    sums = v.reshape(-1, high, gate.rows, wide, gate.columns, channels).sum((2, 4))
    found = _convolved(gate.weights, sums, (gate.weights.shape[2] - 1) // 2, gate.groups) + gate.bias >= 0
    each = found.repeat(gate.rows, 1).repeat(gate.columns, 2)
    return each[:, :rows, :columns].reshape(-1, rows * columns, channels)


def convolve(synapses, z):
    """The map (..., rows, columns, channels) of a convolution's sums, float64, for a pooled map ``z`` of inputs."""
    return _convolved(synapses.weights, z, synapses.padding, synapses.groups, synapses.stride)


def _convolved(weights, z, padding, groups, stride=1):
    z = np.pad(z, [(0, 0)] * (z.ndim - 3) + [(padding, padding)] * 2 + [(0, 0)]).astype(np.float64)
    weights, k = weights.astype(np.float64), weights.shape[2]
    rows, columns = ((side - k) // stride + 1 for side in z.shape[-3:-1])
    sums = np.zeros((*z.shape[:-3], rows, columns, len(weights)))
    for i, j in np.ndindex(k, k):
        seen = z[..., i:i + stride * (rows - 1) + 1:stride, j:j + stride * (columns - 1) + 1:stride, :]
        for group_sums, group_seen, group_weights in zip(
                np.split(sums, groups, axis=-1), np.split(seen, groups, axis=-1),
                np.split(weights[:, :, i, j], groups), strict=True):
            group_sums += group_seen @ group_weights.T  # a view of ``sums``
    return sums


def currents(layer, *inputs):
    """Σ_i W_ji · z_i + b_j for the inputs (..., n_in) of each of the layer's branches, after attention; result
    (..., positions, channels), int64."""
    # Float64 holds these integers exactly (a network's sums stay below 2^24), and its matrix product is the
    # one NumPy has a fast routine for.
    total = 0.0
    for branch, z in zip(layer.branches, inputs, strict=True):
        z = pool(branch, z)
        if isinstance(layer, Conv2d):
            rows, columns, channels = layer.shape
            total += convolve(branch, z).reshape(*z.shape[:-3], rows * columns, channels)
        else:
            flat = z.reshape(*z.shape[:-3], 1, branch.weights.shape[1]).astype(np.float64)
            total += flat @ branch.weights.T.astype(np.float64)
    return total.astype(np.int64) + layer.bias


@dataclass
class States:
    """What a layer's neurons keep from one time step to the next: V, J and A, int arrays (samples, positions,
    channels)."""

    v: np.ndarray
    j: np.ndarray
    a: np.ndarray

    @classmethod
    def before(cls, current):
        """Those before the first time step, whose currents are like ``current``."""
        return cls(*np.zeros((3, *current.shape), np.int64))


def update(layer, states, current):
    """What neurons fire (samples, positions, channels) in a time step with these currents I, of the same shape; their
    ``states`` become the next ones."""
    threshold = layer.threshold + states.a
    if layer.act:
        current = layer.act(current)
    if layer.current:
        low, high = layer.current.bounds
        current = current + leaked(layer.current.leak, states.j, low)
        states.j = np.clip(current, low, high)
    u = leak(layer, states.v) + current
    if layer.block_gate:
        u *= open_blocks(layer, states.v)
    z = fire(layer, u, threshold)
    states.v = store(layer, reset(layer, u, z, threshold))
    if layer.adaptation:
        low, high = layer.adaptation.bounds
        states.a = np.clip(leaked(layer.adaptation.leak, states.a, low) + layer.adaptation.step * z, low, high)
    return z


def delayed(branch, z):
    """Inputs (samples, time steps, n_in) as ``branch`` takes them: by its delay later."""
    return np.pad(z, ((0, 0), (branch.delay, 0), (0, 0)))[:, :z.shape[1]]


def run_layer(layer, *inputs):
    """Spikes and membranes (samples, time steps, n_out) of one layer, which does not feed back, for what the sources of
    its branches fire, (samples, time steps, n_in) each."""
    inputs = [attend(branch, delayed(branch, z)) for branch, z in zip(layer.branches, inputs, strict=True)]
    current = currents(layer, *inputs)
    if layer.gate:
        current *= open_channels(layer, inputs[0])[:, :, None]
    spikes, membranes = np.empty_like(current), np.empty_like(current)
    states = States.before(current[:, 0])
    for t in range(current.shape[1]):
        spikes[:, t], membranes[:, t] = update(layer, states, current[:, t]), states.v
    return tuple(array.reshape(*current.shape[:2], layer.n_out) for array in (spikes, membranes))


def run_loop(layers, sources, fired):
    """As `run_layer`, of layers that feed each other or themselves, time step after time step.

    ``sources``: those of the network, of these layers; ``fired``: by its name, what each source before them fires.
    Returns two lists, of spikes and of membranes.
    """
    samples, time_steps, _ = fired[INPUT].shape
    states = [States.before(np.zeros((samples, layer.n_out // layer.shape[2], layer.shape[2]))) for layer in layers]
    spikes, membranes = ([np.zeros((samples, time_steps, layer.n_out), np.int64) for layer in layers] for _ in range(2))
    fired = fired | dict(zip((layer.name for layer in layers), spikes, strict=True))
    for t in range(time_steps):
        for number, (layer, of_layer) in enumerate(zip(layers, sources, strict=True)):
            inputs = [fired[source][:, t - branch.delay] if branch.delay <= t else np.zeros_like(fired[source][:, 0])
                      for branch, source in zip(layer.branches, of_layer, strict=True)]
            current = currents(layer, *inputs)
            if layer.gate:
                current *= open_channels(layer, inputs[0][:, None])[:, 0, None]
            spikes[number][:, t] = update(layer, states[number], current).reshape(samples, -1)
            membranes[number][:, t] = states[number].v.reshape(samples, -1)
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
    scores = scores.reshape(len(scores), network.n_out, network.votes).sum(axis=2)
    return scores, scores.argmax(axis=1)


def run(network, inputs):
    """Run ``network`` on ``inputs`` (samples, time steps, n_in) and return the `Trace`.

    Raises `SpikeloomError` when the inputs are not integers of the network's shape and range.
    """
    fired = {INPUT: check_inputs(network, inputs)}
    membranes = []
    for loop in network.loops:
        layers, sources = network.layers[loop.start:loop.stop], network.sources[loop.start:loop.stop]
        if is_looped(network.layers, layers[0]):
            spikes, of_loop = run_loop(layers, sources, fired)
        else:
            spikes, of_loop = zip(run_layer(layers[0], *(fired[source] for source in sources[0])), strict=True)
        membranes += of_loop
        fired |= {layer.name: z for layer, z in zip(layers, spikes, strict=True)}
    spikes = [fired[layer.name] for layer in network.layers]
    return Trace(spikes, membranes, *read_out(network, spikes[-1], membranes[-1]))
