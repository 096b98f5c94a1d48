"""Still images in and out: bounded before they are decoded, whole or refused.

H height, W width in pixels.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError

MAX_IMAGE_PIXELS = 64 * 10**6  # an image or video frame that claims more is refused before it is decoded
JPEG_QUALITY = 95
_FORMATS = ("JPEG", "PNG", "BMP")


def read_image(path: Path) -> Any:
    """RGB pixels (H, W, 3) uint8 of a JPEG, PNG or BMP file.

    Raises:
        DatasetError: missing, truncated, no image, or more than MAX_IMAGE_PIXELS.
    """
    return np.asarray(_open(path, "image").convert("RGB"))


def read_map(path: Path) -> Any:
    """Class ids (H, W) uint8 of a PNG with one 8-bit channel (grey or palette).

    Raises:
        DatasetError: as `read_image`, or more than one channel.
    """
    image = _open(path, "parsing map")
    if image.mode not in ("L", "P", "1"):
        raise DatasetError(
            f"{path}: a parsing map holds one 8-bit class id a pixel, but this one is {image.mode}; "
            "convert it from colours to ids"
        )
    return np.asarray(image).astype(np.uint8)


def _open(path: Path, what: str) -> Any:
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            check_pixels(path, image.width, image.height)
            image.load()
            return image
    except FileNotFoundError:
        raise DatasetError(f"the {what} {path} is missing; restore it from the source") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DatasetError):
            raise
        reason = " ".join(str(error).split())
        raise DatasetError(f"the {what} {path} can't be decoded: {reason}; restore it from the source") from error


def check_pixels(path: Path, width: int, height: int) -> None:
    """Refuse what would take too much memory to decode.

    Raises:
        DatasetError: width x height exceeds MAX_IMAGE_PIXELS, or is 0.
    """
    if not 0 < width * height <= MAX_IMAGE_PIXELS:
        raise DatasetError(
            f"{path}: a frame must have 1 to {MAX_IMAGE_PIXELS} pixels, but this one says {width} x {height}; "
            "make it smaller, or restore it from the source"
        )


def encode_jpeg(pixels: Any) -> bytes:
    """JPEG of RGB pixels (H, W, 3) uint8; the same pixels give the same bytes."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_map(ids: Any) -> bytes:
    """PNG of class ids (H, W) uint8."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(ids).save(buffer, "PNG")
    return buffer.getvalue()
