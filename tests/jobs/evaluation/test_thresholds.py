"""Thresholds of the highest F1, by hand and against trying them all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.evaluation import best_thresholds, task_f1


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        ([1, 0, 1, 0], [0.9, 0.4, 0.3, 0.1], 0.2),  # 3 predicted, 2 right: F1 0.8; at 0.5 it is 2/3
        ([1, 1, 0, 0], [0.9, 0.6, 0.4, 0.1], 0.5),  # 0.5 parts the classes as well as any
        ([1, 0, 0, -1], [0.9, 0.8, 0.1, 0.99], 0.85),  # the unknown label is nothing to choose by
        ([0, 0, -1, 0], [0.9, 0.6, 0.4, 0.1], 0.5),  # nor is a task without positives
        ([1, 1], [0.3, 0.2], 0.1),
        ([1, 1], [0.0, 0.0], 0.0),
    ],
)
def test_by_hand(labels: list[int], probabilities: list[float], threshold: float) -> None:
    found = best_thresholds(np.array(labels)[:, None], np.array(probabilities)[:, None])
    assert found.tolist() == pytest.approx([threshold])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), levels=st.integers(1, 12))
def test_no_threshold_does_better(seed: int, rows: int, levels: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(-1, 2, size=(rows, 3))
    probabilities = (draw.integers(0, levels + 1, size=(rows, 3)) / levels).astype(np.float32)
    best = task_f1(labels, probabilities, best_thresholds(labels, probabilities))
    for threshold in np.linspace(0, 1, 2 * levels + 1):
        assert (task_f1(labels, probabilities, float(threshold)) <= best + 1e-12).all()
    assert (task_f1(labels, probabilities) <= best + 1e-12).all()
