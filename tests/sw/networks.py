"""Random networks and inputs for property tests: every kind of leak, reset, firing and weight, of convolution, pool,
shortcut and attention; and of recurrence, delay, activation and further state."""

import dataclasses
import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    INPUT,
    LONGEST_KERNEL,
    RESETS,
    Adaptation,
    Attention,
    BlockGate,
    Branch,
    ChannelGate,
    Conv2d,
    Dense,
    FullLeak,
    GradedSpike,
    Grid,
    InputFormat,
    Network,
    NoLeak,
    Pool,
    ReLU,
    ShiftLeak,
    Shortcut,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
    WeightFormat,
)

WEIGHT_FORMATS = [WeightFormat("binary", 1), WeightFormat("ternary", 2),
                  *(WeightFormat("int", width) for width in (*range(2, 9), 16)),
                  *(WeightFormat("pot", width) for width in range(2, 5))]


@st.composite
def neurons(draw, channels):
    """The fields of a layer that are about its neurons, and its biases."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    v_width = draw(st.sampled_from([2, 3, 4, 6, 8, 16]))
    fire = draw(st.sampled_from([Spike(), Spike(), Silent(), GradedSpike(0, 3), GradedSpike(-128, 127),
                                 GradedSpike(-1, 1)]))
    if isinstance(fire, GradedSpike):
        threshold = 2 ** rng.integers(0, min(v_width + 2, 12), channels)
    else:
        low, high = draw(st.sampled_from([-3, 1])), draw(st.sampled_from([2, 8, 2**v_width]))
        threshold = rng.integers(low, high, channels)
    reach = draw(st.sampled_from([0, 3, 100]))
    grid, v_min, v_max = None, -(2 ** (v_width - 1)), 2 ** (v_width - 1) - 1
    if draw(st.integers(0, 3)) == 0:
        grid = draw(grids())
        v_width = grid.width
        if grid.step is None:
            threshold = np.maximum(threshold, 1)
        else:
            v_min, v_max = grid.low * grid.step, grid.high * grid.step
    table = rng.integers(v_min, v_max + 1, grid.high - grid.low + 1 if grid else 2**v_width)
    leaks = [NoLeak(), FullLeak(), ShiftLeak(1), ShiftLeak(3), ShiftLeak(15)]
    if not grid or grid.step:
        leaks.append(TableLeak(tuple(table.tolist())))
    return {"threshold": threshold, "bias": rng.integers(-reach, reach + 1, channels), "v_width": v_width,
            "grid": grid, "leak": draw(st.sampled_from(leaks)), "reset": draw(st.sampled_from(RESETS)), "fire": fire}


def in_gateware(network, *, reloadable=False):
    """``network`` without what has no gateware: levels of a membrane that are read out, and in a ``reloadable`` program
    graded spikes; there also without weights so heavy that those of others of the same shape would be too large."""
    layers = network.layers
    if reloadable:
        layers = [_light(dataclasses.replace(layer, fire=Spike()) if isinstance(layer.fire, GradedSpike) else layer)
                  for layer in layers]
    readout = "count" if layers[-1].grid else network.readout
    return dataclasses.replace(network, layers=tuple(layers), readout=readout)


def _light(layer):
    form = dataclasses.replace(layer.weight_format, width=min(8, layer.weight_format.width))
    if form == layer.weight_format:
        return layer
    return dataclasses.replace(layer, weight_format=form, weights=layer.weights.clip(*form.bounds))


@st.composite
def grids(draw):
    """A `Grid` of few levels: of the threshold, of a step, or with bounds."""
    low, high = draw(st.sampled_from([(-1, 1), (-1, 1), (-3, 1), (0, 3), (-2, 0), (-16, 7), (-8, 8)]))
    step = draw(st.sampled_from([None, None, 1, 4, 7]))
    if step is None:
        return Grid(low, high, shift=draw(st.sampled_from([0, 0, 1, 3])))
    if draw(st.booleans()):
        return Grid(low, high, step)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bounds = np.sort(rng.choice(np.arange(-60, 60), high - low, replace=False))
    return Grid(low, high, step, bounds=tuple(bounds.tolist()))


@st.composite
def weights(draw, *shape):
    """The fields of synapses that are about their weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight_format = draw(st.sampled_from(WEIGHT_FORMATS))
    return {"weights": rng.choice(weight_format.values, shape), "weight_format": weight_format}


