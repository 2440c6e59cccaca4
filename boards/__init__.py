"""Boards: what carries an array, and how the open tools build for it."""

from .board import BOARDS, Board, find
from .build import BuildReport, build

__all__ = ["BOARDS", "Board", "BuildReport", "build", "find"]
