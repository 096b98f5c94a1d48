"""Every metric with its interval: the numbers of the worker, and the intervals of a bootstrap done frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from duchenne.boards import CountsError, bootstrap_f1, read_counts, report_entry
from duchenne.boards.columns import entry_columns
from duchenne.boards.report import METRICS, report
from duchenne.boards.statistics import resample_weights
from duchenne.records import Entry
from duchenne_jobs.evaluation import Predictions, evaluate, reliability, task_auc

Make = Callable[..., Predictions]
TASKS = ("AU1", "AU4")


@pytest.fixture
def files(make_predictions: Make) -> dict[tuple[int, int], Predictions]:
    """Two folds of 5 subjects, two seeds, some labels unknown, scores that tie."""
    draw = np.random.default_rng(3)
    made = {}
    for fold in (0, 1):
        names = [f"f{fold}s{index}" for index in draw.integers(0, 5, size=60)]
        labels = draw.integers(-1, 2, size=(60, 2))
        for seed in (0, 1):
            noise = draw.normal(0.0, 0.35, size=labels.shape)
            probabilities = np.clip(np.round(0.5 + 0.2 * labels * (labels >= 0) + noise, 1), 0, 1)
            made[fold, seed] = make_predictions(names, labels, probabilities, TASKS)
    return made


def test_values_are_those_of_the_metrics(files: dict[tuple[int, int], Predictions]) -> None:
    found = report(files, resamples=50)
    assert tuple(found.metrics) == METRICS
    assert found.tasks == TASKS
    scores = {key: evaluate(rows.labels, rows.probabilities) for key, rows in files.items()}
    for metric, name in (("f1", "f1_macro"), ("auc", "auc_macro"), ("accuracy", "accuracy")):
        expected = np.mean([score[name] for score in scores.values()])
        assert found.metrics[metric].mean_of_folds_macro.value == pytest.approx(expected)
    columns = entry_columns(files)
    for metric in ("f1", "auc", "accuracy"):
        assert found.metrics[metric].pooled_macro.value == pytest.approx(columns[f"{metric}_pooled"])
    assert found.metrics["calibration_error"].pooled_macro.value == pytest.approx(columns["calibration_error"])
    errors = [reliability(rows.labels, rows.probabilities).calibration_error[1] for rows in files.values()]
    assert found.metrics["calibration_error"].mean_of_folds[1].value == pytest.approx(np.mean(errors))


def test_intervals_of_f1_are_those_of_the_board(
    make_entry: Callable[..., Entry], tmp_path: Path, files: object
) -> None:
    entry = make_entry("m", files)
    found = report_entry(entry, tmp_path, resamples=200).metrics["f1"]
    counts = read_counts(entry.predictions, tmp_path)
    stream = f"{entry.dataset_digest}|{entry.folds_digest}|{counts.layout}"
    board = bootstrap_f1(counts, resamples=200, stream=stream)
    assert found.mean_of_folds_macro.value == pytest.approx(board.mean)
    assert (found.mean_of_folds_macro.ci_low, found.mean_of_folds_macro.ci_high) == pytest.approx(
        (board.ci_low, board.ci_high)
    )
    assert [task.ci_low for task in found.mean_of_folds] == pytest.approx(list(board.task_low))


def test_the_interval_of_auc_is_that_of_repeating_the_frames(files: dict[tuple[int, int], Predictions]) -> None:
    resamples = 60
    samples = []
    drawn = {fold: np.concatenate(list(resample_weights(5, resamples, fold, 0, ""))) for fold in (0, 1)}
    for index in range(resamples):
        folds = []
        for fold in (0, 1):
            areas = []
            for seed in (0, 1):
                rows = files[fold, seed]
                _, owner = np.unique(rows.subjects.astype(str), return_inverse=True)
                known = rows.labels[:, 0] >= 0
                weights = drawn[fold][index][owner][known]
                areas.append(roc_auc_score(rows.labels[known, 0], rows.probabilities[known, 0], sample_weight=weights))
            folds.append(np.mean(areas))
        samples.append(np.mean(folds))
    found = report(files, resamples=resamples).metrics["auc"].mean_of_folds[0]
    low, high = np.quantile(samples, [0.025, 0.975])
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=1e-9)


def test_pooled_auc_compares_rows_of_different_folds(files: dict[tuple[int, int], Predictions]) -> None:
    found = report(files, resamples=20).metrics["auc"].pooled
    areas = []
    for seed in (0, 1):
        labels = np.concatenate([files[fold, seed].labels for fold in (0, 1)])
        areas.append(task_auc(labels, np.concatenate([files[fold, seed].probabilities for fold in (0, 1)])))
    assert [task.value for task in found] == pytest.approx(list(np.mean(areas, axis=0)))


def test_what_a_task_without_positives_leaves_undefined(make_predictions: Make) -> None:
    rows = make_predictions(["a", "b", "c"], [[0, 1], [0, 0], [0, 1]], [[0.1, 0.9], [0.2, 0.2], [0.3, 0.6]], TASKS)
    found = report({(0, 0): rows, (1, 0): rows}, resamples=40).metrics
    assert found["f1"].mean_of_folds[0].value == 0.0
    assert found["auc"].mean_of_folds[0].value is None
    assert found["auc"].mean_of_folds_macro.value == 1.0  # of the one task that defines it
    assert found["accuracy"].mean_of_folds[0].value == 1.0


def test_one_subject_gives_numbers_without_intervals(make_predictions: Make) -> None:
    rows = make_predictions(["a", "a"], [[0, 1], [1, 0]], [[0.1, 0.9], [0.9, 0.2]], TASKS)
    estimate = report({(0, 0): rows}, resamples=10).metrics["auc"].mean_of_folds_macro
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == (1.0, None, None)


def test_rows_that_differ_between_seeds_are_refused(make_predictions: Make) -> None:
    rows = make_predictions(["a", "b"], [[0, 1], [1, 0]], [[0.1, 0.9], [0.9, 0.2]], TASKS)
    other = make_predictions(["a", "b"], [[0, 1], [1, 1]], [[0.1, 0.9], [0.9, 0.2]], TASKS)
    with pytest.raises(CountsError, match="those of fold 0 differ"):
        report({(0, 0): rows, (0, 1): other})
    with pytest.raises(CountsError, match="every seed on every fold"):
        report({(0, 0): rows, (1, 1): rows})
