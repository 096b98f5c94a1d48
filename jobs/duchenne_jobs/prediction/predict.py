"""Predict every row of a source into a CSV file, chunk by chunk.

Columns: what tells the rows apart (`frame` and `seconds` of a video, `image` of a folder, `subject`, `sequence` and
`frame` of a dataset), `face` (1 or 0), then each task by name: its probability, and `NAME_decision` (1 or 0). A row
without a face has empty cells after `face`.

Shapes: T tasks.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from duchenne_jobs.data import open_dataset
from duchenne_jobs.data.manifest import MANIFEST_NAME
from duchenne_jobs.prediction.errors import PredictionError
from duchenne_jobs.prediction.faces import FaceCutter, detector_of
from duchenne_jobs.prediction.overlay import Overlay, draw, open_overlay
from duchenne_jobs.prediction.sources import (
    Chunk,
    FaceDatasetSource,
    FeatureDatasetSource,
    FolderSource,
    Source,
    VideoSource,
)

if TYPE_CHECKING:
    from duchenne_jobs.prediction.networks import Ensemble

Progress = Callable[[int, int | None], None]  # (rows done, rows in all)


@dataclass(frozen=True)
class Predicted:
    """What was written: rows, and how many of them a network could see."""

    rows: int
    seen: int


def open_source(uri: str, ensemble: Ensemble, detector: str | None = None, parser: Path | None = None) -> Source:
    """The source that `uri` names: a dataset (a folder with a manifest, or a URI), a folder of images, or a video.

    Raises:
        PredictionError: there is no such thing, or the networks can't see it.
        duchenne_jobs.data.DatasetError: a dataset or detector that can't be opened.
    """
    data = ensemble.data
    path = Path(uri).expanduser()
    if "://" in uri or (path / MANIFEST_NAME).is_file():
        dataset = open_dataset(uri if "://" in uri else path)
        if data.image_size is None:
            return FeatureDatasetSource(dataset, data.features or 0)
        return FaceDatasetSource(dataset, data.image_size, "parsing" in ensemble.inputs)
    if data.image_size is None:
        raise PredictionError(f"these networks look at features, but {uri} is no dataset; name one")
    if not path.exists():
        raise PredictionError(f"there is no {uri}; name a video, a folder of images or a dataset")
    if "parsing" in ensemble.inputs and parser is None:
        raise PredictionError("these networks look at face parsing maps; name the model that makes them by --parser")
    is_video = not path.is_dir()
    finder = detector or detector_of(ensemble.crop, is_video)
    cutter = FaceCutter(ensemble.crop, data, finder, parser)
    return VideoSource(path, cutter) if is_video else FolderSource(path, cutter)


def predict_source(
    ensemble: Ensemble,
    source: Source,
    out: Path,
    thresholds: NDArray[np.floating],
    overlay: Path | None = None,
    progress: Progress | None = None,
) -> Predicted:
    """Write the CSV, and the overlay where one is asked for. The CSV appears whole or not at all.

    Args:
        thresholds: (T,) probability from which a task is decided to be there.

    Raises:
        PredictionError: the source has no pictures to draw on, or the networks need what it lacks.
        duchenne_jobs.data.DatasetError: a frame that can't be read.
        OSError: the files can't be written.
    """
    tasks = ensemble.data.tasks
    if overlay is not None and isinstance(source, FeatureDatasetSource):
        raise PredictionError("--overlay needs pictures, but a tabular dataset has none; leave it out")
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    rows = seen = 0
    with ExitStack() as stack:
        stack.callback(beside.unlink, missing_ok=True)
        sink = stack.enter_context(beside.open("w", newline="", encoding="utf-8"))
        drawn = None
        if overlay is not None:
            drawn = stack.enter_context(open_overlay(overlay, source.rate, isinstance(source, VideoSource)))
        table = csv.writer(sink)
        table.writerow([*source.keys, "face", *(name for task in tasks for name in (task, f"{task}_decision"))])
        for chunk in source.chunks(frames=drawn is not None):
            probabilities = _probabilities(ensemble, chunk)
            _write(table, chunk, probabilities, thresholds)
            if drawn is not None:
                _draw(drawn, chunk, tasks, probabilities, thresholds)
            rows, seen = rows + len(chunk.rows), seen + sum(chunk.seen)
            if progress is not None:
                progress(rows, source.total)
        sink.flush()
        beside.replace(out)
    return Predicted(rows, seen)


@torch.no_grad()
def _probabilities(ensemble: Ensemble, chunk: Chunk) -> NDArray[np.float32]:
    """(B, T), NaN where nothing was seen."""
    found = np.full((len(chunk.rows), len(ensemble.data.tasks)), np.nan, np.float32)
    if chunk.inputs is not None:
        device = next(ensemble.parameters()).device
        found[chunk.seen] = ensemble.predict(chunk.inputs.to(device)).clamp(0, 1).cpu().numpy()
    return found


def _write(table: Any, chunk: Chunk, probabilities: Any, thresholds: Any) -> None:
    for row, seen, values in zip(chunk.rows, chunk.seen, probabilities, strict=True):
        cells: list[object] = [""] * (2 * len(values))
        if seen:
            cells[0::2] = [f"{value:.6f}" for value in values]
            cells[1::2] = [int(decided) for decided in values >= thresholds]
        table.writerow([*row.key, int(seen), *cells])


def _draw(overlay: Overlay, chunk: Chunk, tasks: tuple[str, ...], probabilities: Any, thresholds: Any) -> None:
    for row, seen, values in zip(chunk.rows, chunk.seen, probabilities, strict=True):
        if row.frame is not None:  # a dataset keeps no picture of a frame without a face
            overlay.add(row.key, draw(row.frame, row.outline, tasks, values if seen else None, values >= thresholds))
