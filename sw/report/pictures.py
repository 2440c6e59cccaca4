"""The figures of a report. Each is drawn by itself, without matplotlib's global state, and comes as SVG text."""

import functools
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from spikeloom.network import Conv2d, Silent

#: The reference is drawn wide and pale, what is held to it narrow and dark on top; differences in red.
REFERENCE, SEEN, PLAIN, MUTED, WRONG = "#8ab6dc", "#b4430f", "#4a7fae", "#7b8794", "#d00000"

#: Membranes are shown of so many neurons of each layer.
TRACED = 4

#: Spikes of either polarity.
OFF, ON = "#2f6db5", "#d0482f"

#: Layers of a sample side by side; frames of one; samples whose activity is drawn one by one.
ACROSS, FRAMES, SINGLE = 4, 8, 20

#: Of more layers than this, spikes and membranes are shown of some only.
RASTER_LAYERS, TRACED_LAYERS = 11, 6

#: Kernels are shown of layers with so many channels in at most, of so many channels out, so many side by side.
KERNEL_CHANNELS, KERNELS, KERNELS_ACROSS = 3, 64, 16

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
    @functools.wraps(draw)
    def picture(*args, **options):
        with matplotlib.rc_context(_STYLE):
            file = io.StringIO()
            draw(*args, **options).savefig(file, format="svg", dpi=150, metadata={"Date": None})
            return file.getvalue()
    return picture


def _figure(width, height):
    return Figure(figsize=(width, height), layout="constrained")


# Samples ----------------------------------------------------------------------------------------


@_drawn
def rasters(network, inputs, expected, seen, sample, *, shape=None, name="gateware"):
    """One sample: its input, then each layer's spikes (of silent layers the membranes), reference beside ``name``. Of
    maps it is how much there was at each position. Of many layers some are left out, but none that differs.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    expected, seen : Trace
    shape : (rows, columns, channels), optional
        of the image that the inputs are; it is drawn as its mean over time
    """
    shown = _shown(expected.spikes, seen.spikes, sample, RASTER_LAYERS)
    rows, columns = _rows_and_columns(1 + len(shown), ACROSS)
    widths = [2.1 if rows == 1 else 2.9] + [2.9] * (columns - 1)
    figure = _figure(sum(widths), 3.1 * rows)
    parts = figure.subfigures(rows, columns, width_ratios=widths, squeeze=False).ravel()
    _input(parts[0], inputs[sample], network.input.bounds[1], shape)
    for part, number in zip(parts[1:], shown, strict=False):
        layer = network.layers[number]
        silent = isinstance(layer.fire, Silent)
        what = "membranes" if silent else "spikes"
        pair = [getattr(trace, what)[number][sample] for trace in (expected, seen)]
        wrong = pair[0] != pair[1]
        part.suptitle(f"{layer.name}: {int(wrong.sum()):,} of {wrong.size:,} {what} differ", fontsize=9,
                      color=WRONG if wrong.any() else "black")
        axes = part.subplots(1, 2, sharex=True, sharey=True)
        for axis, title, color in zip(axes, ("reference", name), (PLAIN, SEEN), strict=True):
            axis.set_title(title, color=color, fontsize=8.5)
        if is_map(layer.shape):
            _positions(axes, pair, wrong, layer.shape)
            continue
        for axis, values, color in zip(axes, pair, (PLAIN, SEEN), strict=True):
            if silent:
                _heat(axis, values, max(1, max(int(np.abs(each).max()) for each in pair)))
            else:
                _marks(axis, values, color)
            _time_axis(axis, len(values))
        axes[0].set_ylabel("neuron")
        step, neuron = np.nonzero(wrong)
        axes[1].plot(step, neuron, "o", ms=7, mfc="none", mec=WRONG, mew=1.6)
    return figure


def is_map(shape):
    """Whether there is more than one position in a map of that shape."""
    return shape[:2] != (1, 1)


def _input(part, values, high, shape):
    """The input (time steps, n_in) of one sample, as an image where it is one."""
    part.suptitle("input", fontsize=9)
    axis = part.subplots()
    if shape is None:
        _marks(axis, values, "#333333", high)
        _time_axis(axis, len(values))
        axis.set_ylabel("input")
        return
    mean = values.mean(axis=0).reshape(shape)
    if shape[2] == 2 and mean.any():
        high = np.quantile(mean[mean > 0], 0.95)  # events are few
    _image(axis, np.minimum(mean / high, 1))


