"""Vanilla multi-task networks: tasks independent given the input (Tallec 2023, 2.3.2, eq. 2.6 and 2.7).

Shapes: B batch, F features, W encoder width, H head width, T tasks.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.encoders import build_encoder
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics


def dense_head(width: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """`layers` dense layers, ReLU between them: W -> H -> ... -> outputs."""
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*modules, nn.Linear(width, outputs))


class _VanillaNetwork(MultiTaskNetwork):
    """Everything but where the heads split."""

    @abstractmethod
    def logits(self, inputs: Tensor) -> Tensor:
        """(B, F) -> (B, T)."""

    def example_losses(self, inputs: Tensor, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return loss(self.logits(inputs), targets, mask)

    def predict(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.sigmoid(self.logits(inputs))


class VMNC(_VanillaNetwork):
    """VMN Common: one head that all tasks share up to its last layer."""

    def __init__(self, config: ModelConfig, tasks: int, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, statistics)
        self.head = dense_head(config.encoder.width, config.hidden_size, config.head_layers, tasks)
        if config.bias_initialisation:
            with torch.no_grad():
                self.head[-1].bias.copy_(statistics.bias())

    def logits(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs))


class VMNS(_VanillaNetwork):
    """VMN Separate: a head of its own for each task."""

    def __init__(self, config: ModelConfig, tasks: int, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, statistics)
        self.heads = nn.ModuleList(
            dense_head(config.encoder.width, config.hidden_size, config.head_layers, 1) for _ in range(tasks)
        )
        if config.bias_initialisation:
            with torch.no_grad():
                for head, bias in zip(self.heads, statistics.bias(), strict=True):
                    head[-1].bias.fill_(bias)

    def logits(self, inputs: Tensor) -> Tensor:
        encoded = self.encoder(inputs)
        return torch.cat([head(encoded) for head in self.heads], dim=-1)
