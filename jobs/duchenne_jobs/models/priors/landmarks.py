"""Landmark priors: where each action unit (AU) shows on a face, as a heatmap on the attention's grid.

Shapes: B rows, P landmark points, T tasks, C centres a task, H x W pixels of the image, h x w cells of the grid. Points
are (x, y) in pixels, y down; a grid is indexed (row, column), and cell (i, j) sits at its centre (i + 0.5, j + 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from duchenne_jobs.config.action_units import centres_of
from duchenne_jobs.data.faces.landmarks import KEPT_OF_68

INNER_EYE_CORNERS: Final = (22, 25)
"""Points of the 49 whose horizontal distance r is the scale of table 3.2."""


def to_49_points(landmarks: Tensor) -> Tensor:
    """The 49 points of (..., 68, 2) landmarks; (..., 49, 2) are returned as they are.

    Raises:
        ValueError: neither 49 nor 68 points.
    """
    points = landmarks.shape[-2] if landmarks.dim() >= 2 else 0
    if landmarks.dim() < 2 or landmarks.shape[-1] != 2 or points not in (49, 68):
        raise ValueError(
            f"landmarks must be (..., 49, 2) or (..., 68, 2), but got {tuple(landmarks.shape)}; "
            "give the points of one of these schemes"
        )
    return landmarks[..., list(KEPT_OF_68), :] if points == 68 else landmarks


def au_centres(landmarks: Tensor, tasks: Sequence[str]) -> Tensor:
    """Centres of interest of each AU (Tallec 2023, table 3.2), f_prior of 3.5.1.

    The scale r is the horizontal distance |x22 - x25| between the inner eye corners; moves are vertical.

    Args:
        landmarks: (B, 49, 2) or (B, 68, 2), (x, y) in pixels, y down.
        tasks: T names, `AU1` or `AU01`.

    Returns:
        (B, T, C=2, 2) centres, (x, y) in pixels; they may lie outside the image. NaN where their landmarks are.

    Raises:
        ValueError: another number of points, or a task without listed centres, by name.
    """
    centres = centres_of(tasks)
    points = to_49_points(landmarks)
    if points.dim() != 3:
        raise ValueError(f"landmarks must be (B, points, 2), but got {tuple(landmarks.shape)}; add or merge dimensions")
    if not points.is_floating_point():
        points = points.to(torch.get_default_dtype())
    left, right = INNER_EYE_CORNERS
    scale = (points[:, left, 0] - points[:, right, 0]).abs()
    chosen = points[:, [centre.points for centre in centres]]
    down = points.new_tensor([centre.down for centre in centres])
    moved = chosen[..., 1] + down[None, :, None] * scale[:, None, None]
    return torch.stack([chosen[..., 0], moved], dim=-1)


def prior_heatmap(centres: Tensor, image_size: tuple[int, int], grid: tuple[int, int], sigma: float = 1.0) -> Tensor:
    """Centres of interest as a distribution over the attention's grid (Tallec 2023, eq. 3.29 and 3.30).

    `h_ij` is proportional to `sum_k exp(-|c_k - (i + 0.5, j + 0.5)|^2 / sigma^2)`, with the centres rescaled from
    pixels to cells, and sums to 1 over the grid. There is no factor 2 in the exponent, as printed.

    Args:
        centres: (B, T, C, 2), (x, y) in pixels. A centre that is not finite does not count.
        image_size: (H, W) in pixels.
        grid: (h, w) cells.
        sigma: in cells of the grid, > 0.

    Returns:
        (B, T, h, w), each map sums to 1; all zeros where a task has no finite centre (no face), so that a loss over it
        is 0. Centres far outside the image give the cells nearest to them.

    Raises:
        ValueError: a shape, size or sigma that does not fit.
    """
    if centres.dim() != 4 or centres.shape[-1] != 2:
        raise ValueError(f"centres must be (B, T, C, 2), but got {tuple(centres.shape)}; see au_centres")
    if min(*image_size, *grid) < 1 or not sigma > 0:
        raise ValueError(
            f"image_size, grid and sigma must be positive, but got {image_size}, {grid} and {sigma}; mend the first "
            "that is not"
        )
    (height, width), (rows, columns) = image_size, grid
    points = centres if centres.is_floating_point() else centres.to(torch.get_default_dtype())
    x = points[..., 0] * (columns / width)
    y = points[..., 1] * (rows / height)
    to_column = x[..., None] - (torch.arange(columns, device=x.device, dtype=x.dtype) + 0.5)  # (B, T, C, w)
    to_row = y[..., None] - (torch.arange(rows, device=y.device, dtype=y.dtype) + 0.5)  # (B, T, C, h)
    exponents = -(to_row[..., :, None] ** 2 + to_column[..., None, :] ** 2) / sigma**2  # (B, T, C, h, w)
    exponents = exponents.masked_fill(~torch.isfinite(exponents), -torch.inf)
    # The quotient of 3.30 as a softmax over centres and cells: a centre far outside would be 0 / 0 as printed.
    shares = torch.softmax(exponents.flatten(start_dim=2), dim=-1).view_as(exponents)
    there = torch.isfinite(exponents).flatten(start_dim=2).any(dim=-1)
    return torch.where(there[..., None, None], shares.sum(dim=2), 0.0)


def mono_centres(landmarks: Tensor) -> Tensor:
    """All landmarks as the centres of one prior, the mono-prior (Tallec 2023, 3.5.1): (B, P, 2) -> (B, 1, C=P, 2)."""
    if landmarks.dim() != 3 or landmarks.shape[-1] != 2:
        raise ValueError(f"landmarks must be (B, points, 2), but got {tuple(landmarks.shape)}; add or merge dimensions")
    return landmarks[:, None]
