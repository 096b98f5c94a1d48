"""Pictures to bytes, the same bytes every time.

H, W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FRAMES_PER_SECOND = 20
_JPEG_QUALITY = 92
_LAMBDA = 118  # FFmpeg's unit of `global_quality`
_QUANTISER = 3  # of MPEG-4, 1..31: nearly lossless


def encode_jpeg(colours: npt.NDArray[np.uint8]) -> bytes:
    """A JPEG of colours (H, W, 3), blue green red."""
    import cv2

    return _encoded(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit PNG of class ids (H, W) or colours (H, W, 3)."""
    import cv2

    return _encoded(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])


class VideoWriter:
    """Frames (H, W, 3), blue green red, into one video."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream, self._count = container, stream, 0

    def write(self, colours: npt.NDArray[np.uint8]) -> None:
        """Append one frame."""
        import av

        frame = av.VideoFrame.from_ndarray(colours, format="bgr24")
        frame.pts, frame.time_base = self._count, Fraction(1, FRAMES_PER_SECOND)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def flush(self) -> None:
        """Write what the encoder holds back."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def video(path: Path, size: int) -> Iterator[VideoWriter]:
    """A new MPEG-4 video of `size` x `size` pixels (an even number) in an AVI file."""
    import av

    # One thread and no version strings: the file depends on the frames alone.
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"flags": "+qscale+bitexact", "global_quality": str(_LAMBDA * _QUANTISER)}
        writer = VideoWriter(container, stream)
        yield writer
        writer.flush()


def _encoded(suffix: str, picture: npt.NDArray[np.uint8], parameters: list[int]) -> bytes:
    import cv2

    done, data = cv2.imencode(suffix, picture, parameters)
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {picture.shape} as {suffix}")
    return data.tobytes()
