"""The 68 iBUG landmarks of an average face, their mirror images, and the smooth curves that run through them.

Face units: 1 is the distance between the eye centres, the origin lies half-way between them, x runs to the right of the
picture and y down. P points, S samples of a curve.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]  # of any shape
Points: TypeAlias = npt.NDArray[np.float64]  # (P, 2) or (..., 2)

POINTS = 68
JAW = tuple(range(17))
LEFT_BROW, RIGHT_BROW = tuple(range(17, 22)), tuple(range(22, 27))  # left of the picture, from the temple inwards
LEFT_EYE, RIGHT_EYE = tuple(range(36, 42)), tuple(range(42, 48))
UPPER_LIP = ((48, 49, 50, 51, 52, 53, 54), (60, 61, 62, 63, 64))  # outer edge, inner edge
LOWER_LIP = ((48, 59, 58, 57, 56, 55, 54), (60, 67, 66, 65, 64))

# The left half of the picture and the midline; the right half is its mirror image.
_HALF: dict[int, tuple[float, float]] = {
    **dict(
        zip(
            range(9),
            [
                (-1.12, -0.02),
                (-1.11, 0.28),
                (-1.06, 0.58),
                (-0.98, 0.87),
                (-0.85, 1.14),
                (-0.66, 1.38),
                (-0.44, 1.58),
                (-0.21, 1.71),
                (0.0, 1.75),
            ],
            strict=True,
        )
    ),
    **dict(
        zip(LEFT_BROW, [(-0.86, -0.26), (-0.73, -0.38), (-0.55, -0.42), (-0.37, -0.39), (-0.2, -0.31)], strict=True)
    ),
    **dict(zip(range(27, 31), [(0.0, -0.02), (0.0, 0.17), (0.0, 0.36), (0.0, 0.55)], strict=True)),
    **dict(zip(range(31, 34), [(-0.23, 0.66), (-0.12, 0.71), (0.0, 0.74)], strict=True)),
    **dict(
        zip(
            LEFT_EYE,
            [(-0.73, 0.02), (-0.61, -0.075), (-0.42, -0.08), (-0.27, 0.035), (-0.42, 0.075), (-0.6, 0.085)],
            strict=True,
        )
    ),
    **dict(zip((48, 49, 50, 51), [(-0.4, 1.1), (-0.25, 1.015), (-0.09, 0.975), (0.0, 0.99)], strict=True)),
    **dict(zip((59, 58, 57), [(-0.25, 1.2), (-0.11, 1.25), (0.0, 1.26)], strict=True)),
    **dict(zip((60, 61, 62), [(-0.36, 1.1), (-0.1, 1.085), (0.0, 1.09)], strict=True)),
    **dict(zip((67, 66), [(-0.1, 1.1), (0.0, 1.105)], strict=True)),
}


def _mirror() -> tuple[int, ...]:
    mirror = list(range(POINTS))
    pairs = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in LEFT_BROW] + [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for left, right in pairs:
        mirror[left], mirror[right] = right, left
    return tuple(mirror)


MIRROR = _mirror()  # MIRROR[i] is point i's mirror image; points of the midline are their own


def average_face() -> Points:
    """The (68, 2) landmarks of the average face, in face units."""
    face = np.zeros((POINTS, 2))
    for point, (x, y) in _HALF.items():
        face[point] = x, y
        face[MIRROR[point]] = -x, y
    return face


def on_left(point: int) -> bool:
    """Whether a point lies on the left half of the picture or on the midline."""
    return point in _HALF


@cache
def _spline_matrix(count: int, closed: bool, steps: int) -> npt.NDArray[np.float64]:
    """(S, count) weights of a Catmull-Rom spline through `count` points: samples = matrix @ points."""
    segments = count if closed else count - 1
    fractions = np.linspace(0.0, 1.0, steps, endpoint=False)
    rows = []
    for segment in range(segments):
        around = [segment - 1, segment, segment + 1, segment + 2]
        around = [i % count for i in around] if closed else [min(max(i, 0), count - 1) for i in around]
        for t in fractions:
            weights = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (-(t**2) + t**3) / 2,
            )
            row = np.zeros(count)
            for index, weight in zip(around, weights, strict=True):
                row[index] += weight
            rows.append(row)
    if not closed:
        rows.append(np.eye(count)[-1])
    return np.array(rows)


def curve(points: Points, *, closed: bool = False, steps: int = 6) -> Points:
    """A smooth curve (S, 2) that passes through every one of the points (P, 2)."""
    samples: Points = _spline_matrix(len(points), closed, steps) @ points
    return samples
