"""Sweeps as the command line shows them: state, trials, fold jobs, results, cost, entries, events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from duchenne.records import Event, FoldJob, ResultRow, Sweep, Trial
from duchenne.records.rows import JobState, SweepState
from duchenne.records.sweep_pages import LivePoint, SweepLine
from duchenne.server import queries
from duchenne.server.access import Store, Who
from duchenne.server.api.boards import Cursor, Limit, Name, checked_name
from duchenne.server.api.shapes import AmountsOut, EntryLine, PageOf
from duchenne.server.resuming import WayOn

router = APIRouter(tags=["sweeps"])


class SweepOut(BaseModel):
    """One sweep, as `duchenne show` prints it."""

    id: str
    name: str
    team: str
    board: str
    state: SweepState
    spec: dict[str, Any]
    spec_text: str
    spec_digest: str
    dataset_uri: str
    dataset_digest: str | None
    folds_digest: str | None
    code_revision: str | None
    image: str | None
    budget: AmountsOut
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    stop_requested: bool
    driver: str | None

    @classmethod
    def of(cls, sweep: Sweep) -> SweepOut:
        """From the records'."""
        names = [name for name in SweepOut.model_fields if name not in ("budget", "driver")]
        values = {name: getattr(sweep, name) for name in names}
        return cls(**values, budget=AmountsOut.of(sweep.budget), driver=sweep.lock_holder)


class ResumeAsked(SweepOut):
    """A sweep that somebody wants to go on, and what makes it."""

    next: str

    @classmethod
    def of(cls, sweep: Sweep) -> ResumeAsked:
        """From the records'."""
        return cls(**SweepOut.of(sweep).model_dump(), next=WayOn.of(sweep).line)


class LiveOut(BaseModel):
    """Everything that a live view draws. Send `last_event` as `after` to /events for what follows."""

    sweep: SweepOut
    trials: list[Trial]
    points: list[LivePoint]
    balance: dict[str, AmountsOut]
    last_event: int


@router.get("/sweeps")
def list_sweeps(
    who: Who,
    store: Store,
    team: Name = None,
    state: SweepState | None = None,
    board: Name = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[SweepLine]:
    """Sweeps of your teams, the newest first."""
    page = queries.sweeps(
        store, who, team=checked_name(team), state=state, board=checked_name(board), cursor=cursor, limit=limit
    )
    return PageOf(items=list(page.items), next=page.next)


@router.get("/sweeps/{sweep}")
def show_sweep(sweep: str, who: Who, store: Store) -> SweepOut:
    """One sweep, by its whole id."""
    return SweepOut.of(queries.sweep(store, who, sweep))


@router.get("/sweeps/{sweep}/live")
def show_live(sweep: str, who: Who, store: Store) -> LiveOut:
    """A sweep with all its trials and fold jobs."""
    live = queries.sweep_live(store, who, sweep)
    return LiveOut(
        sweep=SweepOut.of(live.sweep),
        trials=list(live.trials),
        points=list(live.points),
        balance={side: AmountsOut(**amounts) for side, amounts in live.balance.items()},
        last_event=live.last_event,
    )


@router.get("/sweeps/{sweep}/trials")
def list_trials(sweep: str, who: Who, store: Store, cursor: Cursor = None, limit: Limit = 50) -> PageOf[Trial]:
    """Trials of a sweep, by number."""
    page = store.trial_page(queries.sweep(store, who, sweep).id, cursor=cursor, limit=limit)
    return PageOf(items=list(page.items), next=page.next)


@router.get("/sweeps/{sweep}/jobs")
def list_jobs(
    sweep: str, who: Who, store: Store, state: JobState | None = None, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[FoldJob]:
    """Fold jobs of a sweep, in the order in which they were recorded."""
    page = store.job_page(queries.sweep(store, who, sweep).id, state=state, cursor=cursor, limit=limit)
    return PageOf(items=list(page.items), next=page.next)


@router.get("/sweeps/{sweep}/results")
def list_results(sweep: str, who: Who, store: Store, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ResultRow]:
    """Every recorded epoch of a sweep: the lines of `duchenne results`."""
    page = store.result_page(queries.sweep(store, who, sweep).id, cursor=cursor, limit=limit)
    return PageOf(items=list(page.items), next=page.next)


@router.get("/sweeps/{sweep}/cost")
def show_cost(sweep: str, who: Who, store: Store) -> dict[str, Any]:
    """Budget, spent, reserved, wasted and left, and what it was spent on: the keys of `duchenne cost`."""
    costs = queries.sweep_costs(store, who, sweep)
    return store.ledger.balance(sweep) | costs.as_json()


@router.get("/sweeps/{sweep}/entries")
def list_entries(sweep: str, who: Who, store: Store) -> list[EntryLine]:
    """The entries of a sweep."""
    return [EntryLine.of(item) for item in store.standings_of_sweep(who.sight, queries.sweep(store, who, sweep).id)]


@router.get("/sweeps/{sweep}/events")
def list_events(
    sweep: str,
    who: Who,
    store: Store,
    after: Annotated[int, Query(ge=0, lt=2**31, description="Id of the last line already seen.")] = 0,
    limit: Limit = 50,
) -> list[Event]:
    """The audit of a sweep, in order."""
    return store.events(queries.sweep(store, who, sweep).id, after=after, limit=limit)
