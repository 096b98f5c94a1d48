"""Landmark files: arrays or CSV of 68 or 49 points a frame, brought to 49.

N frames, P points a face (68, 49 or 5).
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import read_text

SCHEME_49 = "ibug-49"
SCHEME_5 = "five-points"  # image-left eye, image-right eye, tip of the nose, image-left and image-right mouth corner
# The inner points 60 and 64 of the mouth's corners double the outer ones; the jaw 0..16 is not part of the 49.
KEPT_OF_68 = (*range(17, 60), 61, 62, 63, 65, 66, 67)
_LEFT_EYE, _RIGHT_EYE, _NOSE, _LEFT_MOUTH, _RIGHT_MOUTH = slice(19, 25), slice(25, 31), 13, 31, 37  # of the 49
_COORDINATE = re.compile(r"^([xy])_?(\d+)$")


@dataclass(frozen=True, eq=False)
class LandmarkTable:
    """Landmarks of N frames, (N, 49, 2) float32, NaN where no face was found; `frames` (N,) where the file has them."""

    points: Any
    frames: Any | None

    def at(self, frame: int, path: Path) -> Any:
        """Points (49, 2) of the frame of that number, in a file that has numbers.

        Raises:
            DatasetError: the file has no such frame.
        """
        rows = np.flatnonzero(self.frames == frame)
        if not rows.size:
            raise DatasetError(f"{path} has no landmarks of frame {frame}; write a row of NaN where no face was found")
        return self.points[rows[0]]


def to_49(points: Any) -> Any:
    """(N, 49, 2) float32 of (N, 68, 2) or (N, 49, 2).

    Raises:
        ValueError: another number of points.
    """
    array = np.asarray(points, np.float32)
    if array.ndim != 3 or array.shape[1:] not in ((68, 2), (49, 2)):
        raise ValueError(f"landmarks must have the shape (frames, 68 or 49, 2), but got {array.shape}")
    return array[:, KEPT_OF_68] if array.shape[1] == 68 else array


def anchors(points: Any) -> Any:
    """Five anchors (5, 2) of 49 or 5 points: eye centres, tip of the nose, mouth corners, the image's left first."""
    if len(points) == 5:
        return points
    return np.stack(
        [
            points[_LEFT_EYE].mean(0),
            points[_RIGHT_EYE].mean(0),
            points[_NOSE],
            points[_LEFT_MOUTH],
            points[_RIGHT_MOUTH],
        ]
    )


def read_landmarks(path: Path) -> LandmarkTable:
    """Read `.npy`, shape (N, P, 2) or (N, 2P), or `.csv`: x0, y0, x1, y1, ... a line, or OpenFace's named columns.

    A CSV may have a `frame` column (in rising order) and a `success` column (0: no face). A row of zeros, or with a
    value that is not finite, is a frame without a face.

    Raises:
        DatasetError: missing, malformed, or neither 68 nor 49 points.
    """
    if not path.is_file():
        raise DatasetError(f"the landmarks {path} are missing; add them, or align by --detector haar")
    points, frames = _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    points = points.reshape(len(points), -1, 2) if points.ndim == 2 and points.shape[1] % 2 == 0 else points
    try:
        found = to_49(points)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}; give 68 or 49 points") from error
    missing = ~np.isfinite(found).all((1, 2)) | (found == 0).all((1, 2))
    if missing.any():
        found = np.where(missing[:, None, None], np.float32("nan"), found)
    return LandmarkTable(found, frames)


def _read_npy(path: Path) -> tuple[Any, None]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path} is no readable array: {reason}; save it by numpy.save without pickle") from error
    if array.dtype.kind not in "fiu":
        raise DatasetError(f"{path} must hold numbers, but holds {array.dtype}; save an array of float32")
    return array.astype(np.float32), None


def _read_csv(path: Path) -> tuple[Any, Any | None]:
    lines = [row for row in csv.reader(io.StringIO(read_text(path)), skipinitialspace=True) if row]
    if not lines:
        raise DatasetError(f"{path} is empty; write one line of x0, y0, x1, y1, ... a frame")
    header = [cell.strip().lower() for cell in lines[0]] if _is_header(lines[0]) else None
    try:
        values = np.array(lines[1 if header else 0 :], np.float64)
    except ValueError as error:
        raise DatasetError(f"{path} must hold the same count of numbers on every line: {error}") from error
    if header is None:
        return values.astype(np.float32), None
    return _named_columns(path, header, values.reshape(-1, len(header)))


def _named_columns(path: Path, header: list[str], values: Any) -> tuple[Any, Any | None]:
    place: dict[tuple[int, str], int] = {}
    for column, name in enumerate(header):
        match = _COORDINATE.match(name)
        if match:
            place[int(match[2]), match[1]] = column
    indices = sorted({index for index, _ in place})
    if not indices or len(place) != 2 * len(indices):
        raise DatasetError(
            f"{path} must have columns x_0, y_0, x_1, ... of every point, but has {', '.join(header[:4])}"
        )
    points = values[:, [place[index, axis] for index in indices for axis in "xy"]].astype(np.float32)
    if "success" in header:
        points[values[:, header.index("success")] == 0] = np.nan
    if "frame" not in header:
        return points, None
    frames = values[:, header.index("frame")].astype(np.int64)
    if (np.diff(frames) <= 0).any():
        raise DatasetError(f"{path}: frame numbers must rise from line to line; sort the lines, one line a frame")
    return points, frames


def _is_header(cells: list[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return True
    return False
