"""The queue actor: grants segments of fold jobs to workers, under leases of the sweep's budget, and files results.

It runs in one process beside the driver, and everything it knows can be rebuilt from the records: a segment whose
epochs are on record is answered from there and never granted.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from duchenne.plan.holdback import Purpose
from duchenne.pool.filing import Denial, Filing, purpose_of
from duchenne.pool.measures import PoolMeasures, RetryCause
from duchenne.pool.messages import Outcome, OutcomeState, PoolClosed, PoolOptions, PoolSnapshot, Segment
from duchenne.pool.waiting import ReadData, Waiting, WaitingRoom
from duchenne.records import RecordsError, open_store
from duchenne.records.port import RunRecords
from duchenne_jobs.data.tallies import Tally
from duchenne_jobs.training import FoldJob, JobKey, SegmentResult

ROOM_SECONDS = 0.2  # how soon a worker may ask again for money that other leases still hold


@dataclass
class _Granted:
    """A segment in a worker's hands."""

    waiting: Waiting
    worker: str
    lease: int
    granted_at: float
    epoch: int = 0
    paused: bool = False  # told to stop for want of money that other leases hold: it goes back to the queue
    reported_at: list[float] = field(default_factory=list)  # one an epoch

    @property
    def epoch_seconds(self) -> float | None:
        """What an epoch took; see `Outcome`."""
        ends = self.reported_at
        if len(ends) < 2:
            return ends[0] - self.granted_at if ends else None
        return (ends[-1] - ends[0]) / (len(ends) - 1)


Answer = TypeVar("Answer")


def _ends_sweep_without_records(
    method: Callable[..., Awaitable[Answer]],
) -> Callable[..., Awaitable[Answer | None]]:
    """What a worker asks is answered with a no when the records can't be written, and the sweep ends.

    Without this the error would reach the worker, kill it, and have Ray Train restart the group again and again.
    """

    @wraps(method)
    async def guarded(self: JobQueue, *arguments: Any, **named: Any) -> Answer | None:
        try:
            return await method(self, *arguments, **named)
        except RecordsError as error:
            await self.abandon(str(error))
            return None

    return guarded


