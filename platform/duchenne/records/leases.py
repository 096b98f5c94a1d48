"""The ledger: what is spent is reserved first, in one transaction, so that a limit can't be overrun.

For every limited unit, at every moment and whatever the interleaving:
`sum(spent of settled leases) + sum(reserved of open leases) <= limit`, as long as no holder spends more than it
reserved. One that does is recorded as it is, with its overshoot in the audit, and leaves that much less for the next.

What is kept back for later counts beside the lease that asks, and a team's month beside the sweep's budget: see
`reserve`. A lease that ran out unsettled still counts at its full reservation: nobody knows what its holder spent. The
units of a lease add up over a sweep, so concurrent jobs must not each reserve the sweep's wall time: its driver does,
once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.database import Database, find_sweep, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError, RecordsError
from duchenne.records.limits import UNITS, plus, refusal_of, to_amounts, to_floats, to_integers, to_utc
from duchenne.records.models import EventRow, LeaseRow, SweepRow
from duchenne.records.rows import Amounts, Lease, Refusal


class Ledger:
    """Leases of all sweeps of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def reserve(
        self,
        sweep: str,
        amounts: Amounts,
        *,
        limits: Amounts | None = None,
        ttl: float,
        holder: str,
        kind: str,
        resource: Mapping[str, Any] | None = None,
        keep: Amounts | None = None,
        team: Amounts | None = None,
        now: datetime | None = None,
    ) -> Lease | Refusal:
        """Reserve the worst case of what comes next, for `ttl` seconds.

        Args:
            amounts: at most this will be spent until the lease is renewed or settled.
            limits: the budget; None takes the one recorded with the sweep.
            kind: what spends, such as "fold_job", "driver" or "node".
            keep: what must still fit below the limit after this lease, for something more important.
            team: what the sweep's team may spend in a calendar month (UTC), over all its sweeps in these records.

        Returns:
            The open lease, or a `Refusal` that names the unit which would cross its limit; then nothing is reserved.

        Raises:
            RecordsError: an amount that is negative or not finite, or a ttl that isn't positive.
            NotFoundError: no such sweep.
        """
        asked = to_integers(amounts, math.ceil, "amount")
        if not 0 < ttl < math.inf:
            raise RecordsError(f"a lease must run out, but its ttl is {ttl} seconds; give a positive number")
        with self.database.write() as session:
            row = lock_sweep(session, sweep)
            moment = to_utc(now) or self.database.now(session)
            refusal = _over_limit(session, row, limits, asked, keep) or self._over_month(
                session, row, team, asked, moment
            )
            if refusal is not None:
                return refusal
            lease = LeaseRow(
                sweep=sweep,
                holder=clean.text(holder) or "",
                kind=kind,
                resource=clean.finite(dict(resource or {})),
                opened_at=moment,
                expires_at=moment + timedelta(seconds=ttl),
                wasted=False,
            )
            _set(lease, "reserved", asked)
            session.add(lease)
            session.flush()
            return to_lease(lease)

    def renew(
        self,
        lease: int,
        extra: Amounts,
        *,
        limits: Amounts | None = None,
        ttl: float,
        keep: Amounts | None = None,
        team: Amounts | None = None,
        now: datetime | None = None,
    ) -> Lease | Refusal:
        """Reserve `extra` on top, and run for `ttl` seconds from now. A refusal leaves the lease as it is.

        `keep` and `team` are those of `reserve`.

        Raises:
            RecordsConflictError: the lease is settled or ran out: settle it and reserve anew.
        """
        asked = to_integers(extra, math.ceil, "amount")
        with self.database.write() as session:
            row, sweep = _locked(session, lease)
            moment = to_utc(now) or self.database.now(session)
            if row.settled_at is not None or row.expires_at <= moment:
                ended = "was settled" if row.settled_at is not None else "ran out"
                raise RecordsConflictError(
                    f"a lease is renewed before it ends, but lease {lease} of {row.sweep} {ended} at "
                    f"{row.settled_at or row.expires_at:%H:%M:%S} UTC; stop spending, settle it, and reserve anew"
                )
            refusal = _over_limit(session, sweep, limits, asked, keep) or self._over_month(
                session, sweep, team, asked, moment
            )
            if refusal is not None:
                return refusal
            held = _get(row, "reserved")
            _set(row, "reserved", {unit: plus(held[unit], asked[unit]) for unit in UNITS})
            row.expires_at = max(row.expires_at, moment + timedelta(seconds=ttl))
            session.flush()
            return to_lease(row)

    def settle(self, lease: int, observed: Amounts, *, wasted: bool = False, now: datetime | None = None) -> Lease:
        """Close a lease on what was observed. A unit that nobody observed (None) counts as reserved.

        More than was reserved is recorded as spent, with an event that says how much. A settled lease is not modified;
        what a holder thought dead reports late goes into the audit.
        """
        seen = to_integers(observed, math.ceil, "observed amount")
        with self.database.write() as session:
            row, _ = _locked(session, lease)
            moment = to_utc(now) or self.database.now(session)
            reserved = _get(row, "reserved")
            spent = {unit: reserved[unit] if seen[unit] is None else seen[unit] for unit in UNITS}
            over = {unit: (spent[unit] or 0) - (reserved[unit] or 0) for unit in UNITS}
            detail = {"lease": row.id, "reserved": to_floats(reserved), "observed": to_floats(spent)}
            if row.settled_at is not None:
                if spent != _get(row, "spent"):
                    session.add(_event(row, moment, "lease settled late", detail))
                return to_lease(row)
            if any(excess > 0 for excess in over.values()):
                session.add(_event(row, moment, "lease overshot", detail))
            _set(row, "spent", spent)
            row.settled_at, row.wasted = moment, wasted
            session.flush()
            return to_lease(row)

    def expire(self, *, sweep: str | None = None, now: datetime | None = None) -> list[Lease]:
        """Settle leases that ran out, at their full reservation and as wasted: their holders vanished."""
        with self.database.write() as session:
            moment = to_utc(now) or self.database.now(session)
            due = select(LeaseRow.id).where(LeaseRow.settled_at.is_(None), LeaseRow.expires_at <= moment)
            if sweep is not None:
                due = due.where(LeaseRow.sweep == sweep)
            ended = []
            # By sweep, then lease: every transaction locks sweeps in the same order, so none waits in a ring.
            for lease in session.scalars(due.order_by(LeaseRow.sweep, LeaseRow.id)).all():
                row, _ = _locked(session, lease)
                if row.settled_at is not None or row.expires_at > moment:
                    continue
                _set(row, "spent", _get(row, "reserved"))
                row.settled_at, row.wasted = moment, True
                session.add(_event(row, moment, "lease expired", {"lease": row.id, "holder": row.holder}))
                ended.append(row)
            session.flush()
            return [to_lease(row) for row in ended]

    def totals(self, sweep: str) -> dict[str, Amounts]:
        """{"budget", "spent", "reserved", "wasted"} of a sweep. A unit that no lease counts is None: unknown, not 0."""
        with self.database.read() as session:
            row = find_sweep(session, sweep)
            budget = Amounts(
                usd=row.budget_usd, gpu_seconds=row.budget_gpu_seconds, wall_seconds=row.budget_wall_seconds
            )
            settled, opened = LeaseRow.settled_at.is_not(None), LeaseRow.settled_at.is_(None)
            counted = [func.count(_column("reserved", unit)) for unit in UNITS]
            counts = session.execute(select(*counted).where(LeaseRow.sweep == sweep)).one()

            def known(side: str, which: ColumnElement[bool]) -> Amounts:
                sums = _sums(session, sweep, side, which)
                return to_amounts(
                    {unit: (sums[unit] or 0) if n else None for unit, n in zip(UNITS, counts, strict=True)}
                )

            return {
                "budget": budget,
                "spent": known("spent", settled),
                "reserved": known("reserved", opened),
                "wasted": known("spent", settled & LeaseRow.wasted.is_(True)),
            }

    def balance(self, sweep: str) -> dict[str, dict[str, float | None]]:
        """The shape of `duchenne cost`: `totals`, each as {"usd", "gpu_hours", "wall_seconds"}."""
        return {name: amounts.as_json() for name, amounts in self.totals(sweep).items()}

    def month(self, team: str, now: datetime | None = None) -> dict[str, Amounts]:
        """What a team's sweeps have `spent` and `reserved` in the calendar month (UTC) of `now`.

        A lease counts in the month in which it is settled, an open one in this: one that spans midnight counts in
        full on both sides while it is open, so that neither month is overrun.
        """
        with self.database.read() as session:
            moment = to_utc(now) or self.database.now(session)
            sides = _month_sums(session, team, moment)
        return {side: to_amounts(sums) for side, sums in sides.items()}

    def _over_month(
        self, session: Session, sweep: SweepRow, team: Amounts | None, asked: dict[str, int | None], moment: datetime
    ) -> Refusal | None:
        if team is None:
            return None
        if not self.database.is_sqlite:
            # Two sweeps of one team hold two rows: without this both could take the month's last dollar. Always taken
            # after the sweep's row, so that nobody waits in a ring. SQLite has one writer at a time anyway.
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"team:{sweep.team}", 0))))
        bounds = to_integers(team, math.floor, "limit")
        sides = _month_sums(session, sweep.team, moment)
        return refusal_of(sweep.id, bounds, sides["spent"], sides["reserved"], asked, team=sweep.team)

    def leases(self, sweep: str, *, open_only: bool = False) -> list[Lease]:
        """Leases of a sweep in the order in which they were opened."""
        statement = select(LeaseRow).where(LeaseRow.sweep == sweep).order_by(LeaseRow.id)
        if open_only:
            statement = statement.where(LeaseRow.settled_at.is_(None))
        with self.database.read() as session:
            return [to_lease(row) for row in session.scalars(statement)]


