"""What a board does, live: rates, cycles, activity, answers."""

import collections
import itertools
import sys
import time

__all__ = ["monitor"]

#: Winners that are shown.
LAST = 16


def monitor(board, program, inputs, labels=None, *, seconds=None, interval=1.0, now=time.monotonic, out=None):
    """Run ``inputs`` (samples, time steps, n_in) on a board (a `Connection`) over and over, and show every ``interval``
    seconds how it goes, until ``seconds`` have passed or a KeyboardInterrupt comes. The number of samples run.

    On a terminal the table stays in its place; elsewhere each one follows the one before.

    Parameters
    ----------
    labels : int array (samples,), optional
        for the accuracy
    now : callable
        the time in seconds that rates refer to; for a virtual board, that of its clock
    out : text file
        standard output, unless said otherwise
    """
    board.expect(program)
    out = out or sys.stdout
    numbers, winners = itertools.cycle(range(len(inputs))), collections.deque(maxlen=LAST)
    done = right = drawn = 0
    ends = None if seconds is None else time.monotonic() + seconds
    try:
        while ends is None or time.monotonic() < ends:
            started, sent, received = now(), board.traffic.sent, board.traffic.received
            counters, before, taken = board.counters(), done, collections.deque()
            for _, winner in board.samples(_supply(inputs, numbers, taken, time.monotonic() + interval)):
                winners.append(winner)
                right += labels is not None and winner == labels[taken.popleft()]
                done += 1
            counted, count, elapsed = board.counters().since(counters), done - before, max(now() - started, 1e-9)
            steps = count * inputs.shape[1]
            names = ["input", *(layer.name for layer in program.network.layers)]
            activity = ", ".join(f"{events / steps:,.1f} from {name}"
                                 for name, events in zip(names, counted.events, strict=False))
            rates = [(after - before) / elapsed for before, after in (
                (sent, board.traffic.sent), (received, board.traffic.received))]
            share = counted.busy / (elapsed * board.identity.clock)
            accuracy = "" if labels is None else f" (accuracy {right / done:.2%})"
            lines = [
                f"samples  {done:,} done, {count / elapsed:,.1f} a second",
                f"line     {rates[0]:,.0f} bytes a second to the board, {rates[1]:,.0f} back",
                f"faults   {board.traffic.resent} requests sent again, {board.traffic.errors.total()} error replies",
                f"array    {counted.busy / count:,.1f} cycles a sample, busy for {share:.1%} of the time",
                f"events   {activity} in a time step",
                f"winners  {' '.join(map(str, winners))}{accuracy}",
            ]
            if drawn and out.isatty():
                out.write(f"\x1b[{drawn}F\x1b[J")
            out.write("".join(f"{line}\n" for line in lines))
            out.flush()
            drawn = len(lines)
    except KeyboardInterrupt:
        pass
    return done


def _supply(inputs, numbers, taken, until):
    """At least one input, and more of them ``until`` then; ``taken`` gets their numbers."""
    for number in numbers:
        taken.append(number)
        yield inputs[number]
        if time.monotonic() >= until:
            return
