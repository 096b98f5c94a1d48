"""What the figures of one sweep are drawn from: read once, frozen, free of matplotlib.

Shapes: T tasks.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duchenne.boards import BoardRow, CountsError, EntryReport, rank, report_entry
from duchenne.boards.counts import read_checked
from duchenne.records import Attempt, Entry, FoldJob, FoldJobKey, Lease, RecordStore, ResultRow, Trial
from duchenne.records import Sweep as SweepRecord
from duchenne.records.rows import SEARCH_CUT
from duchenne.spec import Sweep, apply, rungs
from duchenne_jobs.evaluation import Predictions, read_predictions
from duchenne_jobs.evaluation.attention import AttentionSample, read_attention
from duchenne_jobs.training import JobKey

LOGGER = logging.getLogger("duchenne.figures")

FloatArray = NDArray[np.float64]


class NoData(Exception):  # noqa: N818 - a figure that is left out, not an error
    """The records do not hold what the figure shows; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class OrderRecord:
    """The orders of a run after an epoch.

    Attributes:
        soft_order: (T, T), row = time step, column = task.
        best_order: of the largest weight, 0-based; () where it was not kept.
    """

    soft_order: FloatArray
    best_order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SweepData:
    """One sweep as its figures need it.

    Attributes:
        record: the sweep's record; `sweep` is its spec.
        home: the folder of predictions and soft orders.
        trials: by number.
        jobs: fold jobs of both phases; `results` are the epochs on record of each.
        attempts, leases: what ran and what was reserved for it.
        board: the ranking of the sweep's board, entries of other sweeps included.
        entries: the sweep's own.
        search_cut: when the budget ended the search before its last trial; None where it didn't.
    """

    record: SweepRecord
    sweep: Sweep
    home: Path
    trials: tuple[Trial, ...]
    jobs: tuple[FoldJob, ...]
    results: tuple[ResultRow, ...]
    attempts: tuple[Attempt, ...]
    leases: tuple[Lease, ...]
    board: tuple[BoardRow, ...]
    entries: tuple[Entry, ...] = ()
    search_cut: datetime | None = None

    @cached_property
    def held_out(self) -> dict[str, dict[tuple[int, int], Predictions]]:
        """Method -> (test fold, seed) -> predictions; an entry whose files are not as they were recorded has none."""
        found = {}
        for entry in self.entries:
            try:
                found[entry.method] = {
                    (file.fold, file.seed): read_checked(file, self.home) for file in entry.predictions
                }
            except (CountsError, OSError) as error:
                LOGGER.warning("%s: no predictions to draw (%s)", entry.id, error)
        return {method: files for method, files in found.items() if files}

    def report(self, method: str, metrics: Collection[str]) -> EntryReport:
        """Every task of a method in `held_out`, with intervals; of `metrics` alone, since AUC takes its time."""
        entry = next(entry for entry in self.entries if entry.method == method)
        return report_entry(entry, self.home, metrics=metrics)

    @cached_property
    def selected(self) -> dict[int, tuple[int, ...]]:
        """Trial -> the outer folds that it was selected for; empty until the search has ended."""
        folds: dict[int, set[int]] = defaultdict(set)
        for job in self.jobs:
            if job.key.phase == "evaluation" and job.key.trial is not None:
                folds[job.key.trial].add(job.key.fold)
        return {trial: tuple(sorted(found)) for trial, found in sorted(folds.items())}

    @cached_property
    def highlighted(self) -> tuple[int, ...]:
        """The selected trials; before there are any, the best so far."""
        if self.selected:
            return tuple(self.selected)
        valued = [trial for trial in self.trials if trial.value is not None]
        whole = [trial for trial in valued if self.ran_whole(trial)] or valued
        return (min(whole, key=self._loss).number,) if whole else ()

    @property
    def own_rows(self) -> tuple[BoardRow, ...]:
        """The board's rows of this sweep: the selected model first, then the comparators by F1."""
        rows = [row for row in self.board if row.sweep == self.record.id]
        return tuple(sorted(rows, key=lambda row: row.method not in self.own_methods))

    @cached_property
    def own_methods(self) -> frozenset[str]:
        """The methods that a trial of the search chose; the others are comparators."""
        return frozenset(job.key.method for job in self.jobs if job.key.trial is not None)

    def ran_whole(self, trial: Trial) -> bool:
        """Whether the trial reached its last rung, so that its value can be compared with those of others."""
        epochs = apply(self.sweep, trial.config).training.epochs
        return trial.rung >= len(rungs(self.sweep.search.scheduler, epochs))

    def tasks(self) -> tuple[str, ...] | None:
        """Names of the tasks, from the first prediction file that can be read; None where there is none."""
        for job in self.jobs:
            if job.predictions is not None:
                try:
                    return read_predictions(self.home / job.predictions).tasks
                except (OSError, ValueError) as error:
                    LOGGER.warning("%s: no predictions to read (%s); trying the next file", job.predictions, error)
        return None

    def soft_orders(self) -> dict[FoldJobKey, dict[int, FloatArray]]:
        """The soft order (T, T) of each epoch of each evaluation that has ended; row = time step, column = task.

        A method of the search goes before a comparator. Empty where the method keeps no soft order.
        """
        found: dict[str, dict[FoldJobKey, dict[int, FloatArray]]] = defaultdict(dict)
        for key, epochs in self.order_records().items():
            found[key.method][key] = {epoch: record.soft_order for epoch, record in epochs.items()}
        if not found:
            return {}
        return found[min(found, key=lambda method: (method not in self.own_methods, method))]

    def order_records(self) -> dict[FoldJobKey, dict[int, OrderRecord]]:
        """What each evaluation that has ended kept of its orders, of every method, epoch by epoch."""
        ended = [job.key for job in self.jobs if job.key.phase == "evaluation" and job.state == "succeeded"]
        read = {key: _read_orders(self._file("soft_orders", key, "jsonl")) for key in ended}
        return {key: epochs for key, epochs in read.items() if epochs}

    def attention(self) -> tuple[AttentionSample, str] | None:
        """The attention that the first evaluation kept, and its method; one of the search goes before a comparator."""
        ended = [job.key for job in self.jobs if job.key.phase == "evaluation" and job.state == "succeeded"]
        for key in sorted(ended, key=lambda key: (key.method not in self.own_methods, key.method, key.fold, key.seed)):
            path = self._file("attention", key, "npz")
            if path.is_file():
                try:
                    return read_attention(path), key.method
                except (OSError, ValueError) as error:
                    LOGGER.warning("%s: no attention to read (%s); trying the next file", path, error)
        return None

    def _file(self, folder: str, key: FoldJobKey, suffix: str) -> Path:
        slug = JobKey(key.trial, key.phase, key.method, key.fold, key.inner, key.seed).slug
        return self.home / "sweeps" / self.record.id / folder / f"{slug}.{suffix}"

    def _loss(self, trial: Trial) -> float:
        value = trial.value or 0.0
        return value if self.sweep.search.mode == "min" else -value


