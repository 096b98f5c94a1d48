"""What a pool counts while it works: for whoever scrapes its driver, never for a decision.

The queue actor holds one `Meter`; workers send it the tallies of their own processes, so that one port, the driver's,
tells of all of them.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from duchenne_jobs.data import tallies
from duchenne_jobs.training import JobKey

RetryCause: TypeAlias = Literal["code", "eviction", "group"]
RETRY_CAUSES: Final[tuple[RetryCause, ...]] = get_args(RetryCause)
"""A job runs again since it raised; since its worker or node went away; since Ray Train restarted its whole group."""

JOB_ENDS: Final = ("succeeded", "failed", "stopped")
JOB_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
"""Upper bounds of the histogram's buckets: folds of toys take tenths of a second, of videos hours."""
SEND_SECONDS: Final = 2.0


@dataclass
class Durations:
    """A histogram: how many values fell into each bucket of JOB_SECONDS and above the last, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(JOB_SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one value; a bound belongs to its bucket."""
        self.counts[bisect_left(JOB_SECONDS, seconds)] += 1
        self.total += seconds


@dataclass(frozen=True)
class PoolMeasures:
    """A pool at one moment. Counts only grow; `workers` and the segments are what they are now.

    Attributes:
        warm, busy: workers that have asked for work, and those of them that hold a segment.
        waiting, running: segments by phase.
        durations: worker-seconds of the attempts that ended a fold job, by phase.
        ended: fold jobs by (phase, how they ended).
        epochs: epochs filed, by phase.
        retries: segments that went back to the queue, by cause.
        lapsed: leases that ran out under a worker that went on, and were taken anew.
        busy_seconds: worker-seconds under leases.
        progress_at: seconds since 1970 when an epoch was filed last, or when the queue began.
        tallies: `duchenne_jobs.data.tallies`, summed over all workers there ever were.
    """

    warm: int
    busy: int
    waiting: dict[str, int]
    running: dict[str, int]
    durations: dict[str, Durations]
    ended: dict[tuple[str, str], int]
    epochs: dict[str, int]
    retries: dict[str, int]
    lapsed: int
    busy_seconds: float
    progress_at: float
    tallies: dict[str, float]


class Meter:
    """The queue's counts. One thread writes: the actor's event loop."""

    def __init__(self) -> None:
        self.durations: dict[str, Durations] = {}
        self.ended: Counter[tuple[str, str]] = Counter()
        self.epochs: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.lapsed = 0
        self.progress_at = time.time()
        self._tallies: dict[str, Mapping[tallies.Tally, float]] = {}

    def filed(self, key: JobKey) -> None:
        """An epoch is on record that was not."""
        self.epochs[key.phase] += 1
        self.progress_at = time.time()

    def attempt_ended(self, key: JobKey, outcome: str, seconds: float) -> None:
        """An attempt is over; those that end their job are told."""
        if outcome in JOB_ENDS:
            self.ended[key.phase, outcome] += 1
            self.durations.setdefault(key.phase, Durations()).add(seconds)

    def tell(self, worker: str, sums: Mapping[tallies.Tally, float]) -> None:
        """What a worker has counted since its process began; the last word of a dead one stays."""
        self._tallies[worker] = sums

    def tallies(self) -> dict[str, float]:
        """The sums over all workers."""
        return {name: sum(sums.get(name, 0.0) for sums in self._tallies.values()) for name in tallies.TALLIES}


class TallySender:
    """Sends a worker's tallies to the queue while the block lasts, and once more at its end. Nobody waits for it.

    Args:
        queue: the queue actor's handle.
        wanted: whether somebody scrapes; otherwise nothing is started.
    """

    def __init__(self, queue: Any, worker: str, *, wanted: bool) -> None:
        self._queue = queue
        self._worker = worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_on, name="tallies", daemon=True) if wanted else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()

    def _send_on(self) -> None:
        last: Mapping[tallies.Tally, float] = {}
        over = False
        while not over:
            over = self._over.wait(SEND_SECONDS)
            now = tallies.HERE.read()
            if now != last:
                self._queue.tell.remote(self._worker, now)
                last = now
