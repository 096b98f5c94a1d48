"""Pictures with what was predicted drawn on them: a bar an AU, bright where it is decided, and the face's outline.

T tasks, H height, W width in pixels.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from duchenne_jobs.prediction.errors import PredictionError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")
DEFAULT_RATE = 25.0  # frames a second, of a video that does not say
_ON, _OFF, _TEXT = (255, 171, 64), (120, 144, 156), (255, 255, 255)


class Overlay(Protocol):
    """Where drawn pictures go. A context: closed as it ends, also by an error."""

    def add(self, key: tuple[object, ...], picture: Any) -> None:
        """The next picture (H, W, 3) RGB."""

    def __enter__(self) -> Overlay: ...

    def __exit__(self, *error: object) -> None: ...


def draw(frame: Any, outline: Any | None, tasks: tuple[str, ...], probabilities: Any | None, decisions: Any) -> Any:
    """The frame (H, W, 3) with one bar a task in its upper left corner; `no face` where there are no probabilities."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame)
    pen = ImageDraw.Draw(image, "RGBA")
    line = max(8, min(image.height // 30, image.height // (len(tasks) + 1)))
    font = ImageFont.load_default(size=max(7, line * 0.75))
    if outline is not None:
        pen.polygon([tuple(point) for point in outline], outline=(*_ON, 255))
    if probabilities is None:
        pen.rectangle((0, 0, 6 * line, line + 2), fill=(0, 0, 0, 140))
        pen.text((3, 1), "no face", fill=_TEXT, font=font)
        return np.asarray(image)
    name_width = max(pen.textlength(task, font=font) for task in tasks) + 8
    pen.rectangle((0, 0, name_width + 6 * line, len(tasks) * line + 4), fill=(0, 0, 0, 140))
    for index, task in enumerate(tasks):
        top = 2 + index * line
        pen.text((4, top), task, fill=_TEXT, font=font)
        length = name_width + 5.5 * line * float(probabilities[index])
        pen.rectangle((name_width, top + 1, length, top + line - 2), fill=_ON if decisions[index] else _OFF)
    return np.asarray(image)


class ImageOverlay:
    """PNG files in a folder, named by their rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, key: tuple[object, ...], picture: Any) -> None:
        from PIL import Image

        name = "-".join(str(part) for part in key).replace("/", "_").replace("\\", "_")
        Image.fromarray(picture).save(self._folder / (name if name.lower().endswith(".png") else f"{name}.png"))

    def __enter__(self) -> ImageOverlay:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class VideoOverlay:
    """A video of the same rate; H.264 where the build of FFmpeg has it, else MPEG-4."""

    def __init__(self, path: Path, rate: float | None) -> None:
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        self._rate = Fraction(rate or DEFAULT_RATE).limit_denominator(1001)
        self._stream: Any = None

    def add(self, key: tuple[object, ...], picture: Any) -> None:
        import av

        # Chroma is stored for blocks of 2 x 2 pixels.
        even = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
        if self._stream is None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

    def __enter__(self) -> VideoOverlay:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def open_overlay(path: Path, rate: float | None, is_video: bool) -> Overlay:
    """A video where the source is one and `path` names one, else a folder of images.

    Raises:
        PredictionError: a video is asked for, and the source is none.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return ImageOverlay(path)
    if not is_video:
        raise PredictionError(f"--overlay {path}: pictures of a folder or dataset go to a folder; leave the suffix out")
    return VideoOverlay(path, rate)
