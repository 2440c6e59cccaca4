"""Activities as counts of spikes: what is never lost, both limits, gradients, schedules."""

import math

import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.training import hybrid
from spikeloom.training.hybrid import (
    Constant,
    Cosine,
    Geometric,
    HybridDense,
    Identity,
    LIFRate,
    Linear,
    Points,
    Quantizer,
    ReLU,
    Spiking,
    Tanh,
)

ACTIVATIONS = [ReLU(), Tanh(), Identity(), LIFRate()]


def quantizer(omega, rounding="diffused"):
    return Quantizer(Spiking(Constant(omega), rounding)).eval()


def fractions(*shape, bits=12):
    """Numbers of so many bits behind the point, whose sums are exact."""
    return torch.randint(-2**bits, 2**bits + 1, shape).float() / 2**bits


@pytest.mark.parametrize("omega", [0.25, 1.0, 3.0, 8.0, 1024.0])
@pytest.mark.parametrize("training", [False, True])
def test_no_sum_is_ever_further_off_than_a_spike(omega, training):
    torch.manual_seed(1)
    a = fractions(500, 2, 30)
    sent, v = quantizer(omega).train(training)(a)
    n = (sent.double() * omega).round()
    assert torch.equal((n / omega).float(), sent)  # counts
    off = n.cumsum(0) - omega * a.double().cumsum(0)  # exact
    assert off.abs().max() < 1
    if not training:  # v0 = 0, so that what is sent lags behind
        assert off.max() <= 0
        assert torch.equal(v, -off[-1])
    assert ((v >= 0) & (v < 1)).all()


def test_counts_are_the_floor_of_what_came_in():
    a = torch.tensor([0.4, 0.4, 0.4, -0.4, -0.9, 0.0, 1.0])[:, None, None]
    sent, v = quantizer(2.0)(a)
    assert (sent.flatten() * 2).tolist() == [0, 1, 1, -1, -2, 0, 2]
    assert torch.allclose(v, torch.tensor(0.8, dtype=torch.float64))


def test_small_steps_make_spikes_and_large_ones_the_activity():
    torch.manual_seed(2)
    a = torch.randn(100, 3, 20).tanh()
    assert set(quantizer(1.0)(a)[0].unique().tolist()) == {-1, 0, 1}
    assert set(quantizer(1.0)(a.abs())[0].unique().tolist()) == {0, 1}
    sent, _ = quantizer(2.0**40)(a)
    assert (sent - a).abs().max() <= 2.0**-24


@pytest.mark.parametrize("omega", [0.5, 2.0, 5.0])
def test_chance_is_fair(omega):
    torch.manual_seed(3)
    a = fractions(1, 1, 20).expand(20000, -1, -1)
    stochastic = quantizer(omega, "stochastic")
    n = (stochastic(a)[0].double() * omega).round()
    whole = (a.abs() * omega).floor()
    assert torch.isin(n.abs() - whole, torch.tensor([0.0, 1.0], dtype=torch.float64)).all()
    assert (n * a.sign() >= 0).all()
    assert ((n.mean(0) - omega * a[0]).abs() < 5 * 0.5 / 20000**0.5).all()
    assert not torch.equal(stochastic(a)[0], stochastic(a)[0])


@pytest.mark.parametrize("rounding", hybrid.ROUNDINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.kind)
def test_the_gradient_is_the_activations_own(activation, rounding):
    x = torch.randn(12, 3, 10, requires_grad=True)
    weight = torch.randn(12, 3, 10)
    wanted, = torch.autograd.grad((activation(x) * weight).sum(), x)
    sent, _ = quantizer(1.5, rounding).train()(activation(x))
    found, = torch.autograd.grad((sent * weight).sum(), x)
    assert torch.equal(found, wanted)


def test_rates_of_neurons_are_theirs():
    rate = LIFRate(tau=20.0, refractory=2.0, smooth=1e-3)
    j = torch.tensor([1.2, 2.0, 5.0], dtype=torch.float64)
    assert torch.allclose(rate(j), 2 / (2 + 20 * torch.log(1 + 1 / (j - 1))))
    x = torch.linspace(-50, 50, 1001, requires_grad=True)
    y = LIFRate()(x)
    slope, = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(slope).all()
    assert (slope >= 0).all()
    assert 0 <= y[0] < 0.002
    assert 0.8 < y[-1] < 1


@pytest.mark.parametrize(("schedule", "wanted"), [
    (Constant(3.0), [3.0, 3.0, 3.0, 3.0]),
    (Linear(9.0, 1.0, 0.5), [9.0, 5.0, 1.0, 1.0]),
    (Geometric(16.0, 1.0, 0.5), [16.0, 4.0, 1.0, 1.0]),
    (Cosine(16.0, 2.0, 0.5), [16.0, 9.0, 2.0, 2.0]),
    (Points((0.0, 0.5, 0.75), (8.0, 4.0, 1.0)), [8.0, 6.0, 4.0, 1.0])])
def test_schedules(schedule, wanted):
    assert [schedule(share) for share in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(wanted)
    scheduled = Quantizer(Spiking(schedule))
    assert scheduled.omega == wanted[0]
    assert scheduled.settled == (wanted[0] == wanted[-1])
    scheduled.progress(1.0)
    assert scheduled.omega.item() == schedule(1.0)
    assert scheduled.settled


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Constant(0.0), "constant: value must be positive, not 0.0"),
    (lambda: Linear(1.0, math.inf), "linear: last must be positive, not inf"),
    (lambda: Cosine(1.0, 2.0, 0.0), "cosine: until must lie above 0 and up to 1, not 0.0"),
    (lambda: Points((0.0, 0.5), (1.0,)), "points: shares and omegas must be as many, and at least one, not 2 and 1"),
    (lambda: Points((0.5, 0.0), (1.0, 2.0)), "points: shares must increase from 0 to at most 1, not be [0.5, 0.0]"),
    (lambda: Points((0.0,), (-1.0,)), "points: omegas must be positive, not [-1.0]"),
    (lambda: LIFRate(tau=-1.0), "lif_rate: tau must be positive, not -1.0"),
    (lambda: Spiking(rounding="up"), "rounding must be one of diffused, stochastic, not 'up'")])
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SpikeloomError) as error:
        make()
    assert str(error.value) == message


def test_a_layer_that_hardly_rounds_is_the_layer_that_does_not():
    torch.manual_seed(4)
    for activation in ACTIVATIONS:
        plain = HybridDense((1, 1, 6), 5, activation=activation, high=3.0)
        spiking = HybridDense((1, 1, 6), 5, activation=activation, high=3.0, spiking=Spiking(Constant(2.0**30)))
        spiking.take(plain)
        z = torch.randint(0, 4, (7, 2, 6)).float()
        wanted, found = plain(z)[0], spiking(z)[0]
        assert wanted.shape == (7, 2, 5)
        assert (found - wanted).abs().max() < 1e-6
        constant, _ = plain(z[:1], time_steps=4)
        assert torch.equal(constant, plain(z[:1].expand(4, -1, -1))[0])


def test_activities_have_no_quantized_phase():
    layer = HybridDense((1, 1, 2), 3, activation=ReLU(), name="first")
    with pytest.raises(SpikeloomError) as error:
        layer(torch.zeros(1, 1, 2), quantized=True)
    assert str(error.value) == ("Layer first is trained in floats: its integers are those of the network that it "
                                "becomes")
