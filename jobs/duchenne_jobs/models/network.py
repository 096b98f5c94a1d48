"""What every multi-task network offers to the training loop.

Shapes: B batch, F features, T tasks, H hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.inputs import Inputs

if TYPE_CHECKING:
    from duchenne_jobs.models.orders import OrderSummary


@dataclass(frozen=True)
class TrainingStatistics:
    """What a network may know of its training rows before it sees them.

    Attributes:
        feature_mean, feature_scale: (F,) mean and standard deviation of each feature (scale 1 where it is constant);
            F = 0 in a set without features.
        frequency: (T,) share of positives among the known labels of each task; 1/2 where none is known.
        rows: number of training rows.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    frequency: Tensor
    rows: int

    @classmethod
    def of(cls, features: Tensor | None, labels: Tensor) -> TrainingStatistics:
        """Measure (N, F) features and (N, T) labels in {-1, 0, 1}; -1 is unknown and does not count.

        A set of images has no features: None. Rows whose features are not finite are left out, so that one of them
        does not turn every other row into NaN: the training loop can then say which rows they are.
        """
        if features is None:
            features = torch.empty(len(labels), 0)
        finite = torch.isfinite(features).all(dim=1)
        measured = features if bool(finite.all()) or not bool(finite.any()) else features[finite]
        # torch warns of the deviation of no column at all.
        scale = measured.std(dim=0, correction=0) if measured.shape[1] else measured.new_ones(0)
        # Rounding gives a constant column a tiny deviation, and dividing by that would blow up whatever differs later.
        varies = measured.amax(dim=0) > measured.amin(dim=0)
        known = (labels >= 0).sum(dim=0)
        positives = (labels == 1).sum(dim=0)
        return cls(
            feature_mean=measured.mean(dim=0),
            feature_scale=torch.where(varies & (scale > 0), scale, torch.ones_like(scale)),
            frequency=torch.where(known > 0, positives / known.clamp(min=1), 0.5),
            rows=len(labels),
        )

    def bias(self) -> Tensor:
        """(T,) output biases `log(f / (1 - f))` (Tallec 2023, eq. 2.38).

        A task without positives (or negatives) is taken as if it had half a one, which keeps the bias finite.
        """
        floor = 0.5 / max(self.rows, 1)
        return torch.logit(self.frequency.clamp(min=floor, max=1 - floor))


class MultiTaskNetwork(nn.Module, ABC):
    """A network of T binary tasks that states its own loss and its own marginal predictions."""

    @abstractmethod
    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        """Loss of each row.

        Args:
            inputs: B rows.
            labels: (B, T) hard labels in {0, 1}, 0 where unknown: what a recurrence is conditioned on.
            targets: (B, T) smoothed labels in [0, 1].
            mask: (B, T) bool, False where unknown.
            loss: the terms to sum over tasks.

        Returns:
            (B,) losses.
        """

    @abstractmethod
    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, T) marginal probabilities p(y^t = 1 | x). Sampling models draw from `generator`."""

    def differentiable_prediction(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, T) marginal probabilities with a gradient, for attribution maps (Tallec 2023, eq. 2.41).

        A network that draws labels to predict overrides it: the gradient is that of the probabilities given the draws.
        """
        return self.predict(inputs, generator)

    def order_parameters(self) -> list[nn.Parameter]:
        """Parameters that an order selector's own optimiser trains; none for most networks."""
        return []

    def end_epoch(self, epoch: int, generator: torch.Generator) -> Tensor | None:
        """Called after each training epoch (from 1 on), before its checkpoint; draws come from `generator` (CPU).

        Returns:
            (N,) entries of each of `order_parameters` that begin anew, so that their optimiser forgets what it knows of
            them; None for none.
        """
        return None

    def epoch_sums(self) -> list[Tensor]:
        """Sums over the rows of an epoch, in place, which ranks that train together add up before `end_epoch`."""
        return []

    def order_summary(self) -> OrderSummary | None:
        """The soft order and the best order; None for a network without orders."""
        return None

    def row_orders(self, inputs: Inputs) -> Tensor | None:
        """(B, T) each row's order of the largest pi(x) (XMONET); None where the mixture is the same for every row."""
        return None
