"""The rows of one fold job, with the proof that no subject stands on both sides.

Shapes: N rows, B batch, F features, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.data import (
    FoldPlan,
    LeakError,
    check_rows,
    folds_of,
    open_dataset,
)
from duchenne_jobs.data.cache import Kept
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.training.faces import FaceRows, FaceStore
from duchenne_jobs.training.job import FoldJob, JobFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from duchenne_jobs.data import Dataset, Manifest
    from duchenne_jobs.data.manifest import Crop


ROWS_NAMED = 8  # in a message
FACE_MAPS = ("landmarks", "parsing")  # columns that guidance looks at

MakeStore = Callable[["Dataset", tuple[str, ...], "tuple[int, int] | None", Kept], FaceStore]


@dataclass(frozen=True)
class Rows:
    """Rows of a dataset: labels and names in memory, and features too; faces are read when a batch asks for them.

    Attributes:
        inputs: what a network sees of them.
        labels: (N, T) int8 in {-1, 0, 1}, -1 unknown.
        subjects, sequences, frames: (N,) where each row comes from.
    """

    inputs: Inputs | FaceRows
    labels: Tensor
    subjects: np.ndarray
    sequences: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Inputs:
        """What a network sees of the rows `indices` (B,), on the CPU; images are uint8.

        Raises:
            duchenne_jobs.data.DatasetError: one has no face, or can't be decoded.
        """
        return self.inputs[indices]

    @property
    def features(self) -> Tensor | None:
        """(N, F), or None where the rows are faces."""
        return self.inputs.features if isinstance(self.inputs, Inputs) else None

    @property
    def has_face(self) -> Tensor:
        """(N,) bool: whether a network can see the row; a row of features always is one."""
        if isinstance(self.inputs, Inputs):
            return torch.ones(len(self), dtype=torch.bool)
        return torch.from_numpy(self.inputs.store.has_face[self.inputs.rows])

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
        if self.features is None:
            return torch.empty(0, dtype=torch.int64)
        return torch.nonzero(~torch.isfinite(self.features).all(dim=1)).flatten()


@dataclass(frozen=True)
class Split:
    """Training rows and held-out rows of one fold job.

    Attributes:
        data: what a network is built for.
        crop: how the dataset's faces were cut out; None where they were not.

    Raises:
        duchenne_jobs.data.LeakError: a subject has rows on both sides, whatever the folds say.
    """

    train: Rows
    held_out: Rows
    data: DataDescription
    crop: Crop | None = None

    def __post_init__(self) -> None:
        shared = set(self.train.subjects) & set(self.held_out.subjects)
        if shared:
            raise LeakError(
                f"training and held-out rows must share no subject, but {len(shared)} stand on both sides, "
                f"first {min(shared)!r}; make the folds again from this dataset"
            )


def load_split(job: FoldJob, dataset: Dataset | None = None, faces: MakeStore = FaceStore) -> Split:
    """Read both sides of a fold job and check that the subjects streamed are disjoint.

    Args:
        job: its folds, its encoder.
        dataset: the job's dataset, where it is open already.
        faces: makes or finds the store of a dataset's faces, from (dataset, columns, size, what the cache keeps).

    Raises:
        JobFailed: the dataset has changed since the sweep began, or has not the columns that the job's model needs.
        duchenne_jobs.data.DatasetError: it can't be read.
        duchenne_jobs.data.LeakError: a subject stands on both sides.
    """
    data = dataset or open_dataset(job.dataset_uri, cache=job.cache.opened())
    if data.digest != job.dataset_digest:
        raise JobFailed(
            f"data.uri: the dataset must not change during a sweep, but {job.dataset_uri} now has digest {data.digest} "
            f"and had {job.dataset_digest}; start a new sweep"
        )
    needed = faces_needed(job)
    columns = _input_columns(job, needed, data.manifest)
    store = None if needed is None else faces(data, columns, needed.size, job.cache.kept)
    train_subjects, held_out_subjects = _subjects_of(job, folds_of(data, job.folds))
    train = _read(data, train_subjects, store)
    held_out = _read(data, held_out_subjects, store)
    check_rows(train_subjects, train.subjects, f"training rows of {job.key}")
    check_rows(held_out_subjects, held_out.subjects, f"held-out rows of {job.key}")
    return Split(train, held_out, describe(data, store), data.manifest.crop)


@dataclass(frozen=True)
class FacesNeeded:
    """What a network sees of a face beside the image, and at which (H, W); None takes the stored size."""

    maps: tuple[str, ...]
    size: tuple[int, int] | None


def faces_needed(job: FoldJob) -> FacesNeeded | None:
    """The faces that the job's method sees; None for one that looks at features."""
    if job.key.method in BASELINE_NAMES or job.config.model.encoder.name == "features":
        return None
    side = job.config.model.encoder.image_size
    guided_by = {term.column for term in job.config.model.guidance}
    return FacesNeeded(tuple(sorted(guided_by)), None if side is None else (side, side))


