"""Boards: what carries an array, and how the open tools build for it."""

from .board import BOARDS, Board, find
from .build import BuildReport, build
from .flash import program_board, start_image
from .listing import listing

__all__ = ["BOARDS", "Board", "BuildReport", "build", "find", "listing", "program_board", "start_image"]
