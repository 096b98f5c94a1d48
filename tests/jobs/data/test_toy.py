"""The toy dataset against the text of Tallec 2023, 2.5.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data import DatasetError, builtin_tasks, materialise, open_dataset, toy_dataset
from duchenne_jobs.data.toy import MAX_TOY_TASKS, split_toy_dataset


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


def test_the_split_toy_orders_its_tasks_by_the_half_by_hand() -> None:
    """Tallec 2023, fig. 2.14: with (1, 2, 0) above, task 1 has one boundary there, task 2 three, task 0 seven."""
    x, y = split_toy_dataset(200_000, 3, 0, (1, 2, 0), (0, 1, 2))
    for half, boundaries in ((x[:, 1] >= 0, [7, 1, 3]), (x[:, 1] < 0, [1, 3, 7])):
        ordered = y[half][np.argsort(x[half][:, 0])]
        assert [int(np.abs(np.diff(ordered[:, task])).sum()) for task in range(3)] == boundaries
    assert np.array_equal(x, toy_dataset(200_000, 3, 0)[0])


def test_the_split_toy_in_the_order_of_the_tasks_is_the_toy() -> None:
    _, y = split_toy_dataset(300, 4, 7, range(4), range(4))
    assert np.array_equal(y, toy_dataset(300, 4, 7)[1])
    with pytest.raises(ValueError, match=r"must be a permutation of 0\.\.3, but got \[0, 1, 2, 2\]"):
        split_toy_dataset(300, 4, 7, range(4), (0, 1, 2, 2))


def test_the_split_toy_is_a_builtin_dataset(tmp_path: Path) -> None:
    uri = "builtin://toy?count=40&tasks=3&sigma1=120"
    dataset = open_dataset(materialise(uri, tmp_path))
    x, y = split_toy_dataset(40, 3, 0, (1, 2, 0), (0, 1, 2))
    rows = dataset.rows().to_pylist()
    assert [row["labels"] for row in rows] == y.tolist()
    assert [row["features"] for row in rows] == x.tolist()
    assert builtin_tasks(uri) == ("task1", "task2", "task3")
    plain = materialise("builtin://toy?count=40&tasks=3", tmp_path)
    assert Path(plain).name == "toy-count40-tasks3-seed0"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("sigma1=021", "sigma1 must order the 5 tasks, but got '021'; name each once"),
        ("sigma2=01123", "sigma2 must be the digits of an order, each once, but got '01123'; write it as 0213"),
        ("sigma2=", "sigma2 must be the digits of an order, each once, but got ''"),
    ],
)
def test_an_order_that_the_split_toy_can_not_have_is_refused(option: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        builtin_tasks(f"builtin://toy?{option}")
    assert said in str(caught.value)
