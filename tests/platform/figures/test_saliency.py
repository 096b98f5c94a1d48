"""Attribution maps over a face."""

from __future__ import annotations

import numpy as np
import pytest

from duchenne.figures import NoData, attribution
from duchenne.figures.saliency import similarity

FACE = np.full((8, 6, 3), 0.5)
SPOTS = np.zeros((2, 4, 3))
SPOTS[0, 0, 0] = -2.0  # the sign of a gradient says the way, not the place
SPOTS[1, 3, 2] = 1.0


def test_maps_of_one_place_are_alike_and_of_two_are_not() -> None:
    assert similarity(np.stack([SPOTS[0], -3 * SPOTS[0]])) == pytest.approx(1.0)
    assert similarity(SPOTS) == pytest.approx(-1 / 11)  # two spots of one pixel in twelve
    assert similarity(np.zeros((2, 4, 3))) == 1.0


def test_each_method_is_a_row_and_each_task_a_column() -> None:
    same = np.stack([SPOTS[0], SPOTS[0]])
    figure = attribution(FACE, {"vmnc": same, "monet": SPOTS}, ("AU1", "AU12"), "2 faces")
    panels = [axes for axes in figure.axes if len(axes.images) == 2]
    assert [axes.get_title() for axes in panels] == ["AU1", "AU12", "", ""]
    for axes, expected in zip(panels, [SPOTS[0] / -2, SPOTS[0] / -2, SPOTS[0] / -2, SPOTS[1]], strict=True):
        np.testing.assert_allclose(axes.images[1].get_array(), expected)
        assert list(axes.images[1].get_extent()) == [0, 6, 8, 0]  # a map of any size lies over the whole face
    words = " ".join(text.get_text() for text in (*figure.texts, *(t for axes in panels for t in axes.texts)))
    assert "MONET tells the places of tasks apart best" in words
    assert "VMNC 1.00" in words
    assert "2 faces" in words


def test_maps_of_other_tasks_are_left_out() -> None:
    with pytest.raises(NoData):
        attribution(FACE, {"monet": SPOTS}, ("AU1",), "")
