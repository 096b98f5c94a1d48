"""Trains one network on the rows of one fold, an epoch at a time.

All randomness of an epoch follows from (seed, epoch): a run that stops after an epoch and goes on elsewhere takes the
same steps as one that never stopped.

Frames without a face are not trained on. They are predicted as each task's training frequency, and so they count.

Shapes: N rows, B batch, T tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import Smoother, TaskLoss, inverse_frequency_weights
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.models.rates import parameter_groups
from duchenne_jobs.training.augmentation import Augmentation
from duchenne_jobs.training.batches import Batches
from duchenne_jobs.training.job import JobFailed
from duchenne_jobs.training.split import Rows

PREDICTION_BATCH = 1024  # rows of features
FACE_PREDICTION_BATCH = 64


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
        seed: seed of initial weights, row order, augmentation, dropout and sampling.
        device: where to train.

    Raises:
        JobFailed: no training row has a face, or these landmarks can't be mirrored.
    """

    def __init__(self, config: RunConfig, rows: Rows, data: DataDescription, seed: int, device: torch.device) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.epoch = 0
        self.data = data
        self._rows = rows
        self._trained = torch.nonzero(rows.has_face).flatten()
        if not len(self._trained):
            raise JobFailed(f"no face was found in any of the {len(rows)} training rows; look at the dataset's images")
        self._batches = Batches(rows, device)
        self._augment = self._augmentation()
        self._mask = (rows.labels >= 0).to(device)
        self._labels = rows.labels.clamp(min=0).to(device=device, dtype=torch.float32)
        trained_labels = rows.labels[self._trained]
        statistics = TrainingStatistics.of(rows.features, trained_labels)
        self._frequency = statistics.frequency
        torch.manual_seed(derive_seed(seed, "weights"))
        try:
            self.network = build_network(config.model, data, statistics).to(device)
        except ValueError as error:  # what the model asks for does not fit the data
            raise JobFailed(str(error)) from error
        self._smoother = Smoother.from_config(config.loss.smoothing, statistics.frequency, trained_labels)
        self._targets = self._smoother(self._labels.cpu()).to(device)
        self._kept: Tensor | None = None
        self._loss = self._task_loss(statistics)
        self._optimizer, self._order_optimizer = self._build_optimizers()
        self._schedule = torch.optim.lr_scheduler.ExponentialLR(self._optimizer, gamma=config.training.decay)

    def _augmentation(self) -> Augmentation | None:
        if self._rows.features is not None:
            return None
        try:
            return Augmentation(self.config.training.augmentation, self.data)
        except ValueError as error:
            raise JobFailed(str(error)) from error

    def _task_loss(self, statistics: TrainingStatistics) -> TaskLoss:
        weights = None
        if self.config.loss.task_weights == "inverse_frequency":
            weights = inverse_frequency_weights(statistics.frequency, statistics.rows).to(self.device)
        return TaskLoss(weights, self.config.loss.dice)

    def _build_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
        orders = self.network.order_parameters()
        training = self.config.training
        kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
        main = kind(parameter_groups(self.network, training), weight_decay=training.weight_decay)
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
        steps = torch.split(self._trained[torch.randperm(len(self._trained))], self.config.training.batch_size)
        self._kept = self._draw_kept(epoch)
        self.network.train()
        total = torch.zeros((), device=self.device)
        with closing(self._batches(steps)) as batches:
            for step, indices in enumerate(steps):
                tick()
                inputs = next(batches)
                if self._augment is not None:
                    inputs = self._augment(inputs, derive_seed(self.seed, "augment", epoch, step))
                losses = self._step(indices.to(self.device), inputs)
                if not bool(torch.isfinite(losses).all()):
                    raise JobFailed(self._describe_nan(epoch, indices, losses.cpu()))
                total += losses.sum()
        self._schedule.step()
        self._end_epoch(epoch)
        self.epoch = epoch
        return float(total / len(self._trained))

    def _draw_kept(self, epoch: int) -> Tensor | None:
        """Which terms of the loss count in this epoch, (N, T); None for all."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "ignored labels", epoch))
        kept = self._smoother.kept(self._rows.labels, generator)
        return None if kept is None else kept.to(self.device)

    def _end_epoch(self, epoch: int) -> None:
        """Let the network change its orders; what its order optimiser knows of the changed ones is forgotten."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "orders", epoch))
        anew = self.network.end_epoch(epoch, generator)
        if anew is None or self._order_optimizer is None:
            return
        for moments in self._order_optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name][anew] = 0

    def _step(self, indices: Tensor, inputs: Inputs) -> Tensor:
        loss = self._loss if self._kept is None else self._loss.keeping(self._kept[indices])
        losses = self.network.example_losses(
            inputs, self._labels[indices], self._targets[indices], self._mask[indices], loss
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
        probabilities = self._frequency.expand(len(rows), -1).clone()
        size = PREDICTION_BATCH if rows.features is not None else FACE_PREDICTION_BATCH
        steps = torch.split(torch.nonzero(rows.has_face).flatten(), size)
        with closing(Batches(rows, self.device)(steps)) as batches:
            for indices, inputs in zip(steps, batches, strict=True):
                probabilities[indices] = self.network.predict(inputs, generator).cpu()
        return probabilities

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on after the epochs done so far, and what the network was built from."""
        return {
            "epoch": self.epoch,
            "config": self.config.model_dump_json(),
            "data": asdict(self.data),
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


def order_record(network: MultiTaskNetwork) -> dict[str, Any] | None:
    """The network's soft order and best order as plain values, for the records; None for a network without orders."""
    summary = network.order_summary()
    return None if summary is None else summary.record()
