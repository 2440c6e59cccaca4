"""Membranes that are rounded when they are stored: levels as published, and slopes by formula."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import Grid
from spikeloom.training.membranes import MEMBRANES, Levels, Shared, Tanh, steps, stored

U = np.arange(-70, 71)


def kept(membrane, threshold):
    """What `U` is stored as, by the integer network's rule."""
    return membrane.grid.value(membrane.grid.level(U, threshold), threshold)


@pytest.mark.parametrize("threshold", [1, 4, 7, 16])
def test_ternary_levels_are_the_threshold_its_negative_and_zero(threshold):
    """Q(u) = the nearest of -1, 0, 1 to clip(u, -1, 1), of two the lower, in units of the threshold (SpQuant-SNN)."""
    assert Levels().grid == Grid(-1, 1) and Levels().grid.width == 2
    nearest = np.clip(np.ceil(U / threshold - 0.5), -1, 1)
    assert (kept(Levels(), threshold) == nearest * threshold).all()


def test_wider_grids_of_the_paper():
    assert [Levels(low, high).grid.width for low, high in ((-3, 1), (-2, 1))] == [3, 2]
    chip = Levels(-16, 7, shift=3)  # an eighth of the threshold apart, from -2 to below 1
    assert chip.grid.width == 5
    nearest = np.clip(np.ceil(U / 2 - 0.5), -16, 7)
    assert (kept(chip, 16) == 2 * nearest).all()
    assert (kept(chip, 12) == np.floor(1.5 * np.clip(np.ceil(U / 1.5 - 0.5), -16, 7))).all()


def test_tanh_rounds_what_tanh_makes_of_a_potential():
    for width, unit in ((2, 5), (4, 12), (8, 400)):
        membrane, half = Tanh(width, unit), 2 ** (width - 1) - 1
        u = np.arange(-4 * unit, 4 * unit + 1)
        level = np.floor(half * np.tanh(u / unit) + 0.5)
        assert (membrane.grid.level(u, None) == level).all()
        assert membrane.grid.value(half, None) == pytest.approx(unit, abs=half / 2)


def test_a_shared_scale_counts_steps_of_the_weights():
    assert Shared(2).grid == Grid(-1, 1, 1) and Shared(8).grid == Grid(-127, 127, 1)
    assert (kept(Shared(4), 9) == np.clip(U, -7, 7)).all()


@pytest.mark.parametrize("membrane", [Levels(), Levels(-3, 1, shift=1), Levels(-2, 3, step=5), Levels(-4, 4, step=1),
                                      Shared(3), Tanh(4, 9)])
def test_torch_stores_what_the_integer_network_does(membrane):
    threshold = torch.tensor([1.0, 3.0, 8.0])
    seen = stored(membrane.grid, torch.tensor(U).float()[:, None].expand(-1, 3).contiguous(), threshold)
    assert seen.dtype == torch.float32
    for column, theta in enumerate(threshold.int().tolist()):
        assert (seen[:, column].numpy() == kept(membrane, theta)).all()


def test_the_stacked_surrogate_is_that_of_sigmoids_at_the_mid_points():
    """Its integral is a stair of sigmoids, a step for each mid-point."""
    x = torch.linspace(-30, 30, 4001, dtype=torch.double, requires_grad=True)
    for membrane, threshold in ((Levels(), 4.0), (Levels(-3, 1, shift=1, temperature=5.0), 6.0),
                                (Levels(-1, 2, step=3), 9.0), (Levels(-32, 16, shift=4), 20.0),
                                (Levels(-12, 12, step=1, temperature=3.0), 9.0)):
        step = steps(membrane.grid, threshold)
        middle = torch.arange(membrane.low, membrane.high, dtype=torch.double) + 0.5
        stair = step * torch.sigmoid(membrane.temperature * (x[:, None] / step - middle)).sum(1)
        slope, = torch.autograd.grad(stair.sum(), x)
        torch.testing.assert_close(membrane.slope(x.detach(), threshold), slope)
    at_a_middle = Levels().slope(torch.tensor([2.0]), 4.0).item()
    assert at_a_middle == pytest.approx(2 * (1 / 4 + math.exp(-2) / (1 + math.exp(-2)) ** 2))


def test_other_slopes():
    v = torch.tensor([-9.0, -7.0, 0.0, 7.0, 8.0])
    assert Shared(4).slope(v, None).tolist() == [0, 1, 1, 1, 0]
    torch.testing.assert_close(Tanh(4, 8).slope(v, None), 1 - torch.tanh(v / 8) ** 2)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Levels(temperature=0.0), "Membrane levels: temperature must be positive, not 0.0"),
    (lambda: Levels(low=1),
     "A membrane grid's levels must hold 0, be three or more, and lie within -32768 to 32767, not 1 to 1"),
    (lambda: Shared(1), "Membrane shared: width must be between 2 and 16 bits, not 1"),
    (lambda: Tanh(9), "Membrane tanh: width must be between 2 and 8 bits, not 9"),
    (lambda: Tanh(8, 8), "Membrane tanh: unit must be between 127, so that 8 bits make a difference, and 32767, not 8"),
])
def test_mistakes_are_told(make, message):
    with pytest.raises(SpikeloomError) as caught:
        make()
    assert str(caught.value) == message


def test_the_documentation_names_every_kind():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = page.split("## Membranes")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(MEMBRANES)
