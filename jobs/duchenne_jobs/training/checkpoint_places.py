"""Where the checkpoints of a sweep's fold jobs are kept: a folder, or a prefix of an S3 bucket. Both keep the last two.

What S3 does not answer is asked again for five minutes; only an object that is not there counts as no checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from duchenne_jobs.data.s3 import Patience, copy
from duchenne_jobs.data.storage import Location, encryption_arguments, locate
from duchenne_jobs.training.checkpoint import (
    SUFFIX,
    checkpoint_file,
    first_whole,
    load_checkpoint,
    packed,
    save_checkpoint,
)

PATIENCE = Patience()


class Checkpoints(Protocol):
    """The checkpoints of one sweep, by name."""

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep `state` as the last one of that name, in one step; what was the last one becomes the one before.

        Raises:
            OSError, duchenne_jobs.data.DatasetError: it can't be written; the earlier ones stand.
        """
        ...

    def load(self, name: str) -> dict[str, Any] | None:
        """The last state saved, on the CPU; the one before where that is damaged; None where there is none.

        Raises:
            OSError, duchenne_jobs.data.DatasetError: it can't be told whether there is one.
        """
        ...

    def shown(self, name: str) -> str:
        """Where the last one of that name is, as people see it."""
        ...

    def drop(self, prefix: str) -> None:
        """Remove all whose names begin so."""
        ...


class FolderCheckpoints:
    """`Checkpoints` in a folder that every worker sees."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, state: dict[str, Any]) -> None:
        save_checkpoint(checkpoint_file(self._folder, name), state)

    def load(self, name: str) -> dict[str, Any] | None:
        return load_checkpoint(checkpoint_file(self._folder, name))

    def shown(self, name: str) -> str:
        return str(checkpoint_file(self._folder, name))

    def drop(self, prefix: str) -> None:
        for path in self._folder.glob(f"{prefix}*"):
            path.unlink()


class BucketCheckpoints:
    """`Checkpoints` below an `s3://` URI. An upload is seen when it is whole, and copied aside before the next one.

    Args:
        location: where; its scheme is `s3`.
        patience: how long one transfer may take.
    """

    def __init__(self, location: Location, patience: Patience = PATIENCE) -> None:
        self._location = location
        self._patience = patience

    def save(self, name: str, state: dict[str, Any]) -> None:
        content, (last, before) = packed(state), _names(name)
        with self._location.explained("write", last):
            bucket, _, key = self._location.child(last).partition("/")
            aside = self._location.child(before).partition("/")[2]
            copy(bucket, key, aside, encryption_arguments(os.environ), self._patience)
            with self._location.open_upload(last) as upload:
                upload.write(content)

    def load(self, name: str) -> dict[str, Any] | None:
        return first_whole(self._found(name))

    def shown(self, name: str) -> str:
        return self._location.shown(_names(name)[0])

    def drop(self, prefix: str) -> None:
        for name in self._location.names():
            if name.startswith(prefix):
                self._location.remove(name)

    def _found(self, name: str) -> Iterator[tuple[str, bytes]]:
        for file in _names(name):
            with TemporaryDirectory() as folder, self._location.explained("read", file):
                target = Path(folder) / "checkpoint"
                try:
                    self._location.download(file, target, self._patience)
                except FileNotFoundError:
                    continue
                content = target.read_bytes()
            yield self._location.shown(file), content


def checkpoints_at(place: str) -> Checkpoints:
    """The checkpoints at a folder's path or an `s3://` URI.

    Raises:
        duchenne_jobs.data.DatasetError: an unknown scheme, or a URI without a bucket.
    """
    location = locate(place)
    return FolderCheckpoints(Path(location.root)) if location.local else BucketCheckpoints(location)


def _names(name: str) -> tuple[str, str]:
    """Of the last one and the one before."""
    return f"{name}{SUFFIX}", f"{name}.previous{SUFFIX}"
