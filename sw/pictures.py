"""The figures of a report. Each is drawn by itself, without matplotlib's global state, and comes as SVG text."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .network import Silent

#: The reference is drawn wide and pale, what is held to it narrow and dark on top; differences in red.
REFERENCE, SEEN, PLAIN, MUTED, WRONG = "#8ab6dc", "#b4430f", "#4a7fae", "#7b8794", "#d00000"

#: Membranes are shown of so many neurons of each layer.
TRACED = 4

#: More marks than this in one panel are drawn as an image, to keep the page small.
MANY_MARKS = 500

_STYLE = {
    "svg.hashsalt": "spikeloom", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": "#444", "ytick.color": "#444", "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6,
}


def _drawn(draw):
    """A figure function whose drawing, in our style, comes back as SVG: the same input, the same text."""
    def picture(*args, **options):
        with matplotlib.rc_context(_STYLE):
            file = io.StringIO()
            draw(*args, **options).savefig(file, format="svg", dpi=150, metadata={"Date": None})
            return file.getvalue()
    picture.__name__, picture.__doc__ = draw.__name__, draw.__doc__
    return picture


def _figure(width, height):
    return Figure(figsize=(width, height), layout="constrained")


# Samples ----------------------------------------------------------------------------------------


@_drawn
def rasters(network, inputs, expected, seen, sample, *, shape=None, name="gateware"):
    """One sample: its input, then each layer's spikes (of silent layers the membranes), reference beside ``name``.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    expected, seen : Trace
    shape : (height, width), optional
        of the image that the inputs are; it is drawn as its mean over time
    """
    layers = network.layers
    figure = _figure(2.1 + 2.9 * len(layers), 3.1)
    parts = figure.subfigures(1, 1 + len(layers), width_ratios=[2.1] + [2.9] * len(layers))
    _input(parts[0], inputs[sample], network.input.bounds[1], shape)
    for number, (part, layer) in enumerate(zip(parts[1:], layers, strict=True)):
        silent = isinstance(layer.fire, Silent)
        what = "membranes" if silent else "spikes"
        pair = [getattr(trace, what)[number][sample] for trace in (expected, seen)]
        wrong = pair[0] != pair[1]
        part.suptitle(f"{layer.name}: {int(wrong.sum())} of {wrong.size:,} {what} differ", fontsize=9,
                      color=WRONG if wrong.any() else "black")
        axes = part.subplots(1, 2, sharex=True, sharey=True)
        for axis, values, title, color in zip(axes, pair, ("reference", name), (PLAIN, SEEN), strict=True):
            axis.set_title(title, color=color, fontsize=8.5)
            if silent:
                _heat(axis, values, max(1, max(int(np.abs(each).max()) for each in pair)))
            else:
                _marks(axis, values, color)
            _time_axis(axis, len(values))
        axes[0].set_ylabel("neuron")
        step, neuron = np.nonzero(wrong)
        axes[1].plot(step, neuron, "o", ms=7, mfc="none", mec=WRONG, mew=1.6)
    return figure


def _input(part, values, high, shape):
    """The input (time steps, n_in) of one sample, as an image where it is one."""
    part.suptitle("input", fontsize=9)
    axis = part.subplots()
    if shape is None:
        _marks(axis, values, "#333333", high)
        _time_axis(axis, len(values))
        axis.set_ylabel("input")
        return
    axis.pcolormesh(values.mean(axis=0).reshape(shape)[::-1], cmap="gray_r", vmin=0, vmax=high, rasterized=True)
    axis.set_aspect("equal")
    axis.set_axis_off()


def _marks(axis, values, color, high=None):
    """A raster of ``values`` (time steps, neurons): a bar for each that is not zero, paler where it is smaller."""
    neurons = values.shape[1]
    step, neuron = np.nonzero(values)
    found = values[step, neuron]
    shades = np.zeros((len(found), 4))
    shades[:, :3] = matplotlib.colors.to_rgb(color)
    shades[found < 0, :3] = matplotlib.colors.to_rgb("black")  # negative graded spikes
    shades[:, 3] = 0.3 + 0.7 * np.abs(found) / (high or max(1, np.abs(values).max()))
    thickness = min(7.0, max(0.7, 0.8 * 150 / neurons))
    axis.hlines(neuron, step - 0.44, step + 0.44, colors=shades, lw=thickness, rasterized=len(found) > MANY_MARKS)
    axis.set_ylim(-0.6, neurons - 0.4)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _heat(axis, values, reach):
    """Membranes (time steps, neurons) in colours, white at zero."""
    steps, neurons = values.shape
    mesh = axis.pcolormesh(np.arange(steps + 1) - 0.5, np.arange(neurons + 1) - 0.5, values.T, cmap="RdBu_r",
                           vmin=-reach, vmax=reach)
    mesh.set_rasterized(values.size > MANY_MARKS)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def _time_axis(axis, steps):
    axis.set_xlim(-0.5, steps - 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.set_xlabel("time step")


@_drawn
def traces(network, expected, seen, sample, *, name="gateware"):
    """One sample: membranes of some neurons of each layer, ``name`` dashed over the reference, and spikes."""
    figure = _figure(10, 1.9 * len(network.layers) + 0.35)
    panels = figure.subplots(len(network.layers), TRACED, squeeze=False)
    width = 6 if seen.spikes[0].shape[1] < 40 else 4
    kinds = {"reference": {"color": REFERENCE, "lw": width, "solid_capstyle": "round"},
             name: {"color": SEEN, "lw": 1.5, "ls": "--"},
             "threshold": {"color": MUTED, "lw": 1, "ls": ":"},
             "spike": {"color": SEEN, "marker": "v", "ms": 5, "ls": ""}}
    for number, layer in enumerate(network.layers):
        reference, other = expected.membranes[number][sample], seen.membranes[number][sample]
        fired = seen.spikes[number][sample]
        time = np.arange(-1, len(reference))  # from before the first time step, where potentials are zero
        chosen = _telling(layer, reference, expected.spikes[number][sample], (reference != other).any(axis=0))
        for axis in panels[number, len(chosen):]:
            axis.set_axis_off()
        for axis, neuron in zip(panels[number], chosen, strict=False):
            axis.set_title(f"{layer.name}, neuron {neuron}", loc="left")
            if not isinstance(layer.fire, Silent):
                axis.axhline(layer.threshold[neuron], **kinds["threshold"])
            axis.plot(time, [0, *reference[:, neuron]], **kinds["reference"])
            axis.plot(time, [0, *other[:, neuron]], **kinds[name])
            low, high = axis.get_ylim()
            margin = max(1, high - low) * 0.12
            axis.set_ylim(low - margin, high + 2 * margin)
            spikes = np.flatnonzero(fired[:, neuron])
            axis.plot(spikes, np.full(len(spikes), high + 1.3 * margin), **kinds["spike"])
            axis.set_xticks(np.arange(0, len(reference), -(-len(reference) // 8)))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        panels[number, 0].set_ylabel("membrane potential")
    for axis in panels[-1]:
        axis.set_xlabel("time step")
    figure.legend([Line2D([], [], **kind) for kind in kinds.values()], kinds, loc="outside upper right",
                  ncols=len(kinds), frameon=False, fontsize=8)
    return figure


def _telling(layer, membranes, spikes, wrong):
    """Neurons worth a look: those that differ, else of a silent layer the highest at the end, else the least steady."""
    if wrong.any():
        return np.flatnonzero(wrong)[:TRACED]
    if isinstance(layer.fire, Silent):
        return np.argsort(-membranes[-1], kind="stable")[:TRACED]
    fired = (spikes != 0).sum(axis=0)
    return np.lexsort((-np.ptp(membranes, axis=0), -np.minimum(fired, len(spikes) - fired)))[:TRACED]


# Histograms -------------------------------------------------------------------------------------


@_drawn
def weights(network):
    """For each layer, how its weights are spread over the levels of their grid."""
    figure, panels = _grid(len(network.layers), 2.5)
    for axis, layer in zip(panels, network.layers, strict=True):
        levels = np.unique(layer.weight_format.values)
        shares = np.array([(layer.weights == level).mean() * 100 for level in levels])
        bars = axis.bar(np.arange(len(levels)), shares, width=0.8, color=PLAIN)
        if len(levels) <= 7:
            axis.bar_label(bars, [f"{share:.0f}%" for share in shares], fontsize=7.5, color="#444", padding=1)
        every = max(1, -(-len(levels) // 9))
        axis.set_xticks(np.arange(len(levels))[::every], [str(level) for level in levels[::every]])
        axis.set_title(f"{layer.name}: {layer.weight_format.width}-bit {layer.weight_format.kind}", loc="left")
        axis.set_xlabel("weight")
        axis.margins(y=0.12)
    panels[0].set_ylabel("% of the weights")
    return figure


@_drawn
def rates(network, spikes):
    """For each layer that fires, a histogram over its neurons of the share of time steps in which they fired.

    ``spikes``: list of int arrays (samples, time steps, n_out), one for each layer.
    """
    firing = [(layer, z) for layer, z in zip(network.layers, spikes, strict=True) if not isinstance(layer.fire, Silent)]
    figure, panels = _grid(len(firing), 2.4)
    for axis, (layer, z) in zip(panels, firing, strict=True):
        rate = (z != 0).mean(axis=(0, 1)) * 100
        axis.hist(rate, bins=np.linspace(0, max(10, np.ceil(rate.max() / 10) * 10), 21), color=PLAIN, rwidth=0.9)
        axis.axvline(rate.mean(), ymax=0.85, color=SEEN, lw=1.2, ls="--", label=f"mean {rate.mean():.1f}%")
        axis.set_title(f"{layer.name}: {(rate == 0).sum()} of {len(rate)} never fire", loc="left")
        axis.set_xlabel("% of the time steps")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axis)
    panels[0].set_ylabel("neurons")
    return figure


@_drawn
def events(network, entering, assumed=None):
    """For each layer, a histogram over time steps of the events that entered it.

    Parameters
    ----------
    entering : int array (time steps of all samples, layers)
    assumed : list of float, optional
        the mean that the compiler reckoned with, for each layer
    """
    figure, panels = _grid(len(network.layers), 2.4)
    for number, (axis, layer) in enumerate(zip(panels, network.layers, strict=True)):
        seen = entering[:, number]
        low, high = int(seen.min()), int(seen.max())
        width = max(1, -(-(high - low + 1) // 30))
        axis.hist(seen, bins=np.arange(low, high + 2 * width, width) - 0.5, color=PLAIN, rwidth=0.9)
        axis.axvline(seen.mean(), ymax=0.85, color=SEEN, lw=1.2, ls="--", label=f"mean {seen.mean():.1f}")
        if assumed is not None:
            axis.axvline(assumed[number], ymax=0.85, color=MUTED, lw=1.2, ls=":",
                         label=f"placed for {assumed[number]:.1f}")
        axis.set_title(f"into {layer.name}", loc="left")
        axis.set_xlabel("events in a time step")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axis)
    panels[0].set_ylabel("time steps")
    return figure


def _grid(count, height):
    """A figure of ``count`` panels, up to three side by side, each row so high."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure = _figure(max(4.2, 3.3 * columns), height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in panels[count:]:
        axis.set_axis_off()
    return figure, panels[:count]


def _legend(axis):
    """The legend of a histogram, with room above the bars."""
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])
    axis.legend(loc="upper right", ncols=2, frameon=False, fontsize=7.5, borderpad=0, columnspacing=1)
