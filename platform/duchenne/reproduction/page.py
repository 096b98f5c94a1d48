"""The page `docs/reproduction.md`: tables in Markdown, figures as PNG beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from duchenne import figures
from duchenne.boards.published import PublishedTable
from duchenne.figures import NoData, read_sweep
from duchenne.records import RecordStore
from duchenne.reproduction.couples import couples_found
from duchenne.reproduction.lines import Line, ReproducedTable, board_of, reproduced_tables

PICTURES = "pictures/reproduction"


@dataclass(frozen=True)
class Reproduced:
    """A figure of the thesis.

    Attributes:
        sweeps: names of the sweeps that can show it, the first choice first.
        drawn_by: the function of `duchenne.figures`.
    """

    number: str
    sweeps: tuple[str, ...]
    drawn_by: str
    caption: str


FIGURES = (
    Reproduced("2.7", ("figure-2-7",), "single_orders", "One order at a time, against its distance to the identity."),
    Reproduced(
        "2.8",
        ("figure-2-8", "table-2-1"),
        "order_distance_evolution",
        "Distance of the soft order to the identity in the course of training.",
    ),
    Reproduced("2.9", ("figure-2-9",), "order_counts", "What the number of orders M and order dropout k do."),
)
COUPLES = "figure-2-15"  # a sweep for each couple of orders, all of one name
_HEAD = """\
# Reproduction of the thesis

Generated from records: `duchenne reproduction --home HOME --out docs/reproduction.md`, after `duchenne run` of the
files in `jobs/sweeps/thesis`. A number is the mean over runs in percent, with its 95 % interval (Student's t over the
runs). Whatever was not run is listed as such.
"""


def write_page(store: RecordStore, home: Path, out: Path) -> list[str]:
    """Write the page and its pictures.

    Args:
        home: the folder to which recorded paths are relative.
        out: the Markdown file; pictures go to `pictures/reproduction` beside it.

    Returns:
        What could not be shown, one line each.
    """
    tables = reproduced_tables(store, home)
    drawn, missing = _draw(store, home, out.parent / PICTURES)
    ran = [table for table in tables if table.sweep is not None]
    left = [table for table in tables if table.sweep is None]
    parts = [_HEAD, *(_section(table) for table in ran), *drawn, _not_run(left, missing)]
    out.write_text("\n".join(part for part in parts if part).rstrip("\n") + "\n", encoding="utf-8")
    return [*(f"{_title(table.published)}: no entry on board {board_of(table.published)}" for table in left), *missing]


def _title(table: PublishedTable) -> str:
    return f"Table {table.table}, {table.dataset}"


def _section(table: ReproducedTable) -> str:
    assert table.sweep is not None  # noqa: S101 - only tables that ran come here
    record = table.sweep.record
    lines = [f"## {_title(table.published)}" + (" (on synthetic faces)" if table.synthetic else ""), ""]
    if table.synthetic:
        lines += [
            "The published numbers are those of the real dataset: only the order of the rows can be compared.",
            "",
        ]
    lines += ["| method | published | ours | 95 % interval | runs | identity found | worker minutes |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [_cells(line, table.published) for line in table.lines]
    lines += ["", _order(table.lines), "", f"Sweep `{record.id}`, data `{table.sweep.sweep.data.uri}`."]
    return "\n".join([*lines, *_settings(table), ""])


def _cells(line: Line, table: PublishedTable) -> str:
    row = line.row
    published = f"{row.value:.1f}" + (f" ± {row.spread:.1f}" if row.spread is not None else "")
    if row.identity is not None:
        published += f" ({row.identity}/{table.runs} identity)"
    if line.mean is None:
        return f"| {row.method} | {published} | not run | | | | |"
    interval = f"{line.interval[0]:.1f} to {line.interval[1]:.1f}" if line.interval else ""
    found = f"{line.found}/{len(line.values)}" if line.found is not None else ""
    shown = f"{line.mean:.1f}" if line.mean >= row.value else f"{line.mean:.1f} (below)"
    cells = (row.method, published, shown, interval, str(len(line.values)), found, f"{line.seconds / 60:.1f}")
    return f"| {' | '.join(cells)} |"


def _order(lines: tuple[Line, ...]) -> str:
    ran = [line for line in lines if line.mean is not None]
    ours = sorted(ran, key=lambda line: line.mean or 0.0)
    theirs = sorted(ran, key=lambda line: line.row.value)
    if [line.row.method for line in ours] == [line.row.method for line in theirs]:
        return "The rows come in the published order."
    return f"From worst to best here: {', '.join(line.row.method for line in ours)}."


def _settings(table: ReproducedTable) -> Iterator[str]:
    """The settings tried on the validation rows, where there was a choice."""
    data = table.sweep
    if data is None or len(data.trials) < 2:
        return
    metric = data.sweep.search.metric
    yield from (
        "",
        f"Settings tried, by the validation rows' {metric}:",
        "",
        f"| settings | {metric} | chosen |",
        "|---|---|---|",
    )
    valued = [trial for trial in data.trials if trial.value is not None]
    for trial in sorted(valued, key=lambda trial: trial.value or 0.0, reverse=data.sweep.search.mode == "max"):
        settings = ", ".join(f"`{path}` {value}" for path, value in trial.config.items())
        yield f"| {settings} | {trial.value:.4f} | {'yes' if trial.number in data.selected else ''} |"


def _draw(store: RecordStore, home: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Sections of the figures that the records can show, and what is missing for the others."""
    sections: list[str] = []
    missing: list[str] = []
    newest = {summary.name: summary.id for summary in reversed(store.summaries()) if summary.state == "succeeded"}
    for wanted in FIGURES:
        title = f"Figure {wanted.number}"
        sweep = next((newest[name] for name in wanted.sweeps if name in newest), None)
        if sweep is None:
            missing.append(f"{title}: no finished sweep called {' or '.join(wanted.sweeps)}")
            continue
        try:
            figure = getattr(figures, wanted.drawn_by)(read_sweep(store, sweep, home))
        except NoData as nothing:
            missing.append(f"{title}: {nothing}")
            continue
        sections.append(_picture(figure, folder, wanted.number, f"{wanted.caption} Sweep `{sweep}`.", wanted.caption))
    shares, runs = couples_found(store, home, COUPLES)
    if not shares:
        missing.append(f"Figure 2.15: no finished sweep called {COUPLES}, of which it takes one for each couple")
        return sections, missing
    caption = "How often XMONET finds the orders of both halves of the split toy."
    tasks = len(next(iter(shares))[0])
    text = f"{caption} {len(shares)} of the couples, {runs} runs each, T = {tasks}; the thesis has T = 4."
    figure = figures.order_finding(shares, f"sweeps {COUPLES}, one a couple")
    sections.append(_picture(figure, folder, "2.15", text, caption))
    return sections, missing


def _picture(figure: Figure, folder: Path, number: str, text: str, caption: str) -> str:
    """The section of a figure, which is saved and closed."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    picture = f"figure-{number.replace('.', '-')}.png"
    figure.savefig(folder / picture, dpi=150)
    pyplot.close(figure)
    return f"## Figure {number}\n\n{text}\n\n![{caption}]({PICTURES}/{picture})\n"


def _not_run(left: list[ReproducedTable], missing: list[str]) -> str:
    if not left and not missing:
        return ""
    lines = ["## Not run here", ""]
    lines += [f"- {_title(table.published)}: {len(table.lines)} rows." for table in left]
    return "\n".join([*lines, *(f"- {reason}" for reason in missing), ""])
