"""The summary, the label figure and the contact sheet."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import (
    Dataset,
    DatasetError,
    DatasetWriter,
    Description,
    open_dataset,
    save_contact_sheet,
    save_label_figure,
    summary,
)

GREEN = (0, 230, 118)


def test_the_summary_counts(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    facts = summary(faces)
    assert (facts.rows, facts.subjects, facts.shards, facts.null_images) == (24, 4, len(faces.manifest.shards), 4)
    assert facts.bytes == sum(path.stat().st_size for path in Path(faces.uri).glob("*.arrow"))
    assert (facts.digest, facts.licence, facts.consent) == (faces.digest, "drawn by a test", "no people")
    au2 = facts.tasks[1]
    assert (au2.name, au2.positive, au2.negative, au2.unknown) == ("AU2", 8, 12, 4)
    assert au2.frequency == pytest.approx(8 / 20)


def test_a_task_without_a_label_has_no_frequency(tmp_path: Path) -> None:
    described = Description(name="one", tasks=("t",), columns=("subject", "labels"), licence="none", consent="none")
    with DatasetWriter(tmp_path / "one", described) as writer:
        writer.write_rows([{"subject": "s", "labels": [-1]}])
    facts = summary(open_dataset(tmp_path / "one"))
    assert facts.tasks[0].frequency is None
    assert facts.null_images is None
    assert save_label_figure(open_dataset(tmp_path / "one"), tmp_path / "one.png").stat().st_size > 0


def test_the_label_figure_shows_positives_and_unknowns_in_proportion(faces: Dataset, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(save_label_figure(faces, tmp_path / "figures" / "labels.png")).convert("RGB"))
    share = {}
    for name, colour in {"positive": (0, 114, 178), "unknown": (230, 159, 0)}.items():
        share[name] = int((pixels == colour).all(-1).sum())
    assert share["positive"] > share["unknown"] > 0
    # 12 + 8 positives, 0 + 4 unknown; the legend's two swatches are alike and small.
    assert 3.5 < share["positive"] / share["unknown"] < 6


def picture(size: tuple[int, int], kind: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (200, 160, 140)).save(buffer, kind)
    return buffer.getvalue()


def write_pictures(target: Path, description: Description, rows: list[dict[str, Any]], images: list[bytes]) -> Dataset:
    with DatasetWriter(target, description) as writer:
        for row, image in zip(rows, images, strict=False):
            writer.write_rows([{**row, "image": image, "landmarks": [10.0, 10.0, 20.0, 30.0, 1e9, -5.0]}])
    return open_dataset(target)


def test_a_contact_sheet_of_faces_with_landmarks(
    tmp_path: Path, description: Description, rows: list[dict[str, Any]]
) -> None:
    images = [picture((40 + 4 * index, 60), "JPEG" if index % 2 else "PNG") for index in range(7)]
    dataset = write_pictures(tmp_path / "set", description, rows, images)
    sheet = Image.open(save_contact_sheet(dataset, tmp_path / "sheet.png")).convert("RGB")
    assert sheet.size == (3 * 128, 3 * 142)
    dots = (np.asarray(sheet) == GREEN).all(-1)
    tiles = [dots[142 * (index // 3) :, 128 * (index % 3) :][:142, :128].any() for index in range(9)]
    assert tiles == [True] * 7 + [False] * 2
    small = Image.open(save_contact_sheet(dataset, tmp_path / "small.png", count=2))
    assert small.size == (2 * 128, 142)


def test_images_that_cannot_be_shown_are_named(
    tmp_path: Path, description: Description, rows: list[dict[str, Any]], toy: Dataset, faces: Dataset
) -> None:
    with pytest.raises(DatasetError, match="has no image column"):
        save_contact_sheet(toy, tmp_path / "x.png")
    with pytest.raises(DatasetError, match=r"row 1 \(subject S0\): its image is no readable JPEG or PNG"):
        save_contact_sheet(faces, tmp_path / "x.png")
    bomb = write_pictures(tmp_path / "bomb", description, rows, [picture((9000, 9000), "PNG")])
    with pytest.raises(
        DatasetError, match="row 0: an image may have at most 64000000 pixels, but this one has 9000 x 9000"
    ):
        save_contact_sheet(bomb, tmp_path / "x.png")
    cut = write_pictures(tmp_path / "cut", description, rows, [picture((90, 90), "JPEG")[:400]])
    with pytest.raises(DatasetError, match="its image is no readable JPEG or PNG"):
        save_contact_sheet(cut, tmp_path / "x.png")
    with pytest.raises(ValueError, match="count >= 1 must hold"):
        save_contact_sheet(faces, tmp_path / "x.png", count=0)
    with DatasetWriter(tmp_path / "none", description) as writer:
        writer.write_rows([rows[0]])
    with pytest.raises(DatasetError, match="every one of its 1 images is null"):
        save_contact_sheet(open_dataset(tmp_path / "none"), tmp_path / "x.png")
