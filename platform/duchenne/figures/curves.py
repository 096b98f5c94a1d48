"""Learning curves: how the search's metric and the training loss go on, epoch by epoch.

Shapes: E epochs, F inner folds (outer fold, inner fold, seed).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.figures.style import (
    FAINT,
    LINES,
    METRIC_NAMES,
    MUTED,
    capitalised,
    label_ends,
    new_figure,
    plural,
    styled,
)

LOSS = "train_loss"
BAND = (16.0, 84.0)
"""Percentiles over the folds: the central 68 %."""

PLOT_HEIGHT = 3.5
NAMED_OTHERS = 6


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric of one trial over the epochs that every one of its folds has on record.

    Attributes:
        epochs: (E,) from 1 on; `values`: (E, F).
    """

    trial: int
    epochs: FloatArray
    values: FloatArray

    @property
    def mean(self) -> FloatArray:
        """(E,) mean over folds."""
        mean: FloatArray = self.values.mean(axis=1)
        return mean


def curves(data: SweepData, metric: str) -> dict[int, Curve]:
    """Trial -> its curve on the inner validation folds of the search; trials without a whole epoch have none."""
    found: dict[int, dict[tuple[int, int | None, int], dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in data.results:
        if row.phase == "search" and row.trial is not None:
            value = row.metrics.get(metric)
            found[row.trial][row.fold, row.inner, row.seed][row.epoch] = math.nan if value is None else value
    made = {}
    for trial, folds in sorted(found.items()):
        known = [{epoch for epoch, value in fold.items() if math.isfinite(value)} for fold in folds.values()]
        whole = sorted(set.intersection(*known))
        if whole:
            values = np.array([[fold[epoch] for fold in folds.values()] for epoch in whole])
            made[trial] = Curve(trial, np.array(whole, dtype=np.float64), values)
    return made


@styled
def learning_curves(data: SweepData) -> Figure:
    """The search's metric on inner validation rows and the training loss, by epoch, of every trial.

    Line: mean over the inner folds; band: the central 68 % of them, of the selected trials.

    Raises:
        NoData: no trial has a whole epoch on record.
    """
    metric = data.sweep.search.metric
    panels = {metric: curves(data, metric), LOSS: curves(data, LOSS)}
    if not any(panels.values()):
        raise NoData("no trial of the search has an epoch on record for all its folds")
    figure = new_figure(data, _title(data, panels[metric]), _subtitle(data, panels), PLOT_HEIGHT)
    left, right = figure.subplots(1, 2)
    _panel(left, data, panels[metric], f"{capitalised(METRIC_NAMES[metric])}, inner validation subjects")
    _panel(right, data, panels[LOSS], "Training loss, mean over rows (nats)")
    return figure


def _title(data: SweepData, found: dict[int, Curve]) -> str:
    name = METRIC_NAMES[data.sweep.search.metric].removesuffix(" (nats)")
    ends = {trial: found[trial].mean[-1] for trial in data.highlighted if trial in found}
    if not ends:
        return f"Learning curves of {plural(len(found), 'trial')}"
    if len(ends) > 1:
        low, high = min(ends.values()), max(ends.values())
        return f"The {len(ends)} trials selected by fold reach {name} {low:.3f} to {high:.3f} on inner validation"
    ((trial, value),) = ends.items()
    kind = "selected" if data.selected else "best so far"
    epochs = plural(int(found[trial].epochs[-1]), "epoch")
    return f"Trial {trial}, {kind}, reaches {name} {value:.3f} on inner validation after {epochs}"


def _subtitle(data: SweepData, panels: dict[str, dict[int, Curve]]) -> str:
    folds = max(curve.values.shape[1] for found in panels.values() for curve in found.values())
    trials = len(set().union(*panels.values()))
    others = trials - len(data.highlighted)
    grey = (
        f" Grey: means of the {plural(others, 'other trial')}; a dot marks where a trial ended." if others > 0 else ""
    )
    return f"Line: mean over {plural(folds, 'inner fold')}. Band: the central 68 % of the folds.{grey}"


def _panel(axes: Axes, data: SweepData, found: dict[int, Curve], name: str) -> None:
    axes.set_title(name)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    last = max((curve.epochs[-1] for curve in found.values()), default=1.0)
    labels = []
    others = [curve for trial, curve in found.items() if trial not in data.highlighted]
    for curve in others:
        axes.plot(curve.epochs, curve.mean, color=FAINT, linewidth=1.1, gid=f"trial-{curve.trial}")
        axes.plot(curve.epochs[-1:], curve.mean[-1:], "o", color=FAINT, markersize=4)
        if len(others) > NAMED_OTHERS:
            continue
        if curve.epochs[-1] == last:
            labels.append((float(curve.mean[-1]), f"trial {curve.trial}", MUTED))
        else:
            end = (curve.epochs[-1], curve.mean[-1])
            axes.annotate(
                f"trial {curve.trial}", end, (5, 0), textcoords="offset points", va="center", fontsize=8, color=MUTED
            )
    for position, trial in enumerate(data.highlighted):
        if trial in found:
            colour = LINES[position % len(LINES)]
            _highlight(axes, found[trial], colour)
            labels.append((float(found[trial].mean[-1]), _name(data, trial), colour))
    axes.margins(x=0.03, y=0.08)
    axes.set_ylim(*axes.get_ylim())  # the limits are final: labels stand at heights in the axes
    label_ends(axes, labels, PLOT_HEIGHT - 0.8)


def _highlight(axes: Axes, curve: Curve, colour: str) -> None:
    low, high = np.percentile(curve.values, BAND, axis=1)
    axes.fill_between(curve.epochs, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    axes.plot(curve.epochs, curve.mean, color=colour, linewidth=2.2, zorder=3, gid=f"trial-{curve.trial}")
    axes.plot(curve.epochs[-1:], curve.mean[-1:], "o", color=colour, markersize=5.5, zorder=3)


def _name(data: SweepData, trial: int) -> str:
    if len(data.selected) < 2:
        return f"trial {trial}"
    folds = data.selected[trial]
    return f"trial {trial} ({'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))})"
