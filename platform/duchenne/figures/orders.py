"""The soft order: which task the model decides at which step (Tallec 2023, 2.4), at the end and on the way there.

Shapes: J fold jobs, T tasks; a soft order is (T, T): row = time step, column = task, rows and columns sum to 1.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from duchenne.figures.soft_orders import SoftOrders, entropy, mean_soft_orders
from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.figures.style import (
    AROUND_UNIFORM,
    INK,
    LINES,
    MUTED,
    label_ends,
    method_name,
    new_figure,
    percent,
    plural,
    shortened,
    styled,
)

SHOWN_EPOCHS = 5
NUMBERED_TASKS = 20
"""With more tasks than these, numbers in the cells would be too small to read."""

NAMED_TASKS = 18
"""With more tasks than these, names beside the lines would not fit: only those in colour are named."""

TOP_HEIGHT, BOTTOM_HEIGHT = 1.95, 3.4


@styled
def soft_order(data: SweepData) -> Figure:
    """Heat map of the soft order after the last epoch, mean over folds and seeds.

    Raises:
        NoData: see `mean_soft_orders`.
    """
    orders = mean_soft_orders(data)
    final, size = orders.final, len(orders.tasks)
    step, task = np.unravel_index(int(final.argmax()), final.shape)
    title = (
        f"{method_name(orders.method)} decides {orders.tasks[task]} at step {step + 1} "
        f"with a probability of {final[step, task]:.2f}, its firmest choice"
    )
    subtitle = (
        f"Soft order after the last epoch, mean over {plural(orders.runs, 'run')}. Row: time step; column: "
        f"task; white: 1/{size} = {1 / size:.3f}, no preference. Entropy of a step: "
        f"{percent(entropy(final))} of the maximum."
    )
    figure = new_figure(data, title, subtitle, min(6.5, max(3.0, 0.9 + 0.42 * size)))
    axes, strip = figure.subplots(1, 2, width_ratios=(1.0, 0.02))
    highest = max(float(final.max()), 2 / size)
    image = _matrix(axes, final, size, highest)
    axes.set_xticks(range(size), [shortened(name, 20) for name in orders.tasks], color=INK)
    axes.set_yticks(range(size), [str(number) for number in range(1, size + 1)], color=INK)
    axes.xaxis.tick_top()
    if max(map(len, orders.tasks)) * size > 70:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="left", rotation_mode="anchor")
    axes.set_ylabel("time step")
    if size <= NUMBERED_TASKS:
        _numbers(axes, final, image)
    _colour_bar(figure, image, strip, size, highest)
    return figure


@styled
def soft_order_evolution(data: SweepData) -> Figure:
    """The soft order at about five epochs, and the mean time step of each task over all of them.

    Raises:
        NoData: see `mean_soft_orders`; or fewer than two epochs are on record.
    """
    orders = mean_soft_orders(data)
    if len(orders.epochs) < 2:
        raise NoData("an evolution needs two epochs, but the runs of the evaluation share only one")
    shown = sorted({round(place) for place in np.linspace(0, len(orders.epochs) - 1, SHOWN_EPOCHS)})
    size = len(orders.tasks)
    figure = new_figure(data, _evolution_title(orders), _evolution_subtitle(orders), TOP_HEIGHT + BOTTOM_HEIGHT)
    ratios = {"height_ratios": (TOP_HEIGHT, BOTTOM_HEIGHT), "width_ratios": (*[1.0] * len(shown), 0.06)}
    grid = figure.add_gridspec(2, len(shown) + 1, **ratios)
    row = [figure.add_subplot(grid[0, column]) for column in range(len(shown))]
    highest = max(float(orders.means[shown].max()), 2 / size)
    for axes, index in zip(row, shown, strict=True):
        image = _matrix(axes, orders.means[index], size, highest)
        axes.set_title(f"epoch {orders.epochs[index]}", color=INK)
        axes.set_xlabel(f"entropy {percent(entropy(orders.means[index]), 1)}")
        axes.set_xticks([])
        axes.set_yticks([])
    row[0].set_ylabel("time step (down)\ntask (right)")
    _colour_bar(figure, image, figure.add_subplot(grid[0, -1]), size, highest)
    _positions(figure.add_subplot(grid[1, :]), orders)
    return figure


def _evolution_title(orders: SoftOrders) -> str:
    moved = orders.positions[-1] - orders.positions[0]
    task = int(np.abs(moved).argmax())
    way = "earlier" if moved[task] < 0 else "later"
    return (
        f"From epoch {orders.epochs[0]} to {orders.epochs[-1]}, {orders.tasks[task]} moves most: "
        f"{abs(moved[task]):.2f} time steps {way}"
    )


def _evolution_subtitle(orders: SoftOrders) -> str:
    size = len(orders.tasks)
    return (
        f"Soft order of {method_name(orders.method)}, mean over {plural(orders.runs, 'run')}. Above: white is "
        f"1/{size}, no preference; entropy of a step as a share of the maximum. Below: mean time step of each task."
    )


def _positions(axes: Axes, orders: SoftOrders) -> None:
    positions = orders.positions
    # Only what moves most has a colour: fourteen colours tell nobody anything.
    coloured = np.argsort(-np.abs(positions[-1] - positions[0]), kind="stable")[: min(4, len(LINES))]
    labels = []
    for task, name in enumerate(orders.tasks):
        place = np.flatnonzero(coloured == task)
        colour = LINES[int(place[0])] if len(place) else MUTED
        width, alpha = (2.2, 1.0) if len(place) else (1.0, 0.45)
        axes.plot(orders.epochs, positions[:, task], color=colour, linewidth=width, alpha=alpha, zorder=2 + len(place))
        if len(place) or len(orders.tasks) <= NAMED_TASKS:
            labels.append((float(positions[-1, task]), shortened(name, 22), colour))
    axes.set_title("Mean time step of each task; in colour, those that moved most")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean time step (1 = first)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.margins(x=0.02, y=0.06)
    axes.set_ylim(*reversed(axes.get_ylim()))  # first at the top, as in the matrices
    label_ends(axes, labels, BOTTOM_HEIGHT - 0.75, points=7.5)


def _matrix(axes: Axes, matrix: FloatArray, size: int, highest: float) -> AxesImage:
    """Draws it with white at 1/T and the darkest blue at `highest`, which is never below 2/T."""
    norm = TwoSlopeNorm(vmin=0.0, vcenter=1 / size, vmax=highest)
    image = axes.imshow(matrix, cmap=AROUND_UNIFORM, norm=norm, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    return image


def _numbers(axes: Axes, matrix: FloatArray, image: AxesImage) -> None:
    size = len(matrix)
    shares = np.asarray(image.norm(matrix))
    for (step, task), value in np.ndenumerate(matrix):
        share = shares[step, task]
        red, green, blue, _ = image.cmap(float(share))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = "0" if value < 0.005 else f"{value:.2f}" if size <= 10 else f"{value:.2f}".removeprefix("0")
        axes.text(
            task,
            step,
            text,
            ha="center",
            va="center",
            color="white" if dark else INK,
            fontsize=9 if size <= 10 else 7.5,
        )


def _colour_bar(figure: Figure, image: AxesImage, strip: Axes, size: int, highest: float) -> None:
    bar = figure.colorbar(image, cax=strip)
    bar.set_ticks([0.0, 1 / size, highest], labels=["0", f"1/{size}", f"{highest:.2f}"])
    bar.outline.set_visible(False)
    bar.set_label("probability", color=MUTED)
