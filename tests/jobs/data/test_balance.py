"""Folds balanced by blocks of tasks: still a partition by subject, and better balanced than shuffled ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data import Dataset, FoldError, SubjectLabels, load_protocol, make_folds
from duchenne_jobs.data.balance import PARTNERS, balanced_parts, block_counts, imbalance, task_blocks

TASKS = ("AU1", "AU2", "AU4", "AU12")


def drawn(seed: int, subjects: int, rows: int = 12) -> SubjectLabels:
    """Each subject shows each action unit at a rate of its own; some labels are unknown."""
    draw = np.random.default_rng(seed)
    rates = draw.beta(0.3, 1.2, size=(subjects, len(TASKS)))
    labels = (draw.random((subjects, rows, len(TASKS))) < rates[:, None]).astype(np.int8)
    labels[draw.random(labels.shape) < 0.05] = -1
    names = np.repeat([f"s{index:03d}" for index in range(subjects)], rows)
    return SubjectLabels.from_rows(TASKS, names, labels.reshape(-1, len(TASKS)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), subjects=st.integers(4, 40), count=st.integers(2, 4))
def test_a_balanced_plan_is_a_partition_of_the_sizes_of_a_shuffled_one(seed: int, subjects: int, count: int) -> None:
    labels = drawn(seed, subjects)
    shuffled, balanced = make_folds(labels.subjects, count, seed), make_folds(labels.subjects, count, seed, labels)
    assert balanced.subjects == labels.subjects
    assert [len(part) for part in balanced.parts] == [len(part) for part in shuffled.parts]
    assert imbalance(balanced.parts, labels) <= imbalance(shuffled.parts, labels) + 1e-9
    assert balanced == make_folds(reversed(labels.subjects), count, seed, drawn(seed, subjects))


def test_balance_is_much_better_than_shuffled_on_average() -> None:
    ratios = []
    for seed in range(20):
        labels = drawn(seed, 27)
        plans = [make_folds(labels.subjects, 3, seed, given) for given in (labels, None)]
        ratios.append(imbalance(plans[0].parts, labels) / imbalance(plans[1].parts, labels))
    assert np.median(ratios) < 0.3


def test_inner_folds_are_balanced_and_within_the_training_subjects() -> None:
    labels = drawn(3, 24)
    plan, shuffled = make_folds(labels.subjects, 3, 5, labels), make_folds(labels.subjects, 3, 5)
    for fold in plan.folds:
        inner = [part.validation for part in plan.inner_folds(fold.index, 4)]
        assert sorted(name for part in inner for name in part) == list(fold.train)
        start = make_folds(fold.train, 4, plan.inner_seed(fold.index)).parts
        assert imbalance(inner, labels.of_subjects(fold.train)) < imbalance(start, labels.of_subjects(fold.train))
    assert plan.digest != shuffled.digest


def test_two_pairs_of_like_subjects_are_parted() -> None:
    labels = SubjectLabels.from_rows(
        ("AU1", "AU2"),
        np.array(["a", "b", "c", "d"], dtype=object),
        np.array([[1, 0], [1, 0], [0, 1], [0, 1]]),
    )
    assert imbalance([("a", "b"), ("c", "d")], labels) == 2.0  # each part has 2 of 2 where it should have 1, twice
    parts = balanced_parts([("a", "b"), ("c", "d")], labels, seed=0)
    assert imbalance(parts, labels) == 0.0


def test_blocks_hold_tasks_that_depend_on_each_other() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 2, size=(2, 500))
    flipped = np.where(draw.random(500) < 0.1, 1 - first, first)
    labels = np.column_stack([first, second, flipped, second])
    found = SubjectLabels.from_rows(TASKS, np.array([f"s{row}" for row in range(500)], dtype=object), labels)
    assert task_blocks(found, size=2) == ((0, 2), (1, 3))


def test_categories_of_a_block_by_hand() -> None:
    labels = SubjectLabels.from_rows(
        ("AU1", "AU2"), np.array(["a", "a", "b", "b"], dtype=object), np.array([[0, 1], [0, 1], [1, 1], [-1, 1]])
    )
    # y = AU1 + 2 AU2: category 2 twice in a, category 3 once in b; b's unknown AU1 is left out. Alone, AU2 is 1 in all.
    assert block_counts(labels, [(0, 1), (1,)]).tolist() == [[2, 0, 2], [0, 1, 2]]


def test_a_published_protocol_keeps_its_outer_folds() -> None:
    protocol = load_protocol("disfa")
    names = [name for part in protocol.parts for name in part]
    draw = np.random.default_rng(0)
    labels = SubjectLabels.from_rows(
        TASKS, np.repeat(np.array(names, dtype=object), 8), draw.integers(0, 2, size=(8 * len(names), 4))
    )
    plan = protocol.plan(names, 0, labels)
    assert plan.parts == protocol.plan(names, 0).parts
    assert plan.inner_folds(0, 3) != protocol.plan(names, 0).inner_folds(0, 3)


def test_many_subjects_are_balanced_by_drawn_partners() -> None:
    labels = drawn(1, PARTNERS + 200, rows=1)
    plans = [make_folds(labels.subjects, 3, 1, given) for given in (labels, None)]
    assert imbalance(plans[0].parts, labels) < 0.1 * imbalance(plans[1].parts, labels)


def test_labels_of_a_dataset_and_tasks_without_positives(toy: Dataset) -> None:
    labels = SubjectLabels.of(toy)
    assert labels.subjects == toy.subjects
    assert int(labels.counts.sum()) == toy.row_count
    assert labels.without_positives(toy.subjects) == ()
    assert labels.without_positives([]) == toy.tasks


def test_more_folds_than_subjects_are_refused() -> None:
    with pytest.raises(FoldError, match="count <= subjects must hold"):
        make_folds(["a"], 2, 0, drawn(0, 4))
