"""One map moves a face's image, landmarks and parsing map alike; seeds decide; a mirror exchanges left and right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.config import AugmentationConfig
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.training.augmentation import Augmentation, Draws, mirrored_classes, mirrored_points, move, recolour

CLASSES = ("background", "skin", "l_brow", "r_brow", "l_lip", "u_lip", "left eye", "right eye", "neck_l")
DATA = DataDescription(tasks=("AU1",), image_size=(48, 64), landmark_points=5, parsing_classes=CLASSES)


def faces(points: torch.Tensor, height: int = 48, width: int = 64) -> Inputs:
    """A bright dot of 3 x 3 pixels and a patch of class k + 2 around each landmark k; each face has P landmarks."""
    count, landmarks = points.shape[:2]
    images = torch.zeros(count, 3, height, width)
    parsing = torch.zeros(count, height, width, dtype=torch.uint8)
    for face in range(count):
        for point in range(landmarks):
            x, y = (int(value) for value in points[face, point])
            images[face, point % 3, y - 1 : y + 2, x - 1 : x + 2] = 1.0
            parsing[face, y - 2 : y + 3, x - 2 : x + 3] = point + 2
    return Inputs(images=images, landmarks=points.clone(), parsing=parsing)


POINTS = torch.tensor([[[30.0, 20.0], [42.0, 27.0], [25.0, 31.0]]])


def drawn(count: int = 1, **values: float | bool) -> Draws:
    """Nothing is changed but what `values` say."""
    still: dict[str, Any] = {"angle": 0.0, "flip": False, "scale": 1.0, "shift_x": 0.0, "shift_y": 0.0}
    still |= {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    return Draws(**{name: torch.tensor(value).expand(count) for name, value in (still | values).items()})


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-0.5, 0.5),
    flip=st.booleans(),
    scale=st.floats(0.75, 1.0),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
)
def test_landmarks_and_parsing_follow_the_dots(
    angle: float, flip: bool, scale: float, shift: tuple[float, float]
) -> None:
    draws = drawn(angle=angle, flip=flip, scale=scale, shift_x=shift[0], shift_y=shift[1])
    moved = move(faces(POINTS), draws, None, None)
    for point in range(3):
        x, y = moved.require("landmarks")[0, point].tolist()
        if not (4 <= x <= 59 and 4 <= y <= 43):
            continue  # a dot that the crop cuts has no centre to compare
        weights = moved.require("images")[0, point]
        mass = weights.sum()
        centre_x = float((weights.sum(0) * torch.arange(64)).sum() / mass)
        centre_y = float((weights.sum(1) * torch.arange(48)).sum() / mass)
        assert abs(centre_x - x) < 0.5
        assert abs(centre_y - y) < 0.5
        assert moved.require("parsing")[0, round(y), round(x)] == point + 2


@pytest.mark.parametrize("count", [5, 49, 68])
def test_flipping_twice_is_the_identity(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, count, 2, generator=generator) * 40
    images = torch.rand(2, 3, 48, 64, generator=generator)
    parsing = torch.randint(len(CLASSES), (2, 48, 64), generator=generator).to(torch.uint8)
    before = Inputs(images=images, landmarks=points, parsing=parsing)
    mirror = (mirrored_points(count), mirrored_classes(CLASSES))
    once = move(before, drawn(2, flip=True), *mirror)
    assert not torch.equal(once.require("parsing"), parsing)
    torch.testing.assert_close(once.require("images"), images.flip(-1), atol=1e-4, rtol=0)
    twice = move(once, drawn(2, flip=True), *mirror)
    torch.testing.assert_close(twice.require("images"), images, atol=2e-4, rtol=0)
    torch.testing.assert_close(twice.require("landmarks"), points, atol=1e-4, rtol=0)
    assert torch.equal(twice.require("parsing"), parsing)


def test_a_flip_renames_left_and_right() -> None:
    left_eye, right_eye, nose = [10.0, 12.0], [50.0, 13.0], [31.0, 25.0]
    points = torch.tensor([[left_eye, right_eye, nose, [20.0, 35.0], [44.0, 36.0]]])
    before = faces(points)
    before.require("parsing")[0, 10:15, 8:13] = CLASSES.index("left eye")
    before.require("parsing")[0, 30:33, 30:33] = CLASSES.index("l_lip")
    after = move(before, drawn(flip=True), mirrored_points(5), mirrored_classes(CLASSES))
    expected = torch.tensor([[[13.0, 13.0], [53.0, 12.0], [32.0, 25.0], [19.0, 36.0], [43.0, 35.0]]])
    torch.testing.assert_close(after.require("landmarks"), expected)
    assert CLASSES[int(after.require("parsing")[0, 12, 53])] == "right eye"
    assert CLASSES[int(after.require("parsing")[0, 31, 32])] == "l_lip"  # the lower lip


@pytest.mark.parametrize("count", [5, 49, 68])
def test_a_mirror_of_points_is_an_involution_that_keeps_the_midline(count: int) -> None:
    mirror = mirrored_points(count)
    assert torch.equal(mirror[mirror], torch.arange(count))
    kept = (mirror == torch.arange(count)).nonzero().flatten().tolist()
    # Bridge and tip of the nose, its base, the middle of the lips; the chin is not among the 49.
    assert (
        kept == {5: [2], 49: [10, 11, 12, 13, 16, 34, 40, 44, 47], 68: [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]}[count]
    )


def test_unknown_landmarks_are_not_mirrored() -> None:
    data = DataDescription(tasks=("AU1",), landmark_points=21)
    with pytest.raises(ValueError, match=r"^training\.augmentation\.flip: landmarks must be 68, 49 or 5 points .* 21"):
        Augmentation(AugmentationConfig(flip=0.5), data)
    Augmentation(AugmentationConfig(rotation_degrees=10), data)


EVERYTHING = AugmentationConfig(rotation_degrees=15, flip=0.5, crop=0.2, brightness=0.3, contrast=0.3, saturation=0.3)


def test_a_seed_decides() -> None:
    batch = faces(
        torch.tensor([[[30.0, 20.0], [42.0, 27.0], [25.0, 31.0], [12.0, 30.0], [50.0, 30.0]]]).repeat(6, 1, 1)
    )
    augment = Augmentation(EVERYTHING, DATA)
    first, again, other = augment(batch, 1), augment(batch, 1), augment(batch, 2)
    for name in ("images", "landmarks", "parsing"):
        assert torch.equal(first.require(name), again.require(name))
        assert not torch.equal(first.require(name), other.require(name))
    faces_differ = (first.require("landmarks")[0] - first.require("landmarks")[1:]).abs().amax(dim=(1, 2))
    assert bool((faces_differ > 0).all())  # each face has draws of its own
    assert first.require("images").min() >= 0
    assert first.require("images").max() <= 1


def test_nothing_is_changed_by_default() -> None:
    batch = faces(POINTS)
    assert Augmentation(AugmentationConfig(), DATA)(batch, 1) is batch


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_draws_stay_within_the_configuration(seed: int) -> None:
    draws = Draws.of(EVERYTHING, 8, seed)
    assert float(draws.angle.abs().max()) <= 15 * torch.pi / 180 + 1e-6
    assert float(draws.scale.min()) >= 0.8 - 1e-6
    assert float(draws.scale.max()) <= 1
    # The crop stays inside the image.
    assert bool((draws.shift_x.abs() <= (1 - draws.scale) / 2 + 1e-6).all())
    for factor in (draws.brightness, draws.contrast, draws.saturation):
        assert bool(((factor >= 0.7 - 1e-6) & (factor <= 1.3 + 1e-6)).all())


def test_colours_by_hand() -> None:
    image = torch.tensor([0.2, 0.4, 0.6])[None, :, None, None].expand(1, 3, 2, 2)
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    brighter = recolour(image, drawn(brightness=1.5))
    torch.testing.assert_close(brighter[0, :, 0, 0], torch.tensor([0.3, 0.6, 0.9]))
    flat = recolour(image, drawn(saturation=0.0))
    torch.testing.assert_close(flat[0, :, 0, 0], torch.full((3,), grey))
    pale = recolour(image, drawn(contrast=0.5))
    torch.testing.assert_close(pale[0, :, 0, 0], (torch.tensor([0.2, 0.4, 0.6]) + grey) / 2)
