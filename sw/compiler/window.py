"""How a core looks at a map: what is under the kernel, and when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from spikeloom import reference
from spikeloom.errors import SpikeloomError
from spikeloom.network import Shortcut

from .words import WordFormat

#: Entries of a mask that is made of logic: a memory so wide and so short would leave most of its block RAM empty.
MASK_DEPTH = 64


class Window:
    """How a core looks at a map: the geometry of a convolution, along (rows, columns), and the order of its weights.

    Attributes
    ----------
    synapses : Conv2d or Shortcut
    i_words : WordFormat
        of the map
    groups, group : int
        passes over the columns of the map for each row that goes out, and channels that a pass is for
    skips : bool
        rows that go out are left alone where nothing would change
    sparse : bool
        rows of weights that are all zero are neither stored nor visited
    gated : bool
        a gate says which channels are open
    """

    skips = False
    sparse = False
    gated = False

    # Geometry -------------------------------------------------------------------------------------

    @property
    def merged(self):
        """Rows and columns of a block that becomes one position before it is kept."""
        pool = self.synapses.pool
        return (pool.rows, pool.columns) if pool and pool.kind == "max" else (1, 1)

    @property
    def summed(self):
        """Rows and columns that share their weights."""
        pool = self.synapses.pool
        return (pool.rows, pool.columns) if pool and pool.kind == "sum" else (1, 1)

    @property
    def kernel(self):
        """Of what is kept: the rows and columns that a position sees."""
        return tuple(self.synapses.kernel * summed for summed in self.summed)

    @property
    def stride(self):
        """Of what is kept: rows and columns from a position to the next."""
        return tuple(self.synapses.stride * summed for summed in self.summed)

    @property
    def padding(self):
        """Of what is kept: rows and columns of zeros before the first."""
        return tuple(self.synapses.padding * summed for summed in self.summed)

    @property
    def kept(self):
        """Rows and columns that any position sees."""
        return tuple(min(size * summed, stride * (count - 1) + kernel - padding)
                     for size, summed, stride, count, kernel, padding
                     in zip(self.synapses.pooled_shape, self.summed, self.stride, self.synapses.shape, self.kernel,
                            self.padding, strict=False))

    @property
    def banks(self):
        """Rows that are kept at once: those under the kernel, and those that come in meanwhile."""
        return self.kernel[0] + self.stride[0]

    @property
    def sets(self):
        return -(-self.kernel[1] // self.stride[1])

    @property
    def tail(self):
        """Positions that have got nothing yet of the columns behind the last one, when that has passed."""
        done = (self.padding[1] + self.kept[1] - 1) // self.stride[1] - self.sets + 2  # positions that have all
        return max(0, self.synapses.shape[1] - done)

    @property
    def early(self):
        """Positions that get something from the first column, less one."""
        return self.padding[1] // self.stride[1]

    @property
    def pause(self):
        """Positions that a pass must be done with before the next can use their sums: the others go on meanwhile."""
        place = self.sets - self.tail  # the set that the last of them is in
        return max(0, self.early + 1 - place) if self.tail else 0

    # Rows that go out -----------------------------------------------------------------------------

    @property
    def needed(self):
        """For each row that goes out: rows of the map under the kernel."""
        return [min(top + self.kernel[0], self.kept[0]) - max(top, 0) for top in self._tops]

    @property
    def dropped(self):
        """For each: rows that no later one needs."""
        return [after - before for before, after in pairwise([*self._released, self.kept[0]])]

    @property
    def awaited(self):
        """For each: rows that have to be there, counted from the first that is kept."""
        return [max(pair) for pair in zip(self.needed, self.dropped, strict=True)]

    @property
    def _tops(self):
        return [self.stride[0] * row - self.padding[0] for row in range(self.synapses.shape[0])]

    @property
    def _released(self):
        """Rows that none from each one on needs."""
        return [min(max(top, 0), self.kept[0]) for top in self._tops]

    def arrives_with(self, rows):
        """Rows of the source's map that have to come for so many to be kept, of one time step."""
        return self.synapses.input_shape[0] if rows == self.kept[0] else rows * self.merged[0]

    @property
    def opens(self):
        """For each row of the source's map: whether it needs a place of its own."""
        return [row % self.merged[0] == 0 and row // self.merged[0] < self.kept[0]
                for row in range(self.synapses.input_shape[0])]

    # Weights --------------------------------------------------------------------------------------

    @property
    def seen(self):
        """For each group, the first channel of the input that it sees."""
        synapses = self.synapses
        per_group, count = synapses.weights.shape[1], synapses.shape[2] // synapses.groups
        return [min(group * self.group // count * per_group, synapses.pooled_shape[2] - self.seen_channels)
                for group in range(self.groups)]

    @property
    def seen_channels(self):
        """Neighbouring channels of the input that a group sees."""
        synapses = self.synapses
        count = synapses.shape[2] // synapses.groups
        spans = [(min((group + 1) * self.group, synapses.shape[2]) - 1) // count - group * self.group // count + 1
                 for group in range(self.groups)]
        return max(spans) * synapses.weights.shape[1]

    @property
    def weight_rows(self):
        """(groups, rows of the kernel, columns of a stride, channels seen): what the rows of the weight memory are
        for, the last varying fastest."""
        kernel = self.synapses.kernel
        return self.groups, kernel, min(self.synapses.stride, kernel), self.seen_channels

    @cached_property
    def weights(self):
        """Weight codes (uint8), shape (rows, lanes); lane set·group + channel. A row is for each of `weight_rows`."""
        codes = self.synapses.weight_format.encode(self._spread)
        return self._in_rows(padded(codes, self.groups * self.group))

    @cached_property
    def filled(self):
        """Which rows have a weight that is not zero: bool, in the shape `weight_rows`."""
        return self._in_rows(self._without_padding).any(axis=1).reshape(self.weight_rows)

    @cached_property
    def filled_weights(self):
        """Of `weights`, the rows that are `filled`, or one if none is; channels that fill up the last group have
        zeros."""
        codes = self._in_rows(self.synapses.weight_format.encode(self._without_padding))
        return codes[self.filled.ravel()] if self.filled.any() else codes[:1]

    @cached_property
    def masks(self):
        """Which channels, of those that a group sees, have a weight for it: an integer of so many bits for each column
        of a stride, row of the kernel and group, the first varying fastest. The first two count up to powers of two."""
        _, kernel, stride, _ = self.weight_rows
        wide = np.pad(self.filled, ((0, 0), (0, _to_power(kernel)), (0, _to_power(stride)), (0, 0)))
        rows = np.packbits(wide.reshape(-1, wide.shape[3]), axis=1, bitorder="little")
        return [int.from_bytes(row.tobytes(), "little") for row in rows]

    @cached_property
    def _spread(self):
        """Weights (channels out, channels in, rows of the kernel, columns of all sets), with zeros where there is
        none."""
        synapses, (_, kernel, stride, _) = self.synapses, self.weight_rows
        out, per_group = synapses.weights.shape[:2]
        spread = np.zeros((out, synapses.pooled_shape[2], kernel, self.sets * stride), np.int64)
        for channel in range(out):
            first = channel * synapses.groups // out * per_group
            spread[channel, first:first + per_group, :, :kernel] = synapses.weights[channel]
        return spread

    @property
    def _without_padding(self):
        out = self.synapses.shape[2]
        return np.pad(self._spread, ((0, self.groups * self.group - out), *[(0, 0)] * 3))

    def _in_rows(self, values):
        """``values``, of the shape of `_spread` with all channels of all groups, as rows (rows, lanes) of a memory."""
        groups, kernel, stride, seen = self.weight_rows
        values = values.reshape(groups, self.group, *values.shape[1:])
        values = np.stack([values[group, :, first:first + seen] for group, first in enumerate(self.seen)])
        values = values.reshape(groups, self.group, seen, kernel, self.sets, stride)  # column = set · stride + phase
        return values.transpose(0, 3, 5, 2, 4, 1).reshape(-1, self.sets * self.group)

    def visits(self, z, groups=None):
        """How many events of the inputs ``z`` (samples, time steps, n_in) each pass visits column by column: float64
        array (groups, samples, time steps, rows that go out, columns that are kept); for all groups or for those
        given."""
        synapses, (rows, columns), (_, kernel, stride, _) = self.synapses, self.kept, self.weight_rows
        groups = range(self.groups) if groups is None else groups
        z = reference.pool(synapses, z) if self.merged != (1, 1) else z.reshape(*z.shape[:2], *synapses.input_shape)
        events = np.bitwise_count(np.abs(z[:, :, :rows, :columns])).astype(np.float64)
        counts = np.zeros((kernel, stride, events.shape[4], len(groups)))  # whether a group visits a channel's events
        for at, group in enumerate(groups):
            seen = slice(self.seen[group], self.seen[group] + self.seen_channels)
            counts[:, :, seen, at] = self.filled[group] if self.sparse else 1
        found = np.zeros((*z.shape[:2], synapses.shape[0], columns, len(groups)))
        phases = (np.arange(columns) + self.padding[1]) % self.stride[1] // self.summed[1]
        for row, phase in np.ndindex(kernel, stride):
            at = np.flatnonzero(phases == phase)
            visited = events[:, :, :, at] @ counts[row, phase]
            for below in range(row * self.summed[0], (row + 1) * self.summed[0]):
                sees = np.array(self._tops) + below
                inside = np.flatnonzero((sees >= 0) & (sees < rows))
                found[:, :, inside[:, None], at] += visited[:, :, sees[inside]]
        return np.moveaxis(found, 4, 0)

    # Memories -------------------------------------------------------------------------------------

    def row_memories(self, name=""):
        """Of the rows that are kept, and of the masks of a sparse core, as in `Core.memories`."""
        shape = self.kept[1], self.i_words.width * self.i_words.parts
        masks = range(self.banks if self.kernel[0] > 1 else 1) if self.sparse else ()
        return ({f"{name}row_{bank}": shape for bank in range(self.banks)}
                | {f"{name}mask_{bank}": (len(self.masks), self.seen_channels) for bank in masks})

    def check(self, what):
        """Refuse what has no gateware."""
        if not self.i_words.shape:
            raise SpikeloomError(f"{what}: a convolution of a dense layer's spikes runs in the reference, "
                                 "not in gateware")
        if self.merged != (1, 1) and self.i_words.graded:
            raise SpikeloomError(f"{what}: a pool of kind max of values of several bits runs in the reference, "
                                 "not in gateware")
        synapses = self.synapses
        per_group = synapses.shape[2] // synapses.groups
        if synapses.weight_format.kind == "binary" and synapses.groups > 1 and per_group % self.group:
            raise SpikeloomError(f"{what}: with binary weights, which have no zero, the {self.group} channels that "
                                 f"accumulate at once must divide the {per_group} of a group of the convolution")


@dataclass(frozen=True, eq=False)
class Branch(Window):
    """A `Window` beside that of a core's own convolution, or before a dense layer; fields as there."""

    synapses: Shortcut
    i_words: WordFormat
    groups: int
    group: int
    gated: bool = False


def padded(values, channels):
    """``values`` (channels, ...) filled up to so many ``channels`` with copies of the first one's."""
    return np.concatenate([values, np.repeat(values[:1], channels - len(values), axis=0)])


def _to_power(count):
    """What is missing from ``count`` to a power of two."""
    return (1 << (count - 1).bit_length()) - count
