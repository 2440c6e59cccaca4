"""Simulations of the gateware, each held equal to the reference."""
