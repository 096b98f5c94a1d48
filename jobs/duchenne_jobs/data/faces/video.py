"""Frames of a video, one at a time: what is in memory does not depend on the video's length.

H height, W width in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.images import check_pixels


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 1, and its RGB pixels (H, W, 3) uint8; None for a frame that was not wanted."""

    number: int
    pixels: Any | None


def read_video(path: Path, every: int = 1, threads: int = 1) -> Iterator[Frame]:
    """Decode every frame of the first video stream in order; frames 1, 1 + every, ... come with pixels.

    Raises:
        DatasetError: missing, no video, a frame of more than MAX_IMAGE_PIXELS, or damage: the last good frame is named.
    """
    import av

    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DatasetError(f"{path} has no video stream; restore it from the source")
            stream = container.streams.video[0]
            check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.thread_count = threads
            for frame in container.decode(stream):
                number += 1
                if (number - 1) % every:
                    yield Frame(number, None)
                else:
                    check_pixels(path, frame.width, frame.height)
                    yield Frame(number, frame.to_ndarray(format="rgb24"))
    except FileNotFoundError:
        raise DatasetError(f"the video {path} is missing; restore it from the source") from None
    except (av.FFmpegError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"the video {path} can't be decoded after frame {number}: {reason}; restore it from the source"
        ) from error
