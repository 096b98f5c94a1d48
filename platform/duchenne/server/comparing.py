"""Two entries side by side, and the report of one: from their prediction files, for whoever may see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from duchenne.boards import bootstrap_f1, paired_difference, read_counts
from duchenne.boards.counts import read_checked
from duchenne.boards.report import report as report_of
from duchenne.records import RecordsConflictError, RecordStore
from duchenne.server import queries
from duchenne.server.access import Viewer


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """F1 of `first` minus that of `second`, its interval and p value (two-sided, not adjusted), paired by subject.

    `config` and `metrics` map a dotted path or a metric to both values; of the configuration only what differs.
    """

    first: str
    second: str
    difference: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    config: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[float | None, float | None]]


def compare(store: RecordStore, viewer: Viewer, home: Path, first: str, second: str) -> Comparison:
    """Compare two entries.

    Raises:
        NotFoundError: one of them is not in sight.
        RecordsConflictError: they stand on different data, folds or labels.
        duchenne.boards.CountsError, FileNotFoundError: a prediction file is not as it was recorded.
    """
    one, two = (queries.entry(store, viewer, entry) for entry in (first, second))
    if (one.dataset_digest, one.folds_digest) != (two.dataset_digest, two.folds_digest):
        raise RecordsConflictError(
            f"entries are compared on the same data and folds, but those of {first} and {second} differ; "
            "run one of them on the other's"
        )
    counts = [read_counts(entry.predictions, home) for entry in (one, two)]
    if counts[0].layout != counts[1].layout:
        raise RecordsConflictError(
            f"entries are compared on the same subjects and labels, but those of {first} and {second} differ; "
            "evaluate one of them again"
        )
    stream = f"{one.dataset_digest}|{one.folds_digest}|{counts[0].layout}"
    found = paired_difference(*(bootstrap_f1(count, stream=stream) for count in counts))
    left, right = flat(one.config), flat(two.config)
    return Comparison(
        first=first,
        second=second,
        difference=found.mean,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        p_value=found.p_value,
        config={
            path: (left.get(path), right.get(path))
            for path in dict.fromkeys([*left, *right])
            if left.get(path) != right.get(path)
        },
        metrics={name: (one.metrics[name], two.metrics[name]) for name in one.metrics if name in two.metrics},
    )


def report(store: RecordStore, viewer: Viewer, home: Path, entry: str) -> dict[str, Any]:
    """`{"tasks": [...], "metrics": {name: {"mean_of_folds", "pooled", ... }}}` of an entry.

    Raises:
        NotFoundError, duchenne.boards.CountsError, FileNotFoundError: see `compare`.
    """
    found = queries.entry(store, viewer, entry)
    layout = read_counts(found.predictions, home).layout
    predictions = {(file.fold, file.seed): read_checked(file, home) for file in found.predictions}
    stream = f"{found.dataset_digest}|{found.folds_digest}|{layout}"
    made = report_of(predictions, metrics=("f1", "accuracy", "log_loss", "calibration_error"), stream=stream)
    return {"tasks": list(made.tasks), "metrics": {name: asdict(metric) for name, metric in made.metrics.items()}}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of a nested configuration."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
