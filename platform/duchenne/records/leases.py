"""The ledger: what is spent is reserved first, in one transaction, so that a limit can't be overrun.

For every limited unit, at every moment and whatever the interleaving:
`sum(spent of settled leases) + sum(reserved of open leases) <= limit`, as long as no holder spends more than it
reserved. One that does is recorded as it is, with its overshoot in the audit, and leaves that much less for the next.

What is kept back for later counts beside the lease that asks, and a team's month beside the sweep's budget: see
`reserve`. A lease that ran out counts at its full reservation until its holder says what it spent, if it ever does: see
`settle`. The units of a lease add up over a sweep, so concurrent jobs must not each reserve the sweep's wall time: its
driver does, once. The sums are kept, not taken anew: see `duchenne.records.accounts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duchenne.records import accounts, clean
from duchenne.records.database import Database, find_sweep, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError, RecordsError
from duchenne.records.limits import UNITS, known, plus, refusal_of, to_amounts, to_floats, to_integers, to_utc
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
                presumed=False,
            )
            _set(lease, "reserved", asked)
            session.add(lease)
            accounts.open_lease(session, sweep, asked)
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
    ) -> Refusal | None:
        """Reserve `extra` on top, and run for `ttl` seconds from now. A refusal leaves the lease as it is.

        `keep` and `team` are those of `reserve`. None: it is renewed.

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
            accounts.extend_lease(session, row.sweep, asked)
            row.expires_at = max(row.expires_at, moment + timedelta(seconds=ttl))
            return None

    def settle(self, lease: int, observed: Amounts, *, wasted: bool = False, now: datetime | None = None) -> Lease:
        """Close a lease on what was observed. A unit that nobody observed (None) counts as reserved.

        More than was reserved is recorded as spent, with an event that says how much. The holder of a lease that ran
        out may report late, once: what it says takes the place of what `expire` presumed, in the month of that, and
        goes into the audit. Otherwise a settled lease is not modified, and a report goes into the audit alone.
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
                before = _get(row, "spent")
                if spent != before:
                    session.add(_event(row, moment, "lease settled late", detail))
                if not row.presumed:
                    return to_lease(row)
                accounts.add_spent(session, row.sweep, row.settled_at, accounts.negative(before), row.wasted)
                moment = row.settled_at
            else:
                if any(excess > 0 for excess in over.values()):
                    session.add(_event(row, moment, "lease overshot", detail))
                accounts.close_lease(session, row.sweep, reserved)
            _spend(session, row, moment, spent, wasted=wasted, presumed=False)
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
                reserved = _get(row, "reserved")
                accounts.close_lease(session, row.sweep, reserved)
                _spend(session, row, moment, reserved, wasted=True, presumed=True)
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
            return {"budget": budget, **known(accounts.account(session, sweep))}

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
            sides = _month(session, team, moment)
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
        sides = _month(session, sweep.team, moment)
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
    sums = accounts.account(session, sweep.id)
    kept = to_integers(keep or Amounts(), math.ceil, "share")
    return refusal_of(sweep.id, bounds, sums["spent"], sums["reserved"], asked, kept=kept)


def _month(session: Session, team: str, moment: datetime) -> dict[str, dict[str, int | None]]:
    nothing: dict[str, int | None] = dict.fromkeys(UNITS)
    return accounts.month_sums(session, moment, team).get(team, {"spent": nothing, "reserved": nothing})


def _spend(
    session: Session, row: LeaseRow, moment: datetime, spent: dict[str, int | None], *, wasted: bool, presumed: bool
) -> None:
    """Settle a lease on `spent`, in its row and in the sums."""
    _set(row, "spent", spent)
    row.settled_at, row.wasted, row.presumed = moment, wasted, presumed
    accounts.add_spent(session, row.sweep, moment, spent, wasted)


def _locked(session: Session, lease: int) -> tuple[LeaseRow, SweepRow]:
    owner = session.execute(select(LeaseRow.sweep).where(LeaseRow.id == lease)).scalar_one_or_none()
    if owner is None:
        raise NotFoundError(f"a lease must be reserved before it changes, but there is none with id {lease}")
    sweep = lock_sweep(session, owner)
    return session.get_one(LeaseRow, lease, populate_existing=True), sweep


def _event(row: LeaseRow, moment: datetime, what: str, detail: dict[str, Any]) -> EventRow:
    return EventRow(at=moment, sweep=row.sweep, actor="ledger", what=what, detail=detail)


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
