"""Shards over HTTP from a real S3 server that misbehaves: a right result or a clear message, never a gap."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import botocore.session
import numpy as np
import pytest
import torch

from duchenne_jobs.data import Dataset, DatasetError, DatasetWriter, open_dataset, s3
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.s3 import Patience, TransferTimeoutError, Upload, download
from duchenne_jobs.data.stream import FaceStream
from duchenne_jobs.training.faces import FaceStore

FACES = 234
HURRIED = Patience(deadline=60, stall=20, first_wait=0.02, longest_wait=0.1)
Open = Callable[..., Dataset]


def streamed(dataset: Dataset, **options: Any) -> list[int]:
    return sorted(row for batch in FaceStream(dataset, cache="bytes", **options) for row in batch.rows.tolist())


@pytest.fixture
def expected(jpegs: Dataset) -> list[int]:
    return streamed(jpegs)


def test_the_same_rows_give_the_same_dataset_on_a_disk_and_in_a_bucket(
    jpegs: Dataset, remote: Open, proxy: Any
) -> None:
    dataset = remote()
    assert dataset.digest == jpegs.digest
    assert streamed(dataset) == streamed(jpegs)
    assert proxy.count("GET") == len(dataset.manifest.shards), "one GET a shard"
    assert proxy.count("HEAD") == 0
    assert streamed(remote()) == streamed(jpegs)
    assert proxy.count("GET") == len(dataset.manifest.shards), "and none when it is warm"


@pytest.mark.parametrize("kind", ["503", "403"])
def test_a_storm_passes(remote: Open, proxy: Any, expected: list[int], kind: str) -> None:
    proxy.fail(kind, times=4)
    assert streamed(remote()) == expected


def test_a_door_that_stays_shut_is_reported_soon(remote: Open, proxy: Any) -> None:
    proxy.fail("403", times=10**6)
    began = time.monotonic()
    with pytest.raises(DatasetError, match=r"cannot download s3://.*AccessDenied.*check .* the credentials") as caught:
        streamed(remote())
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


def test_a_storm_without_end_meets_the_deadline(remote: Open, proxy: Any) -> None:
    proxy.fail("503", times=10**6)
    with pytest.raises(DatasetError, match=r"cannot download s3://.*SlowDown"):
        streamed(remote(patience=Patience(deadline=1, stall=1, first_wait=0.02, longest_wait=0.1)))


def test_a_cut_connection_goes_on_where_it_broke(remote: Open, proxy: Any, expected: list[int]) -> None:
    dataset = remote()
    proxy.fail("cut", amount=300_000, times=3)
    assert streamed(dataset) == expected
    assert proxy.count("GET") <= len(dataset.manifest.shards) + 3


def test_damage_on_the_wire_is_noticed_and_asked_for_again(remote: Open, proxy: Any, expected: list[int]) -> None:
    proxy.fail("flip")
    assert streamed(remote()) == expected
    proxy.fail("flip", times=2)
    with pytest.raises(DatasetError, match="is damaged: expected sha256:"):
        remote().verify()


def test_a_vanished_key_is_named(remote: Open, proxy: Any) -> None:
    proxy.fail("404", path="shard-00001", times=10**6)
    with pytest.raises(DatasetError, match=r"shard-00001\.arrow is missing, but the manifest lists it; restore"):
        streamed(remote())
    assert proxy.count("GET", "shard-00001") == 1


def test_reads_slower_than_the_deadline_end_with_it(remote: Open, proxy: Any) -> None:
    proxy.fail("slow", amount=20_000, times=10**6)
    began = time.monotonic()
    with pytest.raises(DatasetError, match=r"bytes came in 1.5 s, and that is the deadline"):
        streamed(remote(patience=Patience(deadline=1.5, stall=1, first_wait=0.02, longest_wait=0.1)))
    assert time.monotonic() - began < 6


def test_a_stream_that_is_left_does_not_wait_for_its_shards(remote: Open, proxy: Any) -> None:
    proxy.fail("slow", path="shard-00002", amount=20_000, times=10**6)
    proxy.fail("slow", path="shard-00003", amount=20_000, times=10**6)
    iterator = iter(FaceStream(remote(), cache="bytes", window=None, batch_size=8))
    next(iterator)
    began = time.monotonic()
    iterator.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 2


def test_keys_that_expired_are_read_again(
    remote: Open, proxy: Any, monkeypatch: pytest.MonkeyPatch, expected: list[int]
) -> None:
    dataset = remote()
    first = s3._client(HURRIED.stall)
    assert s3._client(HURRIED.stall) is first
    proxy.fail("403")
    assert streamed(dataset) == expected
    renewed = s3._client(HURRIED.stall)
    assert renewed is not first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert s3._client(HURRIED.stall) is not renewed


def fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(4096))
            except OSError:
                return


def test_a_full_disk_makes_room_and_then_says_so(remote: Open, small_disk: Path) -> None:
    dataset = remote(small_disk / "cache")
    sizes = [shard.bytes for shard in dataset.manifest.shards]
    assert max(sizes) < 1500 * 1024 < sum(sizes[:2])
    for shard in dataset.manifest.shards:
        assert dataset.cache.fetch(dataset.location, shard).stat().st_size == shard.bytes
    for path in (small_disk / "cache").iterdir():
        path.unlink()
    fill_up(small_disk / "filler")
    with pytest.raises(DatasetError, match=r"cannot download s3://.*No space left on device; free some space"):
        streamed(dataset)


def test_a_cache_smaller_than_the_dataset_stays_within_its_limit(
    remote: Open, tmp_path: Path, expected: list[int]
) -> None:
    limit = 3_000_000
    dataset = remote(tmp_path / "cache", max_bytes=limit)
    assert sum(shard.bytes for shard in dataset.manifest.shards) > limit
    for _ in range(2):
        assert streamed(dataset) == expected
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= limit


FILL = """
import sys
from pathlib import Path
from duchenne_jobs.data import open_dataset
from duchenne_jobs.data.cache import ShardCache
dataset = open_dataset(sys.argv[1], cache=ShardCache(Path(sys.argv[2])))
print(dataset.rows(["frame"])["frame"].to_pylist())
"""


def test_two_processes_fill_one_cache(
    remote: Open, proxy: Any, tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    dataset = remote()
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: run_python(FILL, dataset.uri, str(tmp_path / "shared")), range(2)))
    assert [run.stdout.strip() for run in runs] == [str(list(range(240)))] * 2, runs[0].stderr + runs[1].stderr
    shards = dataset.manifest.shards
    assert proxy.count("GET") == len(shards), "each shard was fetched once for both"
    assert len(list((tmp_path / "shared").iterdir())) == len(shards), "no lock or half of a file stays behind"


def test_training_keeps_pixels_of_a_bucket_for_its_later_epochs(remote: Open, jpegs: Dataset, tmp_path: Path) -> None:
    rows = np.flatnonzero(FaceStore(jpegs).has_face)
    plain = FaceStore(jpegs, size=(64, 48), decoded_bytes=0).batch(rows)
    for _ in range(2):
        kept = FaceStore(remote(tmp_path / "cache"), size=(64, 48), kept="decoded").batch(rows)
        assert torch.equal(kept.require("images"), plain.require("images"))
    shards = len(jpegs.manifest.shards)
    assert len(list((tmp_path / "cache").glob("*-64x48.arrow"))) == shards
    assert len(list((tmp_path / "cache").iterdir())) == 2 * shards


def test_a_lock_whose_holder_died_holds_nobody_up(remote: Open, tmp_path: Path, expected: list[int]) -> None:
    dataset = remote()
    (tmp_path / "cache").mkdir()
    for shard in dataset.manifest.shards:
        (tmp_path / "cache" / f".{shard.sha256.removeprefix('sha256:')}.arrow.lock").touch()
    assert streamed(dataset) == expected


@pytest.fixture
def large(bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes]:
    """(bucket, bytes that fill three parts of an upload), with the smallest parts that S3 takes."""
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 2**20)
    return bucket.removeprefix("s3://"), os.urandom(10 * 2**20 + 1000)


def test_parts_go_up_again_where_they_failed(large: tuple[str, bytes], proxy: Any, tmp_path: Path) -> None:
    bucket, data = large
    proxy.fail("503", method="PUT", path="partNumber", times=2)
    proxy.fail("503", method="POST", path="large", times=2)
    with Upload(bucket, "large", patience=HURRIED) as upload:
        for start in range(0, len(data), 2**20):
            upload.write(data[start : start + 2**20])
    assert (upload.tell(), upload.hexdigest()) == (len(data), hashlib.sha256(data).hexdigest())
    assert proxy.count("PUT", "partNumber") == 3 + 2
    assert download(bucket, "large", tmp_path / "back", HURRIED) == upload.hexdigest()
    assert (tmp_path / "back").read_bytes() == data


def test_an_upload_that_fails_leaves_nothing(large: tuple[str, bytes], proxy: Any) -> None:
    bucket, data = large
    client = botocore.session.Session().create_client("s3")

    def half() -> None:
        with Upload(bucket, "large", patience=HURRIED) as upload:
            upload.write(data)
            raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        half()
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_writer_that_fails_leaves_no_manifest_and_no_shard(
    bucket: str, proxy: Any, jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.fail("404", method="PUT", path="shard-00001", times=10**6)
    with (
        pytest.raises(DatasetError, match=r"cannot write s3://.*shard-00001\.arrow.*as told"),
        DatasetWriter(f"{bucket}/jpegs", jpegs.manifest, shard_bytes=500_000) as writer,
    ):
        writer.write_rows(rows_of_jpegs)
    proxy.faults.clear()
    with pytest.raises(DatasetError, match="no dataset at s3://"):
        open_dataset(f"{bucket}/jpegs")
    assert "manifest.json" not in " ".join(path for method, path in proxy.seen if method == "PUT")


def test_the_manifest_is_put_last(bucket: str, proxy: Any, jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]]) -> None:
    proxy.fail("503", method="PUT", times=1)
    with DatasetWriter(f"{bucket}/jpegs", jpegs.manifest, shard_bytes=500_000) as writer:
        writer.write_rows(rows_of_jpegs)
    put = [path for method, path in proxy.seen if method == "PUT" and "jpegs" in path]
    assert put[-1].partition("?")[0].endswith("/manifest.json")
    assert sum("manifest.json" in path for path in put) == 1
    open_dataset(f"{bucket}/jpegs", cache=ShardCache()).verify()


def test_a_download_knows_its_deadline_by_itself(large: tuple[str, bytes], proxy: Any, tmp_path: Path) -> None:
    bucket, _ = large
    botocore.session.Session().create_client("s3").put_object(Bucket=bucket, Key="slow", Body=bytes(10**6))
    proxy.fail("slow", path="slow", amount=50_000)
    with pytest.raises(TransferTimeoutError, match="that is the deadline"):
        download(bucket, "slow", tmp_path / "slow", Patience(deadline=0.5))
