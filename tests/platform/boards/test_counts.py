"""Counts from prediction files: worked by hand, and against the metrics that workers compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duchenne.boards import CountsError, EntryCounts, FoldCounts, bootstrap_f1, count_predictions, read_counts
from duchenne.records import PredictionFile
from duchenne_jobs.evaluation import Predictions, evaluate, write_predictions

MakePredictions = Callable[..., Predictions]


def test_counts_worked_by_hand(make_predictions: MakePredictions) -> None:
    predictions = make_predictions(
        ["b", "a", "b", "a", "b"],
        [[1, 0], [1, -1], [0, 1], [0, 0], [-1, 1]],
        [[0.5, 0.9], [0.4, 0.9], [0.6, 0.7], [0.1, 0.49], [0.9, 0.2]],
        ("AU1", "AU2"),
    )
    subjects, (tp, fp, fn, tn) = count_predictions(predictions)
    assert subjects == ("a", "b")
    assert tp.tolist() == [[0, 0], [1, 1]], "0.5 is positive"
    assert fp.tolist() == [[0, 0], [1, 1]]
    assert fn.tolist() == [[1, 0], [0, 1]]
    assert tn.tolist() == [[1, 1], [0, 0]]
    assert (tp + fp + fn + tn).sum() == 8, "the two unknown labels are left out"


def _file(path: Path, predictions: Predictions, fold: int = 0, seed: int = 0) -> PredictionFile:
    digest = write_predictions(path / f"f{fold}s{seed}.arrow", predictions, {})
    return PredictionFile(fold=fold, seed=seed, path=f"f{fold}s{seed}.arrow", digest=digest)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_number_is_that_of_the_worker(make_predictions: MakePredictions, draw: int, rows: int, tasks: int) -> None:
    generator = np.random.default_rng(draw)
    names = tuple(f"AU{task}" for task in range(tasks))
    labels = generator.integers(-1, 2, (rows, tasks))
    probabilities = generator.choice(np.linspace(0, 1, 9), (rows, tasks))
    predictions = make_predictions(
        [f"s{index}" for index in generator.integers(0, 5, rows)], labels, probabilities, names
    )
    subjects, parts = count_predictions(predictions)
    counts = EntryCounts(names, (FoldCounts(0, subjects, (0,), *parts[:, None]),))
    expected = evaluate(predictions.labels, predictions.probabilities)["f1_macro"]
    assert bootstrap_f1(counts, resamples=1).mean == pytest.approx(expected, abs=1e-12)


def test_files_are_read_by_fold_and_seed(make_predictions: MakePredictions, tmp_path: Path) -> None:
    files = []
    for fold, subjects in ((1, ["c", "d"]), (0, ["b", "a"])):
        for seed in (7, 3):
            predictions = make_predictions(subjects, [[1], [0]], [[0.9 if seed == 7 else 0.1], [0.1]], ("AU1",))
            files.append(_file(tmp_path, predictions, fold, seed))
    counts = read_counts(files, tmp_path)
    assert [(fold.fold, fold.subjects, fold.seeds) for fold in counts.folds] == [
        (0, ("a", "b"), (3, 7)),
        (1, ("c", "d"), (3, 7)),
    ]
    assert counts.folds[0].tp[:, :, 0].tolist() == [[0, 0], [0, 1]]
    assert counts.folds[1].fn[:, :, 0].tolist() == [[1, 0], [0, 0]]


def test_a_changed_file_is_refused(make_predictions: MakePredictions, tmp_path: Path) -> None:
    file = _file(tmp_path, make_predictions(["a"], [[1]], [[0.9]], ("AU1",)))
    assert read_counts([dataclasses.replace(file, digest=file.digest.removeprefix("sha256:"))], tmp_path).tasks
    write_predictions(tmp_path / file.path, make_predictions(["a"], [[1]], [[0.8]], ("AU1",)), {})
    with pytest.raises(CountsError, match="must stay as it was recorded"):
        read_counts([file], tmp_path)


def test_files_that_do_not_belong_together_are_refused(make_predictions: MakePredictions, tmp_path: Path) -> None:
    one = _file(tmp_path, make_predictions(["a"], [[1]], [[0.9]], ("AU1",)), seed=0)
    other_task = _file(tmp_path, make_predictions(["a"], [[1]], [[0.9]], ("AU2",)), seed=1)
    other_subject = _file(tmp_path, make_predictions(["b"], [[1]], [[0.9]], ("AU1",)), seed=2)
    other_label = _file(tmp_path, make_predictions(["a"], [[0]], [[0.9]], ("AU1",)), seed=3)
    with pytest.raises(CountsError, match="same tasks"):
        read_counts([one, other_task], tmp_path)
    with pytest.raises(CountsError, match="same subjects"):
        read_counts([one, other_subject], tmp_path)
    with pytest.raises(CountsError, match="two"):
        read_counts([one, one], tmp_path)
    with pytest.raises(CountsError, match="same labelled frames"):
        _ = read_counts([one, other_label], tmp_path).layout
    with pytest.raises(CountsError, match="there is none"):
        read_counts([], tmp_path)
    with pytest.raises(FileNotFoundError):
        read_counts([dataclasses.replace(one, path="gone.arrow")], tmp_path)


def test_a_record_cannot_lead_out_of_the_home(make_predictions: MakePredictions, tmp_path: Path) -> None:
    file = _file(tmp_path, make_predictions(["a"], [[1]], [[0.9]], ("AU1",)))
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(CountsError, match="leads out of it"):
        read_counts([dataclasses.replace(file, path=f"../{file.path}")], home)


def test_a_file_that_is_no_prediction_file_is_refused(tmp_path: Path) -> None:
    import hashlib

    content = b"ARROW1 or so" * 10
    (tmp_path / "x.arrow").write_bytes(content)
    file = PredictionFile(fold=0, seed=0, path="x.arrow", digest=hashlib.sha256(content).hexdigest())
    with pytest.raises(CountsError, match="must be a prediction file"):
        read_counts([file], tmp_path)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([[1]], [[float("nan")]], "probabilities"),
        ([[1]], [[1.5]], "probabilities"),
        ([[2]], [[0.5]], "labels"),
        ([[1, 0]], [[0.5]], "each label"),
        (np.zeros((0, 1)), np.zeros((0, 1)), "need rows"),
    ],
)
def test_values_that_are_none_are_refused(
    make_predictions: MakePredictions, labels: object, probabilities: object, message: str
) -> None:
    rows = len(labels)  # type: ignore[arg-type]
    with pytest.raises(CountsError, match=message):
        count_predictions(make_predictions(["a"] * rows, labels, probabilities, ("AU1",)))


def test_counts_that_do_not_fit_are_refused(make_counts: Callable[..., EntryCounts]) -> None:
    good = make_counts([(["a", "b"], [[1], [1]], [[0], [0]], [[0], [0]])])
    fold = good.folds[0]
    for broken in (
        {"subjects": ("b", "a")},
        {"subjects": ("a",)},
        {"fp": -fold.tp},
        {"fn": fold.fn[:, :, :0]},
    ):
        with pytest.raises(CountsError):
            dataclasses.replace(fold, **broken)  # type: ignore[arg-type]
    with pytest.raises(CountsError, match="each once"):
        EntryCounts(good.tasks, (fold, fold))
    with pytest.raises(CountsError, match="column for each task"):
        EntryCounts(("AU1", "AU2"), (fold,))
