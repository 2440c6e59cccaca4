"""[speed] Training step and evaluation against snnTorch and SpikingJelly: the same 784-128-10 LIF network.

All three run the same layers (fully connected, leaky by one half, reset by subtraction, ATan surrogate,
cross-entropy of the output's spike counts, Adam) on the same random binary inputs, at the same time steps,
batch and number of threads. Two kinds of input: ``spikes``, new at each time step, and ``constant``, the same
at each (direct coding, as images are usually fed). Each peer is used as its documentation does it: snnTorch in
a loop over time steps; SpikingJelly in multi-step mode, where a constant input is repeated. Rounds are
interleaved, and medians compared.

    python benchmarks/speed.py
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from common import Figures
from spikeloom import reference
from spikeloom.network import InputFormat, ShiftLeak
from spikeloom.training import model
from spikeloom.training.losses import RateCrossEntropy
from spikeloom.training.model import SpikingDense, SpikingNetwork
from spikeloom.training.neuron import Neuron
from spikeloom.training.surrogate import ATan
from torch import nn

PIXELS, HIDDEN, CLASSES = 784, 128, 10
DENSITY = 0.13  # of ones in MNIST's images in black and white


class Spikeloom:
    """Ours; ``quantized`` trains with everything rounded, as the second phase of training does."""

    def __init__(self, time_steps, quantized):
        def layer(n_in, n_out, name):
            neuron = Neuron(8, ShiftLeak(1), surrogate=ATan())
            return SpikingDense(n_in, n_out, neuron, threshold=4.0, name=name)

        self.net = SpikingNetwork(InputFormat(PIXELS), [layer(PIXELS, HIDDEN, "hidden"),
                                                        layer(HIDDEN, CLASSES, "output")], time_steps)
        self.quantized = quantized
        self.time_steps = time_steps

    def counts(self, x):
        net = self.net if torch.is_grad_enabled() else self.frozen
        spikes, _ = net(x.expand(-1, self.time_steps, -1), quantized=self.quantized)
        return spikes[-1].sum(0)

    def freeze(self):
        """What `spikeloom.training.model.run` runs: the integer network."""
        self.frozen = model.from_network(self.net.to_network()) if self.quantized else self.net


class SnnTorch:
    def __init__(self, time_steps, quantized):
        import snntorch
        from snntorch import surrogate

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                options = {"beta": 0.5, "spike_grad": surrogate.atan()}
                self.fc1, self.lif1 = nn.Linear(PIXELS, HIDDEN), snntorch.Leaky(**options)
                self.fc2, self.lif2 = nn.Linear(HIDDEN, CLASSES), snntorch.Leaky(**options)

            def forward(self, x):
                mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
                recorded = []
                for t in range(time_steps):
                    spk1, mem1 = self.lif1(self.fc1(x[:, t % x.shape[1]]), mem1)
                    spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                    recorded.append(spk2)
                return torch.stack(recorded)

        self.net = Net()

    def counts(self, x):
        return self.net(x.float()).sum(0)


class SpikingJelly:
    def __init__(self, time_steps, quantized):
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def lif():
            return neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None,
                                  surrogate_function=surrogate.ATan())

        self.net = nn.Sequential(layer.Linear(PIXELS, HIDDEN), lif(), layer.Linear(HIDDEN, CLASSES), lif())
        functional.set_step_mode(self.net, "m")
        self.reset, self.time_steps = functional.reset_net, time_steps

    def counts(self, x):
        self.reset(self.net)
        return self.net(x.float().expand(-1, self.time_steps, -1).transpose(0, 1).contiguous()).sum(0)


def training_step(contender, optimizer, x, labels):
    loss = RateCrossEntropy()(contender.counts(x)[None], None, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seconds(function, *arguments, repeat=5):
    """Mean time of ``repeat`` calls in a row, as in an epoch or over a test set."""
    start = time.perf_counter()
    for _ in range(repeat):
        function(*arguments)
    return (time.perf_counter() - start) / repeat


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    steps, batch, figures = options.time_steps, options.batch, Figures("speed")
    contenders = {"spikeloom": Spikeloom(steps, True), "spikeloom_float": Spikeloom(steps, False),
                  "snntorch": SnnTorch(steps, False), "spikingjelly": SpikingJelly(steps, False)}
    optimizers = {name: torch.optim.Adam(each.net.parameters(), 1e-3, fused=True)
                  for name, each in contenders.items()}
    aims = {"train": {"snntorch": 3, "spikingjelly": 1.5}, "evaluate": {"snntorch": 5}}
    for kind in ("spikes", "constant"):
        x = (torch.rand(batch, steps if kind == "spikes" else 1, PIXELS) < DENSITY).to(torch.uint8)
        labels = torch.randint(0, CLASSES, (batch,))
        train_times = {name: [] for name in contenders}
        evaluate_times = {name: [] for name in contenders}
        for round_ in range(options.rounds + 1):
            for name, contender in contenders.items():
                taken = seconds(training_step, contender, optimizers[name], x, labels)
                if round_:  # the first one warms up
                    train_times[name].append(taken)
        for name in ("spikeloom", "spikeloom_float"):
            contenders[name].freeze()
        with torch.no_grad():
            for round_ in range(options.rounds + 1):
                for name, contender in contenders.items():
                    taken = seconds(contender.counts, x)
                    if round_:
                        evaluate_times[name].append(taken)
        for what, times in (("train", train_times), ("evaluate", evaluate_times)):
            median = {name: statistics.median(each) for name, each in times.items()}
            for name, value in median.items():
                if what == "train":
                    figures.add(f"{what}_{kind}_{name}_ms", value * 1000, "ms/step")
                else:
                    figures.add(f"{what}_{kind}_{name}", batch / value, "images/s")
            for peer in ("snntorch", "spikingjelly"):
                ratio, aim = median[peer] / median["spikeloom"], aims[what].get(peer)
                figures.add(f"{what}_{kind}_vs_{peer}", ratio, "x", aim=aim and f">= {aim}",
                            met=None if aim is None else ratio >= aim)

    # The integer network as `simulate` runs it, from and to NumPy with every spike and membrane kept.
    network = contenders["spikeloom"].net.to_network()
    inputs = (np.random.default_rng(0).random((2000, steps, PIXELS)) < DENSITY).astype(np.int64)
    for name, run in (("torch", model.run), ("reference", reference.run)):
        taken = statistics.median(seconds(run, network, inputs, repeat=1) for _ in range(5))
        figures.add(f"simulate_{name}", len(inputs) / taken, "images/s")
    figures.write()


if __name__ == "__main__":
    main()
