"""The loss of one task and one row: weighted cross-entropy plus Dice (Tallec 2023, eq. 2.39 and 2.40).

Shapes: B batch, M orders, T tasks. Signs: losses are minimised (2.5, 2.8 and 2.12 drop the minus).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

DICE_EPSILON = 1.0


def inverse_frequency_weights(frequency: Tensor, rows: int) -> Tensor:
    """Frequency-weighted BCE: w^t = (1 / f^t) / mean_j (1 / f^j) (Tallec 2023, eq. 2.39 and 4.4.2).

    It weights tasks, not positive labels: 4.4.2 prints `w^t = (1 / f^t) / sum_j (1 / f^j)`, and 2.39 the same up to a
    factor. Ours is T times as much, so that MONET's `exp(-L)` stays on the scale of a likelihood.

    Args:
        frequency: (T,) share of positive labels.
        rows: number of training rows behind it; a task without a positive counts as if it had half a one.

    Returns:
        (T,) weights that average 1, so that the learning rate keeps its meaning.
    """
    inverse = 1.0 / frequency.clamp(min=0.5 / max(rows, 1))
    return inverse * (len(inverse) / inverse.sum())


@dataclass(frozen=True)
class TaskLoss:
    """`sum_t w^t (BCE + dice * DICE)` of logits, summed over the known tasks.

    Attributes:
        weights: (T,) task weights, or None for ones.
        dice: coefficient lambda of the Dice term.
        kept: (B, T) bool, the terms of this batch that count, or None for all (4.5.2; see `Smoother.kept`). Apart from
            the mask: an ignored label is known, and conditions later tasks as it is.
    """

    weights: Tensor | None
    dice: float
    kept: Tensor | None = None

    def keeping(self, kept: Tensor | None) -> TaskLoss:
        """The same loss for a batch of which only the terms `kept` count."""
        return replace(self, kept=kept)

    @property
    def is_plain(self) -> bool:
        """Whether it is the bare negative log-likelihood, which the recurrence computes in one op."""
        return self.weights is None and self.dice == 0.0 and self.kept is None

    def __call__(self, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Loss summed over tasks.

        Args:
            logits: (B, T) or (B, M, T).
            targets: (B, T) soft labels in [0, 1].
            mask: (B, T) bool, False where the label is unknown.

        Returns:
            (B,) or (B, M).
        """
        if self.kept is not None:
            mask = mask & self.kept
        if logits.dim() == 3:
            targets, mask = targets[:, None, :], mask[:, None, :]
        targets = targets.to(logits.dtype).expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.dice > 0:
            p = torch.sigmoid(logits)
            overlap = 2 * targets * p + DICE_EPSILON
            loss = loss + self.dice * (1 - overlap / (targets.square() + p.square() + DICE_EPSILON))
        if self.weights is not None:
            loss = loss * self.weights.to(loss.dtype)
        # `where`, not a product: an unknown label's term must not turn an infinity of its own into NaN.
        return torch.where(mask, loss, torch.zeros((), dtype=loss.dtype, device=loss.device)).sum(dim=-1)
