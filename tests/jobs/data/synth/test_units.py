"""Every AU moves what FACS says it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from duchenne_jobs.data.synth.anatomy import LIKES, make_subject
from duchenne_jobs.data.synth.canvas import Canvas
from duchenne_jobs.data.synth.face import crease_depths, landmarks
from duchenne_jobs.data.synth.paint import Lighting, Painter
from duchenne_jobs.data.synth.template import MIRROR, average_face, curve, on_left
from duchenne_jobs.data.synth.units import CODED, NUMBERS, UNITS

LIGHT = Lighting(np.array([0.0, -0.2, 0.5]), 0.45)


def only(number: int, intensity: float = 5.0) -> np.ndarray:
    activity = np.zeros(len(NUMBERS))
    activity[NUMBERS.index(number)] = intensity
    return activity


def unbiased(like: str = "disfa") -> list:
    subjects = [make_subject(like, index, 0) for index in range(27)]
    return [subject for subject in subjects if subject.bias == "none"]


# (landmark or measure, direction): x grows to the right, y grows down; point 17 is the image-left brow's outer end.
UP, DOWN, OUT, IN = "up", "down", "out", "in"
MOVES: dict[int, list[tuple[int, str]]] = {
    1: [(21, UP), (20, UP)],
    2: [(18, UP), (17, UP)],
    4: [(21, DOWN), (20, DOWN), (21, IN)],
    5: [(37, UP), (38, UP)],
    6: [(41, UP), (40, UP)],
    7: [(41, UP), (37, DOWN)],
    9: [(31, UP), (33, UP), (21, DOWN)],
    10: [(50, UP), (61, UP)],
    12: [(48, UP), (48, OUT)],
    14: [(48, OUT)],
    15: [(48, DOWN)],
    17: [(57, UP), (8, UP)],
    20: [(48, OUT)],
    23: [(48, IN), (57, UP)],
    24: [(51, DOWN), (57, UP)],
    25: [(66, DOWN), (62, UP)],
    26: [(8, DOWN), (57, DOWN)],
}


def test_every_unit_of_both_datasets_is_drawn() -> None:
    assert set(MOVES) == set(NUMBERS)
    assert all(set(CODED[like]) <= set(NUMBERS) for like in LIKES)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_unit_moves_its_landmarks_on_both_halves_of_every_face(number: int) -> None:
    for subject in unbiased():
        moved = landmarks(subject, only(number)) - landmarks(subject, only(number, 0.0))
        for point, direction in MOVES[number]:
            for place, outward in {point: -1.0, MIRROR[point]: 1.0}.items():
                right, down = moved[place]
                distance = {UP: -down, DOWN: down, OUT: right * outward, IN: -right * outward}[direction]
                assert distance > 0.015, (subject.identifier, place, direction, moved[place])


@pytest.mark.parametrize("number", NUMBERS)
def test_more_intensity_moves_further(number: int) -> None:
    subject = unbiased()[0]
    point = MOVES[number][0][0]
    rest = landmarks(subject, only(number, 0.0))[point]
    steps = [float(np.linalg.norm(landmarks(subject, only(number, level))[point] - rest)) for level in range(6)]
    assert steps == sorted(steps)
    assert steps[5] > 2 * steps[1]


# What shows in the skin: (x, y) of a patch in face units that must change when the landmarks stay where they are.
PATCHES: dict[int, tuple[float, float]] = {
    1: (0.0, -0.76),
    2: (0.75, -0.68),
    4: (0.14, -0.3),
    6: (0.86, 0.0),
    7: (0.5, 0.14),
    9: (0.08, 0.13),
    10: (0.45, 0.7),
    12: (0.62, 0.95),
    14: (0.51, 1.08),
    15: (0.47, 1.2),
    17: (0.0, 1.5),
    20: (0.55, 1.1),
    23: (0.1, 0.9),
    24: (0.2, 1.32),
}


@pytest.mark.parametrize("number", sorted(PATCHES))
def test_a_unit_creases_or_bulges_the_skin_where_it_should(number: int) -> None:
    subject = unbiased()[0]
    canvas = Canvas.covering(64, -1.6, -1.7, 1.6, 2.3)
    painter = Painter(subject, canvas)
    points = landmarks(subject, only(number, 0.0))
    still = painter.paint(points, only(number, 0.0), LIGHT).colours.astype(int)
    pulled = painter.paint(points, only(number), LIGHT).colours.astype(int)
    change = np.abs(pulled - still).sum(axis=2)
    column, row = np.round(canvas.pixels(PATCHES[number])).astype(int)
    assert change[row - 6 : row + 7, column - 6 : column + 7].max() > 20
    # ... and nothing on the other end of the face.
    far = change[: round(1.2 * 64)] if number >= 12 else change[round(3.0 * 64) :]
    assert far.max() == 0


def test_lips_and_lids_never_pass_through_each_other() -> None:
    random = np.random.default_rng(3)
    for index in range(27):
        subject = make_subject("disfa", index, 1)
        for _ in range(20):
            points = landmarks(subject, random.uniform(0, 5, len(NUMBERS)), float(random.uniform(0, 1)))
            for upper, lower in ((61, 67), (62, 66), (63, 65), (37, 41), (38, 40), (43, 47), (44, 46)):
                assert points[upper, 1] < points[lower, 1]
            for upper, lower in ((50, 61), (51, 62), (52, 63), (67, 58), (66, 57), (65, 56)):
                assert points[upper, 1] < points[lower, 1]


def test_creases_deepen_with_intensity_and_age_lines_stay() -> None:
    subject = make_subject("disfa", 5, 0)
    column = NUMBERS.index(4)
    depths = [float(crease_depths(subject, only(4, level))[0, column]) for level in (0.0, 2.0, 5.0)]
    assert depths == sorted(depths)
    assert depths[0] >= 0.9 * min(subject.rest_creases[column] / 5, 1.0) * subject.wrinkles


def test_the_average_face_is_its_own_mirror_image() -> None:
    face = average_face()
    assert np.allclose(face[list(MIRROR)] * (-1, 1), face)
    assert all(on_left(point) or on_left(MIRROR[point]) for point in range(68))


@pytest.mark.parametrize("closed", [False, True])
def test_a_curve_passes_through_its_points(closed: bool) -> None:
    points = np.random.default_rng(0).normal(size=(7, 2))
    samples = curve(points, closed=closed, steps=5)
    near: Callable[[np.ndarray], float] = lambda point: float(np.abs(samples - point).sum(axis=1).min())  # noqa: E731
    assert max(near(point) for point in points) < 1e-12


def test_every_unit_is_given_for_the_left_half() -> None:
    for unit in UNITS.values():
        assert all(on_left(point) for point in unit.moves)
        assert all(on_left(crease.anchor) for crease in unit.creases)
