"""The face at one moment: where the landmarks lie, and how deep the creases are.

P points (68), A action units (the columns of `units.NUMBERS`).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from duchenne_jobs.data.synth.anatomy import Subject
from duchenne_jobs.data.synth.template import LEFT_EYE, MIRROR, POINTS, RIGHT_EYE, Floats, Points, on_left
from duchenne_jobs.data.synth.units import MAX_INTENSITY, NUMBERS, UNITS

_LIP_GAP = 0.004  # face units that always stay between the inner edges of the lips, and between the lids
_LIP_WIDTH = 0.022  # what remains of a lip that is pressed


@cache
def movement() -> Floats:
    """(2, A, 68, 2): displacement of each landmark at intensity 5, in the left and in the right half of the picture."""
    moves = np.zeros((2, len(NUMBERS), POINTS, 2))
    for column, number in enumerate(NUMBERS):
        for point, (lateral, down) in UNITS[number].moves.items():
            if not on_left(point):
                raise ValueError(f"AU{number} must be given for the left half, but moves point {point}; mirror it")
            if MIRROR[point] == point:
                moves[:, column, point] = np.array([0.0, down]) / 2  # each half pulls half of it
            else:
                moves[0, column, point] = -lateral, down
                moves[1, column, MIRROR[point]] = lateral, down
    return moves


def drawn_intensities(subject: Subject, activity: Floats) -> Floats:
    """(2, A) intensities that the left and the right half of the face show: what is done, and how it looks at rest."""
    shown: Floats = np.clip(activity, 0.0, MAX_INTENSITY) * subject.gains + subject.rest
    return shown


def landmarks(subject: Subject, activity: Floats, blink: float = 0.0) -> Points:
    """The 68 landmarks (68, 2) in face units.

    Args:
        activity: (A,) intensities 0..5.
        blink: 0 open, 1 closed.
    """
    shown = drawn_intensities(subject, activity) / MAX_INTENSITY
    points: Points = subject.points + np.einsum("ha,hapc->pc", shown, movement())
    _close_lids(points, blink)
    _keep_lips_apart(points)
    return points


def crease_depths(subject: Subject, activity: Floats) -> Floats:
    """(2, A) in 0..1: how deep each AU's creases are, in each half."""
    shown = np.maximum(drawn_intensities(subject, activity), subject.rest_creases) / MAX_INTENSITY
    deep: Floats = np.clip(shown, 0.0, 1.0) ** 0.9 * subject.wrinkles
    return np.clip(deep, 0.0, 1.0)


def eye_centres(points: Points) -> Points:
    """(2, 2): the mean of the six points of each eye, left of the picture first."""
    return np.stack([points[list(LEFT_EYE)].mean(axis=0), points[list(RIGHT_EYE)].mean(axis=0)])


def _close_lids(points: Points, blink: float) -> None:
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        closed = points[lower, 1] - _LIP_GAP
        points[upper, 1] = min(points[upper, 1] + blink * (closed - points[upper, 1]), closed)


def _keep_lips_apart(points: Points) -> None:
    """Lips touch but never pass through each other, whatever AUs add up to."""
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        missing = _LIP_GAP - (points[lower, 1] - points[upper, 1])
        if missing > 0:
            points[upper, 1] -= missing / 2
            points[lower, 1] += missing / 2
    for outer, inner in ((50, 61), (51, 62), (52, 63)):
        points[outer, 1] = min(points[outer, 1], points[inner, 1] - _LIP_WIDTH)
    for outer, inner in ((58, 67), (57, 66), (56, 65)):
        points[outer, 1] = max(points[outer, 1], points[inner, 1] + _LIP_WIDTH)
