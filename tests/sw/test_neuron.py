"""Gradients of the hand-written scan, against autograd through a graph built step by step."""

import itertools

import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import GradedSpike, NoLeak, ShiftLeak, Silent, Spike, TableLeak
from spikeloom.training import neuron as neurons
from spikeloom.training.membranes import Levels, Shared, Tanh, stored
from spikeloom.training.neuron import Neuron, scan
from spikeloom.training.surrogate import ATan, FastSigmoid, Sigmoid, Triangle

TABLE = TableLeak(tuple(v - v // 3 if v > 0 else v // 2 for v in range(-8, 8)))


MEMBRANES = (Levels(), Levels(-3, 1, shift=1), Levels(-1, 2, step=4, temperature=3.0), Shared(3), Tanh(3, 4))


class _Step(torch.autograd.Function):
    """``value`` forward; ``slope`` times the gradient backward."""

    @staticmethod
    def forward(ctx, x, value, slope):
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None, None


def by_autograd(current, threshold, neuron, time_steps, quantized):
    """The same recurrence as a graph, one node an operation; only the surrogates are put in by hand."""
    ones = torch.ones_like(current[0])
    v, spikes, membranes = torch.zeros_like(current[0]), [], []
    for t in range(time_steps):
        if isinstance(neuron.leak, ShiftLeak):
            leaked = v * (1 - 2.0**-neuron.leak.shift)
            if quantized:
                down = torch.floor(v.detach() * 2.0**-neuron.leak.shift)
                leaked = _Step.apply(leaked, v.detach() - down, ones)
        elif isinstance(neuron.leak, TableLeak):
            table = torch.tensor(neuron.leak.table, dtype=v.dtype)
            place = (v.detach() - neuron.v_min) / neuron.pitch
            index = place.floor().clamp(0, len(table) - 2).long()
            slope = table[index + 1] - table[index]
            leaked = _Step.apply(v, table[index] + slope * (place - index), slope / neuron.pitch)
        else:
            leaked = v
        u = leaked + current[t % len(current)]
        if isinstance(neuron.fire, Silent):
            z = torch.zeros_like(u)
        elif isinstance(neuron.fire, GradedSpike):
            ratio = u / threshold
            inside = (ratio.detach() >= neuron.fire.low) & (ratio.detach() < neuron.fire.high + 1)
            count = ratio.detach().floor().clamp(neuron.fire.low, neuron.fire.high)
            z = _Step.apply(ratio, count, inside * ones)
        else:
            scale = threshold.detach().abs().clamp(min=1)
            x = (u - threshold) / scale
            z = _Step.apply(x, (u.detach() >= threshold.detach()).to(u.dtype), neuron.surrogate(x.detach()))
        fed_back = z.detach() if neuron.detach_reset else z
        if neuron.reset == "subtract":
            v = u - threshold * fed_back
        elif neuron.reset == "zero" and isinstance(neuron.fire, GradedSpike):
            v = u * (z.detach() == 0)
        elif neuron.reset == "zero":
            v = u * (1 - fed_back)
        else:
            v = u
        if quantized and neuron.grid:
            slope = neuron.membrane.slope(v.detach(), threshold.detach())
            kept = stored(neuron.grid, v.detach(), threshold.detach())
            if neuron.grid.step is None:  # levels go with the threshold
                along = (kept - v.detach() * slope) / threshold.detach()
                v = _Step.apply(v, kept, slope) + _Step.apply(threshold.expand_as(v), torch.zeros_like(kept), along)
            else:
                v = _Step.apply(v, kept, slope)
        elif quantized:
            v = v.clamp(neuron.v_min, neuron.v_max)
        spikes.append(z)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("used", ["spikes", "membranes", "both"])
def test_gradients_equal_autograd(used, constant, quantized):
    torch.manual_seed(3)
    kinds = [*itertools.product((NoLeak(), ShiftLeak(2), TABLE), ("subtract", "zero", "none"),
                                (Spike(), GradedSpike(-2, 3), Silent()), (False, True), (None,)),
             *itertools.product((NoLeak(), ShiftLeak(1)), ("subtract", "zero"), (Spike(),), (False,), MEMBRANES),
             (TableLeak((-4, 0, 6, 8)), "zero", Spike(), False, Levels(-1, 2, step=4))]
    for leak, reset, fire, detach, membrane in kinds:
        neuron = Neuron(4, leak, reset, fire, ATan(), detach, membrane)
        current = torch.randint(-6, 8, (1 if constant else 5, 3, 4)).double()
        threshold = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.double)
        if not quantized:
            current += torch.rand_like(current)
        weights = torch.randn(2, 5, 3, 4, dtype=torch.double) * torch.tensor(
            {"spikes": [1.0, 0.0], "membranes": [0.0, 1.0], "both": [1.0, 1.0]}[used]).view(2, 1, 1, 1)
        results = []
        for run in (scan, by_autograd):
            i, theta = current.clone().requires_grad_(), threshold.clone().requires_grad_()
            if run is scan:
                spikes, membranes = scan(i, theta, neuron, time_steps=5, quantized=quantized)
            else:
                spikes, membranes = by_autograd(i, theta, neuron, 5, quantized)
            if used == "spikes":
                loss = (spikes * weights[0]).sum()
            elif used == "membranes":
                loss = (membranes * weights[1]).sum()
            else:
                loss = (spikes * weights[0] + membranes * weights[1]).sum()
            grads = (torch.zeros_like(i), torch.zeros_like(theta))
            if loss.requires_grad:
                seen = torch.autograd.grad(loss, (i, theta), allow_unused=True)
                grads = tuple(zero if grad is None else grad for zero, grad in zip(grads, seen, strict=True))
            results.append((spikes, membranes, *grads))
        names = ("spikes", "membranes", "gradient in current", "gradient in threshold")
        for name, one, other in zip(names, *results, strict=True):
            torch.testing.assert_close(one, other, msg=lambda m, n=name, k=neuron: f"{n} of {k}: {m}")


@pytest.mark.parametrize("surrogate", [ATan(), ATan(3.0), Sigmoid(), Triangle(), FastSigmoid()])
def test_surrogates_peak_at_the_threshold_and_are_even(surrogate):
    x = torch.linspace(-3, 3, 601, dtype=torch.double)
    y = surrogate(x)
    assert y.argmax() == 300
    torch.testing.assert_close(y, y.flip(0))
    assert (y >= 0).all()


@pytest.mark.parametrize(("surrogate", "at_zero", "area"), [
    (ATan(2.0), 1.0, 1.0), (Sigmoid(4.0), 1.0, 1.0), (Triangle(1.0), 1.0, 1.0), (FastSigmoid(5.0), 1.0, 0.4)])
def test_surrogates_have_the_published_height_and_area(surrogate, at_zero, area):
    x = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.double)
    y = surrogate(x.clone())
    assert surrogate(torch.zeros(1)).item() == at_zero
    assert abs(torch.trapezoid(y, x).item() - area) < 1e-3


