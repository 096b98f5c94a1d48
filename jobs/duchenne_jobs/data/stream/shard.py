"""One open shard of a stream: images as views of the memory map, the small columns as arrays.

Shapes: N rows of the shard, T tasks, P landmark points.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.decoding import pixel_size
from duchenne_jobs.data.folds import check_rows
from duchenne_jobs.data.schema import matrix

OPENINGS = 3
_NULL = -1


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
    def images(self) -> ByteColumn:
        """Bytes of each row's image."""
        return ByteColumn(self.table["image"])

    @cached_property
    def maps(self) -> ByteColumn:
        """Bytes of each row's parsing map."""
        return ByteColumn(self.table["parsing"])

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

    @cached_property
    def has_face(self) -> NDArray[np.bool_]:
        """(N,) whether each row has an image; a null one is a frame without a face."""
        there: NDArray[np.bool_] = self.table["image"].is_valid().to_numpy()
        return there

    def first_size(self) -> tuple[int, int] | None:
        """(H, W) that its first face claims; None where no row has one.

        Raises:
            DatasetError: the header of that face can't be read.
        """
        if not self.has_face.any():
            return None
        row = int(np.argmax(self.has_face))
        data = self.images[row]
        assert data is not None  # noqa: S101 - it has a face
        try:
            return pixel_size(data.data)
        except ValueError as error:
            raise DatasetError(f"{self.shown}, row {row}: {error}; ingest the dataset again") from error

    def wanted(self, subjects: Collection[str] | None) -> NDArray[np.int64]:
        """Rows of `subjects` (None: all) that have a face, ascending; landmarks or a map may be missing.

        Raises:
            duchenne_jobs.data.LeakError: a row of somebody else came out.
        """
        if subjects is None:
            return np.flatnonzero(self.has_face)
        inside = pc.is_in(self.table["subject"], value_set=pa.array(sorted(subjects), pa.string())).to_numpy()
        rows = np.flatnonzero(self.has_face & inside)
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


class ByteColumn:
    """The values of a binary column by row number: views of its buffers, None where a value is null.

    Nothing is made for a row before it is asked for, so that opening a shard costs next to nothing a row.
    """

    def __init__(self, column: Any) -> None:
        self._octets: list[NDArray[np.uint8]] = []
        chunk_of, begins, ends = [], [], []
        for number, chunk in enumerate(column.chunks):
            _, offsets, data = chunk.buffers()
            edges = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            self._octets.append(np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8))
            there = chunk.is_valid().to_numpy(zero_copy_only=False)
            chunk_of.append(np.where(there, number, _NULL))
            begins.append(edges[:-1])
            ends.append(edges[1:])
        # Lists of numbers: an element of an array costs Python three times as much.
        self._chunk_of, self._begins, self._ends = (_listed(parts) for parts in (chunk_of, begins, ends))

    def __getitem__(self, row: int) -> NDArray[np.uint8] | None:
        chunk = self._chunk_of[row]
        return None if chunk == _NULL else self._octets[chunk][self._begins[row] : self._ends[row]]


def _listed(parts: list[NDArray[Any]]) -> list[int]:
    numbers: list[int] = np.concatenate(parts).tolist() if parts else []
    return numbers
