"""From logits to losses and probabilities: T labels each on its own, or one class of T.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from duchenne_jobs.config import LabelKind, ModelConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.network import TrainingStatistics


def initial_bias(config: ModelConfig, statistics: TrainingStatistics) -> Tensor | None:
    """(T,) output biases with which an untrained network predicts the training frequencies; None where not asked for.

    log(f / (1 - f)) (Tallec 2023, eq. 2.38), and log f for exclusive labels, whose softmax it is.
    """
    if not config.bias_initialisation:
        return None
    bias = statistics.bias()
    return bias if config.labels == "binary" else F.logsigmoid(bias)


def label_losses(kind: LabelKind, logits: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
    """Loss of each row: (B, T) logits, targets and mask -> (B,).

    Raises:
        ValueError: exclusive labels of which a row has none or several.
    """
    return loss(logits, targets, mask) if kind == "binary" else _exclusive_losses(logits, targets, mask, loss)


def probabilities(kind: LabelKind, logits: Tensor) -> Tensor:
    """(B, T) logits -> (B, T) probabilities; those of exclusive labels sum to 1."""
    return torch.sigmoid(logits) if kind == "binary" else torch.softmax(logits, dim=-1)


def _exclusive_losses(logits: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
    """`-sum_t w^t y^t log softmax(logits)^t` (Tallec 2023, 3.5.2: one categorical label, as RAF-DB's emotions).

    A row of which any label is unknown is left out.
    """
    known = mask.all(dim=-1)
    counts = targets.sum(dim=-1)
    wrong = known & (counts != 1)
    if bool(wrong.any()):
        raise ValueError(
            f"with model.labels exclusive each row must have one positive label, but {int(wrong.sum())} of "
            f"{len(wrong)} rows have another number (first: {float(counts[wrong][0]):g}); set model.labels to binary"
        )
    weighted = targets if loss.weights is None else targets * loss.weights.to(targets.dtype)
    losses = -(weighted * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    return torch.where(known, losses, torch.zeros((), dtype=losses.dtype, device=losses.device))