def _over_limit(
    session: Session, sweep: SweepRow, limits: Amounts | None, asked: dict[str, int | None], keep: Amounts | None
) -> Refusal | None:
    budget = limits or Amounts(
        usd=sweep.budget_usd, gpu_seconds=sweep.budget_gpu_seconds, wall_seconds=sweep.budget_wall_seconds
    )
    bounds = to_integers(budget, math.floor, "limit")
    spent = _sums(session, sweep.id, "spent", LeaseRow.settled_at.is_not(None))
    reserved = _sums(session, sweep.id, "reserved", LeaseRow.settled_at.is_(None))
    return refusal_of(sweep.id, bounds, spent, reserved, asked, kept=to_integers(keep or Amounts(), math.ceil, "share"))


def _month_sums(session: Session, team: str, moment: datetime) -> dict[str, dict[str, int | None]]:
    begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    sides = {"spent": LeaseRow.settled_at >= begin, "reserved": LeaseRow.settled_at.is_(None)}
    sums = {}
    for side, which in sides.items():
        columns = [func.sum(_column(side, unit)) for unit in UNITS]
        of_team = select(*columns).join(SweepRow, SweepRow.id == LeaseRow.sweep).where(SweepRow.team == team, which)
        values = session.execute(of_team).one()
        sums[side] = {unit: None if value is None else int(value) for unit, value in zip(UNITS, values, strict=True)}
    return sums


