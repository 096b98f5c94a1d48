"""Verbs about a sweep file: nothing is written and nothing is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from duchenne.cli.options import HOME, EpochSeconds, Home, Json, SweepFile, print_json, resolve

if TYPE_CHECKING:
    from duchenne.plan.expected import Forecast
    from duchenne.spec import Sweep


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(validate)
    app.command()(plan)


def validate(path: SweepFile) -> None:
    """Check a sweep file. Exit 0, or 2 with one line an error."""
    from duchenne.clusters.local import pool_faults
    from duchenne.spec import load_sweep
    from duchenne.spec.datasets import notes
    from duchenne.spec.located import refuse

    sweep = load_sweep(path)
    refuse(path, pool_faults(sweep))
    for note in notes(sweep):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{path}: ok")


def plan(path: SweepFile, epoch_seconds: EpochSeconds = None, home: Home = HOME, as_json: Json = False) -> None:
    """Say what a sweep would run and cost at most; touches nothing. Exit 2 where its budget can't pay for one trial.

    What it is expected to cost is learned from the jobs that ran in this home.
    """
    from duchenne.clusters.local import pool_faults
    from duchenne.plan import budget_faults, least, unbounded
    from duchenne.plan import plan as make_plan
    from duchenne.spec import load_sweep
    from duchenne.spec.located import refuse

    sweep = load_sweep(path)
    refuse(path, [*pool_faults(sweep), *budget_faults(sweep)])
    known = _forecast(sweep, resolve(home), epoch_seconds)
    if known is None:
        planned = make_plan(sweep)
    else:
        between = None if known.low is None or known.high is None else (known.low, known.high)
        planned = make_plan(sweep, known.middle, between, known.source)
    if as_json:
        print_json(planned.as_json())
        return
    from duchenne.cli.tables import plan_table, show

    show(plan_table(sweep, planned, least(sweep)))
    for line in unbounded(sweep):
        typer.echo(line)


def _forecast(sweep: Sweep, home: Path, epoch_seconds: float | None) -> Forecast | None:
    """By what was stated, else by what ran in this home; None where neither is known."""
    from duchenne.plan.expected import forecast, jobs_here
    from duchenne.plan.history import learned_here, stated_for

    model = learned_here(home) if epoch_seconds is None else stated_for(sweep, epoch_seconds)
    return None if model is None else forecast(sweep, model, jobs_here(sweep))
