"""The train loop of a pool worker: lease a segment, run it, report, lease again."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from duchenne.pool.groups import join_ranks
from duchenne.pool.measures import TallySender
from duchenne.pool.messages import JobRunner, PoolClosed, PoolOptions, Segment
from duchenne_jobs.training import JobFailed, JobStopped
from duchenne_jobs.training.ranks import RankError, Ranks

LOGGER = logging.getLogger("duchenne.pool")
JOIN_SECONDS = 1.0


class LeaseContext:
    """`duchenne_jobs.training.JobContext` of a leased segment.

    A thread renews the lease while the block lasts, however long a batch or a fit takes; the job hears of a refusal at
    its next step. A queue that does not answer has not renewed: by the worker's own clock the job stops a quantum after
    the last renewal that was granted, and saves in the grace that was reserved beyond it.
    """

    def __init__(self, queue: Any, segment: Segment, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._segment = segment
        self._clock = clock
        self._paid_until = clock() + segment.quantum_seconds
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
        # A thread that waits for an answer ends when its patience does; nobody waits for it.
        self._thread.join(timeout=JOIN_SECONDS)

    @property
    def is_unanswered(self) -> bool:
        """Whether the lease ran out since nobody answered, which is not a refusal."""
        return not self._refused.is_set() and self._clock() >= self._paid_until

    def tick(self) -> None:
        """Raises `JobStopped` when the queue has refused to renew, or has not said yes in time."""
        if self._refused.is_set() or self._clock() >= self._paid_until:
            raise JobStopped

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """File an epoch's metrics. Raises `JobStopped` when the queue says no, or nothing."""
        if not self._ask(self._queue.report, epoch, metrics):
            raise JobStopped

    def _renew(self) -> None:
        while not self._over.wait(self._segment.quantum_seconds / 2):
            if not self._ask(self._queue.renew) and not self._over.is_set():
                return

    def _ask(self, method: Any, *arguments: Any) -> bool:
        """Whether the queue says yes, and so has renewed, before what is paid for is over."""
        import ray

        asked_at = self._clock()
        try:
            answer = ray.get(
                method.remote(self._segment.lease, *arguments), timeout=max(0.1, self._paid_until - asked_at)
            )
        except ray.exceptions.GetTimeoutError:
            LOGGER.warning("%s: the queue did not answer in time; the job stops", self._segment.job.key)
            self._paid_until = asked_at  # what it may still say comes too late
            return False
        except ray.exceptions.RayError as error:
            LOGGER.warning("the queue is gone: %s", error)
            answer = False
        if not answer:
            self._refused.set()
            return False
        self._paid_until = asked_at + self._segment.quantum_seconds
        return True


class FollowerContext:
    """The context of a rank that follows the first of its group: it asks nobody."""

    def tick(self) -> None:
        """Never ends the job."""

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """The first rank reports."""


def pool_loop(config: dict[str, Any]) -> None:
    """Run on every rank by Ray Train until the queue closes.

    Args:
        config: `queue` and `namespace` (the queue actor's name), `options` (`PoolOptions`),
            `runner` (makes the worker's `JobRunner`; is given the `Ranks` of its group where they are several).
    """
    import ray
    import ray.train.torch
    import torch

    options: PoolOptions = config["options"]
    torch.set_num_threads(max(1, int(options.cpus)))
    if options.gpus and torch.cuda.is_available():
        # Ray Train shows each worker the GPUs of all workers on its node; what is Ray's for this one is not the first.
        torch.cuda.set_device(ray.train.torch.get_device())
    queue = ray.get_actor(config["queue"], namespace=config["namespace"])
    rank = ray.train.get_context().get_world_rank()
    worker = f"rank{rank}-pid{os.getpid()}-{uuid.uuid4().hex[:6]}"
    ranks = join_ranks(options, rank)
    runner: JobRunner = config["runner"]() if ranks.size == 1 else config["runner"](ranks)
    ray.get(queue.register.remote(worker, rank))
    with TallySender(queue, worker, wanted=options.measured):
        while True:
            work = _next_work(queue, worker, ranks)
            if isinstance(work, PoolClosed):
                return
            if work is not None and ranks.is_first:
                _run_segment(queue, runner, work, ranks)
            elif work is not None:
                _follow(runner, work)


def _next_work(queue: Any, worker: str, ranks: Ranks) -> Segment | PoolClosed | None:
    """What the first rank of the group was given, on all of them."""
    import ray

    work: Segment | PoolClosed | None = ray.get(queue.lease.remote(worker)) if ranks.is_first else None
    if ranks.size == 1:
        return work
    shared = ranks.share(pickle.dumps(work))
    assert shared is not None  # noqa: S101 - the first rank always has something to say
    heard: Segment | PoolClosed | None = pickle.loads(shared)  # noqa: S301 - from the first rank of this very group
    return heard


def _run_segment(queue: Any, runner: JobRunner, segment: Segment, ranks: Ranks) -> None:
    """Run one segment and tell the queue how it ended; an error of the job is no error of the worker."""
    import ray

    context = LeaseContext(queue, segment)
    try:
        with context:
            result = runner.run(segment.job, segment.until_epoch, context)
    except JobStopped:
        ray.get(queue.stopped.remote(segment.lease, context.is_unanswered))
    except JobFailed as error:
        ray.get(queue.failed.remote(segment.lease, str(error), final=True))
    except Exception as error:
        if ranks.size > 1 and not isinstance(error, RankError):
            raise  # the group has not agreed on it: the others may wait for this rank, so that all begin anew
        # Anything else may pass when tried again: a full disk, a lost mount. The queue counts the tries.
        LOGGER.error("%s: %s", segment.job.key, traceback.format_exc())
        ray.get(queue.failed.remote(segment.lease, f"{type(error).__name__}: {error}", final=False))
    else:
        ray.get(queue.finished.remote(segment.lease, result))


def _follow(runner: JobRunner, segment: Segment) -> None:
    """Run a segment behind the first rank, which tells the queue how it ended."""
    with suppress(JobStopped, JobFailed, RankError):
        runner.run(segment.job, segment.until_epoch, FollowerContext())
