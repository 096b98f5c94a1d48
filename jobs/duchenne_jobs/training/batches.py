"""Batches on the training device, the next ones read while a step runs.

Shapes: N rows, B batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from duchenne_jobs.data import tallies
from duchenne_jobs.models.inputs import Inputs
from duchenne_jobs.training.split import Rows

AHEAD = 2  # batches


class Batches:
    """The rows of one side of a split, batch by batch, on a device.

    Features are put there once. Faces are read by a thread of their own, `AHEAD` batches before they are asked for.

    Args:
        rows: where the batches come from.
        device: where they go.
    """

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self._rows = rows
        self._device = device
        self._held = rows.inputs.to(device) if isinstance(rows.inputs, Inputs) else None

    def __call__(self, batches: Sequence[Tensor]) -> Generator[Inputs]:
        """The rows of each of `batches`, (B,) int64 on the CPU, in their order; images are float32 in [0, 1].

        Raises:
            duchenne_jobs.data.DatasetError: a row can't be decoded; raised where its batch is due.
        """
        if self._held is not None:
            yield from (self._held[indices.to(self._device)] for indices in batches)
            return
        reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        waiting: deque[Future[Inputs]] = deque()
        try:
            for index in range(len(batches) + AHEAD):
                if index < len(batches):
                    waiting.append(reader.submit(self._read, batches[index]))
                if index >= AHEAD:
                    began = time.perf_counter()
                    batch = waiting.popleft().result()
                    tallies.HERE.batch(len(batches[index - AHEAD]), time.perf_counter() - began)
                    yield as_floats(batch.to(self._device))
        finally:
            reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, indices: Tensor) -> Inputs:
        batch = self._rows.batch(indices)
        if self._device.type != "cuda":
            return batch
        return Inputs(**{name: None if one is None else one.pin_memory() for name, one in vars(batch).items()})


def as_floats(batch: Inputs) -> Inputs:
    """Images as a network takes them: uint8 0..255 -> float32 in [0, 1]; a batch without images as it is."""
    if batch.images is None:
        return batch
    fields = vars(batch) | {"images": batch.images.to(torch.float32).div_(255)}
    return Inputs(**fields)
