"""Where a dataset's labels and folds come from: the record of them, else the dataset itself, opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duchenne.records import RecordStore, Sweep
from duchenne.records.board_rows import Truth
from duchenne.search.jobs import folds_request
from duchenne.server.frames import Frames, FramesError
from duchenne.spec import Sweep as SweepSpec
from duchenne_jobs.data import (
    Dataset,
    DatasetError,
    FoldError,
    FoldPlan,
    folds_of,
    open_dataset,
)
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.protocol import packaged_protocols
from duchenne_jobs.data.schema import matrix

TRUTHS = "truths"


class NoTruth(Exception):  # noqa: N818 - reads as the fact it states
    """Nobody knows the labels: the dataset is not in reach. The message says why."""


def truth_of(store: RecordStore, home: Path, sweep: Sweep, roots: Sequence[str]) -> Frames:
    """The frames that a sweep's entries are checked against.

    Args:
        roots: folders and prefixes below which datasets may be opened: a sweep's address is whatever somebody wrote.

    Raises:
        NoTruth: they are not on record and the dataset is not in reach.
        FramesError: the dataset or its folds are not those that the sweep recorded.
    """
    if sweep.dataset_digest is None or sweep.folds_digest is None:
        raise NoTruth("the sweep has not recorded its data and folds yet; let it start")
    kept = store.truth(sweep.dataset_digest, sweep.folds_digest)
    if kept is not None:
        return read_truth(home, kept)
    frames = _from_dataset(sweep, home, roots)
    name = hashlib.sha256(f"{sweep.dataset_digest}|{sweep.folds_digest}".encode()).hexdigest()[:24]
    path = Path(TRUTHS) / f"{name}.arrow"
    digest = frames.write(home / path)
    store.save_truth(
        Truth(dataset_digest=sweep.dataset_digest, folds_digest=sweep.folds_digest, path=str(path), digest=digest)
    )
    return frames


def read_truth(home: Path, truth: Truth) -> Frames:
    """The frames of a record.

    Raises:
        NoTruth: its file is not there.
    """
    try:
        return Frames.read(home / truth.path, truth.digest)
    except FileNotFoundError as error:
        raise NoTruth(f"the labels must lie in {truth.path}, but they don't; restore the file") from error


def _from_dataset(sweep: Sweep, home: Path, roots: Sequence[str]) -> Frames:
    uri = sweep.dataset_uri
    if not _is_below(uri, [str(home / "datasets"), *roots]):
        raise NoTruth("the dataset is in no place that this server opens; add it to DUCHENNE_SERVER_DATASETS")
    try:
        dataset = open_dataset(uri)
    except (DatasetError, OSError) as error:
        raise NoTruth(f"the dataset must be in reach, but {error}") from error
    if dataset.digest != sweep.dataset_digest:
        raise NoTruth(f"the dataset has changed since: it is {dataset.digest[:19]} now; restore it")
    try:
        spec = SweepSpec.model_validate(sweep.spec)
        plan = _plan(spec, dataset)
    except (ValueError, FoldError) as error:
        raise FramesError(f"the sweep's folds must follow from its spec, but {str(error).splitlines()[0]}") from error
    digest = canonical_digest({"outer": plan.digest, "inner": spec.folds.inner_count})
    if digest != sweep.folds_digest:
        raise FramesError(
            f"the sweep's folds must be those of its spec, {digest[:19]}, but it recorded {sweep.folds_digest}"
        )
    return _frames(dataset, plan)


def _plan(spec: SweepSpec, dataset: Dataset) -> FoldPlan:
    """As the workers split, by their own code."""
    request = folds_request(spec)
    if request.protocol is not None and request.protocol not in packaged_protocols():
        # Whoever sends a spec chooses that path, and the server would open it.
        raise NoTruth(f"the folds must follow a packaged protocol, but {request.protocol} is a file of its own")
    return folds_of(dataset, request)


def _frames(dataset: Dataset, plan: FoldPlan) -> Frames:
    """The rows of every subject that some fold tests on."""
    fold_of = {subject: fold.index for fold in plan.folds for subject in fold.test}
    table = dataset.rows(["subject", "sequence", "frame", "labels"], subjects=fold_of)
    subjects = table["subject"].to_numpy(zero_copy_only=False)
    return Frames(
        tasks=dataset.tasks,
        subjects=subjects,
        sequences=table["sequence"].to_numpy(zero_copy_only=False),
        frames=table["frame"].to_numpy(zero_copy_only=False).astype(np.int64),
        folds=np.array([fold_of[subject] for subject in subjects], dtype=np.int64),
        labels=matrix(table, "labels").astype(np.int8),
    )


def _is_below(uri: str, roots: Sequence[str]) -> bool:
    if "://" in uri and not uri.startswith("file://"):
        return ".." not in uri and any(uri.startswith(root.rstrip("/") + "/") for root in roots if "://" in root)
    path = Path(uri.removeprefix("file://")).expanduser().resolve()
    return any(path.is_relative_to(Path(root).expanduser().resolve()) for root in roots if "://" not in root)
