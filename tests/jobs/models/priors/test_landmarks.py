"""Landmark priors against hand-worked values (Tallec 2023, table 3.2, eq. 3.29 and 3.30)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.config.action_units import AU_CENTRES, MULTI_PRIORS, prior_of
from duchenne_jobs.models.priors import au_centres, mono_centres, prior_heatmap, to_49_points

NAN = float("nan")


def numbered_face(points: int = 49) -> torch.Tensor:
    """Point p at (100 + p, 200 + 2 p); the inner eye corners are 12 pixels apart."""
    index = torch.arange(points, dtype=torch.float32)
    face = torch.stack([100 + index, 200 + 2 * index], dim=1)
    if points == 49:
        face[22, 0], face[25, 0] = 50.0, 62.0
    return face[None]


def test_each_au_has_the_centres_of_table_3_2() -> None:
    """Worked by hand from the numbers of the points: (100 + p, 200 + 2 p), r = 12."""
    expected = {
        "AU1": [(104, 208 - 6), (105, 210 - 6)],
        "AU2": [(101, 202 - 4), (108, 216 - 4)],
        "AU4": [(102, 204 + 4), (107, 214 + 4)],
        "AU6": [(124, 248 + 12), (129, 258 + 12)],
        "AU7": [(121, 242), (126, 252)],
        "AU9": [(115, 230 - 6), (117, 234 - 6)],
        "AU10": [(143, 286), (145, 290)],
        "AU12": [(131, 262), (137, 274)],
        "AU14": [(131, 262), (137, 274)],
        "AU15": [(131, 262), (137, 274)],
        "AU17": [(139, 278 + 6), (141, 282 + 6)],
        "AU23": [(134, 268), (140, 280)],
        "AU24": [(134, 268), (140, 280)],
        "AU25": [(134, 268), (140, 280)],
        "AU26": [(139, 278 + 6), (141, 282 + 6)],
    }
    assert set(expected) == {f"AU{number}" for number in AU_CENTRES}
    centres = au_centres(numbered_face(), list(expected))
    torch.testing.assert_close(centres, torch.tensor([list(expected.values())], dtype=torch.float32))


def test_the_scale_is_horizontal_and_has_no_sign() -> None:
    face = numbered_face()
    face[0, 22, 0], face[0, 25, 0] = 62.0, 50.0  # swapped
    face[0, 22, 1] += 1000  # a vertical difference does not count
    torch.testing.assert_close(au_centres(face, ["AU6"]), au_centres(numbered_face(), ["AU6"]))


def test_68_points_lose_the_jaw_and_the_inner_mouth_corners() -> None:
    index = torch.arange(68.0)
    kept = to_49_points(torch.stack([index, index], dim=1))[:, 0].int().tolist()
    assert kept == [*range(17, 60), 61, 62, 63, 65, 66, 67]
    face = torch.rand(2, 68, 2)
    assert torch.equal(au_centres(face, ["AU12"])[:, 0], face[:, [48, 54]])  # the mouth corners of iBUG
    assert torch.equal(au_centres(face, ["AU10"])[:, 0], face[:, [61, 63]])
    assert torch.equal(to_49_points(face[:, :49]), face[:, :49])


@pytest.mark.parametrize("task", ["AU5", "AU20", "smile", "AU", "au1", "AU1a", "AU-1", ""])
def test_a_task_without_centres_is_refused_by_name(task: str) -> None:
    with pytest.raises(ValueError, match=f"must be an AU with centres of interest .*but got {task};"):
        au_centres(numbered_face(), ["AU1", task])


@pytest.mark.parametrize("shape", [(2, 5, 2), (2, 49), (2, 49, 3), (49, 2), (2, 2, 49, 2), (2,)])
def test_other_landmarks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="landmarks must be"):
        au_centres(torch.zeros(shape), ["AU1"])


def test_whole_pixels_are_taken_and_zero_padded_names_too() -> None:
    whole = numbered_face().to(torch.int64)
    torch.testing.assert_close(au_centres(whole, ["AU02"]), au_centres(numbered_face(), ["AU2"]))


def test_the_multi_prior_is_ten_different_priors() -> None:
    """3.5.1: 'it defines 10 different priors'."""
    assert MULTI_PRIORS == ("AU1", "AU2", "AU4", "AU6", "AU7", "AU9", "AU10", "AU12", "AU17", "AU23")
    assert [prior_of(task) for task in ("AU15", "AU24", "AU26", "AU9")] == ["AU12", "AU23", "AU17", "AU9"]


def test_a_heatmap_follows_equation_3_30_to_the_letter() -> None:
    """Two centres, an image of 40 x 60 (H x W) on a grid of 2 x 3, so that a cell is 20 x 20 pixels."""
    centres = torch.tensor([[[[10.0, 30.0], [50.0, 10.0]]]])  # (x, y) -> (column, row) = (0.5, 1.5) and (2.5, 0.5)
    grid = prior_heatmap(centres, image_size=(40, 60), grid=(2, 3), sigma=1.5)
    distances = [  # squared distance of each cell's centre to either centre
        [(1, 4), (2, 1), (5, 0)],
        [(0, 5), (1, 2), (4, 1)],
    ]
    weights = [[sum(math.exp(-d / 2.25) for d in pair) for pair in row] for row in distances]
    total = sum(sum(row) for row in weights)
    torch.testing.assert_close(grid, torch.tensor([[[[w / total for w in row] for row in weights]]]))


def test_the_default_width_is_one_cell_and_the_exponent_has_no_factor_two() -> None:
    grid = prior_heatmap(torch.tensor([[[[0.5, 0.5]]]]), (1, 4), (1, 4))
    assert float(grid[0, 0, 0, 1] / grid[0, 0, 0, 0]) == pytest.approx(math.exp(-1))
    assert float(grid[0, 0, 0, 2] / grid[0, 0, 0, 0]) == pytest.approx(math.exp(-4))


def test_rows_are_y_and_columns_are_x() -> None:
    grid = prior_heatmap(torch.tensor([[[[90.0, 10.0]]]]), (100, 100), (4, 8), sigma=0.3)
    assert divmod(int(grid.argmax()), 8) == (0, 7)


def test_a_face_without_landmarks_has_an_empty_prior_and_a_missing_point_does_not_count() -> None:
    face = torch.stack([numbered_face()[0], torch.full((49, 2), NAN), numbered_face()[0]])
    face[2, 31] = NAN
    centres = au_centres(face, ["AU12", "AU7"])
    grid = prior_heatmap(centres, (400, 300), (5, 6))
    assert torch.equal(grid[1], torch.zeros(2, 5, 6))
    torch.testing.assert_close(grid[2, 0], prior_heatmap(face[2:, None, [37]], (400, 300), (5, 6))[0, 0])
    assert torch.isfinite(grid).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0.05, 10),
)
def test_every_prior_sums_to_one_however_far_its_centres(
    points: list[tuple[float, float]], rows: int, columns: int, sigma: float
) -> None:
    grid = prior_heatmap(torch.tensor([[points]], dtype=torch.float32), (37, 53), (rows, columns), sigma)
    assert grid.shape == (1, 1, rows, columns)
    assert float(grid.min()) >= 0
    assert float(grid.sum()) == pytest.approx(1.0, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 7), st.integers(2, 7))
def test_a_mirrored_face_has_a_mirrored_prior(seed: int, rows: int, columns: int) -> None:
    """Cells sit at their centres: with the literal [i j] of 3.30 this would not hold."""
    centres = 64 * torch.rand(1, 2, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mirrored = centres.clone()
    mirrored[..., 0] = 64 - mirrored[..., 0]
    grid = prior_heatmap(centres, (48, 64), (rows, columns))
    torch.testing.assert_close(prior_heatmap(mirrored, (48, 64), (rows, columns)), grid.flip(-1))


def test_the_mono_prior_takes_every_landmark() -> None:
    face = 70 * torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = prior_heatmap(mono_centres(face), (70, 70), (7, 7))
    cells = torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="xy"), dim=-1) + 0.5  # (x, y)
    weights = torch.exp(-((face[:, :, None, None] / 10 - cells) ** 2).sum(dim=-1)).sum(dim=1)
    torch.testing.assert_close(grid[:, 0], weights / weights.sum(dim=(1, 2), keepdim=True))


@pytest.mark.parametrize(
    "arguments",
    [{"image_size": (0, 5)}, {"grid": (0, 5)}, {"sigma": 0.0}, {"sigma": NAN}, {"centres": torch.zeros(1, 2, 2)}],
)
def test_sizes_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    whole: dict[str, object] = {"centres": torch.zeros(1, 1, 1, 2), "image_size": (5, 5), "grid": (5, 5), "sigma": 1.0}
    with pytest.raises(ValueError, match="must be"):
        prior_heatmap(**{**whole, **arguments})  # type: ignore[arg-type]
