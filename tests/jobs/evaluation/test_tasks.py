"""Scores of each task: the same as of the whole where there is one task, and honest where there is nothing to score."""

from __future__ import annotations

import numpy as np
import pytest

from duchenne_jobs.evaluation import Predictions, concatenate, evaluate, task_scores


def made(labels: list[list[int]], probabilities: list[list[float]], tasks: tuple[str, ...]) -> Predictions:
    names = np.array([f"s{row}" for row in range(len(labels))], dtype=object)
    return Predictions(
        tasks, names, names, np.arange(len(labels)), np.array(labels, np.int8), np.array(probabilities, np.float32)
    )


ROWS = made(
    [[1, 0, -1], [0, 0, -1], [1, 0, -1], [-1, 0, -1]],
    [[0.8, 0.2, 0.9], [0.6, 0.1, 0.9], [0.3, 0.4, 0.9], [0.9, 0.3, 0.9]],
    ("AU1", "AU2", "AU4"),
)


def test_a_task_alone_has_the_metrics_of_the_whole() -> None:
    first, second, third = task_scores(ROWS)
    whole = evaluate(ROWS.labels[:, :1], ROWS.probabilities[:, :1])
    assert (first.rows, first.positives, first.f1) == (3, 2, pytest.approx(0.5))
    assert (first.auc, first.accuracy) == (whole["auc_macro"], whole["accuracy"])
    assert first.log_loss == pytest.approx(whole["log_loss"])
    assert (second.positives, second.f1, second.f1_is_undefined, second.auc) == (0, 0.0, True, None)
    assert second.accuracy == 1.0
    assert (third.rows, third.accuracy, third.log_loss, third.calibration_error) == (0, None, None, None)


def test_a_false_alarm_makes_f1_defined() -> None:
    (score,) = task_scores(made([[0]], [[0.7]], ("AU1",)))
    assert (score.positives, score.f1, score.f1_is_undefined) == (0, 0.0, False)


def test_joined_predictions_keep_every_row() -> None:
    both = concatenate([ROWS, ROWS])
    assert len(both.labels) == 8
    assert both.probabilities[4:].tolist() == ROWS.probabilities.tolist()
    with pytest.raises(ValueError, match="have the same tasks"):
        concatenate([ROWS, made([[1]], [[0.5]], ("AU1",))])
