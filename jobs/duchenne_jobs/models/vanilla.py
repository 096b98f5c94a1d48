"""Vanilla multi-task networks: tasks independent given the input (Tallec 2023, 2.3.2, eq. 2.6 and 2.7).

Shapes: B batch, C channels of a token, h x w tokens of an image, W encoder width, H head width, T tasks.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.encoders import TokenEncoder, encoder_of
from duchenne_jobs.models.guidance import build_guidance
from duchenne_jobs.models.heads import initial_bias, label_losses, probabilities
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

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.encoder = encoder_of(config.encoder, data, statistics)
        self.guidance = build_guidance(config.guidance, data)
        self.labels = config.labels

    @abstractmethod
    def logits(self, encoded: Tensor) -> Tensor:
        """(B, W) -> (B, T)."""

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        encoder = self.encoder
        if self.guidance is None or not isinstance(encoder, TokenEncoder):
            return label_losses(self.labels, self.logits(encoder(inputs)), targets, mask, loss)
        maps = encoder.tokens(inputs)  # what guides a network without attention looks at its encoder's channels
        logits = self.logits(encoder.pool(maps))
        added: Tensor = self.guidance(inputs, maps=maps, outputs=logits)
        return label_losses(self.labels, logits, targets, mask, loss) + added

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        return probabilities(self.labels, self.logits(self.encoder(inputs)))


class VMNC(_VanillaNetwork):
    """VMN Common: one head that all tasks share up to its last layer."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, statistics)
        bias = initial_bias(config, statistics)
        self.head = dense_head(self.encoder.width, config.hidden_size, config.head_layers, len(data.tasks), bias)

    def logits(self, encoded: Tensor) -> Tensor:
        logits: Tensor = self.head(encoded)
        return logits


class VMNS(_VanillaNetwork):
    """VMN Separate: a head of its own for each task."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, statistics)
        bias = initial_bias(config, statistics)
        biases = [None] * len(data.tasks) if bias is None else torch.split(bias, 1)
        self.heads = nn.ModuleList(
            dense_head(self.encoder.width, config.hidden_size, config.head_layers, 1, bias) for bias in biases
        )

    def logits(self, encoded: Tensor) -> Tensor:
        return torch.cat([head(encoded) for head in self.heads], dim=-1)
