"""Subject-exclusive folds, outer and inner, and the check that no row crosses them.

A fold plan is an ordered partition of the subjects into parts: fold k tests on part k and trains on the others. Within
fold k, inner folds split its training subjects again, for the search to validate on; the test part stays sealed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import FoldError, LeakError

if TYPE_CHECKING:
    from duchenne_jobs.data.balance import SubjectLabels

MAX_SEED = 2**32 - 1  # the largest that numpy's RandomState, and so scikit-learn, takes


@dataclass(frozen=True)
class Fold:
    """Outer fold `index` (0-based): subjects to train on and subjects to test on, both sorted."""

    index: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class InnerFold:
    """Inner fold `inner` of outer fold `outer` (0-based); both parts lie within the outer fold's training subjects."""

    outer: int
    inner: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class FoldPlan:
    """An ordered partition of subjects. `seed` is where the inner folds' seeds come from.

    `labels`, of all subjects, where the inner folds are balanced by them as well.

    Raises:
        FoldError: fewer than two parts, an empty part, or a subject in two parts.
    """

    parts: tuple[tuple[str, ...], ...]
    seed: int
    labels: SubjectLabels | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_parts(self.parts)
        object.__setattr__(self, "parts", tuple(tuple(sorted(part)) for part in self.parts))

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject, sorted."""
        return tuple(sorted(subject for part in self.parts for subject in part))

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """Fold k tests on part k and trains on the other parts."""
        return tuple(
            Fold(index, train=tuple(sorted(set(self.subjects).difference(part))), test=part)
            for index, part in enumerate(self.parts)
        )

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of parts, seed and labels: equal plans, and only they, give equal outer and inner folds."""
        content: dict[str, Any] = {"parts": [list(part) for part in self.parts], "seed": self.seed}
        if self.labels is not None:
            content["balanced"] = self.labels.digest
        return canonical_digest(content)

    def inner_seed(self, outer: int) -> int:
        """Seed of the inner folds of outer fold `outer`: the first 32 bits of a hash of (seed, outer)."""
        text = f"duchenne inner folds: seed {self.seed}, outer fold {outer}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def inner_folds(self, outer: int, count: int) -> tuple[InnerFold, ...]:
        """Split the training subjects of outer fold `outer` into `count` validation parts.

        Raises:
            FoldError: no such outer fold, or more inner folds than training subjects.
        """
        if not 0 <= outer < len(self.folds):
            raise FoldError(f"outer fold must be in 0..{len(self.folds) - 1}, but got {outer}")
        train = self.folds[outer].train
        parts = split_subjects(train, count, self.inner_seed(outer), f"inner folds of fold {outer}", self.labels)
        return tuple(
            InnerFold(outer, inner, train=tuple(sorted(set(train).difference(part))), validation=part)
            for inner, part in enumerate(parts)
        )


def make_folds(subjects: Iterable[str], count: int, seed: int, labels: SubjectLabels | None = None) -> FoldPlan:
    """`count` folds over the sorted subjects: scikit-learn's `KFold(count, shuffle=True, random_state=seed)`.

    With `labels`, subjects are then swapped until the folds are balanced (see `duchenne_jobs.data.balance`).

    Raises:
        FoldError: fewer than 2 folds, more folds than subjects, a subject twice, or a seed outside 0..2^32 - 1.
    """
    return FoldPlan(parts=split_subjects(subjects, count, seed, "folds", labels), seed=seed, labels=labels)


def split_subjects(
    subjects: Iterable[str], count: int, seed: int, what: str, labels: SubjectLabels | None = None
) -> tuple[tuple[str, ...], ...]:
    """The parts of `make_folds`, each sorted; `what` names them in error messages."""
    ordered = sorted(subjects)
    check_seed(seed)
    for left, right in pairwise(ordered):
        if left == right:
            raise FoldError(f"{what}: every subject must come once, but {left!r} comes twice")
    if count < 2:
        raise FoldError(f"{what}: at least 2 are needed, but got {count}; raise the count")
    if count > len(ordered):
        raise FoldError(
            f"{what}: count <= subjects must hold, but got {count} {what} and {len(ordered)} subjects; lower the count"
        )
    from sklearn.model_selection import KFold

    splitter = KFold(count, shuffle=True, random_state=seed)
    parts = tuple(tuple(ordered[row] for row in sorted(test)) for _, test in splitter.split(ordered))
    if labels is None:
        return parts
    from duchenne_jobs.data.balance import balanced_parts

    return balanced_parts(parts, labels.of_subjects(ordered), seed)


def check_parts(parts: Sequence[Sequence[str]], place: str = "folds") -> None:
    """Raise FoldError unless there are two or more parts, none empty, and no subject is listed twice."""
    if len(parts) < 2:
        raise FoldError(f"{place}: at least 2 parts are needed, but got {len(parts)}; add parts")
    seen: dict[str, int] = {}
    for index, part in enumerate(parts):
        if not part:
            raise FoldError(f"{place}: part {index} has no subject; fill or remove it")
        for subject in part:
            if subject in seen:
                where = "twice in part" if seen[subject] == index else f"in part {seen[subject]} and in part"
                raise FoldError(f"{place}: subject {subject!r} is {where} {index}; leave it in one")
            seen[subject] = index


def check_seed(seed: int) -> None:
    """Raise FoldError unless scikit-learn takes the seed."""
    if not 0 <= seed <= MAX_SEED:
        raise FoldError(f"0 <= seed <= {MAX_SEED} must hold, but got {seed}; choose another seed")


def check_rows(split_subjects: Collection[str], streamed_subjects: Any, what: str) -> None:
    """Refuse rows of subjects that don't belong to a split. Call it on the rows that were actually streamed.

    Args:
        split_subjects: who may appear.
        streamed_subjects: the subject of every streamed row: an iterable of str, a numpy array, or a pyarrow column.
        what: the split's name, for the message: "fold 2, train".

    Raises:
        LeakError: names the first leaked subject (in sorted order) and how many rows leaked.
    """
    values = streamed_subjects.to_pylist() if hasattr(streamed_subjects, "to_pylist") else list(streamed_subjects)
    allowed = frozenset(split_subjects)
    leaked = [str(subject) for subject in values if subject not in allowed]
    if leaked:
        others = f" ({len(set(leaked))} subjects leaked)" if len(set(leaked)) > 1 else ""
        raise LeakError(
            f"{what}: only its {len(allowed)} subjects may be streamed, but {len(leaked)} of {len(values)} rows are of "
            f"others, first {min(leaked)!r}{others}; make the folds again from this dataset, and read only their rows"
        )
