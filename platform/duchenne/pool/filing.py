"""The queue's side of the records: leases on the ledger, attempts, results, and what is on record already."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from duchenne.pool.messages import Outcome, PoolOptions
from duchenne.records import Amounts, Attempt, FoldJobKey, RecordsConflictError, Refusal, open_store
from duchenne.records.rows import Outcome as AttemptOutcome
from duchenne_jobs.training import FoldJob, JobKey, SegmentResult

LEASE_KIND = "fold_job"


@dataclass
class _OpenAttempt:
    """An attempt lasts over the segments of a job, until the job ends or loses its worker."""

    attempt: Attempt
    seconds: float = 0.0
    epochs: int = 0


@dataclass(frozen=True)
class _OpenLease:
    """A lease on the ledger and since when it is held (monotonic seconds)."""

    lease: int
    worker: str
    since: float


class Filing:
    """Writes what the queue decides. Synchronous and quick: a call is one small transaction."""

    def __init__(self, sweep: str, records: str, home: str, options: PoolOptions) -> None:
        self._sweep = sweep
        self._store = open_store(records)
        self._home = Path(home)
        self._options = options
        self._attempts: dict[JobKey, _OpenAttempt] = {}
        self._leases: dict[int, _OpenLease] = {}

    # The ledger -------------------------------------------------------------------------------------------------------

    def reserve(self, worker: str) -> int | str:
        """A lease for one quantum at the worst-case price: its id, or why the budget has no room for it."""
        options = self._options
        seconds = options.quantum_seconds + options.grace_seconds
        lease = self._store.ledger.reserve(
            self._sweep,
            self._amounts(seconds),
            ttl=seconds,
            holder=worker,
            kind=LEASE_KIND,
            resource={"cpu": options.cpus, "gpu": options.gpus},
        )
        if isinstance(lease, Refusal):
            return f"budget: {lease.reason}"
        self._leases[lease.id] = _OpenLease(lease.id, worker, time.monotonic())
        return lease.id

    def extend(self, ticket: int) -> str | None:
        """Another quantum for the lease that `reserve` gave: None, or why not.

        A lease that ran out, since a machine slept or a process starved, is settled on what passed and taken anew.
        """
        held = self._leases[ticket]
        seconds = self._options.quantum_seconds
        try:
            answer = self._store.ledger.renew(
                held.lease, self._amounts(seconds), ttl=seconds + self._options.grace_seconds
            )
        except RecordsConflictError:
            self._store.ledger.settle(held.lease, self._amounts(time.monotonic() - held.since))
            renewed = self.reserve(held.worker)
            if isinstance(renewed, str):
                del self._leases[ticket]
                return renewed
            self._leases[ticket] = self._leases.pop(renewed)
            return None
        return f"budget: {answer.reason}" if isinstance(answer, Refusal) else None

    def settle(self, ticket: int, key: JobKey, seconds: float, wasted: bool) -> None:
        """Close the lease on what passed; `seconds` is what the job's attempt took in this segment."""
        held = self._leases.pop(ticket, None)
        if held is not None:
            self._store.ledger.settle(held.lease, self._amounts(time.monotonic() - held.since), wasted=wasted)
        if key in self._attempts:
            self._attempts[key].seconds += seconds

    def _amounts(self, seconds: float) -> Amounts:
        # Wall time is not a fold job's: jobs run side by side, so the driver's lease counts it for all of them.
        price = self._options.usd_per_second
        return Amounts(
            usd=price * seconds if price else None, gpu_seconds=self._options.gpus * seconds, wall_seconds=0.0
        )

    # Jobs -------------------------------------------------------------------------------------------------------------

    def recorded(self, jobs: list[FoldJob], until_epoch: int) -> list[Outcome | None]:
        """What the records already answer; the other jobs are recorded as queued."""
        rows = self._store.ensure_fold_jobs([self._key(job.key) for job in jobs])
        outcomes: list[Outcome | None] = []
        for job, row in zip(jobs, rows, strict=True):
            if row.state == "failed":
                outcomes.append(Outcome("failed", error=row.error))
            elif job.key.phase == "evaluation" and row.state != "succeeded":
                outcomes.append(None)  # an evaluation is done when its predictions are on record
            else:
                metrics = self._store.metrics_at(self._key(job.key), until_epoch)
                outcomes.append(
                    None
                    if metrics is None
                    else Outcome("done", until_epoch, metrics, row.predictions, row.predictions_digest)
                )
        return outcomes

    def begin(self, key: JobKey, worker: str) -> int:
        """The number of the attempt that this segment belongs to."""
        held = self._attempts.get(key)
        if held is None:
            held = self._attempts[key] = _OpenAttempt(self._store.start_attempt(self._key(key), worker))
        return held.attempt.number

    def result(self, key: JobKey, epoch: int, metrics: dict[str, float]) -> None:
        """File one epoch; a second filing changes nothing."""
        held = self._attempts[key]
        held.epochs += self._store.record_result(self._key(key), epoch, held.attempt.number, metrics)

    def succeed(self, key: JobKey, result: SegmentResult) -> None:
        """The job is done; its predictions, if any, are on disk."""
        self._end(key, "succeeded", None, self.relative(result.predictions), result.predictions_digest)

    def fail(self, key: JobKey, error: str) -> None:
        """The job has failed for good."""
        self._end(key, "failed", error, retry_limit=1)

    def end_attempt(self, key: JobKey, outcome: AttemptOutcome, error: str | None) -> None:
        """The attempt is over; `interrupted` queues the job again."""
        self._end(key, outcome, error)

    def stop_trial(self, trial: int, running: Collection[JobKey]) -> None:
        """Close what a withdrawn trial leaves open between its segments; `running` jobs end by themselves."""
        for key in [key for key in self._attempts if key.trial == trial and key not in running]:
            self._end(key, "stopped", None)
        self._store.stop_fold_jobs(self._sweep, trial)

    def relative(self, path: str | None) -> str | None:
        """A path below the home, as the records keep it."""
        return None if path is None else str(Path(path).relative_to(self._home))

    def _end(
        self,
        key: JobKey,
        outcome: AttemptOutcome,
        error: str | None,
        predictions: str | None = None,
        digest: str | None = None,
        retry_limit: int = 1_000_000,
    ) -> None:
        held = self._attempts.pop(key, None)
        if held is not None:
            self._store.finish_attempt(
                held.attempt.id,
                outcome,
                seconds=held.seconds,
                epochs=held.epochs,
                error=error,
                predictions=predictions,
                predictions_digest=digest,
                retry_limit=retry_limit,
            )

    def _key(self, key: JobKey) -> FoldJobKey:
        return FoldJobKey(
            sweep=self._sweep,
            trial=key.trial,
            phase=key.phase,
            method=key.method,
            fold=key.fold,
            inner=key.inner,
            seed=key.seed,
        )
