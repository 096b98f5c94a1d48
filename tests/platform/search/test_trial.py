"""The row that a trial reports: the mean over folds, or a reason why there is none."""

from __future__ import annotations

import pytest

from duchenne.pool import Outcome
from duchenne.search.trial import TrialEnded, aggregate


def done(**metrics: float | None) -> Outcome:
    return Outcome("done", 4, dict(metrics))


def test_the_row_is_the_mean_over_folds_and_more_score_is_better() -> None:
    rows = [done(f1_macro=0.2, log_loss=0.9), done(f1_macro=0.6, log_loss=0.5)]
    assert aggregate(rows, "f1_macro") == {
        "value": pytest.approx(0.4),
        "score": pytest.approx(0.4),
        "scores": [0.2, 0.6],
    }
    assert aggregate(rows, "log_loss") == {"value": 0.7, "score": -0.7, "scores": [-0.9, -0.5]}


def test_a_fold_that_failed_ends_the_trial_with_its_message() -> None:
    with pytest.raises(TrialEnded, match="the loss is not finite"):
        aggregate([done(f1_macro=0.2), Outcome("failed", error="epoch 2: the loss is not finite")], "f1_macro")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_metric_that_a_fold_leaves_undefined_is_no_mean(value: float | None) -> None:
    with pytest.raises(TrialEnded, match="1 of 2"):
        aggregate([done(auc_macro=0.5), done(auc_macro=value)], "auc_macro")
