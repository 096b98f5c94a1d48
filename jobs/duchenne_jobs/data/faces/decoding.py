"""Stored bytes to pixels: one JPEG or PNG face, one PNG parsing map, at the size that a network takes.

Shapes: H and W height and width in pixels.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from duchenne_jobs.data.faces.images import MAX_IMAGE_PIXELS

NO_CLASS = 255
"""Fills the map of a face that was not parsed: an id that no dataset names counts for no class, and guides nothing."""

_PNG = b"\x89PNG\r\n\x1a\n"
# JPEG markers that begin a frame and hold its size: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def pixel_size(data: bytes | memoryview) -> tuple[int, int]:
    """(H, W) that a JPEG or PNG claims in its header, found without decoding it.

    Raises:
        ValueError: it is neither, its header is cut, or it claims more than MAX_IMAGE_PIXELS.
    """
    if bytes(data[:8]) == _PNG and len(data) >= 24:
        height, width = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    elif bytes(data[:2]) == b"\xff\xd8":
        height, width = _jpeg_size(data)
    else:
        raise ValueError("an image must be JPEG or PNG, but its first bytes are neither's")
    if not 0 < height * width <= MAX_IMAGE_PIXELS:
        raise ValueError(f"an image must have 1 to {MAX_IMAGE_PIXELS} pixels, but this one claims {width} x {height}")
    return height, width


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
            continue
        if marker in _FRAME_MARKERS:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("a JPEG must hold the size of its frame, but this one is cut or damaged")


def decode_face(data: bytes | memoryview, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """A face as (3, H, W) uint8 RGB at `size`, and the (H, W) that it was stored at.

    Raises:
        ValueError: no readable JPEG or PNG.
    """
    import cv2

    stored = pixel_size(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != stored:
        raise ValueError("an image must be whole, but this one is cut or damaged")
    return resized(pixels, size), stored


def resized(pixels: NDArray[Any], size: tuple[int, int]) -> Tensor:
    """RGB pixels (h, w, 3) as (3, H, W) uint8 at `size`."""
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)
    if pixels.shape[:2] == size:
        return image
    return functional.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def decode_parsing(data: bytes | memoryview, size: tuple[int, int]) -> Tensor:
    """A parsing map as (H, W) uint8 class ids at `size`, each the id of the nearest stored pixel.

    Raises:
        ValueError: no readable PNG of one channel of 8 bits.
    """
    from PIL import Image

    pixel_size(data)
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            mode, ids = image.mode, np.array(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"a parsing map must be a whole PNG, but got {' '.join(str(error).split())}") from error
    if mode not in ("L", "P", "1"):
        raise ValueError(f"a parsing map must have one channel of 8 bits, but this one is {mode}")
    return resized_ids(ids, size)


def resized_ids(ids: NDArray[Any], size: tuple[int, int]) -> Tensor:
    """Class ids (h, w) as (H, W) uint8 at `size`, each the id of the nearest pixel."""
    if ids.shape != size:
        rows, columns = (_nearest(one, other) for one, other in zip(size, ids.shape, strict=True))
        ids = ids[rows[:, None], columns]
    return torch.from_numpy(ids.astype(np.uint8, copy=False))


@cache
def _nearest(count: int, stored: int) -> NDArray[np.int64]:
    """(count,) which of `stored` pixels lies below the centre of each pixel."""
    return ((np.arange(count) + 0.5) * stored / count).astype(np.int64)
