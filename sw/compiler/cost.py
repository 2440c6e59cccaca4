"""What a core costs: cycles, look-up tables and block RAMs.

A dense layer's cycles follow from how many events come. A convolution's also from where they come, because a column
without events takes a cycle all the same, and one with more events than the update units need takes as many as it has.
So activity, by which the compiler chooses, is for each layer a `Activity`: the events of a time step, and for a
convolution the cycles of a pass over each of its rows.
"""

import dataclasses
import itertools
import re
import statistics
from dataclasses import dataclass

import numpy as np
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Conv2d, ShiftLeak, Spike, TableActivation, TableLeak, signed_width

from .core import BLOCK_BITS
from .map_core import MapCore, can_rest
from .order import arranged
from .sharing import SharedCore
from .window import MASK_DEPTH
from .words import JointWords, WordFormat

#: The activity assumed where none was measured: this share of a layer's inputs per time step.
DEFAULT_ACTIVITY = 0.1

#: Bits of a memory that synthesis for an iCE40 makes of flip-flops rather than of a block RAM.
FLIP_FLOP_BITS = 64

#: Logic that each layer but one of those that share a core adds to it, beside what grows with its rows.
SHARER_LUTS = {"ice40": 350, "ecp5": 400, "gowin": 400}

#: Logic for each source of a dense layer but the first.
SOURCE_LUTS = {"ice40": 110, "ecp5": 110, "gowin": 110}

#: Logic for each bit that a mask's entries tell where it is made of logic.
MASK_LUTS = {"ice40": 0.11, "ecp5": 0.065, "gowin": 0.065}

#: Logic to write and read a memory, beside what each byte of its rows takes.
LOAD_LUTS = 30

#: Cycles between two positions for which the passes of a convolution are measured; others lie between them.
PACES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

#: Numbers of neighbouring channels for which it is measured how often any of them is open.
NEIGHBOURS = tuple(1 << power for power in range(11))

#: What is known of an `Activity` beside its events, and the digits of it that a network's notes keep.
DETAILS = {"rows": 2, "channels": 2, "inputs": 4, "beside": 2, "opened": 4}


