"""What the records say of all sweeps at one moment, in a dozen sums: for metrics, never for a decision.

The number of sweeps and teams that are told one by one is bounded; what is left out is counted. A running sweep's
progress is looked up by its running jobs, so that no query reads every result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duchenne.records import accounts
from duchenne.records.board_models import TeamRow
from duchenne.records.database import Database
from duchenne.records.limits import known
from duchenne.records.models import (
    AccountRow,
    AttemptRow,
    EntryRow,
    EventRow,
    FoldJobRow,
    ResultRecord,
    SweepRow,
    TrialRow,
)
from duchenne.records.rows import Amounts

MAX_SWEEPS: Final = 100
MAX_TEAMS: Final = 200
SHOWN_FOR: Final = timedelta(hours=24)
"""How long a sweep that ended is still told one by one."""

LEASE_EXPIRED: Final = "lease expired"
NOTIFICATION_FAILED: Final = "notification not delivered"
_ACTIVE: Final = ("queued", "running")


@dataclass
class SweepGauges:
    """One sweep. Amounts that no lease counts, and limits that are not set, are None.

    Attributes:
        fold_jobs: by (phase, state).
        attempts: attempts that ended, by outcome.
        progress_at: of the last epoch, ended fold job, or driver's start; None before the first driver.
    """

    id: str
    team: str
    state: str
    budget: Amounts
    progress_at: datetime | None
    trials: dict[str, int] = field(default_factory=dict)
    fold_jobs: dict[tuple[str, str], int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    spent: Amounts = field(default_factory=Amounts)
    reserved: Amounts = field(default_factory=Amounts)
    open_leases: int = 0
    lease_expiries: int = 0
    notification_failures: int = 0


@dataclass(frozen=True)
class TeamGauges:
    """A team's calendar month (UTC), of dollars and GPU-seconds; `budget` is what the records grant."""

    name: str
    spent: Amounts
    reserved: Amounts
    budget: Amounts


@dataclass(frozen=True)
class Gauges:
    """The records at one moment. `left_out` counts sweeps and teams that had no room."""

    sweeps: tuple[SweepGauges, ...]
    teams: tuple[TeamGauges, ...]
    sweeps_by_state: Mapping[str, int]
    entries: int
    left_out: int


def read_gauges(database: Database, *, max_sweeps: int = MAX_SWEEPS, max_teams: int = MAX_TEAMS) -> Gauges:
    """Sum up the records.

    Args:
        max_sweeps: how many sweeps are told one by one: the active ones first, then those that ended last.

    Raises:
        RecordsUnavailableError: locked, damaged or out of reach.
    """
    with database.read() as session:
        now = database.now(session)
        sweeps, missed = _sweeps(session, now, max_sweeps)
        by_id = {sweep.id: sweep for sweep in sweeps}
        _count_trials_and_jobs(session, by_id)
        _sum_leases(session, by_id)
        _count_events(session, by_id)
        _find_progress(session, by_id)
        teams, unnamed = _teams(session, now, max_teams)
        states = session.execute(select(SweepRow.state, func.count()).group_by(SweepRow.state)).all()
        entries = session.execute(select(func.count()).select_from(EntryRow)).scalar_one()
        return Gauges(tuple(sweeps), tuple(teams), dict(states), entries, missed + unnamed)


def _sweeps(session: Session, now: datetime, most: int) -> tuple[list[SweepGauges], int]:
    active = SweepRow.state.in_(_ACTIVE)
    shown = active | (SweepRow.ended_at >= now - SHOWN_FOR)
    newest = func.coalesce(SweepRow.ended_at, SweepRow.created_at).desc()
    columns = (
        SweepRow.id,
        SweepRow.team,
        SweepRow.state,
        SweepRow.budget_usd,
        SweepRow.budget_gpu_seconds,
        SweepRow.budget_wall_seconds,
        SweepRow.started_at,
        SweepRow.lock_since,
    )
    rows = session.execute(select(*columns).where(shown).order_by(active.desc(), newest, SweepRow.id).limit(most)).all()
    total = session.execute(select(func.count()).select_from(SweepRow).where(shown)).scalar_one()
    sweeps = [
        SweepGauges(
            id=id_,
            team=team,
            state=state,
            budget=Amounts(usd=usd, gpu_seconds=gpu, wall_seconds=wall),
            progress_at=_later(started, driven),
        )
        for id_, team, state, usd, gpu, wall, started, driven in rows
    ]
    return sweeps, total - len(sweeps)


