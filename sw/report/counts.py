"""Meters of graded spikes: how many bits activities take, how many of them meet weights, and what that is by a
published table of energies.

Counts n are signed integers, of integer networks (`spikeloom.reference.Trace`) or of hybrid ones in floats
(`spikeloom.training.hybrid`), where they are what is sent times ω. "Activity bits" and "significant bits per weight
multiply" are figures of Voelker, Rasmussen, Eliasmith (arXiv 2002.03553), whose definitions we could not read: those
here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Joules by device: of a synaptic operation, and of a neuron's update; and whether only spikes cost operations. From
#: the ModelEnergy of the authors' keras-spiking.
DEVICES = {"loihi": (27.1e-12, 81e-12, True), "spinnaker": (13.3e-9, 26e-9, True),
           "spinnaker2": (450e-12, 2.19e-9, True), "cpu": (8.6e-9, 8.6e-9, False), "gpu": (0.3e-9, 0.3e-9, False),
           "arm": (0.9e-9, 0.9e-9, False)}


class Counts:
    """How often each of some neurons sent each count.

    Parameters
    ----------
    neurons : int
    fan_out : int
        weights that what a neuron sends is multiplied with

    Members: ``low``, the count that the first column of ``histogram``, int64 (neurons, levels), is of.
    """

    def __init__(self, neurons, fan_out):
        self.neurons, self.fan_out, self.low = neurons, fan_out, 0
        self.histogram = np.zeros((neurons, 1), np.int64)

    def add(self, n):
        """Take in counts ``n``, integers of shape (…, neurons)."""
        n = np.asarray(n).reshape(-1, self.neurons).astype(np.int64)
        low = min(self.low, int(n.min(initial=0)))
        levels = max(self.low + self.histogram.shape[1] - 1, int(n.max(initial=0))) - low + 1
        widened = np.bincount((n - low + np.arange(self.neurons) * levels).ravel(), minlength=self.neurons * levels)
        widened = widened.reshape(self.neurons, levels)
        widened[:, self.low - low:self.low - low + self.histogram.shape[1]] += self.histogram
        self.low, self.histogram = low, widened

    @property
    def _values(self):
        return np.arange(self.low, self.low + self.histogram.shape[1])

    @property
    def sent(self):
        """How many counts there were, zeros among them."""
        return int(self.histogram.sum())

    @property
    def nonzero(self):
        """How many counts were not zero: events."""
        return self.sent - int(self.histogram[:, -self.low].sum())

    @property
    def spikes(self):
        """The sum of all magnitudes."""
        return int((self.histogram @ np.abs(self._values)).sum())

    @property
    def significant(self):
        """The sum of the significant bits of all magnitudes, ⌊log2|n|⌋ + 1 of each that is not zero."""
        bits = np.array([abs(int(value)).bit_length() for value in self._values])
        return int((self.histogram @ bits).sum())

    @property
    def level_bits(self):
        """Of each neuron, log2 of how many different counts it sent (neurons,)."""
        return np.log2(np.maximum((self.histogram > 0).sum(1), 1))

    @property
    def entropy(self):
        """Of each neuron, the empirical entropy of its counts, in bits (neurons,)."""
        share = self.histogram / np.maximum(self.histogram.sum(1, keepdims=True), 1)
        return -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(1)


@dataclass(frozen=True)
class Bits:
    """Of a network's activities.

    Attributes
    ----------
    levels, entropy : float
        bits of an activity, on the average of all neurons: log2 of how many different counts a neuron sent, and the
        empirical entropy of its counts
    significant, significant_of_all : float
        bits of a count's magnitude that meet a weight, ⌊log2|n|⌋ + 1: on the average of all multiplications of a weight
        with a count that is not zero; and of all, zeros among them, for which it is 0
    rate : float
        spikes (magnitudes of counts) of a neuron in a time step, on the average
    sparsity : float
        the share of counts that are zero
    """

    levels: float
    entropy: float
    significant: float
    significant_of_all: float
    rate: float
    sparsity: float


def bits(counts):
    """The `Bits` of several `Counts` together."""
    sent, nonzero, spikes, multiplied, multiplied_nonzero, significant = (sum(each) for each in zip(*(
        (each.sent, each.nonzero, each.spikes, each.sent * each.fan_out, each.nonzero * each.fan_out,
         each.significant * each.fan_out) for each in counts), strict=True))
    return Bits(float(np.concatenate([each.level_bits for each in counts]).mean()),
                float(np.concatenate([each.entropy for each in counts]).mean()),
                significant / max(1, multiplied_nonzero), significant / max(1, multiplied), spikes / max(1, sent),
                1 - nonzero / max(1, sent))


def energy(counts, device):
    """Joules of all samples that the `Counts` are of, by `DEVICES`: an operation for each spike and weight that it
    meets, or where spikes are of no use for each weight and time step; and an update for each neuron and time step."""
    operation, update, spiking = DEVICES[device]
    return sum((each.spikes if spiking else each.sent) * each.fan_out * operation + each.sent * update
               for each in counts)
