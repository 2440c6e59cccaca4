"""[speed-cnn] Training time per epoch against snnTorch and SpikingJelly: the packaged CNN for N-MNIST.

    make bench NAME=speed-cnn DATA_DIR=folder-with-the-recordings

All train the same layers (convolutions and a fully connected layer, batch norm behind each; neurons without leak, in
the last layer with a leak of 1/8; reset by subtraction, detached; ATan surrogate; cross-entropy of spike counts,
summed over the voters of a class; Adam) on the same frames, batches and number of threads. Each peer is used as its
documentation does it: snnTorch in a loop over time steps; SpikingJelly in multi-step mode, reset after each batch. Each
trains twice: with maps as PyTorch has them by default, and channels last, as ours are, which any of their users could
choose. They find their inputs in the layout that they want. They train in floats; ours does too, and quantized besides,
with the clipping of latents that this needs after each step. Epochs are interleaved, beginning with another each time,
and medians compared. Without a folder the frames are random, in the number and of the density of the recordings.
"""

import argparse
import statistics
import time
import warnings

import torch
from common import Figures
from spikeloom import data
from spikeloom.training import config
from torch import nn

CONFIG = "nmnist_cnn"
RECORDINGS, DENSITY = 804, 0.094  # to train on, and ones in their frames


class Spikeloom:
    """Ours; ``quantized`` trains with everything rounded, as the second phase of training does."""

    def __init__(self, made, quantized):
        self.net, self.quantized = made.build(), quantized

    def inputs(self, frames):
        return frames

    def counts(self, x):
        spikes, _ = self.net(x, quantized=self.quantized)
        return spikes[-1].sum(0)

    def after_step(self):
        if self.quantized:
            self.net.limit()


class Peer:
    """A network ``net`` of a peer's; ``last``: with channels last."""

    def __init__(self, made, last):
        self.map, self.last = made.input.shape, last
        self.build(layers(made))
        if last:
            self.net.to(memory_format=torch.channels_last)

    def inputs(self, frames):
        """Frames (batch, time steps, n_in) as maps (time steps, batch, channels, rows, columns)."""
        x = frames.unflatten(2, self.map).transpose(0, 1).contiguous().float().movedim(4, 2)
        return x if self.last else x.contiguous()

    def after_step(self):
        pass


class SnnTorch(Peer):
    def build(self, made):
        import snntorch
        from snntorch import surrogate

        stages = [nn.Sequential(*stage) for stage in stages_of(made, nn)]
        neurons = [snntorch.Leaky(beta=1 - each.decay, spike_grad=surrogate.atan()) for each in made]
        self.net = nn.ModuleDict({"stages": nn.ModuleList(stages), "neurons": nn.ModuleList(neurons)})

    def counts(self, x):
        membranes, total = [neuron.init_leaky() for neuron in self.net["neurons"]], 0
        for z in x:
            for number, (stage, neuron) in enumerate(zip(self.net["stages"], self.net["neurons"], strict=True)):
                z, membranes[number] = neuron(stage(z), membranes[number])
            total = total + z
        return total


class SpikingJelly(Peer):
    def build(self, made):
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        stages = []
        for each, stage in zip(made, stages_of(made, layer), strict=True):
            common = {"v_reset": None, "detach_reset": True, "surrogate_function": surrogate.ATan()}
            stages += [*stage, neuron.LIFNode(tau=1 / each.decay, decay_input=False, **common) if each.decay else
                       neuron.IFNode(**common)]
        self.net = nn.Sequential(*stages)
        functional.set_step_mode(self.net, "m")
        self.reset = functional.reset_net

    def counts(self, x):
        counted = self.net(x).sum(0)
        self.reset(self.net)
        return counted


