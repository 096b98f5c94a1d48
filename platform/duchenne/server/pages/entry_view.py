"""What an entry's page shows. What needs its files is left out, with the reason, where they are not as recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from duchenne.boards import CountsError
from duchenne.figures.soft_orders import SoftOrders
from duchenne.records import RecordsConflictError, RecordStore
from duchenne.records.board_rows import Standing
from duchenne.server import queries
from duchenne.server.access import Viewer
from duchenne.server.api.figures import figure_files
from duchenne.server.comparing import Comparison, compare, flat
from duchenne.server.pages.cache import Recent
from duchenne.server.pages.evidence import Evidence, evidence_of
from duchenne.server.pages.orders import Kept, kept_of
from duchenne.server.pages.plots.evolution import position_plot
from duchenne.server.pages.plots.intervals import IntervalScale
from duchenne.server.pages.plots.matrix import small_matrices, soft_order_plot
from duchenne.server.pages.plots.reliability import reliability_plot

LOGGER = logging.getLogger("duchenne.server")
OFFERED: Final = 50
"""Entries of the board that can be chosen to compare with: its best. Any other can be named in the address."""

SHOWN_EPOCHS: Final = 5
FACES: Final = ("attention_by_task.png", "attention_by_head.png")
"""Figures that show faces: those of the sweep's team see them where they were drawn."""

METRICS: Final = {
    "f1_macro": "F1, mean over folds",
    "f1_pooled": "F1, folds pooled",
    "f1_micro": "Micro F1",
    "auc_macro": "AUC",
    "accuracy": "Accuracy",
    "subset_accuracy": "Subset accuracy",
    "log_loss": "Log-loss (nats)",
    "calibration_error": "Calibration error",
    "f1_inner_threshold": "F1, thresholds from inner folds",
    "f1_oracle": "F1, oracle thresholds (an upper bound)",
}
_PLAIN: Final = ("log_loss", "calibration_error")


@dataclass(frozen=True)
class TaskLine:
    """A row of the table of AUs; `other` is F1 of the entry compared with."""

    task: str
    f1: float
    ci_low: float | None
    ci_high: float | None
    other: float | None
    bar: Markup


@dataclass(frozen=True)
class EntryView:
    """Everything on the page; None and empty where there is nothing to show."""

    detail: queries.EntryDetail
    own: bool
    metrics: tuple[tuple[str, str, str], ...]
    tasks: tuple[TaskLine, ...]
    task_head: Markup
    offered: tuple[Standing, ...]
    against: str | None
    comparison: Comparison | None
    other: Standing | None
    not_compared: str | None
    config: tuple[tuple[str, Any], ...]
    evidence: Evidence | None
    no_evidence: str | None
    calibration: Markup
    orders: SoftOrders | None
    order_plot: Markup
    order_epochs: Markup
    positions: Markup
    attention: Markup
    attention_rows: int
    faces: tuple[str, ...]


def read_entry(store: RecordStore, viewer: Viewer, home: Path, entry: str, against: str | None) -> EntryView:
    """Read an entry, and compare it with `against`.

    Raises:
        NotFoundError: one of them is not in sight.
    """
    detail = queries.entry(store, viewer, entry)
    standing = detail.standing
    other = None if against is None else store.standing(viewer.sight, against)
    comparison, not_compared = (None, None) if against is None else _compared(store, viewer, home, detail, against)
    evidence, no_evidence = _evidence(detail, home)
    own = viewer.may_see(standing.team)
    kept = _kept(store, home, detail) if standing.status != "rejected" else Kept(None, None)
    lines, head = _tasks(standing, other)
    sweep = standing.sweep
    drawn = figure_files(home, sweep) if sweep is not None and own else {}
    return EntryView(
        detail=detail,
        own=own,
        metrics=_metrics(detail.metrics, None if other is None else comparison),
        tasks=lines,
        task_head=head,
        offered=_offered(store, viewer, standing, other),
        against=against,
        comparison=comparison,
        other=other,
        not_compared=not_compared,
        config=tuple(sorted(flat(detail.config).items())),
        evidence=evidence,
        no_evidence=no_evidence,
        calibration=_calibration(evidence),
        orders=kept.orders,
        order_plot=_order_plot(kept.orders),
        order_epochs=_order_epochs(kept.orders),
        positions=_positions(kept.orders),
        attention=_attention(kept),
        attention_rows=kept.attention.rows if kept.attention else 0,
        faces=tuple(f"/api/v1/sweeps/{sweep}/figures/{name}" for name in FACES if name in drawn),
    )


_COMPARED: Recent[Comparison] = Recent(64)


def _compared(
    store: RecordStore, viewer: Viewer, home: Path, detail: queries.EntryDetail, against: str
) -> tuple[Comparison | None, str | None]:
    """The comparison, or why there is none. Sight is checked before what was compared earlier is handed out."""
    other = queries.entry(store, viewer, against)
    files = tuple(file.digest for part in (detail, other) for file in part.predictions)
    entry = detail.standing.entry
    try:
        return _COMPARED.get((entry, against, files), lambda: compare(store, viewer, home, entry, against)), None
    except (RecordsConflictError, CountsError) as error:
        return None, str(error)
    except FileNotFoundError:
        return None, "Both entries' predictions must be at hand, but a file is not here; upload it, then look again."


