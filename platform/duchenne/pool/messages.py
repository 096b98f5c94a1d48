"""What travels between the queue, the workers, the trials and the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from duchenne.plan.holdback import EvaluationNeed
from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
from duchenne.records import Amounts
from duchenne_jobs.training import FoldJob, JobContext, SegmentResult

NAMESPACE = "duchenne"  # Ray's, for the names of actors
MAX_GROUP_RESTARTS = 20  # how often Ray Train starts the workers again, for dead ones and for nodes that went
MAX_PREEMPTIONS = 50
OutcomeState = Literal["done", "failed", "stopped", "exhausted"]


class JobRunner(Protocol):
    """Runs segments on a worker; one is made for each worker and kept warm."""

    def run(self, job: FoldJob, until_epoch: int, context: JobContext) -> SegmentResult:
        """See `duchenne_jobs.training.runner.FoldJobRunner.run`."""
        ...


@dataclass(frozen=True)
class PoolOptions:
    """Size and patience of a pool.

    Attributes:
        workers: ranks of the Ray Train run, a multiple of `workers_per_fold`.
        cpus, gpus: resources of each.
        usd_per_second: price of one worker, billed in `billing_quantum_seconds`; 0 bills fractions.
        workers_per_fold: ranks that run a segment together, under one lease.
        need: what the evaluation will be, for which the search leaves a share; None holds nothing back.
        team: what the sweep's team may spend in a month; None for no limit.
        quantum_seconds: how long a lease lasts before it must be renewed.
        grace_seconds: reserved beyond a quantum, for saving and stopping.
        poll_seconds: how long a worker's question for work stays open.
        max_deaths: how often one job may raise, or take its worker with it, before it counts as failed.
        max_evictions: how often its node may go under one job before it counts as failed.
        max_asked: fold jobs of one question of the driver that it and the queue hold at a time.
        measured: whether workers send what they count: somebody scrapes the driver.
    """

    workers: int
    cpus: float
    gpus: float
    usd_per_second: float = 0.0
    billing_quantum_seconds: float = 0.0
    workers_per_fold: int = 1
    need: EvaluationNeed | None = None
    team: Amounts | None = None
    quantum_seconds: float = QUANTUM_SECONDS
    grace_seconds: float = GRACE_SECONDS
    poll_seconds: float = 5.0
    max_deaths: int = 3
    max_evictions: int = 20
    max_asked: int = 1024
    measured: bool = False

    @property
    def held_gpus(self) -> float:
        """GPUs that a lease holds."""
        return self.gpus * self.workers_per_fold

    def leader(self, rank: int) -> int:
        """The rank that leases for the group of `rank`: groups are of consecutive ranks."""
        return rank - rank % self.workers_per_fold


@dataclass(frozen=True)
class Segment:
    """A lease in a worker's hands: run `job` to `until_epoch`, as attempt number `attempt`.

    Nothing is reserved beyond `quantum_seconds` and the grace after the queue was last asked to renew.
    """

    lease: int
    job: FoldJob
    until_epoch: int
    attempt: int
    quantum_seconds: float


@dataclass(frozen=True)
class PoolClosed:
    """Answer to a worker that asks for work when there will be none."""


@dataclass(frozen=True)
class Outcome:
    """How a segment ended, for whoever asked for it.

    `epoch_seconds` is what an epoch of it took, the first left aside where there are others, since it also loads; None
    where it was on record already.
    """

    state: OutcomeState
    epoch: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    predictions: str | None = None
    predictions_digest: str | None = None
    error: str | None = None
    epoch_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class PoolSnapshot:
    """The pool at one moment, for the progress view.

    Attributes:
        running: lines such as `trial 3 fold 0.1: epoch 4/20`.
        waiting: segments that no worker holds yet.
        segments_done: since the queue began.
        busy_seconds: worker-seconds spent under leases, settled or open.
        warm_workers: ranks that have asked for work.
        ending: how and why no more segments are granted, or None.
        search_over, comparators_over: why they ended before the rest, which goes on; None while they go on too.
    """

    running: tuple[str, ...]
    waiting: int
    segments_done: int
    busy_seconds: float
    warm_workers: int
    ending: tuple[OutcomeState, str] | None
    search_over: str | None = None
    comparators_over: str | None = None

    @property
    def search_ended(self) -> bool:
        """Whether no trial will get another segment."""
        return self.ending is not None or self.search_over is not None
