"""Quantizers: onto the grid, nearest, idempotent, and straight through."""

import numpy as np
import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.training import quantizers

ALL = [quantizers.Binary(), quantizers.Ternary(), *(quantizers.Integer(w) for w in range(2, 9)),
       *(quantizers.PowerOfTwo(w) for w in range(2, 5))]


@pytest.mark.parametrize("quantizer", ALL, ids=str)
def test_every_value_of_the_grid_stays_and_everything_lands_on_it(quantizer):
    grid = torch.from_numpy(np.unique(quantizer.format.values)).float()
    assert torch.equal(quantizer(grid), grid)
    corners = torch.tensor([0.0, -0.0, 1e9, -1e9, 0.5, -0.5])
    anything = torch.cat([torch.randn(500) * quantizer.span, corners])
    result = quantizer(anything)
    assert torch.isin(result, grid).all()
    assert torch.equal(quantizer(result), result)
    assert torch.isin(grid, quantizer(torch.linspace(-200, 200, 80001))).all()  # every value can be reached


@pytest.mark.parametrize("quantizer", [q for q in ALL if q.kind != "pot"], ids=str)
def test_the_nearest_value_is_taken(quantizer):
    grid = torch.from_numpy(np.unique(quantizer.format.values)).float()
    x = torch.randn(1000) * quantizer.span
    distance = (x[:, None] - grid).abs()
    assert torch.equal((quantizer(x) - x).abs(), distance.amin(1))


def test_powers_of_two_are_nearest_on_the_logarithmic_scale():
    x = torch.tensor([0.3, 0.5, 0.51, 1.4, 1.42, 2.8, 2.9, 5.6, 5.7, 90.0, 91.0, -3.0])
    expected = torch.tensor([0.0, 0, 1, 1, 2, 2, 4, 4, 8, 64, 64, -4])
    assert torch.equal(quantizers.PowerOfTwo(4)(x), expected)


@pytest.mark.parametrize("quantizer", [*ALL, quantizers.Rounded(), quantizers.Rounded(1),
                                       quantizers.RoundedPowerOfTwo()], ids=str)
def test_gradients_pass_straight_through(quantizer):
    x = (torch.randn(50) * 10).requires_grad_()
    weights = torch.randn(50)
    before = x.detach().clone()
    (quantizer(x) * weights).sum().backward()
    assert torch.equal(x.grad, weights)
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("quantizer", [*ALL, quantizers.Rounded(1), quantizers.RoundedPowerOfTwo()], ids=str)
def test_limiting_changes_no_integer(quantizer):
    x = torch.randn(500) * 300
    limited = x.clone()
    quantizer.limit(limited)
    assert torch.equal(quantizer(limited), quantizer(x))
    assert not torch.equal(limited, x)


def test_thresholds():
    x = torch.tensor([-3.0, 0.2, 1.6, 11.3, 12.0, 70000.0])
    assert quantizers.Rounded(1)(x).tolist() == [1, 1, 2, 11, 12, 70000]
    assert quantizers.Rounded()(x).tolist() == [-3, 0, 2, 11, 12, 70000]
    assert quantizers.RoundedPowerOfTwo()(x).tolist() == [1, 1, 2, 8, 16, 32768]


def test_exact_ones_do_nothing():
    x = torch.randn(5)
    quantizer = quantizers.Exact(quantizers.Ternary().format)
    quantizer.limit(x)
    assert quantizer(x) is x
    assert quantizer.format.kind == "ternary"


@pytest.mark.parametrize(("cls", "width"), [(quantizers.Integer, 1), (quantizers.Integer, 17),
                                            (quantizers.PowerOfTwo, 1), (quantizers.PowerOfTwo, 5)])
def test_impossible_widths_are_refused(cls, width):
    with pytest.raises(SpikeloomError, match=f"Width of {cls.kind} weights must be between .* not {width}"):
        cls(width)


# With a step ------------------------------------------------------------------------------------

