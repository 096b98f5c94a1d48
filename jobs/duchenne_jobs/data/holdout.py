"""One split into training, validation and test subjects: what a study without cross-validation uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import FoldError
from duchenne_jobs.data.folds import Fold, FoldPlan, InnerFold, check_seed


@dataclass(frozen=True)
class HoldoutPlan(FoldPlan):
    """A fold plan of one outer and one inner fold. `parts` are (test, validation, training) subjects.

    The validation subjects select a configuration and are never trained on, in neither phase (Tallec 2023, 2.5.1).
    """

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The one fold: it trains on the training subjects and tests on the test subjects."""
        test, _, train = self.parts
        return (Fold(0, train=train, test=test),)

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of the three parts."""
        return canonical_digest({"holdout": [list(part) for part in self.parts]})

    def inner_folds(self, outer: int, count: int) -> tuple[InnerFold, ...]:
        """The one inner fold: it trains on the training subjects and validates on the validation subjects.

        Raises:
            FoldError: another outer fold than 0, or another count than 1.
        """
        if (outer, count) != (0, 1):
            raise FoldError(
                f"a holdout has outer fold 0 and 1 inner fold, but got fold {outer} and {count} inner folds"
            )
        _, validation, train = self.parts
        return (InnerFold(0, 0, train=train, validation=validation),)


def make_holdout(subjects: Iterable[str], validation: float, test: float, seed: int) -> HoldoutPlan:
    """Shuffle the sorted subjects by `seed` and split them.

    Args:
        subjects: every subject of the dataset.
        validation, test: shares of the subjects, rounded to whole ones; the others are trained on.
        seed: 0 to 2^32 - 1.

    Raises:
        FoldError: a part without a subject, or a seed out of range.
    """
    ordered = sorted(subjects)
    shuffled = _shuffled(ordered, seed)
    tested, validated = round(test * len(ordered)), round(validation * len(ordered))
    parts = (shuffled[:tested], shuffled[tested : tested + validated], shuffled[tested + validated :])
    if not all(parts):
        raise FoldError(
            f"each of training, validation and test must have a subject, but {len(ordered)} subjects give "
            f"{len(parts[2])}, {validated} and {tested}; change folds.validation and folds.test"
        )
    return HoldoutPlan(parts=tuple(tuple(part) for part in parts), seed=seed)


def draw_subjects(subjects: Iterable[str], share: float, seed: int) -> tuple[str, ...]:
    """A share of the subjects, rounded to whole ones, drawn by `seed`; sorted.

    Raises:
        FoldError: a seed out of range.
    """
    ordered = sorted(subjects)
    return tuple(sorted(_shuffled(ordered, seed)[: round(share * len(ordered))]))


def _shuffled(ordered: list[str], seed: int) -> list[str]:
    check_seed(seed)
    from numpy.random import RandomState  # scikit-learn's shuffled folds use the same generator

    return [ordered[row] for row in RandomState(seed).permutation(len(ordered))]
