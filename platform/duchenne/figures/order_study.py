"""What a set of orders is worth: single orders by their distance to the identity, and the influence of M and k.

Tallec 2023, fig. 2.7 and 2.9. Both are drawn from the trials of a search over the fields of `model.orders`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duchenne.figures.order_search import squared_distance
from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    GREEN,
    METRIC_NAMES,
    MUTED,
    VERMILION,
    capitalised,
    colour_key,
    new_figure,
    plural,
    styled,
)
from duchenne.records import Trial
from duchenne.spec import apply
from duchenne_jobs.config import OrdersConfig
from duchenne_jobs.config.model import ORDER_NAMES
from duchenne_jobs.data import builtin_tasks

HEIGHT = 3.6


@dataclass(frozen=True)
class Score:
    """A trial's metric over the runs of its inner folds: mean and standard deviation."""

    mean: float
    deviation: float
    runs: int


def scores(data: SweepData) -> list[tuple[Trial, OrdersConfig, Score]]:
    """The trials of a network with orders that ran to their last epoch, with the metric of that epoch."""
    metric = data.sweep.search.metric
    last: dict[int, dict[tuple[int, int | None, int], tuple[int, float]]] = defaultdict(dict)
    for row in data.results:
        value = row.metrics.get(metric)
        if row.phase == "search" and row.trial is not None and value is not None:
            run = (row.fold, row.inner, row.seed)
            if row.epoch >= last[row.trial].get(run, (0, 0.0))[0]:
                last[row.trial][run] = (row.epoch, value)
    found = []
    for trial in data.trials:
        values = [value for _, value in last.get(trial.number, {}).values()]
        model = apply(data.sweep, trial.config).model
        if values and data.ran_whole(trial) and model.name in ORDER_NAMES:
            score = Score(float(np.mean(values)), float(np.std(values)), len(values))
            found.append((trial, model.orders, score))
    return found


@styled
def single_orders(data: SweepData) -> Figure:
    """Metric of networks with one order against its distance to the identity (Tallec 2023, fig. 2.7).

    Raises:
        NoData: fewer than two trials have a single order.
    """
    tasks = builtin_tasks(data.sweep.data.uri) or data.tasks() or ()  # a search alone leaves no predictions
    points: list[tuple[float, Score, int]] = []
    for trial, orders, score in scores(data):
        names = orders.step_names(tasks)
        if orders.source == "identity" and names:
            order = tuple(range(len(names)))
        elif len(orders.listed) == 1 and set(orders.listed[0]) == set(names):
            order = tuple(names.index(name) for name in orders.listed[0])
        else:
            continue
        points.append((squared_distance(np.eye(len(order)), order), score, trial.number))
    if len(points) < 2:
        raise NoData("fewer than two trials of the search have a single order (`source: listed` with one order)")
    by_distance: dict[float, list[float]] = defaultdict(list)
    for distance, score, _ in points:
        by_distance[distance].append(score.mean)
    metric = METRIC_NAMES[data.sweep.search.metric]
    means = {distance: float(np.mean(values)) for distance, values in sorted(by_distance.items())}
    pick = max if data.sweep.search.mode == "max" else min
    best = pick(means, key=lambda distance: means[distance])
    title = (
        f"The best single orders lie at a squared distance of {best:g} from the identity: {metric} {means[best]:.3f}"
    )
    subtitle = (
        f"{capitalised(metric)} on inner validation subjects of {plural(len(points), 'network')} with one order each, "
        f"against the squared Frobenius distance of its matrix to the identity; mean of {points[0][1].runs} runs. "
        "Line: mean over the orders of a distance."
    )
    figure = new_figure(data, title, subtitle, HEIGHT)
    axes = figure.subplots()
    for distance, score, number in points:
        (dot,) = axes.plot([distance], [score.mean], "o", color=GREEN, alpha=0.55, markersize=5)
        dot.set_gid(f"trial-{number}")
    (line,) = axes.plot(list(means), list(means.values()), color=MUTED, linewidth=1.2, zorder=1)
    line.set_gid("mean")
    axes.set_xticks(list(means))
    axes.set_xlabel("squared Frobenius distance to the identity")
    axes.set_ylabel(metric)
    return figure


@styled
def order_counts(data: SweepData) -> Figure:
    """Metric against M without order dropout, and against k with the largest M (Tallec 2023, fig. 2.9).

    Raises:
        NoData: fewer than two such trials.
    """
    found = scores(data)
    drawn = [(orders, score) for _, orders, score in found if orders.source == "random" and orders.selection == "soft"]
    largest = max((orders.count for orders, _ in drawn), default=0)
    by_count = [(orders.count, score) for orders, score in drawn if orders.active in (None, orders.count)]
    by_active = [(orders.active or orders.count, score) for orders, score in drawn if orders.count == largest]
    if max(len({size for size, _ in points}) for points in (by_count, by_active)) < 2:
        raise NoData("no two trials of the search differ in model.orders.count or model.orders.active")
    metric = METRIC_NAMES[data.sweep.search.metric]
    every = [(f"M = {size}, no order dropout", score) for size, score in by_count]
    every += [(f"M = {largest}, k = {size}", score) for size, score in by_active if size != largest]
    pick = max if data.sweep.search.mode == "max" else min
    name, best = pick(every, key=lambda item: item[1].mean)
    title = f"The best of {plural(len(every), 'setting')} is {name}: {metric} {best.mean:.3f}"
    subtitle = (
        f"{capitalised(metric)} on inner validation subjects: mean of {best.runs} runs, bars of one deviation. "
        f"M orders are drawn; with order dropout each step trains k of M = {largest}."
    )
    figure = new_figure(data, title, subtitle, HEIGHT)
    axes = figure.subplots()
    _curve(axes, by_count, VERMILION, "orders")
    _curve(axes, by_active, GREEN, "active")
    colour_key(axes, [("k = M, for M on the axis", VERMILION), (f"M = {largest}, for k on the axis", GREEN)])
    axes.set_xlabel("orders: M, or k")
    axes.set_ylabel(metric)
    return figure


def _curve(axes: Axes, points: list[tuple[int, Score]], colour: str, gid: str) -> None:
    points = sorted(points, key=lambda point: point[0])
    sizes, means = [size for size, _ in points], [score.mean for _, score in points]
    deviations = [score.deviation for _, score in points]
    container = axes.errorbar(
        sizes, means, yerr=deviations, color=colour, marker="o", markersize=4, capsize=2.5, elinewidth=1.0
    )
    container[0].set_gid(gid)
