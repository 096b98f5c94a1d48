"""The parts of subjects: their mean is the score, their spread its sampling error."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.search.subjects import subject_scores
from duchenne.spec.search import MetricName
from duchenne_jobs.evaluation import Predictions
from duchenne_jobs.evaluation.metrics import row_losses, task_f1

RATIOS: tuple[MetricName, ...] = ("f1_macro", "f1_micro", "accuracy", "subset_accuracy", "log_loss")


def predictions(seed: int, rows: int = 60, subjects: int = 7, tasks: int = 3, unknown: float = 0.1) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = (generator.random((rows, tasks)) < 0.35).astype(np.int8)
    labels[generator.random((rows, tasks)) < unknown] = -1
    labels[0] = 1
    probabilities = np.clip(0.4 * (labels == 1) + 0.6 * generator.random((rows, tasks)), 0, 1).astype(np.float32)
    names = np.array([f"s{number}" for number in generator.integers(0, subjects, rows)])
    return Predictions(("a", "b", "c")[:tasks], names, names, np.arange(rows), labels, probabilities)


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(RATIOS))
@settings(max_examples=30, deadline=None)
def test_their_mean_is_the_folds_score(seed: int, metric: MetricName) -> None:
    predicted = predictions(seed)
    parts = subject_scores(predicted, metric)
    assert parts is not None
    sign = -1 if metric == "log_loss" else 1
    assert parts.keys() == set(predicted.subjects)
    assert np.mean(list(parts.values())) == pytest.approx(sign * predicted.metrics()[metric], abs=1e-12)


def f1_of(predicted: Predictions) -> float:
    return float(task_f1(predicted.labels, predicted.probabilities).mean())


def loss_of(predicted: Predictions) -> float:
    return float(row_losses(predicted.labels, predicted.probabilities)[predicted.labels >= 0].mean())


@pytest.mark.parametrize(("metric", "scored"), [("f1_macro", f1_of), ("log_loss", loss_of)])
def test_their_spread_is_that_of_scores_when_subjects_are_drawn_again(
    metric: MetricName, scored: Callable[[Predictions], float]
) -> None:
    predicted = predictions(0, rows=1500, subjects=50)
    parts = subject_scores(predicted, metric)
    assert parts is not None
    error = np.std(list(parts.values()), ddof=1) / math.sqrt(len(parts))
    generator = np.random.default_rng(1)
    rows_of = {name: np.flatnonzero(predicted.subjects == name) for name in parts}
    drawn = []
    for _ in range(300):
        rows = np.concatenate([rows_of[name] for name in generator.choice(list(parts), len(parts))])
        again = Predictions(
            predicted.tasks, *(column[rows] for column in (predicted.subjects, predicted.sequences, predicted.frames)),
            predicted.labels[rows], predicted.probabilities[rows],
        )  # fmt: skip
        drawn.append(scored(again))
    assert error == pytest.approx(np.std(drawn), rel=0.15)


def test_a_task_that_nobody_has_counts_as_f1_0_as_it_does_in_the_score() -> None:
    predicted = predictions(2)
    labels, probabilities = predicted.labels.copy(), predicted.probabilities.copy()
    labels[:, 1], probabilities[:, 1] = 0, 0.1
    silent = Predictions(
        predicted.tasks, predicted.subjects, predicted.sequences, predicted.frames, labels, probabilities
    )
    parts = subject_scores(silent, "f1_macro")
    assert parts is not None
    assert np.mean(list(parts.values())) == pytest.approx(silent.metrics()["f1_macro"])


def test_an_area_under_a_curve_is_no_ratio() -> None:
    assert subject_scores(predictions(0), "auc_macro") is None
