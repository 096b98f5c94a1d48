"""Trains one network on the rows of one fold, an epoch at a time.

All randomness of an epoch follows from (seed, epoch): a run that stops after an epoch and goes on elsewhere takes the
same steps as one that never stopped.

Shapes: N rows, B batch, T tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import Smoother, TaskLoss, inverse_frequency_weights
from duchenne_jobs.models import DataDescription, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.training.job import JobFailed
from duchenne_jobs.training.split import Rows

PREDICTION_BATCH = 1024


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that is a pure function of `parts`."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Trainer:
    """Network, loss and optimisers of one fold job.

    Args:
        config: model, loss and optimisation.
        rows: the training rows.
        data: what the network is built for.
        seed: seed of initial weights, row order, dropout and sampling.
        device: where to train.
    """

    def __init__(self, config: RunConfig, rows: Rows, data: DataDescription, seed: int, device: torch.device) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.epoch = 0
        self._rows = rows
        self._inputs = rows.inputs.to(device)
        self._mask = (rows.labels >= 0).to(device)
        self._labels = rows.labels.clamp(min=0).to(device=device, dtype=torch.float32)
        statistics = TrainingStatistics.of(rows.inputs.features, rows.labels)
        torch.manual_seed(derive_seed(seed, "weights"))
        self.network = build_network(config.model, data, statistics).to(device)
        self._smoother = Smoother.from_config(config.loss.smoothing, statistics.frequency)
        self._targets = self._smoother(self._labels.cpu()).to(device)
        self._loss = self._task_loss(statistics)
        self._optimizer, self._order_optimizer = self._build_optimizers()
        self._schedule = torch.optim.lr_scheduler.ExponentialLR(self._optimizer, gamma=config.training.decay)

    def _task_loss(self, statistics: TrainingStatistics) -> TaskLoss:
        weights = None
        if self.config.loss.task_weights == "inverse_frequency":
            weights = inverse_frequency_weights(statistics.frequency, statistics.rows).to(self.device)
        return TaskLoss(weights, self.config.loss.dice)

    def _build_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
        orders = self.network.order_parameters()
        held = {id(parameter) for parameter in orders}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in held]
        training = self.config.training
        kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
        main = kind(rest, lr=training.learning_rate, weight_decay=training.weight_decay)
        if not orders:
            return main, None
        return main, torch.optim.Adam(orders, lr=self.config.model.orders.learning_rate)

    def run_epoch(self, tick: Callable[[], None]) -> float:
        """One pass over the training rows; `tick` is called before each step and may raise to end the job.

        Returns:
            The mean training loss of a row.

        Raises:
            JobFailed: the loss is not finite; the message names the epoch and the rows of the batch.
        """
        epoch = self.epoch + 1
        torch.manual_seed(derive_seed(self.seed, "epoch", epoch))
        order = torch.randperm(len(self._rows)).to(self.device)
        self.network.train()
        total = torch.zeros((), device=self.device)
        for indices in torch.split(order, self.config.training.batch_size):
            tick()
            losses = self._step(indices)
            if not bool(torch.isfinite(losses).all()):
                raise JobFailed(self._describe_nan(epoch, indices, losses))
            total += losses.sum()
        self._schedule.step()
        self.epoch = epoch
        return float(total / len(self._rows))

    def _step(self, indices: Tensor) -> Tensor:
        losses = self.network.example_losses(
            self._inputs[indices], self._labels[indices], self._targets[indices], self._mask[indices], self._loss
        )
        mean = losses.mean()
        if not bool(torch.isfinite(mean)):
            return losses.detach()
        self._optimizer.zero_grad(set_to_none=True)
        if self._order_optimizer is not None:
            self._order_optimizer.zero_grad(set_to_none=True)
        mean.backward()  # type: ignore[no-untyped-call]
        if self.config.training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.training.gradient_clip)
        self._optimizer.step()
        if self._order_optimizer is not None and self.epoch >= self.config.model.orders.warmup_epochs:
            self._order_optimizer.step()
        return losses.detach()

    def _describe_nan(self, epoch: int, indices: Tensor, losses: Tensor) -> str:
        broken = indices[~torch.isfinite(losses)]
        if not len(broken):  # each is finite, their sum is not
            broken = indices
        return (
            f"epoch {epoch}: the loss of each row must be finite, but it is not for {len(broken)} of the batch's "
            f"{len(indices)} rows ({self._rows.listed(broken)}); lower training.learning_rate, set "
            "training.gradient_clip or look at these rows"
        )

    @torch.no_grad()
    def predict(self, rows: Rows) -> Tensor:
        """(N, T) marginal probabilities of `rows`, on the CPU; sampling follows from (seed, epoch)."""
        self.network.eval()
        generator = torch.Generator(device=self.device)
        generator.manual_seed(derive_seed(self.seed, "predict", self.epoch))
        batches = (rows.inputs[i : i + PREDICTION_BATCH].to(self.device) for i in range(0, len(rows), PREDICTION_BATCH))
        return torch.cat([self.network.predict(batch, generator).cpu() for batch in batches])

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on after the epochs done so far."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "order_optimizer": self._order_optimizer.state_dict() if self._order_optimizer else None,
            "schedule": self._schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where `state` was saved."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._order_optimizer is not None:
            self._order_optimizer.load_state_dict(state["order_optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.epoch = int(state["epoch"])


def soft_order_of(network: MultiTaskNetwork) -> list[list[float]] | None:
    """The network's soft order matrix as plain lists, for the records."""
    matrix = network.soft_order()
    return None if matrix is None else [[round(float(p), 6) for p in row] for row in matrix.detach().cpu()]
