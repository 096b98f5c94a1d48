"""Scratch folders for files on their way to their place, and the removal of those that killed processes left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from duchenne_jobs.data.errors import DatasetError


@contextmanager
def staging_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder `parent/PREFIXxxxx`, gone at the end of the block; on the disk of `parent`, for atomic renames.

    Its maker holds a lock on it. A folder of the same prefix that nobody holds belongs to a process that was killed,
    and is removed here: a retry after a crash doesn't leave the disk fuller than before.

    Raises:
        OSError: `parent` can't be made or written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, prefix)
    folder, handle = _make_locked(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make_locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        handle = _lock(folder)
        # Between mkdtemp and the lock another process may have taken the folder for an abandoned one.
        if handle is not None and folder.exists():
            return folder, handle
        if handle is not None:
            os.close(handle)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for folder in parent.iterdir():
        mine = folder.name.startswith(prefix) and folder.is_dir() and not folder.is_symlink()
        handle = _lock(folder) if mine else None
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A handle that holds the folder's lock until it is closed, or None: someone else holds it, or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def kept_folder(folder: Path) -> Iterator[Path]:
    """`folder`, made if need be, ours alone for the block; gone at its end, and kept when the block fails or is killed.

    Raises:
        DatasetError: another process is at work in it.
        OSError: it can't be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = _lock(folder)
    if handle is None:
        raise DatasetError(f"another process is at work in {folder}; wait for it, or stop it first")
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    finally:
        os.close(handle)
