"""Landmark files in every form that they come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne_jobs.data import DatasetError
from duchenne_jobs.data.faces.landmarks import KEPT_OF_68, anchors, read_landmarks, to_49


def faces(count: int, points: int) -> Any:
    return np.random.default_rng(1).uniform(10, 90, (count, points, 2)).astype(np.float32)


def test_68_become_the_49_of_the_field() -> None:
    numbers = np.repeat(np.arange(68, dtype=np.float32)[None, :, None], 2, 2)
    kept = to_49(numbers)[0, :, 0].astype(int).tolist()
    assert kept == [*range(17, 60), 61, 62, 63, 65, 66, 67] == list(KEPT_OF_68)
    # Right and left inner eye corners are 22 and 25, tip of the nose 13, mouth corners 31 and 37.
    assert [kept[index] for index in (22, 25, 13, 31, 37)] == [39, 42, 30, 48, 54]
    assert np.array_equal(to_49(faces(3, 49)), faces(3, 49))
    for shape in ((2, 67, 2), (2, 68, 3), (68, 2)):
        with pytest.raises(ValueError, match=r"must have the shape \(frames, 68 or 49, 2\)"):
            to_49(np.zeros(shape))


def test_anchors_of_49_points_are_eyes_nose_and_mouth() -> None:
    points = faces(1, 68)[0]
    found = anchors(to_49(points[None])[0])
    expected = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    assert np.allclose(found, expected)
    assert anchors(points[:5]) is not None


@pytest.mark.parametrize("points", [68, 49])
def test_an_array_a_flat_array_and_two_kinds_of_csv_are_the_same(tmp_path: Path, points: int) -> None:
    given = faces(4, points)
    np.save(tmp_path / "a.npy", given)
    np.save(tmp_path / "b.npy", given.reshape(4, -1).astype(np.float64))
    np.savetxt(tmp_path / "c.csv", given.reshape(4, -1), delimiter=",", fmt="%.9g")
    # As OpenFace writes it: spaces after commas, all x before all y, columns that nobody asked for.
    header = ["frame", " success", *(f" x_{i}" for i in range(points)), *(f" y_{i}" for i in range(points)), " AU01_r"]
    lines = [",".join(header)]
    for row, face in enumerate(given):
        lines.append(", ".join(map(str, [row + 1, 1, *face[:, 0].tolist(), *face[:, 1].tolist(), 0.5])))
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    tables = [read_landmarks(tmp_path / name) for name in ("a.npy", "b.npy", "c.csv", "d.csv")]
    for table in tables:
        assert np.allclose(table.points, to_49(given))
    assert [table.frames is None for table in tables] == [True, True, True, False]
    assert np.array_equal(tables[3].at(3, tmp_path / "d.csv"), tables[3].points[2])
    with pytest.raises(DatasetError, match=r"d.csv has no landmarks of frame 9"):
        tables[3].at(9, tmp_path / "d.csv")


def test_frames_without_a_face_are_nan(tmp_path: Path) -> None:
    given = faces(4, 68)
    given[1] = 0
    given[2, 30, 0] = np.inf
    given[3, 5, 0] = np.inf  # of the jaw, which is not among the 49
    np.save(tmp_path / "a.npy", given)
    table = read_landmarks(tmp_path / "a.npy")
    assert np.isnan(table.points).all((1, 2)).tolist() == [False, True, True, False]


def test_success_0_is_no_face(tmp_path: Path) -> None:
    names = ",".join(["success", *(f"{axis}{i}" for i in range(49) for axis in "xy")])
    row = ",".join(["7.5"] * 98)
    (tmp_path / "a.csv").write_text(f"{names}\n0,{row}\n1,{row}\n", encoding="utf-8")
    assert np.isnan(read_landmarks(tmp_path / "a.csv").points[:, 0, 0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no array", "is no readable array"),
        ("a.npy", b"", "is no readable array"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"1,2\n3\n", "must hold the same count of numbers"),
        ("a.csv", b"1,2\n3,x\n", "must hold the same count of numbers"),
        ("a.csv", b"1,2,3,4\n", "give 68 or 49 points"),
        ("a.csv", b"left,right\n1,2\n", "must have columns x_0, y_0"),
        ("a.csv", b"\xff\xfe1\n", "must be UTF-8 text"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_landmarks(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_pickles_and_unsorted_frames_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}]), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"save it by numpy\.save without pickle"):
        read_landmarks(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array(["a"]))
    with pytest.raises(DatasetError, match="must hold numbers"):
        read_landmarks(tmp_path / "b.npy")
    names = ",".join(["frame", *(f"{axis}{i}" for i in range(49) for axis in "xy")])
    row = ",".join(["7.5"] * 98)
    (tmp_path / "c.csv").write_text(f"{names}\n2,{row}\n1,{row}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="frame numbers must rise"):
        read_landmarks(tmp_path / "c.csv")
    with pytest.raises(DatasetError, match="are missing; add them, or align by --detector haar"):
        read_landmarks(tmp_path / "gone.npy")
