"""How the mixture over an order set is chosen: learned, uniform, one order drawn, or a function of the input.

Shapes: B batch, H hidden, M orders, K active orders, C steps (tasks, or groups of tasks), R drawn orders.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from duchenne_jobs.config import OrdersConfig
from duchenne_jobs.config.orders import Names
from duchenne_jobs.models.batch_part import drawn_for_rows
from duchenne_jobs.models.orders.evolution import evolved
from duchenne_jobs.models.orders.sets import build_order_set
from duchenne_jobs.models.orders.summary import OrderSummary

SHOWN_ROW_ORDERS = 4


class OrderSelector(nn.Module, ABC):
    """A mixture pi over an order set, with order dropout.

    Args:
        config: order dropout, warm-up and evolution.
        orders: (M, C) the set.
    """

    orders: Tensor

    def __init__(self, config: OrdersConfig, orders: Tensor) -> None:
        super().__init__()
        self.register_buffer("orders", orders)
        self._active = config.active or len(orders)
        self._per_example = config.dropout_per == "example"

    @abstractmethod
    def scores(self, hidden: Tensor) -> Tensor:
        """u: (M,), or (B, M) where it depends on the encoder's state (B, H). pi = softmax(u) (Tallec 2023, 2.21)."""

    @abstractmethod
    def overall_weights(self) -> Tensor:
        """(M,) pi, or its mean over the training rows where it depends on them."""

    def trained(self) -> list[nn.Parameter]:
        """The parameters that the order optimiser trains after the warm-up."""
        return []

    def observe(self, hidden: Tensor, losses: Tensor, active: Tensor | None) -> None:
        """Called with the losses (B, K) of each training step."""

    def epoch_sums(self) -> list[Tensor]:
        """What `observe` has summed over the rows of this epoch, in place."""
        return []

    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        """Called after each training epoch (from 1 on); draws come from `generator`, which is on the CPU.

        Returns:
            (N,) entries of `trained()` that begin anew, so that their optimiser forgets them; None for none.
        """
        return None

    def draw_active(self, batch: int) -> Tensor | None:
        """Order dropout: which orders this step keeps (Tallec 2023, eq. 2.34).

        Returns:
            (K,) indices for the whole batch, (B, K) for each example, or None where every order is kept.
        """
        count = len(self.orders)
        if self._active == count or not self.training:
            return None
        if self._per_example:
            draws = drawn_for_rows(lambda rows: torch.rand(rows, count, device=self.orders.device), batch)
            return draws.topk(self._active).indices
        return torch.randperm(count, device=self.orders.device)[: self._active]

    def log_weights(self, hidden: Tensor, active: Tensor | None = None) -> Tensor:
        """log pi, renormalised over the active orders (eq. 2.34): (M,) or (K,), or (B, M) or (B, K)."""
        scores = self.scores(hidden)
        if active is not None:
            scores = scores[active] if scores.dim() == 1 else scores.gather(1, active.expand(len(scores), -1))
        return torch.log_softmax(scores, dim=-1)

    @torch.no_grad()
    def weights(self, hidden: Tensor) -> Tensor:
        """pi at inference (eq. 2.35): (M,) or (B, M)."""
        return torch.softmax(self.scores(hidden), dim=-1)

    @torch.no_grad()
    def summary(self) -> OrderSummary:
        """Soft order Omega = sum_m pi_m M_sigma_m (Tallec 2023, eq. 2.20) and the order of the largest weight."""
        weights = self.overall_weights()
        one_hot = torch.nn.functional.one_hot(self.orders, self.orders.shape[1]).to(weights.dtype)
        best = int(weights.argmax())
        return OrderSummary(
            soft_order=torch.einsum("m,mij->ij", weights, one_hot),
            best_order=tuple(self.orders[best].tolist()),
            best_weight=float(weights[best]),
        )


