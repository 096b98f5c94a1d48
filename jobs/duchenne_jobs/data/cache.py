"""Local copies of remote shards: downloaded whole, checked, renamed into place, the longest unused dropped first."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from duchenne_jobs.data import tallies
from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import SHARD_SUFFIX, Shard
from duchenne_jobs.data.s3 import Patience
from duchenne_jobs.data.staging import staging_folder
from duchenne_jobs.data.storage import Location

Kept: TypeAlias = Literal["encoded", "decoded"]
DEFAULT_CACHE_BYTES = 20 * 10**9
# For a file that another process is making: longer than its own deadline.
WAIT_SECONDS = 400.0
_POLL_SECONDS = 0.05
ARRIVALS = 2  # a shard that came damaged is asked for once more: the wire may be to blame
_FULL = (errno.ENOSPC, errno.EDQUOT)


def default_cache_folder() -> Path:
    """`$DUCHENNE_CACHE`, else `duchenne` in the user's cache folder."""
    given = os.environ.get("DUCHENNE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duchenne"


@dataclass(frozen=True)
class ShardCache:
    """One folder of shards named by their SHA-256, shared by every dataset and process of a machine.

    Processes share it through files alone: whoever holds the lock beside a name makes that file, the others wait for it
    and find it; a process that dies lets go of its lock. It holds at most `max_bytes`, and always the file in use:
    readers keep a memory-mapped file alive after it was dropped, so dropping is safe at any time.
    """

    folder: Path = field(default_factory=default_cache_folder)
    max_bytes: int = DEFAULT_CACHE_BYTES
    patience: Patience = field(default_factory=Patience)

    def fetch(self, location: Location, shard: Shard, *, fresh: bool = False) -> Path:
        """Local copy of a remote shard, downloaded unless it is here already (or `fresh`).

        Raises:
            DatasetError: the shard is missing, unreadable, or not what the manifest says; or the disk is full.
        """

        def fill(partial: Path) -> None:
            for _ in range(ARRIVALS):
                try:
                    if location.download(shard.path, partial, self.patience) == shard.sha256:
                        return
                except FileNotFoundError:
                    partial.unlink(missing_ok=True)
                    break
            check_file(partial, location.shown(shard.path), shard)  # says what is wrong

        with location.explained("download", shard.path):
            return self.keep(f"{_hex(shard)}{SHARD_SUFFIX}", shard.bytes, fill, fresh=fresh)

    def holds(self, shard: Shard) -> bool:
        """Whether a remote shard is here now."""
        return (self.folder / f"{_hex(shard)}{SHARD_SUFFIX}").exists()

    def keep(self, name: str, size: int, fill: Callable[[Path], None], *, fresh: bool = False) -> Path:
        """The file `name`, made by `fill(path)` unless it is here already (or `fresh`).

        Args:
            name: begins with the SHA-256 (hex) of the shard whose rows it holds, so that `data forget` finds it, and
                ends in `.arrow`.
            size: bytes that it will have, about: room is made first.

        Raises:
            DatasetError: another process has been making it for longer than WAIT_SECONDS.
            OSError: the disk is full although everything else was dropped; or what `fill` raises.
        """
        target = self.folder / name
        if not fresh and _touch(target):
            tallies.HERE.add("cache_hits")
            return target
        tallies.HERE.add("cache_misses")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._sole_maker(name):
            if not fresh and _touch(target):
                return target
            self._drop_oldest(keep=target, room=size)
            try:
                self._make(target, fill)
            except OSError as error:
                if error.errno not in _FULL or not self._drop_bytes(size, keep=target):
                    raise
                self._make(target, fill)
        self._drop_oldest(keep=target)
        return target

    def _make(self, target: Path, fill: Callable[[Path], None]) -> None:
        with staging_folder(self.folder, ".download-") as folder:
            partial = folder / target.name
            fill(partial)
            partial.replace(target)

    @contextmanager
    def _sole_maker(self, name: str) -> Iterator[None]:
        """Hold the lock of one name. Its file goes with it, so a lock on a file that is gone holds nothing."""
        path = self.folder / f".{name}.lock"
        end = time.monotonic() + WAIT_SECONDS
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(handle, path):
                    break
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(handle)
                    raise DatasetError(
                        f"another process has been making {self.folder / name} for more than {WAIT_SECONDS:g} s; "
                        "stop it, or choose another cache folder"
                    ) from None
            os.close(handle)
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    def _drop_oldest(self, keep: Path, room: int = 0) -> None:
        """Drop what was unused longest until all files but `keep` leave `room` bytes of the limit."""
        entries = self._entries()
        total = sum(size for _, size, _ in entries) + room
        for _, size, path in entries:
            if total <= self.max_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size

    def _drop_bytes(self, wanted: int, keep: Path) -> bool:
        """Drop what was unused longest until `wanted` bytes came free; whether any did."""
        freed = 0
        for _, size, path in self._entries():
            if freed >= wanted:
                break
            if path != keep:
                path.unlink(missing_ok=True)
                freed += size
        return freed > 0

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of each file, the longest unused first."""
        entries = []
        for path in self.folder.glob(f"*{SHARD_SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process dropped it
                continue
            entries.append((status.st_mtime, status.st_size, path))
        return sorted(entries)


@dataclass(frozen=True)
class CacheChoice:
    """What a sweep's `data` section says of the cache of each machine that its fold jobs run on.

    Attributes:
        kept: `encoded`: shards as they are; `decoded`: the pixels of their faces as well, at the size of training.
        folder: None: `default_cache_folder()` of the machine.
        max_bytes: of everything in that folder.
    """

    kept: Kept = "encoded"
    folder: str | None = None
    max_bytes: int = DEFAULT_CACHE_BYTES

    def opened(self) -> ShardCache:
        """The cache itself, on this machine."""
        folder = default_cache_folder() if self.folder is None else Path(self.folder).expanduser()
        return ShardCache(folder, self.max_bytes)


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


def _hex(shard: Shard) -> str:
    return shard.sha256.removeprefix("sha256:")


def _touch(file: Path) -> bool:
    """Mark a file as used now; whether it is there."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
