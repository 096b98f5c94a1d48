"""Trials and fold jobs are counted exactly."""

from __future__ import annotations

import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan import Counts, count, count_trials
from duchenne.spec import COMPARATOR_NAMES, Sweep, load_sweep_text
from duchenne_jobs.config import BASELINE_NAMES


def sweep(**sections: object) -> Sweep:
    fields: dict[str, object] = {
        "apiVersion": "duchenne/v1",
        "kind": "Sweep",
        "metadata": {"name": "a"},
        "data": {"uri": "builtin://yeast"},
        "budget": {"wall_seconds": 60},
    }
    return load_sweep_text(yaml.safe_dump(fields | sections))


def test_without_a_space_the_base_is_the_only_trial() -> None:
    assert count(sweep()) == Counts(trials=1, search_jobs=9, evaluation_jobs=9)


@pytest.mark.parametrize(
    ("search", "trials"),
    [
        ({"algorithm": "grid", "space": {"loss.dice": {"grid": [0, 1]}, "training.epochs": {"choice": [1, 2, 3]}}}, 6),
        ({"algorithm": "grid", "trials": 2, "space": {"loss.dice": {"grid": [0, 1]}}}, 2),
        ({"trials": 7, "space": {"loss.dice": {"uniform": [0, 1]}, "training.epochs": {"choice": [1, 2]}}}, 7),
        (
            {
                "trials": 5,
                "space": {
                    "loss.dice": {"grid": [0, 1]},
                    "training.epochs": {"grid": [1, 2, 3]},
                    "training.decay": {"choice": [0.5, 1]},
                },
            },
            30,
        ),
        ({"algorithm": "optuna", "trials": 11, "space": {"training.decay": {"choice": [0.5, 1]}}}, 11),
    ],
)
def test_trials(search: dict[str, object], trials: int) -> None:
    assert count_trials(sweep(search=search)) == trials


def test_scikit_learns_comparators_run_once_a_fold_and_networks_with_every_seed() -> None:
    comparators = ["mrnn", "vmnc", "logistic_regression"]
    counted = count(sweep(comparators=comparators, seeds=[4, 5], folds={"count": 5, "inner": 2}))
    assert counted == Counts(trials=1, search_jobs=10, evaluation_jobs=(1 + 2) * 5 * 2 + 1 * 5)
    assert counted.fold_jobs == 45


@given(
    outer=st.integers(2, 6),
    inner=st.integers(2, 6),
    seeds=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 4), max_size=3),
    draws=st.integers(1, 9),
    comparators=st.lists(st.sampled_from(COMPARATOR_NAMES[:3] + BASELINE_NAMES), unique=True),
)
@settings(max_examples=50, deadline=None)
def test_the_count_is_that_of_the_jobs_written_out(
    outer: int, inner: int, seeds: int, sizes: list[int], draws: int, comparators: list[str]
) -> None:
    names = ["training.epochs", "training.batch_size", "model.hidden_size"]
    space = {name: {"grid": list(range(1, size + 1))} for name, size in zip(names, sizes, strict=False)}
    search = {"space": space, "trials": draws} if space else {}
    counted = count(sweep(search=search, seeds=seeds, comparators=comparators, folds={"count": outer, "inner": inner}))
    points = list(itertools.product(*(range(size) for size in sizes), range(draws if space else 1)))
    jobs = list(itertools.product(points, range(outer), range(inner)))
    evaluations = [
        (method, fold, seed)
        for method in ["selected", *comparators]
        for fold in range(outer)
        for seed in range(seeds)
        if seed == 0 or method not in BASELINE_NAMES
    ]
    assert counted == Counts(len(points), len(jobs), len(evaluations))
