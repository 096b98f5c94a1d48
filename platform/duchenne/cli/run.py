"""Verbs that run a sweep, or end one."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duchenne.cli.cluster import ClusterFile, ClusterName, named_port
from duchenne.cli.mistakes import DONE, FAILED, OUT_OF_BUDGET, WRONG_INPUT, explain
from duchenne.cli.options import HOME, Home, SweepFile, SweepId, resolve
from duchenne.clusters.limits import Limits
from duchenne.paths import PID_VARIABLE

if TYPE_CHECKING:
    from duchenne.driver import SweepEnd
    from duchenne.spec import Sweep

LOCK_PATIENCE_SECONDS = 120.0  # the lock of a driver that died on another machine falls free within a minute
LOCK_POLL_SECONDS = 5.0

Usd = Annotated[float | None, typer.Option(min=0.000001, help="New limit in US dollars.")]
GpuHours = Annotated[float | None, typer.Option(min=0.000001, help="New limit in GPU-hours.")]
WallSeconds = Annotated[float | None, typer.Option(min=0.001, help="New limit in seconds of wall time.")]
Supervised = Annotated[
    bool, typer.Option("--supervised", help="End with 0 where running this again can't help: a supervisor retries.")
]


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
    supervised: Supervised = False,
    usd: Usd = None,
    gpu_hours: GpuHours = None,
    wall_seconds: WallSeconds = None,
    home: Home = HOME,
) -> None:
    """Run a whole sweep on this machine: embedded Ray, SQLite, files. Ends with the leaderboard.

    Limits are for a sweep that goes on, by --id: see `duchenne resume`.
    """
    from duchenne.spec import load_sweep

    folder = resolve(home)
    limits = Limits(usd, gpu_hours, wall_seconds)

    def drive() -> SweepEnd:
        sweep, text = load_sweep(path), path.read_text(encoding="utf-8-sig")
        return _run_or_go_on(sweep, text, folder, sweep_id, limits, patient=supervised)

    raise typer.Exit(_supervise(drive, folder) if supervised else _conclude(drive(), folder))


def _supervise(drive: Callable[[], SweepEnd], home: Path) -> int:
    """The exit code for a supervisor that tries again on any but 0. Where it asks for a file of the driver's number,
    that is there while the driver runs.
    """
    from duchenne.records import LockHeldError

    try:
        with _numbered(os.environ.get(PID_VARIABLE)):
            end = drive()
        code = _conclude(end, home)
    except Exception as error:
        message, code = explain(error)
        # A driver elsewhere is no fault of the input: it ends, and then another try helps.
        if code not in (WRONG_INPUT, OUT_OF_BUDGET) or isinstance(error, LockHeldError):
            raise
        typer.echo(message, err=True)
        return DONE
    # The records say how it ended; another cluster would only cost.
    return DONE if end.state in ("stopped", "exhausted") and not end.cut_off else code


@contextmanager
def _numbered(path: str | None) -> Iterator[None]:
    """For the time of the block, a file with the number of this process: who ends a pod sends it SIGTERM."""
    if path is None:
        yield
        return
    Path(path).write_text(f"{os.getpid()}\n", encoding="ascii")
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


def _run_or_go_on(
    sweep: Sweep, text: str, home: Path, sweep_id: str | None, limits: Limits, *, patient: bool
) -> SweepEnd:
    """Start the sweep, or go on with that of the given id."""
    from duchenne.cli.progress import ProgressView
    from duchenne.driver import run_sweep
    from duchenne.records import RecordsConflictError, open_home
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
        return _go_on(sweep_id, home, limits, patient=patient)
    return run_sweep(sweep, text, home, ProgressView())


def _go_on(sweep_id: str, home: Path, limits: Limits, *, patient: bool) -> SweepEnd:
    """Resume, with new limits where there are any; `patient` waits for the lock of a driver that died."""
    from duchenne.cli.progress import ProgressView
    from duchenne.driver import resume_sweep
    from duchenne.records import Amounts, LockHeldError, open_home

    if limits != Limits():
        with open_home(home) as store:
            record = store.get_sweep(sweep_id)
            hours = limits.gpu_hours
            given = Amounts(
                usd=limits.usd, gpu_seconds=None if hours is None else hours * 3600, wall_seconds=limits.wall_seconds
            )
            budget = replace(
                record.budget, **{name: value for name, value in asdict(given).items() if value is not None}
            )
            if budget != record.budget:
                store.set_budget(record.id, budget, actor=getpass.getuser())
    waited = 0.0
    while True:
        try:
            return resume_sweep(sweep_id, home, ProgressView())
        except LockHeldError:
            if not patient or waited >= LOCK_PATIENCE_SECONDS:
                raise
        time.sleep(LOCK_POLL_SECONDS)
        waited += LOCK_POLL_SECONDS


def resume(
    sweep_id: SweepId,
    usd: Usd = None,
    gpu_hours: GpuHours = None,
    wall_seconds: WallSeconds = None,
    supervised: Supervised = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="The sweep file, where a cluster has kept no spec: after `stop`.")
    ] = None,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    home: Home = HOME,
) -> None:
    """Go on with a sweep that was killed, stopped or out of budget; what is on record does not run again.

    A limit replaces that of the file, and counts what was spent before. With --cluster, it goes on there.
    """
    folder, limits = resolve(home), Limits(usd, gpu_hours, wall_seconds)
    if cluster is not None:
        from duchenne.spec import load_sweep

        sweep = None if file is None else load_sweep(file)
        named_port(cluster, cluster_file, home).resume(sweep_id, limits, sweep)
        typer.echo(f"{sweep_id}: goes on; next: duchenne watch {sweep_id} --cluster {cluster}")
        return

    def drive() -> SweepEnd:
        return _go_on(sweep_id, folder, limits, patient=supervised)

    raise typer.Exit(_supervise(drive, folder) if supervised else _conclude(drive(), folder))


def stop(sweep_id: SweepId, cluster: ClusterName = None, cluster_file: ClusterFile = None, home: Home = HOME) -> None:
    """Ask a running sweep to end; its folds stop within an epoch. With --cluster, wait until nothing runs there."""
    if cluster is not None:
        named_port(cluster, cluster_file, home).stop(sweep_id)
        typer.echo(f"{sweep_id}: stopped; nothing of it runs in {cluster}")
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
