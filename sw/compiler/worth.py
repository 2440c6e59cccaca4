"""Which gates a program has: those that save more cycles than they cost.

A gate that is left out does not count, so a layer without one computes something else: its channels are all open.
"""

import dataclasses
import math

from spikeloom.errors import SpikeloomError

from . import cost
from .program import Program

#: Whether a program has gates: where that is faster, none, or all.
WHEN = ("auto", "never", "always")

KINDS = {"gate": "channel gate", "block_gate": "block gate"}


def gates(network):
    """The gates of ``network``: (name of the layer, one of `KINDS`), in order."""
    return [(layer.name, kind) for layer in network.layers for kind in KINDS if getattr(layer, kind)]


def without(network, left_out):
    """``network`` without some of its gates, given as `gates` gives them."""
    if not left_out:
        return network
    return dataclasses.replace(network, layers=tuple(
        dataclasses.replace(layer, **dict.fromkeys(kinds)) if kinds else layer for layer, kinds in (
            (layer, [kind for kind in KINDS if (layer.name, kind) in left_out]) for layer in network.layers)))


def spread(network, activity, left_out):
    """The `spikeloom.compiler.cost.Activity` of each layer without some of the gates of ``network``: a channel that was
    closed is taken to fire as those do that were open."""
    growth = {layer.name: 1 / max(float(each.opened[0]), 1 / layer.shape[2])
              for layer, each in zip(network.layers, activity, strict=True)
              if (layer.name, "gate") in left_out and each.opened is not None}
    return [each.grown(*(growth.get(source, 1.0) for source in sources[:2]))
            for each, sources in zip(activity, network.sources, strict=True)]


def chosen(network, target, activity, placed, when, *, reloadable):
    """The network without the gates that are left out, its placements, its activity, and the notes on them: a list of
    dicts with the keys ``layer``, ``gate`` and ``why``.

    Parameters
    ----------
    activity : list of cost.Activity
    placed : callable
        of a network and its activity: a `Placement` for each layer, or None where it does not fit
    when : str
        one of `WHEN`
    """
    if when not in WHEN:
        raise SpikeloomError(f"Gates must be one of {', '.join(WHEN)}, not {when!r}")
    reasons = {}
    if when == "never":
        reasons = dict.fromkeys(gates(network), "gates were not wanted")
    elif when == "auto":
        reasons = {(layer.name, "block_gate"): _cost_of_blocks(layer) for layer in network.layers if layer.block_gate}
        if reloadable:
            reasons |= dict.fromkeys(set(gates(network)) - set(reasons), "a reloadable program has none")
    kept, seen = without(network, reasons), spread(network, activity, reasons)
    placements = placed(kept, seen)
    while when == "auto" and (found := _not_worth(kept, placements, target, seen, placed)):
        reasons |= found
        kept, seen = without(network, reasons), spread(network, activity, reasons)
        placements = placed(kept, seen)
    return kept, placements, seen, [{"layer": layer, "gate": KINDS[kind], "why": reasons[layer, kind]}
                                    for layer, kind in gates(network) if (layer, kind) in reasons]


def _cost_of_blocks(layer):
    gate, (rows, columns, channels) = layer.block_gate, layer.shape
    return (f"to look at all blocks takes {gate.operations(layer.shape)} multiplications for a time step, "
            f"{gate.weights[0].size} for each block and channel, beside {rows * columns * channels} neurons")


def _not_worth(network, placements, target, activity, placed):
    """Gates of channels that ``network`` should not have, with its ``placements``, and why."""
    there = gates(network)
    if not there:
        return {}
    if placements is None:
        return dict.fromkeys(there, f"with gates the network does not fit {target.name}")
    try:
        program = Program(network, target.name, placements)
    except SpikeloomError as error:
        return dict.fromkeys(there, str(error))
    slowest = max(cost.rates(program, activity))[0]
    for core, seen in zip(program.cores, cost.placed(program, activity), strict=True):
        if (gate := (core.layer.name, "gate")) not in there:
            continue
        cycles = cost.step_cycles(core, seen)
        bare = cost.step_cycles(dataclasses.replace(core, layer=dataclasses.replace(core.layer, gate=None)), seen)
        # The more that fires is for the layers behind to bear.
        if cycles >= bare and _rate_without(network, {gate}, target, activity, placed) <= slowest:
            return {gate: f"a time step would take {cycles:.1f} cycles with it and takes {bare:.1f} without it"}
    less = _rate_without(network, set(there), target, activity, placed)
    if less < slowest:
        return dict.fromkeys(there, f"the array would take {slowest:.1f} cycles for a time step with gates and takes "
                                    f"{less:.1f} without them")
    return {}


def _rate_without(network, left_out, target, activity, placed):
    """Cycles of a time step of the array that ``network`` would be placed on without some of its gates."""
    bare, seen = without(network, left_out), spread(network, activity, left_out)
    placements = placed(bare, seen)
    return math.inf if placements is None else max(cost.rates(Program(bare, target.name, placements), seen))[0]
