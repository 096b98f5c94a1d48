"""How far a sweep is, as plain numbers that any view can draw."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from duchenne.plan.counting import Counts, count
from duchenne.records import RecordStore
from duchenne.records.rows import FINISHED
from duchenne.spec import Sweep

if TYPE_CHECKING:
    from duchenne.pool.run import FoldPool


@dataclass(frozen=True)
class Progress:
    """One look at a running sweep. None: not known yet.

    Attributes:
        stage: what happens now, in a few words.
        trials_done, trials_total: trials that ended, and how many there will be.
        jobs_done, jobs_total: fold jobs that ended in either phase, and how many there may be.
        rung: the highest rung that the running trials reached.
        best_trial, best_value, metric: the best trial so far by the search's metric.
        spent_usd, spent_gpu_hours, spent_seconds: from the ledger; seconds are wall time.
        busy_seconds: seconds that workers spent on jobs, added up.
        seconds_left: estimate from the jobs done so far.
        running: one line a busy worker.
        warm: workers of the pool that are ready, of `workers`.
    """

    stage: str
    trials_done: int
    trials_total: int
    jobs_done: int
    jobs_total: int
    rung: int | None
    best_trial: int | None
    best_value: float | None
    metric: str
    spent_usd: float | None
    spent_gpu_hours: float | None
    spent_seconds: float
    busy_seconds: float
    seconds_left: float | None
    running: tuple[str, ...]
    warm: int
    workers: int


class Observer(Protocol):
    """Who looks on while a sweep is driven."""

    def checking_data(self, done: int, total: int) -> None:
        """Bytes of the dataset checked so far."""
        ...

    def started(self, sweep_id: str) -> None:
        """The sweep is on record under this id."""
        ...

    def watch(self, monitor: Monitor) -> None:
        """The pool is starting; `monitor.look()` may be called from any thread until `ended`."""
        ...

    def ended(self) -> None:
        """Nothing runs any more."""
        ...


class Unobserved:
    """An `Observer` that does not look."""

    def checking_data(self, done: int, total: int) -> None:
        """Nobody looks."""

    def started(self, sweep_id: str) -> None:
        """Nobody looks."""

    def watch(self, monitor: Monitor) -> None:
        """Nobody looks."""

    def ended(self) -> None:
        """Nobody looks."""


class Monitor:
    """Puts a `Progress` together from the records and the pool."""

    def __init__(self, store: RecordStore, pool: FoldPool, sweep_id: str, sweep: Sweep) -> None:
        self._store = store
        self._pool = pool
        self._sweep_id = sweep_id
        self._sweep = sweep
        self._counts: Counts = count(sweep)
        self._began = time.monotonic()
        self.stage = "warming the pool"

    def look(self) -> Progress:
        """The state of the sweep at this moment."""
        pool = self._pool.snapshot()
        trials = self._store.trials(self._sweep_id)
        valued = [trial for trial in trials if trial.value is not None]
        sign = 1.0 if self._sweep.search.mode == "max" else -1.0
        best = max(valued, key=lambda trial: sign * (trial.value or 0.0), default=None)
        running_rungs = [trial.rung for trial in trials if trial.state == "running"]
        jobs_done = self._store.count_fold_jobs(self._sweep_id, FINISHED)
        jobs_total = max(jobs_done, self._counts.fold_jobs)
        totals = self._store.ledger.totals(self._sweep_id)["spent"]
        return Progress(
            stage=self.stage if pool.warm_workers or self.stage != "searching" else "warming the pool",
            trials_done=sum(trial.state in FINISHED for trial in trials),
            trials_total=self._counts.trials,
            jobs_done=jobs_done,
            jobs_total=jobs_total,
            rung=max(running_rungs, default=None),
            best_trial=best.number if best else None,
            best_value=best.value if best else None,
            metric=self._sweep.search.metric,
            spent_usd=totals.usd,
            spent_gpu_hours=None if totals.gpu_seconds is None else totals.gpu_seconds / 3600,
            spent_seconds=time.monotonic() - self._began,
            busy_seconds=pool.busy_seconds,
            seconds_left=self._seconds_left(pool.busy_seconds, pool.segments_done, jobs_total - jobs_done),
            running=pool.running,
            warm=pool.warm_workers,
            workers=self._pool.workers,
        )

    def _seconds_left(self, busy_seconds: float, segments_done: int, jobs_left: int) -> float | None:
        if segments_done < self._pool.workers:
            return None
        return busy_seconds / segments_done * jobs_left / self._pool.workers
