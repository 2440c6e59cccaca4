"""Activations that spike: quantizers that carry their error on to the next time step (Voelker, Rasmussen, Eliasmith,
"A spike in performance", 2020, arXiv 2002.03553).

Of the activity a[t] of an ordinary neuron, n[t] = ⌊v + ω·a[t]⌋ spikes are sent, a signed count, each worth 1/ω, and
v + ω·a[t] − n[t] is the v of the next time step. So the sum of what was sent is never further than 1/ω from the sum of
activities. A large ω makes an ordinary network, a small one spikes of −1, 0 and 1. Training goes from one to the other
by a schedule. What is differentiated is the activity: a count passes its gradient on to a[t], none to v or ω.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from spikeloom import network
from spikeloom.errors import SpikeloomError
from torch import nn
from torch.nn import functional

from . import integers

#: Ways to round: the error goes to the next time step, or is left to chance.
ROUNDINGS = ("diffused", "stochastic")


# Activations ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""

    kind = "relu"

    def __call__(self, x):
        return functional.relu(x)


@dataclass(frozen=True)
class Tanh:
    kind = "tanh"
    reach = 4.0  # beyond, tables need not tell one current from another

    def __call__(self, x):
        return torch.tanh(x)


@dataclass(frozen=True)
class Identity:
    kind = "identity"

    def __call__(self, x):
        return x


@dataclass(frozen=True)
class LIFRate:
    """The rate, over its largest, of a leaky integrate-and-fire neuron with threshold 1 fed with a constant current x:
    r / (r + τ·ln(1 + 1/j)), where j is how far x is above 1.

    Parameters
    ----------
    tau : float
        τ, the membrane's time constant, in time steps
    refractory : float
        r, how long it rests after a spike, in time steps
    smooth : float
        j is smooth·ln(1 + exp((x − 1) / smooth)), as the slope of the rate has no bound where j is 0 (Hunsberger,
        Eliasmith, 2015, arXiv 1510.08829)
    """

    tau: float = 20.0
    refractory: float = 2.0
    smooth: float = 0.1
    kind = "lif_rate"
    reach = 8.0

    def __post_init__(self):
        _positive(self, "tau", "refractory", "smooth")

    def __call__(self, x):
        j = functional.softplus((x - 1) / self.smooth) * self.smooth
        j = j.clamp(min=torch.finfo(x.dtype).tiny)  # where softplus is 0
        return self.refractory / (self.refractory + self.tau * (j.log1p() - j.log()))


def _positive(owner, *names):
    for name in names:
        if not 0 < getattr(owner, name) < math.inf:
            raise SpikeloomError(f"{owner.kind}: {name} must be positive, not {getattr(owner, name)}")


# Schedules --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant:
    """ω is ``value`` throughout."""

    value: float
    kind = "constant"

    def __post_init__(self):
        _positive(self, "value")

    def __call__(self, share):
        return self.value


@dataclass(frozen=True)
class _Interpolated:
    """From ``first`` to ``last``, which is reached after the share ``until`` of training and kept."""

    first: float
    last: float
    until: float = 0.75

    def __post_init__(self):
        _positive(self, "first", "last")
        if not 0 < self.until <= 1:
            raise SpikeloomError(f"{self.kind}: until must lie above 0 and up to 1, not {self.until}")

    def __call__(self, share):
        return self.last if share >= self.until else self._at(share / self.until)


@dataclass(frozen=True)
class Linear(_Interpolated):
    __doc__ = f"ω in a straight line. {_Interpolated.__doc__}"
    kind = "linear"

    def _at(self, x):
        return self.first + (self.last - self.first) * x


@dataclass(frozen=True)
class Geometric(_Interpolated):
    __doc__ = f"ω by the same factor in each batch. {_Interpolated.__doc__}"
    kind = "geometric"

    def _at(self, x):
        return self.first * (self.last / self.first) ** x


@dataclass(frozen=True)
class Cosine(_Interpolated):
    __doc__ = f"ω by half a period of a cosine. {_Interpolated.__doc__}"
    kind = "cosine"

    def _at(self, x):
        return self.last + (self.first - self.last) * (1 + math.cos(math.pi * x)) / 2


@dataclass(frozen=True)
class Points:
    """ω in straight lines between ``omegas`` after ``shares`` of training, which increase from 0; the last one is
    kept."""

    shares: tuple[float, ...]
    omegas: tuple[float, ...]
    kind = "points"

    def __post_init__(self):
        if len(self.shares) != len(self.omegas) or not self.shares:
            raise SpikeloomError(f"points: shares and omegas must be as many, and at least one, not "
                                 f"{len(self.shares)} and {len(self.omegas)}")
        if self.shares[0] != 0 or list(self.shares) != sorted(set(self.shares)) or self.shares[-1] > 1:
            raise SpikeloomError(f"points: shares must increase from 0 to at most 1, not be {list(self.shares)}")
        if not all(0 < omega < math.inf for omega in self.omegas):
            raise SpikeloomError(f"points: omegas must be positive, not {list(self.omegas)}")

    def __call__(self, share):
        for (begin, first), (end, last) in zip(self._points, self._points[1:], strict=False):
            if share < end:
                return first + (last - first) * (share - begin) / (end - begin)
        return self.omegas[-1]

    @property
    def _points(self):
        return [*zip(self.shares, self.omegas, strict=True)]


# The quantizer ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spiking:
    """How activities become counts of spikes.

    Parameters
    ----------
    omega : a schedule
        ω, spikes for an activity of 1, over the share (0 to 1) of training in floats that is done
    rounding : "diffused" or "stochastic"
        v goes on from time step to time step, beginning anywhere in 0 to 1 while training, else with 0; or each time
        step is by itself, and |n| = ⌊ω·|a|⌋, or one more with what is left as the probability
    """

    omega: Constant | Linear | Geometric | Cosine | Points = field(default_factory=lambda: Geometric(32.0, 1.0))
    rounding: str = "diffused"

    def __post_init__(self):
        if self.rounding not in ROUNDINGS:
            raise SpikeloomError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {self.rounding!r}")


class Quantizer(nn.Module):
    """A `Spiking` at work, with its ω of the moment (``omega``, a buffer)."""

    def __init__(self, spiking):
        super().__init__()
        self.spiking = spiking
        self.register_buffer("omega", torch.tensor(float(spiking.omega(0.0)), dtype=torch.float64))

    def progress(self, share):
        """So much of the training in floats (0 to 1) is done."""
        self.omega.fill_(self.spiking.omega(share))

    @property
    def settled(self):
        """Whether ω is what it is going to be in the end."""
        return self.omega.item() == self.spiking.omega(1.0)

    def residual(self, like):
        """The v (batch, neurons) before the first time step, for activities ``like`` (batch, neurons). As nothing but
        sums of activities may change it, it is float64."""
        options = {"dtype": torch.float64, "device": like.device}
        return torch.rand(like.shape, **options) if self.training else torch.zeros(like.shape, **options)

    def stepper(self):
        """A function (a, v, out) that writes to ``out`` what is sent for the activities ``a`` (batch, neurons) of one
        time step, and makes v, in place, that of the next; it passes no gradient on."""
        omega = self.omega.item()
        if self.spiking.rounding == "stochastic":
            return lambda a, v, out: out.uniform_().add_(a.abs(), alpha=omega).floor_().mul_(a.sign()).div_(omega)

        def step(a, v, out):
            n = v.add_(a, alpha=omega).floor()
            v.sub_(n)
            out.copy_(n.div_(omega))

        return step

    def forward(self, a, v=None):
        """What is sent, n/ω, for activities ``a`` (time steps, batch, neurons), of that shape, and the v that is left;
        the gradient of what is sent is that of the activities."""
        return _Sent.apply(a, self.residual(a[0]) if v is None else v, self)


class ActivityLayer(nn.Module):
    """What layers have in common whose neurons have activities, learnt in floats, and no threshold.

    They are layers of a `spikeloom.training.model.SpikingNetwork`, called on inputs (time steps, batch, n_in) of up to
    ``high``. What they send is (time steps, batch, size).

    Parameters
    ----------
    input_shape : (rows, columns, channels)
        the source's map
    size : int
        neurons
    high : float
        the largest input, which becomes 1
    name : str
    source : str, optional
        name of the layer (or "input") that feeds this one, by default the layer before

    Members: ``shape``, (1, 1, size); ``quantizers``, what makes spikes of activities, by what they are of.
    """

    attention = shortcut = gate = block_gate = pool = None
    weighted = gates = own_tensors = ()

    def __init__(self, input_shape, size, *, high=1.0, name="layer", source=None):
        super().__init__()
        self.input_shape, self.shape, self.high = tuple(input_shape), (1, 1, size), float(high)
        self.name, self.source = name, source
        self.n_in, self.quantizers = math.prod(self.input_shape), nn.ModuleDict()

    @property
    def branches(self):
        """The layer itself, as `spikeloom.network` would have it."""
        return (self,)

    def progress(self, share):
        """So much of the training in floats (0 to 1) is done."""
        for quantizer in self.quantizers.values():
            quantizer.progress(share)

    @property
    def settled(self):
        """Whether all ω are what they are going to be in the end."""
        return all(quantizer.settled for quantizer in self.quantizers.values())

    def sent(self, what, a, v):
        """Activities ``a`` as the quantizer of that name sends them, and its next v; or as they are."""
        return self.quantizers[what](a, v) if what in self.quantizers else (a, v)

    def size_of(self, name):
        """The natural size of a parameter, to which its rate is in proportion."""
        return 1.0

    def limit(self):
        """Nothing is clipped."""

    def _floats(self):
        return SpikeloomError(f"Layer {self.name} is trained in floats: its integers are those of the network that it "
                              "becomes")

    @torch.no_grad()
    def take(self, other):
        """Take the parameters of another layer, as `SpikingNetwork.take` says."""
        mine, its = ({name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
                     for layer in (self, other))
        if type(self) is not type(other) or mine != its:
            raise SpikeloomError(f"layer {other.name} has other weights than layer {self.name} needs")
        for name, parameter in other.named_parameters():
            self.get_parameter(name).copy_(parameter)

    def to_layers(self, source):
        """Integer layers that count as this one does, the last of them called like it, for what `Source` (of
        `spikeloom.training.integers`) comes in; ``unit`` says what an activity of 1 is then.

        Raises `SpikeloomError` where there are none.
        """
        raise SpikeloomError(f"Layer {self.name} is of kind {self.kind}, for which there is no integer network")

    def _diffused(self, what):
        """ω of the quantizer of that name, once it is known to be one for which there are integers."""
        if what not in self.quantizers:
            raise SpikeloomError(f"Layer {self.name}: what is sent of its {what} are no counts, so there is no integer "
                                 "network")
        if self.quantizers[what].spiking.rounding != "diffused":
            raise SpikeloomError(f"Layer {self.name}: its {what} is rounded by chance, so there is no integer network")
        return self.quantizers[what].omega.item()


class HybridDense(ActivityLayer):
    """A fully connected layer of activities; what it takes beside the following is said in `ActivityLayer`.

    Parameters
    ----------
    activation : ReLU, Tanh, Identity or LIFRate
        of the weighted sum of inputs plus a bias
    spiking : Spiking, optional
        how it is sent; by default as it is
    width : int
        bits of weights in the integer network
    entries : int
        of the table that is the activation there, where it is not linear

    Parameters (latents): ``weight`` (size, n_in), ``bias`` (size,).
    """

    kind = "hybrid"

    def __init__(self, input_shape, size, *, activation, spiking=None, width=8, entries=256, high=1.0, name="hybrid",
                 source=None):
        super().__init__(input_shape, size, high=high, name=name, source=source)
        self.activation, self.width, self.entries = activation, width, entries
        self.weight, self.bias = nn.Parameter(torch.empty(size, self.n_in)), nn.Parameter(torch.empty(size))
        if spiking:
            self.quantizers["activity"] = Quantizer(spiking)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator=None):
        """Draw the weights (Glorot); biases begin with 0."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        self.bias.zero_()

    def forward(self, z, *, time_steps=None, quantized=False, record=False):
        """What is sent (time steps, batch, size), and None, for inputs ``z`` (time steps, batch, n_in)."""
        if quantized:
            raise self._floats()
        a = self.activation(functional.linear(z / self.high, self.weight, self.bias))
        a = a.expand(time_steps or len(a), -1, -1)
        return self.sent("activity", a, None)[0], None

    @property
    def unit(self):
        return self.quantizers["activity"].omega.item()

    def to_layers(self, source):
        """One `spikeloom.network.Dense`."""
        omega, bias = self._diffused("activity"), integers.array(self.bias)
        terms = [integers.Term(source, integers.array(self.weight) / self.high, self.width)]
        options = {"bias": bias, "input_shape": self.input_shape}
        if isinstance(self.activation, Identity | ReLU):
            act = network.ReLU() if isinstance(self.activation, ReLU) else None
            return [integers.linear(self.name, terms, omega, act=act, **options)]
        return [integers.tabled(self.name, terms, omega, self.activation, self.activation.reach, entries=self.entries,
                                **options)]


class _Sent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, v, quantizer):
        sent, v, step = torch.empty_like(a), v.clone(), quantizer.stepper()
        for each, out in zip(a.unbind(), sent.unbind(), strict=True):
            step(each, v, out)
        ctx.mark_non_differentiable(v)
        return sent, v

    @staticmethod
    def backward(ctx, grad, _):
        return grad, None, None
