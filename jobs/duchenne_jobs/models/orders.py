"""Order sets and the soft order over them (Tallec 2023, 2.4.1 and 2.4.3).

Shapes: B batch, M orders, K active orders, T tasks, R trajectories.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from duchenne_jobs.config import OrdersConfig


def build_order_set(config: OrdersConfig, tasks: int) -> Tensor:
    """(M, T) distinct orders, 0-based; all T! in lexicographic order where the config asks for that many or more."""
    if config.source == "identity":
        return torch.arange(tasks)[None, :]
    total = math.factorial(tasks)
    generator = torch.Generator().manual_seed(config.seed)
    if (
        config.count > total // 2
    ):  # so many that drawing the last ones one by one would hit known orders most of the time
        every = torch.tensor(list(itertools.permutations(range(tasks))))
        return every[torch.randperm(total, generator=generator)[: config.count].sort().values]
    seen: dict[tuple[int, ...], None] = {}
    while len(seen) < config.count:
        seen.setdefault(tuple(torch.randperm(tasks, generator=generator).tolist()))
    return torch.tensor(list(seen))


class OrderSelector(nn.Module):
    """Logits u over an order set; pi = softmax(u) (Tallec 2023, eq. 2.21).

    Args:
        config: the order set, order dropout and warm-up.
        tasks: T.
    """

    orders: Tensor

    def __init__(self, config: OrdersConfig, tasks: int) -> None:
        super().__init__()
        self.register_buffer("orders", build_order_set(config, tasks))
        self.logits = nn.Parameter(torch.zeros(len(self.orders)))
        self._active = min(config.active or len(self.orders), len(self.orders))
        self._per_example = config.dropout_per == "example"

    def draw_active(self, batch: int) -> Tensor | None:
        """Order dropout: which orders this step keeps (Tallec 2023, eq. 2.34).

        Returns:
            (K,) indices for the whole batch, (B, K) for each example, or None where every order is kept.
        """
        count = len(self.orders)
        if self._active == count or not self.training:
            return None
        if self._per_example:
            return torch.rand(batch, count, device=self.logits.device).topk(self._active).indices
        return torch.randperm(count, device=self.logits.device)[: self._active]

    def log_weights(self, active: Tensor | None = None) -> Tensor:
        """log pi, renormalised over the active orders (eq. 2.34): (M,), (K,) or (B, K)."""
        logits = self.logits if active is None else self.logits[active]
        return torch.log_softmax(logits, dim=-1)

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """(R, T) orders drawn from pi (Tallec 2023, algorithm 2, line 2)."""
        weights = torch.softmax(self.logits.detach(), dim=0)
        picks = torch.multinomial(weights, count, replacement=True, generator=generator)
        return self.orders[picks]

    def soft_order(self) -> Tensor:
        """Omega = sum_m pi_m M_sigma_m (Tallec 2023, eq. 2.20): (T, T), row = time step, column = task."""
        weights = torch.softmax(self.logits.detach(), dim=0)
        one_hot = torch.nn.functional.one_hot(self.orders, self.orders.shape[1]).to(weights.dtype)
        return torch.einsum("m,mij->ij", weights, one_hot)
