"""What each task reaches: F1 of the selected model beside the comparators, and every metric of the selected model.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.boards import BoardRow, EntryReport, Estimate
from duchenne.boards.report import METRICS
from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    colour_key,
    method_colours,
    method_name,
    new_figure,
    plural,
    shortened,
    styled,
)

SHOWN_METHODS = 4
METRIC_TITLES = {
    "f1": "F1",
    "auc": "AUC",
    "accuracy": "Accuracy",
    "log_loss": "Log-loss (nats)",
    "calibration_error": "Calibration error",
}
METRICS_SUBTITLE = (
    "Sealed test folds, threshold 0.5, mean over seeds. Blue: mean of folds; orange ring: rows of all folds pooled. "
    "Line: 95 % bootstrap interval over subjects, trained models held fixed. An undefined F1 is 0."
)
BARS_WIDTH = 0.84
"""Of the group of a task, whose neighbour is 1 away."""


@styled
def task_f1(data: SweepData) -> Figure:
    """Bars of F1 for each task with 95 % bootstrap intervals over subjects, one colour a method.

    Raises:
        NoData: no entry of the sweep has predictions to compute F1 from.
    """
    rows = [row for row in data.own_rows if row.tasks]
    if not rows:
        raise NoData("no entry of the sweep has F1 by task: its evaluation has not ended, or its predictions are gone")
    shown = best_rows(rows, data)
    colours = method_colours([row.method for row in shown])
    tasks = [task.task for task in shown[0].tasks]
    figure = new_figure(data, _title(shown, tasks), _subtitle(data, shown, rows), 3.5)
    axes = figure.subplots()
    width = BARS_WIDTH / len(shown)
    for place, row in enumerate(shown):
        left = np.arange(len(tasks)) + (place - (len(shown) - 1) / 2) * width
        values = np.array([task.f1 for task in row.tasks])
        axes.bar(left, values, width=width * 0.92, color=colours[row.method], linewidth=0, label=row.method, zorder=2)
        for x in left[values == 0]:
            axes.text(x, 0.004, "0", ha="center", va="bottom", fontsize=7, color=colours[row.method])
        known = [
            (x, task.ci_low, task.ci_high)
            for x, task in zip(left, row.tasks, strict=True)
            if task.ci_low is not None and task.ci_high is not None
        ]
        if known:
            middle, low, high = (np.array(column) for column in zip(*known, strict=True))
            axes.vlines(middle, low, high, color=INK, linewidth=0.9, zorder=3)
    axes.set_xticks(range(len(tasks)), [shortened(name, 18) for name in tasks], color=INK)
    if sum(map(len, tasks)) > 90:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(tasks) - 0.4)
    highest = max(task.f1 if task.ci_high is None else task.ci_high for row in shown for task in row.tasks)
    axes.set_ylim(0, max(0.1, 1.04 * highest))
    axes.set_ylabel("F1 at threshold 0.5", color=MUTED)
    colour_key(axes, [(method_name(row.method), colours[row.method]) for row in shown])
    return figure


def best_rows(rows: Sequence[BoardRow], data: SweepData) -> list[BoardRow]:
    """The selected model, and the best comparators; by F1 among themselves."""
    own = [row for row in rows if row.method in data.own_methods]
    rest = [row for row in rows if row not in own]
    rest.sort(key=lambda row: -(row.f1_mean or 0.0))
    return (own + rest)[:SHOWN_METHODS]


def _title(shown: Sequence[BoardRow], tasks: Sequence[str]) -> str:
    first = method_name(shown[0].method)
    if len(shown) == 1:
        mean = shown[0].f1_mean
        return f"{first}: F1 of each of {len(tasks)} tasks, {mean:.3f} in the mean" if mean is not None else first
    table = np.array([[task.f1 for task in row.tasks] for row in shown])
    wins = int((table[0] > table[1:].max(axis=0)).sum())
    return f"{first} has the highest F1 of the methods shown on {wins} of {len(tasks)} tasks"


def _subtitle(data: SweepData, shown: Sequence[BoardRow], rows: Sequence[BoardRow]) -> str:
    text = (
        "Sealed test folds, mean over folds and seeds. Line: 95 % bootstrap interval over subjects, "
        "trained models held fixed."
    )
    if len(rows) > len(shown):
        own = sum(row.method in data.own_methods for row in shown)
        comparators = sum(row.method not in data.own_methods for row in rows)
        text += f" Of {plural(comparators, 'comparator')}, the {len(shown) - own} best by macro F1 are shown."
    return text


@styled
def task_metrics(data: SweepData) -> Figure:
    """F1, AUC, accuracy, log-loss and calibration error of each task, of the selected model, with 95 % intervals.

    Raises:
        NoData: the selected model has no predictions at hand.
    """
    method = next((row.method for row in data.own_rows if row.method in data.held_out), None)
    if method is None:
        raise NoData("no entry of the sweep has predictions at hand: its evaluation has not ended, or they are gone")
    report = data.report(method, METRICS)
    rows = len(report.tasks) + 1
    figure = new_figure(data, _metrics_title(method, report), METRICS_SUBTITLE, 0.75 + 0.2 * rows)
    panels = figure.subplots(1, len(report.metrics), sharey=True, squeeze=False)[0]
    for axes, (metric, found) in zip(panels, report.metrics.items(), strict=True):
        axes.set_title(METRIC_TITLES[metric])
        _estimates(axes, (*found.pooled, found.pooled_macro), 0.17, ORANGE, filled=False)
        _estimates(axes, (*found.mean_of_folds, found.mean_of_folds_macro), -0.17, BLUE, filled=True)
        axes.axhline(rows - 1.5, color=FAINT, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(rows), [*(shortened(name, 18) for name in report.tasks), "mean"], color=INK)
    panels[0].set_ylim(rows - 0.5, -0.6)
    return figure


def _estimates(axes: Axes, estimates: Sequence[Estimate], offset: float, colour: str, filled: bool) -> None:
    for place, estimate in enumerate(estimates):
        if estimate.value is None:
            if filled:
                axes.text(
                    0.5, place, "undefined", transform=axes.get_yaxis_transform(), fontsize=7, color=MUTED,
                    ha="center", va="center",
                )  # fmt: skip
            continue
        if estimate.ci_low is not None and estimate.ci_high is not None:
            axes.hlines(place + offset, estimate.ci_low, estimate.ci_high, color=colour, linewidth=1.6, alpha=0.55)
        face = colour if filled else "#ffffff"
        axes.plot([estimate.value], [place + offset], "o", color=colour, markerfacecolor=face, markersize=4)


def _metrics_title(method: str, report: EntryReport) -> str:
    means = {metric: found.mean_of_folds_macro.value for metric, found in report.metrics.items()}
    names = (("f1", "F1"), ("auc", "AUC"), ("accuracy", "accuracy"))
    shown = [f"{name} {value:.3f}" for metric, name in names if (value := means.get(metric)) is not None]
    return f"{method_name(method)} in the mean over tasks: {', '.join(shown)}"
