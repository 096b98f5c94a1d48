"""Schedules: a change takes hold where it is written, and a run that goes on from its parent is the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from duchenne_jobs.training import FoldJob
from duchenne_jobs.training.checkpoint import load_checkpoint
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path
from duchenne_jobs.training.trainer import Trainer

CHANGES = ({"after": 1, "learning_rate": 5e-3, "decay": 0.5}, {"after": 3, "learning_rate": 1e-3, "weight_decay": 0.2})


def test_a_change_takes_hold_after_its_epoch(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("vmnc", training={"schedule": CHANGES})
    rates, decays = [], []
    for _ in range(4):
        trained.run_epoch(lambda: None)
        # Each epoch ends with the decay that the next one begins with.
        group = trained.state()["optimizer"]["param_groups"][0]
        rates.append(group["lr"])
        decays.append(group["weight_decay"])
    base = 1e-2 * 0.9
    assert rates == pytest.approx([base, base * 0.5 * 0.5, base * 0.5 * 0.25, base * 0.1 * 0.125])
    assert decays == [1e-2, 1e-2, 1e-2, 0.2]


def test_a_trial_that_goes_on_from_its_parent_takes_the_steps_of_one_trained_alone(
    job: Callable[..., FoldJob], scheduler: Any
) -> None:
    parent = job()
    changed: dict[str, Any] = {"schedule": CHANGES[:1]}
    config = parent.config.model_copy(
        update={"training": type(parent.config.training)(**(parent.config.training.model_dump() | changed))}
    )
    key = replace(parent.key, trial=7)
    alone = replace(parent, key=replace(key, trial=8), config=config)
    child = replace(parent, key=key, config=config, parent=parent.key)

    FoldJobRunner().run(parent, 1, scheduler())
    context = scheduler()
    inherited = FoldJobRunner().run(child, 4, context)
    assert inherited.metrics == FoldJobRunner().run(alone, 4, scheduler()).metrics
    assert list(context.reports) == [1, 2, 3, 4]  # the epoch that it took over is its own, too
    for one, other in zip(_weights(child), _weights(alone), strict=True):
        assert torch.equal(one, other)


def test_a_trial_whose_parent_left_nothing_is_trained_from_its_first_epoch(
    job: Callable[..., FoldJob], scheduler: Any
) -> None:
    orphan = replace(job(), parent=replace(job().key, trial=99))
    context = scheduler()
    FoldJobRunner().run(orphan, 2, context)
    assert list(context.reports) == [1, 2]


def _weights(job: FoldJob) -> list[torch.Tensor]:
    state = load_checkpoint(checkpoint_path(job))
    return list(state["network"].values())
