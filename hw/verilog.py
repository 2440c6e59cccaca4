"""The Verilog of an array: deterministic, with its names kept."""

import re
import warnings

from amaranth.back import verilog
from amaranth.hdl import UnusedElaboratable

from .array import Array

__all__ = ["MODULE", "convert", "describe", "generate"]

#: Name of the generated top-level module.
MODULE = "spikeloom"


def generate(program, *, observe=False):
    """The Verilog of ``program``'s `Array` as text; the same program gives the same text.

    With ``observe`` it has ports that show every neuron update.
    The comment at its head lists the fields of the two streams, lowest bit first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        array = Array(program, observe=observe)
    return convert(array, MODULE, header=_header(program, array))


def convert(component, name, *, header=()):
    """``component`` as the Verilog module ``name``, the same for the same input; ``header`` lines become comments."""
    text = verilog.convert(component, name=name, strip_internal_attrs=True, emit_src=False)
    # Combinational blocks must run once at the start. The signal that Yosys declares for it already has its value
    # when simulation begins, which wakes nothing in a simulator that goes by the standard; an assignment does.
    text = re.sub(r"reg (\\\$auto\$verilog_backend\S*) +=\s*0;", r"reg \1 ;\n  initial \1 = 1'b0;", text)
    text = re.sub(r"\\\$auto\$verilog_backend\S* ", "at_start ", text)
    # Memories that a bitstream cannot fill must not say what they start with, not even zeros.
    text = re.sub(r'(\(\* ram_style = "huge" \*\)\s+reg [^;]*;\n) *initial begin\n.*?\n *end\n', r"\1", text,
                  flags=re.DOTALL)
    return "".join(f"// {line}\n" for line in header) + "\n" + text


def describe(program):
    """What a program is, in lines for the head of a file generated from it."""
    lines = [f"Spikeloom program {program.digest}", f"for {program.target}:"]
    for core in program.cores:
        layer = core.layer
        lines.append(f"  {layer.name}: {layer.n_in} -> {layer.n_out}, {layer.weight_format.width}-bit "
                     f"{layer.weight_format.kind} weights, {layer.v_width}-bit membranes, "
                     f"{core.lanes} lanes, {core.units} update units"
                     + (", weights to be loaded" if core.memory == "single_port" else ""))
    return lines


def _header(program, array):
    lines = describe(program)
    for stream, meaning in (("i", "input words"), ("o", "scores")):
        fields = ", ".join(f"{name}[{field.width}]" for name, field in getattr(array, stream).payload.shape())
        lines.append(f"{stream}__payload ({meaning}), lowest bit first: {fields}")
    return lines