def read_sweep(store: RecordStore, sweep_id: str, home: Path) -> SweepData:
    """Read what the figures need.

    Args:
        sweep_id: its id, or the beginning of it.
        home: the folder to which recorded paths are relative.

    Raises:
        NotFoundError: no such sweep.
        RecordsError: the records can't be read.
    """
    record = store.get_sweep(sweep_id)
    return SweepData(
        record=record,
        sweep=Sweep.model_validate(record.spec),
        home=home,
        trials=tuple(store.trials(record.id)),
        jobs=tuple(store.fold_jobs(record.id)),
        results=tuple(store.results(record.id)),
        attempts=tuple(store.attempts(record.id)),
        leases=tuple(store.ledger.leases(record.id)),
        board=tuple(rank(store, record.board, root=home)),
        entries=tuple(store.entries(sweep=record.id)),
        search_cut=next((event.at for event in store.events(record.id) if event.what == SEARCH_CUT), None),
    )


def _read_orders(path: Path) -> dict[int, OrderRecord]:
    """Epoch -> orders, ascending. A retried job wrote some epochs twice: the last line of an epoch counts."""
    if not path.is_file():
        return {}
    epochs: dict[int, OrderRecord] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            best = tuple(int(step) for step in row.get("best_order", ()))
            matrix = np.asarray(row["soft_order"], dtype=np.float64)
            epoch = int(row["epoch"])
            epochs[epoch] = OrderRecord(matrix, best)
        except (ValueError, KeyError, TypeError) as error:
            # A worker that was killed while it wrote leaves part of a line; its retry wrote the epoch again.
            LOGGER.warning("%s:%d: not a soft order (%s); the line is skipped", path, number, error)
    return dict(sorted(epochs.items()))
