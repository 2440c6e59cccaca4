"""All that was measured of one run: a short table for the terminal, and one HTML file that needs nothing else."""

import base64
import dataclasses
import importlib.metadata
import json
import math
import platform
import re
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np

from . import files, meters, reference
from .cost import estimate_blocks, measure, predict
from .errors import SpikeloomError
from .network import INPUT, Conv2d, Network, Silent
from .program import Program
from .target import find

#: Simulations on these backends show gateware; the others show what their name says.
GATEWARE = ("amaranth", "verilator", "icarus", "netlist")

#: Inputs, spikes and membranes that the reference makes at a time; and synaptic operations that it may take for a test
#: set, some minutes. Of a larger one only the first samples are run.
VALUES, WORK = 2**23, 2**37

#: A title names each of so many layers at most.
MOST_NAMED = 8

#: Rows and columns from which on inputs are drawn as an image.
SMALLEST_IMAGE = 3


# Findings ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Simulated:
    """A simulation file, and the reference on the same inputs.

    Attributes
    ----------
    network : Network
    backend : str
    inputs : int array (samples, time steps, n_in)
    labels : int array (samples,) or None
    seen, expected : Trace
        of the backend, and of the reference as recomputed here
    difference : Difference or None
        the first one between the two
    cycles : int or None
        clock cycles of all samples together, where the backend has a clock
    """

    network: Network
    backend: str
    inputs: np.ndarray
    labels: np.ndarray | None
    seen: reference.Trace
    expected: reference.Trace
    difference: object
    cycles: int | None

    @property
    def name(self):
        return "gateware" if self.backend in GATEWARE else self.backend

    @property
    def potentials(self):
        """How many membrane potentials were compared, and as many spikes or silences."""
        return sum(layer.size for layer in self.seen.membranes)

    @property
    def spikes(self):
        """How many of them were spikes."""
        return sum(int((layer != 0).sum()) for layer in self.seen.spikes)

    @cached_property
    def differing(self):
        """How many spikes and membrane potentials differ."""
        pairs = [*zip(self.expected.spikes, self.seen.spikes, strict=True),
                 *zip(self.expected.membranes, self.seen.membranes, strict=True)]
        return sum(int((a != b).sum()) for a, b in pairs)

    @cached_property
    def entering(self):
        """Events that came from each layer's source, shortcuts left out, int array (time steps of all samples, layers):
        set bits of magnitudes."""
        fired = {INPUT: self.inputs} | {layer.name: z for layer, z in zip(self.network.layers, self.seen.spikes,
                                                                          strict=True)}
        return np.stack([np.bitwise_count(np.abs(fired[source])).sum(axis=2, dtype=np.int64).ravel()
                         for source, *_ in self.network.sources], axis=1)


@dataclass(frozen=True)
class Classified:
    """What the reference made of the first samples of a test set of so many: ``labels`` and ``winners``, int arrays
    (samples,), and the `spikeloom.meters.Activity` of each layer."""

    labels: np.ndarray
    winners: np.ndarray
    available: int
    activity: list = field(default_factory=list)

    @property
    def whole(self):
        """Whether these are all."""
        return len(self.labels) == self.available


