"""Layers of spiking neurons in PyTorch: the semantics of `spikeloom.reference` over time-batched tensors.

This is the only place where PyTorch knows what a neuron does. `scan` takes the currents of all time steps at
once and runs the recurrence in a hand-written forward and backward, without an autograd graph per step. With
``quantized`` and integer-valued float32 inputs it equals the reference exactly, spike for spike and membrane
for membrane (all values stay below 2^24: `spikeloom.network` checks it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .errors import SpikeloomError
from .network import RESETS, GradedSpike, NoLeak, ShiftLeak, Silent, Spike, TableLeak
from .surrogate import ATan, FastSigmoid, Sigmoid, Triangle


@dataclass(frozen=True)
class Neuron:
    """How the neurons of a layer behave; the first four as in `spikeloom.network.Dense`.

    Parameters
    ----------
    v_width : int
        bits of the stored membrane potential (2 to 16)
    leak : NoLeak, ShiftLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
    surrogate : ATan, Sigmoid, Triangle or FastSigmoid
        derivative of a spike (a graded spike's is that of a clipped line)
    detach_reset : bool
        whether the backward pass takes the spike inside the reset for a constant
    """

    v_width: int
    leak: NoLeak | ShiftLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    surrogate: ATan | Sigmoid | Triangle | FastSigmoid = field(default_factory=ATan)
    detach_reset: bool = False

    def __post_init__(self):
        if not 2 <= self.v_width <= 16:
            raise SpikeloomError(f"Membrane width must be between 2 and 16 bits, not {self.v_width}")
        if self.reset not in RESETS:
            raise SpikeloomError(f"Reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        if isinstance(self.leak, TableLeak) and len(self.leak.table) != 2**self.v_width:
            raise SpikeloomError(f"A leak table for {self.v_width}-bit membranes must have {2**self.v_width} "
                                 f"entries, not {len(self.leak.table)}")

    @property
    def v_min(self):
        return -(2 ** (self.v_width - 1))

    @property
    def v_max(self):
        return 2 ** (self.v_width - 1) - 1


def scan(current, threshold, neuron, *, time_steps=None, quantized=True):
    """Run a layer's neurons over all time steps, from a potential of zero.

    Parameters
    ----------
    current : float tensor (time steps, batch, neurons), or (1, batch, neurons) when the same at each step
        weighted inputs plus bias, in state units; integer-valued when ``quantized``
    threshold : float tensor (neurons,)
        in state units; integer-valued when ``quantized``
    neuron : Neuron
    time_steps : int
        needed only for a current that is constant in time
    quantized : bool
        False leaves out the rounding of leaks and the saturation of stored potentials, for a float baseline

    Returns
    -------
    spikes, membranes : float tensors (time steps, batch, neurons)
        what each neuron fired, and its potential as stored after the time step

    Gradients reach current and threshold: a spike's is the surrogate, a leak's rounding and the floor of a
    graded spike are passed straight through, and saturation passes gradient only inside the stored range.
    """
    return _Scan.apply(current, threshold, neuron, time_steps or current.shape[0], quantized)


class _Scan(torch.autograd.Function):
    # On CPUs an operation that writes booleans costs several times one that writes floats: masks are floats.

    @staticmethod
    def forward(ctx, current, threshold, neuron, time_steps, quantized):
        spikes = current.new_empty(time_steps, *current.shape[1:])
        membranes = torch.empty_like(spikes)
        learning = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        potentials = torch.empty_like(spikes if learning else spikes[:1])
        leak = _leak(neuron.leak, neuron, quantized, current)
        i_of, u_of = (tensor.unbind() * (time_steps // len(tensor)) for tensor in (current, potentials))
        v = torch.zeros_like(spikes[0])
        for i, u, z, v_next in zip(i_of, u_of, spikes.unbind(), membranes.unbind(), strict=True):
            leak(v, i, out=u)
            v = v_next
            if isinstance(neuron.fire, Silent):
                z.zero_()
            elif isinstance(neuron.fire, GradedSpike):
                torch.div(u, threshold, out=z).floor_().clamp_(neuron.fire.low, neuron.fire.high)
            else:
                torch.ge(u, threshold, out=z)
            if neuron.reset == "subtract":
                torch.addcmul(u, z, threshold, value=-1, out=v)
            elif neuron.reset == "zero":
                torch.eq(z, 0, out=v).mul_(u)
            else:
                v.copy_(u)
            if quantized:
                v.clamp_(neuron.v_min, neuron.v_max)
        ctx.save_for_backward(threshold, potentials, spikes, membranes)
        ctx.neuron, ctx.quantized, ctx.constant = neuron, quantized, len(current) != time_steps
        ctx.set_materialize_grads(False)
        return spikes, membranes

    @staticmethod
    def backward(ctx, spikes_grad, membranes_grad):
        # Back through one step, with h the gradient reaching reset(U, z), d and r the derivatives of the reset
        # in U (z held) and in z, s that of firing, λ that of the leak:
        #     h = (∂L/∂V[t] + λ[t]·g[t+1]) where saturation changed nothing, else 0
        #     g[t] = h·d + (∂L/∂z[t] + h·r)·s                          the gradient reaching U[t] and I[t]
        # Step by step rather than all at once: the few tensors of one step stay in the cache.
        threshold, *saved = ctx.saved_tensors
        neuron = ctx.neuron
        slope, leak_slope = _firing_slope(neuron, threshold), _leak_slope(neuron, threshold)
        steps = list(zip(*(tensor.unbind() for tensor in saved), strict=True))
        into_z, into_v = (grad if grad is None else grad.unbind() for grad in (spikes_grad, membranes_grad))
        current_grad = saved[0].new_zeros(1 if ctx.constant else len(steps), *saved[0].shape[1:])
        threshold_sum = torch.zeros_like(saved[0][0]) if ctx.needs_input_grad[1] else None
        g, scratch = torch.zeros_like(saved[0][0]), torch.empty_like(saved[0][0])
        for t in range(len(steps) - 1, -1, -1):
            u, z, v = steps[t]
            h = g.mul_(leak_slope(v))
            if into_v is not None:
                h.add_(into_v[t])
            direct = torch.eq(z, 0, out=torch.empty_like(z)) if neuron.reset == "zero" else None
            if ctx.quantized:
                if neuron.reset == "subtract":
                    kept = torch.addcmul(u, z, threshold, value=-1, out=scratch)
                else:
                    kept = u if direct is None else torch.mul(u, direct, out=scratch)
                h.mul_(torch.eq(kept, v, out=scratch))
            fired = None
            if slope is not None:
                fired = slope(u)  # becomes the part of g that goes through firing
                if neuron.reset == "subtract" and not neuron.detach_reset:
                    into = torch.mul(h, threshold, out=scratch).neg_()
                elif neuron.reset == "zero" and not neuron.detach_reset and isinstance(neuron.fire, Spike):
                    into = torch.mul(h, u, out=scratch).neg_()
                else:
                    into = scratch.zero_()
                if into_z is not None:
                    into.add_(into_z[t])
                fired.mul_(into)
            if threshold_sum is not None:
                if neuron.reset == "subtract":
                    threshold_sum.addcmul_(h, z)
                if isinstance(neuron.fire, GradedSpike):
                    threshold_sum.addcmul_(fired, u / threshold)  # z ~ U/θ: ∂z/∂θ = −(U/θ)·∂z/∂U
                elif fired is not None:
                    threshold_sum.add_(fired)
            if direct is not None:
                h.mul_(direct)
            if fired is not None:
                h.add_(fired)
            current_grad[0 if ctx.constant else t].add_(g)
        threshold_grad = None if threshold_sum is None else -threshold_sum.sum(0)
        return current_grad if ctx.needs_input_grad[0] else None, threshold_grad, None, None, None


def _leak(leak, neuron, quantized, like):
    """A function (v, i, out): leaked v plus i, into ``out``."""
    if isinstance(leak, ShiftLeak):
        fraction = 2.0**-leak.shift
        if not quantized:
            return lambda v, i, out: torch.add(i, v, alpha=1 - fraction, out=out)
        # v − ⌊v·f⌋ = v + ⌈−v·f⌉
        return lambda v, i, out: torch.mul(v, -fraction, out=out).ceil_().add_(v).add_(i)
    if isinstance(leak, TableLeak):
        table = torch.tensor(leak.table, dtype=like.dtype, device=like.device)
        slope = torch.diff(table)

        def look_up(v, i, out):
            if quantized:
                return torch.add(table[(v - neuron.v_min).long()], i, out=out)
            index = (v.floor() - neuron.v_min).clamp_(0, len(slope) - 1).long()  # linear between entries
            return torch.add(table[index] + slope[index] * (v - neuron.v_min - index), i, out=out)

        return look_up
    return lambda v, i, out: torch.add(v, i, out=out)


def _leak_slope(neuron, like):
    """A function of v: the derivative of the leak (of a table, to the next entry), like v or a number."""
    if isinstance(neuron.leak, TableLeak):
        slope = torch.diff(torch.tensor(neuron.leak.table, dtype=like.dtype, device=like.device))
        return lambda v: slope[(v.floor() - neuron.v_min).clamp_(0, len(slope) - 1).long()]
    constant = 1 - 2.0**-neuron.leak.shift if isinstance(neuron.leak, ShiftLeak) else 1.0
    return lambda v: constant


def _firing_slope(neuron, threshold):
    """A function of u: the derivative of firing, a new tensor like u; None where nothing fires."""
    if isinstance(neuron.fire, Silent):
        return None
    if isinstance(neuron.fire, GradedSpike):
        low, high = neuron.fire.low * threshold, (neuron.fire.high + 1) * threshold
        return lambda u: ((u >= low) & (u < high)) / threshold
    per = 1 / threshold.abs().clamp(min=1)
    offset = -threshold * per
    return lambda u: neuron.surrogate(torch.addcmul(offset, u, per)).mul_(per)
