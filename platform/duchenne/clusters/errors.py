"""What a cluster refuses: one line with the rule, the value seen and the next action."""

from __future__ import annotations


class ClusterError(ValueError):
    """A sweep can't run on a cluster, or a cluster can't be used as the clusters file says. The user mends it."""
