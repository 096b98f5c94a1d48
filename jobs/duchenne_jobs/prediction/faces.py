"""The face of a frame, cut out as the faces that a network was trained on were.

H height, W width in pixels, S side of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from duchenne_jobs.data.faces import align
from duchenne_jobs.data.faces.decoding import resized, resized_ids
from duchenne_jobs.data.faces.detect import HAAR, open_detector
from duchenne_jobs.data.faces.parse import OnnxParser
from duchenne_jobs.data.manifest import Crop
from duchenne_jobs.models import DataDescription
from duchenne_jobs.prediction.errors import PredictionError

WHOLE = "none"
_ENLARGE = 1.3  # as `ingest` does by default


@dataclass(frozen=True)
class Face:
    """One face.

    Attributes:
        image: (3, H, W) uint8, of the size that the network takes.
        parsing: (H, W) uint8 class ids, where there is a parser.
        outline: (4, 2) corners of the crop in the frame, (x, y).
    """

    image: Tensor
    parsing: Tensor | None
    outline: Any


class FaceCutter:
    """Finds the face of a frame and cuts it out.

    Args:
        crop: how the training faces were cut out; None where they were stored as they came.
        data: size of the faces and names of parsing classes.
        detector: `haar`, an ONNX file, `none` for pictures that are faces already.
        parser: an ONNX file of a face parsing model, for networks that look at parsing maps.

    Raises:
        duchenne_jobs.data.DatasetError: no such detector or parser.
    """

    def __init__(
        self, crop: Crop | None, data: DataDescription, detector: str = WHOLE, parser: Path | None = None
    ) -> None:
        assert data.image_size is not None  # noqa: S101 - the caller asks of networks that see images
        self._size = data.image_size
        self._crop = crop
        self._find = None if detector == WHOLE else open_detector(detector)
        self._parser = None if parser is None else OnnxParser(parser, data.parsing_classes)

    def cut(self, pixels: Any) -> Face | None:
        """The face of an RGB frame (H, W, 3) uint8; None where none is found."""
        if self._find is None and self._crop is None:
            return self._face(pixels, _corners(pixels.shape[1], pixels.shape[0]))
        size, enlarge = (self._crop.size, self._crop.enlarge) if self._crop else (max(self._size), _ENLARGE)
        height, width = pixels.shape[:2]
        if self._find is None:
            square: align.FaceSquare | None = align.FaceSquare((width - 1) / 2, (height - 1) / 2, max(width, height))
            enlarge = 1.0
        else:
            square = self._find.find(pixels)
        if square is None or not square.lies_in(width, height):
            return None
        matrix = align.crop_matrix(square, size, enlarge)
        outline = (_corners(size, size) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return self._face(align.crop_image(pixels, matrix, size), outline)

    def _face(self, crop: Any, outline: Any) -> Face:
        parsing = None if self._parser is None else resized_ids(self._parser.parse(crop), self._size)
        return Face(resized(crop, self._size), parsing, outline)


def detector_of(crop: Crop | None, is_video: bool) -> str:
    """The detector that finds faces as at ingest.

    Where the training faces came cut out already, so do the images of a folder; a video shows whole scenes.

    Raises:
        PredictionError: the faces were found by a model that has to be named.
    """
    if crop is None or crop.aligned_by == "source":
        return HAAR if is_video else WHOLE
    if crop.aligned_by in ("landmarks", HAAR):
        return HAAR
    raise PredictionError(
        f"the training faces were found by {crop.aligned_by}; name that file by --detector, or another detector"
    )


def _corners(width: int, height: int) -> Any:
    """(4, 2) corners of a picture, around it."""
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
