"""The tools that put files onto boards, and the commands they take."""

from dataclasses import dataclass

__all__ = ["COPY", "DFU", "ICEPROG", "ICEPROG_MEMORY", "ICESPROG", "Programmer", "open_fpga_loader"]


@dataclass(frozen=True)
class Programmer:
    """A tool, and its arguments for each thing it can do; empty for what it cannot.

    ``{file}`` and ``{offset}`` (in bytes) stand for what is written and where.

    Parameters
    ----------
    tool : str
        a name of `spikeloom.tools`
    memory : tuple of str
        configures the device until power goes off
    flash : tuple of str
        writes the bitstream where the device starts from
    data : tuple of str
        writes a file into the SPI flash
    """

    tool: str
    memory: tuple[str, ...] = ()
    flash: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


def open_fpga_loader(*board, external=False):
    """openFPGALoader for the ``board`` its arguments tell; ``external`` where the SPI flash is not the device's own."""
    into = "--external-flash" if external else "-f"
    return Programmer("openFPGALoader", (*board, "-m", "{file}"), (*board, "-f", "{file}"),
                      (*board, into, "--file-type", "raw", "-o", "{offset}", "{file}"))


ICEPROG = Programmer("iceprog", flash=("{file}",), data=("-o", "{offset}", "{file}"))
#: On boards with a jumper for it.
ICEPROG_MEMORY = Programmer("iceprog", memory=("-S", "{file}"), flash=ICEPROG.flash, data=ICEPROG.data)
ICESPROG = Programmer("icesprog", flash=("{file}",), data=("-o", "{offset}", "{file}"))
DFU = Programmer("dfu-util", flash=("-d", "1d50:614b", "-a", "0", "-D", "{file}"))
#: A board that takes its bitstream as a serial port.
COPY = Programmer("cp", memory=("{file}", "/dev/ttyACM0"))