@dataclass(frozen=True)
class Findings:
    """What a run's folder holds. All but the network may be None; ``missing`` then says so, and why.

    Attributes
    ----------
    network : Network
    program : Program or None
    simulation : Simulated or None
    build : spikeloom.boards.BuildReport or None
    checkpoint : spikeloom.train.State or None
    test : Classified or None
        the reference on the data set's test part
    shape : (rows, columns, channels) or None
        of the images or frames that inputs are
    missing : tuple of str
    certificate : spikeloom.sim.prove.Certificate or None
        what ``spikeloom prove`` showed; its absence is not told
    """

    network: Network
    program: Program | None = None
    simulation: Simulated | None = None
    build: object = None
    checkpoint: object = None
    test: Classified | None = None
    shape: tuple[int, int, int] | None = None
    missing: tuple[str, ...] = field(default=())
    certificate: object = None

    @classmethod
    def gather(cls, folder, data_dir=None):
        """Read ``network.npz``, ``program.npz``, ``simulation.npz``, ``build/build.json`` and ``checkpoint.pt``.

        Only the network has to be there. The reference runs again: on the simulation's inputs, to which the
        simulation is held once more, and on the test set (``data_dir`` as for `spikeloom.data.load`).

        Raises `SpikeloomError` when the folder or its network is missing, a file is damaged, or two files do not
        belong together.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise SpikeloomError(f"{folder}: no such folder")
        network = Network.load(folder / "network.npz")
        missing = []

        def present(path, why):
            if (folder / path).exists():
                return folder / path
            missing.append(f"{path}: {why}")
            return None

        path = present("program.npz", "nothing on lanes, cycles and memories")
        program = _program(path, network) if path else None
        path = present("simulation.npz", "nothing is held to the reference, no rasters and traces")
        simulation = _simulation(path, network, program) if path else None
        path = present("build/build.json", "nothing on the routed clock and the logic used")
        build = _build(path.parent, network, program) if path else None
        path = present("checkpoint.pt", "nothing on the training configuration")
        checkpoint = _checkpoint(path, network) if path else None
        try:
            test = _test(network, data_dir)
        except SpikeloomError as error:
            test = None
            missing.append(f"the test set: {error}")
        certificate = _certificate(folder, network, program)
        return cls(network, program, simulation, build, checkpoint, test, _shape(network), tuple(missing), certificate)

    # Figures ------------------------------------------------------------------------------------

    @cached_property
    def accuracies(self):
        """Rows of (what, share right, samples or None, remark), from training to gateware."""
        noted = self.network.notes.get("accuracy", {})
        whole = self.test.available if self.test else None
        rows = [(name, noted[key], whole, "as measured after training")
                for name, key in (("float", "float"), ("torch-integer", "torch")) if noted.get(key) is not None]
        if self.test:
            rows.append(("reference", float((self.test.winners == self.test.labels).mean()), len(self.test.labels),
                         "recomputed here" + ("" if self.test.whole else f", on the first of {whole:,}")))
        if self.simulation and self.simulation.labels is not None:
            right = float((self.simulation.seen.winners == self.simulation.labels).mean())
            rows.append((self.simulation.name, right, len(self.simulation.labels), self.simulation.backend))
        return rows

    @cached_property
    def cycles(self):
        """Clock cycles per sample of a stream: simulated, and predicted for the same events; or None each."""
        samples = len(self.simulation.inputs) if self.simulation else 0
        simulated = self.simulation.cycles / samples if samples and self.simulation.cycles is not None else None
        if not samples or not self.program:
            return simulated, None
        steps = measure(self.network, self.simulation.inputs, self.simulation.seen.spikes, self.program)
        return simulated, predict(self.program, steps) / samples

    @cached_property
    def memory(self):
        """The `spikeloom.meters.Memory` of each layer."""
        return meters.memory(self.network)

    @cached_property
    def activity(self):
        """The `spikeloom.meters.Activity` of each layer on the simulated samples, or else on the test set; empty where
        there is neither."""
        if self.simulation:
            return meters.activity(self.network, self.simulation.inputs, self.simulation.seen.spikes)
        return self.test.activity if self.test else []

    @cached_property
    def latency(self):
        """Clock cycles from a lone sample's first word to its last score, as predicted in compiling, or None."""
        return self.program.notes.get("cycles_per_sample") if self.program else None

    @property
    def clocks(self):
        """MHz to name, what runs on the board first: what it is made from, and what the routed design would allow."""
        if self.build:
            source = "PLL" if self.build.clock_source.startswith("PLL") else "oscillator"
            return {f"{self.build.board}'s {source}": self.build.target_clock, "routed": self.build.clock}
        if self.program:
            target = find(self.program.target)
            return {f"{target.name}'s oscillator": target.oscillator}
        return {}

    @cached_property
    def rows(self):
        """The short table: pairs of what and how much."""
        rows = []
        for name, share, samples, _ in self.accuracies:
            rows.append((f"accuracy, {name}", f"{share:.2%}" + (f" of {samples:,} samples" if samples else "")))
        simulated, predicted = self.cycles
        told = [f"{value:,.0f} {what}" for value, what in ((simulated, "simulated"), (predicted, "predicted"))
                if value is not None]
        if told:
            rows.append(("cycles per sample", ", ".join(told)))
        if self.clocks:
            rows.append(("clock", ", ".join(f"{clock:g} MHz ({name})" for name, clock in self.clocks.items())))
        pace = simulated if simulated is not None else predicted
        if pace is not None:
            rows.append(("time per sample", self._times(pace)))
        if self.latency is not None:
            said = f"{self._times(self.latency)} ({self.latency:,.0f} cycles, predicted)"
            rows.append(("latency of a lone sample", said))
        if self.build:
            build = self.build
            rows += [("LUTs", f"{build.luts:,}; {build.logic_used:,} of {build.logic_available:,} logic cells used"),
                     ("block RAMs", f"{build.blocks_used} of {build.blocks_available}")]
        elif self.program:
            target = find(self.program.target)
            luts = sum(row["luts"] for row in self.program.notes.get("layers", ()))
            blocks = sum(estimate_blocks(engine, target) for engine in self.program.engines)
            rows += [("LUTs", f"about {luts:,} of {target.luts:,} (predicted)")] if luts else []
            rows += [("block RAMs", f"{blocks} of {target.blocks} (predicted)")]
        rows += self._meters
        if self.simulation:
            rows.append((f"{self.simulation.name} against reference", self.verdict))
        return rows

    @property
    def _meters(self):
        """Rows on memory and activity."""
        weights, stored, zeros, membranes = (sum(getattr(each, name) for each in self.memory) for name in (
            "weights", "stored_bits", "zeros", "membrane_bits"))
        kept = f"{zeros / weights:.0%} zeros; {stored / weights:.3g} bits a weight in the cheapest format"
        rows = [("weights", f"{meters.bytes_of(self.network.weight_bits):,} bytes, {kept}"),
                ("membranes", f"{meters.bytes_of(membranes):,} bytes")]
        if self.activity:
            fire = [(layer.n_out, each.rate) for layer, each in zip(self.network.layers, self.activity, strict=True)
                    if not isinstance(layer.fire, Silent)]
            if fire:
                mean = sum(count * rate for count, rate in fire) / sum(count for count, _ in fire)
                rows.append(("spike rate", f"{mean:.1%} of neurons in a time step"))
            total = sum(each.operations for each in self.activity)
            rows.append(("synaptic operations", f"{total:,.0f} per sample"))
        return rows

    def _times(self, cycles):
        """How long so many cycles take, at each of the clocks."""
        return ", ".join(f"{_microseconds(cycles / clock)} at {clock:g} MHz" for clock in self.clocks.values())

    @property
    def verdict(self):
        """What holding the simulation to the reference showed, in a few words."""
        seen = self.simulation
        if seen.difference is not None:
            return f"DIFFERS at {seen.difference}"
        return (f"equal in {seen.spikes:,} spikes and {seen.potentials:,} membrane potentials "
                f"of {len(seen.inputs):,} samples")


