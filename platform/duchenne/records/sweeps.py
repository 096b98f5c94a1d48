"""Sweeps and events in the database: part of `RecordStore`."""

from __future__ import annotations

import difflib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.accounts import spent_nano_usd
from duchenne.records.database import Database, find_sweep, lock_sweep
from duchenne.records.errors import NotFoundError, RecordsConflictError, RecordsError
from duchenne.records.models import AccountRow, EventRow, SweepRow, TrialRow
from duchenne.records.rows import (
    SWEEP_STATES,
    Amounts,
    Event,
    NewSweep,
    Sweep,
    SweepState,
    SweepSummary,
)

_TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "failed", "stopped", "exhausted"}),
    "running": frozenset({"queued", "succeeded", "failed", "stopped", "exhausted"}),
    # What ended short of its aim can be resumed; what succeeded can't change any more.
    "failed": frozenset({"running"}),
    "stopped": frozenset({"running"}),
    "exhausted": frozenset({"running"}),
    "succeeded": frozenset(),
}
_ENDED = frozenset({"succeeded", "failed", "stopped", "exhausted"})


class SweepRecords:
    """Part of `RecordStore`: sweeps and the audit."""

    database: Database

    def create_sweep(self, new: NewSweep, identifier: str | None = None) -> Sweep:
        """Record a sweep as `queued`, under a readable id of its own such as `yeast-quickstart-7f3a`.

        `identifier` is the id where somebody chose it before: a cluster's objects are named ahead of the records.

        Raises:
            RecordsConflictError: a sweep of that id is on record.
        """
        with self.database.write() as session:
            return insert_sweep(self.database, session, new, identifier)

    def get_sweep(self, sweep: str) -> Sweep:
        """The sweep of that id, or of the one id that begins so.

        Raises:
            NotFoundError: none or several match; names the nearest ids.
        """
        with self.database.read() as session:
            row = session.get(SweepRow, sweep)
            if row is not None:
                return to_sweep(row)
            ids = list(session.scalars(select(SweepRow.id).order_by(SweepRow.created_at.desc())))
            matches = [candidate for candidate in ids if sweep and candidate.startswith(sweep)]
            if len(matches) != 1:
                raise NotFoundError(_no_such(sweep, matches, ids))
            return to_sweep(session.get_one(SweepRow, matches[0]))

    def list_sweeps(self, team: str | None = None, board: str | None = None) -> list[Sweep]:
        """Sweeps, the newest first."""
        statement = select(SweepRow).order_by(SweepRow.created_at.desc(), SweepRow.id)
        if team is not None:
            statement = statement.where(SweepRow.team == team)
        if board is not None:
            statement = statement.where(SweepRow.board == board)
        with self.database.read() as session:
            return [to_sweep(row) for row in session.scalars(statement)]

    def summaries(self, team: str | None = None) -> list[SweepSummary]:
        """The lines of `duchenne ls`, the newest first. `spent_usd` is None where no lease had a price."""
        trials = select(TrialRow.sweep, func.count().label("trials")).group_by(TrialRow.sweep).subquery()
        statement = (
            select(SweepRow.id, SweepRow.name, SweepRow.team, SweepRow.state, trials.c.trials, spent_nano_usd())
            .outerjoin(trials, trials.c.sweep == SweepRow.id)
            .outerjoin(AccountRow, AccountRow.sweep == SweepRow.id)
            .order_by(SweepRow.created_at.desc(), SweepRow.id)
        )
        if team is not None:
            statement = statement.where(SweepRow.team == team)
        with self.database.read() as session:
            return [
                SweepSummary(
                    id=id_,
                    name=name,
                    team=owner,
                    state=cast(SweepState, state),
                    trials=count or 0,
                    spent_usd=None if nano is None else int(nano) / 1e9,
                )
                for id_, name, owner, state, count, nano in session.execute(statement)
            ]

    def set_sweep_state(self, sweep: str, state: SweepState, *, token: str | None, error: str | None = None) -> Sweep:
        """Move a sweep on. The token is that of its lock; None only where nobody drives it (before the first driver).

        Starting again (`resume`) clears the end, the error and the request to stop. Asking for the state that it is in
        changes nothing.

        Raises:
            LockLostError: the token does not hold the sweep.
            RecordsConflictError: the move is not allowed, or the sweep is driven and no token was given.
        """
        if state not in SWEEP_STATES:
            raise RecordsError(
                f"a sweep's state is one of {', '.join(SWEEP_STATES)}, but got {state!r}; use one of them"
            )
        with self.database.write() as session:
            row = lock_sweep(session, sweep, token)
            now = self.database.now(session)
            if token is None and _is_driven(row, now):
                raise RecordsConflictError(
                    f"only the driver of {sweep} may change its state, but no token was given; acquire the lock first"
                )
            if state != row.state:
                _move(row, state, now, error)
            session.flush()
            return to_sweep(row)

    def request_stop(self, sweep: str, actor: str = "unknown") -> Sweep:
        """Ask the driver to stop. A sweep that nobody drives ends `stopped` at once; one that ended is left alone."""
        with self.database.write() as session:
            return ask_to_stop(self.database, session, sweep, actor)

    def stop_requested(self, sweep: str) -> bool:
        """Whether someone asked for a stop since the sweep last started."""
        with self.database.read() as session:
            return find_sweep(session, sweep).stop_requested

    def undriven_sweeps(self) -> list[Sweep]:
        """Sweeps that are `running` on record while the lock of their driver has run out."""
        with self.database.read() as session:
            statement = select(SweepRow).where(
                SweepRow.state == "running", SweepRow.lock_expires_at <= self.database.now(session)
            )
            return [to_sweep(row) for row in session.scalars(statement.order_by(SweepRow.id))]

    def end_undriven(self, sweep: str, *, actor: str) -> Sweep:
        """End a running sweep whose driver vanished: `stopped` where that was asked for, else `failed`. It can be
        resumed. One whose driver is back, or that ended, is left alone.
        """
        with self.database.write() as session:
            row = lock_sweep(session, sweep)
            now = self.database.now(session)
            if row.state == "running" and not _is_driven(row, now):
                since = row.lock_expires_at or now
                detail = {"driver": row.lock_holder, "since": since.isoformat()}
                lost = f"its driver vanished before {since:%Y-%m-%d %H:%M} UTC; go on with `duchenne resume {sweep}`"
                _move(row, *(("stopped", now, None) if row.stop_requested else ("failed", now, lost)))
                session.add(EventRow(at=now, sweep=sweep, actor=actor, what="driver vanished", detail=detail))
            session.flush()
            return to_sweep(row)

    def bind_data(self, sweep: str, *, dataset_digest: str, folds_digest: str, token: str | None = None) -> Sweep:
        """Tie a sweep to its data and folds, once and for all.

        Raises:
            RecordsConflictError: it is tied to other data or folds: what would follow could not be compared.
        """
        with self.database.write() as session:
            row = lock_sweep(session, sweep, token)
            for name, seen in (("dataset_digest", dataset_digest), ("folds_digest", folds_digest)):
                recorded = getattr(row, name)
                if recorded is not None and recorded != seen:
                    raise RecordsConflictError(
                        f"a sweep keeps its data and folds to the end, but {sweep} has {name} {recorded} "
                        f"and now sees {seen}; restore the data, or run the file as a new sweep"
                    )
                setattr(row, name, seen)
            session.flush()
            return to_sweep(row)

    def set_budget(self, sweep: str, budget: Amounts, *, actor: str = "unknown") -> Sweep:
        """Change the limits of a sweep, with a line in the audit. Lower than what is spent only means: no new lease."""
        with self.database.write() as session:
            row = lock_sweep(session, sweep)
            old = _budget(row)
            row.budget_usd, row.budget_gpu_seconds, row.budget_wall_seconds = (
                budget.usd,
                budget.gpu_seconds,
                budget.wall_seconds,
            )
            detail = {"from": old.as_json(), "to": budget.as_json()}
            now = self.database.now(session)
            session.add(EventRow(at=now, sweep=sweep, actor=actor, what="budget changed", detail=detail))
            session.flush()
            return to_sweep(row)

    def record_event(
        self, what: str, *, sweep: str | None = None, actor: str, detail: Mapping[str, Any] | None = None
    ) -> Event:
        """Add a line to the audit. Never put a credential into `detail`."""
        with self.database.write() as session:
            if sweep is not None:
                find_sweep(session, sweep)
            row = EventRow(
                at=self.database.now(session),
                sweep=sweep,
                actor=clean.text(actor) or "",
                what=clean.text(what) or "",
                detail=clean.finite(dict(detail or {})),
            )
            session.add(row)
            session.flush()
            return to_event(row)

    def events(self, sweep: str | None = None, after: int = 0, limit: int | None = None) -> list[Event]:
        """The audit in order, of one sweep or of all; `after` is the id of the last line already seen."""
        statement = select(EventRow).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
        if sweep is not None:
            statement = statement.where(EventRow.sweep == sweep)
        with self.database.read() as session:
            return [to_event(row) for row in session.scalars(statement)]

    def sweeps_of_dataset(self, dataset_digest: str) -> list[Sweep]:
        """Sweeps that used a dataset: what `data forget` must name."""
        statement = select(SweepRow).where(SweepRow.dataset_digest == dataset_digest).order_by(SweepRow.created_at)
        with self.database.read() as session:
            return [to_sweep(row) for row in session.scalars(statement)]


