"""Augmentation of faces on the batch's device: one affine map for the image, its landmarks and its parsing map.

A landmark (x, y) names the centre of a pixel by whole numbers, as at ingest. What a map brings in from beyond the edge
repeats the edge.

Shapes: B batch, H and W height and width in pixels, P landmark points, C parsing classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from duchenne_jobs.config import AugmentationConfig
from duchenne_jobs.models.batch_part import drawn_for_rows
from duchenne_jobs.models.inputs import DataDescription, Inputs

_LUMA = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601
# Pairs of points that a mirror exchanges, among the 68 of iBUG; the others lie on the midline.
_PAIRS_68 = (
    *((i, 16 - i) for i in range(8)),
    *((i, 43 - i) for i in range(17, 22)),
    *((31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)),
)
_KEPT_OF_68 = (*range(17, 60), 61, 62, 63, 65, 66, 67)
_SIDES = {"l": "r", "r": "l", "left": "right", "right": "left"}


@dataclass(frozen=True)
class Draws:
    """What is drawn for each face of a batch: (B,) each.

    Attributes:
        angle: radians by which the face is turned, clockwise as seen (y is down).
        flip: bool, mirrored after it was turned.
        scale: side of the crop as a share of the image's, in (0, 1].
        shift_x, shift_y: centre of the crop less the image's centre, as a share of its side.
        brightness, contrast, saturation: factors.
    """

    angle: Tensor
    flip: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor

    @classmethod
    def of(cls, config: AugmentationConfig, count: int, seed: int) -> Draws:
        """Draw for `count` faces, on the CPU, so that a seed means the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        uniform = drawn_for_rows(lambda rows: torch.rand(8, rows, generator=generator).T, count).T
        both = 2 * uniform - 1
        scale = 1 - config.crop * uniform[2]
        return cls(
            angle=both[0] * config.rotation_degrees * (torch.pi / 180),
            flip=uniform[1] < config.flip,
            scale=scale,
            shift_x=both[3] * (1 - scale) / 2,
            shift_y=both[4] * (1 - scale) / 2,
            brightness=1 + both[5] * config.brightness,
            contrast=1 + both[6] * config.contrast,
            saturation=1 + both[7] * config.saturation,
        )


class Augmentation:
    """The augmentation of a job.

    Args:
        config: what may change.
        data: number of landmark points and names of parsing classes.

    Raises:
        ValueError: a flip, and nobody knows which of these landmarks are each other's mirror images.
    """

    def __init__(self, config: AugmentationConfig, data: DataDescription) -> None:
        self._config = config
        flips = config.flip > 0
        self._points = mirrored_points(data.landmark_points) if flips and data.landmark_points else None
        self._classes = mirrored_classes(data.parsing_classes) if flips and data.parsing_classes else None

    def __call__(self, faces: Inputs, seed: int) -> Inputs:
        """Change each face of a batch, images (B, 3, H, W) float in [0, 1]; the same seed gives the same changes."""
        if not (self._config.moves or self._config.recolours):
            return faces
        draws = Draws.of(self._config, len(faces), seed)
        if self._config.moves:
            faces = move(faces, draws, self._points, self._classes)
        if self._config.recolours:
            faces = replace(faces, images=recolour(faces.require("images"), draws))
        return faces


