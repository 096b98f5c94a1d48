"""One subject in DISFA's raw format: intensities of 12 AUs and the videos of two cameras, landmarks and parsing beside.

F frames, T action units.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from duchenne_jobs.data.synth.actions import perform
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.annotation import Codes, noisy_intensities
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.pictures import encode_png, video
from duchenne_jobs.data.synth.render import Studio, camera_framing
from duchenne_jobs.data.synth.units import DISFA_AUS

LABELS = "ActionUnit_Labels"
_RIGHT_CAMERA = 0.14  # radians between the two cameras


def write_disfa_subject(options: SynthOptions, index: int, root: Path, advance: Callable[[], None]) -> None:
    """Draw subject `index` and write its files below `root`; `advance` is called after each frame.

    Raises:
        OSError: a file can't be written.
    """
    subject = make_subject("disfa", index, options.seed)
    name = subject.identifier
    performance = perform("disfa", options.frames, subject.seed)
    clean = performance.intensities(DISFA_AUS)
    random = np.random.default_rng([subject.seed, 4])
    _write_labels(root / "clean_labels" / LABELS / name, name, clean)
    _write_labels(root / LABELS / name, name, noisy_intensities(clean, options.noise, random))

    studio = Studio(subject, performance, camera_framing(options.size), cameras=(0.0, _RIGHT_CAMERA))
    places = np.zeros((2, options.frames, 68, 2), np.float32)
    for folder in ("Videos_LeftCamera", "Video_RightCamera", "landmarks", f"parsing/{name}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    left_path = root / "Videos_LeftCamera" / f"LeftVideo{name}_comp.avi"
    right_path = root / "Video_RightCamera" / f"RightVideo{name}_comp.avi"
    with video(left_path, options.size) as left, video(right_path, options.size) as right:
        for frame in range(options.frames):
            seen = studio.picture(frame)
            for camera, (writer, picture) in enumerate(zip((left, right), seen, strict=True)):
                writer.write(picture.colours)
                places[camera, frame] = picture.landmarks
            (root / "parsing" / name / f"{frame + 1:06d}.png").write_bytes(encode_png(seen[0].classes))
            advance()
    np.save(root / "landmarks" / f"{name}.npy", places[0])
    np.save(root / "landmarks" / f"{name}_right.npy", places[1])


def _write_labels(folder: Path, name: str, intensities: Codes) -> None:
    """One file an AU, lines `frame,intensity`, frames from 1; `intensities` (F, T)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, column in zip(DISFA_AUS, intensities.T, strict=True):
        lines = "".join(f"{frame},{value}\n" for frame, value in enumerate(column, start=1))
        (folder / f"{name}_au{number}.txt").write_text(lines, encoding="ascii")
