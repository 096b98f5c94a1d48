"""The leaderboard as a picture: every entry's macro F1, how sure it is, and which entries can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duchenne.boards import BoardRow
from duchenne.figures.source import NoData, SweepData
from duchenne.figures.style import (
    BLUE,
    FAINT,
    FOOTER,
    GRID,
    INK,
    MARGIN,
    MUTED,
    VERMILION,
    WASH,
    WIDTH,
    method_name,
    new_figure,
    plural,
    shortened,
    styled,
)

SHOWN_ENTRIES = 30
ROW, HEAD, AXIS = 0.42, 0.3, 0.42
"""Heights of an entry, of the columns' heads and of the axis below, in inches."""

NAMES, FIGURES = 2.3, 1.95
"""Widths of what stands left and right of the axes, in inches."""

PLOT = WIDTH - 2 * MARGIN - NAMES - FIGURES
RANKS, VALUES = 1 + 0.5 / PLOT, 1 + 1.4 / PLOT
"""Centres of the two columns on the right, in widths of the axes."""

SIDES = (-NAMES / PLOT, 1 + FIGURES / PLOT)
"""From edge to edge, in widths of the axes."""

DETAIL_LENGTH = 42


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
    figure = new_figure(data, _title(data, shown), _subtitle(shown, len(entries)), HEAD + ROW * len(lines) + AXIS)
    axes = _axes(figure, len(lines))
    axes.set_xlim(*_limits(shown))
    for place, line in enumerate(lines):
        axes.axhline(place + 0.5, *SIDES, color=GRID, linewidth=0.8, clip_on=False, zorder=1)
        if line.entry is None:
            axes.text(SIDES[0], place, line.heading, transform=axes.get_yaxis_transform(), va="center", color=MUTED)
        else:
            _draw_entry(axes, place, line.entry, data)
    return figure


def _axes(figure: Figure, lines: int) -> Axes:
    """Placed in inches: what stands beside the axes has fixed widths."""
    figure.set_layout_engine("none")
    height = figure.get_size_inches()[1]
    place = ((MARGIN + NAMES) / WIDTH, (FOOTER + AXIS) / height, PLOT / WIDTH, ROW * lines / height)
    axes = figure.add_axes(place)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.axhline(-0.5, *SIDES, color=FAINT, linewidth=1.0, clip_on=False)
    axes.set_xlabel("macro F1 at threshold 0.5: mean over tasks, test folds and seeds")
    for x, head in ((RANKS, "rank"), (VALUES, "macro F1 (95 %)")):
        axes.text(
            x, -0.62, head, transform=axes.get_yaxis_transform(), ha="center", va="bottom", fontsize=8, color=MUTED
        )
    return axes


def _lines(shown: Sequence[BoardRow]) -> list[_Line]:
    """Entries by group; a heading before each group unless there is one only."""
    groups = list(dict.fromkeys(row.group for row in shown))
    lines = []
    for group in groups:
        if len(groups) > 1:
            unranked = "Not ranked: published, or predictions not at hand"
            lines.append(_Line(None, unranked if group is None else f"Group {group}: the same data and folds"))
        lines += [_Line(row) for row in shown if row.group == group]
    return lines


def _title(data: SweepData, shown: Sequence[BoardRow]) -> str:
    best = shown[0]
    ranked = [row for row in data.board if row.group == best.group and row.rank_low is not None]
    higher = any((row.f1_mean or 0.0) > (best.f1_mean or 0.0) for row in shown)
    among = "the entries ranked here" if higher else f"board {data.record.board}"
    title = f"{method_name(best.method)} leads {among} with a macro F1 of {best.f1_mean:.3f}"
    if len(ranked) < 2:
        return title
    tied = sum(row.rank_low == 1 for row in ranked if row is not best)
    return f"{title}, tied with {plural(tied, 'other')}" if tied else f"{title}, ahead of all others"


