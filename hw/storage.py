"""Small building materials that every block uses."""

from amaranth import *
from amaranth.lib import memory
from spikeloom.compiler.core import BLOCK_BITS

__all__ = ["delayed", "in_use", "looked_up", "places", "storage"]


def storage(shape, depth, init=(), *, single_port=False, logic=False):
    """A memory of ``depth`` entries, in block RAM when it is large enough to be worth one, or in the device's large
    memories with a ``single_port``, which must be read and written at one address and cannot have an ``init``, or made
    of ``logic``, for one that is never written."""
    # No block reads an entry in the cycle that writes it, so synthesis need not say what that would give.
    attrs = {"no_rw_check": 1}
    if single_port:
        attrs["ram_style"] = "huge"
    elif logic:
        attrs["rom_style"] = "logic"
    elif Shape.cast(shape).width * depth >= BLOCK_BITS:
        attrs["ram_style"] = "block"
    return memory.Memory(shape=shape, depth=depth, init=init, attrs=attrs)


def delayed(m, value, cycles=1, *, reset_less=True):
    """``value`` as it was ``cycles`` clock cycles ago. Control signals, which must fall silent at a reset, say so."""
    value = Value.cast(value)
    for _ in range(0 if isinstance(value, Const) else cycles):  # a constant has always been what it is
        register = Signal(value.shape(), reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value


def looked_up(m, index, values):
    """``values[index]``, for a list of integers most of which are equal to each other."""
    usual = max(set(values), key=values.count)
    found = Signal(range(max(values) + 1) if max(values) else 1)
    m.d.comb += found.eq(usual)
    with m.Switch(index):
        for value in set(values) - {usual}:
            with m.Case(*(at for at, each in enumerate(values) if each == value)):
                m.d.comb += found.eq(value)
    return found


def places(m, count, taken, released):
    """Whether ``any`` and whether ``all`` of ``count`` places are in use, when at most one is taken and one released
    in a cycle."""
    if count == 2:
        used = in_use(m, taken, released)
        return used.any(), used[1]
    used, full = Signal(range(count + 1)), Signal()
    now = Signal.like(used)
    m.d.comb += now.eq(used + taken - released)
    m.d.sync += [used.eq(now), full.eq(now == count)]
    return used.any(), full


def in_use(m, taken, released, *, init=0):
    """How many of two places are in use (0 to 2), when at most one is taken and one released in a cycle."""
    used = Signal(2, init=init)
    # Each bit is one function of four inputs; a counter with an enable would take three levels of logic.
    m.d.sync += [
        used[0].eq(used[0] ^ taken ^ released),
        used[1].eq(Mux(taken == released, used[1], taken & used[0])),
    ]
    return used