SCALED = [*(quantizers.LearnedRange(w) for w in (2, 3, 4, 6, 8)), *(quantizers.SAWB(w) for w in (2, 3, 4, 6, 8)),
          quantizers.SAWB(4, "statistics"), quantizers.SAWB(8, "statistics"), quantizers.ThresholdTernary(),
          quantizers.ThresholdTernary(0.4), *(quantizers.SumOfSigmoids(w) for w in (1, 2, 3, 4)),
          quantizers.NormalizedBinary()]


def drawn(shape=(8, 5, 3, 3), seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.02


def started(quantizer, latent):
    made = quantizer.make()
    made.start(latent)
    return made.eval() if isinstance(made, torch.nn.Module) else made


def published(quantizer, w):
    """The quantized weights by the formulas as published, for float64 ``w``."""
    mean, std = np.abs(w).mean(), w.std()
    match quantizer:
        case quantizers.SumOfSigmoids(width=1):
            return mean * np.where(w >= 0, 1, -1)
        case quantizers.LearnedRange(width=width):  # a sum of steps is the same
            a = c = max(abs(w.mean() - 3 * std), abs(w.mean() + 3 * std))
            n = 2 ** (width - 1)
            return c * np.round(np.clip(w / a, -1, 1) * (n - 1)) / (n - 1)
        case quantizers.SAWB(width=width, alpha=alpha):
            z0, z1 = {4: (0.077, 1.013), 8: (0.027, 1.114)}.get(width, (None, None))
            clip = 2 * mean if alpha == "mean" else (std - z1 * mean) / z0
            n = 2 ** (width - 1) - 1
            return np.round(np.clip(w, -clip, clip) * n / clip) * clip / n
        case quantizers.ThresholdTernary(share=share):
            kept = np.abs(w) >= share * np.abs(w).max()
            return np.abs(w)[kept].mean() * np.sign(w) * kept
        case quantizers.NormalizedBinary():
            rows = w.reshape(len(w), -1)
            rows = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
            scale = 2 ** np.round(np.log2(np.abs(rows).mean(1, keepdims=True)))
            return (np.where(rows >= 0, 1, -1) * scale).reshape(w.shape)


def per_weight(step):
    return step.view(-1, 1, 1, 1) if torch.is_tensor(step) and step.dim() else step


@pytest.mark.parametrize("quantizer", SCALED, ids=str)
def test_step_times_integer_is_the_published_weight(quantizer):
    latent = drawn()
    made = started(quantizer, latent)
    integers = made(latent)
    assert torch.isin(integers, torch.from_numpy(quantizer.format.values)).all()
    np.testing.assert_allclose((per_weight(made.step(latent)) * integers).detach(),
                               published(quantizer, latent.double().numpy()), rtol=1e-5, atol=1e-7)
    most = 1 if quantizer.format.kind in ("binary", "ternary") else 2 ** (quantizer.width - 1) - 1
    far = made(torch.linspace(-9, 9, latent.numel()).view_as(latent))
    assert (far.min(), far.max()) == (-most, most)  # either sign has as many levels


@pytest.mark.parametrize("quantizer", SCALED, ids=str)
def test_latents_in_other_units_give_the_same_integers(quantizer):
    latent = drawn()
    one, other = started(quantizer, latent), started(quantizer, latent * 8)
    assert torch.equal(one(latent), other(latent * 8))
    ratio = 1 if quantizer.kind == "normalized_binary" else 8
    torch.testing.assert_close(torch.as_tensor(one.step(latent)) * ratio, torch.as_tensor(other.step(latent * 8)))


@pytest.mark.parametrize("quantizer", [q for q in SCALED if q.kind in ("sawb", "threshold_ternary")], ids=str)
def test_the_gradient_of_the_published_weight_is_the_latents(quantizer):
    latent, value = drawn().requires_grad_(), drawn(seed=2)
    (quantizer(latent) * quantizer.step(latent) * value).sum().backward()
    torch.testing.assert_close(latent.grad, value)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_a_learned_range_learns_by_the_clip_and_the_scale(width):
    """Gradients of c · round(clip(w / a) · (n - 1)) / (n - 1), with rounding as the identity, by hand."""
    latent, value = drawn().requires_grad_(), drawn(seed=2)
    made = quantizers.LearnedRange(width).make()
    made.start(latent)
    with torch.no_grad():
        made.a.mul_(0.4)
    integers = made(latent)
    (integers * made.step(latent) * value).sum().backward()
    w, a, c, most = latent.detach(), made.a.item(), made.c.item(), 2 ** (width - 1) - 1
    inside = w.abs() < a
    assert 0.1 < inside.float().mean() < 0.9
    torch.testing.assert_close(latent.grad, c / a * value * inside)
    torch.testing.assert_close(made.a.grad, (-c * w / a**2 * value * inside).sum())
    torch.testing.assert_close(made.c.grad, (integers.detach() * value / most).sum())


@pytest.mark.parametrize("width", [1, 2, 3])
def test_sums_of_sigmoids_become_steps(width):
    latent = drawn().requires_grad_()
    made = quantizers.SumOfSigmoids(width, 2.0, 1e4).make()
    made.start(latent)
    hard = made.eval()(latent)
    made.train()
    distances = []
    for share in (0.0, 0.5, 1.0):
        made.anneal(share)
        distances.append((made(latent) - hard).abs().mean().item())
    assert distances[0] > distances[1] > distances[2] and distances[2] < 1e-2
    made.anneal(0.0)
    made(latent).sum().backward()
    most = 2 ** (width - 1) - 1 or 1
    x = (latent.detach() / made.a.detach() * most).double()
    middles = [0.0] if width == 1 else np.arange(-most, most) + 0.5
    slope = sum(2 * torch.sigmoid(2 * (x - middle)) * torch.sigmoid(-2 * (x - middle)) for middle in middles)
    slope = slope * (2 if width == 1 else 1)
    torch.testing.assert_close(latent.grad, (slope * most / made.a.item()).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.a.grad, (-slope * x / made.a.item()).sum().float(), rtol=1e-4, atol=1e-3)
    assert made.c.grad is None  # it is in the step


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_gradient_of_a_normalized_sign_is_annealed(share):
    latent, value = drawn().requires_grad_(), drawn(seed=2)
    made = quantizers.NormalizedBinary().make()
    made.anneal(share)
    (made(latent) * value).sum().backward()
    t = 0.1 * 100**share
    other = latent.detach().clone().requires_grad_()
    rows = other.flatten(1)
    normal = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True, correction=0)
    (max(1 / t, 1) * torch.tanh(t * normal.view_as(other)) * value).sum().backward()
    torch.testing.assert_close(latent.grad, other.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.floats(latent).flatten(1), normal)


