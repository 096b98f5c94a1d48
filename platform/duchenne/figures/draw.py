"""Draws every figure that a sweep's records support."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from duchenne.figures.attention import attention_by_head, attention_by_task, priors
from duchenne.figures.board import leaderboard
from duchenne.figures.costs import burn_down, spend
from duchenne.figures.curves import learning_curves, validation_by_value
from duchenne.figures.labels import calibration, prediction_histograms
from duchenne.figures.order_search import order_distance_evolution
from duchenne.figures.order_study import order_counts, single_orders
from duchenne.figures.orders import soft_order, soft_order_evolution
from duchenne.figures.source import LOGGER, NoData, SweepData, read_sweep
from duchenne.figures.style import save
from duchenne.figures.tasks import task_f1, task_metrics
from duchenne.figures.trials import search
from duchenne.records import RecordStore

FIGURES: Final[dict[str, Callable[[SweepData], Figure]]] = {
    "leaderboard": leaderboard,
    "learning_curves": learning_curves,
    "search": search,
    "validation_by_value": validation_by_value,
    "soft_order": soft_order,
    "soft_order_evolution": soft_order_evolution,
    "order_distance_evolution": order_distance_evolution,
    "single_orders": single_orders,
    "order_counts": order_counts,
    "task_f1": task_f1,
    "task_metrics": task_metrics,
    "prediction_histograms": prediction_histograms,
    "calibration": calibration,
    "attention_by_task": attention_by_task,
    "attention_by_head": attention_by_head,
    "priors": priors,
    "spend": spend,
    "burn_down": burn_down,
}
"""File name -> what draws it, in the order in which a reader wants them."""


def draw_all(store: RecordStore, sweep_id: str, home: Path, out: Path) -> list[Path]:
    """Write each figure as `OUT/NAME.png` and `OUT/NAME.svg`.

    matplotlib's settings are global while a figure is drawn, and restored afterwards: draw in one thread at a time.
    A figure whose data is absent is left out; the logger `duchenne.figures` says which and why, at level INFO.

    Args:
        sweep_id: its id, or the beginning of it; running sweeps can be drawn as well.
        home: the folder to which recorded paths are relative.

    Returns:
        The files written.

    Raises:
        NotFoundError: no such sweep.
        RecordsError: the records can't be read.
        OSError: `out` can't be written.
    """
    data = read_sweep(store, sweep_id, home)
    paths: list[Path] = []
    for name, draw in FIGURES.items():
        try:
            figure = draw(data)
        except NoData as missing:
            LOGGER.info("%s: figure %s is left out: %s", data.record.id, name, missing)
            continue
        paths += save(figure, out, name)
    return paths