def _image(axis, values):
    """Values (rows, columns, channels) from 0 to 1 in grey, for two channels in the colours of polarities, for three in
    their own."""
    if values.shape[2] == 2:
        # Colours take away from white, so that where there is much of both it is dark.
        missing = 1 - np.array([matplotlib.colors.to_rgb(color) for color in (OFF, ON)])
        colors = (1 - values[..., None] * missing).prod(axis=2)
    elif values.shape[2] == 3:
        colors = values
    else:
        colors = np.repeat(1 - values.max(axis=2, keepdims=True), 3, axis=2)
    axis.pcolormesh(colors[::-1], rasterized=True)
    axis.set_aspect("equal", anchor="N")
    _frame(axis)


def _frame(axis):
    """Axes of an image: no numbers, a thin line around."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(visible=True, color="#cccccc")


def _positions(axes, pair, wrong, shape):
    """Two maps beside each other: sums of magnitudes (time steps, n_out) at each position, and rings around those where
    any differ."""
    totals = [np.abs(values).reshape(-1, *shape).sum(axis=(0, 3)) for values in pair]
    for axis, total, color in zip(axes, totals, (PLAIN, SEEN), strict=True):
        shades = matplotlib.colors.LinearSegmentedColormap.from_list("", ["white", color, "black"])
        axis.pcolormesh(total, cmap=shades, vmin=0, vmax=max(1, *(each.max() for each in totals)), rasterized=True)
        axis.set_aspect("equal", anchor="N")
        _frame(axis)
    axes[0].invert_yaxis()  # of both
    row, column = np.nonzero(wrong.reshape(-1, *shape).any(axis=(0, 3)))
    axes[1].plot(column + 0.5, row + 0.5, "o", ms=7, mfc="none", mec=WRONG, mew=1.6)


@_drawn
def boxes(inputs, shape, high, found, labels, names):
    """Boxes in the images or frames that they were found in.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    shape : (rows, columns, channels)
    high : int
        the largest value there can be
    found : list of `spikeloom.detection.boxes.Found`, for each sample
    labels : float array (samples, boxes, 5), or None
    names : of classes
    """
    rows, columns = _rows_and_columns(len(inputs), 3)
    width = 10 / max(2, columns)
    figure = _figure(width * columns, width * rows * shape[0] / shape[1] + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    colors = [matplotlib.colormaps["tab10"](number % 10) for number in range(len(names))]
    for axis in panels[len(inputs):]:
        axis.set_axis_off()
    for number, axis in enumerate(panels[:len(inputs)]):
        mean = inputs[number].mean(axis=0).reshape(shape)
        if shape[2] == 2 and mean.any():
            high = np.quantile(mean[mean > 0], 0.95)  # events are few
        _image(axis, np.minimum(mean / high, 1))
        drawn = [(int(kind), box, None) for kind, *box in (() if labels is None else labels[number]) if kind >= 0]
        drawn += zip(found[number].classes, found[number].boxes, found[number].confidence, strict=True)
        for kind, (x, y, w, h), confidence in drawn:
            left, upper = (x - w / 2) * shape[1], (1 - y + h / 2) * shape[0]
            axis.add_patch(Rectangle((left, upper - h * shape[0]), w * shape[1], h * shape[0], fill=False,
                                     color=colors[kind], lw=0.9 if confidence is None else 1.4,
                                     ls=":" if confidence is None else "-"))
            if confidence is not None:
                axis.text(left, upper, f"{confidence:.0%}", color=colors[kind], fontsize=6, va="bottom",
                          clip_on=True)
        axis.set(xlim=(0, shape[1]), ylim=(0, shape[0]))
    figure.legend([Line2D([], [], color=color) for color in colors], names, loc="outside upper right",
                  ncols=len(names), frameon=False, fontsize=8)
    return figure


@_drawn
def frames(inputs, sample, shape, high):
    """What came in for one sample, frame by frame; of many only some.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    shape : (rows, columns, channels)
        of a frame; two channels are polarities, off and on
    high : int
        the largest value there can be
    """
    steps = inputs.shape[1]
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, FRAMES)).round().astype(int))
    width = 10 / FRAMES
    figure = _figure(width * len(chosen) + 0.1, width * min(2, max(0.5, shape[0] / shape[1])) + 0.35)
    for axis, step in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        _image(axis, np.minimum(inputs[sample, step].reshape(shape) / high, 1))
        axis.set_title(f"time step {step}", fontsize=7.5)
    return figure


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
    """One sample: membranes of some neurons of each layer, ``name`` dashed over the reference, and spikes. Of many
    layers some are left out, but none that differs."""
    shown = _shown(expected.membranes, seen.membranes, sample, TRACED_LAYERS)
    figure = _figure(10, 1.9 * len(shown) + 0.35)
    panels = figure.subplots(len(shown), TRACED, squeeze=False)
    width = 6 if seen.spikes[0].shape[1] < 40 else 4
    kinds = {"reference": {"color": REFERENCE, "lw": width, "solid_capstyle": "round"},
             name: {"color": SEEN, "lw": 1.5, "ls": "--"},
             "threshold": {"color": MUTED, "lw": 1, "ls": ":"},
             "spike": {"color": SEEN, "marker": "v", "ms": 5, "ls": ""}}
    for row, number in zip(panels, shown, strict=True):
        layer = network.layers[number]
        reference, other = expected.membranes[number][sample], seen.membranes[number][sample]
        fired = seen.spikes[number][sample]
        time = np.arange(-1, len(reference))  # from before the first time step, where potentials are zero
        chosen = _telling(layer, reference, expected.spikes[number][sample], (reference != other).any(axis=0))
        for axis in row[len(chosen):]:
            axis.set_axis_off()
        for axis, neuron in zip(row, chosen, strict=False):
            where = np.unravel_index(neuron, layer.shape)
            place = f" [{', '.join(map(str, where))}]" if is_map(layer.shape) else f", neuron {neuron}"
            axis.set_title(layer.name + place, loc="left")
            if not isinstance(layer.fire, Silent):
                axis.axhline(layer.threshold[where[2]], **kinds["threshold"])
            axis.plot(time, [0, *reference[:, neuron]], **kinds["reference"])
            axis.plot(time, [0, *other[:, neuron]], **kinds[name])
            low, high = axis.get_ylim()
            margin = max(1, high - low) * 0.12
            axis.set_ylim(low - margin, high + 2 * margin)
            spikes = np.flatnonzero(fired[:, neuron])
            axis.plot(spikes, np.full(len(spikes), high + 1.3 * margin), **kinds["spike"])
            axis.set_xticks(np.arange(0, len(reference), -(-len(reference) // 8)))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        row[0].set_ylabel("membrane potential")
    for axis in panels[-1]:
        axis.set_xlabel("time step")
    figure.legend([Line2D([], [], **kind) for kind in kinds.values()], kinds, loc="outside upper right",
                  ncols=len(kinds), frameon=False, fontsize=8)
    return figure


def _shown(expected, seen, sample, most):
    """Numbers of layers to show: so many at most, spread evenly, and all that differ."""
    differ = [number for number, pair in enumerate(zip(expected, seen, strict=True))
              if not np.array_equal(*(values[sample] for values in pair))]
    evenly = np.linspace(0, len(seen) - 1, min(len(seen), most)).round()
    return sorted({*differ, *evenly.astype(int).tolist()})


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
    """For each layer, how its weights are spread over the levels of their grid; its attention's and its branches' by
    themselves."""
    spread = []
    for layer in network.layers:
        spread += [(name, branch.weights, branch.weight_format)
                   for name, branch in zip(layer.branch_names, layer.branches, strict=True)]
        if layer.attention:
            spread += [(f"{layer.name}, attention to {what}", weights, layer.attention.weight_format)
                       for what, weights in (("time", layer.attention.time_weights),
                                             ("channels", layer.attention.channel_weights))]
    figure, panels = _grid(len(spread), 2.5)
    for axis, (name, weights, form) in zip(panels, spread, strict=True):
        levels = np.unique(form.values)
        shares = np.array([(weights == level).mean() * 100 for level in levels])
        bars = axis.bar(np.arange(len(levels)), shares, width=0.8, color=PLAIN)
        if len(levels) <= 7:
            axis.bar_label(bars, [f"{share:.0f}%" for share in shares], fontsize=7.5, color="#444", padding=1)
        every = max(1, -(-len(levels) // 9))
        axis.set_xticks(np.arange(len(levels))[::every], [str(level) for level in levels[::every]])
        axis.set_title(f"{name}: {form.width}-bit {form.kind}", loc="left")
        axis.set_xlabel("weight")
        axis.margins(y=0.12)
    panels[0].set_ylabel("% of the weights")
    return figure


def has_kernels(layer):
    """Whether `kernels` of a layer say something by themselves: each sees more than one position, of few channels."""
    return isinstance(layer, Conv2d) and layer.kernel > 1 and layer.weights.shape[1] <= KERNEL_CHANNELS


@_drawn
def kernels(layer, channels):
    """The kernels of a convolution: one column for each channel out, with a square for each of its channels in, called
    ``channels`` (list of str)."""
    shown = layer.weights[:KERNELS]
    count, depth, k, _ = shown.shape
    across = min(count, KERNELS_ACROSS)
    down = -(-count // across)
    # Tiles with a line of nothing between them, and two between rows of kernels.
    tall = depth * (k + 1) + 1
    image = np.full((down * tall - 2, across * (k + 1) - 1), np.nan)
    for number, kernel in enumerate(shown):
        top, left = number // across * tall, number % across * (k + 1)
        for channel, weights in enumerate(kernel):
            first = top + channel * (k + 1)
            image[first:first + k, left:left + k] = weights
    figure = _figure(9, 9 * image.shape[0] / image.shape[1] + 0.4)
    axis = figure.subplots()
    reach = max(abs(bound) for bound in layer.weight_format.bounds)
    shades = matplotlib.colors.LinearSegmentedColormap.from_list("", [OFF, "#e9ecef", ON])
    mesh = axis.pcolormesh(image, cmap=shades, vmin=-reach, vmax=reach, edgecolors="white", lw=0.3, rasterized=True)
    axis.invert_yaxis()
    axis.set_aspect("equal")
    _frame(axis)
    axis.spines[:].set_visible(False)
    axis.set_yticks([row * tall + channel * (k + 1) + k / 2 for row in range(down) for channel in range(depth)],
                    list(channels) * down)
    axis.tick_params(length=0)
    bar = figure.colorbar(mesh, ax=axis, aspect=10, pad=0.01, label="weight", ticks=MaxNLocator(4, integer=True))
    bar.outline.set_visible(False)
    return figure


# Activity ---------------------------------------------------------------------------------------


@_drawn
def over_time(network, inputs, spikes):
    """For the input and each layer that fires, how many of its neurons do at each time step: of samples one by one, and
    their mean.

    Parameters
    ----------
    inputs : int array (samples, time steps, n_in)
    spikes : list of int arrays (samples, time steps, n_out), one for each layer
    """
    firing = [("input", inputs), *((layer.name, z) for layer, z in zip(network.layers, spikes, strict=True)
                                   if not isinstance(layer.fire, Silent))]
    figure, panels = _grid(len(firing), 2.1)
    for axis, (name, z) in zip(panels, firing, strict=True):
        share = (z != 0).mean(axis=2) * 100
        axis.plot(share[:SINGLE].T, color=REFERENCE, lw=0.7, alpha=0.8)
        mean = share.mean(axis=0)
        axis.plot(mean, color=SEEN, lw=1.8, marker="o", ms=3 if len(mean) < 30 else 0)
        axis.set_title(f"{name}: {mean.mean():.1f}% on average", loc="left")
        axis.set_ylim(bottom=0)
        _time_axis(axis, len(mean))
    panels[0].set_ylabel("% that fire")
    return figure


@_drawn
def maps(network, inputs, spikes, shape=None):
    """How often each position is active: of the input where it is an image of a ``shape``, and of each layer that is a
    map and fires. Means over samples, time steps and channels; arrays as for `over_time`."""
    found = [("input", inputs, shape)] if shape else []
    found += [(layer.name, z, layer.shape) for layer, z in zip(network.layers, spikes, strict=True)
              if is_map(layer.shape) and not isinstance(layer.fire, Silent)]
    figure, panels = _grid(len(found), 2.6)
    for axis, (name, z, shape) in zip(panels, found, strict=True):
        rate = np.count_nonzero(z, axis=(0, 1)).reshape(shape).mean(axis=2) * (100 / (z.shape[0] * z.shape[1]))
        mesh = axis.pcolormesh(rate, cmap="magma", vmin=0, rasterized=True)
        axis.invert_yaxis()
        axis.set_aspect("equal")
        axis.set_title(f"{name}, {' x '.join(map(str, shape))}")
        _frame(axis)
        figure.colorbar(mesh, ax=axis, shrink=0.85, aspect=14).outline.set_visible(False)
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
        axis.set_title(f"{layer.name}: {(rate == 0).sum():,} of {len(rate):,} never fire", loc="left")
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
    rows, columns = _rows_and_columns(count, 3)
    figure = _figure(max(4.2, 3.3 * columns), height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in panels[count:]:
        axis.set_axis_off()
    return figure, panels[:count]


def _rows_and_columns(count, most):
    """How ``count`` panels are arranged, up to ``most`` side by side and none alone in a row for want of balance."""
    rows = -(-count // most)
    return rows, -(-count // rows)


def _legend(axis):
    """The legend of a histogram, with room above the bars."""
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])
    axis.legend(loc="upper right", ncols=2, frameon=False, fontsize=7.5, borderpad=0, columnspacing=1)
