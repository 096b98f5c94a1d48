"""From a raw source to Arrow shards, one ingester a source. To add one, see docs/data.md.

N rows, T tasks, F features.
"""

from __future__ import annotations

import gzip
import inspect
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.dataset import Dataset, Progress, open_dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import MANIFEST_NAME, Description
from duchenne_jobs.data.schema import shard_schema
from duchenne_jobs.data.staging import staging_folder
from duchenne_jobs.data.storage import Location, locate
from duchenne_jobs.data.toy import toy_dataset
from duchenne_jobs.data.writer import DatasetWriter
from duchenne_jobs.data.yeast import YEAST_FEATURES, YEAST_LABELS, YEAST_ROWS

_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Source:
    """What an ingester found: the description, the number of rows, and the tables of rows, read when iterated."""

    description: Description
    row_count: int
    tables: Callable[[], Iterator[Any]]


Ingester = Callable[..., Source]  # (source: str | Path | None, **options) -> Source


def ingest(
    name: str,
    source: str | Path | None,
    destination: str | Path,
    progress: Progress | None = None,
    **options: Any,
) -> Dataset:
    """Write the dataset `name` from `source` to `destination`, and open it.

    The same dataset already there is left alone and opened. A local destination appears in one rename, complete.

    Args:
        name: a key of `INGESTERS`.
        source: the raw folder or file; None where the source is installed (yeast) or drawn (toy).
        destination: local path, `file://` or `s3://bucket/prefix`.
        progress: called with (rows written, rows in all).
        options: of the ingester: `count`, `tasks`, `seed` of toy.

    Raises:
        DatasetError: unknown name or option, missing or malformed source, a different dataset or foreign files at the
            destination, or a full disk; nothing is left behind then.
    """
    if name not in INGESTERS:
        raise DatasetError(f"no ingester is called {name!r}; choose one of {', '.join(sorted(INGESTERS))}")
    location = locate(destination)
    known = list(inspect.signature(INGESTERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise DatasetError(f"{name} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    raw = INGESTERS[name](source, **options)
    names = location.names()
    if MANIFEST_NAME in names:
        return _compare_with_present(raw, location, progress)
    if not location.local:
        _write(raw, location.uri, progress)
        return open_dataset(location.uri)
    if names:
        raise DatasetError(
            f"{location.uri} must not exist or be empty, but holds {names[0]!r} and no {MANIFEST_NAME}; "
            "choose another destination, or remove it first"
        )
    target = Path(location.root)
    with ExitStack() as stack:
        with location.explained("write", ""):
            sibling = stack.enter_context(staging_folder(target.parent, f".{target.name}.partial-"))
        _write(raw, sibling / target.name, progress)
        if not _move_into_place(sibling / target.name, location):
            return _compare_with_present(raw, location, None)
    return open_dataset(location.uri)


def _move_into_place(partial: Path, location: Location) -> bool:
    """Rename a complete dataset to its destination; False if another process was first."""
    target = Path(location.root)
    with location.explained("write", ""):
        try:
            partial.rename(target)  # over nothing or an empty folder
        except OSError:
            if (target / MANIFEST_NAME).exists():
                return False
            raise
    return True


def _write(raw: Source, destination: str | Path, progress: Progress | None, *, keep: bool = True) -> str:
    """Write every row; return the digest."""
    done = 0
    with DatasetWriter(destination, raw.description, keep=keep) as writer:
        for table in raw.tables():
            writer.write(table)
            done += table.num_rows
            if progress is not None:
                progress(done, raw.row_count)
    if writer.manifest is None:
        raise DatasetError(f"no manifest was written to {destination}")
    return writer.manifest.digest


def _compare_with_present(raw: Source, location: Location, progress: Progress | None) -> Dataset:
    present = open_dataset(location.uri)
    digest = _write(raw, location.uri, progress, keep=False)
    if digest != present.digest:
        raise DatasetError(
            f"{location.uri} already holds another dataset, {present.manifest.name} with digest {present.digest}, "
            f"while this one has {digest}; choose another destination, or remove that one first"
        )
    return present


def yeast(source: str | Path | None = None) -> Source:
    """The yeast gene-function set (Elisseeff and Weston 2002; MULAN): 2417 rows, 103 features, 14 labels.

    Args:
        source: a `yeast.csv.gz` with the columns Att1..Att103, Class1..Class14; None takes the one inside river.
    """
    path = _installed_yeast() if source is None else Path(source).expanduser().absolute()
    features, labels, tasks, feature_names = _read_yeast(path)
    description = Description(
        name="yeast",
        tasks=tasks,
        columns=("subject", "labels", "features"),
        feature_names=feature_names,
        licence="Distributed with river (BSD-3-Clause); the origin, MULAN's yeast (OpenML 40597), states no licence.",
        consent="Gene expression and phylogenetic profiles of yeast: no people are recorded.",
    )
    return _tabular(description, features, labels)


def toy(source: str | Path | None = None, *, count: int = 1000, tasks: int = 5, seed: int = 0) -> Source:
    """The toy dataset of Tallec 2023, eq. 2.37; every row is its own subject."""
    if source is not None:
        raise DatasetError(f"the toy dataset is drawn, not read, but got the source {source}; leave it out")
    try:
        features, labels = toy_dataset(count, tasks, seed)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    description = Description(
        name=f"toy-count{count}-tasks{tasks}-seed{seed}",
        tasks=tuple(f"task{index}" for index in range(1, tasks + 1)),
        columns=("subject", "labels", "features"),
        feature_names=("x1", "x2"),
        licence="Drawn by this program (Tallec 2023, eq. 2.37); Apache-2.0.",
        consent="Random numbers: no people are recorded.",
    )
    return _tabular(description, features, labels)


INGESTERS: dict[str, Ingester] = {"yeast": yeast, "toy": toy}


def _tabular(description: Description, features: Any, labels: Any) -> Source:
    """Rows of features (N, F) and labels (N, T), each its own subject, named so that sorted order is row order."""
    count = len(features)
    width = max(4, len(str(count - 1)))
    schema = shard_schema(description)

    def tables() -> Iterator[Any]:
        for start in range(0, count, _CHUNK_ROWS):
            rows = slice(start, min(start + _CHUNK_ROWS, count))
            columns = {
                "subject": pa.array([f"row-{index:0{width}d}" for index in range(rows.start, rows.stop)]),
                "labels": _fixed_lists(labels[rows], schema.field("labels").type),
                "features": _fixed_lists(features[rows], schema.field("features").type),
            }
            yield pa.table(columns, schema=schema)

    return Source(description, count, tables)


def _fixed_lists(values: Any, list_type: Any) -> Any:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), list_type.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=list_type)


def _installed_yeast() -> Path:
    spec = find_spec("river")  # finds the folder without importing river
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "yeast.csv.gz"
        if path.is_file():
            return path
    raise DatasetError(
        "the yeast set lies inside the package river, which has no yeast.csv.gz here; pip install 'river>=0.26'"
    )


def _read_yeast(path: Path) -> tuple[Any, Any, tuple[str, ...], tuple[str, ...]]:
    """Features (2417, 103) float32, labels (2417, 14) int8, and their column names, as the file has them."""
    names = [f"Att{i}" for i in range(1, YEAST_FEATURES + 1)] + [f"Class{i}" for i in range(1, YEAST_LABELS + 1)]
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            header = stream.readline().strip().split(",")
            if header != names:
                raise DatasetError(
                    f"{path} must have the columns Att1..Att103, Class1..Class14, but starts with {header[:2]}"
                )
            values = np.loadtxt(stream, delimiter=",", dtype=np.float64, ndmin=2)
    except FileNotFoundError:
        raise DatasetError(f"no source at {path}; leave it out to take the yeast set inside river") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"cannot read {path}: {' '.join(str(error).split())}; pip install --force-reinstall river"
        ) from error
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{path} holds something that is no number: {' '.join(str(error).split())}") from error
    features, labels = values[:, :YEAST_FEATURES], values[:, YEAST_FEATURES:]
    if len(values) != YEAST_ROWS or not np.isfinite(features).all() or not np.isin(labels, (0, 1)).all():
        raise DatasetError(
            f"{path} must hold {YEAST_ROWS} rows of finite features and labels 0 or 1, but holds {len(values)} rows, "
            f"{int((~np.isfinite(features)).sum())} features that are not finite and "
            f"{int((~np.isin(labels, (0, 1))).sum())} other labels"
        )
    return (
        features.astype(np.float32),
        labels.astype(np.int8),
        tuple(names[YEAST_FEATURES:]),
        tuple(names[:YEAST_FEATURES]),
    )
