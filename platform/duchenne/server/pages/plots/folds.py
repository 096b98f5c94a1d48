"""Fold jobs as a heat map: a row a trial or method, a cell a fold; heat is the metric, an outline is the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from duchenne.server.pages.formats import number
from duchenne.server.pages.plots.matrix import LEVELS, level
from duchenne.server.pages.plots.svg import figure, tag, text

SIDE, GAP = 19.0, 3.0
INSET = 1.5


@dataclass(frozen=True)
class FoldCell:
    """One fold job: where it is, its state, and the metric where it is known."""

    row: int
    column: int
    state: str
    value: float | None
    title: str


def fold_map(
    name: str,
    rows: Sequence[tuple[str, str | None]],
    columns: Sequence[str],
    cells: Sequence[FoldCell],
    *,
    title: str,
    lower_is_better: bool = False,
) -> Markup:
    """The map.

    Args:
        rows: (name, trial that the row is about or None).
    """
    left, top = 8.0 + 6.6 * max((len(words) for words, _ in rows), default=0), 22.0
    known = [cell.value for cell in cells if cell.value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    pitch = SIDE + GAP
    parts = [text(left + place * pitch + SIDE / 2, 13, words, anchor="middle") for place, words in enumerate(columns)]
    for place, (words, _) in enumerate(rows):
        parts.append(text(left - 6, top + place * pitch + SIDE / 2 + 4, words, anchor="end"))
    for cell in cells:
        parts += _cell(cell, left + cell.column * pitch, top + cell.row * pitch, rows, low, high, lower_is_better)
    width = max(left + len(columns) * pitch + 4, 120.0)
    return figure(name, width, top + len(rows) * pitch + 2, title, *parts)


def _cell(
    cell: FoldCell, x: float, y: float, rows: Sequence[tuple[str, str | None]], low: float, high: float, lower: bool
) -> list[Markup]:
    words = f"{cell.title}: {cell.state}" + ("" if cell.value is None else f", {number(cell.value)}")
    heat = "trough" if cell.state != "queued" else "none"
    if cell.value is not None:
        found = level(cell.value, high, low)
        heat = f"h{LEVELS - found if lower else found}"
    trial = rows[cell.row][1]
    parts = []
    if heat != "none":
        parts.append(tag("rect", tag("title", words), x=x, y=y, width=SIDE, height=SIDE, rx=2.0, cls=heat,
                         data_trial=trial))  # fmt: skip
    if cell.state in ("queued", "running", "failed"):
        edge = SIDE - 2 * INSET
        outline = {"x": x + INSET, "y": y + INSET, "width": edge, "height": edge, "rx": 2.0}
        parts.append(tag("rect", *([] if parts else [tag("title", words)]), cls=cell.state, **outline))
    if cell.state == "failed":
        parts.append(tag("path", d=f"M{x + 5} {y + 5}l9 9m0 -9l-9 9", cls="failed"))
    if cell.state == "stopped":
        parts.append(tag("path", d=f"M{x + 5} {y + SIDE / 2}h{SIDE - 10}", cls="axis"))
    return parts
