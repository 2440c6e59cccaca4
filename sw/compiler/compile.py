"""From a `Network` to a `Program`: how many lanes and update units each layer gets on a target.

The array works at the rate of its slowest layer. So the compiler looks for the lowest such rate that the device can
hold, then gives every layer the cheapest placement that keeps up with it. What a placement costs depends on the
activity that each layer was seen to have (`spikeloom.compiler.cost`).

Where a device has single-port memories, weights can be there too. They must then be loaded before the array can run,
and widths must suit any weights, so the search is done with and without them; those with which the array is faster
win.

A layer can be sparse, with and without which it is looked at: what that saves in cycles and weights must pay for the
memories that say which words of weights there are. Its channels may then stand in an order that gathers zeros.

Where a device cannot hold a core for each layer, convolutions that are alike share cores: of all ways to do so that
fit, the fastest.

A gate that costs more than it saves is left out (`worth`), and the program's network is the one without it.
"""

import contextlib
import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import Conv2d, GradedSpike

from . import cost, order, worth
from .core import BLOCK_BITS, MEMORIES, SINGLE_PORT_SHAPE
from .program import Placement, Program, core_of
from .sharing import SharedCore, kind
from .target import TARGETS, find
from .words import WordFormat

#: Share of a device's logic that routing can be expected to cope with, by its family. A Gowin device has three
#: flip-flops for four look-up tables, of which cores have more; with 95 % of them taken nextpnr's placer finds no end.
USABLE_LOGIC = {"ice40": 0.92, "ecp5": 0.85, "gowin": 0.5}

#: Logic around the cores: the link and the read-out, on an iCE40 with the cells of registers that stand alone; and what
#: counts a layer's events and stalls.
FIXED_LUTS, COUNTER_LUTS = {"ice40": 1200, "ecp5": 950, "gowin": 950}, 35

#: Block RAMs around the cores: the read-out's queue, the link's buffer, the identity.
FIXED_BLOCKS = 3

UNITS = (1, 2, 4, 8, 16)

#: Whether layers may be sparse, and whether each that can must be.
SPARSE = {"auto": (False, True), "never": (False,), "always": (True,)}

#: Orders of channels are tried for layers of at most so many weights times channels, as they take time.
GATHERED = 2**28

#: With more layers than this that are alike, only neighbours are considered for sharing a core.
FEW = 4

#: How often the search is repeated when the words between the chosen cores are not those that it assumed.
ROUNDS = 4


@dataclass(frozen=True)
class Estimate:
    """What one placement of one layer, or of layers that share a core, would take: cycles of a time step, look-up
    tables, block RAMs, single-port memories."""

    placement: Placement
    cycles: float
    luts: int
    blocks: int
    single_ports: int


