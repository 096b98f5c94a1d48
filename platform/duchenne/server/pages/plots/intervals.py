"""Numbers with intervals as small bars in the rows of a table, on one scale, and the scale for its head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from duchenne.server.pages.plots.svg import Scale, round_ticks, tag, text

WIDTH, HEIGHT = 168, 18
EDGE = 10
"""What lies beside the scale: half of a tick's label."""


@dataclass(frozen=True)
class IntervalScale:
    """One scale for all rows of a table, in shares."""

    scale: Scale
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float | None]) -> IntervalScale:
        """That holds all the values; from 0 to 1 where there are none."""
        known = [value for value in values if value is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if high - low < 0.1:
            low, high = low - (0.1 - high + low) / 2, high + (0.1 - high + low) / 2
        low, high = max(0.0, low), min(1.0, high)
        return cls(Scale(low, high, EDGE, WIDTH - EDGE), tuple(round_ticks(low, high, 4)))

    def head(self) -> Markup:
        """The scale itself."""
        marks = [text(self.scale(tick), 12, f"{100 * tick:.0f}", anchor="middle") for tick in self.ticks]
        return tag("svg", *marks, cls="ci", width=WIDTH, height=HEIGHT, aria_hidden="true")

    def bar(self, value: float | None, low: float | None, high: float | None, *others: float | None) -> Markup:
        """A dot on its interval, rings for `others` to compare with. The cell beside it says it in words."""
        middle = HEIGHT / 2
        grid = "".join(f"M{self.scale(tick):.1f} 0V{HEIGHT}" for tick in self.ticks)
        parts = [tag("path", d=grid, cls="grid")]
        if low is not None and high is not None:
            parts.append(tag("path", d=f"M{self.scale(low):.1f} {middle}H{self.scale(high):.1f}", cls="range"))
        parts += [
            tag("circle", cx=self.scale(other), cy=middle, r=3.5, cls="other") for other in others if other is not None
        ]
        if value is not None:
            parts.append(tag("circle", cx=self.scale(value), cy=middle, r=3.5, cls="dot"))
        return tag("svg", *parts, cls="ci", width=WIDTH, height=HEIGHT, aria_hidden="true")

    def mark(self, value: float) -> Markup:
        """A published number: a stroke across, without an interval."""
        grid = "".join(f"M{self.scale(tick):.1f} 0V{HEIGHT}" for tick in self.ticks)
        stroke = tag("path", d=f"M{self.scale(value):.1f} 3V{HEIGHT - 3}", cls="published")
        return tag(
            "svg", tag("path", d=grid, cls="grid"), stroke, cls="ci", width=WIDTH, height=HEIGHT, aria_hidden="true"
        )


def share_bar(parts: Sequence[tuple[float, str]], title: str, width: int = 220) -> Markup:
    """Shares of a whole side by side: (share, class) from the left; what is over 1 is cut."""
    at, drawn = 0.0, [tag("rect", x=0, y=0, width=width, height=10, rx=2, cls="trough")]
    for share, cls in parts:
        length = max(0.0, min(share, 1.0 - at))
        if length > 0:
            drawn.append(tag("rect", x=at * width, y=0, width=length * width, height=10, cls=cls))
        at += length
    return tag(
        "svg",
        tag("title", title),
        *drawn,
        cls="share",
        viewBox=f"0 0 {width} 10",
        preserveAspectRatio="none",
        role="img",
    )
