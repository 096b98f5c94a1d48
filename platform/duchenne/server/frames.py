"""Frames of a dataset with their labels and test folds: what predictions are checked against.

Shapes: N frames, T tasks, U rows of predictions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation import Predictions
from duchenne_jobs.evaluation.predictions import file_digest

IntArray = NDArray[np.int64]


class FramesError(ValueError):
    """Predictions are not those of the frames; the message says which one, and what to do."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Every frame of the test folds, once.

    Attributes:
        tasks: T names.
        subjects, sequences: (N,) names.
        frames: (N,) numbers.
        folds: (N,) the fold that tests on the frame.
        labels: (N, T) int8, -1 unknown.
    """

    tasks: tuple[str, ...]
    subjects: NDArray[np.object_]
    sequences: NDArray[np.object_]
    frames: IntArray
    folds: IntArray
    labels: NDArray[np.int8]

    def write(self, path: Path) -> str:
        """Write atomically; the file's digest, `sha256:...`."""
        import pyarrow as pa

        table = pa.table(
            {
                "subject": pa.array(self.subjects, pa.string()),
                "sequence": pa.array(self.sequences, pa.string()),
                "frame": pa.array(self.frames, pa.int64()),
                "fold": pa.array(self.folds, pa.int64()),
                "labels": pa.FixedSizeListArray.from_arrays(
                    pa.array(np.ascontiguousarray(self.labels).ravel(), pa.int8()), len(self.tasks)
                ),
            }
        ).replace_schema_metadata({"tasks": json.dumps(self.tasks)})
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return file_digest(path)

    @classmethod
    def read(cls, path: Path, digest: str) -> Frames:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError: it is not there.
            FramesError: it changed since.
        """
        import pyarrow as pa

        if file_digest(path) != digest:
            raise FramesError(
                f"the labels of a board must stay as they were recorded, but {path.name} changed; restore it"
            )
        with pa.memory_map(str(path), "r") as source:
            table = pa.ipc.open_file(source).read_all()
        tasks = tuple(json.loads(table.schema.metadata[b"tasks"]))
        return cls(
            tasks,
            table["subject"].to_numpy(zero_copy_only=False),
            table["sequence"].to_numpy(zero_copy_only=False),
            table["frame"].to_numpy().copy(),
            table["fold"].to_numpy().copy(),
            table["labels"].combine_chunks().flatten().to_numpy().reshape(-1, len(tasks)).copy(),
        )

    def places(self, subjects: Any, sequences: Any, frames: IntArray) -> IntArray:
        """(U,) index of each row's frame.

        Raises:
            FramesError: a frame twice, one that the dataset lacks, or a frame or subject that is missing.
        """
        places, known = self._find(subjects, sequences, frames)
        if not known.all():
            row = int(np.argmin(known))
            raise FramesError(
                f"every row must be a frame of a test fold, but row {row + 1} is none of the {len(self.frames)}: "
                f"{_name(subjects, sequences, frames, row)}; remove it, or check how subjects and sequences are spelt"
            )
        counts = np.bincount(places, minlength=len(self.frames))
        if (counts > 1).any():
            row = int(np.argmax(counts > 1))
            where = _name(self.subjects, self.sequences, self.frames, row)
            raise FramesError(f"every frame must come once, but {where} comes {counts[row]} times; keep one of them")
        if (counts == 0).any():
            raise FramesError(self._missing(counts == 0))
        return places

    def _missing(self, absent: NDArray[np.bool_]) -> str:
        names = np.unique(self.subjects.astype(str))
        gone = sorted(set(names.tolist()).difference(np.unique(self.subjects[~absent].astype(str)).tolist()))
        if gone:
            listed = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            return f"every subject must be there, but of {len(names)} subjects {listed} has no row; predict all of them"
        row = int(np.argmax(absent))
        where = _name(self.subjects, self.sequences, self.frames, row)
        return (
            f"every frame must be there, but {int(absent.sum())} of {len(self.frames)} are missing, the first {where}; "
            "predict all of them, those without a face too"
        )

    @cached_property
    def _codes(self) -> tuple[Any, Any, int, IntArray, IntArray]:
        """(subjects, sequences, width of a frame number, sorted keys, their order)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        subjects = pc.unique(pa.array(self.subjects, pa.string()))
        sequences = pc.unique(pa.array(self.sequences, pa.string()))
        width = int(self.frames.max(initial=0)) + 1
        keys = self._keys(subjects, sequences, width, self.subjects, self.sequences, self.frames)[0]
        order = np.argsort(keys, kind="stable").astype(np.int64)
        return subjects, sequences, width, keys[order], order

    def _find(self, subjects: Any, sequences: Any, frames: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        names, parts, width, ordered, order = self._codes
        keys, spelt = self._keys(names, parts, width, subjects, sequences, frames)
        at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        known: NDArray[np.bool_] = spelt & (ordered[at] == keys)
        return np.where(known, order[at], 0), known

    @staticmethod
    def _keys(
        names: Any, parts: Any, width: int, subjects: Any, sequences: Any, frames: IntArray
    ) -> tuple[IntArray, NDArray[np.bool_]]:
        """One number a frame, and whether its subject, sequence and number are within those that are known."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def codes(values: Any, known: Any) -> IntArray:
            found = pc.index_in(pa.array(values, pa.string()), value_set=known)
            filled: IntArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
            return filled

        subject, sequence = codes(subjects, names), codes(sequences, parts)
        inside = (subject >= 0) & (sequence >= 0) & (frames >= 0) & (frames < width)
        keys = (subject * len(parts) + sequence) * width + np.where(inside, frames, 0)
        return keys, inside


def frames_of(predictions: dict[int, Predictions]) -> Frames:
    """The frames of fold -> predictions of one seed; each fold's own rows."""
    folds = sorted(predictions)
    parts = [predictions[fold] for fold in folds]
    return Frames(
        tasks=parts[0].tasks,
        subjects=np.concatenate([part.subjects for part in parts]),
        sequences=np.concatenate([part.sequences for part in parts]),
        frames=np.concatenate([part.frames for part in parts]).astype(np.int64),
        folds=np.concatenate([np.full(len(predictions[fold].frames), fold, dtype=np.int64) for fold in folds]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def check_frames(truth: Frames, predictions: dict[tuple[int, int], Predictions]) -> None:
    """Compare (fold, seed) -> predictions with the truth: the same tasks, frames, folds and labels for every seed.

    Raises:
        FramesError: the first difference.
    """
    for seed in sorted({seed for _, seed in predictions}):
        found = frames_of({fold: rows for (fold, own), rows in predictions.items() if own == seed})
        _require_tasks(truth.tasks, found.tasks)
        places = truth.places(found.subjects, found.sequences, found.frames)
        if (truth.folds[places] != found.folds).any():
            row = int(np.argmax(truth.folds[places] != found.folds))
            raise FramesError(
                f"a subject is tested on in its own fold, but {found.subjects[row]} of fold {truth.folds[places][row]} "
                f"is in the predictions of fold {found.folds[row]} (seed {seed}); evaluate on the recorded folds"
            )
        if (truth.labels[places] != found.labels).any():
            row = int(np.argmax((truth.labels[places] != found.labels).any(axis=1)))
            where = _name(found.subjects, found.sequences, found.frames, row)
            raise FramesError(
                f"labels must be those of the dataset, but {where} has others in the predictions of seed {seed}; "
                "evaluate on the recorded dataset"
            )


def _require_tasks(expected: Sequence[str], found: Sequence[str]) -> None:
    if tuple(expected) != tuple(found):
        raise FramesError(
            f"predictions name the dataset's tasks, {', '.join(expected)}, in that order, but got {', '.join(found)}; "
            "evaluate on the recorded dataset"
        )


def _name(subjects: Any, sequences: Any, frames: Any, row: int) -> str:
    return f"subject {str(subjects[row])[:80]!r} sequence {str(sequences[row])[:80]!r} frame {int(frames[row])}"
