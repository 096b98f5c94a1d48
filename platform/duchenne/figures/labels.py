"""Predicted probabilities against true labels: histograms by class, and whether probabilities are frequencies.

Shapes: T tasks, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from duchenne.boards import Estimate
from duchenne.figures.source import FloatArray, NoData, SweepData
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
from duchenne.figures.tasks import best_rows
from duchenne_jobs.evaluation import Predictions, Reliability, concatenate, reliability
from duchenne_jobs.evaluation.metrics import THRESHOLD

HISTOGRAM_BINS = 20
HISTOGRAM_TASKS = 4
DARK_ORANGE = "#9a6a00"
"""Of text, which plain orange would leave too pale."""

HISTOGRAM_ROW = 1.55
"""Inches a method."""

EMPTY_BIN = 0.001
"""Of all predictions: a bin that holds less has no point in the reliability diagram, where it would be noise."""


def shown_methods(data: SweepData) -> list[str]:
    """The selected model and the best comparators, of those whose predictions are at hand.

    Raises:
        NoData: no entry's predictions are.
    """
    rows = [row for row in data.own_rows if row.method in data.held_out and row.f1_mean is not None]
    if not rows:
        raise NoData("no entry of the sweep has predictions to draw: its evaluation has not ended, or they are gone")
    return [row.method for row in best_rows(rows, data)]


def class_shares(rows: Predictions, task: int, bins: int = HISTOGRAM_BINS) -> tuple[FloatArray, FloatArray]:
    """(B,) shares of the positive and of the negative rows of a task in each bin of predicted probability."""
    shares = []
    for truth in (1, 0):
        own = rows.probabilities[rows.labels[:, task] == truth, task]
        counts = np.histogram(own, bins=bins, range=(0.0, 1.0))[0]
        shares.append(counts / max(1, counts.sum()))
    return shares[0], shares[1]


@styled
def prediction_histograms(data: SweepData) -> Figure:
    """Predicted probabilities by true class, a row a method, the rarest tasks first (Tallec 2023, fig. 4.4).

    Raises:
        NoData: no entry's predictions are at hand, or no task has both classes.
    """
    methods = shown_methods(data)
    pooled = {method: concatenate(list(data.held_out[method].values())) for method in methods}
    tasks = rarest_tasks(pooled[methods[0]])
    if not tasks:
        raise NoData("no task has both positive and negative test rows")
    title, subtitle = _histogram_texts(methods[0], pooled[methods[0]], tasks)
    figure = new_figure(data, title, subtitle, HISTOGRAM_ROW * len(methods) + 0.55)
    panels = figure.subplots(len(methods), len(tasks), sharex=True, squeeze=False)
    tops = [max(float(share.max()) for rows in pooled.values() for share in class_shares(rows, task)) for task in tasks]
    for row, method in enumerate(methods):
        for column, task in enumerate(tasks):
            _histogram(panels[row, column], pooled[method], task, tops[column])
        panels[row, 0].set_ylabel(shortened(method_name(method), 20), color=INK)
    for column, task in enumerate(tasks):
        labels = pooled[methods[0]].labels[:, task]
        share = (labels == 1).sum() / (labels >= 0).sum()
        name = shortened(pooled[methods[0]].tasks[task], 16)
        panels[0, column].set_title(f"{name}, {100 * share:.2g} % positive")
        panels[-1, column].set_xlabel("predicted probability")
    return figure


def rarest_tasks(rows: Predictions, count: int = HISTOGRAM_TASKS) -> list[int]:
    """The tasks of the lowest frequency among those with both classes, ascending by it."""
    positives, known = (rows.labels == 1).sum(axis=0), (rows.labels >= 0).sum(axis=0)
    both = np.flatnonzero((positives > 0) & (positives < known))
    frequency = positives[both] / known[both]
    return [int(task) for task in both[np.argsort(frequency, kind="stable")][:count]]


def _histogram(axes: Axes, rows: Predictions, task: int, top: float) -> None:
    positive, negative = class_shares(rows, task)
    left, width = np.arange(HISTOGRAM_BINS) / HISTOGRAM_BINS, 1 / HISTOGRAM_BINS
    axes.bar(left, positive, width * 0.9, align="edge", color=BLUE, linewidth=0, gid=f"positive-{task}")
    axes.bar(left, -negative, width * 0.9, align="edge", color=ORANGE, linewidth=0, gid=f"negative-{task}")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    found = [float(shares[left >= 0.5].sum()) for shares in (positive, negative)]
    for share, height, colour in ((found[0], 0.93, BLUE), (found[1], 0.07, DARK_ORANGE)):
        axes.text(
            0.98, height, f"{100 * share:.0f} % above 0.5", transform=axes.transAxes, fontsize=7, color=colour,
            ha="right", va="center",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(-1.3 * top, 1.3 * top)
    axes.set_xticks([0, 0.5, 1])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(_class_share))


def _class_share(value: float, _: object) -> str:
    """A tick of a histogram: downwards too it is a share, and none is above 100 %."""
    return f"{100 * abs(value):.0f} %" if abs(value) <= 1 else ""


def _histogram_texts(method: str, rows: Predictions, tasks: Sequence[int]) -> tuple[str, str]:
    labels, above = rows.labels[:, tasks], rows.probabilities[:, tasks] >= THRESHOLD
    found = [100 * float(above[labels == truth].mean()) for truth in (1, 0)]
    title = f"{method_name(method)} finds {found[0]:.0f} % of the positives shown, and takes {found[1]:.0f} % of the "
    total = len(rows.tasks)
    which = f"the {plural(len(tasks), 'rarest task')} of {total}" if len(tasks) < total else plural(total, "task")
    return f"{title}negatives for one", (
        f"Sealed test rows of all folds and seeds, {which}. Blue, upwards: share of the rows with a positive label; "
        "orange, downwards: of those with a negative one. Dashed: the threshold 0.5. Each task has its own scale."
    )


@styled
def calibration(data: SweepData) -> Figure:
    """Reliability diagram of all tasks together, how many predictions stand behind it, and calibration error by method.

    Raises:
        NoData: no entry's predictions are at hand.
    """
    methods = shown_methods(data)
    colours = method_colours(methods)
    found = {method: _reliability(list(data.held_out[method].values())) for method in methods}
    metric = "calibration_error"
    errors = {method: data.report(method, [metric]).metrics[metric].pooled_macro for method in methods}
    figure = new_figure(data, _calibration_title(errors), _calibration_subtitle(), 4.1)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1), height_ratios=(3.2, 1))
    _diagram(figure.add_subplot(grid[0, 0]), found, colours)
    _amounts(figure.add_subplot(grid[1, 0]), found, colours)
    _errors(figure.add_subplot(grid[:, 1]), errors, colours)
    return figure


def _reliability(parts: Sequence[Predictions]) -> Reliability:
    """All tasks as one: (1, B)."""
    rows = concatenate(parts)
    return reliability(rows.labels.reshape(-1, 1), rows.probabilities.reshape(-1, 1))


def _diagram(axes: Axes, found: dict[str, Reliability], colours: dict[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    for method, bins in found.items():
        shown = bins.rows[0] >= EMPTY_BIN * bins.rows.sum()
        axes.plot(
            bins.mean_predicted[0][shown], bins.frequency[0][shown], "o-",
            color=colours[method], markersize=4, gid=f"reliability-{method}",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of positive labels")
    axes.tick_params(axis="x", labelbottom=False)
    colour_key(axes, [(shortened(method_name(method), 16), colours[method]) for method in found])


def _amounts(axes: Axes, found: dict[str, Reliability], colours: dict[str, str]) -> None:
    for method, bins in found.items():
        share = bins.rows[0] / bins.rows.sum()
        axes.stairs(share, np.linspace(0, 1, share.size + 1), color=colours[method], linewidth=1.3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("predictions")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _errors(axes: Axes, errors: dict[str, Estimate], colours: dict[str, str]) -> None:
    axes.set_title("Calibration error, mean over tasks")
    for place, (method, error) in enumerate(errors.items()):
        if error.value is None:
            continue
        if error.ci_low is not None and error.ci_high is not None:
            axes.hlines(place, error.ci_low, error.ci_high, color=colours[method], linewidth=2.4, alpha=0.45)
        axes.plot([error.value], [place], "o", color=colours[method], markersize=6, gid=f"error-{method}")
        axes.annotate(
            f"{error.value:.3f}", (error.value, place), (0, 8), textcoords="offset points", ha="center", fontsize=8,
            color=INK,
        )  # fmt: skip
    axes.set_yticks(range(len(errors)), [shortened(method_name(method), 20) for method in errors], color=INK)
    axes.set_ylim(len(errors) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max((max(error.value or 0, error.ci_high or 0) for error in errors.values()), default=1.0))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("0 is calibrated")


def _calibration_title(errors: dict[str, Estimate]) -> str:
    known = {method: error.value for method, error in errors.items() if error.value is not None}
    if not known:
        return "Calibration"
    best = min(known, key=lambda method: known[method])
    if len(known) == 1:
        return f"{method_name(best)} is off by {known[best]:.3f} in the mean: its expected calibration error"
    return f"{method_name(best)} is the best calibrated of the methods shown: off by {known[best]:.3f} in the mean"


def _calibration_subtitle() -> str:
    return (
        "Sealed test rows of all folds and seeds in ten bins of predicted probability. Dashed: calibrated. Bins with "
        f"less than {100 * EMPTY_BIN:g} % of the predictions have no point. Lines at the right: 95 % bootstrap "
        "intervals over subjects."
    )
