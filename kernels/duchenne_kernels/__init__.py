"""The batched multi-order recurrence of MONET as one op (Tallec 2023, eq. 2.25 to 2.27)."""

from duchenne_kernels.cells import CellWeights, GRUCells
from duchenne_kernels.recurrence import (
    cpu_kernels,
    explain,
    order_log_likelihood,
    order_logits,
    order_marginals,
    sample_orders,
)

__all__ = [
    "CellWeights",
    "GRUCells",
    "cpu_kernels",
    "explain",
    "order_log_likelihood",
    "order_logits",
    "order_marginals",
    "sample_orders",
]
