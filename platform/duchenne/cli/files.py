"""Verbs about a sweep file alone: nothing is read but the file, and nothing is started."""

from __future__ import annotations

import typer

from duchenne.cli.options import Json, SweepFile, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(validate)
    app.command()(plan)


def validate(path: SweepFile) -> None:
    """Check a sweep file. Exit 0, or 2 with one line an error."""
    from duchenne.spec import load_sweep
    from duchenne.spec.datasets import notes

    sweep = load_sweep(path)
    for note in notes(sweep):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{path}: ok")


def plan(path: SweepFile, as_json: Json = False) -> None:
    """Say what a sweep would run and cost at most; touches nothing. Exit 2 where its budget can't pay for one trial."""
    from duchenne.plan import budget_faults, least, unbounded
    from duchenne.plan import plan as make_plan
    from duchenne.spec import load_sweep
    from duchenne.spec.located import refuse

    sweep = load_sweep(path)
    refuse(path, budget_faults(sweep))
    planned = make_plan(sweep)
    if as_json:
        print_json(planned.as_json())
        return
    from duchenne.cli.tables import plan_table, show

    show(plan_table(sweep, planned, least(sweep)))
    for line in unbounded(sweep):
        typer.echo(line)
