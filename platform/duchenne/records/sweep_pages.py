"""Sweeps and the audit, page by page and as far as they are in sight: part of `RecordStore`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, func, or_, select, tuple_

from duchenne.records.accounts import spent_nano_usd
from duchenne.records.board_rows import Page, Sight
from duchenne.records.cursors import bounded, decode, encode
from duchenne.records.database import Database
from duchenne.records.errors import NotFoundError
from duchenne.records.jobs import to_job, to_result
from duchenne.records.models import (
    NO_INNER,
    NO_TRIAL,
    AccountRow,
    EventRow,
    FoldJobRow,
    ResultRecord,
    SweepRow,
    TrialRow,
)
from duchenne.records.rows import Event, FoldJob, ResultRow, Sweep, SweepState, Trial
from duchenne.records.sweeps import to_event, to_sweep
from duchenne.records.trials import to_trial

_NO_SWEEP = "a sweep must be one of those that you may see, but there is no {!r:.60}; list them at /api/v1/sweeps"


@dataclass(frozen=True, kw_only=True)
class SweepLine:
    """A sweep in a list. `spent_usd` is None where no lease had a price."""

    id: str
    name: str
    team: str
    board: str
    state: SweepState
    trials: int
    spent_usd: float | None
    budget_usd: float | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class LivePoint:
    """A fold job as a live view shows it: where it is in the grid, its state, and its last recorded epoch."""

    trial: int | None
    phase: str
    method: str
    fold: int
    inner: int | None
    seed: int
    state: str
    attempts: int
    epoch: int | None
    error: str | None


class SweepPages:
    """Part of `RecordStore`: sweeps for those who may see them."""

    database: Database

    def visible_sweep(self, sight: Sight, sweep: str) -> Sweep:
        """The sweep of exactly that id.

        Raises:
            NotFoundError: there is none in sight.
        """
        with self.database.read() as session:
            row = session.get(SweepRow, sweep) if "\x00" not in sweep else None
            if row is None or not sight.sees(row.team):
                raise NotFoundError(_NO_SWEEP.format(sweep))
            return to_sweep(row)

    def sweep_page(
        self,
        sight: Sight,
        *,
        team: str | None = None,
        state: str | None = None,
        board: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[SweepLine]:
        """Sweeps in sight, the newest first."""
        statement = select(SweepRow).where(_in_sight(sight))
        for column, value in ((SweepRow.team, team), (SweepRow.state, state), (SweepRow.board, board)):
            if value is not None:
                statement = statement.where(column == value)
        if cursor is not None:
            statement = statement.where(
                tuple_(SweepRow.created_at, SweepRow.id) < tuple_(*decode(cursor, "-date", datetime))
            )
        size = bounded(limit)
        statement = statement.order_by(SweepRow.created_at.desc(), SweepRow.id.desc()).limit(size + 1)
        with self.database.read() as session:
            rows = list(session.scalars(statement))
            ids = [row.id for row in rows[:size]]
            trials = dict(
                session.execute(
                    select(TrialRow.sweep, func.count()).where(TrialRow.sweep.in_(ids)).group_by(TrialRow.sweep)
                ).all()
            )
            accounts = select(AccountRow.sweep, spent_nano_usd()).where(AccountRow.sweep.in_(ids))
            spent = dict(session.execute(accounts).all())
            last = rows[size - 1] if len(rows) > size else None
            return Page(
                items=tuple(_line(row, trials.get(row.id, 0), spent.get(row.id)) for row in rows[:size]),
                next=None if last is None else encode("-date", last.created_at, last.id),
            )

    def trial_page(self, sweep: str, *, cursor: str | None = None, limit: int = 50) -> Page[Trial]:
        """Trials of a sweep, by number."""
        statement = select(TrialRow).where(TrialRow.sweep == sweep).order_by(TrialRow.number)
        if cursor is not None:
            statement = statement.where(TrialRow.number > decode(cursor, "number", str, int)[1])
        size = bounded(limit)
        with self.database.read() as session:
            rows = list(session.scalars(statement.limit(size + 1)))
            return Page(
                items=tuple(to_trial(row) for row in rows[:size]),
                next=encode("number", None, rows[size - 1].number) if len(rows) > size else None,
            )

    def job_page(
        self, sweep: str, *, state: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Page[FoldJob]:
        """Fold jobs of a sweep, in the order in which they were recorded."""
        statement = select(FoldJobRow).where(FoldJobRow.sweep == sweep).order_by(FoldJobRow.id)
        if state is not None:
            statement = statement.where(FoldJobRow.state == state)
        if cursor is not None:
            statement = statement.where(FoldJobRow.id > decode(cursor, "id", str, int)[1])
        size = bounded(limit)
        with self.database.read() as session:
            rows = list(session.scalars(statement.limit(size + 1)))
            return Page(
                items=tuple(to_job(row) for row in rows[:size]),
                next=encode("id", None, rows[size - 1].id) if len(rows) > size else None,
            )

    def result_page(self, sweep: str, *, cursor: str | None = None, limit: int = 50) -> Page[ResultRow]:
        """Recorded epochs of a sweep, fold job by fold job."""
        statement = (
            select(FoldJobRow, ResultRecord)
            .join(ResultRecord, ResultRecord.fold_job == FoldJobRow.id)
            .where(FoldJobRow.sweep == sweep)
            .order_by(ResultRecord.fold_job, ResultRecord.epoch)
        )
        if cursor is not None:
            epoch, job = decode(cursor, "job", int, int)
            statement = statement.where(tuple_(ResultRecord.fold_job, ResultRecord.epoch) > tuple_(job, epoch or 0))
        size = bounded(limit)
        with self.database.read() as session:
            rows = session.execute(statement.limit(size + 1)).all()
            last = rows[size - 1][1] if len(rows) > size else None
            return Page(
                items=tuple(to_result(job, row) for job, row in rows[:size]),
                next=None if last is None else encode("job", last.epoch, last.fold_job),
            )

    def live_points(self, sweep: str) -> tuple[LivePoint, ...]:
        """Every fold job of a sweep with its last recorded epoch: the cells of a heat map."""
        job = FoldJobRow
        columns = (job.trial, job.phase, job.method, job.fold, job.inner, job.seed, job.state, job.attempts, job.error)
        statement = (
            select(*columns, func.max(ResultRecord.epoch))
            .outerjoin(ResultRecord, ResultRecord.fold_job == job.id)
            .where(job.sweep == sweep)
            .group_by(job.id)
            .order_by(job.id)
        )
        with self.database.read() as session:
            return tuple(
                LivePoint(
                    trial=None if trial == NO_TRIAL else trial,
                    phase=phase,
                    method=method,
                    fold=fold,
                    inner=None if inner == NO_INNER else inner,
                    seed=seed,
                    state=state,
                    attempts=attempts,
                    error=error,
                    epoch=epoch,
                )
                for trial, phase, method, fold, inner, seed, state, attempts, error, epoch in session.execute(statement)
            )

    def last_event(self, sweep: str) -> int:
        """The id of the latest line of a sweep's audit; 0 before the first."""
        with self.database.read() as session:
            return session.scalar(select(func.max(EventRow.id)).where(EventRow.sweep == sweep)) or 0

    def event_page(
        self,
        sight: Sight,
        *,
        team: str | None = None,
        sweep: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Event]:
        """The audit as far as it is in sight, in order. A line about no team shows to those who see everything."""
        owner = func.coalesce(EventRow.team, SweepRow.team)
        statement = select(EventRow, owner).outerjoin(SweepRow, SweepRow.id == EventRow.sweep).order_by(EventRow.id)
        if not sight.everything:
            statement = statement.where(owner.in_(sorted(sight.teams)))
        bounds: list[ColumnElement[bool]] = []
        for column, value in ((owner, team), (EventRow.sweep, sweep), (EventRow.actor, actor)):
            if value is not None:
                bounds.append(column == value)
        if since is not None:
            bounds.append(EventRow.at >= since)
        if until is not None:
            bounds.append(EventRow.at < until)
        if cursor is not None:
            bounds.append(EventRow.id > decode(cursor, "id", str, int)[1])
        size = bounded(limit)
        with self.database.read() as session:
            rows: list[Any] = list(session.execute(statement.where(*bounds).limit(size + 1)))
            return Page(
                items=tuple(_owned(to_event(row), team_) for row, team_ in rows[:size]),
                next=encode("id", None, rows[size - 1][0].id) if len(rows) > size else None,
            )


def _owned(event: Event, team: str | None) -> Event:
    return Event(
        id=event.id,
        at=event.at,
        sweep=event.sweep,
        actor=event.actor,
        what=event.what,
        detail=event.detail,
        team=team,
    )


def _in_sight(sight: Sight) -> ColumnElement[bool]:
    return SweepRow.id.is_not(None) if sight.everything else or_(SweepRow.team.in_(sorted(sight.teams)))


def _line(row: SweepRow, trials: int, nano_usd: int | None) -> SweepLine:
    return SweepLine(
        id=row.id,
        name=row.name,
        team=row.team,
        board=row.board,
        state=cast(SweepState, row.state),
        trials=trials,
        spent_usd=None if nano_usd is None else int(nano_usd) / 1e9,
        budget_usd=row.budget_usd,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
