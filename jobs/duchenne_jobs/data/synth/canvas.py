"""The sheet on which a face is painted from the front, before a view turns it; drawing in face units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.template import Floats, Points

_SHIFT = 4  # fractional bits that OpenCV draws with
_FINER = 4  # small outlines are filled so many times larger: OpenCV's own filling is half a pixel too wide
_SMALL = 120  # pixels
_MARGIN = 1  # pixels around an outline
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """Height and width in pixels, pixels a face unit, and the face coordinates of its top left corner."""

    height: int
    width: int
    scale: float
    left: float
    top: float

    @classmethod
    def covering(cls, scale: float, left: float, top: float, right: float, bottom: float) -> Canvas:
        """The canvas over a rectangle of face units."""
        return cls(int(np.ceil((bottom - top) * scale)), int(np.ceil((right - left) * scale)), scale, left, top)

    def grid(self) -> tuple[Floats, Floats]:
        """x and y, each (height, width), of every pixel's middle, in face units."""
        x = self.left + (np.arange(self.width) + 0.5) / self.scale
        y = self.top + (np.arange(self.height) + 0.5) / self.scale
        columns, rows = np.meshgrid(x, y)
        return columns, rows

    def pixels(self, points: Any) -> Points:
        """Face units to OpenCV's pixels, in which whole numbers are the middles."""
        placed: Points = (np.asarray(points, dtype=np.float64) - (self.left, self.top)) * self.scale - 0.5
        return placed

    def blank(self) -> Mask:
        """Zeros, (height, width) uint8."""
        return np.zeros((self.height, self.width), np.uint8)

    def fill(self, image: npt.NDArray[np.uint8], outline: Points, value: Any, *, smooth: bool = True) -> None:
        """Fill a closed outline (S, 2) given in face units; `smooth` antialiases its edge."""
        import cv2

        rows, columns = self.box(outline, _MARGIN / self.scale)
        if max(rows.stop - rows.start, columns.stop - columns.start) <= _SMALL:
            if rows.stop > rows.start and columns.stop > columns.start:
                share = self._coverage(outline, rows, columns)
                part = image[rows, columns]
                weight = share.astype(np.float32) / 255 if smooth else (share >= 128).astype(np.float32)
                weight = weight if image.ndim == 2 else weight[..., None]
                part[:] = np.rint(part + (np.asarray(value, np.float32) - part) * weight)
            return
        cv2.fillPoly(image, [self._fixed(outline)], _scalar(value), cv2.LINE_AA if smooth else cv2.LINE_8, shift=_SHIFT)

    def stroke(self, image: npt.NDArray[np.uint8], path: Points, value: Any, width: float) -> None:
        """Draw an open line (S, 2) of a width in face units, antialiased."""
        import cv2

        pixels = max(1, round(width * self.scale))
        cv2.polylines(image, [self._fixed(path)], False, _scalar(value), pixels, cv2.LINE_AA, shift=_SHIFT)

    def disc(self, image: npt.NDArray[np.uint8], centre: Points, radii: tuple[float, float], value: Any) -> None:
        """Fill an upright ellipse."""
        angle = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)
        self.fill(image, np.asarray(centre) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii, value)

    def box(self, outline: Points, margin: float) -> tuple[slice, slice]:
        """Rows and columns around an outline, for work on a part of the canvas."""
        corners = self.pixels(np.stack([outline.min(axis=0) - margin, outline.max(axis=0) + margin]))
        (x0, y0), (x1, y1) = np.clip(corners, 0, (self.width, self.height)).astype(int)
        return slice(y0, min(y1 + 1, self.height)), slice(x0, min(x1 + 1, self.width))

    def part(self, rows: slice, columns: slice) -> Canvas:
        """The canvas of a box of this one."""
        left, top = self.left + columns.start / self.scale, self.top + rows.start / self.scale
        return Canvas(rows.stop - rows.start, columns.stop - columns.start, self.scale, left, top)

    def _coverage(self, outline: Points, rows: slice, columns: slice) -> Mask:
        """0..255: how much of each pixel of a box lies inside the outline."""
        import cv2

        height, width = rows.stop - rows.start, columns.stop - columns.start
        fine = np.zeros((height * _FINER, width * _FINER), np.uint8)
        inside = (self.pixels(outline) + 0.5 - (columns.start, rows.start)) * _FINER - 0.5
        cv2.fillPoly(fine, [np.round(inside * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_8, shift=_SHIFT)
        return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        return np.round(self.pixels(points) * (1 << _SHIFT)).astype(np.int32)


def _scalar(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else tuple(float(channel) for channel in value)