def _count_trials_and_jobs(session: Session, by_id: Mapping[str, SweepGauges]) -> None:
    trials = select(TrialRow.sweep, TrialRow.state, func.count()).where(TrialRow.sweep.in_(by_id))
    for sweep, state, number in session.execute(trials.group_by(TrialRow.sweep, TrialRow.state)):
        by_id[sweep].trials[state] = number
    key = (FoldJobRow.sweep, FoldJobRow.phase, FoldJobRow.state)
    jobs = select(*key, func.count()).where(FoldJobRow.sweep.in_(by_id)).group_by(*key)
    for sweep, phase, state, number in session.execute(jobs):
        by_id[sweep].fold_jobs[phase, state] = number
    ends = (
        select(FoldJobRow.sweep, AttemptRow.outcome, func.count())
        .join(AttemptRow, AttemptRow.fold_job == FoldJobRow.id)
        .where(FoldJobRow.sweep.in_(by_id), AttemptRow.outcome.is_not(None))
        .group_by(FoldJobRow.sweep, AttemptRow.outcome)
    )
    for sweep, outcome, number in session.execute(ends):
        by_id[sweep].attempts[str(outcome)] = number


def _sum_leases(session: Session, by_id: Mapping[str, SweepGauges]) -> None:
    for account in session.scalars(select(AccountRow).where(AccountRow.sweep.in_(by_id))):
        row = by_id[account.sweep]
        row.open_leases = account.open_leases
        sums = known(accounts.sums_of(account))
        row.spent, row.reserved = sums["spent"], sums["reserved"]


def _count_events(session: Session, by_id: Mapping[str, SweepGauges]) -> None:
    told = EventRow.what.in_((LEASE_EXPIRED, NOTIFICATION_FAILED))
    statement = (
        select(EventRow.sweep, EventRow.what, func.count())
        .where(EventRow.sweep.in_(by_id), told)
        .group_by(EventRow.sweep, EventRow.what)
    )
    for sweep, what, number in session.execute(statement):
        row = by_id[str(sweep)]
        if what == LEASE_EXPIRED:
            row.lease_expiries = number
        else:
            row.notification_failures = number


def _find_progress(session: Session, by_id: Mapping[str, SweepGauges]) -> None:
    ended = (
        select(FoldJobRow.sweep, func.max(FoldJobRow.ended_at))
        .where(FoldJobRow.sweep.in_(by_id))
        .group_by(FoldJobRow.sweep)
    )
    epochs = (
        select(FoldJobRow.sweep, func.max(ResultRecord.at))
        .join(ResultRecord, ResultRecord.fold_job == FoldJobRow.id)
        .where(FoldJobRow.sweep.in_(by_id), FoldJobRow.state == "running")
        .group_by(FoldJobRow.sweep)
    )
    for statement in (ended, epochs):
        for sweep, moment in session.execute(statement):
            by_id[sweep].progress_at = _later(by_id[sweep].progress_at, moment)


def _teams(session: Session, now: datetime, most: int) -> tuple[list[TeamGauges], int]:
    """Teams with a limit, or with a lease that counts in this month, by name."""
    sums = accounts.month_sums(session, now)
    limits = {
        team: Amounts(usd=usd, gpu_seconds=None if hours is None else hours * 3600)
        for team, usd, hours in session.execute(
            select(TeamRow.name, TeamRow.usd_per_month, TeamRow.gpu_hours_per_month)
        )
        if usd is not None or hours is not None
    }
    names = sorted(sums.keys() | limits.keys())
    teams = []
    for name in names[:most]:
        own = known(sums.get(name, {}))
        teams.append(
            TeamGauges(name, own.get("spent", Amounts()), own.get("reserved", Amounts()), limits.get(name, Amounts()))
        )
    return teams, len(names) - len(teams)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)
