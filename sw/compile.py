"""From a `Network` to a `Program`: how many lanes and update units each layer gets on a target.

A layer's time step takes ``groups · max(events + 1, pace)`` cycles, and the array works at the rate of its slowest
layer. So the compiler looks for the lowest such rate that the device can hold, then gives every layer the cheapest
placement that keeps up with it. What decides is the activity: the events per time step that each layer was seen to
receive.

Where a device has single-port memories, weights can be there too. They must then be loaded before the array can run,
and widths must suit any weights, so the search is done with and without them; those with which the array is faster
win.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from .errors import SpikeloomError
from .network import ShiftLeak
from .program import BLOCK_BITS, MEMORIES, SINGLE_PORT_SHAPE, Core, Placement, Program, WordFormat
from .target import TARGETS, find

#: The activity assumed where none was measured: this share of a layer's inputs per time step.
DEFAULT_ACTIVITY = 0.1

#: Share of a device's logic that routing can be expected to cope with.
USABLE_LOGIC = 0.85

#: Logic around the cores: the link and the read-out; and what counts a layer's events and stalls.
FIXED_LUTS, COUNTER_LUTS = 850, 35

#: Block RAMs around the cores: the read-out's queue, the link's buffer, the identity.
FIXED_BLOCKS = 3

#: Logic to write and read a memory, beside what each byte of its rows takes.
LOAD_LUTS = 30

UNITS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Estimate:
    """What one placement of one layer would take: cycles of a time step, look-up tables, block RAMs, single-port
    memories."""

    placement: Placement
    cycles: float
    luts: int
    blocks: int
    single_ports: int


def step_cycles(core, events):
    """Cycles of one time step with so many input events (for graded values: set bits), when nothing else stalls it."""
    return core.groups * max(events + 1, core.pace)


def estimate_luts(core, target):
    """Look-up tables of a core, from its widths; measured designs lie within a fifth of it."""
    layer = core.layer
    lane = 2 * core.current_width
    if core.i_words.graded:
        lane += core.current_width + core.i_words.width
    if target.family == "ecp5":
        lane += 4  # each carry chain is entered and left through a cell of its own
    if target.family == "ice40":
        lane += layer.weight_format.width  # a register without logic still takes a cell
    unit = core.current_width + 2 * core.potential_width + core.above_width + 2 * layer.v_width + 10
    unit += 2 * layer.v_width if isinstance(layer.leak, ShiftLeak) else 0
    unit += 25 if target.family == "ice40" else 0  # likewise the pipeline's registers
    control = 250 + 4 * (core.i_words.width + core.i_words.index_width)
    if core.reloadable:
        control += sum(LOAD_LUTS + bits for _, bits in core.image_shapes.values())
    return round(core.lanes * lane + core.units * unit + control)


def estimate_blocks(core, target):
    """Block RAMs of a core."""
    memories = core.memories
    if core.memory == "single_port":
        del memories["weights"]
    if not core.reloadable:
        return sum(target.blocks_for(entries, bits) for entries, bits in memories.values()
                   if entries * bits >= BLOCK_BITS)
    # A byte that can be written alone takes a column of nine bits whole. And what is small but not read-only would take
    # flip-flops where there is no memory made of look-up tables.
    by_bytes = dataclasses.replace(target, shapes=tuple(
        (depth, width - width % 8 if width > 8 else width) for depth, width in target.shapes))
    return sum((target if name in ("events", "membranes") else by_bytes).blocks_for(entries, bits)
               for name, (entries, bits) in memories.items()
               if target.family == "ice40" or entries * bits >= BLOCK_BITS)


def estimates(layer, i_words, target, events, *, last, reloadable=False):
    """Every `Estimate` worth considering for a layer: for each number of groups, each number of update units, and each
    memory that the weights can be in."""
    found = {}
    for groups in range(1, layer.n_out + 1):
        for units in UNITS[:1] if last else UNITS:
            lanes = -(-layer.n_out // groups)
            lanes = -(-lanes // units) * units
            if (lanes, units) in found or lanes // units > 1024:
                continue
            for memory in MEMORIES if reloadable and target.single_ports else MEMORIES[:1]:
                core = Core(layer, i_words, lanes, units, target.memory_registers, memory, reloadable)
                found[lanes, units, memory] = Estimate(
                    Placement(lanes, units, memory), step_cycles(core, events), estimate_luts(core, target),
                    estimate_blocks(core, target), core.single_ports)
    return list(found.values())


def _options(network, target, activity, reloadable):
    """The `estimates` of each layer. Its input words depend on the layer before; four bits stand for them all."""
    words = [WordFormat.of_input(network.input), *(WordFormat(layer.n_out, 4) for layer in network.layers[:-1])]
    return [estimates(layer, i_words, target, events, last=layer is network.layers[-1], reloadable=reloadable)
            for layer, i_words, events in zip(network.layers, words, activity, strict=True)]


def choose(network, target, activity, *, reloadable=False):
    """A `Placement` for each layer, or None when even the smallest does not fit. If any of them uses single-port
    memory, the program must be ``reloadable``, if that was asked for or not."""
    if _too_many_weights(network, target):  # known without a look at every placement
        return None
    found = _search(_options(network, target, activity, reloadable), target)
    if target.single_ports:
        loaded = found if reloadable else _search(_options(network, target, activity, True), target)
        if loaded and (not found or _slowest(loaded) < _slowest(found)):
            found = loaded
    return found and [estimate.placement for estimate in found]


def _too_many_weights(network, target):
    """Whether the weights alone are more bits than all memories of the device have."""
    bits = [layer.weights.size * layer.weight_format.width for layer in network.layers]
    held = target.blocks * max(entries * width for entries, width in target.shapes)
    held += target.single_ports * SINGLE_PORT_SHAPE[0] * SINGLE_PORT_SHAPE[1]
    return sum(each for each in bits if each >= BLOCK_BITS) > held


def _slowest(chosen):
    return max(estimate.cycles for estimate in chosen)


def _search(options, target):
    """One of each layer's ``options``: those with the lowest rate that fit together, or None. Of single-port memories
    it takes as few as will do."""
    luts = USABLE_LOGIC * target.luts - FIXED_LUTS - COUNTER_LUTS * len(options)
    blocks = target.blocks - FIXED_BLOCKS
    # For each layer and number of single-port memories, the cheapest among the fast.
    by_speed = [sorted((e for e in option if e.single_ports <= target.single_ports), key=lambda e: e.cycles)
                for option in options]
    cheapest = [{} for _ in options]
    taken = [0] * len(options)
    for cycles in sorted({estimate.cycles for option in by_speed for estimate in option}):
        for number, option in enumerate(by_speed):
            while taken[number] < len(option) and option[taken[number]].cycles <= cycles:
                estimate = option[taken[number]]
                taken[number] += 1
                best = cheapest[number].get(estimate.single_ports)
                if best is None or _cost(estimate, target) < _cost(best, target):
                    cheapest[number][estimate.single_ports] = estimate
        if not all(cheapest):
            continue
        for chosen in _combinations(cheapest, target.single_ports):
            if sum(e.luts for e in chosen) <= luts and sum(e.blocks for e in chosen) <= blocks:
                return chosen
    return None


def _cost(estimate, target):
    return estimate.luts / target.luts + estimate.blocks / target.blocks, estimate.cycles


def _combinations(cheapest, single_ports):
    """One of each layer's `Estimate` by its number of single-port memories, these being at most ``single_ports``
    together; first those that take none."""
    found = [()]
    for choices in cheapest:
        found = [(*chosen, choices[count]) for chosen in found for count in sorted(choices)
                 if sum(e.single_ports for e in chosen) + count <= single_ports]
    return sorted(found, key=lambda chosen: sum(e.single_ports for e in chosen))


def _too_large(network, target, activity, reloadable):
    """The message, with what the smallest placement there is would take, and what holds the network."""
    options = _options(network, target, activity, reloadable)
    luts = FIXED_LUTS + sum(COUNTER_LUTS + min(estimate.luts for estimate in option) for option in options)
    blocks = FIXED_BLOCKS + sum(min(estimate.blocks for estimate in option if not estimate.single_ports)
                                for option in options)
    message = (f"The network is too large for {target.name}: with the fewest lanes it needs about {luts} LUTs of "
               f"{round(USABLE_LOGIC * target.luts)} usable and {blocks} block RAMs of {target.blocks}")
    if target.single_ports:
        weights = sum(min(estimate.single_ports for estimate in option if estimate.single_ports)
                      for option in _options(network, target, activity, True))
        message += f" (or, for all its weights, {weights} single-port memories of {target.single_ports})"
    # Boards with the same device hold the same; one stands for them all.
    devices = {dataclasses.replace(other, name="", oscillator=0.0): other for other in reversed(TARGETS.values())}
    fits = [other.name for other in reversed(devices.values())
            if choose(network, other, activity, reloadable=reloadable)]
    return message + (f"; it fits {', '.join(fits)}" if fits else "; no target we know holds it")


def check_activity(network, activity):
    """The events per time step of each layer's input: given, as the network's notes have it, or assumed."""
    if activity is None:
        activity = network.notes.get("events")
    if activity is None:
        activity = [DEFAULT_ACTIVITY * layer.n_in for layer in network.layers]
    if len(activity) != len(network.layers) or not all(0 <= float(events) for events in activity):
        raise SpikeloomError(f"Activity must be {len(network.layers)} numbers of events per time step, not {activity}")
    return [float(events) for events in activity]


def compile(network, target_name, *, activity=None, placements=None, reloadable=False):
    """Place ``network`` on a target.

    Parameters
    ----------
    network : Network
    target_name : str
        one of `target.TARGETS`
    activity : list of float, optional
        mean events per time step at each layer's input; default: ``network.notes["events"]``, else a tenth of
        the inputs
    placements : list of Placement, optional
        use these instead of looking for the best
    reloadable : bool
        let any network of the same shape be loaded later; where weights are in single-port memory this is so anyway

    Returns the `Program`, whose notes hold the table that `table` prints. Raises `SpikeloomError` when the network
    does not fit, saying by how much and what would hold it, or has no gateware yet.
    """
    target = find(target_name)
    activity = check_activity(network, activity)
    if placements is None:
        placements = choose(network, target, activity, reloadable=reloadable)
    if placements is None:
        raise SpikeloomError(_too_large(network, target, activity, reloadable))
    reloadable = reloadable or any(placement.memory == "single_port" for placement in placements)
    program = Program(network, target.name, placements, reloadable=reloadable)
    return dataclasses.replace(program, notes=describe(program, activity))


def describe(program, activity):
    """The compiler's predictions, as a program's notes keep them."""
    target = find(program.target)
    rows = []
    for core, events in zip(program.cores, activity, strict=True):
        rows.append({
            "layer": core.layer.name, "neurons": core.layer.n_out, "lanes": core.lanes, "units": core.units,
            "groups": core.groups, "events": round(events, 2), "cycles": round(step_cycles(core, events), 1),
            "luts": estimate_luts(core, target), "blocks": estimate_blocks(core, target),
            "single_ports": core.single_ports,
            "weight_bits": core.weights.size * core.layer.weight_format.width,
        })
    slowest = max(rows, key=lambda row: row["cycles"])
    return {"activity": activity, "layers": rows, "bottleneck": slowest["layer"],
            "cycles_per_time_step": slowest["cycles"],
            "cycles_per_sample": predict(program, np.tile(activity, (program.network.time_steps, 1)))}


def table(program):
    """The placement as text: a line for each layer, the bottleneck marked."""
    titles = {"layer": "layer", "neurons": "neurons", "lanes": "lanes", "units": "units", "groups": "groups",
              "events": "events/step", "cycles": "cycles/step", "luts": "LUTs", "blocks": "block RAMs"}
    if program.starts_empty:
        titles["single_ports"] = "single-port RAMs"
    columns = tuple(titles)
    rows = [tuple(titles.values())]
    rows += [tuple(str(row[column]) for column in columns) for row in program.notes["layers"]]
    widths = [max(len(row[n]) for row in rows) for n in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) if n == 0 else cell.rjust(width)
                       for n, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]
    for number, row in enumerate(program.notes["layers"], 1):
        if row["layer"] == program.notes["bottleneck"]:
            lines[number] += "  <- bottleneck"
    notes = program.notes
    lines.append(f"{program.target}: {notes['cycles_per_time_step']} cycles per time step in the steady state, "
                 f"{notes['cycles_per_sample']} for one sample of {program.network.time_steps} time steps (predicted)")
    if program.reloadable:
        lines.append("reloadable with any network of this shape" + ("; to be loaded before it runs"
                                                                    if program.starts_empty else ""))
    return "\n".join(lines)


def predict(program, events):
    """Clock cycles from the first input word to the last score.

    Parameters
    ----------
    events : array (time steps, layers)
        input events of each layer at each time step of a stream of samples; means will do

    A time step moves through the pipeline under four rules: a layer replays a list once it is complete and its
    own last replay is over; a group ends no sooner than its events or its update units allow; before its first
    group ends, the layer behind must have a free bank; and each list has two banks.
    """
    cores = program.cores
    events = np.asarray(events, float)
    steps = len(events)
    # Spikes share words: how many words hold so many spikes, spread evenly.
    words = np.stack([seen if core.i_words.width == 1 or core.i_words.graded
                      else core.i_words.count * (1 - (1 - 1 / core.i_words.count) ** seen)
                      for core, seen in zip(cores, events.T, strict=True)], axis=1)
    # Times are in cycles; the two steps of lead stand for banks that are free from the start.
    released = np.zeros((steps + 2, len(cores) + 1))  # when a bank was read for the last time
    read = np.zeros(len(cores))                       # when its reader was last done
    ended = np.full(len(cores), -1.0)                 # when its last group ended
    arrived = -1.0
    for t in range(steps):
        arrived = ready = max(arrived, released[t, 0]) + max(1.0, words[t, 0])
        for number, core in enumerate(cores):
            seen, entries = events[t, number], words[t, number] + 1
            group = max(seen + 1, core.pace)
            begin = max(ready + LIST_CYCLES, ended[number] + 1)
            permit = released[t, number + 1] + PERMIT_CYCLES if t >= 2 else 0.0
            first = max(begin + seen, ended[number] + core.pace if t else 0.0, permit)
            ended[number] = first + (core.groups - 1) * group
            ahead = READ_AHEAD * (seen + 1) / entries  # visits that the entries in flight amount to
            read[number] = max(max(ready + 4, read[number] + 1) + core.groups * entries, ended[number] - ahead)
            released[t + 2, number] = read[number]
            ready = ended[number] + UPDATE_CYCLES + core.memory_registers + core.updates
        released[t + 2, len(cores)] = ready
    return round(float(ready + SCORE_CYCLES))


#: Pipeline delays of the blocks in `spikeloom.hw`, in cycles, fitted to simulations of ten designs: from a list's
#: last word to the first visit, from a bank read to its next permit seen, from a group's end to its last spike word
#: (less one cycle an update), and from there to the last score. And entries that a list's reader may be ahead of the
#: visits.
LIST_CYCLES, PERMIT_CYCLES, UPDATE_CYCLES, SCORE_CYCLES, READ_AHEAD = 7, 3, 10, 10, 7
