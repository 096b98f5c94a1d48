"""Trials in the database: part of `RecordStore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import select

from duchenne.records import clean
from duchenne.records.database import Database, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError, RecordsError
from duchenne.records.models import TrialRow
from duchenne.records.rows import FINISHED, TRIAL_STATES, Trial, TrialState


class TrialRecords:
    """Part of `RecordStore`: what the search tried."""

    database: Database

    def record_trial(
        self,
        sweep: str,
        number: int,
        config: Mapping[str, Any],
        *,
        state: TrialState = "queued",
        token: str | None = None,
    ) -> Trial:
        """Record trial `number` (from 0) with the values chosen, by dotted path. A second call changes nothing.

        Raises:
            RecordsConflictError: the number is recorded with another configuration.
            LockLostError: the token does not hold the sweep.
        """
        wanted = clean.finite(dict(config))
        with self.database.write() as session:
            lock_sweep(session, sweep, token)
            now = self.database.now(session)
            started = now if state != "queued" else None
            self.database.insert_once(
                session,
                TrialRow,
                {
                    "sweep": sweep,
                    "number": number,
                    "config": wanted,
                    "state": _known(state),
                    "rung": 0,
                    "created_at": now,
                    "started_at": started,
                    "ended_at": now if state in FINISHED else None,
                },
            )
            row = session.get_one(TrialRow, (sweep, number))
            if row.config != wanted:
                raise RecordsConflictError(
                    f"a trial keeps its configuration, but trial {number} of {sweep} is recorded with {row.config} "
                    f"and now got {wanted}; give the new configuration a new number"
                )
            return to_trial(row)

    def set_trial_state(
        self,
        sweep: str,
        number: int,
        state: TrialState,
        *,
        value: float | None = None,
        rung: int | None = None,
        error: str | None = None,
        token: str | None = None,
    ) -> Trial:
        """Move a trial on, with the value and rung reached where given. `queued` again: interrupted, to be continued.

        A finished trial (succeeded, stopped, failed) is not modified: the same state again changes nothing.

        Raises:
            RecordsConflictError: the trial finished in another state.
            LockLostError, NotFoundError: see the messages.
        """
        _known(state)
        with self.database.write() as session:
            lock_sweep(session, sweep, token)
            row = session.get(TrialRow, (sweep, number))
            if row is None:
                raise NotFoundError(
                    f"a trial must be recorded before its state, but {sweep} has no trial {number}; "
                    "call record_trial first"
                )
            if row.state in FINISHED:
                if row.state != state:
                    raise RecordsConflictError(
                        f"a finished trial is not modified, but trial {number} of {sweep} is {row.state} "
                        f"and was to become {state}; record a new trial"
                    )
                return to_trial(row)
            now = self.database.now(session)
            row.state = state
            row.value = clean.number(value) if value is not None else row.value
            row.rung = rung if rung is not None else row.rung
            row.error = clean.text(error)
            row.started_at = row.started_at or (None if state == "queued" else now)
            row.ended_at = now if state in FINISHED else None
            session.flush()
            return to_trial(row)

    def trials(self, sweep: str) -> list[Trial]:
        """The trials of a sweep, by number."""
        statement = select(TrialRow).where(TrialRow.sweep == sweep).order_by(TrialRow.number)
        with self.database.read() as session:
            return [to_trial(row) for row in session.scalars(statement)]


def _known(state: str) -> str:
    if state not in TRIAL_STATES:
        raise RecordsError(f"a trial's state is one of {', '.join(TRIAL_STATES)}, but got {state!r}; use one of them")
    return state


def to_trial(row: TrialRow) -> Trial:
    return Trial(
        sweep=row.sweep,
        number=row.number,
        config=row.config,
        state=cast(TrialState, row.state),
        value=row.value,
        rung=row.rung,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
