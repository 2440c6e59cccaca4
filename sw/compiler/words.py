"""How spikes travel between cores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import InputFormat


@dataclass(frozen=True)
class WordFormat:
    """How spikes travel between cores: words of neighbouring neurons, or one graded value each.

    A word is an ``index`` and ``width`` bits. For binary spikes bit b of word i is neuron i·width + b.
    For graded values (``graded``) word i is neuron i and bit b has the value 2^b. Words without a set bit
    are not sent, so silence costs nothing.

    Words of a map whose ``shape`` is given have neurons of one position alone, and an index of three fields: from the
    lowest bit on, the part of the position's channels, the column, and the row.
    """

    size: int
    width: int
    graded: bool = False
    shape: tuple[int, int, int] | None = None

    def __post_init__(self):
        if not self.graded and self.width not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Bits of a spike word must be 1, 2, 4, 8 or 16, not {self.width}")

    @property
    def map(self):
        """The shape, that of a single position where none is given."""
        return self.shape or (1, 1, self.size)

    @property
    def parts(self):
        """Words of one position."""
        return self.map[2] if self.graded else -(-self.map[2] // self.width)

    @property
    def fields(self):
        """Bits of an index that say which part, which column and which row."""
        rows, columns, _ = self.map
        return tuple((count - 1).bit_length() for count in (self.parts, columns, rows))

    @property
    def bounds(self):
        """Smallest and largest value."""
        return 0, 2**self.width - 1 if self.graded else 1

    @property
    def most(self):
        """Words of one time step when every neuron spikes."""
        return self.map[0] * self.map[1] * self.parts

    @property
    def count(self):
        """One more than the highest index."""
        part, column, _ = self.fields
        rows, columns, _ = self.map
        return ((rows - 1 << column | columns - 1) << part | self.parts - 1) + 1

    @property
    def events(self):
        """Of each neuron, the number of its event: its word's index times the bits of a word, and the bit; of a graded
        value the index."""
        rows, columns, channels = self.map
        part, column, _ = self.fields
        row, at, channel = np.indices((rows, columns, channels)).reshape(3, -1)
        each, bit = (channel, 0) if self.graded else divmod(channel, self.width)
        index = (row << column | at) << part | each
        return index if self.graded else index * self.width + bit

    @property
    def event_count(self):
        """One more than the highest of these, were all bits of all words neurons."""
        return self.count * (1 if self.graded else self.width)

    @property
    def index_width(self):
        return max(1, (self.count - 1).bit_length())

    def queue(self, rows):
        """Entries and bits of a memory for so many rows of words, their ends included. It knows no number of a row."""
        part, column, _ = self.fields
        return rows * (self.map[1] * self.parts + 1), self.width + part + column + 3

    def pack(self, z):
        """Words (..., count) that hold the values ``z`` (..., size)."""
        z = np.asarray(z, np.int64).reshape(*np.shape(z)[:-1], *self.map)
        if not self.graded:
            bits = _filled(z, 1, self.parts * self.width).reshape(*z.shape[:-1], self.parts, self.width)
            z = (bits << np.arange(self.width)).sum(axis=-1)
        part, column, _ = self.fields
        words = _filled(_filled(z, 2, 1 << column) if self.shape else z, 1, 1 << part if self.shape else self.parts)
        return words.reshape(*words.shape[:-3], -1)[..., :self.count]

    def unpack(self, words):
        """The inverse of `pack`."""
        part, column, _ = self.fields
        rows, columns, channels = self.map
        if self.shape:
            words = _filled(np.asarray(words), 1, rows << column << part)
            words = words.reshape(*words.shape[:-1], rows, 1 << column, 1 << part)[..., :columns, :self.parts]
        if not self.graded:
            bits = (np.asarray(words)[..., None] >> np.arange(self.width)) & 1
            words = bits.reshape(*bits.shape[:-2], -1)[..., :channels]
        return words.reshape(*words.shape[:-3], self.size) if self.shape else words

    @classmethod
    def of_input(cls, input: InputFormat):
        """The words that a network's input comes in: without fields, whatever its map."""
        if input.width > 1:
            return cls(input.size, input.width, graded=True)
        if input.shape[:2] != (1, 1):  # no word has values of two positions
            return cls(input.size, min(8, input.shape[2] & -input.shape[2]))
        # Eight neighbours a word keeps the list of a 784-pixel image in one block RAM.
        return cls(input.size, min(8, 1 << (input.size - 1).bit_length()))

    @classmethod
    def of_input_map(cls, input: InputFormat):
        """The words of `of_input`, as a core takes them that works on maps."""
        words = cls.of_input(input)
        return cls(input.size, words.width, words.graded, input.shape)


def _filled(array, axis, count):
    """``array`` with zeros up to ``count`` entries along its ``axis``-last axis."""
    padding = [(0, 0)] * array.ndim
    padding[-axis] = (0, count - array.shape[-axis])
    return np.pad(array, padding)
