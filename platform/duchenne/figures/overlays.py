"""Weights of patches laid over a face, and what they measure.

Shapes: n heads, H x W pixels, h x w patches.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from duchenne.figures.source import FloatArray

HEAT: Final = colormaps["inferno"]
STRONGEST: Final = 0.85
"""Opacity of the most attended patch; a patch without attention shows the face as it is."""

GAMMA: Final = 0.6
"""Below 1, so that attention which is spread over a cheek still shows beside that which lies on one patch."""


def overlay(face: NDArray[np.uint8], weights: FloatArray, highest: float) -> FloatArray:
    """The face in grey under its weights in colour.

    Args:
        face: (H, W, 3) RGB.
        weights: (h, w), resized to the face by bilinear interpolation.
        highest: the weight that is drawn strongest; what exceeds it is drawn like it.

    Returns:
        (H, W, 3) RGB in [0, 1].
    """
    grey = np.asarray(face, dtype=np.float64) @ (0.299, 0.587, 0.114) / 255
    scale = PowerNorm(GAMMA, 0.0, highest, clip=True)
    strength = np.asarray(scale(resized(weights, grey.shape[0], grey.shape[1])))
    colours = np.asarray(HEAT(strength))[..., :3]
    opacity = STRONGEST * strength[..., None]
    blended: FloatArray = (1 - opacity) * grey[..., None] + opacity * colours
    return blended


def resized(weights: FloatArray, height: int, width: int) -> FloatArray:
    """(h, w) -> (height, width): the value of a patch at its centre, bilinear between centres, level beyond them."""
    rows, columns = (_between(count, size) for count, size in zip(weights.shape, (height, width), strict=True))
    result: FloatArray = rows @ np.asarray(weights, dtype=np.float64) @ columns.T
    return result


def _between(count: int, size: int) -> FloatArray:
    """(size, count) weights of bilinear interpolation along one side."""
    places = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    shares: FloatArray = np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(count)))
    return shares


def half_area(weights: FloatArray) -> float:
    """The least share of the patches that holds half of the weight: 0.5 where it is even. Mean over leading axes."""
    flat = -np.sort(-np.asarray(weights, dtype=np.float64).reshape(-1, weights.shape[-2] * weights.shape[-1]), axis=1)
    total = flat.sum(axis=1, keepdims=True)
    reached = np.cumsum(flat, axis=1) >= total * (0.5 - 1e-9)
    return float((reached.argmax(axis=1) + 1).mean() / flat.shape[1])


def overlap(attention: FloatArray) -> float:
    """Share of their attention that two heads have in common, mean over pairs of heads: (..., n, h, w) -> [0, 1]."""
    heads = attention.shape[-3]
    flat = np.asarray(attention, dtype=np.float64).reshape(-1, heads, attention.shape[-2] * attention.shape[-1])
    pairs = [(one, other) for one in range(heads) for other in range(one)]
    return float(np.mean([np.minimum(flat[:, one], flat[:, other]).sum(axis=-1).mean() for one, other in pairs]))