def insert_sweep(database: Database, session: Session, new: NewSweep, identifier: str | None = None) -> Sweep:
    """See `SweepRecords.create_sweep`; within a transaction."""
    now = database.now(session)
    if identifier is not None:
        if session.get(SweepRow, identifier) is not None:
            raise RecordsConflictError(
                f"a sweep needs an id of its own, but {identifier} is on record; resume it, or choose another"
            )
        return _added(session, _sweep_row(identifier, new, now))
    slug = re.sub(r"[^a-z0-9]+", "-", new.name.lower()).strip("-")[:48] or "sweep"
    # Four digits read well; where chance repeats them, more of them.
    for digits in (2, 2, 2, 3, 4, 8):
        row = _sweep_row(f"{slug}-{secrets.token_hex(digits)}", new, now)
        if session.get(SweepRow, row.id) is None:
            return _added(session, row)
    raise RecordsConflictError(f"a sweep needs an id of its own, but every one tried for {slug!r} is taken; try again")


def ask_to_stop(database: Database, session: Session, sweep: str, actor: str) -> Sweep:
    """See `SweepRecords.request_stop`; within a transaction."""
    row = lock_sweep(session, sweep)
    if row.state in _ENDED:
        return to_sweep(row)
    now = database.now(session)
    row.stop_requested = True
    if not _is_driven(row, now):
        _move(row, "stopped", now, None)
    session.add(EventRow(at=now, sweep=sweep, actor=actor, what="stop requested", detail={}))
    session.flush()
    return to_sweep(row)


