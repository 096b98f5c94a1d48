"""An entry's columns beside the primary number: pooled over folds, calibrated or not, and at other thresholds than 0.5.

Everything follows from the prediction files, and the thresholds from inner validation predictions: a column whose name
holds `oracle` is the only one that saw the test labels.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation import (
    Predictions,
    best_thresholds,
    concatenate,
    evaluate,
    reliability,
    task_f1,
    task_scores,
)

Columns = dict[str, float | None]
FloatArray = NDArray[np.float64]

POOLED = {
    "f1_pooled": "f1_macro",
    "auc_pooled": "auc_macro",
    "accuracy_pooled": "accuracy",
    "log_loss_pooled": "log_loss",
}
"""Column -> the metric of which it is the value over the rows of all test folds together."""


def entry_columns(
    predictions: Mapping[tuple[int, int], Predictions], thresholds: Mapping[int, FloatArray] | None = None
) -> Columns:
    """The columns of one entry.

    Args:
        predictions: (fold, seed) -> held-out rows.
        thresholds: fold -> (T,), chosen on the inner validation rows of that fold; None where there were none.

    Returns:
        `f1_pooled` ... `log_loss_pooled`: all folds together, mean over seeds. `calibration_error`: the same way, mean
        over tasks. `f1_inner_threshold` and `f1_oracle` (thresholds tuned on the test rows themselves): mean over
        tasks, seeds and folds. None where a column is undefined.
    """
    seeds = sorted({seed for _, seed in predictions})
    pooled = [concatenate([rows for (_, own), rows in sorted(predictions.items()) if own == seed]) for seed in seeds]
    scores = [evaluate(rows.labels, rows.probabilities) for rows in pooled]
    found: Columns = {column: _mean([score[metric] for score in scores]) for column, metric in POOLED.items()}
    found["calibration_error"] = _mean([calibration_error(rows) for rows in pooled])
    oracle = {key: best_thresholds(rows.labels, rows.probabilities) for key, rows in predictions.items()}
    inner = {key: thresholds[key[0]] for key in predictions if key[0] in thresholds} if thresholds else {}
    found["f1_inner_threshold"] = _at_thresholds(predictions, inner) if len(inner) == len(predictions) else None
    found["f1_oracle"] = _at_thresholds(predictions, oracle)
    return found


def fold_row(
    fold: int, seed: int, trial: int, predictions: Predictions, thresholds: FloatArray | None
) -> dict[str, Any]:
    """What an entry keeps of one test fold: every metric, every task, and the tasks whose F1 says little."""
    tasks = task_scores(predictions)
    return {
        "fold": fold,
        "seed": seed,
        "trial": trial,
        "metrics": predictions.metrics(),
        "tasks": [asdict(task) for task in tasks],
        "thresholds": None if thresholds is None else dict(zip(predictions.tasks, thresholds.tolist(), strict=True)),
        "without_positives": [task.task for task in tasks if not task.positives],
        "undefined_f1": [task.task for task in tasks if task.f1_is_undefined],
    }


def recorded_thresholds(per_fold: Any) -> dict[int, FloatArray]:
    """Fold -> (T,), as `fold_row` recorded them; folds without are left out."""
    rows = [row for row in per_fold or () if row.get("thresholds")]
    return {int(row["fold"]): np.array(list(row["thresholds"].values()), dtype=np.float64) for row in rows}


def calibration_error(predictions: Predictions) -> float:
    """Expected calibration error, mean over the tasks that have a known label."""
    errors = reliability(predictions.labels, predictions.probabilities).calibration_error
    known = errors[np.isfinite(errors)]
    return float(known.mean()) if len(known) else float("nan")


def _at_thresholds(
    predictions: Mapping[tuple[int, int], Predictions], thresholds: Mapping[tuple[int, int], FloatArray]
) -> float:
    """F1 at thresholds of their own: mean over tasks, over the seeds of a fold, over folds."""
    by_fold: dict[int, list[float]] = {}
    for key, rows in predictions.items():
        by_fold.setdefault(key[0], []).append(float(task_f1(rows.labels, rows.probabilities, thresholds[key]).mean()))
    return float(np.mean([np.mean(values) for values in by_fold.values()]))


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None
