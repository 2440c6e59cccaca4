"""From scores to boxes, in the way of YOLOv2 (Redmon, Farhadi, CVPR 2017, arXiv 1612.08242).

A box is (x, y, w, h): its centre, width and height as shares of the image's, from its left upper corner. An image is
divided into cells, and each cell predicts a box for each anchor, by so many logits in a row: t_x, t_y, t_w, t_h,
objectness, and one for each class. In the cell of row r and column c, with the anchor's width and height a_w and a_h,

    x = (c + σ(t_x)) / columns        w = a_w · exp(t_w)
    y = (r + σ(t_y)) / rows           h = a_h · exp(t_h)

A box's confidence is σ(objectness) times the share (softmax) of its likeliest class. Cells follow each other row by
row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from spikeloom.errors import SpikeloomError

from . import evaluate

#: Logits of a box before those of its classes.
BOX_LOGITS = 5

#: The least confidence of a box that is told or drawn.
TOLD = 0.3

#: exp of more than this makes no box larger.
LARGEST_EXPONENT = 8.0


def corners(boxes):
    """Left, upper, right, lower (..., 4) of boxes (x, y, w, h)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def iou(boxes, others):
    """Intersection over union (...,) of boxes (..., 4) with ``others``, which broadcast."""
    one, other = corners(boxes), corners(others)
    sides = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    shared = sides.prod(-1)
    return shared / (boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - shared).clamp(min=1e-12)


def suppress(boxes, confidence, classes, overlap):
    """Indices of boxes (n, 4) that stay, in the order of falling ``confidence`` (n,), when each takes away those after
    it of its class (n,) whose `iou` with it is more than ``overlap``: greedy non-maximum suppression."""
    order = confidence.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    covered = (iou(boxes[:, None], boxes[None]) > overlap) & (classes[:, None] == classes[None])
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for number in range(len(order)):
        if stays[number]:
            stays[number + 1:] &= ~covered[number, number + 1:]
    return order[stays]


