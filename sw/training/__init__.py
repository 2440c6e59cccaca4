"""PyTorch in integer units: `model` is the network, `config` what a run is, `train` the loop, and `quantize` the step
from a trained model to a `spikeloom.network.Network`.

What weights may be rounded to is in `quantizers`, which of them stay in `pruning`. Layers of activities are in
`hybrid`, `lmu` and `baselines`; `integers` makes integer layers of them.
"""
