"""Verbs that show what is on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duchenne.cli.cluster import ClusterFile, ClusterName, named_port
from duchenne.cli.options import HOME, Home, Json, SweepId, print_json, resolve

if TYPE_CHECKING:
    from duchenne.clusters.port import Listed
    from duchenne.records import RecordStore, SweepSummary


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(name="ls")(list_sweeps)
    app.command(name="show")(show_sweep)
    app.command()(results)
    app.command()(cost)
    app.command()(leaderboard)
    app.command()(compare)
    app.command()(figures)
    app.command()(reproduction)


def list_sweeps(
    cluster: ClusterName = None, cluster_file: ClusterFile = None, home: Home = HOME, as_json: Json = False
) -> None:
    """List the sweeps, the newest first. With --cluster, those that it knows."""
    summaries: Sequence[SweepSummary | Listed]
    if cluster is not None:
        summaries = named_port(cluster, cluster_file, home).sweeps()
    else:
        from duchenne.records import open_home

        with open_home(resolve(home)) as store:
            summaries = store.summaries()
    if as_json:
        print_json([asdict(summary) for summary in summaries])
        return
    from duchenne.cli.tables import show, sweeps_table

    show(sweeps_table(summaries))


def show_sweep(sweep_id: SweepId, home: Home = HOME, as_json: Json = False) -> None:
    """Show one sweep: its state, lineage, trials, failures and entries."""
    from duchenne.cli.tables import describe_sweep, show
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        record = store.get_sweep(sweep_id)
        trials = store.trials(record.id)
        failed = store.fold_jobs(record.id, state="failed")
        entries = store.entries(sweep=record.id)
        withdrawn = record.dataset_digest in store.withdrawn_datasets()
    if as_json:
        print_json(
            {
                "sweep": asdict(record) | {"withdrawn": withdrawn},
                "trials": [asdict(trial) for trial in trials],
                "failed": [asdict(job) for job in failed],
                "entries": [asdict(entry) for entry in entries],
            }
        )
        return
    for part in describe_sweep(record, trials, failed, entries, withdrawn):
        show(part)


def results(sweep_id: SweepId, home: Home = HOME, as_json: Json = False) -> None:
    """Print every recorded epoch of every fold job."""
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        rows = store.results(store.get_sweep(sweep_id).id)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    from duchenne.cli.tables import results_table, show

    show(results_table(rows))


def cost(
    sweep_id: SweepId,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the burn-down, as PNG and SVG.")] = None,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Print the budget of a sweep, and what is spent, reserved, left and wasted, by phase, trial and fold.

    With --cluster, what the cluster says of it.
    """
    if cluster is not None:
        if out is not None:
            raise typer.BadParameter("--out draws from the records of --home, but --cluster is given; leave one out")
        _cost_there(named_port(cluster, cluster_file, home).cost(sweep_id), sweep_id, as_json)
        return
    from duchenne.records import open_home
    from duchenne.records.costs import costs_of

    folder = resolve(home)
    with open_home(folder) as store:
        record = store.get_sweep(sweep_id)
        balance = store.ledger.balance(record.id)
        costs = costs_of(store, record.id)
        drawn = _burn_down(store, record.id, folder, out) if out is not None else []
    if as_json:
        print_json(balance | costs.as_json())
        return
    from duchenne.cli.tables import cost_tables, show

    for table in cost_tables(record.id, balance, costs):
        show(table)
    for path in drawn:
        typer.echo(str(path))


def _cost_there(document: dict[str, Any], sweep_id: str, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from duchenne.cli.tables import balance_table, show

    show(balance_table(sweep_id, document))


def _burn_down(store: RecordStore, sweep_id: str, home: Path, out: Path) -> list[Path]:
    from duchenne.figures import NoData, burn_down, read_sweep
    from duchenne.figures.style import save

    try:
        return save(burn_down(read_sweep(store, sweep_id, home)), out, "burn_down")
    except NoData as missing:
        typer.echo(f"not drawn: {missing}", err=True)
        return []


def leaderboard(
    board: Annotated[str | None, typer.Argument(metavar="[BOARD]", help="The board; all of them without it.")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Rank the entries of a board, with confidence intervals and tie groups."""
    from duchenne.boards import rank
    from duchenne.records import NotFoundError, open_home

    with open_home(resolve(home)) as store:
        boards = store.boards()
        if board is not None and board not in boards:
            known = ", ".join(boards) or "none: run a sweep first"
            raise NotFoundError(f"a board has entries, but there is no {board!r}; the boards are {known}")
        ranked = {name: rank(store, name) for name in ([board] if board else boards)}
    if as_json:
        print_json([asdict(row) | {"board": name} for name, rows in ranked.items() for row in rows])
        return
    from duchenne.cli.tables import leaderboard_table, show

    for name, rows in ranked.items():
        show(leaderboard_table(name, rows))
    if not ranked:
        typer.echo("no entries yet: duchenne run S.yaml")


def compare(
    first: Annotated[str, typer.Argument(metavar="ID", help="A sweep, or an entry SWEEP.METHOD.")],
    second: Annotated[str, typer.Argument(metavar="ID", help="Another one.")],
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Compare two entries: their configurations, and the difference of their F1, paired by subject."""
    from duchenne.boards.compare import compare_entries
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        comparison = compare_entries(store, first, second)
    if as_json:
        print_json(asdict(comparison))
        return
    from duchenne.cli.tables import comparison_table, show

    show(comparison_table(comparison))


def figures(
    sweep_id: SweepId,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default HOME/sweeps/ID/figures.")] = None,
    home: Home = HOME,
) -> None:
    """Draw every figure of a sweep as PNG and SVG."""
    from duchenne.figures import draw_all
    from duchenne.records import open_home

    folder = resolve(home)
    with open_home(folder) as store:
        record = store.get_sweep(sweep_id)
        for path in draw_all(store, record.id, folder, out or folder / "sweeps" / record.id / "figures"):
            typer.echo(str(path))


def reproduction(
    out: Annotated[Path, typer.Option("--out", help="The Markdown file; pictures go beside it.")],
    home: Home = HOME,
) -> None:
    """Write the thesis' tables and figures beside what the sweeps on record reached."""
    from duchenne.records import open_home
    from duchenne.reproduction import write_page

    folder = resolve(home)
    with open_home(folder) as store:
        missing = write_page(store, folder, out)
    typer.echo(str(out))
    for line in missing:
        typer.echo(f"not shown: {line}", err=True)
