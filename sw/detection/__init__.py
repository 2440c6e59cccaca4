"""Boxes out of scores: what a detector's integers mean (`boxes`), what it is trained to minimise (`loss`), and how good
it is (`evaluate`).

To everything else a detector is a network like any other: its scores are the membrane potentials of its last layer.
What they stand for is in ``network.notes["detection"]``, and only the host that decodes them looks there.
"""

from .boxes import Cells, Detection
from .loss import YOLO

__all__ = ["YOLO", "Cells", "Detection"]
