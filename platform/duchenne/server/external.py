"""Predictions of other people's models: subject, sequence, frame and a probability for each named AU, as CSV or Arrow.

They are put beside the dataset's own labels and folds. How the model was trained, the server can't know: it vouches for
the numbers, and the board says that the entry is external.

Shapes: N frames, T tasks, U rows of the upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duchenne.server.arrow_stream import FILE_MAGIC, ArrowRefused, read_batches
from duchenne.server.frames import Frames, FramesError
from duchenne_jobs.evaluation import Predictions

KEYS: Final = ("subject", "sequence", "frame")
CSV_TYPES: Final = frozenset({"text/csv"})
ARROW_TYPES: Final = frozenset({"application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream"})
_HEADER_BYTES: Final = 64 * 1024
_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}


class UploadRefused(ValueError):  # noqa: N818 - reads as the fact it states
    """The upload is not what it must be; the message says which row or column, and what to do."""


@dataclass(frozen=True, eq=False)
class Named:
    """Rows as they came: U keys and (U, T) probabilities in the order of the dataset's tasks."""

    subjects: Any
    sequences: Any
    frames: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def read_upload(path: Path, media: str, truth: Frames) -> dict[tuple[int, int], Predictions]:
    """(fold, 0) -> the rows of an upload with the dataset's labels, every frame of every test fold once.

    Raises:
        UploadRefused: see its message.
    """
    rows = read_named(path, media, truth.tasks, len(truth.frames))
    bad = ~np.isfinite(rows.probabilities) | (rows.probabilities < 0) | (rows.probabilities > 1)
    if bad.any():
        row, task = (int(index) for index in np.argwhere(bad)[0])
        raise UploadRefused(
            f"a probability must lie in [0, 1], but row {row + 1} has {rows.probabilities[row, task]} for "
            f"{truth.tasks[task]}; send probabilities, not scores or percent, and one for every frame"
        )
    try:
        places = truth.places(rows.subjects, rows.sequences, rows.frames)
    except FramesError as error:
        raise UploadRefused(str(error)) from error
    ordered = np.empty((len(truth.frames), len(truth.tasks)), dtype=np.float32)
    ordered[places] = rows.probabilities
    found = {}
    for fold in np.unique(truth.folds).tolist():
        mine = truth.folds == fold
        found[fold, 0] = Predictions(
            tasks=truth.tasks,
            subjects=truth.subjects[mine],
            sequences=truth.sequences[mine],
            frames=truth.frames[mine],
            labels=truth.labels[mine],
            probabilities=ordered[mine],
        )
    return found


def read_named(path: Path, media: str, tasks: tuple[str, ...], count: int) -> Named:
    """The columns of an upload; `count` bounds its rows, so that nobody reads more than the dataset has frames.

    Raises:
        UploadRefused: see its message.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise UploadRefused(f"an upload is sent as it is, but this one is packed ({name}); unpack it first")
    if media not in CSV_TYPES | ARROW_TYPES:
        raise UploadRefused(
            f"an upload is {', '.join(sorted(CSV_TYPES | ARROW_TYPES))}, but got {media!r:.60}; say which"
        )
    try:
        if media in CSV_TYPES:
            if head == FILE_MAGIC:
                raise UploadRefused("a CSV upload must be text, but this one is Arrow; send it with Arrow's media type")
            return _gathered(_csv_batches(path, tasks, count), tasks)
        schema, batches = read_batches(path, count)
        _require_columns(schema.names, tasks)
        return _gathered(batches, tasks)
    except ArrowRefused as error:
        raise UploadRefused(str(error)) from error


def _csv_batches(path: Path, tasks: tuple[str, ...], count: int) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    with path.open("rb") as file:
        line = file.readline(_HEADER_BYTES)
    if len(line) == _HEADER_BYTES:
        raise UploadRefused(
            f"the first line names the columns, but it is longer than {_HEADER_BYTES} bytes; shorten it"
        )
    try:
        names = [name.strip().strip('"') for name in line.decode("utf-8-sig").strip().split(",")]
    except UnicodeDecodeError as error:
        raise UploadRefused("a CSV upload must be UTF-8, but its first line is not; save it as UTF-8") from error
    _require_columns(names, tasks)
    types = dict.fromkeys(tasks, pa.float64()) | {"subject": pa.string(), "sequence": pa.string(), "frame": pa.int64()}
    rows = 0
    try:
        reader = csv.open_csv(
            path,
            read_options=csv.ReadOptions(column_names=names, skip_rows=1, block_size=2**20, use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=types, null_values=["", "NaN", "nan", "null", "NULL"], strings_can_be_null=False
            ),
        )
        for batch in reader:
            rows += batch.num_rows
            if rows > count:
                raise UploadRefused(f"every frame comes once, {count} in all, but there are more rows; send none twice")
            yield batch
    except (pa.ArrowException, OSError) as error:
        said = (str(error).strip().splitlines() or ["it ends too early"])[0]
        raise UploadRefused(f"a CSV upload must be one row a frame, but {said[:200]}; correct it") from error


def _require_columns(names: list[str], tasks: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 1000 else names[:1]
    if twice:
        raise UploadRefused(f"every column comes once, but {twice[0]!r:.60} comes more often; remove the others")
    missing = [name for name in (*KEYS, *tasks) if name not in names]
    unknown = [name for name in names if name not in (*KEYS, *tasks)]
    if unknown:
        raise UploadRefused(
            f"columns are {', '.join(KEYS)} and the board's AUs, {', '.join(tasks)}, but got {unknown[0]!r:.60}; "
            "remove it, or spell it as the board does"
        )
    if missing:
        raise UploadRefused(
            f"every AU of the board needs a column, but {', '.join(missing[:12])} has none; predict all"
        )


def _gathered(batches: Iterator[Any], tasks: tuple[str, ...]) -> Named:
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = list(batches)
    if not taken or not sum(batch.num_rows for batch in taken):
        raise UploadRefused("an upload has one row a frame, but this one has none; write the predictions into it")
    try:
        table = pa.Table.from_batches(taken)
        subjects, sequences = (table[name].cast(pa.string()).combine_chunks() for name in KEYS[:2])
        frames = table["frame"].cast(pa.int64()).combine_chunks()
        values = [pc.fill_null(table[task].cast(pa.float64()), float("nan")).to_numpy() for task in tasks]
    except (pa.ArrowException, KeyError) as error:
        said = str(error).strip().splitlines()[0]
        raise UploadRefused(
            f"subject and sequence are text, frame a whole number and each AU a number, but {said[:200]}; correct it"
        ) from error
    if frames.null_count or subjects.null_count or sequences.null_count:
        raise UploadRefused("every row names its subject, sequence and frame, but some don't; fill them in")
    return Named(subjects, sequences, frames.to_numpy(), np.stack(values, axis=1))
