"""Learning curves: how the search's metric and the training loss go on, epoch by epoch; and how it depends on a value.

Shapes: E epochs, F inner folds (outer fold, inner fold, seed), V values of a searched field.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

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
    shortened,
    styled,
)
from duchenne.spec import Choice, Grid

LOSS = "train_loss"
BAND = (16.0, 84.0)
"""Percentiles over the folds: the central 68 %."""

PLOT_HEIGHT = 3.5
NAMED_OTHERS = 6
CURVES_A_ROW, SHOWN_CURVES = 3, 6
LOG_RANGE = 50.0
"""Numbers that span more than this are drawn on a logarithmic axis."""


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


@dataclass(frozen=True, eq=False)
class ValueCurve:
    """The search's metric against one number that the trials vary.

    Attributes:
        name: of the field, and of the section's other values: `rhls: beta`.
        values: (V,) ascending.
        scores: (V, F) at the last epoch, mean over the trials with that value.
    """

    name: str
    values: FloatArray
    scores: FloatArray

    @property
    def mean(self) -> FloatArray:
        """(V,) mean over inner folds."""
        mean: FloatArray = self.scores.mean(axis=1)
        return mean

    @property
    def standard_error(self) -> FloatArray:
        """(V,) of that mean: 68 % of a normal distribution lie within one of it."""
        error: FloatArray = self.scores.std(axis=1, ddof=1) / math.sqrt(self.scores.shape[1])
        return error


def value_curves(data: SweepData) -> tuple[list[ValueCurve], dict[str, FloatArray]]:
    """Curves over listed numbers, and (F,) scores of the values beside them that are none, such as smoothing `none`.

    Only fields whose values are listed (grid, choice) have a curve: numbers drawn at random have one trial each, which
    the figure `search` shows. Trials that were stopped before their last epoch are left out, as not comparable.
    """
    whole = curves(data, data.sweep.search.metric)
    ends = {trial.number: whole[trial.number].values[-1] for trial in data.trials if trial.number in whole}
    trials = [trial for trial in data.trials if trial.number in ends and data.ran_whole(trial)]
    found: list[ValueCurve] = []
    others: dict[str, FloatArray] = {}
    for path, dimension in data.sweep.search.space.items():
        if not isinstance(dimension, Grid | Choice):
            continue
        scores: dict[tuple[str, float | None], list[FloatArray]] = defaultdict(list)
        for trial in trials:
            scores[_named_number(path, trial.config[path])].append(ends[trial.number])
        means = {key: np.mean(values, axis=0) for key, values in scores.items()}
        by_name: dict[str, list[float]] = defaultdict(list)
        for name, number in means:
            if number is not None:
                by_name[name].append(number)
        lines = {name: sorted(numbers) for name, numbers in by_name.items() if len(numbers) > 1}
        found += [
            ValueCurve(name, np.array(numbers), np.stack([means[name, number] for number in numbers]))
            for name, numbers in lines.items()
        ]
        if lines:
            rest = [key for key in means if key[0] not in lines]
            others |= {name if number is None else f"{name} {number:g}": means[name, number] for name, number in rest}
    return found, others


def _named_number(path: str, value: object) -> tuple[str, float | None]:
    """What a searched value is called, and the one number in it: `rhls: beta`, 0.5; None without, or with several."""
    if isinstance(value, Mapping):
        numbers = {key: item for key, item in value.items() if _is_number(item)}
        named = ", ".join(str(item) for item in value.values() if isinstance(item, str)) or path.rpartition(".")[2]
        if len(numbers) == 1:
            ((key, number),) = numbers.items()
            return f"{named}: {key.replace('_', ' ')}", float(number)
        return named, None
    field = path.rpartition(".")[2].replace("_", " ")
    if _is_number(value):
        return field, float(value)
    return f"{field} {value}", None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


@styled
def validation_by_value(data: SweepData) -> Figure:
    """The search's metric against each number that was searched, with 68 % intervals (Tallec 2023, fig. 4.3).

    Raises:
        NoData: no two trials differ in a number and ran all their epochs.
    """
    found, others = value_curves(data)
    found, others = found[:SHOWN_CURVES], dict(list(others.items())[:NAMED_OTHERS])
    if not found or found[0].scores.shape[1] < 2:
        raise NoData("no two trials that ran all their epochs differ in a listed number, or there is one inner fold")
    columns = min(len(found), CURVES_A_ROW)
    rows = math.ceil(len(found) / columns)
    figure = new_figure(data, _values_title(data, found), _values_subtitle(data, found, others), PLOT_HEIGHT * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(found) :]:
        axes.set_visible(False)
    for place, (axes, curve) in enumerate(zip(panels.flat, found, strict=False)):
        _value_panel(axes, curve, LINES[place % len(LINES)], others)
        if place % columns == 0:
            axes.set_ylabel(f"{METRIC_NAMES[data.sweep.search.metric]}, inner validation")
    for axes in panels.flat[: len(found)]:
        axes.set_ylim(*axes.get_ylim())
    label_ends(
        panels.flat[min(columns, len(found)) - 1],
        [(float(scores.mean()), shortened(name, 16), MUTED) for name, scores in others.items()],
        PLOT_HEIGHT - 0.8,
    )
    return figure


def _value_panel(axes: Axes, curve: ValueCurve, colour: str, others: dict[str, FloatArray]) -> None:
    for place, scores in enumerate(others.values()):
        error = scores.std(ddof=1) / math.sqrt(len(scores))
        axes.axhspan(scores.mean() - error, scores.mean() + error, color=MUTED, alpha=0.09, linewidth=0)
        axes.axhline(scores.mean(), color=MUTED, linewidth=1.0, linestyle=((0, (5, 2)), (0, (1, 2)), "-.")[place % 3])
    low, high = curve.mean - curve.standard_error, curve.mean + curve.standard_error
    axes.fill_between(curve.values, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.vlines(curve.values, low, high, color=colour, linewidth=1.2)
    axes.plot(curve.values, curve.mean, "o-", color=colour, markersize=5, gid=f"values-{curve.name}")
    axes.set_title(curve.name)
    axes.set_xlabel(curve.name.rpartition(": ")[2])
    if curve.values[0] > 0 and curve.values[-1] / curve.values[0] > LOG_RANGE:
        axes.set_xscale("log")
    elif len(curve.values) <= NAMED_OTHERS:
        axes.set_xticks(curve.values, [f"{value:g}" for value in curve.values])
    axes.margins(x=0.06, y=0.1)


def _values_title(data: SweepData, found: list[ValueCurve]) -> str:
    sign = -1 if data.sweep.search.mode == "min" else 1
    best = max(found, key=lambda curve: float((sign * curve.mean).max()))
    place = int(np.argmax(sign * best.mean))
    metric = METRIC_NAMES[data.sweep.search.metric].removesuffix(" (nats)")
    return f"Inner validation is best at {best.name} {best.values[place]:g}: {metric} {best.mean[place]:.3f}"


def _values_subtitle(data: SweepData, found: list[ValueCurve], others: dict[str, FloatArray]) -> str:
    count = found[0].scores.shape[1]
    grey = " Grey lines: values without a number, named at the right." if others else ""
    return (
        f"Mean over {plural(count, 'inner run')} at the last epoch. Bands: one standard error, 68 %, as if runs were "
        f"independent; their training sets overlap, so believe it a little less.{grey}"
    )
