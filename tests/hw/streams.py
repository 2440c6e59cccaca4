"""A block between the two ends of a stream."""

import random

from spikeloom.sim import stream


def transfer(block, payloads, count, *, i="i", stall=0.5, seed=0, patience=2000):
    """Send ``payloads`` into ``block``'s stream ``i`` and return the first ``count`` that leave ``block.o``."""
    received, pauses = [], random.Random(seed)

    def take(payload):
        received.append(payload)
        return len(received) == count

    simulation = stream.simulator(block)
    simulation.add_testbench(stream.send(getattr(block, i), payloads, stall=stall, pauses=pauses), background=True)
    simulation.add_testbench(stream.receive(block.o, take, stall=stall, pauses=pauses, patience=patience))
    simulation.run()
    return received
