"""One trial of a study: trained, quantized, compiled, held to the reference in simulation; and what came of it."""

from __future__ import annotations

import contextlib
import fcntl
import json

import tomli_w
from spikeloom import data, energy, files
from spikeloom.compiler import compile, cost
from spikeloom.compiler.target import find
from spikeloom.errors import SpikeloomError
from spikeloom.network import Network
from spikeloom.report import meters
from spikeloom.sim import backend
from spikeloom.training import config as configuration
from spikeloom.training import model
from spikeloom.training.quantize import quantize
from spikeloom.training.train import load as load_checkpoint
from spikeloom.training.train import train

#: Test samples whose activity tells spikes and energy.
ACTIVE = 100


def run(definition, values, out, *, start=None, data_dir=None, device=None, progress=False):
    """Do one trial; its figures by name.

    What is there already is not done again, so a trial that was killed goes on from its last epoch, and one that only
    differs in what the compiler does needs no training.

    Parameters
    ----------
    definition : Definition
    values : dict
        of the parameters
    out : path
        the study's folder. ``runs/DIGEST`` in it gets ``config.toml``, which `train` takes too, the checkpoint and the
        network; ``programs/DIGEST`` the program and ``figures.json``.
    start : path, optional
        the checkpoint to start from
    data_dir, device
        as in `spikeloom.training.train.train`
    progress : bool
        whether to show it

    Returns what `spikeloom.study.results.COLUMNS` names, and "run" and "program": those folders. Raises
    `SpikeloomError` when the network does not fit the target, or when gateware and reference differ.
    """
    config, placing = definition.config(values), definition.placing(values)
    with alone(out / "runs" / config.digest[:16]) as folder:
        files.write_text(folder / "config.toml", tomli_w.dumps(_set(configuration.describe(config))))
        checkpoint = train(config, folder, data_dir=data_dir, device=device, progress=progress, start=start)
        if not (folder / "network.npz").exists():
            quantize(checkpoint, data_dir=data_dir, device=device).save(folder / "network.npz")
    network = Network.load(folder / "network.npz")
    program = place(network, **placing)
    placed = out / "programs" / program.digest[:16]
    program.save(placed / "program.npz")
    inputs, _ = data.samples(network.notes["data"], "test", ACTIVE, data_dir)
    spikes = model.run(network, inputs, device=device).spikes
    seen = backend.verify(program, inputs[:definition.samples], definition.backend, folder=out / "sim")
    if seen.difference is not None:
        raise SpikeloomError(f"{placed}: the gateware differs from the reference: {seen.difference}")
    memory = meters.memory(network)
    figures = {
        "accuracy": load_checkpoint(checkpoint).accuracy,
        "energy": energy.estimate(energy.of_network(network, inputs, spikes)).energy * 1e-6,
        "cycles": seen.cycles / definition.samples,
        "predicted": program.notes["cycles_per_sample"],
        "luts": sum(row["luts"] for row in program.notes["layers"]),
        "blocks": sum(row["blocks"] for row in program.notes["layers"]),
        "weight_bytes": sum(each.stored_bits for each in memory) / 8,
        "sparsity": sum(each.zeros for each in memory) / sum(each.weights for each in memory),
        "spikes": sum(int((z != 0).sum()) for z in spikes) / len(inputs),
        "sparse": [row["layer"] for row, each in zip(program.notes["layers"], program.placements, strict=True)
                   if each.sparse],
        "run": folder.name,
        "program": placed.name,
    }
    files.write_text(placed / "figures.json", json.dumps(figures, indent=1) + "\n")
    return figures


@contextlib.contextmanager
def alone(folder):
    """The ``folder``, made if needed, for one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def place(network, target, lanes=None, sparse="auto"):
    """The `Program` of ``network`` on a target; ``lanes``: at most so many for each layer, of which it gets what is
    fastest."""
    if lanes is None:
        return compile.compile(network, target, sparse=sparse)
    placements = []
    for number, activity in enumerate(cost.known(network)):
        options = [each for each in compile.estimates(network, number, find(target), activity)
                   if each.placement.lanes <= lanes]
        if not options:
            raise SpikeloomError(f"Layer {network.layers[number].name}: cannot do with {lanes} lanes")
        placements.append(min(options, key=lambda each: (each.cycles, each.luts)).placement)
    return compile.compile(network, target, placements=placements)


def _set(described):
    """A described configuration without what is not set, which TOML cannot say."""
    if isinstance(described, dict):
        return {key: _set(value) for key, value in described.items() if value is not None}
    return [_set(each) for each in described] if isinstance(described, list) else described
