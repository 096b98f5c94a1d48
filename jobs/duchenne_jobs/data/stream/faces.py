"""The stream: batches of faces and labels in an order that no kill and no change of workers disturbs.

B batch, H and W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.stream.batch import FaceBatch
from duchenne_jobs.data.stream.order import Tail
from duchenne_jobs.data.stream.pipeline import Options, Pipeline, Pixels, Start
from duchenne_jobs.data.stream.pixels import Size

COLUMNS = ("image", "landmarks", "parsing")
WINDOW_ROWS = 32_768
_STATE_VERSION = 2


class FaceStream(IterableDataset[FaceBatch]):
    """The rows of a dataset as batches; each iteration is the next epoch, or the rest of one that was cut off.

    Shards are fetched and images decoded in threads, so that no DataLoader is needed; `DataLoader(stream,
    batch_size=None)` and torchdata's `StatefulDataLoader` take it as it is. Rows without an image
    are left out; null landmarks are NaN, a null parsing map is all NO_CLASS (see `faces/decoding.py`).

    Args:
        dataset: from `open_dataset`; a remote one is cached in `dataset.cache`.
        columns: of `image`, `landmarks`, `parsing`; `image` must be among them.
        subjects: whose rows; None: everybody's. That no other row comes out is checked on each shard.
        size: (H, W) of the images; None takes the manifest's crop, or else the first image's.
        batch_size: B, of each worker.
        seed: of the order, which is a pure function of it and the epoch.
        window: rows over which shards are mixed (see `order.py`); None: the stored order.
        cache: `encoded`, `decoded` (the first epoch's pixels are kept in the dataset's cache), or `bytes` (not
        decoded). rank, world: of this worker; default: `current_rank()` when an epoch starts.
        tail: what becomes of the last rows of an epoch that fill no step of all workers: see `order.deal`.

    Raises:
        DatasetError: a column or subject that the dataset lacks, or a number out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        columns: tuple[str, ...] = ("image",),
        subjects: Collection[str] | None = None,
        size: Size | None = None,
        batch_size: int = 64,
        seed: int = 0,
        window: int | None = WINDOW_ROWS,
        cache: Pixels = "encoded",
        rank: int | None = None,
        world: int | None = None,
        tail: Tail = "keep",
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._options = Options(
            columns=columns,
            subjects=None if subjects is None else frozenset(subjects),
            size=size,
            batch_size=batch_size,
            seed=seed,
            window=window,
            cache=cache,
            place=None if rank is None or world is None else (rank, world),
            tail=tail,
        )
        _check(dataset, self._options)
        if (rank is None) != (world is None):
            raise DatasetError(f"rank and world go together, but got rank {rank} and world {world}; give both or none")
        self._start = Start()

    @property
    def epoch(self) -> int:
        """The epoch that is being given, or that the next iteration gives."""
        return self._start.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; where the stream stands in that one already, it stays there."""
        if epoch != self._start.epoch:
            self._start = Start(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands after the batch that was given out last; the same on all workers that are in step.

        Plain numbers and strings, fit for JSON, and for any number of workers to go on from.
        """
        return self._identity() | vars(self._start)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the rows that were consumed when `state` was taken, whatever the number of workers was then.

        Raises:
            DatasetError: the state is of another dataset or another order.
        """
        for field, mine in self._identity().items():
            if state.get(field) != mine:
                raise DatasetError(
                    f"a stream goes on in the order that it began, so {field} must be {mine!r}, but the state has "
                    f"{state.get(field)!r}; open the stream as it was, or start the epoch again"
                )
        self._start = Start(**{field: state[field] for field in vars(Start())})
        if get_worker_info() is None:  # a process of a DataLoader goes on with its share of the steps instead
            self._start = Start(self._start.epoch, self._start.consumed, 0, self._start.consumed)

    def __iter__(self) -> Generator[FaceBatch]:
        start = self._start
        with Pipeline(self.dataset, self._options, start) as batches:
            for number, batch in batches:
                self._start = Start(start.epoch, start.offset, number + 1, batch.consumed)
                yield batch
        self._start = Start(start.epoch + 1)

    def _identity(self) -> dict[str, Any]:
        """What the order depends on."""
        subjects = self._options.subjects
        return {
            "version": _STATE_VERSION,
            "digest": self.dataset.digest,
            "subjects": None if subjects is None else canonical_digest(sorted(subjects)),
            "seed": self._options.seed,
            "window": self._options.window,
        }


def _check(dataset: Dataset, options: Options) -> None:
    for column in options.columns:
        if column not in COLUMNS or column not in dataset.manifest.columns:
            raise DatasetError(
                f"a stream gives {', '.join(COLUMNS)} as far as the dataset has them, but {column!r} was asked for and "
                f"{dataset.uri} has {', '.join(dataset.manifest.columns)}; leave it out"
            )
    if "image" not in options.columns:
        raise DatasetError(f"a stream is one of images, but the columns are {', '.join(options.columns)}; add image")
    for subject in sorted((options.subjects or frozenset()).difference(dataset.subjects)):
        raise DatasetError(f"{dataset.uri} has no subject {subject!r}; it has {len(dataset.subjects)} others")
    if options.cache not in ("encoded", "decoded", "bytes"):
        raise DatasetError(f"cache must be encoded, decoded or bytes, but got {options.cache!r}; choose one of them")
    rank, world = options.place or (0, 1)
    if not 0 <= rank < world:
        raise DatasetError(f"0 <= rank < world must hold, but got rank {rank} and world {world}; count ranks from 0")
    if options.batch_size < 1 or options.seed < 0 or (options.window or 0) < 0:
        raise DatasetError(
            f"batch_size >= 1, seed >= 0 and window >= 0 must hold, but got {options.batch_size}, {options.seed} and "
            f"{options.window}; mend the one that is out of range"
        )