def move(faces: Inputs, draws: Draws, points: Tensor | None, classes: Tensor | None) -> Inputs:
    """Turn, mirror and crop each face.

    Args:
        faces: images (B, 3, H, W) float; landmarks and parsing where they have them.
        draws: one a face.
        points: (P,) int64, the mirror image of each landmark; None leaves their numbering.
        classes: (256,) uint8, the mirror image of each parsing class; None leaves them.
    """
    images = faces.require("images")
    height, width = images.shape[-2:]
    flipped = draws.flip.to(images.device)
    matrix, offset = _source_of(draws, height, width)
    matrix, offset = matrix.to(images.device), offset.to(images.device)
    grid = _grid(matrix, offset, height, width)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    landmarks, parsing = faces.landmarks, faces.parsing
    if landmarks is not None:
        landmarks = torch.linalg.solve(matrix, (landmarks - offset.unsqueeze(1)).transpose(1, 2)).transpose(1, 2)
        if points is not None:
            landmarks = torch.where(flipped[:, None, None], landmarks[:, points.to(landmarks.device)], landmarks)
    if parsing is not None:
        ids = parsing.unsqueeze(1).to(images.dtype)
        ids = functional.grid_sample(ids, grid, mode="nearest", padding_mode="border", align_corners=False)
        parsing = ids.squeeze(1).to(torch.uint8)
        if classes is not None:
            parsing = torch.where(flipped[:, None, None], classes.to(parsing.device)[parsing.long()], parsing)
    return replace(faces, images=moved, landmarks=landmarks, parsing=parsing)


def recolour(images: Tensor, draws: Draws) -> Tensor:
    """Brightness, contrast about the mean grey, saturation about each pixel's grey: (B, 3, H, W) in [0, 1]."""

    def factor(values: Tensor) -> Tensor:
        return values.to(images.device, images.dtype)[:, None, None, None]

    images = (images * factor(draws.brightness)).clamp(0, 1)
    images = torch.lerp(_grey(images).mean(dim=(2, 3), keepdim=True), images, factor(draws.contrast)).clamp(0, 1)
    return torch.lerp(_grey(images), images, factor(draws.saturation)).clamp(0, 1)


def mirrored_points(count: int) -> Tensor:
    """(P,) int64: the mirror image of each of 68 or 49 iBUG points, or of five (eyes, nose, corners of the mouth).

    Raises:
        ValueError: another number of points.
    """
    mirror = list(range(68))
    for one, other in _PAIRS_68:
        mirror[one], mirror[other] = other, one
    if count == 68:
        return torch.tensor(mirror)
    if count == 49:
        return torch.tensor([_KEPT_OF_68.index(mirror[point]) for point in _KEPT_OF_68])
    if count == 5:
        return torch.tensor([1, 0, 2, 4, 3])
    raise ValueError(
        f"training.augmentation.flip: landmarks must be 68, 49 or 5 points to be mirrored, but the dataset has "
        f"{count}; set flip to 0"
    )


def mirrored_classes(names: tuple[str, ...]) -> Tensor:
    """(256,) uint8: the mirror image of each parsing class, by name: `l_brow` and `r_brow`, `left eye` and `right eye`.

    A class whose counterpart isn't there is its own (`l_lip` is the lower lip).
    """
    mirror = torch.arange(256, dtype=torch.uint8)
    for index, name in enumerate(names):
        parts = re.split(r"([^a-zA-Z0-9]+)", name)
        other = "".join(_SIDES.get(part.lower(), part) for part in parts)
        if other in names:
            mirror[index] = names.index(other)
    return mirror


def _source_of(draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel (x, y) of the result comes from: `matrix @ (x, y) + offset`; (B, 2, 2) and (B, 2)."""
    cosine, sine = torch.cos(draws.angle), torch.sin(draws.angle)
    side = torch.where(draws.flip, -1.0, 1.0)
    # Mirroring undone first, then the turn.
    rows = [torch.stack([cosine * side, sine], dim=1), torch.stack([-sine * side, cosine], dim=1)]
    matrix = torch.stack(rows, dim=1) * draws.scale[:, None, None]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    shift = torch.stack([draws.shift_x * width, draws.shift_y * height], dim=1)
    return matrix, centre + shift - matrix @ centre


def _grid(matrix: Tensor, offset: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, 2) sampling grid of `grid_sample` without aligned corners."""
    device = matrix.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    pixels = torch.stack([x, y], dim=-1).to(matrix.dtype)  # (H, W, 2)
    source = torch.einsum("bij,hwj->bhwi", matrix, pixels) + offset[:, None, None]
    return (2 * source + 1) / torch.tensor([width, height], device=device, dtype=matrix.dtype) - 1


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(_LUMA)).unsqueeze(1)
