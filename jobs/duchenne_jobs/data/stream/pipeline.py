"""The threads of one iteration of a stream: shards are fetched, a planner deals steps out, decoders fill batches."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch.utils.data import get_worker_info

from duchenne_jobs.data import tallies
from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.stream.batch import FaceBatch, PendingBatch
from duchenne_jobs.data.stream.buffers import Buffers
from duchenne_jobs.data.stream.order import EpochOrder, Step, Tail, deal
from duchenne_jobs.data.stream.pixels import EncodedFaces, Faces, Size, keep_decoded
from duchenne_jobs.data.stream.ranks import current_rank
from duchenne_jobs.data.stream.shard import OpenShard, open_shard
from duchenne_jobs.data.stream.shelf import Ready, Shelf, StoppedError

Pixels: TypeAlias = Literal["encoded", "decoded", "bytes"]
SHARDS_AHEAD = 2
BATCHES_AHEAD = 4
MAX_DECODERS = 8
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """What stays the same over the epochs of a stream: see `FaceStream`."""

    columns: tuple[str, ...]
    subjects: frozenset[str] | None
    size: Size | None
    batch_size: int
    seed: int
    window: int | None
    cache: Pixels
    place: tuple[int, int] | None
    tail: Tail


@dataclass(frozen=True)
class Start:
    """Where an epoch is taken up: `offset` rows went under an earlier dealing, then `steps` steps under this one.

    `consumed` counts the rows of both.
    """

    epoch: int = 0
    offset: int = 0
    steps: int = 0
    consumed: int = 0


class Pipeline:
    """Context manager of one iteration; its value iterates over (number of the step, batch)."""

    def __init__(self, dataset: Dataset, options: Options, start: Start) -> None:
        self._dataset = dataset
        self._options = options
        self._start = start
        self._numbers = [
            number
            for number, shard in enumerate(dataset.manifest.shards)
            if options.subjects is None or options.subjects.intersection(shard.subjects)
        ]
        counts = tuple(dataset.manifest.shards[number].rows for number in self._numbers)
        self._order = EpochOrder(counts, options.seed, start.epoch, options.window)
        self._threads = min(len(os.sched_getaffinity(0)), MAX_DECODERS)
        self._decoders = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._left = threading.Event()
        self._shelf = Shelf(self._order.shards().tolist(), self._prepare, SHARDS_AHEAD, self._left)
        self._planned: queue.Queue[PendingBatch | BaseException | None] = queue.Queue(BATCHES_AHEAD)
        self._size: Size | None = None
        self._image_buffers: Buffers | None = None
        self._map_buffers: Buffers | None = None
        self._worker = get_worker_info()  # known to this thread only
        self._planner = threading.Thread(target=self._plan, name="plan", daemon=True)

    def __enter__(self) -> Iterator[tuple[int, FaceBatch]]:
        self._planner.start()
        return self._batches()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._planner.join()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def _batches(self) -> Iterator[tuple[int, FaceBatch]]:
        began = time.perf_counter()
        while (item := self._planned.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            batch = item.finished()
            tallies.HERE.batch(len(batch.rows), time.perf_counter() - began)
            yield item.step.number, batch
            began = time.perf_counter()

    def _plan(self) -> None:
        end: BaseException | None = None
        try:
            with self._shelf:
                if self._options.cache != "bytes":
                    self._prepare_pixels(self._options.size or first_size(self._dataset, self._numbers))
                for step in self._steps():
                    if not self._put(self._begun(step)):
                        return
        except StoppedError:
            return
        except BaseException as error:  # raised again where its batch is due
            end = error
        self._put(end)

    def _prepare_pixels(self, size: Size) -> None:
        self._size = size
        self._image_buffers = Buffers((self._options.batch_size, *size, 3))
        if "parsing" in self._options.columns:
            self._map_buffers = Buffers((self._options.batch_size, *size))

    def _put(self, item: PendingBatch | BaseException | None) -> bool:
        """Hand over once there is room; False where the stream was left meanwhile."""
        while not self._left.is_set():
            try:
                self._planned.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _steps(self) -> Iterator[Step]:
        """The steps of this worker, and of this process of its DataLoader where there are several."""
        rank, world = self._options.place or current_rank()
        part, parts = (0, 1) if self._worker is None else (self._worker.id, self._worker.num_workers)
        pieces = self._shelf.counted(self._order.places(self._shelf.rows))
        for step in deal(
            pieces, rank, world, self._options.batch_size, offset=self._start.offset, tail=self._options.tail
        ):
            if step.number >= self._start.steps and step.number % parts == part:
                yield step
            self._shelf.let_go(step.consumed)

    def _begun(self, step: Step) -> PendingBatch:
        return PendingBatch(
            step,
            [self._shelf[shard] for shard in step.places.shards.tolist()],
            None if self._image_buffers is None else self._image_buffers.take(),
            None if self._map_buffers is None else self._map_buffers.take(),
            "landmarks" in self._options.columns,
            self._decoders,
            self._threads,
        )

    def _prepare(self, index: int) -> Ready:
        """Open the shard at `index` of those that the stream needs."""
        number = self._numbers[index]
        shard = open_shard(self._dataset, number)
        rows = shard.wanted(self._options.subjects)
        for column in ("labels", "images"):
            getattr(shard, column)  # worked out here rather than by the planner
        return Ready(shard, rows, self._faces(shard, number) if len(rows) else None)

    def _faces(self, shard: OpenShard, number: int) -> Faces | None:
        if self._size is None:
            return None
        parsing = "parsing" in self._options.columns
        if self._options.cache == "encoded":
            return EncodedFaces(shard, self._size, parsing)
        sha256 = self._dataset.manifest.shards[number].sha256
        return keep_decoded(self._dataset.cache, shard, sha256, self._size, parsing, self._decoders)


def first_size(dataset: Dataset, numbers: list[int]) -> Size:
    """(H, W) of the manifest's crop, or else of the first face that is stored.

    Raises:
        DatasetError: no row has a face, or its header can't be read.
    """
    if dataset.manifest.crop is not None:
        return dataset.manifest.crop.size, dataset.manifest.crop.size
    for number in numbers:
        size = open_shard(dataset, number).first_size()
        if size is not None:
            return size
    raise DatasetError(f"{dataset.uri}: not one of its {dataset.row_count} rows has a face; ingest it again")
