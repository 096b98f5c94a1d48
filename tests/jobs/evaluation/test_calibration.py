"""Reliability and expected calibration error, by hand and where they must vanish."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.evaluation import reliability


def test_bins_by_hand() -> None:
    labels = np.array([[1], [0], [1], [1], [-1]], dtype=np.int8)
    probabilities = np.array([[0.05], [0.15], [0.25], [1.0], [0.15]])
    found = reliability(labels, probabilities, bins=2)
    assert found.rows.tolist() == [[3, 1]]  # the unknown label is in none, and 1.0 in the last
    assert found.mean_predicted[0] == pytest.approx([0.15, 1.0])
    assert found.frequency[0] == pytest.approx([2 / 3, 1.0])
    assert found.calibration_error[0] == pytest.approx(3 / 4 * (2 / 3 - 0.15))


def test_an_empty_task_has_no_error_and_an_empty_bin_no_frequency() -> None:
    found = reliability(np.array([[-1, 1]]), np.array([[0.5, 0.95]]))
    assert np.isnan(found.calibration_error[0])
    assert found.calibration_error[1] == pytest.approx(0.05)
    assert np.isnan(found.frequency[1, 0])
    assert found.frequency[1, 9] == 1.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_the_frequency_of_a_bin_as_its_probability_has_no_error(seed: int, rows: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, size=(rows, 2))
    frequency = labels.mean(axis=0, keepdims=True).repeat(rows, axis=0)
    assert reliability(labels, frequency).calibration_error == pytest.approx([0, 0], abs=1e-9)
    opposite = reliability(labels, 1.0 - labels).calibration_error
    assert opposite == pytest.approx([1, 1])
