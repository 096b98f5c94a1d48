"""Where a dataset lies: a local folder or a bucket prefix, behind one fsspec file system.

A local folder never imports s3fs; a remote one never pretends to be memory-mapped (see `cache.py`). Shards go in and
out of S3 through `s3.py`; s3fs lists, reads the manifest and removes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.staging import staging_folder

if TYPE_CHECKING:
    from duchenne_jobs.data.s3 import Patience, Upload

# `memory` is fsspec's in-process file system: for tests and notebooks.
REMOTE_SCHEMES = ("s3", "memory")
# Server-side encryption of what is written to S3.
SSE_VARIABLE, SSE_KEY_VARIABLE = "DUCHENNE_S3_SSE", "DUCHENNE_S3_SSE_KMS_KEY_ID"
SSE_KINDS = ("AES256", "aws:kms", "aws:kms:dsse")
WORKSPACE_PREFIX = ".duchenne-writing-"
COPY_BYTES = 2**20


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
            elif self.scheme == "s3":
                with self.open_upload(path) as upload, source.open("rb") as file:
                    shutil.copyfileobj(file, upload, COPY_BYTES)
                source.unlink()
            else:
                self.filesystem.put_file(str(source), self.child(path))
                source.unlink()

    def open_upload(self, path: str) -> Upload:
        """A file of an S3 dataset to write from start to end; it appears when closed. Its failures need `explained`."""
        from duchenne_jobs.data.s3 import Upload

        bucket, _, key = self.child(path).partition("/")
        return Upload(bucket, key, encryption_arguments(os.environ))

    def download(self, path: str, target: Path, patience: Patience) -> str:
        """Copy a file of a remote dataset to `target`; its `sha256:...`, taken as it came. Failures need `explained`.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.scheme == "s3":
            from duchenne_jobs.data.s3 import download

            bucket, _, key = self.child(path).partition("/")
            return f"sha256:{download(bucket, key, target, patience)}"
        self.filesystem.get_file(self.child(path), str(target))
        return file_digest(target)

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

    if scheme != "s3":
        return fsspec.filesystem(scheme)
    # A listing that s3fs remembers hides what another process wrote since.
    options: dict[str, Any] = {"use_listings_cache": False}
    encryption = encryption_arguments(os.environ)
    if encryption:
        options["s3_additional_kwargs"] = encryption
    return fsspec.filesystem(scheme, **options)


def encryption_arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """What S3 is asked to do with each object that is written: `DUCHENNE_S3_SSE` and `DUCHENNE_S3_SSE_KMS_KEY_ID`.

    Raises:
        DatasetError: an unknown kind of encryption, or a key without `aws:kms`.
    """
    kind, key = environment.get(SSE_VARIABLE), environment.get(SSE_KEY_VARIABLE)
    if not kind and not key:
        return {}
    if kind not in SSE_KINDS or (key and kind == "AES256"):
        raise DatasetError(
            f"{SSE_VARIABLE} must be one of {', '.join(SSE_KINDS)}, and {SSE_KEY_VARIABLE} goes with the last two, "
            f"but got {kind!r}{' with a key' if key else ''}; set or unset them"
        )
    return {"ServerSideEncryption": kind} | ({"SSEKMSKeyId": key} if key else {})


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
