"""Legendre memory units: held to their equations one by one, in every form and by every way to compute them."""

import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import FullLeak, InputFormat, Silent
from spikeloom.training.hybrid import Constant, HybridDense, ReLU, Spiking
from spikeloom.training.layers import SpikingDense
from spikeloom.training.lmu import LMU, filtered, legendre
from spikeloom.training.model import SpikingNetwork
from spikeloom.training.neuron import Neuron
from spikeloom.training.quantizers import Integer
from spikeloom.training.synapses import SpikingBranch

ORDER, WINDOW, SIZE, STEPS = 6, 12.0, 7, 30
COUNTS = Spiking(Constant(2.0))


def test_the_memory_holds_the_last_of_its_inputs():
    """A slow input can be read from it by Legendre polynomials, at any time within the window."""
    t = torch.arange(400, dtype=torch.float64)
    u = torch.sin(t / 23) + 0.3 * torch.cos(t / 31)
    window = 60.0
    m = filtered(u[:, None], 12, window)[-1, 0]
    ago = torch.arange(1, 59)
    x = 2 * (ago.double() + 0.5) / window - 1  # zero-order hold: an input counts at the middle of its step
    polynomials = [torch.ones_like(x), x]
    for i in range(1, 11):
        polynomials.append(((2 * i + 1) * x * polynomials[-1] - i * polynomials[-2]) / (i + 1))
    read = sum(coefficient * polynomial for coefficient, polynomial in zip(m, polynomials, strict=True))
    assert (read - u[-1 - ago]).abs().max() < 0.02


def test_zero_order_hold():
    a, b = legendre(1, 10.0)  # dm/dt = (u - m) / 10
    assert a.item() == pytest.approx(torch.tensor(-0.1).exp().item())
    assert b.item() == pytest.approx(1 - a.item())


@pytest.mark.parametrize("begin", [0, 11])
def test_both_ways_to_filter_are_the_same(begin):
    """And their gradients."""
    torch.manual_seed(1)
    weight = torch.randn(STEPS - begin, 3, ORDER, dtype=torch.float64)
    found = []
    for fourier in (False, True):
        u = torch.linspace(-1, 1, STEPS * 3, dtype=torch.float64).reshape(STEPS, 3).requires_grad_()
        m = filtered(u, ORDER, WINDOW, begin, fourier)
        gradient, = torch.autograd.grad((m * weight).sum(), u)
        found.append((m, gradient))
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-12
    in_floats = [filtered(u.detach().float(), ORDER, WINDOW, begin, fourier) for fourier in (False, True)]
    assert (in_floats[0] - in_floats[1]).abs().max() < 2e-6


def by_the_equations(layer, x):
    """What `LMU` says, time step by time step, differentiated by PyTorch."""
    a, b = (each.to(x) for each in legendre(layer.order, layer.window))
    m = sent = v_m = x.new_zeros(x.shape[1], layer.order)
    h = v_h = x.new_zeros(x.shape[1], layer.shape[2])
    hs, ms = [], []

    def counted(what, activity, v):
        if what not in layer.quantizers:
            return activity, v
        v = v + 2.0 * activity.detach()
        return activity + (v.floor() / 2.0 - activity).detach(), v - v.floor()

    for step in x / layer.high:
        u = step @ layer.input_encoder
        if layer.hidden_encoder is not None:
            u = u + h @ layer.hidden_encoder + sent @ layer.memory_encoder
        m = (m if layer.exact else sent) @ a.T + u[:, None] * b
        sent, v_m = counted("memory", m, v_m)
        current = step @ layer.input_weight.T + sent @ layer.memory_weight.T
        if layer.hidden_weight is not None:
            current = current + h @ layer.hidden_weight.T
        h, v_h = counted("hidden", current.tanh(), v_h)
        hs.append(h)
        ms.append(sent)
    return torch.stack(hs), torch.stack(ms)


def layer_of(n_in=2, scale=0.3, **options):
    torch.manual_seed(2)
    layer = LMU((1, 1, n_in), SIZE, order=ORDER, window=WINDOW, high=3.0, **options).double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return layer


def results(layer, x, run):
    """What comes out, and a gradient for each parameter."""
    layer.zero_grad()
    h, m = run(x)
    ((h[-12:] ** 2).sum() + m[-5:].sum()).backward()
    return [h.detach(), m.detach(), *(parameter.grad.clone() for parameter in layer.parameters())]


FORMS = [(n_in, hidden, memory, exact, feedback, recurrent)
         for n_in in (1, 2) for hidden, memory in ((None, None), (COUNTS, None), (None, COUNTS), (COUNTS, COUNTS))
         for exact in (True, False) for feedback in (False, True) for recurrent in (False, True)]


