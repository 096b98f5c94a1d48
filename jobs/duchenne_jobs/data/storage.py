"""Where a dataset lies: a local folder or a bucket prefix, behind one fsspec file system.

A local folder never imports s3fs; a remote one never pretends to be memory-mapped (see `cache.py`).
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.staging import staging_folder

# `memory` is fsspec's in-process file system: for tests and notebooks.
REMOTE_SCHEMES = ("s3", "memory")
WORKSPACE_PREFIX = ".duchenne-writing-"


@dataclass(frozen=True)
class Location:
    """A dataset's place. `uri` is how people see it: an absolute path, or the URI as given."""

    uri: str
    root: str
    filesystem: Any
    scheme: str

    @property
    def local(self) -> bool:
        return self.scheme == "file"

    def child(self, path: str) -> str:
        """Path of a file of the dataset in `filesystem`; `path` is relative, with forward slashes."""
        return f"{self.root.rstrip('/')}/{path}"

    def shown(self, path: str) -> str:
        """The same file as people see it."""
        return f"{self.uri.rstrip('/')}/{path}"

    def local_path(self, path: str) -> Path:
        """Path of a file of a local dataset, symbolic links resolved.

        Raises:
            DatasetError: if links lead out of the dataset's folder.
        """
        root = Path(self.root).resolve()
        resolved = (root / path).resolve()
        if not resolved.is_relative_to(root):
            raise DatasetError(
                f"{self.shown(path)} leads to {resolved}, outside the dataset; put the file itself there"
            )
        return resolved

    def read(self, path: str) -> bytes | None:
        """Bytes of a small file, or None where there is none."""
        with self.explained("read", path):
            try:
                data: bytes = self.filesystem.cat_file(self.child(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return data

    def names(self) -> list[str]:
        """Names directly under the dataset, or [] where there is nothing."""
        with self.explained("list", ""):
            try:
                entries = self.filesystem.ls(self.root, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        if [str(entry).strip("/") for entry in entries] == [self.root.strip("/")]:
            raise DatasetError(f"{self.uri} is a file, but a dataset is a folder; name the folder")
        return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def put(self, source: Path, path: str) -> None:
        """Move a finished local file to its place in one step: nobody ever sees half of it."""
        with self.explained("write", path):
            if self.local:
                target = Path(self.child(path))
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
            else:
                self.filesystem.put_file(str(source), self.child(path))
                source.unlink()

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        with self.explained("remove", path):
            try:
                self.filesystem.rm_file(self.child(path))
            except FileNotFoundError:
                return

    @contextmanager
    def workspace(self, *, beside: bool) -> Iterator[Path]:
        """A scratch folder for files on their way to `put`; `beside`: where a local `put` is an atomic rename."""
        parent = Path(self.root) if beside and self.local else Path(tempfile.gettempdir())
        with ExitStack() as stack:
            with self.explained("write", ""):
                folder = stack.enter_context(staging_folder(parent, WORKSPACE_PREFIX))
            yield folder

    @contextmanager
    def explained(self, verb: str, path: str) -> Iterator[None]:
        """Turn a failure of the file system into one line that names the file and what to do."""
        try:
            yield
        except _storage_errors(self.scheme) as error:
            raise DatasetError(f"cannot {verb} {self.shown(path)}: {_reason(error)}; {_advice(error)}") from error


def locate(uri: str | Path) -> Location:
    """Resolve a local path, `file://` or `s3://bucket/prefix`.

    Raises:
        DatasetError: an unknown scheme, or an `s3://` URI without a bucket.
    """
    text = str(uri)
    parts = urlsplit(text)
    if "://" not in text or parts.scheme == "file":
        if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
            raise DatasetError(f"{text} names the host {parts.netloc!r}; write file:///absolute/path")
        path = Path(unquote(parts.path) if parts.scheme == "file" else text).expanduser().absolute()
        return Location(uri=str(path), root=path.as_posix(), filesystem=_filesystem("file"), scheme="file")
    if parts.scheme == "builtin":
        raise DatasetError(
            f"{text} is built in and has no place yet; call materialise(uri, home) and open what it returns"
        )
    if parts.scheme not in REMOTE_SCHEMES:
        raise DatasetError(f"{text}: a dataset is a local path, file:// or s3://, but the scheme is {parts.scheme!r}")
    root = text.split("://", 1)[1].rstrip("/")
    if not parts.netloc:
        raise DatasetError(f"{text} names no bucket; write {parts.scheme}://bucket/prefix")
    return Location(uri=text.rstrip("/"), root=root, filesystem=_filesystem(parts.scheme), scheme=parts.scheme)


def _filesystem(scheme: str) -> Any:
    import fsspec

    # A listing that s3fs remembers hides what another process wrote since.
    options: dict[str, Any] = {"use_listings_cache": False} if scheme == "s3" else {}
    return fsspec.filesystem(scheme, **options)


def _storage_errors(scheme: str) -> tuple[type[Exception], ...]:
    if scheme != "s3":
        return (OSError,)
    botocore = import_module("botocore.exceptions")
    return (OSError, botocore.BotoCoreError, botocore.ClientError)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__


def _advice(error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "free some space or choose another place, then run the same command again"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "ask for access, or choose another place"
    return "check the path, the network and the credentials, then run the same command again"
