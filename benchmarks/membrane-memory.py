"""[membrane-memory] Memory of weights and membranes of SpQuant-SNN's networks, beside what is published of them
(Hasssan et al., Front. Neurosci. 18:1440000).

    make bench NAME=membrane-memory

The integer networks are made of the packaged configurations `vgg9_spquant` and `resnet19_spquant`, untrained, as sizes
are what counts; 32 bits are those of the same weights and potentials. Each is also placed on cores, and the program's
memories of weights and membranes are added up, where strides leave words unused; no board holds them.

A published figure is met where ours comes to the same two decimals, rounded or cut off, in megabytes of 10^6 or of 2^20
bytes. Not all can be:

- Membranes of VGG-9 are 921,600 potentials, 3.686 · 10^6 bytes, of which 3.68 is cut off; at 2 bits 0.230.
- Those of ResNet-19 are 11 · 2^17 of its maps and 256 of a dense layer: 5.501 · 2^20 bytes. At 2 bits they take 0.344,
  and at log2(3) bits 0.272; the published 0.25 is what 2^20 potentials take, three elevenths less.
- Weights of VGG-9 as described are 9,263,232. The published 41.12 and 2.57 are met to the digit with a gate of channels
  for each convolution but the first two, whose 1,015,808 weights have as many bits, although the rows are of networks
  without gates. Those of ResNet-19 are 12,687,232 without the factors of identities, which only we have; the published
  49.94 are 12.49 or 13.09 million, for which we have no explanation. The ratios of both precisions agree.
- The published totals are above the sum of the two by a term that is not said either.
"""

import math
from dataclasses import replace

from common import Figures
from spikeloom.compiler.program import Placement, Program
from spikeloom.report import meters
from spikeloom.training import config
from spikeloom.training.quantizers import Ternary

# Of weights and membranes, megabytes at 32 bits and as quantized, and of all together.
PUBLISHED = {"vgg9_spquant": {"weights": (41.12, 2.57), "membranes": (3.68, 0.23), "total": (48.58, 3.75)},
             "resnet19_spquant": {"weights": (49.94, 6.24), "membranes": (5.5, 0.25), "total": (60.94, 7.49)}}
NAMES = {"vgg9_spquant": "VGG-9", "resnet19_spquant": "ResNet-19"}
MEGABYTES = {"10^6 bytes": 10**6, "2^20 bytes": 2**20}

#: Channels, or neurons, that a core of the program adds to at once.
GROUP = 16


def agrees(value, published):
    """Whether two decimals of a value are what is published."""
    return published in (round(value, 2), math.floor(value * 100) / 100)


def beside(figures, name, bits, published):
    """The figure in the megabytes in which it agrees, or else in those of 10^6 bytes."""
    values = {unit: bits / 8 / size for unit, size in MEGABYTES.items()}
    unit = next((unit for unit, value in values.items() if agrees(value, published)), "10^6 bytes")
    figures.add(name, values[unit], unit, f"{published}, as published", agrees(values[unit], published))


def gated(name):
    """The configuration with a gate of ternary weights for each convolution but the first two."""
    made = config.load(name)
    gate = config.ChannelGate(weights=Ternary())
    layers = [replace(layer, gate=gate) if isinstance(layer, config.ConvLayer) else layer for layer in made.layers]
    return replace(made, layers=(*made.layers[:2], *layers[2:]))


def images(network):
    """Bits of all memories of weights, and of membranes, in a program of the network."""
    def placement(layer):
        return Placement(math.gcd(len(layer.weights), GROUP) * (layer.kernel if layer.kind == "conv2d" else 1), 1)

    program = Program(network, "ulx3s-85f", tuple(map(placement, network.layers)))
    return (sum(math.prod(core.memories[name]) for core in program.cores for name in ("weights", "shortcut")
                if name in core.memories), sum(math.prod(core.memories["membranes"]) for core in program.cores))


def main():
    figures = Figures("membrane-memory")
    for name, published in PUBLISHED.items():
        network, called = config.load(name).build().to_network(), NAMES[name]
        memories = meters.memory(network)
        counts = {"weights": sum(each.weights for each in memories),
                  "membranes": sum(each.membranes for each in memories)}
        bits = {"weights": network.weight_bits, "membranes": sum(each.membrane_bits for each in memories)}
        for what, count in counts.items():
            figures.add(f"{called}, {what}", count, "")
            wide, narrow = published[what]
            beside(figures, f"{called}, {what} at {meters.BASELINE_BITS} bits", meters.BASELINE_BITS * count, wide)
            beside(figures, f"{called}, {what} quantized", bits[what], narrow)
            ratio = meters.BASELINE_BITS * count / bits[what]
            figures.add(f"{called}, {what}: times less", ratio, "", f"{wide / narrow:.3g}, as published",
                        abs(ratio / (wide / narrow) - 1) < 0.01)
        wide, narrow = (sum(getattr(each, what) for each in memories) for what in ("baseline_bits", "bits"))
        figures.add(f"{called}, weights and membranes at {meters.BASELINE_BITS} bits", wide / 8e6, "10^6 bytes")
        figures.add(f"{called}, weights and membranes quantized", narrow / 8e6, "10^6 bytes")
        figures.add(f"{called}, weights and membranes: times less", wide / narrow, "",
                    f"{published['total'][0] / published['total'][1]:.3g} published, of more than these")
        for what, found in zip(bits, images(network), strict=True):
            figures.add(f"{called}, {what} in the program's memories beside the network's",
                        100 * (found / bits[what] - 1), "% more")
    memories = meters.memory(gated("vgg9_spquant").build().to_network())
    for what, bits, published in (
            (f"at {meters.BASELINE_BITS} bits", meters.BASELINE_BITS * sum(each.weights for each in memories), 41.12),
            ("quantized", sum(each.weight_bits for each in memories), 2.57)):
        beside(figures, f"VGG-9 with gates, weights {what}", bits, published)
    figures.write()


if __name__ == "__main__":
    main()
