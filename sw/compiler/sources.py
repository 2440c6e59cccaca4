"""Where what comes to a dense layer is from, and how many time steps of it there must be room for.

A layer that takes several sources keeps lists of each, and replays those of one time step together. The pairs of a time
step and a layer can be put in an order, time step by time step and in each layer by layer, in which whatever a layer
needs for a time step was made by a pair before: what it takes without delay, as its source comes first, and what it
takes with one. It also waits until whoever takes its own spikes has room for a time step more. With room for one more
than the delay, that is so when the taker is done with a time step before this one, a pair before again. So layers
never wait for each other in a circle, whatever the delays, the feedback, and the pace of those who send inputs and take
scores.

More room lets layers work on different time steps at once, as many as there are layers on the longest way between
them.
"""

import functools

from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Conv2d

from .words import WordFormat, joined

__all__ = ["input_words"]


def input_words(network, number, words):
    """The `WordFormat` or `JointWords` that come to the dense layer ``number`` of ``network``; ``words`` are those that
    its layers send, by name. Raises `SpikeloomError` for maps and pools beside other branches."""
    layer, sources = network.layers[number], network.sources[number]
    words = {INPUT: WordFormat.of_input(network.input)} | words
    ends, depths = _steps(network)
    delays = [branch.delay for branch in layer.branches]
    if len(sources) == 1 and not delays[0] and not ends[layer.name]:
        return words[sources[0]]
    taken = [*sources, *ends[layer.name]]
    if layer.pool or any(words[source].shape for source in taken) or (INPUT in taken and _as_map(network)):
        raise SpikeloomError(f"Layer {layer.name}: maps and pools beside other branches or with a delay run in the "
                             "reference, not yet in gateware")
    return joined([(words[source], {
        "source": source, "delay": delay, "banks": delay + 1 + max(0, depths[layer.name] - depths[source]),
        "kept": place < len(sources)}) for place, (source, delay) in enumerate(
            zip(taken, delays + [0] * len(ends[layer.name]), strict=True))])


@functools.lru_cache(maxsize=64)
def _steps(network):
    """By name of a layer, the sources of which it takes no more than the ends of their time steps: where all its own
    come later, the input, which says when a time step is and whether it is the last; and for the last layer all that
    nothing without a delay leads from to it, so that whoever has the scores knows that all are done. And by name of a
    source or layer, how many layers are on the longest way to it without a delay."""
    ends, depths, taken = {}, {INPUT: 0}, set()
    for layer, sources in zip(network.layers, network.sources, strict=True):
        now = [source for branch, source in zip(layer.branches, sources, strict=True) if not branch.delay]
        taken |= {*now}
        others = [name for name in ends if name not in taken] if layer is network.layers[-1] else []
        if not now and not others:
            others = [INPUT]
        ends[layer.name] = others
        depths[layer.name] = 1 + max(depths[source] for source in (*now, *others))
    return ends, depths


def _as_map(network):
    """Whether any layer takes the network's input as a map."""
    return any(INPUT in sources and (isinstance(layer, Conv2d) or layer.pool)
               for layer, sources in zip(network.layers, network.sources, strict=True))
