"""Lines over epochs, named at their ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from duchenne.server.pages.plots.svg import Scale, figure, line, tag, text

WIDTH, HEIGHT = 460.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 36.0, 78.0, 12.0, 38.0


def position_plot(epochs: Sequence[int], positions: NDArray[np.float64], names: Sequence[str]) -> Markup:
    """(E, T) the mean time step of each task by epoch: step 1 on top."""
    count = len(names)
    x = Scale(float(epochs[0]), float(epochs[-1]), LEFT, WIDTH - RIGHT)
    y = Scale(1.0, float(count), TOP + 6, HEIGHT - BOTTOM)
    parts = [tag("path", d="".join(f"M{LEFT} {y(s):.1f}H{WIDTH - RIGHT}" for s in range(1, count + 1)), cls="grid")]
    parts += [text(LEFT - 8, y(step) + 4, str(step), anchor="end") for step in range(1, count + 1)]
    parts += [text(x(tick), HEIGHT - BOTTOM + 17, f"{tick:g}", anchor="middle") for tick in x.ticks(5)]
    spread = positions.max(axis=0) - positions.min(axis=0)
    moved = set(np.argsort(-spread)[:3].tolist())
    for task in range(count):
        places = [(x(float(epoch)), y(float(at))) for epoch, at in zip(epochs, positions[:, task], strict=True)]
        parts.append(tag("path", d=line(places), cls="line" if task in moved else "faint"))
    ends = _apart([y(float(at)) for at in positions[-1]], 12.5, HEIGHT - BOTTOM + 4)
    for task, height in enumerate(ends):
        cls = "note" if task in moved else "tick"
        parts.append(text(WIDTH - RIGHT + 8, height + 4, names[task][:11], cls))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "epoch; left: mean time step", "label", "middle"))
    first = names[int(positions[-1].argmin())]
    title = f"Mean time step of each of {count} tasks over {len(epochs)} epochs; {first} ends earliest"
    return figure("positions", WIDTH, HEIGHT, title, *parts)


def _apart(heights: Sequence[float], room: float, lowest: float) -> list[float]:
    """Heights moved apart, in their order and no lower than `lowest`, so that words of that height fit."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    placed = list(heights)
    above = -room
    for place in order:
        above = placed[place] = max(placed[place], above + room)
    below = lowest + room
    for place in reversed(order):
        below = placed[place] = min(placed[place], below - room)
    return placed
