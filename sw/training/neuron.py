"""Layers of spiking neurons in PyTorch: the semantics of `spikeloom.reference` over time-batched tensors.

This is the only place where PyTorch knows what a neuron does. `scan` takes the currents of all time steps at
once and runs the recurrence in a hand-written forward and backward, without an autograd graph per step. With
``quantized`` and integer-valued float32 inputs it equals the reference exactly, spike for spike and membrane
for membrane (all values stay below 2^24: `spikeloom.network` checks it).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import RESETS, GradedSpike, NoLeak, ShiftLeak, Silent, Spike, TableLeak

from .membranes import Exact, Levels, Shared, Tanh, stored
from .quantizers import straight_through
from .surrogate import ATan, FastSigmoid, Sigmoid, Triangle

#: Of a tensor over time steps that neurons are run on at once: with the other tensors they need, a processor's cache.
PART_VALUES = 2**19

#: Ways of `Neuron` to teach thresholds.
THRESHOLD_GRADIENTS = ("surrogate", "fired")


@dataclass(frozen=True)
class Neuron:
    """How the neurons of a layer behave; the first four as in `spikeloom.network.Dense`.

    Parameters
    ----------
    v_width : int
        bits of the stored membrane potential (2 to 16), where it saturates
    leak : NoLeak, ShiftLeak or TableLeak
    reset : "subtract", "zero" or "none"
    fire : Spike, GradedSpike or Silent
    surrogate : ATan, Sigmoid, Triangle or FastSigmoid
        derivative of a spike (a graded spike's is that of a clipped line)
    detach_reset : bool
        whether the backward pass takes the spike inside the reset for a constant
    membrane : Levels, Shared, Tanh, or Exact
        what a potential is rounded to when it is stored, in place of saturation
    threshold_gradient : str
        how thresholds learn: "surrogate", by the derivative of firing wherever neurons are; or "fired", by that of the
        spikes alone, times σ of their normalised distance from the threshold (LT-SNN: Hasssan, Meng, Seo, IJCNN 2024)
    """

    v_width: int
    leak: NoLeak | ShiftLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    surrogate: ATan | Sigmoid | Triangle | FastSigmoid = field(default_factory=ATan)
    detach_reset: bool = False
    membrane: Levels | Shared | Tanh | Exact | None = None
    threshold_gradient: str = "surrogate"

    def __post_init__(self):
        if self.threshold_gradient not in THRESHOLD_GRADIENTS:
            raise SpikeloomError(f"threshold_gradient must be one of {', '.join(THRESHOLD_GRADIENTS)}, not "
                                 f"{self.threshold_gradient!r}")
        if self.grid:
            object.__setattr__(self, "v_width", self.grid.width)
        if not 2 <= self.v_width <= 16:
            raise SpikeloomError(f"Membrane width must be between 2 and 16 bits, not {self.v_width}")
        if self.reset not in RESETS:
            raise SpikeloomError(f"Reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        states = self.grid.high - self.grid.low + 1 if self.grid else 2**self.v_width
        if isinstance(self.leak, TableLeak) and len(self.leak.table) != states:
            raise SpikeloomError(f"A leak table for {self.v_width}-bit membranes must have {states} entries, not "
                                 f"{len(self.leak.table)}")

    @property
    def grid(self):
        """The `Grid` of stored potentials, or None."""
        return self.membrane and self.membrane.grid

    @property
    def v_min(self):
        """The lowest potential that saturation leaves, or that a table of leaks knows."""
        return self.grid.low * self.grid.step if self.grid else -(2 ** (self.v_width - 1))

    @property
    def v_max(self):
        return 2 ** (self.v_width - 1) - 1

    @property
    def pitch(self):
        """How far apart the potentials are that a table of leaks knows."""
        return self.grid.step if self.grid else 1

    def stored(self, v, threshold, out=None):
        """What potentials ``v`` are stored as, by neurons with this ``threshold``."""
        if not self.grid:
            return torch.clamp(v, self.v_min, self.v_max, out=out)
        found = stored(self.grid, v, threshold)
        return found if out is None else out.copy_(found)


def scan(current, threshold, neuron, *, time_steps=None, quantized=True, record=True):
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
    record : bool
        False leaves out the membranes (None), where nobody looks at them

    Returns
    -------
    spikes, membranes : float tensors (time steps, batch, neurons)
        what each neuron fired, and its potential as stored after the time step

    Gradients reach current and threshold: a spike's is the surrogate, a leak's rounding and the floor of a
    graded spike are passed straight through, and saturation passes gradient only inside the stored range.
    """
    time_steps = time_steps or len(current)
    spikes, *membranes = _Scan.apply(current, threshold, neuron, time_steps, quantized, record)
    return spikes, membranes[0] if record else None


def gated_scan(current, threshold, neuron, opened, *, time_steps=None, quantized=True, record=True):
    """As `scan`, where potentials are multiplied before they fire by ``opened``, a function of those (batch, neurons)
    that the time step before left, which passes no gradient on to them."""
    time_steps = time_steps or len(current)
    v = current.new_zeros(current.shape[1:])
    leak, alone = _leak(neuron.leak, neuron, quantized, current), replace(neuron, leak=NoLeak())
    spikes, membranes = [], []
    for t in range(time_steps):
        before = v.detach()
        leaked = straight_through(v * _leak_slope(neuron, before), leak(before, 0, torch.empty_like(before)))
        u = (leaked + current[min(t, len(current) - 1)]) * opened(before)
        z, stored = scan(u.unsqueeze(0), threshold, alone, quantized=quantized)
        v = stored[0]
        spikes.append(z[0])
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes) if record else None


