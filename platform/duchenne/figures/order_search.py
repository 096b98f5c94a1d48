"""Did the mixture find the order? The way of each run there, and which order it ended with (Tallec 2023, fig. 2.8).

Shapes: E epochs, T tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.figures.style import FAINT, INK, method_colours, method_name, new_figure, plural, styled

PANELS_A_ROW = 3
ROW_HEIGHT = 2.7


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One run's way to an order.

    Attributes:
        fold, seed: which run it is.
        epochs: (E,).
        distances: (E,) squared Frobenius distance of the soft order to the order's matrix.
        found: whether the order of the largest weight is that order at the end; None where that was not kept.
    """

    fold: int
    seed: int
    epochs: tuple[int, ...]
    distances: FloatArray
    found: bool | None


def squared_distance(soft_order: FloatArray, order: tuple[int, ...]) -> float:
    """|| Omega - M_sigma ||_F^2 (Tallec 2023, fig. 2.7 and 2.8); M_sigma[i, j] = 1 where step i handles task j."""
    target = np.eye(len(order))[list(order)]
    return float(((soft_order - target) ** 2).sum())


def trajectories(data: SweepData, order: tuple[int, ...] | None = None) -> dict[str, list[Trajectory]]:
    """Method -> the runs of its evaluation.

    Args:
        order: 0-based; by default the identity I_T, in which the dataset lists its tasks.
    """
    found: dict[str, list[Trajectory]] = defaultdict(list)
    for key, epochs in sorted(data.order_records().items(), key=lambda item: (item[0].fold, item[0].seed)):
        size = len(next(iter(epochs.values())).soft_order)
        target = tuple(range(size)) if order is None else order
        distances = np.array([squared_distance(record.soft_order, target) for record in epochs.values()])
        best = list(epochs.values())[-1].best_order
        found[key.method].append(
            Trajectory(key.fold, key.seed, tuple(epochs), distances, best == target if best else None)
        )
    return dict(sorted(found.items(), key=lambda item: (item[0] not in data.own_methods, item[0])))


def finds(data: SweepData, order: tuple[int, ...] | None = None) -> dict[str, tuple[int, int]]:
    """Method -> (runs whose order of the largest weight is `order`, runs): "finds I_T" (Tallec 2023, table 2.1)."""
    return {
        method: (sum(run.found is True for run in runs), len(runs))
        for method, runs in trajectories(data, order).items()
    }


def finds_couple(
    row_orders: NDArray[np.int64], above: NDArray[np.bool_], sigma1: tuple[int, ...], sigma2: tuple[int, ...]
) -> bool:
    """Whether XMONET found the couple of the split toy (Tallec 2023, fig. 2.15).

    It did if sigma1 is the order of the largest pi(x) for most rows above x2 = 0, and sigma2 for most rows below. That
    both are in use is not enough: a mixture may hold both without telling the halves apart.

    Args:
        row_orders: (N, T) each row's order of the largest pi(x), from `MultiTaskNetwork.row_orders`.
        above: (N,) whether x2 >= 0; some rows must be, and some not.
    """
    halves = ((row_orders[above], sigma1), (row_orders[~above], sigma2))
    return all(float((orders == np.array(sigma)).all(axis=1).mean()) > 0.5 for orders, sigma in halves)


@styled
def order_distance_evolution(data: SweepData) -> Figure:
    """Distance of the soft order to the identity by epoch, a line a run, a panel a method (Tallec 2023, fig. 2.8).

    Raises:
        NoData: no evaluation that ended kept a soft order.
    """
    methods = trajectories(data)
    if not methods:
        raise NoData("no evaluation that has ended kept a soft order (only monet has one)")
    counts = finds(data)
    best = max(counts, key=lambda method: counts[method][0] / counts[method][1])
    title = (
        f"{method_name(best)} ends with the identity as its best order in {counts[best][0]} of {counts[best][1]} runs"
    )
    subtitle = (
        "Squared Frobenius distance of the soft order to the order of the tasks, by epoch; a line a run. "
        "In colour: the order of the largest weight is the identity at the end; grey: it is another."
    )
    columns = min(PANELS_A_ROW, len(methods))
    rows = -(-len(methods) // columns)
    figure = new_figure(data, title, subtitle, ROW_HEIGHT * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    colours = method_colours(list(methods))
    for axes, (method, runs) in zip(panels, methods.items(), strict=False):
        _lines(axes, runs, colours[method])
        axes.set_title(f"{method_name(method)}:\n{counts[method][0]} of {plural(counts[method][1], 'run')}")
    panels[0].set_ylim(bottom=0)  # once every line is there: the panels share their scale, and this fixes its top
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("squared distance to the identity")
    return figure


def _lines(axes: Axes, runs: list[Trajectory], colour: str) -> None:
    for run in sorted(runs, key=lambda run: run.found is True):  # those in colour on top
        line_colour = INK if run.found is None else colour if run.found else FAINT
        marker = "o" if len(run.epochs) == 1 else None
        (line,) = axes.plot(run.epochs, run.distances, color=line_colour, linewidth=1.2, marker=marker)
        line.set_gid(f"fold-{run.fold}-seed-{run.seed}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


@styled
def order_finding(frequencies: Mapping[tuple[tuple[int, ...], tuple[int, ...]], float], footer: str) -> Figure:
    """Matrix of how often XMONET finds the couple (sigma1, sigma2) of the split toy (Tallec 2023, fig. 2.15).

    The toy is symmetric, so that a couple that is given one way round stands for both.

    Args:
        frequencies: (sigma1, sigma2), 0-based -> share of the runs that found both, in [0, 1].
        footer: where the numbers come from.

    Raises:
        NoData: there is no couple.
    """
    if not frequencies:
        raise NoData("no couple of orders was run")
    orders = sorted({order for couple in frequencies for order in couple})
    matrix = np.full((len(orders), len(orders)), np.nan)
    for (upper, lower), share in frequencies.items():
        one, other = orders.index(upper), orders.index(lower)
        matrix[one, other] = share
        if (lower, upper) not in frequencies:
            matrix[other, one] = share
    same = [share for (upper, lower), share in frequencies.items() if upper == lower]
    couples = [share for (upper, lower), share in frequencies.items() if upper != lower]
    parts = [f"{np.mean(same):.2f} where both halves have one order" if same else ""]
    parts.append(f"{np.mean(couples):.2f} where they have two" if couples else "")
    title = "XMONET finds the orders with a frequency of " + " and ".join(part for part in parts if part)
    subtitle = (
        "Share of the runs that found sigma1 (row, x2 >= 0) and sigma2 (column, below) on the split toy; "
        "grey: the couple was not run."
    )
    figure = new_figure(footer, title, subtitle, min(7.2, max(3.0, 1.4 + 0.26 * len(orders))))
    axes, strip = figure.subplots(1, 2, width_ratios=(1.0, 0.02))
    axes.set_facecolor(FAINT)
    image = axes.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    names = ["".join(map(str, order)) for order in orders]
    axes.set_xticks(range(len(orders)), names, rotation=90)
    axes.set_yticks(range(len(orders)), names)
    axes.set_xlabel("sigma2")
    axes.set_ylabel("sigma1")
    if len(orders) <= 12:
        for (row, column), share in np.ndenumerate(matrix):
            if not np.isnan(share):
                axes.text(column, row, f"{share:.1f}", ha="center", va="center", color="white" if share > 0.6 else INK)
    bar = figure.colorbar(image, cax=strip)
    bar.outline.set_visible(False)
    bar.set_label("share of the runs")
    return figure
