"""Spikeloom: spiking neural networks from PyTorch to FPGA bitstreams, equal bit for bit at every step.

Importing the package imports nothing heavy; each stage is a module of its own:

``network``, ``reference``
    the integer network and its one meaning (NumPy)
``data``, ``training``
    data sets and how they enter a network; PyTorch in integer units, and the step from a trained model to a `Network`
``compiler``
    from a `Network` to weight memories and layer parameters for a target
``hw``, ``sim``, ``boards``
    the gateware, its simulations, its bitstreams
``report``, ``energy``, ``study``
    what was measured of a run, what an accelerator would take, and many runs side by side
"""

__version__ = "0.1.0"
