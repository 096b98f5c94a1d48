"""Datasets that were withdrawn, and the results that used them: part of `RecordStore`.

Results are not modified. What marks them is the audit: one line for the dataset's digest, which results that arrive
later are held against too, and one for each sweep that used it.
"""

from __future__ import annotations

from sqlalchemy import select

from duchenne.records import clean
from duchenne.records.database import Database
from duchenne.records.models import EventRow, SweepRow
from duchenne.records.rows import Sweep
from duchenne.records.sweeps import to_sweep

WITHDRAWN = "data withdrawn"
"""`what` of the audit's lines; their detail holds `dataset_digest` and `replaced_by`, never who was forgotten."""


class WithdrawalRecords:
    """Part of `RecordStore`: which results rest on data that a person has left."""

    database: Database

    def withdraw_dataset(self, dataset_digest: str, *, replaced_by: str, actor: str) -> list[Sweep]:
        """Mark a dataset's digest, and every sweep that used it, as withdrawn; the sweeps, the oldest first.

        Once is enough: the same again adds no line.
        """
        detail = {"dataset_digest": dataset_digest, "replaced_by": replaced_by}
        with self.database.write() as session:
            now = self.database.now(session)
            used = list(
                session.scalars(
                    select(SweepRow).where(SweepRow.dataset_digest == dataset_digest).order_by(SweepRow.created_at)
                )
            )
            told = {
                row.sweep
                for row in session.scalars(select(EventRow).where(EventRow.what == WITHDRAWN))
                if row.detail["dataset_digest"] == dataset_digest
            }
            for sweep in (None, *(row.id for row in used)):
                if sweep not in told:
                    session.add(
                        EventRow(at=now, sweep=sweep, actor=clean.text(actor) or "", what=WITHDRAWN, detail=detail)
                    )
            return [to_sweep(row) for row in used]

    def withdrawn_datasets(self) -> frozenset[str]:
        """Digests of the datasets that were withdrawn."""
        statement = select(EventRow).where(EventRow.what == WITHDRAWN, EventRow.sweep.is_(None))
        with self.database.read() as session:
            return frozenset(row.detail["dataset_digest"] for row in session.scalars(statement))
