"""Proofs about the control blocks: properties around the real gateware, and the solvers."""

from . import framing, properties
from .proof import Proof
from .solver import Verdict, prove

__all__ = ["Proof", "Verdict", "proofs", "prove"]


def proofs(program):
    """A `Proof` for each control block of ``program``'s array and link, none twice."""
    return [*properties.proofs(program), *framing.proofs(program)]