class JobQueue:
    """Async actor; every method is called from other processes.

    Args:
        sweep: the sweep's id.
        records: URL of the record store, or the records themselves where the queue runs in their process.
        home: folder that recorded paths are relative to.
        options: the pool's size, prices and patience.
        deadline_seconds: wall time left to the sweep; None for no limit.
        clock: seconds that pass; the waits are those of the event loop that the queue runs in.
    """

    def __init__(
        self,
        sweep: str,
        records: str | RunRecords,
        home: str,
        options: PoolOptions,
        deadline_seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        store = open_store(records) if isinstance(records, str) else records
        self._clock = clock
        self._filing = Filing(sweep, store, home, options, clock)
        self._options = options
        self._whole = deadline_seconds or 0.0
        self._deadline = None if deadline_seconds is None else self._clock() + deadline_seconds
        self._room = WaitingRoom()
        self._read: dict[str, ReadData] = {}  # by worker
        self._granted: dict[int, _Granted] = {}
        self._workers: dict[int, str] = {}
        self._deaths: Counter[JobKey] = Counter()
        self._evictions: Counter[JobKey] = Counter()
        self._withdrawn: set[int] = set()
        self._ticket = itertools.count()
        self._idle: deque[asyncio.Future[None]] = deque()  # questions for work that wait for some
        self._ending: tuple[OutcomeState, str] | None = None
        self._over: dict[Purpose, str] = {}
        self._closed = False
        self._done = 0
        self._busy_seconds = 0.0

    # What trials and the driver ask -----------------------------------------------------------------------------------

    async def run_segments(self, jobs: list[FoldJob], until_epoch: int) -> list[Outcome]:
        """Bring every job to `until_epoch` and answer when all have ended, in the order asked."""
        recorded = self._filing.recorded(jobs, until_epoch)
        answers = [_future(outcome) for outcome in recorded]
        for job, outcome, answer in zip(jobs, recorded, answers, strict=True):
            if outcome is None:
                self._put(Waiting((-until_epoch, next(self._ticket)), job, until_epoch, answer))
        return list(await asyncio.gather(*answers))

    async def run_jobs(self, jobs: list[FoldJob]) -> list[Outcome]:
        """Bring every job to its own last epoch."""
        answers = await asyncio.gather(*(self.run_segments([job], job.epochs) for job in jobs))
        return [answer[0] for answer in answers]

    async def foresee(self, jobs: list[tuple[JobKey, int]]) -> None:
        """These jobs of so many epochs will be asked for, few at a time: the search leaves what all of them take."""
        self._filing.foresee(jobs)

    async def withdraw(self, trial: int) -> None:
        """Early stopping: the trial's waiting segments end now, its running ones at their next question."""
        self._withdrawn.add(trial)
        self._drop_waiting(lambda waiting: waiting.job.key.trial == trial, Outcome("stopped"))
        held = (granted.waiting.job.key for granted in self._granted.values())
        running = {key for key in held if key.trial == trial}
        self._filing.stop_trial(trial, running)

    async def end(self, state: OutcomeState, reason: str) -> None:
        """Grant nothing more and end everything that waits or runs, as `state`."""
        if self._ending is None:
            self._ending = (state, reason)
            self._drop_waiting(lambda waiting: True, Outcome(state, error=reason))

    async def force(self) -> None:
        """End what runs although its worker has not said a word since `end`: nobody waits for it any longer."""
        if self._ending is None:
            return
        state, reason = self._ending
        for granted in list(self._granted.values()):
            if self._take_back(granted.lease, wasted=True) is not None:
                self._filing.end_attempt(granted.waiting.job.key, "interrupted", "forced: its worker did not answer")
                _answer(granted.waiting, Outcome(state, granted.epoch, error=reason))

    async def abandon(self, reason: str) -> None:
        """End everything as failed without a word to the records, which can't take one."""
        self._ending = self._ending or ("failed", reason)
        for granted in self._granted.values():
            _answer(granted.waiting, Outcome("failed", granted.epoch, error=reason))
        self._granted.clear()
        self._drop_waiting(lambda waiting: True, Outcome("failed", error=reason))

    async def close(self) -> None:
        """Send the workers home: whoever asks for work is told that there will be none."""
        self._closed = True
        while self._call_one():
            pass

    async def pool_died(self, reason: str) -> None:
        """The Ray Train run is over and nobody will ask for work again."""
        for granted in list(self._granted.values()):
            self._return(granted, "group", lost=False, error=reason)
        await self.end("failed", reason)

    async def snapshot(self) -> PoolSnapshot:
        """What the progress view shows."""
        now = self._clock()
        open_seconds = sum(now - granted.granted_at for granted in self._granted.values())
        return PoolSnapshot(
            running=tuple(_line(granted) for granted in self._granted.values()),
            waiting=len(self._room),
            segments_done=self._done,
            busy_seconds=self._options.workers_per_fold * (self._busy_seconds + open_seconds),
            warm_workers=len(self._workers),
            ending=self._ending,
            search_over=self._over.get("search"),
            comparators_over=self._over.get("comparator"),
        )

    async def measures(self) -> PoolMeasures:
        """What the driver's metrics are made of."""
        meter, now = self._filing.meter, self._clock()
        held = self._granted.values()
        return PoolMeasures(
            warm=len(self._workers),
            busy=self._options.workers_per_fold * len({granted.worker for granted in held}),
            waiting=dict(Counter(waiting.job.key.phase for waiting in self._room)),
            running=dict(Counter(granted.waiting.job.key.phase for granted in held)),
            durations=meter.durations,
            ended=dict(meter.ended),
            epochs=dict(meter.epochs),
            retries=dict(meter.retries),
            lapsed=meter.lapsed,
            busy_seconds=self._options.workers_per_fold
            * (self._busy_seconds + sum(now - granted.granted_at for granted in held)),
            progress_at=meter.progress_at,
            tallies=meter.tallies(),
        )

    # What workers ask -------------------------------------------------------------------------------------------------

    async def tell(self, worker: str, sums: Mapping[Tally, float]) -> None:
        """What a worker's process has counted so far, for `measures`."""
        self._filing.meter.tell(worker, sums)

    async def register(self, worker: str, rank: int) -> None:
        """A worker begins. One of the same rank before it is gone: what it held goes back to the queue."""
        before = self._workers.get(rank)
        self._workers[rank] = worker
        self._read.pop(before or worker, None)
        for granted in [held for held in self._granted.values() if held.worker == before]:
            # Ray Train restarts the whole group for one dead rank; `rank_died` has counted the culprit by now.
            self._return(granted, "group", lost=False, error="the worker group was restarted")

    async def rank_died(
        self, rank: int, error: str, cause: RetryCause = "eviction", is_node_gone: bool = False
    ) -> None:
        """Ray Train says that this rank is dead, or raised: what its group held went with it."""
        worker = self._workers.get(self._options.leader(rank))
        for granted in [held for held in self._granted.values() if held.worker == worker]:
            self._return(granted, cause, lost=True, error=error, evicted=is_node_gone)

    @_ends_sweep_without_records
    async def lease(self, worker: str) -> Segment | PoolClosed | None:
        """The next segment for `worker`; None after a while without one."""
        if not self._room and not self._closed:
            called = asyncio.get_running_loop().create_future()
            self._idle.append(called)
            try:
                await asyncio.wait_for(called, self._options.poll_seconds)
            except TimeoutError:
                return None
        if self._closed:
            return PoolClosed()
        read = self._read.setdefault(worker, ReadData())
        while (waiting := self._room.next_for(read)) is not None:
            key = waiting.job.key
            lease = self._out_of_time(key, self._options.quantum_seconds) or self._filing.reserve(worker, key)
            if not isinstance(lease, Denial):
                self._room.take(waiting)
                read.add(waiting.job)
                self._granted[lease] = _Granted(waiting, worker, lease, self._clock())
                attempt = self._filing.begin(key, worker)
                return Segment(lease, waiting.job, waiting.until_epoch, attempt, self._options.quantum_seconds)
            if lease.passing:
                await asyncio.sleep(ROOM_SECONDS)
                return None
            await self._run_out(purpose_of(key), lease)
        return None

    @_ends_sweep_without_records
    async def renew(self, lease: int) -> bool:
        """Reserve another quantum. False: stop now."""
        granted = self._granted.get(lease)
        if granted is None or not self._may_go_on(granted):
            return False
        key = granted.waiting.job.key
        denial = self._out_of_time(key, 0.0) or self._filing.extend(lease)
        if denial is not None and denial.passing:
            granted.paused = True
        elif denial is not None:
            await self._run_out(purpose_of(key), denial)
        return denial is None

    @_ends_sweep_without_records
    async def report(self, lease: int, epoch: int, metrics: dict[str, float]) -> bool:
        """File an epoch's metrics, once. False: stop now."""
        granted = self._granted.get(lease)
        if granted is None:
            return False
        granted.epoch = epoch
        granted.reported_at.append(self._clock())
        self._filing.result(granted.waiting.job.key, epoch, metrics)
        return bool(await self.renew(lease))

    @_ends_sweep_without_records
    async def finished(self, lease: int, result: SegmentResult) -> None:
        """The segment reached its rung."""
        granted = self._take_back(lease)
        if granted is None:
            return
        job = granted.waiting.job
        self._filing.result(job.key, result.epoch, result.metrics)
        if result.epoch >= job.epochs:
            self._filing.succeed(job.key, result)
        self._done += 1
        _answer(
            granted.waiting,
            Outcome(
                "done",
                result.epoch,
                dict(result.metrics),
                self._filing.relative(result.predictions),
                result.predictions_digest,
                epoch_seconds=granted.epoch_seconds,
            ),
        )

    @_ends_sweep_without_records
    async def stopped(self, lease: int, unanswered: bool = False) -> None:
        """The job stopped because it was told to, or (`unanswered`) since its renewal was not answered in time."""
        granted = self._take_back(lease)
        if granted is None:
            return
        key = granted.waiting.job.key
        withdrawn = key.trial in self._withdrawn
        if (granted.paused or unanswered) and not withdrawn and self._end_of(key) is None:
            self._filing.end_attempt(key, "interrupted", None)
            self._put(granted.waiting)
            return
        self._filing.end_attempt(key, "stopped" if withdrawn else "interrupted", None)
        ending: tuple[OutcomeState, str] = ("stopped", "early stopping")
        state, reason = ending if withdrawn else self._end_of(key) or ending
        _answer(granted.waiting, Outcome(state, granted.epoch, error=reason))

    @_ends_sweep_without_records
    async def failed(self, lease: int, error: str, final: bool) -> None:
        """The job raised. Unless that is final it is tried again, as often as a worker may die of it."""
        granted = self._granted.get(lease)
        if granted is not None:
            self._return(granted, "code", lost=True, error=error, final=final)

    # Inside -----------------------------------------------------------------------------------------------------------

    def _put(self, waiting: Waiting) -> None:
        over = self._end_of(waiting.job.key)
        if over is not None:
            _answer(waiting, Outcome(over[0], error=over[1]))
            return
        self._room.put(waiting)
        self._call_one()

    def _call_one(self) -> bool:
        """Wake one idle worker: to wake them all for each segment would have hundreds ask again for nothing."""
        while self._idle:
            called = self._idle.popleft()
            if not called.done():
                called.set_result(None)
                return True
        return False

    def _return(
        self,
        granted: _Granted,
        cause: RetryCause,
        *,
        lost: bool,
        error: str,
        final: bool = False,
        evicted: bool = False,
    ) -> None:
        """Take a segment from a worker that did not finish it, and queue it again unless it has failed for good.

        A node that goes takes its jobs along through no fault of theirs: evictions have a count and a limit of their
        own. A worker that dies alone may have died of its job.
        """
        if self._take_back(granted.lease, wasted=True) is None:
            return
        waiting = granted.waiting
        key = waiting.job.key
        counted, most = (
            (self._evictions, self._options.max_evictions) if evicted else (self._deaths, self._options.max_deaths)
        )
        counted[key] += lost
        if final or counted[key] >= most:
            tries = "" if final else f" ({counted[key]} times)"
            message = f"{key}: {error}{tries}"
            self._filing.fail(key, message)
            _answer(waiting, Outcome("failed", granted.epoch, error=message))
        else:
            self._filing.end_attempt(key, "interrupted", error)
            self._filing.meter.retries[cause] += 1
            self._put(waiting)

    def _take_back(self, lease: int, wasted: bool = False) -> _Granted | None:
        granted = self._granted.pop(lease, None)
        if granted is None:
            return None
        seconds = self._clock() - granted.granted_at
        self._busy_seconds += seconds
        self._filing.settle(lease, granted.waiting.job.key, seconds, wasted)
        return granted

    def _may_go_on(self, granted: _Granted) -> bool:
        key = granted.waiting.job.key
        return self._end_of(key) is None and key.trial not in self._withdrawn

    def _end_of(self, key: JobKey) -> tuple[OutcomeState, str] | None:
        """How and why what `key` serves is over; None while it goes on."""
        reason = self._over.get(purpose_of(key))
        return self._ending or (None if reason is None else ("exhausted", reason))

    def _out_of_time(self, key: JobKey, needed_seconds: float) -> Denial | None:
        """The denial where wall time is used up but for what the evaluation will need."""
        if self._deadline is None:
            return None
        left = self._deadline - self._clock()
        kept = self._filing.kept_wall(key, self._whole)
        if left >= needed_seconds + kept:
            return None
        for_what = f": of the {max(left, 0.0):.0f} s left, {kept:.0f} s are kept for the evaluation" if kept else ""
        return self._filing.out_of_time(
            f"budget.wall_seconds is used up: no time is left for another lease{for_what}", key, left
        )

    async def _run_out(self, purpose: Purpose, denial: Denial) -> None:
        """No more leases for this purpose. What is more important goes on, if it can be paid for."""
        if denial.final:
            await self.end("exhausted", denial.reason)
            return
        self._over.setdefault(purpose, denial.reason)
        outcome = Outcome("exhausted", error=denial.reason)
        self._drop_waiting(lambda waiting: purpose_of(waiting.job.key) == purpose, outcome)

    def _drop_waiting(self, condition: Callable[[Waiting], bool], outcome: Outcome) -> None:
        for waiting in self._room.drop(condition):
            _answer(waiting, outcome)


def _answer(waiting: Waiting, outcome: Outcome) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(outcome)


def _future(outcome: Outcome | None) -> asyncio.Future[Outcome]:
    """An answer that is there already, or is to come."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    if outcome is not None:
        future.set_result(outcome)
    return future


def _line(granted: _Granted) -> str:
    key = granted.waiting.job.key
    inner = "" if key.inner is None else f".{key.inner}"
    who = key.method if key.trial is None else f"{key.method} #{key.trial}"
    return f"{who} fold {key.fold}{inner} seed {key.seed}: epoch {granted.epoch}/{granted.waiting.until_epoch}"
