"""What a sweep may cost at worst, and what it is expected to cost once somebody measured a fold job.

A figure that nobody knows is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from duchenne.plan.cost_model import LEVEL
from duchenne.plan.counting import Counts, count
from duchenne.plan.rates import SECONDS_PER_HOUR, worker_rate
from duchenne.spec.population import generation_ends
from duchenne.spec.search import Asha, rungs
from duchenne.spec.sections import Resources
from duchenne.spec.sweep import Sweep


@dataclass(frozen=True)
class Amounts:
    """One amount in each unit of the budget; None where it is unknown or unbounded."""

    usd: float | None = None
    gpu_hours: float | None = None
    wall_seconds: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """`{"usd", "gpu_hours", "wall_seconds"}`."""
        return {"usd": self.usd, "gpu_hours": self.gpu_hours, "wall_seconds": self.wall_seconds}


@dataclass(frozen=True)
class Estimate:
    """What one measured from earlier runs. Seconds are of wall time on one group of workers.

    `search_job_seconds` is that of a job which runs all its epochs; the scheduler's early stops are taken off.
    """

    search_job_seconds: float
    evaluation_job_seconds: float
    parallel_jobs: int
    startup_seconds: float = 0.0

    def __post_init__(self) -> None:
        seconds = (self.search_job_seconds, self.evaluation_job_seconds, self.startup_seconds)
        if min(seconds) < 0 or self.parallel_jobs < 1:
            raise ValueError(f"seconds >= 0 and parallel_jobs >= 1 must hold, but got {self}; measure again")


@dataclass(frozen=True)
class Plan:
    """What would run. `worst` can't be exceeded: the ledger grants no second beyond it.

    `low` and `high` hold LEVEL of the sweeps that are like this one, by what `source` says; None where nobody knows.
    """

    counts: Counts
    resources: Resources
    workers_per_fold: int
    worst: Amounts
    expected: Amounts
    low: Amounts | None = None
    high: Amounts | None = None
    source: str | None = None

    def as_json(self) -> dict[str, object]:
        """The document of `duchenne plan --json`."""
        expected: dict[str, object] = {**self.expected.as_json()}
        if self.source is not None:
            expected["learned_from"] = self.source
        if self.low is not None and self.high is not None:
            expected |= {"low": self.low.as_json(), "high": self.high.as_json(), "level": LEVEL}
        return {
            "trials": self.counts.trials,
            "fold_jobs": self.counts.fold_jobs,
            "worst": self.worst.as_json(),
            "expected": expected,
        }


def plan(
    sweep: Sweep,
    estimate: Estimate | None = None,
    between: tuple[Estimate, Estimate] | None = None,
    source: str | None = None,
) -> Plan:
    """Counts and prices a sweep. Without an estimate the expected amounts are unknown; nothing is read or started.

    Args:
        between: estimates at both ends of an interval that holds LEVEL of sweeps like this one.
        source: where the estimate is from, for people.
    """
    counts = count(sweep)
    budget = sweep.budget
    worst = Amounts(usd=budget.usd, gpu_hours=budget.gpu_hours, wall_seconds=budget.wall_seconds)
    return Plan(
        counts=counts,
        resources=sweep.folds.resources,
        workers_per_fold=sweep.folds.workers_per_fold,
        worst=worst,
        expected=Amounts() if estimate is None else _expected(sweep, counts, worst, estimate),
        low=None if between is None else _expected(sweep, counts, worst, between[0]),
        high=None if between is None else _expected(sweep, counts, worst, between[1]),
        source=source,
    )


def _expected(sweep: Sweep, counts: Counts, worst: Amounts, estimate: Estimate) -> Amounts:
    """Amounts of all jobs, each at most the budget's limit, since the sweep stops there.

    The seconds of parallel jobs add up for money and GPU-hours and run side by side for wall time. Start-up holds the
    whole pool.
    """
    busy = (
        counts.search_jobs * estimate.search_job_seconds * share_of_epochs(sweep)
        + counts.evaluation_jobs * estimate.evaluation_job_seconds
    )
    parallel = min(estimate.parallel_jobs, counts.fold_jobs)
    wall = estimate.startup_seconds + busy / parallel
    job_hours = (busy + parallel * estimate.startup_seconds) / SECONDS_PER_HOUR
    workers = sweep.folds.workers_per_fold
    hourly = worker_rate(sweep).usd_per_second * SECONDS_PER_HOUR
    gpu_hours = job_hours * workers * sweep.folds.resources.gpu
    return Amounts(
        usd=_at_most(hourly * job_hours * workers if hourly else None, worst.usd),
        gpu_hours=_at_most(gpu_hours, worst.gpu_hours),
        wall_seconds=_at_most(wall, worst.wall_seconds),
    )


def _at_most(amount: float | None, limit: float | None) -> float | None:
    return amount if amount is None or limit is None else min(amount, limit)


def share_of_epochs(sweep: Sweep) -> float:
    """Expected share of a search job's epochs that run: below 1 under successive halving.

    Under ASHA one trial in `reduction_factor` passes each rung, so rung i adds its epochs at weight factor**-i. The
    median rule's share depends on the metrics and is taken as 1, which errs on the dear side. A trial of a population
    runs one generation.
    """
    scheduler = sweep.search.scheduler
    epochs = sweep.training.epochs
    if sweep.search.algorithm == "pbt":
        return 1.0 / len(generation_ends(sweep))
    if not isinstance(scheduler, Asha):
        return 1.0
    expected = 0.0
    before = 0
    for position, rung in enumerate(rungs(scheduler, epochs)):
        expected += (rung - before) / scheduler.reduction_factor**position
        before = rung
    return expected / epochs
