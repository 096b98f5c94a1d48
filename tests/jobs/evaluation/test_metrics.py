"""Metrics against scikit-learn where every label is known, and by hand where some are not."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from duchenne_jobs.evaluation import METRICS, evaluate, task_f1

# Four rows, three tasks; -1 is unknown. At 0.5: task 0 has TP 1 (row 0), FP 1 (row 1), FN 1 (row 2), and row 3 unknown;
# task 1 has TP 1 (row 1), FN 1 (row 3), the rest unknown; task 2 has no positive and predicts none.
LABELS = np.array([[1, -1, 0], [0, 1, 0], [1, -1, -1], [-1, 1, 0]], dtype=np.int8)
PROBABILITIES = np.array([[0.8, 0.9, 0.1], [0.5, 0.6, 0.2], [0.4, 0.1, 0.9], [0.9, 0.25, 0.3]], dtype=np.float32)


def test_by_hand_with_unknown_labels() -> None:
    assert task_f1(LABELS, PROBABILITIES).tolist() == [0.5, pytest.approx(2 / 3), 0.0]
    values = evaluate(LABELS, PROBABILITIES)
    assert list(values) == list(METRICS)
    assert values["f1_macro"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert values["f1_micro"] == pytest.approx(4 / 7)  # TP 2, FP 1, FN 2
    assert values["accuracy"] == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    assert values["subset_accuracy"] == pytest.approx(1 / 4)  # row 0 alone is right in all that is known
    # Task 0: positives 0.8 and 0.4 against the negative 0.5: half the pairs. Tasks 1 and 2 have one class.
    assert values["auc_macro"] == pytest.approx(0.5)
    likelihoods = [0.8, 0.5, 0.4, 0.6, 0.25, 0.9, 0.8, 0.7]
    assert values["log_loss"] == pytest.approx(-sum(map(math.log, likelihoods)) / 8)


def test_the_threshold_counts_as_positive() -> None:
    assert task_f1(np.array([[1]], dtype=np.int8), np.array([[0.5]])).tolist() == [1.0]
    assert task_f1(np.array([[1]], dtype=np.int8), np.array([[0.4999]])).tolist() == [0.0]


def test_undefined_f1_is_zero_and_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = evaluate(np.zeros((3, 2), dtype=np.int8), np.zeros((3, 2)))
    assert values["f1_macro"] == 0.0
    assert values["f1_micro"] == 0.0
    assert math.isnan(values["auc_macro"])
    assert values["subset_accuracy"] == 1.0


def test_without_a_known_label_means_are_undefined() -> None:
    values = evaluate(np.full((3, 2), -1, dtype=np.int8), np.zeros((3, 2)))
    assert values["f1_macro"] == 0.0
    assert all(math.isnan(values[name]) for name in ("auc_macro", "accuracy", "subset_accuracy", "log_loss"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), tasks=st.integers(2, 6))
def test_fully_known_labels_agree_with_scikit_learn(seed: int, rows: int, tasks: int) -> None:
    random = np.random.default_rng(seed)
    labels = (random.random((rows, tasks)) < random.random(tasks)).astype(np.int8)
    probabilities = random.random((rows, tasks)).astype(np.float32)
    predicted = probabilities >= 0.5
    values = evaluate(labels, probabilities)
    assert task_f1(labels, probabilities) == pytest.approx(
        sk.f1_score(labels, predicted, average=None, zero_division=0)
    )
    assert values["f1_macro"] == pytest.approx(sk.f1_score(labels, predicted, average="macro", zero_division=0))
    assert values["f1_micro"] == pytest.approx(sk.f1_score(labels, predicted, average="micro", zero_division=0))
    assert values["subset_accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert values["accuracy"] == pytest.approx(1 - sk.hamming_loss(labels, predicted))
    each = [sk.log_loss(labels[:, t], probabilities[:, t].astype(float), labels=[0, 1]) for t in range(tasks)]
    assert values["log_loss"] == pytest.approx(np.mean(each))
    areas = [
        sk.roc_auc_score(labels[:, t], probabilities[:, t])
        for t in range(tasks)
        if len(set(labels[:, t].tolist())) == 2
    ]
    assert values["auc_macro"] == pytest.approx(np.mean(areas) if areas else float("nan"), nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_stands_under_an_unknown_label_is_never_read(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(-1, 2, size=(12, 3)).astype(np.int8)
    probabilities = random.random((12, 3))
    other = np.where(labels < 0, random.random((12, 3)), probabilities)
    assert evaluate(labels, probabilities) == pytest.approx(evaluate(labels, other), nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"both be \(rows, tasks\), but got \(2, 2\) and \(2, 3\)"),
        (np.zeros(2), np.zeros(2), r"both be \(rows, tasks\)"),
        (np.zeros((1, 2)), np.array([[0.5, np.nan]]), r"must lie in \[0, 1\], but row 0, task 1 is nan"),
        (np.zeros((1, 2)), np.array([[1.5, 0.0]]), r"must lie in \[0, 1\], but row 0, task 0 is 1.5"),
        (np.array([[9, 0]]), np.zeros((1, 2)), r"must be -1 \(unknown\), 0 or 1, but got \[0 9\]"),
    ],
)
def test_refusals(labels: np.ndarray, probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(labels.astype(np.int8), probabilities)
