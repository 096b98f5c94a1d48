"""What a sweep's page shows, part by part, so that a stream can send the parts that changed.

A snapshot is of the sweep alone and shared by all who look at it; the parts also follow the page of trials asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup
from pydantic import ValidationError

from duchenne.records import Amounts, Event, RecordStore, Trial
from duchenne.records import Sweep as SweepRecord
from duchenne.server.pages.links import changed
from duchenne.server.pages.plots.folds import FoldCell, fold_map
from duchenne.server.pages.plots.intervals import share_bar
from duchenne.server.pages.plots.parallel import TrialLine, parallel_plot
from duchenne.server.pages.plots.spending import burn_down_plot
from duchenne.server.pages.reads import Cell, Settled, cells, fingerprint, job_counts, latest_events, settled
from duchenne.server.pages.rendering import fragment
from duchenne.server.problems import Problem
from duchenne.spec import Sweep, rungs

PARTS: Final = ("state", "budget", "search", "trials", "evaluation", "events")
ENDED: Final = frozenset({"succeeded", "failed", "stopped", "exhausted"})
ROWS: Final = 50
SORTS: Final = ("value", "number", "state")
STATE_ORDER: Final = ("running", "queued", "succeeded", "stopped", "failed")
UNITS: Final = (("usd", "USD"), ("gpu_hours", "GPU-hours"), ("wall_seconds", "Wall time"))


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment."""

    mark: str
    sweep: SweepRecord
    spec: Sweep | None
    trials: tuple[Trial, ...]
    jobs: Mapping[tuple[str, str], int]
    totals: Mapping[str, Amounts]
    spent: tuple[Settled, ...]
    events: tuple[Event, ...]
    at: datetime

    @property
    def metric(self) -> str:
        """What the search compares."""
        return self.spec.search.metric if self.spec else "f1_macro"

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is minimised."""
        return self.spec is not None and self.spec.search.mode == "min"


@dataclass(frozen=True)
class Asked:
    """Which trials: how they are sorted, and which page of them (from 0)."""

    sort: str = "value"
    page: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """From a page's query.

        Raises:
            Problem: 422, it says something else.
        """
        sort, page = query.get("sort") or "value", query.get("page") or "1"
        if sort not in SORTS:
            raise Problem(422, f"trials are sorted by {', '.join(SORTS)}, but got {sort!r:.40}; use one of them")
        if not (page.isascii() and page.isdigit() and 1 <= len(page) <= 6 and int(page) >= 1):
            raise Problem(422, f"a page is a number from 1 on, but got {page!r:.40}; start at 1")
        return cls(sort, int(page) - 1)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The query that says so."""
        return (("sort", self.sort), ("page", str(self.page + 1)))


@dataclass(frozen=True)
class Rung:
    """A rung of the search: after which epoch, how many trials reached it, and how many of them were stopped there."""

    number: int
    epoch: int | None
    reached: int
    stopped: int
    bar: Markup


@dataclass(frozen=True)
class Unit:
    """A unit of the budget: amounts, and the share of the limit that is spent and reserved."""

    key: str
    title: str
    budget: float | None
    spent: float | None
    reserved: float | None
    wasted: float | None
    bar: Markup
    plot: Markup


def take_snapshot(store: RecordStore, sweep: str) -> Snapshot:
    """Read a sweep. The mark is read first: what changes meanwhile is a change since."""
    mark = fingerprint(store, sweep)
    record = store.get_sweep(sweep)
    try:
        spec = Sweep.model_validate(record.spec)
    except ValidationError:
        spec = None  # A spec of an older version: everything but the metric's name and the rungs' epochs still shows.
    with store.database.read() as session:
        now = store.database.now(session)
    return Snapshot(
        mark=mark,
        sweep=record,
        spec=spec,
        trials=tuple(store.trials(sweep)),
        jobs=job_counts(store, sweep),
        totals=store.ledger.totals(sweep),
        spent=tuple(settled(store, sweep)),
        events=tuple(latest_events(store, sweep=sweep, limit=15)),
        at=now,
    )


