"""The learning rates of a network's parts (Tallec 2023, 3.4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from duchenne_jobs.config import TrainingConfig
from duchenne_jobs.models.attention import AttentionStage, TaskTokens, TokenMap
from duchenne_jobs.models.encoders import Encoder
from duchenne_jobs.models.network import MultiTaskNetwork

RATE_SCALE = 2.5e5
"""S of the rule, "a scale derived from the experiments in" Vaswani et al. 2017."""


def attention_rate(base: float, batch: int, queries: int, width: int) -> float:
    """`lambda_t = lambda_t^(0) B q / (S sqrt(d))` (Tallec 2023, 3.4.3)."""
    return base * batch * queries / (RATE_SCALE * math.sqrt(width))


def parameter_groups(network: MultiTaskNetwork, training: TrainingConfig) -> list[dict[str, Any]]:
    """All parameters but those of orders, in groups of one learning rate (`params` and `lr`) for an optimiser.

    - The encoder, with the convolution and normalisation that bring its tokens to the attention's width, has
      `encoder_learning_rate` (lambda_c), or the base rate.
    - With `learning_rate_rule: attention`, self-attention has q = P, and all that follows it (task tokens,
      cross-attention, heads, cells) q = the number of task tokens. A network without attention keeps the base rate.
    """
    base = training.learning_rate
    taken = {id(parameter) for parameter in network.order_parameters()}
    groups: list[dict[str, Any]] = []

    def take(parameters: Iterable[nn.Parameter], rate: float) -> None:
        mine = [parameter for parameter in parameters if id(parameter) not in taken]
        taken.update(id(parameter) for parameter in mine)
        if mine:
            groups.append({"params": mine, "lr": rate})

    by_attention = training.learning_rate_rule == "attention"
    if by_attention or training.encoder_learning_rate is not None:
        for module in network.modules():
            if isinstance(module, (Encoder, TokenMap)):
                take(module.parameters(), training.encoder_learning_rate or base)
    rest = base
    for stage in network.modules() if by_attention else ():
        if isinstance(stage, AttentionStage):
            rate = attention_rate(base, training.batch_size, stage.queries, stage.width)
            take(stage.parameters(), rate)
            rest = rate if isinstance(stage, TaskTokens) else rest
    take(network.parameters(), rest)
    return groups
