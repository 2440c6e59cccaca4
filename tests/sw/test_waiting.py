"""Rows that wait where two paths meet: enough that those of a time step come through, and no more than help."""

import dataclasses

import numpy as np
import pytest
from spikeloom.compiler.waiting import rows_waiting
from spikeloom.compiler.window import Branch
from spikeloom.network import INPUT, Pool, Shortcut, WeightFormat


class Convolution(Shortcut):
    """Synapses with a kernel and a padding, without a layer around them."""

    padding = 0


def window(rows, kernel=3, padding=1, **fields):
    kind = type("Padded", (Convolution,), {"padding": padding})
    return Branch(kind(INPUT, (rows, 4, 1), np.ones((1, 1, kernel, kernel), int), WeightFormat("ternary", 2), **fields),
                  None, 1, 1)


def path(rows, depth, at="input", **fields):
    """Rows and edges of so many convolutions one after the other, and the last one's name."""
    found, edges = {at: rows}, []
    for number in range(depth):
        made = window(rows, **fields)
        rows, name = made.synapses.shape[0], f"{at}_{number}"
        found[name], edges = rows, [*edges, (at, name, made)]
        at = name
    return found, edges, at


def gets_stuck(rows, edges, waiting):
    """Whether a time step that is played as far as it goes, without regard to time, does not come to its end."""
    sent, moved = dict.fromkeys(rows, 0), True
    plans = [(made.dropped, [made.arrives_with(sum(made.dropped[:row]) + awaited)
                             for row, awaited in enumerate(made.awaited)],
              np.cumsum(made.opens), made.banks) for *_, made in edges]
    plans = [(dropped, [rows[source]] * len(arrives) if made.gated else arrives, *more)
             for (source, _, made), (dropped, arrives, *more) in zip(edges, plans, strict=True)]
    while moved:
        moved = False
        for name in rows:
            ready = sent[name] < rows[name]
            for (source, taker, _), (dropped, arrives, places, banks), extra in zip(edges, plans, waiting, strict=True):
                if taker == name and ready:
                    ready = sent[source] >= arrives[sent[name]]
                if source == name and ready:
                    ready = sent[name] < np.sum(places <= sum(dropped[:sent[taker]]) + banks) + extra
            if ready:
                sent[name] += 1
                moved = True
    return any(sent[name] < rows[name] for name in rows)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("fields", [{}, {"stride": 2}, {"pool": Pool("max", 2, 1)}, {"pool": Pool("sum", 2, 1)},
                                    {"kernel": 5, "padding": 2}])
def test_a_time_step_comes_through(depth, fields):
    rows, edges, last = path(16, depth, **fields)
    stride = 16 // rows[last]
    edges = [*edges, (INPUT, last, window(16, 1, 0, stride=stride))] if rows[last] * stride == 16 else edges
    waiting = rows_waiting(rows, edges)
    assert not gets_stuck(rows, edges, waiting)
    assert not any(waiting[:-1])  # those of the long path need none


def test_too_little_room_gets_stuck():
    rows, edges, last = path(12, 3)
    edges.append((INPUT, last, window(12, 1, 0)))
    waiting = rows_waiting(rows, edges)
    assert gets_stuck(rows, edges, [0] * 4) and not gets_stuck(rows, edges, waiting)
    least = next(extra for extra in range(20) if not gets_stuck(rows, edges, [0, 0, 0, extra]))
    assert least < waiting[-1] <= least + 5  # so that layers need not take turns


def test_a_single_path_needs_none():
    rows, edges, _ = path(9, 4)
    assert rows_waiting(rows, edges) == [0] * 4


def test_the_short_path_may_be_the_layers_own():
    rows, edges, last = path(10, 3)
    rows["both"] = 10
    edges += [(INPUT, "both", window(10)), (last, "both", window(10, 1, 0))]
    waiting = rows_waiting(rows, edges)
    assert waiting[3] > 0 and not any(waiting[:3]) and waiting[4] == 0
    assert not gets_stuck(rows, edges, waiting)


@pytest.mark.parametrize("gated", [0, 1, 2])
def test_rows_wait_for_a_gate_and_beside_it(gated):
    rows, edges, last = path(12, 3)
    source, taker, made = edges[gated]
    edges[gated] = (source, taker, dataclasses.replace(made, gated=True))
    edges.append((INPUT, last, window(12, 1, 0)))
    waiting = rows_waiting(rows, edges)
    assert waiting[gated] == 12 and not gets_stuck(rows, edges, waiting)
    assert gets_stuck(rows, edges, [*waiting[:-1], 0])
    assert gets_stuck(rows, edges, [extra if number != gated else 0 for number, extra in enumerate(waiting)])
    assert waiting[-1] >= 12 - 2  # but for those that the shortcut keeps
