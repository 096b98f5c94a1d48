"""The shards of one epoch on their way: fetched ahead in threads, held as long as rows of them are due."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.data.stream.order import Places
from duchenne_jobs.data.stream.pixels import Faces
from duchenne_jobs.data.stream.shard import OpenShard

FETCHES = 2  # shards on their way at a time
_POLL_SECONDS = 0.2


class StoppedError(Exception):
    """The stream was closed while a shard was waited for."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A shard that can be read: its rows of the stream, and its faces where pixels are asked for."""

    shard: OpenShard
    rows: NDArray[np.int64]
    faces: Faces | None


class Shelf:
    """Context manager that opens shards in the order given.

    Args:
        order: numbers of the shards.
        prepare: opens one; runs in a thread.
        ahead: shards beyond the last one asked for that are fetched already.
        stop: ends the waiting for a shard.
    """

    def __init__(self, order: list[int], prepare: Callable[[int], Ready], ahead: int, stop: threading.Event) -> None:
        self._order = order
        self._prepare = prepare
        self._ahead = ahead
        self._stop = stop
        self._pool = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")
        self._coming: deque[Future[Ready]] = deque()
        self._started = 0
        self._asked = 0
        self._open: dict[int, Ready] = {}
        self._due: dict[int, int] = {}  # rows of each open shard that the order has not given yet
        self._leaving: deque[tuple[int, int]] = deque()  # (rows of the epoch after which it goes, shard)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __getitem__(self, number: int) -> Ready:
        return self._open[number]

    def rows(self, number: int) -> NDArray[np.int64]:
        """The stream's rows of the next shard of the order; waits until it is open.

        Raises:
            duchenne_jobs.data.DatasetError: it could not be opened.
            StoppedError: `stop` was set.
        """
        self._asked += 1
        while self._started < min(self._asked + self._ahead, len(self._order)):
            self._coming.append(self._pool.submit(self._prepare, self._order[self._started]))
            self._started += 1
        future = self._coming.popleft()
        while not wait([future], _POLL_SECONDS).done:
            if self._stop.is_set():
                raise StoppedError
        ready = future.result()
        if len(ready.rows):
            self._open[number], self._due[number] = ready, len(ready.rows)
        return ready.rows

    def counted(self, pieces: Iterable[Places]) -> Generator[Places]:
        """The same pieces; notes after how many rows of the epoch each shard is used up."""
        passed = 0
        for piece in pieces:
            passed += len(piece)
            for number, count in zip(*np.unique(piece.shards, return_counts=True), strict=True):
                self._due[int(number)] -= int(count)
                if not self._due[int(number)]:
                    self._leaving.append((passed, int(number)))
            yield piece

    def let_go(self, consumed: int) -> None:
        """Close the shards whose rows all lie among the first `consumed` of the epoch."""
        while self._leaving and self._leaving[0][0] <= consumed:
            del self._open[self._leaving.popleft()[1]]
