"""Figures of a sweep, drawn from the records and the files behind them.

Belongs here: pictures. Does not belong here: statistics (`duchenne.boards`) or anything that decides.
`docs/figures.md` says what each figure shows, and how to add one.

Each drawing function takes `read_sweep(store, sweep_id, home)` and returns a matplotlib `Figure`; it raises `NoData`,
with the reason, where the records do not hold what it shows. Importing this package does not load matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from duchenne.figures.source import NoData, SweepData, read_sweep

if TYPE_CHECKING:
    from duchenne.figures.attention import attention_by_head, attention_by_task, priors
    from duchenne.figures.board import leaderboard
    from duchenne.figures.costs import burn_down, spend
    from duchenne.figures.curves import learning_curves, validation_by_value
    from duchenne.figures.draw import FIGURES, draw_all
    from duchenne.figures.labels import calibration, prediction_histograms
    from duchenne.figures.order_search import order_distance_evolution, order_finding
    from duchenne.figures.order_study import order_counts, single_orders
    from duchenne.figures.orders import soft_order, soft_order_evolution
    from duchenne.figures.saliency import attribution
    from duchenne.figures.tasks import task_f1, task_metrics
    from duchenne.figures.trials import search

_MODULES = {
    "FIGURES": "draw",
    "burn_down": "costs",
    "calibration": "labels",
    "attention_by_head": "attention",
    "attention_by_task": "attention",
    "attribution": "saliency",
    "draw_all": "draw",
    "leaderboard": "board",
    "learning_curves": "curves",
    "prediction_histograms": "labels",
    "priors": "attention",
    "order_counts": "order_study",
    "order_distance_evolution": "order_search",
    "order_finding": "order_search",
    "search": "trials",
    "single_orders": "order_study",
    "soft_order": "orders",
    "soft_order_evolution": "orders",
    "spend": "costs",
    "task_f1": "tasks",
    "task_metrics": "tasks",
    "validation_by_value": "curves",
}

__all__ = [
    "FIGURES",
    "NoData",
    "SweepData",
    "attention_by_head",
    "attention_by_task",
    "attribution",
    "burn_down",
    "calibration",
    "draw_all",
    "leaderboard",
    "learning_curves",
    "order_counts",
    "order_distance_evolution",
    "order_finding",
    "prediction_histograms",
    "priors",
    "read_sweep",
    "search",
    "single_orders",
    "soft_order",
    "soft_order_evolution",
    "spend",
    "task_f1",
    "task_metrics",
    "validation_by_value",
]


def __getattr__(name: str) -> Any:
    """What draws is loaded when it is first asked for, and matplotlib with it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
