"""The driver's metrics: asked of its pool's queue when somebody scrapes, never pushed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from duchenne.monitoring import catalogue
from duchenne.monitoring.families import Families
from duchenne.pool.measures import JOB_ENDS, JOB_SECONDS, RETRY_CAUSES, Durations, PoolMeasures
from duchenne.records.rows import PHASES

if TYPE_CHECKING:
    from duchenne.pool.run import FoldPool

LOGGER = logging.getLogger("duchenne.monitoring")
ANSWER_SECONDS: Final = 5.0
S3_KINDS: Final = ("denied", "server", "connection", "other")


class PoolCollector(Collector):
    """Metrics of one sweep's pool. A queue that does not answer is told by `duchenne_pool_up` 0, never by an error.

    Args:
        pool: asked at each scrape, by one scrape at a time.
        gpus: of each worker.
    """

    def __init__(self, pool: FoldPool, gpus: float, sweep: str, team: str) -> None:
        self._pool = pool
        self._gpus = gpus
        self._labels = (sweep, team)
        self._lock = threading.Lock()

    def describe(self) -> list[Family]:
        """Nothing: registering must not wait for the queue."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every family of the catalogue's source `driver`; a count that was never raised is 0."""
        families = Families()
        measures = self._measures()
        families.put(catalogue.UP, float(measures is not None), *self._labels)
        if measures is not None:
            self._tell_pool(families, measures)
            self._tell_jobs(families, measures)
            self._tell_data(families, measures.tallies)
        return iter(families)

    def _measures(self) -> PoolMeasures | None:
        from ray.exceptions import RayError

        with self._lock:
            try:
                return self._pool.measures(ANSWER_SECONDS)
            except RayError as error:  # it starts, it is busy for long, or it is gone
                LOGGER.debug("the pool's queue did not answer: %s", type(error).__name__)
                return None

    def _tell_pool(self, families: Families, measures: PoolMeasures) -> None:
        idle = max(0, measures.warm - measures.busy)
        starting = max(0, self._pool.workers - measures.warm)
        for state, number in (("busy", measures.busy), ("idle", idle), ("starting", starting)):
            families.put(catalogue.WORKERS, number, *self._labels, state)
        for state, number in (("busy", measures.busy), ("idle", idle)):
            families.put(catalogue.GPUS, number * self._gpus, *self._labels, state)
        families.put(catalogue.BUSY, measures.busy_seconds, *self._labels)
        families.put(catalogue.LAPSED, measures.lapsed, *self._labels)
        families.put(catalogue.DRIVER_PROGRESS, measures.progress_at, *self._labels)

    def _tell_jobs(self, families: Families, measures: PoolMeasures) -> None:
        for phase in PHASES:
            labels = (*self._labels, phase)
            families.put(catalogue.QUEUE, measures.waiting.get(phase, 0), *labels)
            families.put(catalogue.RUNNING, measures.running.get(phase, 0), *labels)
            families.put(catalogue.EPOCHS, measures.epochs.get(phase, 0), *labels)
            durations = measures.durations.get(phase) or Durations()
            families.put_durations(catalogue.JOB_SECONDS, JOB_SECONDS, durations, *labels)
            for outcome in JOB_ENDS:
                families.put(catalogue.JOBS_ENDED, measures.ended.get((phase, outcome), 0), *labels, outcome)
        for cause in RETRY_CAUSES:
            families.put(catalogue.RETRIES, measures.retries.get(cause, 0), *self._labels, cause)

    def _tell_data(self, families: Families, tallies: dict[str, float]) -> None:
        families.put(catalogue.IMAGES, tallies["images"], *self._labels)
        families.put(catalogue.WAIT, tallies["wait_seconds"], *self._labels)
        families.put(catalogue.STALLS, tallies["stalls"], *self._labels)
        families.put(catalogue.CACHE, tallies["cache_hits"], *self._labels, "hit")
        families.put(catalogue.CACHE, tallies["cache_misses"], *self._labels, "miss")
        families.put(catalogue.S3_ATTEMPTS, tallies["s3_attempts"], *self._labels)
        for kind in S3_KINDS:
            families.put(catalogue.S3_ERRORS, tallies[f"s3_{kind}"], *self._labels, kind)
