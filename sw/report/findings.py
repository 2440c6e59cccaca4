"""All that was measured of one run: a short table for the terminal, and one HTML file that needs nothing else."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from spikeloom import reference, tasks
from spikeloom.compiler import worth
from spikeloom.compiler.cost import estimate_blocks, measure, predict
from spikeloom.compiler.program import Program
from spikeloom.compiler.target import find
from spikeloom.errors import SpikeloomError
from spikeloom.network import INPUT, Network, Silent

from . import meters

#: Simulations on these backends show gateware; the others show what their name says.
GATEWARE = ("amaranth", "verilator", "icarus", "netlist")

#: Inputs, spikes and membranes that the reference makes at a time; and synaptic operations that it may take for a test
#: set, some minutes. Of a larger one only the first samples are run.
VALUES, WORK = 2**23, 2**37

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
    labels : array (samples, ...) or None
        as the task (`spikeloom.tasks`) has them
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
    """What the reference made of the first samples of a test set of so many: ``labels``, ``winners`` and ``scores``,
    arrays (samples,), and the `spikeloom.report.meters.Activity` of each layer."""

    labels: np.ndarray
    scores: np.ndarray
    available: int
    activity: list = field(default_factory=list)

    @property
    def winners(self):
        """The class of the highest score, int array (samples,)."""
        return self.scores.argmax(1)

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
    checkpoint : spikeloom.training.train.State or None
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
        if program is not None and program.network.digest != network.digest:
            missing.append("accuracy without the gates that the program leaves out: it was measured with them")
            network = program.network
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
    def task(self):
        """What the scores are for (`spikeloom.tasks`)."""
        return tasks.of(self.network)

    @cached_property
    def accuracies(self):
        """Rows of (what, the task's figure, samples or None, remark), from training to gateware."""
        noted = self.network.notes.get("accuracy", {})
        whole = self.test.available if self.test else None
        rows = [(name, noted[key], whole, "as measured after training")
                for name, key in (("float", "float"), ("torch-integer", "torch")) if noted.get(key) is not None]
        if self.test:
            rows.append(("reference", self.task.measure(self.test.scores, self.test.labels), len(self.test.labels),
                         "recomputed here" + ("" if self.test.whole else f", on the first of {whole:,}")))
        if self.simulation and self.simulation.labels is not None:
            rows.append((self.simulation.name, self.task.measure(self.simulation.seen.scores, self.simulation.labels),
                         len(self.simulation.labels), self.simulation.backend))
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
        """The `spikeloom.report.meters.Memory` of each layer."""
        return meters.memory(self.network)

    @cached_property
    def activity(self):
        """The `spikeloom.report.meters.Activity` of each layer on the simulated samples, or else on the test set; empty
        where there is neither."""
        if self.simulation:
            return meters.activity(self.network, self.simulation.inputs, self.simulation.seen)
        return self.test.activity if self.test else []

    @cached_property
    def flops(self):
        """The `spikeloom.report.meters.Flops` of each layer, where there is activity."""
        return meters.flops(self.network, self.activity) if self.activity else []

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
            of = f" of {samples:,} samples" if samples else ""
            rows.append((f"{self.task.figure}, {name}", f"{share:.2%}{of}"))
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
                ("membranes", f"{meters.bytes_of(membranes):,} bytes"),
                ("weights and membranes", meters.savings(self.memory))]
        if self.activity:
            fire = [(layer.n_out, each.rate) for layer, each in zip(self.network.layers, self.activity, strict=True)
                    if not isinstance(layer.fire, Silent)]
            if fire:
                mean = sum(count * rate for count, rate in fire) / sum(count for count, _ in fire)
                rows.append(("spike rate", f"{mean:.1%} of neurons in a time step"))
            total = sum(each.operations for each in self.activity)
            rows.append(("synaptic operations", f"{total:,.0f} per sample"))
            dense, saved = sum(each.dense for each in self.flops), meters.reduction(self.flops)
            rows.append(("FLOPs of a dense network",
                         f"{dense:,} per time step, of which gates and potentials at zero save {saved:.1%}"))
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
    left_out = set(worth.gates(network)) - set(worth.gates(program.network))
    _same(path, "is of network", program.network.digest, [worth.without(network, left_out).digest])
    return program


def _simulation(path, network, program):
    from spikeloom.sim import trace
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
    if labels is not None:
        try:
            tasks.of(network).check_labels(labels, len(inputs))
        except SpikeloomError as error:
            raise SpikeloomError(f"{path}: {error}") from None
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
    from spikeloom.boards import BuildReport
    build = BuildReport.load(folder)
    if program is not None:
        _same(folder, "is of program", build.program, [program.digest])
    _same(folder, "is of network", build.network, [network.digest])
    return build


def _certificate(folder, network, program):
    from spikeloom.sim import prove
    path = folder / prove.FILE
    if not path.exists():
        return None
    certificate = prove.Certificate.load(path)
    _same(path, "is of network", certificate.network, [network.digest])
    if program is not None:
        _same(path, "is of program", certificate.program, [program.digest])
    return certificate


def _checkpoint(path, network):
    from spikeloom.training.train import load
    state = load(path)
    if "config" in network.notes:
        _same(path, "is of configuration", state.config.digest, [network.notes["config"]])
    return state


def _test(network, data_dir):
    """The reference on the test set, or on so much of it as `WORK` allows."""
    if "data" not in network.notes:
        raise SpikeloomError("the network does not say which data it was trained on")
    import torch
    from spikeloom import data
    dataset, encoder = data.described(network.notes["data"])
    loaded, labels = data.load(dataset, "test", data_dir, encoder)
    work = network.time_steps * sum(branch.weights.size * math.prod(branch.shape[:2])
                                    for layer in network.layers for branch in layer.branches)
    count = min(len(labels), WORK // work)
    if not count:
        raise SpikeloomError(f"a sample takes up to {work:.1e} synaptic operations, too many for the reference")
    scores, seen, batch = [], [], _batch(network)
    for start in range(0, count, batch):
        inputs = encoder(torch.from_numpy(loaded[start:min(start + batch, count)])).numpy()
        run = reference.run(network, inputs)
        scores.append(run.scores)
        seen.append((len(inputs), meters.activity(network, inputs, run)))
    return Classified(labels[:count], np.concatenate(scores), len(labels), meters.mean(seen))


def _shape(network):
    """The shape of the images or frames that inputs are, or None where they are not."""
    shape = network.input.shape
    if "data" in network.notes and shape[:2] == (1, 1):
        from spikeloom import data
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
