"""The queue actor's logic, with real records and without Ray: its methods are called as Ray would call them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from duchenne.pool.messages import Outcome, PoolClosed, PoolOptions, Segment
from duchenne.pool.queue import JobQueue
from duchenne.records import Amounts, NewSweep, RecordStore, open_home
from duchenne_jobs.config import RunConfig, TrainingConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, SegmentResult

EPOCHS = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def new_sweep(store: RecordStore, budget: Amounts | None = None) -> str:
    record = store.create_sweep(
        NewSweep(
            name="pool",
            team="t",
            board="b",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=budget or Amounts(),
        )
    )
    return record.id


def options(**changes: object) -> PoolOptions:
    return PoolOptions(**{"workers": 2, "cpus": 1.0, "gpus": 0.0, **changes})  # type: ignore[arg-type]


def job(trial: int | None = 0, fold: int = 0, phase: str = "search", home: str = "") -> FoldJob:
    key = JobKey(trial, phase, "monet", fold, 0 if phase == "search" else None, 0)  # type: ignore[arg-type]
    config = RunConfig(training=TrainingConfig(epochs=EPOCHS))
    return FoldJob(key, config, "nowhere", "sha256:0", FoldsRequest(2, 2, 0), home, EPOCHS)


def with_queue(
    store: RecordStore, sweep: str, scenario: Callable[[JobQueue], Awaitable[None]], **changes: object
) -> None:
    async def play() -> None:
        queue = JobQueue(sweep, store.address, str(store.home), options(**changes), None)
        await asyncio.wait_for(scenario(queue), timeout=20)

    asyncio.run(play())


async def take(queue: JobQueue, worker: str = "w0") -> Segment:
    work = await queue.lease(worker)
    assert isinstance(work, Segment)
    return work


async def run_to_rung(queue: JobQueue, worker: str = "w0", start: int = 0) -> Segment:
    """Play a worker: every epoch is reported, then the segment is finished."""
    segment = await take(queue, worker)
    for epoch in range(start + 1, segment.until_epoch + 1):
        assert await queue.report(segment.lease, epoch, {"f1_macro": epoch / 10})
    await queue.finished(segment.lease, SegmentResult(segment.until_epoch, {"f1_macro": segment.until_epoch / 10}))
    return segment


def test_a_job_runs_rung_by_rung_as_one_attempt(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        first = asyncio.ensure_future(queue.run_segments([job()], 2))
        await run_to_rung(queue)
        assert await first == [Outcome("done", 2, {"f1_macro": 0.2})]
        second = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        await run_to_rung(queue, worker="w1", start=2)
        assert (await second)[0].metrics == {"f1_macro": 0.4}

    with_queue(store, sweep, scenario)
    assert [row.epoch for row in store.results(sweep)] == [1, 2, 3, 4]
    assert [(attempt.number, attempt.outcome, attempt.epochs) for attempt in store.attempts(sweep)] == [
        (1, "succeeded", 4)
    ]
    assert [recorded.state for recorded in store.fold_jobs(sweep)] == ["succeeded"]


def test_what_is_on_record_is_answered_without_a_worker(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def first_driver(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 2))
        await run_to_rung(queue)
        await asked

    async def second_driver(queue: JobQueue) -> None:
        assert await queue.run_segments([job()], 2) == [Outcome("done", 2, {"f1_macro": 0.2})]
        assert (await queue.snapshot()).segments_done == 0

    with_queue(store, sweep, first_driver)
    store.requeue_unfinished(sweep, token=None)
    with_queue(store, sweep, second_driver)
    assert len(store.attempts(sweep)) == 1


def test_a_result_is_written_once_however_often_it_is_reported(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 2))
        segment = await take(queue)
        assert await queue.report(segment.lease, 1, {"f1_macro": 0.1})
        assert await queue.report(segment.lease, 1, {"f1_macro": 0.9})
        await queue.finished(segment.lease, SegmentResult(2, {"f1_macro": 0.2}))
        await asked

    with_queue(store, sweep, scenario)
    assert [row.metrics["f1_macro"] for row in store.results(sweep)] == [0.1, 0.2]


def test_early_stopping_reaches_waiting_jobs_now_and_running_ones_at_their_next_epoch(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job(fold=0), job(fold=1)], EPOCHS))
        running = await take(queue)
        await queue.withdraw(0)
        assert not await queue.report(running.lease, 1, {"f1_macro": 0.1})
        await queue.stopped(running.lease)
        assert [outcome.state for outcome in await asked] == ["stopped", "stopped"]

    with_queue(store, sweep, scenario)
    assert {recorded.state for recorded in store.fold_jobs(sweep)} == {"stopped"}


def test_segments_further_along_go_first(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        early = asyncio.ensure_future(queue.run_segments([job(trial=0)], 1))
        late = asyncio.ensure_future(queue.run_segments([job(trial=1)], 3))
        await asyncio.sleep(0)
        assert [(await take(queue)).until_epoch, (await take(queue, "w1")).until_epoch] == [3, 1]
        await queue.end("stopped", "the test is over")
        early.cancel()
        late.cancel()

    with_queue(store, sweep, scenario)


def test_a_worker_goes_on_with_the_fold_that_it_has_read_until_it_is_replaced(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        jobs = [job(trial, fold) for trial in range(2) for fold in range(2)]
        asked = asyncio.ensure_future(queue.run_segments(jobs, 1))
        await queue.register("w0", 0)
        await queue.register("w1", 1)
        taken = [(await run_to_rung(queue, worker)).job.key for worker in ("w0", "w1", "w1", "w0")]
        assert [(key.trial, key.fold) for key in taken] == [(0, 0), (0, 1), (1, 1), (1, 0)]
        await asked
        asked = asyncio.ensure_future(queue.run_segments(jobs, 2))
        await queue.register("w2", 0)  # another process of that rank: what the first one read is gone
        assert (await run_to_rung(queue, "w2", start=1)).job.key == jobs[0].key
        assert (await run_to_rung(queue, "w1", start=1)).job.key == jobs[3].key  # whose network is warm
        await queue.end("stopped", "the test is over")
        await asked

    with_queue(store, sweep, scenario)


def test_what_is_foreseen_is_recorded_and_granted_only_when_it_is_asked_for(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        jobs = [job(fold=fold, phase="evaluation") for fold in range(2)]
        await queue.foresee([(one.key, one.epochs) for one in jobs])
        assert await queue.lease("w0") is None
        asked = asyncio.ensure_future(queue.run_jobs([jobs[1]]))
        assert (await take(queue)).job == jobs[1]
        asked.cancel()

    with_queue(store, sweep, scenario, poll_seconds=0.05)
    assert len(store.fold_jobs(sweep)) == 2


def test_a_job_that_takes_three_workers_with_it_has_failed_and_the_sweep_goes_on(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job(fold=0), job(fold=1)], 1))
        for death in range(3):
            await queue.register(f"killed{death}", 0)
            segment = await take(queue, f"killed{death}")
            while segment.job.key.fold != 0:
                await queue.finished(segment.lease, SegmentResult(1, {"f1_macro": 0.5}))
                segment = await take(queue, f"killed{death}")
            await queue.rank_died(0, "SIGKILL")
        await queue.register("alive", 0)
        if not asked.done():
            segment = await take(queue, "alive")
            await queue.finished(segment.lease, SegmentResult(1, {"f1_macro": 0.5}))
        outcomes = await asked
        assert [outcome.state for outcome in outcomes] == ["failed", "done"]
        assert outcomes[0].error == "trial 0, search of monet, fold 0, inner fold 0, seed 0: SIGKILL (3 times)"

    with_queue(store, sweep, scenario)
    assert sorted(recorded.state for recorded in store.fold_jobs(sweep)) == ["failed", "running"]


def test_a_restarted_group_costs_the_innocent_rank_nothing(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 1))
        for restart in range(5):
            await queue.register(f"w{restart}", 0)
            await take(queue, f"w{restart}")
        await queue.register("last", 0)
        await run_to_rung(queue, "last")
        assert (await asked)[0].state == "done"

    with_queue(store, sweep, scenario)
    assert [attempt.outcome for attempt in store.attempts(sweep)] == ["interrupted"] * 5 + [None]


@pytest.mark.parametrize(("final", "tries"), [(True, 1), (False, 3)])
def test_an_error_of_the_job_is_tried_again_unless_it_is_final(store: RecordStore, final: bool, tries: int) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 1))
        for _ in range(tries):
            segment = await take(queue)
            await queue.failed(segment.lease, "epoch 1: the loss is not finite", final=final)
        outcome = (await asked)[0]
        assert outcome.state == "failed"
        assert "epoch 1: the loss is not finite" in (outcome.error or "")

    with_queue(store, sweep, scenario)


def test_the_sweep_is_exhausted_when_the_ledger_has_no_room_for_a_lease(store: RecordStore) -> None:
    sweep = new_sweep(store, Amounts(usd=0.02))

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job(fold=0), job(fold=1)], 1))
        await take(queue, "w0")  # 15 s at 0.001 USD/s: 0.015 of 0.02 USD
        assert await queue.lease("w1") is None
        ending = (await queue.snapshot()).ending
        assert ending is not None
        assert ending[0] == "exhausted"
        assert "usd" in ending[1]
        assert "0.02" in ending[1]
        asked.cancel()

    with_queue(store, sweep, scenario, usd_per_second=0.001)
    totals = store.ledger.totals(sweep)
    assert (totals["spent"].usd or 0) + (totals["reserved"].usd or 0) <= 0.02


def test_a_lease_that_can_not_be_renewed_ends_the_job(store: RecordStore) -> None:
    sweep = new_sweep(store, Amounts(usd=0.02))

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 1))
        segment = await take(queue)  # 0.15 s: 0.015 of 0.02 USD
        assert await queue.renew(segment.lease), "what is reserved already is not asked for again"
        await asyncio.sleep(0.07)
        assert not await queue.renew(segment.lease)
        await queue.stopped(segment.lease)
        assert (await asked)[0].state == "exhausted"

    with_queue(store, sweep, scenario, usd_per_second=0.1, quantum_seconds=0.1, grace_seconds=0.05)
    assert [attempt.outcome for attempt in store.attempts(sweep)] == ["interrupted"]
    assert store.ledger.leases(sweep, open_only=True) == []


def test_a_late_word_about_a_lease_that_is_gone_changes_nothing(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 1))
        await queue.register("old", 0)
        lost = await take(queue, "old")
        await queue.register("new", 0)
        assert not await queue.report(lost.lease, 1, {"f1_macro": 0.7})
        await queue.finished(lost.lease, SegmentResult(1, {"f1_macro": 0.7}))
        await run_to_rung(queue, "new")
        assert (await asked)[0].metrics == {"f1_macro": 0.1}

    with_queue(store, sweep, scenario)
    assert [row.metrics["f1_macro"] for row in store.results(sweep)] == [0.1]


def test_nothing_is_granted_after_the_end_and_workers_are_sent_home(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        await queue.end("stopped", "a stop was asked for")
        outcomes = await queue.run_segments([job()], 1)
        assert outcomes == [Outcome("stopped", error="a stop was asked for")]
        await queue.close()
        assert isinstance(await queue.lease("w0"), PoolClosed)

    with_queue(store, sweep, scenario)


def test_a_lease_that_ran_out_is_settled_and_taken_anew(store: RecordStore) -> None:
    sweep = new_sweep(store)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], 1))
        segment = await take(queue)
        await asyncio.sleep(0.15)  # the worker starved: quantum and grace are over
        assert await queue.renew(segment.lease)
        await queue.finished(segment.lease, SegmentResult(1, {"f1_macro": 0.5}))
        assert (await asked)[0].state == "done"

    with_queue(store, sweep, scenario, usd_per_second=1.0, quantum_seconds=0.05, grace_seconds=0.05)
    leases = store.ledger.leases(sweep)
    assert len(leases) == 2
    assert all(lease.settled_at is not None for lease in leases)
    spent = store.ledger.totals(sweep)["spent"].usd
    assert spent is not None
    assert 0.15 <= spent < 1.0
