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


def task_f1(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) F1 of each task; a task without positives, true or predicted, counts as 0.

    Args:
        labels: (N, T) in {-1, 0, 1}, -1 unknown.
        probabilities: (N, T) in [0, 1].
    """
    true_positive, false_positive, false_negative = _confusion(labels, probabilities)
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
    true_positive, false_positive, false_negative = (int(part.sum()) for part in _confusion(labels, probabilities))
    micro = 2 * true_positive + false_positive + false_negative
    rows = known.any(axis=1)
    return {
        "f1_macro": float(task_f1(labels, probabilities).mean()),
        "f1_micro": 2 * true_positive / micro if micro else 0.0,
        "auc_macro": _mean_auc(labels, probabilities),
        "accuracy": _mean(right.sum(axis=0)[known.any(axis=0)] / known.sum(axis=0)[known.any(axis=0)]),
        "subset_accuracy": _mean((right | ~known).all(axis=1)[rows]),
        "log_loss": _log_loss(labels, probabilities),
    }


def _confusion(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """True positives, false positives and false negatives, (T,) each."""
    predicted = probabilities >= THRESHOLD
    true_positive = (predicted & (labels == 1)).sum(axis=0)
    false_positive = (predicted & (labels == 0)).sum(axis=0)
    false_negative = (~predicted & (labels == 1)).sum(axis=0)
    return true_positive, false_positive, false_negative


def _log_loss(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    p = np.clip(probabilities.astype(np.float64), LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
    losses = -np.where(labels == 1, np.log(p), np.log1p(-p))
    return _mean(losses[labels >= 0])


def _mean_auc(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    from sklearn.metrics import roc_auc_score

    areas = []
    for task in range(labels.shape[1]):
        known = labels[:, task] >= 0
        truth = labels[known, task]
        if len(np.unique(truth)) == 2:
            areas.append(roc_auc_score(truth, probabilities[known, task]))
    return _mean(np.asarray(areas))


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
