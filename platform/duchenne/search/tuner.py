"""Runs Ray Tune over the fold pool, and keeps the records of its trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from duchenne.plan.counting import count_trials
from duchenne.records import RecordStore
from duchenne.records.rows import FINISHED
from duchenne.search.driver_only import DriverOnly
from duchenne.search.jobs import SweepContext
from duchenne.search.proposals import build_proposer
from duchenne.search.searcher import RecordedSearcher
from duchenne.search.trial import TrialActor
from duchenne.spec import Asha, Fifo, MedianStopping, Sweep

if TYPE_CHECKING:
    from duchenne.pool.run import FoldPool

NEVER = 1_000_000_000
TRIAL_CPUS = 0.001  # a trial only waits; Tune refuses a trial that holds nothing


class SearchBroken(Exception):  # noqa: N818 - reads as the fact it states
    """Tune ended because something beside it did, such as the records; the message is one line."""


class _TrialRecorder(DriverOnly, tune.Callback):  # type: ignore[misc]
    """Writes what Tune decides about a trial; runs in the driver."""

    def __init__(self, store: RecordStore, context: SweepContext, token: str, pool: FoldPool, finished: set[int]):
        self._store = store
        self._context = context
        self._token = token
        self._pool = pool
        self._finished = finished

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A rung was reached."""
        self._set(trial, "running", value=result["value"], rung=result["rung"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last rung was reached, or the scheduler stopped the trial before it."""
        result = trial.last_result or {}
        state = "succeeded" if result.get("complete") else "stopped"
        if state == "stopped":
            self._pool.queue.withdraw.remote(trial.config["number"])
        self._set(trial, state, value=result.get("value"), rung=result.get("rung"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A fold failed; or the sweep was ended, and then the trial is left to be continued."""
        if self._pool.snapshot().search_ended:
            self._set(trial, "queued")
        else:
            self._set(trial, "failed", error=self._why(trial.config["number"]))

    def _why(self, number: int) -> str:
        """The first failed fold's error; without one, the row that the folds gave could not be compared."""
        failed = self._store.fold_jobs(self._context.sweep_id, trial=number, state="failed")
        if failed:
            return failed[0].error or "a fold failed without saying why"
        metric = self._context.sweep.search.metric
        return f"search.metric: {metric} must be defined on every inner fold, but is not; choose another metric"

    def _set(self, trial: Any, state: Any, **what: Any) -> None:
        number = trial.config["number"]
        if number not in self._finished:
            self._store.set_trial_state(self._context.sweep_id, number, state, token=self._token, **what)


class _EndOfSweep(DriverOnly, tune.Stopper):  # type: ignore[misc]
    """Ends Tune once the pool grants nothing more."""

    def __init__(self, pool: FoldPool) -> None:
        self._pool = pool

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked at every event of Tune's loop."""
        return self._pool.snapshot().search_ended


def run_search(context: SweepContext, store: RecordStore, token: str, pool: FoldPool) -> None:
    """Run every trial that is not finished on record; returns early when the pool grants nothing more."""
    sweep = context.sweep
    recorded = store.trials(context.sweep_id)
    finished = {trial.number for trial in recorded if trial.state in FINISHED}
    proposer = build_proposer(sweep, known=len(recorded))
    replayed = [trial for trial in recorded if _must_be_seen(sweep, trial.state)]
    for trial in recorded:
        if trial.number in finished and trial not in replayed:
            score = trial.value if trial.state != "failed" else None
            proposer.learn(trial.config, _score(sweep, score))
    missing = count_trials(sweep) - len(recorded) + len(replayed)
    if missing <= 0:
        return
    tuner = tune.Tuner(
        tune.with_parameters(
            tune.with_resources(TrialActor, {"CPU": TRIAL_CPUS}), context=context, queue=pool.queue_name
        ),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            search_alg=RecordedSearcher(store, context.sweep_id, token, proposer, replayed, first_new=len(recorded)),
            scheduler=build_scheduler(sweep),
            num_samples=missing,
            max_concurrent_trials=concurrency(sweep, pool.workers),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{pool.queue_name}",
            storage_path=str(pool.storage),
            callbacks=[_TrialRecorder(store, context, token, pool, finished)],
            stop=_EndOfSweep(pool),
            verbose=0,
            log_to_file=False,
        ),
    )
    with _quiet():
        try:
            tuner.fit()
        except TuneError as error:
            # Tune passes on what a callback raised as the text of a traceback: its last line says what happened.
            raise SearchBroken(str(error).strip().splitlines()[-1]) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune logs a traceback for each failed trial and a table of all trials; both stand in the records."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def build_scheduler(sweep: Sweep) -> TrialScheduler:
    """Tune's scheduler for `search.scheduler`. Time is counted in epochs; rows come at the rungs only."""
    scheduler = sweep.search.scheduler
    match scheduler:
        case Asha():
            return ASHAScheduler(
                time_attr="epoch",
                max_t=NEVER,  # a trial ends by itself at its last rung, which may differ where epochs are searched
                grace_period=scheduler.grace_epochs,
                reduction_factor=scheduler.reduction_factor,
            )
        case MedianStopping():
            return MedianStoppingRule(time_attr="epoch", grace_period=scheduler.grace_epochs, min_samples_required=3)
        case Fifo():
            return FIFOScheduler()


def concurrency(sweep: Sweep, workers: int) -> int:
    """Trials at once: enough that the pool never waits for the last fold of one, few enough that a searcher learns."""
    if sweep.search.concurrency is not None:
        return sweep.search.concurrency
    folds = sweep.folds.outer_count * sweep.folds.inner_count
    return 1 + math.ceil(workers / folds)


def _must_be_seen(sweep: Sweep, state: str) -> bool:
    """Unfinished trials go on; finished ones are shown again only to a scheduler that compares trials."""
    return state not in FINISHED or (state != "failed" and not isinstance(sweep.search.scheduler, Fifo))


def _score(sweep: Sweep, value: float | None) -> float | None:
    return value if value is None or sweep.search.mode == "max" else -value


def _name(trial: Any) -> str:
    return f"trial-{trial.config.get('number', trial.trial_id)}"
