"""The same as the command line, for scripts and notebooks: objects and pandas frames instead of tables.

`home` is as `--home`: DUCHENNE_HOME, or `~/.duchenne`.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from duchenne.paths import DEFAULT_HOME, HOME_VARIABLE, sweep_file
from duchenne.records import RecordStore, open_home
from duchenne.spec import load_sweep

if TYPE_CHECKING:
    from duchenne.driver import Observer, SweepEnd


def run(path: str | Path, *, home: str | Path | None = None, progress: bool = True) -> SweepEnd:
    """Run a sweep file, or one that comes along by its name, to its end on this machine, as `duchenne run` does.

    Returns:
        Its id, state, reason (None if it succeeded) and board.

    Raises:
        duchenne.spec.SpecError: the file is refused; `problems` has every reason.
        duchenne_jobs.data.DatasetError: the data can't be used.
    """
    from duchenne.driver import run_sweep

    file = sweep_file(path)
    return run_sweep(load_sweep(file), file.read_text(encoding="utf-8-sig"), _home(home), _observer(progress))


def resume(sweep_id: str, *, home: str | Path | None = None, progress: bool = True) -> SweepEnd:
    """Go on with a sweep that was killed, stopped or out of budget, as `duchenne resume` does."""
    from duchenne.driver import resume_sweep

    return resume_sweep(sweep_id, _home(home), _observer(progress))


def sweeps(*, home: str | Path | None = None) -> pd.DataFrame:
    """One row a sweep, the newest first: `duchenne ls`."""
    with _records(home) as store:
        return pd.DataFrame([asdict(summary) for summary in store.summaries()])


def results(sweep_id: str, *, home: str | Path | None = None) -> pd.DataFrame:
    """One row an epoch of a fold job, with a column a metric: `duchenne results`.

    Raises:
        duchenne.records.NotFoundError: no such sweep.
    """
    with _records(home) as store:
        rows = [asdict(row) for row in store.results(store.get_sweep(sweep_id).id)]
    return pd.DataFrame([{key: row[key] for key in row if key != "metrics"} | row["metrics"] for row in rows])


def leaderboard(board: str, *, home: str | Path | None = None) -> pd.DataFrame:
    """One row an entry, the best first, with intervals and ranks: `duchenne leaderboard`."""
    from duchenne.boards import rank

    with _records(home) as store:
        return pd.DataFrame([asdict(row) for row in rank(store, board)])


def _home(home: str | Path | None) -> Path:
    return Path(home or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute()


def _records(home: str | Path | None) -> RecordStore:
    return open_home(_home(home))


def _observer(progress: bool) -> Observer:
    from duchenne.driver.progress import Unobserved

    if not progress:
        return Unobserved()
    from duchenne.cli.progress import ProgressView

    return ProgressView()
