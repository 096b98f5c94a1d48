"""Records in memory: what the driver, the search and the pool of a simulated sweep write down.

Implements `duchenne.records.port.RunRecords`. It keeps the rules that decide what runs (results are written once,
finished jobs and trials are not modified, of two that start a job one gets it), and none of what a database is for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from duchenne.records import (
    Attempt,
    Event,
    FoldJob,
    FoldJobKey,
    Lock,
    NewSweep,
    NotFoundError,
    RecordsConflictError,
    ResultRow,
    Sweep,
    Trial,
)
from duchenne.records.errors import LockLostError
from duchenne.records.jobs import describe
from duchenne.records.rows import FINISHED, JobState, Outcome, Phase, SweepState, TrialState
from duchenne.simulation.ledger import MemoryLedger


@dataclass
class _Job:
    id: int
    key: FoldJobKey
    created_at: datetime
    state: JobState = "queued"
    attempts: int = 0
    deaths: int = 0
    error: str | None = None
    predictions: str | None = None
    predictions_digest: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    results: dict[int, tuple[int, dict[str, float | None]]] = field(default_factory=dict)

    def copy(self) -> FoldJob:
        return FoldJob(
            id=self.id,
            key=self.key,
            state=self.state,
            attempts=self.attempts,
            error=self.error,
            predictions=self.predictions,
            predictions_digest=self.predictions_digest,
            created_at=self.created_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )


@dataclass
class _Run:
    """One attempt, and the job that it is of."""

    attempt: Attempt
    job: _Job


@dataclass
class _Kept:
    """What is kept of one sweep."""

    sweep: Sweep
    trials: dict[int, Trial] = field(default_factory=dict)
    jobs: dict[FoldJobKey, _Job] = field(default_factory=dict)
    by_trial: dict[int | None, list[_Job]] = field(default_factory=dict)
    running: dict[FoldJobKey, list[_Run]] = field(default_factory=dict)
    lock: Lock | None = None


class MemoryRecords:
    """The records of sweeps that are played.

    Args:
        clock: the time of the records.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._sweeps: dict[str, _Kept] = {}
        self._runs: dict[int, _Run] = {}
        self._events: list[Event] = []
        self._numbers = itertools.count(1)
        self.ledger = MemoryLedger(clock, self._audit)
        self.writes = 0  # transactions that a database would have made, beside the ledger's

    def made(self) -> int:
        """Write transactions that a database would have made so far."""
        return self.writes + self.ledger.calls

    # Sweeps -----------------------------------------------------------------------------------------------------------

    def create_sweep(self, new: NewSweep, identifier: str | None = None) -> Sweep:
        """Record a sweep as queued."""
        number = identifier or f"sweep-{len(self._sweeps)}"
        sweep = Sweep(
            id=number,
            name=new.name,
            team=new.team,
            board=new.board,
            state="queued",
            spec=dict(new.spec),
            spec_text=new.spec_text,
            spec_digest=new.spec_digest,
            dataset_uri=new.dataset_uri,
            dataset_digest=new.dataset_digest,
            folds_digest=new.folds_digest,
            code_revision=new.code_revision,
            image=new.image,
            budget=new.budget,
            created_at=self._clock(),
            started_at=None,
            ended_at=None,
            error=None,
            stop_requested=False,
            lock_holder=None,
            lock_since=None,
            lock_expires_at=None,
        )
        self._sweeps[number] = _Kept(sweep)
        self.ledger.open_account(number, new.team, new.budget)
        return sweep

    def get_sweep(self, sweep: str) -> Sweep:
        """One sweep."""
        return self._kept(sweep).sweep

    def set_sweep_state(self, sweep: str, state: SweepState, *, token: str | None, error: str | None = None) -> Sweep:
        """Move a sweep on."""
        kept = self._written(sweep, token)
        kept.sweep = replace(kept.sweep, state=state, error=error)
        return kept.sweep

    def stop_requested(self, sweep: str) -> bool:
        """Whether somebody asked it to end."""
        return self._kept(sweep).sweep.stop_requested

    def acquire_lock(
        self, sweep: str, holder: str, ttl_seconds: float = 60.0, is_gone: Callable[[str], bool] = lambda _: True
    ) -> Lock:
        """Take the sweep from whoever drove it: in a simulation the driver before is dead."""
        kept = self._written(sweep, None)
        now = self._clock()
        token = f"token-{next(self._numbers)}"
        kept.lock = Lock(
            sweep=sweep, token=token, holder=holder, since=now, expires_at=now + timedelta(seconds=ttl_seconds)
        )
        return kept.lock

    def renew_lock(self, lock: Lock, ttl_seconds: float = 60.0) -> Lock:
        """Hold on to a sweep. Raises LockLostError where another driver took it."""
        kept = self._written(lock.sweep, lock.token)
        kept.lock = replace(lock, expires_at=self._clock() + timedelta(seconds=ttl_seconds))
        return kept.lock

    # Trials -----------------------------------------------------------------------------------------------------------

    def record_trial(
        self,
        sweep: str,
        number: int,
        config: Mapping[str, Any],
        *,
        state: TrialState = "queued",
        token: str | None = None,
    ) -> Trial:
        """Record a trial with its values. A second call changes nothing."""
        kept = self._written(sweep, token)
        now = self._clock()
        trial = kept.trials.get(number)
        if trial is None:
            started, ended = (None if state == "queued" else now), (now if state in FINISHED else None)
            trial = kept.trials[number] = Trial(
                sweep=sweep,
                number=number,
                config=dict(config),
                state=state,
                value=None,
                rung=0,
                error=None,
                created_at=now,
                started_at=started,
                ended_at=ended,
            )
        if trial.config != dict(config):
            raise RecordsConflictError(
                f"a trial keeps its configuration, but trial {number} of {sweep} is recorded with {trial.config} "
                f"and now got {dict(config)}; give the new configuration a new number"
            )
        return trial

    def set_trial_state(
        self,
        sweep: str,
        number: int,
        state: TrialState,
        *,
        value: float | None = None,
        rung: int | None = None,
        error: str | None = None,
        token: str | None = None,
    ) -> Trial:
        """Move a trial on. A finished one is not modified."""
        kept = self._written(sweep, token)
        trial = kept.trials.get(number)
        if trial is None:
            raise NotFoundError(
                f"a trial must be recorded before its state, but {sweep} has no trial {number}; call record_trial first"
            )
        if trial.state in FINISHED:
            if trial.state != state:
                raise RecordsConflictError(
                    f"a finished trial is not modified, but trial {number} of {sweep} is {trial.state} "
                    f"and was to become {state}; record a new trial"
                )
            return trial
        now = self._clock()
        kept.trials[number] = replace(
            trial,
            state=state,
            value=trial.value if value is None else value,
            rung=trial.rung if rung is None else rung,
            error=error,
            started_at=trial.started_at or (None if state == "queued" else now),
            ended_at=now if state in FINISHED else None,
        )
        return kept.trials[number]

    def trials(self, sweep: str) -> list[Trial]:
        """The trials, by number."""
        return [trial for _, trial in sorted(self._kept(sweep).trials.items())]

    # Fold jobs --------------------------------------------------------------------------------------------------------

    def ensure_fold_jobs(self, keys: Iterable[FoldJobKey], *, token: str | None = None) -> list[FoldJob]:
        """The fold jobs of these keys, queued now if they were not recorded yet."""
        wanted = list(keys)
        if not wanted:
            return []
        kept = self._written(wanted[0].sweep, token)
        now = self._clock()
        found = []
        for key in wanted:
            job = kept.jobs.get(key)
            if job is None:
                job = kept.jobs[key] = _Job(len(kept.jobs) + 1, key, now)
                kept.by_trial.setdefault(key.trial, []).append(job)
            found.append(job.copy())
        return found

    def fold_jobs(
        self, sweep: str, *, trial: int | None = None, phase: Phase | None = None, state: JobState | None = None
    ) -> list[FoldJob]:
        """Fold jobs in the order in which they were recorded."""
        kept = self._kept(sweep)
        jobs = kept.jobs.values() if trial is None else kept.by_trial.get(trial, [])
        return [job.copy() for job in jobs if phase in (None, job.key.phase) and state in (None, job.state)]

    def start_attempt(self, key: FoldJobKey, worker: str) -> Attempt:
        """Begin a run of a queued fold job. Of two workers that try, one gets it."""
        kept = self._written(key.sweep, None)
        job = self._job(key)
        if job.state != "queued":
            raise RecordsConflictError(
                f"a fold job must be queued to start, but {describe(key)} is {job.state}; take another job"
            )
        now = self._clock()
        job.state, job.error, job.attempts, job.started_at = "running", None, job.attempts + 1, job.started_at or now
        attempt = Attempt(
            id=next(self._numbers),
            fold_job=job.id,
            number=job.attempts,
            worker=worker,
            started_at=now,
            ended_at=None,
            outcome=None,
            error=None,
            seconds=None,
            epochs=None,
        )
        run = self._runs[attempt.id] = _Run(attempt, job)
        kept.running.setdefault(key, []).append(run)
        return attempt

    def finish_attempt(
        self,
        attempt: int,
        outcome: Outcome,
        *,
        seconds: float | None = None,
        epochs: int | None = None,
        error: str | None = None,
        predictions: str | None = None,
        predictions_digest: str | None = None,
        retry_limit: int = 3,
    ) -> FoldJob:
        """End an attempt, and move its job on. One that has ended is not modified."""
        self.writes += 1
        run = self._runs.get(attempt)
        if run is None:
            raise NotFoundError(f"an attempt must start before it ends, but there is none with id {attempt}")
        job = run.job
        if run.attempt.ended_at is None:
            self._end(run, outcome, error, seconds, epochs)
            if job.state == "running" and job.attempts == run.attempt.number:
                self._move(job, outcome, error, retry_limit)
                if outcome == "succeeded":
                    job.predictions, job.predictions_digest = predictions, predictions_digest
        return job.copy()

    def stop_fold_jobs(self, sweep: str, trial: int, *, token: str | None = None) -> int:
        """Finish a trial's queued fold jobs as stopped."""
        kept = self._written(sweep, token)
        queued = [job for job in kept.by_trial.get(trial, []) if job.state == "queued"]
        for job in queued:
            job.state, job.ended_at = "stopped", self._clock()
        return len(queued)

    def requeue_unfinished(self, sweep: str, *, token: str | None, retry_limit: int = 3) -> list[FoldJob]:
        """What a new driver does first: open attempts end as lost, their jobs are queued again (or failed)."""
        kept = self._written(sweep, token)
        unfinished = [job for job in kept.jobs.values() if job.state == "running"]
        for job in unfinished:
            for run in list(kept.running.get(job.key, [])):
                self._end(run, "lost", "the driver of this attempt ended before it did", None, None)
            self._move(job, "lost", None, retry_limit)
            if job.state == "failed":
                job.error = f"{retry_limit} attempts of this job died or failed; see its attempts"
        return [job.copy() for job in unfinished]

    def attempts(self, sweep: str) -> list[Attempt]:
        """Every attempt of a sweep, in the order in which they started."""
        return [run.attempt for run in self._runs.values() if run.job.key.sweep == sweep]

    # Results and events -----------------------------------------------------------------------------------------------

    def record_result(self, key: FoldJobKey, epoch: int, attempt: int, metrics: Mapping[str, float | None]) -> bool:
        """File an epoch, once; whether this call did."""
        self.writes += 1
        results = self._job(key).results
        if epoch in results:
            return False
        results[epoch] = (attempt, dict(metrics))
        return True

    def results(self, sweep: str, *, phase: Phase | None = None) -> list[ResultRow]:
        """Every recorded epoch, by job and epoch."""
        return [
            ResultRow(
                trial=job.key.trial,
                phase=job.key.phase,
                fold=job.key.fold,
                seed=job.key.seed,
                epoch=epoch,
                attempt=attempt,
                metrics=metrics,
                method=job.key.method,
                inner=job.key.inner,
            )
            for job in self._kept(sweep).jobs.values()
            if phase in (None, job.key.phase)
            for epoch, (attempt, metrics) in sorted(job.results.items())
        ]

    def metrics_at(self, key: FoldJobKey, epoch: int) -> dict[str, float | None] | None:
        """The metrics of one epoch; None where it is not recorded."""
        job = self._kept(key.sweep).jobs.get(key)
        found = None if job is None else job.results.get(epoch)
        return None if found is None else dict(found[1])

    def last_epoch(self, key: FoldJobKey) -> int | None:
        """The last epoch recorded of a fold job; None before the first."""
        job = self._kept(key.sweep).jobs.get(key)
        return None if job is None else max(job.results, default=None)

    def record_event(
        self, what: str, *, sweep: str | None = None, actor: str, detail: Mapping[str, Any] | None = None
    ) -> Event:
        """Add a line to the audit."""
        self.writes += 1
        event = Event(
            id=len(self._events) + 1, at=self._clock(), sweep=sweep, actor=actor, what=what, detail=dict(detail or {})
        )
        self._events.append(event)
        return event

    def events(self, sweep: str | None = None, after: int = 0, limit: int | None = None) -> list[Event]:
        """The audit in order."""
        found = [event for event in self._events[after:] if sweep in (None, event.sweep)]
        return found if limit is None else found[:limit]

    # Inside -----------------------------------------------------------------------------------------------------------

    def _kept(self, sweep: str) -> _Kept:
        kept = self._sweeps.get(sweep)
        if kept is None:
            raise NotFoundError(f"a sweep must be recorded before anything of it, but there is no {sweep!r}")
        return kept

    def _written(self, sweep: str, token: str | None) -> _Kept:
        self.writes += 1
        kept = self._kept(sweep)
        if token is not None and (kept.lock is None or kept.lock.token != token):
            raise LockLostError(sweep)
        return kept

    def _job(self, key: FoldJobKey) -> _Job:
        job = self._kept(key.sweep).jobs.get(key)
        if job is None:
            raise NotFoundError(
                f"a fold job must be recorded before it runs, but {describe(key)} is not; call ensure_fold_job first"
            )
        return job

    def _end(self, run: _Run, outcome: Outcome, error: str | None, seconds: float | None, epochs: int | None) -> None:
        run.attempt = replace(
            run.attempt, ended_at=self._clock(), outcome=outcome, error=error, seconds=seconds, epochs=epochs
        )
        job = run.job
        job.deaths += outcome in ("failed", "lost")
        running = self._sweeps[job.key.sweep].running
        running[job.key].remove(run)
        if not running[job.key]:
            del running[job.key]

    def _move(self, job: _Job, outcome: Outcome, error: str | None, retry_limit: int) -> None:
        if outcome in ("succeeded", "stopped"):
            job.state = "succeeded" if outcome == "succeeded" else "stopped"
        elif outcome in ("paused", "interrupted"):
            job.state = "queued"
        else:
            job.state = "failed" if job.deaths >= retry_limit else "queued"
        job.error = error
        job.ended_at = self._clock() if job.state in FINISHED else None

    def _audit(self, sweep: str, moment: datetime, what: str, detail: dict[str, Any]) -> None:
        self._events.append(
            Event(id=len(self._events) + 1, at=moment, sweep=sweep, actor="ledger", what=what, detail=detail)
        )
