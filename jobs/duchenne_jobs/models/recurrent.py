"""Networks that predict tasks one after another: MRNN in one order, MONET in many (Tallec 2023, 2.3.2 and 2.4).

Shapes: B batch, F features, H hidden, M orders, K active orders, T tasks, R trajectories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.encoders import build_encoder
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.orders import OrderSelector
from duchenne_kernels import GRUCells, order_log_likelihood, order_logits, sample_orders


class _RecurrentNetwork(MultiTaskNetwork):
    """Encoder, cells, and the losses of a row in given orders."""

    cells: GRUCells

    def __init__(
        self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics, shared: bool
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, statistics, out_width=config.hidden_size)
        self.cells = GRUCells(num_tasks=len(data.tasks), hidden_size=config.hidden_size, shared=shared)
        self.trajectories = config.trajectories
        if config.bias_initialisation:
            with torch.no_grad():
                self.cells.bias_out.copy_(statistics.bias())

    def order_losses(
        self,
        inputs: Inputs,
        labels: Tensor,
        targets: Tensor,
        mask: Tensor,
        loss: TaskLoss,
        orders: Tensor,
        active: Tensor | None,
    ) -> Tensor:
        """L^sigma of each row in each order (Tallec 2023, eq. 2.28, 2.39, 2.40): (B, M) or (B, K)."""
        hidden = self.encoder(inputs)
        if loss.is_plain:
            return -order_log_likelihood(
                hidden, targets, orders, self.cells, mask=mask, active=active, conditioning=labels
            )
        logits = order_logits(hidden, targets, orders, self.cells, mask=mask, active=active, conditioning=labels)
        return loss(logits, targets, mask)

    def mean_prediction(self, inputs: Inputs, orders: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean of the probabilities along sampled trajectories (Tallec 2023, eq. 2.13 and 2.36): (B, T)."""
        return sample_orders(self.encoder(inputs), orders, self.cells, generator=generator).mean(dim=1)


class MRNN(_RecurrentNetwork):
    """One cell shared by all tasks, in the order of the tasks (Tallec 2023, eq. 2.9 to 2.13)."""

    order: Tensor

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, statistics, shared=True)
        self.register_buffer("order", torch.arange(len(data.tasks))[None, :])

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return self.order_losses(inputs, labels, targets, mask, loss, self.order, None)[:, 0]

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        return self.mean_prediction(inputs, self.order.expand(self.trajectories, -1), generator)


class MONET(_RecurrentNetwork):
    """One cell a task, and a learned mixture of orders (Tallec 2023, eq. 2.20 to 2.36)."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, statistics, shared=False)
        self.selector = OrderSelector(config.orders, len(data.tasks))

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        """`-log sum_m pi_m exp(-L^sigma_m)` (Tallec 2023, eq. 2.27 and 2.28)."""
        active = self.selector.draw_active(len(inputs))
        losses = self.order_losses(inputs, labels, targets, mask, loss, self.selector.orders, active)
        return -torch.logsumexp(self.selector.log_weights(active) - losses, dim=-1)

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        return self.mean_prediction(inputs, self.selector.sample(self.trajectories, generator), generator)

    def order_parameters(self) -> list[nn.Parameter]:
        return [self.selector.logits]

    def soft_order(self) -> Tensor:
        return self.selector.soft_order()
