"""Fold jobs, their attempts and their results in the database: part of `RecordStore`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.database import Database, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError, RecordsError
from duchenne.records.models import NO_INNER, NO_TRIAL, AttemptRow, FoldJobRow, ResultRecord
from duchenne.records.rows import (
    FINISHED,
    JOB_STATES,
    OUTCOMES,
    PHASES,
    Attempt,
    FoldJob,
    FoldJobKey,
    JobState,
    Outcome,
    Phase,
    ResultRow,
)


class JobRecords:
    """Part of `RecordStore`: what ran and what came out."""

    database: Database

    def ensure_fold_job(self, key: FoldJobKey, *, token: str | None = None) -> FoldJob:
        """The fold job of that key, queued now if it was not recorded yet."""
        return self.ensure_fold_jobs([key], token=token)[0]

    def ensure_fold_jobs(self, keys: Iterable[FoldJobKey], *, token: str | None = None) -> list[FoldJob]:
        """The same for many keys of one sweep, in one transaction and in their order.

        Raises:
            RecordsError: keys of several sweeps, or a phase that isn't one.
            LockLostError: the token does not hold the sweep.
        """
        wanted = list(keys)
        if not wanted:
            return []
        if len({key.sweep for key in wanted}) != 1 or any(key.phase not in PHASES for key in wanted):
            raise RecordsError(
                f"fold jobs are recorded for one sweep at a time, in phase {' or '.join(PHASES)}, but got "
                f"{sorted({(key.sweep, key.phase) for key in wanted})}; split the call"
            )
        with self.database.write() as session:
            lock_sweep(session, wanted[0].sweep, token)
            now = self.database.now(session)
            rows = [{**_columns(key), "state": "queued", "attempts": 0, "created_at": now} for key in wanted]
            self.database.insert_once(session, FoldJobRow, rows)
            return [to_job(session.execute(select(FoldJobRow).where(_matches(key))).scalar_one()) for key in wanted]

    def fold_jobs(
        self, sweep: str, *, trial: int | None = None, phase: Phase | None = None, state: JobState | None = None
    ) -> list[FoldJob]:
        """Fold jobs of a sweep in the order in which they were recorded."""
        statement = select(FoldJobRow).where(FoldJobRow.sweep == sweep).order_by(FoldJobRow.id)
        if trial is not None:
            statement = statement.where(FoldJobRow.trial == trial)
        if phase is not None:
            statement = statement.where(FoldJobRow.phase == phase)
        if state is not None:
            statement = statement.where(FoldJobRow.state == state)
        with self.database.read() as session:
            return [to_job(row) for row in session.scalars(statement)]

    def count_fold_jobs(self, sweep: str, states: Collection[str]) -> int:
        """How many fold jobs of a sweep are in one of these states."""
        statement = select(func.count()).where(FoldJobRow.sweep == sweep, FoldJobRow.state.in_(states))
        with self.database.read() as session:
            return session.execute(statement).scalar_one()

    def get_fold_job(self, key: FoldJobKey) -> FoldJob:
        """The fold job of that key.

        Raises:
            NotFoundError: it was never recorded.
        """
        with self.database.read() as session:
            return to_job(_job(session, key))

    def start_attempt(self, key: FoldJobKey, worker: str) -> Attempt:
        """Begin a run of a queued fold job on a worker. Of two workers that try, one gets it.

        Raises:
            RecordsConflictError: the job runs already or has finished: what is recorded never runs twice.
            NotFoundError: it was never recorded.
        """
        with self.database.write() as session:
            now = self.database.now(session)
            taken = session.execute(
                update(FoldJobRow)
                .where(_matches(key), FoldJobRow.state == "queued")
                .values(
                    state="running",
                    attempts=FoldJobRow.attempts + 1,
                    started_at=func.coalesce(FoldJobRow.started_at, now),
                    error=None,
                ),
                execution_options={"synchronize_session": False},
            )
            job = _job(session, key)
            if cast(Any, taken).rowcount != 1:
                raise RecordsConflictError(
                    f"a fold job must be queued to start, but {describe(key)} is {job.state}; take another job"
                )
            row = AttemptRow(fold_job=job.id, number=job.attempts, worker=clean.text(worker) or "", started_at=now)
            session.add(row)
            session.flush()
            return to_attempt(row)

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
        """End the attempt of that id, and move its job on.

        `succeeded` and `stopped` (the scheduler gave the trial up) finish the job. `failed` and `lost` (the worker
        died) queue it again until `retry_limit` attempts ended so: then it is failed, with this error. `paused` (it
        reached its rung) and `interrupted` (stop, budget, eviction) queue it again and count for nothing. An attempt
        that has ended is not modified.

        Raises:
            NotFoundError: no such attempt.
            RecordsError: an outcome that isn't one.
        """
        if outcome not in OUTCOMES:
            raise RecordsError(f"an attempt ends as one of {', '.join(OUTCOMES)}, but got {outcome!r}; use one of them")
        with self.database.write() as session:
            row = session.execute(
                select(AttemptRow).where(AttemptRow.id == attempt).with_for_update()
            ).scalar_one_or_none()
            if row is None:
                raise NotFoundError(f"an attempt must start before it ends, but there is none with id {attempt}")
            job = session.get_one(FoldJobRow, row.fold_job, with_for_update=True)
            if row.ended_at is not None:
                return to_job(job)
            now = self.database.now(session)
            row.ended_at, row.outcome, row.error = now, outcome, clean.text(error)
            row.seconds, row.epochs = clean.number(seconds), epochs
            session.flush()
            if job.state == "running" and job.attempts == row.number:
                job.state = _next_state(session, job, outcome, retry_limit)
                job.error = clean.text(error)
                job.ended_at = now if job.state in FINISHED else None
                if job.state == "succeeded":
                    job.predictions, job.predictions_digest = predictions, predictions_digest
            session.flush()
            return to_job(job)

    def stop_fold_jobs(self, sweep: str, trial: int, *, token: str | None = None) -> int:
        """Finish a trial's queued fold jobs as `stopped`; how many. Running ones end by their own attempts."""
        with self.database.write() as session:
            lock_sweep(session, sweep, token)
            now = self.database.now(session)
            stopped = session.execute(
                update(FoldJobRow)
                .where(FoldJobRow.sweep == sweep, FoldJobRow.trial == trial, FoldJobRow.state == "queued")
                .values(state="stopped", ended_at=now),
                execution_options={"synchronize_session": False},
            )
            return int(cast(Any, stopped).rowcount)

    def requeue_unfinished(self, sweep: str, *, token: str | None, retry_limit: int = 3) -> list[FoldJob]:
        """What a new driver does first: open attempts end as `lost`, their jobs are queued again (or failed).

        Returns:
            The jobs that were running.
        """
        with self.database.write() as session:
            lock_sweep(session, sweep, token)
            now = self.database.now(session)
            running = list(
                session.scalars(
                    select(FoldJobRow)
                    .where(FoldJobRow.sweep == sweep, FoldJobRow.state == "running")
                    .order_by(FoldJobRow.id)
                )
            )
            for job in running:
                open_attempts = select(AttemptRow).where(AttemptRow.fold_job == job.id, AttemptRow.ended_at.is_(None))
                for row in session.scalars(open_attempts):
                    row.ended_at, row.outcome = now, "lost"
                    row.error = "the driver of this attempt ended before it did"
                session.flush()
                job.state = _next_state(session, job, "lost", retry_limit)
                if job.state == "failed":
                    job.ended_at = now
                    job.error = f"{retry_limit} attempts of this job died or failed; see its attempts"
            session.flush()
            return [to_job(job) for job in running]

    def attempts(self, sweep: str) -> list[Attempt]:
        """Every attempt of a sweep's fold jobs, in the order in which they started."""
        statement = (
            select(AttemptRow)
            .join(FoldJobRow, FoldJobRow.id == AttemptRow.fold_job)
            .where(FoldJobRow.sweep == sweep)
            .order_by(AttemptRow.id)
        )
        with self.database.read() as session:
            return [to_attempt(row) for row in session.scalars(statement)]

    def record_result(self, key: FoldJobKey, epoch: int, attempt: int, metrics: Mapping[str, float | None]) -> bool:
        """Write the metrics of one epoch, once: True if this call wrote them, False if they were there already.

        NaN and infinities become null. `attempt` is the attempt's number.

        Raises:
            NotFoundError: the fold job was never recorded.
        """
        with self.database.write() as session:
            values = {
                "fold_job": _job(session, key).id,
                "epoch": epoch,
                "attempt": attempt,
                "metrics": clean.finite(metrics),
                "at": self.database.now(session),
            }
            return self.database.insert_once(session, ResultRecord, values) == 1

    def results(self, sweep: str, *, phase: Phase | None = None) -> list[ResultRow]:
        """Every recorded epoch of a sweep, by job and epoch."""
        statement = (
            select(FoldJobRow, ResultRecord)
            .join(ResultRecord, ResultRecord.fold_job == FoldJobRow.id)
            .where(FoldJobRow.sweep == sweep)
            .order_by(FoldJobRow.id, ResultRecord.epoch)
        )
        if phase is not None:
            statement = statement.where(FoldJobRow.phase == phase)
        with self.database.read() as session:
            return [to_result(job, row) for job, row in session.execute(statement)]

    def metrics_at(self, key: FoldJobKey, epoch: int) -> dict[str, float | None] | None:
        """The metrics recorded of one epoch of a fold job; None where it is not recorded."""
        statement = select(ResultRecord.metrics).join(FoldJobRow, FoldJobRow.id == ResultRecord.fold_job)
        with self.database.read() as session:
            return session.execute(statement.where(_matches(key), ResultRecord.epoch == epoch)).scalar_one_or_none()

    def last_epoch(self, key: FoldJobKey) -> int | None:
        """The last epoch recorded of a fold job; None before the first."""
        statement = select(func.max(ResultRecord.epoch)).join(FoldJobRow, FoldJobRow.id == ResultRecord.fold_job)
        with self.database.read() as session:
            return session.execute(statement.where(_matches(key))).scalar_one()


