"""What only the pages read: sums and last values that a live view needs. The caller has checked who may see them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, or_, select

from duchenne.records import Event, RecordStore
from duchenne.records.models import NO_INNER, NO_TRIAL, EventRow, FoldJobRow, LeaseRow, ResultRecord, SweepRow, TrialRow
from duchenne.records.sweeps import to_event

CELLS = 4000
"""Fold jobs of one grid: more would be too small to see, and the page too long."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A fold job in a grid: its state, and the metric after its last recorded epoch."""

    trial: int | None
    method: str
    fold: int
    inner: int | None
    seed: int
    state: str
    attempts: int
    epoch: int | None
    value: float | None
    error: str | None


@dataclass(frozen=True)
class Settled:
    """What a lease had spent when it was closed; None where its unit is not counted."""

    at: datetime
    usd: float | None
    gpu_hours: float | None
    wall_seconds: float | None


def fingerprint(store: RecordStore, sweep: str) -> str:
    """Changes whenever a live page would: cheap enough to ask every second."""
    job, lease = FoldJobRow, LeaseRow
    running = select(job.id).where(job.sweep == sweep, job.state == "running")
    with store.database.read() as session:
        parts: list[Any] = []
        for statement in (
            select(SweepRow.state, SweepRow.stop_requested, SweepRow.lock_token).where(SweepRow.id == sweep),
            select(func.count(), func.sum(TrialRow.rung), func.max(TrialRow.started_at), func.max(TrialRow.ended_at))
            .select_from(TrialRow)
            .where(TrialRow.sweep == sweep),
            select(func.count(), func.sum(job.attempts), func.max(job.started_at), func.max(job.ended_at)).where(
                job.sweep == sweep
            ),
            select(func.count(), func.sum(ResultRecord.epoch)).where(ResultRecord.fold_job.in_(running)),
            select(func.count(), func.max(lease.settled_at), func.sum(lease.reserved_nano_usd)).where(
                lease.sweep == sweep
            ),
            select(func.max(EventRow.id)).where(EventRow.sweep == sweep),
        ):
            parts += session.execute(statement).one_or_none() or ()
        return "|".join(str(part) for part in parts)


def job_counts(store: RecordStore, sweep: str) -> dict[tuple[str, str], int]:
    """(phase, state) -> fold jobs."""
    job = FoldJobRow
    statement = select(job.phase, job.state, func.count()).where(job.sweep == sweep).group_by(job.phase, job.state)
    with store.database.read() as session:
        return {(phase, state): count for phase, state, count in session.execute(statement)}


def cells(store: RecordStore, sweep: str, phase: str, metric: str, trials: Collection[int] | None = None) -> list[Cell]:
    """The fold jobs of a phase, of `trials` alone where they are given; by method, trial, fold, inner fold, seed."""
    job, last = FoldJobRow, ResultRecord
    wanted = [job.sweep == sweep, job.phase == phase]
    if trials is not None:
        wanted.append(job.trial.in_(sorted(trials)))
    epochs = select(last.fold_job, func.max(last.epoch).label("epoch")).join(job, job.id == last.fold_job)
    newest = epochs.where(*wanted).group_by(last.fold_job).subquery()
    statement = (
        select(job, last.epoch, last.metrics)
        .outerjoin(newest, newest.c.fold_job == job.id)
        .outerjoin(last, (last.fold_job == job.id) & (last.epoch == newest.c.epoch))
        .where(*wanted)
        .order_by(case((job.trial == NO_TRIAL, 1), else_=0), job.method, job.trial, job.fold, job.inner, job.seed)
        .limit(CELLS)
    )
    with store.database.read() as session:
        return [
            Cell(
                trial=None if row.trial == NO_TRIAL else row.trial,
                method=row.method,
                fold=row.fold,
                inner=None if row.inner == NO_INNER else row.inner,
                seed=row.seed,
                state=row.state,
                attempts=row.attempts,
                epoch=epoch,
                value=(metrics or {}).get(metric),
                error=row.error,
            )
            for row, epoch, metrics in session.execute(statement)
        ]


def settled(store: RecordStore, sweep: str) -> list[Settled]:
    """What was spent, lease by lease, in the order in which they were closed."""
    lease = LeaseRow
    columns = (lease.settled_at, lease.spent_nano_usd, lease.spent_gpu_ms, lease.spent_wall_ms)
    statement = select(*columns).where(lease.sweep == sweep, lease.settled_at.is_not(None)).order_by(lease.settled_at)
    with store.database.read() as session:
        return [
            Settled(
                at,
                None if nano is None else nano / 1e9,
                None if gpu is None else gpu / 3.6e6,
                None if wall is None else wall / 1e3,
            )
            for at, nano, gpu, wall in session.execute(statement)
            if at is not None
        ]


def latest_events(
    store: RecordStore, *, sweep: str | None = None, team: str | None = None, before: int | None = None, limit: int = 20
) -> list[Event]:
    """Lines of the audit about a sweep, or about a team and its sweeps, the newest first."""
    statement = select(EventRow).order_by(EventRow.id.desc()).limit(limit)
    if sweep is not None:
        statement = statement.where(EventRow.sweep == sweep)
    if team is not None:
        of_team = select(SweepRow.id).where(SweepRow.team == team)
        statement = statement.where(or_(EventRow.team == team, EventRow.sweep.in_(of_team)))
    if before is not None:
        statement = statement.where(EventRow.id < before)
    with store.database.read() as session:
        return [to_event(row) for row in session.scalars(statement)]
