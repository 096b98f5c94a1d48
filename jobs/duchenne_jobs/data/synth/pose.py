"""From face units to pixels: a turned head on still shoulders, seen by a camera far away.

One forward map places landmarks; its inverse, by Newton's iteration, says where each pixel of the picture comes from.
The middle of a pixel is a whole number, as in OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.template import Floats, Points

_HEAD = (0.9, 0.95, 1.45)  # depth, half width, half height: face units
_MIDDLE = 0.35  # height of the skull's middle
_NOSE = (0.17, 0.52, 0.25)  # half width, height of the tip, half height
_PIVOT = np.array([0.0, 0.7, -0.2])  # where the neck lets the head turn
_NECK = (1.95, 2.9)  # above the first the head moves as one; below the second nothing does
_GRID = 4  # pixels between the places where the inverse is computed; between them it is interpolated
_NEWTON_STEPS = 4
_LEAST_SLOPE = 0.3  # beyond it the nose hides what is behind, and there is no inverse


@dataclass(frozen=True)
class Pose:
    """Head pose in radians (yaw turns the face to the right of the picture, pitch up, roll clockwise)."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def rotation(self) -> Floats:
        """(3, 3) for column vectors (x right, y down, z towards the camera)."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        turned: Floats = roll @ yaw @ pitch
        return turned


class View:
    """How one picture sees the face.

    Args:
        pose: of the head.
        nose: height of the subject's nose, about 1.
        scale: pixels a face unit.
        centre: where the point between the eyes lies when the head looks straight ahead, in pixels.
    """

    def __init__(self, pose: Pose, nose: float, scale: float, centre: tuple[float, float]) -> None:
        self._rotation = pose.rotation()
        self._nose = nose
        self._linear = np.eye(2) * scale
        self._shift = np.asarray(centre, dtype=np.float64)

    def aligned(self, eyes: Points, left: tuple[float, float], right: tuple[float, float]) -> View:
        """The same view, turned, scaled and shifted so that the eye centres (2, 2) land on two pixels."""
        first, second = self.project(eyes)
        have, want = second - first, np.subtract(right, left)
        # As complex numbers: the similarity that takes `have` to `want`.
        turn = complex(*want) / complex(*have)
        similarity = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
        view = View.__new__(View)
        view._rotation, view._nose = self._rotation, self._nose
        view._linear = similarity @ self._linear
        view._shift = similarity @ (self._shift - first) + np.asarray(left)
        return view

    def project(self, points: Points) -> Points:
        """Points (..., 2) in face units to pixels."""
        turned = self._turned(points)
        pixels: Points = turned @ self._linear.T + self._shift
        return pixels

    def _turned(self, points: Points) -> Points:
        x, y = points[..., 0], points[..., 1]
        body = np.stack([x, y, depth(x, y, self._nose)], axis=-1)
        head = (body - _PIVOT) @ self._rotation[:2].T + _PIVOT[:2]
        still = np.clip((y - _NECK[0]) / (_NECK[1] - _NECK[0]), 0.0, 1.0)
        still = (still**2 * (3 - 2 * still))[..., None]
        mixed: Points = head * (1 - still) + points * still
        return mixed

    def sources(self, height: int, width: int) -> Points:
        """For the middle of every `_GRID`-pixel cell, and one cell around the picture: its place in face units."""
        rows, columns = (-(-size // _GRID) + 2 for size in (height, width))
        y, x = np.meshgrid(np.arange(rows) - 0.5, np.arange(columns) - 0.5, indexing="ij")
        target = (np.stack([x, y], axis=-1) * _GRID - 0.5 - self._shift) @ np.linalg.inv(self._linear).T
        flat = np.linalg.inv(self._rotation[:2, :2]).T
        lean = flat.T @ self._rotation[:2, 2]
        points: Points = target.copy()
        for _ in range(_NEWTON_STEPS):
            # The Jacobian is the flat one plus a rank of one for the depth: Sherman and Morrison invert it.
            step = (target - self._turned(points)) @ flat
            rise = depth_slope(points[..., 0], points[..., 1], self._nose)
            along = (step * rise).sum(axis=-1) / np.maximum(1 + rise @ lean, _LEAST_SLOPE)
            points = points + step - along[..., None] * lean
        return points

    def source_map(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """(height, width, 2): where in the face each pixel's middle lies, in face units."""
        import cv2

        coarse = self.sources(height, width).astype(np.float32)
        rows, columns = coarse.shape[0] * _GRID, coarse.shape[1] * _GRID
        fine = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(fine[_GRID : _GRID + height, _GRID : _GRID + width], dtype=np.float32)


def depth(x: Floats, y: Floats, nose: float) -> Floats:
    """How far the surface of the head lies towards the camera, in face units: a rounded skull and a nose."""
    skull, tip = _depths(x, y, nose)
    return skull + tip


def depth_slope(x: Floats, y: Floats, nose: float) -> Points:
    """The gradient (..., 2) of `depth`."""
    skull, tip = _depths(x, y, nose)
    right = -2 * x * (skull / _HEAD[1] ** 2 + tip / _NOSE[0] ** 2)
    down = -2 * (skull * (y - _MIDDLE) / _HEAD[2] ** 2 + tip * (y - _NOSE[1]) / _NOSE[2] ** 2)
    return np.stack([right, down], axis=-1)


def _depths(x: Floats, y: Floats, nose: float) -> tuple[Floats, Floats]:
    skull: Floats = _HEAD[0] * np.exp(-((x / _HEAD[1]) ** 2) - ((y - _MIDDLE) / _HEAD[2]) ** 2)
    tip: Floats = 0.22 * nose * np.exp(-((x / _NOSE[0]) ** 2) - ((y - _NOSE[1]) / _NOSE[2]) ** 2)
    return skull, tip
