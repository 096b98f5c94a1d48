"""The search: what each trial reached, and how that depends on what was varied."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    BLUE,
    FAINT,
    INK,
    METRIC_NAMES,
    MUTED,
    VERMILION,
    capitalised,
    new_figure,
    plural,
    shortened,
    styled,
)
from duchenne.records import Trial
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Uniform

PANELS_A_ROW = 4
SHOWN_DIMENSIONS = 8
TOP_HEIGHT, ROW_HEIGHT = 2.7, 2.3
LISTED_VALUES = 24
"""Numbers in a list of more values than these are placed on an axis, not by their position in the list."""

Dimension = Choice | Grid | Uniform | LogUniform | RandInt


@dataclass(frozen=True)
class _Point:
    """A trial with a value. `whole`: it ran all its epochs, so that its value can be compared."""

    trial: Trial
    value: float
    whole: bool


@styled
def search(data: SweepData) -> Figure:
    """The value of each trial with the running best, and below it the value against each dimension of the space.

    Raises:
        NoData: no trial has a value.
    """
    points = [_Point(trial, trial.value, data.ran_whole(trial)) for trial in data.trials if trial.value is not None]
    if not points:
        raise NoData("no trial of the search has a value")
    space = list(data.sweep.search.space.items())
    shown = space[:SHOWN_DIMENSIONS]
    rows = math.ceil(len(shown) / PANELS_A_ROW)
    figure = new_figure(data, _title(data, points), _subtitle(data, points, len(space)), TOP_HEIGHT + ROW_HEIGHT * rows)
    columns = max(1, math.ceil(len(shown) / max(1, rows)))
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=(TOP_HEIGHT, *[ROW_HEIGHT] * rows))
    top = figure.add_subplot(grid[0, :])
    for place, (path, dimension) in enumerate(shown):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns], sharey=top)
        _by_dimension(axes, data, points, path, dimension)
        if place % columns:
            axes.tick_params(axis="y", labelleft=False)
        else:
            axes.set_ylabel(METRIC_NAMES[data.sweep.search.metric])
    _by_number(top, data, points)
    return figure


def running_best(data: SweepData, points: Sequence[_Point]) -> list[float]:
    """The best value up to each point; trials that were stopped early don't count, unless all were."""
    best = min if data.sweep.search.mode == "min" else max
    counted = any(point.whole for point in points)
    values: list[float] = []
    for point in points:
        held = [*values[-1:], *([point.value] if point.whole or not counted else [])]
        values.append(best((value for value in held if math.isfinite(value)), default=math.nan))
    return values


def _title(data: SweepData, points: Sequence[_Point]) -> str:
    best = running_best(data, points)[-1]
    metric = METRIC_NAMES[data.sweep.search.metric].removesuffix(" (nats)")
    number = next(point.trial.number for point in points if point.value == best)
    return f"The best {metric} of {plural(len(points), 'trial')} is {best:.3f}, by trial {number}"


def _subtitle(data: SweepData, points: Sequence[_Point], dimensions: int) -> str:
    folds = data.sweep.folds.outer_count * data.sweep.folds.inner_count
    early = sum(not point.whole for point in points)
    failed = sum(trial.state == "failed" for trial in data.trials)
    parts = [f"Mean over {plural(folds, 'inner validation fold')} at the last epoch that the trial ran."]
    if data.selected:
        which = "trial" if len(data.selected) == 1 else "trials"
        parts.append(f"Blue: selected for the test folds ({which} {', '.join(map(str, data.selected))}).")
    if early:
        parts.append(
            f"Rings: {early} stopped early by {data.sweep.search.scheduler.name}, not comparable with full dots."
        )
    if failed:
        parts.append(f"Crosses: {failed} failed.")
    if dimensions > SHOWN_DIMENSIONS:
        parts.append(f"The first {SHOWN_DIMENSIONS} of {dimensions} dimensions are shown.")
    return " ".join(parts)