class _Scan(torch.autograd.Function):
    # On CPUs an operation that writes booleans costs several times one that writes floats: masks are floats.

    @staticmethod
    def forward(ctx, current, threshold, neuron, time_steps, quantized, record):
        spikes = current.new_empty(time_steps, *current.shape[1:])
        membranes = torch.empty_like(spikes) if record else None
        learning = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        potentials = torch.empty_like(spikes) if learning else None
        leak = _leak(neuron.leak, neuron, quantized, current)
        for part in parts(spikes):
            _run(current[:, part], threshold, neuron, quantized, leak, spikes[:, part],
                 membranes[:, part] if record else None, potentials[:, part] if learning else None)
        ctx.save_for_backward(threshold, potentials, spikes)
        ctx.neuron, ctx.quantized, ctx.constant = neuron, quantized, len(current) != time_steps
        ctx.set_materialize_grads(False)
        return (spikes, membranes) if record else (spikes,)

    @staticmethod
    def backward(ctx, spikes_grad, membranes_grad=None):
        threshold, potentials, spikes = ctx.saved_tensors
        current_grad = torch.empty_like(potentials[:1] if ctx.constant else potentials)
        threshold_grad = torch.zeros_like(threshold) if ctx.needs_input_grad[1] else None
        for part in parts(potentials):
            u, z, z_grad, v_grad = (tensor if tensor is None else tensor[:, part]
                                    for tensor in (potentials, spikes, spikes_grad, membranes_grad))
            *work, g = workspace(u, 5)
            if not ctx.constant:
                g = current_grad[:, part]
            _run_back(threshold, ctx.neuron, ctx.quantized, u, z, z_grad, v_grad, g, threshold_grad, work)
            if ctx.constant:
                torch.sum(g, 0, keepdim=True, out=current_grad[:, part])
        return current_grad if ctx.needs_input_grad[0] else None, threshold_grad, None, None, None, None


def parts(values):
    """Slices of the batch of ``values`` (time steps, batch, neurons) that stay in a processor's cache from one
    operation to the next; a GPU takes all at once."""
    batch = values.shape[1]
    each = batch if values.is_cuda else PART_VALUES // max(1, values[:, :1].numel())
    return [slice(first, first + max(1, each)) for first in range(0, batch, max(1, each))]


