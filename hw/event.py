"""What streams between blocks carry."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["EventWord", "ListEntry", "PermitSignature", "Visit"]


class PermitSignature(wiring.Signature):
    """A stream of tokens, each a promise to take all of one time step's spikes; of a map's, all of one row's.

    Members
    -------
    valid : Out(1), ready : In(1)
        as in a stream; there is no payload
    """

    def __init__(self):
        super().__init__({"valid": Out(1), "ready": In(1)})


class EventWord(data.StructLayout):
    """An address event of one time step: some neighbouring neurons of a layer, or a graded value.

    Parameters
    ----------
    words : spikeloom.compiler.words.WordFormat

    Members
    -------
    bits : unsigned(words.width)
        neurons that spike, or the magnitude of a graded value
    index : unsigned(words.index_width)
        which word of the layer
    negative : unsigned(1)
        the value is below zero (words with a sign; absent from the layout otherwise)
    last : unsigned(1)
        the time step ends with this word, whose ``bits`` may be zero
    final : unsigned(1)
        with ``last``: the sample ends with this time step
    row : unsigned(1)
        a row of the map ends with this word, whose ``bits`` may be zero (words of a map, all rows of which come, one
        after the other; absent from the layout otherwise)
    """

    def __init__(self, words):
        self.words = words
        super().__init__({"bits": words.width, "index": words.index_width,
                          **({"negative": 1} if words.signed else {}), "last": 1, "final": 1,
                          **({"row": 1} if words.shape else {})})


class ListEntry(data.StructLayout):
    """A word replayed from an event list, or the end of a replay.

    Members
    -------
    bits, index
        as in `EventWord`, the sign being the highest bit of the index; in a list of several sources, as in
        `spikeloom.compiler.words.JointWords`, the bit that says whether these are neurons above it. Not meaningful at
        an ``end``
    end : unsigned(1)
        a group's replay is complete
    last : unsigned(1)
        with ``end``: it was the time step's last group
    final : unsigned(1)
        with ``end``: the sample ends with this time step
    """

    def __init__(self, bits, index_width):
        super().__init__({"bits": bits, "index": index_width, "end": 1, "last": 1, "final": 1})


class Visit(data.StructLayout):
    """One event in one group's replay, or the end of the replay.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core

    Members
    -------
    row : unsigned
        of weights: of the group's, that of the input neuron; of a sparse core, of all that there are. Not meaningful at
        an ``end``
    shift : unsigned
        the visit counts 2^shift times (graded values; absent from the layout otherwise)
    negative : unsigned(1)
        and is subtracted (values with a sign; absent from the layout otherwise)
    end, last, final
        as in `ListEntry`
    """

    def __init__(self, core):
        words, rows = core.i_words, core.sparse_rows.count if core.sparse else core.input_rows
        fields = {"row": max(1, (rows - 1).bit_length())}
        if words.graded:
            fields["shift"] = max(1, (words.width - 1).bit_length())
        if words.signed:
            fields["negative"] = 1
        super().__init__({**fields, "end": 1, "last": 1, "final": 1})
