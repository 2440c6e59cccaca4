"""What a program can be compiled for: devices by what they offer, and boards by the device they carry."""

from dataclasses import dataclass

from spikeloom.errors import SpikeloomError


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
    device : str
        the device with its speed grade, as its maker calls it; a key of `DEVICES`
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
    device: str = ""

    def blocks_for(self, entries, bits):
        """Block RAMs that a memory of so many entries of so many bits takes."""
        return min(-(-entries // depth) * -(-bits // width) for depth, width in self.shapes)


_ICE40_BLOCK = ((256, 16), (512, 8), (1024, 4), (2048, 2))
_ECP5_BLOCK = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_GOWIN_BLOCK = ((512, 32), (1024, 16), (2048, 8), (4096, 4), (8192, 2), (16384, 1))

#: Devices, as far as the compiler sees them: family, LUTs, block RAMs, ways to use them, clock, and what differs from
#: the defaults of `Target`. The numbers of cells are those that the open tools use, which do not keep to what a maker
#: sells: an LFE5U-12F has the cells of an LFE5U-25F, an iCE40HX4K those of an iCE40HX8K.
DEVICES = {
    "iCE40UP5K": (("ice40", 5280, 30, _ICE40_BLOCK, 45.0), {"single_ports": 4, "buffer": 512}),
    "iCE40LP1K": (("ice40", 1280, 16, _ICE40_BLOCK, 90.0), {"buffer": 512}),
    "iCE40HX1K": (("ice40", 1280, 16, _ICE40_BLOCK, 140.0), {"buffer": 512}),
    "iCE40HX4K": (("ice40", 7680, 32, _ICE40_BLOCK, 140.0), {"buffer": 512}),
    "iCE40HX8K": (("ice40", 7680, 32, _ICE40_BLOCK, 140.0), {"buffer": 512}),
    "LFE5U-12F-6": (("ecp5", 24288, 56, _ECP5_BLOCK, 130.0), {"memory_registers": 1}),
    "LFE5U-25F-6": (("ecp5", 24288, 56, _ECP5_BLOCK, 130.0), {"memory_registers": 1}),
    "LFE5U-45F-6": (("ecp5", 43848, 108, _ECP5_BLOCK, 130.0), {"memory_registers": 1}),
    "LFE5U-85F-6": (("ecp5", 83640, 208, _ECP5_BLOCK, 130.0), {"memory_registers": 1}),
    "LFE5U-45F-8": (("ecp5", 43848, 108, _ECP5_BLOCK, 160.0), {"memory_registers": 1}),
    "LFE5UM-45F-8": (("ecp5", 43848, 108, _ECP5_BLOCK, 160.0), {"memory_registers": 1}),
    "LFE5UM5G-45F-8": (("ecp5", 43848, 108, _ECP5_BLOCK, 160.0), {"memory_registers": 1}),
    "LFE5UM5G-85F-8": (("ecp5", 83640, 208, _ECP5_BLOCK, 160.0), {"memory_registers": 1}),
    "GW1NR-LV9QN88PC6/I5": (("gowin", 8640, 26, _GOWIN_BLOCK, 80.0), {}),
    "GW2A-LV18PG256C8/I7": (("gowin", 20736, 46, _GOWIN_BLOCK, 110.0), {}),
}


def _target(name, device, oscillator):
    cells, others = DEVICES[device]
    return Target(name, *cells, oscillator, device=device, **others)


TARGETS = {target.name: target for target in (
    _target("icebreaker", "iCE40UP5K", 12.0),
    _target("icesugar", "iCE40UP5K", 12.0),
    _target("icesugar_nano", "iCE40LP1K", 12.0),
    _target("icestick", "iCE40HX1K", 12.0),
    _target("nandland_go", "iCE40HX1K", 25.0),
    _target("blackice", "iCE40HX4K", 100.0),
    _target("blackice_ii", "iCE40HX4K", 100.0),
    _target("hx8k", "iCE40HX8K", 12.0),
    _target("ulx3s-12f", "LFE5U-12F-6", 25.0),
    _target("ulx3s-25f", "LFE5U-25F-6", 25.0),
    _target("ulx3s-45f", "LFE5U-45F-6", 25.0),
    _target("ulx3s-85f", "LFE5U-85F-6", 25.0),
    _target("icepi_zero", "LFE5U-25F-6", 50.0),
    _target("icesugar_pro", "LFE5U-25F-6", 25.0),
    _target("colorlight_5a75b", "LFE5U-25F-6", 25.0),
    _target("supercon19badge", "LFE5U-45F-8", 8.0),
    _target("versa_ecp5", "LFE5UM-45F-8", 100.0),
    _target("versa_ecp5_5g", "LFE5UM5G-45F-8", 100.0),
    _target("ecpix5-45f", "LFE5UM5G-45F-8", 100.0),
    _target("ecpix5-85f", "LFE5UM5G-85F-8", 100.0),
    _target("ecp5_5g_evn", "LFE5UM5G-85F-8", 12.0),
    _target("tang_nano_9k", "GW1NR-LV9QN88PC6/I5", 27.0),
    _target("tang_primer_20k", "GW2A-LV18PG256C8/I7", 27.0),
)}


def find(name):
    """The `Target` called ``name``; raises `SpikeloomError` when there is none."""
    try:
        return TARGETS[name]
    except KeyError:
        raise SpikeloomError(f"Target must be one of {', '.join(TARGETS)}, not {name!r}") from None