@pytest.mark.parametrize(("n_in", "hidden", "memory", "exact", "feedback", "recurrent"), FORMS)
def test_every_form_follows_the_equations(n_in, hidden, memory, exact, feedback, recurrent):
    layer = layer_of(n_in, hidden=hidden, memory=memory, exact=exact, feedback=feedback, recurrent=recurrent)
    assert layer.linear == (not feedback and (exact or memory is None))
    x = torch.randint(0, 4, (STEPS, 3, n_in)).double()
    wanted = results(layer, x, lambda x: by_the_equations(layer, x))
    for segment in (0, 7):
        layer.segment = segment
        found = results(layer, x, lambda x: layer(x, record=True))
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() < 1e-9


@pytest.mark.parametrize("feedback", [False, True])
def test_what_was_before_can_be_taken_as_given(feedback):
    """Truncated back-propagation: the same output, gradients as if the state had come as a constant."""
    layer = layer_of(feedback=feedback, recurrent=True, hidden=COUNTS)
    x = torch.randint(0, 4, (STEPS, 3, 2)).double()
    whole, _ = layer(x)
    layer.truncate = 10
    parts, _ = layer(x)
    assert torch.equal(parts, whole)
    before, = torch.autograd.grad(parts[:-10].sum(), layer.hidden_weight, retain_graph=True)
    assert (before == 0).all()
    parts[-10:].sum().backward()
    truncated = layer.hidden_weight.grad.clone()
    layer.zero_grad()
    whole[-10:].sum().backward()
    assert torch.isfinite(truncated).all()
    assert not torch.allclose(truncated, layer.hidden_weight.grad)


def test_neurons_that_begin_late_are_those_that_began_early():
    """Without quantizers and recurrence, where the memory is all that lasts."""
    x = torch.randint(0, 4, (STEPS, 3, 2)).double()
    layer = layer_of().train()
    wanted = results(layer, x, lambda x: [each[-12:] for each in layer(x, record=True)])
    layer.late = 12
    found = results(layer, x, lambda x: layer(x, record=True))
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-12
    assert len(layer.eval()(x)[0]) == STEPS  # once it is trained, nothing is late


@pytest.mark.parametrize("late", [1, 12, STEPS])
def test_all_that_late_neurons_feed_is_late(late):
    """And what else feeds that is heard from then on."""
    beside, late_one = (layer_of(name=name, source="input", late=steps).float() for name, steps in
                        (("beside", 0), ("late", late)))
    after = HybridDense((1, 1, SIZE), 4, activation=ReLU(), name="after")
    out = SpikingDense(4, 3, Neuron(16, FullLeak(), "none", Silent()), name="output", weights=Integer(8),
                       others=[SpikingBranch("beside", SIZE, 3, weights=Integer(8))])
    model = SpikingNetwork(InputFormat(2, 2), [beside, late_one, after, out], STEPS, "membrane")
    x = torch.randint(0, 4, (3, STEPS, 2))
    wanted = model.eval()(x, quantized=False)[1][-1]
    found = model.train()(x, quantized=False)[1][-1]
    assert found.shape == (late, 3, 3)
    assert (found - wanted[-late:]).abs().max() < 1e-3  # of some tens


def test_late_neurons_need_a_filter():
    for options in ({"feedback": True}, {"memory": COUNTS, "exact": False}):
        with pytest.raises(SpikeloomError) as error:
            layer_of(late=5, **options)
        assert str(error.value) == ("Layer lmu: late is for a memory that is a filter of the input, not with feedback "
                                    "or a spiking memory that is not exact")


def test_segments_keep_chance_the_same():
    """What is computed again rounds as it did the first time."""
    layer = layer_of(hidden=Spiking(Constant(2.0), "stochastic"), memory=Spiking(Constant(2.0), "stochastic"),
                     feedback=True, recurrent=True).train()
    x = torch.randint(0, 4, (STEPS, 3, 2)).double()
    found = []
    for segment in (STEPS, 7):
        layer.segment = segment
        torch.manual_seed(3)
        found.append(results(layer, x, lambda x: layer(x, record=True)))
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < 1e-9


def test_it_starts_as_published():
    layer = LMU((1, 1, 1), 212, order=256, window=784.0, feedback=True, recurrent=True)
    assert layer.input_encoder.abs() == 1
    for name in ("input_weight", "hidden_weight", "hidden_encoder", "memory_encoder"):
        assert (getattr(layer, name) == 0).all()
    assert layer.memory_weight.std().item() == pytest.approx((2 / (212 + 256)) ** 0.5, rel=0.02)
    trained = sum(parameter.numel() for parameter in layer.parameters()) + 212 * 10 + 10  # and the classifier's
    assert trained == 102_027
