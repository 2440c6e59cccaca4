"""Proofs about the control blocks: properties around the real gateware, and the solvers."""

from .properties import Proof, proofs
from .solver import Verdict, prove

__all__ = ["Proof", "Verdict", "proofs", "prove"]
