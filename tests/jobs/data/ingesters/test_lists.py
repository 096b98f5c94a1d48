"""CelebA and RAF-DB: lists of single images."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import DatasetError, SubjectPartitions, ingest
from duchenne_jobs.data.ingesters.celeba import SUBSETS
from duchenne_jobs.data.schema import matrix


def refused(name: str, source: Path, match: str, **options: Any) -> None:
    target = source.parent / "refused"
    with pytest.raises(DatasetError, match=match) as caught:
        ingest(name, source, target, workers=1, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_celeba_as_distributed_and_as_a_mirror_is_the_same(celeba: Path, celeba_mirror: Path, tmp_path: Path) -> None:
    dataset = ingest("celeba", celeba, tmp_path / "out", workers=1)
    dataset.verify()
    table = dataset.rows()
    assert dataset.tasks == ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Male")
    assert matrix(table, "labels").tolist() == [[(row + column) % 2 for column in range(6)] for row in range(6)]
    assert table["subject"].to_pylist() == ["100", "100", "101", "101", "102", "102"]
    assert table["sequence"].to_pylist() == ["train", "train", "valid", "valid", "test", "test"]
    assert table["frame"].to_pylist() == [1, 2, 3, 4, 5, 6]
    points = matrix(table, "landmarks").reshape(6, 5, 2)
    assert np.abs(points[:, 0, 1] - points[:, 1, 1]).max() < 0.01  # eyes level
    assert ingest("celeba", celeba_mirror, tmp_path / "mirror", workers=1).digest == dataset.digest
    assert SubjectPartitions.of(dataset) == SubjectPartitions(("100",), ("101",), ("102",))


def test_celeba_subsets_are_those_of_the_thesis(celeba: Path, tmp_path: Path) -> None:
    assert {name: len(attributes) for name, attributes in SUBSETS.items()} == dict.fromkeys(SUBSETS, 5)
    hair = ingest("celeba", celeba, tmp_path / "hair", workers=1, tasks="haircut")
    assert hair.tasks == SUBSETS["haircut"]
    two = ingest("celeba", celeba, tmp_path / "two", workers=1, tasks="Male,Bald")
    assert two.tasks == ("Male", "Bald")
    assert matrix(two.rows(), "labels")[:2].tolist() == [[1, 0], [0, 1]]
    refused("celeba", celeba, "celeba has no attribute 'Hat'; --tasks is all, gender", tasks="Hat")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("Anno/list_attr_celeba.txt", "6\n", "7\n", "lists 6 images, 6 different ones, its first line says 7"),
        ("Anno/list_attr_celeba.txt", "6\nBald", "Bald", "must start with the number of its images"),
        (
            "Anno/list_attr_celeba.txt",
            "Bald Black_Hair Blond_Hair Brown_Hair Gray_Hair Male\n",
            "",
            "must name its columns",
        ),
        ("Anno/list_attr_celeba.txt", "000001.jpg  -1", "000001.jpg  0", "an attribute is -1 or 1, but saw '0'"),
        ("Anno/list_attr_celeba.txt", "000001.jpg", "../../x.jpg", "line 3: expected an image and 6 values"),
        ("Anno/list_attr_celeba.txt", "000002.jpg", "000001.jpg", "lists 6 images, 5 different ones"),
        ("Anno/identity_CelebA.txt", "000006.jpg  102\n", "", "6 images and .*identity_CelebA.txt 5, but they must"),
        ("Anno/identity_CelebA.txt", "000006.jpg  102", "000006.jpg", "line 6: expected an image and 1 values"),
        ("Eval/list_eval_partition.txt", "  2", "  3", "a partition is 0, 1 or 2, but saw '3'"),
        ("Anno/list_landmarks_align_celeba.txt", "lefteye_x", "left_x", "must have the columns lefteye_x"),
        ("Anno/list_landmarks_align_celeba.txt", "000001.jpg  ", "000001.jpg  x", "expected ten numbers"),
    ],
)
def test_malformed_celeba_lists(celeba: Path, file: str, old: str, new: str, message: str) -> None:
    edit(celeba / file, old, new)
    refused("celeba", celeba, message)


def test_missing_files_of_celeba_are_named(celeba: Path) -> None:
    (celeba / "Img" / "img_align_celeba" / "000004.jpg").unlink()
    refused("celeba", celeba, r"image 000004.jpg of celeba is missing")
    (celeba / "Anno" / "identity_CelebA.txt").unlink()
    refused("celeba", celeba, r"the list identity_CelebA of celeba is missing")
    refused("celeba", celeba, "leave --landmarks out", landmarks="x")
    refused("celeba", celeba, "leave --every out", every=2)


def test_rafdb_is_one_hot_over_seven_emotions(rafdb: Path, tmp_path: Path) -> None:
    dataset = ingest("rafdb", rafdb, tmp_path / "out", workers=1, size=100)
    dataset.verify()
    table = dataset.rows()
    assert dataset.tasks == ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
    assert table["subject"].to_pylist()[:3] == ["test_0001", "test_0002", "train_00001"]
    assert table["sequence"].to_pylist() == ["test"] * 2 + ["train"] * 7
    assert [len(part) for part in vars(SubjectPartitions.of(dataset)).values()] == [7, 0, 2]
    labels = matrix(table, "labels")
    assert (labels.sum(1) == 1).all()
    assert (labels.argmax(1) + 1).tolist() == [5, 7, 1, 2, 3, 4, 5, 6, 7]
    assert dataset.manifest.crop is not None
    assert dataset.manifest.crop.aligned_by == "source"
    # The owners aligned the images: at their own size they come out as they were.
    crop = np.asarray(Image.open(BytesIO(table["image"][2].as_py()))).astype(int)
    original = np.asarray(Image.open(rafdb / "basic" / "Image" / "aligned" / "train_00001_aligned.jpg")).astype(int)
    assert np.abs(crop - original).mean() < 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train_00001.jpg 1", "train_00001.jpg 8", "line 1: expected `train_00001.jpg` and 1 to 7"),
        ("train_00001.jpg 1", "train_00001.jpg 0", "line 1: expected"),
        ("train_00001.jpg 1", "../train_00001.jpg 1", "line 1: expected"),
        ("train_00001.jpg 1", "train_00002.jpg 1", "must list each image once"),
        ("train_00001.jpg 1", "train_99999.jpg 1", r"image train_99999_aligned.jpg of rafdb is missing"),
    ],
)
def test_malformed_rafdb_lists(rafdb: Path, old: str, new: str, message: str) -> None:
    edit(rafdb / "basic" / "EmoLabel" / "list_patition_label.txt", old, new)
    refused("rafdb", rafdb, message)


def test_rafdb_refuses_what_it_has_no_use_for(rafdb: Path) -> None:
    refused("rafdb", rafdb, "leave --landmarks out", landmarks="x")
    refused("rafdb", rafdb, "leave --every out", every=2)
    (rafdb / "basic" / "EmoLabel" / "list_patition_label.txt").unlink()
    refused("rafdb", rafdb, r"the list of labels of rafdb is missing")
