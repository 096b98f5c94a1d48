"""Local copies of remote shards: downloaded whole, checked, renamed into place, the longest unused dropped first."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import SHARD_SUFFIX, Shard
from duchenne_jobs.data.staging import staging_folder
from duchenne_jobs.data.storage import Location

DEFAULT_CACHE_BYTES = 20 * 10**9


def default_cache_folder() -> Path:
    """`$DUCHENNE_CACHE`, else `duchenne` in the user's cache folder."""
    given = os.environ.get("DUCHENNE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duchenne"


@dataclass(frozen=True)
class ShardCache:
    """One folder of shards named by their SHA-256, shared by every dataset and process of a machine.

    It holds at most `max_bytes`, and always the shard in use: readers keep a memory-mapped file alive after it was
    dropped, so dropping is safe at any time.
    """

    folder: Path = field(default_factory=default_cache_folder)
    max_bytes: int = DEFAULT_CACHE_BYTES

    def fetch(self, location: Location, shard: Shard, *, fresh: bool = False) -> Path:
        """Local copy of a remote shard, downloaded unless it is here already (or `fresh`).

        Raises:
            DatasetError: the shard is missing, unreadable, or not what the manifest says; or the disk is full.
        """
        target = self.folder / f"{shard.sha256.removeprefix('sha256:')}{SHARD_SUFFIX}"
        if target.exists() and not fresh:
            os.utime(target)
            return target
        with ExitStack() as stack:
            with location.explained("download", shard.path):
                partial = stack.enter_context(staging_folder(self.folder, ".download-")) / target.name
                try:
                    location.filesystem.get_file(location.child(shard.path), str(partial))
                except FileNotFoundError:
                    partial.unlink(missing_ok=True)  # check_file names the shard and what to do
            check_file(partial, location.shown(shard.path), shard)
            partial.replace(target)
        self._drop_oldest(keep=target)
        return target

    def _drop_oldest(self, keep: Path) -> None:
        entries = []
        for path in self.folder.glob(f"*{SHARD_SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process dropped it
                continue
            entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size


def check_file(file: Path, shown: str, shard: Shard) -> None:
    """Raise DatasetError unless the file has the bytes that the manifest promises."""
    try:
        size = file.stat().st_size
        seen = file_digest(file) if size == shard.bytes else None
    except FileNotFoundError:
        raise DatasetError(
            f"{shown} is missing, but the manifest lists it; restore it from a copy, or ingest the dataset again"
        ) from None
    except OSError as error:
        raise DatasetError(f"cannot read {shown}: {error.strerror}; check the disk and the permissions") from error
    if seen is None:
        raise DatasetError(
            f"{shown} is damaged: expected {shard.bytes} bytes, saw {size}; "
            "restore it from a copy, or remove the dataset and ingest it again"
        )
    if seen != shard.sha256:
        raise DatasetError(
            f"{shown} is damaged: expected {shard.sha256}, saw {seen}; "
            "restore it from a copy, or remove the dataset and ingest it again"
        )
