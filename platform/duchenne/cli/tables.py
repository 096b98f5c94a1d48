"""Tables for a terminal, from what the other packages return."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from duchenne.boards import BoardRow
    from duchenne.boards.compare import Comparison
    from duchenne.clusters.port import Listed
    from duchenne.plan import Amounts as PlanAmounts
    from duchenne.plan import Plan
    from duchenne.records import Entry, FoldJob, ResultRow, Sweep, SweepSummary, Trial
    from duchenne.records.costs import Costs
    from duchenne.spec import Sweep as SweepSpec
    from duchenne_jobs.data import DatasetSummary

FILE_WIDTH = 160  # a table in a file is not cut to 80 columns
UNITS = ("usd", "gpu_hours", "wall_seconds")


def show(part: RenderableType) -> None:
    """Print to stdout, as wide as the terminal or, into a file, as wide as it needs."""
    screen = console()
    title, caption = (part.title, part.caption) if isinstance(part, Table) else (None, None)
    if isinstance(part, Table):
        # Rich folds a title to the width of its table, which may be narrow.
        part.title = part.caption = None
    for text, style in ((title, "bold"), (part, None), (caption, "dim")):
        if text is not None:
            screen.print(text, style=style)


def console() -> Console:
    """Stdout: as wide as the terminal or, into a file, as wide as a table needs."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=FILE_WIDTH)


def leaderboard_table(
    board: str, rows: Sequence[BoardRow], highlight: str | None = None, width: int | None = None
) -> Table:
    """The ranking; entries of the sweep `highlight` stand out. A narrow terminal loses columns, never letters."""
    explanation = (
        "F1 macro at threshold 0.5, mean over folds and seeds, with 95 % bootstrap intervals over subjects; ranks that "
        "overlap can't be told apart"
    )
    table = _table(f"leaderboard {board}", caption="\n".join([explanation, *_folds_without_positives(rows)]))
    columns = {
        "rank": [_ranks(row.rank_low, row.rank_high) for row in rows],
        "method": [row.label for row in rows],
        "F1 macro": [number(row.f1_mean) for row in rows],
        "95 % interval": [_interval(row.ci_low, row.ci_high) for row in rows],
        "F1 micro": [number(row.f1_micro) for row in rows],
        "subset": [number(row.subset_accuracy) for row in rows],
        "log-loss": [number(row.log_loss) for row in rows],
        "AUC": [number(row.auc) for row in rows],
        "verified": [row.verified + (f" ({row.note})" if row.note else "") for row in rows],
        "trials": ["-" if row.trials is None else str(row.trials) for row in rows],
        "cost": [_usd(row.cost_usd) for row in rows],
        "sweep": [row.sweep for row in rows],
    }
    for dispensable in ("AUC", "cost", "trials", "subset", "F1 micro", "log-loss", "sweep"):
        if _width(columns) > (width or console().width):
            del columns[dispensable]
    for name in columns:
        table.add_column(name, justify="right" if name in ("trials", "cost") else "left", no_wrap=name != "verified")
    for row, cells in zip(rows, zip(*columns.values(), strict=True), strict=True):
        table.add_row(*cells, style="bold" if highlight is not None and row.sweep == highlight else None)
    return table


def _folds_without_positives(rows: Sequence[BoardRow]) -> Iterator[str]:
    """A line for each set of folds in which F1 of a task is 0 whatever was predicted, with the entries it concerns."""
    concerned: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        if row.without_positives:
            concerned[row.without_positives].append(row.label)
    for folds, labels in concerned.items():
        yield f"no positive label in {'; '.join(folds)}: {', '.join(labels)}"