def draw_parts(store: RecordStore, snapshot: Snapshot, asked: Asked) -> dict[str, Markup]:
    """Each of `PARTS` as markup."""
    found = _trials(snapshot, asked)
    values = {
        "shot": snapshot,
        "sweep": snapshot.sweep,
        "jobs": _progress(snapshot),
        "units": _units(snapshot),
        "rungs": _rungs(snapshot),
        "parallel": _parallel(snapshot),
        "counts": Counter(trial.state for trial in snapshot.trials),
        "page": found,
        "trial_map": _trial_map(store, snapshot, found.trials),
        "evaluation": _evaluation(store, snapshot),
        "ended": snapshot.sweep.state in ENDED,
        "driven": _driven(snapshot),
    }
    return {part: fragment(f"sweep/{part}.html", **values) for part in PARTS}


@dataclass(frozen=True)
class TrialPage:
    """Some of the trials; `settings` are the searched ones that have a column."""

    trials: tuple[Trial, ...]
    settings: tuple[str, ...]
    total: int
    first: int
    heads: tuple[tuple[str, str, str, bool], ...]
    previous: str | None
    next: str | None


def _trials(snapshot: Snapshot, asked: Asked) -> TrialPage:
    worst = float("inf")
    sign = 1.0 if snapshot.lower_is_better else -1.0
    keys: dict[str, Any] = {
        "number": lambda trial: trial.number,
        "value": lambda trial: (worst if trial.value is None else sign * trial.value, trial.number),
        "state": lambda trial: (STATE_ORDER.index(trial.state), trial.number),
    }
    ordered = sorted(snapshot.trials, key=keys[asked.sort])
    first = asked.page * ROWS
    shown = tuple(ordered[first : first + ROWS])
    titles = (("number", "Trial"), ("value", snapshot.metric), ("state", "State"))
    return TrialPage(
        trials=shown,
        settings=tuple(dict.fromkeys(name for trial in shown for name in trial.config))[:8],
        total=len(ordered),
        first=first,
        heads=tuple((name, title, changed([], sort=name) + "#trials", name == asked.sort) for name, title in titles),
        previous=_page_href(asked, -1) if asked.page else None,
        next=_page_href(asked, 1) if first + ROWS < len(ordered) else None,
    )


def _page_href(asked: Asked, further: int) -> str:
    return changed([], sort=asked.sort, page=str(asked.page + 1 + further)) + "#trials"


def _progress(snapshot: Snapshot) -> list[tuple[str, int, int, Markup]]:
    """(phase, ended, all, bar) of each phase that has fold jobs."""
    found = []
    for phase in ("search", "evaluation"):
        counts = {state: n for (of, state), n in snapshot.jobs.items() if of == phase}
        total = sum(counts.values())
        if total:
            ended = sum(counts.get(state, 0) for state in ("succeeded", "stopped", "failed"))
            parts = [((ended - counts.get("failed", 0)) / total, "spent"), (counts.get("failed", 0) / total, "over")]
            parts.append((counts.get("running", 0) / total, "reserved"))
            title = f"{phase}: {ended} of {total} fold jobs ended, {counts.get('running', 0)} run"
            found.append((phase, ended, total, share_bar(parts, title)))
    return found


def _units(snapshot: Snapshot) -> list[Unit]:
    amounts = {side: amounts.as_json() for side, amounts in snapshot.totals.items()}
    start = snapshot.sweep.started_at or snapshot.sweep.created_at
    end = snapshot.sweep.ended_at or snapshot.at
    units = []
    for key, title in UNITS:
        limit, spent, reserved = (amounts[side][key] for side in ("budget", "spent", "reserved"))
        if limit is None and spent is None:
            continue
        bar = plot = Markup("")
        if limit:
            shares = ((spent or 0.0) / limit, (reserved or 0.0) / limit)
            words = f"{100 * shares[0]:.0f} % of the limit spent, {100 * shares[1]:.0f} % reserved"
            bar = share_bar([(shares[0], "spent"), (shares[1], "reserved")], words)
            closed = [(item.at, amount) for item in snapshot.spent if (amount := getattr(item, key)) is not None]
            plot = burn_down_plot(key, limit, closed, start, end) if closed else Markup("")
        units.append(Unit(key, title, limit, spent, reserved, amounts["wasted"][key], bar, plot))
    return units