def _run(current, threshold, neuron, quantized, leak, spikes, membranes, potentials):
    """The recurrence, into ``spikes`` and where they are asked for ``membranes`` and ``potentials`` before firing."""
    time_steps = len(spikes)
    spare_u, spare_v, v = workspace(spikes[:1], 3)
    i_of = current.unbind() * (time_steps // len(current))
    u_of = spare_u.unbind() * time_steps if potentials is None else potentials.unbind()
    v_of = spare_v.unbind() * time_steps if membranes is None else membranes.unbind()
    v = v[0].zero_()
    for i, u, z, v_next in zip(i_of, u_of, spikes.unbind(), v_of, strict=True):
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
            neuron.stored(v, threshold, out=v)


def _run_back(threshold, neuron, quantized, u, z, spikes_grad, membranes_grad, g, threshold_grad, work):
    """The recurrence backward: the gradient reaching each current into ``g``, that of thresholds added to
    ``threshold_grad`` unless it is None. ``work``: four tensors like ``u`` for anything in between."""
    # With h[t] the gradient reaching reset(U[t], z[t]), d and r the derivatives of the reset in U (z held)
    # and in z, s that of firing, λ that of the leak, inside 1 where saturation changes nothing, else 0:
    #     h[t] = (∂L/∂V[t] + λ[t]·g[t+1])·inside[t]
    #     g[t] = h[t]·(d[t] + r[t]·s[t]) + ∂L/∂z[t]·s[t]            the gradient reaching U[t] and I[t]
    # Everything but the recurrence itself is done for all time steps at once.
    subtract, zero = neuron.reset == "subtract", neuron.reset == "zero"
    spiking = isinstance(neuron.fire, Spike)
    direct = torch.eq(z, 0, out=work[0]) if zero else None  # d, where it is not 1
    if subtract:
        v = torch.addcmul(u, z, threshold, value=-1, out=work[1])
    else:
        v = torch.mul(u, direct, out=work[1]) if zero else u
    inside, stored = None, v
    if quantized:
        stored = neuron.stored(v, threshold, out=work[2])
    leak = _leak_slope(neuron, stored)
    moved = None  # how far the stored potential, in thresholds, goes along with the threshold, where levels do
    if quantized and not neuron.grid:
        inside = torch.eq(v, stored, out=work[1])
    elif quantized:
        inside = neuron.membrane.slope(v, threshold)
        if neuron.grid.step is None and threshold_grad is not None:
            moved = (stored - v * inside) / threshold
        inside = work[1].copy_(inside)
    number = isinstance(leak, float)

    slope = _firing_slope(neuron, u, threshold, work[2])
    through = None  # d + r·s, where it is not 1
    if slope is not None and not neuron.detach_reset and (subtract or (zero and spiking)):
        one = torch.ones((), dtype=u.dtype, device=u.device)
        through = torch.addcmul(direct if zero else one, slope, threshold if subtract else u, value=-1,
                                out=work[3])
    elif zero:
        through = direct
    if slope is None or spikes_grad is None:
        g.zero_()
    else:
        torch.mul(spikes_grad, slope, out=g)
    h = work[2]
    if membranes_grad is None:
        h[-1].zero_()
    elif inside is None:
        h.copy_(membranes_grad)
    else:
        torch.mul(membranes_grad, inside, out=h)
    kept = leak if inside is None else inside if number and leak == 1 else inside.mul_(leak)  # λ·inside
    g_of, h_of = g.unbind(), h.unbind()
    kept_of = [kept] * len(g) if isinstance(kept, float) else kept.unbind()
    through_of = None if through is None else through.unbind()
    for t in range(len(g) - 1, -1, -1):
        if t < len(g) - 1:
            if membranes_grad is None:
                torch.mul(g_of[t + 1], kept_of[t], out=h_of[t])
            else:
                h_of[t].add_(g_of[t + 1] * kept_of[t])
        if through is None:
            g_of[t].add_(h_of[t])
        else:
            g_of[t].addcmul_(h_of[t], through_of[t])

    if threshold_grad is None:
        return
    if moved is not None:
        arriving = torch.zeros_like(moved) if membranes_grad is None else membranes_grad.clone()
        arriving[:-1] += g[1:] * (leak if number else leak[:-1])
        threshold_grad.add_((arriving * moved).sum((0, 1)))
    # g − h·d went through firing, where θ counts against U; h·z reaches the θ that was subtracted.
    went = torch.mul(h, direct, out=work[3]) if zero else h
    fired = torch.sub(g, went, out=work[3])
    if neuron.threshold_gradient == "fired" and spiking:
        fired.mul_(z * torch.sigmoid((u - threshold) / threshold.abs().clamp(min=1)))
    if isinstance(neuron.fire, GradedSpike):
        fired.mul_(u / threshold)  # z ~ U/θ, so ∂z/∂θ = −(U/θ)·∂z/∂U
    if subtract:
        fired.addcmul_(h, z)
    threshold_grad.sub_(fired.sum((0, 1)))


class _Kept(threading.local):
    tensor = None


_kept = _Kept()


def workspace(like, count):
    """``count`` scratch tensors like ``like``.

    Their memory is kept from call to call: on CPUs, touching fresh pages costs more than the arithmetic on them.
    """
    needed = like.numel() * count
    if _kept.tensor is None or _kept.tensor.numel() < needed or (
            _kept.tensor.dtype, _kept.tensor.device) != (like.dtype, like.device):
        _kept.tensor = like.new_empty(needed)
    return _kept.tensor[:needed].view(count, *like.shape).unbind()


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
            place = (v - neuron.v_min) / neuron.pitch
            if quantized:
                return torch.add(table[place.long()], i, out=out)
            index = place.floor().clamp_(0, len(slope) - 1).long()  # linear between entries
            return torch.add(table[index] + slope[index] * (place - index), i, out=out)

        return look_up
    return lambda v, i, out: torch.add(v, i, out=out)


def _leak_slope(neuron, v):
    """The derivative of the leak: a float, or like ``v`` (of a table: the slope to the next entry)."""
    if isinstance(neuron.leak, ShiftLeak):
        return 1 - 2.0**-neuron.leak.shift
    if isinstance(neuron.leak, TableLeak):
        slope = torch.diff(torch.tensor(neuron.leak.table, dtype=v.dtype, device=v.device)) / neuron.pitch
        return slope[((v - neuron.v_min) / neuron.pitch).floor_().clamp_(0, len(slope) - 1).long()]
    return 1.0


def _firing_slope(neuron, u, threshold, out):
    """The derivative of firing in ``u``, of its shape, into ``out``; None where nothing fires."""
    if isinstance(neuron.fire, Silent):
        return None
    if isinstance(neuron.fire, GradedSpike):
        low, high = neuron.fire.low * threshold, (neuron.fire.high + 1) * threshold
        return torch.div((u >= low) & (u < high), threshold, out=out)
    per = 1 / threshold.abs().clamp(min=1)
    return neuron.surrogate(torch.addcmul(-threshold * per, u, per, out=out)).mul_(per)
