"""One split into training, validation and test subjects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duchenne_jobs.data import FoldError, make_holdout

SHARES = st.floats(0.05, 0.45)


@given(count=st.integers(20, 200), validation=SHARES, test=SHARES, seed=st.integers(0, 2**32 - 1))
def test_the_three_parts_are_a_partition_of_the_asked_sizes(
    count: int, validation: float, test: float, seed: int
) -> None:
    subjects = [f"S{number:03d}" for number in range(count)]
    plan = make_holdout(reversed(subjects), validation, test, seed)
    (fold,), (inner,) = plan.folds, plan.inner_folds(0, 1)
    assert sorted(fold.train + inner.validation + fold.test) == subjects
    assert (len(inner.validation), len(fold.test)) == (round(validation * count), round(test * count))
    assert fold.train == inner.train, "validation subjects are trained on in neither phase"
    assert plan == make_holdout(subjects, validation, test, seed)


def test_seeds_give_other_splits_and_digests() -> None:
    subjects = [f"S{number:03d}" for number in range(40)]
    digests = {make_holdout(subjects, 0.25, 0.25, seed).digest for seed in range(20)}
    assert len(digests) == 20
    # The same three parts in another role are another plan.
    plan = make_holdout(subjects, 0.25, 0.25, 0)
    assert plan.digest != type(plan)(parts=(plan.parts[1], plan.parts[0], plan.parts[2]), seed=0).digest


def test_a_part_without_a_subject_is_refused() -> None:
    with pytest.raises(FoldError, match=r"3 subjects give 3, 0 and 0; change folds.validation and folds.test"):
        make_holdout(["a", "b", "c"], 0.1, 0.1, 0)
    with pytest.raises(FoldError, match="a holdout has outer fold 0 and 1 inner fold"):
        make_holdout([f"S{number}" for number in range(20)], 0.2, 0.2, 0).inner_folds(0, 3)