def _subtitle(shown: Sequence[BoardRow], entries: int) -> str:
    parts = [
        "Dot: F1 on sealed test folds; line: 95 % bootstrap interval over subjects.",
        "Shaded: tied with the best. Blue: searched by this sweep.",
    ]
    if any(row.verified == "missing" for row in shown):
        parts.append("Ring: as recorded, predictions not at hand.")
    if any(row.verified == "published" for row in shown):
        parts.append("Diamond: published elsewhere.")
    if entries > SHOWN_ENTRIES:
        parts.append(f"The {SHOWN_ENTRIES} best of {entries} entries are shown.")
    return " ".join(parts)


def _limits(shown: Sequence[BoardRow]) -> tuple[float, float]:
    bounds = [bound for row in shown for bound in (row.ci_low, row.f1_mean, row.ci_high) if bound is not None]
    low, high = min(bounds), max(bounds)
    pad = max(0.01, 0.08 * (high - low))
    return max(0.0, low - pad), min(1.0, high + pad)


def _draw_entry(axes: Axes, place: int, row: BoardRow, data: SweepData) -> None:
    own = row.sweep == data.record.id and row.method in data.own_methods
    colour = BLUE if own else INK
    if row.rank_low == 1:
        axes.axhspan(place - 0.5, place + 0.5, *SIDES, color=WASH, linewidth=0, zorder=0, clip_on=False)
    if row.ci_low is not None and row.ci_high is not None:
        width = 3.0 if own else 2.0
        axes.plot([row.ci_low, row.ci_high], [place, place], color=colour, linewidth=width, alpha=0.7, zorder=2)
    axes.plot(
        [row.f1_mean or 0.0], [place], "D" if row.verified == "published" else "o", color=colour,
        markerfacecolor=colour if row.verified == "verified" else "#ffffff", markersize=9 if own else 7,
        markeredgewidth=1.4, zorder=3, clip_on=False, gid=f"entry-{row.entry}",
    )  # fmt: skip
    _names(axes, place, row, colour, "" if row.sweep == data.record.id else row.sweep)
    _figures(axes, place, row, colour)


def _figures(axes: Axes, place: int, row: BoardRow, colour: str) -> None:
    """The two columns on the right."""
    sides = axes.get_yaxis_transform()
    ranks = "none" if row.rank_low is None else f"{row.rank_low} to {row.rank_high}"
    ranks = str(row.rank_low) if row.rank_low is not None and row.rank_low == row.rank_high else ranks
    axes.text(RANKS, place, ranks, transform=sides, ha="center", va="center", color=colour)
    known = row.ci_low is not None and row.ci_high is not None
    interval = f"{row.ci_low:.3f} to {row.ci_high:.3f}" if known else row.verified
    flagged = MUTED if row.verified in ("verified", "published") else VERMILION
    value = f"{row.f1_mean:.3f}"
    axes.text(VALUES, place - 0.16, value, transform=sides, ha="center", va="center", color=colour, weight="bold")
    axes.text(VALUES, place + 0.2, interval, transform=sides, ha="center", va="center", color=flagged, fontsize=7.5)


def _names(axes: Axes, place: int, row: BoardRow, colour: str, sweep: str) -> None:
    """The method, and below it what sets the entry apart; `sweep` is empty for those of this one."""
    settings = row.label.removeprefix(row.method).strip()
    trials = plural(row.trials, "trial") if row.trials else ""
    detail = shortened(", ".join(part for part in (settings, trials, sweep) if part), DETAIL_LENGTH)
    sides = axes.get_yaxis_transform()
    left = SIDES[0] + 0.1 / PLOT
    axes.text(
        left, place - (0.16 if detail else 0.0), method_name(row.method), transform=sides, va="center",
        color=colour, fontsize=10, weight="bold",
    )  # fmt: skip
    if detail:
        axes.text(left, place + 0.2, detail, transform=sides, va="center", color=MUTED, fontsize=7.5)
