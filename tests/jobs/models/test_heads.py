"""Exclusive labels: one class of T (Tallec 2023, 3.5.2)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from duchenne_jobs.config import ModelConfig, RunConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import DataDescription, Inputs, TrainingStatistics, build_network
from duchenne_jobs.models.heads import initial_bias, label_losses, probabilities

PLAIN = TaskLoss(weights=None, dice=0.0)
LOGITS = torch.tensor([[0.0, math.log(2.0), 0.0], [0.0, 0.0, math.log(6.0)]])
LABELS = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
KNOWN = torch.ones(2, 3, dtype=torch.bool)


def test_by_hand() -> None:
    """softmax (1, 2, 1) / 4 and (1, 1, 6) / 8: losses log 2 and log 8."""
    torch.testing.assert_close(
        probabilities("exclusive", LOGITS), torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])
    )
    losses = label_losses("exclusive", LOGITS, LABELS, KNOWN, PLAIN)
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(8)]))
    weighted = label_losses("exclusive", LOGITS, LABELS, KNOWN, TaskLoss(torch.tensor([2.0, 0.5, 1.0]), dice=0.0))
    torch.testing.assert_close(weighted, torch.tensor([0.5 * math.log(2), 2 * math.log(8)]))


def test_binary_labels_go_their_way() -> None:
    torch.testing.assert_close(probabilities("binary", LOGITS), torch.sigmoid(LOGITS))
    torch.testing.assert_close(label_losses("binary", LOGITS, LABELS, KNOWN, PLAIN), PLAIN(LOGITS, LABELS, KNOWN))


def test_a_row_with_an_unknown_label_is_left_out() -> None:
    logits = LOGITS.clone().requires_grad_()
    mask = torch.tensor([[True, True, True], [True, False, True]])
    losses = label_losses("exclusive", logits, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), mask, PLAIN)
    losses.sum().backward()
    assert float(losses[1].detach()) == 0.0
    assert logits.grad is not None
    assert bool((logits.grad[1] == 0).all())
    assert bool((logits.grad[0] != 0).all())


def test_rows_with_several_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have one positive label, but 1 of 2 rows have .* \(first: 2\); set"):
        label_losses("exclusive", LOGITS, torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), KNOWN, PLAIN)


def test_an_untrained_network_predicts_the_frequencies() -> None:
    frequency = torch.tensor([0.2, 0.3, 0.5])
    statistics = TrainingStatistics(torch.empty(0), torch.empty(0), frequency, rows=100)
    for kind in ("binary", "exclusive"):
        config = ModelConfig.model_validate({"name": "vmnc", "labels": kind})
        bias = initial_bias(config, statistics)
        assert bias is not None
        torch.testing.assert_close(probabilities(config.labels, bias[None])[0], frequency)
    assert initial_bias(ModelConfig.model_validate({"bias_initialisation": False}), statistics) is None


@pytest.mark.parametrize("name", ["vmnc", "vmns", "mttc", "mtts"])
def test_networks_with_exclusive_labels(name: str) -> None:
    config: dict[str, Any] = {"name": name, "labels": "exclusive", "encoder": {"name": "conv", "width": 8}}
    frequency = torch.tensor([0.2, 0.3, 0.5])
    torch.manual_seed(0)
    network = build_network(
        ModelConfig.model_validate(config | {"attention": {"width": 8, "heads": 2}}),
        DataDescription(tasks=("anger", "joy", "fear"), image_size=(16, 16)),
        TrainingStatistics(torch.empty(0), torch.empty(0), frequency, rows=100),
    ).eval()
    inputs = Inputs(images=torch.rand(2, 3, 16, 16))
    predicted = network.predict(inputs)
    torch.testing.assert_close(predicted.sum(dim=1), torch.ones(2))
    losses = network.example_losses(inputs, LABELS, LABELS, KNOWN, PLAIN)
    torch.testing.assert_close(losses, -torch.stack([predicted[0, 1], predicted[1, 0]]).log())
    if name in ("mttc", "mtts"):  # one task, one question (3.5.2)
        assert network.attend(inputs).states.shape == (2, 1, 8)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["mrnn", "monet", "monet_mtts"])
def test_recurrences_refuse_them(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} predicts one label after another, but labels is 'exclusive'"):
        ModelConfig.model_validate({"name": name, "labels": "exclusive", "encoder": {"name": "conv"}})


@pytest.mark.parametrize("loss", [{"dice": 0.5}, {"smoothing": {"name": "rhls"}}])
def test_terms_of_binary_labels_are_refused(loss: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"smoothing and Dice are of binary labels, but model\.labels is 'exclus"):
        RunConfig.model_validate({"model": {"name": "vmnc", "labels": "exclusive"}, "loss": loss})
