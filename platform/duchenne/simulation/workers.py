"""The pool's workers on a virtual clock: what `duchenne.pool.worker` does on a real one, with failures."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Self

from duchenne.pool.messages import MAX_GROUP_RESTARTS, MAX_PREEMPTIONS, PoolClosed, PoolOptions, Segment
from duchenne.pool.queue import JobQueue
from duchenne.simulation.clock import Clocks, at_once
from duchenne.simulation.load import Load
from duchenne.simulation.model import HOUR, Cluster, LearningCurves
from duchenne.simulation.truth import Fate, Truth
from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.training import JobKey, SegmentResult

BASELINE_EPOCHS = 5.0  # a scikit-learn comparator takes about as long as so many epochs of the base configuration


class _Renewals:
    """The thread of `duchenne.pool.worker.LeaseContext`: renews a lease each half quantum, while a block lasts.

    A renewal is a timer and a call: nobody has to be woken for it unless the queue says no.
    """

    def __init__(
        self, queue: JobQueue, segment: Segment, begin: float, load: Load, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._queue = queue
        self._lease = segment.lease
        self._every = segment.quantum_seconds / 2
        self._load = load
        self._loop = loop
        self._going_on = True
        self._awaited: asyncio.Future[None] | None = None
        self._timer = loop.call_at(begin + self._every, self._renew)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    async def going_on_until(self, moment: float) -> bool:
        """Wait for a moment. False, before it has come, where the queue refused to renew."""
        if self._going_on:
            self._awaited = self._loop.create_future()
            alarm = self._loop.call_at(moment, self._wake)
            try:
                await self._awaited
            finally:
                alarm.cancel()
        return self._going_on

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _renew(self) -> None:
        if at_once(self._queue.renew(self._lease)):
            self._timer = self._loop.call_at(self._loop.time() + self._load.answered() + self._every, self._renew)
        else:
            self._load.answered()
            self._going_on = False
            self._wake()


class WorkerGroup:
    """The one Ray Train run of a driver's life: all ranks start together, and restart when one of them dies.

    Args:
        queue: the queue that its workers pull from.
        options: says which ranks run a segment together; the first of them is played for all.
        load: charges calls of the queue; `truth` keeps what was held.
        chance: source of noise and failures.
        saved: the last epoch of a job that a checkpoint holds.
    """

    def __init__(
        self,
        queue: JobQueue,
        options: PoolOptions,
        cluster: Cluster,
        curves: LearningCurves,
        load: Load,
        truth: Truth,
        clocks: Clocks,
        chance: random.Random,
        saved: Callable[[JobKey], int],
    ) -> None:
        self._queue = queue
        self._options = options
        self._cluster = cluster
        self._curves = curves
        self._load = load
        self._truth = truth
        self._clocks = clocks
        self._loop = asyncio.get_running_loop()
        self._chance = chance
        self._paces: dict[tuple[int | None, str, str], float] = {}
        self._saved = saved
        self._restarts = self._preemptions = self._generation = 0

    async def run(self) -> None:
        """Start the nodes, then the ranks, and start them again as often as Ray Train does; ends when the queue closes.

        Raises:
            asyncio.CancelledError: the driver died, and everything with it.
        """
        await asyncio.sleep(self._node_start())
        while True:
            await asyncio.sleep(self._cluster.services.group_seconds)
            self._generation += 1
            workers = [
                asyncio.ensure_future(self._worker(f"rank{rank}-life{self._generation}", rank))
                for rank in range(0, self._options.workers, self._options.workers_per_fold)
            ]
            try:
                culprit, is_node = await self._until_one_dies(workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
            if culprit is None:
                return
            reason = await self._tell(culprit, is_node)
            if reason is not None:
                await self._queue.pool_died(reason)
                return
            if is_node:
                await asyncio.sleep(self._node_start())

    async def _until_one_dies(self, workers: Sequence[asyncio.Future[None]]) -> tuple[int | None, bool]:
        """The rank that dies first, and whether its node went with it; None when all came home."""
        nodes, failures = self._cluster.nodes, self._cluster.failures
        ranks = self._options.workers
        rates = (failures.losses_per_hour * ranks / HOUR, nodes.evictions_per_hour * nodes.count / HOUR)
        moments = [self._chance.expovariate(rate) if rate else math.inf for rate in rates]
        timeout = None if math.isinf(min(moments)) else min(moments)
        done, left = await asyncio.wait(workers, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        for worker in done:
            worker.result()
        if not left:
            return None, False
        return self._chance.randrange(ranks), moments[1] < moments[0]

    async def _tell(self, rank: int, is_node: bool) -> str | None:
        """Ray Train notices, tells the queue and restarts; why not, where it has done so too often."""
        await asyncio.sleep(self._chance.uniform(0.0, self._cluster.failures.notice_seconds))
        what = "node evicted" if is_node else "worker lost"
        self._truth.events[what] += 1
        await self._queue.rank_died(rank, what)
        self._load.answered()
        self._preemptions += is_node
        self._restarts += not is_node
        if self._restarts > MAX_GROUP_RESTARTS:
            return f"the pool's workers failed: {self._restarts} of them died, and Ray Train restarts its group no more"
        if self._preemptions > MAX_PREEMPTIONS:
            return (
                f"the pool's workers failed: {self._preemptions} nodes went, and Ray Train restarts its group no more"
            )
        return None

    def _node_start(self) -> float:
        """The slowest node counts: the group starts as a whole."""
        return self._cluster.nodes.startup_seconds * self._chance.uniform(1.0, 1.5)

    # One worker -------------------------------------------------------------------------------------------------------

    async def _worker(self, name: str, rank: int) -> None:
        queue = self._queue
        await queue.register(name, rank)
        while True:
            work = await queue.lease(name)
            wait = self._load.answered()
            if isinstance(work, PoolClosed):
                return
            if work is not None:
                wait = await self._run(work, wait)
            if wait > 0.0:
                await asyncio.sleep(wait)

    async def _run(self, segment: Segment, wait: float) -> float:
        """Run one segment, whose grant arrives after `wait`; seconds until the queue has taken in its end."""
        since = self._clocks.seconds()
        fate: Fate = "lost"  # where the worker is cancelled
        try:
            fate = await self._train(segment, since + wait)
        finally:
            self._truth.pay(since, self._clocks.seconds(), segment.job.key.phase, fate)
        return self._load.answered()

    async def _train(self, segment: Segment, begin: float) -> Fate:
        """Epochs and an error in the order of their moments, while the lease is renewed beside them."""
        queue, job, lease = self._queue, segment.job, segment.lease
        key, chance = job.key, self._chance
        epoch = self._saved(key)  # every whole epoch is saved
        if not epoch and job.parent is not None:
            epoch = self._saved(job.parent)
        seconds = self._pace(segment)
        rate = self._cluster.failures.errors_per_hour / HOUR
        error = begin + chance.expovariate(rate) if rate else math.inf
        finish = begin + self._cluster.durations.load_seconds + self._noisy(seconds)
        with _Renewals(queue, segment, begin, self._load, self._loop) as renewals:
            while await renewals.going_on_until(min(finish, error)):
                if error <= finish:
                    self._truth.events["job error"] += 1
                    await queue.failed(lease, "a simulated error", False)
                    return "error"
                epoch = segment.until_epoch if key.method in BASELINE_NAMES else epoch + 1
                result = self._result(key, epoch)
                if epoch >= segment.until_epoch:
                    await queue.finished(lease, result)
                    return "done"
                if not await queue.report(lease, epoch, result.metrics):
                    break
                finish = self._loop.time() + self._load.answered() + self._noisy(seconds)
            # The step that runs ends, and what was learned is saved.
            await asyncio.sleep(chance.uniform(0.0, self._cluster.failures.late_seconds))
            await queue.stopped(lease)
            return "stopped"

    def _result(self, key: JobKey, epoch: int) -> SegmentResult:
        metrics = self._curves.metrics(key.trial, key.fold, key.inner, key.seed, epoch)
        return SegmentResult(epoch, metrics)

    def _pace(self, segment: Segment) -> float:
        key = segment.job.key
        place = (key.trial, key.phase, key.method)
        seconds = self._paces.get(place)
        if seconds is None:
            seconds = self._cluster.durations.epoch_seconds(segment.job.config, key.phase)
            seconds *= BASELINE_EPOCHS if key.method in BASELINE_NAMES else 1.0
            self._paces[place] = seconds
        return seconds

    def _noisy(self, seconds: float) -> float:
        return seconds * math.exp(self._chance.gauss(0.0, self._cluster.durations.noise))
