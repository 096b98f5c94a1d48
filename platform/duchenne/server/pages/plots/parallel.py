"""Parallel coordinates of a search: a line a trial, an axis a searched setting, the last axis its value."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from duchenne.server.pages.formats import number, setting
from duchenne.server.pages.plots.svg import Scale, figure, line, tag, text, widened

HEIGHT, TOP, BOTTOM, SIDE, GAP = 280.0, 30.0, 14.0, 66.0, 132.0
AXES = 8
SINGLE = 250
"""Up to so many trials each has a line of its own to point at; of more, lines of a quarter share one path."""

CHOICES = 12
"""Values of an axis of choices that are named."""


@dataclass(frozen=True)
class TrialLine:
    """A trial with a value."""

    trial: int
    settings: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class _Axis:
    name: str
    scale: Scale
    ticks: tuple[tuple[float, str], ...]
    places: Mapping[str, float] | None

    def at(self, value: Any) -> float:
        if self.places is not None:
            return self.places[setting(value)]
        return self.scale(float(value))


def parallel_plot(trials: Sequence[TrialLine], metric: str, *, lower_is_better: bool = False) -> Markup:
    """The plot; nothing for fewer than two trials, or where no setting was searched."""
    names = [name for name in _names(trials) if len({setting(t.settings.get(name)) for t in trials}) > 1][:AXES]
    if len(trials) < 2 or not names:
        return Markup("")
    axes = [_axis(name, [trial.settings.get(name) for trial in trials]) for name in names]
    axes.append(_numeric(metric, [trial.value for trial in trials]))
    width = 2 * SIDE + GAP * (len(axes) - 1)
    xs = [SIDE + GAP * place for place in range(len(axes))]
    parts = _lines(trials, names, axes, xs, lower_is_better)
    for axis, x in zip(axes, xs, strict=True):
        parts.append(tag("path", d=f"M{x} {TOP}V{HEIGHT - BOTTOM}", cls="axis"))
        parts.append(text(x, 14, _short(axis.name), "note", "middle"))
        last = axis is axes[-1]
        for place, words in axis.ticks:
            parts.append(text(x + (6 if last else -6), place + 4, words[:14], anchor="start" if last else "end"))
    best = (min if lower_is_better else max)(trials, key=lambda trial: trial.value)
    title = f"{len(trials)} trials over {len(names)} settings; the best is trial {best.trial}: {metric} "
    return figure("parallel", width, HEIGHT, title + number(best.value), *parts)


def _names(trials: Sequence[TrialLine]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.settings))


def _lines(
    trials: Sequence[TrialLine], names: Sequence[str], axes: Sequence[_Axis], xs: Sequence[float], lower: bool
) -> list[Markup]:
    """The best last, so that they lie on top."""
    ranked = sorted(trials, key=lambda trial: trial.value, reverse=lower)
    drawn: dict[int, list[tuple[TrialLine, str]]] = defaultdict(list)
    for place, trial in enumerate(ranked):
        values = [*(trial.settings.get(name) for name in names), trial.value]
        points = [(x, axis.at(value)) for x, axis, value in zip(xs, axes, values, strict=True)]
        drawn[min(3, 4 * place // len(ranked))].append((trial, line((x, round(y, 1)) for x, y in points)))
    if len(trials) <= SINGLE:
        return [
            tag("path", tag("title", f"trial {trial.trial}: {number(trial.value)}"), d=path, cls=f"trial q{quarter}",
                data_trial=trial.trial)
            for quarter, group in sorted(drawn.items())
            for trial, path in group
        ]  # fmt: skip
    return [
        tag("path", d="".join(path for _, path in group), cls=f"q{quarter}") for quarter, group in sorted(drawn.items())
    ]


def _axis(name: str, values: Sequence[Any]) -> _Axis:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _numeric(name, [float(value) for value in values])
    words = sorted({setting(value) for value in values}, key=str)
    step = (HEIGHT - TOP - BOTTOM) / max(1, len(words) - 1) if len(words) > 1 else 0.0
    places = {word: TOP + step * index for index, word in enumerate(words)}
    named = tuple((place, word) for word, place in places.items()) if len(words) <= CHOICES else ()
    return _Axis(name, Scale(0.0, 1.0, TOP, HEIGHT - BOTTOM), named, places)


def _numeric(name: str, values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    log = low > 0 and high / low >= 20
    if not log:
        low, high = widened(values, 0.04)
    scale = Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    ticks = [tick for tick in scale.ticks(4) if math.isfinite(tick)]
    return _Axis(name, scale, tuple((scale(tick), number(tick)) for tick in ticks), None)


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])[:22]
