"""What the records keep of a mixture of orders after an epoch.

Shapes: C steps (tasks, or groups of tasks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

DIGITS = 6


@dataclass(frozen=True)
class OrderSummary:
    """A mixture in a few numbers.

    Attributes:
        soft_order: (C, C) Omega, row = time step, column = task (Tallec 2023, eq. 2.20).
        best_order: the order with the largest pi, 0-based; "finds I_T" means that it is 0..C-1.
        best_weight: its pi; with XMONET, its mean over the training rows.
        row_orders: XMONET's orders of the largest pi(x), with the share of training rows that each is the first of.
    """

    soft_order: Tensor
    best_order: tuple[int, ...]
    best_weight: float
    row_orders: tuple[tuple[tuple[int, ...], float], ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values, for one line of the records."""
        record: dict[str, Any] = {
            "soft_order": [[round(float(p), DIGITS) for p in row] for row in self.soft_order.cpu()],
            "best_order": list(self.best_order),
            "best_weight": round(self.best_weight, DIGITS),
        }
        if self.row_orders:
            record["row_orders"] = [[list(order), round(share, DIGITS)] for order, share in self.row_orders]
        return record
