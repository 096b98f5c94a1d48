"""What a sweep would run and cost, before it runs.

Belongs here: counting and pricing. Does not belong here: spending (the ledger of `duchenne.records`) and
running (`duchenne.pool`).
"""

from duchenne.plan.counting import Counts, count, count_trials
from duchenne.plan.least import BudgetRefused, budget_faults, least
from duchenne.plan.price import Amounts, Estimate, Plan, plan
from duchenne.plan.rates import Rate, unbounded, worker_rate

__all__ = [
    "Amounts",
    "BudgetRefused",
    "Counts",
    "Estimate",
    "Plan",
    "Rate",
    "budget_faults",
    "count",
    "count_trials",
    "least",
    "plan",
    "unbounded",
    "worker_rate",
]
