"""Gradients of the hand-written scan, against autograd through a graph built step by step."""

import itertools

import pytest
import torch
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    FullLeak,
    GradedSpike,
    NoLeak,
    ReLU,
    ShiftLeak,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
)
from spikeloom.training import scan as scans
from spikeloom.training.membranes import Levels, Shared, Tanh, stored
from spikeloom.training.neuron import Adapting, Neuron
from spikeloom.training.scan import States, advance, scan
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


def leaked(leak, v, lowest, pitch, quantized):
    if isinstance(leak, ShiftLeak):
        left = v * (1 - 2.0**-leak.shift)
        if quantized:
            down = torch.floor(v.detach() * 2.0**-leak.shift)
            left = _Step.apply(left, v.detach() - down, torch.ones_like(v))
        return left
    if isinstance(leak, TableLeak):
        table = torch.tensor(leak.table, dtype=v.dtype)
        place = (v.detach() - lowest) / pitch
        index = place.floor().clamp(0, len(table) - 2).long()
        slope = table[index + 1] - table[index]
        return _Step.apply(v, table[index] + slope * (place - index), slope / pitch)
    return v * 0 if isinstance(leak, FullLeak) else v


def activated(act, i, quantized):
    if isinstance(act, ReLU):
        return torch.relu(i)
    if act is None:
        return i
    table = torch.tensor(act.table, dtype=i.dtype)
    place = (i.detach() / 2**act.shift + len(table) // 2)
    index = place.floor().clamp(0, len(table) - 2).long()
    slope = (table[index + 1] - table[index]) * (place >= 0) * (place < len(table) - 1)
    place = place.clamp(0, len(table) - 1)
    value = table[place.long()] if quantized else table[index] + (table[index + 1] - table[index]) * (place - index)
    return _Step.apply(i, value, slope / 2**act.shift)


def by_autograd(current, threshold, neuron, time_steps, quantized, step=None, recurrent=(), opened=None):
    """The same recurrence as a graph, one node an operation; only the surrogates are put in by hand."""
    ones, base = torch.ones_like(current[0]), threshold
    v, j, a = (torch.zeros_like(current[0]) for _ in range(3))
    spikes, membranes = [], []
    for t in range(time_steps):
        i = current[t % len(current)]
        for weights, delay in recurrent:
            i = i + spikes[t - delay] @ weights.t() if t >= delay else i
        i = activated(neuron.act, i, quantized)
        if neuron.current:
            low, high = neuron.current.bounds
            i = i + leaked(neuron.current.leak, j, low, 1, quantized)
            j = i.clamp(low, high) if quantized else i
        threshold = base + a if neuron.adaptation else base
        u = leaked(neuron.leak, v, neuron.v_min, neuron.pitch, quantized) + i
        u = u if opened is None else u * opened[t]
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
            slope = neuron.membrane.slope(v.detach(), base.detach())
            kept = stored(neuron.grid, v.detach(), base.detach())
            if neuron.grid.step is None:  # levels go with the threshold
                along = (kept - v.detach() * slope) / base.detach()
                v = _Step.apply(v, kept, slope) + _Step.apply(base.expand_as(v), torch.zeros_like(kept), along)
            else:
                v = _Step.apply(v, kept, slope)
        elif quantized:
            v = v.clamp(neuron.v_min, neuron.v_max)
        if neuron.adaptation:
            low, high = neuron.adaptation.bounds
            a = leaked(neuron.adaptation.leak, a, low, 1, quantized) + step * z
            a = a.clamp(low, high) if quantized else a
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


DYNAMICS = [
    {"act": ReLU()}, {"act": TableActivation((-5, -2, 0, 4), 2)}, {"current": SynapticCurrent(4, ShiftLeak(1))},
    {"act": ReLU(), "current": SynapticCurrent(4, TABLE)}, {"adaptation": Adapting(4, ShiftLeak(2))},
    {"adaptation": Adapting(4, TABLE), "reset": "zero", "membrane": Levels()},
    {"adaptation": Adapting(3, NoLeak()), "current": SynapticCurrent(5, FullLeak()), "reset": "none",
     "act": TableActivation((-5, -2, 0, 4), 2), "leak": FullLeak()},
    {"fire": GradedSpike(-2, 3), "act": ReLU(), "current": SynapticCurrent(4, NoLeak())}, {},
    {"adaptation": Adapting(4, ShiftLeak(1)), "detach_reset": True}, {"fire": GradedSpike(-2, 3), "reset": "zero"}]


def gradients(run, inputs, quantized):
    """What a ``run`` of leaves like ``inputs`` gives, with a loss on all of it, and its gradients."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    found = run(*leaves)
    torch.manual_seed(8)
    loss = sum((each * torch.randn_like(each)).sum() for each in found)
    return *found, *(torch.zeros_like(leaf) if grad is None else grad
                     for leaf, grad in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True))


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("time_steps", [0, 6])  # 0: a current that is constant over 6
@pytest.mark.parametrize("delays", [(), (1,), (2, 9, 1)])
def test_gradients_through_states_and_recurrence_equal_autograd(delays, time_steps, quantized):
    for fields in DYNAMICS:
        torch.manual_seed(4)
        neuron = Neuron(**{"v_width": 4, "leak": ShiftLeak(2)} | fields)
        current = torch.randint(-6, 9, (time_steps or 1, 3, 4)).double()
        threshold, step = torch.tensor([[1, 2, 4, 8], [1, -1, 2, 0]]).double()
        weights = [torch.randint(-2, 3, (4, 4)).double() for _ in delays]
        if not quantized:
            current += torch.rand_like(current)

        def scanned(current, threshold, step, *weights, neuron=neuron):
            return scan(current, threshold, neuron, step=step, recurrent=[*zip(weights, delays, strict=True)],
                        time_steps=6, quantized=quantized)

        def graphed(current, threshold, step, *weights, neuron=neuron):
            return by_autograd(current, threshold, neuron, 6, quantized, step, [*zip(weights, delays, strict=True)])

        inputs = current, threshold, step, *weights
        for one, other in zip(*(gradients(run, inputs, quantized) for run in (scanned, graphed)), strict=True):
            torch.testing.assert_close(one, other, msg=lambda m, n=neuron: f"{n}: {m}")


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_steps_in_turn_are_a_scan(gated, quantized):
    """Gradients through what goes from one to the next included; where gates multiply potentials, those of autograd."""
    for fields in DYNAMICS:
        torch.manual_seed(5)
        neuron = Neuron(**{"v_width": 4, "leak": ShiftLeak(2)} | fields)
        current = torch.randint(-6, 9, (6, 3, 4)).double()
        threshold, step = torch.tensor([[1, 2, 4, 8], [1, -1, 2, 0]]).double()
        opened = torch.randint(0, 2, current.shape).double() if gated else torch.ones_like(current)

        def stepped(current, threshold, step, opened, neuron=neuron):
            states, spikes, membranes = States.before(neuron, current[0]), [], []
            for i, open_now in zip(current, opened, strict=True):
                z, states = advance(i, threshold, neuron, states, step=step, quantized=quantized,
                                    opened=open_now if gated else None)
                spikes.append(z)
                membranes.append(states.v)
            return torch.stack(spikes), torch.stack(membranes)

        def whole(current, threshold, step, opened, neuron=neuron):
            if gated:
                return by_autograd(current, threshold, neuron, 6, quantized, step, opened=opened)
            return scan(current, threshold, neuron, step=step, quantized=quantized)

        for one, other in zip(*(gradients(run, (current, threshold, step, opened), quantized)
                                for run in (stepped, whole)), strict=True):
            torch.testing.assert_close(one, other, msg=lambda m, n=neuron: f"{n}: {m}")


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
    for part_values in (scans.PART_VALUES, 5 * 4 * 3, 1):
        monkeypatch.setattr(scans, "PART_VALUES", part_values)
        assert len(scans.parts(value[0])) == {1: 7, 60: 3}.get(part_values, 1)
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
