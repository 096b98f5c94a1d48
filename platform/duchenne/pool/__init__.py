"""The fold pool: one long-lived Ray Train run a sweep, whose workers pull segments of fold jobs from a queue actor.

Belongs here: who runs which segment when, leases, retries, and filing what comes back. Does not belong here: which
configurations are tried (`duchenne.search`) and what a fold job computes (`duchenne_jobs.training`).

`duchenne.pool.run.FoldPool` is the way in. It is not imported here: the queue actor and the trials need the messages
alone, and must not wait for torch.
"""

from duchenne.pool.messages import NAMESPACE, Outcome, PoolOptions, PoolSnapshot

__all__ = ["NAMESPACE", "Outcome", "PoolOptions", "PoolSnapshot"]
