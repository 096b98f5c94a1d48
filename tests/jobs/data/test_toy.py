"""The toy dataset against the text of Tallec 2023, 2.5.1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data import toy_dataset
from duchenne_jobs.data.toy import MAX_TOY_TASKS


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 300), tasks=st.integers(1, MAX_TOY_TASKS), seed=st.integers(0, 2**32))
def test_labels_follow_the_features_in_any_precision(count: int, tasks: int, seed: int) -> None:
    x, y = toy_dataset(count, tasks, seed)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((count, 2), np.float32, (count, tasks), np.int8)
    assert np.all((x >= -1) & (x <= 1))
    for dtype in (np.float32, np.float64):
        for task in range(1, tasks + 1):
            expected = np.floor((x[:, 0].astype(dtype) + dtype(1)) * dtype(2 ** (task - 1))) % 2 == 0
            assert np.array_equal(y[:, task - 1] == 1, expected)


def test_task_t_has_two_to_the_t_minus_one_boundaries() -> None:
    x, y = toy_dataset(200_000, 5, 0)
    ordered = y[np.argsort(x[:, 0])]
    assert [int(np.abs(np.diff(ordered[:, task])).sum()) for task in range(5)] == [1, 3, 7, 15, 31]
    assert y[x[:, 0] < 0, 0].all()  # task 1 is positive on the left half


def test_it_is_uniform_and_seeded() -> None:
    x, y = toy_dataset(50_000, 4, 3)
    histogram, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=4, range=[[-1, 1], [-1, 1]])
    expected = 50_000 / 16
    assert np.abs(histogram - expected).max() < 5 * np.sqrt(expected)
    assert np.abs(y.mean(0) - 0.5).max() < 0.02
    again, _ = toy_dataset(50_000, 4, 3)
    other, _ = toy_dataset(50_000, 4, 4)
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)


@pytest.mark.parametrize("arguments", [(0, 5, 0), (10, 0, 0), (10, MAX_TOY_TASKS + 1, 0), (10, 5, -1)])
def test_impossible_sizes_are_refused_with_the_values(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"count >= 1, 1 <= tasks <= 24 and seed >= 0 must hold") as caught:
        toy_dataset(*arguments)
    assert f"count={arguments[0]}, tasks={arguments[1]}, seed={arguments[2]}" in str(caught.value)
