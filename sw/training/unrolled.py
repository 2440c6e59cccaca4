"""A convolution that is a fully connected layer in the network, as its last layer must be."""

import numpy as np
from spikeloom.network import Dense

from .layers import SpikingConv2d


class SpikingUnrolled(SpikingConv2d):
    """Learns as a `SpikingConv2d` (whose parameters it has, but for shortcut and groups) and becomes a
    `spikeloom.network.Dense` with a neuron for each of its map's, in their order.

    Weights of a neuron for positions that its kernel does not see are zero; a core of few lanes neither stores nor
    visits them.
    """

    def _integer(self, weights, threshold, bias):
        # What a map is made of, a network says in one place.
        rows, columns, _ = super()._integer(weights, threshold, bias).shape
        dense = unroll(weights(self), self.pooled_shape, (rows, columns), self.stride, self.padding)
        threshold, bias = (np.tile(each, rows * columns) for each in (threshold, bias))
        return Dense(**self._integer_fields(dense), **self._integer_neurons(threshold, bias))

    @property
    def pooled_shape(self):
        """The map that the weights meet, (rows, columns, channels)."""
        return self.pool.shape(self.input_shape) if self.pool else self.input_shape


def unroll(kernel, input_shape, size, stride, padding):
    """The dense weights (rows · columns · channels out, n_in) of a convolution's ``kernel`` (channels out, channels in,
    k, k) from a map of ``input_shape`` to one of ``size``, (rows, columns)."""
    dense = np.zeros((*size, len(kernel), *input_shape), kernel.dtype)
    rows, columns = (np.arange(count) for count in size)
    for i, j in np.ndindex(kernel.shape[2:]):
        y, x = stride * rows + i - padding, stride * columns + j - padding
        inside = np.ix_((y >= 0) & (y < input_shape[0]), (x >= 0) & (x < input_shape[1]))
        row, column = (index[inside] for index in np.broadcast_arrays(rows[:, None], columns[None]))
        dense[row, column, :, stride * row + i - padding, stride * column + j - padding] = kernel[:, :, i, j]
    return dense.reshape(-1, int(np.prod(input_shape)))
