"""Videos: every frame once, in order, one at a time; damage is named."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from duchenne_jobs.data import DatasetError
from duchenne_jobs.data.faces.video import read_video


def write(path: Path, count: int, codec: str = "mjpeg", size: tuple[int, int] = (64, 48)) -> None:
    """Frame i is grey of value 10 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(count):
            pixels = np.full((size[1], size[0], 3), 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("codec", "threads"), [("mjpeg", 1), ("mpeg4", 1), ("mpeg4", 4)])
def test_every_frame_comes_once_and_in_order(tmp_path: Path, codec: str, threads: int) -> None:
    write(tmp_path / "a.avi", 20, codec)
    frames = list(read_video(tmp_path / "a.avi", threads=threads))
    assert [frame.number for frame in frames] == list(range(1, 21))
    for frame in frames:
        assert frame.pixels is not None
        assert frame.pixels.shape == (48, 64, 3)
        assert abs(float(frame.pixels.mean()) - 10 * (frame.number - 1)) < 4


def test_frames_between_are_counted_without_pixels(tmp_path: Path) -> None:
    write(tmp_path / "a.avi", 8)
    frames = list(read_video(tmp_path / "a.avi", every=3))
    assert [frame.number for frame in frames if frame.pixels is not None] == [1, 4, 7]
    assert len(frames) == 8


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the video .*gone.avi is missing"):
        list(read_video(tmp_path / "gone.avi"))
    (tmp_path / "text.avi").write_text("no video" * 100, encoding="utf-8")
    with pytest.raises(DatasetError, match="can't be decoded after frame 0"):
        list(read_video(tmp_path / "text.avi"))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DatasetError, match="has no video stream"):
        list(read_video(tmp_path / "sound.wav"))


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.avi", 2, size=(320, 240))
    monkeypatch.setattr("duchenne_jobs.data.faces.images.MAX_IMAGE_PIXELS", 320 * 240 - 1)
    with pytest.raises(DatasetError, match="1 to 76799 pixels, but this one says 320 x 240"):
        next(read_video(tmp_path / "a.avi"))
