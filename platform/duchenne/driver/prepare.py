"""Ties a sweep to its data before anything is spent: the dataset, its digest, its folds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from duchenne.clusters.local import Machine, TooSmall
from duchenne.spec import Sweep
from duchenne_jobs.config import MODEL_NAMES
from duchenne_jobs.data import Dataset, DatasetError, materialise, open_dataset
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.training import FoldsRequest
from duchenne_jobs.training.split import plan_folds


@dataclass(frozen=True)
class PreparedData:
    """What the records keep of the data.

    Attributes:
        uri: where the shards are, absolute.
        dataset_digest: over all of the dataset.
        folds_digest: over outer folds, inner count and seed.
    """

    uri: str
    dataset_digest: str
    folds_digest: str


def prepare_data(sweep: Sweep, home: Path, progress: Callable[[int, int], None] | None = None) -> PreparedData:
    """Open and check the dataset, and split its subjects.

    Raises:
        duchenne_jobs.data.DatasetError: no dataset there, a shard that differs from its checksum, no features.
        duchenne.clusters.local.TooSmall: a worker is more than this machine has.
        duchenne_jobs.data.FoldError: its subjects can't be split as the sweep says.
    """
    workers_per_fold = sweep.folds.workers_per_fold
    if workers_per_fold > 1:
        raise TooSmall(
            f"folds.workers_per_fold: a fold job is trained on one worker here, but got {workers_per_fold}; "
            "set it to 1: more folds then run side by side"
        )
    Machine.here().workers(sweep.folds.resources.cpu, sweep.folds.resources.gpu)
    dataset = open_dataset(_absolute(materialise(sweep.data.uri, home)))
    dataset.verify(progress)
    _require_columns(dataset)
    _require_known_labels(sweep, dataset)
    folds = sweep.folds
    request = FoldsRequest(folds.count, folds.inner, folds.seed, sweep.data.protocol)
    plan = plan_folds(dataset.subjects, request)
    for fold in range(len(plan.folds)):
        plan.inner_folds(fold, folds.inner)
    folds_digest = canonical_digest({"outer": plan.digest, "inner": folds.inner})
    return PreparedData(dataset.uri, dataset.digest, folds_digest)


def code_revision() -> str:
    """The git revision of the source tree that runs, `-dirty` if it was changed; the version of an installed wheel."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return f"duchenne {version('duchenne')}"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603

    revision = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return revision + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _require_columns(dataset: Dataset) -> None:
    if dataset.manifest.feature_names is None:
        raise DatasetError(
            f"data.uri: the encoder `features` needs a `features` column, but {dataset.uri} has none; "
            "use a tabular dataset"
        )


def _require_known_labels(sweep: Sweep, dataset: Dataset) -> None:
    """A chain is fitted on labels as they are: refuse it here, not after the search was paid for."""
    chains = [name for name in sweep.comparators if name not in MODEL_NAMES and "chain" in name]
    unknown = sum(counts.get(-1, 0) for counts in dataset.label_counts().values()) if chains else 0
    if unknown:
        raise DatasetError(
            f"comparators: {', '.join(chains)} needs every label, but {unknown} are unknown in {dataset.uri}; "
            "leave it out"
        )
