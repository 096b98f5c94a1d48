"""The part of each subject in a fold's score, so that two trials can be compared subject by subject.

A score pools the frames of all subjects, so it is no mean over subjects. To first order it is one: with a score that is
a ratio A / B of sums over subjects, or a mean of such ratios,

    v_s = A / B + S (a_s - A / B b_s) / B,     S subjects,

has the score as its mean, and its variance over S is the score's sampling variance (the infinitesimal jackknife).

Shapes: N rows, T tasks, S subjects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duchenne.spec.search import MetricName
from duchenne_jobs.evaluation import METRICS, Predictions
from duchenne_jobs.evaluation.metrics import THRESHOLD, row_losses

Matrix = NDArray[np.float64]


def subject_scores(predictions: Predictions, metric: MetricName) -> dict[str, float] | None:
    """Subject -> its part; more is better, whatever the metric's direction. None for `auc_macro`, which is no ratio."""
    parts = _ratio(predictions, metric)
    if parts is None:
        return None
    names, rows = np.unique(predictions.subjects.astype(str), return_inverse=True)
    tops, bottoms = (_by_subject(part, rows, len(names)) for part in parts)
    known = bottoms.sum(axis=0) > 0
    totals = np.where(known, bottoms.sum(axis=0), 1.0)
    ratios = tops.sum(axis=0) / totals
    influence = len(names) * (tops - ratios * bottoms) / totals
    # A task that nobody has and nobody predicts counts as an F1 of 0; of other metrics it is left out.
    counted = np.ones_like(known) if metric == "f1_macro" else known
    values = np.where(counted, ratios + influence, 0.0).sum(axis=1) / max(1, int(counted.sum()))
    sign = 1.0 if METRICS[metric] == "max" else -1.0
    return dict(zip(names.tolist(), (sign * values).tolist(), strict=True))


def _ratio(predictions: Predictions, metric: MetricName) -> tuple[Matrix, Matrix] | None:
    """What each row adds to numerators and denominators, (N, T) or (N, 1)."""
    labels, probabilities = predictions.labels, predictions.probabilities
    known = labels >= 0
    predicted = (probabilities >= THRESHOLD) & known
    right = ((probabilities >= THRESHOLD) == (labels == 1)) & known
    match metric:
        case "f1_macro" | "f1_micro":
            true_positives = 2.0 * (predicted & (labels == 1))
            both = predicted.astype(float) + (labels == 1)
            if metric == "f1_macro":
                return true_positives, both
            return true_positives.sum(axis=1, keepdims=True), both.sum(axis=1, keepdims=True)
        case "accuracy":
            return right.astype(float), known.astype(float)
        case "subset_accuracy":
            labelled = known.any(axis=1, keepdims=True)
            return ((right | ~known).all(axis=1, keepdims=True) & labelled).astype(float), labelled.astype(float)
        case "log_loss":
            losses = row_losses(labels, probabilities).sum(axis=1, keepdims=True)
            return losses, known.sum(axis=1, keepdims=True).astype(float)
        case _:
            return None


def _by_subject(part: Matrix, rows: NDArray[np.intp], subjects: int) -> Matrix:
    """(S, columns) sums of a subject's rows."""
    sums = np.zeros((subjects, part.shape[1]))
    np.add.at(sums, rows, part)
    return sums