def _sums(session: Session, sweep: str, side: str, which: ColumnElement[bool]) -> dict[str, int | None]:
    columns = [func.sum(_column(side, unit)) for unit in UNITS]
    values = session.execute(select(*columns).where(LeaseRow.sweep == sweep, which)).one()
    return {unit: None if value is None else int(value) for unit, value in zip(UNITS, values, strict=True)}


def _locked(session: Session, lease: int) -> tuple[LeaseRow, SweepRow]:
    owner = session.execute(select(LeaseRow.sweep).where(LeaseRow.id == lease)).scalar_one_or_none()
    if owner is None:
        raise NotFoundError(f"a lease must be reserved before it changes, but there is none with id {lease}")
    sweep = lock_sweep(session, owner)
    return session.get_one(LeaseRow, lease, populate_existing=True), sweep


def _event(row: LeaseRow, moment: datetime, what: str, detail: dict[str, Any]) -> EventRow:
    return EventRow(at=moment, sweep=row.sweep, actor="ledger", what=what, detail=detail)


def _column(side: str, unit: str) -> Any:
    return getattr(LeaseRow, f"{side}_{UNITS[unit][0]}")


def _get(row: LeaseRow, side: str) -> dict[str, int | None]:
    return {unit: getattr(row, f"{side}_{suffix}") for unit, (suffix, _) in UNITS.items()}


def _set(row: LeaseRow, side: str, values: Mapping[str, int | None]) -> None:
    for unit, (suffix, _) in UNITS.items():
        setattr(row, f"{side}_{suffix}", values[unit])


def to_lease(row: LeaseRow) -> Lease:
    return Lease(
        id=row.id,
        sweep=row.sweep,
        holder=row.holder,
        kind=row.kind,
        resource=row.resource,
        reserved=to_amounts(_get(row, "reserved")),
        spent=to_amounts(_get(row, "spent")),
        opened_at=row.opened_at,
        expires_at=row.expires_at,
        settled_at=row.settled_at,
        wasted=row.wasted,
    )
