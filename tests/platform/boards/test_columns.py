"""An entry's columns by hand, and that changed thresholds or numbers are found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duchenne.boards import rank, verify
from duchenne.boards.columns import entry_columns, fold_row, recorded_thresholds
from duchenne.boards.verify import entry_metrics
from duchenne.records import Entry, RecordStore
from duchenne_jobs.evaluation import Predictions

Make = Callable[..., Predictions]
TASKS = ("AU1", "AU4")


@pytest.fixture
def files(make_predictions: Make) -> dict[tuple[int, int], Predictions]:
    """AU1: fold 0 is right at any threshold in (0.2, 0.4], fold 1 in (0.6, 0.8]. AU4 has no positive in fold 1."""
    names = ["a", "b", "c", "d"]
    first = [[0.4, 0.9], [0.9, 0.1], [0.2, 0.2], [0.1, 0.1]]
    second = [[0.8, 0.1], [0.9, 0.1], [0.6, 0.2], [0.1, 0.1]]
    return {
        (0, 0): make_predictions(names, [[1, 1], [1, 0], [0, 0], [0, 0]], first, TASKS),
        (1, 0): make_predictions(names, [[1, 0], [1, 0], [0, 0], [0, 0]], second, TASKS),
    }


def test_columns_by_hand(files: dict[tuple[int, int], Predictions]) -> None:
    thresholds = {0: np.array([0.3, 0.5]), 1: np.array([0.3, 0.5])}
    columns = entry_columns(files, thresholds)
    # AU1 of all rows at 0.5: 3 of 4 found, 1 false alarm: 6/8. AU4: 1.
    assert columns["f1_pooled"] == pytest.approx((0.75 + 1) / 2)
    assert columns["accuracy_pooled"] == pytest.approx((6 / 8 + 1) / 2)
    # AU1's positives 0.4 0.9 0.8 0.9 against 0.2 0.1 0.6 0.1: 15 of 16 pairs. AU4's 0.9 is above all.
    assert columns["auc_pooled"] == pytest.approx((15 / 16 + 1) / 2)
    # At 0.3: fold 0 AU1 1, AU4 1; fold 1 AU1 2 of 2 with one false alarm 4/5, AU4 undefined 0.
    assert columns["f1_inner_threshold"] == pytest.approx(((1 + 1) / 2 + (4 / 5 + 0) / 2) / 2)
    assert columns["f1_oracle"] == pytest.approx(((1 + 1) / 2 + (1 + 0) / 2) / 2)


def test_without_inner_predictions_of_every_fold_there_is_no_such_column(
    files: dict[tuple[int, int], Predictions],
) -> None:
    assert entry_columns(files)["f1_inner_threshold"] is None
    assert entry_columns(files, {0: np.array([0.5, 0.5])})["f1_inner_threshold"] is None


def test_a_fold_names_the_tasks_whose_f1_says_little(files: dict[tuple[int, int], Predictions]) -> None:
    row = fold_row(1, 0, 3, files[1, 0], np.array([0.25, 0.5]))
    assert (row["without_positives"], row["undefined_f1"]) == (["AU4"], ["AU4"])
    assert row["tasks"][0]["task"] == "AU1"
    assert row["tasks"][0]["positives"] == 2
    assert recorded_thresholds([row])[1].tolist() == [0.25, 0.5]
    assert recorded_thresholds([fold_row(1, 0, 3, files[1, 0], None)]) == {}


def test_recorded_columns_are_computed_again(
    files: dict[tuple[int, int], Predictions], make_entry: Callable[..., Entry], tmp_path: Path, store: RecordStore
) -> None:
    thresholds = {fold: np.array([0.3, 0.5]) for fold in (0, 1)}
    per_fold = [fold_row(fold, seed, 0, rows, thresholds[fold]) for (fold, seed), rows in files.items()]
    metrics = entry_metrics(files, thresholds)
    entry = make_entry("m", files, metrics=metrics)
    assert verify(dict(metrics), entry.predictions, tmp_path, per_fold).status == "verified"
    false = verify(metrics | {"f1_inner_threshold": 0.99}, entry.predictions, tmp_path, per_fold)
    assert false.status == "rejected"
    assert "f1_inner_threshold is 0.99" in str(false.reason)
    (row,) = rank(store, "b", root=tmp_path)
    assert row.f1_inner_threshold == metrics["f1_inner_threshold"]
    assert row.f1_oracle == metrics["f1_oracle"]
