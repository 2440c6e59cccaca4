"""Layers of spiking neurons over time in PyTorch: the semantics of `spikeloom.reference` for tensors of all time steps.

This is the only place where PyTorch knows what a neuron does. `scan` takes the currents of all time steps at
once and runs the recurrence in a hand-written forward and backward, without an autograd graph per step, that of a layer
that feeds itself too; `advance` takes one time step, for layers that feed each other. With ``quantized`` and
integer-valued float32 inputs they equal the reference exactly, spike for spike and membrane for membrane (all values
stay below 2^24: `spikeloom.network` checks it).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields

import torch
from spikeloom.network import FullLeak, GradedSpike, ReLU, ShiftLeak, Silent, Spike, TableActivation, TableLeak

from .neuron import Neuron

#: Of a tensor over time steps that neurons are run on at once: with the other tensors they need, a processor's cache.
PART_VALUES = 2**19


@dataclass(frozen=True)
class States:
    """What neurons keep from one time step to the next: potentials ``v``, synaptic currents ``j`` and what is added to
    thresholds ``a``, float tensors (batch, neurons); None where neurons have none of them."""

    v: torch.Tensor
    j: torch.Tensor | None = None
    a: torch.Tensor | None = None

    @classmethod
    def before(cls, neuron, like):
        """Those before the first time step, of the shape of ``like``."""
        return cls(*(torch.zeros_like(like) if kept else None for kept in (True, neuron.current, neuron.adaptation)))


def scan(current, threshold, neuron, *, step=None, recurrent=(), time_steps=None, quantized=True, record=True):
    """Run a layer's neurons over all time steps, from states of zero.

    Parameters
    ----------
    current : float tensor (time steps, batch, neurons), or (1, batch, neurons) when the same at each step
        weighted inputs plus bias, in state units; integer-valued when ``quantized``
    threshold : float tensor (neurons,)
        in state units; integer-valued when ``quantized``
    neuron : Neuron
    step : float tensor (neurons,), optional
        by how much a spike raises the threshold of neurons with an adaptation, likewise
    recurrent : sequence of (weights, delay)
        float tensors (neurons, neurons) for what the neurons themselves fired so many time steps before, likewise
    time_steps : int
        needed only for a current that is constant in time
    quantized : bool
        False leaves out the rounding of leaks and the saturation of stored states, for a float baseline
    record : bool
        False leaves out the membranes (None), where nobody looks at them

    Returns
    -------
    spikes, membranes : float tensors (time steps, batch, neurons)
        what each neuron fired, and its potential as stored after the time step

    Gradients reach current, threshold, step and weights: a spike's is the surrogate, a leak's rounding and the floor of
    a graded spike are passed straight through, and saturation passes gradient only inside the stored range. That of a
    table is the slope to its next entry.
    """
    weights, delays = zip(*recurrent, strict=True) if recurrent else ((), ())
    run = _Run(neuron, time_steps or len(current), quantized, record, delays)
    spikes, membranes, _, _ = _Scan.apply(run, current, threshold, step, None, None, None, None, *weights)
    return spikes, membranes


def advance(current, threshold, neuron, states, *, step=None, opened=None, quantized=True):
    """One time step of `scan`: spikes (batch, neurons) and the next `States`, for a ``current`` of the same shape.

    ``opened``, likewise: potentials are multiplied by it before they fire.
    """
    run = _Run(neuron, 1, quantized, True, ())
    spikes, membranes, j, a = _Scan.apply(run, current.unsqueeze(0), threshold, step, states.v, states.j, states.a,
                                          opened)
    return spikes[0], States(membranes[0], j, a)


@dataclass(frozen=True)
class _Run:
    """What `_Scan` is to do."""

    neuron: Neuron
    time_steps: int
    quantized: bool
    record: bool
    delays: tuple


@dataclass
class _Tape:
    """The tensors of a run, (time steps, batch, neurons), or (batch, neurons) of states; None for those that nobody
    needs: what comes in (``current``, ``opened`` and the states before), what goes out (spikes ``z``, ``membranes`` and
    the states after), and for gradients what comes to the activation and to the potential, the states of thresholds
    before they saturate, and potentials before gates and before firing."""

    current: torch.Tensor
    z: torch.Tensor
    membranes: torch.Tensor | None = None
    v: torch.Tensor | None = None
    j: torch.Tensor | None = None
    a: torch.Tensor | None = None
    opened: torch.Tensor | None = None
    last_j: torch.Tensor | None = None
    last_a: torch.Tensor | None = None
    fed: torch.Tensor | None = None
    k: torch.Tensor | None = None
    raised: torch.Tensor | None = None
    ungated: torch.Tensor | None = None
    u: torch.Tensor | None = None

    def part(self, part):
        """That of a slice of the batch."""
        return _Tape(*(_part(getattr(self, each.name), part) for each in fields(self)))


def _part(tensor, part):
    return None if tensor is None else tensor[..., part, :]


class _Scan(torch.autograd.Function):
    # On CPUs an operation that writes booleans costs several times one that writes floats: masks are floats.

    @staticmethod
    def forward(ctx, run, current, threshold, step, v, j, a, opened, *weights):
        neuron, learning, going = run.neuron, any(ctx.needs_input_grad), v is not None
        z = current.new_empty(run.time_steps, *current.shape[1:])

        def made(wanted, like=z):
            return torch.empty_like(like) if wanted else None

        tape = _Tape(current, z, made(run.record), v, j, a, opened,
                     made(going and neuron.current, z[0]), made(going and neuron.adaptation, z[0]),
                     made(learning and neuron.act and weights), made(learning and neuron.current),
                     made(learning and neuron.adaptation), made(learning and opened is not None), made(learning))
        for part in _parts(z, weights):
            _forward(run, tape.part(part), threshold, step, weights)
        if learning:
            saved = {each.name: getattr(tape, each.name) for each in fields(tape)}
            saved |= dict.fromkeys(("membranes", "last_j", "last_a"))
            if weights or not neuron.act:  # nobody looks at them again
                saved["current"] = None
            ctx.save_for_backward(threshold, step, *weights, *saved.values())
            ctx.run, ctx.constant = run, len(current) != run.time_steps
        ctx.set_materialize_grads(False)
        return z, tape.membranes, tape.last_j, tape.last_a

    @staticmethod
    def backward(ctx, z_grad, v_grad, j_grad, a_grad):
        run, count = ctx.run, len(ctx.run.delays)
        threshold, step, *saved = ctx.saved_tensors
        weights, tape = saved[:count], _Tape(*saved[count:])
        made = _Grads(z_grad, v_grad, j_grad, a_grad,
                      torch.empty_like(tape.z[:1] if ctx.constant and not weights else tape.z),
                      *(torch.zeros_like(tensor) if tensor is not None and needed else None
                        for tensor, needed in zip((threshold, step), ctx.needs_input_grad[2:4], strict=True)),
                      *(None if tensor is None else torch.empty_like(tensor)
                        for tensor in (tape.v, tape.j, tape.a, tape.opened)))
        for part in _parts(tape.z, weights):
            _backward(run, tape.part(part), threshold, step, weights, made.part(part))
        current = made.current
        of_weights = [current[delay:].flatten(0, 1).t() @ tape.z[:max(0, run.time_steps - delay)].flatten(0, 1)
                      for delay in run.delays]
        if ctx.constant and weights:
            current = current.sum(0, keepdim=True)
        return None, current, made.threshold, made.step, made.v, made.j, made.a, made.opened, *of_weights


@dataclass
class _Grads:
    """Gradients: those that reach spikes, membranes and the states after, and those to be made, of what comes in."""

    z: torch.Tensor | None
    membranes: torch.Tensor | None
    last_j: torch.Tensor | None
    last_a: torch.Tensor | None
    current: torch.Tensor
    threshold: torch.Tensor | None
    step: torch.Tensor | None
    v: torch.Tensor | None
    j: torch.Tensor | None
    a: torch.Tensor | None
    opened: torch.Tensor | None

    def part(self, part):
        """Those of a slice of the batch; what parameters get is added up."""
        return _Grads(*(getattr(self, each.name) if each.name in ("threshold", "step")
                        else _part(getattr(self, each.name), part) for each in fields(self)))


def parts(values):
    """Slices of the batch of ``values`` (time steps, batch, neurons) that stay in a processor's cache from one
    operation to the next; a GPU takes all at once."""
    batch = values.shape[1]
    each = batch if values.is_cuda else PART_VALUES // max(1, values[:, :1].numel())
    return [slice(first, first + max(1, each)) for first in range(0, batch, max(1, each))]


def _parts(values, weights):
    """As `parts`, but with ``weights`` all at once, as matrix products of few rows are slow."""
    return [slice(None)] if weights else parts(values)


def _forward(run, tape, threshold, step, weights):
    """The recurrence, into what ``tape`` has tensors for."""
    neuron, quantized, time_steps = run.neuron, run.quantized, run.time_steps
    fire, current, adaptation = neuron.fire, neuron.current, neuron.adaptation
    *spare, v, j, a, theta, active = workspace(tape.z[:1], 10)
    fed_of, k_of, raised_of, u_of, v_of = (
        each.unbind() * time_steps if tensor is None else tensor.unbind()
        for tensor, each in zip((tape.fed, tape.k, tape.raised, tape.u, tape.membranes), spare, strict=True))
    v, j, a, theta, active = (each[0] for each in (v, j, a, theta, active))
    v = v.zero_() if tape.v is None else tape.v
    if current:
        j = j if tape.last_j is None else tape.last_j
        j.zero_() if tape.j is None else j.copy_(tape.j)
    if adaptation:
        a = a if tape.last_a is None else tape.last_a
        a.zero_() if tape.a is None else a.copy_(tape.a)
    leak = _leak(neuron.leak, neuron.v_min, neuron.pitch, quantized, v)
    leaks = [_leak(state.leak, state.bounds[0], 1, quantized, v) if state else None for state in (current, adaptation)]
    activate = _activation(neuron.act, quantized, v)
    i_of, z_of = tape.current.unbind() * (time_steps // len(tape.current)), tape.z.unbind()
    turned = [weight.t() for weight in weights]
    for t, (i, u, z, v_next) in enumerate(zip(i_of, u_of, z_of, v_of, strict=True)):
        for weight, delay in zip(turned, run.delays, strict=True):
            if t >= delay:
                i = torch.addmm(i, z_of[t - delay], weight, out=fed_of[t])
        if activate:
            if tape.fed is not None and i is not fed_of[t]:
                fed_of[t].copy_(i)
            i = activate(i, active)
        if current:
            i = leaks[0](j, i, out=k_of[t])
            torch.clamp(i, *current.bounds, out=j) if quantized else j.copy_(i)
        if adaptation:
            torch.add(threshold, a, out=theta)
        else:
            theta = threshold
        leak(v, i, out=u)
        v = v_next
        if tape.opened is not None:
            if tape.ungated is not None:
                tape.ungated[t].copy_(u)
            u.mul_(tape.opened)
        if isinstance(fire, Silent):
            z.zero_()
        elif isinstance(fire, GradedSpike):
            torch.div(u, theta, out=z).floor_().clamp_(fire.low, fire.high)
        else:
            torch.ge(u, theta, out=z)
        if neuron.reset == "subtract":
            torch.addcmul(u, z, theta, value=-1, out=v)
        elif neuron.reset == "zero":
            torch.eq(z, 0, out=v).mul_(u)
        else:
            v.copy_(u)
        if quantized:
            neuron.stored(v, threshold, out=v)
        if adaptation:
            leaks[1](a, z * step, out=raised_of[t])
            torch.clamp(raised_of[t], *adaptation.bounds, out=a) if quantized else a.copy_(raised_of[t])


def _backward(run, tape, threshold, step, weights, grads):
    """The recurrence backward, into ``grads``."""
    # With h[t] the gradient reaching reset(U[t], z[t]), d and r the derivatives of the reset in U (z held)
    # and in z, s that of firing, λ that of the leak, inside 1 where saturation changes nothing, else 0:
    #     h[t] = (∂L/∂V[t] + λ[t]·g[t+1])·inside[t]
    #     g[t] = h[t]·(d[t] + r[t]·s[t]) + ∂L/∂z[t]·s[t]            the gradient reaching U[t]
    #     k[t] = g[t] + (∂L/∂J[t] + λ'[t]·k[t+1])·inside'[t]        that reaching act(I[t]), g[t] without a current
    #     i[t] = k[t]·act'(I[t])                                     that reaching I[t]
    # where ∂L/∂z[t] holds what comes by weights, Σ i[t+delay]·W, and by the adaptation, b[t]·step, of
    #     b[t] = (∂L/∂A[t] + ϑ[t+1] + λ"[t]·b[t+1])·inside"[t]      and
    #     ϑ[t] = −(g[t] − h[t]·d[t]) − h[t]·z[t] (if subtracted)     the gradient reaching the threshold of that time
    # Everything but the recurrence itself is done for all time steps at once.
    neuron, quantized, u, z = run.neuron, run.quantized, tape.u, tape.z
    current, adaptation, act, last = neuron.current, neuron.adaptation, neuron.act, run.time_steps - 1
    subtract, zero = neuron.reset == "subtract", neuron.reset == "zero"
    spiking = isinstance(neuron.fire, Spike)
    *work, g = workspace(u, 5)
    chain = [g] if len(grads.current) <= last else [grads.current]  # i, and where they differ from it k and g
    chain += [torch.empty_like(u) for part in (act, current) if part]
    i, k, g = chain[0], chain[1 if act else 0], chain[-1]

    theta, a = threshold, None
    if adaptation:
        a = tape.raised.clamp(*adaptation.bounds) if quantized else tape.raised
        before = torch.zeros_like(a[:1]) if tape.a is None else tape.a.unsqueeze(0)
        theta = torch.cat([before, a[:-1]]).add_(threshold)
    direct = torch.eq(z, 0, out=work[0]) if zero else None  # d, where it is not 1
    if subtract:
        v = torch.addcmul(u, z, theta, value=-1, out=work[1])
    else:
        v = torch.mul(u, direct, out=work[1]) if zero else u
    inside, stored = None, v
    if quantized:
        stored = neuron.stored(v, threshold, out=work[2])
    leak = _slope(neuron.leak, neuron.v_min, neuron.pitch, stored)
    moved = None  # how far the stored potential, in thresholds, goes along with the threshold, where levels do
    if quantized and not neuron.grid:
        inside = torch.eq(v, stored, out=work[1])
    elif quantized:
        inside = neuron.membrane.slope(v, threshold)
        if neuron.grid.step is None and grads.threshold is not None:
            moved = (stored - v * inside) / threshold
        inside = work[1].copy_(inside)
    number = isinstance(leak, float)

    slope = _firing_slope(neuron, u, theta, work[2])
    through = None  # d + r·s, where it is not 1
    if slope is not None and not neuron.detach_reset and (subtract or (zero and spiking)):
        one = torch.ones((), dtype=u.dtype, device=u.device)
        through = torch.addcmul(direct if zero else one, slope, theta if subtract else u, value=-1, out=work[3])
    elif zero:
        through = direct
    if slope is None or grads.z is None:
        g.zero_()
    else:
        torch.mul(grads.z, slope, out=g)
    fed_back = slope is not None and (weights or adaptation)  # by z, beside the reset
    h = torch.empty_like(u) if fed_back else work[2]  # where the slope was
    if grads.membranes is None:
        h[-1].zero_()
    elif inside is None:
        h.copy_(grads.membranes)
    else:
        torch.mul(grads.membranes, inside, out=h)
    kept = leak if inside is None else inside if number and leak == 1 else inside.mul_(leak)  # λ·inside
    at_once = tape.opened is None and not adaptation  # whether thresholds can wait for g to be whole
    pull = None if at_once else _pull(neuron, u, z, theta)
    kept_j = _kept(current, tape.k, quantized) if current else None
    kept_a = _kept(adaptation, tape.raised, quantized) if adaptation else None
    act_slope = _activation_slope(act, tape.current if tape.fed is None else tape.fed) if act else None
    b = torch.empty_like(u) if adaptation else None

    g_of, h_of = g.unbind(), h.unbind()
    kept_of = [kept] * len(g) if isinstance(kept, float) else kept.unbind()
    through_of = None if through is None else through.unbind()
    theta_grad = None
    for t in range(last, -1, -1):
        if t < last:
            if grads.membranes is None:
                torch.mul(g_of[t + 1], kept_of[t], out=h_of[t])
            else:
                h_of[t].add_(g_of[t + 1] * kept_of[t])
        if adaptation:
            if t < last:
                torch.addcmul(theta_grad * kept_a[0][t], b[t + 1], kept_a[1][t], out=b[t])
            elif grads.last_a is None:
                b[t].zero_()
            else:
                torch.mul(grads.last_a, kept_a[0][t], out=b[t])
        if fed_back:
            arriving = b[t] * step if adaptation else torch.zeros_like(u[t])
            for weight, delay in zip(weights, run.delays, strict=True):
                if t + delay <= last:
                    arriving.addmm_(i[t + delay], weight)
            g_of[t].addcmul_(arriving, slope[t])
        if through is None:
            g_of[t].add_(h_of[t])
        else:
            g_of[t].addcmul_(h_of[t], through_of[t])
        if not at_once:
            theta_grad = _threshold_grad(g_of[t], h_of[t], direct if direct is None else direct[t],
                                         pull if pull is None else pull[t], z[t] if subtract else None)
            if grads.threshold is not None:
                grads.threshold.add_(theta_grad.sum(0))
        if tape.opened is not None:
            torch.mul(g_of[t], tape.ungated[t], out=grads.opened)
            g_of[t].mul_(tape.opened)
        if current:
            if t < last:
                torch.addcmul(g_of[t], kept_j[1][t], k[t + 1], out=k[t])
            else:
                k[t].copy_(g_of[t])
                if grads.last_j is not None:
                    k[t].addcmul_(grads.last_j, kept_j[0][t])
        if act:
            torch.mul(k[t], act_slope[t % len(act_slope)], out=i[t])

    if grads.v is not None:
        torch.mul(g[0], _slope(neuron.leak, neuron.v_min, neuron.pitch, tape.v), out=grads.v)
    if grads.j is not None:
        torch.mul(k[0], _slope(current.leak, current.bounds[0], 1, tape.j), out=grads.j)
    if grads.a is not None:
        torch.add(theta_grad, b[0] * _slope(adaptation.leak, adaptation.bounds[0], 1, tape.a), out=grads.a)
    if adaptation and grads.step is not None:
        grads.step.add_((b * z).sum((0, 1)))
    if i is not grads.current:
        torch.sum(i, 0, keepdim=True, out=grads.current)
    if grads.threshold is None:
        return
    if moved is not None:
        arriving = torch.zeros_like(moved) if grads.membranes is None else grads.membranes.clone()
        arriving[:-1] += g[1:] * (leak if number else leak[:-1])
        grads.threshold.add_((arriving * moved).sum((0, 1)))
    if at_once:
        grads.threshold.add_(_threshold_grad(g, h, direct, _pull(neuron, u, z, theta), z if subtract else None,
                                             work[3]).sum((0, 1)))


def _threshold_grad(g, h, direct, pull, z, out=None):
    """The gradient reaching thresholds, by the names of `_backward`, ``z`` where a threshold was subtracted."""
    # g − h·d went through firing, where θ counts against U; h·z reaches the θ that was subtracted.
    went = h if direct is None else torch.mul(h, direct, out=out)
    fired = torch.sub(went, g, out=out)
    if pull is not None:
        fired.mul_(pull)
    return fired if z is None else fired.addcmul_(h, z, value=-1)


def _pull(neuron, u, z, theta):
    """By what a threshold pulls on firing, beside the potential; None for 1."""
    if isinstance(neuron.fire, GradedSpike):
        return u / theta  # z ~ U/θ, so ∂z/∂θ = −(U/θ)·∂z/∂U
    if neuron.threshold_gradient == "fired" and isinstance(neuron.fire, Spike):
        return z * torch.sigmoid((u - theta) / theta.abs().clamp(min=1))
    return None


def _kept(state, raw, quantized):
    """What a state's gradient is multiplied by where it was stored, and on its way on to the next time step's: tensors
    like what it was before it saturated."""
    stored = raw.clamp(*state.bounds) if quantized else raw
    inside = torch.eq(raw, stored, out=torch.empty_like(raw)) if quantized else torch.ones_like(raw)
    return inside, inside * _slope(state.leak, state.bounds[0], 1, stored)


class _Memory(threading.local):
    tensor = None


_memory = _Memory()


def workspace(like, count):
    """``count`` scratch tensors like ``like``.

    Their memory is kept from call to call: on CPUs, touching fresh pages costs more than the arithmetic on them.
    """
    needed = like.numel() * count
    if _memory.tensor is None or _memory.tensor.numel() < needed or (
            _memory.tensor.dtype, _memory.tensor.device) != (like.dtype, like.device):
        _memory.tensor = like.new_empty(needed)
    return _memory.tensor[:needed].view(count, *like.shape).unbind()


def _leak(leak, lowest, pitch, quantized, like):
    """A function (v, i, out): leaked states v, ``pitch`` apart from the ``lowest`` on, plus i, into ``out``."""
    if isinstance(leak, ShiftLeak):
        fraction = 2.0**-leak.shift
        if not quantized:
            return lambda v, i, out: torch.add(i, v, alpha=1 - fraction, out=out)
        # v − ⌊v·f⌋ = v + ⌈−v·f⌉
        return lambda v, i, out: torch.mul(v, -fraction, out=out).ceil_().add_(v).add_(i)
    if isinstance(leak, FullLeak):
        return lambda v, i, out: out.copy_(i)
    if isinstance(leak, TableLeak):
        look_up = _look_up(leak.table, quantized, like)
        return lambda v, i, out: torch.add(look_up((v - lowest) / pitch), i, out=out)
    return lambda v, i, out: torch.add(v, i, out=out)


def _slope(leak, lowest, pitch, v):
    """The derivative of a leak: a float, or like ``v``."""
    if isinstance(leak, ShiftLeak):
        return 1 - 2.0**-leak.shift
    if isinstance(leak, FullLeak):
        return 0.0
    if isinstance(leak, TableLeak):
        return _table_slope(leak.table, (v - lowest) / pitch) / pitch
    return 1.0


def _activation(act, quantized, like):
    """A function (i, out): what becomes of currents i, in ``out``; None where they stay."""
    if isinstance(act, ReLU):
        return lambda i, out: torch.clamp(i, min=0, out=out)
    if isinstance(act, TableActivation):
        look_up, half = _look_up(act.table, quantized, like), len(act.table) // 2

        def activate(i, out):
            place = i * 2.0**-act.shift
            place = place.floor_() if quantized else place  # before half is added, which float32 may round
            return out.copy_(look_up(place.clamp_(-half, half - 1).add_(half)))

        return activate
    return None


def _activation_slope(act, i):
    """Its derivative, like ``i``."""
    if isinstance(act, ReLU):
        return torch.gt(i, 0, out=torch.empty_like(i))
    place = i * 2.0**-act.shift + len(act.table) // 2
    inside = (place >= 0) & (place < len(act.table) - 1)
    return _table_slope(act.table, place) * inside * 2.0**-act.shift


def _look_up(table, quantized, like):
    """A function of places in a ``table``: the entries there, in floats with straight lines between them."""
    table = torch.tensor(table, dtype=like.dtype, device=like.device)
    slope = torch.diff(table)

    def look_up(place):
        if quantized:
            return table[place.long()]
        index = place.floor().clamp_(0, len(slope) - 1).long()
        return table[index] + slope[index] * (place - index)

    return look_up


def _table_slope(table, place):
    """From the entry at each place (the last one but one beyond it) to the next."""
    slope = torch.diff(torch.tensor(table, dtype=place.dtype, device=place.device))
    return slope[place.floor().clamp_(0, len(slope) - 1).long()]


def _firing_slope(neuron, u, threshold, out):
    """The derivative of firing in ``u``, of its shape, into ``out``; None where nothing fires."""
    if isinstance(neuron.fire, Silent):
        return None
    if isinstance(neuron.fire, GradedSpike):
        low, high = neuron.fire.low * threshold, (neuron.fire.high + 1) * threshold
        return torch.div((u >= low) & (u < high), threshold, out=out)
    per = 1 / threshold.abs().clamp(min=1)
    return neuron.surrogate(torch.addcmul(-threshold * per, u, per, out=out)).mul_(per)
