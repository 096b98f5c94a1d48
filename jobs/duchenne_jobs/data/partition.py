"""A dataset's own split: the subjects that its owners train, validate and test on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from duchenne_jobs.data.errors import FoldError
from duchenne_jobs.data.folds import check_parts
from duchenne_jobs.data.holdout import HoldoutPlan, draw_subjects

if TYPE_CHECKING:
    from duchenne_jobs.data.dataset import Dataset


@dataclass(frozen=True)
class SubjectPartitions:
    """Who is in which partition; `validation` is empty where the owners have none."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> SubjectPartitions:
        """Read them from the rows.

        Raises:
            FoldError: the dataset has none, a row is in none of them, or a subject has rows in two.
        """
        names = dataset.manifest.partitions
        if names is None:
            raise FoldError(
                f"folds.method: partition needs a dataset that its owners split, but {dataset.uri} was not; choose "
                "another method, or ingest it again if it was ingested by an earlier version"
            )
        table = dataset.rows(["subject", "sequence"]).group_by(["subject", "sequence"]).aggregate([])
        parts: dict[str, list[str]] = {name: [] for name in (names.train, names.validation, names.test) if name}
        for subject, partition in zip(table["subject"].to_pylist(), table["sequence"].to_pylist(), strict=True):
            if partition not in parts:
                raise FoldError(
                    f"{dataset.uri}: the partitions are {', '.join(parts)}, but subject {subject!r} has rows in "
                    f"{partition!r}; ingest the dataset again"
                )
            parts[partition].append(subject)
        check_parts(list(parts.values()), f"{dataset.uri}, partitions {', '.join(parts)}")
        found = {name: tuple(sorted(subjects)) for name, subjects in parts.items()}
        return cls(found[names.train], found[names.validation] if names.validation else (), found[names.test])

    def plan(self, validation: float, seed: int) -> HoldoutPlan:
        """One outer fold that tests on the test partition, and one inner fold.

        Args:
            validation: share of the training subjects that validate instead, where the owners have no such partition;
                else 0.
            seed: by which these are drawn.

        Raises:
            FoldError: a share although there is a validation partition; or none, and there is none.
        """
        if bool(self.validation) == bool(validation):
            have = f"one of {len(self.validation)} subjects" if self.validation else "none"
            raise FoldError(
                f"folds.validation: the owners' validation partition is taken, else a share of the training subjects, "
                f"but they have {have} and the share is {validation:g}; {'remove' if self.validation else 'add'} it"
            )
        if self.validation:
            return HoldoutPlan((self.test, self.validation, self.train), seed)
        drawn = draw_subjects(self.train, validation, seed)
        train = tuple(sorted(set(self.train).difference(drawn)))
        if not drawn or not train:
            raise FoldError(
                f"folds.validation: training and validation must have a subject each, but {validation:g} of "
                f"{len(self.train)} training subjects leave {len(train)} and {len(drawn)}; change the share"
            )
        return HoldoutPlan((self.test, drawn, train), seed)
