"""Where a face is in a frame, and the similarity transform that cuts it out: eyes level, a square around it.

H height, W width, S side of the crop in pixels, P landmark points. Points are (x, y) in pixels, y down; the centre of a
pixel is a whole number, as in OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# The five anchors (eye centres, tip of the nose, corners of the mouth) span less than what face detectors box, which is
# brows to chin. This factor brings the two to about the same size, so that one `enlarge` serves both; with the default
# enlargement of 1.3 the crop's side is 2.9 times the span of the anchors, as in the AU projects that crop by 49 points.
ANCHORS_TO_FACE = 2.25
# The square's side over the distance of the eye centres, and how far above its centre they lie, a share of the side:
# means over 100 drawn faces. The second is half of 1 / ANCHORS_TO_FACE where the mouth lies deeper than the eyes part.
EYES_TO_FACE = 2.45
EYES_ABOVE_CENTRE = 0.22
MIN_EYE_DISTANCE = 2.0  # pixels; closer eyes have no angle worth the name
_BORDER = (128, 128, 128)


@dataclass(frozen=True)
class FaceSquare:
    """A face in a frame: centre and side in pixels, `angle` in radians of the line from the left to the right eye."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def lies_in(self, width: int, height: int) -> bool:
        """Whether its centre lies in the frame and its side is a number above 0."""
        known = all(math.isfinite(value) for value in (self.x, self.y, self.side, self.angle)) and self.side > 0
        return known and 0 <= self.x < width and 0 <= self.y < height


def square_of_anchors(anchors: Any) -> FaceSquare | None:
    """The square of five anchors (5, 2): image-left eye, image-right eye, nose, mouth corners. None: no face there."""
    points = np.asarray(anchors, np.float64)
    if not np.isfinite(points).all():
        return None
    angle = eye_angle(points[0], points[1])
    if angle is None:
        return None
    level = points @ _rotation(-angle).T
    low, high = level.min(0), level.max(0)
    centre = _rotation(angle) @ ((low + high) / 2)
    return FaceSquare(float(centre[0]), float(centre[1]), float((high - low).max()) * ANCHORS_TO_FACE, angle)


def square_of_eyes(left: Any, right: Any) -> FaceSquare | None:
    """About the square that `square_of_anchors` would give, of the eye centres alone: a detector's. None: too close."""
    angle = eye_angle(left, right)
    if angle is None:
        return None
    between = (np.asarray(left, np.float64) + np.asarray(right, np.float64)) / 2
    side = float(np.linalg.norm(np.asarray(right, np.float64) - left)) * EYES_TO_FACE
    centre = between + _rotation(angle) @ np.array([0.0, side * EYES_ABOVE_CENTRE])
    return FaceSquare(float(centre[0]), float(centre[1]), side, angle)


def eye_angle(left: Any, right: Any) -> float | None:
    """Radians of the line from the image-left to the image-right eye; None where they are closer than two pixels."""
    across, down = (float(value) for value in np.asarray(right, np.float64) - np.asarray(left, np.float64))
    return math.atan2(down, across) if math.hypot(across, down) >= MIN_EYE_DISTANCE else None


def crop_matrix(square: FaceSquare, size: int, enlarge: float) -> Any:
    """The similarity (2, 3) from frame pixels to the pixels of a crop of S = `size`, `enlarge` times the square."""
    scale = size / (square.side * enlarge)
    linear = scale * _rotation(-square.angle)
    middle = (size - 1) / 2
    return np.column_stack([linear, np.array([middle, middle]) - linear @ np.array([square.x, square.y])])


def crop_image(image: Any, matrix: Any, size: int) -> Any:
    """Cut (S, S, 3) uint8 out of a frame (H, W, 3); what lies outside the frame is grey.

    A face that is larger than the crop is averaged down first: bilinear sampling alone would skip pixels.
    """
    import cv2

    factor = int(1 / math.hypot(matrix[0, 0], matrix[1, 0]))
    if factor >= 2:
        image, matrix = _reduce(image, matrix, size, factor)
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_BORDER
    )


def crop_map(ids: Any, matrix: Any, size: int, background: int = 0) -> Any:
    """Cut class ids (S, S) out of a map (H, W) by the nearest pixel; outside is `background`."""
    import cv2

    return cv2.warpAffine(
        ids, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=background
    )


def move_points(points: Any, matrix: Any) -> Any:
    """Points (P, 2) of the frame in pixels of the crop, float32."""
    return (np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _reduce(image: Any, matrix: Any, size: int, factor: int) -> tuple[Any, Any]:
    """The part of a frame that a crop shows, averaged over blocks of factor x factor pixels, and its own matrix."""
    import cv2

    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64) - matrix[:, 2]
    seen = corners @ np.linalg.inv(matrix[:, :2]).T
    height, width = image.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(seen.min(0)) - 2 * factor, 0, [width - 1, height - 1]))
    right, bottom = (int(v) for v in np.clip(np.ceil(seen.max(0)) + 2 * factor, 1, [width, height]))
    columns, rows = (right - left) // factor, (bottom - top) // factor
    if columns < 1 or rows < 1:
        return image, matrix
    part = image[top : top + rows * factor, left : left + columns * factor]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    # The centre of small pixel u is the frame's factor * (u + 1/2) - 1/2.
    origin = np.array([left, top]) + (factor - 1) / 2
    linear = matrix[:, :2]
    return small, np.column_stack([linear * factor, linear @ origin + matrix[:, 2]])


def _rotation(angle: float) -> Any:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])