def _evidence(detail: queries.EntryDetail, home: Path) -> tuple[Evidence | None, str | None]:
    if detail.standing.status == "rejected" or not detail.predictions:
        return None, None
    try:
        return evidence_of(detail.predictions, home), None
    except CountsError as error:
        return None, str(error)
    except FileNotFoundError:
        return None, "The predictions of this entry are not here, so nothing can be drawn of them."


def _kept(store: RecordStore, home: Path, detail: queries.EntryDetail) -> Kept:
    standing = detail.standing
    if standing.sweep is None:
        return Kept(None, None)
    tasks = tuple(task.task for task in standing.numbers.tasks)
    try:
        return kept_of(store, home, store.get_sweep(standing.sweep), standing.entry, standing.method, tasks)
    except (ValueError, OSError) as error:
        LOGGER.warning("%s: orders and attention are left out (%s)", standing.entry, error)
        return Kept(None, None)


def _metrics(metrics: Mapping[str, Any], comparison: Comparison | None) -> tuple[tuple[str, str, str], ...]:
    """(title, value, value of the other) of the metrics that are known."""

    def written(name: str, value: Any) -> str:
        if not isinstance(value, int | float):
            return "–"  # noqa: RUF001 - as elsewhere on the pages
        return f"{value:.3f}" if name in _PLAIN else f"{100 * value:.1f}"

    others = {} if comparison is None else {name: pair[1] for name, pair in comparison.metrics.items()}
    return tuple(
        (title, written(name, metrics[name]), written(name, others.get(name)))
        for name, title in METRICS.items()
        if metrics.get(name) is not None
    )


def _tasks(standing: Standing, other: Standing | None) -> tuple[tuple[TaskLine, ...], Markup]:
    numbers = standing.numbers
    beside = {} if other is None else {task.task: task.f1 for task in other.numbers.tasks}
    values = [value for task in numbers.tasks for value in (task.f1, task.ci_low, task.ci_high)]
    scale = IntervalScale.of([*values, *beside.values()])
    lines = tuple(
        TaskLine(
            task.task,
            task.f1,
            task.ci_low,
            task.ci_high,
            beside.get(task.task),
            scale.bar(task.f1, task.ci_low, task.ci_high, beside.get(task.task)),
        )
        for task in numbers.tasks
    )
    return lines, scale.head()


def _offered(store: RecordStore, viewer: Viewer, standing: Standing, other: Standing | None) -> tuple[Standing, ...]:
    best = queries.board_page(store, viewer, standing.board, limit=OFFERED).items
    found = {item.entry: item for item in best if item.entry != standing.entry}
    if other is not None:
        found.setdefault(other.entry, other)
    return tuple(found.values())


def _calibration(evidence: Evidence | None) -> Markup:
    if evidence is None:
        return Markup("")
    return reliability_plot([(bin_.rows, bin_.predicted, bin_.frequency) for bin_ in evidence.bins], evidence.ece)


def _order_plot(orders: SoftOrders | None) -> Markup:
    if orders is None:
        return Markup("")
    step, task = divmod(int(orders.final.argmax()), len(orders.tasks))
    title = f"Soft order: {orders.tasks[task]} at step {step + 1} with {100 * orders.final.max():.0f} %, the firmest"
    return soft_order_plot("soft-order", orders.final, orders.tasks, title)


def _order_epochs(orders: SoftOrders | None) -> Markup:
    if orders is None or len(orders.epochs) < 2:
        return Markup("")
    count = min(SHOWN_EPOCHS, len(orders.epochs))
    chosen = sorted({round(place * (len(orders.epochs) - 1) / (count - 1)) for place in range(count)})
    names = [f"epoch {orders.epochs[place]}" for place in chosen]
    side = max(3.0, min(11.0, 110.0 / len(orders.tasks)))
    title = f"Soft order after {', '.join(names)}; entropy falls to {100 * orders.entropies[-1]:.0f} % of the maximum"
    return small_matrices("order-epochs", [orders.means[place] for place in chosen], names, title, side)


def _positions(orders: SoftOrders | None) -> Markup:
    if orders is None or len(orders.epochs) < 2:
        return Markup("")
    return position_plot(orders.epochs, orders.positions, orders.tasks)


def _attention(kept: Kept) -> Markup:
    if kept.attention is None:
        return Markup("")
    maps, names = kept.attention.maps[:12], kept.attention.names[:12]
    title = f"Attention of {len(maps)} AUs over the face's patches, mean over {kept.attention.rows} held-out faces"
    return small_matrices("attention", list(maps), names, title, max(4.0, 84.0 / maps.shape[2]))
