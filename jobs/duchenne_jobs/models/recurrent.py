"""Networks that predict tasks one after another: MRNN in one order, MONET in many (Tallec 2023, 2.3.2 and 2.4).

Shapes: B batch, H hidden, M orders, K active orders, T tasks, C cells (= T without groups), R drawn orders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.config.model import EXACT_TASKS
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.encoders import build_encoder
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.orders import OrderSummary, build_selector
from duchenne_kernels import GRUCells, order_log_likelihood, order_logits, order_marginals, sample_orders


class _RecurrentNetwork(MultiTaskNetwork):
    """Encoder, cells, and the losses of a row in given orders.

    Args:
        shared: one cell for all tasks.
        groups: the tasks of each cell, where a cell handles several (Tallec 2023, eq. 2.43).

    Raises:
        ValueError: exact inference of more tasks than that is practical for.
    """

    cells: GRUCells

    def __init__(
        self,
        config: ModelConfig,
        data: DataDescription,
        statistics: TrainingStatistics,
        shared: bool,
        groups: list[list[int]] | None = None,
    ) -> None:
        super().__init__()
        if config.inference == "exact" and len(data.tasks) > EXACT_TASKS:
            raise ValueError(
                f"model.inference: exact marginals take at most {EXACT_TASKS} tasks, but got {len(data.tasks)}; "
                "set `inference: sampled`"
            )
        self.encoder = self.build_encoder(config, data, statistics)
        self.cells = GRUCells(num_tasks=len(data.tasks), hidden_size=config.hidden_size, shared=shared, groups=groups)
        self.trajectories = config.trajectories
        self.trajectories_per_order = config.trajectories_per_order
        self.exact = config.inference == "exact"
        if config.bias_initialisation:
            with torch.no_grad():
                bias = statistics.bias()[self.cells.slots.clamp(min=0)]  # (C, W); padding slots are never read
                self.cells.bias_out.copy_(bias if groups is not None else bias[:, 0])

    def build_encoder(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> nn.Module:
        """What makes h^0 of a row: inputs -> (B, H)."""
        return build_encoder(config.encoder, data, statistics, out_width=config.hidden_size)

    def order_losses(
        self,
        hidden: Tensor,
        labels: Tensor,
        targets: Tensor,
        mask: Tensor,
        loss: TaskLoss,
        orders: Tensor,
        active: Tensor | None,
    ) -> Tensor:
        """L^sigma of each row in each order (Tallec 2023, eq. 2.28, 2.39, 2.40): (B, M) or (B, K)."""
        if loss.is_plain:
            return -order_log_likelihood(
                hidden, targets, orders, self.cells, mask=mask, active=active, conditioning=labels
            )
        logits = order_logits(hidden, targets, orders, self.cells, mask=mask, active=active, conditioning=labels)
        return loss(logits, targets, mask)

    def mean_prediction(
        self, hidden: Tensor, orders: Tensor, weights: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Marginals of the mixture of `orders` (M, C) with `weights` (M,) or (B, M): (B, T).

        Exact (Tallec 2023, eq. 2.23), or the mean of the probabilities along R x L sampled trajectories, R orders drawn
        from the mixture and L trajectories in each (eq. 2.13, 2.36, algorithm 2).
        """
        if self.exact:
            held = weights.reshape(-1, len(orders)).amax(dim=0) > 0  # an order of no weight costs as much as another
            return order_marginals(hidden, orders[held], weights[..., held], self.cells)
        drawn = -(-self.trajectories // self.trajectories_per_order)
        picks = torch.multinomial(weights, drawn, replacement=True, generator=generator)
        picks = picks.repeat_interleave(self.trajectories_per_order, dim=-1)[..., : self.trajectories]
        if picks.dim() == 1:
            return sample_orders(hidden, orders[picks], self.cells, generator=generator).mean(dim=1)
        total = hidden.new_zeros(len(hidden), self.cells.num_tasks)
        for order in sorted(set(picks.flatten().tolist())):
            rows = (picks == order).nonzero()[:, 0]  # a row as often as it drew this order
            along = sample_orders(hidden[rows], orders[order][None], self.cells, generator=generator)
            total.index_add_(0, rows, along[:, 0])
        return total / self.trajectories

    def _gradient_along_trajectories(
        self, hidden: Tensor, orders: Tensor, weights: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """As the sampled `mean_prediction`, with a gradient: the labels drawn are constants, as in algorithm 2.

        (B, T). Takes T passes of the recurrence, since the op that samples has no gradient.
        """
        weights = weights.expand(len(hidden), -1)
        picks = torch.multinomial(weights, self.trajectories, replacement=True, generator=generator).flatten()[:, None]
        states = hidden.repeat_interleave(self.trajectories, dim=0)  # one row a trajectory
        drawn = hidden.new_zeros(len(states), self.cells.num_tasks)
        uniforms = torch.rand(drawn.shape, generator=generator, device=drawn.device)
        along = orders[picks[:, 0]]
        for step in range(orders.shape[1]):
            with torch.no_grad():
                logits = order_logits(states, drawn, orders, self.cells, active=picks)[:, 0]
            here = self.cells.slots[along[:, step]]  # (B R, W) the labels of this step, -1 for padding
            row, slot = (here >= 0).nonzero(as_tuple=True)
            task = here[row, slot]
            drawn[row, task] = (uniforms[row, task] < torch.sigmoid(logits[row, task])).to(drawn.dtype)
        logits = order_logits(states, drawn, orders, self.cells, active=picks)[:, 0]
        return torch.sigmoid(logits).view(len(hidden), self.trajectories, -1).mean(dim=1)


class MRNN(_RecurrentNetwork):
    """One cell shared by all tasks, in the order of the tasks (Tallec 2023, eq. 2.9 to 2.13)."""

    order: Tensor

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, statistics, shared=True)
        self.register_buffer("order", torch.arange(len(data.tasks))[None, :])

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return self.order_losses(self.encoder(inputs), labels, targets, mask, loss, self.order, None)[:, 0]

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        hidden = self.encoder(inputs)
        return self.mean_prediction(hidden, self.order, hidden.new_ones(1), generator)

    def differentiable_prediction(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        hidden = self.encoder(inputs)
        return self._gradient_along_trajectories(hidden, self.order, hidden.new_ones(1), generator)


class MONET(_RecurrentNetwork):
    """One cell a task, or a group of tasks, and a mixture of orders (Tallec 2023, eq. 2.20 to 2.36, 2.42 to 2.44)."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        selector = build_selector(config.orders, data.tasks, config.hidden_size)  # refuses what does not fit the tasks
        groups = [[data.tasks.index(name) for name in group] for group in config.orders.groups] or None
        super().__init__(config, data, statistics, shared=False, groups=groups)
        self.selector = selector

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return self.mixture_losses(self.encoder(inputs), labels, targets, mask, loss)

    def mixture_losses(self, hidden: Tensor, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        """`-log sum_m pi_m exp(-L^sigma_m)` of h^0 (B, H): (B,) (Tallec 2023, eq. 2.27, 2.28, 2.42 and 2.44)."""
        active = self.selector.draw_active(len(hidden))
        losses = self.order_losses(hidden, labels, targets, mask, loss, self.selector.orders, active)
        if self.training:
            self.selector.observe(hidden.detach(), losses.detach(), active)
        return -torch.logsumexp(self.selector.log_weights(hidden, active) - losses, dim=-1)

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        hidden = self.encoder(inputs)
        return self.mean_prediction(hidden, self.selector.orders, self.selector.weights(hidden), generator)

    def differentiable_prediction(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        hidden = self.encoder(inputs)
        weights = self.selector.weights(hidden)
        return self._gradient_along_trajectories(hidden, self.selector.orders, weights, generator)

    def order_parameters(self) -> list[nn.Parameter]:
        return self.selector.trained()

    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        return self.selector.end_epoch(epoch, generator)

    def epoch_sums(self) -> list[Tensor]:
        return self.selector.epoch_sums()

    def order_summary(self) -> OrderSummary:
        return self.selector.summary()

    @torch.no_grad()
    def row_orders(self, inputs: Inputs) -> Tensor | None:
        weights = self.selector.weights(self.encoder(inputs))
        return None if weights.dim() == 1 else self.selector.orders[weights.argmax(dim=1)]
