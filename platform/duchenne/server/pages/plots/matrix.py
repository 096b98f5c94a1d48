"""Matrices as heat maps: soft orders, attention, folds. A level of heat is a class, so that themes colour it.

Shapes: T steps and tasks, Q maps of h x w.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from duchenne.server.pages.plots.svg import figure, squares, tag, text

LEVELS = 8
NUMBERED = 14
"""With more tasks than these, numbers in the cells would be too small to read."""

FloatArray = NDArray[np.float64]


def level(value: float, highest: float, lowest: float = 0.0) -> int:
    """The level of heat of a value, 0 to `LEVELS`."""
    share = (value - lowest) / (highest - lowest) if highest > lowest else 0.0
    return round(LEVELS * min(1.0, max(0.0, share)))


def soft_order_plot(name: str, matrix: FloatArray, tasks: Sequence[str], title: str) -> Markup:
    """(T, T) with names and numbers; row = time step, column = task."""
    size = len(tasks)
    side = 36.0 if size <= NUMBERED else max(8.0, 460.0 / size)
    left, top = 42.0, 52.0
    highest = float(matrix.max())
    parts = []
    for task, words in enumerate(tasks):
        at = left + (task + 0.5) * side + 4
        parts.append(
            tag("text", words[:12], x=0, y=0, cls="tick", transform=f"translate({at:.1f} {top - 6}) rotate(-45)")
        )
    for step in range(size):
        parts.append(text(left - 8, top + (step + 0.5) * side + 4, str(step + 1), anchor="end"))
        for task in range(size):
            value = float(matrix[step, task])
            heat = level(value, highest)
            x, y = left + task * side, top + step * side
            parts.append(tag("rect", x=x, y=y, width=side, height=side, cls=f"cell h{heat}"))
            if size <= NUMBERED:
                shade = "on" if heat > LEVELS * 0.62 else "off"
                words = f"{100 * value:.0f}"
                parts.append(text(x + side / 2, y + side / 2 + 4, words, f"tick {shade}", "middle"))
    return figure(name, left + size * side + 30, top + size * side + 6, title, *parts)


def small_matrices(name: str, matrices: Sequence[FloatArray], names: Sequence[str], title: str, side: float) -> Markup:
    """Maps in a row that wraps, each with its name, on one scale; `side`: of a cell."""
    highest = max(float(matrix.max()) for matrix in matrices)
    lowest = min(float(matrix.min()) for matrix in matrices)
    rows, columns = matrices[0].shape
    wide, tall = columns * side + 16, rows * side + 26
    lines = -(-len(matrices) // max(1, int(720 // wide)))
    across = -(-len(matrices) // lines)
    parts: list[Markup] = []
    for place, (matrix, words) in enumerate(zip(matrices, names, strict=True)):
        x, y = (place % across) * wide, (place // across) * tall + 16
        parts.append(text(x, y - 5, words))
        groups: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for (row, column), value in np.ndenumerate(matrix):
            groups[level(float(value), highest, lowest)].append((x + column * side, y + row * side))
        parts += [tag("path", d=squares(cells, side), cls=f"h{heat}") for heat, cells in sorted(groups.items())]
    return figure(name, across * wide, lines * tall, title, *parts)
