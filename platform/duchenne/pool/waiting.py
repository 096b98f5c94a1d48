"""Segments that wait for a worker: those further along first, and of these the one whose data the worker has read.

No clock, no records and no Ray: what is granted next is a pure function of what was put and taken.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from duchenne.pool.messages import Outcome
from duchenne_jobs.training import FoldJob
from duchenne_jobs.training.job import JobKey

PASSES = 8
"""How often the first in line may be passed over for one whose data a worker has read."""

REMEMBERED = 16
"""Data of which a worker is taken to have kept: as many splits as its runner keeps."""

SLACK = 64  # of the line, before what was taken out of turn is swept out of it

Mark = Hashable
"""What two segments have in common that spares the second one work."""


@dataclass(order=True)
class Waiting:
    """A segment that somebody awaits.

    Attributes:
        rank: (-until_epoch, order of asking): segments further along go first, they finish what has been paid for.
        passed: how often it was the first in line and another was taken.
    """

    rank: tuple[int, int]
    job: FoldJob = field(compare=False)
    until_epoch: int = field(compare=False)
    answer: asyncio.Future[Outcome] = field(compare=False)
    passed: int = field(default=0, compare=False)


class ReadData:
    """What a worker's process has read and, as far as can be told, still keeps."""

    def __init__(self) -> None:
        self._job: JobKey | None = None
        self._splits: OrderedDict[Mark, None] = OrderedDict()
        self._folds: OrderedDict[Mark, None] = OrderedDict()

    def add(self, job: FoldJob) -> None:
        """The worker was given this job."""
        self._job, split, fold = _marks_of(job)
        for mark, marks in ((split, self._splits), (fold, self._folds)):
            marks[mark] = None
            marks.move_to_end(mark)
            if len(marks) > REMEMBERED:
                marks.popitem(last=False)

    def __iter__(self) -> Iterator[Mark]:
        """Nearest first: the job whose network is warm, splits that are loaded, folds whose shards are cached."""
        if self._job is not None:
            yield self._job
        yield from reversed(self._splits)
        yield from reversed(self._folds)


class WaitingRoom:
    """See the module. A segment that is first in line is granted after at most `PASSES` others of its epoch."""

    def __init__(self) -> None:
        self._line: list[Waiting] = []  # a heap; what was taken out of turn stays until it comes to the top
        self._here: dict[int, Waiting] = {}
        self._by_mark: dict[tuple[int, Mark], dict[int, Waiting]] = {}

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._here.values())

    def put(self, waiting: Waiting) -> None:
        """Let one wait; one that comes back keeps its place."""
        heapq.heappush(self._line, waiting)
        self._here[_ticket(waiting)] = waiting
        for mark in _marks_of(waiting.job):
            self._by_mark.setdefault((waiting.until_epoch, mark), {})[_ticket(waiting)] = waiting

    def next_for(self, read: ReadData) -> Waiting | None:
        """Whom a worker that has read `read` should be given; None where nobody waits. It stays until `take`."""
        first = self._first()
        if first is None or first.passed >= PASSES:
            return first
        for mark in read:
            alike = self._by_mark.get((first.until_epoch, mark))
            if alike:
                return next(iter(alike.values()))
        return first

    def take(self, waiting: Waiting) -> None:
        """Remove one that was granted."""
        first = self._first()
        if first is not None and first is not waiting:
            first.passed += 1
        self._remove(waiting)

    def drop(self, condition: Callable[[Waiting], bool]) -> list[Waiting]:
        """Remove all of which it holds."""
        dropped = [waiting for waiting in self._here.values() if condition(waiting)]
        for waiting in dropped:
            self._remove(waiting)
        return dropped

    def _first(self) -> Waiting | None:
        while self._line and _ticket(self._line[0]) not in self._here:
            heapq.heappop(self._line)
        return self._line[0] if self._line else None

    def _remove(self, waiting: Waiting) -> None:
        del self._here[_ticket(waiting)]
        for mark in _marks_of(waiting.job):
            alike = self._by_mark[waiting.until_epoch, mark]
            del alike[_ticket(waiting)]
            if not alike:
                del self._by_mark[waiting.until_epoch, mark]
        if len(self._line) > 2 * len(self._here) + SLACK:
            self._line = list(self._here.values())
            heapq.heapify(self._line)


def _ticket(waiting: Waiting) -> int:
    return waiting.rank[1]


def _marks_of(job: FoldJob) -> tuple[JobKey, Mark, Mark]:
    """The job, the split that it trains on, and its fold: all shards but those of the fold's test subjects alone."""
    key = job.key
    return key, (job.dataset_digest, key.fold, key.inner), (job.dataset_digest, key.fold)
