"""The faces of a dataset as a network takes them: stored bytes stay mapped, decoded ones are kept within a bound.

Shapes: N rows, B batch, H and W height and width in pixels, P landmark points.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.stream.pixels import EncodedFaces, Faces, keep_decoded
from duchenne_jobs.data.stream.shard import open_shard
from duchenne_jobs.models.inputs import Inputs

if TYPE_CHECKING:
    from duchenne_jobs.data import Dataset
    from duchenne_jobs.data.cache import Kept

# Decoded faces that a process keeps, in bytes: all of 14,000 faces of 224 x 224 with their parsing maps.
DECODED_BYTES = 3 * 2**30
MAX_DECODERS = 8
_log = logging.getLogger(__name__)


@cache
def _decoders() -> ThreadPoolExecutor:
    """Decoding threads of this process; the decoders let go of the interpreter while they decode."""
    return ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_DECODERS), thread_name_prefix="decode")


class FaceStore:
    """Faces of a dataset by row number, as uint8 at one size.

    The bytes of images and maps stay in the shards' memory maps. What is decoded of them is kept

    - `encoded`: in the memory of this process, the first rows until `decoded_bytes` are used; the others are decoded
      every time. (To drop the oldest instead would gain nothing: an epoch visits each row once.)
    - `decoded`: in the dataset's cache folder, as memory-mapped files that the processes of the machine share. A shard
      whose pixels would go beyond the cache's limit is decoded every time. The pixels are the same.

    Args:
        dataset: a dataset with images.
        columns: `image`, and which of `landmarks` and `parsing` are needed.
        size: (H, W) of the faces given out; None takes that of the first stored one.
        kept: see above.
        decoded_bytes: bound on what is kept decoded in memory.

    Raises:
        DatasetError: the dataset lacks a column, or not one row has a face.
    """

    def __init__(
        self,
        dataset: Dataset,
        columns: tuple[str, ...] = ("image",),
        size: tuple[int, int] | None = None,
        kept: Kept = "encoded",
        decoded_bytes: int = DECODED_BYTES,
    ) -> None:
        for column in columns:
            if column not in dataset.manifest.columns:
                have = ", ".join(dataset.manifest.columns)
                raise DatasetError(f"{dataset.uri} has no column {column!r}; it has {have}")
        self.columns = columns
        self._dataset = dataset
        self._kept = kept
        self._shards = [open_shard(dataset, number) for number in range(len(dataset.manifest.shards))]
        self._starts = np.array([shard.first for shard in self._shards])
        self.has_face: NDArray[np.bool_] = np.concatenate([shard.has_face for shard in self._shards])
        """(N,) whether each row has an image; a null one is a frame without a face."""
        self.size = size or self._first_size()
        self._landmarks = (
            np.concatenate([shard.landmarks for shard in self._shards]) if "landmarks" in columns else None
        )
        self._parsing = "parsing" in columns
        self._row_bytes = self.size[0] * self.size[1] * (4 if self._parsing else 3)
        in_memory = 0 if kept == "decoded" else decoded_bytes // self._row_bytes
        self._capacity = min(in_memory, int(self.has_face.sum()))
        self._lock = threading.Lock()
        self._forget()

    def forget(self) -> None:
        """Let go of what is kept decoded; files in the cache stay there."""
        with self._lock:
            self._forget()

    def batch(self, rows: NDArray[np.int64]) -> Inputs:
        """The faces of these rows on the CPU, images uint8; landmarks are in pixels of `size`.

        Null landmarks are NaN, a null parsing map is all NO_CLASS: guidance gives such a face no loss.

        Raises:
            DatasetError: a row without a face, or one whose image can't be decoded; it is named.
        """
        if not self.has_face[rows].all():
            raise DatasetError(f"{self._dataset.uri}: row {rows[~self.has_face[rows]][0]} has no face")
        with self._lock:
            batch = _Decoded.empty(len(rows), self.size, self._parsing)
            slots = self._slots[rows]
            kept = np.flatnonzero(slots >= 0)
            if len(kept):
                batch.put(kept, self._memory, slots[kept])
            new = np.flatnonzero(slots < 0)
            shards = np.searchsorted(self._starts, rows, side="right") - 1
            for number in np.unique(shards[new]).tolist():
                self._open_faces(number)
            list(_decoders().map(partial(self._decode, batch, rows, shards), new.tolist()))
            self._keep(rows, batch, new)
        landmarks = None
        if self._landmarks is not None:
            # The centre of pixel 0 lies half a pixel from the edge, at every size.
            xy = batch.scales[:, None, ::-1]
            landmarks = torch.from_numpy((self._landmarks[rows] + 0.5) * xy - 0.5)
        return Inputs(images=batch.images, landmarks=landmarks, parsing=batch.maps)

    def _forget(self) -> None:
        self._slots = np.full(len(self.has_face), -1, np.int64)
        self._used = 0
        self._memory = _Decoded.empty(self._capacity, self.size, self._parsing)  # taken as rows are written
        self._faces: dict[int, Faces] = {}
        manifest, cache = self._dataset.manifest, self._dataset.cache
        downloaded = 0 if self._dataset.location.local else sum(shard.bytes for shard in manifest.shards)
        self._room = cache.max_bytes - downloaded
        self._warned = False

    def _open_faces(self, number: int) -> None:
        """See to it that the faces of a shard can be read; where they are kept decoded, this decodes all of them."""
        if number in self._faces:
            return
        shard = self._shards[number]
        wanted = shard.table.num_rows * self._row_bytes
        if self._kept == "decoded" and wanted <= self._room:
            self._room -= wanted
            cache, sha256 = self._dataset.cache, self._dataset.manifest.shards[number].sha256
            self._faces[number] = keep_decoded(cache, shard, sha256, self.size, self._parsing, _decoders())
            return
        if self._kept == "decoded" and not self._warned:
            self._warned = True
            limit = f"{self._dataset.cache.max_bytes / 1e9:g} GB"
            _log.warning(
                "the decoded faces of %s do not fit into a cache of %s: raise data.cache_gb, or the others are "
                "decoded each time",
                self._dataset.uri,
                limit,
            )
        self._faces[number] = EncodedFaces(shard, self.size, self._parsing)

    def _decode(self, batch: _Decoded, rows: NDArray[np.int64], shards: NDArray[np.int64], index: int) -> None:
        """Write row `rows[index]` to place `index` of the batch."""
        number = int(shards[index])
        pixels = np.empty((*self.size, 3), np.uint8)
        ids = None if batch.maps is None else batch.maps[index].numpy()
        row = int(rows[index] - self._starts[number])
        batch.scales[index] = self._faces[number].read(row, pixels, ids)
        batch.images[index] = torch.from_numpy(pixels).permute(2, 0, 1)

    def _keep(self, rows: NDArray[np.int64], batch: _Decoded, new: NDArray[np.int64]) -> None:
        """Keep the rows at the places `new` of a batch in memory, as far as there is room; each once."""
        _, firsts = np.unique(rows[new], return_index=True)
        places = new[np.sort(firsts)][: self._capacity - self._used]
        slots = np.arange(self._used, self._used + len(places))
        self._memory.put(slots, batch, places)
        self._slots[rows[places]] = slots
        self._used += len(places)

    def _first_size(self) -> tuple[int, int]:
        for shard in self._shards:
            size = shard.first_size()
            if size is not None:
                return size
        raise DatasetError(
            f"{self._dataset.uri}: not one of its {len(self.has_face)} rows has a face to learn from; ingest it again"
        )


@dataclass(frozen=True, eq=False)
class _Decoded:
    """n decoded rows.

    Attributes:
        images: (n, 3, H, W) uint8; maps: (n, H, W) uint8, or None.
        scales: (n, 2), (H, W) given out over (H, W) stored.
    """

    images: Tensor
    maps: Tensor | None
    scales: NDArray[np.float32]

    @classmethod
    def empty(cls, count: int, size: tuple[int, int], parsing: bool) -> _Decoded:
        maps = torch.empty(count, *size, dtype=torch.uint8) if parsing else None
        return cls(torch.empty(count, 3, *size, dtype=torch.uint8), maps, np.empty((count, 2), np.float32))

    def put(self, places: NDArray[np.int64], other: _Decoded, at: NDArray[np.int64]) -> None:
        """Write rows `at` of `other` to `places`."""
        to, of = torch.from_numpy(places), torch.from_numpy(at)
        self.images[to] = other.images[of]
        self.scales[places] = other.scales[at]
        if self.maps is not None and other.maps is not None:
            self.maps[to] = other.maps[of]


@dataclass(frozen=True)
class FaceRows:
    """Some rows of a store. `rows` (N,) are their numbers in the dataset."""

    store: FaceStore
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> Inputs:
        return self.store.batch(self.rows[indices.numpy()])
