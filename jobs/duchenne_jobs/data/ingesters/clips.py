"""A clip: a run of rows that one worker cuts, a video or a list of images, with their labels.

N rows, T tasks, P landmark points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import inside


@dataclass(frozen=True)
class Video:
    """A video whose frame i (from 1) has label i.

    Attributes:
        labelled: how many frames have labels.
        shortfall: by how many frames labels and video may differ.
        every: frames 1, 1 + every, ... are rows.
    """

    path: Path
    labelled: int
    shortfall: int = 0
    every: int = 1


@dataclass(frozen=True)
class LandmarkFile:
    """Landmarks of a clip, one row for each of its `count` frames; `rows[i]` is the one of row i of the clip."""

    path: Path
    rows: tuple[int, ...]
    count: int
    shortfall: int = 0


@dataclass(frozen=True, eq=False)
class Clip:
    """N rows from one place.

    Attributes:
        name: unique in the dataset; what messages call it.
        subjects, sequences, frames: N each, as the columns want them.
        labels: (N, T) int8.
        intensities: (N, T) int8, or None where the source has none.
        images: the video, or N image files.
        landmarks: the file of its landmarks, where there is one.
        points: (N, 5, 2) float32, where the source's lists have them instead. Neither: a detector aligns.
        maps: N parsing maps, None where there is none; or None altogether.
    """

    name: str
    subjects: tuple[str, ...]
    sequences: tuple[str, ...]
    frames: tuple[int, ...]
    labels: Any
    images: Video | tuple[Path, ...]
    intensities: Any = None
    landmarks: LandmarkFile | None = None
    points: Any = None
    maps: tuple[Path | None, ...] | None = None

    def fingerprint(self) -> str:
        """A digest that changes when a label, or the size or time of a file, does."""
        arrays = hashlib.sha256()
        for array in (self.labels, self.intensities, self.points):
            arrays.update(b"-" if array is None else array.tobytes())
        return canonical_digest(
            {
                "rows": [self.name, list(self.subjects), list(self.sequences), list(self.frames)],
                "arrays": arrays.hexdigest(),
                "files": [_stamp(path) for path in self.files()],
            }
        )

    def files(self) -> Iterable[Path]:
        """Every file that its rows are made from."""
        yield from (self.images.path,) if isinstance(self.images, Video) else self.images
        if self.landmarks is not None:
            yield self.landmarks.path
        yield from (path for path in self.maps or () if path is not None)


def numbered(root: Path, folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files of a folder by the number that is their name, zero-padded or not.

    Raises:
        DatasetError: a link leads out of `root`, or two files have one number.
    """
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    inside(root, folder)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or not (path.stem.isascii() and path.stem.isdigit()):
            continue
        number = int(path.stem)
        if number in found:
            raise DatasetError(f"{folder} holds frame {number} twice: {found[number].name}, {path.name}; remove one")
        inside(root, path)
        found[number] = path
    return found


def required_file(root: Path, path: Path, what: str) -> Path:
    """`path`, if it is a file inside `root`.

    Raises:
        DatasetError: missing, or a link leads out of the folder.
    """
    inside(root, path)
    if not path.is_file():
        raise DatasetError(f"{what} is missing: {path}; restore it from the source")
    return path


def required_folder(path: Path, what: str) -> Path:
    """`path`, if it is a folder.

    Raises:
        DatasetError: it is none.
    """
    if not path.is_dir():
        raise DatasetError(f"{what} is missing: no folder at {path}; name the raw folder as its owners distribute it")
    return path


def _stamp(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:
        return [str(path)]  # whoever opens it says what is wrong
    return [str(path), status.st_size, status.st_mtime_ns]
