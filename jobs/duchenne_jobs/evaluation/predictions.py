"""Prediction files: one Arrow file per fold and seed, one row per held-out frame, from which every number is computed.

Columns: `subject`, `sequence`, `frame`, `labels` (fixed list of int8, -1 unknown), `probabilities` (fixed list of
float32), in task order; the task names (a JSON list), the job and the digests stand in the schema's metadata.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation.metrics import evaluate, require_valid

COLUMNS = ["subject", "sequence", "frame", "labels", "probabilities"]


@dataclass(frozen=True)
class Predictions:
    """Held-out rows with their labels and probabilities.

    Attributes:
        tasks: names of the T columns.
        subjects, sequences, frames: (N,) where each row comes from.
        labels: (N, T) int8 in {-1, 0, 1}.
        probabilities: (N, T) float32 in [0, 1].
    """

    tasks: tuple[str, ...]
    subjects: NDArray[Any]
    sequences: NDArray[Any]
    frames: NDArray[Any]
    labels: NDArray[np.int8]
    probabilities: NDArray[np.float32]

    def metrics(self) -> dict[str, float]:
        """Every metric of `duchenne_jobs.evaluation.METRICS`."""
        return evaluate(self.labels, self.probabilities)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The rows of several predictions of the same tasks, one after the other.

    Raises:
        ValueError: no parts, or their tasks differ.
    """
    tasks = {part.tasks for part in parts}
    if len(tasks) != 1:
        raise ValueError(f"predictions that are joined have the same tasks, but got {sorted(tasks)}")
    return Predictions(
        tasks=tasks.pop(),
        subjects=np.concatenate([part.subjects for part in parts]),
        sequences=np.concatenate([part.sequences for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
    )


def write_predictions(path: Path, predictions: Predictions, metadata: dict[str, str]) -> str:
    """Write atomically and return the file's digest, `sha256:...`.

    Raises:
        OSError: the folder can't be written or the disk is full; no file is left.
        ValueError: the matrices are not (rows, tasks), a probability is not in [0, 1] or a label not in {-1, 0, 1}.
    """
    import pyarrow as pa

    _require_consistent(predictions)

    width = len(predictions.tasks)
    table = pa.table(
        {
            "subject": pa.array(predictions.subjects, pa.string()),
            "sequence": pa.array(predictions.sequences, pa.string()),
            "frame": pa.array(predictions.frames, pa.int64()),
            "labels": _fixed_list(predictions.labels, pa.int8(), width),
            "probabilities": _fixed_list(predictions.probabilities, pa.float32(), width),
        }
    ).replace_schema_metadata({**metadata, "tasks": json.dumps(predictions.tasks)})
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        digest = file_digest(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return digest


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no prediction file.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path), "r") as source:
            table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid as error:  # what an empty, cut or foreign file gives
        raise ValueError(
            f"{path}: a prediction file must be an Arrow IPC file, but {error}; run its job again"
        ) from error
    tasks = (table.schema.metadata or {}).get(b"tasks")
    if tasks is None or table.schema.names != COLUMNS:
        raise ValueError(
            f"{path}: a prediction file has the columns {COLUMNS} and names its tasks in the schema's metadata, but "
            f"has {table.schema.names} and {'no' if tasks is None else 'its'} tasks; run its job again"
        )
    return Predictions(
        tasks=tuple(json.loads(tasks)),
        subjects=table["subject"].to_numpy(),
        sequences=table["sequence"].to_numpy(),
        frames=table["frame"].to_numpy(),
        labels=_matrix(table, "labels"),
        probabilities=_matrix(table, "probabilities"),
    )


def file_digest(path: Path) -> str:
    """`sha256:...` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _fixed_list(matrix: NDArray[Any], item: Any, width: int) -> Any:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).ravel(), item), width)


def _matrix(table: Any, column: str) -> NDArray[Any]:
    width = table.schema.field(column).type.list_size
    flat: NDArray[Any] = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, width).copy()  # the file may go while the rows are in use


def _require_consistent(predictions: Predictions) -> None:
    rows, width = len(predictions.subjects), len(predictions.tasks)
    for name, matrix in (("labels", predictions.labels), ("probabilities", predictions.probabilities)):
        if matrix.shape != (rows, width):
            raise ValueError(f"{name} must be (rows, tasks) = {(rows, width)}, but got {matrix.shape}")
    require_valid(predictions.labels, predictions.probabilities)