def table(findings):
    """The short table, as text for a terminal."""
    width = max(len(name) for name, _ in findings.rows)
    return "\n".join([*(f"{name.ljust(width)}  {value}" for name, value in findings.rows),
                      *(f"missing: {what}" for what in findings.missing)])


# Reading ----------------------------------------------------------------------------------------


def _program(path, network):
    program = Program.load(path)
    _same(path, "is of network", program.network.digest, [network.digest])
    return program


def _simulation(path, network, program):
    from .sim import trace
    header, inputs, labels, seen = trace.load(path)
    digest, backend, cycles = (header.get(key) for key in ("digest", "backend", "cycles"))
    if not (isinstance(digest, str) and isinstance(backend, str) and isinstance(cycles, int | None)):
        raise SpikeloomError(f"{path}: does not say what was simulated, and in how many cycles")
    if program is not None:
        _same(path, "is of program", digest, [program.digest, network.digest])
    try:
        reference.check_inputs(network, inputs)
    except SpikeloomError as error:
        raise SpikeloomError(f"{path}: {error}") from None
    if not len(inputs):
        raise SpikeloomError(f"{path}: holds no samples")
    expected = _expected(network, inputs)
    for what in ("spikes", "membranes"):
        shapes = [[array.shape for array in getattr(run, what)] for run in (expected, seen)]
        if shapes[0] != shapes[1]:
            raise SpikeloomError(f"{path}: {what} have shapes {shapes[1]}, where the network's have {shapes[0]}")
    for what in ("scores", "winners"):
        if getattr(seen, what).shape != getattr(expected, what).shape:
            raise SpikeloomError(f"{path}: {what} have shape {getattr(seen, what).shape}, where the network's have "
                                 f"{getattr(expected, what).shape}")
    if labels is not None and labels.shape != seen.winners.shape:
        raise SpikeloomError(f"{path}: has labels of shape {labels.shape} for {len(inputs)} samples")
    if labels is not None and labels.dtype.kind not in "iu":
        raise SpikeloomError(f"{path}: labels must be integers, not {labels.dtype}")
    difference = trace.first_difference(network, expected, seen)
    return Simulated(network, backend, inputs, labels, seen, expected, difference, cycles)


