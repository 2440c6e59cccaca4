"""Legendre memory units (Voelker, Kajić, Eliasmith, NeurIPS 2019), spiking or not.

The input of the last ``window`` time steps, one number u[t] each, is kept as ``order`` coefficients m[t] of Legendre
polynomials, and neurons see these:

    u[t] = e_x·x[t] + e_h·ĥ[t−1] + e_m·m̂[t−1]
    m[t] = Ā·m*[t−1] + B̄·u[t]                               m̂[t]: what is sent of m[t]
    h[t] = tanh(W_x·x[t] + W_h·ĥ[t−1] + W_m·m̂[t])           ĥ[t]: what is sent of h[t], and by the layer

Ā and B̄ follow from order and window and are not learned. Either of m and h is sent as it is or by a quantizer
(`spikeloom.training.hybrid`). m* is m where the memory is ``exact``, otherwise m̂, which is what integer networks have.

Without e_h and e_m and with m* = m, the memory is a linear filter that does not depend on what was learned: then all
time steps are done at once, by Fourier transform where that is faster. The rest is a loop over time, with a
hand-written backward.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy.signal import cont2discrete
from spikeloom.errors import SpikeloomError
from torch import nn
from torch.utils.checkpoint import checkpoint

from . import integers
from .hybrid import ActivityLayer, Quantizer, Tanh

#: From this order on, Fourier transforms are faster than steps on a CPU.
FOURIER_ORDER = 128

#: Values of the memory that are transformed at once.
PART_VALUES = 2**21


@functools.cache
def legendre(order, window):
    """Ā (order, order) and B̄ (order,) by zero-order hold, float64, for a memory of ``window`` time steps."""
    i = torch.arange(order, dtype=torch.float64)
    row, column = i[:, None], i[None]
    sign = torch.where(row < column, -1.0, (-1.0) ** (row - column + 1))
    a, b = (2 * row + 1) * sign / window, (2 * row + 1) * (-1.0) ** row / window
    a, b, *_ = cont2discrete((a.numpy(), b.numpy(), i[None].numpy(), [[0.0]]), dt=1.0, method="zoh")
    return torch.from_numpy(a.copy()), torch.from_numpy(b[:, 0].copy())


def filtered(u, order, window, begin=0, fourier=None):
    """The memory (time steps, batch, order) of inputs ``u`` (time steps, batch), without the first ``begin`` ones.

    ``fourier`` says by which of two ways that give the same but for rounding; by default the faster one.
    """
    if fourier is None:
        fourier = not begin and (u.is_cuda or order >= FOURIER_ORDER)
    if fourier:
        return _Transformed.apply(u, order, window)[begin:]
    response = impulse(order, window, begin).to(u).flip(1) if begin else u.new_zeros(order, 0)
    return _Stepped.apply(u[begin:], u[:begin].T @ response.T, order, window)


class _Stepped(torch.autograd.Function):
    """The memory of ``u``, one time step after the other, from a memory ``m`` (batch, order) on."""

    @staticmethod
    def forward(ctx, u, m, order, window):
        ctx.fields = order, window
        a, b = (each.to(u) for each in legendre(order, window))
        memory, a, b = u.new_empty(*u.shape, order), a.T.contiguous(), b[None]
        for x, out in zip(u.unbind(), memory.unbind(), strict=True):
            m = torch.mm(m, a, out=out).addmm_(x[:, None], b)
        return memory

    @staticmethod
    def backward(ctx, grad):
        a, b = (each.to(grad) for each in legendre(*ctx.fields))
        u_grad, carried = grad.new_empty(grad.shape[:2]), torch.zeros_like(grad[0])
        for each, out in zip(reversed(grad.unbind()), reversed(u_grad.unbind()), strict=True):
            m_grad = each + carried
            torch.mv(m_grad, b, out=out)
            carried = m_grad @ a
        return u_grad, carried, None, None


class _Transformed(torch.autograd.Function):
    """The memory of ``u`` by Fourier transform, from nothing on."""

    @staticmethod
    def forward(ctx, u, order, window):
        ctx.fields = order, window
        length = 2 * len(u)
        response = torch.fft.rfft(impulse(order, window, len(u)).to(u), length)
        memory = u.new_empty(*u.shape, order)
        for part in _parts(u, order):
            spectrum = torch.fft.rfft(u[:, part].T, length)
            memory[:, part] = torch.fft.irfft(spectrum[:, None] * response, length)[..., :len(u)].permute(2, 0, 1)
        return memory

    @staticmethod
    def backward(ctx, grad):
        order, window = ctx.fields
        u_grad, length = grad.new_empty(grad.shape[:2]), 2 * len(grad)
        response = torch.fft.rfft(impulse(order, window, len(grad)).to(grad), length).conj()
        for part in _parts(u_grad, order):
            spectrum = torch.fft.rfft(grad[:, part].permute(1, 2, 0), length)
            u_grad[:, part] = torch.fft.irfft((spectrum * response).sum(1), length)[:, :len(grad)].T
        return u_grad, None, None


def _parts(u, order):
    """Slices of the batch of ``u`` (time steps, batch) whose transforms are of a size to be done at once."""
    each = max(1, u.shape[1] if u.is_cuda else PART_VALUES // (2 * len(u) * order))
    return [slice(first, first + each) for first in range(0, u.shape[1], each)]


@functools.lru_cache(4)
def impulse(order, window, time_steps):
    """What the memory is 0, 1 … ``time_steps`` − 1 steps after an input of 1: (order, time steps), float64."""
    a, b = legendre(order, window)
    columns = [b]
    for _ in range(time_steps - 1):
        columns.append(a @ columns[-1])
    return torch.stack(columns, 1)


class LMU(ActivityLayer):
    """A layer of Legendre memory units; what it takes beside the following is said in `ActivityLayer`.

    Parameters
    ----------
    order : int
        coefficients that the memory has
    window : float
        time steps that it reaches back
    hidden, memory : Spiking, optional
        how h and m are sent; by default as they are
    exact : bool
        whether it is m itself that the memory goes on with, and not what is sent of it
    feedback : bool
        whether there are e_h and e_m
    recurrent : bool
        whether there is W_h
    segment : int
        time steps of which everything is kept for the backward pass; of the others only where such a segment begins is,
        and they are computed again. 0 keeps all
    truncate : int
        the last so many time steps are differentiated through, and take what was before as given. 0: all
    width, memory_width, entries : int
        in the integer network: bits of W_x, W_m and W_h, those of Ā and of what B̄ is multiplied with, and entries of
        the table that tanh is
    late : int
        while training, neurons begin so many time steps before the end, and so does all that they feed: enough where
        only what comes at the end counts, and much faster. Only for a memory that is a filter, which has heard all. 0:
        neurons begin with the first

    Parameters (latents): ``input_encoder`` e_x (n_in,), ``input_weight`` W_x (size, n_in), ``memory_weight`` W_m (size,
    order); with feedback ``hidden_encoder`` e_h (size,), ``memory_encoder`` e_m (order,); where it is recurrent
    ``hidden_weight`` W_h (size, size).
    """

    kind = "lmu"

    def __init__(self, input_shape, size, *, order, window, hidden=None, memory=None, exact=True, feedback=False,
                 recurrent=False, segment=0, truncate=0, late=0, width=8, memory_width=16, entries=256, high=1.0,
                 name="lmu", source=None):
        super().__init__(input_shape, size, high=high, name=name, source=source)
        self.order, self.window, self.exact = order, float(window), exact
        self.segment, self.truncate, self.late = segment, truncate, late
        self.width, self.memory_width, self.entries = width, memory_width, entries
        self.input_encoder = nn.Parameter(torch.empty(self.n_in))
        self.input_weight = nn.Parameter(torch.empty(size, self.n_in))
        self.memory_weight = nn.Parameter(torch.empty(size, order))
        self.hidden_weight = nn.Parameter(torch.empty(size, size)) if recurrent else None
        self.hidden_encoder = nn.Parameter(torch.empty(size)) if feedback else None
        self.memory_encoder = nn.Parameter(torch.empty(order)) if feedback else None
        for what, spiking in (("hidden", hidden), ("memory", memory)):
            if spiking:
                self.quantizers[what] = Quantizer(spiking)
        if late and not self.linear:
            raise SpikeloomError(f"Layer {name}: late is for a memory that is a filter of the input, not with feedback "
                                 "or a spiking memory that is not exact")
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Draw e_x, of length 1, and W_m (Glorot); the rest begins with 0."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            nn.init.xavier_normal_(self.memory_weight, generator=generator)
            sign = torch.randint(0, 2, (self.n_in,), generator=generator) * 2 - 1
            self.input_encoder.copy_(sign / self.n_in**0.5)

    def size_of(self, name):
        """Encoders are learned more slowly than weights, as each moves all coefficients of the memory at once."""
        return self.order**-0.5 if name.endswith("encoder") else 1.0

    @property
    def linear(self):
        """Whether the memory is a filter of the input, whatever was learned."""
        return self.hidden_encoder is None and (self.exact or "memory" not in self.quantizers)

    def forward(self, z, *, time_steps=None, quantized=False, record=False):
        """What is sent of h (time steps, batch, size), and where ``record`` of m (time steps, batch, order), otherwise
        None, for inputs ``z`` (time steps, batch, n_in); of the last ``late`` time steps while that is set."""
        if quantized:
            raise self._floats()
        x = z.expand(time_steps or len(z), -1, -1) / self.high
        late = max(0, len(x) - self.late) if self.late and self.training else 0
        memory, state = self._start(x, late)
        x = x[late:]
        hs, ms = [], []
        begin = max(0, len(x) - self.truncate) if self.truncate else 0
        for part, learning in self._segments(len(x), begin):
            with torch.set_grad_enabled(learning and torch.is_grad_enabled()):
                remembered = memory if memory is None else memory[part]
                if self.segment and torch.is_grad_enabled():
                    h, m, *state = checkpoint(self._run, x[part], remembered, *state, use_reentrant=False)
                else:
                    h, m, *state = self._run(x[part], remembered, *state)
            hs.append(h)
            ms += [m] if record else []
        return torch.cat(hs) if len(hs) > 1 else hs[0], torch.cat(ms) if record else None

    @property
    def unit(self):
        return self.quantizers["hidden"].omega.item()

    def to_layers(self, source):
        """Two `spikeloom.network.Dense`, one of the memory, called NAME_memory, with u in its weights, and one of the
        neurons."""
        of_memory, of_hidden = self._diffused("memory"), self._diffused("hidden")
        if self.exact:
            raise SpikeloomError(f"Layer {self.name}: its memory goes on with what is not sent, so there is no integer "
                                 "network; train it with exact = false")
        a, b = (integers.array(each) for each in legendre(self.order, self.window))
        e_x, w_x, w_m = (integers.array(each) for each in (self.input_encoder / self.high,
                                                           self.input_weight / self.high, self.memory_weight))
        limit = integers.LARGEST_COUNT
        if self.hidden_encoder is None:  # the most that any input can come to
            most = np.abs(e_x).sum() * source.high / source.unit
            reached = impulse(self.order, self.window, 4 * math.ceil(self.window)).abs().sum(1).max().item() * most
            limit = math.ceil(of_memory * reached) + 1
        memory = integers.Source(f"{self.name}_memory", of_memory, min(limit, integers.LARGEST_COUNT))
        hidden = integers.Source(self.name, of_hidden, math.ceil(of_hidden))
        terms = [integers.Term(source, np.outer(b, e_x), self.memory_width)]
        if self.hidden_encoder is not None:
            e_h, e_m = integers.array(self.hidden_encoder), integers.array(self.memory_encoder)
            terms.append(integers.Term(hidden, np.outer(b, e_h), self.memory_width, delay=1))
            a = a + np.outer(b, e_m)
        terms.append(integers.Term(memory, a, self.memory_width, delay=1))
        neurons = [integers.Term(memory, w_m, self.width)]
        if np.any(w_x):
            neurons.append(integers.Term(source, w_x, self.width))
        if self.hidden_weight is not None:
            neurons.append(integers.Term(hidden, integers.array(self.hidden_weight), self.width, delay=1))
        tanh = Tanh()
        return [integers.linear(memory.name, terms, of_memory, input_shape=self.input_shape, limit=limit),
                integers.tabled(self.name, neurons, of_hidden, tanh, tanh.reach, entries=self.entries,
                                input_shape=(1, 1, self.order))]

    def _segments(self, time_steps, begin):
        """(slice, whether it is differentiated through) of all time steps."""
        if begin:
            yield slice(0, begin), False
        each = self.segment or time_steps
        for first in range(begin, time_steps, each):
            yield slice(first, min(first + each, time_steps)), True

    def _start(self, x, begin):
        """The memory of inputs ``x`` from time step ``begin`` on where it is a filter, otherwise None, and what goes on
        from time step to time step, before that: m, m̂, ĥ, and v of memory and of neurons."""
        memory = None
        if self.linear:
            u = x[..., 0] if self._encodes_later(x) else x @ self.input_encoder
            memory = filtered(u, self.order, self.window, begin)
        m, h = (x.new_zeros(x.shape[1], count) for count in (self.order, self.shape[2]))
        v = [self.quantizers[what].residual(like) if what in self.quantizers else None
             for what, like in (("memory", m), ("hidden", h))]
        return memory, (m, m, h, *v)

    def _encodes_later(self, x):
        """Whether the filter is for ``x`` itself and e_x comes behind it, so that nothing has to go back through it."""
        return self.n_in == 1 and not x.requires_grad

    def _run(self, x, memory, m, sent, h, v_memory, v_hidden):
        """Some time steps: ĥ and m̂ of each, and what `_start` says, after the last."""
        current = x @ self.input_weight.T
        if memory is None:
            return _Loop.apply(x @ self.input_encoder, current, m, sent, h, v_memory, v_hidden, self.memory_weight,
                               self.hidden_weight, self.hidden_encoder, self.memory_encoder, self)
        if self._encodes_later(x):
            memory = memory * self.input_encoder
        ms, v_memory = self.sent("memory", memory, v_memory)
        current = current + ms @ self.memory_weight.T
        if self.hidden_weight is None:
            hs, v_hidden = self.sent("hidden", torch.tanh(current), v_hidden)
        else:
            hs, *_, v_hidden = _Loop.apply(None, current, None, None, h, None, v_hidden, None, self.hidden_weight,
                                              None, None, self)
        return hs, ms, memory[-1], ms[-1], hs[-1], v_memory, v_hidden


class _Loop(torch.autograd.Function):
    """`LMU._run` one time step after the other, for the part that is not known before: of ``u`` (time steps, batch) and
    ``current`` (time steps, batch, size) without what comes from the time step before. ``u`` is None where ``current``
    has the memory's part in it."""

    @staticmethod
    def forward(ctx, u, current, m, sent, h, v_memory, v_hidden, w_m, w_h, e_h, e_m, layer):
        remembers = u is not None
        tanh, hs = torch.empty_like(current), torch.empty_like(current)
        ms = current.new_empty(*u.shape, layer.order) if remembers else None
        step_memory, step_hidden = (layer.quantizers[what].stepper() if what in layer.quantizers else None
                                    for what in ("memory", "hidden"))
        v_memory, v_hidden = (v if v is None else v.clone() for v in (v_memory, v_hidden))
        start = sent, h
        if remembers:
            a, b = (each.to(u) for each in legendre(layer.order, layer.window))
            a, b, w_m_t = a.T.contiguous(), b[None], w_m.T.contiguous()
        w_h_t = None if w_h is None else w_h.T.contiguous()
        for t, (i, h_out) in enumerate(zip(current.unbind(), hs.unbind(), strict=True)):
            out = tanh[t]
            torch.mm(h, w_h_t, out=out).add_(i) if w_h is not None else out.copy_(i)
            if remembers:
                x = u[t] if e_h is None else torch.addmv(torch.addmv(u[t], h, e_h), sent, e_m)
                m = torch.mm(m if layer.exact else sent, a).addmm_(x[:, None], b)
                sent = ms[t]
                step_memory(m, v_memory, sent) if step_memory else sent.copy_(m)
                out.addmm_(sent, w_m_t)
            torch.tanh(out, out=out)
            step_hidden(out, v_hidden, h_out) if step_hidden else h_out.copy_(out)
            h = h_out
        ctx.layer, ctx.remembers = layer, remembers
        ctx.save_for_backward(tanh, hs, ms, *start, w_m, w_h, e_h, e_m)
        ctx.set_materialize_grads(False)
        # The gradient of what is sent last comes with that of the memory, whose activity it stands for.
        last = sent.clone() if remembers else None
        ctx.mark_non_differentiable(*(each for each in (last, v_memory, v_hidden) if each is not None))
        return hs, ms, m, last, h.clone(), v_memory, v_hidden

    @staticmethod
    def backward(ctx, hs_grad, ms_grad, m_grad, _, h_grad, *__):
        tanh, hs, ms, sent, h, w_m, w_h, e_h, e_m = ctx.saved_tensors
        layer, remembers = ctx.layer, ctx.remembers
        current_grad = torch.empty_like(tanh)
        slope = torch.addcmul(torch.ones((), dtype=tanh.dtype, device=tanh.device), tanh, tanh, value=-1)
        u_grad = None
        if remembers:
            a, b = (each.to(tanh) for each in legendre(layer.order, layer.window))
            u_grad = tanh.new_empty(tanh.shape[:2])
            m_back = torch.zeros_like(sent) if m_grad is None else m_grad
        h_back = torch.zeros_like(h) if h_grad is None else h_grad
        for t in range(len(tanh) - 1, -1, -1):
            if hs_grad is not None:
                h_back = h_back + hs_grad[t]
            p = torch.mul(h_back, slope[t], out=current_grad[t])
            h_back = torch.zeros_like(p) if w_h is None else p @ w_h
            if remembers:
                m_back = torch.addmm(m_back, p, w_m)
                if ms_grad is not None:
                    m_back = m_back + ms_grad[t]
                x = torch.mv(m_back, b, out=u_grad[t])
                m_back = m_back @ a
                if e_h is not None:
                    m_back.addr_(x, e_m)
                    h_back = torch.addr(h_back, x, e_h)

        def before(first, others):
            return torch.cat([first[None], others[:-1]]).flatten(0, 1)

        flat = current_grad.flatten(0, 1)
        grads = {"m": None, "w_m": None, "w_h": None, "e_h": None, "e_m": None}
        if remembers:
            grads |= {"m": m_back, "w_m": flat.T @ ms.flatten(0, 1)}
        if w_h is not None:
            grads["w_h"] = flat.T @ before(h, hs)
        if e_h is not None:
            grads |= {"e_h": u_grad.flatten() @ before(h, hs), "e_m": u_grad.flatten() @ before(sent, ms)}
        return (u_grad, current_grad, grads["m"], None, h_back, None, None, grads["w_m"], grads["w_h"], grads["e_h"],
                grads["e_m"], None)
