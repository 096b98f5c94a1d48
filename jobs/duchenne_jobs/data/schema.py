"""The Arrow schema of a shard, from the dataset's description.

T tasks, F features, P landmark points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.manifest import Description

UNKNOWN = -1  # a label nobody gave: masked, never counted as absent
LABEL_VALUES = (UNKNOWN, 0, 1)
MAX_INTENSITY = 5  # FACS intensities A to E as 1 to 5; 0 is absent


def shard_schema(description: Description) -> Any:
    """`pyarrow.Schema` of every shard: the description's columns, in their order, without metadata."""
    tasks = len(description.tasks)
    points = description.landmark_scheme.points if description.landmark_scheme else 0
    features = len(description.feature_names or ())
    fields = {
        "subject": pa.field("subject", pa.string(), nullable=False),
        "sequence": pa.field("sequence", pa.string(), nullable=False),
        "frame": pa.field("frame", pa.int32(), nullable=False),
        "image": pa.field("image", pa.binary(), nullable=True),  # null: no face was found in the frame
        "landmarks": pa.field("landmarks", pa.list_(pa.float32(), 2 * points), nullable=True),
        "parsing": pa.field("parsing", pa.binary(), nullable=True),
        "labels": pa.field("labels", pa.list_(pa.int8(), tasks), nullable=False),
        "intensities": pa.field("intensities", pa.list_(pa.int8(), tasks), nullable=False),
        "features": pa.field("features", pa.list_(pa.float32(), features), nullable=False),
    }
    return pa.schema([fields[column] for column in description.columns])


def broken_rule(table: Any, description: Description) -> str | None:
    """Why the values of a table (of the right schema) can't be a shard's, or None.

    Labels are in {-1, 0, 1}, intensities in -1..5, subjects are not empty, and only columns that may be null are.
    """
    for field in table.schema:
        if not field.nullable and table[field.name].null_count:
            return f"column {field.name!r} must not be null, but {table[field.name].null_count} rows are"
        if pa.types.is_fixed_size_list(field.type):
            holes = table[field.name].combine_chunks().flatten().null_count
            if holes:
                return f"the values inside column {field.name!r} must not be null, but {holes} are"
    highest = {"labels": 1, "intensities": MAX_INTENSITY}
    for column in (name for name in highest if name in description.columns):
        values = matrix(table, column)
        wrong = np.flatnonzero((values < UNKNOWN) | (values > highest[column]))
        if wrong.size:
            row, task = divmod(int(wrong[0]), len(description.tasks))
            return (
                f"{column} must lie in -1..{highest[column]}, but task {description.tasks[task]} of row {row} "
                f"(subject {table['subject'][row].as_py()}) has {values.reshape(-1)[wrong[0]]}"
            )
    if "" in table["subject"].unique().to_pylist():
        return "every row needs a subject, but one has an empty name"
    return None


def matrix(table: Any, column: str) -> Any:
    """A fixed-list column without nulls as a numpy array (N rows, list length)."""
    field_type = table.schema.field(column).type
    flat = table[column].combine_chunks().flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(-1, field_type.list_size)
