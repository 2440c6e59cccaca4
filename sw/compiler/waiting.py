"""How many rows of a map must be able to wait where two paths through a network meet.

A core for maps keeps few rows of its source, and a source sends a row only when all that take it have room. Where one
way from a source to a layer is longer than another, rows of the short one must wait until those of the long one come:
without room for that they would wait for each other for ever, and with little room most layers would be idle at any
time. Where a gate must have seen a whole time step, its rows wait too.
"""

import functools

from spikeloom.network import INPUT, Conv2d

from .window import Branch

#: Time is counted in quarters of a row; and so many pass until a row that has been sent is seen.
ROW, SEEN = 4, 2


def rows_waiting(rows, edges):
    """Rows that each edge must hold beside those that its taker keeps, so that it never keeps its source from sending
    while the taker lacks a row of another source.

    Time steps are played row by row, all layers taking as long for a time step; an edge that is found so gets room for
    one row more. Since each time step leaves nothing behind, one that comes to its end shows that all do, however fast
    the layers are.

    Parameters
    ----------
    rows : dict
        by name of a source or layer, the rows of its map
    edges : list of (str, str, spikeloom.compiler.window.Window)
        source and taker, and how that sees its source's map

    Returns a list with a number for each edge.
    """
    into, out_of = ({name: [n for n, edge in enumerate(edges) if edge[end] == name] for name in rows} for end in (1, 0))
    places = [_Places(rows[source], window) for source, _, window in edges]
    waiting = [rows[source] if window.gated else 0 for source, _, window in edges]
    duration = {name: ROW * max(rows.values()) // rows[name] for name in rows}
    # Enough time steps for a row to have gone through the network while others follow.
    banks, gates = (sum(getattr(window, name) for *_, window in edges) for name in ("banks", "gated"))
    steps = 2 + banks // min(rows.values()) + gates
    total = {name: steps * rows[name] for name in rows}
    begun, sent, free_at = (dict.fromkeys(rows, 0) for _ in range(3))
    arrivals, now = [], 0

    def lacks_row(name, but=None):
        return any(sent[edges[n][0]] < places[n].needed(begun[name]) for n in into[name] if n != but)

    while any(sent[name] < total[name] for name in rows):
        now += 1
        for _, name in filter(lambda arrival: arrival[0] == now, arrivals):
            sent[name] += 1
        arrivals = [arrival for arrival in arrivals if arrival[0] > now]
        for name in rows:
            if begun[name] == total[name] or now < free_at[name] or lacks_row(name):
                continue
            full = [n for n in out_of[name] if begun[name] >= places[n].room(sent[edges[n][1]]) + waiting[n]]
            if not full:
                begun[name] += 1
                free_at[name] = now + duration[name]
                arrivals.append((now + duration[name] + SEEN, name))
            for n in full:
                taker = edges[n][1]
                waiting[n] += now >= free_at[taker] and lacks_row(taker, but=n)
    return waiting


class _Places:
    """What a `Window` on a map of so many ``rows`` needs and has room for, counted from the first time step on."""

    def __init__(self, rows, window):
        self.rows, self.kept, self.banks, self.gated = rows, window.kept[0], window.banks, window.gated
        before = [sum(window.dropped[:row]) for row in range(len(window.dropped) + 1)]
        self.released = before[:-1]
        self.arrived = [window.arrives_with(sum(pair)) for pair in zip(self.released, window.awaited, strict=True)]
        self.opens = [row for row, opens in enumerate(window.opens) if opens]

    def needed(self, count):
        """Rows of the map that must have come before the taker can send another, when it has begun so many."""
        step, row = divmod(count, len(self.released))
        return step * self.rows + (self.rows if self.gated else self.arrived[row])

    def room(self, count):
        """Rows of the map that have had room when the taker has sent so many."""
        step, row = divmod(count, len(self.released))
        step, place = divmod(step * self.kept + self.released[row] + self.banks, self.kept)
        return step * self.rows + self.opens[place]


@functools.lru_cache(maxsize=64)
def waiting_rows(network):
    """By name of a convolution of ``network``, its `MapCore.waiting`."""
    maps = [(layer, sources) for layer, sources in zip(network.layers, network.sources, strict=True)
            if isinstance(layer, Conv2d)]
    if not any(layer.shortcut for layer, _ in maps):  # paths do not meet
        return {layer.name: (layer.input_shape[0] if layer.gate else 0,) for layer, _ in maps}
    rows = {INPUT: network.input.shape[0]} | {layer.name: layer.shape[0] for layer, _ in maps}
    edges = [(source, layer.name, Branch(synapses, None, 1, 1, gated=synapses is layer and layer.gate is not None))
             for layer, sources in maps for source, synapses in zip(sources, layer.branches, strict=True)]
    counts = iter(rows_waiting(rows, edges))
    return {layer.name: tuple(next(counts) for _ in sources) for layer, sources in maps}
