"""Ingesters of tables without people: yeast (inside river) and toy (drawn).

N rows, T tasks, F features.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.ingesters.source import Source, Workshop
from duchenne_jobs.data.manifest import Description
from duchenne_jobs.data.schema import shard_schema
from duchenne_jobs.data.toy import split_toy_dataset, toy_dataset
from duchenne_jobs.data.yeast import YEAST_FEATURES, YEAST_LABELS, YEAST_ROWS

_CHUNK_ROWS = 4096


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


def toy(
    source: str | Path | None = None,
    *,
    count: int = 1000,
    tasks: int = 5,
    seed: int = 0,
    sigma1: str | None = None,
    sigma2: str | None = None,
) -> Source:
    """The toy dataset of Tallec 2023, eq. 2.37; every row is its own subject.

    Args:
        sigma1, sigma2: digits of the best orders where x2 >= 0 and below (fig. 2.14); with one of them, the other is
            the identity.
    """
    if source is not None:
        raise DatasetError(f"the toy dataset is drawn, not read, but got the source {source}; leave it out")
    try:
        if sigma1 is None and sigma2 is None:
            name = f"toy-count{count}-tasks{tasks}-seed{seed}"
            features, labels = toy_dataset(count, tasks, seed)
        else:
            upper, lower = (list(range(tasks)) if s is None else [int(digit) for digit in s] for s in (sigma1, sigma2))
            name = f"toy-count{count}-tasks{tasks}-seed{seed}-orders{_digits(upper)}-{_digits(lower)}"
            features, labels = split_toy_dataset(count, tasks, seed, upper, lower)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    description = Description(
        name=name,
        tasks=tuple(f"task{index}" for index in range(1, tasks + 1)),
        columns=("subject", "labels", "features"),
        feature_names=("x1", "x2"),
        licence="Drawn by this program (Tallec 2023, eq. 2.37); Apache-2.0.",
        consent="Random numbers: no people are recorded.",
    )
    return _tabular(description, features, labels)


def _digits(order: list[int]) -> str:
    return "".join(map(str, order))


def _tabular(description: Description, features: Any, labels: Any) -> Source:
    """Rows of features (N, F) and labels (N, T), each its own subject, named so that sorted order is row order."""
    count = len(features)
    width = max(4, len(str(count - 1)))
    schema = shard_schema(description)

    def tables(workshop: Workshop) -> Iterator[Any]:
        for start in range(0, count, _CHUNK_ROWS):
            rows = slice(start, min(start + _CHUNK_ROWS, count))
            columns = {
                "subject": pa.array([f"row-{index:0{width}d}" for index in range(rows.start, rows.stop)]),
                "labels": _fixed_lists(labels[rows], schema.field("labels").type),
                "features": _fixed_lists(features[rows], schema.field("features").type),
            }
            yield pa.table(columns, schema=schema)
            workshop.advance(rows.stop - rows.start)

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
