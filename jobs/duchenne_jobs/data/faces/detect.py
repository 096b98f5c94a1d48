"""Face detectors: OpenCV's Haar cascade, or an ONNX model. Both give at most one face a frame.

H height, W width in pixels, K candidates of a model.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.align import FaceSquare, square_of_anchors, square_of_eyes
from duchenne_jobs.data.faces.onnx import ImageModel

HAAR = "haar"
MIN_SCORE = 0.7  # of an ONNX model's candidates
# Where the eye centres are in the box of the face cascade, shares of its sides. Medians over 80 drawn faces are 0.32,
# 0.68 and 0.42 (5th to 95th percentile: 0.29 to 0.36, 0.65 to 0.74, 0.38 to 0.47); one photograph has 0.29, 0.71, 0.38.
EYES_IN_BOX = np.array([[0.315, 0.415], [0.685, 0.415]])
EYE_REACH = 0.17  # shares: what the eye cascade finds farther away are brows, nostrils and corners of the mouth
EYE_SPREAD = 0.15  # share by which the distance of the eyes of a box differs from the usual one
_HAAR_SIDE = 480  # pixels: the cascade runs on frames scaled down to this height


class Detector(Protocol):
    """Finds the one face of a frame."""

    def find(self, image: Any) -> FaceSquare | None:
        """The largest face of RGB pixels (H, W, 3), or None."""


def open_detector(name: str) -> Detector:
    """`haar`, or the path of an ONNX model.

    Raises:
        DatasetError: neither.
    """
    if name == HAAR:
        return HaarDetector()
    if not name.endswith(".onnx"):
        raise DatasetError(f"a detector is {HAAR!r} or a file that ends in .onnx, but got {name!r}")
    return OnnxDetector(Path(name))


class HaarDetector:
    """OpenCV's frontal face cascade and, within what it boxes, the eye cascade.

    The face is framed by its eye centres, so that it lies in a crop as one that landmarks framed. Where the eye
    cascade finds no eye, the eyes are taken to be where they usually are in the box of a face.
    """

    def __init__(self) -> None:
        self._face = _cascade("haarcascade_frontalface_default.xml")
        self._eye = _cascade("haarcascade_eye.xml")

    def find(self, image: Any) -> FaceSquare | None:
        """The largest face of RGB pixels (H, W, 3), or None."""
        import cv2

        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, _HAAR_SIDE / min(grey.shape))
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
        least = max(24, min(small.shape) // 8)
        faces = self._face.detectMultiScale(small, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
        if len(faces) == 0:
            return None
        left, top, width, height = max(faces.tolist(), key=lambda box: (box[2] * box[3], box))
        eyes = self._eyes(small[top : top + height, left : left + width]) * [width, height]
        return square_of_eyes(*((eyes + np.array([left, top])) / scale))

    def _eyes(self, face: Any) -> Any:
        """The eye centres (2, 2) of the pixels of a face, as shares of its width and height; image-left eye first."""
        height, width = face.shape
        least = max(8, width // 10)
        above = height // 5
        found = self._eye.detectMultiScale(
            face[above : height * 11 // 20], scaleFactor=1.1, minNeighbors=4, minSize=(least, least)
        )
        eyes = EYES_IN_BOX.copy()
        seen = [False, False]
        for x, y, w, h in sorted(found.tolist() if len(found) else [], key=lambda box: (box[2] * box[3], box)):
            centre = np.array([(x + w / 2) / width, (y + above + h / 2) / height])
            side = int(centre[0] >= 0.5)
            if np.abs(centre - EYES_IN_BOX[side]).max() <= EYE_REACH:
                eyes[side], seen[side] = centre, True  # the largest comes last
        if sum(seen) == 1:
            eyes[seen.index(False), 1] = eyes[seen.index(True), 1]
        # Frames of glasses draw the boxes of the eyes outwards: no face's eyes are that far apart.
        across, usual = float(np.linalg.norm(eyes[1] - eyes[0])), float(EYES_IN_BOX[1, 0] - EYES_IN_BOX[0, 0])
        factor = np.clip(across, (1 - EYE_SPREAD) * usual, (1 + EYE_SPREAD) * usual) / across
        return eyes.mean(axis=0) + (eyes - eyes.mean(axis=0)) * factor


class OnnxDetector:
    """A model with outputs for K candidates, told apart by their last axis; coordinates are fractions of the image.

    - scores (1, K, 2): background, face; or (1, K, 1): face. Probabilities; the input is RGB, (pixel - 127) / 128.
    - boxes (1, K, 4): left, top, right, bottom.
    - optional points (1, K, 10): x, y of the eyes, the nose and the corners of the mouth, the image's left ones first.

    Of the candidates with a score of at least 0.7 the one with the largest box is the face. With points it is levelled
    and framed by them, else it is upright.
    """

    def __init__(self, path: Path) -> None:
        self._model = ImageModel(path, 320, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

    def find(self, image: Any) -> FaceSquare | None:
        """The largest face of RGB pixels (H, W, 3), or None."""
        scores, boxes, points = self._outputs(image)
        likely = np.flatnonzero(scores >= MIN_SCORE)
        if likely.size == 0:
            return None
        height, width = image.shape[:2]
        sizes = boxes[likely, 2:] - boxes[likely, :2]
        best = int(likely[np.argmax(sizes[:, 0] * sizes[:, 1])])
        if points is not None:
            return square_of_anchors(points[best].reshape(5, 2) * [width, height])
        left, top, right, bottom = boxes[best] * [width, height, width, height]
        side = float(max(right - left, bottom - top))
        return FaceSquare(float(left + right) / 2, float(top + bottom) / 2, side) if side > 0 else None

    def _outputs(self, image: Any) -> tuple[Any, Any, Any | None]:
        outputs = self._model.run(image)
        found = {array.shape[-1]: array[0] for array in outputs if array.ndim == 3 and array.shape[0] == 1}
        scores = found.get(2, found.get(1))
        if scores is None or 4 not in found or len({len(array) for array in found.values()}) != 1:
            shapes = ", ".join(str(array.shape) for array in outputs)
            raise DatasetError(
                f"{self._model.path}: a detector gives scores (1, K, 1 or 2), boxes (1, K, 4) and perhaps points "
                f"(1, K, 10), but this one gives {shapes}; export it so"
            )
        return scores[:, -1], found[4].astype(np.float64), found.get(10)


@lru_cache(maxsize=2)
def _cascade(name: str) -> Any:
    import cv2

    folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
    cascade = cv2.CascadeClassifier(str(Path(folder) / name)) if folder else None
    if cascade is None or cascade.empty():
        raise DatasetError(
            f"OpenCV {cv2.__version__} has no cascade {name}; pip install 'opencv-python-headless<5', "
            "or name a detector in ONNX"
        )
    return cascade
