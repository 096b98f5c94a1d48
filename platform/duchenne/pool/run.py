"""Starts a fold pool and closes it: the queue actor, and the one Ray Train run whose workers pull from it."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from duchenne.pool.asking import Window
from duchenne.pool.measures import PoolMeasures
from duchenne.pool.messages import (
    MAX_GROUP_RESTARTS,
    MAX_PREEMPTIONS,
    NAMESPACE,
    JobRunner,
    Outcome,
    PoolOptions,
    PoolSnapshot,
)
from duchenne.pool.queue import JobQueue
from duchenne.pool.worker import pool_loop
from duchenne_jobs.training import FoldJob

# Ray's words where an actor's node was lost, preempted or cut off: no fault of what ran there.
_NODE_WENT = re.compile(r"node\b.{0,40}\b(died|dead|terminated|unreachable|lost)|preempt", re.IGNORECASE | re.DOTALL)
CLOSE_SECONDS = 30.0
FORCE_SECONDS = 60.0  # after which a stop does not wait for the workers any longer
ANSWER_SECONDS = 120.0  # the queue starts while others do: on a busy machine that takes its time


class _RankWatch(ray.train.UserCallback):  # type: ignore[misc]
    """Tells the queue which ranks died. Runs in Ray Train's controller."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        queue = ray.get_actor(self._queue, namespace=NAMESPACE)
        # Ranks that died come first: what the others of a group raised is that they miss it.
        raised = {rank: isinstance(error, UserExceptionWithTraceback) for rank, error in worker_exceptions.items()}
        for rank, error in sorted(worker_exceptions.items(), key=lambda one: raised[one[0]]):
            if raised[rank]:
                ray.get(queue.rank_died.remote(rank, f"its worker raised: {_first_line(error)}", "code"))
            else:
                gone = _NODE_WENT.search(str(error)) is not None
                told = f"its {'node' if gone else 'worker'} died: {_first_line(error)}"
                ray.get(queue.rank_died.remote(rank, told, "eviction", gone))


