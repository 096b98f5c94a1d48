"""One sweep on a virtual clock: the steps of `duchenne.driver.drive`, with its search, queue, leases and selection.

What runs here and in a real sweep alike: `JobQueue`, `Filing` and the ledger's rules, `prepare_search` (searcher,
judge, recorder), `TrialRun`, `Heartbeat`, `select`, `close_search`. What is played: Tune's loop, the workers, the nodes
and everything that goes wrong.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from duchenne.driver.budget import budget_of, close_search, search_was_cut
from duchenne.driver.heartbeat import BudgetSpent, Heartbeat
from duchenne.plan.holdback import evaluation_need
from duchenne.plan.leasing import BEAT_SECONDS, QUANTUM_SECONDS
from duchenne.plan.rates import worker_rate
from duchenne.pool import Outcome, PoolOptions, PoolSnapshot
from duchenne.pool.queue import JobQueue
from duchenne.records import Amounts, FoldJobKey, Lock, NewSweep
from duchenne.records import Sweep as SweepRecord
from duchenne.records.port import RunRecords
from duchenne.records.rows import SweepState
from duchenne.search import NothingToSelect, SweepContext, select
from duchenne.search.jobs import baseline_jobs, evaluation_jobs, neural_comparator_jobs
from duchenne.search.trial import TrialEnded, TrialRun
from duchenne.search.tuner import Search, concurrency, prepare_search
from duchenne.simulation.clock import Clocks, VirtualLoop, at_once, play
from duchenne.simulation.cluster import fold_groups
from duchenne.simulation.load import Load
from duchenne.simulation.model import HOUR, Cluster, LearningCurves
from duchenne.simulation.records import MemoryRecords
from duchenne.simulation.truth import Truth
from duchenne.simulation.workers import WorkerGroup
from duchenne.spec.sweep import Sweep
from duchenne_jobs.training import FoldJob, JobKey

DRIVER_DEATHS = 10  # of a real driver: see duchenne.driver.drive
MAX_LIVES = 200
POLL_SECONDS = 300.0  # an idle worker is woken when there is work: to ask again for nothing only takes time
LEASES_OVER_SECONDS = 120.0
SKEW_JUMPS_PER_HOUR = 20.0
FOLDER = "simulated"
COLLECTED_AFTER = 200_000  # objects


class PlayedRecords(RunRecords, Protocol):
    """Records that a sweep can be played in: those of a run, its beginning, and what they were asked."""

    def made(self) -> int:
        """Write transactions so far."""
        ...

    def create_sweep(self, new: NewSweep, identifier: str | None = None) -> SweepRecord:
        """Record a sweep as queued."""
        ...

    def acquire_lock(
        self, sweep: str, holder: str, ttl_seconds: float = 60.0, is_gone: Callable[[str], bool] = ...
    ) -> Lock:
        """Become its driver."""
        ...


@dataclass(frozen=True)
class Played:
    """What came out.

    Attributes:
        state, reason: how the sweep ended.
        seconds: from the start of the first node to the end of the last driver.
        search_seconds: until a configuration was selected; None where it never was.
        selected: trials selected.
        cut: whether the budget ended the search.
    """

    sweep: str
    state: SweepState
    reason: str | None
    seconds: float
    search_seconds: float | None
    selected: tuple[int, ...]
    cut: bool
    records: PlayedRecords
    truth: Truth
    load: Load
    curves: LearningCurves


@dataclass
class PlayedTrial:
    """A trial as Tune's callbacks and schedulers know it."""

    trial_id: str
    config: dict[str, Any]
    last_result: dict[str, Any] | None = None


class VirtualPool:
    """The pool as the search and the heartbeat see it; see `duchenne.pool.run.FoldPool`."""

    def __init__(self, queue: JobQueue, workers: int) -> None:
        self.queue = queue
        self.workers = workers

    def withdraw(self, trial: int) -> None:
        """The scheduler gave a trial up."""
        at_once(self.queue.withdraw(trial))

    def snapshot(self) -> PoolSnapshot:
        """The pool at this moment."""
        return at_once(self.queue.snapshot())

    def end(self, state: Any, reason: str) -> None:
        """Grant nothing more."""
        at_once(self.queue.end(state, reason))


