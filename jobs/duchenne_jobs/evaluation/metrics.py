"""Metrics of multi-label predictions at the fixed threshold 0.5, unknown labels masked.

The primary number is the field's: F1 of each task with rows pooled within a fold, mean over tasks (`f1_macro`).

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

THRESHOLD: Final = 0.5
LOG_LOSS_EPSILON: Final = 1e-7

METRICS: Final[dict[str, str]] = {
    "f1_macro": "max",
    "f1_micro": "max",
    "auc_macro": "max",
    "accuracy": "max",
    "subset_accuracy": "max",
    "log_loss": "min",
}
"""Every metric that a search may follow, with its direction."""


def task_f1(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    thresholds: float | NDArray[np.floating] = THRESHOLD,
) -> NDArray[np.float64]:
    """(T,) F1 of each task; a task without positives, true or predicted, counts as 0.

    Args:
        labels: (N, T) in {-1, 0, 1}, -1 unknown.
        probabilities: (N, T) in [0, 1].
        thresholds: from which on a task is predicted, one for all or (T,).
    """
    true_positive, false_positive, false_negative = confusion(labels, probabilities, thresholds)
    denominator = 2 * true_positive + false_positive + false_negative
    f1: NDArray[np.float64] = np.zeros(labels.shape[1])
    np.divide(2.0 * true_positive, denominator, out=f1, where=denominator > 0)
    return f1


def evaluate(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Every metric of `METRICS`.

    Args:
        labels: (N, T) in {-1, 0, 1}, -1 unknown.
        probabilities: (N, T) in [0, 1].

    Returns:
        Metric name -> value; NaN where no row defines it (AUC of a task with one class leaves that task out).

    Raises:
        ValueError: shapes differ, a probability is not in [0, 1] or a label not in {-1, 0, 1}.
    """
    require_valid(labels, probabilities)
    known = labels >= 0
    right = ((probabilities >= THRESHOLD) == (labels == 1)) & known
    true_positive, false_positive, false_negative = (int(part.sum()) for part in confusion(labels, probabilities))
    micro = 2 * true_positive + false_positive + false_negative
    rows = known.any(axis=1)
    areas = task_auc(labels, probabilities)
    return {
        "f1_macro": float(task_f1(labels, probabilities).mean()),
        "f1_micro": 2 * true_positive / micro if micro else 0.0,
        "auc_macro": _mean(areas[np.isfinite(areas)]),
        "accuracy": _mean(right.sum(axis=0)[known.any(axis=0)] / known.sum(axis=0)[known.any(axis=0)]),
        "subset_accuracy": _mean((right | ~known).all(axis=1)[rows]),
        "log_loss": _mean(row_losses(labels, probabilities)[known]),
    }


def confusion(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    thresholds: float | NDArray[np.floating] = THRESHOLD,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """True positives, false positives and false negatives, (T,) each; arguments as `task_f1`."""
    predicted = probabilities >= thresholds
    true_positive = (predicted & (labels == 1)).sum(axis=0)
    false_positive = (predicted & (labels == 0)).sum(axis=0)
    false_negative = (~predicted & (labels == 1)).sum(axis=0)
    return true_positive, false_positive, false_negative


def task_auc(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) area under the ROC curve of each task, NaN where one of its classes is missing; arguments as `task_f1`."""
    from sklearn.metrics import roc_auc_score

    areas = np.full(labels.shape[1], np.nan)
    for task in range(labels.shape[1]):
        known = labels[:, task] >= 0
        truth = labels[known, task]
        if len(np.unique(truth)) == 2:
            areas[task] = roc_auc_score(truth, probabilities[known, task])
    return areas


def row_losses(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, T) cross-entropy of each known label in nats, probabilities kept off 0 and 1; 0 where unknown."""
    p = np.clip(probabilities.astype(np.float64), LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
    losses: NDArray[np.float64] = np.where(labels == 1, -np.log(p), -np.log1p(-p))
    return np.where(labels >= 0, losses, 0.0)


def _mean(values: NDArray[np.floating | np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def require_valid(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
    """Raise ValueError unless both are (N, T), probabilities in [0, 1] and labels in {-1, 0, 1}."""
    if labels.shape != probabilities.shape or labels.ndim != 2:
        raise ValueError(
            f"labels and probabilities must both be (rows, tasks), but got {labels.shape} and {probabilities.shape}"
        )
    outside = ~((probabilities >= 0) & (probabilities <= 1))
    if outside.any():
        row, task = np.argwhere(outside)[0]
        raise ValueError(
            f"probabilities must lie in [0, 1], but row {row}, task {task} is {probabilities[row, task]}; "
            "look at the model's output"
        )
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError(f"labels must be -1 (unknown), 0 or 1, but got {np.unique(labels)}")
