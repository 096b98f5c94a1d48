"""What holds for every network of the spec."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.config import ATTENTION_NAMES, MODEL_NAMES, ModelConfig, ModelName
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import NETWORKS, DataDescription, Inputs, TrainingStatistics, build_network

PLAIN = TaskLoss(weights=None, dice=0.0)
WEIGHTED = TaskLoss(weights=torch.tensor([1.5, 0.5, 1.0]), dice=0.5)


def test_every_name_of_the_spec_is_built() -> None:
    assert tuple(NETWORKS) == MODEL_NAMES == get_args(ModelName)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_shapes(name: str, build: Any, inputs: Inputs) -> None:
    network = build(name)
    labels = torch.ones(64, 3)
    assert network.example_losses(inputs, labels, labels, labels.bool(), PLAIN).shape == (64,)
    with torch.no_grad():
        predicted = network.eval().predict(inputs)
    assert predicted.shape == (64, 3)
    assert bool(((predicted > 0) & (predicted < 1)).all())


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_one_task_and_an_encoder_of_another_width(name: str, build: Any, inputs: Inputs) -> None:
    network = build(name, tasks=1, hidden_size=6, head_layers=1, encoder={"layers": 1, "width": 9, "dropout": 0.5})
    labels = torch.ones(64, 1)
    network.example_losses(inputs, labels, labels, labels.bool(), PLAIN).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in network.parameters())


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("loss", [PLAIN, WEIGHTED], ids=["plain", "weighted"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), unknown=st.integers(0, 11))
def test_an_unknown_label_changes_neither_loss_nor_gradient(name: str, loss: TaskLoss, seed: int, unknown: int) -> None:
    torch.manual_seed(seed)
    encoder = {"name": "conv" if name in ATTENTION_NAMES else "features", "width": 8}
    small = {"encoder": encoder, "attention": {"width": 8, "heads": 2}, "hidden_size": 8, "orders": {"count": 4}}
    network = build_network(
        ModelConfig.model_validate({"name": name} | small),
        DataDescription(tasks=("a", "b", "c"), features=5, image_size=(8, 8)),
        TrainingStatistics(torch.zeros(5), torch.ones(5), torch.full((3,), 0.3), rows=10),
    )
    inputs = Inputs(features=torch.randn(4, 5), images=torch.rand(4, 3, 8, 8))
    mask = torch.rand(4, 3) > 0.3
    mask.view(-1)[unknown] = False
    labels = (torch.rand(4, 3) > 0.5).float() * mask  # the contract: a hard label is 0 where unknown
    targets = torch.rand(4, 3)
    other = torch.where(mask, targets, torch.rand(4, 3))
    outcomes = []
    for wanted in (targets, other):
        losses = network.example_losses(inputs, labels, wanted, mask, loss)
        gradients = torch.autograd.grad(losses.sum(), list(network.parameters()), allow_unused=True)
        outcomes.append([losses.detach(), *(g for g in gradients if g is not None)])
    assert all(torch.equal(one, two) for one, two in zip(*outcomes, strict=True))


@pytest.mark.parametrize("name", ["mrnn", "monet"])
def test_an_unknown_label_conditions_as_a_zero(name: str, build: Any, inputs: Inputs) -> None:
    network = build(name)
    mask = torch.tensor([[False, True, True]]).expand(64, -1)
    zeros, ones = torch.zeros(64, 3), torch.ones(64, 3)
    with torch.no_grad():
        as_zero = network.example_losses(inputs, torch.tensor([[0.0, 1.0, 1.0]]).expand(64, -1), ones, mask, PLAIN)
        as_one = network.example_losses(inputs, ones, ones, mask, PLAIN)
        different = network.example_losses(inputs, zeros, ones, mask, PLAIN)
    assert torch.equal(as_zero, as_one)
    assert not torch.equal(as_zero, different)


def test_vanilla_networks_ignore_the_labels_of_other_tasks(build: Any, inputs: Inputs) -> None:
    for name in ("vmnc", "vmns"):
        network = build(name)
        with torch.no_grad():
            p = network.predict(inputs)
            labels = (p > 0.3).float()
            expected = -torch.where(labels == 1, p, 1 - p).log().sum(dim=1)  # eq. 2.6 and 2.8
            losses = network.example_losses(inputs, labels, labels, labels >= 0, PLAIN)
        torch.testing.assert_close(losses, expected)


def test_vmns_heads_are_separate_and_the_vmnc_head_is_common(build: Any, inputs: Inputs) -> None:
    first_only = torch.tensor([[True, False, False]]).expand(64, -1)
    labels = torch.ones(64, 3)
    separate = build("vmns")
    separate.example_losses(inputs, labels, labels, first_only, PLAIN).sum().backward()
    assert bool((separate.heads[0][0].weight.grad != 0).any())
    assert not bool((separate.heads[1][0].weight.grad != 0).any())
    common = build("vmnc")
    assert len(common.head) == 3  # dense, ReLU, dense
    assert common.head[-1].weight.shape == (3, 8)


def test_the_encoder_standardises(build: Any) -> None:
    encoder = build("vmnc").encoder
    with torch.no_grad():
        at_mean = encoder(Inputs(features=torch.full((1, 5), 2.0)))  # the mean of the statistics
        torch.testing.assert_close(at_mean, encoder.layers(torch.zeros(1, 5)))
        torch.testing.assert_close(encoder(Inputs(features=torch.full((1, 5), 5.0))), encoder.layers(torch.ones(1, 5)))
