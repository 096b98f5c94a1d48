"""One subject in BP4D's raw format: codes of 12 AUs and images of up to 8 trials, landmarks and parsing beside.

F frames, T action units.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from duchenne_jobs.data.synth.actions import POSITIVE, perform
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.annotation import UNCODED, Codes, noisy_occurrences, uncoded
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.pictures import encode_jpeg, encode_png
from duchenne_jobs.data.synth.render import Studio, camera_framing
from duchenne_jobs.data.synth.units import BP4D_AUS

LABELS = "AUCoding/AU_OCC"
TRIALS = 8


def trial_frames(frames: int) -> list[range]:
    """How a subject's frames are dealt to the trials T1, T2, ...: runs of about equal length, none empty."""
    bounds = np.linspace(0, frames, min(TRIALS, frames) + 1).round().astype(int)
    return [range(start, stop) for start, stop in pairwise(bounds.tolist())]


def write_bp4d_subject(options: SynthOptions, index: int, root: Path, advance: Callable[[], None]) -> None:
    """Draw subject `index` and write its files below `root`; `advance` is called after each frame.

    Raises:
        OSError: a file can't be written.
    """
    subject = make_subject("bp4d", index, options.seed)
    name = subject.identifier
    performance = perform("bp4d", options.frames, subject.seed)
    clean = (performance.intensities(BP4D_AUS) >= POSITIVE).astype(np.int8)
    random = np.random.default_rng([subject.seed, 4])
    studio = Studio(subject, performance, camera_framing(options.size))
    for folder in ("landmarks", LABELS, f"clean_labels/{LABELS}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for trial, frames in enumerate(trial_frames(options.frames), start=1):
        first = int(random.integers(20, 2500))
        numbers = [first + offset for offset in range(len(frames))]
        codes = clean[frames.start : frames.stop]
        coded = noisy_occurrences(codes, options.noise, random)
        coded[uncoded(len(frames), BP4D_AUS, random)] = UNCODED
        _write_codes(root / "clean_labels" / LABELS / f"{name}_T{trial}.csv", numbers, codes)
        _write_codes(root / LABELS / f"{name}_T{trial}.csv", numbers, coded)
        images, maps = root / name / f"T{trial}", root / "parsing" / name / f"T{trial}"
        images.mkdir(parents=True, exist_ok=True)
        maps.mkdir(parents=True, exist_ok=True)
        places = []
        for number, frame in zip(numbers, frames, strict=True):
            picture = studio.picture(frame)[0]
            (images / f"{number}.jpg").write_bytes(encode_jpeg(picture.colours))
            (maps / f"{number}.png").write_bytes(encode_png(picture.classes))
            places.append(picture.landmarks)
            advance()
        np.save(root / "landmarks" / f"{name}_T{trial}.npy", np.stack(places))


def _write_codes(path: Path, numbers: list[int], codes: Codes) -> None:
    """A header of AU numbers, then a line a frame: its number and the codes; `codes` (F, T)."""
    lines = [",".join(map(str, (0, *BP4D_AUS)))]
    lines += [",".join(map(str, (number, *row))) for number, row in zip(numbers, codes.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
