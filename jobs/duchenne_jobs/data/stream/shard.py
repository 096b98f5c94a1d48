"""One open shard of a stream: images as views of the memory map, the small columns as arrays.

Shapes: N rows of the shard, T tasks, P landmark points.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.folds import check_rows
from duchenne_jobs.data.schema import matrix

OPENINGS = 3


@dataclass(frozen=True, eq=False)
class OpenShard:
    """A shard whose rows are memory-mapped.

    Attributes:
        number: of the shard in the manifest.
        first: number of its first row in the dataset.
        shown: what messages call it.
        table: its rows.
    """

    number: int
    first: int
    shown: str
    table: Any

    @cached_property
    def images(self) -> list[NDArray[np.uint8] | None]:
        """Bytes of each row's image."""
        return byte_views(self.table["image"])

    @cached_property
    def maps(self) -> list[NDArray[np.uint8] | None]:
        """Bytes of each row's parsing map."""
        return byte_views(self.table["parsing"])

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """(N, T), -1 unknown."""
        return np.asarray(matrix(self.table, "labels"), np.int8)

    @cached_property
    def landmarks(self) -> NDArray[np.float32]:
        """(N, P, 2) in pixels of the stored image, NaN where there are none."""
        column = self.table["landmarks"]
        points = column.type.list_size // 2
        found = np.full((self.table.num_rows, points, 2), np.nan, np.float32)
        values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)  # leaves nulls out
        found[column.is_valid().to_numpy()] = values.reshape(-1, points, 2)
        return found

    def wanted(self, subjects: Collection[str] | None, columns: tuple[str, ...]) -> NDArray[np.int64]:
        """Rows of `subjects` (None: all) that have each of `columns`, ascending.

        Raises:
            duchenne_jobs.data.LeakError: a row of somebody else came out.
        """
        keep = np.logical_and.reduce([self.table[column].is_valid().to_numpy() for column in columns])
        if subjects is None:
            return np.flatnonzero(keep)
        inside = pc.is_in(self.table["subject"], value_set=pa.array(sorted(subjects), pa.string())).to_numpy()
        rows = np.flatnonzero(keep & inside)
        check_rows(subjects, self.table["subject"].take(pa.array(rows)).unique().to_pylist(), f"rows of {self.shown}")
        return rows


def open_shard(dataset: Dataset, number: int) -> OpenShard:
    """Shard `number` of the manifest, fetched into the cache where it is remote, its checksum seen to be right.

    Raises:
        duchenne_jobs.data.DatasetError: missing, damaged, or out of reach however often it was asked for.
    """
    shards = dataset.manifest.shards
    shard = shards[number]
    for left in reversed(range(OPENINGS)):
        if not dataset.location.local:
            dataset.cache.fetch(dataset.location, shard)
        try:
            table = dataset.shard_rows(shard)
            break
        except DatasetError:
            # Another process may have dropped it from a full cache between its arrival and its opening.
            if dataset.location.local or dataset.cache.holds(shard) or not left:
                raise
    return OpenShard(
        number=number,
        first=sum(other.rows for other in shards[:number]),
        shown=dataset.location.shown(shard.path),
        table=table,
    )


def byte_views(column: Any) -> list[NDArray[np.uint8] | None]:
    """Each value of a binary column as a view of its buffer, None where it is null."""
    views: list[NDArray[np.uint8] | None] = []
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        octets = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        there = chunk.is_valid().to_pylist() if chunk.null_count else None
        views += [
            octets[begin:end] if there is None or there[index] else None
            for index, (begin, end) in enumerate(pairwise(ends))
        ]
    return views
