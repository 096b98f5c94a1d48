"""Prediction files: one Arrow file per fold and seed, one row per held-out frame, from which every number is computed.

Columns: `subject`, `sequence`, `frame`, `labels` (fixed list of int8, -1 unknown), `probabilities` (fixed list of
float32), in task order; the task names, the job and the digests stand in the schema's metadata.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation.metrics import evaluate


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


def write_predictions(path: Path, predictions: Predictions, metadata: dict[str, str]) -> str:
    """Write atomically and return the file's digest, `sha256:...`.

    Raises:
        OSError: the folder can't be written or the disk is full; no file is left.
    """
    import pyarrow as pa

    width = len(predictions.tasks)
    table = pa.table(
        {
            "subject": pa.array(predictions.subjects, pa.string()),
            "sequence": pa.array(predictions.sequences, pa.string()),
            "frame": pa.array(predictions.frames, pa.int64()),
            "labels": _fixed_list(predictions.labels, pa.int8(), width),
            "probabilities": _fixed_list(predictions.probabilities, pa.float32(), width),
        }
    ).replace_schema_metadata({**metadata, "tasks": ",".join(predictions.tasks)})
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        digest = file_digest(beside)
        os.replace(beside, path)
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

    with pa.memory_map(str(path), "r") as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    tasks = (table.schema.metadata or {}).get(b"tasks")
    if tasks is None:
        raise ValueError(f"{path}: a prediction file names its tasks in the schema's metadata, but this one does not")
    return Predictions(
        tasks=tuple(tasks.decode().split(",")),
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
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in table[column].chunks] or [np.empty(0)])
    return flat.reshape(-1, width)
