"""The little SVG that the plots are made of: tags, scales, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Value = str | float | None


def tag(name: str, *children: str, **attributes: Value) -> Markup:
    """An element. `cls` is its class; underscores of other names are hyphens; None leaves an attribute out."""
    written = "".join(
        f' {_name(key)}="{escape(_plain(value))}"' for key, value in attributes.items() if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")  # noqa: S704 - escaped above


def figure(name: str, width: float, height: float, title: str, *children: str, role: str = "img") -> Markup:
    """A whole drawing, with the title that a screen reader says; a `group` where there are links in it.

    `name` must be the only one of its kind on the page.
    """
    identifier = f"{name}-title"
    return tag(
        "svg",
        tag("title", title, id=identifier),
        *children,
        cls="plot",
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width=width,
        height=height,
        role=role,
        aria_labelledby=identifier,
    )


def text(x: float, y: float, words: str, cls: str = "tick", anchor: str = "start") -> Markup:
    """Words at a place."""
    return tag("text", words, x=x, y=y, cls=cls, text_anchor=None if anchor == "start" else anchor)


def line(points: Iterable[tuple[float, float]]) -> str:
    """The path through points."""
    return "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)


def steps(points: Sequence[tuple[float, float]]) -> str:
    """The path that stays level until each next point."""
    path = f"M{_plain(points[0][0])} {_plain(points[0][1])}"
    return path + "".join(f"H{_plain(x)}V{_plain(y)}" for x, y in points[1:])


def squares(places: Iterable[tuple[float, float]], side: float) -> str:
    """One path of many squares: a dozen bytes for each."""
    edge = _plain(side)
    return "".join(f"M{_plain(x)} {_plain(y)}h{edge}v{edge}h-{edge}z" for x, y in places)


@dataclass(frozen=True)
class Scale:
    """From values to places: linear, or logarithmic where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies; beyond the ends it is held there."""
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, max(value, self.low)))
            if self.log
            else (
                self.low,
                self.high,
                value,
            )
        )
        share = 0.5 if high <= low else (at - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within."""
        return _log_ticks(self.low, self.high) if self.log else round_ticks(self.low, self.high, count)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` values of the form 1, 2 or 5 times a power of ten in [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = len(powers) > 3
    found = [factor * 10.0**power for power in powers for factor in ((1,) if wide else (1, 2, 5))]
    return [value for value in found if low * 0.999 <= value <= high * 1.001] or [low, high]


def widened(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Lowest and highest, with some room on both sides."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _name(key: str) -> str:
    if key == "cls":
        return "class"
    return key if key in ("viewBox", "preserveAspectRatio") else key.replace("_", "-")


def _plain(value: Value) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