def estimates(network, number, target, activity, *, reloadable=False, sparse="auto", words=None):
    """Every `Estimate` worth considering for layer ``number``: for each number of groups, each number of update units,
    each memory that the weights can be in, and dense or sparse where that makes a difference.

    The ``words`` that the layers before it send, by name, depend on their update units; four bits stand for them all
    where they are not given.
    """
    words = words or _assumed_words(network)
    layer, last = network.layers[number], number == len(network.layers) - 1
    movable, graded = order.movable(network), isinstance(layer.fire, GradedSpike)
    found, refused, channels = {}, None, layer.shape[2]
    sets = cost.geometry(layer).sets if isinstance(layer, Conv2d) else 1
    for groups in range(1, channels + 1):
        for units in UNITS[:1] if last or graded else UNITS:
            group = -(-channels // groups)
            group = -(-group // units) * units
            lanes = group * sets
            if (lanes, units) in found or group // units > 1024:
                continue
            options = []
            for memory in MEMORIES if reloadable and target.single_ports else MEMORIES[:1]:
                try:
                    dense = core_of(network, number, Placement(lanes, units, memory), target, reloadable, words)
                    options += _forms(dense, sparse, number in movable)
                except SpikeloomError as error:
                    refused = error
            if options:
                found[lanes, units] = [
                    _estimate(Placement(lanes, units, core.memory, sparse=core.sparse, order=channels), core, target,
                              activity) for core, channels in options]
    if not found:
        raise refused
    return list(itertools.chain(*found.values()))


def _forms(dense, sparse, movable):
    """A core as it is; as a sparse one, where some words of its weights are zero; and as one with its channels in
    another order, where they are ``movable`` and more words are zero then. Those that `SPARSE` has, or what there is;
    each with its order."""
    forms, thin = [(dense, None)], _thin(dense)
    if sparse == "never" or isinstance(thin, SpikeloomError):
        return forms
    layer, candidates = dense.layer, [(thin, None)]
    if movable and layer.weights.size * layer.shape[2] <= GATHERED and not layer.weights.all():
        channels = order.gathered(layer, dense.group)
        candidates.append((dataclasses.replace(thin, layer=order.moved(layer, channels)), channels))
    for core, channels in candidates:
        if core.image_shapes["weights"] < forms[-1][0].image_shapes["weights"]:
            forms.append((core, channels))
    return [form for form in forms if form[0].sparse in SPARSE[sparse]] or forms


def _thin(dense):
    """A core as a sparse one, or the `SpikeloomError` that says why it cannot be."""
    try:
        return dataclasses.replace(dense, sparse=True)
    except SpikeloomError as error:
        return error


def _assumed_words(network):
    return {layer.name: WordFormat.of_layer(layer, 1 if isinstance(layer.fire, GradedSpike) else 4)
            for layer in network.layers}


def _estimate(placement, core, target, activity):
    return Estimate(placement, cost.step_cycles(core, activity), cost.estimate_luts(core, target),
                    cost.estimate_blocks(core, target), core.single_ports)


def _options(network, target, activity, reloadable, sparse, words=None):
    """The `estimates` of each layer."""
    return [estimates(network, number, target, each, reloadable=reloadable, sparse=sparse, words=words)
            for number, each in enumerate(activity)]


def choose(network, target, activity, *, reloadable=False, sparse="auto"):
    """A `Placement` for each layer, or None when even the smallest does not fit. If any of them uses single-port
    memory, the program must be ``reloadable``, if that was asked for or not, and no layer is sparse."""
    if _too_many_weights(network, target, dense=reloadable or sparse == "never"):
        return None  # known without a look at every placement
    found = _fitting(network, target, activity, reloadable, sparse)
    if target.single_ports and (reloadable or sparse != "always") and not worth.gates(network):
        try:
            loaded = found if reloadable else _fitting(network, target, activity, True, sparse)
        except SpikeloomError:  # of what cannot be reloadable
            loaded = None
        if loaded and (not found or _slowest(loaded) < _slowest(found)):
            found = loaded
    if found:
        return [estimate.placement for estimate in found]
    return None if reloadable else _sharing(network, target, activity, sparse)


def _too_many_weights(network, target, *, dense):
    """Whether the weights alone, or those that are not zero, are more bits than all memories of the device have."""
    bits = [(branch.weights.size if dense or 0 not in branch.weight_format.values else np.count_nonzero(branch.weights))
            * branch.weight_format.width for layer in network.layers for branch in layer.branches]
    held = target.blocks * max(entries * width for entries, width in target.shapes)
    held += target.single_ports * SINGLE_PORT_SHAPE[0] * SINGLE_PORT_SHAPE[1]
    return sum(each for each in bits if each >= BLOCK_BITS) > held


def _slowest(chosen):
    return max(estimate.cycles for estimate in chosen)


def _fitting(network, target, activity, reloadable, sparse):
    """An `Estimate` for each layer, together within the ``target`` with the words that these very cores send each
    other; or None."""
    words = None
    for _ in range(ROUNDS):
        assumed = _search(_options(network, target, activity, reloadable, sparse, words), target)
        if assumed is None:
            break
        found, words = _as_placed(network, target, activity, reloadable, assumed)
        if _fits(found, target):
            return found
    found = _smallest(network, target, activity, reloadable, sparse)
    return found if _fits(found, target) else None


def _smallest(network, target, activity, reloadable, sparse):
    """An `Estimate` for each layer: those that take the least, with weights in block RAM."""
    least = [min((estimate for estimate in option if not estimate.single_ports), key=lambda e: _cost(e, target))
             for option in _options(network, target, activity, reloadable, sparse)]
    return _as_placed(network, target, activity, reloadable, least)[0]


def _as_placed(network, target, activity, reloadable, chosen):
    """The ``chosen`` `Estimate` of each layer again, with the words that these cores send each other; and those."""
    program = Program(network, target.name, [each.placement for each in chosen], reloadable=reloadable)
    return ([_estimate(each.placement, core, target, seen) for each, core, seen in
             zip(chosen, program.cores, cost.placed(program, activity), strict=True)],
            {core.layer.name: core.o_words for core in program.cores})


def _sharing(network, target, activity, sparse):
    """A `Placement` for each layer, some of them on the same core, such that together they are within the ``target``;
    or None."""
    words, alike = _assumed_words(network), {}
    for number, layer in enumerate(network.layers):
        sets = cost.geometry(layer).sets if isinstance(layer, Conv2d) else 1
        try:
            features = kind(core_of(network, number, Placement(sets, 1), target, False, words))
        except SpikeloomError:
            return None  # there is no gateware for it
        alike.setdefault(("alone", number) if features is None else tuple(features.items()), []).append(number)
    own = _options(network, target, activity, False, sparse)
    known = {}
    found = []
    for parts in itertools.product(*(_partitions(numbers) for numbers in alike.values())):
        parts = sorted(itertools.chain(*parts))
        for part in parts:
            if part not in known:
                known[part] = own[part[0]] if len(part) == 1 else _shared_estimates(network, part, target, activity)
        chosen = _search([known[part] for part in parts], target)
        if chosen:
            found.append((_slowest(chosen), parts, chosen))
    for _, parts, chosen in sorted(found, key=lambda each: each[0]):
        placements = {number: dataclasses.replace(estimate.placement, core=core if len(part) > 1 else None)
                      for core, (part, estimate) in enumerate(zip(parts, chosen, strict=True)) for number in part}
        placements = [placements[number] for number in range(len(placements))]
        engines = Program(network, target.name, placements).engines
        if _fits([_estimate_of(engine, activity, part, target)
                  for engine, part in zip(engines, parts, strict=True)], target):
            return placements
    return None


def _partitions(numbers):
    """All ways to put ``numbers`` into parts, each a tuple of tuples; of many, those that leave neighbours together."""
    if len(numbers) > FEW:
        for cuts in itertools.product((False, True), repeat=len(numbers) - 1):
            ends = [0, *(at for at, cut in enumerate(cuts, 1) if cut), len(numbers)]
            yield tuple(tuple(numbers[first:end]) for first, end in itertools.pairwise(ends))
        return
    if not numbers:
        yield ()
        return
    first, *others = numbers
    for parts in _partitions(others):
        yield ((first,), *parts)
        for at, part in enumerate(parts):
            yield (*parts[:at], (first, *part), *parts[at + 1:])


def _shared_estimates(network, numbers, target, activity):
    """Every `Estimate` worth considering for layers ``numbers`` on one core."""
    words, found = _assumed_words(network), {}
    sets = cost.geometry(network.layers[numbers[0]]).sets
    for channels, units in itertools.product({network.layers[number].shape[2] for number in numbers}, UNITS):
        for groups in range(1, channels + 1):
            group = -(-channels // groups)
            lanes = -(-group // units) * units * sets
            if (lanes, units) in found or lanes // sets // units > 1024:
                continue
            placement = Placement(lanes, units)
            try:
                shared = SharedCore([core_of(network, number, placement, target, False, words) for number in numbers])
            except SpikeloomError:
                continue
            found[lanes, units] = _estimate_of(shared, activity, numbers, target)
    return list(found.values())


def _estimate_of(engine, activity, numbers, target):
    """The `Estimate` of a core on which layers ``numbers`` are."""
    seen = [activity[number] for number in numbers]
    placement = Placement(engine.lanes, engine.units, engine.memory)
    if len(numbers) == 1:
        return _estimate(dataclasses.replace(placement, sparse=engine.sparse), engine, target, *seen)
    return Estimate(placement, cost.step_cycles(engine, seen),
                    cost.estimate_luts(engine, target) + COUNTER_LUTS * (len(numbers) - 1),
                    cost.estimate_blocks(engine, target), 0)


def _fits(chosen, target):
    """Whether one `Estimate` for each layer and what is around the cores are within the ``target``."""
    luts = FIXED_LUTS[target.family] + sum(COUNTER_LUTS + each.luts for each in chosen)
    blocks = FIXED_BLOCKS + sum(each.blocks for each in chosen)
    return luts <= USABLE_LOGIC[target.family] * target.luts and blocks <= target.blocks


def _search(options, target):
    """One of each layer's ``options``: those with the lowest rate that fit together, or None. Of single-port memories
    it takes as few as will do."""
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
            if _fits(chosen, target):
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


def _too_large(network, target, activity, reloadable, sparse):
    """The message, with what the smallest placement there is would take, and what holds the network."""
    smallest = _smallest(network, target, activity, reloadable, sparse)
    luts = FIXED_LUTS[target.family] + sum(COUNTER_LUTS + estimate.luts for estimate in smallest)
    blocks = FIXED_BLOCKS + sum(estimate.blocks for estimate in smallest)
    message = (f"The network is too large for {target.name}: with the fewest lanes it needs about {luts} LUTs of "
               f"{round(USABLE_LOGIC[target.family] * target.luts)} usable and {blocks} block RAMs of {target.blocks}")
    loadable = []
    if target.single_ports and not worth.gates(network):
        with contextlib.suppress(SpikeloomError):  # of what cannot be reloadable
            loadable = _options(network, target, activity, True, sparse)
    if loadable:
        weights = sum(min(estimate.single_ports for estimate in option if estimate.single_ports)
                      for option in loadable)
        message += f" (or, for all its weights, {weights} single-port memories of {target.single_ports})"
    # Boards with the same device hold the same; one stands for them all.
    devices = {dataclasses.replace(other, name="", oscillator=0.0): other for other in reversed(TARGETS.values())}
    fits = [other.name for other in reversed(devices.values())
            if choose(network, other, activity, reloadable=reloadable, sparse=sparse)]
    return message + (f"; it fits {', '.join(fits)}" if fits else "; no target we know holds it")


def compile(network, target_name, *, activity=None, placements=None, reloadable=False, sparse="auto", gates="auto"):
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
    sparse : str
        one of `SPARSE`: whether words of weights that are all zero are left out where that is cheaper, never, or always
        where there are any
    gates : str
        one of `worth.WHEN`: whether gates are in the program where that is faster, never, or always

    Returns the `Program`, whose notes hold the table that `table` prints. Where gates are left out, its network is
    ``network`` without them, and the notes say so. Raises `SpikeloomError` when the network does not fit, saying by how
    much and what would hold it, or has no gateware yet.
    """
    target = find(target_name)
    if sparse not in SPARSE:
        raise SpikeloomError(f"Sparse must be one of {', '.join(SPARSE)}, not {sparse!r}")
    activity, given = cost.known(network, activity), placements

    def placed(network, activity):
        return given or choose(network, target, activity, reloadable=reloadable, sparse=sparse)

    network, placements, activity, left_out = worth.chosen(network, target, activity, placed, gates,
                                                           reloadable=reloadable)
    if placements is None:
        raise SpikeloomError(_too_large(network, target, activity, reloadable, sparse))
    reloadable = reloadable or any(placement.memory == "single_port" for placement in placements)
    program = Program(network, target.name, placements, reloadable=reloadable)
    notes = describe(program, activity)
    return dataclasses.replace(program, notes=notes | ({"left_out": left_out} if left_out else {}))


def describe(program, activity):
    """The compiler's predictions, as a program's notes keep them."""
    target, given = find(program.target), activity
    activity = cost.placed(program, activity)
    rows = []
    for core, each, (engine, place) in zip(program.cores, activity, program.places, strict=True):
        whole = program.engines[engine]
        rows.append({
            "layer": core.layer.name, "neurons": core.layer.n_out, "lanes": core.lanes, "units": core.units,
            "groups": core.groups, "events": round(each.events, 2), "cycles": round(cost.step_cycles(core, each), 1),
            # What is there once for several layers stands with the first of them.
            "luts": 0 if place else cost.estimate_luts(whole, target),
            "blocks": 0 if place else cost.estimate_blocks(whole, target),
            "single_ports": core.single_ports,
            **({"shares": [member.layer.name for member in whole.members]} if len(whole.members) > 1 else {}),
            "weight_bits": core.weights.size * core.weight_format.width,
            **_words_of(core, each, target, shares=len(whole.members) > 1),
        })
    slowest, layer = max(cost.rates(program, given))
    if any(len(loop) > 1 for loop in program.network.loops):  # whose layers wait for each other
        most = program.network.time_steps
        few, many = (cost.predict(program, [given] * count) for count in (-(-most // 2), most))
        slowest = max(slowest, (many - few) / max(1, most // 2))
    return {"activity": [each.events for each in activity], "layers": rows, "bottleneck": rows[layer]["layer"],
            "cycles_per_time_step": round(slowest, 1),
            "cycles_per_sample": cost.predict(program, [given] * program.network.time_steps)}


def _words_of(core, activity, target, *, shares):
    """What a layer's row of notes says of its words of weights: how many there are, how many of them are ``zero``, and
    where these are not left out, ``dense``: why."""
    words, thin = len(core.weights), core if core.sparse else _thin(core)
    if isinstance(thin, SpikeloomError):
        return {"words": words, "zero": 0, "dense": str(thin).partition(": ")[2]}
    found = {"words": words, "zero": words - thin.image_shapes["weights"][0]}
    if core.sparse:
        return found
    if not found["zero"]:
        why = "none of its words of weights is zero"
    elif shares:
        why = "it shares a core"
    else:
        why = (f"without the {found['zero']} of its {words} words of weights that are zero it would take "
               f"{cost.step_cycles(thin, activity):.1f} cycles, {cost.estimate_luts(thin, target)} LUTs and "
               f"{cost.estimate_blocks(thin, target)} block RAMs")
    return found | {"dense": why}


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
    for names in dict.fromkeys(tuple(row["shares"]) for row in notes["layers"] if "shares" in row):
        lines.append(f"{' and '.join([', '.join(names[:-1]), names[-1]])} share a core, whose logic and memories stand "
                     f"with {names[0]}, since {program.target} does not hold a core for each")
    if any(row.get("zero") for row in notes["layers"]):
        lines.append("; ".join(
            f"{row['layer']} is dense: {row['dense']}" if "dense" in row else
            f"{row['layer']} is sparse: it has {row['words'] - row['zero']} of {row['words']} words of weights"
            for row in notes["layers"]))
    if "left_out" in notes:
        lines += [f"{each['layer']} goes without its {each['gate']}: {each['why']}" for each in notes["left_out"]]
        lines.append("the program's network is the one without what is left out, and accuracy was measured with it")
    lines.append(f"{program.target}: {notes['cycles_per_time_step']} cycles per time step in the steady state, "
                 f"{notes['cycles_per_sample']} for one sample of {program.network.time_steps} time steps (predicted)")
    if program.reloadable:
        lines.append("reloadable with any network of this shape" + ("; to be loaded before it runs"
                                                                    if program.starts_empty else ""))
    return "\n".join(lines)
