"""The driver's metrics over a real queue and real records, without Ray; and the port on which they are scraped."""

from __future__ import annotations

import asyncio
import logging
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ray.exceptions import GetTimeoutError

from duchenne.monitoring.catalogue import METRICS
from duchenne.monitoring.driver import PoolCollector
from duchenne.monitoring.endpoint import (
    HOST_VARIABLE,
    PORT_VARIABLE,
    Address,
    Endpoint,
    driver_endpoint,
    metrics_address,
)
from duchenne.monitoring.errors import MonitoringError
from duchenne.pool.measures import JOB_SECONDS, Durations, Meter, PoolMeasures, TallySender
from duchenne.pool.messages import PoolOptions, Segment
from duchenne.pool.queue import JobQueue
from duchenne.records import Amounts, NewSweep, RecordStore, open_home
from duchenne_jobs.config import RunConfig, TrainingConfig
from duchenne_jobs.data import tallies
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, SegmentResult


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


@dataclass
class Measured:
    """Stands where the driver's pool does: it answers with what the queue said last."""

    workers: int
    answer: PoolMeasures | None = None

    def measures(self, patience: float) -> PoolMeasures:
        if self.answer is None:
            raise GetTimeoutError(f"nothing within {patience} s")
        return self.answer


def measured(store: RecordStore, scenario: Callable[[JobQueue], Awaitable[None]]) -> CollectorRegistry:
    """The metrics after a scenario is played to a queue of two workers with half a GPU each."""
    sweep = store.create_sweep(
        NewSweep(
            name="s",
            team="t",
            board="b",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=Amounts(),
        )
    )
    pool = Measured(workers=2)

    async def play() -> None:
        queue = JobQueue(sweep.id, store.address, str(store.home), PoolOptions(2, 1.0, 0.5), None)
        await asyncio.wait_for(scenario(queue), timeout=20)
        pool.answer = await queue.measures()

    asyncio.run(play())
    registry = CollectorRegistry()
    registry.register(PoolCollector(pool, 0.5, "s", "t"))  # type: ignore[arg-type]
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"duchenne_{name}", {"sweep": "s", "team": "t", **labels})


def job(fold: int = 0, phase: str = "search") -> FoldJob:
    key = JobKey(0, phase, "monet", fold, 0 if phase == "search" else None, 0)  # type: ignore[arg-type]
    config = RunConfig(training=TrainingConfig(epochs=2))
    return FoldJob(key, config, "nowhere", "sha256:0", FoldsRequest(2, 2, 0), "", 2)


async def take(queue: JobQueue, worker: str) -> Segment:
    work = await queue.lease(worker)
    assert isinstance(work, Segment)
    return work


async def nothing(queue: JobQueue) -> None:
    """A queue that has just begun."""


def test_every_metric_is_there_from_the_first_scrape_on_at_zero(store: RecordStore) -> None:
    registry = measured(store, nothing)
    families = {family.name: family for family in registry.collect()}
    assert set(families) == {metric.family for metric in METRICS if metric.source == "driver"}
    for metric in METRICS:
        if metric.kind == "counter" and metric.source == "driver":
            assert all(sample.value == 0 for sample in families[metric.family].samples)
    assert value(registry, "s3_errors_total", kind="denied") == 0
    assert value(registry, "fold_job_retries_total", cause="eviction") == 0
    assert value(registry, "fold_job_duration_seconds_count", phase="search") == 0
    assert value(registry, "pool_workers", state="starting") == 2


def test_queue_workers_and_gpus_are_what_they_are_now(store: RecordStore) -> None:
    async def scenario(queue: JobQueue) -> None:
        await queue.register("w0", 0)
        await queue.register("w1", 1)
        asked = asyncio.ensure_future(queue.run_segments([job(fold) for fold in range(3)], 2))
        await asyncio.sleep(0)
        await take(queue, "w0")
        asked.cancel()

    registry = measured(store, scenario)
    assert [value(registry, "pool_workers", state=state) for state in ("busy", "idle", "starting")] == [1, 1, 0]
    assert [value(registry, "pool_gpus", state=state) for state in ("busy", "idle")] == [0.5, 0.5]
    assert value(registry, "pool_queue_segments", phase="search") == 2
    assert value(registry, "pool_running_segments", phase="search") == 1


def test_a_job_is_timed_once_over_its_rungs_and_its_epochs_are_counted_once(store: RecordStore) -> None:
    async def scenario(queue: JobQueue) -> None:
        for until in (1, 2):
            asked = asyncio.ensure_future(queue.run_segments([job()], until))
            segment = await take(queue, "w0")
            assert await queue.report(segment.lease, until, {"f1_macro": 0.1})
            assert await queue.report(segment.lease, until, {"f1_macro": 0.1})
            await queue.finished(segment.lease, SegmentResult(until, {"f1_macro": 0.1}))
            await asked

    registry = measured(store, scenario)
    assert value(registry, "epochs_total", phase="search") == 2
    assert value(registry, "fold_jobs_ended_total", phase="search", outcome="succeeded") == 1
    assert value(registry, "fold_job_duration_seconds_count", phase="search") == 1
    assert value(registry, "fold_job_duration_seconds_bucket", phase="search", le="+Inf") == 1