class LossTally(nn.Module):
    """Training losses of each order over one epoch; empty whenever a checkpoint is written, which holds none of it."""

    _sum: Tensor
    _rows: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("_sum", torch.zeros(count, dtype=torch.float64), persistent=False)
        self.register_buffer("_rows", torch.zeros(count, dtype=torch.int64), persistent=False)

    def add(self, losses: Tensor, active: Tensor | None) -> None:
        """Losses (B, M), or (B, K) of the active orders: (K,) or (B, K)."""
        every = torch.arange(len(self._sum), device=losses.device)
        indices = (every if active is None else active).expand(losses.shape).flatten()
        self._sum.index_add_(0, indices, losses.flatten().double())
        self._rows += indices.bincount(minlength=len(self._sum))

    def sums(self) -> list[Tensor]:
        """Its buffers, in place."""
        return [self._sum, self._rows]

    def take(self) -> Tensor:
        """(M,) means over the rows, on the CPU, NaN for an order that dropout never kept; the tally is empty then."""
        means = (self._sum / self._rows).cpu()
        self._sum.zero_()
        self._rows.zero_()
        return means


class SoftSelector(OrderSelector):
    """Logits u, learned with the rest of the network (Tallec 2023, eq. 2.21), and the evolution of the set."""

    def __init__(self, config: OrdersConfig, orders: Tensor) -> None:
        super().__init__(config, orders)
        self.logits = nn.Parameter(torch.zeros(len(orders)))
        self._evolution = config.evolution
        self._tally = LossTally(len(orders)) if config.evolves else None

    def scores(self, hidden: Tensor) -> Tensor:
        return self.logits

    def overall_weights(self) -> Tensor:
        return torch.softmax(self.logits.detach(), dim=0)

    def trained(self) -> list[nn.Parameter]:
        return [self.logits]

    def observe(self, hidden: Tensor, losses: Tensor, active: Tensor | None) -> None:
        if self._tally is not None:
            self._tally.add(losses, active)

    def epoch_sums(self) -> list[Tensor]:
        return [] if self._tally is None else self._tally.sums()

    @torch.no_grad()
    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        """Replace orders (see `evolution`); a child starts with the mean weight, 1/M."""
        plan = self._evolution
        losses = None if self._tally is None else self._tally.take()
        if losses is None or not plan.first_epoch <= epoch <= plan.last_epoch:
            return None
        if (epoch - plan.first_epoch) % plan.every:
            return None
        change = evolved(self.orders.cpu(), self.overall_weights().cpu(), losses, plan, generator)
        if change is None:
            return None
        places = change.places.to(self.orders.device)
        self.orders[places] = change.orders.to(self.orders.device)
        self.logits[places] = self.logits.logsumexp(dim=0) - math.log(len(self.orders))
        return places


class UniformSelector(OrderSelector):
    """pi = 1/M throughout: the order-agnostic ablation (a mixture that learns no order)."""

    def scores(self, hidden: Tensor) -> Tensor:
        return torch.zeros(len(self.orders), device=self.orders.device)

    def overall_weights(self) -> Tensor:
        return torch.full((len(self.orders),), 1 / len(self.orders), device=self.orders.device)


