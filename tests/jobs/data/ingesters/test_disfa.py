"""DISFA from its raw folder: labels, frames, crops, and everything that can be wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import Dataset, DatasetError, ingest
from duchenne_jobs.data.schema import matrix

USED = (1, 2, 4, 6, 9, 12, 25, 26)
CODED = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)


def refused(source: Path, match: str, **options: Any) -> None:
    """Refused in one line, and no dataset and no half of one stays."""
    target = source.parent / "refused"
    with pytest.raises(DatasetError, match=match) as caught:
        ingest("disfa", source, target, workers=1, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def pixels(row: dict[str, Any], column: str = "image") -> Any:
    return np.asarray(Image.open(BytesIO(row[column])))


def labels_of(source: Path, subject: str = "SN001") -> Path:
    return source / "ActionUnit_Labels" / subject


def test_labels_intensities_and_frames_are_those_of_the_files(disfa: Path, tmp_path: Path) -> None:
    dataset = ingest("disfa", disfa, tmp_path / "out", workers=1)
    dataset.verify()
    assert dataset.tasks == tuple(f"AU{au}" for au in USED)
    table = dataset.rows()
    assert table["subject"].to_pylist() == ["SN001"] * 6 + ["SN002"] * 6
    assert table["frame"].to_pylist() == [1, 2, 3, 4, 5, 6] * 2
    intensities = np.array([[(au + frame) % 6 for au in USED] for frame in range(1, 7)])
    assert np.array_equal(matrix(table, "intensities"), np.concatenate([intensities] * 2))
    assert np.array_equal(matrix(table, "labels"), np.concatenate([intensities >= 2] * 2))
    assert table["image"].null_count == table["landmarks"].null_count == table["parsing"].null_count == 0


def test_all_twelve_aus(disfa: Path, tmp_path: Path) -> None:
    dataset = ingest("disfa", disfa, tmp_path / "out", workers=1, tasks="12")
    assert dataset.tasks == tuple(f"AU{au}" for au in CODED)
    assert matrix(dataset.rows(), "intensities")[0].tolist() == [(au + 1) % 6 for au in CODED]


def test_crops_landmarks_and_maps_fit_together(disfa: Path, tmp_path: Path) -> None:
    """What lies at a landmark is what was drawn there, and the map says the same."""
    dataset = ingest("disfa", disfa, tmp_path / "out", workers=1, size=120)
    assert dataset.manifest.landmark_scheme is not None
    assert (dataset.manifest.landmark_scheme.name, dataset.manifest.landmark_scheme.points) == ("ibug-49", 49)
    assert dataset.manifest.parsing_classes == ("background", "skin", "l_eye", "r_eye", "nose", "mouth")
    assert dataset.manifest.crop is not None
    assert dataset.manifest.crop.model_dump() == {
        "size": 120, "enlarge": 1.3, "aligned_by": "landmarks", "parsed_by": "source",
    }  # fmt: skip
    eyes = []
    for row in dataset.rows().to_pylist():
        image, ids = pixels(row), pixels(row, "parsing")
        points = np.reshape(row["landmarks"], (49, 2))
        assert image.shape == (120, 120, 3)
        assert ids.shape == (120, 120)
        places = {2: points[19:25], 3: points[25:31], 4: points[13:14], 5: points[31:43]}
        colours = {2: (200, 30, 30), 3: (30, 200, 30), 4: (30, 30, 200), 5: (200, 30, 200)}
        for number, found in places.items():
            x, y = found.mean(0).round().astype(int)
            assert ids[y, x] == number
            assert np.abs(image[y, x].astype(int) - colours[number]).max() < 70
        eyes.append(np.concatenate([points[19:25].mean(0), points[25:31].mean(0)]))
    assert np.ptp(np.array(eyes), axis=0).max() < 0.5  # however the head moved, eyes come to the same place
    assert abs(eyes[0][1] - eyes[0][3]) < 0.01


def test_every_third_frame(disfa: Path, tmp_path: Path) -> None:
    dataset = ingest("disfa", disfa, tmp_path / "out", workers=1, every=3)
    whole = ingest("disfa", disfa, tmp_path / "whole", workers=1).rows().to_pylist()
    assert dataset.rows().to_pylist() == [row for row in whole if row["frame"] in (1, 4)]


def test_the_right_camera(disfa: Path, tmp_path: Path) -> None:
    refused(disfa, r"the right video of SN001 is missing: .*Video_RightCamera/RightVideoSN001_comp.avi", camera="right")
    (disfa / "Videos_LeftCamera").rename(disfa / "Video_RightCamera")
    for path in (disfa / "Video_RightCamera").iterdir():
        path.rename(path.with_name(path.name.replace("Left", "Right")))
    told: list[str] = []
    dataset = ingest("disfa", disfa, tmp_path / "out", workers=1, camera="right", note=told.append)
    assert dataset.row_count == 12
    assert "parsing" not in dataset.manifest.columns
    assert told[0].endswith("parsing shows the left view: the right one goes without these parsing maps")
    assert told[1].startswith("no landmarks called *_right: SN001.npy and 1 more must be of the right view")
    named = ingest("disfa", disfa, tmp_path / "named", workers=1, camera="right", parsing=disfa / "parsing")
    assert named.rows()["parsing"].null_count == 0
    refused(disfa, r"the left video of SN001 is missing: .*Videos_LeftCamera/LeftVideoSN001_comp.avi")
    refused(disfa, "camera must be left or right, but got 'top'", camera="top")


@pytest.mark.parametrize("au", [5, 26])
def test_a_missing_au_file_is_named(disfa: Path, au: int) -> None:
    (labels_of(disfa) / f"SN001_au{au}.txt").unlink()
    refused(disfa, rf"AU{au} of SN001 is missing: .*SN001_au{au}\.txt; restore it from the source")


def test_crlf_a_bom_and_blank_lines_at_the_end_change_nothing(disfa: Path, tmp_path: Path) -> None:
    plain = ingest("disfa", disfa, tmp_path / "plain", workers=1)
    for path in labels_of(disfa).iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",", b", ") + b"\r\n\r\n")
    assert ingest("disfa", disfa, tmp_path / "crlf", workers=1).digest == plain.digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3;4", r"SN001_au4.txt, line 3: expected `frame,intensity`, saw '3;4'"),
        ("3,", "expected `frame,intensity`"),
        ("3,-1", "expected `frame,intensity`"),
        ("4,1", "line 3: frames count 1, 2, 3, ..., but this one is 4"),
        ("3,6", r"line 3: intensities lie in 0\.\.5, but this one is 6"),
    ],
)
def test_malformed_lines_are_named(disfa: Path, line: str, message: str) -> None:
    path = labels_of(disfa) / "SN001_au4.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]), encoding="utf-8")
    refused(disfa, message)


def cut_labels(source: Path, subject: str, keep: int, aus: tuple[int, ...] = CODED) -> None:
    for au in aus:
        path = labels_of(source, subject) / f"{subject}_au{au}.txt"
        path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:keep]) + "\n", encoding="utf-8")


def test_au_files_of_different_length_name_both_counts(disfa: Path) -> None:
    cut_labels(disfa, "SN001", 4, (9,))
    refused(disfa, r"SN001_au9.txt has 4 frames, but .*SN001_au1.txt has 6")
    cut_labels(disfa, "SN001", 0, (1,))
    refused(disfa, r"SN001_au1.txt has no frame")


@pytest.mark.parametrize("keep", [4, 5])
def test_a_video_that_disagrees_with_its_labels_names_both_counts(disfa: Path, keep: int) -> None:
    cut_labels(disfa, "SN002", keep)
    np.save(disfa / "landmarks" / "SN002.npy", np.load(disfa / "landmarks" / "SN002.npy")[:keep])
    refused(disfa, rf"LeftVideoSN002_comp.avi has 6 frames, but SN002 has labels of {keep}")


def test_landmarks_that_disagree_name_both_counts(disfa: Path) -> None:
    np.save(disfa / "landmarks" / "SN002.npy", np.load(disfa / "landmarks" / "SN002.npy")[:5])
    refused(disfa, r"SN002.npy has landmarks of 5 frames, but SN002 has labels of 6")
    (disfa / "landmarks" / "SN002.npy").unlink()
    refused(disfa, r"landmarks has neither SN002.npy nor SN002.csv; add it, or align by --detector haar")


@pytest.mark.parametrize(("keep", "short"), [(5, None), (6, 7), (7, 6)])
def test_sn010_may_be_a_frame_short_on_either_side(
    make_disfa: Callable[..., Path], tmp_path: Path, keep: int, short: int | None
) -> None:
    source = make_disfa("sn010", subjects=("SN010",), count=7 if short else 6)
    cut_labels(source, "SN010", keep)
    if short == 6:  # the landmarks lack the last frame, too: it has no face then
        points = np.load(source / "landmarks" / "SN010.npy")
        np.save(source / "landmarks" / "SN010.npy", points[:6])
    dataset = ingest("disfa", source, tmp_path / "out", workers=1)
    assert dataset.rows()["frame"].to_pylist() == list(range(1, keep + 1))
    assert dataset.rows()["image"].null_count == int(short == 6)


def test_the_shortfall_is_sn010s_alone_and_one_frame(make_disfa: Callable[..., Path]) -> None:
    source = make_disfa("sn010", subjects=("SN010",), count=6)
    cut_labels(source, "SN010", 4)
    refused(source, r"has landmarks of 6 frames, but SN010 has labels of 4")


def test_frames_without_a_face_stay_as_rows(disfa: Path, tmp_path: Path) -> None:
    points = np.load(disfa / "landmarks" / "SN001.npy")
    points[2] = np.nan
    points[4] += 10_000  # far outside the frame
    np.save(disfa / "landmarks" / "SN001.npy", points)
    rows = ingest("disfa", disfa, tmp_path / "out", workers=1).rows().to_pylist()
    assert [row["frame"] for row in rows if row["image"] is None] == [3, 5]
    for row in (rows[2], rows[4]):
        assert (row["landmarks"], row["parsing"]) == (None, None)
        assert len(row["labels"]) == 8


def test_ready_maps_may_be_partial_but_not_of_another_size_or_class(disfa: Path, tmp_path: Path) -> None:
    (disfa / "parsing" / "SN001" / "000002.png").unlink()
    (disfa / "parsing" / "SN001" / "000003.png").rename(disfa / "parsing" / "SN001" / "3.png")
    dataset: Dataset = ingest("disfa", disfa, tmp_path / "out", workers=1)
    assert np.flatnonzero(dataset.rows()["parsing"].is_null().to_numpy()).tolist() == [1]
    assert dataset.rows()["image"].null_count == 0
    Image.new("L", (160, 120), 6).save(disfa / "parsing" / "SN001" / "3.png")
    refused(disfa, r"3.png has the class id 6, but there are 6 class names")
    Image.new("L", (16, 12)).save(disfa / "parsing" / "SN001" / "3.png")
    refused(disfa, r"3.png: a map must be as large as its frame, 160 x 120, but is 16 x 12")
    Image.new("L", (160, 120)).save(disfa / "parsing" / "SN001" / "000003.png")
    refused(disfa, r"holds frame 3 twice: 000003.png, 3.png")
    (disfa / "parsing" / "SN001" / "3.png").unlink()
    (disfa / "parsing" / "classes.txt").unlink()
    refused(disfa, "parsing ids mean nothing without names")
    plain = ingest("disfa", disfa, tmp_path / "plain", workers=1, parsing="none")
    assert "parsing" not in plain.manifest.columns


def test_landmarks_and_maps_from_folders_that_the_user_names(disfa: Path, tmp_path: Path) -> None:
    whole = ingest("disfa", disfa, tmp_path / "whole", workers=1)
    (tmp_path / "marks").mkdir()
    for subject in ("SN001", "SN002"):
        points = np.load(disfa / "landmarks" / f"{subject}.npy").reshape(6, -1)
        np.savetxt(tmp_path / "marks" / f"{subject}.csv", points, delimiter=",", fmt="%.9g")
    shutil.move(disfa / "parsing", tmp_path / "maps")
    shutil.rmtree(disfa / "landmarks")
    refused(disfa, "nothing says where the faces of disfa are: give --landmarks FOLDER")
    again = ingest(
        "disfa", disfa, tmp_path / "again", workers=1, landmarks=tmp_path / "marks", parsing=tmp_path / "maps"
    )
    assert again.digest == whole.digest
    refused(disfa, "no folder of landmarks at", landmarks=tmp_path / "gone")
    refused(disfa, "no folder of parsing maps at", landmarks=tmp_path / "marks", parsing=tmp_path / "gone")


def test_what_leads_out_of_the_folder_is_refused(disfa: Path, tmp_path: Path) -> None:
    video = disfa / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    video.rename(tmp_path / "elsewhere.avi")
    video.symlink_to(tmp_path / "elsewhere.avi")
    refused(disfa, r"LeftVideoSN001_comp.avi leads to .*elsewhere.avi, outside")
    video.unlink()
    (tmp_path / "elsewhere.avi").rename(video)
    labels = labels_of(disfa) / "SN001_au1.txt"
    labels.rename(tmp_path / "au1.txt")
    labels.symlink_to(Path("..") / ".." / ".." / "au1.txt")
    refused(disfa, r"SN001_au1.txt leads to .*au1.txt, outside")


def test_damaged_videos_and_strange_folders_are_named(disfa: Path) -> None:
    video = disfa / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    refused(disfa, r"LeftVideoSN001_comp.avi (has \d frames, but SN001 has labels of 6|can't be decoded after frame)")
    video.write_bytes(b"")
    refused(disfa, r"LeftVideoSN001_comp.avi can't be decoded after frame 0")
    (labels_of(disfa, "SN1")).mkdir()
    refused(disfa, r"SN1: subjects are called SN001, SN002, ...; rename it or move it away")


def test_sources_and_options_that_are_none(disfa: Path, tmp_path: Path) -> None:
    refused(tmp_path / "gone", "no raw folder of disfa at")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "the label folder of disfa is missing")
    (tmp_path / "empty" / "ActionUnit_Labels").mkdir()
    refused(tmp_path / "empty", "holds no labelled frame of disfa")
    for options, message in (
        ({"size": 8}, "16 <= size <= 2048 must hold, but got 8"),
        ({"enlarge": 0.1}, "0.5 <= enlarge <= 10 must hold, but got 0.1"),
        ({"every": 0}, "every >= 1 must hold, but got 0"),
        ({"landmarks": "x", "detector": "haar"}, "both are given; leave one out"),
        ({"tasks": "9"}, "the tasks of disfa are 8"),
        ({"detector": "yolo"}, "a detector is 'haar' or a file that ends in"),
        ({"count": 3}, "disfa has no option 'count'; it has: size, enlarge, landmarks, detector"),
    ):
        refused(disfa, message, **options)
    with pytest.raises(DatasetError, match="workers >= 1 must hold, but got 0"):
        ingest("disfa", disfa, tmp_path / "out", workers=0)
    with pytest.raises(DatasetError, match="disfa is read from its raw folder"):
        ingest("disfa", None, tmp_path / "out")
