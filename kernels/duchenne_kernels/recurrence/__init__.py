"""The multi-order recurrence: one op, several backends."""

from duchenne_kernels.recurrence.api import (
    explain,
    order_log_likelihood,
    order_logits,
    order_marginals,
    sample_orders,
)
from duchenne_kernels.recurrence.op import cpu_kernels

__all__ = ["cpu_kernels", "explain", "order_log_likelihood", "order_logits", "order_marginals", "sample_orders"]
