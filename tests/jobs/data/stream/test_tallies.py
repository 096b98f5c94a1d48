"""What a process counts of its data: once each, by what it was, from a real S3 server that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from duchenne_jobs.data import Dataset, DatasetError, tallies
from duchenne_jobs.data.stream import FaceStream
from duchenne_jobs.data.tallies import Tallies

FACES = 234
Open = Callable[..., Dataset]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Tallies:
    """Those of a process that has just begun."""
    fresh = Tallies()
    monkeypatch.setattr(tallies, "HERE", fresh)
    return fresh


def epoch(dataset: Dataset) -> int:
    return sum(len(batch.rows) for batch in FaceStream(dataset, cache="bytes"))


def errors(here: Tallies) -> dict[str, float]:
    kinds = ("s3_denied", "s3_server", "s3_connection", "s3_other")
    return {name: value for name, value in here.read().items() if name in kinds and value}


def test_faces_and_waits_are_counted_by_the_batch(jpegs: Dataset, here: Tallies) -> None:
    began = time.perf_counter()
    assert epoch(jpegs) == FACES
    counted = here.read()
    assert counted["images"] == FACES
    assert 0 < counted["wait_seconds"] <= time.perf_counter() - began
    assert counted["s3_attempts"] == counted["cache_misses"] == 0, "a dataset on a disk needs neither"


def test_a_cold_epoch_misses_each_shard_once_and_a_warm_one_hits(remote: Open, here: Tallies) -> None:
    dataset = remote()
    shards = len(dataset.manifest.shards)
    epoch(dataset)
    cold = here.read()
    assert (cold["cache_misses"], cold["s3_attempts"]) == (shards, shards)
    epoch(dataset)
    warm = here.read()
    assert (warm["cache_misses"], warm["s3_attempts"]) == (shards, shards)
    assert warm["cache_hits"] >= cold["cache_hits"] + shards
    assert errors(here) == {}


@pytest.mark.parametrize(("kind", "name"), [("503", "s3_server"), ("403", "s3_denied"), ("cut", "s3_connection")])
def test_errors_are_counted_by_kind_each_once(remote: Open, proxy: Any, here: Tallies, kind: str, name: str) -> None:
    dataset = remote()
    proxy.fail(kind, times=3, amount=1000)
    epoch(dataset)
    assert errors(here) == {name: 3}
    assert here.read()["s3_attempts"] == len(dataset.manifest.shards) + 3


def test_a_missing_object_is_no_error_of_s3(remote: Open, proxy: Any, here: Tallies) -> None:
    dataset = remote()
    proxy.fail("404", times=100)
    with pytest.raises(DatasetError, match="is missing"):
        epoch(dataset)
    assert errors(here) == {}


def test_a_stall_is_a_wait_of_more_than_a_second() -> None:
    counts = Tallies()
    counts.batch(8, 0.9)
    counts.batch(8, 1.1)
    assert (counts.read()["images"], counts.read()["stalls"]) == (16, 1)
    assert counts.read()["wait_seconds"] == pytest.approx(2.0)


def test_a_count_costs_no_more_than_a_few_microseconds() -> None:
    counts = Tallies()
    began = time.process_time()
    for _ in range(10_000):
        counts.batch(64, 0.001)
    assert (time.process_time() - began) / 10_000 < 20e-6, "beside 64 x 300 microseconds of decoding"
