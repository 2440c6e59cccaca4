"""The Verilog of an array: deterministic, with its names kept."""

import warnings

from amaranth.back import verilog
from amaranth.hdl import UnusedElaboratable

from .array import Array

__all__ = ["MODULE", "generate"]

#: Name of the generated top-level module.
MODULE = "spikeloom"


def generate(program):
    """The Verilog of ``program``'s `Array` as text; the same program gives the same text.

    The comment at its head lists the fields of the two streams, lowest bit first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        array = Array(program)
    text = verilog.convert(array, name=MODULE, strip_internal_attrs=True)
    start = text.index("\nmodule") if "\nmodule" in text else 0
    return _header(program, array) + text[start:].lstrip("\n")


def _header(program, array):
    lines = [f"Spikeloom program {program.digest}", f"for {program.target}:"]
    for core in program.cores:
        layer = core.layer
        lines.append(f"  {layer.name}: {layer.n_in} -> {layer.n_out}, {layer.weight_format.width}-bit "
                     f"{layer.weight_format.kind} weights, {layer.v_width}-bit membranes, "
                     f"{core.lanes} lanes, {core.units} update units")
    for stream, meaning in (("i", "input words"), ("o", "scores")):
        fields = ", ".join(f"{name}[{field.width}]" for name, field in getattr(array, stream).payload.shape())
        lines.append(f"{stream}__payload ({meaning}), lowest bit first: {fields}")
    return "".join(f"// {line}\n" for line in lines) + "\n"
