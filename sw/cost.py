"""What a core costs: cycles, look-up tables and block RAMs.

A dense layer's cycles follow from how many events come. A convolution's also from where they come, because a column
without events takes a cycle all the same, and one with more events than the update units need takes as many as it has.
So activity, by which the compiler chooses, is for each layer a `Activity`: the events of a time step, and for a
convolution the cycles of a pass over each of its rows.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from . import reference
from .core import BLOCK_BITS
from .errors import SpikeloomError
from .map_core import MapCore, can_rest
from .network import INPUT, Conv2d, ShiftLeak, Spike
from .sharing import SharedCore
from .words import WordFormat

#: The activity assumed where none was measured: this share of a layer's inputs per time step.
DEFAULT_ACTIVITY = 0.1

#: Bits of a memory that synthesis for an iCE40 makes of flip-flops rather than of a block RAM.
FLIP_FLOP_BITS = 64

#: Logic that each layer but one of those that share a core adds to it, beside what grows with its rows.
SHARER_LUTS = {"ice40": 350, "ecp5": 400, "gowin": 400}

#: Logic to write and read a memory, beside what each byte of its rows takes.
LOAD_LUTS = 30

#: Cycles between two positions for which the passes of a convolution are measured; others lie between them.
PACES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


# Activity ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """What comes to a layer in a time step.

    Parameters
    ----------
    events : float
        set bits of its inputs, before pooling
    rows : array (len(PACES), rows of the layer's map), of a convolution
        cycles of one pass over the columns, for each of its rows and each of `PACES`; 0 for a row that is skipped
    """

    events: float
    rows: np.ndarray | None = None

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


def measure(network, inputs, spikes):
    """The `Activity` of each layer at each time step of each sample, one sample after the other: a list of lists.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    spikes : list of int arrays (samples, time steps, n_out), one for each layer
        what it makes of them
    """
    fired = {INPUT: inputs} | {layer.name: z for layer, z in zip(network.layers, spikes, strict=True)}
    steps = inputs.shape[0] * inputs.shape[1]
    layers = []
    for layer, (source, *others) in zip(network.layers, network.sources, strict=True):
        events = _set_bits(fired[source]).sum(-1).reshape(steps)
        rows = [None] * steps
        if isinstance(layer, Conv2d):
            own = fired[layer.name] if can_rest(layer) else None
            beside = fired[others[0]] if others else None
            rows = row_activity(layer, fired[source], own, beside).reshape(len(PACES), steps, -1).swapaxes(0, 1)
        layers.append([Activity(float(each), row) for each, row in zip(events, rows, strict=True)])
    return [list(step) for step in zip(*layers, strict=True)]


def mean(steps):
    """The mean `Activity` of each layer over time steps, as `measure` gives them."""
    return [Activity(float(np.mean([each.events for each in layer])),
                     None if layer[0].rows is None else np.mean([each.rows for each in layer], axis=0))
            for layer in zip(*steps, strict=True)]


def row_activity(layer, z, own=None, beside=None):
    """Cycles (len(PACES), samples, time steps, rows) of a pass over each row of a convolution, for its inputs ``z``
    (samples, time steps, n_in), and those of its shortcut, ``beside``. Where its ``own`` spikes (samples, time steps,
    n_out) are given, rows at rest are skipped."""
    made = geometry(layer)
    samples, steps, _ = z.shape
    if layer.pool and layer.pool.kind == "sum":
        z = z.reshape(samples, steps, *layer.input_shape)
    else:
        z = reference.pool(layer, z)
    rows, columns = made.kept
    events = _set_bits(z[:, :, :rows, :columns]).sum(-1) / layer.groups
    for axis, size in ((2, rows), (3, columns)):  # what no kernel meets is not kept
        side = axis - 2
        met = (np.arange(size) + made.padding[side]) % made.stride[side] < made.kernel[side]
        events = events * met.reshape((-1, 1) if axis == 2 else (-1,))
    before = np.concatenate([np.zeros((samples, steps, 1, columns)), events.cumsum(2)], axis=2)
    starts = np.arange(layer.shape[0]) * made.stride[0] - made.padding[0]
    under = before[:, :, np.clip(starts + made.kernel[0], 0, rows)] - before[:, :, np.clip(starts, 0, rows)]
    cycles = np.maximum(under, 1)
    # Columns up to the end of a stride complete a position.
    ends = (np.arange(columns) + made.padding[1]) % made.stride[1] == made.stride[1] - 1
    first = np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1])
    cycles = np.add.reduceat(cycles, first, axis=3)
    if beside is not None:  # each event of a shortcut is one more of its position
        channels = layer.shortcut.pooled_shape[2]
        ones = dataclasses.replace(layer.shortcut, weights=np.ones((1, channels, 1, 1), int), groups=1)
        each = reference.convolve(ones, reference.pool(ones, _set_bits(beside)))[..., 0] / layer.shortcut.groups
        count = min(cycles.shape[3], layer.shape[1])
        cycles[..., :count] += each[..., :count]
    passes = np.stack([np.maximum(cycles, pace).sum(3) for pace in PACES])
    if own is not None:
        fired = own.reshape(samples, steps, layer.shape[0], -1).any(3)
        fired = np.concatenate([np.zeros_like(fired[:, :1]), fired[:, :-1]], axis=1)
        passes *= fired | under.any(3)
    return passes


def assumed(layer, events):
    """The `Activity` of a layer of which only the ``events`` of a time step are known: they are spread evenly."""
    if not isinstance(layer, Conv2d):
        return Activity(events)
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
                                      for pace in PACES]))


def known(network, events=None):
    """The `Activity` of each layer: for ``events`` per time step if these are given, as the network's notes have it, or
    assumed. Raises `SpikeloomError` when it is not what it should be."""
    notes, rows = network.notes, [None] * len(network.layers)
    if events is None and notes.get("events") is not None:
        events, rows = notes["events"], notes.get("rows", rows)
    if events is None:
        events = [DEFAULT_ACTIVITY * layer.n_in for layer in network.layers]
    if len(events) != len(network.layers) or not all(float(each) >= 0 for each in events):
        raise SpikeloomError(f"Activity must be {len(network.layers)} numbers of events per time step, not {events}")
    return [assumed(layer, float(each)) if row is None else Activity(float(each), np.array(row, float))
            for layer, each, row in zip(network.layers, events, rows, strict=True)]


def notes(activities):
    """The entry ``rows`` of a network's notes."""
    return {"rows": [None if each.rows is None else np.round(each.rows, 2).tolist() for each in activities]}


def _set_bits(z):
    return np.bitwise_count(np.abs(z))


def geometry(layer):
    """A core of a convolution, of the least size: what it keeps does not depend on its lanes."""
    words = WordFormat(layer.n_in, 1, shape=layer.input_shape)
    sets = -(-layer.kernel // layer.stride)
    # Nor on what there is no gateware for.
    return MapCore(dataclasses.replace(layer, shortcut=None, attention=None, fire=Spike()), words, sets, 1)


# A core -----------------------------------------------------------------------------------------


def step_cycles(core, activity):
    """Cycles of one time step of that `Activity`, or of one for each layer that shares the core, when nothing else
    stalls it."""
    if isinstance(core, SharedCore):
        return sum(step_cycles(member, each) + member.layer.shape[0] * member.tail
                   for member, each in zip(core.members, activity, strict=True))
    if isinstance(core, MapCore):
        return float(core.groups * activity.row_cycles(core.pace).sum())
    return core.groups * max(activity.events + 1, core.pace)


def estimate_luts(core, target):
    """Look-up tables of a core, on iCE40 logic cells, from its widths; synthesized cores lie within a fifth of it."""
    if isinstance(core, SharedCore):  # the largest, and of the others what keeps their rows and counts their places
        each = sorted((estimate_luts(member, target), _kept_luts(member, target)) for member in core.members)
        return each[-1][0] + sum(kept + SHARER_LUTS[target.family] for _, kept in each[:-1])
    layer = core.layer
    lane = 2 * core.current_width
    if core.i_words.graded:
        lane += layer.weight_format.width + core.i_words.width - 1
    if target.family == "ecp5":
        lane += 4  # each carry chain is entered and left through a cell of its own
    if target.family == "ice40":
        lane += layer.weight_format.width  # a register without logic still takes a cell
    unit = core.current_width + 2 * core.potential_width + core.above_width + 2 * layer.v_width + 10
    unit += 2 * layer.v_width if isinstance(layer.leak, ShiftLeak) else 0
    unit += 25 if target.family == "ice40" else 0  # likewise the pipeline's registers
    control = 250 + 4 * (core.i_words.width + core.i_words.index_width)
    control += 150 if target.family == "ice40" else 0
    if isinstance(core, MapCore):
        lane += core.current_width  # a sum stays or moves on to the next position
        control = 100 + core.group * core.current_width + _kept_luts(core, target)  # sums on their way out; rows
        control += 590 if target.family == "ice40" else 0  # most registers on the way stand alone
    if core.reloadable:
        control += sum(LOAD_LUTS + bits for _, bits in core.image_shapes.values())
    return round(core.lanes * lane + core.units * unit + control)


def _kept_luts(core, target):
    """Look-up tables that grow with what is under a convolution's kernel."""
    value = core.i_words.width if core.i_words.graded else 1
    seen = core.banks << (value - 1).bit_length() + (core.seen_channels - 1).bit_length()
    if target.family != "ice40":
        return 4 * seen
    rows = [entries * bits for name, (entries, bits) in core.memories.items() if name.startswith("row_")]
    return 10 * seen + 2 * sum(bits for bits in rows if bits <= FLIP_FLOP_BITS)  # small rows are made of registers


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
        loadable = name in core.image_names or name.startswith("leak_")
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
        of each layer at each time step of a stream of samples; means will do

    A time step of a dense layer moves through the pipeline under four rules: the layer replays a list once it is
    complete and its own last replay is over; a group ends no sooner than its events or its update units allow; before
    its first group ends, the layers behind must have a free bank; and each list has two banks. A convolution goes row
    by row: one begins once the rows that it sees are complete and the one before is done, and once the layers behind
    have a bank for it; and its own banks are free again once no later row sees them.
    """
    stages = [(_MapStage if isinstance(core, MapCore) else _ListStage)(core, [step[number] for step in steps])
              for number, core in enumerate(program.cores)]
    shared = [_Turns([stages[number] for number, (engine, _) in enumerate(program.places) if engine == each])
              for each, core in enumerate(program.engines) if len(core.members) > 1]
    by_name = {core.layer.name: stage for core, stage in zip(program.cores, stages, strict=True)}
    source = _Source(program, [step[0] for step in steps])
    for stage, names in zip(stages, program.network.sources, strict=True):
        for name in names[:1]:
            stage.follow(by_name.get(name, source))
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

    def __init__(self, program, activities):
        rows = max(core.layer.input_shape[0] if isinstance(core, MapCore) else 1
                   for core, names in zip(program.cores, program.network.sources, strict=True) if names[0] == INPUT)
        super().__init__(len(activities) * rows, rows)
        self.ahead = UPDATE_CYCLES if rows > 1 else 0  # a row is promised as soon as the one before it is read
        self.words = [max(1.0, _words(program.i_words, each.events)) for each in activities]
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


class _ListStage(_Stage):
    """A dense layer."""

    def __init__(self, core, activities):
        super().__init__(len(activities), 1)
        self.core, self.activities = core, activities
        self.read, self.ended, self.released = 0.0, -1.0, []

    def room(self, item):
        step, row = divmod(item, self.source.per_step)
        if row or step < 2:
            return 0.0  # a permit is for all rows
        return self.released[step - 2] + PERMIT_CYCLES if len(self.released) > step - 2 else None

    def advance(self):
        step = len(self.done)
        last = (step + 1) * self.source.per_step - 1
        permit = self.permitted(step)
        if permit is None or len(self.source.done) <= last:
            return False
        core, ready = self.core, self.source.done[last]
        seen = self.activities[step].events
        entries = _words(core.i_words, seen) + 1
        group = max(seen + 1, core.pace)
        begin = max(ready + LIST_CYCLES, self.ended + 1)
        first = max(begin + seen, self.ended + core.pace if step else 0.0, permit)
        self.ended = first + (core.groups - 1) * group
        ahead = READ_AHEAD * (seen + 1) / entries  # visits that the entries in flight amount to
        self.read = max(max(ready + 4, self.read + 1) + core.groups * entries, self.ended - ahead)
        self.released.append(self.read)
        self.done.append(self.ended + UPDATE_CYCLES + core.memory_registers + core.updates)
        self.left -= 1
        return True


class _MapStage(_Stage):
    """A convolution."""

    def __init__(self, core, activities):
        rows = core.layer.shape[0]
        super().__init__(len(activities) * rows, rows)
        self.core, self.turns = core, None
        entry = core.banks * core.seen_channels * (core.i_words.width if core.i_words.graded else 1)
        self.in_flight = min(core.kept[1], IN_FLIGHT + (entry - 1).bit_length() / 2)  # columns: one a scanner's stage
        self.cycles = [core.groups * each.row_cycles(core.pace) for each in activities]
        kept, tops = core.kept[0], [core.stride[0] * row - core.padding[0] for row in range(rows)]
        self.needed = [min(top + core.kernel[0], kept) for top in tops]
        self.dropped = [*(min(max(top, 0), kept) for top in tops[1:]), kept]
        self.ended, self.free = -1.0, []  # when the row before was done; when rows that were kept got free

    def room(self, item):
        step, raw = divmod(item, self.source.per_step)
        row, place = divmod(raw, self.core.merged[0])
        if place or row >= self.core.kept[0]:
            return 0.0
        before = step * self.core.kept[0] + row - self.core.banks
        if before < 0:
            return 0.0
        return self.free[before] + PERMIT_CYCLES if len(self.free) > before else None

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
        if self.turns:  # it must be there before the row may begin
            permit += UPDATE_CYCLES
        return max(self.ended, self.source.done[last] + wait, permit - UPDATE_CYCLES)

    def go(self, begin):
        """Do a row."""
        step, row = divmod(len(self.done), self.per_step)
        core, cycles, after = self.core, self.cycles[step][row], UPDATE_CYCLES + self.core.updates
        if not cycles:
            cycles, _, after = SKIP_CYCLES
        self.ended = begin + cycles + (core.tail if self.turns else 0)
        # Columns are read ahead of their visits: the more events they have, the longer.
        ahead = max(0.0, self.in_flight * cycles / (core.groups * core.kept[1]) - FLIGHT_CYCLES)
        self.free += [self.ended - ahead] * (step * core.kept[0] + self.dropped[row] - len(self.free))
        if row == self.per_step - 1 and not self.turns:
            self.ended += core.tail
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

#: Columns between a line buffer and its scanner's end, and the cycles that empty ones take there.
IN_FLIGHT, FLIGHT_CYCLES = 3, 9

#: Of a row that is skipped: its own cycles, those from the end of the last row that it would have seen, and those to
#: its mark's arrival.
SKIP_CYCLES = 2, 10, 16
