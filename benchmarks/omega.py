"""[omega] Accuracy against ω, the spikes that stand for an activity of 1, and against the bits of activities.

    make bench NAME=omega

Legendre memory units on the digits of scikit-learn, pixel by pixel (omega.toml): neurons send counts with ω, memories,
whose coefficients are smaller, with 4ω. Each ω is trained to from 16 times as much, by the same factor in each batch;
beside it are counts rounded by chance, and what is left of the network that does not spike when its activities are sent
as counts only after training. Accuracies are means of three seeds. Bits are those of spikeloom.report.counts, on the
450 test images.

What is done in runs/omega is not done again.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from common import RESULTS, Figures
from matplotlib import pyplot
from psmnist import counted
from spikeloom import data
from spikeloom.report import counts as meters
from spikeloom.training import config as configuration
from spikeloom.training import hybrid, train

CONFIG = Path(__file__).with_suffix(".toml")
RUNS = Path(__file__).parents[1] / "runs" / "omega"
PICTURE = RESULTS / "omega.png"
OMEGAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
SEEDS = (1, 2, 3)
OF_MEMORY, FIRST = 4, 16
TRAINED, CHANCE, AFTERWARDS = "trained to ω", "rounded by chance", "rounded after training"
COLORS = {TRAINED: "#d62728", CHANCE: "#1f77b4", AFTERWARDS: "#7f7f7f"}


def spiking(omega, rounding="diffused", first=FIRST):
    """The fields of a layer of Legendre memory units that spikes so."""
    return {name: hybrid.Spiking(hybrid.Geometric(first * factor * omega, factor * omega), rounding)
            for name, factor in (("hidden", 1), ("memory", OF_MEMORY))}


def configured(seed, **fields):
    config = configuration.load(CONFIG)
    first, last = config.layers
    return replace(config, seed=seed, layers=(replace(first, **fields), last))


def trained(name, seed, **fields):
    """The model of a run that is done, or done now."""
    state = train.load(train.train(configured(seed, **fields), RUNS / f"{name}-{seed}", device="cpu", progress=False))
    model = state.config.build()
    model.load_state_dict(state.model)
    return model.eval(), state.config


def measured(model, config):
    """Accuracy in %, and the bits of activities, on the test images."""
    images, labels = data.load("digits", "test")
    accuracy = 100 * train.measured(config, model, images, labels, quantized=False)
    return accuracy, meters.bits(counted(model, config, images).values())


def rounded(model, config, omega):
    """A network that spikes with the parameters of one that does not."""
    config = configured(config.seed, **spiking(omega, first=1))
    spikes = config.build()
    spikes.take(model)
    return spikes.eval(), config


def picture(points, plain):
    """Accuracy over ω and over bits, a line for each way to come to counts."""
    drawn, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axis, x, shown in ((axes[0], "omega", "ω"), (axes[1], "levels", "bits of an activity, log2 of its levels")):
        axis.axhline(plain, color="black", linewidth=1, linestyle=":", label="not spiking")
        for way, color in COLORS.items():
            line = sorted((point[x], point["accuracy"]) for (each, _), point in points.items() if each == way)
            axis.plot(*zip(*line, strict=True), marker="o", markersize=4, color=color, label=way)
        axis.set(xlabel=shown)
        axis.grid(alpha=0.3)
    axes[0].set(xscale="log", ylabel="% of the test images")
    axes[0].set_xticks(OMEGAS, [f"{omega:g}" for omega in OMEGAS])
    axes[0].xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes[1].legend(frameon=False)
    drawn.savefig(PICTURE, dpi=110)


def main():
    plain = [trained("plain", seed) for seed in SEEDS]
    images, labels = data.load("digits", "test")
    accuracy = statistics.mean(100 * train.measured(config, model, images, labels, quantized=False)
                               for model, config in plain)
    figures, points = Figures("omega"), {}
    figures.add("not spiking: accuracy", accuracy, "% of the test images, mean of 3 seeds")
    for omega in OMEGAS:
        for way, models in (
                (TRAINED, [trained(f"diffused-{omega:g}", seed, **spiking(omega)) for seed in SEEDS]),
                (CHANCE, [trained(f"stochastic-{omega:g}", seed, **spiking(omega, "stochastic")) for seed in SEEDS]),
                (AFTERWARDS, [rounded(*each, omega) for each in plain])):
            accuracies, bits = zip(*(measured(*each) for each in models), strict=True)
            point = points[way, omega] = {"omega": omega, "accuracy": statistics.mean(accuracies)}
            point |= {name: statistics.mean(getattr(each, name) for each in bits)
                      for name in ("levels", "entropy", "significant", "rate")}
            figures.add(f"ω {omega:g}, {way}: accuracy", point["accuracy"], "% of the test images, mean of 3 seeds")
            for name, unit in (("levels", "bits of an activity, log2 of its levels"),
                               ("entropy", "bits of an activity, entropy"),
                               ("significant", "significant bits per weight multiply, of counts but 0"),
                               ("rate", "spikes of a neuron in a time step")):
                figures.add(f"ω {omega:g}, {way}: {name}", point[name], unit)
    picture(points, accuracy)
    figures.write()


if __name__ == "__main__":
    main()
