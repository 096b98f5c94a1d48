"""Landmarks, parsing and pixels come from one geometry, and lie where they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from duchenne_jobs.data.synth.actions import perform, portrait
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.face import eye_centres, landmarks
from duchenne_jobs.data.synth.paint import CLASSES
from duchenne_jobs.data.synth.pose import Pose, View
from duchenne_jobs.data.synth.render import Studio, camera_framing, crop_framing
from duchenne_jobs.data.synth.template import LEFT_BROW, LEFT_EYE, RIGHT_BROW, RIGHT_EYE
from duchenne_jobs.data.synth.units import NUMBERS

OWN_CLASS = {
    **dict.fromkeys(LEFT_BROW, "l_brow"),
    **dict.fromkeys(RIGHT_BROW, "r_brow"),
    **dict.fromkeys(LEFT_EYE, "l_eye"),
    **dict.fromkeys(RIGHT_EYE, "r_eye"),
    **dict.fromkeys(range(27, 36), "nose"),
    **dict.fromkeys((*range(49, 54), 61, 62, 63), "u_lip"),
    **dict.fromkeys((*range(55, 60), 65, 66, 67), "l_lip"),
}
EYE_CORNERS = (36, 39, 42, 45)


def studio(index: int, size: int = 256, crop: bool = False, frames: int = 40) -> Studio:
    subject = make_subject("disfa", index, 0)
    framing = crop_framing(size) if crop else camera_framing(size)
    return Studio(subject, perform("disfa", frames, subject.seed), framing)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("index", range(6))
def test_landmarks_lie_on_the_features_that_are_drawn(index: int, crop: bool) -> None:
    drawn = studio(index, crop=crop)
    drawn.performance.blink[:] = 0.0  # a closed eye has no pixels
    for frame in (0, 9, 25, 39):
        picture = drawn.picture(frame)[0]
        rows, columns = np.indices(picture.classes.shape)
        for point, name in OWN_CLASS.items():
            x, y = picture.landmarks[point]
            # One pixel, 0.4 by the canvas' own pixels, 0.25 by the inverse; an eye's corner is thinner than a pixel.
            near = np.hypot(columns - x, rows - y) < (2.5 if point in EYE_CORNERS else 1.65)
            assert CLASSES.index(name) in picture.classes[near], (frame, point, name)


def test_the_jaw_line_parts_skin_from_what_is_behind_it() -> None:
    picture = studio(1).picture(0)[0]
    skin = CLASSES.index("skin")
    chin = picture.landmarks[30]
    for point in range(3, 14):
        inward = (chin - picture.landmarks[point]) / np.linalg.norm(chin - picture.landmarks[point])
        inside, outside = picture.landmarks[point] + 3 * inward, picture.landmarks[point] - 3 * inward
        (x, y), (u, v) = np.round(inside).astype(int), np.round(outside).astype(int)
        assert picture.classes[y, x] == skin
        assert picture.classes[v, u] != skin


def test_an_eye_is_white_and_dark_where_the_parsing_says_eye() -> None:
    picture = studio(0).picture(0)[0]
    eye = picture.colours[picture.classes == CLASSES.index("l_eye")].mean(axis=1)
    assert eye.max() - eye.min() > 80


@pytest.mark.parametrize("size", [96, 200])
def test_aligned_crops_keep_the_eyes_of_a_face_at_rest_in_place(size: int) -> None:
    drawn = studio(2, size=size, crop=True)
    still = landmarks(drawn.subject, np.zeros(len(NUMBERS)))
    angles = []
    for frame in range(0, 40, 8):
        eyes = drawn.view(frame).project(eye_centres(still))
        assert np.allclose(eyes, drawn.framing.eye_pixels, atol=1e-6)
        angles.append(drawn.view(frame).project(still)[30, 0])
    assert np.ptp(angles) > size * 0.005  # the nose still shows that the head turns


@pytest.mark.parametrize(
    ("pose", "pixels"),
    [(Pose(), 0.05), (Pose(0.2, 0.1, 0.1), 0.25), (Pose(0.35, -0.2, 0.15), 0.7), (Pose(-0.4, 0.25, -0.2), 0.7)],
)
def test_the_inverse_of_a_view_finds_every_landmark(pose: Pose, pixels: float) -> None:
    """The inverse is exact every four pixels and interpolated between: a steep nose costs a part of a pixel."""
    for index in range(6):
        subject = make_subject("disfa", index, 0)
        points = landmarks(subject, np.zeros(len(NUMBERS)))
        view = View(pose, subject.nose, 51.2, (128.0, 108.0))
        places = view.source_map(256, 256)
        for pixel, point in zip(view.project(points), points, strict=True):
            column, row = np.floor(pixel).astype(int)
            right, down = pixel - (column, row)
            corners = places[row : row + 2, column : column + 2]
            across = corners[:, 0] * (1 - right) + corners[:, 1] * right
            found = across[0] * (1 - down) + across[1] * down
            assert np.abs(found - point).max() * 51.2 < pixels


def test_a_turned_head_shows_its_nose_to_the_side_and_shoulders_stay() -> None:
    view = View(Pose(yaw=0.3), 1.0, 50.0, (100.0, 100.0))
    front = View(Pose(), 1.0, 50.0, (100.0, 100.0))
    nose, shoulder = np.array([[0.0, 0.55]]), np.array([[1.2, 3.0]])
    assert view.project(nose)[0, 0] > front.project(nose)[0, 0] + 10
    assert np.allclose(view.project(shoulder), front.project(shoulder))


def test_a_picture_is_a_function_of_studio_and_frame() -> None:
    first, second = studio(3, size=96, crop=True), studio(3, size=96, crop=True)
    second.picture(0)
    one, other = first.picture(7)[0], second.picture(7)[0]
    assert np.array_equal(one.colours, other.colours)
    assert np.array_equal(one.classes, other.classes)
    assert not np.array_equal(one.colours, first.picture(20)[0].colours)


def test_light_and_pose_vary_but_the_subject_does_not() -> None:
    subject = make_subject("disfa", 0, 0)
    shot = portrait(np.zeros((2, len(NUMBERS))))
    lamp = shot.lamp.copy()
    lamp[1] *= (-1, 1, 1)
    drawn = Studio(subject, dataclasses.replace(shot, lamp=lamp), crop_framing(128))
    lit, other = drawn.picture(0)[0], drawn.picture(1)[0]
    assert np.array_equal(lit.classes, other.classes)
    skin = lit.classes == CLASSES.index("skin")
    left = skin & (np.arange(128) < 64)
    assert abs(lit.colours[left].mean() - other.colours[left].mean()) > 5