class HardSelector(OrderSelector):
    """Explore every order, then keep one, drawn by training performance (Vinyals et al. 2016; Tallec 2023, table 2.1).

    During the warm-up the mixture is uniform. At its end order m is drawn with probability proportional to
    exp(-mean training loss of m over the last warm-up epoch), the geometric mean of p^sigma_m(y | x) over the rows.
    """

    chosen: Tensor

    def __init__(self, config: OrdersConfig, orders: Tensor) -> None:
        super().__init__(config, orders)
        self._explored = config.warmup_epochs
        self.register_buffer("chosen", torch.tensor(-1))
        self._tally = LossTally(len(orders))

    def scores(self, hidden: Tensor) -> Tensor:
        return self.overall_weights().log()

    def overall_weights(self) -> Tensor:
        every = torch.arange(len(self.orders), device=self.orders.device)
        kept = ((self.chosen < 0) | (every == self.chosen)).float()
        return kept / kept.sum()

    def draw_active(self, batch: int) -> Tensor | None:
        return self.chosen[None] if int(self.chosen) >= 0 else super().draw_active(batch)

    def observe(self, hidden: Tensor, losses: Tensor, active: Tensor | None) -> None:
        if int(self.chosen) < 0:
            self._tally.add(losses, active)

    def epoch_sums(self) -> list[Tensor]:
        return self._tally.sums()

    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        losses = self._tally.take()
        if int(self.chosen) < 0 and epoch >= self._explored:
            # An order that dropout never kept has shown nothing, and is not drawn.
            performance = torch.nan_to_num(-losses, nan=-torch.inf).softmax(dim=0)
            self.chosen.fill_(int(torch.multinomial(performance, 1, generator=generator)))
        return None


class ConditionalSelector(OrderSelector):
    """XMONET: pi(x) from dense layers and a softmax on the encoder's state (Tallec 2023, eq. 2.42).

    The last layer starts at zero, so that the mixture is uniform until the warm-up ends, as MONET's is.

    Args:
        hidden_size: H.
    """

    mean: Tensor
    first: Tensor
    _weights: Tensor
    _firsts: Tensor

    def __init__(self, config: OrdersConfig, orders: Tensor, hidden_size: int) -> None:
        super().__init__(config, orders)
        layers: list[nn.Module] = []
        for _ in range(config.xmonet_layers - 1):
            layers += [nn.Linear(hidden_size, hidden_size), nn.ReLU()]
        last = nn.Linear(hidden_size, len(orders))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(*layers, last)
        uniform = torch.full((len(orders),), 1 / len(orders))
        self.register_buffer("mean", uniform)
        self.register_buffer("first", torch.zeros(len(orders)))
        # Sums of one epoch, empty whenever a checkpoint is written.
        self.register_buffer("_weights", torch.zeros_like(uniform), persistent=False)
        self.register_buffer("_firsts", torch.zeros_like(uniform), persistent=False)

    def scores(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.head(hidden)
        return scores

    def overall_weights(self) -> Tensor:
        """The mean of pi(x) over the training rows of the last epoch."""
        return self.mean

    def trained(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    def observe(self, hidden: Tensor, losses: Tensor, active: Tensor | None) -> None:
        weights = self.weights(hidden)
        self._weights += weights.sum(dim=0)
        self._firsts += weights.argmax(dim=1).bincount(minlength=len(self.orders))

    def epoch_sums(self) -> list[Tensor]:
        return [self._weights, self._firsts]

    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        rows = self._firsts.sum()
        if rows > 0:
            self.mean.copy_(self._weights / rows)
            self.first.copy_(self._firsts / rows)
        self._weights.zero_()
        self._firsts.zero_()
        return None

    def summary(self) -> OrderSummary:
        plain = super().summary()
        shares, places = self.first.sort(descending=True, stable=True)
        kept = [
            (tuple(self.orders[place].tolist()), float(share))
            for place, share in zip(places[:SHOWN_ROW_ORDERS].tolist(), shares.tolist(), strict=False)
            if share > 0
        ]
        return OrderSummary(plain.soft_order, plain.best_order, plain.best_weight, tuple(kept))


def build_selector(config: OrdersConfig, tasks: Names, hidden_size: int) -> OrderSelector:
    """The mixture that `orders.selection` names, over the set that `orders.source` names.

    Raises:
        ValueError: see `build_order_set`.
    """
    orders = build_order_set(config, tasks)
    match config.selection:
        case "soft":
            return SoftSelector(config, orders)
        case "uniform":
            return UniformSelector(config, orders)
        case "hard":
            return HardSelector(config, orders)
        case "xmonet":
            return ConditionalSelector(config, orders, hidden_size)
