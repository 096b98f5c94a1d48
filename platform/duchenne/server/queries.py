"""The read side: what the API and the pages show to one viewer. What a viewer may not see raises `NotFoundError`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from duchenne.boards.published import published_tables
from duchenne.plan.teams import team_limits
from duchenne.records import Amounts, NotFoundError, PredictionFile, RecordStore, Sweep, Trial
from duchenne.records.board_rows import Board, Page, Standing, StandingFilter
from duchenne.records.costs import Costs, costs_of
from duchenne.records.sweep_pages import LivePoint, SweepLine
from duchenne.server.access import Viewer

DEFAULT_SORT = "-f1"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A published number beside a board's entries, in percent; never ours, never ranked. `tasks`: column -> percent."""

    method: str
    source: str
    table: str
    metric: str
    value: float
    spread: float | None
    runs: int | None
    tasks: Mapping[str, float]
    note: str | None
    status: str = "published"


@dataclass(frozen=True, kw_only=True)
class EntryDetail:
    """An entry with what stands behind it.

    Attributes:
        config: the configuration behind it, {} for a comparator or an external entry.
        metrics, per_fold, predictions: as recorded; see `docs/evaluation.md`.
        code_revision, image, dataset_uri: of its sweep, for those who may see the sweep; None else.
        description: what an uploader said about it.
    """

    standing: Standing
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    per_fold: Any
    predictions: tuple[PredictionFile, ...]
    dataset_digest: str
    folds_digest: str
    code_revision: str | None
    image: str | None
    dataset_uri: str | None
    description: str | None


@dataclass(frozen=True, kw_only=True)
class SweepLive:
    """A sweep while it runs: everything a live page draws."""

    sweep: Sweep
    trials: tuple[Trial, ...]
    points: tuple[LivePoint, ...]
    balance: Mapping[str, Mapping[str, float | None]]
    last_event: int


@dataclass(frozen=True, kw_only=True)
class TeamSpend:
    """A team's month: limits, what is spent and reserved since its first day (UTC); None is no limit or unknown."""

    team: str
    month: str
    limits: Amounts
    spent: Amounts
    reserved: Amounts


def boards(store: RecordStore, viewer: Viewer, *, cursor: str | None = None, limit: int = 50) -> Page[Board]:
    """Boards that the viewer may see, by id."""
    return store.visible_boards(viewer.sight, cursor=cursor, limit=limit)


def board(store: RecordStore, viewer: Viewer, board_id: str) -> Board:
    """One board."""
    return store.visible_board(viewer.sight, board_id)


def board_page(
    store: RecordStore,
    viewer: Viewer,
    board_id: str,
    *,
    wanted: StandingFilter | None = None,
    sort: str = DEFAULT_SORT,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Standing]:
    """One page of a board; `total` is that of the whole board, None behind a filter."""
    return store.standings(viewer.sight, board_id, wanted=wanted, sort=sort, cursor=cursor, limit=limit)


def frontier(store: RecordStore, viewer: Viewer, board_id: str) -> tuple[Standing, ...]:
    """Score for money: the entries that none undercuts, the cheapest first."""
    return store.frontier(viewer.sight, board_id)


def references(store: RecordStore, viewer: Viewer, board_id: str) -> tuple[Reference, ...]:
    """Published numbers of the dataset that the board is named after, the highest first."""
    name = store.visible_board(viewer.sight, board_id).name
    rows = [
        Reference(
            method=row.method,
            source=table.source,
            table=table.table,
            metric=table.metric,
            value=row.value,
            spread=row.spread,
            runs=table.runs,
            tasks=dict(zip(table.columns, row.tasks, strict=True)) if row.tasks else {},
            note=row.note,
        )
        for table in published_tables()
        if table.dataset == name
        for row in table.rows
    ]
    return tuple(sorted(rows, key=lambda row: (-row.value, row.method)))


def reference_boards() -> tuple[str, ...]:
    """Names of the datasets that papers have numbers for."""
    return tuple(sorted({table.dataset for table in published_tables()}))


def entry(store: RecordStore, viewer: Viewer, entry_id: str) -> EntryDetail:
    """One entry with its lineage."""
    standing = store.standing(viewer.sight, entry_id)
    external = store.external(entry_id)
    if external is not None:
        return EntryDetail(
            standing=standing,
            config={},
            metrics=external.metrics,
            per_fold=external.per_fold,
            predictions=external.predictions,
            dataset_digest=external.dataset_digest,
            folds_digest=external.folds_digest,
            code_revision=None,
            image=None,
            dataset_uri=None,
            description=external.description,
        )
    record = store.get_entry(entry_id)
    sweep = store.get_sweep(record.sweep)
    own = viewer.may_see(sweep.team)
    return EntryDetail(
        standing=standing,
        config=record.config,
        metrics=record.metrics if standing.status != "rejected" else {},
        per_fold=record.per_fold if standing.status != "rejected" else [],
        predictions=record.predictions,
        dataset_digest=record.dataset_digest,
        folds_digest=record.folds_digest,
        code_revision=sweep.code_revision,
        image=sweep.image if own else None,
        dataset_uri=sweep.dataset_uri if own else None,
        description=None,
    )


def sweeps(
    store: RecordStore,
    viewer: Viewer,
    *,
    team: str | None = None,
    state: str | None = None,
    board: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[SweepLine]:
    """Sweeps of the viewer's teams, the newest first."""
    return store.sweep_page(viewer.sight, team=team, state=state, board=board, cursor=cursor, limit=limit)


def sweep(store: RecordStore, viewer: Viewer, sweep_id: str) -> Sweep:
    """One sweep, by its whole id."""
    return store.visible_sweep(viewer.sight, sweep_id)


def sweep_live(store: RecordStore, viewer: Viewer, sweep_id: str) -> SweepLive:
    """A sweep with all its trials, the state of every fold job, and its balance."""
    found = store.visible_sweep(viewer.sight, sweep_id)
    return SweepLive(
        sweep=found,
        trials=tuple(store.trials(found.id)),
        points=store.live_points(found.id),
        balance=store.ledger.balance(found.id),
        last_event=store.last_event(found.id),
    )


def sweep_costs(store: RecordStore, viewer: Viewer, sweep_id: str) -> Costs:
    """What a sweep cost, by what it was spent on."""
    return costs_of(store, store.visible_sweep(viewer.sight, sweep_id).id)


def teams(store: RecordStore, viewer: Viewer) -> tuple[str, ...]:
    """Names of the viewer's teams."""
    return tuple(team.name for team in store.teams() if viewer.may_see(team.name))


def team_spend(
    store: RecordStore, viewer: Viewer, team: str, home: Path | None = None, now: datetime | None = None
) -> TeamSpend:
    """A team's budget and spend of this month, by the limits that its sweeps are held to.

    Args:
        home: where teams.yaml is; None takes that of a SQLite store.
    """
    if not viewer.may_see(team):
        raise NotFoundError(f"a team must be one of yours, but there is no {team!r:.60}; list yours at /api/v1/teams")
    store.get_team(team)
    month = store.ledger.month(team, now)
    folder, recorded = home or store.home, store.team_budget(team)
    limits = recorded if folder is None else team_limits(folder, team, recorded)
    return TeamSpend(
        team=team,
        month=store.month_now(now),
        limits=limits or Amounts(),
        spent=month["spent"],
        reserved=month["reserved"],
    )
