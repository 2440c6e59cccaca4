"""Several convolutions on one core of the array, row by row in turn."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from spikeloom.errors import SpikeloomError
from spikeloom.network import ShiftLeak, TableActivation, TableLeak

from .core import Image, Parameter
from .map_core import MapCore

__all__ = ["SharedCore", "kind"]

#: Of the attributes of a `MapCore`, those that all members have in common, and those of which the largest counts.
COMMON = ("layer", "sets", "group", "lanes", "units", "updates", "memory_registers", "memory", "skips",
          "update_cycles", "encoding_cycles", "encodes_at_once", "clears", "rounds", "ternary", "levels_of_threshold",
          "leaks", "graded", "weight_format", "state_widths", "act_stage", "driven_stage", "potential_stage")
LARGEST = ("pace", "current_width", "biased_width", "driving_width", "stored_width", "potential_width", "above_width",
           "kept_width")


def kind(core):
    """What cores must have in common for their layers to share one, by name; None for one that cannot share."""
    layer = core.layer
    if not isinstance(core, MapCore) or layer.shortcut or core.sparse or core.gated:
        return None
    if layer.current or layer.adaptation:
        return None
    leak = layer.leak
    return {
        "sets of sums": core.sets, "channels at once": core.group, "update units": core.units, "memory": core.memory,
        "weights": layer.weight_format, "bits of a membrane potential": layer.v_width, "its levels": layer.grid,
        "reset": layer.reset, "kind of spikes": layer.fire.kind,
        "leak": (leak.kind, leak.shift if isinstance(leak, ShiftLeak) else 0,
                 leak.table if isinstance(leak, TableLeak) else ()),
        "activation": layer.act,
        "bits of an input": core.i_words.width if core.i_words.graded else 1, "rows at rest": core.skips,
    }


class SharedCore:
    """Everything that the gateware of a core is generated from that serves several convolutions.

    Each keeps the rows under its own kernel. Whatever comes behind them is there once: it works on a row of one layer,
    then on one of another. Memories of the layers lie one behind the other.

    Attributes that a `MapCore` has too mean the same here; those that differ between layers are found in ``members``.

    Parameters
    ----------
    cores : sequence of MapCore
        of layers that have the same `kind`; raises `SpikeloomError` where they do not
    """

    shortcut, reloadable, sparse, gated = None, False, False, False

    def __init__(self, cores):
        first, wanted = cores[0], kind(cores[0])
        for core in cores:
            name, found = f"Layer {core.layer.name}", kind(core)
            if found is None:
                raise SpikeloomError(f"{name} cannot share a core: only convolutions without a shortcut or a "
                                     "gate can, none that is sparse, and none whose neurons have other states than "
                                     "potentials")
            if core.reloadable:
                raise SpikeloomError(f"{name} cannot share a core in a reloadable program")
            for what, value in found.items():
                if value != wanted[what]:
                    raise SpikeloomError(f"{name} cannot share a core with {first.layer.name}: they differ in {what}")
        self.members = tuple(cores)

    def __getattr__(self, name):
        if name in COMMON:
            return getattr(self.members[0], name)
        if name in LARGEST:
            return max(getattr(core, name) for core in self.members)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def update_count(self):
        """Words of the membrane memory."""
        return sum(core.update_count for core in self.members)

    @cached_property
    def parameters(self):
        return {name: self._together([core.parameters[name] for core in self.members])
                for name in self.members[0].parameters}

    @property
    def minus_threshold(self):
        return self.parameters["minus_threshold"]

    @property
    def bias(self):
        return self.parameters["bias"]

    @staticmethod
    def _together(parameters):
        values = np.concatenate([parameter.values for parameter in parameters])
        low, high = int(values.min()), int(values.max())
        return Parameter("fixed" if low == high else "each", (low, high), values)

    @property
    def _stored(self):
        return [parameter for parameter in self.parameters.values() if parameter.storage == "each"]

    @property
    def image_names(self):
        return ("weights", *(["parameters"] if self._stored else []),
                *(["leak"] if isinstance(self.layer.leak, TableLeak) else []),
                *(["act"] if isinstance(self.layer.act, TableActivation) else []))

    @cached_property
    def images(self):
        """The `Image` of each memory, those of the members one behind the other."""
        layer = self.layer
        columns = {
            "weights": [(np.concatenate([core.weights for core in self.members]), layer.weight_format.width)],
            "parameters": [(parameter.values, parameter.width) for parameter in self._stored],
            "leak": [(self.leaks[:, None], self.stored_width)],
            "act": self.members[0].image_columns.get("act"),
        }
        return {name: Image.of(name, *columns[name]) for name in self.image_names}

    @property
    def memories(self):
        """As in `Core`; rows and queues have the name of their layer before their own."""
        rows = {f"{core.layer.name}.{name}": shape for core in self.members for name, shape in core.memories.items()
                if "row_" in name or "queue" in name}
        tables = {f"{name}_{unit}": (image.rows, image.row_bits) for unit in range(self.units)
                  for name, image in self.images.items() if name in ("leak", "act")}
        images = {name: (image.rows, image.row_bits) for name, image in self.images.items()
                  if name not in ("leak", "act")}
        states = {name: (self.update_count, self.units * width) for name, width in self.state_widths.items()}
        return {**states, **rows, **images, **tables}
