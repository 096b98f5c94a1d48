"""What finished jobs of the same home say about the seconds of an epoch."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from duchenne.plan.cost_model import CostModel, Observation, fit, stated_model
from duchenne.plan.sizes import setting_of
from duchenne.records import Attempt, FoldJob, RecordsError, RecordStore
from duchenne.records import Sweep as SweepRecord
from duchenne.records.database import Database
from duchenne.records.store import SQLITE_NAME, URL_VARIABLE
from duchenne.spec.sweep import Sweep
from duchenne.spec.trials import apply, overlay
from duchenne_jobs.config import RunConfig

MAX_SWEEPS = 200  # the latest ones: machines and code change
COUNTED = ("succeeded", "stopped", "paused")


class _Pace(NamedTuple):
    """Seconds an epoch of one attempt, and how many epochs it ran."""

    seconds: float
    epochs: int


def learned_here(home: Path) -> CostModel | None:
    """The model of what ran in a home; None where it holds too little. Nothing is written."""
    try:
        address = os.environ.get(URL_VARIABLE) or home / SQLITE_NAME
        if isinstance(address, Path) and not address.exists():
            return None
        with RecordStore(Database(address)) as store:
            return fit(observations(store))
    except RecordsError:  # of another version, or out of reach: a plan needs no history
        return None


def stated_for(sweep: Sweep, epoch_seconds: float) -> CostModel | None:
    """The model by which an epoch of the file's configuration takes so long; None where its data's size is unknown."""
    setting = setting_of(sweep, "search", sweep.training.epochs)
    return None if setting is None else stated_model(epoch_seconds, sweep.base, setting)


def observations(store: RecordStore) -> list[Observation]:
    """One observation for each configuration, phase and sweep that ran whole epochs; the latest sweeps first."""
    found: list[Observation] = []
    for record in store.list_sweeps()[:MAX_SWEEPS]:
        found += _of_sweep(store, record)
    return found


def _of_sweep(store: RecordStore, record: SweepRecord) -> list[Observation]:
    try:
        sweep = Sweep.model_validate(record.spec)
    except ValidationError:  # written by another version: it says nothing that this one can compare
        return []
    jobs = {job.id: job for job in store.fold_jobs(record.id)}
    values = {trial.number: trial.config for trial in store.trials(record.id)}
    found = []
    for (phase, trial, method), paces in _paces(jobs, store.attempts(record.id)).items():
        config = _config(sweep, values, jobs.values(), trial, method)
        epochs = statistics.median(pace.epochs for pace in paces)
        setting = setting_of(sweep, phase, epochs, record.dataset_uri)
        if config is not None and setting is not None:
            found.append(Observation(config, setting, statistics.median(pace.seconds for pace in paces)))
    return found


def _paces(jobs: dict[int, FoldJob], attempts: Iterable[Attempt]) -> dict[tuple[str, int | None, str], list[_Pace]]:
    """(phase, trial, method) -> what its attempts took."""
    paces: defaultdict[tuple[str, int | None, str], list[_Pace]] = defaultdict(list)
    for attempt in attempts:
        if attempt.outcome in COUNTED and attempt.epochs and attempt.seconds:
            key = jobs[attempt.fold_job].key
            paces[key.phase, key.trial, key.method].append(_Pace(attempt.seconds / attempt.epochs, attempt.epochs))
    return paces


def _config(
    sweep: Sweep, values: dict[int, dict[str, object]], jobs: Iterable[FoldJob], trial: int | None, method: str
) -> RunConfig | None:
    """What ran: a trial's own configuration, or the selected one with a comparator's changes."""
    changes: dict[str, object] = {}
    if trial is None:
        comparators = [each for each in sweep.comparators if each.name == method and not each.is_baseline]
        selected = [job.key.trial for job in jobs if job.key.phase == "evaluation" and job.key.trial is not None]
        if not comparators or not selected:
            return None
        trial, changes = selected[0], dict(comparators[0].changes)
    try:
        return overlay(apply(sweep, values[trial]), changes)
    except (KeyError, ValueError):
        return None
