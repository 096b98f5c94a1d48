"""Teams, their members and budgets in the database: part of `RecordStore`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.board_models import MemberRow, TeamRow
from duchenne.records.board_rows import ROLES, Member, Role, Team
from duchenne.records.database import Database
from duchenne.records.errors import NotFoundError, RecordsError
from duchenne.records.models import EventRow
from duchenne.records.rows import Amounts

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_WHO = re.compile(r"[^\s@<>\"'\x00-\x1f]{1,64}@[^\s@<>\"'\x00-\x1f]{1,190}")


class TeamRecords:
    """Part of `RecordStore`: who belongs where, and what a team may spend in a month."""

    database: Database

    def ensure_team(self, name: str, *, actor: str = "unknown") -> Team:
        """The team of that name, recorded now if it was not.

        Raises:
            RecordsError: not a name for a team.
        """
        with self.database.write() as session:
            return add_team(self.database, session, name, actor)

    def get_team(self, name: str) -> Team:
        """The team of that name.

        Raises:
            NotFoundError: there is none.
        """
        with self.database.read() as session:
            return to_team(find_team(session, name))

    def teams(self) -> list[Team]:
        """Every team, by name."""
        with self.database.read() as session:
            return [to_team(row) for row in session.scalars(select(TeamRow).order_by(TeamRow.name))]

    def set_team_budget(
        self, name: str, *, usd_per_month: float | None, gpu_hours_per_month: float | None, actor: str
    ) -> Team:
        """Change what a team may spend in a calendar month, with a line in the audit; None is no limit."""
        with self.database.write() as session:
            return change_team_budget(self.database, session, name, usd_per_month, gpu_hours_per_month, actor)

    def team_budget(self, name: str) -> Amounts | None:
        """The month's limits in the ledger's units; None where the records grant no limit to that team."""
        with self.database.read() as session:
            row = session.get(TeamRow, name)
        if row is None or (row.usd_per_month is None and row.gpu_hours_per_month is None):
            return None
        hours = row.gpu_hours_per_month
        return Amounts(usd=row.usd_per_month, gpu_seconds=None if hours is None else hours * 3600)

    def month_now(self, now: datetime | None = None) -> str:
        """The calendar month (UTC) that the limits are about, as 2026-11."""
        with self.database.read() as session:
            return f"{(now or self.database.now(session)).astimezone(UTC):%Y-%m}"

    def set_member(self, team: str, who: str, role: Role, *, actor: str) -> Member:
        """Give a person a role in a team, in place of the one that they had."""
        with self.database.write() as session:
            return put_member(self.database, session, team, who, role, actor)

    def remove_member(self, team: str, who: str, *, actor: str) -> bool:
        """Take a person out of a team; False where they were not in it."""
        with self.database.write() as session:
            return drop_member(self.database, session, team, who, actor)

    def members(self, team: str) -> list[Member]:
        """The people of a team, by address."""
        statement = select(MemberRow).where(MemberRow.team == team).order_by(MemberRow.who)
        with self.database.read() as session:
            return [to_member(row) for row in session.scalars(statement)]

    def roles_of(self, who: str) -> dict[str, Role]:
        """Team -> role of a person, by their address."""
        statement = select(MemberRow.team, MemberRow.role).where(MemberRow.who == who.lower())
        with self.database.read_one() as session:
            return {team: cast(Role, role) for team, role in session.execute(statement)}


def require_role(role: str) -> None:
    """Raise RecordsError unless it is a role."""
    if role not in ROLES:
        raise RecordsError(f"a role is one of {', '.join(ROLES)}, but got {role!r:.60}; use one of them")


def find_team(session: Session, name: str) -> TeamRow:
    """The row of a team, or NotFoundError."""
    row = session.get(TeamRow, name) if "\x00" not in name else None
    if row is None:
        raise NotFoundError(
            f"a team must be recorded, but there is no {name!r:.60}; list them with `duchenne teams list`"
        )
    return row


def add_team(database: Database, session: Session, name: str, actor: str) -> Team:
    """See `TeamRecords.ensure_team`; within a transaction."""
    if not _NAME.fullmatch(name):
        raise RecordsError(
            "a team's name is 1 to 40 lower-case letters, digits and hyphens, and begins and ends with none, "
            f"but got {name!r:.60}; choose such a name"
        )
    now = database.now(session)
    if database.insert_once(session, TeamRow, {"name": name, "created_at": now}):
        session.add(team_event(now, name, actor, "team created", {}))
    return to_team(session.get_one(TeamRow, name))


def change_team_budget(
    database: Database, session: Session, name: str, usd: float | None, gpu_hours: float | None, actor: str
) -> Team:
    """See `TeamRecords.set_team_budget`; within a transaction."""
    for unit, value in (("usd_per_month", usd), ("gpu_hours_per_month", gpu_hours)):
        if value is not None and not 0 < value <= 1e9:
            raise RecordsError(f"a month's limit is above 0 and at most 1e9, but {unit} is {value}; correct it")
    row = find_team(session, name)
    old = {"usd_per_month": row.usd_per_month, "gpu_hours_per_month": row.gpu_hours_per_month}
    row.usd_per_month, row.gpu_hours_per_month = usd, gpu_hours
    new = {"usd_per_month": usd, "gpu_hours_per_month": gpu_hours}
    session.add(team_event(database.now(session), name, actor, "team budget changed", {"from": old, "to": new}))
    session.flush()
    return to_team(row)


def put_member(database: Database, session: Session, team: str, who: str, role: str, actor: str) -> Member:
    """See `TeamRecords.set_member`; within a transaction."""
    require_role(role)
    if not _WHO.fullmatch(who):
        raise RecordsError(f"a member is named by their e-mail address, but got {who!r:.60}; write NAME@HOST")
    find_team(session, team)
    now = database.now(session)
    key = {"team": team, "who": who.lower()}
    row = session.get(MemberRow, key)
    if row is None:
        row = MemberRow(**key, role=role, created_at=now)
        session.add(row)
    row.role = role
    session.add(team_event(now, team, actor, "member set", {"who": row.who, "role": role}))
    session.flush()
    return to_member(row)


def drop_member(database: Database, session: Session, team: str, who: str, actor: str) -> bool:
    """See `TeamRecords.remove_member`; within a transaction."""
    gone = delete(MemberRow).where(MemberRow.team == team, MemberRow.who == who.lower()).returning(MemberRow.who)
    if not session.execute(gone).all():
        return False
    session.add(team_event(database.now(session), team, actor, "member removed", {"who": who.lower()}))
    return True


def team_event(now: Any, team: str | None, actor: str, what: str, detail: Mapping[str, Any]) -> EventRow:
    """A line of the audit about a team."""
    return EventRow(
        at=now, sweep=None, team=team, actor=clean.text(actor) or "", what=what, detail=clean.finite(dict(detail))
    )


def to_team(row: TeamRow) -> Team:
    return Team(
        name=row.name,
        usd_per_month=row.usd_per_month,
        gpu_hours_per_month=row.gpu_hours_per_month,
        created_at=row.created_at,
    )


def to_member(row: MemberRow) -> Member:
    return Member(team=row.team, who=row.who, role=cast(Role, row.role), created_at=row.created_at)
