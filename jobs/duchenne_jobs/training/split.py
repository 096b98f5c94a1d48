"""The rows of one fold job as tensors, with the proof that no subject stands on both sides.

Shapes: N rows, F features, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from duchenne_jobs.data import FoldPlan, LeakError, check_rows, load_protocol, make_folds, open_dataset
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.training.job import FoldJob, FoldsRequest, JobFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from duchenne_jobs.data import Dataset


ROWS_NAMED = 8  # in a message


@dataclass(frozen=True)
class Rows:
    """Rows of a dataset, in memory.

    Attributes:
        inputs: what a network sees of them.
        labels: (N, T) int8 in {-1, 0, 1}, -1 unknown.
        subjects, sequences, frames: (N,) where each row comes from.
    """

    inputs: Inputs
    labels: Tensor
    subjects: np.ndarray
    sequences: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def names(self, indices: Tensor) -> list[str]:
        """`subject/sequence/frame` of each row of `indices`; the subject alone in a table of independent rows."""
        return [
            f"{self.subjects[i]}/{self.sequences[i]}/{self.frames[i]}" if self.sequences[i] else str(self.subjects[i])
            for i in indices.tolist()
        ]

    def listed(self, indices: Tensor) -> str:
        """The names of the first rows of `indices`, and how many there are beyond them, for a message."""
        more = f" and {len(indices) - ROWS_NAMED} more" if len(indices) > ROWS_NAMED else ""
        return ", ".join(self.names(indices[:ROWS_NAMED])) + more

    def not_finite(self) -> Tensor:
        """Indices of the rows that have a feature which is NaN or infinite."""
        if self.inputs.features is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.nonzero(~torch.isfinite(self.inputs.features).all(dim=1)).flatten()


@dataclass(frozen=True)
class Split:
    """Training rows and held-out rows of one fold job; `data` describes what a network is built for.

    Raises:
        duchenne_jobs.data.LeakError: a subject has rows on both sides, whatever the folds say.
    """

    train: Rows
    held_out: Rows
    data: DataDescription

    def __post_init__(self) -> None:
        shared = set(self.train.subjects) & set(self.held_out.subjects)
        if shared:
            raise LeakError(
                f"training and held-out rows must share no subject, but {len(shared)} stand on both sides, "
                f"first {min(shared)!r}; make the folds again from this dataset"
            )


def load_split(job: FoldJob, dataset: Dataset | None = None) -> Split:
    """Read both sides of a fold job and check that the subjects streamed are disjoint.

    Raises:
        JobFailed: the dataset has changed since the sweep began, or has no `features` column.
        duchenne_jobs.data.DatasetError: it can't be read.
        duchenne_jobs.data.LeakError: a subject stands on both sides.
    """
    data = dataset or open_dataset(job.dataset_uri)
    if data.digest != job.dataset_digest:
        raise JobFailed(
            f"data.uri: the dataset must not change during a sweep, but {job.dataset_uri} now has digest {data.digest} "
            f"and had {job.dataset_digest}; start a new sweep"
        )
    train_subjects, held_out_subjects = _subjects_of(job, plan_folds(data.subjects, job.folds))
    train = _read(data, train_subjects)
    held_out = _read(data, held_out_subjects)
    check_rows(train_subjects, train.subjects, f"training rows of {job.key}")
    check_rows(held_out_subjects, held_out.subjects, f"held-out rows of {job.key}")
    return Split(train, held_out, describe(data))


def describe(data: Dataset) -> DataDescription:
    """What the manifest says that a network is built from."""
    manifest = data.manifest
    return DataDescription(
        tasks=data.tasks,
        features=len(manifest.feature_names) if manifest.feature_names else None,
    )


def plan_folds(subjects: tuple[str, ...], request: FoldsRequest) -> FoldPlan:
    """The outer folds of a sweep: its protocol's parts, or a shuffled k-fold over the sorted subjects.

    Raises:
        duchenne_jobs.data.FoldError: the subjects can't be split so.
    """
    if request.protocol is not None:
        return load_protocol(request.protocol).plan(subjects, request.seed)
    return make_folds(subjects, request.count, request.seed)


def _subjects_of(job: FoldJob, plan: FoldPlan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training subjects, held-out subjects): the test fold is held out, or an inner part of the rest."""
    if job.key.inner is None:
        fold = plan.folds[job.key.fold]
        return fold.train, fold.test
    inner = plan.inner_folds(job.key.fold, job.folds.inner)[job.key.inner]
    return inner.train, inner.validation


def _read(data: Dataset, subjects: tuple[str, ...]) -> Rows:
    wanted = ("subject", "sequence", "frame", "features", "labels")
    if "features" not in data.manifest.columns:
        raise JobFailed(
            f"data.uri: the `features` encoder needs a dataset with a features column, but {data.uri} has "
            f"{', '.join(data.manifest.columns)}; choose another dataset"
        )
    table = data.rows(columns=[column for column in wanted if column in data.manifest.columns], subjects=subjects)
    names = table["subject"].to_numpy(zero_copy_only=False)
    return Rows(
        inputs=Inputs(features=torch.from_numpy(matrix(table, "features").astype(np.float32, copy=True))),
        labels=torch.from_numpy(matrix(table, "labels").astype(np.int8, copy=True)),
        subjects=names,
        sequences=_column_or(table, "sequence", np.full(len(names), "", dtype=object)),
        frames=_column_or(table, "frame", np.zeros(len(names), dtype=np.int64)),
    )


def _column_or(table: pa.Table, column: str, otherwise: np.ndarray) -> np.ndarray:
    """A column, or what stands for it in a set that has no sequences and frames: tables of independent rows."""
    values: np.ndarray = table[column].to_numpy(zero_copy_only=False) if column in table.column_names else otherwise
    return values
