"""BP4D from its raw folder: codes, unknown labels, images by their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne_jobs.data import DatasetError, ingest
from duchenne_jobs.data.schema import matrix

AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)


def refused(source: Path, match: str, **options: Any) -> None:
    target = source.parent / "refused"
    with pytest.raises(DatasetError, match=match) as caught:
        ingest("bp4d", source, target, workers=1, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def codes(source: Path) -> Path:
    return source / "AUCoding" / "AU_OCC" / "F001_T1.csv"


def test_code_9_is_unknown_and_never_absent(bp4d: Path, tmp_path: Path) -> None:
    told: list[str] = []
    dataset = ingest("bp4d", bp4d, tmp_path / "out", workers=1, note=told.append)
    dataset.verify()
    assert dataset.tasks == tuple(f"AU{au}" for au in AUS)
    table = dataset.rows()
    assert list(zip(table["subject"].to_pylist(), table["sequence"].to_pylist(), strict=True))[::5] == [
        ("F001", "T1"), ("M018", "T8"),
    ]  # fmt: skip
    assert table["frame"].to_pylist() == [2440, 2441, 2442, 2443, 2444] * 2
    expected = [[(0, 1, -1)[(step + au - 1) % 3] for au in AUS] for step in range(5)]
    assert matrix(table, "labels").tolist() == expected * 2
    assert dataset.label_counts()["AU1"] == {-1: 2, 0: 4, 1: 4}
    assert told == ["2 images of frames that nobody coded were left out"]


def test_zero_padded_names_and_other_header_spellings_are_the_same(bp4d: Path, tmp_path: Path) -> None:
    plain = ingest("bp4d", bp4d, tmp_path / "plain", workers=1)
    for path in [*bp4d.glob("F001/T1/*.jpg"), *bp4d.glob("parsing/F001/T1/*.png")]:
        path.rename(path.with_name(path.name.zfill(10)))
    text = codes(bp4d).read_text(encoding="utf-8").splitlines()
    header = ",".join(["Frame", *(f" AU{number}" for number in text[0].split(",")[1:])])
    codes(bp4d).write_bytes(b"\xef\xbb\xbf" + "\r\n".join([header, *text[1:], ""]).encode())
    assert ingest("bp4d", bp4d, tmp_path / "padded", workers=1).digest == plain.digest


def test_landmarks_follow_the_rows_of_the_csv(bp4d: Path, tmp_path: Path) -> None:
    dataset = ingest("bp4d", bp4d, tmp_path / "out", workers=1, every=2)
    assert dataset.rows()["frame"].to_pylist() == [2440, 2442, 2444] * 2
    points = matrix(dataset.rows(), "landmarks").reshape(6, 49, 2)
    eyes = np.stack([points[:, 19:25].mean(1), points[:, 25:31].mean(1)], 1)
    assert np.ptp(eyes, axis=0).max() < 0.5
    whole = ingest("bp4d", bp4d, tmp_path / "whole", workers=1).rows().to_pylist()
    assert dataset.rows().to_pylist() == [row for row in whole if row["frame"] % 2 == 0]


def test_a_coded_frame_without_its_image_names_both_counts(bp4d: Path) -> None:
    (bp4d / "F001" / "T1" / "2441.jpg").unlink()
    refused(bp4d, r"F001_T1.csv codes 5 frames, but .*F001/T1 has images of 4 of them \(the first missing is 2441\)")


def test_two_images_of_one_frame(bp4d: Path) -> None:
    image = bp4d / "F001" / "T1" / "2441.jpg"
    image.with_name("02441.jpg").write_bytes(image.read_bytes())
    refused(bp4d, r"F001/T1 holds frame 2441 twice: 02441.jpg, 2441.jpg")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",24\n", "\n", "must have a header with the AU numbers, but has no column 24"),
        ("2441,", "2440,", "line 3: frame 2440 must come after 2440"),
        ("2441,", "x,", "line 3: expected 15 numbers"),
        ("2442,9,0", "2442,2,0", r"line 4: a code is 0, 1 or 9 \(unknown\), but saw '2'"),
        ("2442,9,0", "2442,0", "line 4: expected 15 numbers"),
    ],
)
def test_malformed_codes_are_named(bp4d: Path, old: str, new: str, message: str) -> None:
    text = codes(bp4d).read_text(encoding="utf-8")
    assert old in text
    codes(bp4d).write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(bp4d, rf"F001_T1.csv.*{message}")


def test_empty_and_strange_files(bp4d: Path) -> None:
    text = codes(bp4d).read_text(encoding="utf-8")
    codes(bp4d).write_text(text.splitlines()[0] + "\n", encoding="utf-8")
    refused(bp4d, r"F001_T1.csv codes no frame")
    codes(bp4d).write_text("", encoding="utf-8")
    refused(bp4d, "must have a header with the AU numbers, but has no column 1;")
    codes(bp4d).rename(codes(bp4d).with_name("F1_T1.csv"))
    refused(bp4d, r"F1_T1.csv: files are called F001_T1.csv")


def test_damaged_images_and_links_out_are_named(bp4d: Path, tmp_path: Path) -> None:
    image = bp4d / "F001" / "T1" / "2441.jpg"
    data = image.read_bytes()
    image.write_bytes(data[: len(data) // 2])
    refused(bp4d, r"2441.jpg can't be decoded")
    image.unlink()
    (tmp_path / "elsewhere.jpg").write_bytes(data)
    image.symlink_to(tmp_path / "elsewhere.jpg")
    refused(bp4d, r"2441.jpg leads to .*elsewhere.jpg, outside")
    image.unlink()
    image.write_bytes(data)
    (bp4d / "F001").rename(tmp_path / "F001")
    (bp4d / "F001").symlink_to(tmp_path / "F001")
    refused(bp4d, r"F001/T1 leads to .*, outside")
