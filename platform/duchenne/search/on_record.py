"""What the records know of a search that began before: rows that were reported, rungs, and the subjects of a fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from duchenne.records import Trial, holder_name
from duchenne.records.port import RunRecords
from duchenne.records.rows import FINISHED
from duchenne.search.jobs import SweepContext, search_jobs
from duchenne.search.judge import waves
from duchenne.search.rung_costs import Rung
from duchenne.search.searcher import Replay
from duchenne.search.subjects import subject_scores
from duchenne.search.tune_scheduler import SubjectScores
from duchenne.spec import apply, rungs
from duchenne.spec.search import Asha
from duchenne_jobs.evaluation import read_predictions
from duchenne_jobs.training import JobKey, inner_predictions_path

RUNG_REACHED = "rung reached"
"""The event that says after how many epochs a trial had spent what a rung allows."""

KEPT_FOLDS = 4096  # subjects of so many folds stay in memory


def record_rung(store: RunRecords, sweep: str, trial: int, rung: Rung) -> None:
    """Write down where a rung lay, which depends on what epochs took: a resumed trial goes the same way."""
    detail = {"trial": trial, "rung": rung.number, "epoch": rung.epoch, "spent": rung.spent}
    store.record_event(RUNG_REACHED, sweep=sweep, actor=holder_name(), detail=detail)


def rung_of(row: Mapping[str, Any]) -> Rung:
    """The rung of a row that a trial reported."""
    return Rung(row["rung"], row["epoch"], row["spent"])


def replays_of(context: SweepContext, store: RunRecords, recorded: Sequence[Trial]) -> dict[int, Replay]:
    """How far each recorded trial got."""
    search = context.sweep.search
    by_cost = isinstance(search.scheduler, Asha) and search.scheduler.rungs != "epochs"
    if search.racing is None and not by_cost:
        return {trial.number: Replay(trial.rung, trial.state in FINISHED) for trial in recorded}
    reached = _rungs_on_record(context, store) if by_cost else {}
    epochs = _epochs_on_record(context, store) if recorded else {}
    replays = {}
    for trial in recorded:
        last = apply(context.sweep, trial.config).training.epochs
        own = tuple(reached.get(trial.number, ()))
        stops = [rung.epoch for rung in own] if by_cost else rungs(search.scheduler, last)
        rows = _rows(context, epochs.get(trial.number, {}), stops)
        replays[trial.number] = Replay(rows, trial.state in FINISHED, own)
    return replays


def _rows(context: SweepContext, epochs: Mapping[tuple[int, int], set[int]], stops: Sequence[int]) -> int:
    """Rows that a trial has reported, of whose folds (outer, inner) these epochs are on record."""
    folds = context.sweep.folds
    places = [(fold, inner) for fold in range(folds.outer_count) for inner in range(folds.inner_count)]
    rows = 0
    for stop in stops:
        for wave in waves(len(places), context.sweep.search.racing):
            if any(stop not in epochs.get(places[position], ()) for position in wave):
                return rows
            rows += 1
    return rows


def _epochs_on_record(context: SweepContext, store: RunRecords) -> dict[int, dict[tuple[int, int], set[int]]]:
    """Trial -> fold (outer, inner) -> the epochs that are on record."""
    found: dict[int, dict[tuple[int, int], set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in store.results(context.sweep_id, phase="search"):
        if row.trial is not None and row.inner is not None:
            found[row.trial][row.fold, row.inner].add(row.epoch)
    return found


def _rungs_on_record(context: SweepContext, store: RunRecords) -> dict[int, list[Rung]]:
    """Trial -> its rungs, ascending."""
    found: dict[int, list[Rung]] = defaultdict(list)
    for event in store.events(context.sweep_id):
        if event.what == RUNG_REACHED:
            found[event.detail["trial"]].append(
                Rung(event.detail["rung"], event.detail["epoch"], event.detail["spent"])
            )
    return {trial: sorted(reached, key=lambda rung: rung.number) for trial, reached in found.items()}


def subjects_on_record(context: SweepContext) -> SubjectScores | None:
    """Reads the parts of subjects from the validation predictions that every job of a search leaves, for a race."""
    sweep = context.sweep
    if sweep.search.racing is None or sweep.search.racing.rule == "rank":
        return None

    @lru_cache(maxsize=KEPT_FOLDS)
    def parts(key: JobKey) -> Mapping[str, float] | None:
        path = inner_predictions_path(Path(context.folder), key)
        return subject_scores(read_predictions(path), sweep.search.metric) if path.exists() else None

    @lru_cache(maxsize=KEPT_FOLDS)
    def keys(trial: int) -> list[JobKey]:
        return [job.key for job in search_jobs(context, trial, apply(sweep, values_of[trial]))]

    values_of: dict[int, Mapping[str, Any]] = {}

    def of(trial: int, values: Mapping[str, Any], position: int) -> Mapping[str, float] | None:
        values_of[trial] = values
        return parts(keys(trial)[position])

    return of
