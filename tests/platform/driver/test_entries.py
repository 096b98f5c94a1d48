"""Thresholds of inner cross-validation: from the selected trial's own predictions, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duchenne.driver.entries import inner_thresholds
from duchenne.search import Selection
from duchenne.spec import Sweep
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.training import JobKey, inner_predictions_path

TASKS = ("AU1", "AU4")


def sweep() -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://toy"},
            "model": {"name": "vmnc"},
            "folds": {"count": 2, "inner": 2},
            "seeds": [7, 8],
            "budget": {"wall_seconds": 60},
        }
    )


def leave(folder: Path, trial: int, fold: int, inner: int, probabilities: list[list[float]]) -> None:
    labels = np.array([[1, 1], [0, 0]], dtype=np.int8)
    names = np.array([f"s{inner}a", f"s{inner}b"], dtype=object)
    rows = Predictions(TASKS, names, names, np.arange(2), labels, np.array(probabilities, dtype=np.float32))
    key = JobKey(trial, "search", "vmnc", fold, inner, 7)
    write_predictions(inner_predictions_path(folder, key), rows, {})


def test_the_rows_of_all_inner_folds_choose_together(tmp_path: Path) -> None:
    leave(tmp_path, 3, 0, 0, [[0.4, 0.9], [0.1, 0.2]])
    leave(tmp_path, 3, 0, 1, [[0.3, 0.8], [0.2, 0.1]])
    leave(tmp_path, 2, 0, 0, [[0.9, 0.9], [0.8, 0.8]])  # another trial's
    leave(tmp_path, 3, 1, 0, [[0.9, 0.9], [0.1, 0.1]])  # one of two inner folds is missing
    selection = Selection(((3, sweep().base), (3, sweep().base)), (0.5, 0.5))
    found = inner_thresholds(tmp_path, sweep(), selection, "vmnc")
    assert list(found) == [0]
    np.testing.assert_allclose(found[0], [0.25, 0.5])  # between 0.2 and 0.3; 0.5 does as well as any


def test_a_comparator_has_none(tmp_path: Path) -> None:
    leave(tmp_path, 3, 0, 0, [[0.4, 0.9], [0.1, 0.2]])
    leave(tmp_path, 3, 0, 1, [[0.3, 0.8], [0.2, 0.1]])
    selection = Selection(((3, sweep().base), (3, sweep().base)), (0.5, 0.5))
    assert inner_thresholds(tmp_path, sweep(), selection, "monet") == {}
