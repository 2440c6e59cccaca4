"""What the scores of a network are for, and how good they are.

A task is a value with ``figure``, the name of its figure of merit, ``size``, how many scores a sample has, and
``measure(scores, labels)``, that figure from 0 to 1 of integer scores (samples, size). There are two: `Classification`,
and `spikeloom.detection.Detection`.
"""

from dataclasses import dataclass

import numpy as np

from .errors import SpikeloomError


@dataclass(frozen=True)
class Classification:
    """The highest score says which of ``size`` classes a sample belongs to, the first of several. Labels are integers
    (samples,)."""

    size: int
    figure = "accuracy"

    def measure(self, scores, labels, unit=1.0):
        """The share of samples whose class is their label; ``unit`` is of no use."""
        return float((np.asarray(scores).argmax(1) == np.asarray(labels)).mean())

    def told(self, scores, winners):
        """What came out, as text: the ``winners`` (samples,) that the scores have."""
        return " ".join(map(str, winners))

    def check(self):
        """All that `measure` needs is there."""

    def check_labels(self, labels, samples):
        """Raise `SpikeloomError` where ``labels`` are none of so many ``samples``."""
        if labels.shape != (samples,):
            raise SpikeloomError(f"has labels of shape {labels.shape} for {samples} samples")
        if labels.dtype.kind not in "iu":
            raise SpikeloomError(f"labels must be integers, not {labels.dtype}")


def of(network):
    """The task that a `Network` was trained for."""
    if "detection" not in network.notes:
        return Classification(network.n_out)
    from .detection import Detection  # a second to import
    return Detection.from_notes(network.notes["detection"])
