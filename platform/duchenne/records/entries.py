"""Entries of the boards in the database: part of `RecordStore`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.database import Database, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError
from duchenne.records.models import EntryRow
from duchenne.records.rows import Entry, NewEntry, PredictionFile


class EntryRecords:
    """Part of `RecordStore`: what the boards show."""

    database: Database

    def save_entry(self, new: NewEntry, *, token: str | None = None) -> Entry:
        """Record an entry, once for each method of a sweep. The same again changes nothing.

        Raises:
            RecordsConflictError: the method has an entry with other predictions: an entry is never replaced.
            LockLostError: the token does not hold the sweep.
        """
        with self.database.write() as session:
            lock_sweep(session, new.sweep, token)
            return insert_entry(self.database, session, new)

    def entries(self, board: str | None = None, *, sweep: str | None = None) -> list[Entry]:
        """Entries of a board, of a sweep, or all, the oldest first."""
        statement = select(EntryRow).order_by(EntryRow.created_at, EntryRow.id)
        if board is not None:
            statement = statement.where(EntryRow.board == board)
        if sweep is not None:
            statement = statement.where(EntryRow.sweep == sweep)
        with self.database.read() as session:
            return [to_entry(row) for row in session.scalars(statement)]

    def get_entry(self, entry: str) -> Entry:
        """The entry of that id.

        Raises:
            NotFoundError: there is none.
        """
        with self.database.read() as session:
            row = session.get(EntryRow, entry)
            if row is None:
                ids = list(session.scalars(select(EntryRow.id).order_by(EntryRow.created_at.desc()).limit(5)))
                latest = ", ".join(ids) or "none"
                raise NotFoundError(
                    f"an entry's id is SWEEP.METHOD, but there is no {entry!r}; the latest are {latest}"
                )
            return to_entry(row)

    def boards(self) -> list[str]:
        """Names of the boards that have entries, in alphabetical order."""
        with self.database.read() as session:
            return list(session.scalars(select(EntryRow.board).distinct().order_by(EntryRow.board)))


def insert_entry(database: Database, session: Session, new: NewEntry) -> Entry:
    """See `EntryRecords.save_entry`; within a transaction."""
    files = [asdict(file) for file in new.predictions]
    values: dict[str, Any] = {
        "id": f"{new.sweep}.{new.method}",
        "board": new.board,
        "team": new.team,
        "sweep": new.sweep,
        "method": new.method,
        "label": new.label,
        "config": clean.finite(new.config),
        "verified": new.verified,
        "metrics": clean.finite(new.metrics),
        "per_fold": clean.finite(new.per_fold),
        "predictions": files,
        "dataset_digest": new.dataset_digest,
        "folds_digest": new.folds_digest,
        "cost_usd": clean.number(new.cost_usd),
        "gpu_hours": clean.number(new.gpu_hours),
        "trials": new.trials,
        "created_at": database.now(session),
    }
    database.insert_once(session, EntryRow, values)
    row = session.get_one(EntryRow, values["id"])
    if row.predictions != files:
        raise RecordsConflictError(
            f"an entry is never replaced, but {row.id} is recorded with other predictions; run a new sweep"
        )
    return to_entry(row)


def to_entry(row: EntryRow) -> Entry:
    return Entry(
        id=row.id,
        board=row.board,
        team=row.team,
        sweep=row.sweep,
        method=row.method,
        label=row.label,
        config=row.config,
        verified=row.verified,
        metrics=row.metrics,
        per_fold=row.per_fold,
        predictions=tuple(PredictionFile(**file) for file in row.predictions),
        dataset_digest=row.dataset_digest,
        folds_digest=row.folds_digest,
        cost_usd=row.cost_usd,
        gpu_hours=row.gpu_hours,
        trials=row.trials,
        created_at=row.created_at,
    )
