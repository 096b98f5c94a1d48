"""Opens a dataset and reads its rows; nothing is read that was not checked against the manifest first.

N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duchenne_jobs.data.cache import ShardCache, check_file
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import MANIFEST_NAME, SHARD_SUFFIX, Manifest, Shard, parse_manifest
from duchenne_jobs.data.schema import LABEL_VALUES, broken_rule, matrix, shard_schema
from duchenne_jobs.data.storage import Location, locate

Progress = Callable[[int, int], None]  # (done, total)

# Local shards whose checksum this process has seen to be right: (path, modification time in ns, bytes, checksum).
_checked: set[tuple[str, int, int, str]] = set()


@dataclass(frozen=True, repr=False)
class Dataset:
    """An open dataset: cheap to make (the manifest alone is read), picklable, and safe to share between threads."""

    location: Location
    manifest: Manifest
    cache: ShardCache = field(compare=False)

    def __repr__(self) -> str:
        return f"Dataset({self.uri!r}, rows={self.row_count}, tasks={len(self.tasks)}, digest={self.digest!r})"

    @property
    def uri(self) -> str:
        """Absolute path or URI."""
        return self.location.uri

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the T columns of `labels`."""
        return self.manifest.tasks

    @property
    def digest(self) -> str:
        """`sha256:...` over the manifest, and through the shards' checksums over every row."""
        return self.manifest.digest

    @property
    def row_count(self) -> int:
        return self.manifest.row_count

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, sorted."""
        return tuple(sorted({subject for shard in self.manifest.shards for subject in shard.subjects}))

    def rows(self, columns: Sequence[str] | None = None, subjects: Collection[str] | None = None) -> Any:
        """`pyarrow.Table` of the rows of `subjects` (default: all), with `columns` (default: all), in stored order.

        Local shards are memory-mapped: a column that is not touched is not read. A shard none of whose subjects are
        wanted is not opened.

        Raises:
            DatasetError: an unknown column or subject, or a shard that is missing or damaged.
        """
        names = list(self.manifest.columns if columns is None else columns)
        for name in names:
            if name not in self.manifest.columns:
                raise DatasetError(f"{self.uri} has no column {name!r}; it has {', '.join(self.manifest.columns)}")
        wanted = frozenset(self.subjects if subjects is None else subjects)
        for subject in sorted(wanted.difference(self.subjects)):
            raise DatasetError(f"{self.uri} has no subject {subject!r}; it has {len(self.subjects)} others")
        tables = [self._shard_rows(shard, names, wanted) for shard in self.manifest.shards]
        return pa.concat_tables(
            [table for table in tables if table is not None]
            or [pa.table({name: [] for name in names}, schema=_subschema(shard_schema(self.manifest), names))]
        )

    def shard_rows(self, shard: Shard) -> Any:
        """`pyarrow.Table` of every row and column of one shard of the manifest.

        Raises:
            DatasetError: it is missing or damaged.
        """
        return _open_shard(self._checked_file(shard), self.location.shown(shard.path))

    def label_counts(self) -> dict[str, dict[int, int]]:
        """How many rows of each task are -1 (unknown), 0 and 1."""
        labels = matrix(self.rows(["labels"]), "labels")
        counts = {value: np.count_nonzero(labels == value, axis=0) for value in LABEL_VALUES}
        return {
            task: {value: int(counts[value][index]) for value in LABEL_VALUES} for index, task in enumerate(self.tasks)
        }

    def verify(self, progress: Progress | None = None) -> None:
        """Check every shard against the manifest: bytes, SHA-256, schema, rows, values, subjects. Nothing is cached.

        Args:
            progress: called with (bytes checked, bytes of the dataset) after each shard.

        Raises:
            DatasetError: the first shard that differs, and how; or a shard that the manifest does not list.
        """
        total = sum(shard.bytes for shard in self.manifest.shards)
        done = 0
        for shard in self.manifest.shards:
            self._check_contents(shard, self._checked_file(shard, fresh=True))
            done += shard.bytes
            if progress is not None:
                progress(done, total)
        listed = {shard.path for shard in self.manifest.shards}
        for name in self.location.names():
            if name.endswith(SHARD_SUFFIX) and name not in listed:
                raise DatasetError(
                    f"{self.location.shown(name)} is not in the manifest, yet other tools would read it; move it away"
                )

    def _shard_rows(self, shard: Shard, names: list[str], wanted: frozenset[str]) -> Any:
        inside = wanted.intersection(shard.subjects)
        if not inside:
            return None
        table = _open_shard(self._checked_file(shard), self.location.shown(shard.path))
        if len(inside) == len(shard.subjects):
            return table.select(names)
        mask = pc.is_in(table["subject"], value_set=pa.array(sorted(inside), pa.string()))
        return table.select(names).filter(mask)

    def _checked_file(self, shard: Shard, *, fresh: bool = False) -> Path:
        """The local file of a shard, its checksum verified once a process (or again, when `fresh`)."""
        shown = self.location.shown(shard.path)
        if self.location.local:
            file = self.location.local_path(shard.path)
        else:
            file = self.cache.fetch(self.location, shard, fresh=fresh)
        key = _stamp(file, shard)
        if fresh or key is None or key not in _checked:
            check_file(file, shown, shard)
            after = _stamp(file, shard)
            if after is not None and (key is None or after == key):
                _checked.add(after)
        return file

    def _check_contents(self, shard: Shard, file: Path) -> None:
        shown = self.location.shown(shard.path)
        table = _open_shard(file, shown)
        expected = shard_schema(self.manifest)
        if not table.schema.equals(expected):
            raise DatasetError(f"{shown}: expected the columns {_one_line(expected)}, saw {_one_line(table.schema)}")
        if table.num_rows != shard.rows:
            raise DatasetError(f"{shown}: expected {shard.rows} rows, saw {table.num_rows}; ingest the dataset again")
        rule = broken_rule(table, self.manifest)
        if rule is not None:
            raise DatasetError(f"{shown}: {rule}; ingest the dataset again")
        seen = set(table["subject"].unique().to_pylist())
        for subject in sorted(seen.symmetric_difference(shard.subjects)):
            where = "the shard" if subject in seen else "the manifest"
            raise DatasetError(f"{shown}: subject {subject!r} is only in {where}; ingest the dataset again")


def open_dataset(uri: str | Path, *, cache: ShardCache | None = None) -> Dataset:
    """Open the dataset at a local path, `file://` or `s3://bucket/prefix`.

    Args:
        uri: where `manifest.json` lies. `builtin://` datasets go through `materialise` first.
        cache: where shards of a remote dataset are kept; default `$DUCHENNE_CACHE` or the user's cache folder.

    Raises:
        DatasetError: nothing there, a half-written dataset, an unknown schema version, a damaged manifest.
    """
    location = locate(uri)
    data = location.read(MANIFEST_NAME)
    if data is None:
        names = location.names()
        if names:
            raise DatasetError(
                f"{location.uri} holds {len(names)} files but no {MANIFEST_NAME}: it is half-written or no dataset; "
                "remove it and ingest it again"
            )
        raise DatasetError(
            f"no dataset at {location.uri}; make one with `duchenne data ingest NAME SOURCE {location.uri}`"
        )
    manifest = parse_manifest(data, location.shown(MANIFEST_NAME))
    return Dataset(location=location, manifest=manifest, cache=cache or ShardCache())


def _stamp(file: Path, shard: Shard) -> tuple[str, int, int, str] | None:
    try:
        status = file.stat()
    except OSError:
        return None  # check_file says what is wrong
    return (str(file), status.st_mtime_ns, status.st_size, shard.sha256)


def _open_shard(file: Path, shown: str) -> Any:
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{shown} is no readable Arrow file: {reason}; ingest the dataset again") from error


def _subschema(schema: Any, names: list[str]) -> Any:
    return pa.schema([schema.field(name) for name in names])


def _one_line(schema: Any) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
