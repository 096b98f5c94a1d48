"""From prediction files to counts: how often each task was right and wrong for each subject, at threshold 0.5.

The counts are all that F1 and its bootstrap over subjects need: 140,000 frames of 41 subjects become 41 rows.

Shapes: F frames, N subjects of a fold, S seeds, T tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation.metrics import THRESHOLD
from duchenne_jobs.evaluation.predictions import Predictions, file_digest, read_predictions

if TYPE_CHECKING:
    from duchenne.records import PredictionFile

IntArray = NDArray[np.int64]


class CountsError(Exception):
    """Predictions that can't be counted: changed since they were recorded, damaged, or not of one piece."""


@dataclass(frozen=True, eq=False)
class FoldCounts:
    """Counts of one test fold.

    Attributes:
        fold: its number.
        subjects: N names, sorted.
        seeds: S seeds, sorted.
        tp, fp, fn, tn: (S, N, T) frames with a known label.
    """

    fold: int
    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    tp: IntArray
    fp: IntArray
    fn: IntArray
    tn: IntArray

    def __post_init__(self) -> None:
        shape = (len(self.seeds), len(self.subjects))
        for name in ("tp", "fp", "fn", "tn"):
            counts: IntArray = getattr(self, name)
            if counts.ndim != 3 or counts.shape[:2] != shape or counts.shape != self.tp.shape or 0 in counts.shape:
                raise CountsError(
                    f"counts must be (seeds, subjects, tasks) = ({shape[0]}, {shape[1]}, T) with none of them 0, "
                    f"but {name} of fold {self.fold} is {counts.shape}; count the predictions again"
                )
            if (counts < 0).any():
                raise CountsError(f"counts must be >= 0, but {name} of fold {self.fold} has {counts.min()}")
        if list(self.subjects) != sorted(set(self.subjects)):
            raise CountsError(f"subjects must be sorted and differ, but those of fold {self.fold} don't; sort them")


@dataclass(frozen=True, eq=False)
class EntryCounts:
    """Counts of one entry on all its test folds, by fold number; `tasks` names the T columns."""

    tasks: tuple[str, ...]
    folds: tuple[FoldCounts, ...]

    def __post_init__(self) -> None:
        if not self.folds or len({fold.fold for fold in self.folds}) != len(self.folds):
            raise CountsError(
                f"an entry has one or more folds, each once, but got {[fold.fold for fold in self.folds]}; "
                "give one file for each fold and seed"
            )
        for fold in self.folds:
            if fold.tp.shape[2] != len(self.tasks):
                raise CountsError(
                    f"counts need a column for each task, but fold {fold.fold} has {fold.tp.shape[2]} "
                    f"for {len(self.tasks)} tasks"
                )

    @cached_property
    def layout(self) -> str:
        """Digest of what was predicted: tasks, folds, subjects and their labels. Entries are paired only if it agrees.

        Raises:
            CountsError: the labels differ between seeds.
        """
        digest = hashlib.sha256(repr(self.tasks).encode())
        for fold in sorted(self.folds, key=lambda item: item.fold):
            positive, known = fold.tp + fold.fn, fold.tp + fold.fp + fold.fn + fold.tn
            if (positive != positive[:1]).any() or (known != known[:1]).any():
                raise CountsError(
                    f"every seed predicts the same labelled frames, but those of fold {fold.fold} differ; run it again"
                )
            digest.update(repr((fold.fold, fold.subjects)).encode())
            digest.update(np.ascontiguousarray(positive[0]).tobytes() + np.ascontiguousarray(known[0]).tobytes())
        return digest.hexdigest()