def test_a_surrogate_needs_a_positive_parameter():
    with pytest.raises(SpikeloomError, match="Surrogate atan: alpha must be positive, not 0"):
        ATan(0)


@pytest.mark.parametrize(("options", "message"), [
    ({"v_width": 17}, "Membrane width must be between 2 and 16 bits, not 17"),
    ({"v_width": 4, "reset": "half"}, "Reset must be one of subtract, zero, none, not 'half'"),
    ({"v_width": 4, "leak": TableLeak((0,))}, "A leak table for 4-bit membranes must have 16 entries, not 1"),
])
def test_neuron_parameters_are_checked(options, message):
    with pytest.raises(SpikeloomError) as error:
        Neuron(**options)
    assert str(error.value) == message


def test_leaving_membranes_out_changes_nothing_else():
    current = torch.randint(-6, 8, (5, 3, 4)).double().requires_grad_()
    threshold = torch.full((4,), 3.0).double().requires_grad_()
    results = []
    for record in (True, False):
        spikes, membranes = scan(current, threshold, Neuron(4, ShiftLeak(2)), record=record)
        assert (membranes is None) == (not record)
        results.append((spikes, *torch.autograd.grad(spikes.square().sum(), (current, threshold))))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("constant", [True, False])
def test_parts_of_a_batch_are_the_whole(constant, monkeypatch):
    torch.manual_seed(5)
    current = torch.randint(-6, 8, (1 if constant else 5, 7, 4)).double().requires_grad_()
    threshold = torch.full((4,), 3.0).double().requires_grad_()
    value, results = torch.randn(2, 5, 7, 4, dtype=torch.double), []
    for part_values in (neurons.PART_VALUES, 5 * 4 * 3, 1):
        monkeypatch.setattr(neurons, "PART_VALUES", part_values)
        assert len(neurons.parts(value[0])) == {1: 7, 60: 3}.get(part_values, 1)
        spikes, membranes = scan(current, threshold, Neuron(4, ShiftLeak(2)), time_steps=5)
        loss = (spikes * value[0] + membranes * value[1]).sum()
        results.append((spikes, membranes, *torch.autograd.grad(loss, (current, threshold))))
    for parted in results[1:]:
        for one, other in zip(results[0], parted, strict=True):
            assert one.abs().sum() > 0
            torch.testing.assert_close(one, other)


def test_a_neuron_that_never_spiked_still_learns():
    current = torch.full((3, 1, 1), 2.0, requires_grad=True)
    threshold = torch.tensor([30.0], requires_grad=True)
    spikes, _ = scan(current, threshold, Neuron(8))
    spikes.sum().backward()
    assert spikes.sum() == 0
    assert (current.grad > 0).all()
    assert threshold.grad < 0


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_threshold_that_learns_from_spikes_alone(reset):
    """-Σ over spikes of g·tri(x)·σ(x), x the distance in thresholds; what a reset subtracts reaches it as before."""
    torch.manual_seed(6)
    theta, u = torch.tensor([4.0, 2.0]).double(), torch.randint(-3, 9, (1, 50, 2)).double()
    value = torch.randn(2, 1, 50, 2, dtype=torch.double)
    neuron = Neuron(8, reset=reset, surrogate=Triangle(), detach_reset=True, threshold_gradient="fired")
    threshold = theta.clone().requires_grad_()
    spikes, membranes = scan(u, threshold, neuron)
    found, = torch.autograd.grad((spikes * value[0] + membranes * value[1]).sum(), threshold)
    x = u / theta - 1
    gradient = value[0] * (1 - x.abs()).clamp(min=0) / theta * torch.sigmoid(x) * (u >= theta)
    if reset == "subtract":
        gradient += value[1] * (u >= theta)
    torch.testing.assert_close(found, -gradient.sum((0, 1)))
