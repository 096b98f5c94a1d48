"""Ties a sweep to its data before anything is spent: the dataset, its digest, its folds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from duchenne.clusters.local import Machine, TooSmall
from duchenne.clusters.revision import REVISION_VARIABLE, revision_of
from duchenne.search.jobs import cache_choice, folds_request
from duchenne.spec import Sweep
from duchenne.spec.encoders import possible_encoders
from duchenne.spec.errors import dotted
from duchenne.spec.guidance import guidance_file_faults
from duchenne.spec.inputs import DataColumns, input_faults
from duchenne.spec.orders import order_task_faults
from duchenne.spec.space import candidates
from duchenne_jobs.data import Dataset, DatasetError, FoldError, SubjectLabels, folds_of, materialise, open_dataset
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.models.encoders.weights import WeightsError, require_weights
from duchenne_jobs.training.faces import FaceStore


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
        duchenne_jobs.data.DatasetError: no dataset there, a shard that differs from its checksum, no features, images
            that an encoder can't take, or a file of weights that is missing or another one.
        duchenne.clusters.local.TooSmall: a fold's workers are more than this machine has.
        duchenne_jobs.data.FoldError: its subjects can't be split as the sweep says, or a task has no positive label
            to learn from in one of the training sets.
    """
    resources, workers_per_fold = sweep.folds.resources, sweep.folds.workers_per_fold
    Machine.here().fold_groups(resources.cpu, resources.gpu, workers_per_fold)
    require_engines(sweep)
    dataset = open_dataset(_absolute(materialise(sweep.data.uri, home)), cache=cache_choice(sweep).opened())
    dataset.verify(progress)
    _require_columns(sweep, dataset)
    _require_weights(sweep)
    _require_known_labels(sweep, dataset)
    _require_fitting_orders(sweep, dataset)
    inner = sweep.folds.inner_count
    plan = folds_of(dataset, folds_request(sweep))
    training = {f"fold {fold.index}": fold.train for fold in plan.folds}
    for fold in range(len(plan.folds)):
        training |= {f"fold {fold}, inner fold {part.inner}": part.train for part in plan.inner_folds(fold, inner)}
    if sweep.folds.without_positives == "refuse":
        _require_positives(dataset, training)
    folds_digest = canonical_digest({"outer": plan.digest, "inner": inner})
    return PreparedData(dataset.uri, dataset.digest, folds_digest)


def require_engines(sweep: Sweep) -> None:
    """A fold's workers must be able to train together: refuse it here, not on the first of them.

    Raises:
        duchenne.clusters.local.TooSmall: an engine that a trial may have is not installed.
    """
    wanted = sweep.folds.workers_per_fold > 1 and "deepspeed" in candidates(sweep, "training.engine")
    if wanted and find_spec("deepspeed") is None:
        raise TooSmall(
            "training.engine: deepspeed must be installed where a sweep runs, but it is not here; "
            "pip install 'duchenne[deepspeed]', or set it to ddp"
        )


def code_revision() -> str:
    """The git revision of the source tree that runs, `-dirty` if it was changed; that of an image; else the version."""
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        return revision_of(root)
    built_from = os.environ.get(REVISION_VARIABLE, "unknown")
    if built_from == "unknown":
        return f"duchenne {version('duchenne')}"
    return built_from[:12] + ("-dirty" if built_from.endswith("-dirty") else "")


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _require_columns(sweep: Sweep, dataset: Dataset) -> None:
    """A dataset that was not on this disk when the file was validated is asked here what it has."""
    manifest = dataset.manifest
    columns = DataColumns.of(manifest)
    if "image" in manifest.columns and any(encoder.has_tokens for encoder in possible_encoders(sweep)):
        columns = replace(columns, image_size=FaceStore(dataset, decoded_bytes=0).size)
    for fault in (*input_faults(sweep, columns), *guidance_file_faults(sweep, manifest)):
        raise DatasetError(fault.located)


def _require_weights(sweep: Sweep) -> None:
    """An encoder reads its weights when it is built: refuse it here, not when a comparator's turn comes."""
    seen: set[tuple[str | None, str | None]] = set()
    for encoder, place in possible_encoders(sweep).items():
        file = (encoder.weights, encoder.weights_sha256)
        if file not in seen:
            seen.add(file)
            try:
                require_weights(encoder)
            except WeightsError as error:
                raise DatasetError(f"{dotted(place)}: {error}") from error


def _require_fitting_orders(sweep: Sweep, dataset: Dataset) -> None:
    """An order set names tasks and counts their orders: refuse it before a trial is trained."""
    for fault in order_task_faults(sweep, dataset.tasks):
        raise DatasetError(fault.located)


def _require_known_labels(sweep: Sweep, dataset: Dataset) -> None:
    """A chain is fitted on labels as they are: refuse it here, not after the search was paid for."""
    chains = [c.name for c in sweep.comparators if c.is_baseline and "chain" in c.name]
    unknown = sum(counts.get(-1, 0) for counts in dataset.label_counts().values()) if chains else 0
    if unknown:
        raise DatasetError(
            f"comparators: {', '.join(chains)} needs every label, but {unknown} are unknown in {dataset.uri}; "
            "leave it out"
        )


def _require_positives(dataset: Dataset, training: dict[str, tuple[str, ...]]) -> None:
    """A network can't learn what no training row shows; F1 of such a task is 0, whatever is spent."""
    labels = SubjectLabels.of(dataset)
    missing = [(task, place) for place, subjects in training.items() for task in labels.without_positives(subjects)]
    if missing:
        (task, place), tasks = missing[0], list(dict.fromkeys(task for task, _ in missing))
        others = f", nor have {', '.join(tasks[1:])} in others" if len(tasks) > 1 else ""
        raise FoldError(
            f"folds: a task needs a positive label in each of the {len(training)} training sets, but {task} has none "
            f"in that of {place}{others}; set folds.method to balanced, take fewer folds or a dataset without the "
            "task, or set folds.without_positives to train"
        )
