"""Verbs that run a sweep, or end one."""

from __future__ import annotations

import getpass
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duchenne.cli.cluster import ClusterFile, ClusterName
from duchenne.cli.mistakes import DONE, FAILED, OUT_OF_BUDGET, WRONG_INPUT, explain
from duchenne.cli.options import HOME, Home, SweepFile, SweepId, resolve

if TYPE_CHECKING:
    from duchenne.driver import SweepEnd
    from duchenne.spec import Sweep

LOCK_PATIENCE_SECONDS = 120.0  # the lock of a driver that died on another machine falls free within a minute
LOCK_POLL_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(run)
    app.command()(resume)
    app.command()(stop)


def run(
    path: SweepFile,
    sweep_id: Annotated[
        str | None,
        typer.Option("--id", help="The sweep's id. One that is on record goes on instead of starting anew."),
    ] = None,
    supervised: Annotated[
        bool,
        typer.Option("--supervised", help="End with 0 where running this again can't help: a supervisor retries."),
    ] = False,
    home: Home = HOME,
) -> None:
    """Run a whole sweep on this machine: embedded Ray, SQLite, files. Ends with the leaderboard."""
    from duchenne.records import LockHeldError
    from duchenne.spec import load_sweep

    folder = resolve(home)
    try:
        sweep = load_sweep(path)
        end = _run_or_go_on(sweep, path.read_text(encoding="utf-8-sig"), folder, sweep_id, patient=supervised)
        code = _conclude(end, folder)
    except Exception as error:
        message, code = explain(error)
        # A driver elsewhere is no fault of the input: it ends, and then another try helps.
        if not supervised or code not in (WRONG_INPUT, OUT_OF_BUDGET) or isinstance(error, LockHeldError):
            raise
        typer.echo(message, err=True)
        raise typer.Exit(DONE) from None
    if supervised and end.state in ("stopped", "exhausted"):
        code = DONE  # the records say how it ended; another cluster would only cost
    raise typer.Exit(code)


def _run_or_go_on(sweep: Sweep, text: str, home: Path, sweep_id: str | None, *, patient: bool) -> SweepEnd:
    """Start the sweep, or go on with that of the given id; `patient` waits for the lock of a driver that died."""
    from duchenne.cli.progress import ProgressView
    from duchenne.driver import resume_sweep, run_sweep
    from duchenne.records import LockHeldError, RecordsConflictError, open_home
    from duchenne_jobs.data.digest import canonical_digest

    if sweep_id is not None:
        with open_home(home) as store:
            known = [record for record in store.list_sweeps() if record.id == sweep_id]
        if not known:
            return run_sweep(sweep, text, home, ProgressView(), identifier=sweep_id)
        if known[0].spec_digest != canonical_digest(sweep.model_dump(mode="json")):
            raise RecordsConflictError(
                f"a sweep keeps its spec to the end, but {sweep_id} is on record with another; choose another --id"
            )
        waited = 0.0
        while True:
            try:
                return resume_sweep(sweep_id, home, ProgressView())
            except LockHeldError:
                if not patient or waited >= LOCK_PATIENCE_SECONDS:
                    raise
            time.sleep(LOCK_POLL_SECONDS)
            waited += LOCK_POLL_SECONDS
    return run_sweep(sweep, text, home, ProgressView())


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


def stop(sweep_id: SweepId, cluster: ClusterName = None, cluster_file: ClusterFile = None, home: Home = HOME) -> None:
    """Ask a running sweep to end; its folds stop within an epoch. With --cluster, delete it there."""
    if cluster is not None:
        from duchenne.clusters.file import load_clusters
        from duchenne.clusters.kubernetes.submit import stop as stop_sweep

        stop_sweep(sweep_id, load_clusters(cluster_file).kubernetes(cluster))
        typer.echo(f"{sweep_id}: stopped; nothing of it is left in {cluster}")
        return
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