class Layer:
    """What peers need to know of one of our layers."""

    def __init__(self, module):
        leak = module.neuron.leak
        self.decay = 2.0**-leak.shift if leak.kind == "shift" else 0.0
        self.pool, self.shape = module.pool, module.shape
        self.weights, self.kernel = module.weight.shape, module.weight.shape[2:]
        self.stride, self.padding = getattr(module, "stride", None), getattr(module, "padding", None)


def layers(made):
    return [Layer(module) for module in made.build().layers]


def stages_of(made, kinds):
    """For each layer a list of modules from ``kinds`` that come before its neurons."""
    for each in made:
        stage = [kinds.MaxPool2d((each.pool.rows, each.pool.columns))] if each.pool else []
        out, n_in = each.weights[:2]
        if each.kernel:
            yield [*stage, kinds.Conv2d(n_in, out, each.kernel, stride=each.stride, padding=each.padding, bias=False),
                   kinds.BatchNorm2d(out)]
        else:
            yield [*stage, kinds.Flatten(), kinds.Linear(n_in, out, bias=False), kinds.BatchNorm1d(out)]


def epoch(contender, optimizer, batches, votes):
    """Seconds that training on all ``batches`` takes."""
    started = time.perf_counter()
    for x, labels in batches:
        scores = contender.counts(x).unflatten(1, (-1, votes)).sum(2)
        loss = nn.functional.cross_entropy(scores / votes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        contender.after_step()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where the recordings are")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    made, figures = config.load(CONFIG), Figures("speed-cnn")
    steps, batch = made.encoder.time_steps, made.training.batch
    if options.data_dir:
        frames, labels = (torch.from_numpy(each) for each in data.load(made.data.dataset, "train", options.data_dir,
                                                                        made.encoder))
        frames = frames.to(torch.uint8)
    else:
        frames = (torch.rand(RECORDINGS, steps, made.input.size) < DENSITY).to(torch.uint8)
        labels = torch.randint(0, made.dataset.classes, (RECORDINGS,))
    contenders = {"Spikeloom, quantized": Spikeloom(made, True), "Spikeloom, in floats": Spikeloom(made, False)}
    peers = {}
    for name, peer in (("snnTorch", SnnTorch), ("SpikingJelly", SpikingJelly)):
        peers |= {name: peer(made, False), f"{name}, channels last": peer(made, True)}
    contenders |= peers
    optimizers = {name: torch.optim.Adam(each.net.parameters(), 1e-3, fused=True) for name, each in contenders.items()}
    parameters = {name: sum(each.numel() for each in contender.net.parameters())
                  for name, contender in contenders.items()}
    batches = {name: [(contender.inputs(x), y) for x, y in zip(frames.split(batch), labels.split(batch), strict=True)]
               for name, contender in contenders.items()}

    figures.add("recordings of an epoch", len(frames), "recordings" if options.data_dir else "random recordings")
    figures.add("ones in their frames", 100 * frames.float().mean().item(), "%")
    figures.add("time steps", steps, "steps")
    figures.add("batch", batch, "recordings")
    figures.add("threads", options.threads, "threads")
    figures.add("parameters", parameters["Spikeloom, quantized"], "parameters", "the same in all",
                len(set(parameters.values())) == 1)
    seconds = {name: [] for name in contenders}
    names = list(contenders)
    for round_ in range(options.rounds + 1):
        for name in names[round_ % len(names):] + names[:round_ % len(names)]:
            taken = epoch(contenders[name], optimizers[name], batches[name], made.votes)
            if round_:  # the first one warms up
                seconds[name].append(taken)
        print(f"round {round_}: " + ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items() if each),
              flush=True)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    for name, value in median.items():
        figures.add(f"training, {name}", value, "s/epoch")
    for ours in ("Spikeloom, in floats", "Spikeloom, quantized"):
        for peer in peers:
            ratio = median[peer] / median[ours]
            figures.add(f"{peer} over {ours}", ratio, "times as long", ">= 1", ratio >= 1)
    figures.write()


if __name__ == "__main__":
    main()