def _width(columns: dict[str, list[str]]) -> int:
    """Characters that the columns take, with two between them."""
    return sum(2 + max(map(len, [name, *cells])) for name, cells in columns.items()) - 2


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def sweeps_table(summaries: Sequence[SweepSummary | Listed]) -> Table:
    """`duchenne ls`."""
    table = _table("sweeps")
    for name in ("id", "name", "team", "state", "trials", "spent"):
        table.add_column(name, no_wrap=True)
    for summary in summaries:
        table.add_row(
            summary.id,
            summary.name,
            summary.team,
            _state(summary.state),
            _short(summary.trials),
            _usd(summary.spent_usd),
        )
    return table


def describe_sweep(
    record: Sweep,
    trials: Sequence[Trial],
    failed: Sequence[FoldJob],
    entries: Sequence[Entry],
    withdrawn: bool = False,
) -> list[RenderableType]:
    """`duchenne show`; `withdrawn`: a subject was taken out of its dataset since."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (
        ("sweep", record.id),
        ("state", _state(record.state)),
        ("why", record.error),
        ("team", record.team),
        ("board", record.board),
        ("created", _when(record.created_at)),
        ("ended", _when(record.ended_at)),
        ("data", record.dataset_uri),
        ("dataset", record.dataset_digest),
        ("withdrawn", "its data was withdrawn: a subject was forgotten" if withdrawn else None),
        ("folds", record.folds_digest),
        ("code", record.code_revision),
    ):
        if value:
            facts.add_row(name, value)
    table = _table("trials")
    names = sorted({name for trial in trials for name in trial.config})
    for name in ("trial", "state", "rung", "value", *names, "error"):
        table.add_column(name, no_wrap=name in ("trial", "state", "rung", "value"), overflow="fold")
    for trial in trials:
        chosen = [_short(trial.config.get(name)) for name in names]
        table.add_row(
            str(trial.number), _state(trial.state), str(trial.rung), number(trial.value), *chosen, trial.error or ""
        )
    parts: list[RenderableType] = [facts]
    if trials:
        parts.append(table)
    if failed:
        parts.append(Text("\n".join(f"failed: {job.error}" for job in failed), style="red"))
    if entries:
        parts.append(Text("entries: " + ", ".join(entry.id for entry in entries)))
    return parts


def results_table(rows: Sequence[ResultRow]) -> Table:
    """`duchenne results`: the last epoch of each fold job."""
    last: dict[tuple[Any, ...], ResultRow] = {}
    for row in rows:
        last[row.trial, row.phase, row.method, row.fold, row.inner, row.seed] = row
    metrics = sorted({name for row in last.values() for name in row.metrics})
    table = _table("results (last epoch of each fold job; --json has every epoch)")
    for name in ("trial", "phase", "method", "fold", "inner", "seed", "epoch", "attempt", *metrics):
        table.add_column(name, no_wrap=True)
    for row in last.values():
        keys = (row.trial, row.phase, row.method, row.fold, row.inner, row.seed, row.epoch, row.attempt)
        table.add_row(*(_short(key) for key in keys), *(number(row.metrics.get(name)) for name in metrics))
    return table


def cost_tables(sweep_id: str, balance: dict[str, dict[str, float | None]], costs: Costs) -> list[Table]:
    """`duchenne cost`: the balance, what is left and wasted, then what it went to, as far as leases say."""
    whole = _amounts_table(f"cost of {sweep_id}")
    wasted = {"retries": costs.retries, "idle": costs.idle, "early-stopped trials": costs.early_stopped}
    lines = [(name, balance[name]) for name in ("budget", "spent", "reserved")]
    lines += [("left", costs.left.as_json()), ("wasted", balance["wasted"])]
    lines += [(f"  {name}", amounts.as_json()) for name, amounts in wasted.items()]
    for name, amounts in lines:
        whole.add_row(name, *_cells(amounts))
    tables = [whole]
    for title, parts in (("by phase", costs.phases), ("by trial", costs.trials), ("by fold", costs.folds)):
        if parts:
            tables.append(_amounts_table(title))
            for part in parts:
                name = part.name if part.trial is None else f"trial {part.trial} {part.name}"
                tables[-1].add_row(name, *_cells(part.amounts.as_json()))
    return tables


def balance_table(sweep_id: str, document: dict[str, dict[str, float | None]]) -> Table:
    """`duchenne cost --cluster`: what the cluster knows of it."""
    table = _amounts_table(f"cost of {sweep_id}")
    for name in ("budget", "spent", "reserved", "wasted", "observed"):
        if name in document:
            table.add_row(name, *_cells(document[name]))
    return table


def _amounts_table(title: str) -> Table:
    table = _table(title)
    for name in ("", "USD", "GPU-hours", "wall seconds"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _cells(amounts: dict[str, float | None]) -> tuple[str, str, str]:
    return _usd(amounts["usd"]), number(amounts["gpu_hours"]), number(amounts["wall_seconds"], 1)


def plan_table(sweep: SweepSpec, plan: Plan, least: PlanAmounts) -> Table:
    """`duchenne plan`."""
    from duchenne.plan.cost_model import LEVEL

    table = _amounts_table(
        f"plan of {sweep.metadata.name}: {plan.counts.trials} trials, {plan.counts.fold_jobs} fold jobs"
    )
    interval = () if plan.low is None or plan.high is None else (("  from", plan.low), ("  to", plan.high))
    for name, amounts in (("at worst", plan.worst), ("expected", plan.expected), *interval, ("at least", least)):
        table.add_row(name, *(number(amounts.as_json()[unit], 2 if name != "at least" else 4) for unit in UNITS))
    table.caption = (
        f"{plan.counts.search_jobs} fold jobs of the search, {plan.counts.evaluation_jobs} of the evaluation, "
        f"each on {plan.workers_per_fold} x ({plan.resources.cpu:g} CPU, {plan.resources.gpu:g} GPU)"
    )
    if plan.source is None:
        table.caption += "\nexpected: unknown until some configurations have run here; state it with --epoch-seconds"
    elif plan.low is None:
        table.caption += f"\nexpected: {plan.source}"
    else:
        table.caption += f"\nexpected: {plan.source}; {LEVEL:.0%} of sweeps like this one lie from .. to"
    return table


def comparison_table(comparison: Comparison) -> Table:
    """`duchenne compare`."""
    table = _table(
        f"{comparison.first} minus {comparison.second}: F1 macro {comparison.difference:+.4f} "
        f"({_signed(comparison.ci_low)} to {_signed(comparison.ci_high)})"
    )
    for name in ("what differs", comparison.first, comparison.second):
        table.add_column(name, overflow="fold")
    for path, (left, right) in comparison.config.items():
        table.add_row(path, _short(left), _short(right))
    for name, (before, after) in comparison.metrics.items():
        table.add_row(name, number(before), number(after), style="dim")
    return table


def dataset_tables(summary: DatasetSummary) -> list[RenderableType]:
    """`duchenne data show`."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name in ("uri", "name", "digest", "rows", "subjects", "shards", "bytes", "features", "licence", "consent"):
        facts.add_row(name, _short(getattr(summary, name)))
    table = _table("tasks")
    for name in ("task", "positive", "negative", "unknown", "frequency"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task in summary.tasks:
        table.add_row(task.name, str(task.positive), str(task.negative), str(task.unknown), number(task.frequency))
    return [facts, table]


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or `-` where it is unknown."""
    return "-" if value is None else f"{value:.{digits}f}"


def _table(title: str, caption: str | None = None) -> Table:
    return Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=None, pad_edge=False)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _ranks(low: int | None, high: int | None) -> str:
    if low is None or high is None:
        return "-"
    return str(low) if low == high else f"{low}-{high}"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"${value:.4f}"


def _when(value: datetime | None) -> str:
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M:%S UTC")


def _state(state: str) -> str:
    colours = defaultdict(lambda: "white", succeeded="green", failed="red", running="cyan", exhausted="yellow")
    return f"[{colours[state]}]{state}[/]"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return " ".join(str(item) for item in value.values() if item is not None)
    return "-" if value is None else str(value)
