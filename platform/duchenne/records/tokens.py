"""API tokens in the database, without their secrets: part of `RecordStore`."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.board_models import TokenRow
from duchenne.records.board_rows import Role, Token
from duchenne.records.database import Database
from duchenne.records.errors import NotFoundError, RecordsError
from duchenne.records.teams import find_team, require_role, team_event


class TokenRecords:
    """Part of `RecordStore`: tokens are added, looked up by their id, and revoked; never changed or deleted."""

    database: Database

    def add_token(
        self,
        token: str,
        secret_hash: str,
        *,
        name: str,
        team: str | None,
        role: Role,
        created_by: str,
        expires_at: datetime | None = None,
    ) -> Token:
        """Record a token by its id and the argon2 hash of its secret."""
        with self.database.write() as session:
            return insert_token(
                self.database,
                session,
                token,
                secret_hash,
                name=name,
                team=team,
                role=role,
                created_by=created_by,
                expires_at=expires_at,
            )

    def find_token(self, token: str) -> tuple[Token, str, datetime] | None:
        """(token, hash of its secret, the time now) of that id; None where there is none."""
        with self.database.read_one() as session:
            row = session.get(TokenRow, token)
            return None if row is None else (to_token(row), row.secret_hash, self.database.now(session))

    def tokens(self, team: str | None = None) -> list[Token]:
        """The tokens of a team, or all of them, the newest first."""
        statement = select(TokenRow).order_by(TokenRow.created_at.desc(), TokenRow.id)
        if team is not None:
            statement = statement.where(TokenRow.team == team)
        with self.database.read() as session:
            return [to_token(row) for row in session.scalars(statement)]

    def revoke_token(self, token: str, *, actor: str, team: str | None = None) -> Token:
        """Make a token worthless from now on. Once is enough: the first time stands.

        Raises:
            NotFoundError: no such token (of that team, where one is given).
        """
        with self.database.write() as session:
            return end_token(self.database, session, token, actor, team)


def insert_token(
    database: Database,
    session: Session,
    token: str,
    secret_hash: str,
    *,
    name: str,
    team: str | None,
    role: str,
    created_by: str,
    expires_at: datetime | None,
) -> Token:
    """See `TokenRecords.add_token`; within a transaction."""
    require_role(role)
    if not name.strip() or len(name) > 80:
        raise RecordsError(f"a token has a name of 1 to 80 characters, but got {name!r:.90}; say what it is for")
    now = database.now(session)
    if expires_at is not None and expires_at <= now:
        raise RecordsError(f"a token must run out in the future, but got {expires_at.isoformat()}; choose a later time")
    if team is not None:
        find_team(session, team)
    row = TokenRow(
        id=token,
        secret_hash=secret_hash,
        name=clean.text(name) or "",
        team=team,
        role=role,
        created_by=clean.text(created_by) or "",
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    detail = {"token": token, "name": row.name, "role": role}
    session.add(team_event(now, team, created_by, "token created", detail))
    session.flush()
    return to_token(row)


def end_token(database: Database, session: Session, token: str, actor: str, team: str | None) -> Token:
    """See `TokenRecords.revoke_token`; within a transaction."""
    row = session.get(TokenRow, token) if "\x00" not in token else None
    if row is None or (team is not None and row.team != team):
        raise NotFoundError(
            f"a token has an id, but there is none {token!r:.40}; list them with `duchenne tokens list`"
        )
    if row.revoked_at is None:
        row.revoked_at = database.now(session)
        session.add(team_event(row.revoked_at, row.team, actor, "token revoked", {"token": row.id, "name": row.name}))
        session.flush()
    return to_token(row)


def to_token(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        team=row.team,
        role=cast(Role, row.role),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
