"""Two entries side by side: what differs in their configurations, and whether their F1 can be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from duchenne.boards.counts import read_counts
from duchenne.boards.statistics import bootstrap_f1, paired_difference
from duchenne.records.errors import NotFoundError, RecordsConflictError

if TYPE_CHECKING:
    from pathlib import Path

    from duchenne.records import Entry, RecordStore


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`difference` is F1 macro of the first minus the second, with its 95 % interval, paired by subject.

    `config` and `metrics` map a dotted path or a metric to both values; of the configuration only what differs.
    """

    first: str
    second: str
    difference: float
    ci_low: float | None
    ci_high: float | None
    config: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[float | None, float | None]]


def compare_entries(store: RecordStore, first: str, second: str, *, root: Path | None = None) -> Comparison:
    """Compare two entries, each named by its id or by a sweep, which stands for the entry of its own model.

    Raises:
        NotFoundError: no such entry or sweep, or a sweep without an entry.
        RecordsConflictError: they were evaluated on different data or folds.
        duchenne.boards.CountsError: a prediction file is not as it was recorded.
    """
    one, two = _find(store, first), _find(store, second)
    for what in ("dataset_digest", "folds_digest"):
        if getattr(one, what) != getattr(two, what):
            raise RecordsConflictError(
                f"entries are compared on the same data and folds, but {one.id} and {two.id} differ in {what}; "
                "run one of them on the other's"
            )
    folder = root or store.home
    if folder is None:
        raise NotFoundError(
            "a comparison needs the folder of the prediction files, but these records have none; give it"
        )
    counts = [read_counts(entry.predictions, folder) for entry in (one, two)]
    if counts[0].layout != counts[1].layout:
        raise RecordsConflictError(
            f"entries are compared on the same subjects and labels, but those of {one.id} and {two.id} differ; "
            "evaluate one of them again"
        )
    # The board's own draws, so that both say the same.
    stream = f"{one.dataset_digest}|{one.folds_digest}|{counts[0].layout}"
    a, b = (bootstrap_f1(count, stream=stream) for count in counts)
    difference = paired_difference(a, b)
    left, right = _flat(one.config), _flat(two.config)
    paths = [path for path in dict.fromkeys([*left, *right]) if left.get(path) != right.get(path)]
    names = [name for name in one.metrics if name in two.metrics]
    return Comparison(
        first=one.id,
        second=two.id,
        difference=difference.mean,
        ci_low=difference.ci_low,
        ci_high=difference.ci_high,
        config={path: (left.get(path), right.get(path)) for path in paths},
        metrics={name: (one.metrics[name], two.metrics[name]) for name in names},
    )


def _find(store: RecordStore, name: str) -> Entry:
    entries = store.entries()
    for entry in entries:
        if entry.id == name:
            return entry
    sweep = store.get_sweep(name.partition(".")[0])
    method = name.partition(".")[2] or str(sweep.spec["model"]["name"])
    own = [entry for entry in entries if entry.sweep == sweep.id]
    for entry in own:
        if entry.method == method:
            return entry
    known = ", ".join(entry.id for entry in own) or "none"
    raise NotFoundError(f"{sweep.id} must have an entry of {method!r}, but its entries are {known}; name one of them")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat
