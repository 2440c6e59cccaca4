"""What the gateware of a channel gate is generated from."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from spikeloom.network import signed_width

__all__ = ["Predictor"]


class Predictor:
    """The block that says which channels of a convolution are open at a time step, beside the core of the layer.

    Sums of the channels that come in lie in a memory, as many side by side as a word has. From there they go one after
    the other through the table. What comes out of it, a value for each ``reduce`` channels, is multiplied by the
    weights of ``core.units`` channels at once.

    Parameters
    ----------
    core : spikeloom.compiler.map_core.MapCore
        of a layer with a gate

    Attributes
    ----------
    gate : ChannelGate
    """

    def __init__(self, core):
        self.core, self.gate = core, core.layer.gate

    # Sizes ------------------------------------------------------------------------------------

    @property
    def channels(self):
        """Channels that come in."""
        return self.core.layer.input_shape[2]

    @property
    def values(self):
        """Values that the table makes of them."""
        return self.gate.weights.shape[1]

    @property
    def beside(self):
        """Sums in a row of their memory."""
        words = self.core.i_words
        return 1 if words.graded else words.width

    @property
    def sum_width(self):
        """Bits of a channel's sum over all positions."""
        rows, columns, _ = self.core.layer.input_shape
        return (rows * columns * self.core.i_words.bounds[1]).bit_length()

    @property
    def total_width(self):
        """Bits of the sum of neighbouring channels."""
        rows, columns, _ = self.core.layer.input_shape
        return (rows * columns * self.gate.reduce * self.core.i_words.bounds[1]).bit_length()

    @property
    def value_width(self):
        """Bits of an entry of the table."""
        return max(1, max(self.gate.table).bit_length())

    @cached_property
    def logit_width(self):
        """Bits of what decides, below zero where a channel is closed. It may wrap on the way."""
        weights, most = self.gate.weights.astype(np.int64), max(self.gate.table)
        low, high = (np.clip(weights, *ends).sum(1) * most + self.gate.bias - 1 for ends in ((None, 0), (0, None)))
        return signed_width(int(low.min()), int(high.max()))

    @property
    def logic_biases(self):
        """Whether biases are made of logic: few rows of so many bits would leave most of their block RAM empty."""
        return self.core.channel_updates <= BIAS_DEPTH

    @property
    def cycles(self):
        """(from a time step's last word until words of the next may come, from then to decide), in clock cycles."""
        return self.channels + SUM_CYCLES, self.core.channel_updates * self.values + DECIDE_CYCLES

    # Memories ---------------------------------------------------------------------------------

    @property
    def memories(self):
        """As in `Core.memories`."""
        return {"gate_sums": (self.core.i_words.parts, self.beside * self.sum_width),
                "gate_values": (self.values, self.value_width),
                "gate_open": (2 << (self.core.channel_updates - 1).bit_length(), self.core.units)}

    @property
    def image_shapes(self):
        """As in `Core`: of the table; of the weights, a row for each ``units`` channels and each value; and of the
        biases, less one."""
        rows, units = self.core.channel_updates, self.core.units
        return {"gate_table": (len(self.gate.table), self.value_width),
                "gate_weights": (rows * self.values, units * self.gate.weight_format.width),
                "gate_biases": (rows, units * self.logit_width)}

    @property
    def image_columns(self):
        """As in `Core`. Channels that only fill up the last group are copies of the last one, and do not open it."""
        gate, core = self.gate, self.core
        missing = core.groups * core.group - len(gate.bias)
        codes = np.pad(gate.weight_format.encode(gate.weights), ((0, missing), (0, 0)), "edge")
        codes = codes.reshape(core.channel_updates, core.units, -1).swapaxes(1, 2).reshape(-1, core.units)
        biases = np.pad(gate.bias - 1, (0, missing), "edge").reshape(core.channel_updates, core.units)
        return {"gate_table": [(np.array(gate.table)[:, None], self.value_width)],
                "gate_weights": [(codes, gate.weight_format.width)],
                "gate_biases": [(biases, self.logit_width)]}


#: Rows of biases that are made of logic: a function of four inputs for each bit.
BIAS_DEPTH = 16

#: What these are beside one for each channel, and one for each row of weights.
SUM_CYCLES, DECIDE_CYCLES = 7, 15
