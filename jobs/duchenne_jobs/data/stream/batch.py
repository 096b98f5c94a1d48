"""One batch of a stream, filled by several threads.

Shapes: B batch, T tasks, P landmark points, H and W height and width in pixels.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duchenne_jobs.data.stream.order import Step
from duchenne_jobs.data.stream.shelf import Ready

SHARES_A_THREAD = 2  # of a batch: the threads end together although some images take longer


class FaceBatch(NamedTuple):
    """Rows of one step of one worker.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, channels last in memory; with `cache="bytes"` a list of B JPEG or PNG files.
        labels: (B, T) int8, -1 unknown.
        landmarks: (B, P, 2) float32 in pixels of `images`, or None.
        parsing: (B, H, W) uint8 class ids, or None.
        rows: (B,) int64, the rows' numbers in the dataset.
        consumed: rows of the epoch that are used once every worker has taken this step.
    """

    images: Tensor | list[bytes]
    labels: Tensor
    landmarks: Tensor | None
    parsing: Tensor | None
    rows: Tensor
    consumed: int


class PendingBatch:
    """A batch whose faces are being decoded.

    Args:
        step: its rows, no more than B.
        sources: the open shard of each row.
        images: (B, H, W, 3) uint8 to decode into; None gives the stored bytes.
        maps: (B, H, W) uint8 for the parsing maps; None where they are not asked for.
        landmarks: whether they are asked for.
        pool: decodes, in `threads` threads.
    """

    def __init__(
        self,
        step: Step,
        sources: list[Ready],
        images: NDArray[np.uint8] | None,
        maps: NDArray[np.uint8] | None,
        landmarks: bool,
        pool: Executor,
        threads: int,
    ) -> None:
        self.step = step
        self._rows: list[int] = step.places.rows.tolist()
        self._sources = sources
        self._landmarks = landmarks
        count = len(sources)
        self._images = None if images is None else images[:count]
        self._maps = None if maps is None else maps[:count]
        self._scales = np.ones((count, 2), np.float32)  # (H, W) given out over (H, W) stored
        self._filled: list[Future[None]] = []
        if self._images is not None:
            share = -(-count // (threads * SHARES_A_THREAD))
            starts = range(0, count, share)
            self._filled = [
                pool.submit(self._fill, self._images, range(start, min(start + share, count))) for start in starts
            ]

    def finished(self) -> FaceBatch:
        """
        Raises:
            duchenne_jobs.data.DatasetError: a row can't be decoded; it is named.
        """
        for future in self._filled:
            future.result()
        places = zip(self._sources, self._rows, strict=True)
        first = np.array([source.shard.first for source in self._sources])
        return FaceBatch(
            images=self._bytes() if self._images is None else torch.from_numpy(self._images).permute(0, 3, 1, 2),
            labels=torch.from_numpy(np.stack([source.shard.labels[row] for source, row in places])),
            landmarks=self._placed_landmarks() if self._landmarks else None,
            parsing=None if self._maps is None else torch.from_numpy(self._maps),
            rows=torch.from_numpy(first + self.step.places.rows),
            consumed=self.step.consumed,
        )

    def _fill(self, images: NDArray[np.uint8], indices: range) -> None:
        for index in indices:
            faces = self._sources[index].faces
            assert faces is not None, "a stream of pixels opens its shards with their faces"  # noqa: S101
            maps = None if self._maps is None else self._maps[index]
            self._scales[index] = faces.read(self._rows[index], images[index], maps)

    def _bytes(self) -> list[bytes]:
        views = [source.shard.images[row] for source, row in zip(self._sources, self._rows, strict=True)]
        return [view.tobytes() for view in views if view is not None]

    def _placed_landmarks(self) -> Tensor:
        places = zip(self._sources, self._rows, strict=True)
        points = np.stack([source.shard.landmarks[row] for source, row in places])
        # The centre of pixel 0 lies half a pixel from the edge, at every size.
        return torch.from_numpy((points + 0.5) * self._scales[:, None, ::-1] - 0.5)
