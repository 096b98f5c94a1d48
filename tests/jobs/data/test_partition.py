"""A dataset's own partition as one split of its subjects."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne_jobs.data import Dataset, DatasetWriter, Description, FoldError, SubjectPartitions, folds_of, open_dataset
from duchenne_jobs.data.manifest import Partitions
from duchenne_jobs.training import FoldsRequest

THREE = Partitions(train="train", validation="valid", test="test")
TWO = Partitions(train="train", test="test")


def written(folder: Path, rows: list[tuple[str, str]], partitions: Partitions | None) -> Dataset:
    """A dataset of (subject, sequence)."""
    description = Description(
        name="d",
        tasks=("a",),
        columns=("subject", "sequence", "labels"),
        partitions=partitions,
        licence="none",
        consent="none",
    )
    with DatasetWriter(folder, description) as writer:
        writer.write_rows([{"subject": subject, "sequence": part, "labels": [1]} for subject, part in rows])
    return open_dataset(folder)


ROWS = [("c", "train"), ("a", "train"), ("a", "train"), ("e", "test"), ("b", "valid"), ("d", "test")]


def test_the_owners_partition_is_one_split(tmp_path: Path) -> None:
    plan = folds_of(written(tmp_path / "d", ROWS, THREE), FoldsRequest(1, 1, 0, method="partition"))
    (fold,) = plan.folds
    (inner,) = plan.inner_folds(0, 1)
    assert (fold.train, fold.test) == (("a", "c"), ("d", "e"))
    assert (inner.train, inner.validation) == (("a", "c"), ("b",))


def test_a_share_of_the_training_subjects_validates_where_no_partition_does(tmp_path: Path) -> None:
    rows = [(f"s{number:02d}", "train") for number in range(20)] + [("t", "test")]
    dataset = written(tmp_path / "d", rows, TWO)
    plans = [folds_of(dataset, FoldsRequest(1, 1, seed, method="partition", validation=0.25)) for seed in (0, 0, 1)]
    assert plans[0].digest == plans[1].digest != plans[2].digest
    (inner,) = plans[0].inner_folds(0, 1)
    assert (len(inner.train), len(inner.validation), plans[0].folds[0].test) == (15, 5, ("t",))
    assert plans[0].folds[0].train == inner.train
    with pytest.raises(FoldError, match=r"^folds\.validation: training and validation must have a subject each"):
        SubjectPartitions.of(dataset).plan(0.001, 0)


def test_a_share_and_a_partition_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(FoldError, match=r"have one of 1 subjects and the share is 0\.1; remove it"):
        SubjectPartitions.of(written(tmp_path / "three", ROWS, THREE)).plan(0.1, 0)
    two = [row for row in ROWS if row[1] != "valid"]
    with pytest.raises(FoldError, match=r"have none and the share is 0; add it"):
        SubjectPartitions.of(written(tmp_path / "two", two, TWO)).plan(0, 0)


@pytest.mark.parametrize(
    ("rows", "partitions", "message"),
    [
        ([*ROWS, ("a", "test")], THREE, "subject 'a' is in part 0 and in part 2; leave it in one"),
        (ROWS, TWO, "the partitions are train, test, but subject 'b' has rows in 'valid'; ingest the dataset again"),
        ([("a", "train"), ("b", "test")], THREE, "part 1 has no subject"),
        (ROWS, None, "partition needs a dataset that its owners split, but .* was not; choose another method"),
    ],
)
def test_rows_that_make_no_partition(
    rows: list[tuple[str, str]], partitions: Partitions | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FoldError, match=message):
        SubjectPartitions.of(written(tmp_path / "d", rows, partitions))


def test_partitions_need_the_column_that_names_them() -> None:
    with pytest.raises(ValueError, match="partitions are named in the column 'sequence', but there is none"):
        Description(
            name="d", tasks=("a",), columns=("subject", "labels"), partitions=TWO, licence="none", consent="none"
        )
