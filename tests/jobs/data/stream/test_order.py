"""The order: each row once, the same for everybody, whoever is killed when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data.stream import EpochOrder, shuffle_quality
from duchenne_jobs.data.stream.order import Places, Step, deal

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(tuple)


def ids_of(counts: tuple[int, ...], places: Places) -> list[int]:
    firsts = np.cumsum((0, *counts))
    return (firsts[places.shards] + places.rows).tolist()


def epoch(counts: tuple[int, ...], seed: int = 0, number: int = 0, window: int | None = 20) -> list[int]:
    pieces = EpochOrder(counts, seed, number, window).places(lambda shard: np.arange(counts[shard]))
    return [row for piece in pieces for row in ids_of(counts, piece)]


@given(COUNTS, st.integers(0, 2**32), st.integers(0, 5), st.none() | st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_an_epoch_has_each_row_once_and_is_a_function_of_seed_and_epoch(
    counts: tuple[int, ...], seed: int, number: int, window: int | None
) -> None:
    order = epoch(counts, seed, number, window)
    assert sorted(order) == list(range(sum(counts)))
    assert order == epoch(counts, seed, number, window)
    if window is None:
        assert order == sorted(order)


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(epoch((50, 50), seed, number)) for seed in range(3) for number in range(3)}
    assert len(orders) == 9


@given(
    COUNTS,
    st.integers(0, 99),
    st.none() | st.integers(0, 60),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), max_size=6),
    st.integers(0, 9),
)
@settings(max_examples=1000, deadline=None)
def test_no_row_is_lost_or_comes_twice_over_kills_and_other_numbers_of_workers(
    counts: tuple[int, ...],
    seed: int,
    window: int | None,
    batch_size: int,
    lives: list[tuple[int, int]],
    missing: int,
) -> None:
    """Each life has a number of workers, which all take some steps and are killed; the last one ends the epoch."""
    order = EpochOrder(counts, seed, 0, window)

    def wanted(shard: int) -> np.ndarray:
        rows = np.arange(counts[shard])
        return rows[(rows + shard) % 10 != missing]  # as where some rows are of other subjects

    offset, seen = 0, []
    for world, steps in [*lives, (2, 10**6)]:
        workers = [
            list(deal(order.places(wanted), rank, world, batch_size, offset=offset))[:steps] for rank in range(world)
        ]
        seen += [row for worker in workers for step in worker for row in ids_of(counts, step.places)]
        offset = max((step.consumed for worker in workers for step in worker), default=offset)
    firsts = np.cumsum((0, *counts))
    expected = [firsts[shard] + row for shard in range(len(counts)) for row in wanted(shard)]
    assert sorted(seen) == expected


@given(COUNTS, st.integers(1, 4), st.integers(1, 5), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_dealing_does_not_change_the_order(counts: tuple[int, ...], world: int, batch_size: int, offset: int) -> None:
    order = EpochOrder(counts, 1, 0, 30)

    def steps(rank: int, **options: object) -> list[Step]:
        pieces = order.places(lambda shard: np.arange(counts[shard]))
        return list(deal(pieces, rank, world, batch_size, offset=offset, **options))  # type: ignore[arg-type]

    workers = [steps(rank) for rank in range(world)]
    woven: dict[int, int] = {}
    for rank, worker in enumerate(workers):
        for step in worker:
            for index, row in enumerate(ids_of(counts, step.places)):
                woven[offset + step.number * world * batch_size + index * world + rank] = row
    assert [woven[position] for position in sorted(woven)] == epoch(counts, 1, 0, 30)[offset:]
    full = [steps(rank, tail="drop") for rank in range(world)]
    assert len({len(worker) for worker in full}) == 1, "collectives would hang"
    assert all(len(step.places) == batch_size for worker in full for step in worker)


def test_a_shard_is_not_needed_before_the_rows_that_come_first() -> None:
    """The stream can start with one shard at hand, and never needs more than the window behind it."""
    asked: list[int] = []
    counts = (100,) * 20

    def wanted(shard: int) -> np.ndarray:
        asked.append(shard)
        return np.arange(counts[shard])

    pieces = EpochOrder(counts, 0, 0, 200).places(wanted)
    first = next(pieces)
    assert len(asked) == 1
    assert set(first.shards) == set(asked)
    given_out = [first, *pieces]
    position = {shard: rank for rank, shard in enumerate(asked)}
    for number, piece in enumerate(given_out[:20]):
        assert min(position[shard] for shard in piece.shards) >= number - 3


def test_the_quality_of_the_shuffle_as_numbers() -> None:
    """20,000 rows in 4 shards, over 40 seeds. Uniform: 1, 0 and 1; shards one after the other: 0.25, x and 0.25."""
    counts = (5000,) * 4

    def means(window: int) -> tuple[float, ...]:
        qualities = [shuffle_quality(epoch(counts, seed, 0, window)) for seed in range(40)]
        return tuple(
            float(np.mean(values))
            for values in (
                [quality.spanned for quality in qualities],
                [abs(quality.correlation) for quality in qualities],
                [quality.neighbour_distance for quality in qualities],
            )
        )

    spanned, correlation, distance = means(32_768)
    one_by_one = means(0)
    assert spanned >= 0.5
    assert distance > 0.85
    assert correlation < 0.6 * one_by_one[1]
    assert one_by_one[0] == 0.25
    stored = shuffle_quality(epoch(counts, 0, 0, None))
    assert (stored.spanned, round(stored.correlation, 6)) == (0.1, 1)
    uniform = shuffle_quality(np.random.default_rng(0).permutation(20_000))
    assert uniform.spanned == 1
    assert abs(uniform.correlation) < 0.03
    assert uniform.neighbour_distance == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="each once"):
        shuffle_quality([0, 1, 1])