def _input_columns(job: FoldJob, needed: FacesNeeded | None, manifest: Manifest) -> tuple[str, ...]:
    """The columns that the job's method looks at.

    Raises:
        JobFailed: the dataset lacks one.
    """
    columns = ("features",) if needed is None else ("image", *needed.maps)
    for column in columns:
        if column not in manifest.columns:
            what = "model.guidance" if column in FACE_MAPS else f"encoder {job.config.model.encoder.name}"
            if job.key.method in BASELINE_NAMES:
                what = job.key.method
            raise JobFailed(
                f"data.uri: {what} needs a dataset with a column {column!r}, but {job.dataset_uri} has "
                f"{', '.join(manifest.columns)}; choose another dataset or encoder"
            )
    return columns


def describe(data: Dataset, faces: FaceStore | None = None) -> DataDescription:
    """What a network is built from: what the manifest says, of faces as far as the network sees them."""
    manifest = data.manifest
    scheme, classes = manifest.landmark_scheme, manifest.parsing_classes
    return DataDescription(
        tasks=data.tasks,
        features=len(manifest.feature_names) if manifest.feature_names else None,
        image_size=faces.size if faces else None,
        landmark_points=scheme.points if faces and scheme and "landmarks" in faces.columns else None,
        parsing_classes=classes if faces and classes and "parsing" in faces.columns else (),
    )


def _subjects_of(job: FoldJob, plan: FoldPlan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training subjects, held-out subjects): the test fold is held out, or an inner part of the rest."""
    if job.key.inner is None:
        fold = plan.folds[job.key.fold]
        return fold.train, fold.test
    inner = plan.inner_folds(job.key.fold, job.folds.inner)[job.key.inner]
    return inner.train, inner.validation


def _read(data: Dataset, subjects: tuple[str, ...], store: FaceStore | None) -> Rows:
    wanted = ("subject", "sequence", "frame", "labels") + (("features",) if store is None else ())
    table = data.rows(columns=[column for column in wanted if column in data.manifest.columns], subjects=subjects)
    names = table["subject"].to_numpy(zero_copy_only=False)
    if store is None:
        inputs: Inputs | FaceRows = Inputs(features=torch.from_numpy(matrix(table, "features").astype(np.float32)))
    else:
        inputs = FaceRows(store, _row_numbers(data, subjects))
    return Rows(
        inputs=inputs,
        labels=torch.from_numpy(matrix(table, "labels").astype(np.int8, copy=True)),
        subjects=names,
        sequences=_column_or(table, "sequence", np.full(len(names), "", dtype=object)),
        frames=_column_or(table, "frame", np.zeros(len(names), dtype=np.int64)),
    )


def _row_numbers(data: Dataset, subjects: tuple[str, ...]) -> np.ndarray:
    """Which rows of the dataset, in stored order, are of these subjects."""
    every = data.rows(columns=["subject"])["subject"].to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.isin(every.astype(str), subjects))


def _column_or(table: pa.Table, column: str, otherwise: np.ndarray) -> np.ndarray:
    """A column, or what stands for it in a set that has no sequences and frames: tables of independent rows."""
    values: np.ndarray = table[column].to_numpy(zero_copy_only=False) if column in table.column_names else otherwise
    return values