def _expected(network, inputs):
    """The reference's `Trace` on ``inputs``, in integers of less bits than it computes with."""
    runs = []
    for start in range(0, len(inputs), batch := _batch(network)):
        run = reference.run(network, inputs[start:start + batch])
        runs.append(([z.astype(np.int16) for z in run.spikes], [v.astype(np.int32) for v in run.membranes],
                     run.scores, run.winners))
    spikes, membranes, scores, winners = zip(*runs, strict=True)
    return reference.Trace([np.concatenate(each) for each in zip(*spikes, strict=True)],
                           [np.concatenate(each) for each in zip(*membranes, strict=True)],
                           np.concatenate(scores), np.concatenate(winners))


def _batch(network):
    """Samples that the reference runs at a time."""
    return max(1, VALUES // (network.time_steps * (network.input.size + sum(layer.n_out for layer in network.layers))))


def _build(folder, network, program):
    from .boards import BuildReport
    build = BuildReport.load(folder)
    if program is not None:
        _same(folder, "is of program", build.program, [program.digest])
    _same(folder, "is of network", build.network, [network.digest])
    return build


def _certificate(folder, network, program):
    from .sim import prove
    path = folder / prove.FILE
    if not path.exists():
        return None
    certificate = prove.Certificate.load(path)
    _same(path, "is of network", certificate.network, [network.digest])
    if program is not None:
        _same(path, "is of program", certificate.program, [program.digest])
    return certificate


def _checkpoint(path, network):
    from .train import load
    state = load(path)
    if "config" in network.notes:
        _same(path, "is of configuration", state.config.digest, [network.notes["config"]])
    return state


def _test(network, data_dir):
    """The reference on the test set, or on so much of it as `WORK` allows."""
    if "data" not in network.notes:
        raise SpikeloomError("the network does not say which data it was trained on")
    import torch

    from . import data
    name, encoder = data.described(network.notes["data"])
    loaded, labels = data.load(name, "test", data_dir, encoder)
    work = network.time_steps * sum(branch.weights.size * math.prod(branch.shape[:2])
                                    for layer in network.layers for branch in layer.branches)
    count = min(len(labels), WORK // work)
    if not count:
        raise SpikeloomError(f"a sample takes up to {work:.1e} synaptic operations, too many for the reference")
    winners, seen, batch = [], [], _batch(network)
    for start in range(0, count, batch):
        inputs = encoder(torch.from_numpy(loaded[start:min(start + batch, count)])).numpy()
        run = reference.run(network, inputs)
        winners.append(run.winners)
        seen.append((len(inputs), meters.activity(network, inputs, run.spikes)))
    return Classified(labels[:count], np.concatenate(winners), len(labels), meters.mean(seen))


def _shape(network):
    """The shape of the images or frames that inputs are, or None where they are not."""
    shape = network.input.shape
    if "data" in network.notes and shape[:2] == (1, 1):
        from . import data
        dataset = data.DATASETS.get(network.notes["data"].get("dataset"))
        shape = dataset.shape if dataset and math.prod(dataset.shape) == network.input.size else shape
    return shape if min(shape[:2]) >= SMALLEST_IMAGE else None


def _same(path, what, found, allowed):
    """Raise `SpikeloomError` when a file at ``path`` does not belong to the others."""
    if found not in allowed:
        raise SpikeloomError(f"{path}: {what} {str(found)[:16]}, where this folder's is {allowed[0][:16]}; "
                             "make it again")


def _microseconds(value):
    return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"


# The page ---------------------------------------------------------------------------------------


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
        winners = int(simulation.expected.winners[sample]), int(simulation.seen.winners[sample])
        label = "" if simulation.labels is None else f": labelled {int(simulation.labels[sample])}"
        right = simulation.labels is None or winners[1] == simulation.labels[sample]
        remark = "" if right else ", which is wrong"
        parts.append(f"<h3>Sample {sample}{label}</h3><p>The reference says {winners[0]}, "
                     f"{escape(simulation.name)} says {winners[1]}{remark}.</p>")
        shape = findings.shape
        if shape and shape[2] > 1:
            colors = ": off in blue, on in red" if shape[2] == 2 else ", all channels together"
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


def _chosen(simulation):
    """Up to three samples: the one that differs, one classified wrong, and right ones, of different classes."""
    winners = simulation.seen.winners
    chosen = [] if simulation.difference is None else [simulation.difference.sample]
    wrong = [] if simulation.labels is None else np.flatnonzero(winners != simulation.labels)[:1]
    others = np.setdiff1d(np.arange(len(winners)), wrong)
    first_of_class = others[np.sort(np.unique(winners[others], return_index=True)[1])]
    for sample in [*first_of_class[:2], *wrong, *first_of_class[2:], *others]:
        if int(sample) not in chosen and len(chosen) < 3:
            chosen.append(int(sample))
    return chosen


def _accuracy(findings):
    if not findings.accuracies:
        return ""
    rows = [(name, f"{share:.2%}", "" if samples is None else f"{samples:,}",
             "" if samples is None else f"{round(share * samples):,}", remark)
            for name, share, samples, remark in findings.accuracies]
    parts = [_table(("", "accuracy", "samples", "right", ""), rows)]
    known, who = findings.test, "The reference on the whole test set"
    if known is not None and not known.whole:
        who = f"The reference on the first {len(known.labels):,} of {known.available:,} samples of the test set"
    simulation = findings.simulation
    if known is None and simulation is not None and simulation.labels is not None:
        known = Classified(simulation.labels, simulation.seen.winners, len(simulation.labels))
        who = f"The simulated samples ({simulation.backend})"
    classes = findings.network.n_out
    if known is not None and classes <= 20 and np.isin(known.labels, range(classes)).all():
        parts.append(f"<figure>{_confusion(known, classes)}<figcaption>{escape(who)}: rows are labels, "
                     "columns what the network said, so that all off the diagonal is a mistake.</figcaption></figure>")
    return _section("Accuracy", *parts)


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
                    "fewest.</p>")


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
    from .sim import prove
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
             span(layer.bias), f"{layer.v_width} bits", _words(layer.leak), layer.reset, _words(layer.fire))
            for layer in network.layers]
    head = ("layer", "size", "synapses", "weights", "zero", "threshold", "bias", "membrane", "leak", "reset", "fires")
    return _section("The network", f"<p>{escape(_summary(network))}.</p>", _table(head, rows))


