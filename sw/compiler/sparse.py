"""Which words of a dense layer's weights a sparse core has, and the order in which it finds them."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from spikeloom.errors import SpikeloomError

from .words import JointWords

__all__ = ["SparseRows", "occupied"]


@lru_cache(maxsize=8)
def occupied(layer, lanes):
    """Whether a group of ``lanes`` neurons of a dense layer has any weight other than zero for an input: bool array
    (groups, inputs)."""
    return np.logical_or.reduceat(layer.weights != 0, np.arange(0, len(layer.weights), lanes), axis=0)


class SparseRows:
    """The rows of a sparse core's weight memory: one for each group and input that have a weight other than zero, those
    of an input beside each other. A layer of zeros alone keeps its first.

    Neurons that only fill up the last group have weights of zero here.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
        of a dense layer; raises `SpikeloomError` where its weights cannot be zero

    Attributes
    ----------
    there : bool array (groups, inputs)
    count : int
        rows
    """

    def __init__(self, core):
        form = core.layer.weight_format
        if isinstance(core.i_words, JointWords) or core.i_words.signed:
            raise SpikeloomError(f"Layer {core.layer.name}: visits of several sources, or of counts with a sign, are "
                                 "not sorted, so it cannot be sparse")
        if 0 not in form.values:
            raise SpikeloomError(f"Layer {core.layer.name}: weights of kind {form.kind} are never zero, "
                                 "so it cannot be sparse")
        self.core = core
        self.there = occupied(core.layer, core.lanes)
        self.count = int(np.count_nonzero(self.there))
        if not self.count:
            self.there, self.count = np.zeros_like(self.there), 1
            self.there[0, 0] = True

    @cached_property
    def _places(self):
        inputs, groups = np.nonzero(self.there.T)
        return groups, inputs

    @property
    def groups(self):
        """Of each row: int array (rows,)."""
        return self._places[0]

    @property
    def inputs(self):
        """Of each row: int array (rows,)."""
        return self._places[1]

    @cached_property
    def entries(self):
        """For each group, the visits of a time step when every input spikes: as many for each as a graded value has
        bits, and as a sum is of values."""
        words, pool = self.core.i_words, self.core.layer.pool
        values = pool.rows * pool.columns if pool and pool.kind == "sum" else 1
        return self.there.sum(1) * (words.width if words.graded else 1) * values

    @cached_property
    def weights(self):
        """Weight codes (uint8), shape (rows, lanes)."""
        core, weights = self.core, self.core.layer.weights
        neurons = self.groups[:, None] * core.lanes + np.arange(core.lanes)
        real = neurons < len(weights)
        found = np.where(real, weights[np.where(real, neurons, 0), self.inputs[:, None]], 0)
        return core.layer.weight_format.encode(found)

    @property
    def _input_of_event(self):
        """Of each event as the scanner numbers them, the input that it is, or -1."""
        layer, words = self.core.layer, self.core.i_words
        found = np.arange(layer.weights.shape[1])
        if words.shape:
            found = found.reshape(layer.pooled_shape if layer.pool else words.map)  # where the layer may not say
            if layer.pool and layer.pool.kind == "sum":  # a maximum comes as it is
                found = found.repeat(layer.pool.rows, axis=0).repeat(layer.pool.columns, axis=1)
            left = [(0, size - reached) for size, reached in zip(words.map, found.shape, strict=True)]
            found = np.pad(found, left, constant_values=-1).reshape(-1)
        numbers = np.full(words.event_count, -1)
        numbers[words.events] = found
        return numbers

    @property
    def image_columns(self):
        """By name, what the images of the memories that lead to a row are made of: where an event's rows begin and how
        many there are; the group of each row; and one before the place where each group's list begins, in the first
        and in the second bank, for those who write and those who read it."""
        inputs, total = self._input_of_event, int(self.entries.sum())
        counts = self.there.sum(0)
        firsts = counts.cumsum() - counts
        known = inputs >= 0
        before = self.entries.cumsum() - self.entries - 1
        depth, _ = self.memories["visits"]
        starts = (before[:, None] + (0, total)).reshape(-1, 1) % (1 << (depth - 1).bit_length())
        columns = {
            "inputs": [(np.where(known, firsts[inputs], 0)[:, None], _bits(self.count - 1)),
                       (np.where(known, counts[inputs], 0)[:, None], _bits(self.core.groups))],
            "groups": [(self.groups[:, None], _bits(self.core.groups - 1))],
        }
        return columns | {name: [(starts, _bits(depth - 1))] for name in ("w_starts", "r_starts")}

    @property
    def image_shapes(self):
        """Rows and bits of each of these, and of the weights."""
        core, words = self.core, self.core.i_words
        starts = 2 * core.groups, _bits(self.memories["visits"][0] - 1)
        return {
            "weights": (self.count, core.lanes * core.layer.weight_format.width),
            "inputs": (words.event_count, _bits(self.count - 1) + _bits(core.groups)),
            "groups": (self.count, _bits(core.groups - 1)),
            "w_starts": starts, "r_starts": starts,
        }

    @property
    def memories(self):
        """The memories that are written at every time step, name to (entries, bits): two banks of lists of visits, and
        how many each has."""
        words = self.core.i_words
        shift = _bits(words.width - 1) if words.graded else 0
        number = self.core.groups, _bits(int(self.entries.max()))
        return {"visits": (2 * int(self.entries.sum()), _bits(self.count - 1) + shift),
                "numbers_0": number, "numbers_1": number}


def _bits(highest):
    return max(1, highest.bit_length())
