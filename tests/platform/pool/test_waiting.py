"""Who waits in the queue and who is asked for: urgent ones first, near ones before far ones, nobody for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.pool.asking import Window
from duchenne.pool.waiting import PASSES, REMEMBERED, SLACK, ReadData, Waiting, WaitingRoom
from duchenne_jobs.config import RunConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey

CONFIG = RunConfig()
FOLDS, INNER, EPOCHS = 3, 2, 3
DRAWN = st.lists(
    st.tuples(st.integers(1, EPOCHS), st.integers(0, FOLDS - 1), st.integers(0, INNER - 1)), min_size=1, max_size=40
)


def job(trial: int, fold: int, inner: int) -> FoldJob:
    key = JobKey(trial, "search", "monet", fold, inner, 0)
    return FoldJob(key, CONFIG, "nowhere", "sha256:0", FoldsRequest(FOLDS, INNER, 0), "", EPOCHS)


def wait(ticket: int, until_epoch: int, fold: int, inner: int = 0) -> Waiting:
    nobody: Any = None  # the room never looks at who waits for the answer
    return Waiting((-until_epoch, ticket), job(ticket, fold, inner), until_epoch, nobody)


def grant(room: WaitingRoom, read: ReadData) -> Waiting:
    waiting = room.next_for(read)
    assert waiting is not None
    room.take(waiting)
    read.add(waiting.job)
    return waiting


@settings(max_examples=60, deadline=None)
@given(drawn=DRAWN, workers=st.lists(st.integers(0, 2), min_size=1, max_size=7), back=st.integers(0, 5))
def test_each_is_granted_once_and_none_is_passed_over_for_ever(
    drawn: list[tuple[int, int, int]], workers: list[int], back: int
) -> None:
    room, read = WaitingRoom(), [ReadData() for _ in range(3)]
    everyone = [wait(ticket, *what) for ticket, what in enumerate(drawn)]
    for waiting in everyone:
        room.put(waiting)
    granted: list[Waiting] = []
    while len(room):
        first = min(room)
        waiting = grant(room, read[workers[len(granted) % len(workers)]])
        assert waiting.until_epoch == first.until_epoch  # never one that is less far along
        granted.append(waiting)
        assert all(each.passed <= PASSES for each in room)
        assert len(room._line) <= 2 * len(room) + SLACK
        if back:  # its worker died: it comes back to its own place
            back -= 1
            room.put(granted.pop())
    assert sorted(each.rank for each in granted) == [each.rank for each in sorted(everyone)]
    assert not room._by_mark
    for level in range(1, EPOCHS + 1):
        order = [each.rank[1] for each in granted if each.until_epoch == level]
        for place, ticket in enumerate(sorted(order)):
            assert order.index(ticket) < (place + 1) * (PASSES + 1)


def test_the_first_in_line_waits_for_so_many_and_no_more() -> None:
    room, read = WaitingRoom(), ReadData()
    read.add(job(100, 1, 0))
    room.put(wait(0, 1, fold=0))
    for ticket in range(1, 30):
        room.put(wait(ticket, 1, fold=1))
    assert [grant(room, read).rank[1] for _ in range(PASSES + 2)] == [*range(1, PASSES + 1), 0, PASSES + 1]


def test_the_nearest_is_the_warm_job_then_its_split_then_its_fold() -> None:
    room, read = WaitingRoom(), ReadData()
    read.add(job(3, 1, 1))
    room.put(wait(0, 2, fold=0))
    room.put(wait(1, 2, fold=1, inner=0))
    room.put(wait(2, 2, fold=1, inner=1))
    room.put(wait(3, 2, fold=1, inner=1))
    nearest = []
    while len(room):
        waiting = room.next_for(read)
        assert waiting is not None
        room.take(waiting)
        nearest.append(waiting.rank[1])
    assert nearest == [3, 2, 1, 0]


def test_a_worker_that_has_read_nothing_takes_them_in_their_order() -> None:
    room = WaitingRoom()
    for ticket, epoch in enumerate([1, 3, 2, 3]):
        room.put(wait(ticket, epoch, fold=0))
    assert [grant(room, ReadData()).rank for _ in range(4)] == [(-3, 1), (-3, 3), (-2, 2), (-1, 0)]
    assert room.next_for(ReadData()) is None


def test_what_is_dropped_is_gone_and_the_rest_keeps_its_order() -> None:
    room = WaitingRoom()
    for ticket in range(200):
        room.put(wait(ticket, 1, fold=ticket % 2))
    assert {each.job.key.fold for each in room.drop(lambda waiting: waiting.job.key.fold == 0)} == {0}
    assert [grant(room, ReadData()).rank[1] for _ in range(100)] == list(range(1, 200, 2))


def loads(workers: int, splits: int, near: bool) -> int:
    """Splits that workers with room for `REMEMBERED` load for 20 trials, two at a time, when any may be the next."""
    chance, room, read = Random(0), WaitingRoom(), [ReadData() for _ in range(workers)]
    kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(workers)]
    asked = iter([wait(ticket, 1, ticket % splits) for ticket in range(20 * splits)])
    for waiting in islice(asked, 2 * splits):
        room.put(waiting)
    missed = 0
    while len(room):
        worker = chance.randrange(workers)
        fold = grant(room, read[worker] if near else ReadData()).job.key.fold
        missed += fold not in kept[worker]
        kept[worker][fold] = None
        kept[worker].move_to_end(fold)
        if len(kept[worker]) > REMEMBERED:
            kept[worker].popitem(last=False)
        for waiting in islice(asked, 1):
            room.put(waiting)
    return missed


def test_workers_load_fewer_splits_than_in_the_order_of_asking() -> None:
    assert loads(workers=8, splits=45, near=True) < 0.3 * loads(workers=8, splits=45, near=False)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), limit=st.integers(1, 8), order=st.randoms(use_true_random=False))
def test_no_more_is_asked_than_the_window_holds(count: int, limit: int, order: Any) -> None:
    open_now: set[str] = set()
    read = 0
    most = 0

    def wanted() -> Iterator[int]:
        nonlocal read
        for one in range(count):
            read += 1
            assert read <= answered + limit + 1  # it is not read ahead of the room that there is
            yield one

    def send(one: int) -> str:
        nonlocal most
        open_now.add(f"ask {one}")
        most = max(most, len(open_now))
        return f"ask {one}"

    def wait_for_some(asked: list[str]) -> tuple[list[str], list[str]]:
        there = order.sample(asked, order.randint(1, len(asked)))
        return there, [one for one in asked if one not in there]

    answered = 0

    def get(one: str) -> int:
        nonlocal answered
        answered += 1
        open_now.remove(one)
        return int(one.split()[1]) * 10

    assert Window(limit, send, wait_for_some, get).run(wanted()) == [10 * one for one in range(count)]
    assert most == min(limit, count)


def test_what_an_answer_raises_reaches_whoever_asked() -> None:
    def get(one: int) -> int:
        raise OSError("the queue is gone")

    with pytest.raises(OSError, match="the queue is gone"):
        Window(2, lambda one: one, lambda asked: (asked[:1], asked[1:]), get).run([1, 2, 3])
