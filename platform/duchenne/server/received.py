"""Prediction files that come over the network: read without trusting them, and written again as this server writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from duchenne.records import FoldJobKey, NotFoundError, PredictionFile, RecordsConflictError, RecordStore
from duchenne.server.arrow_stream import ArrowRefused, read_batches
from duchenne.server.problems import Problem
from duchenne.server.spooling import Spooled
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.evaluation.predictions import COLUMNS, file_digest

MAX_ROWS: Final = 10_000_000
MAX_TASKS: Final = 200


def restore_predictions(store: RecordStore, home: Path, key: FoldJobKey, body: Spooled) -> PredictionFile | None:
    """Put back a file that an entry of the sweep recorded, byte by byte; None where no entry recorded one.

    Raises:
        RecordsConflictError: it is another file than the recorded one.
    """
    try:
        entry = store.get_entry(f"{key.sweep}.{key.method}")
    except NotFoundError:
        return None
    recorded = next((file for file in entry.predictions if (file.fold, file.seed) == (key.fold, key.seed)), None)
    if recorded is None:
        return None
    path = (home / recorded.path).resolve()
    if recorded.digest != body.digest:
        raise RecordsConflictError(
            f"predictions are never replaced, but {entry.id} records {recorded.digest[:19]} and this is "
            f"{body.digest[:19]}; send the recorded file, or register a new sweep"
        )
    if not path.is_relative_to(home.resolve()):
        raise RecordsConflictError(f"a recorded path must lie in the home, but that of {entry.id} does not; correct it")
    if not path.is_file() or file_digest(path) != recorded.digest:
        path.parent.mkdir(parents=True, exist_ok=True)
        body.path.replace(path)
    return recorded


def keep_predictions(home: Path, key: FoldJobKey, body: Spooled) -> PredictionFile:
    """Read the file, message by message, and write its rows below the sweep's folder.

    Raises:
        Problem: 422, it is no prediction file.
    """
    try:
        rows = _read(body.path)
        # By digest: of two different files that come at once, each has its own place, and the records choose.
        name = f"{key.method}-fold{key.fold}-seed{key.seed}-{body.digest[7:23]}.arrow"
        path = Path("sweeps") / key.sweep / "received" / name
        digest = write_predictions(home / path, rows, {})
    except ValueError as error:
        raise Problem(422, str(error).splitlines()[0]) from error
    return PredictionFile(fold=key.fold, seed=key.seed, path=str(path), digest=digest)


def _read(path: Path) -> Predictions:
    import pyarrow as pa

    schema, batches = read_batches(path, MAX_ROWS)
    tasks = _tasks(schema)
    taken = list(batches)
    if not sum(batch.num_rows for batch in taken):
        raise ArrowRefused("a prediction file has one row a frame, but this one has none; evaluate the fold again")
    table = pa.Table.from_batches(taken)
    if any(table[name].null_count for name in COLUMNS):
        raise ArrowRefused("a prediction file has a value in every row, but some are null; evaluate the fold again")
    return Predictions(
        tasks=tasks,
        subjects=table["subject"].to_numpy(),
        sequences=table["sequence"].to_numpy(),
        frames=table["frame"].to_numpy(),
        labels=_matrix(table["labels"], len(tasks)).astype(np.int8),
        probabilities=_matrix(table["probabilities"], len(tasks)).astype(np.float32),
    )


def _tasks(schema: Any) -> tuple[str, ...]:
    """The task names, once the columns are known to be those of a prediction file."""
    import pyarrow as pa

    try:
        tasks = json.loads((schema.metadata or {})[b"tasks"])
    except (KeyError, ValueError) as error:
        raise ArrowRefused(
            "a prediction file names its tasks in the schema's metadata, but this one does not"
        ) from error
    named = isinstance(tasks, list) and 0 < len(tasks) <= MAX_TASKS and all(isinstance(task, str) for task in tasks)
    if not named or len(set(tasks)) != len(tasks):
        raise ArrowRefused(f"tasks are 1 to {MAX_TASKS} different names, but the schema's metadata say otherwise")
    width = len(tasks)
    expected = {
        "subject": pa.string(),
        "sequence": pa.string(),
        "frame": pa.int64(),
        "labels": pa.list_(pa.int8(), width),
        "probabilities": pa.list_(pa.float32(), width),
    }
    if schema.names != COLUMNS or any(schema.field(name).type != kind for name, kind in expected.items()):
        said = ", ".join(f"{field.name}: {field.type}" for field in list(schema)[:8])
        raise ArrowRefused(f"a prediction file has the columns {', '.join(COLUMNS)}, but this one {said[:300]}")
    return tuple(tasks)


def _matrix(column: Any, width: int) -> Any:
    flat = column.combine_chunks().flatten()
    if flat.null_count:
        raise ArrowRefused("a prediction file has a label and a probability for every task, but some are null")
    return flat.to_numpy().reshape(-1, width)
