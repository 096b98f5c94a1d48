"""Writes that happen once for each key, however often they are sent: part of `RecordStore`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from duchenne.records.board_models import IdempotencyRow
from duchenne.records.database import Database
from duchenne.records.errors import RecordsConflictError

KEPT = timedelta(days=2)
"""For how long a key gets the same answer."""


@dataclass(frozen=True)
class Answer:
    """The status and JSON body of a write; `replayed` where it was done before."""

    status: int
    body: Any
    replayed: bool = False


class KeyReusedError(RecordsConflictError):
    """The key belongs to another request."""


class OnceRecords:
    """Part of `RecordStore`: effect and answer are one transaction, so that a key never has one without the other."""

    database: Database

    def earlier_answer(self, actor: str, key: str, request: str) -> Answer | None:
        """What that key got before; None where it is new.

        Raises:
            KeyReusedError: it was used for another request.
        """
        with self.database.read() as session:
            row = session.get(IdempotencyRow, (actor, key))
            return None if row is None else _same(row, request)

    def once(self, actor: str, key: str | None, request: str, effect: Callable[[Session], tuple[int, Any]]) -> Answer:
        """Run `effect` in a transaction, unless `key` has an answer; then nothing changes and that answer comes again.

        Args:
            actor: whose key it is.
            key: None runs the effect each time.
            request: digest of what was asked.
            effect: session -> (status, JSON body). What it raises undoes everything, and the key stays new.

        Raises:
            KeyReusedError: the key was used for another request.
        """
        with self.database.write() as session:
            if key is None:
                return Answer(*effect(session))
            now = self.database.now(session)
            # Of two at once the second waits here for the first to commit, and then finds its row.
            mine = self.database.insert_once(
                session,
                IdempotencyRow,
                {"actor": actor, "key": key, "request": request, "status": 0, "body": None, "created_at": now},
            )
            row = session.get_one(IdempotencyRow, (actor, key))
            if not mine:
                return _same(row, request)
            row.status, row.body = effect(session)
            session.flush()
            return Answer(row.status, row.body)

    def forget_old_keys(self) -> int:
        """Drop the keys older than `KEPT`; how many there were."""
        with self.database.write() as session:
            before = self.database.now(session) - KEPT
            gone = delete(IdempotencyRow).where(IdempotencyRow.created_at < before).returning(IdempotencyRow.key)
            return len(session.execute(gone).all())


def _same(row: IdempotencyRow, request: str) -> Answer:
    if row.request != request:
        raise KeyReusedError(
            f"an idempotency key belongs to one request, but {row.key!r:.60} was sent with another body or address; "
            "take a new key"
        )
    return Answer(row.status, row.body, replayed=True)
