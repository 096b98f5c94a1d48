"""Runs Ray Tune over the fold pool, and keeps the records of its trials."""

from __future__ import annotations

import logging
import math
import pickle
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler

from duchenne.plan.counting import count_trials
from duchenne.pool import PoolSnapshot
from duchenne.records import Trial, holder_name
from duchenne.records.port import RunRecords
from duchenne.records.rows import FINISHED
from duchenne.search.driver_only import DriverOnly
from duchenne.search.errors import SearchBroken
from duchenne.search.jobs import SweepContext
from duchenne.search.judge import Judge, Verdict, waves
from duchenne.search.on_record import record_rung, replays_of, rung_of, subjects_on_record
from duchenne.search.proposals import build_proposer
from duchenne.search.searcher import RecordedSearcher, Replay
from duchenne.search.trial import TrialActor
from duchenne.search.tune_scheduler import JudgedScheduler
from duchenne.search.warm_start import WARM_START, WarmStart
from duchenne.spec import Fifo, Sweep

if TYPE_CHECKING:
    from duchenne.pool.run import FoldPool

TRIAL_SHARE = 0.0001  # of the driver's node, which outlives those of workers; a trial only waits


class SearchPool(Protocol):
    """What the search asks of its pool, beside running segments."""

    workers: int

    def withdraw(self, trial: int) -> None:
        """The scheduler gave a trial up: its segments end."""
        ...

    def snapshot(self) -> PoolSnapshot:
        """The pool at this moment."""
        ...


class TrialRecorder(DriverOnly, tune.Callback):  # type: ignore[misc]
    """Writes what Tune decides about a trial; runs in the driver."""

    def __init__(
        self,
        store: RunRecords,
        context: SweepContext,
        token: str,
        pool: SearchPool,
        finished: set[int],
        verdicts: Mapping[int, Verdict],
        reached: Collection[tuple[int, int]],
    ) -> None:
        self._store = store
        self._context = context
        self._token = token
        self._pool = pool
        self._finished = finished
        self._verdicts = verdicts
        self._reached = set(reached)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A rung was reached, by all folds of the trial or by the first of them."""
        if not result["whole"]:
            self._set(trial, "running")
            return
        self._set(trial, "running", value=result["value"], rung=result["rung"])
        place = (trial.config["number"], result["rung"])
        if result["spent"] is not None and place not in self._reached:
            record_rung(self._store, self._context.sweep_id, place[0], rung_of(result))
            self._reached.add(place)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last rung was reached, or the scheduler stopped the trial before it; or Tune did, as the sweep ended."""
        result = trial.last_result or {}
        number = trial.config["number"]
        verdict = self._verdicts.get(number)
        known = {"value": result["value"], "rung": result["rung"]} if result.get("whole") else {}
        if result.get("complete"):
            self._set(trial, "succeeded", **known)
        elif verdict is None and number not in self._finished and not result.get("ended"):
            self._set(trial, "queued", **known)
        else:
            self._pool.withdraw(number)
            self._set(trial, "stopped", error=verdict and verdict.reason, **known)

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

    def __init__(self, pool: SearchPool) -> None:
        self._pool = pool

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked at every event of Tune's loop."""
        return self._pool.snapshot().search_ended


@dataclass(frozen=True)
class Search:
    """A search that is ready to go on: what Tune, or a simulation of it, runs trials with.

    Attributes:
        searcher: gives each trial its configuration.
        recorder: writes down what became of it.
        scheduler: decides at each rung whether it goes on.
        trials: how many are to be run or shown again.
    """

    searcher: RecordedSearcher
    recorder: TrialRecorder
    scheduler: TrialScheduler
    trials: int


