"""The train loop of a pool worker: lease a segment, run it, report, lease again."""

from __future__ import annotations

import logging
import os
import time
import traceback
import uuid
from typing import Any

from duchenne.pool.messages import JobRunner, PoolClosed, Segment
from duchenne_jobs.training import JobFailed, JobStopped

LOGGER = logging.getLogger("duchenne.pool")


class LeaseContext:
    """`duchenne_jobs.training.JobContext` of a leased segment: renews the lease in time, or ends the job."""

    def __init__(self, queue: Any, segment: Segment) -> None:
        self._queue = queue
        self._segment = segment
        self._renew_at = time.monotonic() + segment.quantum_seconds / 2

    def tick(self) -> None:
        """Renew when half the quantum is gone. Raises `JobStopped` when the queue says no."""
        if time.monotonic() < self._renew_at:
            return
        self._ask(self._queue.renew.remote(self._segment.lease))

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """File an epoch's metrics. Raises `JobStopped` when the queue says no."""
        self._ask(self._queue.report.remote(self._segment.lease, epoch, metrics))

    def _ask(self, answer: Any) -> None:
        import ray

        if not ray.get(answer):
            raise JobStopped
        self._renew_at = time.monotonic() + self._segment.quantum_seconds / 2


def pool_loop(config: dict[str, Any]) -> None:
    """Run on every rank by Ray Train until the queue closes.

    Args:
        config: `queue` and `namespace` (the queue actor's name), `options` (`PoolOptions`),
            `runner` (makes the worker's `JobRunner`).
    """
    import ray
    import ray.train
    import torch

    options = config["options"]  # duchenne.pool.PoolOptions
    torch.set_num_threads(max(1, int(options.cpus)))
    queue = ray.get_actor(config["queue"], namespace=config["namespace"])
    rank = ray.train.get_context().get_world_rank()
    worker = f"rank{rank}-pid{os.getpid()}-{uuid.uuid4().hex[:6]}"
    runner: JobRunner = config["runner"]()
    ray.get(queue.register.remote(worker, rank))
    while True:
        work = ray.get(queue.lease.remote(worker))
        if isinstance(work, PoolClosed):
            return
        if work is not None:
            _run_segment(queue, runner, work)


def _run_segment(queue: Any, runner: JobRunner, segment: Segment) -> None:
    """Run one segment and tell the queue how it ended; an error of the job is no error of the worker."""
    import ray

    try:
        result = runner.run(segment.job, segment.until_epoch, LeaseContext(queue, segment))
    except JobStopped:
        ray.get(queue.stopped.remote(segment.lease))
    except JobFailed as error:
        ray.get(queue.failed.remote(segment.lease, str(error), final=True))
    except Exception as error:
        # Anything else may pass when tried again: a full disk, a lost mount. The queue counts the tries.
        LOGGER.error("%s: %s", segment.job.key, traceback.format_exc())
        ray.get(queue.failed.remote(segment.lease, f"{type(error).__name__}: {error}", final=False))
    else:
        ray.get(queue.finished.remote(segment.lease, result))
