"""The integer network: what training ends in and everything after it must equal.

A `Network` is frozen data, checked when made. What it *computes* is said in `spikeloom.reference`; how it is stored,
field by field, in ``docs/format.md``.
"""

from .checks import (
    EXACT_IN_FLOAT32,
    INPUT,
    LARGEST_ENTRY,
    LARGEST_GATE,
    LARGEST_SHIFT,
    LONGEST_BLOCK,
    LONGEST_KERNEL,
    signed_width,
)
from .gates import Attention, BlockGate, ChannelGate
from .graph import KIND, VERSION, VERSIONS, Network
from .layers import LAYERS, Branch, Conv2d, Dense, InputFormat, Pool, Shortcut, is_looped, loops, sources
from .neurons import (
    FIRES,
    LEAKS,
    READOUTS,
    RESETS,
    Adaptation,
    FullLeak,
    GradedSpike,
    Grid,
    NoLeak,
    ReLU,
    ShiftLeak,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
)
from .weights import WeightFormat

__all__ = [
    "EXACT_IN_FLOAT32", "FIRES", "INPUT", "KIND", "LARGEST_ENTRY", "LARGEST_GATE", "LARGEST_SHIFT", "LAYERS", "LEAKS",
    "LONGEST_BLOCK", "LONGEST_KERNEL", "READOUTS", "RESETS", "VERSION", "VERSIONS", "Adaptation", "Attention",
    "BlockGate", "Branch", "ChannelGate", "Conv2d", "Dense", "FullLeak", "GradedSpike", "Grid", "InputFormat",
    "Network", "NoLeak", "Pool", "ReLU", "ShiftLeak", "Shortcut", "Silent", "Spike", "SynapticCurrent",
    "TableActivation", "TableLeak", "WeightFormat", "is_looped", "loops", "signed_width", "sources"]