def _by_number(axes: Axes, data: SweepData, points: Sequence[_Point]) -> None:
    numbers = [point.trial.number for point in points]
    best = running_best(data, points)
    axes.step(numbers, best, where="post", color=FAINT, linewidth=1.6, zorder=1, gid="running-best")
    _dots(axes, data, numbers, points)
    failed = [trial.number for trial in data.trials if trial.state == "failed"]
    every = [*numbers, *failed]
    axes.set_xlim(min(every) - 0.5, max(every) + 0.5)
    axes.margins(y=0.12)
    if failed:
        low = axes.get_ylim()[0]
        axes.plot(failed, [low] * len(failed), "x", color=VERMILION, markersize=7, clip_on=False, zorder=4)
        axes.set_ylim(bottom=low)
    if len(points) > 1:
        axes.annotate(
            "running best", (numbers[-1], best[-1]), xytext=(0, 5), textcoords="offset points", ha="right", fontsize=8,
            color=MUTED,
        )  # fmt: skip
    if len(points) <= 40:
        for number, point in zip(numbers, points, strict=True):
            if point.trial.number in data.highlighted:
                axes.annotate(
                    f"trial {number}", (number, point.value), xytext=(8, -3), textcoords="offset points", fontsize=8,
                    color=BLUE, weight="bold", va="top",
                )  # fmt: skip
    axes.set_ylabel(METRIC_NAMES[data.sweep.search.metric])
    axes.set_title(f"{capitalised(METRIC_NAMES[data.sweep.search.metric])} by trial")
    axes.set_xlabel("trial, in the order of their start")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))


def _by_dimension(axes: Axes, data: SweepData, points: Sequence[_Point], path: str, dimension: Dimension) -> None:
    axes.set_title(shortened(path, 30), fontsize=8.5)
    values = [point.trial.config.get(path) for point in points]
    listed = _listed(dimension)
    if listed is None:
        if isinstance(dimension, LogUniform):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        _dots(axes, data, [math.nan if value is None else float(value) for value in values], points)
        axes.margins(x=0.08, y=0.12)
        return
    keys = [json.dumps(value, sort_keys=True) for value in listed]
    places = [keys.index(key) if (key := json.dumps(value, sort_keys=True)) in keys else math.nan for value in values]
    _dots(axes, data, _apart(places), points)
    axes.set_xticks(range(len(listed)), [shortened(value_text(value), 14) for value in listed], color=INK)
    if len(listed) > 4:
        axes.tick_params(axis="x", labelrotation=35)
    axes.set_xlim(-0.6, len(listed) - 0.4)
    axes.margins(y=0.12)


def _listed(dimension: Dimension) -> tuple[Any, ...] | None:
    """The values that are placed by their position in a list; None for an axis of numbers."""
    if not isinstance(dimension, (Choice, Grid)):
        return None
    values = dimension.choice if isinstance(dimension, Choice) else dimension.grid
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return None if numbers and len(values) > LISTED_VALUES else tuple(values)


def _apart(places: Sequence[float]) -> list[float]:
    """Trials of one place, side by side in their order: no chance, so that a figure is the same every time."""
    members: dict[float, list[int]] = {}
    for index, place in enumerate(places):
        if not math.isnan(place):
            members.setdefault(place, []).append(index)
    apart = list(places)
    for place, indices in members.items():
        for offset, index in zip(
            np.linspace(-0.22, 0.22, len(indices)) if len(indices) > 1 else [0.0], indices, strict=True
        ):
            apart[index] = place + float(offset)
    return apart


def _dots(axes: Axes, data: SweepData, places: Sequence[float], points: Sequence[_Point]) -> None:
    for place, point in zip(places, points, strict=True):
        chosen = point.trial.number in data.highlighted
        colour = BLUE if chosen else MUTED
        axes.plot(
            [place], [point.value], "o", color=colour, markerfacecolor=colour if point.whole else "#ffffff",
            markersize=8 if chosen else 6, markeredgewidth=1.2, zorder=4 if chosen else 3,
            gid=f"trial-{point.trial.number}",
        )  # fmt: skip


def value_text(value: Any) -> str:
    """A searched value as a tick: `none` for null, the values of a mapping side by side, numbers in few digits."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return " ".join(value_text(part) for part in value.values())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