def test_retries_are_told_apart_by_whose_fault_they_were(store: RecordStore) -> None:
    async def scenario(queue: JobQueue) -> None:
        await queue.register("w0", 0)
        await queue.register("w1", 1)
        asked = asyncio.ensure_future(queue.run_segments([job(0), job(1)], 2))
        first = await take(queue, "w0")
        await queue.failed(first.lease, "OSError: disk", final=False)
        await take(queue, "w0")
        await take(queue, "w1")
        await queue.rank_died(0, "its node is gone")
        await queue.register("w2", 1)  # the group restarted: the other one's segment goes back too
        broken = await take(queue, "w2")
        await queue.failed(broken.lease, "JobFailed: labels", final=True)  # no retry
        asked.cancel()

    registry = measured(store, scenario)
    causes = [value(registry, "fold_job_retries_total", cause=cause) for cause in ("code", "eviction", "group")]
    assert causes == [1, 1, 1]
    assert value(registry, "fold_jobs_ended_total", phase="search", outcome="failed") == 1


def test_workers_counts_are_summed_and_those_of_the_dead_stay(store: RecordStore) -> None:
    async def scenario(queue: JobQueue) -> None:
        await queue.tell("w0", {"images": 10.0, "s3_denied": 1.0})
        await queue.tell("w0", {"images": 20.0, "s3_denied": 1.0})
        await queue.tell("w1", {"images": 5.0, "cache_hits": 3.0})

    registry = measured(store, scenario)
    assert value(registry, "stream_images_total") == 25
    assert value(registry, "cache_requests_total", result="hit") == 3
    assert value(registry, "s3_errors_total", kind="denied") == 1


def test_a_queue_that_does_not_answer_is_told_not_raised() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector(Measured(workers=2), 0.0, "s", "t"))  # type: ignore[arg-type]
    (family,) = registry.collect()
    assert [(sample.name, sample.value) for sample in family.samples] == [("duchenne_pool_up", 0)]


def test_buckets_hold_their_bounds() -> None:
    durations = Durations()
    for seconds in (0.1, 0.11, 1e9):
        durations.add(seconds)
    assert durations.counts[0] == 1
    assert durations.counts[1] == 1
    assert durations.counts[len(JOB_SECONDS)] == 1


def test_a_meter_knows_every_tally_and_no_other() -> None:
    assert set(Meter().tallies()) == set(tallies.TALLIES) == set(tallies.HERE.read())


class Told:
    """Takes the place of an actor's handle: keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.tell = self

    def remote(self, worker: str, sums: Any) -> None:
        self.calls.append((worker, sums))


def test_a_worker_sends_its_last_word_and_nothing_where_nobody_scrapes() -> None:
    wanted, unwanted = Told(), Told()
    with TallySender(wanted, "w0", wanted=True):
        tallies.HERE.add("images", 7)
    with TallySender(unwanted, "w0", wanted=False) as sender:
        assert sender._thread is None
    ((worker, sums),) = wanted.calls
    assert worker == "w0"
    assert sums == tallies.HERE.read()
    assert unwanted.calls == []


@pytest.mark.parametrize("given", ["", "  "])
def test_nothing_listens_unless_it_is_asked_to(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(PORT_VARIABLE, given)
    assert metrics_address() is None
    with driver_endpoint(None, 0.0, "s", "t") as endpoint:  # type: ignore[arg-type]
        assert endpoint is not None


@pytest.mark.parametrize("given", ["0", "65536", "-1", "9464.5", "http", "٣"])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(PORT_VARIABLE, given)
    with pytest.raises(MonitoringError, match=r"must be a port in 1\.\.65535, but got"):
        metrics_address()


def test_it_listens_on_loopback_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT_VARIABLE, "9464")
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    assert metrics_address() == Address("127.0.0.1", 9464)
    monkeypatch.setenv(HOST_VARIABLE, "0.0.0.0")  # noqa: S104
    assert metrics_address() == Address("0.0.0.0", 9464)  # noqa: S104


def test_a_scrape_is_answered_and_a_taken_port_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    collector = PoolCollector(Measured(workers=1), 0.0, "s", "t")  # type: ignore[arg-type]
    with Endpoint(Address("127.0.0.1", port), collector), Endpoint(Address("127.0.0.1", port), collector):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'duchenne_pool_up{sweep="s",team="t"} 0.0' in text
    assert f"metrics: 127.0.0.1:{port} can't be listened on (Address already in use)" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