@dataclass(frozen=True)
class Cells:
    """How a detector's last layer is divided.

    Parameters
    ----------
    cells : (rows, columns)
    anchors : ((width, height), ...)
        of a cell's boxes, as shares of the image's
    scale : float
        the membrane potential that makes one unit of logit
    confidence : float
        boxes with less are not found, 0 to 1
    overlap : float
        `suppress`: of two boxes of a class with more intersection over union the less confident one goes, 0 to 1
    """

    cells: tuple[int, ...]
    anchors: tuple[tuple[float, ...], ...]
    scale: float = 16.0
    confidence: float = 0.01
    overlap: float = 0.45

    def __post_init__(self):
        if len(self.cells) != 2 or min(self.cells) < 1:
            raise SpikeloomError(f"cells must be rows and columns, each 1 or more, not {list(self.cells)}")
        if not self.anchors:
            raise SpikeloomError("anchors must be at least one pair of width and height")
        for anchor in self.anchors:
            if len(anchor) != 2 or not all(0 < side <= 1 for side in anchor):
                raise SpikeloomError(f"anchors must be pairs of width and height, shares of the image's above 0 and up "
                                     f"to 1, not {list(anchor)}")
        if not 0 < self.scale < math.inf:
            raise SpikeloomError(f"scale must be positive, not {self.scale}")
        for name in ("confidence", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpikeloomError(f"{name} must lie within 0 to 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Found:
    """The boxes found in one image, the most confident first.

    Attributes
    ----------
    boxes : float array (n, 4)
        x, y, w, h
    confidence : float array (n,)
    classes : int array (n,)
    """

    boxes: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray

    def above(self, confidence):
        """Those that are at least so confident."""
        chosen = self.confidence >= confidence
        return Found(self.boxes[chosen], self.confidence[chosen], self.classes[chosen])


@dataclass(frozen=True)
class Detection:
    """The task of finding boxes of so many ``classes`` (their names), by scores as ``layout`` says.

    Labels are float arrays or tensors (samples, boxes, 5) of class, x, y, w, h; rows of class -1 fill up where an image
    has fewer boxes.
    """

    classes: tuple[str, ...]
    layout: Cells
    figure = "mAP@0.5"

    def to_notes(self, unit=1.0):
        """What goes into ``network.notes["detection"]`` where a score is worth ``unit``."""
        return {"classes": list(self.classes), **vars(self.layout), "cells": list(self.layout.cells),
                "anchors": [list(anchor) for anchor in self.layout.anchors], "scale": self.layout.scale / unit}

    @classmethod
    def from_notes(cls, notes):
        """What ``network.notes["detection"]`` says; raises `SpikeloomError` where it is not that."""
        try:
            fields = dict(notes)
            classes = tuple(map(str, fields.pop("classes")))
            fields["cells"] = tuple(fields["cells"])
            fields["anchors"] = tuple(map(tuple, fields["anchors"]))
            return cls(classes, Cells(**fields))
        except (KeyError, TypeError, ValueError) as error:
            raise SpikeloomError("The network does not say what boxes its scores stand for "
                                 f"({type(error).__name__}: {error})") from None

    @property
    def size(self):
        """Scores of a sample."""
        return math.prod(self.layout.cells) * len(self.layout.anchors) * (BOX_LOGITS + len(self.classes))

    def decode(self, scores):
        """Of float ``scores`` (samples, size) the boxes (samples, cells · anchors, 4), the logits of objectness
        (samples, cells · anchors) and of classes (samples, cells · anchors, classes)."""
        rows, columns = self.layout.cells
        logits = scores.unflatten(1, (rows, columns, len(self.layout.anchors), -1)) / self.layout.scale
        row, column, anchors = self._places(scores.device)
        place = torch.stack(torch.broadcast_tensors(column, row), -1)
        centres = (place + torch.sigmoid(logits[..., :2])) / torch.tensor([columns, rows], device=scores.device)
        sizes = anchors * logits[..., 2:4].clamp(max=LARGEST_EXPONENT).exp()
        return (torch.cat([centres, sizes], -1).flatten(1, 3), logits[..., 4].flatten(1),
                logits[..., BOX_LOGITS:].flatten(1, 3))

    def _places(self, device):
        """Rows (rows, 1, 1), columns (columns, 1), and anchors (anchors, 2)."""
        rows, columns = self.layout.cells
        return (torch.arange(rows, device=device)[:, None, None], torch.arange(columns, device=device)[:, None],
                torch.tensor(self.layout.anchors, device=device))

    def assign(self, labels):
        """Which of a sample's boxes (samples, cells · anchors) is to be which of ``labels``: its number there, or -1.

        It is the one in the cell of the label's centre whose anchor's shape has the largest `iou` with it. Where
        several labels want the same, the last one has it.
        """
        rows, columns = self.layout.cells
        x, y, w, h = labels[..., 1:].unbind(-1)
        *_, anchors = self._places(labels.device)
        cell = ((y * rows).long().clamp(0, rows - 1) * columns + (x * columns).long().clamp(0, columns - 1))
        shapes = torch.stack([torch.zeros_like(w), torch.zeros_like(h), w, h], -1)
        like = iou(shapes[:, :, None], torch.cat([torch.zeros_like(anchors), anchors], -1)).argmax(-1)
        place = cell * len(anchors) + like
        assigned = torch.full((len(labels), rows * columns * len(anchors)), -1, device=labels.device)
        for number in range(labels.shape[1]):  # one after the other, as the last one wins
            sample, = torch.nonzero(labels[:, number, 0] >= 0, as_tuple=True)
            assigned[sample, place[sample, number]] = number
        return assigned

    def find(self, scores):
        """The `Found` boxes of each sample, a list, for ``scores`` (samples, size) of any numeric type."""
        found = []
        for boxes, objectness, classes in zip(*self.decode(torch.as_tensor(scores).float()), strict=True):
            share, likeliest = classes.softmax(-1).max(-1)
            confidence = objectness.sigmoid() * share
            kept = torch.nonzero(confidence >= self.layout.confidence)[:, 0]
            boxes, confidence, likeliest = boxes[kept], confidence[kept], likeliest[kept]
            stays = suppress(boxes, confidence, likeliest, self.layout.overlap)
            found.append(Found(*(values[stays].cpu().numpy() for values in (boxes, confidence, likeliest))))
        return found

    def measure(self, scores, labels, unit=1.0):
        """The mean average precision, 0 to 1, of ``scores`` (samples, size), each of which is worth ``unit``."""
        return self.precision(scores, labels, unit).mean

    def precision(self, scores, labels, unit=1.0):
        """The `spikeloom.detection.evaluate.Precision` of the same."""
        return evaluate.precision(self.find(torch.as_tensor(scores) * unit), np.asarray(labels), self.classes)

    def told(self, scores, winners):
        """What came out, as text: a line for each sample, with the boxes that are worth telling."""
        return "\n".join(f"{number}: " + ("; ".join(
            f"{self.classes[kind]} {confidence:.0%} at {x:.3f} {y:.3f}, {w:.3f} x {h:.3f}"
            for kind, confidence, (x, y, w, h) in zip(found.classes, found.confidence, found.boxes, strict=True))
            or "nothing") for number, found in enumerate(each.above(TOLD) for each in self.find(scores)))

    def check_labels(self, labels, samples):
        """Raise `SpikeloomError` where ``labels`` are none of so many ``samples``."""
        if labels.ndim != 3 or labels.shape[::2] != (samples, 5) or labels.dtype.kind != "f":
            raise SpikeloomError(f"has {labels.dtype} labels of shape {labels.shape} for {samples} samples, where "
                                 f"boxes are floats ({samples}, boxes, 5)")

    def check(self):
        """Raise `SpikeloomError` where `measure` could not be."""
        evaluate.coco()
