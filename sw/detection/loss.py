"""What a detector is trained to minimise."""

from dataclasses import dataclass

import torch
from spikeloom.errors import SpikeloomError
from torch.nn import functional

from .boxes import corners, iou

#: Added to squared lengths that are divided by.
EPSILON = 1e-9


@dataclass(frozen=True)
class YOLO:
    """Sums over an image's cells and anchors, as in YOLOv2 but for the term of boxes: cross-entropy of objectness and
    of classes, and 1 − the distance-IoU of boxes (Zheng et al., AAAI 2020, arXiv 1911.08287).

    Logits after time step t of T are the potentials times T/t: as these add up, all time steps mean the same. The loss
    is (1 − λ) times that of the last one plus λ times the mean over all (temporal efficient training, as in
    `spikeloom.training.losses.TET`, with the last one in the place of a target).

    Parameters
    ----------
    box, empty, classes : float
        weights of the terms of boxes, of objectness where there is no box, and of classes; that of objectness where
        there is a box is 1
    ignore : float
        no objectness is asked for or against where a box that was not to be found has a larger intersection over union
        with one that was
    weight : float
        λ, 0 to 1
    """

    box: float = 2.0
    empty: float = 0.5
    classes: float = 1.0
    ignore: float = 0.6
    weight: float = 0.5
    kind = "yolo"

    def __post_init__(self):
        for name in ("box", "empty", "classes"):
            if not getattr(self, name) >= 0:
                raise SpikeloomError(f"Loss {self.kind}: {name} must be 0 or more, not {getattr(self, name)}")
        for name in ("ignore", "weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpikeloomError(f"Loss {self.kind}: {name} must lie within 0 to 1, not {getattr(self, name)}")

    def __call__(self, task, membranes, labels):
        """For a `Detection`, the last layer's membranes (time steps, batch, size) and labels (batch, boxes, 5)."""
        steps = len(membranes)
        share = torch.full((steps,), self.weight / steps, device=membranes.device)
        share[-1] += 1 - self.weight
        used = [t for t in range(steps) if share[t]]
        assigned = task.assign(labels)
        return sum(share[t] * self._at(task, membranes[t] * (steps / (t + 1)), labels, assigned) for t in used)

    def _at(self, task, scores, labels, assigned):
        boxes, objectness, classes = task.decode(scores)
        sample, place = torch.nonzero(assigned >= 0, as_tuple=True)
        wanted = labels[sample, assigned[sample, place]]
        with torch.no_grad():
            present = labels[:, None, :, 0] >= 0
            near = (iou(boxes[:, :, None], labels[:, None, :, 1:]) * present).amax(-1) > self.ignore
            weight = torch.where(near, 0.0, self.empty)
            weight[sample, place] = 1.0
            target = torch.zeros_like(objectness)
            target[sample, place] = 1.0
        total = functional.binary_cross_entropy_with_logits(objectness, target, weight, reduction="sum")
        total = total + self.box * (1 - _distance_iou(boxes[sample, place], wanted[:, 1:])).sum()
        total = total + self.classes * functional.cross_entropy(classes[sample, place], wanted[:, 0].long(),
                                                                reduction="sum")
        return total / len(labels)


def _distance_iou(boxes, others):
    """Intersection over union, less the squared distance of centres over that of the far corners."""
    one, other = corners(boxes), corners(others)
    apart = (boxes[..., :2] - others[..., :2]).square().sum(-1)
    across = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    return iou(boxes, others) - apart / (across.square().sum(-1) + EPSILON)