@st.composite
def layers(draw, n_in, name):
    """A `Dense` of ``n_in`` inputs."""
    n_out = draw(st.integers(1, 6))
    return Dense(name=name, **draw(weights(n_out, n_in)), **draw(neurons(n_out)))


@st.composite
def networks(draw, max_layers=3):
    """A `Network` of one to ``max_layers`` small layers."""
    entry = InputFormat(draw(st.integers(1, 9)), draw(st.integers(1, 8)))
    made, size = [], entry.size
    for number in range(draw(st.integers(1, max_layers))):
        made.append(draw(layers(size, f"layer_{number}")))
        size = made[-1].n_out
    return checked(entry, made, draw(st.integers(1, 7)), draw(st.sampled_from(["count", "membrane"])))


def checked(*fields, **options):
    """The `Network`, unless it is one whose sums grow too large."""
    try:
        return Network(*fields, **options)
    except SpikeloomError as error:  # heavy weights, large values, pooled sums
        assume("beyond the 2^24" not in str(error))
        raise


@st.composite
def pools(draw, shape):
    """A `Pool` that a map of this ``shape`` has a block for, now and then the whole of it; or None."""
    if draw(st.booleans()):
        return None
    rows, columns = (min(side, draw(st.sampled_from([1, 2, 2, 3, side]))) for side in shape[:2])
    return Pool(draw(st.sampled_from(["max", "sum"])), rows, columns)


