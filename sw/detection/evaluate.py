"""How good found boxes are: average precision, as the COCO evaluation has it (pycocotools).

A found box is right where its intersection over union with a labelled one of its class, which no more confident one has
taken, is 0.5 or more. A class's average precision is the mean, over 101 recalls from 0 to 1, of the best precision at
that recall or more; their mean over the classes that are labelled at all is mAP@0.5.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from spikeloom.errors import SpikeloomError

#: The least intersection over union of a box that is right.
OVERLAP = 0.5

#: Boxes of an image that count, the most confident ones.
MOST_FOUND = 300

#: The image's side in pixels, as the evaluation works with them; any would do.
SIDE = 1024


@dataclass(frozen=True)
class Precision:
    """Average precision of each class (name to 0 … 1, without classes that no label has)."""

    classes: dict[str, float]

    @property
    def mean(self):
        return sum(self.classes.values()) / len(self.classes) if self.classes else 0.0


def coco():
    """pycocotools' classes ``COCO`` and ``COCOeval``; raises `SpikeloomError` where it is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError as error:
        raise SpikeloomError(f"The precision of a detector needs the package {error.name}, which is not installed: "
                             'pip install "spikeloom[detection]"') from None
    return COCO, COCOeval


def precision(found, labels, names):
    """The `Precision` of boxes ``found`` (a list of `spikeloom.detection.boxes.Found`, for each image) for ``labels``
    (images, boxes, 5), as in `spikeloom.detection.Detection`, of classes called ``names``."""
    COCO, COCOeval = coco()
    wanted = [(image, label) for image, each in enumerate(labels) for label in each if label[0] >= 0]
    truth, guesses = COCO(), COCO()
    for content, boxes in ((truth, [(image, label[0], label[1:], 0.0) for image, label in wanted]),
                           (guesses, [(image, kind, box, confidence) for image, each in enumerate(found)
                                      for box, confidence, kind in zip(each.boxes, each.confidence, each.classes,
                                                                       strict=True)])):
        content.dataset = {
            "images": [{"id": image} for image in range(len(labels))],
            "categories": [{"id": number} for number in range(len(names))],
            "annotations": [_annotation(number, *each) for number, each in enumerate(boxes, 1)]}
        with contextlib.redirect_stdout(io.StringIO()):
            content.createIndex()
    evaluation = COCOeval(truth, guesses, "bbox")
    evaluation.params.iouThrs = np.array([OVERLAP])
    evaluation.params.maxDets = [MOST_FOUND]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    at_recalls = evaluation.eval["precision"][0, :, :, 0, 0]  # (recalls, classes), -1 where no label has the class
    return Precision({name: float(values.mean()) for name, values in zip(names, at_recalls.T, strict=True)
                      if values.max() > -1})


def _annotation(number, image, kind, box, confidence):
    x, y, w, h = (float(value) * SIDE for value in box)
    return {"id": number, "image_id": image, "category_id": int(kind), "bbox": [x - w / 2, y - h / 2, w, h],
            "area": w * h, "iscrowd": 0, "score": float(confidence)}
