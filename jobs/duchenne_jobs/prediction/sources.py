"""What can be predicted: a video, a folder of images, a dataset. Rows come in chunks of bounded size.

B rows of a chunk.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duchenne_jobs.data import Dataset
from duchenne_jobs.data.faces.images import read_image
from duchenne_jobs.data.faces.video import read_video
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.models import Inputs
from duchenne_jobs.prediction.errors import PredictionError
from duchenne_jobs.prediction.faces import Face, FaceCutter
from duchenne_jobs.training.batches import as_floats
from duchenne_jobs.training.faces import FaceStore

CHUNK_ROWS = 32
CHUNK_BYTES = 2**27  # of frames that wait for their overlay
FEATURE_ROWS = 1024
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class Row:
    """One line of the result.

    Attributes:
        key: values of the source's key columns.
        frame: (H, W, 3) RGB, for the overlay; None where nobody wants one.
        outline: (4, 2) corners of the face in it; None where none was found.
    """

    key: tuple[object, ...]
    frame: Any | None = None
    outline: Any | None = None


@dataclass(frozen=True)
class Chunk:
    """B rows, which of them a network can see, and what it sees of those: `inputs` has as many rows as `seen` is true.

    `inputs` is None where it sees none.
    """

    rows: list[Row]
    seen: list[bool]
    inputs: Inputs | None


class Source(ABC):
    """Rows to predict.

    Attributes:
        keys: names of the columns that tell the rows apart.
        total: how many rows there are; None where that is not known before the end.
        rate: frames a second of a video; None for others.
    """

    keys: tuple[str, ...]
    total: int | None
    rate: float | None = None

    @abstractmethod
    def chunks(self, frames: bool) -> Iterator[Chunk]:
        """Every row, in order. `frames` asks for the pictures too."""


class VideoSource(Source):
    """Every frame of a video. Its time is its number over the average rate.

    Raises:
        PredictionError: no video that can be opened.
    """

    keys = ("frame", "seconds")

    def __init__(self, path: Path, cutter: FaceCutter) -> None:
        self._path, self._cutter = path, cutter
        self.total, self.rate = _length_and_rate(path)

    def chunks(self, frames: bool) -> Iterator[Chunk]:
        def pictures() -> Iterator[tuple[tuple[object, ...], Any]]:
            for frame in read_video(self._path):
                seconds = "" if self.rate is None else f"{(frame.number - 1) / self.rate:.3f}"
                yield (frame.number, seconds), frame.pixels

        return _cut_chunks(pictures(), self._cutter, frames)


class FolderSource(Source):
    """The images of a folder, in the order of their names, numbers by their value.

    Raises:
        PredictionError: it holds no image.
    """

    keys = ("image",)

    def __init__(self, folder: Path, cutter: FaceCutter) -> None:
        self._cutter = cutter
        files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        self._files = sorted(files, key=lambda path: _natural(path.name))
        if not self._files:
            raise PredictionError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); name another folder")
        self.total = len(self._files)

    def chunks(self, frames: bool) -> Iterator[Chunk]:
        return _cut_chunks((((path.name,), read_image(path)) for path in self._files), self._cutter, frames)


class DatasetSource(Source):
    """Rows of a dataset.

    Attributes:
        digest: the dataset's.
    """

    digest: str


class FaceDatasetSource(DatasetSource):
    """The rows of a dataset of faces, which are cut out already."""

    keys = ("subject", "sequence", "frame")

    def __init__(self, dataset: Dataset, size: tuple[int, int], parsing: bool) -> None:
        self.digest = dataset.digest
        columns = ("image", "parsing") if parsing else ("image",)
        for column in columns:
            if column not in dataset.manifest.columns:
                raise PredictionError(
                    f"these networks look at a column {column!r}, but {dataset.uri} has "
                    f"{', '.join(dataset.manifest.columns)}; name another dataset"
                )
        self._store = FaceStore(dataset, columns, size, decoded_bytes=0)
        self._names = dataset.rows([key for key in self.keys if key in dataset.manifest.columns])
        self.total = self._names.num_rows

    def chunks(self, frames: bool) -> Iterator[Chunk]:
        for start in range(0, self._names.num_rows, CHUNK_ROWS):
            keys = _keys(self._names.slice(start, CHUNK_ROWS), self.keys)
            numbers = start + np.arange(len(keys))
            seen = self._store.has_face[numbers]
            inputs = self._store.batch(numbers[seen]) if seen.any() else None
            pictures: list[Any | None] = [None] * len(keys)
            if frames and inputs is not None:
                for row, image in zip(np.flatnonzero(seen), inputs.require("images"), strict=True):
                    pictures[row] = image.permute(1, 2, 0).numpy()
            rows = [Row(key, picture) for key, picture in zip(keys, pictures, strict=True)]
            yield Chunk(rows, seen.tolist(), None if inputs is None else as_floats(inputs))


class FeatureDatasetSource(DatasetSource):
    """The rows of a tabular dataset."""

    keys = ("subject",)

    def __init__(self, dataset: Dataset, features: int) -> None:
        self.digest = dataset.digest
        names = dataset.manifest.feature_names
        if names is None or len(names) != features:
            raise PredictionError(
                f"the network takes {features} features, but {dataset.uri} has {len(names) if names else 'none'}; "
                "name another dataset"
            )
        self._table = dataset.rows(["subject", "features"])
        self.total = self._table.num_rows

    def chunks(self, frames: bool) -> Iterator[Chunk]:
        for start in range(0, self._table.num_rows, FEATURE_ROWS):
            part = self._table.slice(start, FEATURE_ROWS)
            keys = _keys(part, self.keys)
            features = torch.from_numpy(matrix(part, "features").astype(np.float32))
            yield Chunk([Row(key) for key in keys], [True] * len(keys), Inputs(features=features))


def _cut_chunks(
    pictures: Iterator[tuple[tuple[object, ...], Any]], cutter: FaceCutter, frames: bool
) -> Iterator[Chunk]:
    """Cut the face out of each picture, and let go of the picture unless an overlay wants it."""
    rows: list[Row] = []
    faces: list[Face | None] = []
    held = 0
    for key, pixels in pictures:
        face = cutter.cut(pixels)
        rows.append(Row(key, pixels if frames else None, None if face is None else face.outline))
        faces.append(face)
        held += pixels.nbytes if frames else 0
        if len(rows) == CHUNK_ROWS or held >= CHUNK_BYTES:
            yield Chunk(rows, [one is not None for one in faces], _stacked(faces))
            rows, faces, held = [], [], 0
    if rows:
        yield Chunk(rows, [one is not None for one in faces], _stacked(faces))


def _stacked(faces: list[Face | None]) -> Inputs | None:
    found = [face for face in faces if face is not None]
    if not found:
        return None
    maps = [face.parsing for face in found if face.parsing is not None]
    images = torch.stack([face.image for face in found])
    return as_floats(Inputs(images=images, parsing=torch.stack(maps) if maps else None))


def _keys(table: Any, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    """The key of each row; a column that the dataset lacks is empty."""
    columns = [table[name].to_pylist() if name in table.column_names else [""] * table.num_rows for name in names]
    return list(zip(*columns, strict=True))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _length_and_rate(path: Path) -> tuple[int | None, float | None]:
    """Number of frames as the file says, else estimated by its duration, and frames a second."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise PredictionError(f"{path} has no video stream; name a video, a folder of images or a dataset")
            stream = container.streams.video[0]
            rate = float(stream.average_rate) if stream.average_rate else None
            if stream.frames:
                return stream.frames, rate
            seconds = None if container.duration is None else container.duration / av.time_base
            return (None if seconds is None or rate is None else max(1, round(seconds * rate))), rate
    except FileNotFoundError:
        raise PredictionError(f"there is no {path}; name a video, a folder of images or a dataset") from None
    except (av.FFmpegError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PredictionError(f"{path} is no video that can be opened ({reason}); name another") from error
