"""The multi-order recurrence: one op, several backends."""

from duchenne_kernels.recurrence.api import (
    explain,
    order_log_likelihood,
    order_logits,
    order_marginals,
    sample_orders,
)

__all__ = ["explain", "order_log_likelihood", "order_logits", "order_marginals", "sample_orders"]
