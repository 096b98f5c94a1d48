"""The queue's side of the records: leases on the ledger, attempts, results, and what is on record already."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from duchenne.plan.holdback import UNMEASURED_BESIDE, UNMEASURED_SHARE, HoldBack, Purpose, Share
from duchenne.plan.rates import Rate
from duchenne.pool.measures import Meter
from duchenne.pool.messages import Outcome, PoolOptions
from duchenne.records import Amounts, Attempt, FoldJobKey, RecordsConflictError, Refusal
from duchenne.records.port import RunRecords
from duchenne.records.rows import FoldJob as FoldJobRecord
from duchenne.records.rows import Outcome as AttemptOutcome
from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.training import FoldJob, JobKey, SegmentResult

LEASE_KIND = "fold_job"
SKIPPED_SHARE = 0.1  # of a quantum: a renewal for less is not worth a transaction


@dataclass
class _OpenAttempt:
    """An attempt lasts over the segments of a job, until the job ends or loses its worker."""

    attempt: Attempt
    seconds: float = 0.0
    epochs: int = 0


@dataclass
class _OpenLease:
    """A lease on the ledger, since when it is held (seconds of the clock), and how many seconds are reserved."""

    lease: int
    worker: str
    key: JobKey
    since: float
    seconds: float


@dataclass(frozen=True)
class Denial:
    """Why a segment gets no lease.

    Attributes:
        passing: there may be room once other leases of this pool settle: try again then.
        final: not even the evaluation can be paid for any more, so that nothing is to be run.
    """

    reason: str
    passing: bool = False
    final: bool = True


def purpose_of(key: JobKey) -> Purpose:
    """Whom a fold job serves."""
    if key.phase == "search":
        return "search"
    return "comparator" if key.trial is None else "evaluation"


class Filing:
    """Writes what the queue decides. Synchronous and quick: a call is one small transaction.

    Args:
        store: the records; its clock is the one by which leases run out.
        clock: seconds that pass, by which jobs are measured and billed.
    """

    def __init__(
        self,
        sweep: str,
        store: RunRecords,
        home: str | Path,
        options: PoolOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sweep = sweep
        self._store = store
        self._home = Path(home)
        self._options = options
        self._clock = clock
        # A lease holds all workers of a fold, which begin and end together.
        price = options.usd_per_second * options.workers_per_fold
        self._rate = Rate(price, options.billing_quantum_seconds)
        self._hold = None if options.need is None else HoldBack(options.need)
        self._limits = store.get_sweep(sweep).budget
        self.meter = Meter()
        self._attempts: dict[JobKey, _OpenAttempt] = {}
        self._leases: dict[int, _OpenLease] = {}
        # When the epoch that runs began, and whether it is the first of its segment.
        self._epochs: dict[JobKey, tuple[float, bool]] = {}
        # What `_kept` answered, by purpose and share, until the hold-back says something else.
        self._kept_known: dict[tuple[Purpose, float], Amounts] = {}
        self._kept_version = -1

    # The ledger -------------------------------------------------------------------------------------------------------

    def reserve(self, worker: str, key: JobKey) -> int | Denial:
        """A lease for one quantum at the worst-case price: its id, or why the budget has no room for it."""
        options = self._options
        seconds = options.quantum_seconds + options.grace_seconds
        lease = self._store.ledger.reserve(
            self._sweep,
            self._amounts(seconds),
            ttl=seconds,
            holder=worker,
            kind=LEASE_KIND,
            resource={
                "cpu": options.cpus * options.workers_per_fold,
                "gpu": options.held_gpus,
                **_attribution(key),
            },
            keep=self._kept(key, UNMEASURED_BESIDE if self._leases else UNMEASURED_SHARE),
            team=options.team,
        )
        if isinstance(lease, Refusal):
            return self._denial(lease, key, Amounts(), others=bool(self._leases))
        self._leases[lease.id] = _OpenLease(lease.id, worker, key, self._clock(), seconds)
        return lease.id

    def extend(self, ticket: int) -> Denial | None:
        """Reserve on until a quantum and the grace from now, for the lease that `reserve` gave: None, or why not.

        A lease that ran out, since a machine slept or a process starved, is settled on what passed and taken anew.
        """
        held = self._leases[ticket]
        ahead = self._options.quantum_seconds + self._options.grace_seconds
        needed = self._clock() - held.since + ahead
        if needed - held.seconds < SKIPPED_SHARE * self._options.quantum_seconds:
            return None
        try:
            answer = self._store.ledger.renew(
                held.lease,
                self._amounts(needed, held.seconds),
                ttl=ahead,
                keep=self._kept(held.key),
                team=self._options.team,
            )
        except RecordsConflictError:
            self.meter.lapsed += 1
            self._store.ledger.settle(held.lease, self._amounts(self._clock() - held.since))
            renewed = self.reserve(held.worker, held.key)
            if isinstance(renewed, Denial):
                del self._leases[ticket]
                return renewed
            self._leases[ticket] = self._leases.pop(renewed)
            return None
        if isinstance(answer, Refusal):
            return self._denial(answer, held.key, self._amounts(held.seconds), others=len(self._leases) > 1)
        held.seconds = needed
        return None

    def settle(self, ticket: int, key: JobKey, seconds: float, wasted: bool) -> None:
        """Close the lease on what passed; `seconds` is what the job's attempt took in this segment."""
        held = self._leases.pop(ticket, None)
        if held is not None:
            self._store.ledger.settle(held.lease, self._amounts(self._clock() - held.since), wasted=wasted)
        if key in self._attempts:
            self._attempts[key].seconds += seconds
        self._epochs.pop(key, None)

    def kept_wall(self, key: JobKey, whole: float) -> float:
        """Seconds of wall time that a segment of `key` leaves for the evaluation, of `whole` that the driver had."""
        return self._kept_of(key, whole, lambda share: share.wall_seconds, UNMEASURED_SHARE) or 0.0

    def out_of_time(self, reason: str, key: JobKey, left: float) -> Denial:
        """The denial of a segment for whose purpose no wall time is left; `left` is the sweep's."""
        return Denial(reason, final=self._is_final(key, left, lambda share: share.wall_seconds))

    def _denial(self, refusal: Refusal, key: JobKey, own: Amounts, *, others: bool) -> Denial:
        """`own` is what the lease that asks has reserved already; `others`: whether there are more."""

        def amount(share: Share) -> float:
            return float(getattr(self._share_amounts(share), refusal.unit) or 0.0)

        running = sum(self._clock() - held.since for held in self._leases.values())
        used = refusal.spent + (getattr(self._amounts(running), refusal.unit) or 0.0)
        final = refusal.team is not None or self._is_final(key, refusal.limit - used, amount)
        settled = (
            refusal.spent + (getattr(own, refusal.unit) or 0.0) + (refusal.asked or 0.0) + refusal.kept <= refusal.limit
        )
        hold = self._hold
        # Before epochs have run, a lease beside others is asked to leave more than one alone: it waits for its turn.
        passing = others and hold is not None and (settled or not hold.measured) and refusal.asked is not None
        return Denial(f"budget: {refusal.reason}", passing, final)

    def _is_final(self, key: JobKey, left: float, amount: Callable[[Share], float]) -> bool:
        """Whether the evaluation can't be afforded either, at the pace measured so far."""
        hold = self._hold
        if hold is None or purpose_of(key) == "evaluation":
            return True
        return hold.measured and amount(hold.share("evaluation")) > left

    def _kept(self, key: JobKey, unmeasured: float = UNMEASURED_SHARE) -> Amounts:
        """What a lease of `key` leaves; `unmeasured` is the share of each limit while no epochs have run."""
        if self._hold is not None and self._hold.version != self._kept_version:
            self._kept_known.clear()
            self._kept_version = self._hold.version
        asked = (purpose_of(key), unmeasured)
        if asked not in self._kept_known:
            self._kept_known[asked] = self._kept_now(key, unmeasured)
        return self._kept_known[asked]

    def _kept_now(self, key: JobKey, unmeasured: float) -> Amounts:
        limits = self._limits
        return Amounts(
            usd=self._kept_of(key, limits.usd, lambda share: self._share_amounts(share).usd or 0.0, unmeasured),
            gpu_seconds=self._kept_of(
                key, limits.gpu_seconds, lambda share: self._share_amounts(share).gpu_seconds or 0.0, unmeasured
            ),
        )

    def _kept_of(
        self, key: JobKey, limit: float | None, amount: Callable[[Share], float], unmeasured: float
    ) -> float | None:
        """What a lease of `key` leaves of one unit.

        The evaluation's share is left in full, the comparators' as far as the search keeps half of what remains.
        """
        purpose, hold = purpose_of(key), self._hold
        if limit is None or hold is None or purpose == "evaluation":
            return None
        if not hold.measured:
            return unmeasured * limit
        own = amount(hold.held("evaluation"))
        if purpose == "comparator":
            return own
        return own + min(amount(hold.held("comparator")), max(0.0, (limit - own) / 2))

    def _share_amounts(self, share: Share) -> Amounts:
        # Each job's last part of a billing quantum is paid in full.
        billed = share.worker_seconds + share.jobs * self._options.billing_quantum_seconds
        return Amounts(usd=self._rate.usd(billed), gpu_seconds=self._options.held_gpus * share.worker_seconds)

    def _amounts(self, seconds: float, held: float = 0.0) -> Amounts:
        """What `seconds` of a fold's workers cost beyond `held` that are reserved already."""
        # Wall time is not a fold job's: jobs run side by side, so the driver's lease counts it for all of them.
        usd, before = self._rate.usd(seconds), self._rate.usd(held)
        return Amounts(
            usd=None if usd is None or before is None else usd - before,
            gpu_seconds=self._options.held_gpus * (seconds - held),
            wall_seconds=0.0,
        )

    # Jobs -------------------------------------------------------------------------------------------------------------

    def foresee(self, jobs: Sequence[tuple[JobKey, int]]) -> list[FoldJobRecord]:
        """What the records hold of jobs of so many epochs, each recorded as queued if it was not."""
        rows = self._store.ensure_fold_jobs([self._key(key) for key, _ in jobs])
        for (key, epochs), row in zip(jobs, rows, strict=True):
            self._expect(key, epochs if row.state in ("queued", "running") else 0)
        return rows

    def recorded(self, jobs: list[FoldJob], until_epoch: int) -> list[Outcome | None]:
        """What the records already answer; the other jobs are recorded as queued."""
        rows = self.foresee([(job.key, job.epochs) for job in jobs])
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
        self._epochs[key] = (self._clock(), True)
        return held.attempt.number

    def result(self, key: JobKey, epoch: int, metrics: dict[str, float]) -> None:
        """File one epoch; a second filing changes nothing."""
        held = self._attempts[key]
        new = self._store.record_result(self._key(key), epoch, held.attempt.number, metrics)
        held.epochs += new
        if new:
            self.meter.filed(key)
        if self._hold is not None and new and key in self._epochs and key.method not in BASELINE_NAMES:
            began, first = self._epochs[key]
            now = self._clock()
            self._hold.measure(purpose_of(key), key.trial, key.method, now - began, first)
            self._hold.advance(purpose_of(key), key)
            self._epochs[key] = (now, False)

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
        if outcome in ("succeeded", "failed"):
            self._expect(key, 0)
        if held is not None:
            self.meter.attempt_ended(key, outcome, held.seconds)
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

    def _expect(self, key: JobKey, epochs: int) -> None:
        # scikit-learn's comparators have no epochs to measure: they run first, and pay from what is there.
        if self._hold is not None and key.method not in BASELINE_NAMES:
            self._hold.expect(purpose_of(key), key, key.trial, key.method, epochs)

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


def _attribution(key: JobKey) -> dict[str, int | str | None]:
    """What a lease was for, so that its cost can be told by trial, phase and fold."""
    return {
        "trial": key.trial,
        "phase": key.phase,
        "method": key.method,
        "fold": key.fold,
        "inner": key.inner,
        "seed": key.seed,
    }
