"""Quantizers: onto the grid, nearest, idempotent, and straight through."""

import numpy as np
import pytest
import torch
from spikeloom import quantizers
from spikeloom.errors import SpikeloomError

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


@pytest.mark.parametrize(("cls", "width"), [(quantizers.Integer, 1), (quantizers.Integer, 9),
                                            (quantizers.PowerOfTwo, 1), (quantizers.PowerOfTwo, 5)])
def test_impossible_widths_are_refused(cls, width):
    with pytest.raises(SpikeloomError, match=f"Width of {cls.kind} weights must be between .* not {width}"):
        cls(width)
