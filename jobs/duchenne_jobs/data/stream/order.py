"""Which row comes when: a pure function of (seed, epoch), dealt to any number of workers from any point of the epoch.

Shards are taken in a permuted order. Row i of the k-th of them gets the key

    key = rows of the shards before it + u (rows of its shard + window),    u uniform in [0, 1)

and rows come in the order of their keys. So the k-th shard is not needed before all rows with smaller keys are out: the
stream starts with its first shard and mixes more and more of them, up to about `window` rows, whatever the dataset's
size.

R workers, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tail: TypeAlias = Literal["keep", "drop"]
_SHARDS, _ROWS = 0, 1  # streams of random numbers of an epoch


@dataclass(frozen=True)
class Places:
    """Rows in the order of the epoch: the number of each one's shard, and its row there; both (n,) int64."""

    shards: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> Places:
        return Places(self.shards[which], self.rows[which])

    @staticmethod
    def joined(parts: list[Places]) -> Places:
        if not parts:
            return Places(np.empty(0, np.int64), np.empty(0, np.int64))
        return Places(np.concatenate([part.shards for part in parts]), np.concatenate([part.rows for part in parts]))


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch.

    Attributes:
        counts: rows of each shard, in the manifest's order.
        window: rows over which a shard is spread beyond its own length; None keeps the stored order.
    """

    counts: tuple[int, ...]
    seed: int
    epoch: int
    window: int | None

    def shards(self) -> NDArray[np.int64]:
        """Numbers of the shards in the order in which they are needed."""
        if self.window is None:
            return np.arange(len(self.counts))
        return self._random(_SHARDS).permutation(len(self.counts))

    def places(self, wanted: Callable[[int], NDArray[np.int64]]) -> Generator[Places]:
        """Every wanted row of the epoch once, in pieces.

        Args:
            wanted: the rows of a shard that belong to the stream, ascending; asked once a shard, when it is needed.
        """
        keys = np.empty(0)
        held = Places.joined([])
        start = 0
        for shard in self.shards().tolist():
            rows = wanted(shard)
            keys = np.concatenate([keys, self._keys(shard, start)[rows]])
            held = Places.joined([held, Places(np.full(len(rows), shard, np.int64), rows)])
            start += self.counts[shard]
            out = keys < start  # every later shard's keys are at least `start`
            order = np.argsort(keys[out], kind="stable")
            yield held[np.flatnonzero(out)[order]]
            keys, held = keys[~out], held[np.flatnonzero(~out)]
        yield held[np.argsort(keys, kind="stable")]

    def _keys(self, shard: int, start: int) -> NDArray[np.float64]:
        count = self.counts[shard]
        if self.window is None:
            return start + np.arange(count, dtype=np.float64)
        return start + self._random(_ROWS, shard).random(count) * (count + self.window)

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, *stream))


@dataclass(frozen=True)
class Step:
    """One worker's batch.

    Attributes:
        places: its rows.
        number: 0, 1, ... since the offset.
        consumed: rows of the epoch that are used once every worker has taken this step.
    """

    places: Places
    number: int
    consumed: int


def deal(
    pieces: Iterable[Places], rank: int, world: int, batch_size: int, *, offset: int = 0, tail: Tail = "keep"
) -> Generator[Step]:
    """The steps of worker `rank`: of each R B rows from `offset` on, every R-th.

    The last step may be short; with `tail="drop"` it is left out, so that every worker takes the same number of full
    steps (collectives would wait for the one that has less).
    """
    stride = world * batch_size
    waiting: list[Places] = []
    count, skip, number, consumed = 0, offset, 0, offset
    for piece in pieces:
        passed = min(skip, len(piece))
        skip -= passed
        if passed == len(piece):
            continue
        waiting.append(piece[passed:])
        count += len(waiting[-1])
        if count < stride:
            continue
        rows = Places.joined(waiting)
        whole = count - count % stride
        for begin in range(0, whole, stride):
            consumed += stride
            yield Step(rows[slice(begin + rank, begin + stride, world)], number, consumed)
            number += 1
        waiting, count = [rows[whole:]], count - whole
    if count and tail == "keep":
        last = Places.joined(waiting)[rank::world]
        if len(last):
            yield Step(last, number, consumed + count)
