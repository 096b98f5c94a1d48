"""Two entries side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duchenne.boards.compare import compare_entries
from duchenne.records import Entry, NotFoundError, RecordsConflictError, RecordStore
from duchenne_jobs.evaluation import Predictions

MakeEntry = Callable[..., Entry]


@pytest.fixture
def make_files(make_predictions: Callable[..., Predictions]) -> Callable[..., dict[tuple[int, int], Predictions]]:
    """make_files(skill) -> predictions of one fold of 20 subjects, the same labels every time."""

    def make(skill: float) -> dict[tuple[int, int], Predictions]:
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 2, (400, 1))
        right = generator.random((400, 1)) < skill
        subjects = [f"s{index % 20:02d}" for index in range(400)]
        return {(0, 0): make_predictions(subjects, labels, np.where(right == (labels == 1), 0.9, 0.1), ("AU1",))}

    return make


def test_a_comparison_says_what_differs_and_by_how_much(
    store: RecordStore, make_entry: MakeEntry, make_files: Callable[..., dict[tuple[int, int], Predictions]]
) -> None:
    better = make_entry("better", make_files(0.9), metrics={"log_loss": 0.3})
    worse = make_entry("worse", make_files(0.6), metrics={"log_loss": 0.6})
    found = compare_entries(store, better.id, worse.id)
    assert (found.first, found.second, found.config) == (better.id, worse.id, {})
    assert found.metrics == {"log_loss": (0.3, 0.6)}
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert 0 < found.ci_low <= found.difference <= found.ci_high
    back = compare_entries(store, worse.id, better.id)
    assert back.difference == -found.difference
    assert back.ci_high == pytest.approx(-found.ci_low)


def test_entries_that_cannot_be_compared_are_named(
    store: RecordStore,
    tmp_path: Path,
    make_entry: MakeEntry,
    make_files: Callable[..., dict[tuple[int, int], Predictions]],
) -> None:
    here, there = make_entry("here", make_files(0.9)), make_entry("there", make_files(0.9), dataset="sha256:other")
    with pytest.raises(RecordsConflictError, match="differ in dataset_digest"):
        compare_entries(store, here.id, there.id)
    with pytest.raises(NotFoundError):
        compare_entries(store, here.id, "nowhere")
    gone = here.predictions[0]
    (tmp_path / gone.path).unlink()
    with pytest.raises(FileNotFoundError):
        compare_entries(store, here.id, here.id)
