"""What each task reaches on given rows, and where a number says less than it seems to.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from duchenne_jobs.evaluation.calibration import reliability
from duchenne_jobs.evaluation.metrics import THRESHOLD, confusion, row_losses, task_auc, task_f1
from duchenne_jobs.evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task; a score is None where no row defines it.

    Attributes:
        rows: known labels; `positives` of them are positive.
        f1: 0 where it is undefined: no positive label and none predicted (`f1_is_undefined`).
        log_loss: in nats.
    """

    task: str
    rows: int
    positives: int
    f1: float
    f1_is_undefined: bool
    auc: float | None
    accuracy: float | None
    log_loss: float | None
    calibration_error: float | None


def task_scores(predictions: Predictions) -> tuple[TaskScore, ...]:
    """The scores of every task at threshold 0.5, in the order of the tasks."""
    labels, probabilities = predictions.labels, predictions.probabilities
    known = (labels >= 0).sum(axis=0)
    right = (((probabilities >= THRESHOLD) == (labels == 1)) & (labels >= 0)).sum(axis=0)
    true_positive, false_positive, false_negative = confusion(labels, probabilities)
    f1, auc = task_f1(labels, probabilities), task_auc(labels, probabilities)
    losses = row_losses(labels, probabilities).sum(axis=0)
    errors = reliability(labels, probabilities).calibration_error
    return tuple(
        TaskScore(
            task=task,
            rows=int(known[index]),
            positives=int(true_positive[index] + false_negative[index]),
            f1=float(f1[index]),
            f1_is_undefined=not (true_positive[index] + false_positive[index] + false_negative[index]),
            auc=_finite(auc[index]),
            accuracy=float(right[index] / known[index]) if known[index] else None,
            log_loss=float(losses[index] / known[index]) if known[index] else None,
            calibration_error=_finite(errors[index]),
        )
        for index, task in enumerate(predictions.tasks)
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
