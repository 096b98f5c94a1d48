"""Published rows matched with the newest entries that reproduce them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from duchenne.boards.published import PublishedRow, PublishedTable, published_tables
from duchenne.figures.order_search import trajectories
from duchenne.figures.source import SweepData, read_sweep
from duchenne.records import Entry, RecordStore

CONFIDENCE = 0.95
METRICS = {"accuracy": "accuracy", "f1": "f1_macro"}
SYNTHETIC = "builtin://faces"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A published row and what came out here.

    Attributes:
        entry: the entry's id; None where nothing of it has run.
        values: the metric of each run, in percent.
        found: runs whose heaviest order is the identity, None for a method without orders.
        seconds: worker seconds of its evaluation.
    """

    row: PublishedRow
    entry: str | None = None
    values: tuple[float, ...] = ()
    found: int | None = None
    seconds: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean over the runs, in percent."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean by Student's t over the runs; None with fewer than two."""
        if len(self.values) < 2:
            return None
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1) * stats.sem(self.values)
        centre = float(np.mean(self.values))
        return centre - float(half), centre + float(half)


@dataclass(frozen=True)
class ReproducedTable:
    """A published table with our runs of it.

    Attributes:
        sweep: the newest sweep on its board, None where there is none.
        synthetic: whether it ran on drawn faces instead of the published dataset.
    """

    published: PublishedTable
    lines: tuple[Line, ...]
    sweep: SweepData | None = None
    synthetic: bool = False


def board_of(table: PublishedTable) -> str:
    """The board whose entries reproduce a table: `table-2-1`, `table-4-1-disfa`."""
    same = [other for other in published_tables() if other.table == table.table]
    name = f"table-{table.table.replace('.', '-')}"
    return name if len(same) == 1 else f"{name}-{table.dataset}"


def reproduced_tables(store: RecordStore, home: Path) -> list[ReproducedTable]:
    """Every published table of the thesis, with the newest sweep on its board.

    Args:
        home: the folder to which recorded paths are relative.
    """
    return [_reproduced(store, home, table) for table in published_tables() if table.table != "since"]


def _reproduced(store: RecordStore, home: Path, table: PublishedTable) -> ReproducedTable:
    entries = store.entries(board_of(table))
    if not entries:
        return ReproducedTable(table, tuple(Line(row=row) for row in table.rows))
    newest = entries[-1].sweep
    data = read_sweep(store, newest, home)
    own = {entry.method: entry for entry in entries if entry.sweep == newest}
    found = {method: [run.found for run in runs] for method, runs in trajectories(data).items()}
    seconds = _evaluation_seconds(data)
    lines = [_line(row, own.get(row.key), table, found, seconds) for row in table.rows]
    return ReproducedTable(table, tuple(lines), data, data.sweep.data.uri.startswith(SYNTHETIC))


def _line(
    row: PublishedRow,
    entry: Entry | None,
    table: PublishedTable,
    found: dict[str, list[bool | None]],
    seconds: dict[str, float],
) -> Line:
    if entry is None:
        return Line(row=row)
    metric = METRICS[table.metric]
    return Line(
        row=row,
        entry=entry.id,
        values=tuple(100 * run["metrics"][metric] for run in entry.per_fold),
        found=sum(map(bool, found[entry.method])) if entry.method in found else None,
        seconds=seconds[entry.method],
    )


def _evaluation_seconds(data: SweepData) -> dict[str, float]:
    methods = {job.id: job.key.method for job in data.jobs if job.key.phase == "evaluation"}
    seconds: dict[str, float] = defaultdict(float)
    for attempt in data.attempts:
        if attempt.fold_job in methods:
            seconds[methods[attempt.fold_job]] += attempt.seconds or 0.0
    return seconds