@st.composite
def attentions(draw, shape, time_steps):
    """An `Attention` for maps of this ``shape``, its shift often such that products meet the whole of its table."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    form, channels = draw(st.sampled_from(WEIGHT_FORMATS)), shape[2]
    time_weights, channel_weights = (rng.choice(form.values, (side, side, draw(st.integers(1, LONGEST_KERNEL))))
                                     for side in (time_steps, channels))
    table = rng.integers(0, draw(st.sampled_from([1, 4, 15, 255])) + 1, 2 ** draw(st.integers(1, 6)))
    return Attention(time_weights, channel_weights, form, draw(st.sampled_from([0, 1, 2, 4, 6, 10, 15, 48])),
                     tuple(table.tolist()))


@st.composite
def convolutions(draw, shape, name, **fields):
    """A `Conv2d` on a map of this ``shape``: often of one position, a kernel as large as the map, or depthwise."""
    pool = draw(pools(shape))
    rows, columns, channels_in = pool.shape(shape) if pool else shape
    kernel = draw(st.sampled_from([1, 2, 3, 3, 4, 5, 6, 7, min(rows, columns, LONGEST_KERNEL)]))
    padding = draw(st.sampled_from([p for p in range(kernel) if min(rows, columns) + 2 * p >= kernel]))
    groups = draw(st.sampled_from([g for g in range(1, channels_in + 1) if channels_in % g == 0]))
    channels = groups * draw(st.integers(1, max(1, 5 // groups)))
    return Conv2d(name=name, input_shape=shape, pool=pool, **draw(neurons(channels)), **fields,
                  **draw(weights(channels, channels_in // groups, kernel, kernel)), padding=padding, groups=groups,
                  stride=draw(st.sampled_from([1, 1, 2, 3, LONGEST_KERNEL])))


@st.composite
def gates(draw, layer, high):
    """A `Conv2d` with gates of both kinds, of one, or of none; what comes in is ``high`` at most."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, form = layer.shape[2], draw(st.sampled_from([form for form in WEIGHT_FORMATS if form.width <= 4]))
    gate = block_gate = None
    if draw(st.booleans()):
        rows, columns, channels_in = layer.input_shape
        reduce = draw(st.sampled_from([each for each in range(1, channels_in + 1) if channels_in % each == 0]))
        table = rng.integers(0, draw(st.sampled_from([3, 255])) + 1, 2 ** draw(st.integers(1, 6)))
        largest = rows * columns * reduce * high
        gate = ChannelGate(rng.choice(form.values, (channels, channels_in // reduce)), form,
                           rng.integers(-9, 10, channels), tuple(table.tolist()),
                           draw(st.integers(0, max(0, largest.bit_length() - 3))), reduce)
    if draw(st.booleans()):
        k, seen = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, channels]))
        block_gate = BlockGate(rng.choice(form.values, (channels, seen, k, k)), form, rng.integers(-2, 5, channels),
                               draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    try:
        return dataclasses.replace(layer, gate=gate, block_gate=block_gate)
    except SpikeloomError as error:  # of wide membranes and heavy weights
        assume("beyond the 2^24" not in str(error))
        raise


@st.composite
def shortcuts(draw, shapes, wanted):
    """A `Shortcut` from one of ``shapes`` (by source) to a map of the ``wanted`` shape, or None where none leads
    there."""
    ways = [(source, stride, pool) for source, shape in shapes.items() for stride in (1, 2, 3)
            for pool in (None, Pool("max", 2, 2), Pool("sum", 1, 2))
            if all(-(-side // stride) == want
                   for side, want in zip(pool.shape(shape) if pool else shape, wanted[:2], strict=False))]
    if not ways:
        return None
    source, stride, pool = draw(st.sampled_from(ways))
    channels_in, channels = shapes[source][2], wanted[2]
    groups = draw(st.sampled_from([1, math.gcd(channels_in, channels)]))
    return Shortcut(source, shapes[source], **draw(weights(channels, channels_in // groups, 1, 1)), stride=stride,
                    groups=groups, pool=pool)


@st.composite
def map_networks(draw, max_layers=4, attention=False, gated=False):
    """A `Network` of one to ``max_layers`` small layers, convolutions before the last: with pools, strides, paddings,
    groups, shortcuts from anywhere before, votes, and if asked for attention and gates."""
    time_steps = draw(st.integers(1, 5))

    def attended(shape):
        return draw(st.none() | attentions(shape, time_steps)) if attention else None

    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    entry = InputFormat(math.prod(shape), draw(st.sampled_from([1, 1, 2, 8])), shape)
    shapes, made = {INPUT: entry.shape}, []
    bounds = {INPUT: entry.bounds}
    for number in range(draw(st.integers(0, max_layers - 1))):
        before, name = list(shapes)[-1], f"layer_{number}"
        source = draw(st.sampled_from([before, *shapes]))
        layer = draw(convolutions(shapes[source], name, source=draw(st.sampled_from([source, None]))
                                  if source == before else source))
        layer = dataclasses.replace(layer, attention=attended(shapes[source]))
        # Where the layer before is not what feeds it, its shortcut does.
        shortcut = draw(shortcuts(shapes if source == before else {before: shapes[before]}, layer.shape))
        assume(shortcut or source == before)
        if shortcut and (source != before or draw(st.booleans())):
            layer = dataclasses.replace(layer, shortcut=shortcut)
        if gated and bounds[source][0] >= 0:
            layer = draw(gates(layer, bounds[source][1]))
        shapes[name], bounds[name] = layer.shape, (layer.fire.low, layer.fire.high)
        made.append(layer)
    source, shape = list(shapes.items())[-1]
    pool, classes, votes = draw(pools(shape)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n_in = math.prod(pool.shape(shape) if pool else shape)
    attention = attended(shape)
    any_map = not pool and not attention and draw(st.booleans())
    made.append(Dense(name="last", source=draw(st.sampled_from([source, None])), pool=pool, attention=attention,
                      input_shape=None if any_map else shape, **draw(weights(classes * votes, n_in)),
                      **draw(neurons(classes * votes))))
    return checked(entry, made, time_steps, draw(st.sampled_from(["count", "membrane"])), votes=votes)


@st.composite
def leaks(draw, width):
    """A leak of a state of so many bits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.integers(-(2 ** (width - 1)), 2 ** (width - 1), 2**width)
    return draw(st.sampled_from([NoLeak(), FullLeak(), ShiftLeak(1), ShiftLeak(4), TableLeak(tuple(table.tolist()))]))


@st.composite
def dynamics(draw, fire, channels):
    """The fields of a layer's neurons that are about activation, synaptic current and adaptation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    act = draw(st.sampled_from([None, None, ReLU(), TableActivation]))
    if act is TableActivation:
        reach = draw(st.sampled_from([2, 30, 2000]))
        table = rng.integers(-reach, reach + 1, 2 ** draw(st.integers(1, 6)))
        act = TableActivation(tuple(table.tolist()), draw(st.sampled_from([0, 1, 3, 12, 48])))
    current = adaptation = None
    if draw(st.booleans()):
        width = draw(st.sampled_from([2, 4, 8, 16]))
        current = SynapticCurrent(width, draw(leaks(width)))
    if isinstance(fire, Spike) and draw(st.booleans()):
        width = draw(st.sampled_from([2, 4, 8, 16]))
        adaptation = Adaptation(width, draw(leaks(width)), rng.integers(-3, 2 ** (width - 1) + 2, channels))
    return {"act": act, "current": current, "adaptation": adaptation}


@st.composite
def recurrent_networks(draw, max_layers=4, maps=True):
    """A `Network` of one to ``max_layers`` small layers that take what any of them fires, themselves too, by any delay,
    with all that neurons can be; with ``maps`` the first ones may be convolutions, with shortcuts and gates."""
    rows = draw(st.integers(1, 3)) if maps else 1
    entry = InputFormat(rows * rows * 2, draw(st.sampled_from([1, 1, 4])), (rows, rows, 2))
    count = draw(st.integers(1, max_layers))
    convolved = draw(st.integers(0, count - 1)) if maps else 0
    names = [f"layer_{number}" for number in range(count)]
    shapes = {INPUT: entry.shape} | {
        name: (rows, rows, draw(st.integers(1, 3))) if number < convolved else (1, 1, draw(st.integers(1, 5)))
        for number, name in enumerate(names)}
    of_neurons = {name: draw(neurons(shapes[name][2])) for name in names}
    order = [*shapes]

    def synapses(name, sources):
        """The source and the delay of one branch of the layer ``name``."""
        source = draw(st.sampled_from(sources))
        least = 0 if order.index(source) < order.index(name) else 1
        return {"source": source, "delay": draw(st.sampled_from([least, least, 1, 2, 3, 9]))}

    made = []
    for number, name in enumerate(names):
        before, (*_, channels) = order[number], shapes[name]
        sources = order[:convolved + 1] if number < convolved else order
        own = synapses(name, sources)
        fields = own | of_neurons[name] | draw(dynamics(of_neurons[name]["fire"], channels)) | {
            "name": name, "input_shape": shapes[own["source"]]}
        others = [synapses(name, sources) for _ in range(draw(st.integers(0, 1 if number < convolved else 2)))]
        if before not in [each["source"] for each in (own, *others)]:  # each feeds the next one at least
            others = [{"source": before, "delay": draw(st.integers(0, 2))}, *others[1:]]
        n_in = [math.prod(shapes[each["source"]]) for each in others]
        if number < convolved:
            shortcut = next((Shortcut(**each, input_shape=shapes[each["source"]],
                                      **draw(weights(channels, shapes[each["source"]][2], 1, 1))) for each in others),
                            None)
            layer = Conv2d(**fields, **draw(weights(channels, shapes[own["source"]][2], 3, 3)), padding=1,
                           shortcut=shortcut)
            bounds = entry.bounds if own["source"] == INPUT else [
                getattr(of_neurons[own["source"]]["fire"], end) for end in ("low", "high")]
            made.append(draw(gates(layer, bounds[1])) if bounds[0] >= 0 and draw(st.booleans()) else layer)
        else:
            pool = draw(pools(shapes[own["source"]]))
            size = math.prod(pool.shape(shapes[own["source"]]) if pool else shapes[own["source"]])
            made.append(Dense(**fields, **draw(weights(channels, size)), pool=pool, others=tuple(
                Branch(**each, **draw(weights(channels, each_in)))
                for each, each_in in zip(others, n_in, strict=True))))
    return checked(entry, made, draw(st.integers(1, 9)), draw(st.sampled_from(["count", "membrane"])))


@st.composite
def inputs(draw, network):
    """Inputs (samples, time steps, n_in): random, sparse, silent, all at their highest, or constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, network.time_steps)), network.input.size)
    high = network.input.bounds[1]
    x = rng.integers(0, high + 1, shape)
    kind = draw(st.sampled_from(["random", "sparse", "silent", "full", "constant"]))
    if kind == "sparse":
        x *= rng.random(shape) < 0.1
    elif kind == "silent":
        x[:] = 0
    elif kind == "full":
        x[:] = high
    elif kind == "constant":
        x[:] = x[:, :1]
    return x
