"""Drives one sweep: prepare, lock, search, evaluate, enter; and the same again after a crash, from the records."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duchenne.clusters.local import Machine, embedded_ray
from duchenne.driver.budget import (
    budget_of,
    close_search,
    require_prices,
    require_team_budget,
    search_was_cut,
    too_small,
)
from duchenne.driver.ending import TERMINATED, sigterm_interrupts
from duchenne.driver.entries import save_entries
from duchenne.driver.heartbeat import LOCK_SECONDS, STOP_ASKED, BudgetSpent, Heartbeat
from duchenne.driver.prepare import code_revision, prepare_data
from duchenne.driver.progress import Monitor, Observer
from duchenne.monitoring.endpoint import driver_endpoint, metrics_address
from duchenne.notifications import Notifier, announce_best, load_webhooks
from duchenne.plan.holdback import evaluation_need
from duchenne.plan.rates import worker_rate
from duchenne.plan.teams import team_limits
from duchenne.pool import PoolOptions
from duchenne.pool.messages import JobRunner
from duchenne.pool.run import FoldPool
from duchenne.records import Lock, LockLostError, NewSweep, RecordStore, holder_name, open_home
from duchenne.records import Sweep as SweepRecord
from duchenne.records.rows import SweepState
from duchenne.search import NothingToSelect, Selection, SweepContext, select
from duchenne.search.jobs import baseline_jobs, evaluation_jobs, neural_comparator_jobs
from duchenne.search.tuner import run_search
from duchenne.search.warm_start import warm_start
from duchenne.spec import Sweep
from duchenne_jobs.config import RunConfig
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.training import FoldJob
from duchenne_jobs.training.checkpoint_places import checkpoints_at
from duchenne_jobs.training.runner import FoldJobRunner

LOGGER = logging.getLogger("duchenne.driver")
IMAGE_VARIABLE = "DUCHENNE_IMAGE"  # set by whoever starts the image: it can't know its own digest
DRIVER_DEATHS = 1_000_000  # a driver's death is no fault of the jobs that it was running


@dataclass(frozen=True)
class SweepEnd:
    """How a sweep ended.

    Attributes:
        id: its id.
        state: `succeeded`, `failed`, `stopped` or `exhausted`.
        reason: why, unless it succeeded.
        board: the leaderboard of its entries.
        cut_off: whether SIGTERM ended it and nobody had asked for a stop: a supervisor may try again.
    """

    id: str
    state: SweepState
    reason: str | None
    board: str
    cut_off: bool = False


class _Ended(Exception):  # noqa: N818 - unwinds the driver's steps
    """The sweep ends before its last step."""

    def __init__(self, state: SweepState, reason: str) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason


def run_sweep(
    sweep: Sweep,
    text: str,
    home: Path,
    observer: Observer,
    runner: Callable[[], JobRunner] = FoldJobRunner,
    identifier: str | None = None,
) -> SweepEnd:
    """Run a new sweep to its end on this machine.

    Args:
        sweep: what the file says; `text` is the file itself, for the records.
        home: folder of records, datasets, checkpoints and predictions.
        runner: what the pool's workers run jobs with.
        identifier: the sweep's id where it was chosen before.

    Raises:
        duchenne_jobs.data.DatasetError, duchenne_jobs.data.FoldError: the data is not as the sweep says; nothing runs.
        duchenne.plan.BudgetRefused, duchenne.plan.teams.TeamBudgetSpent: it can't be paid for; nothing runs.
        duchenne.monitoring.errors.MonitoringError, duchenne.notifications.WebhookError: nobody could look, or be told;
            nothing runs.
        duchenne.search.warm_start.WarmStartRefused: an earlier sweep that it names does not fit; nothing runs.
        duchenne.records.RecordsError: the records can't be read or written.
    """
    require_prices(sweep)
    metrics_address()
    load_webhooks(notice.webhook for notice in sweep.notify)
    data = prepare_data(sweep, home, observer.checking_data)
    with open_home(home) as store:
        require_team_budget(store, sweep, home, budget_of(sweep))
        warm_start(store, sweep, data.dataset_digest)  # refused here, before anything is on record
        record = store.create_sweep(
            NewSweep(
                name=sweep.metadata.name,
                team=sweep.metadata.team,
                board=sweep.board,
                spec=sweep.model_dump(mode="json"),
                spec_text=text,
                spec_digest=canonical_digest(sweep.model_dump(mode="json")),
                dataset_uri=data.uri,
                dataset_digest=data.dataset_digest,
                folds_digest=data.folds_digest,
                code_revision=code_revision(),
                image=os.environ.get(IMAGE_VARIABLE),
                budget=budget_of(sweep),
            ),
            identifier,
        )
        observer.started(record.id)
        with sigterm_interrupts() as terminated:
            return _drive(store, record, sweep, home, observer, runner, terminated)


def resume_sweep(
    sweep_id: str, home: Path, observer: Observer, runner: Callable[[], JobRunner] = FoldJobRunner
) -> SweepEnd:
    """Go on with a sweep whose driver was killed, stopped or out of budget. What is on record does not run again.

    Raises:
        duchenne.records.NotFoundError: no such sweep.
        duchenne.records.LockHeldError: another driver works on it.
        duchenne.records.RecordsConflictError: its data or folds have changed since.
        duchenne_jobs.data.DatasetError: its data can't be read.
        duchenne.plan.teams.TeamBudgetSpent: its team's month has no room for it.
        duchenne.monitoring.errors.MonitoringError, duchenne.notifications.WebhookError: as for `run_sweep`.
    """
    with open_home(home) as store:
        record = store.get_sweep(sweep_id)
        if record.state == "succeeded":
            return SweepEnd(record.id, "succeeded", None, record.board)
        sweep = Sweep.model_validate(record.spec)
        metrics_address()
        load_webhooks(notice.webhook for notice in sweep.notify)
        require_team_budget(store, sweep, home, record.budget, record)
        data = prepare_data(sweep, home, observer.checking_data)
        store.bind_data(record.id, dataset_digest=data.dataset_digest, folds_digest=data.folds_digest)
        observer.started(record.id)
        with sigterm_interrupts() as terminated:
            return _drive(store, record, sweep, home, observer, runner, terminated)


def _drive(
    store: RecordStore,
    record: SweepRecord,
    sweep: Sweep,
    home: Path,
    observer: Observer,
    runner: Callable[[], JobRunner],
    terminated: threading.Event,
) -> SweepEnd:
    notifier = Notifier.of(sweep, store)
    lock = store.acquire_lock(record.id, holder_name(), LOCK_SECONDS)
    state: SweepState = "failed"
    reason: str | None = "the driver ended without a reason"
    cut_off = False
    try:
        store.requeue_unfinished(record.id, token=lock.token, retry_limit=DRIVER_DEATHS)
        store.ledger.expire(sweep=record.id)
        store.set_sweep_state(record.id, "running", token=lock.token)
        least = too_small(store, record, sweep)
        if least is not None:
            raise _Ended("exhausted", least)
        with Heartbeat(store, lock, priced=worker_rate(sweep).usd_per_second > 0) as heartbeat:
            _run_phases(store, record, sweep, home, observer, runner, lock, heartbeat, notifier)
        state, reason = "succeeded", None
    except _Ended as ended:
        state, reason = ended.state, ended.reason
    except BudgetSpent as spent:
        state, reason = "exhausted", str(spent)
    except KeyboardInterrupt:
        state, reason = "stopped", "interrupted from the keyboard"
        if terminated.is_set():
            cut_off = not store.stop_requested(record.id)
            reason = TERMINATED if cut_off else STOP_ASKED
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise
    finally:
        observer.ended()
        _conclude(store, record, state, reason, lock, notifier)
    return SweepEnd(record.id, state, reason, record.board, cut_off)


def _conclude(
    store: RecordStore, record: SweepRecord, state: SweepState, reason: str | None, lock: Lock, notifier: Notifier
) -> None:
    """Write down how the sweep ended and tell who asked; a driver that lost its lock leaves both to the other."""
    mine = True
    try:
        store.set_sweep_state(record.id, state, token=lock.token, error=reason)
        store.release_lock(lock)
    except LockLostError:
        mine = False
        raise
    finally:
        if mine:
            notifier.tell_end(state, record, reason)
        notifier.close(record.id)


def _run_phases(
    store: RecordStore,
    record: SweepRecord,
    sweep: Sweep,
    home: Path,
    observer: Observer,
    runner: Callable[[], JobRunner],
    lock: Lock,
    heartbeat: Heartbeat,
    notifier: Notifier,
) -> None:
    resources = sweep.folds.resources
    machine = Machine.here()
    together = sweep.folds.workers_per_fold
    groups = machine.fold_groups(resources.cpu, resources.gpu, together)
    workers = groups * together
    rate = worker_rate(sweep)
    options = PoolOptions(
        workers=workers,
        cpus=resources.cpu,
        gpus=resources.gpu,
        usd_per_second=rate.usd_per_second,
        billing_quantum_seconds=rate.quantum_seconds,
        workers_per_fold=together,
        need=evaluation_need(sweep, groups),
        team=team_limits(home, sweep.metadata.team, store.team_budget(sweep.metadata.team)),
        measured=metrics_address() is not None,
    )
    assert record.dataset_digest is not None  # noqa: S101 - bound before the first job
    folder = home / "sweeps" / record.id
    deadline = heartbeat.seconds_left(record.budget.wall_seconds)
    context = SweepContext(record.id, sweep, record.dataset_uri, record.dataset_digest, str(folder))
    with embedded_ray(machine, cpus_needed=workers * resources.cpu, folder=folder):
        pool = FoldPool(record.id, store.address, home, folder / "ray", options, runner, deadline)
        monitor = Monitor(store, pool, record.id, sweep)
        endpoint = driver_endpoint(pool, resources.gpu, record.id, record.team)
        try:
            pool.start()
            heartbeat.watch(pool)
            observer.watch(monitor)
            baselines = pool.ask(baseline_jobs(context))
            monitor.stage = "searching"
            _search(context, store, lock.token, pool)
            selection = _select(store, context)
            monitor.stage = "evaluating on the test folds"
            selected = selection.by_fold
            # The sweep's own configuration first: it is the entry that the search was paid for.
            jobs = (evaluation_jobs(context, selected), _comparator_jobs(context, selected))
            pool.wait([baselines, *(pool.ask(part) for part in jobs)])
            _require_unstopped(pool)
            monitor.stage = "writing entries"
            entries = save_entries(store, record, sweep, selection, home, lock.token)
            announce_best(store, notifier, record, entries)
            _require_going_on(pool)
            _require_comparators(pool)
            _require_evaluated(store, record)
            # The search's checkpoints have served; those of the evaluation are the entries' models.
            _drop_checkpoints(context)
            _drop_inner_predictions(folder, selection)
        except KeyboardInterrupt:
            pool.end("stopped", "interrupted")
            raise
        finally:
            observer.ended()
            endpoint.close()
            pool.close()
            shutil.rmtree(folder / "ray", ignore_errors=True)


def _search(context: SweepContext, store: RecordStore, token: str, pool: FoldPool) -> None:
    """Run the search until it is done or its share of the budget is used up."""
    if search_was_cut(store, context.sweep_id):
        return
    sweep = context.sweep
    warm = warm_start(store, sweep, context.dataset_digest, context.sweep_id) if sweep.search.warm_start else None
    run_search(context, store, token, pool, warm)
    _require_going_on(pool)
    cut = pool.snapshot().search_over
    if cut is not None and not close_search(store, context.sweep_id, token, cut):
        raise _Ended("exhausted", cut)


def _select(store: RecordStore, context: SweepContext) -> Selection:
    try:
        selection = select(
            context.sweep, store.trials(context.sweep_id), store.results(context.sweep_id, phase="search")
        )
    except NothingToSelect as nothing:
        errors = [trial.error for trial in store.trials(context.sweep_id) if trial.error]
        raise _Ended("failed", f"{nothing}; the last one failed with: {errors[-1] if errors else 'unknown'}") from None
    store.record_event(
        "configuration selected",
        sweep=context.sweep_id,
        actor=holder_name(),
        detail={"trials": list(selection.trials), "values": list(selection.values)},
    )
    return selection


def _comparator_jobs(context: SweepContext, selected: Sequence[tuple[int, RunConfig]]) -> list[FoldJob]:
    try:
        return neural_comparator_jobs(context, selected)
    except ValueError as error:
        raise _Ended("failed", f"comparators: a variant must go with the selected configuration, but {error}") from None


def _drop_checkpoints(context: SweepContext) -> None:
    """Those of the search. A bucket that does not answer keeps them: the sweep has succeeded all the same."""
    try:
        checkpoints_at(context.checkpoints or f"{context.folder}/checkpoints").drop("search-")
    except DatasetError as error:
        LOGGER.warning("the search's checkpoints are left: %s", error)


def _drop_inner_predictions(folder: Path, selection: Selection) -> None:
    """Thresholds are chosen: what the trials predicted that were not selected has served."""
    kept = tuple(f"search-trial{trial}-" for trial in selection.trials)
    for path in (folder / "inner").glob("search-*"):
        if not path.name.startswith(kept):
            path.unlink()


def _require_going_on(pool: FoldPool) -> None:
    ending = pool.snapshot().ending
    if ending is not None:
        state, reason = ending
        raise _Ended("failed" if state == "done" else state, reason)


def _require_unstopped(pool: FoldPool) -> None:
    """A budget that is used up leaves whole evaluations, which are entered; anything else ends here."""
    ending = pool.snapshot().ending
    if ending is not None and ending[0] != "exhausted":
        _require_going_on(pool)


def _require_comparators(pool: FoldPool) -> None:
    over = pool.snapshot().comparators_over
    if over is not None:
        raise _Ended("exhausted", f"{over}; raise the budget and resume: comparators are left without an entry")


def _require_evaluated(store: RecordStore, record: SweepRecord) -> None:
    failed = store.fold_jobs(record.id, phase="evaluation", state="failed")
    if failed:
        raise _Ended("failed", f"{len(failed)} fold jobs of the evaluation failed, the first with: {failed[0].error}")
