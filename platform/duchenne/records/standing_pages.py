"""Boards and what stands on them, as they are read: part of `RecordStore`. Every call says whose rows it may read.

A page continues from the last row's sort value and entry, along an index that ends in both: row 50,000 costs no more
than row 1. Rows without a value come last, whichever way the board is sorted.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Row, or_, select, tuple_
from sqlalchemy.orm import Session

from duchenne.records.board_models import BoardRow, ExternalRow, StandingRow, TruthRow
from duchenne.records.board_rows import (
    Board,
    External,
    Kind,
    Numbers,
    Page,
    Sight,
    Standing,
    StandingFilter,
    StandingStatus,
    TaskNumber,
    Truth,
    team_board,
)
from duchenne.records.cursors import bounded, decode, encode
from duchenne.records.database import Database
from duchenne.records.errors import NotFoundError, RecordsError
from duchenne.records.models import EntryRow
from duchenne.records.rows import PredictionFile

SORTS: Final[dict[str, tuple[Any, type]]] = {
    "f1": (StandingRow.f1_mean, float),
    "f1_deflated": (StandingRow.f1_deflated, float),
    "auc": (StandingRow.auc, float),
    "cost": (StandingRow.cost_usd, float),
    "gpu_hours": (StandingRow.gpu_hours, float),
    "trials": (StandingRow.trials, int),
    "date": (StandingRow.created_at, datetime),
}
"""What a board may be sorted by: ascending, or descending behind a `-`."""

DEFAULT_SORT = "-f1"
_NO_BOARD = "a board must be one of those that you may see, but there is no {!r:.60}; list them at /api/v1/boards"
_NO_ENTRY = "an entry must be one of those that you may see, but there is no {!r:.60}; list them on its board"


class StandingPages:
    """Part of `RecordStore`: what the boards show."""

    database: Database

    def visible_boards(self, sight: Sight, *, cursor: str | None = None, limit: int = 50) -> Page[Board]:
        """Public boards and those of the teams in sight, by id. A published one is listed as the public board only."""
        statement = select(BoardRow).where(_boards_in(sight), ~BoardRow.published).order_by(BoardRow.id)
        if cursor is not None:
            statement = statement.where(BoardRow.id > decode(cursor, "id", str)[1])
        size = bounded(limit)
        with self.database.read() as session:
            rows = list(session.scalars(statement.limit(size + 1)))
            return Page(
                items=tuple(to_board(row) for row in rows[:size]),
                next=encode("id", None, rows[size - 1].id) if len(rows) > size else None,
            )

    def visible_board(self, sight: Sight, board: str) -> Board:
        """The board of that id.

        Raises:
            NotFoundError: there is none in sight.
        """
        with self.database.read() as session:
            return to_board(_board_in(session, sight, board))

    def is_published(self, team: str, name: str) -> bool:
        """Whether a team's board of that name stands on the public one."""
        with self.database.read() as session:
            row = session.get(BoardRow, team_board(team, name))
            return row is not None and row.published

    def standings(
        self,
        sight: Sight,
        board: str,
        *,
        wanted: StandingFilter | None = None,
        sort: str = DEFAULT_SORT,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Standing]:
        """One page of a board.

        Raises:
            NotFoundError: there is no such board in sight.
            RecordsError: it can't be sorted so, or the cursor belongs to another order.
        """
        wanted = wanted or StandingFilter()
        column, kind = _sort_column(sort)
        size = bounded(limit)
        after = None if cursor is None else decode(cursor, sort, kind)
        with self.database.read() as session:
            found = _board_in(session, sight, board)
            which = [StandingRow.board == found.id, *_filters(wanted)]
            rows = _rows(session, which, column, sort, after, size + 1)
            total = found.entries if wanted == StandingFilter() else None
            last = rows[size - 1] if len(rows) > size else None
            return Page(
                items=tuple(to_standing(row) for row in rows[:size]),
                next=None if last is None else encode(sort, getattr(last, column.key), last.entry),
                total=total,
            )

    def frontier(self, sight: Sight, board: str, *, limit: int = 200) -> tuple[Standing, ...]:
        """The entries that no other undercuts, the cheapest first."""
        with self.database.read() as session:
            found = _board_in(session, sight, board)
            statement = select(StandingRow).where(StandingRow.board == found.id, StandingRow.on_frontier)
            rows = session.scalars(statement.order_by(StandingRow.cost_usd).limit(bounded(limit)))
            return tuple(to_standing(row) for row in rows)

    def standing(self, sight: Sight, entry: str) -> Standing:
        """The standing of an entry that is in sight: on a public board, or of a team in sight.

        Raises:
            NotFoundError: there is none.
        """
        with self.database.read() as session:
            return to_standing(_standing_in(session, sight, entry))

    def external(self, entry: str) -> External | None:
        """What is kept of an entry that came as predictions alone; None for another."""
        with self.database.read() as session:
            row = session.get(ExternalRow, entry)
            return None if row is None else _to_external(row)

    def standings_of_sweep(self, sight: Sight, sweep: str) -> tuple[Standing, ...]:
        """The standings of one sweep that are in sight."""
        with self.database.read() as session:
            statement = select(StandingRow).where(StandingRow.sweep == sweep, _standings_in(sight))
            return tuple(to_standing(row) for row in session.scalars(statement.order_by(StandingRow.entry)))

    def truth(self, dataset_digest: str, folds_digest: str) -> Truth | None:
        """The recorded labels and folds of a dataset."""
        with self.database.read() as session:
            row = session.get(TruthRow, (dataset_digest, folds_digest))
            return None if row is None else to_truth(row)

    def truths_of_board(self, board: str) -> list[Truth]:
        """The recorded labels behind the verified entries of a board, those with the latest entry first."""
        statement = (
            select(EntryRow.dataset_digest, EntryRow.folds_digest)
            .join(StandingRow, StandingRow.entry == EntryRow.id)
            .where(StandingRow.board == board, StandingRow.status == "verified")
            .order_by(StandingRow.created_at.desc())
            .limit(1000)
        )
        with self.database.read() as session:
            keys = dict.fromkeys(session.execute(statement).all())
            rows = [session.get(TruthRow, key) for key in keys]
            return [to_truth(row) for row in rows if row is not None]


