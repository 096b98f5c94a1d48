"""What a board's page shows: rows with tie groups and intervals, published numbers among them, and the frontier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from duchenne.records import RecordStore
from duchenne.records.board_rows import STATUSES, Board, Standing, StandingFilter
from duchenne.server import queries
from duchenne.server.access import Viewer
from duchenne.server.api.boards import checked_name
from duchenne.server.pages.formats import percent
from duchenne.server.pages.links import Pairs, changed, entry_path
from duchenne.server.pages.plots.frontier import Point, frontier_plot
from duchenne.server.pages.plots.intervals import IntervalScale
from duchenne.server.problems import Problem
from duchenne.server.queries import DEFAULT_SORT, Reference

ROWS: Final = 50
SORTABLE: Final = {
    "f1": "F1",
    "f1_deflated": "Deflated",
    "auc": "AUC",
    "cost": "Cost",
    "gpu_hours": "GPU-h",
    "trials": "Trials",
    "date": "Date",
}
EXTRA: Final = {
    "f1_pooled": "Pooled F1",
    "f1_micro": "Micro F1",
    "f1_inner_threshold": "F1, inner threshold",
    "f1_oracle": "F1, oracle threshold",
    "accuracy": "Accuracy",
    "auc_pooled": "Pooled AUC",
    "log_loss": "Log-loss",
    "calibration_error": "ECE",
}
"""Columns that are shown when asked for, beside one for each AU."""

PUBLISHED: Final = 3
"""Published numbers among the entries, unless all are asked for: a paper's table would bury a young board."""

FIELDS: Final = (
    "sort",
    "team",
    "method",
    "status",
    "since",
    "until",
    "min_cost",
    "max_cost",
    "on_frontier",
    "published",
)
"""What the form asks for."""


@dataclass(frozen=True)
class Column:
    """A head of the table: `href` sorts by it, `direction` is how it sorts now."""

    title: str
    href: str
    direction: str | None


@dataclass(frozen=True)
class Line:
    """A row: an entry, or a published number where `reference` is set."""

    standing: Standing | None
    reference: Reference | None
    bar: Markup
    extra: tuple[str, ...]
    tied: bool


@dataclass(frozen=True)
class BoardView:
    """Everything on the page below its heading."""

    board: Board
    lines: tuple[Line, ...]
    columns: dict[str, Column]
    bar_head: Markup
    extra: tuple[str, ...]
    choices: tuple[tuple[str, str, bool], ...]
    asked: dict[str, str]
    filtered: bool
    total: int | None
    first_href: str | None
    next_href: str | None
    plot: Markup
    references: tuple[Reference, ...]
    statuses: tuple[str, ...]
    tied_with_best: int


def read_board(store: RecordStore, viewer: Viewer, board: Board, pairs: Pairs) -> BoardView:
    """Read one page of a board.

    Args:
        pairs: the query: `sort`, `cursor`, filters, and `show` once for each further column.

    Raises:
        Problem: 422 for a filter that can't be read.
        RecordsError: a sort or cursor that can't be.
    """
    asked = {name: value for name, value in pairs if value}
    wanted = _filter(asked)
    sort = asked.get("sort", DEFAULT_SORT)
    cursor = asked.get("cursor")
    found = queries.board_page(store, viewer, board.id, wanted=wanted, sort=sort, cursor=cursor, limit=ROWS)
    frontier = queries.frontier(store, viewer, board.id)
    references = queries.references(store, viewer, board.id)
    tasks = tuple(dict.fromkeys(task.task for item in found.items for task in item.numbers.tasks))
    shown = [value for name, value in pairs if name == "show"]
    extra = tuple(name for name in (*EXTRA, *tasks) if name in shown)
    filtered = wanted != StandingFilter()
    by_f1 = not filtered and sort.removeprefix("-") == "f1"
    among = _chosen(references, asked.get("published", "")) if by_f1 else []
    scale = _scale(found.items, among)
    lines = [_line(item, scale, extra) for item in found.items]
    if among:
        lines = _with_references(lines, among, scale, extra, sort, cursor is None, found.next is None)
    base = [(name, value) for name, value in pairs if name != "cursor"]
    return BoardView(
        board=board,
        lines=tuple(lines),
        columns={name: _column(name, title, sort, base) for name, title in SORTABLE.items()},
        bar_head=scale.head(),
        extra=tuple(EXTRA.get(name, name) for name in extra),
        choices=tuple((name, EXTRA.get(name, name), name in extra) for name in (*EXTRA, *tasks)),
        asked=dict.fromkeys(FIELDS, "") | asked,
        filtered=filtered,
        total=found.total,
        first_href=changed(base) if cursor else None,
        next_href=changed(base, cursor=found.next) if found.next else None,
        plot=_plot(frontier, found.items, references),
        references=references,
        statuses=tuple(status for status in STATUSES if status != "published"),
        tied_with_best=sum(line.tied for line in lines),
    )


