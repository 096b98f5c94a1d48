"""Rewrites a dataset without one subject, so that nothing of them stays in it or in this machine's caches."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.dataset import Dataset, Progress, open_dataset
from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.ingesters.run import parts_folder
from duchenne_jobs.data.manifest import MANIFEST_NAME, SHARD_SUFFIX, Event, Manifest, Shard, complete_manifest
from duchenne_jobs.data.staging import kept_folder
from duchenne_jobs.data.storage import WORKSPACE_PREFIX, Location

_LOCK = f"{WORKSPACE_PREFIX}forget"
_SHARD_PREFIX = "shard-"


@dataclass(frozen=True)
class Forgotten:
    """What `forget_subject` did.

    Attributes:
        rows: rows that went; 0 where an earlier run had removed them and this one cleaned up after it.
        previous_digests: every digest that the dataset had before a subject was forgotten, the oldest first.
        purged: files that were removed from caches of this machine.
    """

    uri: str
    rows: int
    digest: str
    previous_digests: tuple[str, ...]
    purged: int


def forget_subject(uri: str | Path, subject: str, progress: Progress | None = None) -> Forgotten:
    """Remove every row of `subject` from the dataset at `uri`.

    Shards that hold the subject are written again under new names; then the new manifest takes the place of the old in
    one step; then copies in the cache go, and the old shards. Until that step the old dataset is whole, after it
    the new one. A run that was killed is finished by the next one. On a bucket, run one at a time.

    Args:
        progress: called with (bytes read, bytes to read).

    Raises:
        DatasetError: no such subject, nobody would be left, a shard is damaged, or the disk is full.
    """
    dataset = open_dataset(uri)
    with ExitStack() as stack:
        if dataset.location.local:
            with dataset.location.explained("write", ""):
                stack.enter_context(kept_folder(Path(dataset.location.root) / _LOCK))
            dataset = open_dataset(uri)  # as it is now that nobody else changes it
        swept = _sweep(dataset)
        if subject not in dataset.subjects:
            if not swept:
                raise DatasetError(f"{dataset.uri} has no subject {subject!r}; it has {len(dataset.subjects)} others")
            return Forgotten(dataset.uri, 0, dataset.digest, _previous(dataset.manifest), _purge(dataset.cache, swept))
        if dataset.subjects == (subject,):
            raise DatasetError(
                f"{dataset.uri} holds {subject!r} alone, and a dataset needs a row; remove the whole folder instead"
            )
        manifest, stale = _rewrite(dataset, subject, progress)
        marks = [digest.removeprefix("sha256:") for digest in (dataset.digest, *(shard.sha256 for shard in stale))]
        purged = _purge(dataset.cache, marks) + _purge_crops(dataset.location)
        for shard in stale:  # last: while one is there, the next run knows that this one did not end
            dataset.location.remove(shard.path)
    rows = dataset.row_count - manifest.row_count
    return Forgotten(dataset.uri, rows, manifest.digest, _previous(manifest), purged)


def _rewrite(dataset: Dataset, subject: str, progress: Progress | None) -> tuple[Manifest, list[Shard]]:
    """The new manifest, in place, and the shards that it no longer lists."""
    old = dataset.manifest
    stale = [shard for shard in old.shards if subject in shard.subjects]
    total, done, rows = sum(shard.bytes for shard in stale), 0, 0
    shards: list[Shard] = []
    with dataset.location.workspace(beside=True) as workspace:
        for shard in old.shards:
            if shard not in stale:
                shards.append(shard)
                continue
            table = dataset.shard_rows(shard)
            kept = table.filter(pc.not_equal(table["subject"], subject))
            rows += table.num_rows - kept.num_rows
            if kept.num_rows:
                shards.append(_put(dataset, workspace, _new_name(shard.path, len(old.events) + 1), kept))
            done += shard.bytes
            if progress is not None:
                progress(done, total)
        event = Event(
            what="forgot a subject",
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            rows=rows,
            previous_digest=old.digest,
        )
        manifest = complete_manifest(old.model_copy(update={"events": (*old.events, event)}), shards)
        file = workspace / MANIFEST_NAME
        with dataset.location.explained("write", MANIFEST_NAME):
            file.write_text(manifest.to_json(), encoding="utf-8")
            _sync(file)
        dataset.location.put(file, MANIFEST_NAME)
    return manifest, stale


def _put(dataset: Dataset, workspace: Path, name: str, table: Any) -> Shard:
    file = workspace / name
    with dataset.location.explained("write", name):
        with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as sink:
            for batch in table.to_batches():
                if batch.num_rows:
                    sink.write_batch(batch)
        _sync(file)
    shard = Shard(
        path=name,
        rows=table.num_rows,
        bytes=file.stat().st_size,
        sha256=file_digest(file),
        subjects=tuple(sorted(table["subject"].unique().to_pylist())),
    )
    dataset.location.put(file, name)
    return shard


def _new_name(path: str, generation: int) -> str:
    """`shard-00003-g2.arrow` for the second rewriting: never the name of a shard that the old manifest lists."""
    return f"{path.removesuffix(SHARD_SUFFIX).partition('-g')[0]}-g{generation}{SHARD_SUFFIX}"


def _sweep(dataset: Dataset) -> list[str]:
    """Remove shards that no manifest lists: an earlier run, killed on its way, left them. Their checksums."""
    listed = {shard.path for shard in dataset.manifest.shards}
    checksums = []
    for name in dataset.location.names():
        if name.startswith(_SHARD_PREFIX) and name.endswith(SHARD_SUFFIX) and name not in listed:
            data = dataset.location.read(name)
            checksums.append(hashlib.sha256(data or b"").hexdigest())
            dataset.location.remove(name)
    return checksums


def _purge(cache: ShardCache, marks: Iterable[str]) -> int:
    """Remove what this machine's cache holds under one of these digests (hex); how many files or folders."""
    wanted = tuple(marks)
    if not cache.folder.is_dir():
        return 0
    found = [path for path in cache.folder.iterdir() if any(mark in path.name for mark in wanted)]
    for path in found:
        _remove(path)
    return len(found)


def _purge_crops(location: Location) -> int:
    """Remove the crops that an ingest which failed had kept for its next run; how many sequences."""
    folder = parts_folder(location)
    if not folder.is_dir():
        return 0
    with kept_folder(folder):  # refuses while an ingest is at work in it
        return sum(1 for _ in folder.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _previous(manifest: Manifest) -> tuple[str, ...]:
    return tuple(event.previous_digest for event in manifest.events)


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
