"""The contract between whoever schedules fold jobs and whoever runs them.

A fold job is run in *segments*: from the epoch that it has reached to the next rung of the search. Between segments it
holds no worker, so that a scheduler can weigh it against the other trials before another epoch is paid for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from duchenne_jobs.config import RunConfig
from duchenne_jobs.data.cache import CacheChoice
from duchenne_jobs.data.planning import FoldsRequest

Phase = Literal["search", "evaluation"]


@dataclass(frozen=True, order=True)
class JobKey:
    """What a result is filed under. `trial` is None for a comparator, which no trial chose; `inner` is
    None in the evaluation phase, where the test fold is held out.
    """

    trial: int | None
    phase: Phase
    method: str
    fold: int
    inner: int | None
    seed: int

    def __str__(self) -> str:
        inner = "" if self.inner is None else f", inner fold {self.inner}"
        trial = "comparator" if self.trial is None else f"trial {self.trial}"
        return f"{trial}, {self.phase} of {self.method}, fold {self.fold}{inner}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """A file name of its own."""
        trial = "" if self.trial is None else f"-trial{self.trial}"
        inner = "" if self.inner is None else f"-inner{self.inner}"
        return f"{self.phase}{trial}-{self.method}-fold{self.fold}{inner}-seed{self.seed}"


def inner_predictions_path(folder: Path, key: JobKey) -> Path:
    """Where a job of the search leaves its validation predictions of its last epoch, for thresholds to be chosen by."""
    return folder / "inner" / f"{key.slug}.arrow"


@dataclass(frozen=True)
class FoldJob:
    """One training on one fold.

    Attributes:
        dataset_uri, dataset_digest: the data, refused when its digest differs.
        folder: where checkpoints and predictions go.
        epochs: the last epoch; a job that reached it writes its predictions if its phase is `evaluation`.
        parent: a job whose steps so far are the first of this one too: its checkpoint spares running them again.
        checkpoints: folder or `s3://` URI of the sweep's checkpoints; None keeps them in `folder`.
        cache: how its faces are kept on the machine; changes how fast it is, never what it computes.
    """

    key: JobKey
    config: RunConfig
    dataset_uri: str
    dataset_digest: str
    folds: FoldsRequest
    folder: str
    epochs: int
    parent: JobKey | None = None
    checkpoints: str | None = None
    cache: CacheChoice = field(default_factory=CacheChoice)


@dataclass(frozen=True)
class SegmentResult:
    """Where a segment ended.

    Attributes:
        epoch: epochs done by the job so far.
        metrics: of the last epoch done.
        predictions: path of the held-out predictions, once the job is done and sealed folds may be written.
        predictions_digest: SHA-256 of that file.
    """

    epoch: int
    metrics: dict[str, float]
    predictions: str | None = None
    predictions_digest: str | None = None


class JobStopped(Exception):  # noqa: N818 - not an error: the scheduler changed its mind, or the budget did
    """Raised inside a job when its lease was not renewed; the job's last checkpoint stands."""


class JobFailed(Exception):  # noqa: N818 - reads as the outcome it is
    """The job can't succeed however often it is run; the message is for the user."""


class JobContext(Protocol):
    """What a running job may ask of its scheduler."""

    def tick(self) -> None:
        """Called at every step. Raises `JobStopped` when the job should end now."""

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        """File the metrics of an epoch. Raises `JobStopped` when the job should end now."""
