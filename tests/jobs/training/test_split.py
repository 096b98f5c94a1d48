"""The rows of a fold job: whose they are, and what is refused before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duchenne_jobs.data import (
    Dataset,
    DatasetWriter,
    Description,
    FoldError,
    LeakError,
    folds_of,
    open_dataset,
    plan_folds,
)
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.training import FoldJob, FoldsRequest, JobFailed
from duchenne_jobs.training.split import Rows, Split, load_split

MakeJob = Callable[..., FoldJob]


def subjects(rows: Rows) -> set[str]:
    return set(rows.subjects.tolist())


def test_evaluation_holds_out_the_test_fold_and_search_a_part_of_the_rest(toy: Dataset, job: MakeJob) -> None:
    plan = plan_folds(toy.subjects, FoldsRequest(3, 2, 0))
    for fold in range(3):
        sealed = load_split(job(phase="evaluation", fold=fold))
        assert subjects(sealed.held_out) == set(plan.folds[fold].test)
        assert subjects(sealed.train) == set(plan.folds[fold].train)
        inner = load_split(job(phase="search", fold=fold))
        assert subjects(inner.train) | subjects(inner.held_out) == subjects(sealed.train)
        assert not subjects(inner.train) & subjects(inner.held_out)
        assert len(inner.train) + len(inner.held_out) == len(sealed.train) == 40


def test_balanced_folds_are_those_of_the_labels(toy: Dataset, job: MakeJob) -> None:
    request = FoldsRequest(3, 2, 0, method="balanced")
    plan = folds_of(toy, request)
    assert plan.parts != plan_folds(toy.subjects, FoldsRequest(3, 2, 0)).parts
    split = load_split(replace(job(phase="evaluation"), folds=request))
    assert subjects(split.held_out) == set(plan.folds[0].test)


def test_rows_are_those_of_the_dataset(toy: Dataset, job: MakeJob) -> None:
    split = load_split(job(phase="evaluation"))
    assert split.data.tasks == toy.tasks
    stored = {row["subject"]: row for row in toy.rows().to_pylist()}
    for rows in (split.train, split.held_out):
        assert rows.inputs.features.dtype == torch.float32
        assert rows.labels.dtype == torch.int8
        for index, subject in enumerate(rows.subjects):
            assert rows.inputs.features[index].tolist() == pytest.approx(stored[subject]["features"])
            assert rows.labels[index].tolist() == stored[subject]["labels"]


def test_a_subject_on_both_sides_is_a_leak(rows: Rows) -> None:
    shared = replace(rows, subjects=np.array(["S05", "S07"] + [f"X{i}" for i in range(38)], dtype=object))
    with pytest.raises(LeakError) as caught:
        Split(rows, shared, DataDescription(tasks=("a", "b", "c")))
    assert str(caught.value) == (
        "training and held-out rows must share no subject, but 2 stand on both sides, first 'S05'; make the folds "
        "again from this dataset"
    )


def test_rows_beyond_the_fold_are_a_leak(toy: Dataset, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Dataset.rows
    monkeypatch.setattr(Dataset, "rows", lambda self, columns, subjects: read(self, columns))  # ignores the subjects
    with pytest.raises(LeakError, match=r"^training rows of trial 0, search of monet, fold 0, inner fold 0, seed 0: "):
        load_split(job(), toy)


def test_a_dataset_that_changed_is_refused(job: MakeJob) -> None:
    other = replace(job(), dataset_digest="sha256:" + "0" * 64)
    with pytest.raises(JobFailed, match=r"^data\.uri: the dataset must not change during a sweep, but "):
        load_split(other)


def test_more_folds_than_subjects(job: MakeJob) -> None:
    with pytest.raises(FoldError, match="61 folds and 60 subjects"):
        load_split(replace(job(), folds=FoldsRequest(61, 2, 0)))


def test_a_dataset_without_features_is_refused(job: MakeJob, tmp_path: Path) -> None:
    description = Description(
        name="faces",
        tasks=("AU1",),
        columns=("subject", "sequence", "frame", "image", "labels"),
        licence="drawn by a test",
        consent="no people",
    )
    rows: list[dict[str, Any]] = [
        {"subject": f"S{i}", "sequence": "T1", "frame": 0, "image": None, "labels": [0]} for i in range(4)
    ]
    with DatasetWriter(tmp_path / "faces", description) as writer:
        writer.write_rows(rows)
    with pytest.raises(
        JobFailed, match=r"needs a dataset with a column 'features', but .* has subject, sequence, frame"
    ):
        load_split(job(dataset=open_dataset(tmp_path / "faces")))


def test_rows_are_named_and_counted(rows: Rows) -> None:
    assert rows.names(torch.tensor([3, 25])) == ["S03/T1/3", "S25"]
    assert rows.listed(torch.tensor([3, 25])) == "S03/T1/3, S25"
    assert rows.listed(torch.arange(20, 40)).endswith("S27 and 12 more")
    assert rows.not_finite().tolist() == []
    features = rows.inputs.features.clone()
    features[4, 1], features[9, 0] = float("nan"), float("-inf")
    assert replace(rows, inputs=Inputs(features=features)).not_finite().tolist() == [4, 9]
