"""F1 of each task: the selected model beside the comparators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from duchenne.boards import BoardRow
from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    INK,
    METHOD_COLOURS,
    MUTED,
    colour_key,
    method_name,
    new_figure,
    plural,
    shortened,
    styled,
)

SHOWN_METHODS = 4
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
    shown = _best(rows, data)
    tasks = [task.task for task in shown[0].tasks]
    figure = new_figure(data, _title(shown, tasks), _subtitle(data, shown, rows), 3.5)
    axes = figure.subplots()
    width = BARS_WIDTH / len(shown)
    for place, row in enumerate(shown):
        left = np.arange(len(tasks)) + (place - (len(shown) - 1) / 2) * width
        values = np.array([task.f1 for task in row.tasks])
        axes.bar(left, values, width=width * 0.92, color=_colour(row), linewidth=0, label=row.method, zorder=2)
        for x in left[values == 0]:
            axes.text(x, 0.004, "0", ha="center", va="bottom", fontsize=7, color=_colour(row))
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
    colour_key(axes, [(method_name(row.method), _colour(row)) for row in shown])
    return figure


def _best(rows: Sequence[BoardRow], data: SweepData) -> list[BoardRow]:
    """The selected model, and the best comparators; by F1 among themselves."""
    own = [row for row in rows if row.method in data.own_methods]
    rest = [row for row in rows if row not in own]
    rest.sort(key=lambda row: -(row.f1_mean or 0.0))
    return (own + rest)[:SHOWN_METHODS]


def _colour(row: BoardRow) -> str:
    return METHOD_COLOURS.get(row.method, INK)


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