# Activity ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """What comes to a layer in a time step.

    Parameters
    ----------
    events : float
        set bits of its inputs, those of all its branches if it is a dense layer, before pooling
    rows : array (len(PACES), rows of the layer's map), of a convolution
        cycles of one pass over the columns, for each of its rows and each of `PACES`; 0 for a row that is skipped
    channels : array (channels that come in), of a convolution
        events by channel, from which follows what a sparse core visits; None where ``rows`` are those of a sparse core
    inputs : array (inputs,), of a dense layer
        set bits of each of its inputs, behind a pool
    beside : float, with a shortcut
        its events in a pass over all rows
    opened : array (len(NEIGHBOURS),), with a channel gate
        the share of groups of so many channels that have an open one
    branches : array (branches,), of a dense layer with several
        events of each
    """

    events: float
    rows: np.ndarray | None = None
    channels: np.ndarray | None = None
    inputs: np.ndarray | None = None
    beside: float | None = None
    opened: np.ndarray | None = None
    branches: np.ndarray | None = None

    def row_cycles(self, pace):
        """Cycles of a pass over each row, with ``pace`` cycles from a position to the next."""
        upper = int(np.searchsorted(PACES, pace))
        if upper == len(PACES):  # beyond the last pace almost every position takes that long
            return self.rows[-1] * (pace / PACES[-1])
        if PACES[upper] == pace:
            return self.rows[upper]
        low, high = PACES[upper - 1], PACES[upper]
        share = (pace - low) / (high - low)
        return (1 - share) * self.rows[upper - 1] + share * self.rows[upper]

    def grown(self, times, beside=1.0):
        """This with so many times the events, and with others ``beside``."""
        scaled = {name: None if (value := getattr(self, name)) is None else value * times
                  for name in ("events", "rows", "channels", "inputs")}
        return dataclasses.replace(self, **scaled, beside=None if self.beside is None else self.beside * beside)

    def opened_share(self, group):
        """The share of passes, for a ``group`` of channels each, that have an open one."""
        return 1.0 if self.opened is None else float(np.interp(np.log2(group), np.arange(len(NEIGHBOURS)), self.opened))


def measure(network, inputs, spikes, program=None):
    """The `Activity` of each layer at each time step of each sample, one sample after the other: a list of lists.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    spikes : list of int arrays (samples, time steps, n_out), one for each layer
        what it makes of them
    program : spikeloom.compiler.program.Program, optional
        of the network; the activity of sparse convolutions is then that of its very cores
    """
    fired = {INPUT: inputs} | {layer.name: z for layer, z in zip(network.layers, spikes, strict=True)}
    steps = inputs.shape[0] * inputs.shape[1]
    orders = {layer.name: placement.order
              for layer, placement in zip(network.layers, program.placements, strict=True)} if program else {}
    layers = []
    for number, (layer, (source, *others)) in enumerate(zip(network.layers, network.sources, strict=True)):
        bits = _set_bits(reference.delayed(layer, fired[source])).reshape(steps, -1)
        rows, channels, inputs, beside, opened, branches = ([None] * steps for _ in range(6))
        if isinstance(layer, Conv2d):
            own = fired[layer.name] if can_rest(layer) else None
            shortcut = _shortcut_events(layer, fired[others[0]]) if others else None
            core = program.cores[number] if program and program.placements[number].sparse else None
            z = arranged(fired[source], orders.get(source))
            rows = row_activity(layer, z, own, shortcut, core).reshape(len(PACES), steps, -1).swapaxes(0, 1)
            if others:
                beside = shortcut.reshape(steps, -1).sum(1)
            if layer.gate:
                opened = open_shares(reference.open_channels(layer, fired[source]).reshape(steps, -1))
            if core is None:
                channels = bits.reshape(steps, -1, layer.input_shape[2]).sum(1)
        else:
            inputs = _pooled_bits(layer, reference.delayed(layer, fired[source])).reshape(steps, -1)
        if layer.others:
            each = [bits, *(_set_bits(reference.delayed(branch, fired[name])).reshape(steps, -1)
                            for branch, name in zip(layer.others, others, strict=True))]
            bits, branches = np.concatenate(each, axis=1), np.stack([part.sum(1) for part in each], axis=1)
        layers.append([Activity(float(each), *more) for each, *more in zip(
            bits.sum(1), rows, channels, inputs, beside, opened, branches, strict=True)])
    return [list(step) for step in zip(*layers, strict=True)]


def mean(steps):
    """The mean `Activity` of each layer over time steps, as `measure` gives them."""
    def of(layer, name):
        values = [getattr(each, name) for each in layer]
        return None if values[0] is None else np.mean(values, axis=0)

    return [Activity(float(of(layer, "events")), *(of(layer, name) for name in (*DETAILS, "branches")))
            for layer in zip(*steps, strict=True)]


def row_activity(layer, z, own=None, beside=None, core=None):
    """Cycles (len(PACES), samples, time steps, rows) of a pass over each row of a convolution, the mean of its groups,
    for its inputs ``z`` (samples, time steps, n_in), and with the events of its shortcut, ``beside`` (samples, time
    steps, rows, columns). Where its ``own`` spikes (samples, time steps, n_out) are given, rows at rest are skipped;
    where a sparse ``core`` is, its groups only visit what they have weights for."""
    made = geometry(layer, layer.shape[2] // layer.groups)
    under = made.visits(z)
    cycles = np.maximum(under if core is None else core.visits(z), 1)
    cycles = np.add.reduceat(cycles, _firsts(made), axis=-1)
    if beside is not None:  # each event of a shortcut is one more of its position
        count = min(cycles.shape[-1], layer.shape[1])
        cycles[..., :count] += beside[..., :count]
    passes = np.stack([np.maximum(cycles, pace).sum(-1).mean(0) for pace in PACES])
    if own is not None:
        samples, steps, _ = z.shape
        fired = own.reshape(samples, steps, layer.shape[0], -1).any(3)
        fired = np.concatenate([np.zeros_like(fired[:, :1]), fired[:, :-1]], axis=1)
        passes *= fired | under.any((0, -1))
    return passes


def _firsts(window):
    """The first column of each position: those up to the end of a stride complete it."""
    columns = np.arange(window.kept[1])
    ends = (columns + window.padding[1]) % window.stride[1] == window.stride[1] - 1
    return np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1])


def open_shares(opened):
    """`Activity.opened` (steps, len(NEIGHBOURS)), where channels are ``opened``, bool (steps, channels)."""
    return np.stack([np.logical_or.reduceat(opened, np.arange(0, opened.shape[1], count), axis=1).mean(1)
                     for count in NEIGHBOURS], axis=1)


def _pooled_bits(layer, z):
    """Set bits of each input of a dense layer, behind its pool, for its source's spikes (samples, time steps, n_in)."""
    if layer.pool and layer.pool.kind == "sum":
        return reference.pool(layer, _set_bits(z))
    return _set_bits(reference.pool(layer, z))


def _shortcut_events(layer, z):
    """Events (samples, time steps, rows, columns) that a pass has for each position from the layer's shortcut."""
    channels = layer.shortcut.pooled_shape[2]
    ones = dataclasses.replace(layer.shortcut, weights=np.ones((1, channels, 1, 1), int), groups=1)
    return reference.convolve(ones, reference.pool(ones, _set_bits(z)))[..., 0] / layer.shortcut.groups


def assumed(layer, events):
    """The `Activity` of a layer of which only the ``events`` of a time step are known: they are spread evenly."""
    if layer.others:
        sizes = np.array([branch.n_in for branch in layer.branches])
        each = events / sizes.sum()
        return Activity(events, inputs=np.full(layer.n_in, each), branches=sizes * each)
    if not isinstance(layer, Conv2d):
        each = events / layer.n_in
        if layer.pool:
            block = layer.pool.rows * layer.pool.columns
            each = block * each if layer.pool.kind == "sum" else 1 - max(0.0, 1 - each) ** block
        return Activity(events, inputs=np.full(layer.weights.shape[1], each))
    made = geometry(layer)
    rows, columns = made.kept
    raw = layer.input_shape[0] * layer.input_shape[1]
    each = events / raw * made.merged[0] * made.merged[1] / layer.groups  # of a position that is kept
    starts = np.arange(layer.shape[0]) * made.stride[0] - made.padding[0]
    under = each * (np.clip(starts + made.kernel[0], 0, rows) - np.clip(starts, 0, rows)) * made.stride[1]
    positions = columns / made.stride[1]
    count = np.arange(200)
    log = np.concatenate([[0.0], np.log(count[1:]).cumsum()])
    chances = np.exp(count * np.log(np.maximum(under, 1e-9))[:, None] - under[:, None] - log)  # Poisson's
    chances[:, -1] += 1 - chances.sum(1)
    return Activity(events, np.stack([positions * (np.maximum(count, max(pace, made.stride[1])) * chances).sum(1)
                                      for pace in PACES]), _evenly(layer, events))


def _evenly(layer, events):
    channels = layer.input_shape[2]
    return np.full(channels, events / channels)


def known(network, events=None):
    """The `Activity` of each layer: for ``events`` per time step if these are given, as the network's notes have it, or
    assumed. Raises `SpikeloomError` when it is not what it should be."""
    found = {name: [None] * len(network.layers) for name in DETAILS}
    branches = [None] * len(network.layers)  # the first of these a layer's own
    if events is None and network.notes.get("events") is not None:
        events, found = network.notes["events"], found | {
            name: network.notes[name] for name in DETAILS if name in network.notes}
        if len(further := network.notes.get("events_branches", ())) == len(events):
            branches = [[own, *more] if more else None for own, more in zip(events, further, strict=True)]
            events = [own + sum(more) for own, more in zip(events, further, strict=True)]
    if events is None:
        events = [DEFAULT_ACTIVITY * sum(branch.n_in for branch in (layer, *layer.others))
                  for layer in network.layers]
    if len(events) != len(network.layers) or not all(float(each) >= 0 for each in events):
        raise SpikeloomError(f"Activity must be {len(network.layers)} numbers of events per time step, not {events}")
    activities = []
    for number, (layer, each, of_branches) in enumerate(zip(network.layers, events, branches, strict=True)):
        seen = {name: np.array(found[name][number], float) for name in DETAILS if found[name][number] is not None}
        spread = assumed(layer, float(each))
        activities.append(Activity(spread.events, *(seen.get(name, getattr(spread, name)) for name in DETAILS),
                                   spread.branches if of_branches is None else np.array(of_branches, float)))
    return activities


def notes(activities):
    """The entries of a network's notes that hold `DETAILS`."""
    return {name: [None if value is None else np.round(value, digits).tolist()
                   for value in (getattr(each, name) for each in activities)] for name, digits in DETAILS.items()}


def placed(program, activities):
    """The ``activities`` of a program's layers, with what comes to each in the order that the layers before it have on
    the array."""
    orders = {layer.name: placement.order
              for layer, placement in zip(program.network.layers, program.placements, strict=True)}
    if not any(orders.values()):
        return activities

    def ordered(values, order):
        return values if values is None else values.reshape(-1, len(order))[:, list(order)].reshape(-1)

    sources = [orders.get(source) for source, *_ in program.network.sources]
    return [each if order is None else dataclasses.replace(
        each, channels=ordered(each.channels, order), inputs=ordered(each.inputs, order))
        for each, order in zip(activities, sources, strict=True)]


def _set_bits(z):
    return np.bitwise_count(np.abs(z))


def geometry(layer, channels=1):
    """A core of a convolution for so many ``channels`` at once: what it keeps does not depend on its lanes."""
    words = WordFormat(layer.n_in, 1, shape=layer.input_shape)
    sets = -(-layer.kernel // layer.stride)
    # Nor on what there is no gateware for.
    plain = dataclasses.replace(layer, shortcut=None, attention=None, gate=None, block_gate=None, adaptation=None,
                                delay=0, fire=Spike())
    return MapCore(plain, words, sets * channels, 1)


# A core -----------------------------------------------------------------------------------------


def step_cycles(core, activity):
    """Cycles of one time step of that `Activity`, or of one for each layer that shares the core, when nothing else
    stalls it."""
    if isinstance(core, SharedCore):
        return sum(step_cycles(member, each) + member.layer.shape[0] * member.tail
                   for member, each in zip(core.members, activity, strict=True))
    if isinstance(core, MapCore):
        return float(max(_row_cycles(core, activity).sum(), sum(core.predictor.cycles) if core.gated else 0))
    if core.sparse:
        sorting, groups = _sorted_cycles(core, activity)
        return float(max(sorting, groups.sum(), (sorting + groups.sum() + SORT_CYCLES) / 2))
    cycles = core.groups * max(activity.events + 1, core.pace)
    # What a layer takes from itself it must have made, so many time steps before.
    own = [each.delay for each in core.i_words.inputs if each.source == core.layer.name]
    return max([cycles, *((cycles + sum(_latencies(core))) / delay for delay in own)])


def _latencies(core):
    """Cycles of a dense layer from the last word of a time step to its first visit, and from the end of its last group
    to its own last word."""
    updated = UPDATE_CYCLES + core.longer_updates + core.memory_registers + core.updates + core.i_words.graded
    if not isinstance(core.i_words, JointWords):
        return LIST_CYCLES, updated
    # Where layers feed back, each cycle counts: one more for the list, and those of the scanner's stages.
    return LIST_CYCLES + 1 + ((core.i_words.width - 1).bit_length() + 1) // 2, updated + 2


def rates(program, activities):
    """For each core of the array, the cycles of a time step, and the number of the first layer that is on it."""
    seen, found = placed(program, activities), []
    for number, engine in enumerate(program.engines):
        layers = [layer for layer, (on, _) in enumerate(program.places) if on == number]
        each = [seen[layer] for layer in layers]
        found.append((step_cycles(engine, each if len(layers) > 1 else each[0]), layers[0]))
    return found


def _row_cycles(core, activity):
    """Cycles of each row of a convolution's map, all its groups together."""
    if core.sparse and activity.channels is not None:
        activity = Activity(activity.events, _sparse_rows(core, activity))
    cycles = activity.row_cycles(core.pace)
    if core.gated:  # a pass without events takes its columns
        idle = np.maximum(np.diff(_firsts(core), append=core.kept[1]), core.pace).sum()
        cycles = cycles - (1 - activity.opened_share(core.group)) * np.maximum(cycles - idle, 0)
    return core.groups * cycles


def _sparse_rows(core, activity):
    """The `Activity.rows` of a sparse core, from those of a dense one. Of the events of a position each group visits
    those that it has weights for: a share of them, as often as chance has it."""
    layer, paces = core.layer, np.array(PACES)
    whole = max(activity.channels.sum(), 1e-9) / layer.groups
    seen = np.stack([activity.channels[first:first + core.seen_channels] for first in core.seen])
    shares = (core.filled.mean((1, 2)) * seen).sum(1) / whole
    if activity.beside:
        visits = whole * layer.kernel / layer.stride  # at the most: rows at the border see less
        shares = (shares * visits + activity.beside) / (visits + activity.beside)

    # How many positions have how many events: sums of what is more than a pace tell, and one number for all that have
    # more events than the last pace.
    positions = -(-(core.padding[1] % core.stride[1] + core.kept[1]) // core.stride[1])
    below = np.diff(activity.rows, axis=0) / np.diff(paces)[:, None]
    counts = np.diff(below, axis=0, prepend=0)
    many = np.maximum(np.minimum(positions, activity.rows[-1] / paces[-1]) - below[-1], 0)
    most = np.where(many > 1e-6, (activity.rows[-1] - paces[-1] * below[-1]) / np.maximum(many, 1e-6), paces[-1])
    most, place = np.unique(np.round(most).astype(int), return_inverse=True)

    events = np.concatenate([paces[:-1], most])
    cycles = _visited(events, shares, np.maximum(paces, core.kept[1] / positions))
    return (cycles[:len(paces) - 1].T @ counts) + cycles[len(paces) - 1 + place].T * many


def _visited(events, shares, least):
    """The mean, over ``shares``, of the visits that those of so many ``events`` take, where they take as many cycles as
    ``least`` at least: array (events, least)."""
    count = np.arange(events.max() + 1)
    log = np.concatenate([[0.0], np.log(count[1:]).cumsum()])
    share = np.clip(shares, 1e-9, 1 - 1e-9)[:, None, None]
    fits = count <= events[:, None]
    left = np.where(fits, events[:, None] - count, 0)
    chances = np.exp(log[events][:, None] - log[count] - log[left] + count * np.log(share) + left * np.log1p(-share))
    visits = count * np.maximum(shares, 1)[:, None]  # a group may see more than one of the convolution's
    each = np.maximum(visits[:, :, None], least)
    return np.einsum("gec,gcl->el", chances * fits, each) / len(shares)


def _sorted_cycles(core, activity):
    """Cycles in which a sparse core of a dense layer sorts the events of a time step, and those of each group's replay
    (groups,)."""
    if activity.inputs is None:
        activity = assumed(core.layer, activity.events)
    there, seen = core.sparse_rows.there, activity.inputs.astype(float)
    # A share of an event, which the mean of several time steps has, is one now and then: long replays cost more than
    # short ones save, as no group takes less than the pace.
    share = seen % 1
    visits, variance = there @ seen, there @ (share * (1 - share))
    ahead, deviation = visits + 1 - core.pace, np.sqrt(np.maximum(variance, 1e-12))
    normal = statistics.NormalDist()
    likely, dense = (np.array([of(each) for each in ahead / deviation]) for of in (normal.cdf, normal.pdf))
    return float(seen @ np.maximum(there.sum(0), 1)) + 1, core.pace + ahead * likely + deviation * dense


def estimate_luts(core, target):
    """Look-up tables of a core, on iCE40 logic cells, from its widths; synthesized cores lie within a fifth of it."""
    if isinstance(core, SharedCore):  # the largest, and of the others what keeps their rows and counts their places
        each = sorted((estimate_luts(member, target), _kept_luts(member, target)) for member in core.members)
        return each[-1][0] + sum(kept + SHARER_LUTS[target.family] for _, kept in each[:-1])
    lane = 2 * core.current_width
    code = core.weight_format.width
    if core.i_words.graded:
        lane += (code + core.i_words.width - 1) * (1 + core.i_words.signed) + core.i_words.signed
    if target.family == "ecp5":
        lane += 4  # each carry chain is entered and left through a cell of its own
    if target.family == "ice40":
        lane += code  # a register without logic still takes a cell
    unit = _unit_luts(core, target)
    control = 250 + 4 * (core.i_words.width + core.i_words.index_width)
    control += SOURCE_LUTS[target.family] * (len(core.i_words.inputs) - 1)
    control += 150 if target.family == "ice40" else 0
    if isinstance(core, MapCore):
        lane += core.current_width  # a sum stays or moves on to the next position
        control = 100 + core.group * core.current_width + _kept_luts(core, target)  # sums on their way out; rows
        control += 590 if target.family == "ice40" else 0  # most registers on the way stand alone
        control += _gate_luts(core, target) if core.gated else 0
    elif core.sparse:
        control += _sorter_luts(core, target)
    if core.reloadable:
        control += sum(LOAD_LUTS + bits for _, bits in core.image_shapes.values())
    return round(core.lanes * lane + core.units * unit + control)


def _unit_luts(core, target):
    """Look-up tables of an update unit: adders, which make up most of it, and on iCE40 registers that stand alone."""
    layer, grid, alone = core.layer, core.layer.grid, target.family == "ice40"
    potential, leaks = core.potential_width, isinstance(layer.leak, ShiftLeak)
    unit = core.current_width + potential + core.above_width + 10 + 25 * alone + _state_luts(core, alone)
    if not grid:
        return unit + potential + 2 * layer.v_width * (1 + leaks)
    of_threshold = core.levels_of_threshold
    step = core.minus_threshold.width if of_threshold else signed_width(-grid.step, 0)
    followed = step * (alone and of_threshold)  # a threshold on its way from a stage to the next
    unit += core.stored_width * (2 * leaks or alone) + (core.current_width + core.minus_threshold.width) * alone
    if not core.encodes_at_once:
        unit += potential + 2 * (potential + followed) * alone

    # Chains of carries by their lengths: of what a level stands for, and of the level that a potential becomes.
    chains = []
    if not isinstance(layer.leak, TableLeak):
        if not of_threshold:
            chains += [grid.width] * (grid.step.bit_count() - 1)
        else:
            chains += [step] if core.ternary else [step + 2] * grid.width
    if grid.bounds is not None:
        chains += [potential] * grid.width
        unit += 3 * potential * grid.width * alone
    elif core.rounds:
        chains += [potential, grid.width]
    elif core.ternary:
        chains += [potential] * (1 + of_threshold)
        unit += step * of_threshold
    else:
        chains += [2 * (step + grid.width)] * of_threshold
        left = potential + grid.shift + 1
        chains += [left] + [left + step + 2] * grid.width
        unit += followed * grid.width
    if target.family == "ecp5":  # where chains are entered and left through cells of their own
        chains = [16, *(each + 5 for each in chains)]
    return unit + sum(chains)


def _state_luts(core, alone):
    """Look-up tables of an update unit for counts, activations, and states beside the potential: adders, saturation,
    and where they stand alone registers from stage to stage."""
    layer, total = core.layer, 0
    if core.graded:
        count = signed_width(*core.o_words.bounds)
        total += core.over_width(layer.fire.low) * (layer.fire.low < 0) + 4 * count
    if layer.act:
        total += core.biased_width * (1 + alone)
    if isinstance(layer.act, TableActivation):
        total += 2 * core.act_width * alone + len(layer.act.table).bit_length()
    for state, sums in ((layer.current, core.driving_width), (layer.adaptation, core.minus_raised_width)):
        if state:
            shifts = isinstance(state.leak, ShiftLeak)
            total += (2 + 2 * shifts + 2 * alone) * state.width + (1 + alone) * sums
    if layer.adaptation:
        total += core.raised_width + layer.adaptation.width * alone
    return total + alone * core.stored_width * (core.driven_stage - 1)


def _sorter_luts(core, target):
    """Look-up tables that sort events by groups: they grow with what an entry of a list holds."""
    memories = core.memories
    entry = memories["visits"][1]
    if target.family != "ice40":
        return 100 + 10 * entry
    rows, bits = memories["numbers_0"]
    return 250 + 20 * entry + (5 * rows * bits if rows * bits <= FLIP_FLOP_BITS else 0)


def _gate_luts(core, target):
    """Look-up tables of a channel gate: for each sum beside others, for each product and logit, and what counts."""
    predictor, alone = core.predictor, target.family == "ice40"
    bits, value = signed_width(*predictor.gate.weight_format.bounds), predictor.value_width
    chain = 0 if alone else 4
    unit = bits * value + (bits - 1) * (value + 4 + chain) + (3 if alone else 2) * predictor.logit_width + chain
    each = predictor.sum_width * (5 if alone else 3) + chain
    # Synthesis makes flip-flops of what would leave most of its block RAM empty.
    shallow = sum(entries * width for entries, width in predictor.memories.values() if entries * width < BLOCK_BITS
                  and entries <= 16) if alone else 0
    return (330 if alone else 170) + predictor.beside * each + core.units * unit + 1.7 * shallow


def _kept_luts(core, target):
    """Look-up tables that grow with what is under a convolution's kernel."""
    value = core.i_words.width if core.i_words.graded else 1
    seen = core.banks << (value - 1).bit_length() + (core.seen_channels - 1).bit_length()
    masks = _mask_luts(core, target) if core.sparse else 0
    if target.family != "ice40":
        return 4 * seen + masks
    rows = [entries * bits for name, (entries, bits) in core.memories.items() if name.startswith("row_")]
    return 10 * seen + masks + 2 * sum(bits for bits in rows if bits <= FLIP_FLOP_BITS)  # small rows are registers


def _mask_luts(core, target):
    """Look-up tables of masks: about as many as there is to tell."""
    if len(core.masks) > MASK_DEPTH:
        return 0
    bits = sum(entries * width for name, (entries, width) in core.memories.items() if name.startswith("mask_"))
    share = np.clip(core.filled.mean(), 1e-9, 1 - 1e-9)
    return MASK_LUTS[target.family] * bits * -(share * np.log2(share) + (1 - share) * np.log2(1 - share))


def estimate_blocks(core, target):
    """Block RAMs of a core."""
    memories = core.memories
    if core.memory == "single_port":
        del memories["weights"]
    # What is small but not read-only would take flip-flops where there is no memory made of look-up tables; synthesis
    # makes so many of them and no more. And a byte that can be written alone takes a column of nine bits whole.
    by_bytes = dataclasses.replace(target, shapes=tuple(
        (depth, width - width % 8 if width > 8 else width) for depth, width in target.shapes))
    total = 0
    for name, (entries, bits) in memories.items():
        mask = name.startswith("mask_")
        if (mask and entries <= MASK_DEPTH) or (name == "gate_biases" and core.predictor.logic_biases):
            continue  # made of logic
        loadable = name in core.image_names or re.fullmatch(r"(.*leak|act)_\d+", name) or mask
        written = core.reloadable or not loadable
        if entries * bits >= BLOCK_BITS or (written and target.family == "ice40" and entries * bits > FLIP_FLOP_BITS):
            total += (by_bytes if core.reloadable and loadable else target).blocks_for(entries, bits)
    return total


# A program --------------------------------------------------------------------------------------


def predict(program, steps):
    """Clock cycles from the first input word to the last score.

    Parameters
    ----------
    steps : list of lists of `Activity`
        of each layer at each time step of a stream of samples, which have as many as the network allows; means will do

    A time step of a dense layer moves through the pipeline under four rules: the layer replays a list once it is
    complete and its own last replay is over; a group ends no sooner than its events or its update units allow; before
    its first group ends, the layers behind must have a free bank; and each list has two banks. A convolution goes row
    by row: one begins once the rows that it sees are complete and the one before is done, and once the layers behind
    have a bank for it; and its own banks are free again once no later row sees them. With a gate, its first row begins
    once that has decided.
    """
    steps = [placed(program, step) for step in steps]
    stages = []
    for number, core in enumerate(program.cores):
        seen = [step[number] for step in steps]
        stages.append(_MapStage(core, seen) if isinstance(core, MapCore) else
                      (_SortStage if core.sparse else _ListStage)(core, seen, program.network.time_steps))
    shared = [_Turns([stages[number] for number, (engine, _) in enumerate(program.places) if engine == each])
              for each, core in enumerate(program.engines) if len(core.members) > 1]
    by_name = {core.layer.name: stage for core, stage in zip(program.cores, stages, strict=True)}
    source = _Source(program, steps)
    for stage, core, names in zip(stages, program.cores, program.network.sources, strict=True):
        if isinstance(core, MapCore):
            stage.follow(by_name.get(names[0], source))
            continue
        inputs = core.i_words.inputs
        for name, each in zip([each.source or name for name, each in itertools.zip_longest(
                names[:len(inputs)], inputs)], inputs, strict=True):
            stage.take(by_name.get(name, source), each)
    readout = _Readout(program, len(steps))
    readout.follow(stages[-1])
    waiting = [source, *stages, readout]
    while waiting:  # each goes as far as the others let it, and then whoever has a turn
        left = [stage for stage in waiting if stage.left]
        if left and not any([stage.advance() for stage in left]) and not any(turns.advance() for turns in shared):
            raise RuntimeError("the stages of the array wait for each other")
        waiting = left
    return round(float(readout.ended[-1] + SCORE_CYCLES))


class _Stage:
    """A part of the pipeline: what it makes come in items (rows of time steps), of which each has a time at which it
    has left, in ``done``. Times are in cycles."""

    def __init__(self, items, per_step):
        self.left, self.per_step = items, per_step
        self.done, self.followers = [], []

    #: Cycles by which it begins before what it was promised is there.
    ahead = 0

    def follow(self, stage):
        """Take what ``stage`` makes."""
        self.source = stage
        stage.followers.append(self)

    def permitted(self, item):
        """When all followers have room for an item, or None while that is not known."""
        times = [follower.room(item) for follower in self.followers]
        return None if None in times else max(times)


class _Source(_Stage):
    """The words of the input: one a cycle, and one for the end of each row."""

    def __init__(self, program, steps):
        taker, place = next(((number, names.index(INPUT)) for number, names in enumerate(program.network.sources)
                             if INPUT in names), (0, None))
        events = [0.0 if place is None else step[taker].events if step[taker].branches is None else
                  step[taker].branches[place] for step in steps]
        rows = max((core.layer.input_shape[0] if isinstance(core, MapCore) else 1 for core, names in
                    zip(program.cores, program.network.sources, strict=True) if INPUT in names), default=1)
        super().__init__(len(steps) * rows, rows)
        self.ahead = UPDATE_CYCLES if rows > 1 else 0  # a row is promised as soon as the one before it is read
        self.words = [max(1.0, _words(program.i_words, each)) for each in events]
        self.at = -1.0

    def advance(self):
        permit = self.permitted(len(self.done))
        if permit is None:
            return False
        words = self.words[len(self.done) // self.per_step] / self.per_step
        self.at = max(self.at, permit - self.ahead) + words + (self.per_step > 1)
        self.done.append(self.at)
        self.left -= 1
        return True


class _Feed:
    """What comes to a dense layer from one source."""

    def __init__(self, stage, source, input):
        self.stage, self.source, self.input = stage, source, input
        source.followers.append(self)

    def room(self, item):
        """When there is room for a row that the source makes, or None while that is not known."""
        step, row = divmod(item, self.source.per_step)
        if row or step < self.input.banks:
            return 0.0  # a permit is for all rows
        before, length = step - self.input.banks, self.stage.length
        until = min(before + self.input.delay, before - before % length + length - 1)  # at a sample's end all goes
        released = self.stage.released
        return released[until] + PERMIT_CYCLES if len(released) > until else None

    def complete(self, step):
        """When what the layer needs for a time step is there, or None while that is not known."""
        time, delay = step % self.stage.length, self.input.delay
        needed, dropped = step - delay, 0
        if time < delay:
            if time or not step:
                return 0.0
            needed, dropped = step - 1, DROP_CYCLES
        done, last = self.source.done, (needed + 1) * self.source.per_step - 1
        return done[last] + dropped if len(done) > last else None


class _ListStage(_Stage):
    """A dense layer, of samples of so many time steps."""

    def __init__(self, core, activities, length):
        super().__init__(len(activities), 1)
        self.core, self.activities, self.length, self.feeds = core, activities, length, []
        self.read, self.ended, self.released = 0.0, -1.0, []

    def take(self, stage, input):
        """Take what ``stage`` makes, as an `Input`."""
        self.feeds.append(_Feed(self, stage, input))

    def due(self):
        """The next time step, when its spikes may go on and when its lists are complete; None while that is not known.
        """
        step = len(self.done)
        permit, ready = self.permitted(step), [feed.complete(step) for feed in self.feeds]
        return None if permit is None or None in ready else (step, permit, max(ready))

    def entries(self, step):
        """Of all lists, their end included."""
        seen = self.activities[step]
        each = [seen.events] if seen.branches is None else seen.branches
        return 1 + sum(_words(feed.input.words, events) for feed, events in zip(self.feeds, each, strict=False))

    def advance(self):
        due = self.due()
        if due is None:
            return False
        core, (step, permit, ready) = self.core, due
        seen = self.activities[step].events
        entries = self.entries(step)
        group = max(seen + 1, core.pace)
        begin = max(ready + _latencies(core)[0], self.ended + 1)
        first = max(begin + seen, self.ended + core.pace if step else 0.0, permit)
        self.ended = first + (core.groups - 1) * group
        ahead = READ_AHEAD * (seen + 1) / entries  # visits that the entries in flight amount to
        self.read = max(max(ready + 4, self.read + 1) + core.groups * entries, self.ended - ahead)
        self.released.append(self.read)
        self.finish()
        return True

    def finish(self):
        """The last group has ended."""
        self.done.append(self.ended + _latencies(self.core)[1])
        self.left -= 1


class _SortStage(_ListStage):
    """A dense layer whose core is sparse: a list is sorted once, into one of two banks, while the other is replayed."""

    def __init__(self, core, activities, length):
        super().__init__(core, activities, length)
        self.sorted, self.replayed = 0.0, []

    def advance(self):
        due = self.due()
        if due is None:
            return False
        core, (step, permit, ready) = self.core, due
        sorting, groups = _sorted_cycles(core, self.activities[step])
        free = self.replayed[step - 2] if step >= 2 else core.groups
        entries = self.entries(step)
        self.sorted = max(ready + LIST_CYCLES, self.sorted, free) + sorting
        first = max(max(self.sorted + SORT_CYCLES, self.ended) + groups[0],
                    self.ended + core.pace if step else 0.0, permit)
        self.ended = first + groups[1:].sum()
        self.replayed.append(self.ended)
        self.read = max(max(ready + 4, self.read + 1) + entries, self.sorted - READ_AHEAD * sorting / entries)
        self.released.append(self.read)
        self.finish()
        return True


class _MapStage(_Stage):
    """A convolution."""

    def __init__(self, core, activities):
        rows = core.layer.shape[0]
        super().__init__(len(activities) * rows, rows)
        self.core, self.turns = core, None
        entry = core.banks * core.seen_channels * (core.i_words.width if core.i_words.graded else 1)
        self.in_flight = min(core.kept[1], IN_FLIGHT + (entry - 1).bit_length() / 2)  # columns: one a scanner's stage
        self.cycles = [_row_cycles(core, each) for each in activities]
        kept, tops = core.kept[0], [core.stride[0] * row - core.padding[0] for row in range(rows)]
        self.needed = [min(top + core.kernel[0], kept) for top in tops]
        self.dropped = [*(min(max(top, 0), kept) for top in tops[1:]), kept]
        self.ended, self.free = -1.0, []  # when the row before was done; when rows that were kept got free
        self.decided = []  # of a gate: when time steps were
        # Rows that could wait: words of each, by time step, and when the last of them was kept.
        self.words = [_words(core.i_words, each.events) / core.layer.input_shape[0] + 1 for each in activities]
        self.arrived = []

    def room(self, item):
        step, raw = divmod(item, self.source.per_step)
        gate = 0.0
        if self.core.gated and step and not raw:
            gate = self._cleared(step - 1)
            if gate is None:
                return None
            gate += PERMIT_CYCLES + self.source.ahead
        kept = self._kept(item - self.core.waiting[0])
        return None if kept is None else max(gate, kept)

    def _kept(self, item):
        """When a row has a place among those that are kept, or None."""
        if item < 0:
            return 0.0
        step, raw = divmod(item, self.source.per_step)
        row, place = divmod(raw, self.core.merged[0])
        if place or row >= self.core.kept[0]:
            return 0.0
        before = step * self.core.kept[0] + row - self.core.banks
        if before < 0:
            return 0.0
        return self.free[before] + PERMIT_CYCLES if len(self.free) > before else None

    def _arrival(self, item):
        """When a row that could wait is kept, or None."""
        while len(self.arrived) <= item:
            at = len(self.arrived)
            room = self._kept(at)
            if room is None or len(self.source.done) <= at:
                return None
            over = max(room, self.arrived[-1] if at else 0.0) + self.words[at // self.source.per_step]
            self.arrived.append(max(over, self.source.done[at] + QUEUE_CYCLES))
        return self.arrived[item]

    def _cleared(self, step):
        """When the gate has taken the sums of a time step, or None."""
        last = (step + 1) * self.source.per_step - 1
        before = self._decides(step - 1) if step else 0.0
        if before is None or len(self.source.done) <= last:
            return None
        return max(before, self.source.done[last]) + self.core.predictor.cycles[0]

    def _decides(self, step):
        """When the gate has decided on a time step, or None. It remembers two of them."""
        if len(self.decided) <= step:
            cleared, gone = self._cleared(step), (step - 1) * self.per_step
            if cleared is None or len(self.done) < gone:
                return None
            self.decided.append(max(cleared, self.done[gone - 1] if gone > 0 else 0.0) + self.core.predictor.cycles[1])
        return self.decided[step]

    def advance(self):
        begin = None if self.turns else self.ready()
        if begin is None:
            return False
        self.go(begin)
        return True

    def ready(self):
        """When the next row could begin, or None while that is not known."""
        step, row = divmod(len(self.done), self.per_step)
        core, permit = self.core, self.permitted(len(self.done))
        raw = min(self.needed[row] * core.merged[0], self.source.per_step)
        if row == self.per_step - 1:
            raw = self.source.per_step  # the last row that is kept is complete when the time step is
        last = step * self.source.per_step + raw - 1
        if not self.left or permit is None or len(self.source.done) <= last:
            return None
        wait = MAP_CYCLES if self.cycles[step][row] else SKIP_CYCLES[1]
        complete = self._arrival(last) if core.waiting[0] else self.source.done[last]
        decided = self._decides(step) if core.gated else 0.0
        if complete is None or decided is None:
            return None
        if self.turns:  # it must be there before the row may begin
            permit += UPDATE_CYCLES
        return max(self.ended, complete + wait, decided + GATE_CYCLES, permit - UPDATE_CYCLES)

    def go(self, begin):
        """Do a row."""
        step, row = divmod(len(self.done), self.per_step)
        core, cycles = self.core, self.cycles[step][row]
        after = UPDATE_CYCLES + core.longer_updates + core.updates
        if not cycles:
            cycles, _, after = SKIP_CYCLES
        self.ended = begin + cycles + (core.tail if self.turns else 0)
        # Columns are read ahead of their visits: the more events they have, the longer.
        ahead = max(0.0, self.in_flight * cycles / (core.groups * core.kept[1]) - FLIGHT_CYCLES)
        self.free += [self.ended - ahead] * (step * core.kept[0] + self.dropped[row] - len(self.free))
        if row == self.per_step - 1 and not self.turns:
            self.ended += core.tail
        after += 2 + core.memory_registers if core.sparse else 0  # on the way, where rows of weights are looked up
        self.done.append(self.ended + after + core.memory_registers)
        self.left -= 1


class _Turns:
    """Convolutions that share a core: a row of the last that is ready when the core is, or else of the first to be."""

    def __init__(self, stages):
        self.stages, self.ended = stages, 0.0
        for stage in stages:
            stage.turns = self

    def advance(self):
        begins = [stage.ready() for stage in self.stages]
        known = [(begin, -number) for number, begin in enumerate(begins) if begin is not None]
        if not known:
            return False
        _, number = min((max(begin, self.ended), number) for begin, number in known)
        stage = self.stages[-number]
        stage.go(max(begins[-number], self.ended))
        self.ended = stage.ended
        return True


class _Readout(_Stage):
    """Takes a time step when the one two before is done."""

    def __init__(self, program, steps):
        super().__init__(steps, 1)
        self.ended = self.done

    def room(self, item):
        if item < 2:
            return 0.0
        return self.done[item - 2] + PERMIT_CYCLES if len(self.done) > item - 2 else None

    def advance(self):
        if len(self.source.done) <= len(self.done):
            return False
        self.done.append(self.source.done[len(self.done)])
        self.left -= 1
        return True


def _words(words, events):
    """Words that so many events come in, spread evenly: spikes share them."""
    if words.width == 1 or words.graded:
        return events
    return words.most * (1 - (1 - 1 / words.most) ** events)


#: Pipeline delays of the blocks in `spikeloom.hw`, in cycles, fitted to simulations of ten designs: from a list's
#: last word to the first visit, from a bank read to its next permit seen, from a group's end to its last spike word
#: (less one cycle an update), and from there to the last score. And entries that a list's reader may be ahead of the
#: visits; and from a row's last word to the first column that sees it.
LIST_CYCLES, PERMIT_CYCLES, UPDATE_CYCLES, SCORE_CYCLES, READ_AHEAD, MAP_CYCLES = 7, 3, 10, 10, 7, 16

#: From a row into a queue to its end out of it, and from a gate's decision to the first column.
QUEUE_CYCLES, GATE_CYCLES = 5, 10

#: From the last time step of a sample to what is left of it being dropped where it came with a delay.
DROP_CYCLES = 4

#: From a time step sorted to its first visit.
SORT_CYCLES = 13

#: Columns between a line buffer and its scanner's end, and the cycles that empty ones take there.
IN_FLIGHT, FLIGHT_CYCLES = 3, 9

#: Of a row that is skipped: its own cycles, those from the end of the last row that it would have seen, and those to
#: its mark's arrival.
SKIP_CYCLES = 2, 10, 16
