"""How many rows of a map must be able to wait where two paths through a network meet.

A core for maps keeps few rows of its source, and a source sends a row only when all that take it have room. Where one
way from a source to a layer is longer than another, the short one's rows must wait until those of the long one come,
or each would wait for the other for ever.
"""


def rows_waiting(rows, edges):
    """Rows that each edge must hold beside those that its taker keeps, so that none ever waits for itself.

    A time step leaves nothing behind, so one that comes to its end shows that all do. It is played row by row; where
    nothing moves, there is a circle of layers that wait, either for a row or for room, and one of those edges that
    lack room gets more.

    Parameters
    ----------
    rows : dict
        by name of a source or layer, the rows of its map
    edges : list of (str, str, spikeloom.program.Window)
        source and taker, and how that sees its source's map

    Returns a list with a number for each edge.
    """
    waiting, sent = [0] * len(edges), dict.fromkeys(rows, 0)
    released = [[sum(window.dropped[:row]) for row in range(rows[taker] + 1)] for _, taker, window in edges]
    needed = [[window.arrives_with(before + awaited) for before, awaited in zip(dropped, window.awaited, strict=False)]
              for (_, _, window), dropped in zip(edges, released, strict=True)]

    def room(number):
        """Rows that have had room since the time step began."""
        source, taker, window = edges[number]
        places, taken = released[number][sent[taker]] + window.banks, 0
        for row in range(rows[source]):
            taken += window.opens[row]
            if taken > places:
                return row + waiting[number]
        return rows[source]

    def held_up(name):
        """What keeps ``name`` from sending a row: who has to move first, and the edge that lacks room, if it is one; or
        None."""
        for number, (source, taker, _) in enumerate(edges):
            if taker == name and sent[source] < needed[number][sent[name]]:
                return source, None
        for number, (source, taker, _) in enumerate(edges):
            if source == name and sent[name] >= room(number):
                return taker, number
        return None

    while unfinished := [name for name in rows if sent[name] < rows[name]]:
        able = [name for name in unfinished if held_up(name) is None]
        for name in able:
            if held_up(name) is None:
                sent[name] += 1
        if not able:
            path = [unfinished[0]]
            while path[-1] not in path[:-1]:
                path.append(held_up(path[-1])[0])
            circle = path[path.index(path[-1]):-1]
            full = [edge for _, edge in map(held_up, circle) if edge is not None]
            waiting[min(full, key=waiting.__getitem__)] += 1
    return waiting
