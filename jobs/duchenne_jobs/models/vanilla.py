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
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics


def dense_head(width: int, hidden: int, layers: int, outputs: int, bias: Tensor | None = None) -> nn.Sequential:
    """`layers` dense layers, ReLU between them: W -> H -> ... -> outputs. `bias` (outputs,) starts the last one's."""
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    last = nn.Linear(width, outputs)
    if bias is not None:
        with torch.no_grad():
            last.bias.copy_(bias)
    return nn.Sequential(*modules, last)


class _VanillaNetwork(MultiTaskNetwork):
    """Everything but where the heads split."""

    @abstractmethod
    def logits(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, T)."""

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        return loss(self.logits(inputs), targets, mask)

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        return torch.sigmoid(self.logits(inputs))


class VMNC(_VanillaNetwork):
    """VMN Common: one head that all tasks share up to its last layer."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, statistics)
        bias = statistics.bias() if config.bias_initialisation else None
        self.head = dense_head(config.encoder.width, config.hidden_size, config.head_layers, len(data.tasks), bias)

    def logits(self, inputs: Inputs) -> Tensor:
        logits: Tensor = self.head(self.encoder(inputs))
        return logits


class VMNS(_VanillaNetwork):
    """VMN Separate: a head of its own for each task."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.encoder = build_encoder(config.encoder, statistics)
        biases = torch.split(statistics.bias(), 1) if config.bias_initialisation else [None] * len(data.tasks)
        self.heads = nn.ModuleList(
            dense_head(config.encoder.width, config.hidden_size, config.head_layers, 1, bias) for bias in biases
        )

    def logits(self, inputs: Inputs) -> Tensor:
        encoded = self.encoder(inputs)
        return torch.cat([head(encoded) for head in self.heads], dim=-1)
