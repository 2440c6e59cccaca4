"""An analytical model of energy and cycles, of an accelerator with row-stationary dataflow: ``docs/energy.md``.

    from spikeloom import energy
    work = energy.of_network(network, inputs, trace.spikes)
    print(energy.table(energy.estimate(work)))
"""

from .formats import FORMATS, Occupancy, cheapest
from .hardware import Architecture, Costs
from .model import COMPONENTS, Estimate, LayerEstimate, estimate, table
from .workload import Density, Layer, Workload, load, of_network

__all__ = ["COMPONENTS", "FORMATS", "Architecture", "Costs", "Density", "Estimate", "Layer", "LayerEstimate",
           "Occupancy", "Workload", "cheapest", "estimate", "load", "of_network", "table"]
