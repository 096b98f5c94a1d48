"""From how a sweep asks for its folds to the folds of its dataset: the one way, for workers, drivers and the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from duchenne_jobs.data.balance import SubjectLabels
from duchenne_jobs.data.folds import FoldPlan, make_folds
from duchenne_jobs.data.holdout import make_holdout
from duchenne_jobs.data.partition import SubjectPartitions
from duchenne_jobs.data.protocol import load_protocol

if TYPE_CHECKING:
    from duchenne_jobs.data.dataset import Dataset

FoldMethod = Literal["shuffled", "balanced", "holdout", "partition"]


@dataclass(frozen=True)
class FoldsRequest:
    """How the dataset's subjects are split; a pure function of this, the subjects and, if balanced, their labels; in
    the owners' partition, of their partitions.

    `validation` and `test` are the shares of a holdout.
    """

    count: int
    inner: int
    seed: int
    protocol: str | None = None
    method: FoldMethod = "shuffled"
    validation: float = 0.0
    test: float = 0.0


def folds_of(data: Dataset, request: FoldsRequest) -> FoldPlan:
    """The outer folds of a sweep over a dataset, whose labels are read where `request` balances by them.

    Raises:
        FoldError: the subjects can't be split so.
    """
    if request.method == "partition":
        return SubjectPartitions.of(data).plan(request.validation, request.seed)
    labels = SubjectLabels.of(data) if request.method == "balanced" else None
    return plan_folds(data.subjects, request, labels)


def plan_folds(subjects: tuple[str, ...], request: FoldsRequest, labels: SubjectLabels | None = None) -> FoldPlan:
    """A holdout, its protocol's parts, or a k-fold over the sorted subjects, balanced where `labels` are given.

    Raises:
        FoldError: the subjects can't be split so.
    """
    if request.method == "holdout":
        return make_holdout(subjects, request.validation, request.test, request.seed)
    if request.protocol is not None:
        return load_protocol(request.protocol).plan(subjects, request.seed, labels)
    return make_folds(subjects, request.count, request.seed, labels)
