"""Multi-task transformers: attention that tasks share (MTTC) or not (MTTS), and MONET on top (Tallec 2023, 3.4.2).

Shapes: B rows, d width of a token, n heads, h x w tokens of an image, T tasks, Q task tokens, H hidden.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.config.guidance_fit import AttentionShape
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models.attention import Attended, TaskTokens, TokenMap, TokenRefinement
from duchenne_jobs.models.guidance import build_guidance
from duchenne_jobs.models.heads import initial_bias, label_losses, probabilities
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.recurrent import MONET


class TaskAttention(nn.Module):
    """Encoder, self-attention over its tokens, task tokens that attend to them (Tallec 2023, figure 3.4), and guidance.

    Args:
        queries: Q: one task token for all tasks, or one each.

    Raises:
        ValueError: the encoder has no tokens, or it or the guidance does not fit the data.
    """

    def __init__(self, config: ModelConfig, data: DataDescription, queries: int) -> None:
        super().__init__()
        layers = config.attention
        per_task = queries == len(data.tasks)
        shape = AttentionShape(layers.cross_layers, layers.heads, layers.width, per_task)
        self.guidance = build_guidance(config.guidance, data, shape)
        self.encoder = TokenMap(config.encoder, layers, data)
        self.refinement = TokenRefinement(layers, self.encoder.grid)
        self.decoder = TaskTokens(layers, queries)

    def forward(self, inputs: Inputs) -> Attended:
        """What the task tokens of B rows become, and where they look."""
        tokens, maps = self.encoder(inputs)
        priors = None if self.guidance is None else self.guidance.attention_priors(inputs, self.encoder.grid)
        states, scores = self.decoder(self.refinement(tokens), self.encoder.grid, priors)
        return Attended(states, scores, maps)

    def guided(self, losses: Tensor, inputs: Inputs, attended: Attended, logits: Tensor | None) -> Tensor:
        """(B,) losses of rows, with what the guidance adds to them."""
        if self.guidance is None:
            return losses
        added: Tensor = self.guidance(inputs, attended.scores, maps=attended.maps, outputs=logits)
        return losses + added


class _Transformer(MultiTaskNetwork):
    """Everything but how many task tokens there are and what reads them."""

    def __init__(self, config: ModelConfig, data: DataDescription, queries: int) -> None:
        super().__init__()
        self.attention = TaskAttention(config, data, queries)
        self.labels = config.labels

    def attend(self, inputs: Inputs) -> Attended:
        """States (B, Q, d), and the scores of each cross-attention layer (B, n, Q, h, w)."""
        attended: Attended = self.attention(inputs)
        return attended

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """(B, Q, d) states -> (B, T)."""

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        attended = self.attend(inputs)
        logits = self.logits(attended.states)
        return self.attention.guided(label_losses(self.labels, logits, targets, mask, loss), inputs, attended, logits)

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> Tensor:
        return probabilities(self.labels, self.logits(self.attend(inputs).states))


def _dense(config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> nn.Linear:
    """A dense layer d -> T."""
    dense = nn.Linear(config.attention.width, len(data.tasks))
    bias = initial_bias(config, statistics)
    if bias is not None:
        with torch.no_grad():
            dense.bias.copy_(bias)
    return dense


class MTTC(_Transformer):
    """One task token for all tasks, and a dense layer with T outputs (Tallec 2023, eq. 3.23 to 3.25)."""

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, queries=1)
        self.head = _dense(config, data, statistics)

    def logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self.head(states[:, 0])
        return logits


class MTTS(_Transformer):
    """A task token and a dense unit of its own for each task (Tallec 2023, eq. 3.26 to 3.28).

    Exclusive labels are one task with a dense unit for each class (3.5.2): one token, as in `MTTC`.
    """

    def __init__(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> None:
        super().__init__(config, data, queries=1 if config.labels == "exclusive" else len(data.tasks))
        self.heads = _dense(config, data, statistics)  # row t is D^t, which reads the state of task t alone

    def logits(self, states: Tensor) -> Tensor:
        return (states * self.heads.weight).sum(dim=-1) + self.heads.bias


class TaskStates(nn.Module):
    """h^0 of a recurrence from the task tokens of MTTS: a dense layer on all of them, side by side.

    The recurrence takes one hidden state a row, so the states of the tasks enter together, at its start.
    """

    def __init__(self, config: ModelConfig, data: DataDescription) -> None:
        super().__init__()
        self.attention = TaskAttention(config, data, queries=len(data.tasks))
        self.projection = nn.Linear(len(data.tasks) * config.attention.width, config.hidden_size)

    def hidden(self, attended: Attended) -> Tensor:
        """(B, T, d) states -> (B, H)."""
        hidden: Tensor = self.projection(attended.states.flatten(1))
        return hidden

    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, H)."""
        return self.hidden(self.attention(inputs))


class MonetMTTS(MONET):
    """MONET whose h^0 comes from the task tokens of MTTS, guided or not (suggested by the thesis, not tried)."""

    encoder: TaskStates

    def build_encoder(self, config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> TaskStates:
        return TaskStates(config, data)

    def attend(self, inputs: Inputs) -> Attended:
        """States (B, T, d), and the scores of each cross-attention layer (B, n, T, h, w)."""
        attended: Attended = self.encoder.attention(inputs)
        return attended

    def example_losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        attended = self.attend(inputs)
        losses = self.mixture_losses(self.encoder.hidden(attended), labels, targets, mask, loss)
        return self.encoder.attention.guided(losses, inputs, attended, None)
