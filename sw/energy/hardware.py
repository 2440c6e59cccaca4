"""What an accelerator is made of, and what its parts cost: TOML files in which every number names its source.

    [dram_bit]
    value = 4.47
    source = "where it is from"
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from spikeloom import files
from spikeloom.errors import SpikeloomError

PACKAGED = Path(__file__).parent / "data"


@dataclass(frozen=True)
class _Numbers:
    """Numbers by name, above zero, and where each is from."""

    sources: dict

    @classmethod
    def load(cls, path):
        """Read a file, or a packaged one by its name; raises `SpikeloomError` for anything amiss."""
        content, path = files.toml(path, PACKAGED / cls.folder, cls.what)
        names = [each.name for each in fields(cls) if each.name != "sources"]
        unknown = sorted(set(content) - set(names))
        if unknown:
            raise SpikeloomError(f"{path}: {unknown[0]} is not one of {', '.join(names)}")
        values, sources = {}, {}
        for name in names:
            entry = content.get(name)
            if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
                raise SpikeloomError(f"{path}: {name} must be a table of value and source")
            value, source = entry["value"], entry["source"]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise SpikeloomError(f"{path}: {name} must be a number above 0, not {value!r}")
            if not isinstance(source, str) or not source.strip():
                raise SpikeloomError(f"{path}: {name} must say where it is from")
            values[name], sources[name] = value, source
        return cls(sources, **values)


@dataclass(frozen=True)
class Architecture(_Numbers):
    """Processing elements and memories.

    Parameters
    ----------
    pes : number
        processing elements, each an adder and a comparator beside three scratchpads
    buffer_bytes : number
        of the shared activation buffer
    input_bytes, weight_bytes, psum_bytes : number
        of a processing element's scratchpads
    activation_bits : number
        of an input or output as it is moved, at least; values of more bits take more
    dram_bits_per_cycle, buffer_bits_per_cycle : number
        that go to or from either in a clock cycle
    """

    pes: float
    buffer_bytes: float
    input_bytes: float
    weight_bytes: float
    psum_bytes: float
    activation_bits: float
    dram_bits_per_cycle: float
    buffer_bits_per_cycle: float

    folder, what = "architectures", "architecture"


@dataclass(frozen=True)
class Costs(_Numbers):
    """Energy in pJ.

    Parameters
    ----------
    dram_bit : number
        a bit read from or written to DRAM
    sram_bit : number
        a bit read from or written to an SRAM of ``sram_bytes``; those of other sizes cost as the square root of theirs
    sram_bytes : number
    network_bit : number
        a bit on its way between the shared buffer, or DRAM, and a processing element, or between two of these
    adder_bit : number
        a bit added or compared
    """

    dram_bit: float
    sram_bit: float
    sram_bytes: float
    network_bit: float
    adder_bit: float

    folder, what = "costs", "table of costs"

    def sram(self, size):
        """pJ a bit of an SRAM of ``size`` bytes."""
        return self.sram_bit * math.sqrt(size / self.sram_bytes)
