"""Folds: scikit-learn's, subject-exclusive, nested, the same for the same subjects in any order."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from duchenne_jobs.data import FoldError, FoldPlan, LeakError, check_rows, make_folds

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
some_subjects = st.lists(names, min_size=6, max_size=40, unique=True)
counts = st.integers(2, 4)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(subjects=some_subjects, count=counts, inner=st.integers(2, 3), seed=seeds)
def test_folds_are_disjoint_cover_everyone_and_nest(subjects: list[str], count: int, inner: int, seed: int) -> None:
    plan = make_folds(subjects, count, seed)
    everyone = set(subjects)
    assert sorted(subject for fold in plan.folds for subject in fold.test) == sorted(everyone)
    for index, fold in enumerate(plan.folds):
        assert fold.index == index
        assert set(fold.train).isdisjoint(fold.test)
        assert set(fold.train) | set(fold.test) == everyone
        nested = plan.inner_folds(index, inner)
        assert sorted(subject for part in nested for subject in part.validation) == sorted(fold.train)
        for position, part in enumerate(nested):
            assert (part.outer, part.inner) == (index, position)
            assert set(part.train).isdisjoint(part.validation)
            assert set(part.train) | set(part.validation) == set(fold.train)
            assert set(part.train + part.validation).isdisjoint(fold.test)


@settings(max_examples=40, deadline=None)
@given(subjects=some_subjects, count=counts, seed=seeds, shuffle=st.randoms(use_true_random=False))
def test_folds_depend_on_the_set_of_subjects_only(
    subjects: list[str], count: int, seed: int, shuffle: random.Random
) -> None:
    mixed = list(subjects)
    shuffle.shuffle(mixed)
    left, right = make_folds(subjects, count, seed), make_folds(iter(mixed), count, seed)
    assert left.folds == right.folds
    assert left.digest == right.digest
    assert left.inner_folds(1, 2) == right.inner_folds(1, 2)


@settings(max_examples=25, deadline=None)
@given(subjects=some_subjects, count=counts, seed=seeds)
def test_folds_are_those_of_scikit_learn(subjects: list[str], count: int, seed: int) -> None:
    ordered = np.array(sorted(subjects), dtype=object)
    splitter = KFold(count, shuffle=True, random_state=seed)
    expected = [(tuple(ordered[train]), tuple(ordered[test])) for train, test in splitter.split(ordered)]
    assert [(fold.train, fold.test) for fold in make_folds(subjects, count, seed).folds] == expected


def test_inner_folds_are_those_of_scikit_learn_too() -> None:
    plan = make_folds([f"s{index:02d}" for index in range(20)], 4, 5)
    train = np.array(plan.folds[2].train)
    splitter = KFold(3, shuffle=True, random_state=plan.inner_seed(2))
    expected = [(tuple(train[left]), tuple(train[right])) for left, right in splitter.split(train)]
    assert [(fold.train, fold.validation) for fold in plan.inner_folds(2, 3)] == expected
    assert len({plan.inner_seed(outer) for outer in range(4)}) == 4


def test_the_digest_is_stable_over_time_and_tells_plans_apart() -> None:
    subjects = ["a", "b", "c", "d"]
    digest = make_folds(subjects, 2, 0).digest
    # A record of a past release compares against this: a change here makes every stored result unmatchable.
    written = b'{"parts":[["c","d"],["a","b"]],"seed":0}'
    assert digest == f"sha256:{hashlib.sha256(written).hexdigest()}"
    assert len({digest, make_folds(subjects, 2, 1).digest, make_folds(subjects, 3, 0).digest}) == 3
    assert FoldPlan(parts=(("b", "a"), ("c",)), seed=0) == FoldPlan(parts=(("a", "b"), ("c",)), seed=0)


def test_refusals_say_the_numbers_and_the_names() -> None:
    with pytest.raises(FoldError, match="got 4 folds and 3 subjects; lower the count"):
        make_folds(["a", "b", "c"], 4, 0)
    with pytest.raises(FoldError, match="at least 2 are needed, but got 1"):
        make_folds(["a", "b", "c"], 1, 0)
    with pytest.raises(FoldError, match="'b' comes twice"):
        make_folds(["a", "b", "b"], 2, 0)
    with pytest.raises(FoldError, match="0 <= seed <= 4294967295 must hold, but got 4294967296"):
        make_folds(["a", "b", "c"], 2, 2**32)
    plan = make_folds(["a", "b", "c"], 3, 0)
    with pytest.raises(
        FoldError, match=r"inner folds of fold 0: count <= subjects must hold, but got 3 .* and 2 subjects"
    ):
        plan.inner_folds(0, 3)
    with pytest.raises(FoldError, match=r"outer fold must be in 0\.\.2, but got 3"):
        plan.inner_folds(3, 2)
    with pytest.raises(FoldError, match="subject 'x' is in part 0 and in part 1"):
        FoldPlan(parts=(("x",), ("y", "x")), seed=0)
    with pytest.raises(FoldError, match="subject 'x' is twice in part 0"):
        FoldPlan(parts=(("x", "x"), ("y",)), seed=0)
    with pytest.raises(FoldError, match="part 1 has no subject"):
        FoldPlan(parts=(("x",), ()), seed=0)


@pytest.mark.parametrize("kind", [list, np.array, pa.array, lambda rows: pa.chunked_array([rows[:1], rows[1:]]), iter])
def test_a_leaked_row_is_found_whatever_holds_the_subjects(kind: object) -> None:
    assert callable(kind)
    check_rows(["a", "b"], kind(["a", "b", "a"]), "fold 0, train")
    with pytest.raises(LeakError, match=r"fold 0, train: only its 2 subjects .* 2 of 4 rows are of others, first 'c'"):
        check_rows(["a", "b"], kind(["a", "d", "b", "c"]), "fold 0, train")


@settings(max_examples=40, deadline=None)
@given(subjects=some_subjects, seed=seeds, data=st.data())
def test_any_row_of_a_test_subject_in_training_is_a_leak(subjects: list[str], seed: int, data: st.DataObject) -> None:
    fold = make_folds(subjects, 2, seed).folds[0]
    rows = data.draw(st.lists(st.sampled_from(fold.train), max_size=20))
    check_rows(fold.train, rows, "train")
    leaked = data.draw(st.sampled_from(fold.test))
    rows.insert(data.draw(st.integers(0, len(rows))), leaked)
    with pytest.raises(LeakError) as caught:
        check_rows(fold.train, rows, "train")
    assert repr(leaked) in str(caught.value)
