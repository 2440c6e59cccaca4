"""The boards there are, as a table; for a network, what each would make of it."""

from spikeloom.compiler import compile, cost, target

from . import clocks
from .board import BOARDS, BRIDGES

__all__ = ["listing"]


def listing(network=None):
    """A line of text for each board: its device, clock, UART, start from flash, and the tool that writes it.

    With a `Network` (or a `Program`, whose network it takes) there are two columns more: the cycles of a time step and
    the time of a sample, as the compiler predicts them for the best clock the board makes below what routed designs
    reach there; or that it does not fit.
    """
    network = getattr(network, "network", network)
    titles = ["board", "device", "LUTs", "block RAMs", "oscillator", "UART", "bits/s", "start", "tool"]
    if network is not None:
        titles += ["cycles/step", "time/sample"]
    rows, seen = [titles], {}
    for name, board in BOARDS.items():
        device = target.find(name)
        row = [name, board.device.name, f"{device.luts}", f"{device.blocks}", f"{device.oscillator:g} MHz",
               board.bridge, f"{BRIDGES[board.bridge]}", "flash" if board.flash is not None else "-",
               board.programmers[0].tool]
        if network is not None:
            if device.device not in seen:  # boards share devices, and finding out takes a while
                seen[device.device] = _predicted(network, name)
            notes = seen[device.device]
            choice = clocks.best(board, device.clock) or clocks.fixed(board, "oscillator")
            row += ([f"{notes['cycles_per_time_step']:g}", f"{notes['cycles_per_sample'] / choice.clock:.1f} µs"]
                    if notes else ["too large", "-"])
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    right = {titles.index(title) for title in titles if title in
             ("LUTs", "block RAMs", "oscillator", "bits/s", "cycles/step", "time/sample")}
    return "\n".join("  ".join(cell.rjust(width) if column in right else cell.ljust(width)
                               for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows)


def _predicted(network, name):
    """The compiler's notes on ``network`` for the target called ``name``, or None where it is too large."""
    placements = compile.choose(network, target.find(name), cost.known(network))
    return placements and compile.compile(network, name, placements=placements).notes
