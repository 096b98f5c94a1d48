"""Alignment: a similarity that levels the eyes, and what it does to pixels, maps and points alike."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data.faces import align
from duchenne_jobs.data.faces.align import FaceSquare

ANCHORS = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.8, 2.0], [0.8, 2.0]])


def turned(angle: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Any:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return ANCHORS @ turn.T * scale + shift


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-1.5, 1.5), scale=st.floats(3, 400), x=st.floats(-50, 2000), y=st.floats(-50, 2000),
    size=st.integers(16, 512), enlarge=st.floats(0.6, 3),
)  # fmt: skip
def test_however_a_face_lies_its_anchors_come_to_the_same_place(
    angle: float, scale: float, x: float, y: float, size: int, enlarge: float
) -> None:
    square = align.square_of_anchors(turned(angle, scale, (x, y)))
    assert square is not None
    placed = align.move_points(turned(angle, scale, (x, y)), align.crop_matrix(square, size, enlarge))
    upright = align.square_of_anchors(ANCHORS * 10)
    assert upright is not None
    expected = align.move_points(ANCHORS * 10, align.crop_matrix(upright, size, enlarge))
    assert np.allclose(placed, expected, atol=size * 1e-3)
    assert placed[0, 1] == pytest.approx(placed[1, 1], abs=size * 1e-3)  # eyes level, left before right
    assert placed[0, 0] < placed[1, 0]


def test_the_transform_is_a_similarity_that_fills_the_crop() -> None:
    matrix = align.crop_matrix(FaceSquare(100, 50, 40, 0.3), 200, 2.0)
    linear = matrix[:, :2]
    assert np.allclose(linear @ linear.T, (200 / 80) ** 2 * np.eye(2))
    assert np.linalg.det(linear) > 0
    assert align.move_points([[100, 50]], matrix).tolist() == [[99.5, 99.5]]


def test_the_side_is_the_larger_extent_of_the_anchors() -> None:
    square = align.square_of_anchors(ANCHORS * 10)
    assert square == FaceSquare(0.0, 10.0, 20 * align.ANCHORS_TO_FACE, 0.0)


def test_no_face_where_points_are_unknown_or_eyes_coincide() -> None:
    assert align.square_of_anchors(np.full((5, 2), np.nan)) is None
    assert align.square_of_anchors(np.zeros((5, 2))) is None
    inside = FaceSquare(10, 10, 5)
    assert inside.lies_in(20, 20)
    assert not inside.lies_in(10, 20)
    assert not FaceSquare(math.inf, 10, 5).lies_in(20, 20)
    assert not FaceSquare(10, 10, 0).lies_in(20, 20)


@pytest.mark.parametrize("zoom", [1, 3, 7])
def test_pixels_maps_and_points_move_together(zoom: int) -> None:
    """A disc around a point stays around it, also where a large face is averaged down to a small crop."""
    points = turned(0.25, 20.0 * zoom, (70.0 * zoom, 40.0 * zoom))
    image = np.zeros((120 * zoom, 160 * zoom, 3), np.uint8)
    ids = np.zeros(image.shape[:2], np.uint8)
    for number, point in enumerate(points, start=1):
        place = tuple(int(v) for v in point.round())
        cv2.circle(image, place, 4 * zoom, (255, 255, 255), -1)
        cv2.circle(ids, place, 4 * zoom, number, -1)
    square = align.square_of_anchors(points)
    assert square is not None
    matrix = align.crop_matrix(square, 96, 1.3)
    crop, cut = align.crop_image(image, matrix, 96), align.crop_map(ids, matrix, 96)
    moved = align.move_points(points, matrix)
    assert crop.shape == (96, 96, 3)
    assert crop.dtype == cut.dtype == np.uint8
    assert set(np.unique(cut)) == {0, 1, 2, 3, 4, 5}
    for number, point in enumerate(moved, start=1):
        rows, columns = np.nonzero(cut == number)
        assert np.hypot(columns.mean() - point[0], rows.mean() - point[1]) < 0.8
        weights = crop[..., 0].astype(float) * (np.hypot(*(np.indices((96, 96))[::-1] - point[:, None, None])) < 6)
        rows, columns = np.indices((96, 96))
        centre = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
        assert np.hypot(*(centre - point)) < 0.8


def test_a_large_face_is_averaged_not_sampled() -> None:
    """A fine chequerboard becomes grey; sampling single pixels would give black and white."""
    board = (np.indices((960, 960)).sum(0) % 2 * 255).astype(np.uint8)
    matrix = align.crop_matrix(FaceSquare(480, 480, 800, 0.2), 100, 1.0)
    crop = align.crop_image(np.repeat(board[..., None], 3, 2), matrix, 100)
    assert abs(crop.astype(int) - 127).max() <= 2


def test_what_lies_outside_the_frame_is_grey_and_background() -> None:
    matrix = align.crop_matrix(FaceSquare(0, 0, 40), 40, 1.0)
    crop = align.crop_image(np.zeros((100, 100, 3), np.uint8), matrix, 40)
    assert crop[0, 0].tolist() == [128, 128, 128]
    assert crop[-1, -1].tolist() == [0, 0, 0]
    cut = align.crop_map(np.ones((100, 100), np.uint8), matrix, 40, background=3)
    assert (cut[0, 0], cut[-1, -1]) == (3, 1)
    far = align.crop_matrix(FaceSquare(-5000, 10, 400), 40, 1.0)
    assert (align.crop_image(np.zeros((100, 100, 3), np.uint8), far, 40) == 128).all()
