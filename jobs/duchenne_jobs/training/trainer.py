"""Trains one network on the rows of one fold, an epoch at a time.

All randomness of an epoch follows from (seed, epoch): a run that stops after an epoch and goes on elsewhere takes the
same steps as one that never stopped.

Frames without a face are not trained on. They are predicted as each task's training frequency, and so they count.

Shapes: N rows, B batch, T tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import Smoother, TaskLoss, inverse_frequency_weights
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.models.batch_part import draw_by_row, part_of_batch
from duchenne_jobs.training.augmentation import Augmentation
from duchenne_jobs.training.batches import Batches
from duchenne_jobs.training.engines import build_engine
from duchenne_jobs.training.job import JobFailed
from duchenne_jobs.training.ranks import ALONE, Ranks
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
        ranks: the processes that train it together, each of which makes a trainer of its own.

    Attributes:
        predictor: the network as `predict` last ran it, whole on each rank.

    Raises:
        JobFailed: no training row has a face, or these landmarks can't be mirrored.
    """

    def __init__(
        self,
        config: RunConfig,
        rows: Rows,
        data: DataDescription,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.epoch = 0
        self.data = data
        self._ranks = ranks
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
        draw_by_row(self.network)
        self._engine = build_engine(config, self.network, ranks)
        self.predictor = self.network
        self._schedule = torch.optim.lr_scheduler.ExponentialLR(self._engine.optimizer, gamma=config.training.decay)

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

    def run_epoch(self, tick: Callable[[], None]) -> float:
        """One pass over the training rows; `tick` is called before each step and may raise to end the job.

        Returns:
            The mean training loss of a row.

        Raises:
            JobFailed: the loss is not finite; the message names the epoch and the rows of the batch.
        """
        epoch = self.epoch + 1
        self._change_schedule()
        torch.manual_seed(derive_seed(self.seed, "epoch", epoch))
        steps = torch.split(self._trained[torch.randperm(len(self._trained))], self.config.training.batch_size)
        self._kept = self._draw_kept(epoch)
        self.network.train()
        total = torch.zeros((), device=self.device)
        with closing(self._batches([self._share_of(indices) for indices in steps])) as batches:
            for step, indices in enumerate(steps):
                total += self._step(epoch, step, indices, batches, tick)
        self._schedule.step()
        for sums in (total, *self.network.epoch_sums()):
            self._ranks.add(sums)
        self._end_epoch(epoch)
        self.epoch = epoch
        return float(total / len(self._trained))

    def _share_of(self, indices: Tensor) -> Tensor:
        """The rows of a batch that this rank computes."""
        part = self._ranks.part(len(indices))
        return indices if part is None else part.cut(indices)

    def _change_schedule(self) -> None:
        """Take up the change that is due after the epochs done so far; a restored optimiser has the earlier ones."""
        rate = self.config.training.learning_rate
        for change in self.config.training.schedule:
            if change.after == self.epoch:
                for group in self._engine.rate_groups:
                    group["lr"] *= 1.0 if change.learning_rate is None else change.learning_rate / rate
                    group["weight_decay"] = (
                        group["weight_decay"] if change.weight_decay is None else change.weight_decay
                    )
                self._schedule.gamma = self._schedule.gamma if change.decay is None else change.decay
            rate = change.learning_rate or rate

    def _draw_kept(self, epoch: int) -> Tensor | None:
        """Which terms of the loss count in this epoch, (N, T); None for all."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "ignored labels", epoch))
        kept = self._smoother.kept(self._rows.labels, generator)
        return None if kept is None else kept.to(self.device)

    def _end_epoch(self, epoch: int) -> None:
        """Let the network change its orders; what its order optimiser knows of the changed ones is forgotten."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "orders", epoch))
        anew = self.network.end_epoch(epoch, generator)
        optimizer = self._engine.order_optimizer
        if anew is None or optimizer is None:
            return
        for moments in optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name][anew] = 0

    def _step(
        self, epoch: int, step: int, indices: Tensor, batches: Iterator[Inputs], tick: Callable[[], None]
    ) -> Tensor:
        """Take one step on the batch of the rows `indices`: the sum of its losses, of those that this rank counts."""
        part = self._ranks.part(len(indices))
        before = [] if part is not None or self._ranks.is_first else [sums.clone() for sums in self._sums()]
        losses, error = torch.empty(0, device=self.device), None
        with part_of_batch(part):
            try:
                tick()
                losses = self._losses(epoch, step, self._share_of(indices).to(self.device), next(batches))
            except Exception as raised:  # the other ranks must hear of it before they wait for this one
                error = raised
            mean = losses.mean()
            if self._ranks.any(not bool(torch.isfinite(losses).all() and torch.isfinite(mean)), error):
                raise JobFailed(self._describe_nan(epoch, indices, self._gathered(indices, losses.detach())))
            # Gradients are averaged over the ranks, and a rank's rows are a part of the batch's.
            share = 1.0 if part is None else len(losses) * self._ranks.size / part.whole
            self._engine.step(mean * share, move_orders=self.epoch >= self.config.model.orders.warmup_epochs)
        for sums, was in zip(self._sums(), before, strict=False):
            sums.copy_(was)  # every rank saw the whole batch, which counts once
        counts = part is not None or self._ranks.is_first
        return losses.detach().sum() * counts

    def _sums(self) -> list[Tensor]:
        return self.network.epoch_sums()

    def _losses(self, epoch: int, step: int, indices: Tensor, inputs: Inputs) -> Tensor:
        """(b,) losses of this rank's rows `indices`."""
        if self._augment is not None:
            inputs = self._augment(inputs, derive_seed(self.seed, "augment", epoch, step))
        loss = self._loss if self._kept is None else self._loss.keeping(self._kept[indices])
        half = self.config.training.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self._engine.losses(
                inputs, self._labels[indices], self._targets[indices], self._mask[indices], loss
            ).float()

    def _gathered(self, indices: Tensor, losses: Tensor) -> Tensor:
        """(B,) losses of the whole batch, on the CPU."""
        part = self._ranks.part(len(indices))
        if part is None:
            return losses.cpu()
        whole = torch.zeros(len(indices), device=self.device)
        part.cut(whole).copy_(losses)
        return self._ranks.add(whole).cpu()

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
        """(N, T) marginal probabilities of `rows`, on the CPU; sampling follows from (seed, epoch, batch).

        Every rank asks, predicts some of the batches and gets all of them.
        """
        self.predictor = self._engine.predictor().eval()
        size = PREDICTION_BATCH if rows.features is not None else FACE_PREDICTION_BATCH
        steps = torch.split(torch.nonzero(rows.has_face).flatten(), size)
        mine = range(self._ranks.rank, len(steps), self._ranks.size)
        probabilities = torch.zeros(len(rows), len(self.data.tasks), device=self.device)
        with closing(Batches(rows, self.device)([steps[step] for step in mine])) as batches:
            for step, inputs in zip(mine, batches, strict=True):
                probabilities[steps[step].to(self.device)] = self.predictor.predict(inputs, self._sampler(step))
        predicted = self._ranks.add(probabilities).cpu()
        return torch.where(rows.has_face[:, None], predicted, self._frequency)

    def _sampler(self, step: int) -> torch.Generator:
        """The draws of one batch of a prediction, whichever rank makes it."""
        batch = (step,) if step else ()  # the first one's seed is as old as the recorded numbers
        return torch.Generator(device=self.device).manual_seed(derive_seed(self.seed, "predict", self.epoch, *batch))

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on after the epochs done so far, and what the network was built from.

        Every rank asks, and gets the same.
        """
        orders = self._engine.order_optimizer
        return {
            "epoch": self.epoch,
            "config": self.config.model_dump_json(),
            "data": asdict(self.data),
            "network": self._engine.network_state(),
            "optimizer": self._engine.optimizer_state(),
            "order_optimizer": None if orders is None else orders.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where `state` was saved."""
        self._engine.restore(state["network"], state["optimizer"], state["order_optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.epoch = int(state["epoch"])


def order_record(network: MultiTaskNetwork) -> dict[str, Any] | None:
    """The network's soft order and best order as plain values, for the records; None for a network without orders."""
    summary = network.order_summary()
    return None if summary is None else summary.record()
