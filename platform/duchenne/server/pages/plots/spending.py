"""What is left of a limit over time, against spending it evenly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from duchenne.server.pages.formats import duration
from duchenne.server.pages.plots.svg import Scale, figure, steps, tag, text

WIDTH, HEIGHT = 460.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 12.0, 38.0
POINTS = 240
UNITS = {"usd": "USD", "gpu_hours": "GPU-hours", "wall_seconds": "hours of wall time"}


def burn_down_plot(
    unit: str, limit: float, spent: Sequence[tuple[datetime, float]], start: datetime, now: datetime
) -> Markup:
    """The plot.

    Args:
        unit: a key of `UNITS`; amounts are in it.
        spent: (when, how much) of each lease that was closed, in order.
    """
    scale = 3600.0 if unit == "wall_seconds" else 1.0
    end = max([now, *(at for at, _ in spent[-1:])])
    span = max((end - start).total_seconds(), 1.0)
    x, y = Scale(0.0, span, LEFT, WIDTH - RIGHT), Scale(0.0, limit / scale, HEIGHT - BOTTOM, TOP)
    left, points = limit, [(x(0.0), y(limit / scale))]
    for at, amount in spent:
        left -= amount
        points.append((x(max(0.0, (at - start).total_seconds())), y(max(0.0, left) / scale)))
    points.append((x(span), points[-1][1]))
    ticks = y.ticks(4)
    parts = [
        tag("path", d="".join(f"M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" for tick in ticks), cls="grid"),
        *(text(LEFT - 7, y(tick) + 4, f"{tick:g}", anchor="end") for tick in ticks),
        tag("path", d=_area(points), cls="band"),
        tag("path", d=steps(_thinned(points)), cls="line"),
        text(LEFT, HEIGHT - BOTTOM + 16, f"{start:%m-%d %H:%M}"),
        text(WIDTH - RIGHT, HEIGHT - BOTTOM + 16, f"{end:%m-%d %H:%M}", anchor="end"),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, f"{UNITS[unit]} left of the limit", "label", "middle"),
    ]
    share = 100 * max(0.0, left) / limit
    title = f"{share:.0f} % of the limit of {limit / scale:g} {UNITS[unit]} left after {duration(span)}"
    return figure(f"burn-{unit.replace('_', '-')}", WIDTH, HEIGHT, title, *parts)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about `POINTS` of them, the last of each stretch."""
    if len(points) <= POINTS:
        return points
    stride = -(-len(points) // POINTS)
    return [points[0], *points[stride - 1 : -1 : stride], points[-1]]


def _area(points: Sequence[tuple[float, float]]) -> str:
    bottom = HEIGHT - BOTTOM
    thin = _thinned(points)
    return f"{steps(thin)}V{bottom}H{thin[0][0]:.1f}Z"
