"""The train loop of a pool worker: lease a segment, run it, report, lease again."""

from __future__ import annotations

import logging
import os
import threading
import traceback
import uuid
from types import TracebackType
from typing import Any, Self

from duchenne.pool.messages import JobRunner, PoolClosed, Segment
from duchenne_jobs.training import JobFailed, JobStopped

LOGGER = logging.getLogger("duchenne.pool")


class LeaseContext:
    """`duchenne_jobs.training.JobContext` of a leased segment.

    A thread renews the lease while the block lasts, however long a batch or a fit takes; the job hears of a refusal at
    its next step.
    """

    def __init__(self, queue: Any, segment: Segment) -> None:
        self._queue = queue
        self._segment = segment
        self._refused = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def tick(self) -> None:
        """Raises `JobStopped` when the queue has refused to renew."""
        if self._refused.is_set():
            raise JobStopped

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """File an epoch's metrics. Raises `JobStopped` when the queue says no."""
        import ray

        if not ray.get(self._queue.report.remote(self._segment.lease, epoch, metrics)):
            raise JobStopped

    def _renew(self) -> None:
        import ray

        while not self._over.wait(self._segment.quantum_seconds / 2):
            try:
                going_on = ray.get(self._queue.renew.remote(self._segment.lease))
            except ray.exceptions.RayError as error:
                LOGGER.warning("the queue is gone: %s", error)
                going_on = False
            if not going_on:
                self._refused.set()
                return


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
        with LeaseContext(queue, segment) as context:
            result = runner.run(segment.job, segment.until_epoch, context)
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