def _sort_column(sort: str) -> tuple[Any, type]:
    found = SORTS.get(sort.removeprefix("-"))
    if found is None:
        raise RecordsError(
            f"a board is sorted by {', '.join(SORTS)}, with a `-` before it for the highest first, "
            f"but got {sort!r:.40}; use one of them"
        )
    return found


def _rows(
    session: Session,
    which: list[ColumnElement[bool]],
    column: Any,
    sort: str,
    after: tuple[Any, str] | None,
    count: int,
) -> list[Row[Any]]:
    """Up to `count` rows after a position: those with a value in its order, then those without, by entry.

    Two reads along one index, not one by an expression that no index has.
    """
    down = sort.startswith("-")
    key = StandingRow.entry
    order = (column.desc(), key.desc()) if down else (column.asc(), key.asc())
    found: list[Row[Any]] = []
    if after is None or after[0] is not None:
        bounds = [column.is_not(None)]
        if after is not None:
            here, there = tuple_(column, key), tuple_(*after)
            bounds.append(here < there if down else here > there)
        found = _read(session, [*which, *bounds], order, count)
        after = None
    if len(found) < count:
        bounds = [column.is_(None)]
        if after is not None:
            bounds.append(key < after[1] if down else key > after[1])
        found += _read(session, [*which, *bounds], order[1:], count - len(found))
    return found


def _read(session: Session, which: list[Any], order: tuple[Any, ...], count: int) -> list[Row[Any]]:
    """The index alone says which rows; only those are read, as plain rows: objects that could change cost more."""
    chosen = select(StandingRow.entry).where(*which).order_by(*order).limit(count)
    return list(session.execute(select(*_COLUMNS).where(StandingRow.entry.in_(chosen)).order_by(*order)))