def _words(kind):
    """A leak or a way of firing, in a word or two."""
    values = [value for value in dataclasses.astuple(kind) if not isinstance(value, tuple)]
    return " ".join([kind.kind, *([" to ".join(map(str, values))] if values else [])])


def sizes(layer):
    """What comes into a layer and what it is: numbers of neurons, or maps, as text."""
    return [_by(shape) if isinstance(layer, Conv2d) or ((layer.pool or layer.attention) and shape is layer.input_shape)
            else f"{size}" for shape, size in ((layer.input_shape, layer.n_in), (layer.shape, layer.n_out))]


def synapses(layer):
    """What is between the two, in a few words."""
    told = [] if layer.source is None else [f"from {layer.source}"]
    told.append(_branch(layer))
    if layer.shortcut:
        told.append(f"and from {layer.shortcut.source} {_branch(layer.shortcut)}")
    return ", ".join(told)


def _branch(branch):
    told = ["attention to time and channels"] if branch.attention else []
    if branch.pool:
        whole = (branch.pool.rows, branch.pool.columns) == branch.input_shape[:2]
        told.append(f"{branch.pool.kind} pool " + ("of all positions" if whole else _by((branch.pool.rows,
                                                                                       branch.pool.columns))))
    if branch.weights.ndim == 2:
        return ", ".join([*told, "dense"])
    k, channels = branch.kernel, branch.pooled_shape[2]
    depthwise = branch.groups == channels > 1
    told.append(f"{k}x{k} {'depthwise ' if depthwise else ''}conv")
    if branch.stride > 1:
        told.append(f"stride {branch.stride}")
    if branch.padding != k // 2:
        told.append(f"padding {branch.padding}")
    if branch.groups > 1 and not depthwise:
        told.append(f"{branch.groups} groups")
    return ", ".join(told)


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
        from .config import describe
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
