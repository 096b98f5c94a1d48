"""The fold pool: one long-lived Ray Train run a sweep, whose workers pull segments of fold jobs from a queue actor.

Belongs here: who runs which segment when, leases, retries, and filing what comes back. Does not belong here: which
configurations are tried (`duchenne.search`) and what a fold job computes (`duchenne_jobs.training`).
"""

from duchenne.pool.messages import Outcome, PoolOptions, PoolSnapshot
from duchenne.pool.run import FoldPool

__all__ = ["FoldPool", "Outcome", "PoolOptions", "PoolSnapshot"]