def _filters(wanted: StandingFilter) -> list[ColumnElement[bool]]:
    exact = {
        StandingRow.team: wanted.team,
        StandingRow.method: wanted.method,
        StandingRow.status: wanted.status,
        StandingRow.kind: wanted.kind,
        StandingRow.on_frontier: wanted.on_frontier,
    }
    found: list[ColumnElement[bool]] = [column == value for column, value in exact.items() if value is not None]
    if wanted.since is not None:
        found.append(StandingRow.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(StandingRow.created_at < wanted.until)
    if wanted.min_cost is not None:
        found.append(StandingRow.cost_usd >= wanted.min_cost)
    if wanted.max_cost is not None:
        found.append(StandingRow.cost_usd <= wanted.max_cost)
    return found


def _boards_in(sight: Sight) -> ColumnElement[bool]:
    if sight.everything:
        return BoardRow.id.is_not(None)
    return or_(BoardRow.team.is_(None), BoardRow.team.in_(sorted(sight.teams)))


def _board_in(session: Session, sight: Sight, board: str) -> BoardRow:
    row = session.get(BoardRow, board) if "\x00" not in board else None
    if row is None or not (row.team is None or sight.sees(row.team)):
        raise NotFoundError(_NO_BOARD.format(board))
    return row


def _standings_in(sight: Sight) -> ColumnElement[bool]:
    """Rows of teams in sight, and those on a public board: its id is its name, a team's own has the team before it."""
    if sight.everything:
        return StandingRow.entry.is_not(None)
    return or_(StandingRow.team.in_(sorted(sight.teams)), StandingRow.board == StandingRow.board_name)


def _standing_in(session: Session, sight: Sight, entry: str) -> StandingRow:
    row = session.get(StandingRow, entry) if "\x00" not in entry else None
    if row is None or not (sight.sees(row.team) or row.board == row.board_name):
        raise NotFoundError(_NO_ENTRY.format(entry))
    return row


def to_board(row: BoardRow) -> Board:
    return Board(
        id=row.id,
        name=row.name,
        team=row.team,
        published=row.published,
        entries=row.entries,
        version=f"{row.version}.{row.ranked_version}",
        created_at=row.created_at,
    )


def to_standing(row: StandingRow | Row[Any]) -> Standing:
    return Standing(
        entry=row.entry,
        board=row.board,
        board_name=row.board_name,
        team=row.team,
        sweep=row.sweep,
        method=row.method,
        label=row.label,
        kind=cast(Kind, row.kind),
        status=cast(StandingStatus, row.status),
        reason=row.reason,
        numbers=Numbers(
            **{name: getattr(row, name) for name in _NUMBERS},
            tasks=tuple(TaskNumber(**task) for task in row.tasks),
        ),
        rank_low=row.rank_low,
        rank_high=row.rank_high,
        cost_usd=row.cost_usd,
        gpu_hours=row.gpu_hours,
        trials=row.trials,
        on_frontier=row.on_frontier,
        created_at=row.created_at,
    )


_COLUMNS = tuple(StandingRow.__table__.columns)
_NUMBERS = tuple(field.name for field in fields(Numbers) if field.name != "tasks")


def _to_external(row: ExternalRow) -> External:
    return External(
        entry=row.entry,
        description=row.description,
        upload_digest=row.upload_digest,
        uploaded_by=row.uploaded_by,
        dataset_digest=row.dataset_digest,
        folds_digest=row.folds_digest,
        metrics=row.metrics,
        per_fold=row.per_fold,
        predictions=tuple(PredictionFile(**file) for file in row.predictions),
    )


def to_truth(row: TruthRow) -> Truth:
    return Truth(dataset_digest=row.dataset_digest, folds_digest=row.folds_digest, path=row.path, digest=row.digest)
