"""The least budget that a sweep can run in, and the budgets that are refused for being less."""

from __future__ import annotations

import math

from duchenne.plan.holdback import UNMEASURED_SHARE
from duchenne.plan.leasing import BEAT_SECONDS, GRACE_SECONDS, QUANTUM_SECONDS, TEARDOWN_SECONDS
from duchenne.plan.price import Amounts, Estimate
from duchenne.plan.rates import SECONDS_PER_HOUR, worker_rate
from duchenne.spec.errors import Fault
from duchenne.spec.sweep import Sweep

LEAST_JOB_SECONDS = 0.1
"""What a fold job is taken to last while nobody has measured one: the platform alone takes as long."""


class BudgetRefused(ValueError):  # noqa: N818 - reads as the fact it states
    """The sweep can't be paid for as its file says; the message is one line with the field's name."""


def least(sweep: Sweep, estimate: Estimate | None = None) -> Amounts:
    """The least budget in which one trial and the evaluation of its configuration may fit.

    A fold job needs a whole lease to begin, the first of all within the share of a search that nothing was measured of;
    the others are taken to last `LEAST_JOB_SECONDS`, or what `estimate` says.
    """
    folds = sweep.folds
    search, evaluation = folds.outer_count * folds.inner_count, folds.outer_count * len(sweep.seeds)
    searched = LEAST_JOB_SECONDS if estimate is None else estimate.search_job_seconds
    evaluated = LEAST_JOB_SECONDS if estimate is None else estimate.evaluation_job_seconds
    rate, lease, workers = worker_rate(sweep), QUANTUM_SECONDS + GRACE_SECONDS, folds.workers_per_fold
    # The last job of all must find room for a lease, however short it is; so must the first in the search's share.
    jobs = [searched] * search + [evaluated] * (evaluation - 1) + [max(evaluated, lease)]
    dollars = sum(rate.usd(seconds) or 0.0 for seconds in jobs)
    first = (rate.lease_usd or 0.0) / (1 - UNMEASURED_SHARE)
    return Amounts(
        usd=max(dollars, first) * workers if rate.usd_per_second else None,
        gpu_hours=max(sum(jobs), lease / (1 - UNMEASURED_SHARE)) * folds.resources.gpu * workers / SECONDS_PER_HOUR,
        wall_seconds=BEAT_SECONDS + TEARDOWN_SECONDS + QUANTUM_SECONDS / (1 - UNMEASURED_SHARE),
    )


def budget_faults(sweep: Sweep, estimate: Estimate | None = None) -> list[Fault]:
    """Limits that no trial can be evaluated in, with the least that would do; a limit in dollars without a price."""
    needed, budget = least(sweep, estimate), sweep.budget
    faults = missing_price(sweep)
    for unit, word in (("usd", "USD"), ("gpu_hours", "GPU-hours"), ("wall_seconds", "seconds")):
        limit, at_least = getattr(budget, unit), getattr(needed, unit)
        if limit is not None and at_least is not None and limit < at_least:
            rule = f"one trial and its evaluation need at least {_shown(at_least)} {word}"
            faults.append(Fault(("budget", unit), rule, f"{limit:g}", f"set it to {_shown(at_least)} or more"))
    return faults


def missing_price(sweep: Sweep) -> list[Fault]:
    """A limit in dollars that could never bind, since nothing of what the fold jobs hold has a price."""
    if sweep.budget.usd is None or worker_rate(sweep).usd_per_second > 0:
        return []
    field = "gpu_hour_usd" if sweep.folds.resources.gpu else "cpu_hour_usd"
    place = ("prices", field) if sweep.prices.listed is None else ("prices", "node")
    rule = f"budget.usd of {sweep.budget.usd:g} needs a price above 0 of what the fold jobs hold"
    return [Fault(place, rule, "0", "set it, name a node type of a price file, or limit gpu_hours or wall_seconds")]


def _shown(amount: float) -> str:
    """Rounded up to four digits, so that the number shown does."""
    if amount == 0:
        return "0"
    digits = 3 - math.floor(math.log10(amount))
    scaled = math.ceil(round(amount * 10.0**digits, 6)) / 10.0**digits
    return f"{scaled:.10g}"
