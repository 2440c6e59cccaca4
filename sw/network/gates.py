"""What multiplies a map by gates, or leaves parts of a layer out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError

from .checks import (
    LARGEST_ENTRY,
    LARGEST_GATE,
    LARGEST_SHIFT,
    LONGEST_BLOCK,
    LONGEST_KERNEL,
    between,
    check_reach,
    check_shapes,
    check_table,
    integers,
    is_integer,
    on_grid,
    sum_bounds,
)
from .weights import WeightFormat


@dataclass(frozen=True, eq=False)
class Attention:
    """Gates that multiply a map, one for each time step and channel, made of each channel's sum over all positions:
    temporal-channel joint attention (TCJA: Zhu, Zhao, Zhang, Deng, Duan, Zhang, Deng, arXiv 2206.10177) over integers.

    Parameters
    ----------
    time_weights : int array (time steps, time steps, k)
        of a convolution along the channels that mixes the network's time steps, k from 1 to 7
    channel_weights : int array (channels, channels, k)
        of one along time that mixes the channels; k need not be the same
    weight_format : WeightFormat
        of both
    shift : int
        binary logarithm of what the product of the two is divided by, 0 to 48
    table : tuple of int
        the gate, 0 to 255, for each such quotient: 2^n entries, for -2^(n-1) to 2^(n-1) - 1, within which it is clipped
    """

    time_weights: np.ndarray
    channel_weights: np.ndarray
    weight_format: WeightFormat
    shift: int
    table: tuple[int, ...]

    def check(self, what, channels):
        for name in ("time_weights", "channel_weights"):
            weights = on_grid(self, what, name, 3)
            out, mixed, k = weights.shape
            side = channels if name == "channel_weights" else max(1, out)
            if (out, mixed) != (side, side) or not 1 <= k <= LONGEST_KERNEL:
                raise SpikeloomError(f"{what}: {name} must have shape ({side}, {side}, 1 to {LONGEST_KERNEL}), "
                                     f"not {weights.shape}")
        between(f"{what}: shift", self.shift, 0, LARGEST_SHIFT)
        check_table(what, self.table, 0, LARGEST_GATE)

    @property
    def weight_bits(self):
        """Bits of all weights as stored."""
        return (self.time_weights.size + self.channel_weights.size) * self.weight_format.width

    def bounds(self, z_low, z_high):
        """Smallest and largest value of what values from ``z_low`` to ``z_high`` become, among which is 0."""
        return z_low * max(self.table), z_high * max(self.table)

    def reach(self, z_low, z_high, positions):
        """The largest magnitude of a sum Σ W·z of either convolution, for so many positions of values from ``z_low`` to
        ``z_high``, among which is 0."""
        sides = [sum_bounds(weights, positions * z_low, positions * z_high)
                 for weights in (self.time_weights, self.channel_weights)]
        return max(max(-low, high) for low, high in sides)


@dataclass(frozen=True, eq=False)
class ChannelGate:
    """Says of each channel of a convolution, time step by time step, whether it is open. One that is closed gets no
    current: neither sums nor bias (SpQuant-SNN: Hasssan, Meng, Anupreetham, Seo, Front. Neurosci. 18, 2024).

    It looks at the map that comes in, before any pool, of values that are not negative: at the sum of each channel, or
    of each few neighbouring ones, over all positions.

    Parameters
    ----------
    weights : int array (channels, channels in / reduce)
        of what the table makes of these sums
    weight_format : WeightFormat
    bias : int array (channels,)
        a channel is open where the weighted sum and this are above 0
    table : tuple of int
        0 to 32767, for each sum over 2^shift; as many as a power of two, the last also for all beyond
    shift : int
        0 to 48
    reduce : int
        neighbouring channels whose sums are added, a divisor of the channels in
    """

    weights: np.ndarray
    weight_format: WeightFormat
    bias: np.ndarray
    table: tuple[int, ...]
    shift: int = 0
    reduce: int = 1

    def check(self, what, layer):
        weights, bias = on_grid(self, what, "weights", 2), integers(self, what, "bias", 1)
        channels_in, channels = layer.input_shape[2], layer.shape[2]
        if not is_integer(self.reduce) or self.reduce < 1 or channels_in % self.reduce:
            raise SpikeloomError(f"{what}: reduce must divide its {channels_in} channels in, not be {self.reduce}")
        check_shapes(what, channels, weights, (channels, channels_in // self.reduce), bias)
        between(f"{what}: shift", self.shift, 0, LARGEST_SHIFT)
        check_table(what, self.table, 0, LARGEST_ENTRY)
        check_reach(what, np.abs(weights).sum(1) * max(self.table) + np.abs(bias))

    @property
    def operations(self):
        """Multiplications of a time step."""
        return self.weights.size


@dataclass(frozen=True, eq=False)
class BlockGate:
    """Says of each block of positions and each channel of a convolution, time step by time step, whether it is open.
    The potentials of one that is closed become 0 before they fire (the membrane-potential prior of SpQuant-SNN).

    It looks at the potentials that the time step before left in the layer, at each block's sum: so what is closed needs
    no currents.

    Parameters
    ----------
    weights : int array (channels, channels, k, k), or (channels, 1, k, k) where each channel looks at its own alone
        of a convolution over the map of blocks, k odd and 1 to 7, with zeros around the map
    weight_format : WeightFormat
    bias : int array (channels,)
        a block is open where the weighted sum and this are 0 or more
    rows, columns : int
        of a block, 1 to 16; blocks lie side by side from the first row and column, the last ones may be cut off
    """

    weights: np.ndarray
    weight_format: WeightFormat
    bias: np.ndarray
    rows: int = 2
    columns: int = 2

    def check(self, what, layer):
        weights, bias = on_grid(self, what, "weights", 4), integers(self, what, "bias", 1)
        channels, k = layer.shape[2], weights.shape[3]
        if k % 2 == 0 or k > LONGEST_KERNEL:
            raise SpikeloomError(f"{what}: its kernel must be odd and at most {LONGEST_KERNEL}, not {k}")
        seen = 1 if weights.shape[1] == 1 else channels
        check_shapes(what, channels, weights, (channels, seen, k, k), bias)
        for name in ("rows", "columns"):
            between(f"{what}: {name}", getattr(self, name), 1, LONGEST_BLOCK)
        potential = self.rows * self.columns * max(-layer.v_min, layer.v_max)
        check_reach(what, np.abs(weights).sum((1, 2, 3)) * potential + np.abs(bias))

    @property
    def groups(self):
        """Of its convolution."""
        return len(self.weights) if self.weights.shape[1] == 1 else 1

    def operations(self, shape):
        """Multiplications of a time step, on a map of this ``shape``."""
        rows, columns = self.blocks(shape)
        return rows * columns * self.weights.size

    def blocks(self, shape):
        """Rows and columns of blocks on a map of this ``shape``."""
        return -(-shape[0] // self.rows), -(-shape[1] // self.columns)