def test_weights_that_are_all_alike_do_no_harm():
    for quantizer in SCALED:
        for value in (0.0, 0.5):
            latent = torch.full((3, 2, 1, 1), value, requires_grad=True)
            made = started(quantizer, latent)
            integers = made(latent)
            assert torch.isin(integers, torch.from_numpy(quantizer.format.values)).all()
            assert torch.as_tensor(made.step(latent)).min() > 0
            if integers.requires_grad:
                integers.sum().backward()
                assert latent.grad.isfinite().all()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: quantizers.LearnedRange(1), "Width of learned weights must be between 2 and 8 bits, not 1"),
    (lambda: quantizers.SAWB(9), "Width of sawb weights must be between 2 and 8 bits, not 9"),
    (lambda: quantizers.SAWB(3, "statistics"), 'alpha "statistics" has fitted values for 4 and 8 bits, not for 3'),
    (lambda: quantizers.SAWB(4, "median"), "alpha must be mean or statistics, not 'median'"),
    (lambda: quantizers.ThresholdTernary(0.0), "share must lie between 0 and 1, not 0.0"),
    (lambda: quantizers.SumOfSigmoids(5), "Width of sigmoids weights must be between 1 and 4 bits, not 5"),
    (lambda: quantizers.NormalizedBinary(3.0, 2.0),
     "first and last must be positive, and last not below first, not 3.0 and 2.0")])
def test_what_a_scaled_kind_cannot_be(make, message):
    with pytest.raises(SpikeloomError) as error:
        make()
    assert str(error.value) == message
