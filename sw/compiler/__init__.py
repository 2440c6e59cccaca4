"""From a network to what gateware is generated from: `compile` chooses, by `cost`, and a `program` is what it chose.

`core` and `map_core` are the cores of a dense and of a convolutional layer, `target` the devices and boards there are.
"""
