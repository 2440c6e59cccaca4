"""Serial ports: which there are, and opening one."""

import contextlib
import os

import serial
from serial.tools import list_ports
from spikeloom.errors import SpikeloomError

__all__ = ["open_port", "ports"]

#: Seconds that a read waits for a first byte, and a write for the line to take its bytes.
POLL, PATIENCE = 0.05, 10


def ports():
    """The serial ports of this machine: name to description."""
    return {port.device: port.description for port in sorted(list_ports.comports())}


def open_port(name=None, *, baud):
    """The serial port called ``name`` at ``baud`` bits per second, as an open `serial.Serial`.

    Raises `SpikeloomError` when there is no such port, when another program has it, and, with the names of those
    there are, when none is named.
    """
    if name is None:
        found = ", ".join(f"{port} ({what})" for port, what in ports().items())
        raise SpikeloomError(f"Name the serial port of the board: {found or 'there is none, is it plugged in?'}")
    try:
        port = serial.Serial(name, baud, timeout=POLL, write_timeout=PATIENCE, exclusive=True)
    except (OSError, ValueError) as error:  # what pyserial raises is an OSError
        why = os.strerror(error.errno) if getattr(error, "errno", None) else error
        raise SpikeloomError(f"{name}: cannot be opened at {baud} baud: {why} (there are: "
                             f"{', '.join(ports()) or 'no serial ports'})") from None
    # USB bridges hold short answers back for up to 16 ms, unless told not to. Not every driver can be told.
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port