def count_predictions(predictions: Predictions) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Count one file: the sorted subjects, and (4, N, T) frames: tp, fp, fn, tn.

    Raises:
        CountsError: no rows, a probability outside [0, 1] (or NaN), or a label that is not -1, 0 or 1.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    if len(labels) == 0 or labels.shape != probabilities.shape:
        raise CountsError(
            f"predictions need rows, and a probability for each label, but got {labels.shape} labels and "
            f"{probabilities.shape} probabilities"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise CountsError("probabilities must lie in [0, 1], but some do not; look at the model's output")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise CountsError(f"labels must be -1 (unknown), 0 or 1, but got {np.unique(labels)[:5]}")
    subjects, owner = np.unique(predictions.subjects.astype(str), return_inverse=True)
    predicted = probabilities >= THRESHOLD
    counts = np.stack(
        [
            _by_subject(predicted & (labels == 1), owner, len(subjects)),
            _by_subject(predicted & (labels == 0), owner, len(subjects)),
            _by_subject(~predicted & (labels == 1), owner, len(subjects)),
            _by_subject(~predicted & (labels == 0), owner, len(subjects)),
        ]
    )
    return tuple(subjects.tolist()), counts


def read_counts(files: Sequence[PredictionFile], root: Path) -> EntryCounts:
    """Counts of an entry from its prediction files, each checked against its recorded digest first.

    Args:
        files: one for each fold and seed; relative paths are below `root`.

    Raises:
        CountsError: a file differs from its digest, is no prediction file, or does not belong with the others.
        FileNotFoundError: a file is not there.
    """
    predictions: dict[tuple[int, int], Predictions] = {}
    for file in files:
        if (file.fold, file.seed) in predictions:
            raise CountsError(f"one file for each fold and seed, but fold {file.fold} seed {file.seed} has two")
        predictions[file.fold, file.seed] = read_checked(file, root)
    return counts_of(predictions)


def counts_of(predictions: Mapping[tuple[int, int], Predictions]) -> EntryCounts:
    """Counts of an entry from its (fold, seed) -> held-out rows.

    Raises:
        CountsError: there are none, or they do not belong together.
    """
    found: dict[int, dict[int, tuple[tuple[str, ...], Any]]] = {}
    tasks: tuple[str, ...] | None = None
    for (fold, seed), rows in predictions.items():
        if tasks is not None and rows.tasks != tasks:
            raise CountsError(
                f"every file of an entry has the same tasks, but fold {fold} seed {seed} has {rows.tasks}"
            )
        tasks = rows.tasks
        found.setdefault(fold, {})[seed] = count_predictions(rows)
    if tasks is None:
        raise CountsError("an entry has a prediction file for each fold and seed, but there is none; evaluate it first")
    return EntryCounts(tasks, tuple(_fold(fold, found[fold]) for fold in sorted(found)))


def read_checked(file: PredictionFile, root: Path) -> Predictions:
    """One prediction file, if its bytes are those that were recorded.

    Raises:
        CountsError, FileNotFoundError: see `read_counts`.
    """
    path = root / file.path
    if not Path(file.path).is_absolute() and not path.resolve().is_relative_to(root.resolve()):
        raise CountsError(f"a prediction file lies below its home, but {file.path} leads out of it; correct the record")
    digest = file_digest(path)
    if digest.removeprefix("sha256:") != file.digest.removeprefix("sha256:"):
        raise CountsError(
            f"a prediction file must stay as it was recorded, but {file.path} has digest {digest[:19]} and the record "
            f"says {file.digest[:19]}; restore the file"
        )
    try:
        return read_predictions(path)
    except (ValueError, KeyError) as error:
        raise CountsError(f"{file.path} must be a prediction file, but it can't be read ({error})") from error


def _fold(fold: int, seeds: dict[int, tuple[tuple[str, ...], Any]]) -> FoldCounts:
    subjects = {names for names, _ in seeds.values()}
    if len(subjects) != 1:
        raise CountsError(f"every seed predicts the same subjects, but those of fold {fold} differ; run it again")
    order = tuple(sorted(seeds))
    stacked = np.stack([seeds[seed][1] for seed in order], axis=1)
    return FoldCounts(fold, subjects.pop(), order, *stacked)


def _by_subject(hits: NDArray[np.bool_], owner: NDArray[np.intp], subjects: int) -> NDArray[np.int64]:
    """(F, T) -> (N, T): how often a column is true among the frames of each subject."""
    return np.stack([np.bincount(owner[column], minlength=subjects) for column in hits.T], axis=1).astype(np.int64)
