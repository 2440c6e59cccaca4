"""Workers: each takes a trial that nobody has, until none is left.

Trials are kept in an Optuna storage. On one machine that is a file in the study's folder; on many it is any database
that SQLAlchemy knows, by the same command on each. A worker that is at work says so every minute; a trial whose worker
has not been heard of for longer is put back, and the next worker to look takes it.
"""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState
from spikeloom.errors import SpikeloomError
from spikeloom.training.config import describe
from spikeloom.training.train import train

from . import results, trial
from .definition import OBJECTIVES, load

#: Seconds between two signs of life of a worker, and how many of them it may miss before its trial is put back.
HEARTBEAT, MISSED = 60, 3

with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    #: What puts a trial back.
    RETRY = optuna.storages.RetryHeartbeatStaleTrialCallback()

#: How often a database is tried.
ATTEMPTS = 3

#: Seconds to wait for another worker to have written down all trials of a grid.
PATIENCE = 60


def study(path, out, *, storage=None, data_dir=None, device=None, progress=True, say=print,
          heartbeat=HEARTBEAT):
    """Work on the study of the file ``path`` until no trial is left; write its table, CSV and pictures to ``out``.

    Started again, or on another machine with the same ``storage``, it goes on with what is left.

    Parameters
    ----------
    path : path
        of a TOML file (`spikeloom.study.definition`)
    out : path
        the study's folder on this machine
    storage : str, optional
        URL of a database; by default a file in ``out``
    data_dir, device, progress
        as in `spikeloom.training.train.train`
    say : callable
        called with a line of text for each trial
    heartbeat : int
        seconds between two signs of life, the same for all workers

    Returns the list of `results.Row`. Raises `SpikeloomError` for a faulty file, a storage that cannot be used, or one
    that holds another study of this name.
    """
    definition, out = load(path), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _open(definition, Path(path).stem, storage or f"sqlite:///{out / 'study.db'}", heartbeat) as found:
        doing = {"out": out, "start": _started(definition, out, data_dir, device, progress), "data_dir": data_dir,
                 "device": device, "progress": progress}
        taken = []

        def objective(number):
            # Optuna's thread may not have come to it yet, and a trial without a sign of life is never put back.
            number.storage.record_heartbeat(number._trial_id)
            taken.append(number.number)
            if definition.sampler == "grid" and not number.user_attrs.get("planned"):
                raise optuna.TrialPruned  # another worker was quicker to take the last one
            return _objective(definition, number, doing, say)

        while _left(found, definition):
            try:
                found.optimize(objective, n_trials=1)
            except BaseException:  # an interrupt, or what is no result: whoever comes next tries it again
                broken = [number for number in taken[-1:] if found.trials[number].state == TrialState.FAIL]
                for number in broken:  # none where the storage failed between two trials
                    RETRY(found, found.trials[number])
                raise
        rows = results.rows(found, definition)
    results.write(rows, definition, out)
    return rows


def _objective(definition, number, doing, say):
    """Do the Optuna trial ``number``; its figures that are the study's objectives."""
    values = {parameter.name: parameter.suggest(number) for parameter in definition.parameters}
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    number.set_user_attr("config", json.dumps(describe(definition.config(values))))
    try:
        figures = trial.run(definition, values, **doing)
    except SpikeloomError as error:  # one that does not fit is a result; the others go on
        number.set_user_attr("error", str(error))
        say(f"trial {number.number}: {shown}: {error}")
        raise optuna.TrialPruned from None
    number.set_user_attr("figures", figures)
    say(f"trial {number.number}: {shown}: {results.summary(figures)}")
    return [figures[name] for name in definition.objectives]


@contextlib.contextmanager
def _open(definition, name, url, heartbeat):
    """The Optuna study ``name`` in the database at ``url``, made and filled if it is not there; closed at the end."""
    directions = [OBJECTIVES[each] for each in definition.objectives]
    samplers = {"grid": optuna.samplers.RandomSampler, "random": optuna.samplers.RandomSampler,
                "tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}
    sampler = samplers[definition.sampler](seed=definition.seed)
    with warnings.catch_warnings(), contextlib.ExitStack() as closed:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for attempt in reversed(range(ATTEMPTS)):
            try:
                storage = optuna.storages.RDBStorage(url, heartbeat_interval=heartbeat, grace_period=MISSED * heartbeat,
                                                     heartbeat_stale_trial_callback=RETRY)
                closed.callback(storage.engine.dispose)
                closed.callback(storage.remove_session)
                found, mine = _made(storage, name, sampler, directions)
                break
            except Exception as error:  # of SQLAlchemy, its drivers or Optuna: no common base
                if not attempt:
                    raise SpikeloomError(f"{url}: cannot be used as a study's storage ({_line(error)})") from None
                time.sleep(1)  # another worker may be making its tables
        _fill(found, definition, name, url, patience=0 if mine else PATIENCE)
        yield found


def _made(storage, name, sampler, directions):
    """The study, and whether it was not there before."""
    try:
        return optuna.create_study(storage=storage, study_name=name, sampler=sampler, directions=directions), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, sampler=sampler), False


def _fill(found, definition, name, url, patience):
    """Write down all trials of a grid, unless whoever made the study does so within seconds of ``patience``."""
    content = json.dumps(definition.fields, sort_keys=True)
    until = time.monotonic() + patience
    while "complete" not in found.user_attrs and time.monotonic() < until:  # whoever made it is filling it
        time.sleep(1)
    if "complete" not in found.user_attrs:
        if "definition" not in found.user_attrs:
            found.set_user_attr("definition", content)
        if definition.sampler == "grid":
            for values in definition.combinations:
                found.enqueue_trial(values, {"planned": True}, skip_if_exists=True)
        found.set_user_attr("complete", True)
    if found.user_attrs["definition"] != content:
        raise SpikeloomError(f"{url}: holds another study called {name}; give this file another name, or another "
                             "storage")


def _left(found, definition):
    """Whether there is a trial to take."""
    optuna.storages.fail_stale_trials(found)  # those of workers that are gone are put back
    if definition.sampler == "grid":
        return bool(found.get_trials(deepcopy=False, states=[TrialState.WAITING]))
    begun = found.get_trials(deepcopy=False, states=[TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED])
    return len(begun) < definition.trials


def _started(definition, out, data_dir, device, progress):
    """The checkpoint that trials start from, trained if it is not there; None where they start afresh."""
    config = definition.start_config()
    if config is None:
        return None
    with trial.alone(out / "start") as folder:
        return train(config, folder, data_dir=data_dir, device=device, progress=progress)


def _line(error):
    return str(error).strip().split("\n")[0]