def _rungs(snapshot: Snapshot) -> list[Rung]:
    highest = max((trial.rung for trial in snapshot.trials), default=0)
    epochs: tuple[int, ...] = ()
    if snapshot.spec is not None:
        epochs = rungs(snapshot.spec.search.scheduler, snapshot.spec.training.epochs)
    total = len(snapshot.trials)
    found = []
    for number in range(1, max(highest, len(epochs)) + 1):
        reached = sum(trial.rung >= number for trial in snapshot.trials)
        stopped = sum(trial.rung == number and trial.state == "stopped" for trial in snapshot.trials)
        parts = [((reached - stopped) / max(1, total), "spent"), (stopped / max(1, total), "reserved")]
        title = f"rung {number}: {reached} of {total} trials reached it, {stopped} were stopped there"
        epoch = epochs[number - 1] if number <= len(epochs) else None
        found.append(Rung(number, epoch, reached, stopped, share_bar(parts, title)))
    return found


def _parallel(snapshot: Snapshot) -> Markup:
    lines = [TrialLine(trial.number, trial.config, trial.value) for trial in snapshot.trials if trial.value is not None]
    return parallel_plot(lines, snapshot.metric, lower_is_better=snapshot.lower_is_better)


def _trial_map(store: RecordStore, snapshot: Snapshot, trials: Sequence[Trial]) -> Markup:
    numbers = [trial.number for trial in trials]
    if not numbers:
        return Markup("")
    found = cells(store, snapshot.sweep.id, "search", snapshot.metric, numbers)
    places = sorted({(cell.fold, cell.inner, cell.seed) for cell in found}, key=str)
    row_of = {number: row for row, number in enumerate(numbers)}
    column_of = {place: column for column, place in enumerate(places)}
    drawn = [
        FoldCell(row_of[cell.trial], column_of[cell.fold, cell.inner, cell.seed], cell.state, cell.value, _where(cell))
        for cell in found
        if cell.trial in row_of
    ]
    if not drawn:
        return Markup("")
    return fold_map(
        "trial-map",
        [(str(number), str(number)) for number in numbers],
        [f"{fold}.{inner}" if inner is not None else str(fold) for fold, inner, _ in places],
        drawn,
        title=f"{snapshot.metric} of {len(drawn)} fold jobs of the search; column: outer fold, inner fold",
        lower_is_better=snapshot.lower_is_better,
    )


def _evaluation(store: RecordStore, snapshot: Snapshot) -> Markup:
    found = cells(store, snapshot.sweep.id, "evaluation", snapshot.metric)
    if not found:
        return Markup("")
    methods = list(dict.fromkeys(cell.method for cell in found))
    places = sorted({(cell.fold, cell.seed) for cell in found})
    # Test-fold scores are sealed until the sweep has its entries: states alone until then.
    shown = snapshot.sweep.state == "succeeded"
    drawn = [
        FoldCell(
            methods.index(cell.method),
            places.index((cell.fold, cell.seed)),
            cell.state,
            cell.value if shown else None,
            _where(cell),
        )
        for cell in found
    ]
    return fold_map(
        "evaluation-map",
        [(method, None) for method in methods],
        [f"{fold}.{seed}" for fold, seed in places],
        drawn,
        title=f"{len(drawn)} fold jobs of the evaluation; column: test fold, seed",
        lower_is_better=snapshot.lower_is_better,
    )


def _where(cell: Cell) -> str:
    parts = [f"trial {cell.trial}" if cell.trial is not None else cell.method, f"fold {cell.fold}"]
    if cell.inner is not None:
        parts.append(f"inner {cell.inner}")
    parts.append(f"seed {cell.seed}")
    if cell.epoch is not None:
        parts.append(f"epoch {cell.epoch}")
    if cell.attempts > 1:
        parts.append(f"attempt {cell.attempts}")
    return ", ".join(parts)


def _driven(snapshot: Snapshot) -> bool:
    """Whether a driver holds the sweep now."""
    expires = snapshot.sweep.lock_expires_at
    return snapshot.sweep.lock_holder is not None and expires is not None and expires > snapshot.at