def prepare_search(
    context: SweepContext, store: RunRecords, token: str, pool: SearchPool, warm: WarmStart | None = None
) -> Search:
    """What is left of the search, by the records; `warm` is what earlier sweeps know."""
    sweep = context.sweep
    recorded = store.trials(context.sweep_id)
    finished = {trial.number for trial in recorded if trial.state in FINISHED}
    proposer = build_proposer(sweep, known=len(recorded), warm=warm)
    if warm is not None and not recorded:
        store.record_event(WARM_START, sweep=context.sweep_id, actor=holder_name(), detail=warm.detail)
    replays = replays_of(context, store, recorded)
    shown = []
    for trial in recorded:
        replay = replays[trial.number]
        if _must_be_seen(sweep, trial, replay):
            shown.append((trial, replace(replay, parent=proposer.parent(trial.number))))
        elif trial.number in finished:
            score = trial.value if trial.state != "failed" else None
            proposer.learn(trial.number, trial.config, _score(sweep, score))
    verdicts: dict[int, Verdict] = {}
    reached = [(number, rung.number) for number, replay in replays.items() for rung in replay.rungs]
    jobs = sweep.folds.outer_count * sweep.folds.inner_count
    judge = Judge(sweep.search.scheduler, jobs, sweep.search.racing)
    return Search(
        searcher=RecordedSearcher(store, context.sweep_id, token, proposer, shown, len(recorded), verdicts),
        recorder=TrialRecorder(store, context, token, pool, finished, verdicts, reached),
        scheduler=JudgedScheduler(judge, subjects_on_record(context), finished, verdicts),
        trials=count_trials(sweep) - len(recorded) + len(shown),
    )


def run_search(
    context: SweepContext, store: RunRecords, token: str, pool: FoldPool, warm: WarmStart | None = None
) -> None:
    """Run every trial that is not finished on record; returns early when the pool grants nothing more."""
    search = prepare_search(context, store, token, pool, warm)
    if search.trials <= 0:
        return
    tuner = tune.Tuner(
        tune.with_parameters(
            tune.with_resources(TrialActor, {pool.node_resource: TRIAL_SHARE}), context=context, queue=pool.queue_name
        ),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            search_alg=search.searcher,
            scheduler=search.scheduler,
            num_samples=search.trials,
            max_concurrent_trials=concurrency(context.sweep, pool.workers),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{pool.queue_name}",
            storage_path=str(pool.storage),
            callbacks=[search.recorder],
            stop=_EndOfSweep(pool),
            verbose=0,
            log_to_file=False,
        ),
    )
    with _quiet(), _one_line(pool.storage):
        tuner.fit()


@contextmanager
def _one_line(storage: Path) -> Iterator[None]:
    """Make one line of what ends Tune."""
    try:
        yield
    except TuneError as error:
        # Tune passes on what a callback raised as the text of a traceback: its last line says what happened.
        raise SearchBroken(str(error).strip().splitlines()[-1]) from error
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        # Tune reads its own files back when it ends; a full disk has cut them short.
        free = shutil.disk_usage(storage).free / 2**20
        said = " ".join(str(error).split())
        raise SearchBroken(
            f"Ray Tune must write its state under {storage} and read it back, but {said!r} came with {free:.0f} MiB "
            "free on that disk; free some space if it is full, then resume: what is recorded is kept"
        ) from error


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


def concurrency(sweep: Sweep, workers: int) -> int:
    """Trials at once: enough that the pool never waits for the last fold of one, few enough that a searcher learns."""
    if sweep.search.concurrency is not None:
        return sweep.search.concurrency
    at_once = waves(sweep.folds.outer_count * sweep.folds.inner_count, sweep.search.racing)[0]
    return 1 + math.ceil(workers / len(at_once))


def _must_be_seen(sweep: Sweep, trial: Trial, replay: Replay) -> bool:
    """Unfinished trials go on; finished ones are shown again only to a judge that compares trials."""
    if trial.state not in FINISHED:
        return True
    compares = not isinstance(sweep.search.scheduler, Fifo) or sweep.search.racing is not None
    return compares and trial.state != "failed" and replay.rows > 0


def _score(sweep: Sweep, value: float | None) -> float | None:
    return value if value is None or sweep.search.mode == "max" else -value


def _name(trial: Any) -> str:
    return f"trial-{trial.config.get('number', trial.trial_id)}"
