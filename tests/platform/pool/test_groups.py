"""Groups of ranks that share a lease, what ends a segment beside its worker's word, and whose fault it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duchenne.clusters.local import CPUS_VARIABLE, Machine, TooSmall, pool_faults
from duchenne.pool.messages import Outcome, PoolOptions, Segment
from duchenne.pool.queue import JobQueue
from duchenne.pool.worker import LeaseContext
from duchenne.records import Amounts, NewSweep, RecordStore, open_home
from duchenne.spec.loading import load_sweep_text
from duchenne_jobs.config import RunConfig, TrainingConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, JobStopped

EPOCHS = 4
Scenario = Callable[[JobQueue], Awaitable[None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


@pytest.fixture
def sweep(store: RecordStore) -> str:
    new = NewSweep(
        name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="", budget=Amounts(usd=100.0)
    )
    return store.create_sweep(new).id


def job(fold: int = 0) -> FoldJob:
    config = RunConfig(training=TrainingConfig(epochs=EPOCHS))
    key = JobKey(0, "search", "monet", fold, 0, 0)
    return FoldJob(key, config, "nowhere", "sha256:0", FoldsRequest(2, 2, 0), "", EPOCHS)


def play(store: RecordStore, sweep: str, scenario: Scenario, **changes: Any) -> None:
    options = PoolOptions(
        **{"workers": 4, "cpus": 1.0, "gpus": 0.5, "usd_per_second": 0.01, "workers_per_fold": 2, **changes}
    )

    async def run() -> None:
        queue = JobQueue(sweep, store.address, str(store.home), options, None)
        for rank in range(options.workers):
            await queue.register(f"w{rank}", rank)
        await asyncio.wait_for(scenario(queue), timeout=20)

    asyncio.run(run())


async def take(queue: JobQueue, worker: str) -> Segment:
    work = await queue.lease(worker)
    assert isinstance(work, Segment)
    return work


def test_a_lease_holds_and_pays_for_all_workers_of_its_group(store: RecordStore, sweep: str) -> None:
    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        await take(queue, "w2")
        held = store.ledger.totals(sweep)["reserved"]
        assert held.usd == pytest.approx(2 * 0.01 * 15)
        assert held.gpu_seconds == pytest.approx(2 * 0.5 * 15)
        measures = await queue.measures()
        assert (measures.warm, measures.busy) == (4, 2)
        asked.cancel()

    play(store, sweep, scenario)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_dead_rank_returns_what_its_group_holds_and_no_other(store: RecordStore, sweep: str, rank: int) -> None:
    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job(0), job(1)], EPOCHS))
        other, mine = await take(queue, "w0"), await take(queue, "w2")
        await queue.rank_died(rank, "its worker died: of boredom")
        assert await queue.renew(other.lease)
        assert not await queue.renew(mine.lease)
        assert (await take(queue, "w2")).job == mine.job
        asked.cancel()

    play(store, sweep, scenario)
    assert [attempt.outcome for attempt in store.attempts(sweep)].count("interrupted") == 1


def test_evictions_and_failures_of_a_job_are_counted_apart(store: RecordStore, sweep: str) -> None:
    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        for _ in range(4):
            await take(queue, "w0")
            await queue.rank_died(1, "its node died", is_node_gone=True)
        for _ in range(2):
            segment = await take(queue, "w0")
            await queue.failed(segment.lease, "OSError: no mount", final=False)
        (outcome,) = await asked
        assert outcome.state == "failed"
        assert outcome.error is not None
        assert outcome.error.endswith("OSError: no mount (2 times)")
        measures = await queue.measures()
        assert (measures.retries["eviction"], measures.retries["code"]) == (4, 1)

    play(store, sweep, scenario, max_deaths=2)


def test_a_job_whose_renewal_was_not_answered_is_queued_again(store: RecordStore, sweep: str) -> None:
    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        segment = await take(queue, "w0")
        await queue.stopped(segment.lease, unanswered=True)
        assert (await take(queue, "w2")).job == segment.job
        asked.cancel()

    play(store, sweep, scenario)


def test_a_forced_stop_waits_for_no_worker(store: RecordStore, sweep: str) -> None:
    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        segment = await take(queue, "w0")
        await queue.force()  # nothing has ended yet: a stray call changes nothing
        assert await queue.renew(segment.lease)
        await queue.end("stopped", "a stop was asked for")
        await asyncio.sleep(0)
        assert not asked.done()  # graceful: the worker may save first
        await queue.force()
        assert await asked == [Outcome("stopped", error="a stop was asked for")]
        await queue.stopped(segment.lease)  # too late, and harmless

    play(store, sweep, scenario)
    assert [attempt.outcome for attempt in store.attempts(sweep)] == ["interrupted"]
    assert store.ledger.totals(sweep)["reserved"].gpu_seconds == 0


def test_a_lease_that_nobody_renews_stops_its_job_by_the_workers_own_clock() -> None:
    now = 0.0
    context = LeaseContext(None, Segment(1, job(), EPOCHS, 1, quantum_seconds=10.0), clock=lambda: now)
    now = 9.9
    context.tick()
    assert not context.is_unanswered
    now = 10.0
    with pytest.raises(JobStopped):
        context.tick()
    assert context.is_unanswered


def test_workers_per_fold_above_the_pool_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine(cpus=5, gpus=0).fold_groups(1, 0, 2) == 2
    with pytest.raises(TooSmall, match=r"^folds\.workers_per_fold: .* room for 2 of 2 CPU and 0 GPU, but got 3; lower"):
        Machine(cpus=5, gpus=0).fold_groups(2, 0, 3)
    text = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: s, team: t}
data: {uri: "builtin://toy"}
search: {space: {training.learning_rate: {grid: [0.1]}}, algorithm: grid}
folds: {workers_per_fold: 3}
budget: {usd: 1}
prices: {cpu_hour_usd: 1}
"""
    monkeypatch.setenv(CPUS_VARIABLE, "2")
    (fault,) = pool_faults(load_sweep_text(text))
    assert fault.located.startswith("folds.workers_per_fold: ")
    assert ", got 3, " in fault.text
    monkeypatch.setenv(CPUS_VARIABLE, "3")
    assert pool_faults(load_sweep_text(text)) == []
