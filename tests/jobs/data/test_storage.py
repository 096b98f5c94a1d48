"""Datasets behind a remote file system: fsspec's own in-process one, through the same code as S3."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
import pytest

from duchenne_jobs.data import Dataset, DatasetError, DatasetWriter, ingest, open_dataset
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.manifest import MANIFEST_NAME


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache")


@pytest.fixture
def remote(faces: Dataset, cache: ShardCache) -> Dataset:
    """The faces again, at a fresh prefix of the in-process file system."""
    uri = f"memory://bucket-{uuid.uuid4()}/faces"
    with DatasetWriter(uri, faces.manifest, shard_bytes=2_000_000) as writer:
        writer.write(faces.rows())
    return open_dataset(uri, cache=cache)


def test_a_remote_dataset_is_the_local_one(faces: Dataset, remote: Dataset, cache: ShardCache) -> None:
    assert remote.digest == faces.digest
    assert remote.rows(["subject", "frame"], ["S0"]).equals(faces.rows(["subject", "frame"], ["S0"]))
    held = [shard for shard in remote.manifest.shards if "S0" in shard.subjects]
    assert len(list(cache.folder.glob("*.arrow"))) == len(held) < len(remote.manifest.shards)
    remote.verify()
    assert remote.rows().equals(faces.rows())


def test_a_cached_shard_needs_no_remote(faces: Dataset, remote: Dataset) -> None:
    remote.rows()
    for shard in remote.manifest.shards:
        remote.location.remove(shard.path)
    assert remote.rows().equals(faces.rows())
    with pytest.raises(DatasetError, match="is missing, but the manifest lists it"):
        remote.verify()


def test_damage_on_the_way_is_noticed(remote: Dataset, cache: ShardCache) -> None:
    shard = remote.manifest.shards[0]
    place = remote.location.child(shard.path)
    data = bytearray(remote.location.filesystem.cat_file(place))
    data[1000] ^= 1
    remote.location.filesystem.pipe_file(place, bytes(data))
    with pytest.raises(DatasetError, match=f"expected {shard.sha256}, saw sha256:"):
        remote.rows()
    assert not list(cache.folder.iterdir())


def test_damage_in_the_cache_is_noticed(remote: Dataset, cache: ShardCache) -> None:
    shard = remote.manifest.shards[0]
    file = cache.fetch(remote.location, shard)
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DatasetError, match="is damaged"):
        remote.rows(["frame"], ["S0"])


def test_the_cache_is_bounded_and_drops_the_longest_unused(remote: Dataset, tmp_path: Path) -> None:
    first, second, third = remote.manifest.shards[:3]
    small = ShardCache(tmp_path / "small", max_bytes=first.bytes + second.bytes)
    for age, shard in ((30, first), (20, second)):
        file = small.fetch(remote.location, shard)
        os.utime(file, (file.stat().st_atime - age, file.stat().st_mtime - age))
    small.fetch(remote.location, first)  # used again: now `second` is the longest unused
    small.fetch(remote.location, third)
    held = {path.stem for path in small.folder.glob("*.arrow")}
    assert held == {shard.sha256.removeprefix("sha256:") for shard in (first, third)}


def test_rows_of_a_dropped_shard_stay_readable(faces: Dataset, remote: Dataset, cache: ShardCache) -> None:
    table = remote.rows()
    for path in cache.folder.glob("*.arrow"):
        path.unlink()
    assert table.equals(faces.rows())


def test_ingest_to_a_remote_place(tmp_path: Path, cache: ShardCache) -> None:
    uri = f"memory://bucket-{uuid.uuid4()}/toy"
    with pytest.raises(DatasetError, match=f"no dataset at {uri}; make one with"):
        open_dataset(uri)
    digest = ingest("toy", None, uri, count=80).digest
    assert digest == ingest("toy", None, tmp_path / "toy", count=80).digest == ingest("toy", None, uri, count=80).digest
    with pytest.raises(DatasetError, match="already holds another dataset"):
        ingest("toy", None, uri, count=81)
    open_dataset(uri, cache=cache).verify()
    fsspec.filesystem("memory").rm_file(f"{uri.removeprefix('memory://')}/{MANIFEST_NAME}")
    with pytest.raises(DatasetError, match=r"no manifest\.json: it is half-written"):
        open_dataset(uri)
    assert ingest("toy", None, uri, count=80).digest == digest