def ask_to_resume(database: Database, session: Session, sweep: str, actor: str) -> Sweep:
    """Ask for a sweep that ended short of its aim to go on: a line in the audit, which whoever starts drivers acts on.

    Raises:
        RecordsConflictError: it is not stopped, failed or exhausted.
    """
    row = lock_sweep(session, sweep)
    if row.state not in _ENDED - {"succeeded"}:
        raise RecordsConflictError(
            f"a sweep that is stopped, failed or exhausted can be resumed, but {sweep} is {row.state}; leave it"
        )
    session.add(EventRow(at=database.now(session), sweep=sweep, actor=actor, what="resume requested", detail={}))
    session.flush()
    return to_sweep(row)


def require_undriven(database: Database, session: Session, sweep: str) -> Sweep:
    """The sweep, locked until the commit, if no driver holds it: what a driver writes, nobody else does.

    Raises:
        RecordsConflictError: a driver holds it.
    """
    row = lock_sweep(session, sweep)
    if _is_driven(row, database.now(session)):
        raise RecordsConflictError(
            f"only its driver may file results of {sweep}, but they came from elsewhere; wait until it ended"
        )
    return to_sweep(row)


def _added(session: Session, row: SweepRow) -> Sweep:
    session.add(row)
    session.flush()
    return to_sweep(row)


