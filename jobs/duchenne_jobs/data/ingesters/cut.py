"""Cuts the faces of one clip into one Arrow file, a few frames at a time.

N rows, S side of the crop in pixels, P landmark points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces import align
from duchenne_jobs.data.faces.align import FaceSquare
from duchenne_jobs.data.faces.detect import Detector, open_detector
from duchenne_jobs.data.faces.images import encode_jpeg, encode_map, read_image, read_map
from duchenne_jobs.data.faces.landmarks import anchors, read_landmarks
from duchenne_jobs.data.faces.parse import OnnxParser
from duchenne_jobs.data.faces.video import read_video
from duchenne_jobs.data.ingesters.clips import Clip, Video
from duchenne_jobs.data.manifest import Description
from duchenne_jobs.data.schema import shard_schema

_BATCH_ROWS = 64  # what a worker holds: about 2 MB of crops


@dataclass(frozen=True)
class CutPlan:
    """What is the same for every clip of a dataset.

    Attributes:
        detector: see `open_detector`; None where landmarks align, or where images are faces already.
        parser: a parsing model; None where the maps are ready or there are none.
        threads: decoding threads of a video.
    """

    description: Description
    size: int
    enlarge: float
    detector: str | None
    parser: Path | None
    threads: int = 1


def cut_clip(clip: Clip, plan: CutPlan, target: Path, advance: Callable[[int], None]) -> None:
    """Write the rows of a clip to the Arrow file `target`, which appears complete or not at all.

    Args:
        advance: called with the number of rows since the last call.

    Raises:
        DatasetError: a file of the clip is missing or malformed, counts disagree, or the disk is full.
    """
    schema = shard_schema(plan.description)
    partial = target.with_suffix(f".partial-{os.getpid()}")
    rows: list[dict[str, Any]] = []
    try:
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema) as sink:
            for row in _Cutter(clip, plan).rows():
                rows.append(row)
                if len(rows) == _BATCH_ROWS:
                    sink.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                    advance(len(rows))
                    rows.clear()
            if rows:
                sink.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                advance(len(rows))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    except OSError as error:
        raise DatasetError(
            f"cannot keep the crops of {clip.name} in {target.parent}: {error.strerror or error}; "
            "free some space, then run the same command again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class _Cutter:
    """The rows of one clip."""

    def __init__(self, clip: Clip, plan: CutPlan) -> None:
        import cv2

        cv2.setNumThreads(1)  # clips run side by side
        self._clip = clip
        self._plan = plan
        names = plan.description.parsing_classes or ()
        self._background = names.index("background") if "background" in names else 0
        self._detector: Detector | None = open_detector(plan.detector) if plan.detector else None
        self._parser = OnnxParser(plan.parser, names) if plan.parser else None
        self._points = _points(clip)

    def rows(self) -> Iterator[dict[str, Any]]:
        for row, pixels in self._frames():
            yield {**self._facts(row), **self._face(row, pixels)}

    def _facts(self, row: int) -> dict[str, Any]:
        clip = self._clip
        facts: dict[str, Any] = {
            "subject": clip.subjects[row],
            "sequence": clip.sequences[row],
            "frame": clip.frames[row],
            "labels": clip.labels[row],
        }
        if clip.intensities is not None:
            facts["intensities"] = clip.intensities[row]
        return facts

    def _face(self, row: int, pixels: Any) -> dict[str, Any]:
        """The image and what goes with it; nothing where no face was found."""
        size = self._plan.size
        points = None if self._points is None else self._points[row]
        square = self._square(points, pixels)
        if square is None or not square.lies_in(pixels.shape[1], pixels.shape[0]):
            return {}
        aligned = self._points is not None or self._detector is not None
        matrix = align.crop_matrix(square, size, self._plan.enlarge if aligned else 1.0)
        crop = align.crop_image(pixels, matrix, size)
        face = {"image": encode_jpeg(crop)}
        if points is not None:
            face["landmarks"] = align.move_points(points, matrix).reshape(-1)
        ids = self._parsing(row, pixels, crop, matrix)
        if ids is not None:
            face["parsing"] = encode_map(ids)
        return face

    def _square(self, points: Any | None, pixels: Any) -> FaceSquare | None:
        if points is not None:
            return align.square_of_anchors(anchors(points))
        if self._detector is not None:
            return self._detector.find(pixels)
        height, width = pixels.shape[:2]
        return FaceSquare((width - 1) / 2, (height - 1) / 2, max(width, height))

    def _parsing(self, row: int, pixels: Any, crop: Any, matrix: Any) -> Any | None:
        if self._parser is not None:
            return self._parser.parse(crop)
        path = self._clip.maps[row] if self._clip.maps else None
        if path is None:
            return None
        ids = read_map(path)
        if ids.shape != pixels.shape[:2]:
            raise DatasetError(
                f"{path}: a map must be as large as its frame, {pixels.shape[1]} x {pixels.shape[0]}, "
                f"but is {ids.shape[1]} x {ids.shape[0]}; make it for the whole frame"
            )
        names = self._plan.description.parsing_classes or ()
        if int(ids.max()) >= len(names):
            raise DatasetError(f"{path} has the class id {int(ids.max())}, but there are {len(names)} class names")
        return align.crop_map(ids, matrix, self._plan.size, self._background)

    def _frames(self) -> Iterator[tuple[int, Any]]:
        """(row, RGB pixels) of every row, in order."""
        images = self._clip.images
        if not isinstance(images, Video):
            for row, path in enumerate(images):
                yield row, read_image(path)
            return
        seen, rows = 0, 0
        for frame in read_video(images.path, images.every, self._plan.threads):
            seen = frame.number
            if frame.pixels is not None and seen <= images.labelled:
                yield rows, frame.pixels
                rows += 1
        if abs(seen - images.labelled) > images.shortfall:
            raise DatasetError(
                f"{images.path} has {seen} frames, but {self._clip.name} has labels of {images.labelled}; "
                "both must be whole: restore the one that was cut"
            )


def _points(clip: Clip) -> Any | None:
    """Landmarks (N, P, 2) of every row of a clip, NaN where no face was found; None where there are none."""
    file = clip.landmarks
    if file is None:
        return clip.points
    table = read_landmarks(file.path)
    if table.frames is None and abs(len(table.points) - file.count) > file.shortfall:
        raise DatasetError(
            f"{file.path} has landmarks of {len(table.points)} frames, but {clip.name} has labels of {file.count}; "
            "write one row a frame, NaN where no face was found"
        )
    if table.frames is None:
        # A file that is short by what `shortfall` allows has no face for the frames it lacks.
        lacking = np.full((1, *table.points.shape[1:]), np.nan, np.float32)
        return np.concatenate([table.points, np.repeat(lacking, file.shortfall, 0)])[list(file.rows)]
    return np.stack([table.at(frame, file.path) for frame in clip.frames])
