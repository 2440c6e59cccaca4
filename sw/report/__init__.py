"""All that was measured of one run: a short table for the terminal (`findings`), and one HTML file (`page`) with its
`pictures`. What a network takes and does is counted by `meters`, bits of graded spikes by `counts`.
"""

from .findings import Findings, table
from .page import write

__all__ = ["Findings", "table", "write"]