def _move(row: SweepRow, state: str, now: datetime, error: str | None) -> None:
    if state not in _TRANSITIONS[row.state]:
        allowed = ", ".join(sorted(_TRANSITIONS[row.state])) or "nothing: it is final"
        raise RecordsConflictError(
            f"a sweep that is {row.state} may become {allowed}, but {row.id} was to become {state}; "
            "run the file as a new sweep"
        )
    row.state = state
    row.error = clean.text(error)
    if state == "running":
        row.started_at = row.started_at or now
        row.ended_at, row.stop_requested = None, False
    elif state in _ENDED:
        row.ended_at = now


def _is_driven(row: SweepRow, now: datetime) -> bool:
    return row.lock_token is not None and row.lock_expires_at is not None and row.lock_expires_at > now


def _no_such(sweep: str, matches: list[str], ids: list[str]) -> str:
    if matches:
        some = ", ".join(matches[:5])
        return f"an id must name one sweep, but {sweep!r} begins {len(matches)}: {some}; write more of it"
    near = difflib.get_close_matches(sweep, ids, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "list the sweeps with `duchenne ls`"
    return f"an id must name a recorded sweep, but there is no {sweep!r}; {hint}"


def _sweep_row(identifier: str, new: NewSweep, now: datetime) -> SweepRow:
    return SweepRow(
        id=identifier,
        name=new.name,
        team=new.team,
        board=new.board,
        state="queued",
        spec=clean.finite(new.spec),
        spec_text=new.spec_text,
        spec_digest=new.spec_digest,
        dataset_uri=new.dataset_uri,
        dataset_digest=new.dataset_digest,
        folds_digest=new.folds_digest,
        code_revision=new.code_revision,
        image=new.image,
        budget_usd=new.budget.usd,
        budget_gpu_seconds=new.budget.gpu_seconds,
        budget_wall_seconds=new.budget.wall_seconds,
        created_at=now,
        stop_requested=False,
    )


def _budget(row: SweepRow) -> Amounts:
    return Amounts(usd=row.budget_usd, gpu_seconds=row.budget_gpu_seconds, wall_seconds=row.budget_wall_seconds)


def to_sweep(row: SweepRow) -> Sweep:
    """The frozen copy of a row. The lock's token stays inside: only `acquire_lock` hands it out."""
    return Sweep(
        id=row.id,
        name=row.name,
        team=row.team,
        board=row.board,
        state=cast(SweepState, row.state),
        spec=row.spec,
        spec_text=row.spec_text,
        spec_digest=row.spec_digest,
        dataset_uri=row.dataset_uri,
        dataset_digest=row.dataset_digest,
        folds_digest=row.folds_digest,
        code_revision=row.code_revision,
        image=row.image,
        budget=_budget(row),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
        stop_requested=row.stop_requested,
        lock_holder=row.lock_holder,
        lock_since=row.lock_since,
        lock_expires_at=row.lock_expires_at,
    )


def to_event(row: EventRow) -> Event:
    return Event(
        id=row.id, at=row.at, sweep=row.sweep, actor=row.actor, what=row.what, detail=row.detail, team=row.team
    )
