"""Streams rows into Arrow IPC shards, each put in place atomically, and the manifest after the last of them.

N rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import MANIFEST_NAME, SHARD_SUFFIX, Description, Manifest, Shard, complete_manifest
from duchenne_jobs.data.schema import broken_rule, shard_schema
from duchenne_jobs.data.storage import WORKSPACE_PREFIX, Location, locate

if TYPE_CHECKING:
    from duchenne_jobs.data.s3 import Upload

SHARD_BYTES = 64 * 2**20  # of row data; with Arrow's framing a shard stays within 50 to 100 MB
BATCH_BYTES = 2**20  # of row data in one record batch: what a reader touches to get one row
_SHARD_PREFIX = "shard-"


class DatasetWriter:
    """Context manager that writes one dataset to a folder or `s3://` prefix.

    Shards appear one by one under their final names; on S3 they go up in parts while they are written, without touching
    the local disk. `manifest.json` comes last, on a clean exit. When the block fails, the shards written so far are
    removed and no manifest appears. Where rows are cut into batches and shards depends on the rows alone, never on how
    they were handed in, so the same rows give the same digest.

    A shard is closed once it holds `shard_bytes` of row data. With `keep=False` nothing stays at the destination: the
    manifest alone is computed (to compare digests).

    Raises:
        DatasetError: the destination holds a dataset or foreign files, a row breaks the schema, the disk is full.
    """

    def __init__(
        self,
        destination: str | Path,
        description: Description,
        *,
        keep: bool = True,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.location: Location = locate(destination)
        self.description = description
        self.schema = shard_schema(description)
        self.manifest: Manifest | None = None
        self._keep = keep
        self._shard_target = shard_bytes
        self._stack = ExitStack()
        self._pending: list[Any] = []  # tables not yet cut into a batch
        self._pending_bytes = 0
        self._sink: Any = None  # open pyarrow.RecordBatchFileWriter
        self._upload: Upload | None = None  # what it writes to, on S3
        self._shard_bytes = 0
        self._shard_rows = 0
        self._shard_subjects: set[str] = set()
        self._shards: list[Shard] = []
        self._rows = 0

    def __enter__(self) -> Self:
        if self._keep:
            self._claim_destination()
        self._workspace = self._stack.enter_context(self.location.workspace(beside=self._keep))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is not None:
                self._abandon()
                return
            try:
                self._finish()
            except BaseException:
                self._abandon()
                raise

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows given as mappings from column to value (fixed lists as sequences or arrays)."""
        try:
            table = pa.Table.from_pylist([dict(row) for row in rows], schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as failure:
            raise DatasetError(f"a row after row {self._rows} doesn't fit the columns: {failure}") from failure
        self.write(table)

    def write(self, rows: Any) -> None:
        """Append a `pyarrow.Table` or `RecordBatch` of exactly the dataset's columns and types.

        Raises:
            DatasetError: other columns or types, a label outside {-1, 0, 1}, an intensity outside -1..5, an empty
                subject, a null where none may be; or the disk is full.
        """
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        if table.schema.names != self.schema.names:
            raise DatasetError(f"rows must have the columns {self.schema.names}, but got {table.schema.names}")
        try:
            table = table if table.schema.equals(self.schema) else table.cast(self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as failure:
            raise DatasetError(f"rows after row {self._rows} don't fit the columns: {failure}") from failure
        if table.num_rows == 0:
            return
        rule = broken_rule(table, self.description)
        if rule is not None:
            raise DatasetError(f"rows after row {self._rows}: {rule}")
        self._rows += table.num_rows
        self._cut(table)

    def _cut(self, table: Any) -> None:
        """Split rows where the running size crosses BATCH_BYTES, counted from the last cut."""
        ends = np.cumsum(row_bytes(table))
        start, used = 0, 0
        while True:
            stop = int(np.searchsorted(ends, used + BATCH_BYTES - self._pending_bytes)) + 1
            if stop > table.num_rows:
                break
            self._pending.append(table.slice(start, stop - start))
            self._pending_bytes += int(ends[stop - 1]) - used
            self._flush_batch()
            start, used = stop, int(ends[stop - 1])
        if start < table.num_rows:
            self._pending.append(table.slice(start))
            self._pending_bytes += int(ends[-1]) - used

    def _flush_batch(self) -> None:
        if not self._pending:
            return
        # take() copies into fresh buffers: a slice would carry bits of its neighbours into the file.
        table = pa.concat_tables(self._pending).combine_chunks()
        batch = table.take(pa.array(np.arange(table.num_rows))).combine_chunks().to_batches()[0]
        with self.location.explained("write", self._shard_name()):
            if self._sink is None:
                self._sink = pa.ipc.new_file(self._open_shard(), self.schema)
            self._sink.write_batch(batch)
        self._shard_bytes += self._pending_bytes
        self._shard_rows += batch.num_rows
        self._shard_subjects.update(pc.unique(batch.column("subject")).to_pylist())
        self._pending, self._pending_bytes = [], 0
        if self._shard_bytes >= self._shard_target:
            self._flush_shard()

    def _flush_shard(self) -> None:
        if self._sink is None:
            return
        name = self._shard_name()
        with self.location.explained("write", name):
            sink, self._sink = self._sink, None
            sink.close()
            size, digest = self._put_in_place(name)
        shard = Shard(
            path=name,
            rows=self._shard_rows,
            bytes=size,
            sha256=digest,
            subjects=tuple(sorted(self._shard_subjects)),
        )
        self._shards.append(shard)
        self._shard_bytes, self._shard_rows, self._shard_subjects = 0, 0, set()

    def _open_shard(self) -> Upload | str:
        """Where the next shard is written to, for `pyarrow.ipc.new_file`."""
        if self._keep and self.location.scheme == "s3":
            self._upload = self.location.open_upload(self._shard_name())
            return self._upload
        return str(self._workspace / self._shard_name())

    def _put_in_place(self, name: str) -> tuple[int, str]:
        """(bytes, `sha256:...`) of the shard that was written, which appears under its name."""
        if self._upload is not None:
            upload, self._upload = self._upload, None
            upload.close()
            return upload.tell(), f"sha256:{upload.hexdigest()}"
        file = self._workspace / name
        _sync(file)
        size, digest = file.stat().st_size, file_digest(file)
        if self._keep:
            self.location.put(file, name)
        else:
            file.unlink()
        return size, digest

    def _finish(self) -> None:
        self._flush_batch()
        self._flush_shard()
        if not self._shards:
            raise DatasetError(f"a dataset needs at least one row, but none was written to {self.location.uri}")
        manifest = complete_manifest(self.description, self._shards)
        if self._keep:
            file = self._workspace / MANIFEST_NAME
            with self.location.explained("write", MANIFEST_NAME):
                file.write_text(manifest.to_json(), encoding="utf-8")
                _sync(file)
            self.location.put(file, MANIFEST_NAME)
        self.manifest = manifest

    def _abandon(self) -> None:
        """Remove what was put in place. The failure that led here is the one to report, so others are passed over."""
        sink, self._sink = self._sink, None
        if self._upload is not None:
            self._upload.abort()  # and the sink is left open: to close it would write its end
        elif sink is not None:
            _close_quietly(sink)
        for shard in self._shards if self._keep else ():
            try:
                self.location.remove(shard.path)
            except DatasetError:
                continue  # without a manifest a left-over shard is never read, and the next writer removes it
        self._shards = []

    def _claim_destination(self) -> None:
        names = self.location.names()
        if MANIFEST_NAME in names:
            raise DatasetError(f"{self.location.uri} already holds a dataset; choose another place, or remove it first")
        left_over = [name for name in names if name.startswith((_SHARD_PREFIX, WORKSPACE_PREFIX))]
        foreign = sorted(set(names) - set(left_over))
        if foreign:
            raise DatasetError(
                f"{self.location.uri} must be empty for a new dataset, but holds {foreign[0]!r}; choose another place"
            )
        for name in left_over:
            if name.startswith(_SHARD_PREFIX):
                self.location.remove(name)

    def _shard_name(self) -> str:
        return f"{_SHARD_PREFIX}{len(self._shards):05d}{SHARD_SUFFIX}"


def row_bytes(table: Any) -> Any:
    """Bytes of data in each row, (N,) int64: the same for the same row, however the table is chunked."""
    sizes = np.zeros(table.num_rows, np.int64)
    for field in table.schema:
        if pa.types.is_binary(field.type) or pa.types.is_string(field.type):
            sizes += pc.fill_null(pc.binary_length(table[field.name]), 0).to_numpy()
        elif pa.types.is_fixed_size_list(field.type):
            sizes += field.type.list_size * field.type.value_type.bit_width // 8
        else:
            sizes += field.type.bit_width // 8
    return sizes


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _close_quietly(sink: Any) -> None:
    try:
        sink.close()
    except OSError:
        return
