"""What a sweep would run and cost, before it runs.

Belongs here: counting and pricing. Does not belong here: spending (`duchenne.budget`) and running (`duchenne.pool`).
"""

from duchenne.plan.counting import Counts, count, count_trials
from duchenne.plan.price import Amounts, Estimate, Plan, plan

__all__ = ["Amounts", "Counts", "Estimate", "Plan", "count", "count_trials", "plan"]
