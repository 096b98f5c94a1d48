"""Verbs that run a sweep, or end one."""

from __future__ import annotations

import getpass
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duchenne.cli.mistakes import DONE, FAILED, OUT_OF_BUDGET
from duchenne.cli.options import HOME, Home, SweepFile, SweepId, resolve

if TYPE_CHECKING:
    from duchenne.driver import SweepEnd


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(run)
    app.command()(resume)
    app.command()(stop)


def run(path: SweepFile, home: Home = HOME) -> None:
    """Run a whole sweep on this machine: embedded Ray, SQLite, files. Ends with the leaderboard."""
    from duchenne.spec import load_sweep

    sweep = load_sweep(path)
    folder = resolve(home)
    from duchenne.cli.progress import ProgressView
    from duchenne.driver import run_sweep

    end = run_sweep(sweep, path.read_text(encoding="utf-8-sig"), folder, ProgressView())
    raise typer.Exit(_conclude(end, folder))


def resume(
    sweep_id: SweepId,
    usd: Annotated[float | None, typer.Option(min=0.000001, help="New limit in US dollars.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(min=0.000001, help="New limit in GPU-hours.")] = None,
    wall_seconds: Annotated[float | None, typer.Option(min=0.001, help="New limit in seconds of wall time.")] = None,
    home: Home = HOME,
) -> None:
    """Go on with a sweep that was killed, stopped or out of budget; what is on record does not run again.

    A limit replaces that of the file, and counts what was spent before.
    """
    from duchenne.cli.progress import ProgressView
    from duchenne.driver import resume_sweep
    from duchenne.records import Amounts, open_home

    folder = resolve(home)
    if (usd, gpu_hours, wall_seconds) != (None, None, None):
        with open_home(folder) as store:
            record = store.get_sweep(sweep_id)
            given = Amounts(
                usd=usd, gpu_seconds=None if gpu_hours is None else gpu_hours * 3600, wall_seconds=wall_seconds
            )
            limits = {name: value for name, value in asdict(given).items() if value is not None}
            store.set_budget(record.id, replace(record.budget, **limits), actor=getpass.getuser())
    end = resume_sweep(sweep_id, folder, ProgressView())
    raise typer.Exit(_conclude(end, folder))


def stop(sweep_id: SweepId, home: Home = HOME) -> None:
    """Ask a running sweep to end; its folds stop within an epoch."""
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        record = store.get_sweep(sweep_id)
        after = store.request_stop(record.id, actor=getpass.getuser())
    typer.echo(f"{record.id}: {'stopping' if after.state == 'running' else after.state}")


def _conclude(end: SweepEnd, home: Path) -> int:
    """Print what came out, and return the exit code."""
    from duchenne.boards import rank
    from duchenne.cli.tables import leaderboard_table, show
    from duchenne.figures import draw_all
    from duchenne.records import open_home

    with open_home(home) as store:
        if store.entries(end.board):
            show(leaderboard_table(end.board, rank(store, end.board), highlight=end.id))
        if store.results(end.id):
            out = home / "sweeps" / end.id / "figures"
            drawn = draw_all(store, end.id, home, out)
            typer.echo(f"figures: {out} ({', '.join(sorted(path.name for path in drawn if path.suffix == '.png'))})")
    typer.echo(f"{end.id}: {end.state}" + (f": {end.reason}" if end.reason else ""))
    if end.state != "succeeded":
        typer.echo(f"next: duchenne resume {end.id}")
    return {"succeeded": DONE, "exhausted": OUT_OF_BUDGET}.get(end.state, FAILED)
