"""How a step is taken: on one process, or on several ranks whose gradients are averaged.

Shapes: b rows of this rank, T tasks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import Inputs, MultiTaskNetwork
from duchenne_jobs.models.batch_part import normalise_over_ranks
from duchenne_jobs.models.rates import parameter_groups
from duchenne_jobs.training.ranks import Ranks

Groups = list[dict[str, Any]]


class Engine:
    """Forward, backward and the optimisers' steps, on one process.

    Args:
        config: which optimisers, and how gradients are clipped.
        network: on its device.
        ranks: who trains it together.

    Attributes:
        optimizer: of everything but what a network's order optimiser trains.
        order_optimizer: None for a network without orders.
    """

    def __init__(self, config: RunConfig, network: MultiTaskNetwork, ranks: Ranks) -> None:
        self.config = config
        self.network = network
        self.ranks = ranks
        training, orders = config.training, network.order_parameters()
        kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
        self.optimizer: torch.optim.Optimizer = kind(
            parameter_groups(network, training), weight_decay=training.weight_decay
        )
        self.order_optimizer: torch.optim.Optimizer | None = (
            torch.optim.Adam(orders, lr=config.model.orders.learning_rate) if orders else None
        )

    @property
    def rate_groups(self) -> Groups:
        """The parameter groups whose rates a schedule changes."""
        return self.optimizer.param_groups

    def losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        """(b,) losses of this rank's rows; labels, targets and mask are (b, T)."""
        return self.network.example_losses(inputs, labels, targets, mask, loss)

    def step(self, mean: Tensor, move_orders: bool) -> None:
        """Go down the gradient of `mean`, averaged over the ranks; the orders' share only if `move_orders`."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.order_optimizer is not None:
            self.order_optimizer.zero_grad(set_to_none=True)
        mean.backward()  # type: ignore[no-untyped-call]
        if self.config.training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.training.gradient_clip)
        self.optimizer.step()
        if self.order_optimizer is not None and move_orders:
            self.order_optimizer.step()

    def predictor(self) -> MultiTaskNetwork:
        """The network as it is now, for a rank to run without the others; every rank asks."""
        return self.network

    def network_state(self) -> dict[str, Any]:
        """The whole network's tensors; every rank asks."""
        return self.network.state_dict()

    def optimizer_state(self) -> dict[str, Any]:
        """What `restore` takes up; every rank asks, and gets the same."""
        return self.optimizer.state_dict()

    def restore(self, network: dict[str, Any], optimizer: dict[str, Any], orders: dict[str, Any] | None) -> None:
        """Take up what was saved, on every rank.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it does not fit.
        """
        self.network.load_state_dict(network)
        self.optimizer.load_state_dict(optimizer)
        if self.order_optimizer is not None and orders is not None:
            self.order_optimizer.load_state_dict(orders)


class LossModule(nn.Module):
    """A network's losses as a forward pass, which is what DistributedDataParallel takes."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return self.network.example_losses(inputs, labels, targets, mask, loss)


class DataParallelEngine(Engine):
    """DistributedDataParallel: each rank has the whole network and a part of each batch."""

    def __init__(self, config: RunConfig, network: MultiTaskNetwork, ranks: Ranks) -> None:
        super().__init__(config, network, ranks)
        normalise_over_ranks(network, ranks.data)
        # Order dropout leaves cells out of a step; buffers are the same on all ranks by construction.
        self._wrapped = nn.parallel.DistributedDataParallel(
            LossModule(network), process_group=ranks.data, find_unused_parameters=True, broadcast_buffers=False
        )

    def losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        losses: Tensor = self._wrapped(inputs, labels, targets, mask, loss)
        return losses


def build_engine(config: RunConfig, network: MultiTaskNetwork, ranks: Ranks) -> Engine:
    """The engine that `training.engine` names; one process alone needs none.

    Raises:
        duchenne_jobs.training.JobFailed: it is not installed here, or can't train this network.
    """
    if ranks.size == 1:
        return Engine(config, network, ranks)
    if config.training.engine == "ddp":
        return DataParallelEngine(config, network, ranks)
    from duchenne_jobs.training.zero import ZeroEngine

    return ZeroEngine(config, network, ranks)