def _filter(asked: dict[str, str]) -> StandingFilter:
    status, kind = asked.get("status"), asked.get("kind")
    if status not in (None, *STATUSES):
        raise Problem(422, f"a status is one of {', '.join(STATUSES)}, but got {status!r:.40}; choose one")
    return StandingFilter(
        team=checked_name(asked.get("team")),
        method=checked_name(asked.get("method")),
        status=status,
        kind=kind,
        since=_day(asked, "since"),
        until=_day(asked, "until", after=1),
        min_cost=_money(asked, "min_cost"),
        max_cost=_money(asked, "max_cost"),
        on_frontier=True if asked.get("on_frontier") else None,
    )


def _day(asked: dict[str, str], name: str, after: int = 0) -> datetime | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC) + timedelta(days=after)
    except (ValueError, OverflowError) as error:
        raise Problem(422, f"a date is written as 2026-11-24, but {name} is {text!r:.40}; correct it") from error


def _money(asked: dict[str, str], name: str) -> float | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1e12:
        raise Problem(422, f"a cost is a number of dollars, 0 or more, but {name} is {text!r:.40}; correct it")
    return amount


def _scale(items: Iterable[Standing], references: Sequence[Reference]) -> IntervalScale:
    values: list[float | None] = []
    for item in items:
        values += [item.numbers.f1_mean, item.numbers.ci_low, item.numbers.ci_high]
    if any(value is not None for value in values):
        values += [row.value / 100 for row in references]
    return IntervalScale.of(values)


def _line(item: Standing, scale: IntervalScale, extra: Sequence[str]) -> Line:
    numbers = item.numbers
    tasks = {task.task: task.f1 for task in numbers.tasks}
    cells = tuple(percent(tasks[name]) if name in tasks else _extra(item, name) for name in extra)
    return Line(item, None, scale.bar(numbers.f1_mean, numbers.ci_low, numbers.ci_high), cells, item.rank_low == 1)


def _extra(item: Standing, name: str) -> str:
    if name not in EXTRA:
        return percent(None)
    value: float | None = getattr(item.numbers, name)
    return f"{value:.3f}" if name in ("log_loss", "calibration_error") and value is not None else percent(value)


def _chosen(references: Sequence[Reference], which: str) -> list[Reference]:
    """The published F1 to show among the entries: the best of the best methods, unless `all` or `none` are wanted."""
    rows = [row for row in references if row.metric == "f1"]
    if which == "all":
        return rows
    best = {row.method: row for row in reversed(rows)}
    return [] if which == "none" else sorted(best.values(), key=lambda row: -row.value)[:PUBLISHED]


def _with_references(
    lines: list[Line],
    references: Sequence[Reference],
    scale: IntervalScale,
    extra: Sequence[str],
    sort: str,
    is_first: bool,
    is_last: bool,
) -> list[Line]:
    """The published numbers among the entries, each where its F1 puts it; on the page where it belongs alone."""
    down = sort.startswith("-")
    sign = -1.0 if down else 1.0
    heights = [line.standing.numbers.f1_mean for line in lines if line.standing is not None]
    keys = [sign * height for height in heights if height is not None]
    start = float("-inf") if is_first or not keys else keys[0]
    end = float("inf") if is_last or not keys or len(keys) < len(heights) else keys[-1]
    rows = [
        Line(None, row, scale.mark(row.value / 100), tuple(_percent_of(row, name) for name in extra), False)
        for row in references
        if start <= sign * row.value / 100 < end
    ]

    def place(line: Line) -> float:
        if line.reference is not None:
            return sign * line.reference.value / 100
        f1 = line.standing.numbers.f1_mean if line.standing is not None else None
        return float("inf") if f1 is None else sign * f1

    return sorted([*lines, *rows], key=place)


def _percent_of(row: Reference, name: str) -> str:
    value = row.tasks.get(name)
    return percent(None if value is None else value / 100)


def _column(name: str, title: str, sort: str, base: list[tuple[str, str]]) -> Column:
    """Highest first, unless it is so already; money and dates begin where a reader wants them to."""
    down, up = f"-{name}", name
    first = up if name in ("cost", "gpu_hours", "trials") else down
    then = up if first == down else down
    return Column(
        title,
        changed(base, sort=then if sort == first else first),
        {down: "descending", up: "ascending"}.get(sort),
    )


def _plot(frontier: Sequence[Standing], items: Sequence[Standing], references: Sequence[Reference]) -> Markup:
    on = {item.entry for item in frontier}
    best = next((row for row in references if row.metric == "f1"), None)
    return frontier_plot(
        _points(frontier),
        _points(item for item in items if item.entry not in on and item.status == "verified"),
        None if best is None else (best.method, best.value / 100),
    )


def _points(items: Iterable[Standing]) -> list[Point]:
    return [
        Point(item.label, entry_path(item.entry), item.cost_usd, item.numbers.f1_mean)
        for item in items
        if item.cost_usd is not None and item.numbers.f1_mean is not None
    ]
