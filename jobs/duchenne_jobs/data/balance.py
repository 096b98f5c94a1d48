"""Folds balanced by blocks of tasks (Tallec 2023, eq. 4.13 and the text after it), subject-exclusive all the same.

The 2^T label vectors are too many classes to balance. So tasks are partitioned into blocks, a row's labels in a block
are one category (eq. 4.13 within the block), and every part of the subjects should hold its share of each category.

Everything that decides is integer arithmetic: a fold plan is computed anew by every worker and must not depend on how a
machine adds floating-point numbers.

Shapes: S subjects, P distinct (subject, label vector) pairs, T tasks, C categories of all blocks, K parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.data.schema import matrix

if TYPE_CHECKING:
    from duchenne_jobs.data.dataset import Dataset

BLOCK_SIZE = 3
"""Tasks a block at most: 8 categories, of which 27 subjects leave few empty."""

PARTNERS = 512
"""Subjects that one subject may be swapped with: all of them in sets of faces, a draw of them in larger ones."""

MAX_PASSES = 20
_SCALE = 2**20
_MI_DIGITS = 9  # mutual information below this is rounding, which may differ between machines


@dataclass(frozen=True, eq=False)
class SubjectLabels:
    """The labels of every subject, each distinct vector once with its count. Equal if the digests are.

    Attributes:
        tasks: T names.
        subjects: S names, sorted.
        owner: (P,) index of the subject; `patterns`: (P, T) int8 labels in {-1, 0, 1}; `counts`: (P,) rows.
    """

    tasks: tuple[str, ...]
    subjects: tuple[str, ...]
    owner: NDArray[np.int64]
    patterns: NDArray[np.int8]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> SubjectLabels:
        """Read the labels of a dataset."""
        table = dataset.rows(["subject", "labels"])
        names = table["subject"].to_numpy(zero_copy_only=False)
        return cls.from_rows(dataset.tasks, names, matrix(table, "labels"))

    @classmethod
    def from_rows(cls, tasks: Sequence[str], names: NDArray[np.object_], labels: NDArray[np.integer]) -> SubjectLabels:
        """From (N,) names of subjects and (N, T) labels in {-1, 0, 1}."""
        subjects, owner = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        rows = np.column_stack([owner, labels.astype(np.int64)])
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        return cls(
            tuple(tasks),
            tuple(subjects.tolist()),
            distinct[:, 0],
            distinct[:, 1:].astype(np.int8),
            counts.astype(np.int64),
        )

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of all of it."""
        digest = hashlib.sha256(repr((self.tasks, self.subjects)).encode())
        for array in (self.owner, self.patterns, self.counts):
            digest.update(np.ascontiguousarray(array).tobytes())
        return "sha256:" + digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubjectLabels) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def of_subjects(self, subjects: Collection[str]) -> SubjectLabels:
        """The labels of some of the subjects alone."""
        wanted = set(subjects)
        kept = [index for index, name in enumerate(self.subjects) if name in wanted]
        place = np.full(len(self.subjects), -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        rows = place[self.owner] >= 0
        names = tuple(self.subjects[index] for index in kept)
        return SubjectLabels(self.tasks, names, place[self.owner[rows]], self.patterns[rows], self.counts[rows])

    def without_positives(self, subjects: Collection[str]) -> tuple[str, ...]:
        """The tasks that have no positive label among the rows of these subjects."""
        wanted = set(subjects)
        mine = np.array([name in wanted for name in self.subjects], dtype=bool)[self.owner]
        found = (self.patterns[mine] == 1).any(axis=0)
        return tuple(task for task, there in zip(self.tasks, found, strict=True) if not there)


def task_blocks(labels: SubjectLabels, size: int = BLOCK_SIZE) -> tuple[tuple[int, ...], ...]:
    """Partition the tasks so that blocks are as independent of each other as a greedy search makes them.

    Blocks are merged, the pair whose tasks share the most mutual information first, while none exceeds `size` tasks:
    what depends on each other is then balanced together.

    Returns:
        Indices of tasks, ascending within a block; blocks by their first task.
    """
    shared = _mutual_information(labels)
    blocks = [[task] for task in range(len(labels.tasks))]
    while True:
        best, pair = 0.0, None
        for left in range(len(blocks)):
            for right in range(left + 1, len(blocks)):
                gain = round(float(shared[np.ix_(blocks[left], blocks[right])].sum()), _MI_DIGITS)
                if gain > best and len(blocks[left]) + len(blocks[right]) <= size:
                    best, pair = gain, (left, right)
        if pair is None:
            return tuple(tuple(block) for block in sorted(sorted(block) for block in blocks))
        blocks[pair[0]] += blocks.pop(pair[1])


def block_counts(labels: SubjectLabels, blocks: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(S, C): rows of each subject in each category `sum_t y^t 2^t` of each block (Tallec 2023, eq. 4.13).

    A row with an unknown label in a block is left out of that block; categories that never occur have no column.
    """
    columns = []
    for block in blocks:
        own = labels.patterns[:, list(block)].astype(np.int64)
        known = (own >= 0).all(axis=1)
        category = (own[known] << np.arange(len(block))).sum(axis=1)
        found = np.zeros((len(labels.subjects), 1 << len(block)), dtype=np.int64)
        np.add.at(found, (labels.owner[known], category), labels.counts[known])
        columns.append(found[:, found.any(axis=0)])
    return np.concatenate(columns, axis=1)


def imbalance(parts: Sequence[Sequence[str]], labels: SubjectLabels) -> float:
    """`sum_k sum_c (n_kc - N_c / K)^2 / N_c`: 0 where every part holds its share of every category."""
    counts = block_counts(labels, task_blocks(labels))
    place = {name: index for index, name in enumerate(labels.subjects)}
    held = np.stack([counts[[place[name] for name in part]].sum(axis=0) for part in parts])
    total = counts.sum(axis=0)
    return float((((held - total / len(parts)) ** 2) / total).sum())


def balanced_parts(parts: Sequence[Sequence[str]], labels: SubjectLabels, seed: int) -> tuple[tuple[str, ...], ...]:
    """Swap subjects between `parts` while that lowers their `imbalance`: sizes stay, and it never rises.

    Args:
        parts: where to start: the shuffled folds.
        labels: of the subjects of all parts, and no others.
        seed: draws the partners of a subject where there are more than `PARTNERS`.
    """
    count, subjects = len(parts), len(labels.subjects)
    rows = block_counts(labels, task_blocks(labels))
    totals = rows.sum(axis=0)
    weights = _SCALE // np.maximum(totals, 1) + 1
    part_of = {name: index for index, part in enumerate(parts) for name in part}
    place = np.array([part_of[name] for name in labels.subjects], dtype=np.int64)
    excess = np.stack([count * rows[place == part].sum(axis=0) - totals for part in range(count)])
    order = np.random.RandomState(seed).permutation(subjects)
    for _ in range(MAX_PASSES):
        swaps = 0
        for position, subject in enumerate(order):
            partners = order[(position + 1 + np.arange(min(PARTNERS, subjects - 1))) % subjects]
            partners = partners[place[partners] != place[subject]]
            if not len(partners):
                continue
            moved = count * (rows[partners] - rows[subject])
            between = excess[place[subject]] - excess[place[partners]]
            change = (weights * moved * (moved + between)).sum(axis=1)
            best = int(change.argmin())
            if change[best] < 0:
                partner = partners[best]
                excess[place[subject]] += moved[best]
                excess[place[partner]] -= moved[best]
                place[subject], place[partner] = place[partner], place[subject]
                swaps += 1
        if not swaps:
            break
    return tuple(tuple(labels.subjects[index] for index in np.flatnonzero(place == part)) for part in range(count))


def _mutual_information(labels: SubjectLabels) -> NDArray[np.float64]:
    """(T, T) mutual information in nats of each pair of tasks, over the rows that know both; 0 on the diagonal."""
    classes = [(labels.patterns == value).astype(np.int64) for value in (0, 1)]
    joint = {(a, b): (classes[a] * labels.counts[:, None]).T @ classes[b] for a in (0, 1) for b in (0, 1)}
    rows = sum(joint.values())
    shared = np.zeros(rows.shape)
    for (a, b), both in joint.items():
        first = joint[a, 0] + joint[a, 1]
        second = joint[0, b] + joint[1, b]
        seen = both > 0
        shared[seen] += both[seen] / rows[seen] * np.log(both[seen] * rows[seen] / (first[seen] * second[seen]))
    np.fill_diagonal(shared, 0.0)
    return shared
