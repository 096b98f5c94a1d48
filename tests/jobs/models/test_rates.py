"""The learning-rate rule (Tallec 2023, 3.4.3)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from duchenne_jobs.config import MODEL_NAMES, TrainingConfig
from duchenne_jobs.models.rates import attention_rate, parameter_groups

RULE: dict[str, Any] = {"learning_rate_rule": "attention", "learning_rate": 1e-2, "batch_size": 32}


def test_the_rule_by_hand() -> None:
    """B = 32, P = 14 x 14 = 196, d = 768: 1e-2 x 32 x 196 / (2.5e5 x 27.713) = 9.053e-6."""
    assert attention_rate(1e-2, batch=32, queries=196, width=768) == pytest.approx(9.053e-6, rel=1e-3)
    assert attention_rate(1e-2, 32, 12, 768) == pytest.approx(1e-2 * 32 * 12 / (2.5e5 * math.sqrt(768)))


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("fields", [{}, {"encoder_learning_rate": 5e-5}, RULE | {"encoder_learning_rate": 5e-5}])
def test_every_parameter_is_in_one_group(name: str, fields: dict[str, Any], build: Any) -> None:
    network = build(name)
    groups = parameter_groups(network, TrainingConfig(**fields))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    orders = {id(parameter) for parameter in network.order_parameters()}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in network.parameters()} - orders
    if not fields:
        assert [group["lr"] for group in groups] == [1e-3]
    torch.optim.AdamW(groups, weight_decay=0.1)


def rate_of(groups: Any, module: nn.Module | nn.Parameter) -> float:
    mine = {id(module)} if isinstance(module, nn.Parameter) else {id(parameter) for parameter in module.parameters()}
    (rate,) = {group["lr"] for group in groups for parameter in group["params"] if id(parameter) in mine}
    return float(rate)


@pytest.mark.parametrize(("name", "queries"), [("mttc", 1), ("mtts", 3), ("monet_mtts", 3)])
def test_each_part_has_its_rate(name: str, queries: int, build: Any) -> None:
    network = build(name)
    groups = parameter_groups(network, TrainingConfig(**RULE, encoder_learning_rate=5e-5))
    attention = network.encoder.attention if name == "monet_mtts" else network.attention
    patches, of_tokens = (attention_rate(1e-2, 32, count, 8) for count in (2 * 3, queries))  # 8 x 12 pixels, stride 4
    assert rate_of(groups, attention.encoder) == 5e-5
    assert rate_of(groups, attention.refinement) == pytest.approx(patches)
    assert rate_of(groups, attention.decoder) == pytest.approx(of_tokens)
    head = {"mttc": "head", "mtts": "heads", "monet_mtts": "cells"}[name]
    assert rate_of(groups, getattr(network, head)) == pytest.approx(of_tokens)
    without = parameter_groups(network, TrainingConfig(**RULE))
    assert rate_of(without, attention.encoder) == 1e-2  # no rate of its own: the base rate, not the rule's


def test_a_network_without_attention_keeps_the_base_rate(build: Any) -> None:
    groups = parameter_groups(build("vmnc"), TrainingConfig(**RULE))
    assert {group["lr"] for group in groups} == {1e-2}
