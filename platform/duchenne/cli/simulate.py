"""`duchenne simulate`: a sweep on a virtual cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duchenne.cli.options import HOME, EpochSeconds, Home, Json, SweepFile, print_json, resolve

if TYPE_CHECKING:
    from rich.table import Table

    from duchenne.plan.cost_model import CostModel
    from duchenne.simulation.report import Report
    from duchenne.spec import Sweep

DEFAULT_EPOCH_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(simulate)


def simulate(
    path: SweepFile,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=100_000, help="Nodes of the virtual cluster.")],
    workers_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="Fold jobs on a node at once. Default: as many as fit its node type, or 1."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials instead of those of the file.")] = None,
    usd: Annotated[float | None, typer.Option(min=1e-6, help="Limit in dollars instead of the file's.")] = None,
    epoch_seconds: EpochSeconds = None,
    failures: Annotated[float, typer.Option(min=0.0, help="Errors of a fold job in an hour of running.")] = 0.0,
    losses: Annotated[float, typer.Option(min=0.0, help="Deaths of a worker's process in an hour.")] = 0.0,
    spot_evictions: Annotated[float, typer.Option(min=0.0, help="Evictions of a node in an hour.")] = 0.0,
    driver_deaths: Annotated[float, typer.Option(min=0.0, help="Deaths of the driver in an hour.")] = 0.0,
    skew: Annotated[float, typer.Option(min=0.0, max=60.0, help="The records' clock errs by up to so many s.")] = 0.0,
    startup_seconds: Annotated[float, typer.Option(min=0.0, help="From asking for a node until it runs.")] = 60.0,
    noise: Annotated[float, typer.Option(min=0.0, max=2.0, help="Spread of log seconds of an epoch.")] = 0.15,
    quantum: Annotated[float | None, typer.Option(min=1.0, help="Seconds of a lease instead of 10.")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn: the same seed plays the same sweep.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of utilisation and burn-down.")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Play a sweep on a virtual cluster: makespan, cost, failures and what holds it up. Nothing runs or is recorded."""
    from duchenne.spec import load_sweep

    sweep = _changed(load_sweep(path), trials, usd)
    model = _model(sweep, resolve(home), epoch_seconds)

    from duchenne.plan.leasing import QUANTUM_SECONDS
    from duchenne.simulation.cluster import cluster_of, fold_groups
    from duchenne.simulation.model import Failures
    from duchenne.simulation.report import report
    from duchenne.simulation.sweep import Simulation

    wrong = Failures(failures, losses, driver_deaths, skew)
    cluster = cluster_of(sweep, model, nodes, workers_per_node, startup_seconds, spot_evictions, noise, wrong)
    try:
        fold_groups(sweep, cluster)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    played = Simulation(sweep, cluster, seed, quantum_seconds=quantum or QUANTUM_SECONDS).play()
    summed = report(played, cluster)
    if out is not None:
        from duchenne.simulation.figure import save_figure

        written = save_figure(played, cluster, summed, out)
        typer.echo(f"picture: {', '.join(map(str, written))}", err=True)
    if as_json:
        print_json({**summed.as_json(), "durations": model.source, "nodes": nodes, "seed": seed})
        return
    from duchenne.cli.tables import show

    show(_table(sweep, summed, f"{nodes} nodes", model.source))


def _changed(sweep: Sweep, trials: int | None, usd: float | None) -> Sweep:
    """The sweep with another number of trials or another limit; where it lists its trials, it keeps their number."""

    search = sweep.search
    if trials is not None and (search.algorithm == "grid" or not search.space):
        raise typer.BadParameter("--trials: a grid counts its own trials, and so does a sweep without a space")
    if trials is not None:
        search = search.model_copy(update={"trials": trials})
    budget = sweep.budget if usd is None else sweep.budget.model_copy(update={"usd": usd})
    return sweep.model_copy(update={"search": search, "budget": budget})


def _model(sweep: Sweep, home: Path, epoch_seconds: float | None) -> CostModel:
    """As stated, else as learned from this home, else DEFAULT_EPOCH_SECONDS for an epoch of the configuration."""
    from duchenne.plan.cost_model import stated_model
    from duchenne.plan.history import learned_here
    from duchenne.simulation.cluster import setting_or_unknown

    learned = learned_here(home) if epoch_seconds is None else None
    return learned or stated_model(epoch_seconds or DEFAULT_EPOCH_SECONDS, sweep.base, setting_or_unknown(sweep))


def _table(sweep: Sweep, summed: Report, where: str, source: str) -> Table:
    from rich.table import Table

    table = Table(title=f"{sweep.metadata.name} on {where}", box=None, show_header=False, title_justify="left")
    table.add_column(justify="left", no_wrap=True)
    table.add_column(justify="right")

    def usd(amount: float | None) -> str:
        return "-" if amount is None else f"{amount:,.2f} USD"

    def share(part: float | None) -> str:
        return "-" if part is None else f"{part:.1%}"

    rows = {
        "state": summed.state,
        "makespan": f"{summed.makespan_seconds / 3600:.2f} h",
        "of it the search": "-" if summed.search_seconds is None else f"{summed.search_seconds / 3600:.2f} h",
        "trials (stopped early)": f"{summed.trials:,} ({summed.stopped:,})",
        "fold jobs (segments)": f"{summed.fold_jobs:,} ({summed.segments:,})",
        "spent": usd(summed.spent_usd),
        **{f"  {phase}": usd(amount) for phase, amount in summed.usd_by_phase.items() if amount},
        "nodes, start to end": usd(summed.nodes_usd),
        "overshoot": usd(summed.overshoot_usd),
        "idle": share(summed.idle_share),
        "wasted": share(summed.wasted_share),
        **{f"busy: {part}": share(busy) for part, busy in summed.utilisation.items()},
        "bottleneck": summed.bottleneck,
        **{event: f"{count:,}" for event, count in summed.events.items()},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    table.caption = "\n".join(filter(None, [summed.reason, f"durations: {source}"]))
    table.caption_justify = "left"
    return table
