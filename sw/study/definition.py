"""What a study tries: a TOML file, read strictly.

    config = "fashion_mnist_cnn"          # packaged, or a path from the study file on
    target = "ulx3s-25f"                  # what networks are compiled for

    [start.set]                           # one run that all trials start from: how it differs from the configuration
    "training.epochs_float" = 10

    [set]                                 # how all trials differ from it
    "training.epochs_quantized" = 2

    [space.sparsity]                      # one setting and its values …
    key = "pruning.fraction"
    values = [0.0, 0.5, 0.9]

    [space.bits.choices]                  # … or named choices, each with several settings
    2 = { "layers.*.weights.width" = 2, "layers.*.v_width" = 6 }
    4 = { "layers.*.weights.width" = 4, "layers.*.v_width" = 9 }

A setting is the path of a key in the configuration, ``*`` being every entry of a list, or one of `COMPILE`. A setting
also has ``low`` and ``high`` (both integers: integers between them) instead of ``values``.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import dataclass, field

from spikeloom import files
from spikeloom.compiler.compile import SPARSE
from spikeloom.compiler.target import find
from spikeloom.errors import SpikeloomError
from spikeloom.training import config as configuration

PACKAGED = configuration.PACKAGED / "studies"

#: Metrics that a sampler can go for, and which way.
OBJECTIVES = {"accuracy": "maximize", "energy": "minimize", "cycles": "minimize", "luts": "minimize",
              "blocks": "minimize", "weight_bytes": "minimize"}

#: Settings of the compiler: the target, the most lanes that a layer gets, and what becomes sparse.
COMPILE = ("compile.target", "compile.lanes", "compile.sparse")

#: Backends that show spikes, membrane potentials and clock cycles.
SIMULATORS = ("verilator", "icarus", "amaranth")

SAMPLERS = ("grid", "random", "tpe", "nsga2")


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space.

    Parameters
    ----------
    name : str
    choices : dict or None
        from what a table shows to the settings that it stands for (path to value)
    key : str, optional
        without ``choices``, the setting that gets a number from ``low`` to ``high``
    """

    name: str
    choices: dict | None = None
    key: str | None = None
    low: float = 0
    high: float = 0

    def settings(self, value):
        """What a ``value`` of the parameter sets."""
        return {self.key: value} if self.choices is None else self.choices[value]

    def suggest(self, trial):
        """A value for an Optuna trial."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, list(self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high)
        return trial.suggest_float(self.name, self.low, self.high)


@dataclass(frozen=True)
class Definition:
    """A study.

    Parameters
    ----------
    content : dict
        the configuration's own content (`spikeloom.training.config.describe`), before anything is set
    parameters : tuple of Parameter
    target : str
    set, start : dict
        settings of all trials; of the run that they start from, None where each starts afresh
    sampler : one of `SAMPLERS`
        "grid" tries all combinations once
    trials : int
        how many, for other samplers
    objectives : tuple of str
        of `OBJECTIVES`
    samples, backend : int, str
        test samples on which gateware is held to the reference, and cycles counted, and what simulates it
    seed : int
        of the sampler
    """

    content: dict
    parameters: tuple[Parameter, ...]
    target: str
    set: dict = field(default_factory=dict)
    start: dict | None = None
    sampler: str = "grid"
    trials: int = 0
    objectives: tuple[str, ...] = ("accuracy", "energy")
    samples: int = 4
    backend: str = "verilator"
    seed: int = 0

    def __post_init__(self):
        find(self.target)
        if not self.parameters:
            raise SpikeloomError("a study needs at least one parameter, [space.NAME]")
        if self.sampler not in SAMPLERS:
            raise SpikeloomError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.sampler == "grid":
            for parameter in self.parameters:
                if parameter.choices is None:
                    raise SpikeloomError(f"space.{parameter.name}: a grid needs values or choices, not low and high")
        elif self.trials < 1:
            raise SpikeloomError(f"trials must be 1 or more with sampler {self.sampler!r}, not {self.trials}")
        if not self.objectives or any(each not in OBJECTIVES for each in self.objectives):
            raise SpikeloomError(f"objectives must be of {', '.join(OBJECTIVES)}, not {list(self.objectives)}")
        if self.samples < 1:
            raise SpikeloomError(f"samples must be 1 or more, not {self.samples}")
        if self.backend not in SIMULATORS:
            raise SpikeloomError(f"backend must be one of {', '.join(SIMULATORS)}, not {self.backend!r}")
        if self.start is not None:
            self.start_config()
        for parameter in self.parameters:  # a mistake in any of them is told before the first trial
            for value in parameter.choices or (parameter.low, parameter.high):
                self.config({other.name: _first(other) for other in self.parameters} | {parameter.name: value})

    @property
    def combinations(self):
        """All of a grid: dicts of parameter names to values."""
        names = [parameter.name for parameter in self.parameters]
        return [dict(zip(names, values, strict=True))
                for values in itertools.product(*(parameter.choices for parameter in self.parameters))]

    @property
    def fields(self):
        """All that makes it what it is, JSON-serialisable."""
        return {**vars(self), "content": configuration.identity(self.content), "objectives": list(self.objectives),
                "parameters": [vars(parameter) for parameter in self.parameters]}

    def settings(self, values):
        """All that is set for a trial with these ``values`` of the parameters, in the order in which it is."""
        settings = dict(self.set)
        for parameter in self.parameters:
            settings |= parameter.settings(values[parameter.name])
        return settings

    def config(self, values):
        """The `Config` of such a trial."""
        return self._with(self.settings(values), f"with {_shown(values)}")

    def placing(self, values):
        """What the compiler is told: {"target": …, "lanes": …, "sparse": …}, as far as it is."""
        settings = {"compile.target": self.target} | self.settings(values)
        return {path.partition(".")[2]: value for path, value in settings.items() if path in COMPILE}

    def start_config(self):
        """The `Config` of the run that all trials start from, or None."""
        return None if self.start is None else self._with(self.start, "the run to start from")

    def _with(self, settings, what):
        content = copy.deepcopy(self.content)
        for path, value in settings.items():
            if path == "compile.target":
                find(value)
            elif path == "compile.lanes":
                if not isinstance(value, int) or value < 1:
                    raise SpikeloomError(f"compile.lanes must be 1 or more, not {value!r}")
            elif path == "compile.sparse":
                if value not in SPARSE:
                    raise SpikeloomError(f"compile.sparse must be one of {', '.join(SPARSE)}, not {value!r}")
            else:
                _set(content, path, value)
        return configuration.from_description(content, what)


def load(path):
    """The `Definition` in a TOML file, or the packaged one of that name; raises `SpikeloomError` when it is none."""
    content, path = files.toml(path, PACKAGED, "study")
    try:
        return _definition(content, path.parent)
    except SpikeloomError as error:
        raise SpikeloomError(f"{path}: {error}") from None


def _definition(content, folder):
    content = dict(content)
    for key, wanted in (("config", str), ("target", str), ("space", dict)):
        if not isinstance(content.get(key), wanted):
            raise SpikeloomError(f"{key} must be {'a table' if wanted is dict else 'a string'}, "
                                 f"not {content.get(key)!r}")
    config = content.pop("config")
    base = configuration.load(folder / config if config.endswith(".toml") else config)
    parameters = tuple(_parameter(name, table) for name, table in content.pop("space").items())
    start = content.pop("start", None)
    if start is not None and (not isinstance(start, dict) or set(start) - {"set"}):
        raise SpikeloomError(f"start must be a table with nothing but set, not {start!r}")
    kinds = {"target": str, "set": dict, "sampler": str, "trials": int, "objectives": list, "samples": int,
             "backend": str, "seed": int}
    for key, value in content.items():
        if key not in kinds:
            raise SpikeloomError(f"{key} is unknown; known here are config, space, start, {', '.join(kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise SpikeloomError(f"{key} must be of type {kinds[key].__name__}, not {value!r}")
    if "objectives" in content:
        content["objectives"] = tuple(content["objectives"])
    return Definition(configuration.describe(base), parameters, **content,
                      start=None if start is None else start.get("set", {}))


def _parameter(name, table):
    where = f"space.{name}"
    if not isinstance(table, dict):
        raise SpikeloomError(f"{where} must be a table, not {table!r}")
    if set(table) == {"choices"}:
        choices = table["choices"]
        if not isinstance(choices, dict) or not all(isinstance(each, dict) for each in choices.values()) or not choices:
            raise SpikeloomError(f"{where}: choices must be a table of tables of settings, not {choices!r}")
        return Parameter(name, choices)
    if set(table) == {"key", "values"} and isinstance(table["values"], list) and table["values"]:
        return Parameter(name, {_label(value): {table["key"]: value} for value in table["values"]})
    if set(table) == {"key", "low", "high"} and all(isinstance(table[end], int | float) for end in ("low", "high")):
        if not table["low"] < table["high"] < math.inf:
            raise SpikeloomError(f"{where}: low must be less than high, not {table['low']} and {table['high']}")
        return Parameter(name, None, **table)
    raise SpikeloomError(f"{where} must have choices; or a key with values, or with low and high; not {table!r}")


def _label(value):
    return value if isinstance(value, str | int | float) else json.dumps(value)


def _first(parameter):
    return parameter.low if parameter.choices is None else next(iter(parameter.choices))


def _shown(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _set(content, path, value):
    """Set the entry of nested tables and lists that ``path`` leads to; ``*`` is every entry of a list."""
    first, _, rest = path.partition(".")
    if isinstance(content, list):
        places = range(len(content)) if first == "*" else [first]
        try:
            places = [range(len(content))[int(place)] for place in places]
        except (ValueError, IndexError):
            raise SpikeloomError(f"{first!r} in a setting's path must be * or below {len(content)}") from None
    elif isinstance(content, dict):
        places = [first]
    else:
        raise SpikeloomError(f"a setting's path goes on with {path!r} where there is a value already")
    for place in places:
        if not rest:
            content[place] = copy.deepcopy(value)
            continue
        if isinstance(content, dict) and content.get(place) is None:
            content[place] = {}
        _set(content[place], rest, value)
