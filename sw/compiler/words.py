"""How spikes travel between cores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import Conv2d, GradedSpike, InputFormat


@dataclass(frozen=True)
class WordFormat:
    """How spikes travel between cores: words of neighbouring neurons, or one graded value each.

    A word is an ``index`` and ``width`` bits. For binary spikes bit b of word i is neuron i·width + b.
    For graded values (``graded``) word i is neuron i and bit b has the value 2^b; where they have a sign, it comes
    beside these bits of their magnitude. Words without a set bit are not sent, so silence costs nothing.

    Words of a map whose ``shape`` is given have neurons of one position alone, and an index of three fields: from the
    lowest bit on, the part of the position's channels, the column, and the row.
    """

    size: int
    width: int
    graded: bool = False
    shape: tuple[int, int, int] | None = None
    #: Smallest and largest value of what is graded, where these are not 0 and 2^width - 1.
    reach: tuple[int, int] | None = None

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
        return self.reach or (0, 2**self.width - 1 if self.graded else 1)

    @property
    def signed(self):
        """Whether words have a sign."""
        return self.bounds[0] < 0

    @property
    def step(self):
        """Inputs of a word: what one more in its index stands for."""
        return 1 if self.graded else self.width

    #: Whether there are words of both kinds.
    mixed = False

    @property
    def entry_width(self):
        """Bits that an entry of a list has beside a word's own: its index, and its sign."""
        return self.index_width + self.signed

    @property
    def inputs(self):
        """The `Input` that these words are alone."""
        return (Input(self),)

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
    def of_layer(cls, layer, units):
        """Those that a layer sends of which so many neurons are updated at once."""
        if units not in (1, 2, 4, 8, 16):
            raise SpikeloomError(f"Layer {layer.name}: update units must be 1, 2, 4, 8 or 16, not {units}")
        if isinstance(layer.fire, GradedSpike):
            if units != 1:
                raise SpikeloomError(f"Layer {layer.name}: graded spikes leave one by one, so it must have one update "
                                     f"unit, not {units}")
            low, high = layer.fire.low, layer.fire.high
            return cls(layer.n_out, max(-low, high).bit_length(), graded=True, reach=(low, high))
        return cls(layer.n_out, units, shape=layer.shape if isinstance(layer, Conv2d) else None)

    @classmethod
    def of_input_map(cls, input: InputFormat):
        """The words of `of_input`, as a core takes them that works on maps."""
        words = cls.of_input(input)
        return cls(input.size, words.width, words.graded, input.shape)


@dataclass(frozen=True)
class Input:
    """What comes to a dense layer from one source, and is kept in a list for each time step.

    Parameters
    ----------
    words : WordFormat
        as they come
    first : int
        of the layer's rows of weights, that of the source's first neuron
    delay : int
        time steps
    banks : int
        time steps that there is room for
    kept : bool
        false where only the ends of time steps matter
    source : str, optional
        its name, where there are several
    """

    words: WordFormat
    first: int = 0
    delay: int = 0
    banks: int = 2
    kept: bool = True
    source: str | None = None

    @property
    def depth(self):
        """Entries of a bank."""
        return 1 << (self.words.most - 1).bit_length()


@dataclass(frozen=True)
class JointWords:
    """The words of several sources in the lists of one core, or of one that come later than they were sent. In place of
    the index that a word comes with, its entry has the first row of weights that it may be about, divided by ``step``.

    Where some words are neighbouring neurons and others graded values (``mixed``), an entry has a bit that says which.
    """

    inputs: tuple[Input, ...]
    shape = None

    @property
    def _kept(self):
        return [each for each in self.inputs if each.kept]

    @property
    def size(self):
        """Inputs of all sources."""
        return sum(each.words.size for each in self._kept)

    @property
    def rows(self):
        """Of weights, with those that are left out so that each source begins where its words do."""
        return max(each.first + each.words.size for each in self._kept)

    @property
    def width(self):
        return max(each.words.width for each in self._kept)

    @property
    def graded(self):
        return any(each.words.graded for each in self._kept)

    @property
    def signed(self):
        return any(each.words.signed for each in self._kept)

    @property
    def mixed(self):
        return self.graded and any(not each.words.graded and each.words.width > 1 for each in self._kept)

    @property
    def step(self):
        return min(each.words.step for each in self._kept)

    @property
    def most(self):
        return sum(each.words.most for each in self._kept)

    @property
    def index_width(self):
        return max(1, ((self.rows - 1) // self.step).bit_length())

    @property
    def entry_width(self):
        return self.index_width + self.signed + self.mixed


def joined(sources):
    """The `JointWords` of ``sources``: pairs of words and what else an `Input` has, in the order of their rows; those
    that are not kept come last."""
    first, inputs = 0, []
    for words, fields in sources:
        first = -(-first // words.step) * words.step
        inputs.append(Input(words, first, **fields))
        first += words.size
    return JointWords(tuple(inputs))


def _filled(array, axis, count):
    """``array`` with zeros up to ``count`` entries along its ``axis``-last axis."""
    padding = [(0, 0)] * array.ndim
    padding[-axis] = (0, count - array.shape[-axis])
    return np.pad(array, padding)