def file_results(database: Database, session: Session, rows: Iterable[tuple[FoldJobKey, int, int, Any]]) -> int:
    """Record (key, epoch, attempt, metrics) of jobs that ran elsewhere, each once; how many were new.

    The caller holds the sweep's lock (`require_undriven`). A job that nobody queued is recorded as running.
    """
    written = 0
    now = database.now(session)
    for key, epoch, attempt, metrics in rows:
        values = {**_columns(key), "state": "running", "attempts": attempt, "created_at": now, "started_at": now}
        database.insert_once(session, FoldJobRow, values)
        job = session.execute(select(FoldJobRow.id).where(_matches(key))).scalar_one()
        result = {"fold_job": job, "epoch": epoch, "attempt": attempt, "metrics": clean.finite(metrics), "at": now}
        written += database.insert_once(session, ResultRecord, result)
    return written


def file_predictions(database: Database, session: Session, key: FoldJobKey, path: str, digest: str) -> FoldJob:
    """Record the test-fold predictions of a job that ran elsewhere, once.

    Raises:
        RecordsConflictError: other predictions are on record.
    """
    now = database.now(session)
    values = {**_columns(key), "state": "running", "attempts": 1, "created_at": now, "started_at": now}
    database.insert_once(session, FoldJobRow, values)
    job = session.execute(select(FoldJobRow).where(_matches(key))).scalar_one()
    if job.predictions_digest is not None and job.predictions_digest != digest:
        raise RecordsConflictError(
            f"predictions are never replaced, but {describe(key)} has others on record; register a new sweep"
        )
    if job.predictions_digest is None:
        job.predictions, job.predictions_digest, job.state, job.ended_at = path, digest, "succeeded", now
    session.flush()
    return to_job(job)


