"""Every smoothing, in a vanilla network and in MONET: what the networks are given, and that a run can be resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.training.split import Rows
from duchenne_jobs.training.trainer import Trainer

TASKS = ("AU1", "AU4", "AU12")
SMOOTHINGS: list[dict[str, Any]] = [
    {"name": "ls", "alpha": 0.2},
    {"name": "vals", "alpha_negative": 0.5},
    {"name": "rhls", "beta": 0.5},
    {"name": "rhls", "beta": 0.5, "mixing": "dependent"},
    {"name": "rhls", "beta": 1.0, "mixing": "ignore"},
    {"name": "vals", "alpha_positive": 0.5, "alpha_negative": 0.5, "mixing": "ignore"},
]


@pytest.fixture(scope="module")
def rows() -> Rows:
    draw = np.random.default_rng(0)
    features = torch.from_numpy(draw.normal(size=(48, 3)).astype(np.float32))
    labels = torch.from_numpy((draw.random((48, 3)) < [0.2, 0.4, 0.7]).astype(np.int8))
    labels[5, 1] = -1
    names = np.array([f"s{row:02d}" for row in range(48)], dtype=object)
    return Rows(Inputs(features=features), labels, names, np.full(48, "", dtype=object), np.zeros(48, dtype=np.int64))


def trainer(rows: Rows, name: str, smoothing: dict[str, Any]) -> Trainer:
    config = RunConfig.model_validate(
        {
            "model": {"name": name, "encoder": {"layers": 1, "width": 6}, "hidden_size": 6, "orders": {"count": 6}},
            "loss": {"smoothing": smoothing},
            "training": {"epochs": 2, "batch_size": 16},
        }
    )
    return Trainer(config, rows, DataDescription(tasks=TASKS, features=3), 7, torch.device("cpu"))


@pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=lambda smoothing: "-".join(map(str, smoothing.values())))
@pytest.mark.parametrize("name", ["vmnc", "monet"])
def test_a_resumed_run_takes_the_same_steps(name: str, smoothing: dict[str, Any], rows: Rows) -> None:
    whole = trainer(rows, name, smoothing)
    losses = [whole.run_epoch(lambda: None) for _ in range(2)]
    first = trainer(rows, name, smoothing)
    assert first.run_epoch(lambda: None) == losses[0]
    second = trainer(rows, name, smoothing)
    second.restore(first.state())
    assert second.run_epoch(lambda: None) == losses[1]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["vmnc", "monet"])
def test_labels_stay_hard_and_targets_are_smoothed(name: str, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = trainer(rows, name, {"name": "rhls", "beta": 1.0})
    seen: list[tuple[Tensor, Tensor]] = []
    original = subject.network.example_losses

    def spy(inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        seen.append((labels, targets))
        return original(inputs, labels, targets, mask, loss)

    monkeypatch.setattr(subject.network, "example_losses", spy)
    subject.run_epoch(lambda: None)
    assert all(bool(((labels == 0) | (labels == 1)).all()) for labels, _ in seen)
    assert any(bool(((targets > 0) & (targets < 1)).any()) for _, targets in seen)


def test_an_ignored_positive_still_conditions_the_later_tasks(rows: Rows) -> None:
    network = trainer(rows, "monet", {"name": "none"}).network.eval()
    inputs, labels = rows.inputs[torch.arange(4)], torch.tensor([[1.0, 0.0, 1.0]]).repeat(4, 1)
    known = torch.ones(4, 3, dtype=torch.bool)
    kept = torch.tensor([[False, True, True]]).repeat(4, 1)
    ignored = network.example_losses(inputs, labels, labels, known, TaskLoss(None, 0.0).keeping(kept))
    unknown = network.example_losses(inputs, labels, labels, kept, TaskLoss(None, 0.0))
    assert not torch.allclose(ignored, unknown)  # an unknown label conditions as 0


def test_each_epoch_ignores_other_labels(rows: Rows) -> None:
    subject = trainer(rows, "vmnc", {"name": "vals", "alpha_negative": 0.5, "mixing": "ignore"})
    drawn = []
    for _ in range(2):
        subject.run_epoch(lambda: None)
        drawn.append(subject._kept)
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert not torch.equal(drawn[0], drawn[1])