class FoldPool:
    """A warm pool of workers on the Ray cluster that this process is connected to.

    Args:
        sweep: id of the sweep that it works for.
        records: URL of the record store.
        home: folder that recorded paths are relative to.
        storage: folder for Ray's own state, which nobody reads afterwards.
        options: size and patience.
        runner: makes the `JobRunner` of each worker.
        deadline_seconds: wall time left to the sweep; None for no limit.

    Attributes:
        node_resource: what the driver's node has of and no other.
    """

    def __init__(
        self,
        sweep: str,
        records: str,
        home: Path,
        storage: Path,
        options: PoolOptions,
        runner: Callable[..., JobRunner],
        deadline_seconds: float | None = None,
    ) -> None:
        self._options = options
        self._runner = runner
        self.workers = options.workers
        self.storage = storage
        self.queue_name = f"queue-{sweep}-{uuid.uuid4().hex[:6]}"
        self.node_resource = _own_node_resource()
        actor = ray.remote(JobQueue).options(
            name=self.queue_name,
            namespace=NAMESPACE,
            num_cpus=0,
            max_concurrency=10_000,
            max_restarts=0,
            # An actor that holds nothing may be put anywhere, and a worker's node may go.
            scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        )
        self.queue: Any = actor.remote(sweep, records, str(home), options, deadline_seconds)
        self._thread = threading.Thread(target=self._train, name="fold-pool", daemon=True)
        self._forced: threading.Timer | None = None

    def start(self) -> None:
        """Begin to warm the workers; returns at once. Segments may be asked for already."""
        self._thread.start()

    def ask(self, jobs: Sequence[FoldJob]) -> Future[list[Outcome]]:
        """Ask for jobs to be run to their last epoch, a window of them at a time; `wait` takes what this returns."""
        asked: Future[list[Outcome]] = Future()
        threading.Thread(target=self._ask_on, args=(jobs, asked), name="asking", daemon=True).start()
        return asked

    def withdraw(self, trial: int) -> None:
        """End a trial's segments: its scheduler gave it up. Nobody waits for it."""
        self.queue.withdraw.remote(trial)

    def wait(self, asked: Sequence[Future[list[Outcome]]]) -> list[Outcome]:
        """Wait for everything that was asked."""
        return [outcome for each in asked for outcome in each.result()]

    def end(self, state: str, reason: str) -> None:
        """Grant nothing more; what waits or runs ends as `state`, at its next step or after `FORCE_SECONDS`."""
        ray.get(self.queue.end.remote(state, reason))
        if self._forced is None:
            self._forced = threading.Timer(FORCE_SECONDS, lambda: self.queue.force.remote())
            self._forced.daemon = True
            self._forced.start()

    def snapshot(self) -> PoolSnapshot:
        """The pool at this moment."""
        snapshot: PoolSnapshot = ray.get(self.queue.snapshot.remote(), timeout=ANSWER_SECONDS)
        return snapshot

    def measures(self, patience: float) -> PoolMeasures:
        """What the pool has counted. Raises RayError where it does not answer within `patience` seconds."""
        measured: PoolMeasures = ray.get(self.queue.measures.remote(), timeout=patience)
        return measured

    def close(self) -> None:
        """Send the workers home and remove the queue. A pool that doesn't end in time goes with its driver's Ray."""
        try:
            if self._forced is not None:
                self._forced.cancel()
            ray.get(self.queue.close.remote(), timeout=10)
            if self._thread.is_alive():
                self._thread.join(CLOSE_SECONDS)
        finally:
            ray.kill(self.queue)

    def _ask_on(self, jobs: Sequence[FoldJob], asked: Future[list[Outcome]]) -> None:
        most = self._options.max_asked
        window: Window[FoldJob, list[Outcome]] = Window(
            most, lambda job: self.queue.run_jobs.remote([job]), ray.wait, ray.get
        )
        try:
            for start in range(0, len(jobs), most):
                foreseen = [(job.key, job.epochs) for job in jobs[start : start + most]]
                ray.get(self.queue.foresee.remote(foreseen))
            asked.set_result([outcome for (outcome,) in window.run(jobs)])
        except Exception as error:  # raised where `wait` is called
            asked.set_exception(error)

    def _train(self) -> None:
        options = self._options
        trainer = TorchTrainer(
            pool_loop,
            train_loop_config={
                "queue": self.queue_name,
                "namespace": NAMESPACE,
                "options": options,
                "runner": self._runner,
            },
            # The ranks only meet in it: a group that trains makes one of its own, and workers may share a GPU.
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=options.workers,
                use_gpu=options.gpus > 0,
                resources_per_worker={"CPU": options.cpus} | ({"GPU": options.gpus} if options.gpus else {}),
            ),
            run_config=ray.train.RunConfig(
                name=self.queue_name,
                storage_path=str(self.storage),
                failure_config=ray.train.FailureConfig(
                    max_failures=MAX_GROUP_RESTARTS,
                    controller_failure_limit=MAX_GROUP_RESTARTS,
                    max_preemption_failures=MAX_PREEMPTIONS,
                ),
                callbacks=[_RankWatch(self.queue_name)],
            ),
        )
        reason = "the pool's workers ended before the sweep did"
        try:
            trainer.fit()
        except Exception as error:
            reason = f"the pool's workers failed: {_first_line(error)}"
        if not ray.is_initialized():
            return  # the driver has left: to ask would connect this thread anew
        try:
            ray.get(self.queue.pool_died.remote(reason), timeout=10)
        except ray.exceptions.RayActorError:
            return  # the queue was closed first: the sweep is over


def _own_node_resource() -> str:
    """The resource that this process's node has and no other: what holds some of it stays beside the driver."""
    own = ray.get_runtime_context().get_node_id()
    resources: dict[str, float] = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == own)
    return next(name for name in resources if name.startswith("node:") and not name.startswith("node:__"))


def _first_line(error: Exception) -> str:
    """An error in one line; Ray puts what a worker raised into one of its own."""
    if isinstance(error, UserExceptionWithTraceback):
        error = error._base_exc
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
