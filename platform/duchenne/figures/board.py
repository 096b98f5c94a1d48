"""The leaderboard as a picture: every entry's macro F1, how sure it is, and which entries can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILION,
    WASH,
    method_name,
    new_figure,
    plural,
    shortened,
    styled,
)
from duchenne.leaderboard import BoardRow

SHOWN_ENTRIES = 30
ROW = 0.42  # inches
COLUMNS = (1.09, 1.30)
"""Where the columns of ranks and values stand, in widths of the axes."""


@dataclass(frozen=True)
class _Line:
    """A row of the picture: an entry, or the heading of a group (None)."""

    entry: BoardRow | None
    heading: str = ""


@styled
def leaderboard(data: SweepData) -> Figure:
    """Dot and 95 % interval of macro F1 for each entry of the sweep's board, with the ranks that it may hold.

    Raises:
        NoData: the board has no entry with a number.
    """
    entries = [row for row in data.board if row.f1_mean is not None]
    if not entries:
        raise NoData(f"board {data.record.board} has no entry with an F1")
    shown = sorted(entries[:SHOWN_ENTRIES], key=lambda row: (row.group is None, row.group or 0, -(row.f1_mean or 0.0)))
    lines = _lines(shown)
    figure = new_figure(data, _title(data, shown), _subtitle(data, len(entries)), 0.85 + ROW * len(lines))
    axes = figure.subplots()
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("macro F1 at threshold 0.5 (mean over tasks, test folds and seeds)")
    axes.set_xlim(*_limits(shown))
    for place, line in enumerate(lines):
        if line.entry is None:
            axes.text(
                0,
                place + 0.18,
                line.heading,
                transform=axes.get_yaxis_transform(),
                fontsize=8.5,
                color=MUTED,
                style="italic",
            )
        else:
            _draw_entry(axes, place, line.entry, data, several=len({row.sweep for row in shown}) > 1)
    _column_heads(axes)
    return figure


def _lines(shown: Sequence[BoardRow]) -> list[_Line]:
    """Entries by group; a heading before each group unless there is one only."""
    groups = list(dict.fromkeys(row.group for row in shown))
    lines = []
    for group in groups:
        if len(groups) > 1:
            heading = (
                "not computed here, or not at hand: no rank" if group is None else f"group {group}: same data and folds"
            )
            lines.append(_Line(None, heading))
        lines += [_Line(row) for row in shown if row.group == group]
    return lines


def _title(data: SweepData, shown: Sequence[BoardRow]) -> str:
    ranked = [row for row in shown if row.group == shown[0].group and row.rank_low is not None]
    best = shown[0]
    name, value = method_name(best.method), f"{best.f1_mean:.3f}"
    title = f"{name} has the highest macro F1 on board {data.record.board}: {value}"
    if len(ranked) < 2:
        return title
    tied = sum(row.rank_low == 1 for row in ranked if row is not best)
    if tied == 0:
        return f"{title}, ahead of all others"
    return f"{title}, not told apart from {plural(tied, 'other')}"


def _subtitle(data: SweepData, entries: int) -> str:
    left_out = f" The {SHOWN_ENTRIES} best of {entries} entries are shown." if entries > SHOWN_ENTRIES else ""
    return (
        "Dot: F1 on sealed test folds. Line: 95 % bootstrap interval over subjects. Shaded: entries that can't be told apart "
        "from the best. Blue: the model that this sweep searched. Full dot: computed from the stored predictions; ring: "
        f"recorded, predictions not at hand; diamond: published elsewhere.{left_out}"
    )


def _limits(shown: Sequence[BoardRow]) -> tuple[float, float]:
    lows = [row.ci_low if row.ci_low is not None else row.f1_mean for row in shown]
    highs = [row.ci_high if row.ci_high is not None else row.f1_mean for row in shown]
    low, high = min(value for value in lows if value is not None), max(value for value in highs if value is not None)
    pad = max(0.01, 0.08 * (high - low))
    return max(0.0, low - pad), min(1.0, high + pad)


def _draw_entry(axes: Axes, place: int, row: BoardRow, data: SweepData, *, several: bool) -> None:
    own = row.sweep == data.record.id and row.method in data.own_methods
    colour = BLUE if own else INK if row.sweep == data.record.id else MUTED
    if row.rank_low == 1:
        axes.axhspan(place - 0.5, place + 0.5, color=WASH, linewidth=0, zorder=0)
    if row.ci_low is not None and row.ci_high is not None:
        axes.plot(
            [row.ci_low, row.ci_high], [place, place], color=colour, linewidth=2.6 if own else 1.8, alpha=0.75, zorder=2
        )
    marker, face = {"verified": ("o", colour), "published": ("D", "#ffffff")}.get(row.verified, ("o", "#ffffff"))
    axes.plot(
        [row.f1_mean], [place], marker, color=colour, markerfacecolor=face, markersize=8.5 if own else 7, markeredgewidth=1.4,
        zorder=3, clip_on=False, gid=f"entry-{row.entry}",
    )  # fmt: skip
    _names(axes, place, row, colour, several=several)
    sides = axes.get_yaxis_transform()
    ranks = (
        "–"
        if row.rank_low is None
        else str(row.rank_low)
        if row.rank_low == row.rank_high
        else f"{row.rank_low} to {row.rank_high}"
    )
    axes.text(COLUMNS[0], place, ranks, transform=sides, ha="center", va="center", color=colour, fontsize=9)
    axes.text(
        COLUMNS[1],
        place - 0.15,
        f"{row.f1_mean:.3f}",
        transform=sides,
        ha="center",
        va="center",
        color=colour,
        weight="bold",
    )
    interval = row.verified if row.ci_low is None or row.ci_high is None else f"{row.ci_low:.3f} to {row.ci_high:.3f}"
    flagged = VERMILION if row.verified not in ("verified", "published") else MUTED
    axes.text(
        COLUMNS[1], place + 0.21, interval, transform=sides, ha="center", va="center", color=flagged, fontsize=7.5
    )


def _names(axes: Axes, place: int, row: BoardRow, colour: str, *, several: bool) -> None:
    """The method, and below it what sets the entry apart."""
    settings = row.label.removeprefix(row.method).strip()
    details = [settings] if settings else []
    if row.trials:
        details.append(f"best of {plural(row.trials, 'trial')}")
    if several:
        details.append(row.sweep)
    sides = axes.get_yaxis_transform()
    detail = shortened(", ".join(details), 48)
    axes.text(
        -0.02, place - (0.15 if detail else 0.0), method_name(row.method), transform=sides, ha="right", va="center",
        color=colour, fontsize=10, weight="bold",
    )  # fmt: skip
    if detail:
        axes.text(-0.02, place + 0.21, detail, transform=sides, ha="right", va="center", color=MUTED, fontsize=7.5)


def _column_heads(axes: Axes) -> None:
    above = blended_transform_factory(axes.transAxes, axes.transAxes)
    axes.axhline(-0.5, color=FAINT, linewidth=0.8)
    for place, head in zip(COLUMNS, ("rank", "macro F1 (95 %)"), strict=True):
        axes.text(place, 1.01, head, transform=above, ha="center", va="bottom", fontsize=8, color=MUTED)
