"""docs/format.md is enough: a simulator written from that page alone equals the reference.

The first part, the simulator, uses nothing of Spikeloom and is deliberately plain: Python's integers and loops.
"""

import hashlib
import io
import itertools
import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from networks import in_gateware
from spikeloom import reference
from spikeloom.compiler.program import Placement, Program
from spikeloom.network import (
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
from spikeloom.sim import trace

PAGE = Path(__file__).parents[2] / "docs" / "format.md"

# A simulator from the page alone ----------------------------------------------------------------


def read(path, kind):
    """The header and the arrays of a file."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            arrays[member.removesuffix(".npy")] = np.load(io.BytesIO(archive.read(member)), allow_pickle=False)
    header = json.loads(bytes(arrays.pop("header").tolist()).decode())
    assert header["kind"] == kind and header["version"] == {"network": 5, "program": 5, "simulation": 1}[kind]
    return header, arrays


def plain_layers(header, arrays):
    """The entries of ``layers``, each with its arrays as lists of Python integers."""
    layers = []
    for number, entry in enumerate(header["layers"]):
        own = {name.partition(".")[2]: array.tolist() for name, array in arrays.items()
               if name.partition(".")[0] == str(number)}
        layers.append(entry | own)
    return layers


def plain_pool(synapses, z, shape):
    """What a branch makes of a map (a list in the order of indices) of ``shape`` before its weights: a map, a shape."""
    pool = synapses.get("pool")
    if pool is None:
        return z, shape
    rows, columns, channels = shape
    height, width = rows // pool["rows"], columns // pool["columns"]
    pooled = []
    for y, x, c in itertools.product(range(height), range(width), range(channels)):
        block = [z[((y * pool["rows"] + i) * columns + x * pool["columns"] + j) * channels + c]
                 for i in range(pool["rows"]) for j in range(pool["columns"])]
        pooled.append(max(block) if pool["kind"] == "max" else sum(block))
    return pooled, (height, width, channels)


def plain_sums(synapses, weights, z, shape):
    """The sums of a convolution with the map ``z`` of ``shape``, and their shape."""
    z, (rows, columns, channels) = plain_pool(synapses, z, shape)
    stride, padding, groups = (synapses.get(name, default)
                               for name, default in (("stride", 1), ("padding", 0), ("groups", 1)))
    out, k = len(weights), len(weights[0][0])
    height, width = ((n + 2 * padding - k) // stride + 1 for n in (rows, columns))
    sums = []
    for y, x, c in itertools.product(range(height), range(width), range(out)):
        total = 0
        for d, i, j in itertools.product(range(channels // groups), range(k), range(k)):
            row, column = y * stride + i - padding, x * stride + j - padding
            if 0 <= row < rows and 0 <= column < columns:
                channel = c * groups // out * (channels // groups) + d
                total += weights[c][d][i][j] * z[(row * columns + column) * channels + channel]
        sums.append(total)
    return sums, (height, width, out)


def plain_gates(layer, sent):
    """Gates [time step][channel] of a layer with attention, for the maps ``sent`` of all time steps."""
    _, _, channels = layer["input_shape"]
    s = [[sum(z[c::channels]) for c in range(channels)] for z in sent]

    def seen(t, c):
        return s[t][c] if 0 <= t < len(s) and 0 <= c < channels else 0

    def gate(t, c):
        along_channels = sum(weight * seen(other, c + j - (len(row) - 1) // 2)
                             for other, row in enumerate(layer["attention_time_weights"][t])
                             for j, weight in enumerate(row))
        along_time = sum(weight * seen(t + j - (len(row) - 1) // 2, other)
                         for other, row in enumerate(layer["attention_channel_weights"][c])
                         for j, weight in enumerate(row))
        half = len(layer["attention_table"]) // 2
        quotient = along_channels * along_time // 2 ** layer["attention"]["shift"]
        return layer["attention_table"][min(max(quotient, -half), half - 1) + half]

    return [[gate(t, c) for c in range(channels)] for t in range(len(s))]


def plain_products(weights, z):
    """The sums Σ W · z of a dense branch."""
    return [sum(weight * value for weight, value in zip(row, z, strict=True)) for row in weights]


def plain_currents(layer, z, shape, z_shortcut, shape_shortcut):
    """The sums Σ W · z of a layer's neurons, and the shape of their map."""
    if layer["kind"] == "dense":
        z, _ = plain_pool(layer, z, shape)
        return plain_products(layer["weights"], z), (1, 1, len(layer["weights"]))
    sums, made = plain_sums(layer, layer["weights"], z, shape)
    if "shortcut" in layer:
        more, same = plain_sums(layer["shortcut"], layer["shortcut_weights"], z_shortcut, shape_shortcut)
        assert same == made
        sums = [one + other for one, other in zip(sums, more, strict=True)]
    return sums, made


def plain_open_channels(layer, z):
    """Whether each channel of a layer with a gate is open, for the map ``z`` that comes in."""
    _, _, channels = layer["input_shape"]
    reduce, table = layer["gate"]["reduce"], layer["gate_table"]
    seen = [sum(sum(z[c::channels]) for c in range(first, first + reduce)) for first in range(0, channels, reduce)]
    seen = [table[min(total // 2 ** layer["gate"]["shift"], len(table) - 1)] for total in seen]
    return [sum(weight * entry for weight, entry in zip(row, seen, strict=True)) + bias > 0
            for row, bias in zip(layer["gate_weights"], layer["gate_bias"], strict=True)]


def plain_open_blocks(layer, v, shape):
    """Whether each neuron of a layer with a gate of blocks is open, for potentials ``v`` in a map of ``shape``."""
    rows, columns, channels = shape
    high, wide, weights = layer["block_gate"]["rows"], layer["block_gate"]["columns"], layer["block_gate_weights"]

    def block_sum(y, x, d):
        return sum(v[(row * columns + column) * channels + d]
                   for row in range(y * high, min((y + 1) * high, rows)) if y >= 0
                   for column in range(x * wide, min((x + 1) * wide, columns)) if x >= 0)

    def is_open(y, x, c):
        k, own = len(weights[c][0]), len(weights[c]) == 1
        total = sum(weights[c][d][i][j] * block_sum(y + i - (k - 1) // 2, x + j - (k - 1) // 2, c if own else d)
                    for d, i, j in itertools.product(range(len(weights[c])), range(k), range(k)))
        return total + layer["block_gate_bias"][c] >= 0

    return [is_open(y // high, x // wide, c)
            for y, x, c in itertools.product(range(rows), range(columns), range(channels))]


def plain_store(layer, v, threshold):
    """What a layer with a grid keeps of a potential."""
    grid = layer["grid"]
    if "shift" in grid:
        level = (2 ** (grid["shift"] + 1) * v + threshold - 1) // (2 * threshold)
    elif "grid_bounds" in layer:
        level = grid["low"] + sum(bound <= v for bound in layer["grid_bounds"])
    else:
        level = (2 * v + grid["step"] - 1) // (2 * grid["step"])
    level = min(max(level, grid["low"]), grid["high"])
    return level * threshold // 2 ** grid["shift"] if "shift" in grid else level * grid["step"]


def plain_leak(leak, table, state, lowest):
    """What a stored state leaks to, a table's first entry being that of the ``lowest``."""
    if leak["kind"] == "none":
        return state
    if leak["kind"] == "full":
        return 0
    if leak["kind"] == "shift":
        return state - state // 2 ** leak["shift"]
    if leak["kind"] == "table":
        return table[state - lowest]


def plain_clip(width, value):
    """A state saturated to so many bits."""
    return min(max(value, -(2 ** (width - 1))), 2 ** (width - 1) - 1)


def plain_act(layer, current):
    """What becomes of a current."""
    act = layer.get("act")
    if act is None:
        return current
    if act["kind"] == "relu":
        return max(current, 0)
    if act["kind"] == "table":
        half = len(layer["act_table"]) // 2
        return layer["act_table"][min(max(current // 2 ** act["shift"], -half), half - 1) + half]


def plain_step(layer, sums, states, channels=None, blocks=None):
    """One time step of a layer: what it fires for ``sums``, while its ``states``, lists of membrane potentials,
    synaptic currents and adaptations, are updated in place; which channels, and which neurons, its gates leave open."""
    v, currents, adaptations = states
    v_min, grid = -(2 ** (layer["v_width"] - 1)), layer.get("grid")
    fired = []
    for j, total in enumerate(sums):
        channel = j % len(layer["threshold"])
        i = total + layer["bias"][channel]
        if channels and not channels[channel]:
            i = 0

        i = plain_act(layer, i)
        if "current" in layer:
            width = layer["current"]["width"]
            i += plain_leak(layer["current"]["leak"], layer.get("current_leak_table"), currents[j], -(2 ** (width - 1)))
            currents[j] = plain_clip(width, i)
        if grid and layer["leak"]["kind"] == "table":
            leaked = layer["leak_table"][v[j] // grid["step"] - grid["low"]]
        else:
            leaked = plain_leak(layer["leak"], layer.get("leak_table"), v[j], v_min)
        u = leaked + i
        if blocks and not blocks[j]:
            u = 0

        base = layer["threshold"][channel]
        threshold = base + adaptations[j]
        if layer["fire"]["kind"] == "spike":
            spike = 1 if u >= threshold else 0
        elif layer["fire"]["kind"] == "graded":
            spike = min(max(u // threshold, layer["fire"]["low"]), layer["fire"]["high"])
        elif layer["fire"]["kind"] == "silent":
            spike = 0

        if layer["reset"] == "subtract":
            left = u - threshold * spike
        elif layer["reset"] == "zero":
            left = 0 if spike != 0 else u
        elif layer["reset"] == "none":
            left = u
        v[j] = plain_store(layer, left, base) if grid else plain_clip(layer["v_width"], left)
        if "adaptation" in layer:
            width = layer["adaptation"]["width"]
            leaked = plain_leak(layer["adaptation"]["leak"], layer.get("adaptation_leak_table"), adaptations[j],
                                -(2 ** (width - 1)))
            adaptations[j] = plain_clip(width, leaked + layer["adaptation_step"][channel] * spike)
        fired.append(spike)
    return fired


def plain_shapes(header, layers):
    """The maps that the input and the layers send, by name."""
    shapes, before = {"input": tuple(header["input"].get("shape", (1, 1, header["input"]["size"])))}, "input"
    for layer in layers:
        rows, columns, channels = shape = shapes.get(layer.get("source", before))
        before = layer["name"]
        if layer["kind"] == "dense":
            shapes[before] = 1, 1, len(layer["weights"])
        else:
            _, shapes[before] = plain_sums(layer, layer["weights"], [0] * (rows * columns * channels), shape)
    return shapes


def plain_taken(synapses, source, sent, shapes, t):
    """What a branch takes at time step t of what its ``source`` has sent."""
    delay = synapses.get("delay", 0)
    return sent[source][t - delay] if t >= delay else [0] * math.prod(shapes[source])


def plain_layer(layer, source, sent, shapes, states, t):
    """Time step t of a layer: what it fires."""
    z = plain_taken(layer, source, sent, shapes, t)
    if "attention" in layer:
        steps = range(len(sent["input"]))
        gates = plain_gates(layer, [plain_taken(layer, source, sent, shapes, each) for each in steps])[t]
        z = [value * gates[i % len(gates)] for i, value in enumerate(z)]
    shortcut = None, None
    if "shortcut" in layer:
        other = layer["shortcut"]["source"]
        shortcut = plain_taken(layer["shortcut"], other, sent, shapes, t), shapes[other]
    sums, _ = plain_currents(layer, z, shapes[source], *shortcut)
    for number, branch in enumerate(layer.get("branches", ())):
        more = plain_products(layer[f"branch_{number}_weights"],
                              plain_taken(branch, branch["source"], sent, shapes, t))
        sums = [one + another for one, another in zip(sums, more, strict=True)]
    channels = plain_open_channels(layer, z) if "gate" in layer else None
    blocks = plain_open_blocks(layer, states[0], shapes[layer["name"]]) if "block_gate" in layer else None
    return plain_step(layer, sums, states, channels, blocks)


def plain_run(header, arrays, samples):
    """Spikes and membranes [layer][sample][time step][neuron], scores [sample][class] and winners [sample]."""
    layers = plain_layers(header, arrays)
    names = ["input", *(layer["name"] for layer in layers)]
    shapes = plain_shapes(header, layers)
    spikes, membranes = [[] for _ in layers], [[] for _ in layers]
    scores, winners = [], []
    # An attention needs what all time steps send it, and layers that feed back what others fired before.
    steps = range(len(samples[0]))
    order = list(itertools.product(range(len(layers)), steps))
    if any("branches" in layer for layer in layers):
        order = [(number, t) for t in steps for number in range(len(layers))]
    for sample in samples:
        sent = {name: [] for name in names} | {"input": sample}
        states = [[[0] * math.prod(shapes[name]) for _ in range(3)] for name in names[1:]]
        for number, _ in enumerate(layers):
            spikes[number].append(sent[names[number + 1]])
            membranes[number].append([])
        for number, t in order:
            source = layers[number].get("source", names[number])
            sent[names[number + 1]].append(plain_layer(layers[number], source, sent, shapes, states[number], t))
            membranes[number][-1].append(list(states[number][0]))
        if header["readout"] == "count":
            each = [sum(step) for step in zip(*sent[names[-1]], strict=True)]
        elif header["readout"] == "membrane":
            each = states[-1][0]
        votes = header.get("votes", 1)
        score = [sum(each[j:j + votes]) for j in range(0, len(each), votes)]
        scores.append(score)
        winners.append(score.index(max(score)))
    return spikes, membranes, scores, winners


def plain_digest(header, arrays):
    """A network's digest."""
    meaning = {key: header[key] for key in ("input", "time_steps", "readout", "layers", "votes") if key in header}
    content = json.dumps(meaning, sort_keys=True).encode()
    for name in sorted(arrays):
        kind = "<i2" if name.endswith("weights") else "<i4"
        content += f"{name} {kind} {arrays[name].shape}".encode() + arrays[name].astype(kind).tobytes()
    return hashlib.sha256(content).hexdigest()


def plain_code(weight, kind, width):
    """A weight's code in a memory."""
    if kind == "binary":
        return {-1: 0, 1: 1}[weight]
    if kind == "pot":
        return 0 if weight == 0 else (weight < 0) << (width - 1) | abs(weight).bit_length()
    return weight + 2**width if weight < 0 else weight


def plain_memories(layer, lanes, units):
    """A layer's weight, threshold and bias memories, as lists of rows."""
    n_out, n_in = len(layer["weights"]), len(layer["weights"][0])
    groups = -(-n_out // lanes)
    real = [j if j < n_out else 0 for j in range(groups * lanes)]
    form = layer["weight_format"]["kind"], layer["weight_format"]["width"]
    weights = [[plain_code(layer["weights"][real[g * lanes + lane]][i], *form) for lane in range(lanes)]
               for g in range(groups) for i in range(n_in)]
    return weights, *([[layer[name][real[a * units + u]] for u in range(units)]
                       for a in range(groups * lanes // units)] for name in ("threshold", "bias"))


# Held to Spikeloom ------------------------------------------------------------------------------

FORMATS = [WeightFormat("binary", 1), WeightFormat("ternary", 2),
           *(WeightFormat("int", width) for width in (*range(2, 9), 12, 16)),
           *(WeightFormat("pot", width) for width in range(2, 5))]

#: Those with which sums stay small enough whatever comes in.
NARROW = [form for form in FORMATS if form.width <= 8]

#: Every leak with every reset and every way of firing.
RULES = list(itertools.product(("none", "full", "shift", "table"), RESETS, ("spike", "graded", "silent")))


def random_layer(rng, name, n_in, rule, weight_format, grids):
    leak, reset, fire = rule
    n_out, v_width, grid = int(rng.integers(2, 6)), int(rng.integers(2, 11)), None
    v_min, v_max, states = -(2 ** (v_width - 1)), 2 ** (v_width - 1) - 1, 2**v_width
    if grids and rng.random() < 0.4:
        low, high = -int(rng.integers(0, 9)), int(rng.integers(8, 16))
        step = None if leak != "table" and rng.random() < 0.5 else int(rng.integers(1, 4))
        bounds = np.sort(rng.choice(np.arange(-20, 20), high - low, replace=False)).tolist()
        grid = Grid(low, high, shift=int(rng.integers(2, 5))) if step is None else Grid(
            low, high, step, bounds=tuple(bounds) if rng.random() < 0.5 else None)
        v_width, states = grid.width, high - low + 1
        v_min, v_max = low * (step or 0), high * (step or 0)
    leak = {"none": NoLeak(), "full": FullLeak(), "shift": ShiftLeak(int(rng.integers(1, 5))),
            "table": TableLeak(tuple(rng.integers(v_min, v_max + 1, states).tolist()))}[leak]
    threshold = rng.integers(1 if grid else -2, 20, n_out) if fire != "graded" else 2 ** rng.integers(0, 5, n_out)
    graded = GradedSpike(int(rng.integers(-128, 1)), int(rng.integers(1, 128)))
    fire = {"spike": Spike(), "silent": Silent(), "graded": graded}[fire]
    return Dense(name, rng.choice(weight_format.values, (n_out, n_in)), weight_format, threshold,
                 rng.integers(-6, 7, n_out), v_width, leak, reset, fire, grid=grid)


def random_network(number, *, fires=("spike", "graded", "silent"), grids=True):
    """Three layers, the first and last under one of the `RULES`, the one in the middle under another."""
    rng = np.random.default_rng(506 + number)  # with which all that can fire does
    rules = [rule for rule in RULES if rule[2] in fires]
    entry, layers = InputFormat(int(rng.integers(1, 12)), int(rng.integers(1, 9))), []
    size = entry.size
    for place, rule in enumerate((rules[number % len(rules)], rules[(7 * number + 3) % len(rules)],
                                  rules[number % len(rules)])):
        layers.append(random_layer(rng, f"layer_{place}", size, rule, FORMATS[(number + 5 * place) % len(FORMATS)],
                                   grids))
        size = layers[-1].n_out
    return Network(entry, tuple(layers), 6, ("count", "membrane")[number % 2], {"why": number})


def random_recurrent_network(number):
    """Three dense layers that feed themselves and each other, later ones too, with delays; with activations, synaptic
    currents and adaptations."""
    rng = np.random.default_rng(900 + number)
    entry = InputFormat(int(rng.integers(1, 6)), int(rng.integers(1, 4)))
    sizes = {"input": entry.size} | {f"layer_{place}": int(rng.integers(2, 6)) for place in range(3)}
    names = list(sizes)

    def leak(width):
        table = rng.integers(-(2 ** (width - 1)), 2 ** (width - 1), 2**width)
        return (NoLeak(), FullLeak(), ShiftLeak(int(rng.integers(1, 4))), TableLeak(tuple(table.tolist())))[
            int(rng.integers(4))]

    def synapses(name, source):
        form = NARROW[int(rng.integers(len(NARROW)))]
        return {"weights": rng.choice(form.values, (sizes[name], sizes[source])), "weight_format": form}

    layers = []
    for place, name in enumerate(names[1:]):
        others = []
        for source in rng.choice(names, 1 + (number + place) % 3).tolist():
            delay = int(rng.integers(names.index(source) > place, 4))
            others.append(Branch(source, **synapses(name, source), delay=delay))
        fire = (Spike(), GradedSpike(-3, 4), Spike())[(number + place) % 3]
        threshold = (2 ** rng.integers(0, 5, sizes[name]) if isinstance(fire, GradedSpike)
                     else rng.integers(1, 20, sizes[name]))
        table = tuple(rng.integers(-40, 41, 2 ** int(rng.integers(1, 7))).tolist())
        width, slow = (int(bits) for bits in rng.integers(3, 9, 2))
        adaptation = Adaptation(slow, leak(slow), rng.integers(-2, 9, sizes[name]))
        layers.append(Dense(
            name, **synapses(name, names[place]), threshold=threshold, bias=rng.integers(-3, 4, sizes[name]), v_width=7,
            leak=leak(7), reset=RESETS[(number + place) % 2], fire=fire, others=tuple(others),
            delay=(number + place) % 3, act=(None, ReLU(), TableActivation(table, int(rng.integers(0, 3))))[place],
            current=SynapticCurrent(width, leak(width)) if rng.random() < 0.6 else None,
            adaptation=adaptation if fire == Spike() and rng.random() < 0.7 else None))
    return Network(entry, tuple(layers), 7, ("count", "membrane")[number % 2], {"why": number})


def random_map_network(number):
    """Three convolutions, the last with a shortcut around it, and two dense layers, the last of whose neurons vote;
    attention before the second convolution and the first dense layer."""
    rng = np.random.default_rng(number)
    form, time_steps = NARROW[number % len(NARROW)], 3

    def neurons(name, channels):
        return {"name": name, "threshold": rng.integers(1, 9, channels), "bias": rng.integers(-2, 3, channels),
                "v_width": 6, "leak": ShiftLeak(1), "weight_format": form}

    def drawn(*shape):
        return rng.choice(form.values, shape)

    def attention(channels):
        table = rng.integers(0, 16, 2 ** (1 + number % 6))
        return Attention(drawn(time_steps, time_steps, 1 + number % 7), drawn(channels, channels, 7 - number % 7), form,
                         number % 5, tuple(table.tolist()))

    groups = int(rng.integers(1, 3))
    shape = (int(rng.integers(5, 8)), int(rng.integers(4, 8)), 2 * groups)
    first = Conv2d(**neurons("first", 4), input_shape=shape, weights=drawn(4, 2, 3, 3), groups=groups,
                   padding=int(rng.integers(0, 3)), stride=int(rng.integers(1, 3)),
                   block_gate=BlockGate(drawn(4, (1, 4)[number % 2], 3, 3), form, rng.integers(-2, 9, 4), 2, 3))
    pool = (None, Pool("max", 1, 2), Pool("sum", 2, 1))[number % 3]
    second = Conv2d(**neurons("second", 6), input_shape=first.shape, weights=drawn(6, 4, 1, 1), pool=pool,
                    attention=attention(4))
    third = Conv2d(**neurons("third", 6), input_shape=second.shape, weights=drawn(6, 6, 1, 1),
                   shortcut=Shortcut("first", first.shape, drawn(6, 2, 1, 1), form, groups=2, pool=pool),
                   gate=ChannelGate(drawn(6, 3), form, rng.integers(-9, 10, 6), (0, 1, 3, 9), number % 3, 2))
    pool = Pool(("max", "sum")[number % 2], *third.shape[:2])
    last = Dense(**neurons("last", 6), weights=drawn(6, 6), input_shape=third.shape, pool=pool,
                 attention=attention(6))
    other = Dense(**neurons("other", 4), weights=drawn(4, last.n_out))
    return Network(InputFormat(math.prod(shape), 1 + number % 2, shape), (first, second, third, last, other),
                   time_steps, ("count", "membrane")[number % 2], {"why": number}, 2)


def random_inputs(network, seed):
    return np.random.default_rng(seed).integers(0, 2**network.input.width, (3, network.time_steps, network.input.size))


@pytest.mark.parametrize("network", [
    *(pytest.param(random_network(number), id="-".join(rule)) for number, rule in enumerate(RULES)),
    *(pytest.param(random_map_network(number), id=f"maps-{number}") for number in range(len(NARROW))),
    *(pytest.param(random_recurrent_network(number), id=f"recurrent-{number}") for number in range(24))])
def test_a_simulator_from_the_page_equals_the_reference(network, tmp_path):
    network.save(tmp_path / "network.npz")
    header, arrays = read(tmp_path / "network.npz", "network")
    inputs = random_inputs(network, network.notes["why"])
    for samples in (inputs[:2], inputs[2:, :-1]):  # some have fewer time steps than the network can take
        spikes, membranes, scores, winners = plain_run(header, arrays, samples.tolist())
        expected = reference.run(network, samples)
        assert spikes == [array.tolist() for array in expected.spikes]
        assert membranes == [array.tolist() for array in expected.membranes]
        assert scores == expected.scores.tolist() and winners == expected.winners.tolist()
    assert plain_digest(header, arrays) == network.digest


def test_the_simulator_uses_nothing_of_spikeloom():
    for function in (read, plain_layers, plain_step, plain_run, plain_digest, plain_code, plain_memories):
        for value in (globals().get(name) for name in function.__code__.co_names):
            origin = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            assert not origin.startswith("spikeloom"), f"{function.__name__} uses {value}"


def test_gates_above_open_and_close():
    for number in range(len(NARROW)):
        network = random_map_network(number)
        inputs, (first, _, third, *_) = random_inputs(network, number), network.layers
        trace = reference.run(network, inputs)
        blocks = reference.open_blocks(first, trace.membranes[0].reshape(-1, math.prod(first.shape[:2]), 4))
        assert blocks.any() and not blocks.all()
        channels = reference.open_channels(third, trace.spikes[1])
        assert channels.any() and not channels.all()


def test_the_networks_above_hold_every_kind_and_do_something():
    networks = [random_network(number) for number in range(len(RULES))]
    layers = [layer for network in networks for layer in network.layers]
    assert {layer.weight_format for layer in layers} == set(FORMATS)
    assert {(layer.leak.kind, layer.reset, layer.fire.kind) for layer in layers} == set(RULES)
    fired = [reference.run(network, random_inputs(network, number)).spikes[0]
             for number, network in enumerate(networks)]
    for network, z in zip(networks, fired, strict=True):
        assert (z != 0).any() != isinstance(network.layers[0].fire, Silent)


@pytest.mark.parametrize("number", range(12))
def test_memories_from_the_page_are_those_of_a_program(number, tmp_path):
    network = in_gateware(random_network(number, fires=("spike", "silent"), grids=False))
    units = [1 << number % 3, 2, 1]
    program = Program(network, "hx8k", [Placement(units[n] * (1 + (number + n) % 3), units[n]) for n in range(3)])
    program.save(tmp_path / "program.npz")
    header, arrays = read(tmp_path / "program.npz", "program")
    for n, layer in enumerate(plain_layers(header["network"], arrays)):
        placement = header["placements"][n]
        memories = plain_memories(layer, placement["lanes"], placement["units"])
        assert [arrays[f"{n}.{name}_memory"].tolist() for name in ("weight", "threshold", "bias")] == list(memories)
    own = {name: array for name, array in arrays.items() if not name.endswith("_memory")}
    pairs = [[entry["lanes"], entry["units"]] for entry in header["placements"]]
    text = json.dumps([plain_digest(header["network"], own), header["target"], pairs])
    assert hashlib.sha256(text.encode()).hexdigest() == program.digest


# The page itself --------------------------------------------------------------------------------


def example():
    """The page's example: header and arrays."""
    page = PAGE.read_text()
    arrays = {name: np.array(json.loads(values.replace("−", "-")))
              for name, values in re.findall(r"`(0\.\w+)` = (\[[^`.;]*\])", page)}
    return json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1]), arrays


def test_the_example_is_right():
    header, arrays = example()
    memory = arrays.pop("0.weight_memory")
    assert sorted(arrays) == ["0.bias", "0.threshold", "0.weights"]
    rows = re.findall(r"^\| (\d) \| (\d), (\d) \| (\d)" + r" \| (-?\d+)" * 5 + r" \|$", PAGE.read_text(), re.MULTILINE)
    rows = np.array(rows, int).reshape(3, 2, 9)  # time step, neuron, column
    inputs = rows[None, :, 0, 1:3]
    network = Network.from_content(header, arrays)
    seen = reference.run(network, inputs)
    before = np.concatenate([np.zeros((1, 2), int), seen.membranes[0][0, :-1]])
    leaked = reference.leak(network.layers[0], before)
    current = reference.currents(network.layers[0], inputs[0])[:, 0]
    assert np.array_equal(rows[..., 4:], np.stack(
        [leaked, current, leaked + current, seen.spikes[0][0], seen.membranes[0][0]], axis=-1))
    assert seen.scores.tolist() == [[1, 3]] and seen.winners.tolist() == [1]
    spikes, membranes, scores, winners = plain_run(header, arrays, inputs.tolist())
    assert (spikes[0], membranes[0]) == (seen.spikes[0].tolist(), seen.membranes[0].tolist())
    assert (scores, winners) == ([[1, 3]], [1])
    assert Program(network, "hx8k", [Placement(2, 1)]).cores[0].weights.tolist() == memory.tolist()
    assert Program(network, "hx8k", [Placement(1, 1)]).cores[0].weights.tolist() == [[2], [7], [1], [3]]


def keys(value):
    """Every key of nested JSON, without looking into notes."""
    if isinstance(value, dict):
        return {key for name, inner in value.items() for key in {name} | (keys(inner) if name != "notes" else set())}
    return {key for inner in value for key in keys(inner)} if isinstance(value, list) else set()


def test_every_key_and_array_we_write_is_on_the_page(tmp_path):
    page, written = PAGE.read_text(), []
    for number in range(len(RULES)):
        random_network(number).save(tmp_path / f"{number}.npz")
        written.append(read(tmp_path / f"{number}.npz", "network"))
        for kind, make in (("maps", random_map_network), ("recurrent", random_recurrent_network)):
            make(number).save(tmp_path / f"{kind}.npz")
            written.append(read(tmp_path / f"{kind}.npz", "network"))
    network = in_gateware(random_network(0, fires=("spike",), grids=False))
    program = Program(network, "hx8k", [Placement(1, 1)] * 3)
    program.save(tmp_path / "program.npz")
    written.append(read(tmp_path / "program.npz", "program"))
    inputs = random_inputs(network, 0)
    trace.save(tmp_path / "simulation.npz", program, "amaranth", inputs, inputs[:, 0, 0],
               reference.run(network, inputs), 1)
    written.append(read(tmp_path / "simulation.npz", "simulation"))

    for key in {key for header, _ in written for key in keys(header)}:
        assert f"`{key}`" in page, key
    for name, array in {name: array for _, arrays in written for name, array in arrays.items()}.items():
        known = re.sub(r"branch_[0-9]+", "branch_B", re.sub(r"^[0-9]+", "L", name))
        row = re.search(rf"^\| `{known}` \| (.+?) \| (\(.*?\)) \|", page, re.MULTILINE)
        assert row, name
        types = row[1].split(", or ")
        assert array.dtype.name in types or ("any integer" in types and array.dtype.kind in "iu"), name
        shapes = row[2].split(" or ")  # by the kind of layer
        assert array.ndim in [shape.count(",") + (not shape.endswith(",)")) for shape in shapes], name
