"""What a program can be compiled for: devices by what they offer, and boards by the device they carry."""

from dataclasses import dataclass

from .errors import SpikeloomError


@dataclass(frozen=True)
class Target:
    """A board's device.

    Parameters
    ----------
    name : str
    family : "ice40", "ecp5" or "gowin"
    luts : int
        four-input look-up tables (logic cells on iCE40)
    blocks : int
        block RAMs
    shapes : tuple of (entries, bits)
        the ways to use a block with one port to read and one to write
    clock : float
        MHz: what routed designs of this architecture reach there, for predictions before a build
    oscillator : float
        MHz of the board's clock
    memory_registers : int
        registers the weight memory needs behind it to reach that clock
    single_ports : int
        large memories of 16384 entries of 16 bits with one port, which a bitstream cannot fill (SPRAM)
    buffer : int
        bytes of the link's frame buffer: a block RAM's
    """

    name: str
    family: str
    luts: int
    blocks: int
    shapes: tuple[tuple[int, int], ...]
    clock: float
    oscillator: float
    memory_registers: int = 0
    single_ports: int = 0
    buffer: int = 2048

    def blocks_for(self, entries, bits):
        """Block RAMs that a memory of so many entries of so many bits takes."""
        return min(-(-entries // depth) * -(-bits // width) for depth, width in self.shapes)


_ICE40_BLOCK = ((256, 16), (512, 8), (1024, 4), (2048, 2))
_ECP5_BLOCK = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_GOWIN_BLOCK = ((512, 32), (1024, 16), (2048, 8), (4096, 4), (8192, 2), (16384, 1))

TARGETS = {target.name: target for target in (
    Target("icebreaker", "ice40", 5280, 30, _ICE40_BLOCK, 45.0, 12.0, single_ports=4, buffer=512),
    Target("hx8k", "ice40", 7680, 32, _ICE40_BLOCK, 140.0, 12.0, buffer=512),
    Target("ulx3s-25f", "ecp5", 24288, 56, _ECP5_BLOCK, 130.0, 25.0, memory_registers=1),
    Target("ulx3s-85f", "ecp5", 83640, 208, _ECP5_BLOCK, 130.0, 25.0, memory_registers=1),
    Target("tang_nano_9k", "gowin", 8640, 26, _GOWIN_BLOCK, 80.0, 27.0),
)}


def find(name):
    """The `Target` called ``name``; raises `SpikeloomError` when there is none."""
    try:
        return TARGETS[name]
    except KeyError:
        raise SpikeloomError(f"Target must be one of {', '.join(TARGETS)}, not {name!r}") from None