class _Over(Exception):  # noqa: N818 - unwinds the driver's steps
    """The sweep ends before its last step."""

    def __init__(self, state: Any, reason: str | None) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


class Simulation:
    """One sweep, from its first node to its end, over as many drivers as it takes.

    Args:
        records: makes the records, given their clock.
        budget: None takes that of the sweep.
        quantum_seconds: of a lease.
    """

    def __init__(
        self,
        sweep: Sweep,
        cluster: Cluster,
        seed: int,
        records: Callable[[Callable[[], datetime]], PlayedRecords] = MemoryRecords,
        budget: Amounts | None = None,
        quantum_seconds: float = QUANTUM_SECONDS,
    ) -> None:
        self._loop = VirtualLoop()
        self._clocks = Clocks(self._loop)
        self._spec = sweep
        self._cluster = cluster
        self._quantum = quantum_seconds
        self._chance = random.Random(f"{seed} events")
        self._store = records(self._clocks.records)
        self._record = self._store.create_sweep(_new_sweep(sweep, budget))
        self._curves = LearningCurves(sweep, seed)
        self._truth = Truth(worker_rate(sweep), sweep.folds.resources.gpu, sweep.folds.workers_per_fold)
        self._load = Load(cluster.services, self._store.made, self._clocks)
        self._context = SweepContext(self._record.id, sweep, "nowhere", "sha256:0", FOLDER)
        self._search_seconds: float | None = None
        self._end = 0.0
        self._selected: tuple[int, ...] = ()

    def play(self) -> Played:
        """Play to the end, in no real time but that of its decisions."""
        # What is recorded is kept to the end: the collector would look through all of it again and again.
        often = gc.get_threshold()
        gc.set_threshold(COLLECTED_AFTER)
        try:
            state, reason = play(self._loop, self._lives())
        finally:
            gc.set_threshold(*often)
            self._loop.close()
        return Played(
            sweep=self._record.id,
            state=state,
            reason=reason,
            seconds=self._end,
            search_seconds=self._search_seconds,
            selected=self._selected,
            cut=search_was_cut(self._store, self._record.id),
            records=self._store,
            truth=self._truth,
            load=self._load,
            curves=self._curves,
        )

    # Drivers ----------------------------------------------------------------------------------------------------------

    async def _lives(self) -> tuple[SweepState, str | None]:
        """Drivers that are killed, and the one that ends the sweep."""
        skew = asyncio.ensure_future(self._jump())
        rate = self._cluster.failures.driver_deaths_per_hour / HOUR
        try:
            for life in range(MAX_LIVES):
                driver = asyncio.ensure_future(self._drive(life))
                death = self._chance.expovariate(rate) if rate else None
                began = self._clocks.seconds()
                await asyncio.wait([driver], timeout=death)
                if driver.done():
                    ended = driver.result()
                    self._truth.nodes.append((began, self._clocks.seconds()))
                    break
                driver.cancel()
                await asyncio.gather(driver, return_exceptions=True)
                self._truth.nodes.append((began, self._clocks.seconds()))
                self._truth.events["driver killed"] += 1
                await asyncio.sleep(self._cluster.services.driver_seconds)
            else:
                ended = "failed", f"{MAX_LIVES} drivers were killed before the sweep had ended"
            self._end = self._clocks.seconds()
            # What a dead driver held runs out, and is settled at its full reservation.
            await asyncio.sleep(LEASES_OVER_SECONDS)
            self._store.ledger.expire(sweep=self._record.id)
            return ended
        finally:
            skew.cancel()
            await asyncio.gather(skew, return_exceptions=True)

    async def _jump(self) -> None:
        """The records' clock is wrong, by something else every now and then."""
        size = self._cluster.failures.skew_seconds
        while size:
            self._clocks.skew = self._chance.uniform(-size, size)
            await asyncio.sleep(self._chance.expovariate(SKEW_JUMPS_PER_HOUR / HOUR))

    async def _drive(self, life: int) -> tuple[SweepState, str | None]:
        """One driver's life; see `duchenne.driver.drive`."""
        store, sweep = self._store, self._record.id
        lock = store.acquire_lock(sweep, f"driver-{life}", is_gone=lambda _: True)
        store.requeue_unfinished(sweep, token=lock.token, retry_limit=DRIVER_DEATHS)
        store.ledger.expire(sweep=sweep)
        store.set_sweep_state(sweep, "running", token=lock.token)
        heartbeat = Heartbeat(store, lock, worker_rate(self._spec).usd_per_second > 0, self._clocks.seconds)
        try:
            heartbeat.open()
        except BudgetSpent as spent:
            return self._ended(lock, "exhausted", str(spent))
        try:
            await self._phases(lock, heartbeat)
        except _Over as over:
            state: SweepState = over.state
            reason = over.reason
        else:
            state, reason = "succeeded", None
        heartbeat.close()
        return self._ended(lock, state, reason)

    def _ended(self, lock: Lock, state: SweepState, reason: str | None) -> tuple[SweepState, str | None]:
        self._store.set_sweep_state(self._record.id, state, token=lock.token, error=reason)
        return state, reason

    async def _phases(self, lock: Lock, heartbeat: Heartbeat) -> None:
        deadline = heartbeat.seconds_left(self._record.budget.wall_seconds)
        options = self._options()
        queue = JobQueue(self._record.id, self._store, FOLDER, options, deadline, clock=self._clocks.seconds)
        pool = VirtualPool(queue, options.workers)
        heartbeat.watch(pool)
        group = WorkerGroup(
            queue,
            options,
            self._cluster,
            self._curves,
            self._load,
            self._truth,
            self._clocks,
            self._chance,
            self._saved,
        )
        beside: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(group.run()),
            asyncio.ensure_future(self._beat(heartbeat, pool)),
        ]
        try:
            baselines = asyncio.ensure_future(self._run(queue, baseline_jobs(self._context)))
            beside.append(baselines)
            await self._search(pool, lock)
            selected = self._select(lock)
            own = self._run(queue, evaluation_jobs(self._context, selected))
            others = self._run(queue, neural_comparator_jobs(self._context, selected))
            await asyncio.gather(baselines, own, others)
            self._require(pool, queue)
            await queue.close()
            await asyncio.wait([beside[0]])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _options(self) -> PoolOptions:
        rate, folds = worker_rate(self._spec), self._spec.folds
        groups = fold_groups(self._spec, self._cluster)
        return PoolOptions(
            workers=groups * folds.workers_per_fold,
            workers_per_fold=folds.workers_per_fold,
            cpus=folds.resources.cpu,
            gpus=folds.resources.gpu,
            usd_per_second=rate.usd_per_second,
            billing_quantum_seconds=rate.quantum_seconds,
            need=evaluation_need(self._spec, groups),
            quantum_seconds=self._quantum,
            poll_seconds=POLL_SECONDS,
        )

    def _saved(self, key: JobKey) -> int:
        filed = FoldJobKey(
            sweep=self._record.id,
            trial=key.trial,
            phase=key.phase,
            method=key.method,
            fold=key.fold,
            inner=key.inner,
            seed=key.seed,
        )
        return self._store.last_epoch(filed) or 0

    async def _run(self, queue: JobQueue, jobs: list[FoldJob]) -> list[Outcome]:
        outcomes = await queue.run_jobs(jobs)
        self._load.answered()
        return outcomes

    async def _beat(self, heartbeat: Heartbeat, pool: VirtualPool) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            ending = heartbeat.check()
            self._load.answered()
            if ending is not None:
                pool.end(*ending)
                return

    # The search: what Tune does ---------------------------------------------------------------------------------------

    async def _search(self, pool: VirtualPool, lock: Lock) -> None:
        store, sweep = self._store, self._record.id
        if search_was_cut(store, sweep):
            return
        search = prepare_search(self._context, store, lock.token, pool)
        for trial in store.trials(sweep):
            self._curves.draw(trial.number, trial.config)
        numbers = iter(range(search.trials))
        slots = min(concurrency(self._spec, pool.workers), search.trials)
        await asyncio.gather(*(self._slot(search, pool.queue, numbers) for _ in range(slots)))
        snapshot = pool.snapshot()
        if snapshot.ending is not None:
            raise _Over(*snapshot.ending)
        cut = snapshot.search_over
        if cut is not None and not close_search(store, sweep, lock.token, cut):
            raise _Over("exhausted", cut)

    async def _slot(self, search: Search, queue: JobQueue, numbers: Any) -> None:
        """One of Tune's reused actors: a trial after the other."""
        for number in numbers:
            await asyncio.sleep(self._load.trial())
            config = search.searcher.suggest(str(number))
            while config is None:  # the searcher waits for trials that run
                await asyncio.sleep(1.0)
                config = search.searcher.suggest(str(number))
            self._curves.draw(config["number"], config["values"])
            if not await self._trial(search, queue, PlayedTrial(str(number), config)):
                return

    async def _trial(self, search: Search, queue: JobQueue, trial: PlayedTrial) -> bool:
        """Run a trial rung by rung, in the order in which Tune calls its callbacks. False: the search is over."""
        config = trial.config
        run = TrialRun(self._context, config["number"], config["values"], config["replay"])
        iteration = 0
        while True:
            try:
                row = await self._rung(run, queue)
            except TrialEnded:
                search.searcher.on_trial_complete(trial.trial_id, error=True)
                search.recorder.on_trial_error(0, [], trial)
                return not at_once(queue.snapshot()).search_ended
            iteration += 1
            trial.last_result = row | {"training_iteration": iteration}
            await asyncio.sleep(self._load.row())
            search.recorder.on_trial_result(0, [], trial, trial.last_result)
            if row["done"]:
                search.scheduler.on_trial_complete(None, trial, trial.last_result)
                break
            if search.scheduler.on_trial_result(None, trial, trial.last_result) == "STOP":
                break
        search.searcher.on_trial_complete(trial.trial_id, trial.last_result)
        search.recorder.on_trial_complete(0, [], trial)
        self._load.answered()
        return True

    async def _rung(self, run: TrialRun, queue: JobQueue) -> dict[str, Any]:
        rung = run.rung()
        ask = next(rung)
        while True:
            outcomes = await queue.run_segments(ask.jobs, ask.until_epoch)
            self._load.answered()
            try:
                ask = rung.send(outcomes)
            except StopIteration as end:
                row: dict[str, Any] = end.value
                return row

    # Selection and end ------------------------------------------------------------------------------------------------

    def _select(self, lock: Lock) -> Any:
        store, sweep = self._store, self._record.id
        results = () if self._spec.folds.selection == "shared" else store.results(sweep, phase="search")
        try:
            selection = select(self._spec, store.trials(sweep), results)
        except NothingToSelect as nothing:
            raise _Over("failed", str(nothing)) from None
        self._search_seconds = self._search_seconds or self._clocks.seconds()
        self._selected = selection.trials
        return selection.by_fold

    def _require(self, pool: VirtualPool, queue: JobQueue) -> None:
        """See `_require_going_on`, `_require_comparators` and `_require_evaluated` of the driver."""
        snapshot = pool.snapshot()
        if snapshot.ending is not None:
            raise _Over(*snapshot.ending)
        if snapshot.comparators_over is not None:
            raise _Over("exhausted", snapshot.comparators_over)
        failed = self._store.fold_jobs(self._record.id, phase="evaluation", state="failed")
        if failed:
            raise _Over("failed", f"{len(failed)} fold jobs of the evaluation failed")


def _new_sweep(sweep: Sweep, budget: Amounts | None) -> NewSweep:
    return NewSweep(
        name=sweep.metadata.name,
        team=sweep.metadata.team,
        board=sweep.board,
        spec=sweep.model_dump(mode="json"),
        spec_text="",
        spec_digest="sha256:0",
        dataset_uri=sweep.data.uri,
        dataset_digest="sha256:0",
        folds_digest="sha256:0",
        budget=budget or budget_of(sweep),
    )
