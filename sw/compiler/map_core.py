"""What the gateware of a convolution is generated from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import NoLeak, Silent

from .core import Core
from .predictor import Predictor
from .window import Branch, Window
from .words import WordFormat


@dataclass(frozen=True, eq=False)
class MapCore(Window, Core):
    """One convolution on one core of the array.

    The columns of a map pass by one after the other; each event in the rows under the kernel goes into the sums of all
    ``sets`` positions along the row that can still get something from its column, for a ``group`` of channels at each.
    A pool of kind "max" happens before the events are kept. One of kind "sum" is part of the kernel: its events are
    kept as they are, and the weights of a position are used for each of its block.

    Where it is `sparse`, events that a group has no weight for are dropped before they are visited, and ``places`` says
    where in the memory the other rows of weights are. The shortcut's weights are all there.

    Where it is `gated`, passes of groups without an open channel visit no events, and channels that are closed get no
    current. A time step's rows wait until it is known which.
    """

    #: Words of the shortcut's source, where there is a shortcut.
    shortcut_words: WordFormat | None = None
    #: For each branch, rows of its source that can wait in a queue before they are kept.
    waiting: tuple[int, ...] = (0, 0)

    def __post_init__(self):
        super().__post_init__()
        form = self.layer.weight_format
        if self.sparse and 0 not in form.values:
            raise SpikeloomError(f"Layer {self.layer.name}: weights of kind {form.kind} are never zero, "
                                 "so it cannot be sparse")
        self.check(f"Layer {self.layer.name}")
        if self.shortcut:
            self.shortcut.check(f"Layer {self.layer.name}, shortcut")

    @property
    def synapses(self):
        return self.layer

    @property
    def gated(self):
        return self.layer.gate is not None

    @cached_property
    def predictor(self):
        """The `Predictor` of the layer's gate, or None."""
        return Predictor(self) if self.gated else None

    @cached_property
    def shortcut(self):
        """The `Branch` of the layer's shortcut, or None."""
        layer = self.layer
        return layer.shortcut and Branch(layer.shortcut, self.shortcut_words, self.groups, self.group, self.gated)

    @property
    def windows(self):
        """Of each branch."""
        return (self, self.shortcut) if self.shortcut else (self,)

    @property
    def branches(self):
        return tuple((window.synapses, window.i_words) for window in self.windows)

    @property
    def skips(self):
        """Whether a row of the map is left alone at time steps at which no event is under its kernel and none of its
        neurons fired at the time step before."""
        return can_rest(self.layer)

    @property
    def pace(self):
        if not self.skips:
            return super().pace
        # The rows between two time steps of a neuron may take no time.
        return max(self.updates, -(-self.update_cycles // (self.groups * self.layer.shape[1])))

    @property
    def row_updates(self):
        """Updates of a row of the map."""
        return self.layer.shape[1] * self.channel_updates

    @property
    def o_words(self):
        return WordFormat.of_layer(self.layer, self.units)

    def arrange(self, updates):
        rows, columns, channels = self.layer.shape
        updates = np.asarray(updates)
        before = updates.shape[:-2]
        updates = updates.reshape(*before, rows, self.groups, columns, self.group)
        return np.moveaxis(updates, -3, -2).reshape(*before, rows, columns, -1)[..., :channels].reshape(
            *before, self.layer.n_out)

    @property
    def memories(self):
        memories = super().memories
        del memories["events_0"]
        for name, window, waiting in zip(("", "shortcut_"), self.windows, self.waiting, strict=False):
            memories |= window.row_memories(name)
            if waiting:
                memories[f"{name}queue"] = window.i_words.queue(waiting)
        return memories | (self.predictor.memories if self.gated else {})

    @cached_property
    def image_shapes(self):
        names = dict(zip(("weights", "shortcut"), self.windows, strict=False))
        shapes = {name: (math.prod(window.weight_rows), window.sets * self.group * window.synapses.weight_format.width)
                  for name, window in names.items()}
        if self.sparse:
            rows, bits = shapes["weights"]
            stored = len(self.filled_weights)
            shapes |= {"weights": (stored, bits), "places": (rows, max(1, (stored - 1).bit_length()))}
        shapes |= {name: shape for name, shape in super().image_shapes.items() if name != "weights"}
        return shapes | (self.predictor.image_shapes if self.gated else {})

    @property
    def image_columns(self):
        columns = super().image_columns
        if self.sparse:
            places = np.maximum(self.filled.cumsum() - 1, 0)  # any will do for a row that is not there
            columns |= {"weights": [(self.filled_weights, self.layer.weight_format.width)],
                        "places": [(places[:, None], self.image_shapes["places"][1])]}
        return columns | (self.predictor.image_columns if self.gated else {})


def can_rest(layer):
    """Whether neurons of a convolution that did not fire stay as they are until an event comes, as those do that a
    sample begins with: nothing leaks, nothing is added but what events bring, and no threshold is reached at rest."""
    grid = layer.grid
    if grid and (grid.step is None or grid.bounds is not None or layer.v_max >= layer.threshold.min()):
        return False  # rounding could move a potential, or take it to the threshold
    return (isinstance(layer.leak, NoLeak) and not layer.bias.any() and layer.shortcut is None
            and not (layer.act or layer.current or layer.adaptation)
            and (isinstance(layer.fire, Silent) or bool((layer.threshold > 0).all())))
