"""The faces of a dataset as a network takes them: stored bytes stay mapped, decoded ones are kept within a bound.

Shapes: N rows, B batch, H and W height and width in pixels, P landmark points.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.decoding import decode_face, decode_parsing, pixel_size
from duchenne_jobs.models.inputs import Inputs

if TYPE_CHECKING:
    import pyarrow as pa

    from duchenne_jobs.data import Dataset

# Decoded faces that a process keeps, in bytes: all of 14,000 faces of 224 x 224 with their parsing maps.
DECODED_BYTES = 3 * 2**30
MAX_DECODERS = 8
NO_CLASS = 255
"""Fills the map of a face that was not parsed: an id that no dataset names counts for no class, and guides nothing."""


@cache
def _decoders() -> ThreadPoolExecutor:
    """Decoding threads of this process; OpenCV lets go of the interpreter while it decodes."""
    return ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_DECODERS), thread_name_prefix="decode")


class FaceStore:
    """Faces of a dataset by row number, as uint8 at one size.

    The bytes of images and maps stay in the shards' memory maps. The first rows that were decoded stay decoded until
    `decoded_bytes` are used; the others are decoded every time. (To drop the oldest instead would gain nothing: an
    epoch visits each row once.)

    Args:
        dataset: a dataset with images.
        columns: `image`, and which of `landmarks` and `parsing` are needed.
        size: (H, W) of the faces given out; None takes that of the first stored one.
        decoded_bytes: bound on what is kept decoded.

    Raises:
        DatasetError: the dataset lacks a column, or not one row has a face.
    """

    def __init__(
        self,
        dataset: Dataset,
        columns: tuple[str, ...] = ("image",),
        size: tuple[int, int] | None = None,
        decoded_bytes: int = DECODED_BYTES,
    ) -> None:
        self.columns = columns
        self._table = dataset.rows(columns=columns)
        self._uri = dataset.uri
        self.has_face: NDArray[np.bool_] = self._table["image"].is_valid().to_numpy()
        """(N,) whether each row has an image; a null one is a frame without a face."""
        self.size = size or self._first_size()
        self._landmarks = _landmarks(self._table) if "landmarks" in columns else None
        self._parsing = "parsing" in columns
        row_bytes = self.size[0] * self.size[1] * (4 if self._parsing else 3)
        self._capacity = min(decoded_bytes // row_bytes, int(self.has_face.sum()))
        self._lock = threading.Lock()
        self._forget()

    def forget(self) -> None:
        """Let go of what is kept decoded."""
        with self._lock:
            self._forget()

    def batch(self, rows: NDArray[np.int64]) -> Inputs:
        """The faces of these rows on the CPU, images uint8; landmarks are in pixels of `size`.

        Null landmarks are NaN, a null parsing map is all NO_CLASS: guidance gives such a face no loss.

        Raises:
            DatasetError: a row without a face, or one whose image can't be decoded; it is named.
        """
        if not self.has_face[rows].all():
            raise DatasetError(f"{self._uri}: row {rows[~self.has_face[rows]][0]} has no face")
        with self._lock:
            images = torch.empty(len(rows), 3, *self.size, dtype=torch.uint8)
            maps = torch.empty(len(rows), *self.size, dtype=torch.uint8) if self._parsing else None
            scales = np.ones((len(rows), 2), np.float32)  # (H, W) given out over (H, W) stored
            slots = self._slots[rows]
            kept = torch.from_numpy(np.flatnonzero(slots >= 0))
            if len(kept):
                at = torch.from_numpy(slots[kept.numpy()])
                images[kept] = self._images[at]
                scales[kept.numpy()] = self._scales[at.numpy()]
                if maps is not None:
                    maps[kept] = self._maps[at]
            new = np.flatnonzero(slots < 0)
            for index, face in zip(new, _decoders().map(self._decode, rows[new]), strict=True):
                images[index], scales[index] = face.image, face.scale
                if maps is not None and face.parsing is not None:
                    maps[index] = face.parsing
                self._keep(int(rows[index]), face)
        landmarks = None
        if self._landmarks is not None:
            # The centre of pixel 0 lies half a pixel from the edge, at every size.
            xy = scales[:, None, ::-1]
            landmarks = torch.from_numpy((self._landmarks[rows] + 0.5) * xy - 0.5)
        return Inputs(images=images, landmarks=landmarks, parsing=maps)

    def _forget(self) -> None:
        self._slots = np.full(len(self.has_face), -1, np.int64)
        self._used = 0
        # Memory is only taken as rows are written.
        self._images = torch.empty(self._capacity, 3, *self.size, dtype=torch.uint8)
        self._maps = torch.empty(self._capacity if self._parsing else 0, *self.size, dtype=torch.uint8)
        self._scales = np.empty((self._capacity, 2), np.float32)

    def _keep(self, row: int, face: _Face) -> None:
        if self._used == self._capacity or self._slots[row] >= 0:
            return
        self._images[self._used], self._scales[self._used] = face.image, face.scale
        if face.parsing is not None:
            self._maps[self._used] = face.parsing
        self._slots[row] = self._used
        self._used += 1

    def _decode(self, row: int) -> _Face:
        try:
            image, stored = decode_face(self._bytes("image", row), self.size)
            parsing = self._decode_parsing(row) if self._parsing else None
        except ValueError as error:
            raise DatasetError(f"{self._uri}, row {row}: {error}; ingest the dataset again") from error
        return _Face(image, parsing, (self.size[0] / stored[0], self.size[1] / stored[1]))

    def _decode_parsing(self, row: int) -> Tensor:
        if not self._table["parsing"][row].is_valid:
            return torch.full(self.size, NO_CLASS, dtype=torch.uint8)
        return decode_parsing(self._bytes("parsing", row), self.size)

    def _bytes(self, column: str, row: int) -> memoryview:
        return memoryview(self._table[column][int(row)].as_buffer()).cast("B")  # Arrow's bytes are signed

    def _first_size(self) -> tuple[int, int]:
        if not self.has_face.any():
            raise DatasetError(f"{self._uri}: not one of its {len(self.has_face)} rows has a face to learn from")
        try:
            return pixel_size(self._bytes("image", int(np.argmax(self.has_face))))
        except ValueError as error:
            raise DatasetError(f"{self._uri}: {error}; ingest the dataset again") from error


@dataclass(frozen=True)
class _Face:
    """One decoded row; `scale` is (H, W) given out over (H, W) stored."""

    image: Tensor
    parsing: Tensor | None
    scale: tuple[float, float]


@dataclass(frozen=True)
class FaceRows:
    """Some rows of a store. `rows` (N,) are their numbers in the dataset."""

    store: FaceStore
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> Inputs:
        return self.store.batch(self.rows[indices.numpy()])


def _landmarks(table: pa.Table) -> NDArray[np.float32]:
    """(N, P, 2), NaN where they are null."""
    points = table.schema.field("landmarks").type.list_size // 2
    found = np.full((table.num_rows, points, 2), np.nan, np.float32)
    values = table["landmarks"].combine_chunks().flatten()  # leaves nulls out
    found[table["landmarks"].is_valid().to_numpy()] = values.to_numpy(zero_copy_only=False).reshape(-1, points, 2)
    return found