def describe(key: FoldJobKey) -> str:
    """A fold job in words, for messages."""
    trial = "" if key.trial is None else f" trial {key.trial}"
    inner = "" if key.inner is None else f" inner {key.inner}"
    return f"{key.sweep}{trial} {key.phase} {key.method} fold {key.fold}{inner} seed {key.seed}"


def _columns(key: FoldJobKey) -> dict[str, Any]:
    return {
        "sweep": key.sweep,
        "trial": NO_TRIAL if key.trial is None else key.trial,
        "phase": key.phase,
        "method": key.method,
        "fold": key.fold,
        "inner": NO_INNER if key.inner is None else key.inner,
        "seed": key.seed,
    }


def _matches(key: FoldJobKey) -> ColumnElement[bool]:
    return and_(*(getattr(FoldJobRow, name) == value for name, value in _columns(key).items()))


def _job(session: Session, key: FoldJobKey) -> FoldJobRow:
    row = session.execute(select(FoldJobRow).where(_matches(key))).scalar_one_or_none()
    if row is None:
        raise NotFoundError(
            f"a fold job must be recorded before it runs, but {describe(key)} is not; call ensure_fold_job first"
        )
    return row


def _next_state(session: Session, job: FoldJobRow, outcome: str, retry_limit: int) -> str:
    if outcome in ("succeeded", "stopped"):
        return outcome
    if outcome in ("paused", "interrupted"):
        return "queued"
    deaths = session.execute(
        select(func.count()).where(AttemptRow.fold_job == job.id, AttemptRow.outcome.in_(("failed", "lost")))
    ).scalar_one()
    return "failed" if deaths >= retry_limit else "queued"


def to_job(row: FoldJobRow) -> FoldJob:
    if row.state not in JOB_STATES:
        raise RecordsError(f"a fold job's state is one of {', '.join(JOB_STATES)}, but job {row.id} has {row.state!r}")
    return FoldJob(
        id=row.id,
        key=FoldJobKey(
            sweep=row.sweep,
            trial=None if row.trial == NO_TRIAL else row.trial,
            phase=cast(Phase, row.phase),
            method=row.method,
            fold=row.fold,
            inner=None if row.inner == NO_INNER else row.inner,
            seed=row.seed,
        ),
        state=cast(JobState, row.state),
        attempts=row.attempts,
        error=row.error,
        predictions=row.predictions,
        predictions_digest=row.predictions_digest,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def to_attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        id=row.id,
        fold_job=row.fold_job,
        number=row.number,
        worker=row.worker,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=cast(Outcome | None, row.outcome),
        error=row.error,
        seconds=row.seconds,
        epochs=row.epochs,
    )


def to_result(job: FoldJobRow, row: ResultRecord) -> ResultRow:
    return ResultRow(
        trial=None if job.trial == NO_TRIAL else job.trial,
        phase=cast(Phase, job.phase),
        fold=job.fold,
        seed=job.seed,
        epoch=row.epoch,
        attempt=row.attempt,
        metrics=row.metrics,
        method=job.method,
        inner=None if job.inner == NO_INNER else job.inner,
    )
