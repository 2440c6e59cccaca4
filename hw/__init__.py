"""Gateware: the blocks of a core, the array, and what puts it on a board. Amaranth; never torch."""
