"""The Verilog of an array: deterministic, with its names kept."""

import re
import warnings

from amaranth.back import verilog
from amaranth.hdl import UnusedElaboratable
from spikeloom.errors import SpikeloomError

from .array import Array
from .embed import AxiStreamArray, EventArray

__all__ = ["MODULE", "PORTS", "convert", "describe", "generate"]

#: Name of the generated top-level module.
MODULE = "spikeloom"


#: Forms of the module: the array as it is, or as `embed` wraps it.
PORTS = {"words": Array, "events": EventArray, "axi-stream": AxiStreamArray}


def generate(program, ports="words", *, observe=False):
    """The Verilog of ``program``'s array as text; the same program gives the same text.

    ``ports`` is one of `PORTS`. With ``observe``, which only ``"words"`` has, there are ports that show every neuron
    update. The comment at its head says what the ports carry.

    Raises `SpikeloomError` for other ``ports``.
    """
    if ports not in PORTS:
        raise SpikeloomError(f"Ports of the module must be one of {', '.join(PORTS)}, not {ports}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        array = PORTS[ports](program, **({"observe": True} if observe else {}))
    return convert(array, MODULE, header=[*describe(program), *array.lines])


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
    for core, (number, place) in zip(program.cores, program.places, strict=True):
        layer, first = core.layer, program.engines[number].members[0].layer
        sizes = " + ".join(str(branch.n_in) for branch in (layer, *layer.others))
        lines.append(f"  {layer.name}: {sizes} -> {layer.n_out}, {core.weight_format.width}-bit "
                     f"{core.weight_format.kind} weights, {layer.v_width}-bit membranes, "
                     f"{core.lanes} lanes, {core.units} update units"
                     + (", weights to be loaded" if core.memory == "single_port" else "")
                     + (f", on the core of {first.name}" if place else ""))
    return lines
