"""Score for money: every entry by cost and F1, the line that none undercuts, and the best published number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from duchenne.server.pages.formats import percent, usd
from duchenne.server.pages.plots.svg import Scale, figure, steps, tag, text, widened

WIDTH, HEIGHT = 460.0, 264.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 12.0, 14.0, 40.0


@dataclass(frozen=True)
class Point:
    """An entry by what it cost and reached; `href` is its page."""

    name: str
    href: str
    cost: float
    f1: float


def frontier_plot(frontier: Sequence[Point], others: Sequence[Point], published: tuple[str, float] | None) -> Markup:
    """The plot; nothing where no entry has a cost.

    Args:
        frontier: by cost, ascending.
        published: the best published number, (method, share).
    """
    points = [*frontier, *others]
    if not points:
        return Markup("")
    costs = [point.cost for point in points if point.cost > 0]
    heights = [point.f1 for point in points] + ([published[1]] if published else [])
    low, high = widened(heights, 0.1)
    lowest = min(costs, default=0.01)
    x = Scale(lowest / 1.3, max(costs, default=1.0) * 1.3, LEFT, WIDTH - RIGHT, log=True)
    y = Scale(max(0.0, low), min(1.0, high), HEIGHT - BOTTOM, TOP)
    parts = [*_axes(x, y)]
    if published is not None:
        level = y(published[1])
        parts.append(tag("path", d=f"M{LEFT} {level:.1f}H{WIDTH - RIGHT}", cls="published"))
        words = f"published: {published[0]} {percent(published[1])}"
        parts.append(text(WIDTH - RIGHT, level - 4 if level > TOP + 14 else level + 12, words, "note", "end"))
    if len(frontier) > 1:
        parts.append(tag("path", d=steps([(x(p.cost), y(p.f1)) for p in frontier]), cls="line"))
    parts += [_dot(point, x, y, "other") for point in others]
    parts += [_dot(point, x, y, "dot") for point in frontier]
    parts += _names(frontier, x, y)
    best = frontier[-1] if frontier else max(points, key=lambda point: point.f1)
    title = f"F1 against cost of {len(points)} entries; the highest on the frontier is {best.name}, "
    title += f"{percent(best.f1)} for {usd(best.cost)}"
    return figure("frontier", WIDTH, HEIGHT, title, *parts, role="group")


def _axes(x: Scale, y: Scale) -> list[Markup]:
    ticks = y.ticks(5)
    parts = [tag("path", d="".join(f"M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" for tick in ticks), cls="grid")]
    parts += [text(LEFT - 6, y(tick) + 4, f"{100 * tick:.4g}", anchor="end") for tick in ticks]
    parts += [text(x(tick), HEIGHT - BOTTOM + 16, usd(tick), anchor="middle") for tick in x.ticks()]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "cost of the entry (log scale)", "label", "middle"))
    return parts


def _dot(point: Point, x: Scale, y: Scale, cls: str) -> Markup:
    circle = tag("circle", cx=x(point.cost), cy=y(point.f1), r=4.0, cls=cls)
    title = f"{point.name}: F1 {percent(point.f1)} for {usd(point.cost)}"
    return tag("a", tag("title", title), circle, href=point.href, aria_label=title)


def _names(frontier: Sequence[Point], x: Scale, y: Scale) -> list[Markup]:
    """Names of as many of the frontier as have room, the best first."""
    drawn: list[Markup] = []
    taken: list[float] = []
    for point in reversed(frontier):
        level = y(point.f1)
        if all(abs(level - other) >= 13 for other in taken):
            taken.append(level)
            at = x(point.cost)
            left = at > WIDTH / 2
            drawn.append(text(at + (3 if left else -3), level - 8, point.name[:26], "note", "end" if left else "start"))
    return drawn
